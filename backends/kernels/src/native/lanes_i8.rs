//! Sixteen 32-bit sums of byte products: as plain Rust, for AVX2, and for AVX-512 VNNI.

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
    /// Weights of sixteen filters for four inputs, as the products want them.
    type Weights: Copy;
    /// Four inputs, likewise.
    type Inputs: Copy;
    /// Most vectors of filters of a register tile, at most four.
    const VECTORS: usize;
    /// Most pixels of a register tile with this many vectors of filters: as many as registers allow.
    const PIXELS: [usize; 5];
    /// Sixteen sums from memory.
    unsafe fn load(from: *const i32) -> Self;
    /// `self - factor * other[..16]`
    unsafe fn minus(self, factor: i32, other: *const i32) -> Self;
    /// 64 bytes: four weights of each filter.
    unsafe fn weights(from: *const i8) -> Self::Weights;
    /// Four inputs from memory, with their sign bits turned if `FLIP`.
    unsafe fn inputs<const FLIP: bool>(from: *const u8) -> Self::Inputs;
    /// Adds to each sum the products of the four inputs (unsigned) with its filter's weights (signed).
    unsafe fn dot(self, w: Self::Weights, x: Self::Inputs) -> Self;
    /// Requantises (see `docs/integer.md`) with `scale[..16]` and stores the first `count` results.
    unsafe fn store(self, scale: *const f32, out: &Output, y: *mut u8, count: usize);
}

/// What turns the sign bits of four bytes.
const SIGNS: u32 = 0x8080_8080;

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
    type Weights = [i8; 64];
    type Inputs = [u8; 4];
    const VECTORS: usize = 1;
    const PIXELS: [usize; 5] = [1, 2, 2, 2, 2];

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
    unsafe fn weights(from: *const i8) -> [i8; 64] {
        let mut weights = [0; 64];
        for l in 0..64 {
            // SAFETY: 64 bytes, by contract.
            weights[l] = unsafe { *from.add(l) };
        }
        weights
    }

    #[inline(always)]
    unsafe fn inputs<const FLIP: bool>(from: *const u8) -> [u8; 4] {
        // SAFETY: four bytes, by contract.
        let x = unsafe { from.cast::<u32>().read_unaligned() };
        (if FLIP { x ^ SIGNS } else { x }).to_le_bytes()
    }

    #[inline(always)]
    unsafe fn dot(mut self, w: [i8; 64], x: [u8; 4]) -> Self {
        for l in 0..16 {
            let mut sum = self.0[l];
            for j in 0..4 {
                sum = sum.wrapping_add(i32::from(x[j]) * i32::from(w[4 * l + j]));
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
pub use vnni::{Vnni, shifted};

#[cfg(all(
    target_arch = "x86_64",
    target_feature = "avx512vl",
    target_feature = "avx512bw"
))]
mod vnni {
    use super::{Output, SIGNS, Sums};
    use core::arch::x86_64::*;

    /// One AVX-512 register; needs AVX-512 VNNI.
    #[derive(Clone, Copy)]
    pub struct Vnni(__m512i);

    /// Sums times integer scales, rounded and shifted, within the bounds.
    #[inline(always)]
    pub unsafe fn shifted(sums: __m512i, scale: __m512i, out: &Output) -> __m512i {
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
            let even = half(sums, scale);
            let odd = half(_mm512_srli_epi64::<32>(sums), _mm512_srli_epi64::<32>(scale));
            _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64::<32>(odd))
        }
    }

    impl Sums for Vnni {
        type Weights = __m512i;
        type Inputs = __m512i;
        const VECTORS: usize = 4;
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
        unsafe fn weights(from: *const i8) -> __m512i {
            // SAFETY: 64 bytes, by contract.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }

        #[inline(always)]
        unsafe fn inputs<const FLIP: bool>(from: *const u8) -> __m512i {
            // SAFETY: four bytes, by contract.
            unsafe {
                let x = _mm512_set1_epi32(from.cast::<i32>().read_unaligned());
                if FLIP {
                    _mm512_xor_si512(x, _mm512_set1_epi32(SIGNS as i32))
                } else {
                    x
                }
            }
        }

        #[inline(always)]
        unsafe fn dot(self, w: __m512i, x: __m512i) -> Self {
            // SAFETY: the CPU has VNNI, by contract.
            unsafe { Self(_mm512_dpbusd_epi32(self.0, x, w)) }
        }

        #[inline(always)]
        unsafe fn store(self, scale: *const f32, out: &Output, y: *mut u8, count: usize) {
            // SAFETY: sixteen scales and `count` results, by contract.
            unsafe {
                let scale = _mm512_loadu_ps(scale);
                let y_i = if out.shift != 0 {
                    shifted(self.0, _mm512_castps_si512(scale), out)
                } else {
                    let y_f = _mm512_mul_ps(_mm512_cvtepi32_ps(self.0), scale);
                    let y_f = _mm512_max_ps(y_f, _mm512_set1_ps(out.low));
                    let y_f = _mm512_min_ps(y_f, _mm512_set1_ps(out.high));
                    // Rounds half to even, the default mode.
                    _mm512_cvtps_epi32(y_f)
                };
                let y_i = _mm512_add_epi32(y_i, _mm512_set1_epi32(out.zero));
                // Stores under a mask take several times as long.
                if count >= 16 {
                    _mm_storeu_si128(y.cast(), _mm512_cvtepi32_epi8(y_i));
                } else {
                    _mm512_mask_cvtepi32_storeu_epi8(y.cast(), (1u16 << count) - 1, y_i);
                }
            }
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
pub use avx2::Avx2;

#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
mod avx2 {
    use super::{Output, Plain, SIGNS, Sums};
    use core::arch::x86_64::*;

    /// Two AVX2 registers. Bytes are widened to 16 bits, since the multiplication of bytes saturates.
    #[derive(Clone, Copy)]
    pub struct Avx2([__m256i; 2]);

    /// Bytes 0 and 2 of each four, and bytes 1 and 3, as 16-bit integers.
    #[derive(Clone, Copy)]
    pub struct Halves {
        even: __m256i,
        odd: __m256i,
    }

    impl Sums for Avx2 {
        type Weights = [Halves; 2];
        type Inputs = Halves;
        const VECTORS: usize = 1;
        const PIXELS: [usize; 5] = [1, 4, 4, 4, 4];

        #[inline(always)]
        unsafe fn load(from: *const i32) -> Self {
            // SAFETY: sixteen elements, by contract.
            Self(unsafe { [0, 8].map(|i| _mm256_loadu_si256(from.add(i).cast())) })
        }

        #[inline(always)]
        unsafe fn minus(self, factor: i32, other: *const i32) -> Self {
            // SAFETY: sixteen elements, by contract.
            unsafe {
                let factor = _mm256_set1_epi32(factor);
                let product = |i| _mm256_mullo_epi32(_mm256_loadu_si256(other.add(8 * i).cast()), factor);
                Self([0, 1].map(|i| _mm256_sub_epi32(self.0[i], product(i))))
            }
        }

        #[inline(always)]
        unsafe fn weights(from: *const i8) -> [Halves; 2] {
            // SAFETY: 64 bytes, by contract.
            unsafe {
                [0, 32].map(|i| {
                    let w = _mm256_loadu_si256(from.add(i).cast());
                    Halves {
                        even: _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(w)),
                        odd: _mm256_srai_epi16::<8>(w),
                    }
                })
            }
        }

        #[inline(always)]
        unsafe fn inputs<const FLIP: bool>(from: *const u8) -> Halves {
            // SAFETY: four bytes, by contract.
            unsafe {
                let x = _mm256_set1_epi32(from.cast::<i32>().read_unaligned());
                let x = if FLIP {
                    _mm256_xor_si256(x, _mm256_set1_epi32(SIGNS as i32))
                } else {
                    x
                };
                Halves {
                    even: _mm256_and_si256(x, _mm256_set1_epi16(0xff)),
                    odd: _mm256_srli_epi16::<8>(x),
                }
            }
        }

        #[inline(always)]
        unsafe fn dot(mut self, w: [Halves; 2], x: Halves) -> Self {
            // SAFETY: AVX2 is enabled where this module exists.
            unsafe {
                for i in 0..2 {
                    let even = _mm256_madd_epi16(x.even, w[i].even);
                    let odd = _mm256_madd_epi16(x.odd, w[i].odd);
                    self.0[i] = _mm256_add_epi32(self.0[i], _mm256_add_epi32(even, odd));
                }
                self
            }
        }

        #[inline(always)]
        unsafe fn store(self, scale: *const f32, out: &Output, y: *mut u8, count: usize) {
            // SAFETY: sixteen scales and `count` results, by contract.
            unsafe {
                if count < 16 || out.shift != 0 {
                    let mut sums = [0; 16];
                    for i in 0..2 {
                        _mm256_storeu_si256(sums.as_mut_ptr().add(8 * i).cast(), self.0[i]);
                    }
                    return Plain(sums).store(scale, out, y, count);
                }
                let words = [0, 1].map(|i| {
                    let y = _mm256_mul_ps(_mm256_cvtepi32_ps(self.0[i]), _mm256_loadu_ps(scale.add(8 * i)));
                    let y = _mm256_max_ps(y, _mm256_set1_ps(out.low));
                    let y = _mm256_min_ps(y, _mm256_set1_ps(out.high));
                    let y = _mm256_add_epi32(_mm256_cvtps_epi32(y), _mm256_set1_epi32(out.zero));
                    // The low bytes, which neither narrowing changes.
                    _mm256_and_si256(y, _mm256_set1_epi32(0xff))
                });
                let words =
                    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(words[0], words[1]));
                let bytes = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(words, words));
                _mm_storeu_si128(y.cast(), _mm256_castsi256_si128(bytes));
            }
        }
    }
}

/// The best sums for the level this is compiled for, without features beyond it.
#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
pub type Best = Avx2;
/// The best sums for the level this is compiled for, without features beyond it.
#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
pub type Best = Plain;
