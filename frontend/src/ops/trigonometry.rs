//! Trigonometric and hyperbolic functions beyond the canonical ones, in forms that keep small results exact.

use crate::ctx::{Emit, Lowered, NodeCtx};
use sdc_ir::graph::op::Where;
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};
use std::f64::consts::LN_2;

pub(super) fn tan(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let (s, d) = (c.unary(UnaryOp::Sin, x)?, c.unary(UnaryOp::Cos, x)?);
    c.binary(BinaryOp::Div, s, d)
}

/// `atan(x / sqrt((1 - x) * (1 + x)))`, infinite quotients at the ends included.
pub(super) fn asin(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let one = c.scalar(c.dtype(x), 1.0)?;
    let below = c.binary(BinaryOp::Sub, one, x)?;
    let above = c.binary(BinaryOp::Add, one, x)?;
    let product = c.binary(BinaryOp::Mul, below, above)?;
    let root = c.unary(UnaryOp::Sqrt, product)?;
    let t = c.binary(BinaryOp::Div, x, root)?;
    c.unary(UnaryOp::Atan, t)
}

/// `2 atan(sqrt((1 - x) / (1 + x)))`, which is exact near 1 too.
pub(super) fn acos(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let one = c.scalar(c.dtype(x), 1.0)?;
    let below = c.binary(BinaryOp::Sub, one, x)?;
    let above = c.binary(BinaryOp::Add, one, x)?;
    let t = c.binary(BinaryOp::Div, below, above)?;
    let root = c.unary(UnaryOp::Sqrt, t)?;
    let half = c.unary(UnaryOp::Atan, root)?;
    c.binary(BinaryOp::Add, half, half)
}

/// `(e^x + e^-x) / 2`, each halved before it can overflow.
fn cosh_of(c: &mut NodeCtx, x: Value) -> Lowered {
    let magnitude = c.unary(UnaryOp::Abs, x)?;
    let lower = c.with_scalar(BinaryOp::Sub, magnitude, LN_2)?;
    let up = c.unary(UnaryOp::Exp, lower)?;
    let minus = c.unary(UnaryOp::Neg, magnitude)?;
    let down = c.unary(UnaryOp::Exp, minus)?;
    let down = c.with_scalar(BinaryOp::Mul, down, 0.5)?;
    c.binary(BinaryOp::Add, up, down)
}

pub(super) fn cosh(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    cosh_of(c, x)
}

/// `tanh(x) * cosh(x)`: no difference of nearly equal numbers.
pub(super) fn sinh(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let (t, h) = (c.unary(UnaryOp::Tanh, x)?, cosh_of(c, x)?);
    c.binary(BinaryOp::Mul, t, h)
}

/// `ln(1 + t)` for `t > -1`: `ln(u) * t / (u - 1)` with `u = 1 + t` rounded, and t itself where u is 1.
fn log1p(c: &mut NodeCtx, t: Value) -> Lowered {
    let u = c.with_scalar(BinaryOp::Add, t, 1.0)?;
    let lost = c.with_scalar(BinaryOp::Sub, u, 1.0)?;
    let log = c.unary(UnaryOp::Log, u)?;
    let quotient = c.binary(BinaryOp::Div, log, lost)?;
    let corrected = c.binary(BinaryOp::Mul, quotient, t)?;
    let tiny = c.with_scalar(BinaryOp::Equal, lost, 0.0)?;
    c.emit(Where {}, &[tiny, t, corrected])
}

/// `sign(x) * log1p(a + a^2 / (1 + sqrt(1 + a^2)))` with `a = |x|`.
pub(super) fn asinh(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let a = c.unary(UnaryOp::Abs, x)?;
    let square = c.binary(BinaryOp::Mul, a, a)?;
    let more = c.with_scalar(BinaryOp::Add, square, 1.0)?;
    let root = c.unary(UnaryOp::Sqrt, more)?;
    let divisor = c.with_scalar(BinaryOp::Add, root, 1.0)?;
    let rest = c.binary(BinaryOp::Div, square, divisor)?;
    let t = c.binary(BinaryOp::Add, a, rest)?;
    let l = log1p(c, t)?;
    let sign = c.unary(UnaryOp::Sign, x)?;
    c.binary(BinaryOp::Mul, sign, l)
}

/// `log1p(t + sqrt(2 t + t^2))` with `t = x - 1`.
pub(super) fn acosh(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let t = c.with_scalar(BinaryOp::Sub, x, 1.0)?;
    let above = c.with_scalar(BinaryOp::Add, t, 2.0)?;
    let product = c.binary(BinaryOp::Mul, t, above)?;
    let root = c.unary(UnaryOp::Sqrt, product)?;
    let sum = c.binary(BinaryOp::Add, t, root)?;
    log1p(c, sum)
}

/// `log1p(2 x / (1 - x)) / 2`, of the magnitude.
pub(super) fn atanh(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let a = c.unary(UnaryOp::Abs, x)?;
    let one = c.scalar(c.dtype(x), 1.0)?;
    let below = c.binary(BinaryOp::Sub, one, a)?;
    let twice = c.binary(BinaryOp::Add, a, a)?;
    let t = c.binary(BinaryOp::Div, twice, below)?;
    let l = log1p(c, t)?;
    let half = c.with_scalar(BinaryOp::Mul, l, 0.5)?;
    let sign = c.unary(UnaryOp::Sign, x)?;
    c.binary(BinaryOp::Mul, sign, half)
}
