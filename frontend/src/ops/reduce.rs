//! The Reduce family.

use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::op::{Clip, Reduce, ReduceKind};
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};
use sdc_ir::{DType, Tensor};

/// Reduced dimensions and `keepdims`. `axes` is an attribute, since opset 18 (ReduceSum: 13) an operand.
fn target(c: &NodeCtx, x: Value) -> Result<(Vec<usize>, bool), Fault> {
    let keepdims = c.flag("keepdims", true)?;
    let operand_since = if c.op_type() == "ReduceSum" { 13 } else { 18 };
    let (axes, noop) = if c.opset >= operand_since {
        (
            c.opt_const_i64s(1, "axes")?,
            c.flag("noop_with_empty_axes", false)?,
        )
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
    let shape = c.shape(x);
    let extremum = matches!(kind, ReduceKind::Max | ReduceKind::Min);
    if extremum && axes.iter().any(|&a| shape[a] == 0) {
        // ONNX: the extremum of nothing is the type's bound on the other side.
        let bound = c.constant(bound(c.dtype(x), kind == ReduceKind::Min))?;
        let reduced = (0..shape.len()).filter(|i| keepdims || !axes.contains(i));
        let reduced = reduced
            .map(|i| if axes.contains(&i) { 1 } else { shape[i] })
            .collect();
        return c.expand(bound, reduced);
    }
    c.emit(Reduce { kind, axes, keepdims }, &[x])
}

/// Largest or smallest value of an element type, infinite where there is infinity.
fn bound(dtype: DType, largest: bool) -> Tensor {
    macro_rules! of {
        ($t:ty) => {
            Tensor::scalar(if largest { <$t>::MAX } else { <$t>::MIN })
        };
    }
    match dtype {
        DType::I64 => of!(i64),
        DType::I32 => of!(i32),
        DType::I16 => of!(i16),
        DType::I8 => of!(i8),
        DType::U64 => of!(u64),
        DType::U32 => of!(u32),
        DType::U16 => of!(u16),
        DType::U8 => of!(u8),
        DType::Bool => Tensor::scalar_of(dtype, f64::from(u8::from(largest))),
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => {
            Tensor::scalar_of(dtype, if largest { f64::INFINITY } else { f64::NEG_INFINITY })
        }
    }
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
    if c.dtype(x) == DType::Bool && matches!(kind, ReduceKind::Max | ReduceKind::Min) {
        let bytes = c.cast(x, DType::U8)?;
        let y = reduce_to(c, kind, bytes, axes, keepdims)?;
        return c.cast(y, DType::Bool);
    }
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
    Err(Fault::new(
        Code::ElementType,
        format!("{} of {} is not supported", c.op_type(), c.dtype(x)),
    ))
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
        DType::F16 => 65504.0,
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
    let kept = (0..shape.len())
        .filter(|i| !axes.contains(i))
        .map(|i| shape[i])
        .collect();
    c.reshape(y, kept)
}
