//! Operators on bits.

use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::tensor::dtype_of;
use sdc_ir::graph::op::BitCast;
use sdc_ir::graph::{BinaryOp, UnaryOp};

pub(super) fn shift(c: &mut NodeCtx) -> Lowered {
    let (x, y) = (c.input(0)?, c.input(1)?);
    let op = match c.string("direction", "")? {
        "LEFT" => BinaryOp::ShiftLeft,
        "RIGHT" => BinaryOp::ShiftRight,
        other => return Err(c.bad_attr("direction", format!("is `{other}`"))),
    };
    c.binary(op, x, y)
}

/// BitwiseAnd, BitwiseOr, BitwiseXor.
pub(super) fn bitwise(c: &mut NodeCtx) -> Lowered {
    let (x, y) = (c.input(0)?, c.input(1)?);
    let op = BinaryOp::from_name(c.op_type()).ok_or_else(|| super::unknown(c))?;
    c.binary(op, x, y)
}

pub(super) fn bitwise_not(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    c.unary(UnaryOp::BitwiseNot, x)
}

pub(super) fn bit_cast(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let to = c.opt_int("to")?.ok_or_else(|| c.bad_attr("to", "is missing"))?;
    let to = dtype_of(i32::try_from(to).unwrap_or(0))?;
    if to == c.dtype(x) {
        return Ok(x);
    }
    c.emit(BitCast { to }, &[x])
}
