//! Element-wise operators and broadcasting.

use super::{Fail, Inferred, count, ensure, float, numeric, one, same_dtype};
use crate::DType;
use crate::graph::types::shape_text;
use crate::graph::{BinaryOp, TensorType, UnaryOp};

/// Numpy's broadcast of two shapes, or `None` if they do not fit.
pub fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |k| s[k]);
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

fn fits(a: &TensorType, b: &TensorType) -> Result<Vec<usize>, Fail> {
    broadcast(a.sizes(), b.sizes()).ok_or_else(|| {
        let (a, b) = (shape_text(a.sizes()), shape_text(b.sizes()));
        format!("shapes {a} and {b} do not broadcast").into()
    })
}

fn integer(x: &TensorType) -> Result<(), Fail> {
    ensure(x.dtype.is_int(), || {
        format!("elements of type {} are not integers", x.dtype)
    })
}

pub(super) fn unary(op: UnaryOp, operands: &[&TensorType]) -> Inferred {
    use UnaryOp::*;
    let x = one(operands)?;
    match op {
        Not => ensure(x.dtype == DType::Bool, || {
            format!("elements are {}, not bool", x.dtype)
        })?,
        Abs | Sign => numeric(x)?,
        Neg | Relu => ensure(x.dtype.is_float() || x.dtype.is_signed_int(), || {
            format!("elements of type {} have no sign", x.dtype)
        })?,
        Exp | Log | Sqrt | Reciprocal | Floor | Ceil | Round | Tanh | Sigmoid | Erf | Softplus | Sin
        | Cos | Atan => {
            float(x)?;
        }
        BitwiseNot => integer(x)?,
    }
    Ok(x.clone())
}

pub(super) fn binary(op: BinaryOp, operands: &[&TensorType]) -> Inferred {
    let [a, b] = count(operands)?;
    same_dtype(operands)?;
    if op.is_logical() {
        ensure(a.dtype == DType::Bool, || {
            format!("elements are {}, not bool", a.dtype)
        })?;
    } else if op.is_bitwise() {
        integer(a)?;
    } else if op != BinaryOp::Equal {
        numeric(a)?;
    }
    let dtype = if op.is_comparison() { DType::Bool } else { a.dtype };
    Ok(TensorType::new(dtype, fits(a, b)?))
}

/// Operators of one floating-point operand with the operand's type.
pub(super) fn float_map(operands: &[&TensorType]) -> Inferred {
    let x = one(operands)?;
    float(x)?;
    Ok(x.clone())
}

pub(super) fn select(operands: &[&TensorType]) -> Inferred {
    let [cond, a, b] = count(operands)?;
    ensure(cond.dtype == DType::Bool, || {
        format!("the condition is {}, not bool", cond.dtype)
    })?;
    same_dtype(&[a, b])?;
    let both = TensorType::new(a.dtype, fits(a, b)?);
    Ok(TensorType::new(a.dtype, fits(cond, &both)?))
}
