//! AVX2 and FMA: 8 lanes, `vmaskmov` for partial vectors.

use core::arch::x86_64::*;

#[derive(Clone, Copy)]
pub struct V(__m256);

/// A set of lanes.
#[derive(Clone, Copy)]
pub struct M(__m256);

// SAFETY (all functions): the caller vouches for the pointers; the module is only built where AVX2 and FMA are enabled
// for the whole compilation, so the intrinsics are always callable.
#[allow(
    unused_unsafe,
    reason = "value intrinsics are safe where their feature is enabled globally"
)]
impl V {
    pub const LANES: usize = 8;
    /// Vector columns of a full weight block.
    pub const COLUMNS: usize = 2;

    #[inline(always)]
    pub unsafe fn load(p: *const f32) -> V {
        unsafe { V(_mm256_loadu_ps(p)) }
    }

    #[inline(always)]
    pub unsafe fn store(self, p: *mut f32) {
        unsafe { _mm256_storeu_ps(p, self.0) }
    }

    /// The first `n` (0 to 8) elements at `p`, zero in the other lanes; nothing beyond `n` is read.
    #[inline(always)]
    pub unsafe fn load_n(p: *const f32, n: usize) -> V {
        unsafe { V(_mm256_maskload_ps(p, mask(n))) }
    }

    /// Writes the first `n` (0 to 8) lanes and nothing else.
    #[inline(always)]
    pub unsafe fn store_n(self, p: *mut f32, n: usize) {
        unsafe { _mm256_maskstore_ps(p, mask(n), self.0) }
    }

    /// A hint that the line at `p`, which need not be a valid address, will be read.
    #[inline(always)]
    pub unsafe fn prefetch(p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }

    #[inline(always)]
    pub unsafe fn splat(x: f32) -> V {
        unsafe { V(_mm256_set1_ps(x)) }
    }

    /// `self * b + c`, rounded once.
    #[inline(always)]
    pub unsafe fn mul_add(self, b: V, c: V) -> V {
        unsafe { V(_mm256_fmadd_ps(self.0, b.0, c.0)) }
    }

    #[inline(always)]
    pub unsafe fn add(self, b: V) -> V {
        unsafe { V(_mm256_add_ps(self.0, b.0)) }
    }

    /// Whether [`V::mul_add`] rounds once.
    pub const FUSED: bool = true;

    #[inline(always)]
    pub unsafe fn sub(self, b: V) -> V {
        unsafe { V(_mm256_sub_ps(self.0, b.0)) }
    }

    #[inline(always)]
    pub unsafe fn mul(self, b: V) -> V {
        unsafe { V(_mm256_mul_ps(self.0, b.0)) }
    }

    #[inline(always)]
    pub unsafe fn div(self, b: V) -> V {
        unsafe { V(_mm256_div_ps(self.0, b.0)) }
    }

    /// `other` where this is NaN.
    #[inline(always)]
    pub unsafe fn or(self, other: V) -> V {
        unsafe {
            let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0);
            V(_mm256_blendv_ps(self.0, other.0, nan))
        }
    }

    /// This where it is NaN, else `other`.
    #[inline(always)]
    pub unsafe fn if_nan_or(self, other: V) -> V {
        unsafe {
            let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0);
            V(_mm256_blendv_ps(other.0, self.0, nan))
        }
    }

    /// A byte per lane as numbers.
    #[inline(always)]
    pub unsafe fn bytes<const SIGNED: bool>(p: *const u8) -> V {
        unsafe {
            let x = _mm_loadl_epi64(p.cast());
            let x = if SIGNED {
                _mm256_cvtepi8_epi32(x)
            } else {
                _mm256_cvtepu8_epi32(x)
            };
            V(_mm256_cvtepi32_ps(x))
        }
    }

    /// The low bytes of the nearest integers, halves to even, plus `zero`.
    #[inline(always)]
    pub unsafe fn store_bytes(self, zero: i32, p: *mut u8) {
        unsafe {
            let x = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(zero));
            // Within each half the low bytes to its first four.
            let low = _mm256_set1_epi32(0x0c08_0400);
            let x = _mm256_shuffle_epi8(x, low);
            let x = _mm_unpacklo_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
            _mm_storel_epi64(p.cast(), x);
        }
    }

    /// Larger of the two; `b` where either is NaN.
    #[inline(always)]
    pub unsafe fn max(self, b: V) -> V {
        unsafe { V(_mm256_max_ps(self.0, b.0)) }
    }

    /// Smaller of the two; `b` where either is NaN.
    #[inline(always)]
    pub unsafe fn min(self, b: V) -> V {
        unsafe { V(_mm256_min_ps(self.0, b.0)) }
    }

    /// Lanes where this is less than `b`; none where either is NaN.
    #[inline(always)]
    pub unsafe fn less(self, b: V) -> M {
        unsafe { M(_mm256_cmp_ps::<_CMP_LT_OQ>(self.0, b.0)) }
    }

    /// Lanes that are NaN.
    #[inline(always)]
    pub unsafe fn is_nan(self) -> M {
        unsafe { M(_mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0)) }
    }

    /// `self` in the lanes of `at`, `other` elsewhere.
    #[inline(always)]
    pub unsafe fn pick(self, at: M, other: V) -> V {
        unsafe { V(_mm256_blendv_ps(other.0, self.0, at.0)) }
    }

    /// Magnitude.
    #[inline(always)]
    pub unsafe fn abs(self) -> V {
        unsafe { V(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0)) }
    }

    /// The sign turned.
    #[inline(always)]
    pub unsafe fn neg(self) -> V {
        unsafe { V(_mm256_xor_ps(_mm256_set1_ps(-0.0), self.0)) }
    }

    /// This, which is not negative where `b` is not, with the signs of `b`.
    #[inline(always)]
    pub unsafe fn with_sign_of(self, b: V) -> V {
        unsafe { V(_mm256_or_ps(_mm256_and_ps(_mm256_set1_ps(-0.0), b.0), self.0)) }
    }

    /// Square root.
    #[inline(always)]
    pub unsafe fn sqrt(self) -> V {
        unsafe { V(_mm256_sqrt_ps(self.0)) }
    }

    /// Nearest integer, halves to even, of magnitudes below 2^21.
    #[inline(always)]
    pub unsafe fn nearest(self) -> V {
        unsafe { V(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)) }
    }

    /// `self * 2^n`, rounded once, for integers `n` from -252 to 254.
    #[inline(always)]
    pub unsafe fn scale(self, n: V) -> V {
        unsafe {
            // Two factors, so that neither overflows; the first product is exact.
            let n = _mm256_cvtps_epi32(n.0);
            let half = _mm256_srai_epi32::<1>(n);
            let bias = _mm256_set1_epi32(127);
            let first = _mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias));
            let second = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_sub_epi32(n, half), bias));
            let x = _mm256_mul_ps(self.0, _mm256_castsi256_ps(first));
            V(_mm256_mul_ps(x, _mm256_castsi256_ps(second)))
        }
    }

    /// Mantissa from 1/2 to below 1 and exponent of positive normal numbers.
    #[inline(always)]
    pub unsafe fn split(self) -> (V, V) {
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let exponent = _mm256_sub_epi32(_mm256_srli_epi32::<23>(bits), _mm256_set1_epi32(126));
            let mantissa = _mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff));
            let mantissa = _mm256_or_si256(mantissa, _mm256_set1_epi32(0x3f00_0000));
            (V(_mm256_castsi256_ps(mantissa)), V(_mm256_cvtepi32_ps(exponent)))
        }
    }
}

#[inline(always)]
unsafe fn mask(n: usize) -> __m256i {
    unsafe {
        _mm256_cmpgt_epi32(
            _mm256_set1_epi32(n as i32),
            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
        )
    }
}
