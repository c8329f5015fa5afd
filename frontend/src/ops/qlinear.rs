//! Operators on quantised data with scales and zero points among their operands: the same computation on dequantised data, which the
//! passes make one on integers where they can.

use super::conv::conv_of;
use super::matmul::matmul_of;
use super::quant::along;
use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::DType;
use sdc_ir::graph::op::{Clip, DequantizeLinear, QuantizeLinear, Reduce, ReduceKind};
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};

/// `(x - zero) * scale` of operands `i`, `i + 1` (scale) and `i + 2` (zero point), in `f32`.
pub(super) fn dequantized(c: &mut NodeCtx, i: usize, axis: i64) -> Lowered {
    let (x, scale) = (c.input(i)?, c.input(i + 1)?);
    let zero = match c.opt_input(i + 2) {
        Some(zero) => zero,
        None => c.scalar(c.dtype(x), 0.0)?,
    };
    let scale = c.cast(scale, DType::F32)?;
    let (scale, zero) = (along(c, scale, x, axis)?, along(c, zero, x, axis)?);
    c.emit(DequantizeLinear {}, &[x, scale, zero])
}

/// The result quantised by operands `i` (scale) and `i + 1` (zero point).
pub(super) fn quantized(c: &mut NodeCtx, y: Value, i: usize) -> Lowered {
    let (scale, zero) = (c.input(i)?, c.input(i + 1)?);
    let scale = c.cast(scale, DType::F32)?;
    let (scale, zero) = (along(c, scale, y, 1)?, along(c, zero, y, 1)?);
    c.emit(QuantizeLinear {}, &[y, scale, zero])
}

pub(super) fn conv(c: &mut NodeCtx) -> Lowered {
    let (x, w) = (dequantized(c, 0, 1)?, dequantized(c, 3, 0)?);
    let bias = match c.opt_input(8) {
        None => None,
        Some(bias) => {
            let (xs, ws) = (c.input(1)?, c.input(4)?);
            let (xs, ws) = (c.cast(xs, DType::F32)?, c.cast(ws, DType::F32)?);
            let xs = c.reshape(xs, Vec::new())?;
            let scale = c.binary(BinaryOp::Mul, xs, ws)?;
            let zero = c.scalar(c.dtype(bias), 0.0)?;
            let scale = along(c, scale, bias, 0)?;
            Some(c.emit(DequantizeLinear {}, &[bias, scale, zero])?)
        }
    };
    let y = conv_of(c, x, w, bias)?;
    quantized(c, y, 6)
}

pub(super) fn matmul(c: &mut NodeCtx) -> Lowered {
    // Rows of the left operand, columns of the right one.
    let (a, b) = (dequantized(c, 0, -2)?, dequantized(c, 3, -1)?);
    let y = matmul_of(c, a, b)?;
    quantized(c, y, 6)
}

/// An operand less its zero point, in a type wide enough. A list of zero points belongs to dimension `axis`.
fn shifted(c: &mut NodeCtx, i: usize, zero: usize, axis: i64, to: DType) -> Lowered {
    let x = c.input(i)?;
    let wide = c.cast(x, to)?;
    let Some(zero) = c.opt_input(zero) else {
        return Ok(wide);
    };
    let zero = c.cast(zero, to)?;
    let zero = along(c, zero, x, axis)?;
    c.binary(BinaryOp::Sub, wide, zero)
}

pub(super) fn matmul_integer(c: &mut NodeCtx) -> Lowered {
    let (a, b) = (
        shifted(c, 0, 2, -2, DType::I32)?,
        shifted(c, 1, 3, -1, DType::I32)?,
    );
    matmul_of(c, a, b)
}

/// ConvInteger, in floats that hold every sum exactly.
pub(super) fn conv_integer(c: &mut NodeCtx) -> Lowered {
    let terms: usize = c.shape(c.input(1)?).iter().skip(1).product();
    // A product of differences of bytes has 16 bits, f32 holds 24.
    let float = if terms <= 256 { DType::F32 } else { DType::F64 };
    let (x, w) = (shifted(c, 0, 2, 1, float)?, shifted(c, 1, 3, 0, float)?);
    let y = conv_of(c, x, w, None)?;
    c.cast(y, DType::I32)
}

/// DynamicQuantizeLinear: the range of the data, 0 included, on the bytes.
pub(super) fn dynamic(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    let x = c.input(0)?;
    if c.dtype(x) != DType::F32 {
        return Err(Fault::new(Code::BadOperands, "the input is not f32"));
    }
    let axes: Vec<usize> = (0..c.rank(x)).collect();
    let extremum = |c: &mut NodeCtx, kind, op| {
        let op_axes = axes.clone();
        let reduce = Reduce {
            kind,
            axes: op_axes,
            keepdims: false,
        };
        let y = if axes.is_empty() { x } else { c.emit(reduce, &[x])? };
        c.with_scalar(op, y, 0.0)
    };
    let low = extremum(c, ReduceKind::Min, BinaryOp::Min)?;
    let high = extremum(c, ReduceKind::Max, BinaryOp::Max)?;
    let range = c.binary(BinaryOp::Sub, high, low)?;
    let scale = c.with_scalar(BinaryOp::Div, range, 255.0)?;
    let quotient = c.binary(BinaryOp::Div, low, scale)?;
    let negative = c.unary(UnaryOp::Neg, quotient)?;
    let rounded = c.unary(UnaryOp::Round, negative)?;
    let zero = c.emit(Clip { min: 0.0, max: 255.0 }, &[rounded])?;
    let zero = c.cast(zero, DType::U8)?;
    let y = c.emit(QuantizeLinear {}, &[x, scale, zero])?;
    Ok(vec![y, scale, zero])
}
