//! What may lie over what: the derivation from accesses against the checker, and both against running the functions on shared memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fastrand::Rng;
use sdc_interp::{TileOptions, run_tile_planned, run_tile_with};
use sdc_ir::DType;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::Origin;
use sdc_ir::tile::{Affine, Arith2, Bound, Buffer, BufferData, BufferKind, FuncBuilder, Module, Ty, Val};
use sdc_passes::plan::check::{PlanFault, check};
use sdc_passes::plan::{PlanOptions, in_place, lifetimes, plan};
use std::collections::BTreeMap;

/// The buffers of a test: the caller's input, its copy, what the function under test makes of that, and the caller's output.
const INPUT: usize = 0;
const A: usize = 1;
const B: usize = 2;
const OUTPUT: usize = 3;

/// Values stay below this, so that they differ from memory nobody wrote.
const MOST: i64 = 63;

/// A function that reads `A` and writes `B`, made at random.
struct Made {
    builder: FuncBuilder,
    types: [DType; 2],
    /// Elements that the accesses need.
    lens: [usize; 2],
}

/// Loops around the statement being made, with the range of their variables.
type Scope = Vec<(Affine, (i64, i64))>;

struct Maker<'a> {
    random: &'a mut Rng,
    types: [DType; 2],
    lens: [usize; 2],
    /// The index used last, and the innermost variable then.
    last: Option<(Affine, Option<Affine>)>,
}

impl Maker<'_> {
    fn chance(&mut self, percent: u32) -> bool {
        self.random.u32(0..100) < percent
    }

    /// An index, not negative, in the variables around.
    fn index(&mut self, scope: &Scope, lanes: u8, which: usize) -> Affine {
        let innermost = scope.last().map(|(var, _)| var.clone());
        let again = self.last.clone().filter(|(_, var)| *var == innermost);
        let mut at = match again {
            Some((at, _)) if self.chance(75) => at,
            _ => {
                let mut at = Affine::constant(self.random.i64(0..3));
                let mut stride = i64::from(lanes) * self.random.i64(1..3);
                for (var, (lo, hi)) in scope.iter().rev() {
                    let own = if self.chance(85) {
                        stride
                    } else {
                        self.random.i64(-2..4)
                    };
                    at = at + var.clone() * own;
                    stride *= (hi - lo + 1).max(1);
                }
                at
            }
        };
        if self.chance(10) {
            at = at + self.random.i64(0..3);
        }
        let ranges: BTreeMap<_, _> = scope.iter().map(|(v, r)| (v.terms()[0].0, *r)).collect();
        let (lo, hi) = at.range(|v| ranges[&v]).unwrap();
        if lo < 0 {
            at = at + -lo;
        }
        self.last = Some((at.clone(), innermost));
        let end = hi - lo.min(0) + i64::from(lanes);
        self.lens[which] = self.lens[which].max(end as usize);
        at
    }

    fn load(&mut self, b: &mut FuncBuilder, scope: &Scope, lanes: u8) -> Val {
        let ty = Ty::vector(self.types[0], lanes);
        let splat = lanes > 1 && self.chance(15);
        let at = self.index(scope, if splat { 1 } else { lanes }, 0);
        if splat {
            b.load_splat(ty, Buffer::new(A), at)
        } else {
            b.load(ty, Buffer::new(A), at)
        }
    }

    fn sum(&mut self, b: &mut FuncBuilder, x: Val, y: Val) -> Val {
        let sum = b.add(x, y);
        // Half the distance to the limit, so that no sum ever reaches it.
        if self.types[0] == DType::F32 {
            let half = b.f32(b.ty(x).lanes, 0.5);
            b.mul(sum, half)
        } else {
            let most = b.int(b.ty(x), MOST);
            b.arith2(Arith2::And, sum, most)
        }
    }

    /// Loads, loops and stores; `carry` is a value that stores may use.
    fn block(&mut self, b: &mut FuncBuilder, scope: &mut Scope, depth: usize) {
        let lanes = if self.chance(50) { 1 } else { 4 };
        for _ in 0..self.random.usize(1..3) {
            match self.random.u32(0..10) {
                0..5 if depth < 3 => self.nest(b, scope, depth),
                5 if depth < 3 => {
                    // A reduction, then its result.
                    let start = self.load(b, scope, 1);
                    let count = self.random.i64(0..4);
                    let sums = b.for_carried(0, count, 1, &[start], |b, var, sums| {
                        scope.push((var, (0, (count - 1).max(0))));
                        let x = self.load(b, scope, 1);
                        scope.pop();
                        vec![self.sum(b, sums[0], x)]
                    });
                    self.store(b, scope, sums[0]);
                }
                _ => {
                    let mut x = self.load(b, scope, lanes);
                    if self.chance(30) {
                        let y = self.load(b, scope, lanes);
                        x = self.sum(b, x, y);
                    }
                    self.store(b, scope, x);
                }
            }
        }
    }

    fn store(&mut self, b: &mut FuncBuilder, scope: &Scope, x: Val) {
        let x = if self.types[0] == self.types[1] {
            x
        } else {
            b.convert(self.types[1], x)
        };
        let at = self.index(scope, b.ty(x).lanes, 1);
        b.store(Buffer::new(B), at, x);
    }

    fn nest(&mut self, b: &mut FuncBuilder, scope: &mut Scope, depth: usize) {
        let count = self.random.i64(1..5);
        if depth < 2 && self.chance(30) {
            // Chunks, of which the last may be shorter.
            let chunk = self.random.i64(1..4);
            let whole = (count * chunk - self.random.i64(0..chunk)).max(1);
            b.for_range(0, count, 1, |b, c| {
                let lo = c * chunk;
                let hi = Bound::of(vec![lo.clone() + chunk, whole.into()]);
                b.for_range(lo, hi, 1, |b, i| {
                    scope.push((i, (0, whole - 1)));
                    self.block(b, scope, depth + 2);
                    scope.pop();
                });
            });
            return;
        }
        let (lo, step) = (self.random.i64(0..3), self.random.i64(1..3));
        b.for_range(lo, lo + count * step, step, |b, i| {
            scope.push((i, (lo, lo + count * step - 1)));
            self.block(b, scope, depth + 1);
            scope.pop();
        });
    }
}

fn made(seed: u64) -> Made {
    let mut random = Rng::with_seed(seed);
    let all = [DType::U8, DType::F32];
    let types = if random.u32(0..4) == 0 {
        [0, 1].map(|_| all[random.usize(0..2)])
    } else {
        [all[random.usize(0..2)]; 2]
    };
    let mut maker = Maker {
        random: &mut random,
        types,
        lens: [1, 1],
        last: None,
    };
    let mut b = FuncBuilder::new();
    if maker.chance(50) {
        let count = maker.random.usize(1..4);
        b.parallel_for(count, |b, i| {
            maker.block(b, &mut vec![(i, (0, count as i64 - 1))], 1);
        });
    } else {
        maker.block(&mut b, &mut Vec::new(), 0);
    }
    Made {
        lens: maker.lens,
        types,
        builder: b,
    }
}

/// The function in a module that copies the caller's input to `A` and `B` to the caller's output.
fn module(made: Made) -> Module {
    let Made { builder, types, lens } = made;
    let mut m = Module::default();
    for (kind, which) in [
        (BufferKind::Input(0), 0),
        (BufferKind::Temp, 0),
        (BufferKind::Temp, 1),
        (BufferKind::Output(0), 1),
    ] {
        m.buffers.push(BufferData {
            dtype: types[which],
            len: lens[which],
            kind,
            name: "b".to_owned(),
        });
    }
    let origin = |op: &str| {
        vec![Origin {
            name: op.to_owned(),
            op: op.to_owned(),
            index: 0,
        }]
    };
    let copy = |which: usize, from: usize, to: usize| {
        let mut b = FuncBuilder::new();
        b.for_range(0, lens[which], 1, |b, i| {
            let x = b.load(Ty::scalar(types[which]), Buffer::new(from), i.clone());
            b.store(Buffer::new(to), i, x);
        });
        b.finish(format!("copy{which}"), origin("Copy"))
    };
    m.funcs = vec![
        copy(0, INPUT, A),
        builder.finish("made", origin("Made")),
        copy(1, B, OUTPUT),
    ];
    m
}

fn input(m: &Module, random: &mut Rng) -> Vec<u8> {
    let data = &m.buffers[Buffer::new(INPUT)];
    (0..data.len)
        .flat_map(|_| {
            let x = random.i64(0..MOST);
            match data.dtype {
                DType::F32 => (x as f32).to_le_bytes().to_vec(),
                _ => vec![x as u8],
            }
        })
        .collect()
}

/// Whether the module gives the same with `B` over `A` as with memory for each, wherever it writes.
fn right_in_place(m: &Module, input: &[u8]) -> bool {
    let size = m.buffers[Buffer::new(B)].dtype.size();
    let offsets = BTreeMap::from([(Buffer::new(A), 0), (Buffer::new(B), 0)]);
    let arena = [A, B]
        .map(|b| m.buffers[Buffer::new(b)].bytes())
        .into_iter()
        .max()
        .unwrap();
    [false, true].iter().all(|&reverse_parallel| {
        let options = TileOptions { reverse_parallel };
        let apart = run_tile_with(m, &[input], options).unwrap();
        let shared = run_tile_planned(m, &[input], &offsets, arena, options).unwrap();
        apart[0]
            .chunks(size)
            .zip(shared[0].chunks(size))
            .all(|(x, y)| x == y || x.iter().all(|&b| b == 0xFF))
    })
}

/// What derivation and checker say.
fn verdicts(m: &Module) -> [bool; 2] {
    let derived = in_place::pairs(m, &lifetimes(m));
    let mut shared = plan(m, &PlanOptions::default()).unwrap();
    for b in [A, B] {
        shared.offsets[Buffer::new(b)] = Some(0);
    }
    shared.arena_size = usize::MAX;
    let faults = check(m, &shared);
    let overlap = faults.contains(&PlanFault::Overlap(Buffer::new(A), Buffer::new(B)));
    assert_eq!(faults.len(), usize::from(overlap), "{faults:?}");
    [!derived.is_empty(), !overlap]
}

#[test]
fn what_is_derived_is_right_and_what_the_checker_allows_too() {
    let mut counts = [0; 3];
    for seed in 0..6000 {
        let m = module(made(seed));
        let faults = sdc_ir::tile::verify::verify(&m);
        assert!(faults.is_empty(), "seed {seed}: {faults:?}");
        let [derived, allowed] = verdicts(&m);
        let works = right_in_place(&m, &input(&m, &mut Rng::with_seed(seed)));
        let text = || m.to_string();
        assert!(
            !derived || allowed,
            "seed {seed}: derived, but the checker refuses:\n{}",
            text()
        );
        assert!(!allowed || works, "seed {seed}: allowed, but wrong:\n{}", text());
        counts[0] += usize::from(derived);
        counts[1] += usize::from(allowed);
        counts[2] += usize::from(!works);
    }
    println!("{counts:?}");
    // Most of what goes through the checker is found by derivation, and there is plenty of both kinds.
    assert!(counts[0] * 10 >= counts[1] * 9, "{counts:?}");
    assert!(counts[1] > 500 && counts[2] > 500, "{counts:?}");
}
