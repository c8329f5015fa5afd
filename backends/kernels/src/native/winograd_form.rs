//! The transforms of Winograd's minimal filtering for windows of three, in one dimension.
//!
//! `F(m, 3)` turns `m + 2` inputs and three weights into as many numbers each, multiplies them pairwise, and turns the
//! products into `m` outputs: polynomials are multiplied by their values at some points. The points of `F(4, 3)` are 0,
//! +-1/sqrt 2, +-sqrt 2 and infinity, whose powers stay near one: with 0, +-1, +-2 the error is six times larger.
//! Transforms of the weights are the compiler's business; `ir`'s registry has them.

use super::simd::V;

/// Numbers per dimension that any form has at most.
pub const MOST: usize = 6;

/// One size of tile.
pub trait Form {
    /// Outputs.
    const M: usize;
    /// Inputs, and products.
    const N: usize;

    /// Transforms the first `N` inputs.
    unsafe fn input(d: [V; MOST]) -> [V; MOST];

    /// Turns the first `N` products into `M` outputs.
    unsafe fn output(m: [V; MOST]) -> [V; MOST];
}

/// `F(2, 3)`.
pub struct Two;

/// `F(4, 3)`.
pub struct Four;

/// `1 / sqrt 2` and `sqrt 2`.
const A: f32 = core::f32::consts::FRAC_1_SQRT_2;
const B: f32 = core::f32::consts::SQRT_2;

/// `scale * x + y`.
#[inline(always)]
unsafe fn scaled(scale: f32, x: V, y: V) -> V {
    // SAFETY: arithmetic only.
    unsafe { V::splat(scale).mul_add(x, y) }
}

impl Form for Two {
    const M: usize = 2;
    const N: usize = 4;

    #[inline(always)]
    unsafe fn input(d: [V; MOST]) -> [V; MOST] {
        // SAFETY: arithmetic only; see `simd` for why the instructions exist.
        unsafe {
            let zero = V::splat(0.0);
            [
                scaled(-1.0, d[0], d[2]),
                d[1].add(d[2]),
                scaled(-1.0, d[1], d[2]),
                scaled(-1.0, d[1], d[3]),
                zero,
                zero,
            ]
        }
    }

    #[inline(always)]
    unsafe fn output(m: [V; MOST]) -> [V; MOST] {
        // SAFETY: arithmetic only; see `simd` for why the instructions exist.
        unsafe {
            let zero = V::splat(0.0);
            let first = m[0].add(m[1].add(m[2]));
            let second = scaled(-1.0, m[2], m[1]).add(m[3]);
            [first, second, zero, zero, zero, zero]
        }
    }
}

impl Form for Four {
    const M: usize = 4;
    const N: usize = 6;

    #[inline(always)]
    unsafe fn input(d: [V; MOST]) -> [V; MOST] {
        // SAFETY: arithmetic only; see `simd` for why the instructions exist.
        unsafe {
            let (even_a, odd_a) = (scaled(-2.0, d[2], d[4]), scaled(-2.0, d[1], d[3]));
            let (even_b, odd_b) = (scaled(-0.5, d[2], d[4]), scaled(-0.5, d[1], d[3]));
            [
                scaled(-2.5, d[2], d[0].add(d[4])),
                scaled(A, odd_a, even_a),
                scaled(-A, odd_a, even_a),
                scaled(B, odd_b, even_b),
                scaled(-B, odd_b, even_b),
                scaled(-2.5, d[3], d[1].add(d[5])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn output(m: [V; MOST]) -> [V; MOST] {
        // SAFETY: arithmetic only; see `simd` for why the instructions exist.
        unsafe {
            let zero = V::splat(0.0);
            let (sum_a, difference_a) = (m[1].add(m[2]), scaled(-1.0, m[2], m[1]));
            let (sum_b, difference_b) = (m[3].add(m[4]), scaled(-1.0, m[4], m[3]));
            [
                m[0].add(sum_a.add(sum_b)),
                scaled(B, difference_b, scaled(A, difference_a, zero)),
                scaled(2.0, sum_b, scaled(0.5, sum_a, zero)),
                scaled(2.0 * B, difference_b, scaled(0.5 * A, difference_a, m[5])),
                zero,
                zero,
            ]
        }
    }
}
