//! AVX-512F: 16 lanes, mask registers for partial vectors.

use core::arch::x86_64::*;

#[derive(Clone, Copy)]
pub struct V(__m512);

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
}

#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}
