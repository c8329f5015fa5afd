//! Element-wise operators, casts, and the activations of fused operators.

use super::movement::expand;
use crate::EvalError;
use crate::values::{Values, from_bools, from_floats, from_ints, no_such_type, read, read_floats, write};
use sdc_ir::graph::op::Activation;
use sdc_ir::graph::{BinaryOp, TensorType, UnaryOp};
use sdc_ir::{DType, Tensor};

pub(super) fn unary(op: UnaryOp, x: &Tensor) -> Result<Tensor, EvalError> {
    let shape = x.shape().to_vec();
    match read(x) {
        Values::Float(mut v) => {
            let f = float_unary(op).ok_or_else(|| no_such_type(op.name(), x.dtype()))?;
            v.iter_mut().for_each(|x| *x = f(*x));
            from_floats(x.dtype(), shape, &v)
        }
        Values::Int(mut v) => {
            let f: fn(i128) -> i128 = match op {
                UnaryOp::Abs => i128::abs,
                UnaryOp::Neg => |x| -x,
                UnaryOp::Sign => i128::signum,
                UnaryOp::Relu => |x| x.max(0),
                UnaryOp::BitwiseNot => |x| !x,
                _ => return Err(no_such_type(op.name(), x.dtype())),
            };
            v.iter_mut().for_each(|x| *x = f(*x));
            from_ints(x.dtype(), shape, &v)
        }
        Values::Bool(v) => match op {
            UnaryOp::Not => from_bools(shape, v.into_iter().map(|x| !x)),
            _ => Err(no_such_type(op.name(), x.dtype())),
        },
    }
}

/// A float operator as a function; `None` for those of other types.
pub(super) fn float_unary(op: UnaryOp) -> Option<fn(f64) -> f64> {
    Some(match op {
        UnaryOp::Abs => f64::abs,
        UnaryOp::Neg => |x| -x,
        UnaryOp::Exp => libm::exp,
        UnaryOp::Log => libm::log,
        UnaryOp::Sqrt => f64::sqrt,
        UnaryOp::Reciprocal => |x| 1.0 / x,
        UnaryOp::Floor => f64::floor,
        UnaryOp::Ceil => f64::ceil,
        UnaryOp::Round => f64::round_ties_even,
        // Unlike `signum`: zero for zeros, NaN for NaN.
        UnaryOp::Sign => |x| if x == 0.0 { 0.0 } else { x.signum() },
        UnaryOp::Tanh => libm::tanh,
        UnaryOp::Sigmoid => |x| 1.0 / (1.0 + libm::exp(-x)),
        UnaryOp::Erf => libm::erf,
        UnaryOp::Relu => relu,
        // Never exponentiates a positive number, which might overflow.
        UnaryOp::Softplus => |x| relu(x) + libm::log1p(libm::exp(-x.abs())),
        UnaryOp::Sin => libm::sin,
        UnaryOp::Cos => libm::cos,
        UnaryOp::Atan => libm::atan,
        UnaryOp::Not | UnaryOp::BitwiseNot => return None,
    })
}

/// `max(x, 0)`; NaN stays NaN.
fn relu(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

/// `min(max(x, min), max)`; NaN stays NaN.
pub(super) fn clip(x: f64, min: f64, max: f64) -> f64 {
    let x = if x < min { min } else { x };
    if x > max { max } else { x }
}

pub(super) fn leaky_relu(x: f64, alpha: f64) -> f64 {
    if x >= 0.0 { x } else { alpha * x }
}

/// Applies a fused activation.
pub(super) fn activate(act: Activation, v: &mut [f64]) {
    match act {
        Activation::None => {}
        Activation::Relu => v.iter_mut().for_each(|x| *x = relu(*x)),
        Activation::Clip { min, max } => v.iter_mut().for_each(|x| *x = clip(*x, min.into(), max.into())),
        Activation::LeakyRelu { alpha } => v.iter_mut().for_each(|x| *x = leaky_relu(*x, alpha.into())),
    }
}

/// A float operator given by a function.
pub(super) fn float_map(name: &'static str, x: &Tensor, f: impl Fn(f64) -> f64) -> Result<Tensor, EvalError> {
    let mut v = read_floats(name, x)?;
    v.iter_mut().for_each(|x| *x = f(*x));
    from_floats(x.dtype(), x.shape().to_vec(), &v)
}

pub(super) fn cast(x: &Tensor, to: DType) -> Result<Tensor, EvalError> {
    let shape = x.shape().to_vec();
    match read(x) {
        // Between equal types nothing is computed, so that a NaN keeps its bits.
        _ if x.dtype() == to => Ok(x.clone()),
        Values::Bool(v) => from_ints(to, shape, &v.into_iter().map(i128::from).collect::<Vec<_>>()),
        values => write(to, shape, values),
    }
}

pub(super) fn binary(op: BinaryOp, a: &Tensor, b: &Tensor, ty: &TensorType) -> Result<Tensor, EvalError> {
    let (a, b) = (expand(a, ty.sizes())?, expand(b, ty.sizes())?);
    let shape = ty.sizes().to_vec();
    let unsupported = || no_such_type(op.name(), a.dtype());
    match (read(&a), read(&b)) {
        (Values::Float(a), Values::Float(b)) => {
            if let Some(f) = comparison::<f64>(op) {
                return from_bools(shape, a.iter().zip(&b).map(|(a, b)| f(a, b)));
            }
            let f = float_binary(op).ok_or_else(unsupported)?;
            let v: Vec<f64> = a.into_iter().zip(b).map(|(a, b)| f(a, b)).collect();
            from_floats(ty.dtype, shape, &v)
        }
        (Values::Int(a), Values::Int(b)) => {
            if let Some(f) = comparison::<i128>(op) {
                return from_bools(shape, a.iter().zip(&b).map(|(a, b)| f(a, b)));
            }
            let f = int_binary(op, ty.dtype).ok_or_else(unsupported)?;
            let v: Vec<i128> = a.into_iter().zip(b).map(|(a, b)| f(a, b)).collect();
            from_ints(ty.dtype, shape, &v)
        }
        (Values::Bool(a), Values::Bool(b)) => {
            let f: fn(bool, bool) -> bool = match op {
                BinaryOp::And => |a, b| a && b,
                BinaryOp::Or => |a, b| a || b,
                BinaryOp::Xor => |a, b| a != b,
                BinaryOp::Equal => |a, b| a == b,
                _ => return Err(unsupported()),
            };
            from_bools(shape, a.into_iter().zip(b).map(|(a, b)| f(a, b)))
        }
        _ => Err(unsupported()),
    }
}

fn comparison<T: PartialOrd>(op: BinaryOp) -> Option<fn(&T, &T) -> bool> {
    Some(match op {
        BinaryOp::Equal => T::eq,
        BinaryOp::Less => T::lt,
        BinaryOp::LessOrEqual => T::le,
        BinaryOp::Greater => T::gt,
        BinaryOp::GreaterOrEqual => T::ge,
        _ => return None,
    })
}

fn float_binary(op: BinaryOp) -> Option<fn(f64, f64) -> f64> {
    Some(match op {
        BinaryOp::Add => |a, b| a + b,
        BinaryOp::Sub => |a, b| a - b,
        BinaryOp::Mul => |a, b| a * b,
        BinaryOp::Div => |a, b| a / b,
        BinaryOp::Pow => libm::pow,
        BinaryOp::Max => max,
        BinaryOp::Min => |a, b| -max(-a, -b),
        _ => return None,
    })
}

/// The larger; NaN if either is NaN.
pub(super) fn max(a: f64, b: f64) -> f64 {
    if a > b || a.is_nan() { a } else { b }
}

fn int_binary(op: BinaryOp, dtype: DType) -> Option<impl Fn(i128, i128) -> i128> {
    let width = 8 * dtype.size() as i128;
    let f: fn(i128, i128, i128) -> i128 = match op {
        BinaryOp::BitwiseAnd => |a, b, _| a & b,
        BinaryOp::BitwiseOr => |a, b, _| a | b,
        BinaryOp::BitwiseXor => |a, b, _| a ^ b,
        BinaryOp::ShiftLeft => |a, b, width| if (0..width).contains(&b) { a << b } else { 0 },
        BinaryOp::ShiftRight => |a, b, width| {
            if (0..width).contains(&b) {
                a >> b
            } else {
                -i128::from(a < 0)
            }
        },
        BinaryOp::Add => |a, b, _| a + b,
        BinaryOp::Sub => |a, b, _| a - b,
        // Two 64-bit factors, signed or not, may exceed 127 bits; the low bits are all that is kept.
        BinaryOp::Mul => |a, b, _| a.wrapping_mul(b),
        BinaryOp::Div => |a, b, _| a.checked_div(b).unwrap_or(0),
        BinaryOp::Pow => |a, b, _| int_pow(a, b),
        BinaryOp::Max => |a, b, _| a.max(b),
        BinaryOp::Min => |a, b, _| a.min(b),
        _ => return None,
    };
    Some(move |a, b| f(a, b, width))
}

/// Power modulo 2^128; a negative exponent truncates `1 / base^n` (0 for base 0).
fn int_pow(base: i128, exponent: i128) -> i128 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 if exponent % 2 == 0 => 1,
            -1 => -1,
            _ => 0,
        };
    }
    let (mut result, mut square, mut rest) = (1i128, base, exponent);
    while rest > 0 {
        if rest % 2 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        rest /= 2;
    }
    result
}
