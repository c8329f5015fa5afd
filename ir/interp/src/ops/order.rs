//! Operators along one dimension that depend on the order of its elements.

use super::movement::transpose;
use crate::EvalError;
use crate::values::{Values, no_such_type, read, write};
use sdc_ir::Tensor;
use sdc_ir::graph::op::{ArgMax, Cumulative, ReduceKind, TopK};
use std::cmp::Ordering;

/// The permutation that brings a dimension to the end, and its inverse.
fn to_end(axis: usize, rank: usize) -> (Vec<usize>, Vec<usize>) {
    let perm: Vec<usize> = (0..rank).filter(|&d| d != axis).chain([axis]).collect();
    let mut inverse = vec![0; rank];
    for (k, &d) in perm.iter().enumerate() {
        inverse[d] = k;
    }
    (perm, inverse)
}

pub(super) fn cumulative(op: &Cumulative, x: &Tensor) -> Result<Tensor, EvalError> {
    let (perm, inverse) = to_end(op.axis, x.shape().len());
    let size = x.shape()[op.axis];
    let ordered = transpose(&perm, x)?;
    let values = match read(&ordered) {
        Values::Float(v) if op.kind == ReduceKind::Sum => Values::Float(run(op, size, v, 0.0, |a, b| a + b)),
        Values::Float(v) => Values::Float(run(op, size, v, 1.0, |a, b| a * b)),
        Values::Int(v) if op.kind == ReduceKind::Sum => Values::Int(run(op, size, v, 0, i128::wrapping_add)),
        Values::Int(v) => Values::Int(run(op, size, v, 1, i128::wrapping_mul)),
        Values::Bool(_) => return Err(no_such_type("Cumulative", x.dtype())),
    };
    transpose(&inverse, &write(x.dtype(), ordered.shape().to_vec(), values)?)
}

fn run<T: Copy>(op: &Cumulative, size: usize, mut v: Vec<T>, neutral: T, f: fn(T, T) -> T) -> Vec<T> {
    for row in v.chunks_exact_mut(size) {
        if op.reverse {
            row.reverse();
        }
        let mut total = neutral;
        for x in row.iter_mut() {
            let before = total;
            total = f(total, *x);
            *x = if op.exclusive { before } else { total };
        }
        if op.reverse {
            row.reverse();
        }
    }
    v
}

/// For each row along a dimension brought to the end, the indices of its elements, largest (smallest) first, equal ones by index. NaN is
/// larger than everything else, or left out.
fn ranked(x: &Tensor, axis: usize, smallest: bool, with_nan: bool) -> Result<Vec<Vec<usize>>, EvalError> {
    let size = x.shape()[axis];
    let ordered = transpose(&to_end(axis, x.shape().len()).0, x)?;
    let rank = |compare: &dyn Fn(usize, usize) -> Ordering, counts: &dyn Fn(usize) -> bool, row: usize| {
        let mut order: Vec<usize> = (0..size).filter(|&i| counts(row * size + i)).collect();
        order.sort_by(|&a, &b| {
            let by_value = compare(row * size + a, row * size + b);
            if smallest { by_value } else { by_value.reverse() }
        });
        order
    };
    let rows = 0..ordered.len().checked_div(size).unwrap_or(0);
    match read(&ordered) {
        Values::Float(v) => {
            let compare = |a: usize, b: usize| {
                let (a, b) = (v[a], v[b]);
                a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            };
            let counts = |i: usize| with_nan || !v[i].is_nan();
            Ok(rows.map(|row| rank(&compare, &counts, row)).collect())
        }
        Values::Int(v) => Ok(rows
            .map(|row| rank(&|a, b| v[a].cmp(&v[b]), &|_| true, row))
            .collect()),
        Values::Bool(_) => Err(no_such_type("TopK", x.dtype())),
    }
}

/// Indices, rows along the last dimension, as a tensor with that dimension at `axis`.
fn from_rows(rows: Vec<i64>, axis: usize, shape: &[usize]) -> Result<Tensor, EvalError> {
    let (perm, inverse) = to_end(axis, shape.len());
    let ordered = perm.iter().map(|&d| shape[d]).collect();
    transpose(&inverse, &Tensor::from_elements(ordered, rows)?)
}

pub(super) fn arg_max(op: &ArgMax, x: &Tensor, shape: &[usize]) -> Result<Tensor, EvalError> {
    let size = x.shape()[op.axis];
    // The last of equal elements is the first of the mirrored dimension.
    let mirrored = if op.last {
        let mut steps = vec![1; shape.len()];
        let mut starts = vec![0; shape.len()];
        (steps[op.axis], starts[op.axis]) = (-1, size - 1);
        let sizes = x.shape().to_vec();
        super::movement::slice(&sdc_ir::graph::op::Slice { starts, sizes, steps }, x)?
    } else {
        x.clone()
    };
    let first = ranked(&mirrored, op.axis, op.smallest, false)?
        .iter()
        .map(|order| match order.first() {
            Some(&i) if op.last => (size - 1 - i) as i64,
            Some(&i) => i as i64,
            None => 0,
        })
        .collect();
    from_rows(first, op.axis, shape)
}

pub(super) fn top_k(op: &TopK, x: &Tensor, shape: &[usize]) -> Result<Tensor, EvalError> {
    let rows = ranked(x, op.axis, op.smallest, true)?
        .iter()
        .flat_map(|order| {
            (0..op.k)
                .map(|i| order.get(i).map_or(0, |&i| i as i64))
                .collect::<Vec<_>>()
        })
        .collect();
    from_rows(rows, op.axis, shape)
}
