//! Arithmetic, comparisons, logic, selection and conversion, element by element.

use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::DType;
use sdc_ir::Tensor;
use sdc_ir::graph::op::Where;
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};

/// The operators that are canonical unary ones under the same name.
pub(super) fn unary(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let op = UnaryOp::from_name(c.op_type()).ok_or_else(|| super::unknown(c))?;
    c.unary(op, x)
}

/// The operators that are canonical binary ones under the same name.
pub(super) fn binary(c: &mut NodeCtx) -> Lowered {
    let (a, b) = (c.input(0)?, c.input(1)?);
    let op = BinaryOp::from_name(c.op_type()).ok_or_else(|| super::unknown(c))?;
    let b = aligned(c, a, b)?;
    c.binary(op, a, b)
}

/// The second operand as numpy broadcasts it. Before opset 7 an operator broadcasts only if told to, and then the second
/// operand's dimensions are those of the first from `axis` on.
pub(super) fn aligned(c: &mut NodeCtx, a: Value, b: Value) -> Lowered {
    if c.opset >= 7 {
        return Ok(b);
    }
    let (wide, mut narrow) = (c.shape(a), c.shape(b));
    let axis = c.opt_int("axis")?;
    if !c.flag("broadcast", false)? {
        return match wide == narrow {
            true => Ok(b),
            false => Err(Fault::new(
                Code::BadOperands,
                "operands differ in shape, and `broadcast` is not set",
            )),
        };
    }
    let Some(axis) = axis else { return Ok(b) };
    let axis = c.axis(axis, wide.len())?;
    if axis + narrow.len() > wide.len() {
        return Err(c.bad_attr("axis", format!("{axis} does not fit the operands")));
    }
    narrow.resize(wide.len() - axis, 1);
    c.reshape(b, narrow)
}

fn chain(c: &mut NodeCtx, op: BinaryOp) -> Lowered {
    let all = c.all_inputs()?;
    let (&first, rest) = all
        .split_first()
        .ok_or_else(|| Fault::new(Code::BadOperands, "needs at least one operand"))?;
    rest.iter().try_fold(first, |acc, &x| c.binary(op, acc, x))
}

/// Max, Min (any number of operands).
pub(super) fn extremum(c: &mut NodeCtx) -> Lowered {
    let op = if c.op_type() == "Max" {
        BinaryOp::Max
    } else {
        BinaryOp::Min
    };
    chain(c, op)
}

pub(super) fn sum(c: &mut NodeCtx) -> Lowered {
    chain(c, BinaryOp::Add)
}

pub(super) fn mean(c: &mut NodeCtx) -> Lowered {
    let count = c.all_inputs()?.len();
    let sum = chain(c, BinaryOp::Add)?;
    c.with_scalar(BinaryOp::Div, sum, count as f64)
}

/// Pow: the result has the base's type, the exponent may have another.
pub(super) fn pow(c: &mut NodeCtx) -> Lowered {
    let (base, exponent) = (c.input(0)?, c.input(1)?);
    let exponent = aligned(c, base, exponent)?;
    let (b, e) = (c.dtype(base), c.dtype(exponent));
    if b.is_int() && e.is_float() {
        let wide = c.cast(base, e)?;
        let result = c.binary(BinaryOp::Pow, wide, exponent)?;
        return c.cast(result, b);
    }
    let exponent = c.cast(exponent, b)?;
    if b.is_int() {
        return integer_power(c, base, exponent);
    }
    c.binary(BinaryOp::Pow, base, exponent)
}

/// Powers of integers, modulo their range, by squaring for each bit of the exponent. A negative exponent leaves 0 of all bases but
/// 1 and -1.
fn integer_power(c: &mut NodeCtx, base: Value, exponent: Value) -> Lowered {
    let dtype = c.dtype(base);
    let known = c.known(exponent).and_then(|e| e.to_i64_vec());
    let largest = known.map_or(i64::MAX, |e| {
        e.iter().map(|e| e.wrapping_abs()).max().unwrap_or(0)
    });
    let bits = 8 * dtype.size() as u32 - u32::from(dtype.is_signed_int());
    let bits = bits.min(64 - largest.max(0).leading_zeros());
    let one = c.scalar(dtype, 1.0)?;
    let mut result = one;
    let mut square = base;
    for bit in 0..bits {
        let moved = c.with_scalar(BinaryOp::ShiftRight, exponent, f64::from(bit))?;
        let low = c.with_scalar(BinaryOp::BitwiseAnd, moved, 1.0)?;
        let set = c.with_scalar(BinaryOp::Equal, low, 1.0)?;
        let factor = c.emit(Where {}, &[set, square, one])?;
        result = c.binary(BinaryOp::Mul, result, factor)?;
        if bit + 1 < bits {
            square = c.binary(BinaryOp::Mul, square, square)?;
        }
    }
    if bits == 0 {
        // Every exponent is 0: ones of the common shape.
        let ones = c.with_scalar(BinaryOp::Equal, exponent, 0.0)?;
        let ones = c.cast(ones, dtype)?;
        let nothing = c.with_scalar(BinaryOp::Mul, base, 0.0)?;
        result = c.binary(BinaryOp::Add, ones, nothing)?;
    }
    if !dtype.is_signed_int() {
        return Ok(result);
    }
    let low = c.with_scalar(BinaryOp::BitwiseAnd, exponent, 1.0)?;
    let odd = c.with_scalar(BinaryOp::Equal, low, 1.0)?;
    let zero = c.scalar(dtype, 0.0)?;
    let minus = c.with_scalar(BinaryOp::Equal, base, -1.0)?;
    let plus = c.with_scalar(BinaryOp::Equal, base, 1.0)?;
    let sign = c.emit(Where {}, &[odd, base, one])?;
    let unit = c.binary(BinaryOp::Or, minus, plus)?;
    let inverse = c.emit(Where {}, &[unit, sign, zero])?;
    let negative = c.with_scalar(BinaryOp::Less, exponent, 0.0)?;
    c.emit(Where {}, &[negative, inverse, result])
}

/// Mod of floats, in `f64`: there the product of divisor and quotient is exact unless the quotient has more than 29 bits.
fn float_modulo(c: &mut NodeCtx, a: Value, b: Value, fmod: bool) -> Lowered {
    let dtype = c.dtype(a);
    let (a, b) = (c.cast(a, DType::F64)?, c.cast(b, DType::F64)?);
    let quotient = c.binary(BinaryOp::Div, a, b)?;
    let magnitude = c.unary(UnaryOp::Abs, quotient)?;
    let whole = c.unary(UnaryOp::Floor, magnitude)?;
    let none = c.with_scalar(BinaryOp::Equal, whole, 0.0)?;
    let sign = c.unary(UnaryOp::Sign, quotient)?;
    let whole = c.binary(BinaryOp::Mul, whole, sign)?;
    let product = c.binary(BinaryOp::Mul, whole, b)?;
    let rest = c.binary(BinaryOp::Sub, a, product)?;
    // Zero times an infinite divisor is no number.
    let mut rest = c.emit(Where {}, &[none, a, rest])?;
    if !fmod {
        rest = sign_of_divisor(c, rest, b)?;
    }
    c.cast(rest, dtype)
}

/// A remainder with the sign of the dividend, as one with the sign of the divisor.
fn sign_of_divisor(c: &mut NodeCtx, remainder: Value, divisor: Value) -> Lowered {
    let exact = c.with_scalar(BinaryOp::Equal, remainder, 0.0)?;
    let inexact = c.unary(UnaryOp::Not, exact)?;
    let below = c.with_scalar(BinaryOp::Less, remainder, 0.0)?;
    let divisor_below = c.with_scalar(BinaryOp::Less, divisor, 0.0)?;
    let signs_differ = c.binary(BinaryOp::Xor, below, divisor_below)?;
    let fix = c.binary(BinaryOp::And, inexact, signs_differ)?;
    let moved = c.binary(BinaryOp::Add, remainder, divisor)?;
    c.emit(Where {}, &[fix, moved, remainder])
}

/// Mod of integers: by default the sign follows the divisor, with `fmod` the dividend.
pub(super) fn modulo(c: &mut NodeCtx) -> Lowered {
    let (a, b) = (c.input(0)?, c.input(1)?);
    let fmod = c.flag("fmod", false)?;
    if !c.dtype(a).is_int() {
        return float_modulo(c, a, b, fmod);
    }
    let quotient = c.binary(BinaryOp::Div, a, b)?;
    let product = c.binary(BinaryOp::Mul, quotient, b)?;
    let remainder = c.binary(BinaryOp::Sub, a, product)?;
    if fmod || !c.dtype(a).is_signed_int() {
        return Ok(remainder);
    }
    sign_of_divisor(c, remainder, b)
}

pub(super) fn is_nan(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let same = c.binary(BinaryOp::Equal, x, x)?;
    c.unary(UnaryOp::Not, same)
}

pub(super) fn is_inf(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    match (c.flag("detect_positive", true)?, c.flag("detect_negative", true)?) {
        (true, true) => {
            let magnitude = c.unary(UnaryOp::Abs, x)?;
            c.with_scalar(BinaryOp::Equal, magnitude, f64::INFINITY)
        }
        (true, false) => c.with_scalar(BinaryOp::Equal, x, f64::INFINITY),
        (false, true) => c.with_scalar(BinaryOp::Equal, x, f64::NEG_INFINITY),
        (false, false) => {
            let no = c.constant(Tensor::scalar_of(sdc_ir::DType::Bool, 0.0))?;
            let shape = c.shape(x);
            c.expand(no, shape)
        }
    }
}

pub(super) fn select(c: &mut NodeCtx) -> Lowered {
    let operands = [c.input(0)?, c.input(1)?, c.input(2)?];
    c.emit(Where {}, &operands)
}

/// `x` with every element below `bound` (above, for Min) replaced by it; the bound is a scalar operand.
pub(super) fn bounded(c: &mut NodeCtx, op: BinaryOp, x: Value, bound: Value) -> Lowered {
    let scalar = c.reshape(bound, Vec::new())?;
    c.binary(op, x, scalar)
}
