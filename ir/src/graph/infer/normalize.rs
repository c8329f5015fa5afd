//! Normalisations, softmax and reductions.

use super::{Fail, Inferred, axis_in, broadcast, count, ensure, float, numeric, one, same_dtype};
use crate::DType;
use crate::graph::TensorType;
use crate::graph::op::{LayerNormalization, Reduce, ReduceKind, Softmax};
use crate::graph::types::shape_text;

/// Checks that each parameter is one value per channel (dimension 1) of x.
fn per_channel(x: &TensorType, parameters: &[&TensorType]) -> Result<(), Fail> {
    let channels = x.sizes()[1];
    ensure(parameters.iter().all(|p| p.sizes() == [channels]), || {
        format!("every parameter must have shape [{channels}], the input's channels")
    })
}

pub(super) fn batch(operands: &[&TensorType]) -> Inferred {
    let [x, scale, bias, mean, var] = count(operands)?;
    float(x)?;
    same_dtype(operands)?;
    ensure(x.rank() >= 2, || {
        format!("the input has rank {}, but needs a channel dimension", x.rank())
    })?;
    per_channel(x, &[scale, bias, mean, var])?;
    Ok(x.clone())
}

pub(super) fn instance(operands: &[&TensorType]) -> Inferred {
    let [x, scale, bias] = count(operands)?;
    float(x)?;
    same_dtype(operands)?;
    super::window::spatial_rank(x)?;
    per_channel(x, &[scale, bias])?;
    Ok(x.clone())
}

pub(super) fn layer(op: &LayerNormalization, operands: &[&TensorType]) -> Inferred {
    let [x, scale, bias] = count(operands)?;
    float(x)?;
    same_dtype(operands)?;
    axis_in(op.axis, x.rank())?;
    for p in [scale, bias] {
        ensure(
            broadcast(x.sizes(), p.sizes()).as_deref() == Some(x.sizes()),
            || {
                format!(
                    "a parameter of shape {} does not broadcast to {}",
                    shape_text(p.sizes()),
                    shape_text(x.sizes())
                )
            },
        )?;
    }
    Ok(x.clone())
}

pub(super) fn softmax(op: &Softmax, operands: &[&TensorType]) -> Inferred {
    let x = one(operands)?;
    float(x)?;
    axis_in(op.axis, x.rank())?;
    Ok(x.clone())
}

pub(super) fn reduce(op: &Reduce, operands: &[&TensorType]) -> Inferred {
    let x = one(operands)?;
    let extremum = matches!(op.kind, ReduceKind::Max | ReduceKind::Min);
    if x.dtype == DType::Bool && !extremum {
        numeric(x)?;
    }
    ensure(op.axes.windows(2).all(|w| w[0] < w[1]), || {
        "axes must be distinct and in ascending order".to_owned()
    })?;
    if let Some(&last) = op.axes.last() {
        axis_in(last, x.rank())?;
    }
    let empty = op.axes.iter().any(|&a| x.sizes()[a] == 0);
    ensure(!(empty && extremum), || {
        "nothing has no largest or smallest element".to_owned()
    })?;
    let shape: Vec<usize> = x
        .sizes()
        .iter()
        .enumerate()
        .filter_map(|(i, &d)| match (op.axes.contains(&i), op.keepdims) {
            (false, _) => Some(d),
            (true, true) => Some(1),
            (true, false) => None,
        })
        .collect();
    Ok(TensorType::new(x.dtype, shape))
}
