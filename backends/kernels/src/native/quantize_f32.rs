//! Quantisation of numbers; the contract is that of the registry's `quantize_f32`.

use super::params::QuantizeF32Params;
use super::simd::V;

/// Scale, zero point and range of the results.
struct Grid {
    scale: V,
    /// Bounds less the zero point.
    low: V,
    high: V,
    /// What a NaN counts as: the number whose result is 0.
    nan: V,
    zero: i32,
}

impl Grid {
    /// The bytes of a vector of numbers.
    #[inline(always)]
    unsafe fn vector(&self, x: V, y: *mut u8) {
        // SAFETY: a vector of bytes, by contract.
        unsafe {
            let q = x.div(self.scale).or(self.nan);
            q.max(self.low).min(self.high).store_bytes(self.zero, y);
        }
    }

    /// `n` numbers to as many bytes, both `step` (of their elements) apart.
    #[inline(always)]
    unsafe fn line(&self, x: *const f32, x_step: isize, y: *mut u8, y_step: isize, n: usize) {
        // SAFETY: the elements exist, by contract; the copies have a vector.
        unsafe {
            let mut i = 0;
            while i < n {
                let count = (n - i).min(V::LANES);
                let from = x.offset(i as isize * x_step);
                let to = y.offset(i as isize * y_step);
                let numbers = if x_step == 1 {
                    if count == V::LANES {
                        V::load(from)
                    } else {
                        V::load_n(from, count)
                    }
                } else {
                    let mut copy = [0.0f32; V::LANES];
                    let into = copy.as_mut_ptr();
                    for l in 0..count {
                        *into.add(l) = *from.offset(l as isize * x_step);
                    }
                    V::load(into)
                };
                if y_step == 1 && count == V::LANES {
                    self.vector(numbers, to);
                } else {
                    let mut bytes = [0u8; V::LANES];
                    let out = bytes.as_mut_ptr();
                    self.vector(numbers, out);
                    for l in 0..count {
                        *to.offset(l as isize * y_step) = *out.add(l);
                    }
                }
                i += V::LANES;
            }
        }
    }
}

/// The kernel `quantize_f32`; operands x, y; the range is rows.
///
/// # Safety
/// The operands must be valid for all elements that the [`QuantizeF32Params`] at `params` say are touched.
pub unsafe fn quantize_f32(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: the contract gives two operands and the parameters, and their elements.
    unsafe {
        let p = &*params.cast::<QuantizeF32Params>();
        let (low, high) = if p.y_signed != 0 { (-128, 127) } else { (0, 255) };
        let grid = Grid {
            scale: V::splat(f32::from_bits(p.y_scale as u32)),
            low: V::splat((low - p.y_zero) as f32),
            high: V::splat((high - p.y_zero) as f32),
            nan: V::splat(-p.y_zero as f32),
            zero: p.y_zero as i32,
        };
        let (columns, channels) = (p.columns.max(0) as usize, p.channels.max(0) as usize);
        let dense = p.xs_c == 1 && p.xs_w == p.channels && p.ys_w == p.channels;
        for row in begin..end {
            let x = (*operands)
                .cast_const()
                .cast::<f32>()
                .offset((row * p.xs_h) as isize);
            let y = (*operands.add(1)).offset((row * p.ys_h) as isize);
            if dense {
                grid.line(x, 1, y, 1, columns * channels);
            } else if p.xs_c == 1 {
                for column in 0..columns {
                    let at = |step: i64| (column as i64 * step) as isize;
                    grid.line(x.offset(at(p.xs_w)), 1, y.offset(at(p.ys_w)), 1, channels);
                }
            } else {
                for c in 0..channels {
                    let x = x.offset((c as i64 * p.xs_c) as isize);
                    grid.line(x, p.xs_w as isize, y.add(c), p.ys_w as isize, columns);
                }
            }
        }
    }
}
