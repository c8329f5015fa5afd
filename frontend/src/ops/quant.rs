//! QuantizeLinear and DequantizeLinear, per tensor, per axis and per block, also of narrow types.

use super::cast::{Element, saturated, widened};
use super::index::repeat;
use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use crate::narrow::Narrow;
use crate::tensor::dtype_of;
use sdc_ir::DType;
use sdc_ir::graph::op::{DequantizeLinear, QuantizeLinear};
use sdc_ir::graph::{BinaryOp, Value};

/// A scale or zero point as the canonical operators want it: a scalar, or the axis followed by dimensions of size 1.
pub(super) fn along(c: &mut NodeCtx, parameter: Value, x: Value, axis: i64) -> Lowered {
    let shape = c.shape(parameter);
    if shape.len() > 1 {
        return blocked(c, parameter, x, axis);
    }
    match shape[..] {
        [] => Ok(parameter),
        [1] => c.reshape(parameter, Vec::new()),
        [n] => {
            let rank = c.rank(x);
            let axis = c.axis(axis, rank)?;
            if c.shape(x)[axis] != n {
                let text = format!("a scale or zero point of {n} elements along axis {axis}");
                return Err(Fault::new(Code::BadOperands, text));
            }
            let mut wanted = vec![1; rank - axis];
            wanted[0] = n;
            c.reshape(parameter, wanted)
        }
        _ => Err(Fault::new(
            Code::BadOperands,
            "a scale or zero point of unknown form",
        )),
    }
}

/// Blocked quantisation: a parameter for each block of elements along the axis, repeated for each of them.
fn blocked(c: &mut NodeCtx, parameter: Value, x: Value, axis: i64) -> Lowered {
    let (shape, blocks) = (c.shape(x), c.shape(parameter));
    let axis = c.axis(axis, shape.len())?;
    let size = match usize::try_from(c.int("block_size", 0)?) {
        Ok(0) if blocks.len() == shape.len() && blocks[axis] > 0 => shape[axis].div_ceil(blocks[axis]),
        Ok(size) if size > 0 => size,
        _ => return Err(c.bad_attr("block_size", "is negative")),
    };
    let fits = blocks.len() == shape.len()
        && (0..shape.len()).all(|d| d == axis || blocks[d] == shape[d])
        && blocks[axis] == shape[axis].div_ceil(size);
    if !fits {
        let text =
            format!("blocks of shape {blocks:?} and size {size} do not fit operand 0 of shape {shape:?}");
        return Err(Fault::new(Code::BadOperands, text));
    }
    let each = repeat(c, parameter, axis, size)?;
    match c.shape(each)[axis] == shape[axis] {
        true => Ok(each),
        false => c.narrow(each, axis, 0, shape[axis]),
    }
}

/// Attributes that both operators have.
fn axis(c: &NodeCtx) -> Result<i64, Fault> {
    c.ignore(&["block_size"]);
    c.int("axis", 1)
}

/// An element type attribute; `None` where it is left at its default.
fn element(c: &NodeCtx, name: &'static str) -> Result<Option<Element>, Fault> {
    match c.int(name, 0)? {
        0 => Ok(None),
        n => Element::numbered(n).map(Some),
    }
}

/// As [`element`], of a type of graph IR.
fn dtype(c: &NodeCtx, name: &'static str) -> Result<Option<DType>, Fault> {
    match c.int(name, 0)? {
        0 => Ok(None),
        n => dtype_of(i32::try_from(n).unwrap_or(0)).map(Some),
    }
}

pub(super) fn quantize(c: &mut NodeCtx) -> Lowered {
    let axis = axis(c)?;
    let output = element(c, "output_dtype")?;
    let saturate = c.flag("saturate", true)?;
    if dtype(c, "precision")?.is_some_and(|p| p != DType::F32) {
        let text = "`precision` other than float is not supported";
        return Err(Fault::new(Code::Attribute, text));
    }
    let (x, scale, zero) = (c.input(0)?, c.input(1)?, c.opt_input(2));
    let of_zero = zero.map(|zero| Element::of(c, zero));
    let to = output.or(of_zero).unwrap_or(Element::Plain(DType::U8));
    if of_zero.is_some_and(|t| t != to) {
        return Err(c.bad_attr("output_dtype", "differs from the zero point's element type"));
    }
    let carrier = match to {
        Element::Plain(dtype) => dtype,
        Element::Narrow(Narrow::Int { bits, signed }) => {
            let q = quantize_to(c, x, scale, zero, Narrow::Int { bits, signed }.carrier(), axis)?;
            let (low, high) = match signed {
                true => (
                    -f64::from(1u32 << (bits - 1)),
                    f64::from((1u32 << (bits - 1)) - 1),
                ),
                false => (0.0, f64::from((1u32 << bits) - 1)),
            };
            let q = c.with_scalar(BinaryOp::Max, q, low)?;
            let q = c.with_scalar(BinaryOp::Min, q, high)?;
            return c.carrying(q, Narrow::Int { bits, signed });
        }
        Element::Narrow(float) => {
            let scale = along(c, scale, x, axis)?;
            let (x, scale) = (c.cast(x, DType::F32)?, c.cast(scale, DType::F32)?);
            let mut y = c.binary(BinaryOp::Div, x, scale)?;
            if let Some(zero) = zero {
                let zero = widened(c, zero)?;
                let zero = along(c, zero, x, axis)?;
                y = c.binary(BinaryOp::Add, y, zero)?;
            }
            return saturated(c, y, float, saturate);
        }
    };
    quantize_to(c, x, scale, zero, carrier, axis)
}

fn quantize_to(
    c: &mut NodeCtx,
    x: Value,
    scale: Value,
    zero: Option<Value>,
    to: DType,
    axis: i64,
) -> Lowered {
    let zero = match zero {
        Some(zero) => widened(c, zero)?,
        None => c.scalar(to, 0.0)?,
    };
    let (scale, zero) = (along(c, scale, x, axis)?, along(c, zero, x, axis)?);
    c.emit(QuantizeLinear {}, &[x, scale, zero])
}

pub(super) fn dequantize(c: &mut NodeCtx) -> Lowered {
    let axis = axis(c)?;
    let output = dtype(c, "output_dtype")?;
    let (x, scale, zero) = (c.input(0)?, c.input(1)?, c.opt_input(2));
    let of_scale = c.dtype(scale);
    let x = widened(c, x)?;
    let zero = match zero {
        Some(zero) => widened(c, zero)?,
        None => c.scalar(c.dtype(x), 0.0)?,
    };
    let (mut scale, zero) = (along(c, scale, x, axis)?, along(c, zero, x, axis)?);
    let y = if c.dtype(x).is_float() {
        scale = c.cast(scale, DType::F32)?;
        let centred = c.binary(BinaryOp::Sub, x, zero)?;
        let y = c.binary(BinaryOp::Mul, centred, scale)?;
        c.cast(y, of_scale)?
    } else {
        c.emit(DequantizeLinear {}, &[x, scale, zero])?
    };
    c.cast(y, output.unwrap_or(c.dtype(y)))
}
