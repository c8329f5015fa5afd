//! Functions of `f64`, to nearly its precision.
#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is the test's")]

use crate::common::{lowered, one};
use sdc_ir::graph::op::{Elu, Softmax};
use sdc_ir::graph::{BinaryOp, Graph, Op, TensorType, UnaryOp};
use sdc_ir::{DType, Tensor};

fn doubles(values: &[f64]) -> Tensor {
    Tensor::from_elements(vec![values.len()], values.to_vec()).unwrap()
}

/// The results of an operator on lists of numbers.
fn apply(op: Op, operands: &[&[f64]]) -> Vec<f64> {
    let mut g = Graph::new("double");
    let ty = TensorType::new(DType::F64, [operands[0].len()]);
    let inputs: Vec<_> = (0..operands.len())
        .map(|k| g.add_input(format!("x{k}"), ty.clone()))
        .collect();
    let y = one(&mut g, op, &inputs);
    g.add_output("y", y);
    let given: Vec<Tensor> = operands.iter().map(|x| doubles(x)).collect();
    lowered(&g, &given)[0].to_f64_vec()
}

fn near(name: &str, x: &[f64], got: &[f64], wanted: impl Fn(f64) -> f64, bound: f64) {
    for (&x, &got) in x.iter().zip(got) {
        let wanted = wanted(x);
        let same = got == wanted || got.is_nan() && wanted.is_nan();
        let error = ((got - wanted) / wanted).abs();
        assert!(
            same || error <= bound,
            "{name}({x:e}) = {got:e}, not {wanted:e}: {error:e}"
        );
    }
}

/// Magnitudes of both signs from denormal to overflow, and what is special.
fn numbers() -> Vec<f64> {
    let spread = (-320..=308).step_by(4).map(|k| 1.37 * 10f64.powi(k));
    let close = (1..400).map(|k| f64::from(k) * 0.037);
    let all: Vec<f64> = spread.chain(close).flat_map(|x| [x, -x]).collect();
    let special = [
        0.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        1.0,
        710.0,
        -745.0,
    ];
    all.into_iter().chain(special).collect()
}

#[test]
fn functions_of_one_number() {
    use UnaryOp::*;
    let all = numbers();
    let unary = |op: UnaryOp, x: &[f64]| apply(Op::Unary(op), &[x]);
    near("exp", &all, &unary(Exp, &all), f64::exp, 1e-15);
    near("log", &all, &unary(Log, &all), f64::ln, 1e-15);
    near("tanh", &all, &unary(Tanh, &all), f64::tanh, 2e-15);
    near("atan", &all, &unary(Atan, &all), f64::atan, 1e-15);
    near("erf", &all, &unary(Erf, &all), libm::erf, 2e-15);
    let sigmoid = |x: f64| {
        if x < 0.0 {
            x.exp() / (1.0 + x.exp())
        } else {
            1.0 / (1.0 + (-x).exp())
        }
    };
    let normal: Vec<f64> = all
        .iter()
        .copied()
        .filter(|x| x.abs() < 700.0 || !x.is_finite())
        .collect();
    near(
        "sigmoid",
        &normal,
        &unary(Sigmoid, &normal),
        |x| {
            if x.is_infinite() {
                f64::from(x > 0.0)
            } else {
                sigmoid(x)
            }
        },
        2e-15,
    );
    near(
        "softplus",
        &normal,
        &unary(Softplus, &normal),
        |x| x.max(0.0) + if x.is_nan() { x } else { (-x.abs()).exp().ln_1p() },
        1e-14,
    );
    near(
        "elu",
        &normal,
        &apply(Op::Elu(Elu { alpha: 1.0 }), &[&normal]),
        |x| if x < 0.0 { x.exp() - 1.0 } else { x },
        1e-12,
    );
    // Near a zero of the function the error is of the reduction.
    let angles: Vec<f64> = (-4000..4000).map(|k| f64::from(k) * 0.7311).collect();
    near("sin", &angles, &unary(Sin, &angles), f64::sin, 1e-12);
    near("cos", &angles, &unary(Cos, &angles), f64::cos, 1e-12);
}

#[test]
fn powers_and_softmax() {
    let x: Vec<f64> = (-40..40).map(|k| f64::from(k) * 0.31).collect();
    for y in [0.0, 1.0, 2.0, 3.0, -2.0, -3.0, 0.5, 2.7] {
        let exponents = vec![y; x.len()];
        let got = apply(Op::Binary(BinaryOp::Pow), &[&x, &exponents]);
        near("pow", &x, &got, |x| x.powf(y), 1e-14);
    }
    for log in [false, true] {
        let got = apply(Op::Softmax(Softmax { axis: 0, log }), &[&x]);
        let sum: f64 = x.iter().map(|x| x.exp()).sum();
        near(
            "softmax",
            &x,
            &got,
            |x| if log { x - sum.ln() } else { x.exp() / sum },
            1e-13,
        );
    }
}
