//! Transcendental functions in tile arithmetic, `f64`, one lane.
//!
//! As `math`, which hands its `f64` operands on to these. Nobody's hot loop is in `f64`, so these are the plain series and continued
//! fractions, long enough for the last bits; the stated bounds are relative errors.

use super::math::{constant, with_sign_of};
use super::{Arith1, Arith2, CompareOp, FuncBuilder, Ty, Val};
use crate::DType;

const F64: Ty = Ty::scalar(DType::F64);
const I64: Ty = Ty::scalar(DType::I64);

fn c(b: &mut FuncBuilder, x: f64) -> Val {
    constant(b, F64, x)
}

/// A polynomial, lowest coefficient first.
fn horner(b: &mut FuncBuilder, x: Val, coefficients: impl DoubleEndedIterator<Item = f64>) -> Val {
    let mut sum = c(b, 0.0);
    for k in coefficients.rev() {
        let k = c(b, k);
        sum = b.fma(sum, x, k);
    }
    sum
}

fn factorial(n: u32) -> f64 {
    (1..=n).map(f64::from).product()
}

/// Ln 2 in two parts, the first with zeros at the end so that small integers times it are exact.
const LN2_HI: f64 = 0.693_147_180_369_123_8;
const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;

/// `2^n` for an integer from -1022 to 1023.
fn exp2_int(b: &mut FuncBuilder, n: Val) -> Val {
    let (bias, shift) = (b.int(I64, 1023), b.int(I64, 52));
    let biased = b.add(n, bias);
    let bits = b.arith2(Arith2::Shl, biased, shift);
    b.bitcast(DType::F64, bits)
}

/// `e^x`; 2 ULP.
pub fn exp(b: &mut FuncBuilder, x: Val) -> Val {
    let (lo, hi) = (c(b, -750.0), c(b, 711.0));
    // Min and Max return their second operand when a NaN is involved.
    let x = b.max(lo, x);
    let x = b.min(hi, x);
    let log2e = c(b, std::f64::consts::LOG2_E);
    let scaled = b.mul(x, log2e);
    let n = b.arith1(Arith1::Nearest, scaled);
    let (minus_hi, minus_lo) = (c(b, -LN2_HI), c(b, -LN2_LO));
    let r = b.fma(n, minus_hi, x);
    let r = b.fma(n, minus_lo, r);
    let p = horner(b, r, (0..14).map(|k| 1.0 / factorial(k)));
    // Two factors, so that neither overflows on its own and denormal results come out right.
    let n = b.convert(DType::I64, n);
    let one = b.int(I64, 1);
    let half = b.arith2(Arith2::Shr, n, one);
    let rest = b.sub(n, half);
    let (f, g) = (exp2_int(b, half), exp2_int(b, rest));
    let p = b.mul(p, f);
    b.mul(p, g)
}

/// Natural logarithm; 2 ULP. Zero gives `-inf`, negative numbers NaN.
pub fn log(b: &mut FuncBuilder, x: Val) -> Val {
    let tiny = c(b, f64::MIN_POSITIVE);
    let small = b.compare(CompareOp::Lt, x, tiny);
    let up = c(b, 2f64.powi(54));
    let raised = b.mul(x, up);
    let y = b.select(small, raised, x);
    let (e_small, e_normal) = (b.int(I64, -1022 - 54), b.int(I64, -1022));
    let bias = b.select(small, e_small, e_normal);
    let bits = b.bitcast(DType::I64, y);
    let shift = b.int(I64, 52);
    let exponent = b.arith2(Arith2::Shr, bits, shift);
    let exponent = b.add(exponent, bias);
    let (mask, half) = (b.int(I64, (1 << 52) - 1), b.int(I64, 0x3fe0_0000_0000_0000));
    let mantissa = b.arith2(Arith2::And, bits, mask);
    let mantissa = b.arith2(Arith2::Or, mantissa, half);
    let m = b.bitcast(DType::F64, mantissa); // in [0.5, 1)
    let root = c(b, std::f64::consts::FRAC_1_SQRT_2);
    let below = b.compare(CompareOp::Lt, m, root);
    let doubled = b.add(m, m);
    let m = b.select(below, doubled, m);
    let one = c(b, 1.0);
    let e = b.convert(DType::F64, exponent);
    let e_less = b.sub(e, one);
    let e = b.select(below, e_less, e);
    // ln m = 2 artanh((m - 1) / (m + 1)), whose argument is below 0.172.
    let (less, more) = (b.sub(m, one), b.add(m, one));
    let s = b.div(less, more);
    let z = b.mul(s, s);
    let p = horner(b, z, (0..12).map(|k| 2.0 / f64::from(2 * k + 3)));
    let cube = b.mul(z, s);
    let p = b.mul(p, cube);
    let lo = c(b, LN2_LO);
    let p = b.fma(e, lo, p);
    let twice = b.add(s, s);
    let p = b.add(p, twice);
    let hi = c(b, LN2_HI);
    let result = b.fma(e, hi, p);
    let infinity = c(b, f64::INFINITY);
    let is_infinite = b.compare(CompareOp::Ge, x, infinity);
    let result = b.select(is_infinite, infinity, result);
    let zero = c(b, 0.0);
    let is_zero = b.compare(CompareOp::Eq, x, zero);
    let minus_infinity = c(b, f64::NEG_INFINITY);
    let result = b.select(is_zero, minus_infinity, result);
    let positive = b.compare(CompareOp::Ge, x, zero);
    let nan = c(b, f64::NAN);
    b.select(positive, result, nan)
}

/// Hyperbolic tangent; 4 ULP. Near zero by Lambert's continued fraction.
pub fn tanh(b: &mut FuncBuilder, x: Val) -> Val {
    let z = b.mul(x, x);
    let mut tail = c(b, 17.0);
    for k in (1..8).rev() {
        let quotient = b.div(z, tail);
        let odd = c(b, f64::from(2 * k - 1));
        tail = b.add(odd, quotient);
    }
    let near = b.div(x, tail);
    let magnitude = b.arith1(Arith1::Abs, x);
    let doubled = b.add(magnitude, magnitude);
    let e = exp(b, doubled);
    let (one, two) = (c(b, 1.0), c(b, 2.0));
    let divisor = b.add(e, one);
    let quotient = b.div(two, divisor);
    let far = b.sub(one, quotient);
    let far = with_sign_of(b, far, x);
    let limit = c(b, 0.5);
    let is_near = b.compare(CompareOp::Lt, magnitude, limit);
    b.select(is_near, near, far)
}

/// Inverse tangent; 3 ULP.
pub fn atan(b: &mut FuncBuilder, x: Val) -> Val {
    let magnitude = b.arith1(Arith1::Abs, x);
    let one = c(b, 1.0);
    // Beyond 1 the complement of the reciprocal's; beyond tan(pi/8) what remains after subtracting pi/4.
    let large = b.compare(CompareOp::Gt, magnitude, one);
    let inverse = b.div(one, magnitude);
    let t = b.select(large, inverse, magnitude);
    let limit = c(b, 0.414_213_562_373_095_1);
    let middle = b.compare(CompareOp::Gt, t, limit);
    let (below, above) = (b.sub(t, one), b.add(t, one));
    let moved = b.div(below, above);
    let t = b.select(middle, moved, t);
    let z = b.mul(t, t);
    let sign = |k: u32| if k.is_multiple_of(2) { -1.0 } else { 1.0 };
    let p = horner(b, z, (0..22).map(|k| sign(k) / f64::from(2 * k + 3)));
    let cube = b.mul(z, t);
    let y = b.fma(cube, p, t);
    let quarter = c(b, std::f64::consts::FRAC_PI_4);
    let raised = b.add(y, quarter);
    let y = b.select(middle, raised, y);
    let half = c(b, std::f64::consts::FRAC_PI_2);
    let complement = b.sub(half, y);
    let y = b.select(large, complement, y);
    with_sign_of(b, y, x)
}

/// Gauss error function; 1e-15. By the series of positive terms that has `e^(-x^2)` as a factor, and from 3 on by the continued
/// fraction of the complement.
pub fn erf(b: &mut FuncBuilder, x: Val) -> Val {
    let magnitude = b.arith1(Arith1::Abs, x);
    let (three, six) = (c(b, 3.0), c(b, 6.0));
    // Beyond 6 the function is 1. NaN stays: Min returns its second operand.
    let bounded = b.min(six, magnitude);
    let z = b.mul(bounded, bounded);
    let minus = b.arith1(Arith1::Neg, z);
    let decay = exp(b, minus);
    let one = c(b, 1.0);
    let close = b.min(three, bounded);
    let close_squared = b.mul(close, close);
    let mut series = one;
    for k in (1..64).rev() {
        let ratio = c(b, 2.0 / f64::from(2 * k + 1));
        let ratio = b.mul(close_squared, ratio);
        series = b.fma(ratio, series, one);
    }
    let factor = c(b, std::f64::consts::FRAC_2_SQRT_PI);
    let near = b.mul(series, factor);
    let near = b.mul(near, bounded);
    let near = b.mul(near, decay);
    // erfc x = e^(-x^2) / sqrt(pi) / (x + 1/2 / (x + 2/2 / (x + 3/2 / ...)))
    let away = b.max(three, bounded);
    let mut fraction = away;
    for k in (1..24).rev() {
        let numerator = c(b, f64::from(k) / 2.0);
        let quotient = b.div(numerator, fraction);
        fraction = b.add(away, quotient);
    }
    let root = c(b, std::f64::consts::FRAC_2_SQRT_PI / 2.0);
    let complement = b.mul(decay, root);
    let complement = b.div(complement, fraction);
    let far = b.sub(one, complement);
    let is_near = b.compare(CompareOp::Lt, bounded, three);
    let y = b.select(is_near, near, far);
    let is_nan = b.compare(CompareOp::Ne, x, x);
    let y = b.select(is_nan, x, y);
    with_sign_of(b, y, x)
}

/// Sine (`cosine` false) or cosine: reduced by three parts of pi/2, so good to the last bits below about 1e8.
pub fn sin_cos(b: &mut FuncBuilder, x: Val, cosine: bool) -> Val {
    let per_quarter = c(b, std::f64::consts::FRAC_2_PI);
    let turns = b.mul(x, per_quarter);
    let n = b.arith1(Arith1::Nearest, turns);
    let mut r = x;
    for part in [
        std::f64::consts::FRAC_PI_2,
        6.123_233_995_736_766e-17,
        -1.497_384_904_859_169_8e-33,
    ] {
        let part = c(b, -part);
        r = b.fma(n, part, r);
    }
    let z = b.mul(r, r);
    let sign = |k: u32| if k.is_multiple_of(2) { 1.0 } else { -1.0 };
    let s = horner(b, z, (0..9).map(|k| sign(k) / factorial(2 * k + 1)));
    let s = b.mul(s, r);
    let cos = horner(b, z, (0..10).map(|k| sign(k) / factorial(2 * k)));
    let quadrant = b.convert(DType::I64, n);
    let shift = b.int(I64, i64::from(cosine));
    let quadrant = b.add(quadrant, shift);
    let (one, two, zero) = (b.int(I64, 1), b.int(I64, 2), b.int(I64, 0));
    let odd = b.arith2(Arith2::And, quadrant, one);
    let use_cosine = b.compare(CompareOp::Ne, odd, zero);
    let value = b.select(use_cosine, cos, s);
    let upper = b.arith2(Arith2::And, quadrant, two);
    let negate = b.compare(CompareOp::Ne, upper, zero);
    let minus = b.arith1(Arith1::Neg, value);
    b.select(negate, minus, value)
}
