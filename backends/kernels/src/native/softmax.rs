//! Softmax of rows; the contract is that of the registry's `softmax_f32`.

use super::fold::{self, vectors};
use super::math;
use super::params::SoftmaxParams;
use super::simd::V;

/// The kernel `softmax_f32`; operands x, y; the range is rows.
///
/// # Safety
/// The operands must be valid for all elements that the [`SoftmaxParams`] at `params` say are touched.
pub unsafe fn softmax_f32(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: the contract gives two operands and the parameters, and their elements.
    unsafe {
        let p = &*params.cast::<SoftmaxParams>();
        let x: *const f32 = (*operands).cast();
        let y: *mut f32 = (*operands.add(1)).cast();
        for row in begin..end {
            let x = x.wrapping_offset((row * p.xs_r) as isize);
            let y = y.wrapping_offset((row * p.ys_r) as isize);
            if p.log == 0 {
                softmax(x, y, p.size.max(0) as usize);
            } else {
                log_softmax(x, y, p.size.max(0) as usize);
            }
        }
    }
}

/// The largest of `n` numbers, in all lanes; which number comes of a NaN among them is left open.
#[inline(always)]
unsafe fn largest(x: *const f32, n: usize) -> V {
    // SAFETY: there are `n`.
    unsafe {
        let lowest = V::splat(f32::NEG_INFINITY);
        let mut sums = [lowest; 4];
        vectors(n, |i, k, count| {
            let v = fold::load(x.add(i), count, lowest);
            sums[k] = sums[k].max(v);
        });
        fold::max(sums)
    }
}

/// The sum of the exponentials of the distances from `max`, in all lanes; with `KEEP` they stay in `y`.
#[inline(always)]
unsafe fn total<const KEEP: bool>(x: *const f32, y: *mut f32, n: usize, max: V) -> V {
    // SAFETY: both have `n` elements, by contract.
    unsafe {
        let zero = V::splat(0.0);
        let mut sums = [zero; 4];
        vectors(n, |i, k, count| {
            let e = math::exp(fold::load(x.add(i), count, zero).sub(max));
            if KEEP {
                fold::store(e, y.add(i), count);
            }
            sums[k] = sums[k].add(fold::head(e, count, zero));
        });
        fold::sum(sums)
    }
}

/// Exponentials first, in the place of the results, for their sum.
#[inline(always)]
unsafe fn softmax(x: *const f32, y: *mut f32, n: usize) {
    // SAFETY: both have `n` elements, by contract.
    unsafe {
        let scale = V::splat(1.0).div(total::<true>(x, y, n, largest(x, n)));
        vectors(n, |i, _, count| {
            let e = fold::load(y.add(i), count, V::splat(0.0));
            fold::store(e.mul(scale), y.add(i), count);
        });
    }
}

/// Distances from the maximum, less the logarithm of the sum of their exponentials.
#[inline(always)]
unsafe fn log_softmax(x: *const f32, y: *mut f32, n: usize) {
    // SAFETY: both have `n` elements, by contract.
    unsafe {
        let max = largest(x, n);
        let log = math::log(total::<false>(x, y, n, max));
        vectors(n, |i, _, count| {
            let shifted = fold::load(x.add(i), count, V::splat(0.0)).sub(max);
            fold::store(shifted.sub(log), y.add(i), count);
        });
    }
}
