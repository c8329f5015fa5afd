//! Rows changed at indices.

use super::elementwise::max;
use crate::EvalError;
use crate::values::{Values, no_such_type, read, write};
use sdc_ir::Tensor;
use sdc_ir::graph::op::{Scatter, ScatterMode};

pub(super) fn scatter(op: &Scatter, inputs: &[&Tensor]) -> Result<Tensor, EvalError> {
    let (data, updates) = (inputs[0], inputs[2]);
    let (n, m) = (data.shape()[0] as i64, data.shape()[1]);
    let row = |i: i64| (if i < 0 { i.saturating_add(n) } else { i }).clamp(0, n - 1) as usize;
    let rows: Vec<usize> = inputs[1]
        .to_i64_vec()
        .unwrap_or_default()
        .into_iter()
        .map(row)
        .collect();
    let values = match (read(data), read(updates)) {
        (Values::Float(x), Values::Float(u)) => {
            let f: fn(f64, f64) -> f64 = match op.mode {
                ScatterMode::Set => |_, u| u,
                ScatterMode::Add => |x, u| x + u,
                ScatterMode::Mul => |x, u| x * u,
                ScatterMode::Max => max,
                ScatterMode::Min => |x, u| -max(-x, -u),
            };
            // Each step rounds to the element type, so the sum is not the exact one in f64; f32 and f64 only differ by that.
            Values::Float(combine(x, &u, &rows, m, f))
        }
        (Values::Int(x), Values::Int(u)) => {
            let f: fn(i128, i128) -> i128 = match op.mode {
                ScatterMode::Set => |_, u| u,
                ScatterMode::Add => |x, u| x.wrapping_add(u),
                ScatterMode::Mul => |x, u| x.wrapping_mul(u),
                ScatterMode::Max => |x, u| x.max(u),
                ScatterMode::Min => |x, u| x.min(u),
            };
            Values::Int(combine(x, &u, &rows, m, f))
        }
        (Values::Bool(x), Values::Bool(u)) => Values::Bool(combine(x, &u, &rows, m, |_, u| u)),
        _ => return Err(no_such_type("Scatter", data.dtype())),
    };
    write(data.dtype(), data.shape().to_vec(), values)
}

fn combine<T: Copy>(mut x: Vec<T>, updates: &[T], rows: &[usize], m: usize, f: fn(T, T) -> T) -> Vec<T> {
    for (i, &row) in rows.iter().enumerate() {
        for j in 0..m {
            let at = row * m + j;
            x[at] = f(x[at], updates[i * m + j]);
        }
    }
    x
}
