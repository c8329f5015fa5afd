//! Weights that need not stay: which ones a run gives back once it is past them, so that fewer are in memory at a time.
//!
//! Runs follow one another. A weight that stays is therefore in memory during every function, and a transient one from the first
//! function that reads it to the last. Not here: weights that only the preparing functions read, and how they are given back.

use super::{Lifetime, lifetimes};
use sdc_ir::graph::Weight;
use sdc_ir::tile::{BufferKind, Module};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Smaller weights stay: giving them back costs calls of the system and saves nothing worth it.
const SMALLEST: usize = 1 << 20;

/// A weight that runs give back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transient {
    /// Which.
    pub weight: Weight,
    /// The functions that read it lie between these.
    pub life: Lifetime,
}

/// Which weights stay in memory and which come and go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Residency {
    /// Weights to give back, in the order of the buffers; all others stay.
    pub transient: Vec<Transient>,
    /// Bytes of weights in memory at a time, at most.
    pub peak: usize,
}

/// Chooses transient weights, the largest first, until at most `limit` bytes are in memory at a time, or as few as can be where
/// single functions need more.
pub fn residency(module: &Module, limit: usize) -> Residency {
    let mut lives: BTreeMap<Weight, Lifetime> = BTreeMap::new();
    for (buffer, life) in lifetimes(module).iter() {
        if let (BufferKind::Const(weight), Some(life)) = (&module.buffers[buffer].kind, *life) {
            let whole = lives.entry(*weight).or_insert(life);
            whole.first = whole.first.min(life.first);
            whole.last = whole.last.max(life.last);
        }
    }
    let weights: Vec<Read> = lives
        .into_iter()
        .map(|(weight, life)| Read {
            bytes: module.weights[weight].bytes().len(),
            transient: Transient { weight, life },
        })
        .collect();
    choose(&weights, module.funcs.len(), limit)
}

/// A weight that runs read.
#[derive(Clone, Copy, Debug)]
struct Read {
    transient: Transient,
    bytes: usize,
}

fn choose(weights: &[Read], funcs: usize, limit: usize) -> Residency {
    let total = weights.iter().map(|read| read.bytes).sum();
    let leaves = |life: Lifetime| 0 < life.first || life.last + 1 < funcs;
    let mut candidates: Vec<&Read> = weights
        .iter()
        .filter(|read| read.bytes >= SMALLEST && leaves(read.transient.life))
        .collect();
    candidates.sort_by_key(|read| Reverse(read.bytes));

    let mut least = vec![total; funcs];
    candidates.iter().for_each(|read| leave(&mut least, read));
    let goal = limit.max(peak(&least));
    let mut held = vec![total; funcs];
    let mut transient = Vec::new();
    for read in candidates {
        if peak(&held) <= goal {
            break;
        }
        leave(&mut held, read);
        transient.push(read.transient);
    }
    transient.sort_by_key(|t| t.weight);
    Residency {
        transient,
        peak: peak(&held),
    }
}

/// Takes the bytes of a weight off the functions that run without it.
fn leave(held: &mut [usize], read: &Read) {
    let life = read.transient.life;
    for (time, held) in held.iter_mut().enumerate() {
        if time < life.first || life.last < time {
            *held -= read.bytes;
        }
    }
}

fn peak(held: &[usize]) -> usize {
    held.iter().copied().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sdc_ir::entity::EntityId;

    /// A quarter of the smallest transient weight.
    const QUARTER: usize = SMALLEST / 4;

    /// Weights of sizes in quarters, read from one function to another.
    fn weights(list: &[(usize, usize, usize)]) -> Vec<Read> {
        let read = |(i, &(quarters, first, last)): (usize, &(usize, usize, usize))| Read {
            transient: Transient {
                weight: Weight::new(i),
                life: Lifetime { first, last },
            },
            bytes: quarters * QUARTER,
        };
        list.iter().enumerate().map(read).collect()
    }

    #[test]
    fn as_few_as_the_limit_asks_for() {
        let layers = weights(&[(8, 0, 0), (16, 1, 1), (12, 2, 2), (2, 3, 3)]);
        let chosen = |limit| {
            let r = choose(&layers, 4, limit * QUARTER);
            let which: Vec<usize> = r.transient.iter().map(|t| t.weight.index()).collect();
            (which, r.peak / QUARTER)
        };
        assert_eq!(chosen(38), (vec![], 38));
        // One alone would be there when it is needed, and all others with it.
        assert_eq!(chosen(37), (vec![1, 2], 26));
        // What is too small stays.
        assert_eq!(chosen(0), (vec![0, 1, 2], 18));
        // So does what the first and the last function read.
        let tied = weights(&[(8, 0, 2), (8, 1, 1), (8, 2, 2)]);
        assert_eq!(choose(&tied, 3, 0).transient.len(), 2);
    }

    proptest! {
        #[test]
        fn the_peak_is_what_a_run_holds(
            list in proptest::collection::vec((1usize..12, 0usize..6, 0usize..3), 0..8),
            limit in 0usize..24,
        ) {
            let list: Vec<_> = list.iter().map(|&(s, first, span)| (s, first, first + span)).collect();
            let (weights, limit) = (weights(&list), limit * QUARTER);
            let held = |r: &Residency, time: usize| -> usize {
                let gone = |read: &Read| {
                    let life = read.transient.life;
                    r.transient.contains(&read.transient) && !(life.first..=life.last).contains(&time)
                };
                weights.iter().filter(|read| !gone(read)).map(|read| read.bytes).sum()
            };
            let (chosen, least) = (choose(&weights, 9, limit), choose(&weights, 9, 0));
            prop_assert_eq!(chosen.peak, (0..9).map(|t| held(&chosen, t)).max().unwrap());
            prop_assert!(chosen.peak <= limit.max(least.peak));
            prop_assert!(chosen.transient.len() <= least.transient.len());
        }
    }
}
