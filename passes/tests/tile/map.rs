//! What becomes a call of the kernels for element-wise programs and for rows, and that it computes what the graph computes.

use crate::common::{Lcg, check, constant, input, laid_out, lower_with_remarks, one};
use proptest::prelude::*;
use sdc_ir::Tensor;
use sdc_ir::graph::op::*;
use sdc_ir::graph::{BinaryOp, Graph, Op, UnaryOp, Value};
use sdc_ir::tile::Stmt;
use sdc_passes::schedule::ScheduleOptions;

fn scalar(g: &mut Graph, x: f32) -> Value {
    let tensor = Tensor::from_elements::<f32>(vec![1], vec![x]).expect("one element");
    g.add_constant(tensor, crate::common::origin("c"))
}

fn unary(g: &mut Graph, op: UnaryOp, x: Value) -> Value {
    one(g, Op::Unary(op), &[x])
}

fn binary(g: &mut Graph, op: BinaryOp, x: Value, y: Value) -> Value {
    one(g, Op::Binary(op), &[x, y])
}

/// Kernels called, and remarks as text.
fn choices(g: &Graph) -> (Vec<String>, Vec<String>) {
    fn calls(stmts: &[Stmt], found: &mut Vec<String>) {
        for stmt in stmts {
            match stmt {
                Stmt::Kernel(call) => found.push(call.kernel.clone()),
                Stmt::For(f) => calls(&f.body, found),
                _ => {}
            }
        }
    }
    let options = ScheduleOptions::default();
    let lowered = lower_with_remarks(&laid_out(g), &options, &|_| Vec::new());
    let (lowered, remarks) = lowered.expect("has a lowering");
    let mut found = Vec::new();
    for func in &lowered.module.funcs {
        calls(&func.body, &mut found);
    }
    (found, remarks.iter().map(|r| r.reason.clone()).collect())
}

/// `0.5 x (1 + tanh(0.8 (x + 0.04 x^3)))`
fn gelu(g: &mut Graph, x: Value) -> Value {
    let [half, one, outer, inner, three] = [0.5, 1.0, 0.797_884_6, 0.044_715, 3.0].map(|c| scalar(g, c));
    let cube = binary(g, BinaryOp::Pow, x, three);
    let small = binary(g, BinaryOp::Mul, cube, inner);
    let sum = binary(g, BinaryOp::Add, x, small);
    let sum = binary(g, BinaryOp::Mul, sum, outer);
    let tanh = unary(g, UnaryOp::Tanh, sum);
    let gate = binary(g, BinaryOp::Add, tanh, one);
    let y = binary(g, BinaryOp::Mul, x, gate);
    binary(g, BinaryOp::Mul, y, half)
}

#[test]
fn gates_become_programs() {
    let mut g = Graph::new("gates");
    let mut rng = Lcg::new(1);
    let x = input(&mut g, "x", &[2, 3, 90]);
    let bias = constant(&mut g, &mut rng, &[90]);
    let shifted = binary(&mut g, BinaryOp::Add, x, bias);
    let sigmoid = unary(&mut g, UnaryOp::Sigmoid, shifted);
    let swish = binary(&mut g, BinaryOp::Mul, sigmoid, x);
    let softplus = unary(&mut g, UnaryOp::Softplus, x);
    let softplus = unary(&mut g, UnaryOp::Tanh, softplus);
    let mish = binary(&mut g, BinaryOp::Mul, x, softplus);
    let clipped = one(&mut g, Clip { min: -1.0, max: 0.5 }.into(), &[x]);
    let clipped = unary(&mut g, UnaryOp::Exp, clipped);
    let elu = one(&mut g, Elu { alpha: 0.7 }.into(), &[x]);
    let elu = one(&mut g, LeakyRelu { alpha: 0.1 }.into(), &[elu]);
    let inverse = unary(&mut g, UnaryOp::Erf, x);
    let inverse = unary(&mut g, UnaryOp::Reciprocal, inverse);
    let relu = unary(&mut g, UnaryOp::Relu, x);
    let hard = HardSigmoid {
        alpha: 0.2,
        beta: 0.5,
    };
    let hard = one(&mut g, hard.into(), &[relu]);
    let hard = unary(&mut g, UnaryOp::Log, hard);
    let gelu = gelu(&mut g, x);
    let values = [swish, mish, clipped, elu, inverse, hard, gelu];
    for (i, v) in values.into_iter().enumerate() {
        g.add_output(format!("y{i}"), v);
    }
    let (kernels, remarks) = choices(&g);
    assert_eq!(kernels, vec!["map_f32"; values.len()]);
    assert!(
        remarks.iter().all(|r| r.starts_with("a program of")),
        "{remarks:?}"
    );
    check(&g, 5);
}

#[test]
fn what_is_no_program_says_why() {
    let reason = |shape: &[usize], build: &dyn Fn(&mut Graph, Value) -> Value| {
        let mut g = Graph::new("g");
        let x = input(&mut g, "x", shape);
        let y = build(&mut g, x);
        g.add_output("y", y);
        check(&g, 9);
        let (kernels, remarks) = choices(&g);
        assert!(kernels.is_empty(), "{kernels:?}");
        remarks.join("; ")
    };
    let exp = |g: &mut Graph, x: Value| unary(g, UnaryOp::Exp, x);
    // Too little to speak of, and nothing that takes time.
    assert_eq!(reason(&[255], &exp), "");
    assert_eq!(reason(&[512], &|g, x| unary(g, UnaryOp::Abs, x)), "");
    let sine = |g: &mut Graph, x: Value| {
        let sine = unary(g, UnaryOp::Sin, x);
        unary(g, UnaryOp::Exp, sine)
    };
    assert!(reason(&[512], &sine).contains("Sin is no step"));
    let columns = |g: &mut Graph, x: Value| {
        let column = constant(g, &mut Lcg::new(2), &[32, 1]);
        let sum = binary(g, BinaryOp::Add, x, column);
        unary(g, UnaryOp::Exp, sum)
    };
    assert!(reason(&[32, 32], &columns).contains("no long rows"));
    let short = |g: &mut Graph, x: Value| {
        let row = constant(g, &mut Lcg::new(2), &[8]);
        let sum = binary(g, BinaryOp::Add, x, row);
        unary(g, UnaryOp::Exp, sum)
    };
    assert!(reason(&[64, 8], &short).contains("no long rows"));
    let long = |g: &mut Graph, x: Value| (0..17).fold(x, |x, _| unary(g, UnaryOp::Tanh, x));
    assert!(reason(&[512], &long).contains("steps"));
    let four = |g: &mut Graph, x: Value| {
        let more = (0..3)
            .map(|i| input(g, &format!("x{i}"), &[512]))
            .collect::<Vec<_>>();
        let sum = more
            .into_iter()
            .fold(x, |sum, x| binary(g, BinaryOp::Add, sum, x));
        unary(g, UnaryOp::Exp, sum)
    };
    assert!(reason(&[512], &four).contains("4 operands"));
}

#[test]
fn rows_without_gaps_have_kernels() {
    let normalise = |g: &mut Graph, x: Value, shape: &[usize]| {
        let (scale, bias) = (
            constant(g, &mut Lcg::new(3), shape),
            constant(g, &mut Lcg::new(4), shape),
        );
        let op = LayerNormalization {
            axis: 1,
            epsilon: 1e-5,
        };
        one(g, op.into(), &[x, scale, bias])
    };
    let kernels = |shape: &[usize], build: &dyn Fn(&mut Graph, Value) -> Value| {
        let mut g = Graph::new("g");
        let x = input(&mut g, "x", shape);
        let y = build(&mut g, x);
        g.add_output("y", y);
        check(&g, 9);
        choices(&g).0
    };
    for log in [false, true] {
        let softmax = |axis| move |g: &mut Graph, x: Value| one(g, Softmax { axis, log }.into(), &[x]);
        assert_eq!(kernels(&[2, 3, 4, 19], &softmax(3)), ["softmax_f32"]);
        assert_eq!(kernels(&[1, 100], &softmax(1)), ["softmax_f32"]);
        assert!(kernels(&[2, 30, 5], &softmax(1)).is_empty());
        assert!(kernels(&[1, 10], &softmax(1)).is_empty());
    }
    assert_eq!(
        kernels(&[5, 30], &|g, x| normalise(g, x, &[30])),
        ["layer_norm_f32"]
    );
    assert_eq!(
        kernels(&[5, 3, 30], &|g, x| normalise(g, x, &[3, 30])),
        ["layer_norm_f32"]
    );
    assert!(kernels(&[5, 3, 30], &|g, x| normalise(g, x, &[3, 1])).is_empty());
    assert!(kernels(&[5, 8], &|g, x| normalise(g, x, &[8])).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Trees of operators that all have steps, on operands that broadcast over rows or not.
    #[test]
    fn random_programs(
        rows in 1..9usize, columns in 30..200usize, picks in proptest::collection::vec((0..9usize, 0..4usize), 1..12),
        full: bool, seed: u64,
    ) {
        let mut g = Graph::new("tree");
        let rng = &mut Lcg::new(seed);
        let x = input(&mut g, "x", &[rows, columns]);
        let other = if full { input(&mut g, "z", &[rows, columns]) } else { constant(&mut g, rng, &[columns]) };
        let some = scalar(&mut g, 0.75);
        let mut y = x;
        for (op, operand) in picks {
            let operand = [x, other, some, y][operand];
            // Each of them keeps magnitudes small, so that errors stay those of single roundings.
            y = match op {
                0 => unary(&mut g, UnaryOp::Tanh, y),
                1 => unary(&mut g, UnaryOp::Sigmoid, y),
                2 => unary(&mut g, UnaryOp::Erf, y),
                3 => unary(&mut g, UnaryOp::Abs, y),
                4 => binary(&mut g, BinaryOp::Max, y, operand),
                5 => binary(&mut g, BinaryOp::Min, operand, y),
                6 => {
                    let y = unary(&mut g, UnaryOp::Softplus, y);
                    binary(&mut g, BinaryOp::Mul, y, some)
                }
                7 => {
                    let sum = binary(&mut g, BinaryOp::Add, operand, y);
                    binary(&mut g, BinaryOp::Mul, sum, some)
                }
                _ => {
                    let difference = binary(&mut g, BinaryOp::Sub, operand, y);
                    binary(&mut g, BinaryOp::Mul, difference, some)
                }
            };
        }
        let y = unary(&mut g, UnaryOp::Sigmoid, y);
        g.add_output("y", y);
        check(&g, seed);
    }
}
