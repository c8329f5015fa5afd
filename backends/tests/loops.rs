//! Random loop nests, native against the interpreter.

use crate::backend::{VARIANTS, Variant};
use crate::common::{Maker, assert_same, options};
use proptest::prelude::*;
use sdc_ir::DType;
use sdc_ir::tile::{Affine, Arith2, Bound, Buffer, FuncBuilder, Inst, Ty, Val};

/// Elements of every buffer; indices are brought into range by masking.
const LEN: i64 = 256;
const I64: Ty = Ty::scalar(DType::I64);
const I32X4: Ty = Ty::vector(DType::I32, 4);

/// A statement of a random function. Coefficients and bounds refer to open loops by number, modulo their count.
#[derive(Debug, Clone)]
enum Step {
    /// Adds what a load finds, at a small affine index, to the accumulator.
    Load {
        coefficients: Vec<i64>,
        constant: i64,
        splat: bool,
    },
    /// The same at an index that depends on the accumulator.
    Gather { coefficients: Vec<i64>, constant: i64 },
    /// Mixes an affine value into the accumulator.
    Value { coefficients: Vec<i64>, constant: i64 },
    /// Stores the accumulator.
    Store {
        coefficients: Vec<i64>,
        constant: i64,
        temp: bool,
    },
    /// A loop that carries the accumulator and the previous iteration's.
    Loop {
        lo: Vec<(i64, i64)>,
        hi: Vec<(i64, i64)>,
        step: i64,
        body: Vec<Step>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    // Coefficients that addresses can encode (times four bytes) and others.
    let coefficients = || prop::collection::vec(prop::sample::select(vec![0, 1, 2, 3, 4, 5]), 0..4);
    let leaf = prop_oneof![
        (coefficients(), 0..20i64, any::<bool>()).prop_map(|(coefficients, constant, splat)| Step::Load {
            coefficients,
            constant,
            splat
        }),
        (coefficients(), 0..20i64).prop_map(|(coefficients, constant)| Step::Gather {
            coefficients,
            constant
        }),
        (coefficients(), -20..20i64).prop_map(|(coefficients, constant)| Step::Value {
            coefficients,
            constant
        }),
        (coefficients(), 0..20i64, any::<bool>()).prop_map(|(coefficients, constant, temp)| Step::Store {
            coefficients,
            constant,
            temp
        }),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        // An expression: a coefficient of some open loop's variable, and a constant.
        let bound = |constants: std::ops::Range<i64>| prop::collection::vec((-1..2i64, constants), 1..3);
        (
            bound(0..4),
            bound(2..7),
            1..4i64,
            prop::collection::vec(inner, 1..5),
        )
            .prop_map(|(lo, hi, step, body)| Step::Loop { lo, hi, step, body })
    })
}

struct Emit {
    source: Buffer,
    target: Buffer,
    temp: Buffer,
    vars: Vec<Affine>,
}

impl Emit {
    /// At most 3 loops of variables 0..=12 with coefficients to 5, and 20: in range with 4 lanes.
    fn affine(&self, coefficients: &[i64], constant: i64) -> Affine {
        self.vars
            .iter()
            .zip(coefficients)
            .fold(Affine::constant(constant), |sum, (var, &c)| sum + var.clone() * c)
    }

    fn bound(&self, exprs: &[(i64, i64)], at: usize, within: Affine) -> Bound {
        let var = |i: usize| {
            self.vars
                .get((at + i) % self.vars.len().max(1))
                .cloned()
                .unwrap_or_default()
        };
        let mut all: Vec<Affine> = exprs
            .iter()
            .enumerate()
            .map(|(i, &(c, k))| var(i) * c + k)
            .collect();
        all.push(within);
        Bound::of(all)
    }

    fn block(&mut self, b: &mut FuncBuilder, steps: &[Step], mut acc: Val) -> Val {
        for (at, step) in steps.iter().enumerate() {
            acc = match step {
                Step::Load {
                    coefficients,
                    constant,
                    splat,
                } => {
                    let index = self.affine(coefficients, *constant);
                    let x = if *splat {
                        b.load_splat(I32X4, self.source, index)
                    } else {
                        b.load(I32X4, self.temp, index)
                    };
                    b.arith2(Arith2::Add, acc, x)
                }
                Step::Gather {
                    coefficients,
                    constant,
                } => {
                    let lane = b.inst(Ty::scalar(DType::I32), Inst::Lane(acc, 1));
                    let offset = b.convert(DType::I64, lane);
                    let mask = b.int(I64, 31);
                    let offset = b.arith2(Arith2::And, offset, mask);
                    let index = self.affine(coefficients, *constant);
                    let x = b.load_at(I32X4, self.source, index.clone(), offset);
                    b.store_at(self.temp, index, offset, acc);
                    b.arith2(Arith2::Xor, acc, x)
                }
                Step::Value {
                    coefficients,
                    constant,
                } => {
                    let x = b.affine(self.affine(coefficients, *constant));
                    let x = b.convert(DType::I32, x);
                    let x = b.splat(4, x);
                    b.arith2(Arith2::Mul, acc, x)
                }
                Step::Store {
                    coefficients,
                    constant,
                    temp,
                } => {
                    let buffer = if *temp { self.temp } else { self.target };
                    b.store(buffer, self.affine(coefficients, *constant), acc);
                    acc
                }
                Step::Loop { lo, hi, step, body } => {
                    let lo = self.bound(lo, at, 0.into());
                    let hi = self.bound(hi, at + 1, 13.into());
                    let previous = b.int(I32X4, 3);
                    let results = b.for_carried(lo, hi, *step, &[acc, previous], |b, var, args| {
                        self.vars.push(var);
                        let mixed = b.arith2(Arith2::Sub, args[0], args[1]);
                        let next = self.block(b, body, mixed);
                        self.vars.pop();
                        // The second is the first of one iteration before: all are replaced at once.
                        vec![next, args[0]]
                    });
                    b.arith2(Arith2::Add, results[0], results[1])
                }
            };
        }
        acc
    }
}

fn bytes(count: i64, factor: i32) -> Vec<u8> {
    (0..count as i32)
        .flat_map(|i| i.wrapping_mul(factor).to_le_bytes())
        .collect()
}

fn check(steps: &[Step], parallel: Option<usize>, variant: Variant) {
    let mut make = Maker::default();
    let (x, y) = (
        make.input(DType::I32, LEN as usize),
        make.output(DType::I32, LEN as usize),
    );
    let constant = make.constant(DType::I32, bytes(LEN, 77));
    // Something before it, so that the offset in the arena is not zero.
    make.temp(DType::I32, 5);
    let temp = make.temp(DType::I32, LEN as usize);
    let copy = |b: &mut FuncBuilder, from, to| {
        b.for_range(0, LEN, 4, |b, i| {
            let v = b.load(I32X4, from, i.clone());
            b.store(to, i, v);
        });
    };
    make.func(|b| copy(b, constant, temp));
    make.func(|b| copy(b, constant, y));
    make.func(|b| {
        let mut emit = Emit {
            source: x,
            target: y,
            temp,
            vars: Vec::new(),
        };
        match parallel {
            // Iterations that write the same place are run in order by both sides here.
            Some(count) => b.parallel_for(count, |b, i| {
                let acc = b.int(I32X4, 1);
                emit.vars.push(i);
                emit.block(b, steps, acc);
            }),
            None => {
                let acc = b.int(I32X4, 1);
                let acc = emit.block(b, steps, acc);
                b.store(y, 0, acc);
            }
        }
    });
    let cpu = sdc_lower::cpu::supported().remove(0);
    let setting = (&options(&cpu), variant);
    assert_same(&make.module, &[&bytes(LEN, 40503)], setting, &|_| {
        format!("{steps:?}")
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nests_are_the_interpreters(
        steps in prop::collection::vec(step(), 1..6),
        parallel in prop::option::of(0..5usize),
        variant in prop::sample::select(VARIANTS.to_vec()),
    ) {
        check(&steps, parallel, variant);
    }
}
