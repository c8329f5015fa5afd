//! Weights that need not stay: which ones a run gives back once it is past them, so that fewer are in memory at a time.
//!
//! Time is counted in calls of `parallel_for`, since whoever runs the model acts there: before a call weights may be asked for, after it given
//! back. A function without tasks runs before the call that follows it. As runs follow one another, a weight that stays is in memory
//! during every call, and a transient one from the first that reads it to the last.
//!
//! Not here: how weights are given back.

use super::lifetimes;
use sdc_ir::graph::Weight;
use sdc_ir::tile::{Buffer, BufferKind, Inst, Module, Stmt};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Smaller weights stay: giving them back costs calls of the system and saves nothing worth it.
const SMALLEST: usize = 1 << 20;

/// A weight that runs give back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transient {
    /// Which.
    pub weight: Weight,
    /// The call before which it is needed.
    pub first_call: usize,
    /// The call after which it is not; the number after the last call is the end of the run.
    pub last_call: usize,
}

/// Which weights stay in memory and which come and go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Residency {
    /// Weights to give back, in the order of the weights; all others stay.
    pub transient: Vec<Transient>,
    /// Bytes of weights in memory at a time, at most. Those that a function reads at computed places (the table of a Gather) do not count:
    /// only what is read of them comes into memory.
    pub peak: usize,
}

/// Chooses transient weights, the largest first, until at most `limit` bytes are in memory at a time, or as few as can be where
/// single functions need more. `calls` says of each function of the module whether it is a call of `parallel_for`.
pub fn residency(module: &Module, calls: &[bool], limit: usize) -> Residency {
    let mut before = vec![0];
    before.extend(calls.iter().scan(0, |sum, &call| {
        *sum += usize::from(call);
        Some(*sum)
    }));
    let call_of = |func: usize| before[func.min(calls.len())];
    let lives = lifetimes(module);
    let in_part = read_in_part(module);
    let mut weights: BTreeMap<Weight, Read> = BTreeMap::new();
    for (buffer, data) in module.buffers.iter() {
        let BufferKind::Const(weight) = data.kind else {
            continue;
        };
        let read = weights.entry(weight).or_insert(Read {
            bytes: module.weights[weight].bytes().len(),
            calls: None,
            in_part: false,
        });
        read.in_part |= in_part.contains(&buffer);
        if let Some(life) = lives[buffer] {
            let (first, last) = read.calls.unwrap_or((usize::MAX, 0));
            read.calls = Some((first.min(call_of(life.first)), last.max(call_of(life.last))));
        }
    }
    weights.retain(|_, read| !read.in_part);
    let last = weights.values().filter_map(|read| Some(read.calls?.1)).max();
    // The end counts as a call if weights are read between the last call and it.
    let times = call_of(calls.len()).max(last.map_or(0, |last| last + 1));
    choose(&weights, times, limit)
}

/// How runs read a weight.
#[derive(Clone, Copy, Debug)]
struct Read {
    bytes: usize,
    /// First and last call; none if only functions that prepare read it, after which it stays.
    calls: Option<(usize, usize)>,
    in_part: bool,
}

/// Buffers that functions read at computed places.
fn read_in_part(module: &Module) -> BTreeSet<Buffer> {
    fn visit(stmts: &[Stmt], found: &mut BTreeSet<Buffer>) {
        for stmt in stmts {
            match stmt {
                Stmt::Let(_, Inst::Load { buffer, index } | Inst::LoadSplat { buffer, index })
                    if index.offset.is_some() =>
                {
                    found.insert(*buffer);
                }
                Stmt::For(f) => visit(&f.body, found),
                Stmt::Let(..) | Stmt::Store { .. } | Stmt::Kernel(_) => {}
            }
        }
    }
    let mut found = BTreeSet::new();
    module.funcs.iter().for_each(|func| visit(&func.body, &mut found));
    found
}

/// `times` is the number of calls.
fn choose(weights: &BTreeMap<Weight, Read>, times: usize, limit: usize) -> Residency {
    let total = weights.values().map(|read| read.bytes).sum();
    let mut candidates: Vec<(Transient, usize)> = Vec::new();
    for (&weight, read) in weights {
        let Some((first_call, last_call)) = read.calls else {
            continue;
        };
        let leaves = 0 < first_call || last_call + 1 < times;
        if leaves && read.bytes >= SMALLEST {
            let transient = Transient {
                weight,
                first_call,
                last_call,
            };
            candidates.push((transient, read.bytes));
        }
    }
    candidates.sort_by_key(|(_, bytes)| Reverse(*bytes));

    let mut least = vec![total; times];
    candidates
        .iter()
        .for_each(|candidate| leave(&mut least, candidate));
    let goal = limit.max(peak(&least));
    let mut held = vec![total; times];
    let mut transient = Vec::new();
    for candidate in candidates {
        if peak(&held) <= goal {
            break;
        }
        leave(&mut held, &candidate);
        transient.push(candidate.0);
    }
    transient.sort_by_key(|t| t.weight);
    Residency {
        transient,
        peak: peak(&held),
    }
}

/// Takes the bytes of a weight off the calls that it is away in.
fn leave(held: &mut [usize], (transient, bytes): &(Transient, usize)) {
    for (call, held) in held.iter_mut().enumerate() {
        if call < transient.first_call || transient.last_call < call {
            *held -= bytes;
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
    use sdc_ir::tile::{BufferData, FuncBuilder, Ty};
    use sdc_ir::{DType, Tensor};

    /// A quarter of the smallest transient weight.
    const QUARTER: usize = SMALLEST / 4;

    /// Weights of sizes in quarters, read from one call to another.
    fn weights(list: &[(usize, usize, usize)]) -> BTreeMap<Weight, Read> {
        let read = |(i, &(quarters, first, last)): (usize, &(usize, usize, usize))| {
            let read = Read {
                bytes: quarters * QUARTER,
                calls: Some((first, last)),
                in_part: false,
            };
            (Weight::new(i), read)
        };
        list.iter().enumerate().map(read).collect()
    }

    #[test]
    fn as_few_as_the_limit_asks_for() {
        let layers = weights(&[(8, 0, 0), (16, 1, 1), (12, 2, 2), (2, 3, 3)]);
        let chosen = |limit| {
            let r = choose(&layers, 5, limit * QUARTER);
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

    #[test]
    fn time_is_counted_in_calls() {
        let mut m = Module::default();
        let mut constant = |fill: u8| {
            let tensor = Tensor::from_elements(vec![SMALLEST], vec![fill; SMALLEST]).unwrap();
            let weight = m.weights.add(tensor);
            m.buffers.push(BufferData {
                dtype: DType::U8,
                len: SMALLEST,
                kind: BufferKind::Const(weight),
                name: "w".into(),
            })
        };
        let (table, a, b, prepared) = (constant(0), constant(1), constant(2), constant(3));
        let scalar = Ty::scalar(DType::U8);
        for (time, reads) in [table, a, a, b].into_iter().enumerate() {
            let mut f = FuncBuilder::new();
            if reads == table {
                let place = f.int(Ty::scalar(DType::I64), 1);
                f.load_at(scalar, reads, 0, place);
            } else {
                f.load(scalar, reads, 0);
            }
            m.funcs.push(f.finish(format!("f{time}"), Vec::new()));
        }
        let mut f = FuncBuilder::new();
        f.load(scalar, prepared, 0);
        m.prepare.push(f.finish("p", Vec::new()));

        let calls = |handed: [bool; 4]| {
            let r = residency(&m, &handed, 0);
            let calls: Vec<_> = r
                .transient
                .iter()
                .map(|t| (t.weight.index(), t.first_call, t.last_call))
                .collect();
            (calls, r.peak / SMALLEST)
        };
        // The table is not counted; what preparing needed stays.
        assert_eq!(calls([true; 4]), (vec![(1, 1, 2), (2, 3, 3)], 2));
        // Functions that are no calls read before the next one, or before the end.
        assert_eq!(
            calls([false, false, true, false]),
            (vec![(1, 0, 0), (2, 1, 1)], 2)
        );
        assert_eq!(calls([false; 4]), (vec![], 3));
    }

    proptest! {
        #[test]
        fn the_peak_is_what_a_run_holds(
            list in proptest::collection::vec((1usize..12, 0usize..6, 0usize..3), 0..8),
            limit in 0usize..24,
        ) {
            let list: Vec<_> = list.iter().map(|&(s, first, span)| (s, first, first + span)).collect();
            let (weights, limit) = (weights(&list), limit * QUARTER);
            let held = |r: &Residency, call: usize| -> usize {
                let gone = |weight: Weight| {
                    let away = |t: &Transient| !(t.first_call..=t.last_call).contains(&call);
                    r.transient.iter().any(|t| t.weight == weight && away(t))
                };
                weights.iter().filter(|(weight, _)| !gone(**weight)).map(|(_, read)| read.bytes).sum()
            };
            let (chosen, least) = (choose(&weights, 9, limit), choose(&weights, 9, 0));
            prop_assert_eq!(chosen.peak, (0..9).map(|t| held(&chosen, t)).max().unwrap());
            prop_assert!(chosen.peak <= limit.max(least.peak));
            prop_assert!(chosen.transient.len() <= least.transient.len());
        }
    }
}
