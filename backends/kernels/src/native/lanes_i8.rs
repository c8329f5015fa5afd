//! Sixteen 32-bit sums of byte products, as plain Rust and for AVX-512 VNNI.

/// Where and how results are stored.
#[derive(Clone, Copy)]
pub struct Output {
    /// Zero point of the results.
    pub zero: i32,
    /// Bounds of the results less the zero point, as f32: integers, so that clamping and rounding commute.
    pub low: f32,
    pub high: f32,
    /// 0 for scales of `f32`, else the shift of integer scales.
    pub shift: u32,
}

impl Output {
    #[inline(always)]
    pub fn new(zero: i64, min: i64, max: i64, shift: i64) -> Self {
        Self {
            shift: shift as u32 & 63,
            zero: zero as i32,
            low: (min - zero) as f32,
            high: (max - zero) as f32,
        }
    }
}

/// Sixteen 32-bit sums, which wrap.
///
/// # Safety
/// Implementations may need CPU features; pointers must be valid for what each function says it reads or writes.
pub trait Sums: Copy {
    /// Most pixels of a register tile with this many vectors of filters: as many as registers allow.
    const PIXELS: [usize; 5];
    /// Sixteen sums from memory.
    unsafe fn load(from: *const i32) -> Self;
    /// `self - factor * other[..16]`
    unsafe fn minus(self, factor: i32, other: *const i32) -> Self;
    /// Adds to sum `l` the products of the bytes of `x` (unsigned) with `w[4 * l ..][..4]` (signed): 64 bytes.
    unsafe fn dot(self, w: *const i8, x: u32) -> Self;
    /// Requantises (see `docs/integer.md`) with `scale[..16]` and stores the first `count` results.
    unsafe fn store(self, scale: *const f32, out: &Output, y: *mut u8, count: usize);
}

/// The integer nearest to a number below 2^21 in magnitude, halves to even: where the last place counts ones, addition
/// rounds.
#[inline(always)]
pub fn nearest(x: f32) -> i32 {
    const ONES: f32 = 12_582_912.0;
    // SAFETY: the caller's bound.
    unsafe { ((x + ONES) - ONES).to_int_unchecked::<i32>() }
}

/// One result from its sum. The bits of an integer scale travel as those of a float.
#[inline(always)]
pub fn requantise(sum: i32, scale: f32, out: &Output) -> u8 {
    if out.shift != 0 {
        let product = i64::from(sum) * i64::from(scale.to_bits() as i32);
        let y = (product + (1 << (out.shift - 1))) >> out.shift;
        return (y.max(out.low as i64).min(out.high as i64) as i32 + out.zero) as u8;
    }
    let y = sum as f32 * scale;
    let y = if y > out.low { y } else { out.low };
    let y = if y < out.high { y } else { out.high };
    (nearest(y) + out.zero) as u8
}

/// Plain arrays, for the compiler to vectorise.
#[derive(Clone, Copy)]
pub struct Plain([i32; 16]);

impl Sums for Plain {
    const PIXELS: [usize; 5] = [1, 2, 1, 1, 1];

    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        let mut sums = [0; 16];
        for l in 0..16 {
            // SAFETY: sixteen elements, by contract.
            sums[l] = unsafe { *from.add(l) };
        }
        Self(sums)
    }

    #[inline(always)]
    unsafe fn minus(mut self, factor: i32, other: *const i32) -> Self {
        for l in 0..16 {
            // SAFETY: sixteen elements, by contract.
            self.0[l] = self.0[l].wrapping_sub(factor.wrapping_mul(unsafe { *other.add(l) }));
        }
        self
    }

    #[inline(always)]
    unsafe fn dot(mut self, w: *const i8, x: u32) -> Self {
        let x = x.to_le_bytes();
        for l in 0..16 {
            let mut sum = self.0[l];
            for j in 0..4 {
                // SAFETY: 64 bytes, by contract.
                let w = unsafe { *w.add(4 * l + j) };
                sum = sum.wrapping_add(i32::from(x[j]) * i32::from(w));
            }
            self.0[l] = sum;
        }
        self
    }

    #[inline(always)]
    unsafe fn store(self, scale: *const f32, out: &Output, y: *mut u8, count: usize) {
        let mut results = [0; 16];
        for l in 0..16 {
            // SAFETY: sixteen elements, by contract.
            results[l] = requantise(self.0[l], unsafe { *scale.add(l) }, out);
        }
        for l in 0..16 {
            if l < count {
                // SAFETY: `count` elements, by contract.
                unsafe { *y.add(l) = results[l] };
            }
        }
    }
}

#[cfg(all(
    target_arch = "x86_64",
    target_feature = "avx512vl",
    target_feature = "avx512bw"
))]
pub use vnni::Vnni;

#[cfg(all(
    target_arch = "x86_64",
    target_feature = "avx512vl",
    target_feature = "avx512bw"
))]
mod vnni {
    use super::{Output, Sums};
    use core::arch::x86_64::*;

    /// One AVX-512 register; needs AVX-512 VNNI.
    #[derive(Clone, Copy)]
    pub struct Vnni(__m512i);

    impl Vnni {
        /// Sums times integer scales, rounded and shifted, within the bounds.
        #[inline(always)]
        unsafe fn shifted(self, scale: __m512i, out: &Output) -> __m512i {
            // SAFETY: arithmetic on registers; AVX-512, by contract.
            unsafe {
                let rounding = _mm512_set1_epi64(1 << (out.shift - 1));
                let by = _mm_cvtsi32_si128(out.shift as i32);
                // Products of the lower halves of 64-bit lanes; the odd ones are brought there first.
                let half = |x: __m512i, y: __m512i| {
                    let product = _mm512_add_epi64(_mm512_mul_epi32(x, y), rounding);
                    let y = _mm512_sra_epi64(product, by);
                    let y = _mm512_max_epi64(y, _mm512_set1_epi64(out.low as i64));
                    _mm512_min_epi64(y, _mm512_set1_epi64(out.high as i64))
                };
                let even = half(self.0, scale);
                let odd = half(_mm512_srli_epi64::<32>(self.0), _mm512_srli_epi64::<32>(scale));
                _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64::<32>(odd))
            }
        }
    }

    impl Sums for Vnni {
        const PIXELS: [usize; 5] = [1, 12, 12, 8, 6];

        #[inline(always)]
        unsafe fn load(from: *const i32) -> Self {
            // SAFETY: sixteen elements, by contract.
            Self(unsafe { _mm512_loadu_si512(from.cast()) })
        }

        #[inline(always)]
        unsafe fn minus(self, factor: i32, other: *const i32) -> Self {
            // SAFETY: sixteen elements, by contract.
            unsafe {
                let other = _mm512_loadu_si512(other.cast());
                let product = _mm512_mullo_epi32(other, _mm512_set1_epi32(factor));
                Self(_mm512_sub_epi32(self.0, product))
            }
        }

        #[inline(always)]
        unsafe fn dot(self, w: *const i8, x: u32) -> Self {
            // SAFETY: 64 bytes, by contract; so is the CPU's VNNI.
            unsafe {
                let w = _mm512_loadu_si512(w.cast());
                Self(_mm512_dpbusd_epi32(self.0, _mm512_set1_epi32(x as i32), w))
            }
        }

        #[inline(always)]
        unsafe fn store(self, scale: *const f32, out: &Output, y: *mut u8, count: usize) {
            // SAFETY: sixteen scales and `count` results, by contract.
            unsafe {
                let scale = _mm512_loadu_ps(scale);
                let y_i = if out.shift != 0 {
                    self.shifted(_mm512_castps_si512(scale), out)
                } else {
                    let y_f = _mm512_mul_ps(_mm512_cvtepi32_ps(self.0), scale);
                    let y_f = _mm512_max_ps(y_f, _mm512_set1_ps(out.low));
                    let y_f = _mm512_min_ps(y_f, _mm512_set1_ps(out.high));
                    // Rounds half to even, the default mode.
                    _mm512_cvtps_epi32(y_f)
                };
                let y_i = _mm512_add_epi32(y_i, _mm512_set1_epi32(out.zero));
                let mask = if count >= 16 { 0xffff } else { (1u16 << count) - 1 };
                _mm512_mask_cvtepi32_storeu_epi8(y.cast(), mask, y_i);
            }
        }
    }
}
