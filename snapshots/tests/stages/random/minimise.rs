//! Makes a failing network smaller as long as it fails.

use super::net::{Known, Net};

/// Attempts after which a network is small enough.
const MOST: usize = 150;

/// A network no larger than the given one that fails too.
pub fn minimise(network: &Net, fails: &dyn Fn(&Net) -> bool) -> Net {
    let mut best = network.clone();
    let mut left = MOST;
    loop {
        let smaller = candidates(&best).into_iter().find(|net| {
            left = left.saturating_sub(1);
            left > 0 && fails(net)
        });
        match smaller {
            Some(net) => best = net,
            None => return best,
        }
    }
}

/// What might fail too, the smallest first.
fn candidates(net: &Net) -> Vec<Net> {
    let mut all = Vec::new();
    let reduced = |change: &dyn Fn(&mut Net)| {
        let mut smaller = net.clone();
        change(&mut smaller);
        smaller.prune();
        smaller
    };
    // One value as the only result.
    for node in &net.nodes {
        for output in &node.output {
            if net.outputs != [output.clone()] {
                all.push(reduced(&|n: &mut Net| n.outputs = vec![output.clone()]));
            }
        }
    }
    // One result as an input, without what computed it.
    for (at, node) in net.nodes.iter().enumerate() {
        let computed = node.output.iter().any(|o| net.outputs.contains(o));
        if !computed {
            all.push(reduced(&|n: &mut Net| {
                let node = n.nodes.remove(at);
                n.inputs.extend(node.output);
            }));
        }
    }
    // A smaller input; what does not fit then is refused.
    for input in &net.inputs {
        for d in 0..net.known[input].rank() {
            let size = net.known[input].shape[d];
            for smaller in [size / 2, size - 1] {
                if (1..size).contains(&smaller) {
                    all.push(reduced(&|n: &mut Net| {
                        if let Some(Known { shape, .. }) = n.known.get_mut(input) {
                            shape[d] = smaller;
                        }
                    }));
                }
            }
        }
    }
    all.sort_by_key(|n| n.nodes.len());
    all
}
