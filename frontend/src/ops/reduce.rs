//! The Reduce family.

use crate::ctx::{Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::op::{Clip, Reduce, ReduceKind};
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};

/// Reduced dimensions and `keepdims`. `axes` is an attribute, since opset 18 (ReduceSum: 13) an operand.
fn target(c: &NodeCtx, x: Value) -> Result<(Vec<usize>, bool), Fault> {
    let keepdims = c.flag("keepdims", true)?;
    let operand_since = if c.op_type() == "ReduceSum" { 13 } else { 18 };
    let (axes, noop) = if c.opset >= operand_since {
        (c.opt_const_i64s(1, "axes")?, c.flag("noop_with_empty_axes", false)?)
    } else {
        (c.ints("axes")?, false)
    };
    let rank = c.rank(x);
    let axes = match axes {
        Some(axes) if !axes.is_empty() => c.axes(&axes, rank)?,
        _ if noop => Vec::new(),
        _ => (0..rank).collect(),
    };
    Ok((axes, keepdims))
}

fn reduce_to(c: &mut NodeCtx, kind: ReduceKind, x: Value, axes: Vec<usize>, keepdims: bool) -> Lowered {
    if axes.is_empty() {
        return Ok(x);
    }
    c.emit(Reduce { kind, axes, keepdims }, &[x])
}

/// ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceProd.
pub(super) fn plain(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let kind = match c.op_type() {
        "ReduceSum" => ReduceKind::Sum,
        "ReduceMean" => ReduceKind::Mean,
        "ReduceMax" => ReduceKind::Max,
        "ReduceMin" => ReduceKind::Min,
        "ReduceProd" => ReduceKind::Prod,
        _ => return Err(super::unknown(c)),
    };
    let (axes, keepdims) = target(c, x)?;
    reduce_to(c, kind, x, axes, keepdims)
}

pub(super) fn l1(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let (axes, keepdims) = target(c, x)?;
    let magnitude = c.unary(UnaryOp::Abs, x)?;
    reduce_to(c, ReduceKind::Sum, magnitude, axes, keepdims)
}

pub(super) fn sum_square(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let (axes, keepdims) = target(c, x)?;
    let square = c.binary(BinaryOp::Mul, x, x)?;
    reduce_to(c, ReduceKind::Sum, square, axes, keepdims)
}

fn float_only(c: &NodeCtx, x: Value) -> Result<(), Fault> {
    if c.dtype(x).is_float() {
        return Ok(());
    }
    Err(Fault::new(Code::ElementType, format!("{} of {} is not supported", c.op_type(), c.dtype(x))))
}

pub(super) fn l2(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    float_only(c, x)?;
    let sum = sum_square(c)?;
    c.unary(UnaryOp::Sqrt, sum)
}

pub(super) fn log_sum(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    float_only(c, x)?;
    let (axes, keepdims) = target(c, x)?;
    let sum = reduce_to(c, ReduceKind::Sum, x, axes, keepdims)?;
    c.unary(UnaryOp::Log, sum)
}

/// ReduceLogSumExp, shifted by the maximum so that no exponential overflows.
pub(super) fn log_sum_exp(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    float_only(c, x)?;
    let (axes, keepdims) = target(c, x)?;
    if axes.is_empty() {
        return Ok(x);
    }
    let max = reduce_to(c, ReduceKind::Max, x, axes.clone(), true)?;
    // An infinite maximum would give `inf - inf`.
    let finite = match c.dtype(x) {
        sdc_ir::DType::F16 => 65504.0,
        _ => f32::MAX,
    };
    let bounds = Clip {
        min: -finite,
        max: finite,
    };
    let max = c.emit(bounds, &[max])?;
    let shifted = c.binary(BinaryOp::Sub, x, max)?;
    let exp = c.unary(UnaryOp::Exp, shifted)?;
    let sum = reduce_to(c, ReduceKind::Sum, exp, axes.clone(), true)?;
    let log = c.unary(UnaryOp::Log, sum)?;
    let y = c.binary(BinaryOp::Add, log, max)?;
    if keepdims {
        return Ok(y);
    }
    let shape = c.shape(y);
    let kept = (0..shape.len()).filter(|i| !axes.contains(i)).map(|i| shape[i]).collect();
    c.reshape(y, kept)
}
