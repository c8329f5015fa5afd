//! Layer normalisation of rows; the contract is that of the registry's `layer_norm_f32`.

use super::fold::{self, vectors};
use super::params::LayerNormParams;
use super::simd::V;

/// The kernel `layer_norm_f32`; operands x, scale, bias, y; the range is rows.
///
/// # Safety
/// The operands must be valid for all elements that the [`LayerNormParams`] at `params` say are touched.
pub unsafe fn layer_norm_f32(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: the contract gives four operands and the parameters, and their elements.
    unsafe {
        let p = &*params.cast::<LayerNormParams>();
        let x: *const f32 = (*operands).cast();
        let scale: *const f32 = (*operands.add(1)).cast();
        let bias: *const f32 = (*operands.add(2)).cast();
        let y: *mut f32 = (*operands.add(3)).cast();
        let epsilon = V::splat(f32::from_bits(p.epsilon as u32));
        let n = p.size.max(0) as usize;
        let count = V::splat(n as f32);
        let zero = V::splat(0.0);
        for row in begin..end {
            let x = x.wrapping_offset((row * p.xs_r) as isize);
            let y = y.wrapping_offset((row * p.ys_r) as isize);
            let mut sums = [zero; 4];
            vectors(n, |i, k, count| {
                sums[k] = sums[k].add(fold::load(x.add(i), count, zero));
            });
            let mean = fold::sum(sums).div(count);
            let mut squares = [zero; 4];
            vectors(n, |i, k, count| {
                let centred = fold::load(x.add(i), count, zero).sub(mean);
                let centred = fold::head(centred, count, zero);
                squares[k] = centred.mul_add(centred, squares[k]);
            });
            let variance = fold::sum(squares).div(count);
            let inverse = V::splat(1.0).div(variance.add(epsilon).sqrt());
            vectors(n, |i, _, count| {
                let unit = fold::load(x.add(i), count, zero).sub(mean).mul(inverse);
                let scale = fold::load(scale.add(i), count, zero);
                let bias = fold::load(bias.add(i), count, zero);
                fold::store(unit.mul_add(scale, bias), y.add(i), count);
            });
        }
    }
}
