//! Operators that move elements without looking at them: any element type, any rank.
//!
//! All but Concat and Where are one idea: along each dimension of the result a table says where in the source the
//! element comes from.

use crate::EvalError;
use crate::values::{count, with_room};
use sdc_ir::graph::op::{Concat, Gather, Pad, PadMode, Slice};
use sdc_ir::tensor::row_major_strides;
use sdc_ir::{DType, Tensor};

/// Where each index along one dimension of the result lies in the source, in elements; `None` is not in the source.
pub(super) type Table = Vec<Option<usize>>;

/// `result[i0, i1, ..] = x[tables[0][i0] + tables[1][i1] + ..]`, or `fill` where one of the entries is `None`.
///
/// `fill` holds one element of x's type.
pub(super) fn take(x: &Tensor, tables: &[Table], fill: &[u8]) -> Result<Tensor, EvalError> {
    let shape: Vec<usize> = tables.iter().map(Vec::len).collect();
    let mut out = with_room(count(&shape)?.saturating_mul(x.dtype().size()))?;
    match x.dtype().size() {
        1 => take_sized::<1>(x.bytes(), tables, fill, Some(0), &mut out),
        2 => take_sized::<2>(x.bytes(), tables, fill, Some(0), &mut out),
        4 => take_sized::<4>(x.bytes(), tables, fill, Some(0), &mut out),
        _ => take_sized::<8>(x.bytes(), tables, fill, Some(0), &mut out),
    }
    Ok(Tensor::new(x.dtype(), shape, out.into())?)
}

fn take_sized<const N: usize>(
    x: &[u8],
    tables: &[Table],
    fill: &[u8],
    base: Option<usize>,
    out: &mut Vec<u8>,
) {
    let (elements, _) = x.as_chunks::<N>();
    match tables {
        [] => out.extend_from_slice(base.map_or(fill, |b| &elements[b])),
        [last] => {
            for &at in last {
                out.extend_from_slice(base.zip(at).map_or(fill, |(b, a)| &elements[b + a]));
            }
        }
        // An empty inner dimension leaves nothing to do, however long the outer ones are.
        [_, inner @ ..] if inner.iter().any(Vec::is_empty) => {}
        [first, inner @ ..] => {
            for &at in first {
                take_sized::<N>(x, inner, fill, base.zip(at).map(|(b, a)| b + a), out);
            }
        }
    }
}

/// [`take`] where every element of the result is in the source.
fn take_all(x: &Tensor, tables: &[Table]) -> Result<Tensor, EvalError> {
    take(x, tables, &[])
}

/// Entries for `len` equally spaced indices.
fn evenly(start: usize, step: i64, len: usize, stride: usize) -> Table {
    (0..len)
        .map(|i| Some((start as i64 + i as i64 * step) as usize * stride))
        .collect()
}

pub(super) fn transpose(perm: &[usize], x: &Tensor) -> Result<Tensor, EvalError> {
    if x.is_empty() {
        return Ok(x.reshaped(perm.iter().map(|&d| x.shape()[d]).collect())?);
    }
    let strides = row_major_strides(x.shape());
    let tables: Vec<Table> = perm
        .iter()
        .map(|&d| evenly(0, 1, x.shape()[d], strides[d]))
        .collect();
    take_all(x, &tables)
}

/// Numpy broadcasting of x to a shape of at least its rank.
pub(super) fn expand(x: &Tensor, shape: &[usize]) -> Result<Tensor, EvalError> {
    if x.shape() == shape {
        return Ok(x.clone());
    }
    let strides = row_major_strides(x.shape());
    let new = shape.len() - x.shape().len();
    let tables: Vec<Table> = (0..shape.len())
        .map(|d| match d.checked_sub(new) {
            Some(own) if x.shape()[own] != 1 => evenly(0, 1, shape[d], strides[own]),
            _ => vec![Some(0); shape[d]],
        })
        .collect();
    take_all(x, &tables)
}

pub(super) fn slice(op: &Slice, x: &Tensor) -> Result<Tensor, EvalError> {
    let strides = row_major_strides(x.shape());
    let tables: Vec<Table> = (0..strides.len())
        .map(|d| evenly(op.starts[d], op.steps[d], op.sizes[d], strides[d]))
        .collect();
    take_all(x, &tables)
}

pub(super) fn gather(op: &Gather, x: &Tensor, indices: &Tensor) -> Result<Tensor, EvalError> {
    let strides = row_major_strides(x.shape());
    let len = x.shape()[op.axis] as i64;
    let index = |i: i64| (if i < 0 { i.saturating_add(len) } else { i }).clamp(0, len - 1) as usize;
    let wanted = indices.to_i64_vec().unwrap_or_default();
    let tables: Vec<Table> = (0..strides.len())
        .map(|d| {
            if d == op.axis {
                wanted.iter().map(|&i| Some(index(i) * strides[d])).collect()
            } else {
                evenly(0, 1, x.shape()[d], strides[d])
            }
        })
        .collect();
    let shape = [&x.shape()[..op.axis], indices.shape(), &x.shape()[op.axis + 1..]].concat();
    Ok(take_all(x, &tables)?.reshaped(shape)?)
}

pub(super) fn pad(op: &Pad, x: &Tensor) -> Result<Tensor, EvalError> {
    let strides = row_major_strides(x.shape());
    let mut tables = Vec::new();
    for (d, &len) in x.shape().iter().enumerate() {
        let total = op.before[d] + len + op.after[d];
        let from = |i: usize| border(op.mode, i as i64 - op.before[d] as i64, len as i64);
        tables.push(
            (0..total)
                .map(|i| from(i).map(|i| i as usize * strides[d]))
                .collect(),
        );
    }
    take(x, &tables, &constant_bytes(x.dtype(), op.value)?)
}

/// The source index that a coordinate, perhaps outside `0..len`, stands for. `None` is the constant.
fn border(mode: PadMode, i: i64, len: i64) -> Option<i64> {
    match mode {
        PadMode::Constant => (0..len).contains(&i).then_some(i),
        PadMode::Edge => Some(i.clamp(0, len - 1)),
        PadMode::Wrap => Some(i.rem_euclid(len)),
        PadMode::Reflect => {
            // A mirror image without the repeated edges has period 2 * (len - 1).
            let period = (2 * (len - 1)).max(1);
            let i = i.rem_euclid(period);
            Some(i.min(period - i).min(len - 1))
        }
    }
}

/// The bytes of one element of this type.
fn constant_bytes(dtype: DType, value: f32) -> Result<Vec<u8>, EvalError> {
    Ok(crate::values::from_floats(dtype, vec![], &[value.into()])?
        .bytes()
        .to_vec())
}

pub(super) fn concat(op: &Concat, inputs: &[&Tensor], shape: &[usize]) -> Result<Tensor, EvalError> {
    let dtype = inputs[0].dtype();
    let mut out = with_room(count(shape)?.saturating_mul(dtype.size()))?;
    let outer: usize = count(&shape[..op.axis])?;
    // Bytes of each operand between two steps of the dimensions before the axis.
    let blocks: Vec<usize> = inputs
        .iter()
        .map(|x| x.bytes().len().checked_div(outer).unwrap_or(0))
        .collect();
    for i in 0..outer {
        for (x, &block) in inputs.iter().zip(&blocks) {
            out.extend_from_slice(&x.bytes()[i * block..(i + 1) * block]);
        }
    }
    Ok(Tensor::new(dtype, shape.to_vec(), out.into())?)
}

pub(super) fn select(cond: &Tensor, a: &Tensor, b: &Tensor, shape: &[usize]) -> Result<Tensor, EvalError> {
    let (cond, a, b) = (expand(cond, shape)?, expand(a, shape)?, expand(b, shape)?);
    let size = a.dtype().size();
    let mut out = with_room(a.bytes().len())?;
    let pairs = a.bytes().chunks_exact(size).zip(b.bytes().chunks_exact(size));
    for (&c, (a, b)) in cond.bytes().iter().zip(pairs) {
        out.extend_from_slice(if c != 0 { a } else { b });
    }
    Ok(Tensor::new(a.dtype(), shape.to_vec(), out.into())?)
}
