//! QuantizeLinear and DequantizeLinear, per tensor, per axis and per block. 8-bit floats are refused.

use super::index::{narrow, repeat};
use crate::ctx::{Lowered, NodeCtx};
use crate::error::{Code, Fault};
use crate::tensor::dtype_of;
use sdc_ir::DType;
use sdc_ir::graph::Value;
use sdc_ir::graph::op::{DequantizeLinear, QuantizeLinear};

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
        false => narrow(c, each, axis, 0, shape[axis]),
    }
}

/// Attributes that both operators have.
fn axis(c: &NodeCtx) -> Result<i64, Fault> {
    c.ignore(&["block_size"]);
    // Concerns 8-bit floats only, which we do not have.
    c.ignore(&["saturate"]);
    c.int("axis", 1)
}

/// An element type attribute; `None` where it is left at its default.
fn dtype(c: &NodeCtx, name: &'static str) -> Result<Option<DType>, Fault> {
    match c.int(name, 0)? {
        0 => Ok(None),
        n => dtype_of(i32::try_from(n).unwrap_or(0)).map(Some),
    }
}

/// The zero point, or the zero of a type where the model leaves it out.
fn zero_point(c: &mut NodeCtx, default: DType) -> Lowered {
    match c.opt_input(2) {
        Some(zero) => Ok(zero),
        None => c.scalar(default, 0.0),
    }
}

pub(super) fn quantize(c: &mut NodeCtx) -> Lowered {
    let axis = axis(c)?;
    let output = dtype(c, "output_dtype")?;
    if dtype(c, "precision")?.is_some_and(|p| p != DType::F32) {
        let text = "`precision` other than float is not supported";
        return Err(Fault::new(Code::Attribute, text));
    }
    let (x, scale) = (c.input(0)?, c.input(1)?);
    let zero = zero_point(c, output.unwrap_or(DType::U8))?;
    if output.is_some_and(|t| t != c.dtype(zero)) {
        return Err(c.bad_attr("output_dtype", "differs from the zero point's element type"));
    }
    let (scale, zero) = (along(c, scale, x, axis)?, along(c, zero, x, axis)?);
    c.emit(QuantizeLinear {}, &[x, scale, zero])
}

pub(super) fn dequantize(c: &mut NodeCtx) -> Lowered {
    let axis = axis(c)?;
    let output = dtype(c, "output_dtype")?;
    let (x, scale) = (c.input(0)?, c.input(1)?);
    let element = c.dtype(x);
    let zero = zero_point(c, element)?;
    let (scale, zero) = (along(c, scale, x, axis)?, along(c, zero, x, axis)?);
    let y = c.emit(DequantizeLinear {}, &[x, scale, zero])?;
    c.cast(y, output.unwrap_or(c.dtype(y)))
}
