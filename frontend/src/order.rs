//! Order of a graph's nodes by their dependences.

use crate::proto::{GraphProto, NodeProto};
use std::collections::{BTreeMap, BTreeSet};

/// Calls `f` with every name a node reads, those its subgraphs capture included (and, harmlessly, their own).
pub(crate) fn reads<'m>(node: &'m NodeProto, f: &mut impl FnMut(&'m str)) {
    // Subgraphs nest, so this keeps its own stack.
    let mut pending = vec![node];
    let mut graphs: Vec<&GraphProto> = Vec::new();
    while let Some(node) = pending.pop() {
        node.input.iter().filter(|n| !n.is_empty()).for_each(|n| f(n));
        for attr in &node.attribute {
            graphs.extend(attr.g.as_deref());
            graphs.extend(&attr.graphs);
        }
        for graph in graphs.drain(..) {
            graph
                .output
                .iter()
                .filter_map(|o| o.name.as_deref())
                .for_each(&mut *f);
            pending.extend(&graph.node);
        }
    }
}

/// Names that the nodes of a graph or its outputs read.
pub(crate) fn all_reads<'m>(
    nodes: &'m [NodeProto],
    outputs: impl Iterator<Item = &'m str>,
) -> BTreeSet<&'m str> {
    let mut all: BTreeSet<&str> = outputs.collect();
    for node in nodes {
        reads(node, &mut |name| {
            all.insert(name);
        });
    }
    all
}

/// Node positions so that each node follows those it depends on; the model's own order where that serves.
///
/// # Errors
/// The positions of nodes that depend on each other in a circle.
pub(crate) fn order(nodes: &[NodeProto]) -> Result<Vec<usize>, Vec<usize>> {
    let mut producer = BTreeMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|n| !n.is_empty()) {
            // The first definition counts; a second one is an error reported elsewhere.
            producer.entry(name.as_str()).or_insert(i);
        }
    }
    let dependences = |i: usize| {
        let mut all = Vec::new();
        reads(&nodes[i], &mut |name| all.extend(producer.get(name).copied()));
        all
    };
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; nodes.len()];
    let mut result = Vec::with_capacity(nodes.len());
    for root in 0..nodes.len() {
        if marks[root] == Mark::Done {
            continue;
        }
        marks[root] = Mark::Open;
        let mut stack = vec![(root, dependences(root))];
        while let Some((node, rest)) = stack.last_mut() {
            match rest.pop() {
                Some(next) => match marks[next] {
                    Mark::Done => {}
                    Mark::New => {
                        marks[next] = Mark::Open;
                        stack.push((next, dependences(next)));
                    }
                    Mark::Open => {
                        let from = stack.iter().position(|(n, _)| *n == next).unwrap_or(0);
                        return Err(stack[from..].iter().map(|(n, _)| *n).collect());
                    }
                },
                None => {
                    marks[*node] = Mark::Done;
                    result.push(*node);
                    stack.pop();
                }
            }
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::order;
    use crate::proto::NodeProto;

    fn node(input: &[&str], output: &str) -> NodeProto {
        NodeProto {
            input: input.iter().map(|s| s.to_string()).collect(),
            output: vec![output.to_owned()],
            ..Default::default()
        }
    }

    #[test]
    fn keeps_a_good_order_and_mends_a_bad_one() {
        let good = [node(&["x"], "a"), node(&["x"], "b"), node(&["b", "a"], "c")];
        assert_eq!(order(&good), Ok(vec![0, 1, 2]));
        let bad = [node(&["b", "a"], "c"), node(&["x"], "b"), node(&["b"], "a")];
        assert_eq!(order(&bad), Ok(vec![1, 2, 0]));
    }

    #[test]
    fn finds_circles() {
        let nodes = [node(&["x"], "a"), node(&["a", "c"], "b"), node(&["b"], "c")];
        assert_eq!(order(&nodes), Err(vec![1, 2]));
        assert_eq!(order(&[node(&["a"], "a")]), Err(vec![0]));
    }

    #[test]
    fn long_chains_need_no_stack() {
        let nodes: Vec<NodeProto> = (0..200_000usize)
            .map(|i| node(&[&format!("v{}", i + 1)], &format!("v{i}")))
            .collect();
        assert_eq!(order(&nodes).map(|o| o[0]), Ok(199_999));
    }
}
