//! Transcendental functions of vectors: argument reduction plus a polynomial, branch-free.
//!
//! The arithmetic is that of the registry's bodies (`ir::tile::math`), so both give nearly the same bits. Largest errors over all of
//! `f32`, in units of the last place of a normal result (tests hold every instance to them): [`exp`] 1.5, [`log`] 1,
//! [`tanh`] 1.5, [`sigmoid`] 2.5, [`erf`] 3, [`softplus`] 2.5. Denormal results are off by at most one of their own units but for
//! [`sigmoid`], which gives zero for arguments below -88.72. NaN goes through, overflow gives infinity.

use super::simd::V;

const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;

/// A polynomial, lowest coefficient first, by Horner's rule.
#[inline(always)]
unsafe fn horner<const N: usize>(x: V, coefficients: [f32; N]) -> V {
    // SAFETY: arithmetic of values only, as in all functions here.
    unsafe {
        let mut sum = V::splat(coefficients[N - 1]);
        let mut i = N - 1;
        while i > 0 {
            i -= 1;
            sum = sum.mul_add(x, V::splat(coefficients[i]));
        }
        sum
    }
}

/// `e^x`
#[inline(always)]
pub unsafe fn exp(x: V) -> V {
    // SAFETY: arithmetic of values only.
    unsafe {
        // In this order a NaN stays.
        let x = V::splat(89.0).min(V::splat(-104.0).max(x));
        let n = x.mul(V::splat(core::f32::consts::LOG2_E)).nearest();
        // The first part of ln 2 has zeros at the end, so that n times it is exact.
        let r = n.mul_add(V::splat(-LN2_HI), x);
        let r = n.mul_add(V::splat(-LN2_LO), r);
        let p = horner(
            r,
            [
                1.0,
                1.0,
                0.5,
                0.166_664_05,
                0.041_666_2,
                0.008_375_961,
                0.001_394_977,
            ],
        );
        p.scale(n)
    }
}

/// Natural logarithm: of zero `-inf`, of negative numbers NaN.
#[inline(always)]
pub unsafe fn log(x: V) -> V {
    // SAFETY: arithmetic of values only.
    unsafe {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        // Denormals are scaled up by 2^23 first.
        let small = x.less(V::splat(f32::MIN_POSITIVE));
        let y = x.mul(V::splat(8_388_608.0)).pick(small, x);
        let (m, e) = y.split();
        let e = e.sub(V::splat(23.0)).pick(small, e);
        let below = m.less(V::splat(core::f32::consts::FRAC_1_SQRT_2));
        let m = m.add(m).pick(below, m).sub(one);
        let e = e.sub(one).pick(below, e);
        let p = horner(
            m,
            [
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
        let m2 = m.mul(m);
        let p = p.mul(m2.mul(m));
        let p = e.mul_add(V::splat(LN2_LO), p);
        let p = m2.mul_add(V::splat(-0.5), p);
        let result = e.mul_add(V::splat(LN2_HI), m.add(p));
        let largest = V::splat(f32::MAX);
        let result = x.pick(largest.less(x), result);
        // Everything that is not above zero: zero itself, and what has no logarithm.
        let special = V::splat(f32::NAN).pick(x.less(zero), V::splat(f32::NEG_INFINITY));
        let result = result.pick(zero.less(x), special);
        x.pick(x.is_nan(), result)
    }
}

/// Hyperbolic tangent.
#[inline(always)]
pub unsafe fn tanh(x: V) -> V {
    // SAFETY: arithmetic of values only.
    unsafe {
        let magnitude = x.abs();
        let z = x.mul(x);
        let p = horner(
            z,
            [
                -0.333_333_34,
                0.133_333,
                -0.053_958_617,
                0.021_763_59,
                -0.008_326_293,
                0.002_272_606,
            ],
        );
        let near = p.mul_add(z.mul(x), x);
        let one = V::splat(1.0);
        let e = exp(magnitude.add(magnitude));
        let far = one.sub(V::splat(2.0).div(e.add(one)));
        // Near zero it has the sign, unless that of a zero was lost.
        near.pick(magnitude.less(V::splat(0.625)), far).with_sign_of(x)
    }
}

/// Logistic function `1 / (1 + e^-x)`.
#[inline(always)]
pub unsafe fn sigmoid(x: V) -> V {
    // SAFETY: arithmetic of values only.
    unsafe {
        let one = V::splat(1.0);
        one.div(one.add(exp(x.neg())))
    }
}

/// Gauss error function.
#[inline(always)]
pub unsafe fn erf(x: V) -> V {
    // SAFETY: arithmetic of values only.
    unsafe {
        let p = horner(
            x.mul(x),
            [
                core::f32::consts::FRAC_2_SQRT_PI,
                -0.376_126_38,
                0.112_837_83,
                -0.026_865_438,
                0.005_221_053_4,
                -8.484_396_5e-4,
                1.126_825_4e-4,
                -9.673_59e-6,
            ],
        );
        let near = p.mul(x);
        let magnitude = x.abs();
        // Beyond 4 the function is 1 to single precision.
        let bounded = V::splat(4.0).min(magnitude);
        let q = horner(
            bounded,
            [
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
        let far = V::splat(1.0).sub(exp(q)).with_sign_of(x);
        near.pick(magnitude.less(V::splat(1.0)), far)
    }
}

/// `ln(1 + e^x)` without overflow.
#[inline(always)]
pub unsafe fn softplus(x: V) -> V {
    // SAFETY: arithmetic of values only.
    unsafe {
        let one = V::splat(1.0);
        let t = exp(x.abs().neg());
        // log1p(t) = log(u) - ((u - 1) - t) / u with u = 1 + t rounded.
        let u = one.add(t);
        let correction = u.sub(one).sub(t).div(u);
        V::splat(0.0).max(x).add(log(u).sub(correction))
    }
}
