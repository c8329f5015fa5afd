//! Reductions.

use super::elementwise::max;
use super::movement::transpose;
use crate::EvalError;
use crate::values::{Values, from_bools, from_floats, from_ints, no_such_type, read};
use sdc_ir::Tensor;
use sdc_ir::graph::op::{Reduce, ReduceKind};

pub(super) fn reduce(op: &Reduce, x: &Tensor, shape: &[usize]) -> Result<Tensor, EvalError> {
    let kept = (0..x.shape().len()).filter(|d| !op.axes.contains(d));
    let perm: Vec<usize> = kept.chain(op.axes.iter().copied()).collect();
    let group: usize = op.axes.iter().map(|&a| x.shape()[a]).product();
    // With the reduced dimensions last, each result comes from consecutive elements.
    let ordered = transpose(&perm, x)?;
    let dtype = x.dtype();
    let results: usize = shape.iter().product();
    let part = |i: usize| i * group..(i + 1) * group;
    match read(&ordered) {
        Values::Float(v) => {
            let y: Vec<f64> = (0..results).map(|i| float(op.kind, &v[part(i)])).collect();
            from_floats(dtype, shape.to_vec(), &y)
        }
        Values::Int(v) => {
            let y: Vec<i128> = (0..results).map(|i| int(op.kind, &v[part(i)])).collect();
            from_ints(dtype, shape.to_vec(), &y)
        }
        Values::Bool(v) => match op.kind {
            ReduceKind::Max => from_bools(shape.to_vec(), (0..results).map(|i| v[part(i)].contains(&true))),
            ReduceKind::Min => from_bools(shape.to_vec(), (0..results).map(|i| !v[part(i)].contains(&false))),
            _ => Err(no_such_type("Reduce", dtype)),
        },
    }
}

/// Nothing sums to 0, multiplies to 1 and has mean NaN.
fn float(kind: ReduceKind, v: &[f64]) -> f64 {
    match kind {
        // Not `Iterator::sum`, which starts at -0.
        ReduceKind::Sum => v.iter().fold(0.0, |sum, x| sum + x),
        ReduceKind::Mean => v.iter().sum::<f64>() / v.len() as f64,
        ReduceKind::Max => v.iter().copied().fold(f64::NEG_INFINITY, max),
        ReduceKind::Min => -v.iter().fold(f64::NEG_INFINITY, |a, x| max(a, -x)),
        ReduceKind::Prod => v.iter().product(),
    }
}

/// The mean truncates; nothing sums to 0, multiplies to 1 and has mean 0.
fn int(kind: ReduceKind, v: &[i128]) -> i128 {
    match kind {
        ReduceKind::Sum => v.iter().sum(),
        ReduceKind::Mean => v.iter().sum::<i128>().checked_div(v.len() as i128).unwrap_or(0),
        // Shape inference refuses an extremum of nothing.
        ReduceKind::Max => v.iter().copied().max().unwrap_or(0),
        ReduceKind::Min => v.iter().copied().min().unwrap_or(0),
        ReduceKind::Prod => v.iter().fold(1, |a, x| a.wrapping_mul(*x)),
    }
}
