//! AVX-512F: 16 lanes, mask registers for partial vectors.

use core::arch::x86_64::*;

#[derive(Clone, Copy)]
pub struct V(__m512);

/// A set of lanes.
#[derive(Clone, Copy)]
pub struct M(__mmask16);

// SAFETY (all functions): the caller vouches for the pointers; the module is only built where AVX-512F is enabled
// for the whole compilation, so the intrinsics are always callable.
#[allow(
    unused_unsafe,
    reason = "value intrinsics are safe where their feature is enabled globally"
)]
impl V {
    pub const LANES: usize = 16;
    /// Vector columns of a full weight block.
    pub const COLUMNS: usize = 4;

    #[inline(always)]
    pub unsafe fn load(p: *const f32) -> V {
        unsafe { V(_mm512_loadu_ps(p)) }
    }

    #[inline(always)]
    pub unsafe fn store(self, p: *mut f32) {
        unsafe { _mm512_storeu_ps(p, self.0) }
    }

    /// The first `n` (0 to 16) elements at `p`, zero in the other lanes; nothing beyond `n` is read.
    #[inline(always)]
    pub unsafe fn load_n(p: *const f32, n: usize) -> V {
        unsafe { V(_mm512_maskz_loadu_ps(mask(n), p)) }
    }

    /// Writes the first `n` (0 to 16) lanes and nothing else.
    #[inline(always)]
    pub unsafe fn store_n(self, p: *mut f32, n: usize) {
        unsafe { _mm512_mask_storeu_ps(p, mask(n), self.0) }
    }

    /// A hint that the line at `p`, which need not be a valid address, will be read.
    #[inline(always)]
    pub unsafe fn prefetch(p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }

    #[inline(always)]
    pub unsafe fn splat(x: f32) -> V {
        unsafe { V(_mm512_set1_ps(x)) }
    }

    /// `self * b + c`, rounded once.
    #[inline(always)]
    pub unsafe fn mul_add(self, b: V, c: V) -> V {
        unsafe { V(_mm512_fmadd_ps(self.0, b.0, c.0)) }
    }

    #[inline(always)]
    pub unsafe fn add(self, b: V) -> V {
        unsafe { V(_mm512_add_ps(self.0, b.0)) }
    }

    /// Whether [`V::mul_add`] rounds once.
    pub const FUSED: bool = true;

    #[inline(always)]
    pub unsafe fn sub(self, b: V) -> V {
        unsafe { V(_mm512_sub_ps(self.0, b.0)) }
    }

    #[inline(always)]
    pub unsafe fn mul(self, b: V) -> V {
        unsafe { V(_mm512_mul_ps(self.0, b.0)) }
    }

    #[inline(always)]
    pub unsafe fn div(self, b: V) -> V {
        unsafe { V(_mm512_div_ps(self.0, b.0)) }
    }

    /// `other` where this is NaN.
    #[inline(always)]
    pub unsafe fn or(self, other: V) -> V {
        unsafe {
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            V(_mm512_mask_blend_ps(nan, self.0, other.0))
        }
    }

    /// This where it is NaN, else `other`.
    #[inline(always)]
    pub unsafe fn if_nan_or(self, other: V) -> V {
        unsafe {
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            V(_mm512_mask_blend_ps(nan, other.0, self.0))
        }
    }

    /// A byte per lane as numbers.
    #[inline(always)]
    pub unsafe fn bytes<const SIGNED: bool>(p: *const u8) -> V {
        unsafe {
            let x = _mm_loadu_si128(p.cast());
            let x = if SIGNED {
                _mm512_cvtepi8_epi32(x)
            } else {
                _mm512_cvtepu8_epi32(x)
            };
            V(_mm512_cvtepi32_ps(x))
        }
    }

    /// The low bytes of the nearest integers, halves to even, plus `zero`.
    #[inline(always)]
    pub unsafe fn store_bytes(self, zero: i32, p: *mut u8) {
        unsafe {
            let x = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(zero));
            _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(x));
        }
    }

    /// Larger of the two; `b` where either is NaN.
    #[inline(always)]
    pub unsafe fn max(self, b: V) -> V {
        unsafe { V(_mm512_max_ps(self.0, b.0)) }
    }

    /// Smaller of the two; `b` where either is NaN.
    #[inline(always)]
    pub unsafe fn min(self, b: V) -> V {
        unsafe { V(_mm512_min_ps(self.0, b.0)) }
    }

    /// Lanes where this is less than `b`; none where either is NaN.
    #[inline(always)]
    pub unsafe fn less(self, b: V) -> M {
        unsafe { M(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, b.0)) }
    }

    /// Lanes that are NaN.
    #[inline(always)]
    pub unsafe fn is_nan(self) -> M {
        unsafe { M(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0)) }
    }

    /// `self` in the lanes of `at`, `other` elsewhere.
    #[inline(always)]
    pub unsafe fn pick(self, at: M, other: V) -> V {
        unsafe { V(_mm512_mask_blend_ps(at.0, other.0, self.0)) }
    }

    /// Magnitude.
    #[inline(always)]
    pub unsafe fn abs(self) -> V {
        unsafe { V(_mm512_abs_ps(self.0)) }
    }

    /// The sign turned.
    #[inline(always)]
    pub unsafe fn neg(self) -> V {
        unsafe {
            let sign = _mm512_set1_epi32(i32::MIN);
            V(_mm512_castsi512_ps(_mm512_xor_epi32(
                _mm512_castps_si512(self.0),
                sign,
            )))
        }
    }

    /// This, which is not negative where `b` is not, with the signs of `b`.
    #[inline(always)]
    pub unsafe fn with_sign_of(self, b: V) -> V {
        unsafe {
            let sign = _mm512_and_epi32(_mm512_castps_si512(b.0), _mm512_set1_epi32(i32::MIN));
            V(_mm512_castsi512_ps(_mm512_or_epi32(
                _mm512_castps_si512(self.0),
                sign,
            )))
        }
    }

    /// Square root.
    #[inline(always)]
    pub unsafe fn sqrt(self) -> V {
        unsafe { V(_mm512_sqrt_ps(self.0)) }
    }

    /// Nearest integer, halves to even, of magnitudes below 2^21.
    #[inline(always)]
    pub unsafe fn nearest(self) -> V {
        unsafe {
            V(_mm512_roundscale_ps::<
                { _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC },
            >(self.0))
        }
    }

    /// `self * 2^n`, rounded once, for integers `n` from -252 to 254.
    #[inline(always)]
    pub unsafe fn scale(self, n: V) -> V {
        unsafe { V(_mm512_scalef_ps(self.0, n.0)) }
    }

    /// Mantissa from 1/2 to below 1 and exponent of positive normal numbers.
    #[inline(always)]
    pub unsafe fn split(self) -> (V, V) {
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let exponent = _mm512_sub_epi32(_mm512_srli_epi32::<23>(bits), _mm512_set1_epi32(126));
            let mantissa = _mm512_and_epi32(bits, _mm512_set1_epi32(0x007f_ffff));
            let mantissa = _mm512_or_epi32(mantissa, _mm512_set1_epi32(0x3f00_0000));
            (V(_mm512_castsi512_ps(mantissa)), V(_mm512_cvtepi32_ps(exponent)))
        }
    }
}

#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}
