//! Matrix product.

use super::elementwise::activate;
use super::movement::expand;
use crate::EvalError;
use crate::values::{Values, count, filled, from_floats, from_ints, no_such_type, read};
use sdc_ir::Tensor;
use sdc_ir::graph::TensorType;
use sdc_ir::graph::op::{Activation, MatMul};

pub(super) fn matmul(op: &MatMul, inputs: &[&Tensor], ty: &TensorType) -> Result<Tensor, EvalError> {
    let shape = ty.sizes();
    let batch = &shape[..shape.len() - 2];
    let (rows, columns) = (shape[shape.len() - 2], shape[shape.len() - 1]);
    let depth = inputs[0].shape()[inputs[0].shape().len() - 1];
    // All operands under the result's batch dimensions; bias and residual under its whole shape.
    let mut operands = vec![
        expand(inputs[0], &[batch, &[rows, depth]].concat())?,
        expand(inputs[1], &[batch, &[depth, columns]].concat())?,
    ];
    for addend in &inputs[2..] {
        operands.push(expand(addend, shape)?);
    }

    let sizes = (rows, depth, columns);
    match ty.dtype {
        t if t.is_float() => {
            let values: Vec<Vec<f64>> = operands.iter().map(Tensor::to_f64_vec).collect();
            let mut y = filled(count(shape)?, 0.0)?;
            product(&values, sizes, &mut y, |y, a, b| y + a * b);
            for addend in &values[2..] {
                y.iter_mut().zip(addend).for_each(|(y, x)| *y += x);
            }
            activate(op.act, &mut y);
            from_floats(ty.dtype, shape.to_vec(), &y)
        }
        // Arithmetic modulo 2^128 keeps the low bits that the result has.
        t if t.is_int() && op.act == Activation::None => {
            let values: Vec<Vec<i128>> = operands
                .iter()
                .filter_map(|x| {
                    if let Values::Int(v) = read(x) {
                        Some(v)
                    } else {
                        None
                    }
                })
                .collect();
            let mut y = filled(count(shape)?, 0)?;
            product(&values, sizes, &mut y, |y, a, b| {
                y.wrapping_add(a.wrapping_mul(b))
            });
            for addend in &values[2..] {
                y.iter_mut()
                    .zip(addend)
                    .for_each(|(y, x)| *y = y.wrapping_add(*x));
            }
            from_ints(ty.dtype, shape.to_vec(), &y)
        }
        t if t.is_int() => Err(EvalError::Unsupported {
            op: "MatMul",
            reason: format!("activation on elements of type {t}"),
        }),
        t => Err(no_such_type("MatMul", t)),
    }
}

/// `y += a @ b` for each matrix of the batch, a step of the inner dimension at a time.
fn product<T: Copy>(
    operands: &[Vec<T>],
    (rows, depth, columns): (usize, usize, usize),
    y: &mut [T],
    step: impl Fn(T, T, T) -> T,
) {
    for (row, y) in y.chunks_exact_mut(columns).enumerate() {
        let matrix = row / rows;
        for d in 0..depth {
            let a = operands[0][row * depth + d];
            let from = (matrix * depth + d) * columns;
            for (y, &b) in y.iter_mut().zip(&operands[1][from..from + columns]) {
                *y = step(*y, a, b);
            }
        }
    }
}
