//! Operators along one dimension that depend on the order of its elements.

use super::{Inferred, axis_in, ensure, numeric, one};
use crate::DType;
use crate::graph::TensorType;
use crate::graph::op::{ArgMax, Cumulative, ReduceKind, TopK};

pub(super) fn cumulative(op: &Cumulative, operands: &[&TensorType]) -> Inferred {
    let x = one(operands)?;
    numeric(x)?;
    axis_in(op.axis, x.rank())?;
    ensure(matches!(op.kind, ReduceKind::Sum | ReduceKind::Prod), || {
        format!("a running {} is not defined", op.kind.name())
    })?;
    Ok(x.clone())
}

pub(super) fn arg_max(op: &ArgMax, operands: &[&TensorType]) -> Inferred {
    let x = one(operands)?;
    numeric(x)?;
    axis_in(op.axis, x.rank())?;
    ensure(x.sizes()[op.axis] > 0, || {
        "nothing has no largest or smallest element".to_owned()
    })?;
    let mut shape = x.sizes().to_vec();
    shape[op.axis] = 1;
    Ok(TensorType::new(DType::I64, shape))
}

pub(super) fn top_k(op: &TopK, operands: &[&TensorType]) -> Inferred {
    let x = one(operands)?;
    numeric(x)?;
    axis_in(op.axis, x.rank())?;
    let size = x.sizes()[op.axis];
    ensure(op.k <= size, || {
        format!("{} of {size} elements are asked for", op.k)
    })?;
    let mut shape = x.sizes().to_vec();
    shape[op.axis] = op.k;
    Ok(TensorType::new(DType::I64, shape))
}
