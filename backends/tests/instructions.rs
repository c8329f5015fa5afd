//! Every instruction on every type, native against the interpreter, on every CPU this machine can run.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use crate::backend::VARIANTS;
use crate::common::{Maker, Random, assert_same, cpus, options};
use sdc_ir::DType;
use sdc_ir::tile::{Arith1, Arith2, Buffer, CompareOp, FoldOp, FuncBuilder, Inst, Ty, Val};
use std::collections::BTreeMap;

/// Number of operand sets.
const N: usize = 768;

/// Bits worth trying: borders, halves, and all kinds of floats.
fn special(dtype: DType) -> Vec<u64> {
    let floats = [
        0.0,
        0.25,
        0.5,
        0.75,
        1.0,
        1.5,
        2.5,
        3.5,
        100.7,
        65504.0,
        65520.0,
        8388607.5,
        8388609.0,
        2147483648.0,
        4294967040.0,
        9.3e18,
        1e30,
        6e-8,
        2.9e-8,
        6.1e-5,
        1e-40,
        f64::INFINITY,
        f64::NAN,
        127.6,
        255.5,
        4503599627370497.5,
    ];
    let signed = floats.iter().flat_map(|&x| [x, -x]);
    match dtype {
        DType::F64 => signed.map(f64::to_bits).collect(),
        DType::F32 => signed.map(|x| (x as f32).to_bits().into()).collect(),
        DType::F16 => [
            0, 1, 0x3ff, 0x400, 0x3800, 0x3c00, 0x3e00, 0x4100, 0x7bff, 0x7c00, 0x7e01, 0x7d00,
        ]
        .into_iter()
        .flat_map(|x| [x, x | 0x8000])
        .collect(),
        DType::BF16 => [
            0, 1, 0x7f, 0x80, 0x3f00, 0x3f80, 0x3fc0, 0x4020, 0x7f7f, 0x7f80, 0x7fc1, 0x7f81,
        ]
        .into_iter()
        .flat_map(|x| [x, x | 0x8000])
        .collect(),
        DType::Bool => vec![0, 1],
        _ => {
            let bits = 8 * dtype.size() as u32;
            let high = 1u64 << (bits - 1);
            vec![
                0,
                1,
                2,
                3,
                7,
                31,
                high - 1,
                high,
                high + 1,
                u64::MAX,
                u64::MAX - 1,
            ]
        }
    }
}

fn values(dtype: DType, random: &mut Random) -> Vec<u8> {
    let special = special(dtype);
    let mut bytes = Vec::new();
    for _ in 0..N {
        let r = random.next();
        let bits = match (dtype, r % 4) {
            (DType::Bool, _) => r >> 8 & 1,
            (_, 0) => random.next(),
            // Numbers of ordinary size, which random bits hardly ever are.
            (DType::F32, 1) => ((r >> 32) as i32 as f32 / 1e7).to_bits().into(),
            (DType::F64, 1) => ((r >> 32) as i32 as f64 / 1e7).to_bits(),
            _ => special[(r >> 8) as usize % special.len()],
        };
        bytes.extend(&bits.to_le_bytes()[..dtype.size()]);
    }
    bytes
}

/// Inputs `[a, b]` per type, and one function per tried instruction.
struct Suite {
    make: Maker,
    operands: BTreeMap<DType, [Buffer; 2]>,
    names: Vec<String>,
}

impl Suite {
    fn new() -> (Self, Vec<Vec<u8>>) {
        let mut random = Random(7);
        let mut make = Maker::default();
        let (mut operands, mut inputs) = (BTreeMap::new(), Vec::new());
        for dtype in DType::ALL {
            operands.insert(dtype, [make.input(dtype, N), make.input(dtype, N)]);
            inputs.push(values(dtype, &mut random));
            inputs.push(values(dtype, &mut random));
        }
        let suite = Self {
            make,
            operands,
            names: Vec::new(),
        };
        (suite, inputs)
    }

    /// Tries `build` on operands of type `ty`.
    fn case(
        &mut self,
        name: String,
        ty: Ty,
        result: DType,
        build: impl FnOnce(&mut FuncBuilder, [Val; 2]) -> Val,
    ) {
        let [a, b] = self.operands[&ty.dtype];
        let y = self.make.output(result, N);
        self.make.func(|f| {
            f.for_range(0, N, i64::from(ty.lanes), |f, i| {
                let x = [f.load(ty, a, i.clone()), f.load(ty, b, i.clone())];
                let value = build(f, x);
                f.store(y, i, value);
            });
        });
        self.names.push(name);
    }
}

/// Scalars, and the vectors that fill a register.
fn types() -> impl Iterator<Item = Ty> {
    DType::ALL
        .into_iter()
        .flat_map(|d| [Ty::scalar(d), Ty::vector(d, (16 / d.size()) as u8)])
}

fn arithmetic(suite: &mut Suite) {
    for ty in types() {
        let d = ty.dtype;
        for &op in Arith1::ALL {
            let defined = match op {
                Arith1::Neg | Arith1::Abs => d != DType::Bool,
                Arith1::Not => !d.is_float(),
                _ => d.is_float(),
            };
            if defined {
                suite.case(format!("{} {ty}", op.name()), ty, d, |f, [a, _]| f.arith1(op, a));
            }
        }
        for &op in Arith2::ALL {
            let defined = match op {
                Arith2::And | Arith2::Or | Arith2::Xor => !d.is_float(),
                Arith2::Shl | Arith2::Shr => d.is_int(),
                _ => d != DType::Bool,
            };
            if defined {
                suite.case(format!("{} {ty}", op.name()), ty, d, |f, [a, b]| {
                    f.arith2(op, a, b)
                });
            }
        }
        if d.is_int() {
            suite.case(format!("shr by splat {ty}"), ty, d, |f, [a, _]| {
                let count = f.int(Ty::scalar(d), 3);
                let count = f.splat(ty.lanes, count);
                f.arith2(Arith2::Shr, a, count)
            });
            suite.case(format!("fma {ty}"), ty, d, |f, [a, b]| f.fma(a, b, a));
        }
    }
}

fn masks(suite: &mut Suite) {
    for ty in types() {
        for &op in CompareOp::ALL {
            let mask = sdc_ir::tile::build::mask_type(ty).dtype;
            suite.case(format!("{} {ty}", op.name()), ty, mask, |f, [a, b]| {
                f.compare(op, a, b)
            });
            suite.case(
                format!("{} then select {ty}", op.name()),
                ty,
                ty.dtype,
                |f, [a, b]| {
                    let mask = f.compare(op, a, b);
                    f.select(mask, b, a)
                },
            );
            suite.case(
                format!("{} negated, then select {ty}", op.name()),
                ty,
                ty.dtype,
                |f, [a, b]| {
                    let mask = f.compare(op, a, b);
                    let mask = f.arith1(Arith1::Not, mask);
                    f.select(mask, b, a)
                },
            );
        }
    }
}

fn conversions(suite: &mut Suite) {
    for from in types() {
        for to in DType::ALL {
            if from.lanes == 1 || to.size() == from.dtype.size() {
                suite.case(format!("convert {from} to {to}"), from, to, |f, [a, _]| {
                    f.convert(to, a)
                });
            }
            if to.size() == from.dtype.size() {
                // As `bool` only what is one.
                if to != DType::Bool {
                    suite.case(format!("bitcast {from} to {to}"), from, to, |f, [a, _]| {
                        f.bitcast(to, a)
                    });
                }
            }
        }
    }
}

fn lanes(suite: &mut Suite) {
    for ty in types() {
        let d = ty.dtype;
        for op in [FoldOp::Add, FoldOp::Max, FoldOp::Min] {
            if d != DType::Bool {
                suite.case(format!("fold {op:?} {ty}"), ty, d, |f, [a, _]| f.fold(op, a));
            }
        }
        for lane in [0, ty.lanes - 1] {
            suite.case(format!("lane {lane} of {ty}"), ty, d, |f, [a, _]| {
                f.inst(Ty::scalar(d), Inst::Lane(a, lane))
            });
        }
        suite.case(format!("splat {ty}"), ty, d, |f, [a, _]| {
            let x = f.inst(Ty::scalar(d), Inst::Lane(a, ty.lanes / 2));
            f.splat(ty.lanes, x)
        });
        let b = suite.operands[&d][1];
        suite.case(format!("load_splat {ty}"), ty, d, |f, _| f.load_splat(ty, b, 5));
        suite.case(format!("const {ty}"), ty, d, |f, _| f.inst(ty, Inst::Const(1)));
        if d.is_int() {
            suite.case(format!("all ones {ty}"), ty, d, |f, _| f.int(ty, -1));
        }
    }
}

fn check(fill: fn(&mut Suite)) {
    let (mut suite, inputs) = Suite::new();
    fill(&mut suite);
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    for cpu in cpus() {
        // How hard the generator tries is a choice of the caller's; trying all once is enough.
        let variants = if cpu.name == "native" {
            VARIANTS
        } else {
            &VARIANTS[..1]
        };
        for &variant in variants {
            let setting = (&options(&cpu), variant);
            assert_same(&suite.make.module, &inputs, setting, &|i| suite.names[i].clone());
        }
    }
}

#[test]
fn arithmetic_is_the_interpreters() {
    check(arithmetic);
}

#[test]
fn masks_are_the_interpreters() {
    check(masks);
}

#[test]
fn conversions_are_the_interpreters() {
    check(conversions);
}

#[test]
fn lanes_are_the_interpreters() {
    check(lanes);
}
