//! Transcendental functions in tile arithmetic, `f32`, any number of lanes; `f64` goes to `math64`.
//!
//! Generated code calls no library, and kernels' bodies are tile IR, so these are written out: argument reduction plus a polynomial. The coefficients
//! are Chebyshev fits made for this file; the stated bounds are relative errors over the fitted range. NaN goes
//! through, overflow gives infinity.

use super::math64;
use super::{Arith1, Arith2, CompareOp, FuncBuilder, Inst, Ty, Val};
use crate::DType;

/// A constant of any element type in every lane, rounded to it.
pub fn constant(b: &mut FuncBuilder, ty: Ty, x: f64) -> Val {
    match ty.dtype {
        DType::F32 => b.f32(ty.lanes, x as f32),
        DType::F64 => b.inst(ty, Inst::Const(x.to_bits())),
        DType::Bool => b.int(ty, i64::from(x != 0.0)),
        DType::F16 | DType::BF16 => {
            let wide = b.f32(ty.lanes, x as f32);
            b.convert(ty.dtype, wide)
        }
        _ => b.int(ty, x as i64),
    }
}

/// Evaluates a polynomial, lowest coefficient first, by Horner's rule.
fn horner(b: &mut FuncBuilder, x: Val, coefficients: &[f32]) -> Val {
    let lanes = b.ty(x).lanes;
    let (last, rest) = coefficients
        .split_last()
        .expect("polynomials here have coefficients");
    let mut sum = b.f32(lanes, *last);
    for &c in rest.iter().rev() {
        let c = b.f32(lanes, c);
        sum = b.fma(sum, x, c);
    }
    sum
}

/// `min(max(x, lo), hi)` that keeps a NaN.
fn clamp(b: &mut FuncBuilder, x: Val, lo: f32, hi: f32) -> Val {
    let lanes = b.ty(x).lanes;
    let (lo, hi) = (b.f32(lanes, lo), b.f32(lanes, hi));
    // Min and Max return their second operand when a NaN is involved.
    let x = b.max(lo, x);
    b.min(hi, x)
}

/// `2^n` for an integer vector `n` in -126..=127.
fn exp2_int(b: &mut FuncBuilder, n: Val) -> Val {
    let ty = b.ty(n);
    let bias = b.int(ty, 127);
    let biased = b.add(n, bias);
    let shift = b.int(ty, 23);
    let bits = b.arith2(Arith2::Shl, biased, shift);
    b.bitcast(DType::F32, bits)
}

/// `e^x`; 1.5 ULP.
pub fn exp(b: &mut FuncBuilder, x: Val) -> Val {
    if b.ty(x).dtype == DType::F64 {
        return math64::exp(b, x);
    }
    let lanes = b.ty(x).lanes;
    let x = clamp(b, x, -104.0, 89.0);
    let log2e = b.f32(lanes, std::f32::consts::LOG2_E);
    let scaled = b.mul(x, log2e);
    let n = b.arith1(Arith1::Nearest, scaled);
    // ln 2 in two parts, the first with zeros at the end so that n times it is exact.
    let minus_hi = b.f32(lanes, -0.693_359_4);
    let minus_lo = b.f32(lanes, 2.121_944_4e-4);
    let r = b.fma(n, minus_hi, x);
    let r = b.fma(n, minus_lo, r);
    let p = horner(
        b,
        r,
        &[
            1.0,
            1.0,
            0.5,
            0.166_664_05,
            0.041_666_2,
            0.008_375_961,
            0.001_394_977,
        ],
    );
    // Two factors, so that neither overflows on its own and denormal results come out right.
    let n = b.convert(DType::I32, n);
    let one = b.int(Ty::vector(DType::I32, lanes), 1);
    let half = b.arith2(Arith2::Shr, n, one);
    let rest = b.sub(n, half);
    let (f, g) = (exp2_int(b, half), exp2_int(b, rest));
    let p = b.mul(p, f);
    b.mul(p, g)
}

/// Natural logarithm; 1 ULP. Zero gives `-inf`, negative numbers NaN.
pub fn log(b: &mut FuncBuilder, x: Val) -> Val {
    if b.ty(x).dtype == DType::F64 {
        return math64::log(b, x);
    }
    let lanes = b.ty(x).lanes;
    let int = Ty::vector(DType::I32, lanes);
    // Denormals: scale up by 2^23 first.
    let tiny = b.f32(lanes, f32::MIN_POSITIVE);
    let small = b.compare(CompareOp::Lt, x, tiny);
    let up = b.f32(lanes, 8_388_608.0);
    let raised = b.mul(x, up);
    let y = b.select(small, raised, x);
    let (e_small, e_normal) = (b.int(int, -127 - 23 + 1), b.int(int, -127 + 1));
    let bias = b.select(small, e_small, e_normal);
    let bits = b.bitcast(DType::I32, y);
    let shift = b.int(int, 23);
    let exponent = b.arith2(Arith2::Shr, bits, shift);
    let exponent = b.add(exponent, bias);
    let mantissa_mask = b.int(int, 0x007f_ffff);
    let half_bits = b.int(int, 0x3f00_0000);
    let mantissa = b.arith2(Arith2::And, bits, mantissa_mask);
    let mantissa = b.arith2(Arith2::Or, mantissa, half_bits);
    let m = b.bitcast(DType::F32, mantissa); // in [0.5, 1)
    let root = b.f32(lanes, std::f32::consts::FRAC_1_SQRT_2);
    let below = b.compare(CompareOp::Lt, m, root);
    let doubled = b.add(m, m);
    let m = b.select(below, doubled, m);
    let one = b.f32(lanes, 1.0);
    let m = b.sub(m, one); // in [sqrt(1/2) - 1, sqrt(2) - 1)
    let e = b.convert(DType::F32, exponent);
    let e_less = b.sub(e, one);
    let e = b.select(below, e_less, e);
    let p = horner(
        b,
        m,
        &[
            0.333_333_3,
            -0.249_999_9,
            0.200_007_07,
            -0.166_684_8,
            0.142_499_37,
            -0.124_110_505,
            0.116_615_11,
            -0.115_712_01,
            0.071_497_54,
        ],
    );
    let m2 = b.mul(m, m);
    let m3 = b.mul(m2, m);
    let p = b.mul(p, m3);
    let ln2_lo = b.f32(lanes, -2.121_944_4e-4);
    let p = b.fma(e, ln2_lo, p);
    let minus_half = b.f32(lanes, -0.5);
    let p = b.fma(m2, minus_half, p);
    let p = b.add(m, p);
    let ln2_hi = b.f32(lanes, 0.693_359_4);
    let result = b.fma(e, ln2_hi, p);
    let infinity = b.f32(lanes, f32::INFINITY);
    let is_infinite = b.compare(CompareOp::Ge, x, infinity);
    let result = b.select(is_infinite, infinity, result);
    let zero = b.f32(lanes, 0.0);
    let is_zero = b.compare(CompareOp::Eq, x, zero);
    let minus_infinity = b.f32(lanes, f32::NEG_INFINITY);
    let result = b.select(is_zero, minus_infinity, result);
    let positive = b.compare(CompareOp::Ge, x, zero);
    let nan = b.f32(lanes, f32::NAN);
    b.select(positive, result, nan)
}

/// Hyperbolic tangent; 1.5 ULP.
pub fn tanh(b: &mut FuncBuilder, x: Val) -> Val {
    if b.ty(x).dtype == DType::F64 {
        return math64::tanh(b, x);
    }
    let lanes = b.ty(x).lanes;
    let magnitude = b.arith1(Arith1::Abs, x);
    let z = b.mul(x, x);
    let p = horner(
        b,
        z,
        &[
            -0.333_333_34,
            0.133_333,
            -0.053_958_617,
            0.021_763_59,
            -0.008_326_293,
            0.002_272_606,
        ],
    );
    let zx = b.mul(z, x);
    let near = b.fma(p, zx, x);
    let doubled = b.add(magnitude, magnitude);
    let e = exp(b, doubled);
    let one = b.f32(lanes, 1.0);
    let divisor = b.add(e, one);
    let two = b.f32(lanes, 2.0);
    let quotient = b.div(two, divisor);
    let far = b.sub(one, quotient);
    let limit = b.f32(lanes, 0.625);
    let is_near = b.compare(CompareOp::Lt, magnitude, limit);
    let result = b.select(is_near, near, far);
    // Near zero it has the sign, unless that of a zero was lost.
    with_sign_of(b, result, x)
}

/// Logistic function `1 / (1 + e^-x)`; 2.5 ULP, but zero below -88.72.
pub fn sigmoid(b: &mut FuncBuilder, x: Val) -> Val {
    let minus = b.arith1(Arith1::Neg, x);
    let e = exp(b, minus);
    let one = constant(b, b.ty(x), 1.0);
    let divisor = b.add(one, e);
    b.div(one, divisor)
}

/// Inverse tangent; 3 ULP.
pub fn atan(b: &mut FuncBuilder, x: Val) -> Val {
    if b.ty(x).dtype == DType::F64 {
        return math64::atan(b, x);
    }
    let lanes = b.ty(x).lanes;
    let magnitude = b.arith1(Arith1::Abs, x);
    let one = b.f32(lanes, 1.0);
    // Beyond 1 the complement of the reciprocal's; beyond tan(pi/8) what remains after subtracting pi/4.
    let large = b.compare(CompareOp::Gt, magnitude, one);
    let inverse = b.div(one, magnitude);
    let t = b.select(large, inverse, magnitude);
    let limit = b.f32(lanes, 0.414_213_57);
    let middle = b.compare(CompareOp::Gt, t, limit);
    let (below, above) = (b.sub(t, one), b.add(t, one));
    let moved = b.div(below, above);
    let t = b.select(middle, moved, t);
    let z = b.mul(t, t);
    let p = horner(
        b,
        z,
        &[
            -0.333_333_3,
            0.199_995_49,
            -0.142_641_75,
            0.107_456_73,
            -0.064_572_94,
        ],
    );
    let cube = b.mul(z, t);
    let y = b.fma(cube, p, t);
    let quarter = b.f32(lanes, std::f32::consts::FRAC_PI_4);
    let raised = b.add(y, quarter);
    let y = b.select(middle, raised, y);
    let half = b.f32(lanes, std::f32::consts::FRAC_PI_2);
    let complement = b.sub(half, y);
    let y = b.select(large, complement, y);
    with_sign_of(b, y, x)
}

/// Gauss error function; 3 ULP.
pub fn erf(b: &mut FuncBuilder, x: Val) -> Val {
    if b.ty(x).dtype == DType::F64 {
        return math64::erf(b, x);
    }
    let lanes = b.ty(x).lanes;
    let z = b.mul(x, x);
    let p = horner(
        b,
        z,
        &[
            std::f32::consts::FRAC_2_SQRT_PI,
            -0.376_126_38,
            0.112_837_83,
            -0.026_865_438,
            0.005_221_053_4,
            -8.484_396_5e-4,
            1.126_825_4e-4,
            -9.673_59e-6,
        ],
    );
    let near = b.mul(p, x);
    let magnitude = b.arith1(Arith1::Abs, x);
    let four = b.f32(lanes, 4.0);
    // Beyond 4 the function is 1 to single precision. NaN stays: Min returns its second operand.
    let bounded = b.min(four, magnitude);
    let q = horner(
        b,
        bounded,
        &[
            3.032_13e-4,
            -1.130_166_7,
            -0.631_937_1,
            -0.109_978_24,
            0.026_364_718,
            -0.004_740_222_5,
            5.927_695_6e-4,
            -4.559_062_4e-5,
            1.614_061_6e-6,
        ],
    );
    let complement = exp(b, q);
    let one = b.f32(lanes, 1.0);
    let far = b.sub(one, complement);
    let far = with_sign_of(b, far, x);
    let is_near = b.compare(CompareOp::Lt, magnitude, one);
    b.select(is_near, near, far)
}

/// `ln(1 + e^x)` without overflow; 2.5 ULP.
pub fn softplus(b: &mut FuncBuilder, x: Val) -> Val {
    let ty = b.ty(x);
    let zero = constant(b, ty, 0.0);
    let positive = b.max(zero, x);
    let magnitude = b.arith1(Arith1::Abs, x);
    let minus = b.arith1(Arith1::Neg, magnitude);
    let t = exp(b, minus);
    let one = constant(b, ty, 1.0);
    // log1p(t) = log(u) - ((u - 1) - t) / u with u = 1 + t rounded.
    let u = b.add(one, t);
    let lost = b.sub(u, one);
    let lost = b.sub(lost, t);
    let correction = b.div(lost, u);
    let l = log(b, u);
    let l = b.sub(l, correction);
    b.add(positive, l)
}

/// `x^y`, by `e^(y ln |x|)`: relative error up to `|y ln x|` units in the last place. Signs and the special cases of IEEE `pow`
/// for zero, negative and infinite bases are kept.
pub fn pow(b: &mut FuncBuilder, x: Val, y: Val) -> Val {
    let ty = b.ty(x);
    let magnitude = b.arith1(Arith1::Abs, x);
    let l = log(b, magnitude);
    let product = b.mul(y, l);
    let result = exp(b, product);
    let zero = constant(b, ty, 0.0);
    let one = constant(b, ty, 1.0);
    let nan = constant(b, ty, f64::NAN);
    // Negative base: NaN unless the exponent is an integer; the sign is that of (-1)^y.
    let whole = b.arith1(Arith1::Floor, y);
    let is_whole = b.compare(CompareOp::Eq, whole, y);
    let half = constant(b, ty, 0.5);
    let halved = b.mul(y, half);
    let floor_half = b.arith1(Arith1::Floor, halved);
    let is_odd = b.compare(CompareOp::Ne, floor_half, halved);
    let both = b.arith2(Arith2::And, is_odd, is_whole);
    let signed = with_sign_of(b, result, x);
    let result = b.select(both, signed, result);
    let negative = b.compare(CompareOp::Lt, x, zero);
    let undefined = b.select(is_whole, result, nan);
    let result = b.select(negative, undefined, result);
    let is_zero_exponent = b.compare(CompareOp::Eq, y, zero);
    let result = b.select(is_zero_exponent, one, result);
    let is_one = b.compare(CompareOp::Eq, x, one);
    b.select(is_one, one, result)
}

/// Sine (`cosine` false) or cosine, scalar only: reduced in `f64`, so good to single precision below about 1e8.
pub fn sin_cos(b: &mut FuncBuilder, x: Val, cosine: bool) -> Val {
    if b.ty(x).dtype == DType::F64 {
        return math64::sin_cos(b, x, cosine);
    }
    let f64c = |b: &mut FuncBuilder, c: f64| b.inst(Ty::scalar(DType::F64), Inst::Const(c.to_bits()));
    let wide = b.convert(DType::F64, x);
    let per_quarter = f64c(b, std::f64::consts::FRAC_2_PI);
    let turns = b.mul(wide, per_quarter);
    let n = b.arith1(Arith1::Nearest, turns);
    let quarter = f64c(b, -std::f64::consts::FRAC_PI_2);
    let r = b.fma(n, quarter, wide);
    let z = b.mul(r, r);
    let polynomial = |b: &mut FuncBuilder, coefficients: &[f64]| {
        let mut sum = f64c(b, 0.0);
        for &c in coefficients.iter().rev() {
            let c = f64c(b, c);
            sum = b.fma(sum, z, c);
        }
        sum
    };
    let s = polynomial(
        b,
        &[
            1.0,
            -0.166_666_666_666_67,
            0.008_333_333_333_4,
            -1.984_126_991e-4,
            2.755_734e-6,
            -2.505_476e-8,
            1.611_9e-10,
        ],
    );
    let s = b.mul(s, r);
    let c = polynomial(
        b,
        &[
            1.0,
            -0.5,
            0.041_666_666_666_7,
            -1.388_888_888_7e-3,
            2.480_158_4e-5,
            -2.755_604e-7,
            2.067_5e-9,
        ],
    );
    let quadrant = b.convert(DType::I64, n);
    let int = Ty::scalar(DType::I64);
    let shift = b.int(int, i64::from(cosine));
    let quadrant = b.add(quadrant, shift);
    let (one, two, zero) = (b.int(int, 1), b.int(int, 2), b.int(int, 0));
    let odd = b.arith2(Arith2::And, quadrant, one);
    let use_cosine = b.compare(CompareOp::Ne, odd, zero);
    let value = b.select(use_cosine, c, s);
    let upper = b.arith2(Arith2::And, quadrant, two);
    let negate = b.compare(CompareOp::Ne, upper, zero);
    let minus = b.arith1(Arith1::Neg, value);
    let value = b.select(negate, minus, value);
    b.convert(DType::F32, value)
}

/// A value that is not negative where another is not, with the sign of the other.
pub(super) fn with_sign_of(b: &mut FuncBuilder, magnitude: Val, sign: Val) -> Val {
    let ty = b.ty(magnitude);
    let (int, lowest) = match ty.dtype {
        DType::F64 => (DType::I64, i64::MIN),
        _ => (DType::I32, i64::from(i32::MIN)),
    };
    let mask = b.int(Ty::vector(int, ty.lanes), lowest);
    let bits = b.bitcast(int, sign);
    let bit = b.arith2(Arith2::And, bits, mask);
    let bits = b.bitcast(int, magnitude);
    let bits = b.arith2(Arith2::Or, bits, bit);
    b.bitcast(ty.dtype, bits)
}
