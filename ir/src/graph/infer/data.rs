//! Operators that move elements without computing on them.

use super::{Inferred, attr_len, axis_in, broadcast, count, ensure, one, overflow, same_dtype};
use crate::DType;
use crate::graph::op::{
    BitCast, Concat, Expand, Gather, Pad, PadMode, Reshape, Scatter, ScatterMode, Slice, Transpose,
};
use crate::graph::types::shape_text;
use crate::graph::{Layout, TensorType};

pub(super) fn transpose(op: &Transpose, operands: &[&TensorType]) -> Inferred {
    let x = one(operands)?;
    attr_len("perm", op.perm.len(), x.rank())?;
    ensure(Layout::from_order(op.perm.clone()).is_some(), || {
        "`perm` is not a permutation".to_owned()
    })?;
    Ok(TensorType::new(
        x.dtype,
        op.perm.iter().map(|&p| x.sizes()[p]).collect::<Vec<_>>(),
    ))
}

pub(super) fn reshape(op: &Reshape, operands: &[&TensorType]) -> Inferred {
    let x = one(operands)?;
    let result = TensorType::new(x.dtype, op.shape.clone());
    ensure(
        x.elements().is_some() && x.elements() == result.elements(),
        || {
            format!(
                "{} and {} have different numbers of elements",
                shape_text(x.sizes()),
                shape_text(&op.shape)
            )
        },
    )?;
    Ok(result)
}

pub(super) fn expand(op: &Expand, operands: &[&TensorType]) -> Inferred {
    let x = one(operands)?;
    ensure(
        broadcast(x.sizes(), &op.shape).as_ref() == Some(&op.shape),
        || {
            format!(
                "{} does not broadcast to {}",
                shape_text(x.sizes()),
                shape_text(&op.shape)
            )
        },
    )?;
    Ok(TensorType::new(x.dtype, op.shape.clone()))
}

pub(super) fn concat(op: &Concat, operands: &[&TensorType]) -> Inferred {
    let (first, rest) = operands.split_first().ok_or("needs at least one operand")?;
    same_dtype(operands)?;
    axis_in(op.axis, first.rank())?;
    let mut shape = first.sizes().to_vec();
    for x in rest {
        let fits =
            x.rank() == shape.len() && (0..shape.len()).all(|i| i == op.axis || x.sizes()[i] == shape[i]);
        ensure(fits, || "operands differ outside the joined dimension".to_owned())?;
        shape[op.axis] = shape[op.axis]
            .checked_add(x.sizes()[op.axis])
            .ok_or_else(|| overflow("the joined dimension overflows"))?;
    }
    Ok(TensorType::new(first.dtype, shape))
}

pub(super) fn slice(op: &Slice, operands: &[&TensorType]) -> Inferred {
    let x = one(operands)?;
    attr_len("starts", op.starts.len(), x.rank())?;
    attr_len("sizes", op.sizes.len(), x.rank())?;
    attr_len("steps", op.steps.len(), x.rank())?;
    for (i, &dim) in x.sizes().iter().enumerate() {
        let (start, size, step) = (op.starts[i], op.sizes[i], op.steps[i]);
        ensure(step != 0, || format!("dimension {i}: the step is 0"))?;
        if size > 0 {
            // A product of two 64-bit numbers does not overflow i128.
            let last = start as i128 + (size as i128 - 1) * i128::from(step);
            ensure(start < dim && (0..dim as i128).contains(&last), || {
                format!("dimension {i}: elements {start} to {last} are not all below {dim}")
            })?;
        }
    }
    Ok(TensorType::new(x.dtype, op.sizes.clone()))
}

pub(super) fn pad(op: &Pad, operands: &[&TensorType]) -> Inferred {
    let x = one(operands)?;
    attr_len("before", op.before.len(), x.rank())?;
    attr_len("after", op.after.len(), x.rank())?;
    let mut shape = Vec::with_capacity(x.rank());
    for (i, &dim) in x.sizes().iter().enumerate() {
        let (before, after) = (op.before[i], op.after[i]);
        let fits = match op.mode {
            PadMode::Constant => true,
            PadMode::Reflect => before.max(after) == 0 || before.max(after) < dim,
            PadMode::Edge | PadMode::Wrap => before.max(after) == 0 || dim > 0,
        };
        ensure(fits, || {
            format!(
                "dimension {i} of size {dim} is too small for a {} border of {before} and {after}",
                op.mode.name()
            )
        })?;
        let size = dim.checked_add(before).and_then(|n| n.checked_add(after));
        shape.push(size.ok_or_else(|| overflow(format!("dimension {i} overflows")))?);
    }
    Ok(TensorType::new(x.dtype, shape))
}

pub(super) fn gather(op: &Gather, operands: &[&TensorType]) -> Inferred {
    let [x, indices] = count(operands)?;
    axis_in(op.axis, x.rank())?;
    ensure(matches!(indices.dtype, DType::I32 | DType::I64), || {
        format!("indices are {}, not i32 or i64", indices.dtype)
    })?;
    ensure(x.sizes()[op.axis] > 0 || indices.elements() == Some(0), || {
        "nothing can be gathered from an empty dimension".to_owned()
    })?;
    let mut shape = x.sizes()[..op.axis].to_vec();
    shape.extend(indices.sizes());
    shape.extend(&x.sizes()[op.axis + 1..]);
    Ok(TensorType::new(x.dtype, shape))
}

pub(super) fn bit_cast(op: &BitCast, operands: &[&TensorType]) -> Inferred {
    let x = one(operands)?;
    // Not every byte is a `bool`.
    let fits = x.dtype.size() == op.to.size() && op.to != DType::Bool;
    ensure(fits, || {
        format!("the bits of {} elements are not {} elements", x.dtype, op.to)
    })?;
    Ok(TensorType::new(op.to, x.shape.clone()))
}

pub(super) fn scatter(op: &Scatter, operands: &[&TensorType]) -> Inferred {
    let [data, indices, updates] = count(operands)?;
    same_dtype(&[data, updates])?;
    ensure(op.mode == ScatterMode::Set || data.dtype != DType::Bool, || {
        "elements of type bool have no arithmetic".to_owned()
    })?;
    ensure(indices.dtype == DType::I64, || {
        format!("indices are {}, not i64", indices.dtype)
    })?;
    let (&[n, m], &[k]) = (data.sizes(), indices.sizes()) else {
        return Err("data must have rank 2, indices rank 1".into());
    };
    ensure(updates.sizes() == [k, m], || {
        format!(
            "updates have shape {} where [{k},{m}] is needed",
            shape_text(updates.sizes())
        )
    })?;
    ensure(n > 0 || k == 0, || "there is no row to change".to_owned())?;
    Ok(data.clone())
}
