//! Element-wise operators and pooling on bytes: tile level and graph level give the same bits, whether a kernel computes
//! them or a loop.
#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is the test's")]

use crate::common::{Lcg, check, input, one, origin};
use proptest::prelude::*;
use sdc_ir::graph::op::*;
use sdc_ir::graph::{BinaryOp, Graph, Op, UnaryOp, Value};
use sdc_ir::tile::Stmt;
use sdc_ir::{DType, Tensor};

/// Scale and zero point, of one element each.
fn grid(g: &mut Graph, rng: &mut Lcg, signed: bool) -> [Value; 2] {
    let scale = Tensor::from_elements(vec![], vec![0.01 + rng.below(100) as f32 / 2000.0]).unwrap();
    let zero = rng.below(60) as u8;
    let zero = match signed {
        true => Tensor::from_elements(vec![], vec![zero as i8 - 30]).unwrap(),
        false => Tensor::from_elements(vec![], vec![zero]).unwrap(),
    };
    [scale, zero].map(|t| g.add_constant(t, origin("grid")))
}

fn quantised(g: &mut Graph, rng: &mut Lcg, x: Value, signed: bool) -> Value {
    let [scale, zero] = grid(g, rng, signed);
    one(g, QuantizeLinear {}.into(), &[x, scale, zero])
}

fn number(g: &mut Graph, rng: &mut Lcg, x: Value) -> Value {
    let signed = g.ty(x).dtype == DType::I8;
    let [scale, zero] = grid(g, rng, signed);
    one(g, DequantizeLinear {}.into(), &[x, scale, zero])
}

/// The same numbers, channels last: a convolution by the unit matrix, whose sums are exact in any order. Others could land on either
/// side of a step of the quantisation that follows.
fn channels_last(g: &mut Graph, x: Value) -> Value {
    let channels = g.ty(x).sizes()[1];
    let unit = (0..channels * channels).map(|i| f32::from(u8::from(i / channels == i % channels)));
    let weights = Tensor::from_elements(vec![channels, channels, 1, 1], unit.collect()).unwrap();
    let weights = g.add_constant(weights, origin("unit"));
    let conv = Conv {
        strides: vec![1, 1],
        pads: vec![0; 4],
        dilations: vec![1, 1],
        group: 1,
        bias: false,
        residual: false,
        act: Activation::None,
    };
    one(g, conv.into(), &[x, weights])
}

/// `sat(...)` operators' bounds.
fn bounds(to: DType) -> (i64, i64) {
    if to == DType::I8 { (-100, 127) } else { (0, 200) }
}

prop_compose! {
    fn any_operator()(
        kind in 0..5usize, shape in [1..3usize, 1..20usize, 1..6usize, 1..6usize], narrow in 0..16usize, laid_out: bool,
        signed: [bool; 3], act in 0..3usize, seed: u64,
    ) -> Graph {
        let rng = &mut Lcg::new(seed);
        let mut g = Graph::new("quantised");
        let g_ = &mut g;
        let mut numbers: Vec<Value> = Vec::new();
        for i in 0..2 {
            // The second operand broadcasts along some dimensions.
            let size = |d: usize| if i == 1 && narrow >> d & 1 == 1 { 1 } else { shape[d] };
            let x = input(g_, &format!("x{i}"), &[0, 1, 2, 3].map(size));
            numbers.push(if laid_out { channels_last(g_, x) } else { x });
        }
        let x: Vec<Value> = (0..2).map(|i| quantised(g_, rng, numbers[i], signed[i])).collect();
        let to = if signed[2] { DType::I8 } else { DType::U8 };
        let (min, max) = bounds(to);
        let zeros = vec![rng.below(9) as i64, rng.below(9) as i64];
        let y = match kind {
            0 => {
                let (a, b) = (number(g_, rng, x[0]), number(g_, rng, x[1]));
                let mut sum = one(g_, Op::Binary(BinaryOp::Add), &[a, b]);
                if act == 1 {
                    sum = one(g_, Op::Unary(UnaryOp::Relu), &[sum]);
                } else if act == 2 {
                    sum = one(g_, Clip { min: -0.3, max: 1.1 }.into(), &[sum]);
                }
                quantised(g_, rng, sum, signed[2])
            }
            1 => {
                let a = number(g_, rng, x[0]);
                quantised(g_, rng, a, signed[2])
            }
            2 => {
                let multipliers = vec![1 << 28, -(1 << 27)];
                let op = QLinearAdd { zeros, multipliers, shift: 29, y_zero: 3, min, max, to };
                one(g_, op.into(), &x)
            }
            3 => one(g_, QLinearMul { zeros, multiplier: 1 << 25, shift: 30, y_zero: 3, min, max, to }.into(), &x),
            _ => {
                let kernel: Vec<usize> = vec![1 + rng.below(shape[2]), 1 + rng.below(shape[3])];
                let op = MaxPool { pads: vec![0, 0, kernel[0] - 1, 0], kernel, strides: vec![1, 2], dilations: vec![1, 1] };
                one(g_, op.into(), &x[..1])
            }
        };
        g.add_output("y", y);
        g
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn operators_on_bytes(g in any_operator(), seed: u64) { check(&g, seed); }
}

/// The kernels that a graph of two images of bytes calls, function by function; `loop` for what calls none.
fn kernels(build: impl FnOnce(&mut Graph, &mut Lcg, [Value; 2]) -> Value) -> Vec<String> {
    let rng = &mut Lcg::new(1);
    let mut g = Graph::new("kernels");
    let x = [0, 1].map(|i| {
        let x = input(&mut g, &format!("x{i}"), &[1, 32, 16, 16]);
        quantised(&mut g, rng, x, false)
    });
    let y = build(&mut g, rng, x);
    g.add_output("y", y);
    let lowered = crate::common::lower(&g, &Default::default()).unwrap();
    fn called(stmts: &[Stmt]) -> String {
        let kernel = |s: &Stmt| match s {
            Stmt::Kernel(call) => Some(call.kernel.clone()),
            Stmt::For(f) => Some(called(&f.body)),
            _ => None,
        };
        stmts.iter().find_map(kernel).unwrap_or("loop".to_owned())
    }
    lowered.module.funcs.iter().map(|f| called(&f.body)).collect()
}

#[test]
fn sums_between_quantisations_are_kernels_and_stay_out_of_loops() {
    let names = kernels(|g, rng, [a, b]| {
        let (a, b) = (number(g, rng, a), number(g, rng, b));
        let sum = one(g, Op::Binary(BinaryOp::Add), &[a, b]);
        let sum = one(g, Op::Unary(UnaryOp::Relu), &[sum]);
        let y = quantised(g, rng, sum, false);
        number(g, rng, y)
    });
    assert_eq!(names, ["quantize_f32", "quantize_f32", "add_i8", "loop"]);
    // What a kernel has no form for stays one loop.
    let names = kernels(|g, rng, [a, b]| {
        let (a, b) = (number(g, rng, a), number(g, rng, b));
        let product = one(g, Op::Binary(BinaryOp::Mul), &[a, b]);
        quantised(g, rng, product, false)
    });
    assert_eq!(names, ["quantize_f32", "quantize_f32", "loop"]);
}
