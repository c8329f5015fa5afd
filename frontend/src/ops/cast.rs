//! Cast and CastLike, also from and to the narrow types that graph IR does not have.

use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use crate::narrow::{Narrow, Small};
use crate::tensor::dtype_of;
use sdc_ir::graph::op::{BitCast, Gather, Where};
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};
use sdc_ir::{DType, Tensor};

/// An element type of ONNX.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Plain(DType),
    Narrow(Narrow),
}

impl Element {
    /// The type with ONNX's number.
    pub fn numbered(onnx: i64) -> Result<Self, Fault> {
        let onnx = i32::try_from(onnx).unwrap_or(0);
        match Narrow::of(onnx) {
            Some(narrow) => Ok(Element::Narrow(narrow)),
            None => dtype_of(onnx).map(Element::Plain),
        }
    }

    /// The type of a value's elements.
    pub fn of(c: &NodeCtx, value: Value) -> Self {
        match c.builder.narrow(value) {
            Some(narrow) => Element::Narrow(narrow),
            None => Element::Plain(c.dtype(value)),
        }
    }
}

/// What a value beyond the range of a small float becomes, and which way a scale is rounded.
struct Rounding<'c> {
    saturate: bool,
    mode: &'c str,
}

fn rounding<'c>(c: &NodeCtx<'c, '_>) -> Result<Rounding<'c>, Fault> {
    Ok(Rounding {
        saturate: c.flag("saturate", true)?,
        mode: c.string("round_mode", "up")?,
    })
}

pub(super) fn cast(c: &mut NodeCtx) -> Lowered {
    let rounding = rounding(c)?;
    let x = c.input(0)?;
    if c.opset < 6 {
        let name = c.string("to", "")?;
        let to = (0..64).find(|&n| crate::proto::data_type::name(n) == name);
        let to = dtype_of(to.ok_or_else(|| c.bad_attr("to", format!("is `{name}`")))?)?;
        return convert(c, x, Element::Plain(to), &rounding);
    }
    let to = c.opt_int("to")?.ok_or_else(|| c.bad_attr("to", "is missing"))?;
    convert(c, x, Element::numbered(to)?, &rounding)
}

pub(super) fn cast_like(c: &mut NodeCtx) -> Lowered {
    let rounding = rounding(c)?;
    let (x, like) = (c.input(0)?, c.input(1)?);
    let to = Element::of(c, like);
    convert(c, x, to, &rounding)
}

fn convert(c: &mut NodeCtx, x: Value, to: Element, rounding: &Rounding) -> Lowered {
    if to == Element::of(c, x) {
        return Ok(x);
    }
    let x = widened(c, x)?;
    match to {
        Element::Plain(to) => c.cast(x, to),
        Element::Narrow(narrow @ Narrow::Int { bits, signed }) => {
            // The lowest bits, as the specification has it for values out of range.
            let x = c.cast(x, DType::I32)?;
            let low = c.with_scalar(BinaryOp::BitwiseAnd, x, f64::from((1u32 << bits) - 1))?;
            let value = if signed {
                let sign = f64::from(1u32 << (bits - 1));
                let flipped = c.with_scalar(BinaryOp::BitwiseXor, low, sign)?;
                c.with_scalar(BinaryOp::Sub, flipped, sign)?
            } else {
                low
            };
            let y = c.cast(value, narrow.carrier())?;
            c.carrying(y, narrow)
        }
        Element::Narrow(narrow) => small_float(c, x, narrow, rounding),
    }
}

/// The elements of a value in a type of graph IR that holds them all: integers as they are, floats as `f32`.
pub(super) fn widened(c: &mut NodeCtx, x: Value) -> Lowered {
    let Some(narrow) = c.builder.narrow(x) else {
        return Ok(x);
    };
    let x = c.carried(x)?;
    if matches!(narrow, Narrow::Int { .. }) {
        return Ok(x);
    }
    let values = narrow.values();
    let table = Tensor::from_elements(vec![values.len()], values);
    let table = c.constant(table.map_err(|e| Fault::new(Code::BadTensor, e.to_string()))?)?;
    let code = c.cast(x, DType::I32)?;
    // Codes of a graph input are whatever the caller gives.
    let code = match narrow.bits() {
        8 => code,
        bits => c.with_scalar(BinaryOp::BitwiseAnd, code, f64::from((1u32 << bits) - 1))?,
    };
    c.emit(Gather { axis: 0 }, &[table, code])
}

/// The nearest elements of a small float type, ties to even; values beyond its range saturate.
pub(super) fn saturated(c: &mut NodeCtx, x: Value, narrow: Narrow, saturate: bool) -> Lowered {
    small_float(c, x, narrow, &Rounding { saturate, mode: "up" })
}

fn small_float(c: &mut NodeCtx, x: Value, narrow: Narrow, rounding: &Rounding) -> Lowered {
    if c.dtype(x) == DType::F64 {
        // By way of f32 it would be rounded twice.
        let text = format!("conversion from DOUBLE to {} is not supported", narrow.name());
        return Err(Fault::new(Code::ElementType, text).help("cast to FLOAT first"));
    }
    let x = c.cast(x, DType::F32)?;
    let bits = c.emit(BitCast { to: DType::I32 }, &[x])?;
    let magnitude = c.with_scalar(BinaryOp::BitwiseAnd, bits, f64::from(i32::MAX))?;
    let code = match narrow {
        Narrow::Float(small) => small_code(c, bits, magnitude, &small, rounding.saturate)?,
        _ => scale_code(c, bits, magnitude, rounding)?,
    };
    let code = c.cast(code, DType::U8)?;
    c.carrying(code, narrow)
}

/// Bits of infinity.
const INFINITY: f64 = 0x7f80_0000 as f64;

fn where_(c: &mut NodeCtx, condition: Value, yes: Value, no: Value) -> Lowered {
    let shape = c.shape(condition);
    let yes = c.expand(yes, shape)?;
    c.emit(Where {}, &[condition, yes, no])
}

/// Codes of a small float from the bits of an `f32`: its mantissa rounded as an integer where the result is normal, the value
/// counted in units of the smallest element where it is not.
fn small_code(c: &mut NodeCtx, bits: Value, magnitude: Value, to: &Small, saturate: bool) -> Lowered {
    let drop = f64::from(23 - to.mantissa);
    let shifted = c.with_scalar(BinaryOp::ShiftRight, magnitude, drop)?;
    let odd = c.with_scalar(BinaryOp::BitwiseAnd, shifted, 1.0)?;
    let up = c.with_scalar(BinaryOp::Add, magnitude, (drop - 1.0).exp2() - 1.0)?;
    let up = c.binary(BinaryOp::Add, up, odd)?;
    let rounded = c.with_scalar(BinaryOp::ShiftRight, up, drop)?;
    let rebased = f64::from((127 - to.bias) << to.mantissa);
    let normal = c.with_scalar(BinaryOp::Sub, rounded, rebased)?;

    let value = c.emit(BitCast { to: DType::F32 }, &[magnitude])?;
    let smallest_normal = f64::from(1 - to.bias).exp2();
    let small = c.with_scalar(BinaryOp::Less, value, smallest_normal)?;
    // Others are no matter, but must not leave the integers' range.
    let bounded = c.with_scalar(BinaryOp::Min, value, smallest_normal)?;
    let units = c.with_scalar(
        BinaryOp::Mul,
        bounded,
        f64::from(to.bias - 1 + to.mantissa as i32).exp2(),
    )?;
    let units = c.unary(UnaryOp::Round, units)?;
    // A NaN has no integer.
    let is_nan = c.with_scalar(BinaryOp::Greater, magnitude, INFINITY)?;
    let zero = c.scalar(DType::F32, 0.0)?;
    let units = where_(c, is_nan, zero, units)?;
    let subnormal = c.cast(units, DType::I32)?;
    let code = c.emit(Where {}, &[small, subnormal, normal])?;

    let over = c.with_scalar(BinaryOp::Greater, code, f64::from(to.max))?;
    let beyond = match to.beyond {
        Some(code) if !saturate => code,
        _ => to.max,
    };
    let beyond = c.scalar(DType::I32, f64::from(beyond))?;
    let code = where_(c, over, beyond, code)?;
    let nan = c.scalar(DType::I32, f64::from(to.nan))?;
    let code = where_(c, is_nan, nan, code)?;

    let sign_bit = 1u32 << (to.bits - 1);
    let sign = c.with_scalar(BinaryOp::ShiftRight, bits, f64::from(32 - to.bits))?;
    let sign = c.with_scalar(BinaryOp::BitwiseAnd, sign, f64::from(sign_bit))?;
    let signed = c.binary(BinaryOp::BitwiseOr, code, sign)?;
    if !to.unsigned_zero {
        return Ok(signed);
    }
    let is_zero = c.with_scalar(BinaryOp::Equal, code, 0.0)?;
    c.emit(Where {}, &[is_zero, code, signed])
}

/// Codes of FLOAT8E8M0, the exponents of powers of two. What is negative or not a number is no scale.
fn scale_code(c: &mut NodeCtx, bits: Value, magnitude: Value, rounding: &Rounding) -> Lowered {
    // Added to the mantissa, it carries into the exponent what is to be rounded up. Subnormal values have one bit less.
    let (normal, subnormal) = match rounding.mode {
        "up" => (0x7f_ffff, 0x3f_ffff),
        "down" => (0, 0),
        "nearest" => (0x40_0000, 0x20_0000),
        other => return Err(c.bad_attr("round_mode", format!("is `{other}`"))),
    };
    let is_small = c.with_scalar(BinaryOp::Less, magnitude, f64::from(0x80_0000))?;
    let shape = c.shape(magnitude);
    let (normal, subnormal) = (
        c.scalar(DType::I32, f64::from(normal))?,
        c.scalar(DType::I32, f64::from(subnormal))?,
    );
    let normal = c.expand(normal, shape)?;
    let carry = where_(c, is_small, subnormal, normal)?;
    // Nothing beyond infinity, so that the sum stays in range.
    let bounded = c.with_scalar(BinaryOp::Min, magnitude, INFINITY)?;
    let sum = c.binary(BinaryOp::Add, bounded, carry)?;
    let code = c.with_scalar(BinaryOp::ShiftRight, sum, 23.0)?;
    let code = c.with_scalar(BinaryOp::Min, code, if rounding.saturate { 254.0 } else { 255.0 })?;
    let below = c.with_scalar(BinaryOp::Less, bits, 0.0)?;
    let something = c.with_scalar(BinaryOp::Greater, magnitude, 0.0)?;
    let negative = c.binary(BinaryOp::And, below, something)?;
    let no_number = c.with_scalar(BinaryOp::Greater, magnitude, INFINITY)?;
    let none = c.binary(BinaryOp::Or, negative, no_number)?;
    let nan = c.scalar(DType::I32, 255.0)?;
    where_(c, none, nan, code)
}
