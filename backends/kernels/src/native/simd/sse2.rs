//! SSE2, which every x86-64 has: 4 lanes, no fused multiply-add.

use core::arch::x86_64::*;

#[derive(Clone, Copy)]
pub struct V(__m128);

/// A set of lanes.
#[derive(Clone, Copy)]
pub struct M(__m128);

// SAFETY (all functions): the caller vouches for the pointers; SSE2 belongs to the x86-64 baseline.
#[allow(
    unused_unsafe,
    reason = "value intrinsics are safe where their feature is enabled globally"
)]
impl V {
    pub const LANES: usize = 4;
    /// Vector columns of a full weight block.
    pub const COLUMNS: usize = 2;

    #[inline(always)]
    pub unsafe fn load(p: *const f32) -> V {
        unsafe { V(_mm_loadu_ps(p)) }
    }

    #[inline(always)]
    pub unsafe fn store(self, p: *mut f32) {
        unsafe { _mm_storeu_ps(p, self.0) }
    }

    /// The first `n` (0 to 4) elements at `p`, zero in the other lanes; nothing beyond `n` is read.
    #[inline(always)]
    pub unsafe fn load_n(p: *const f32, n: usize) -> V {
        unsafe {
            V(match n {
                0 => _mm_setzero_ps(),
                1 => _mm_load_ss(p),
                2 => _mm_castpd_ps(_mm_load_sd(p.cast())),
                3 => _mm_movelh_ps(_mm_castpd_ps(_mm_load_sd(p.cast())), _mm_load_ss(p.add(2))),
                _ => _mm_loadu_ps(p),
            })
        }
    }

    /// Writes the first `n` (0 to 4) lanes and nothing else.
    #[inline(always)]
    pub unsafe fn store_n(self, p: *mut f32, n: usize) {
        unsafe {
            match n {
                0 => {}
                1 => _mm_store_ss(p, self.0),
                2 => _mm_store_sd(p.cast(), _mm_castps_pd(self.0)),
                3 => {
                    _mm_store_sd(p.cast(), _mm_castps_pd(self.0));
                    _mm_store_ss(p.add(2), _mm_movehl_ps(self.0, self.0));
                }
                _ => _mm_storeu_ps(p, self.0),
            }
        }
    }

    /// A hint that the line at `p`, which need not be a valid address, will be read.
    #[inline(always)]
    pub unsafe fn prefetch(p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }

    #[inline(always)]
    pub unsafe fn splat(x: f32) -> V {
        unsafe { V(_mm_set1_ps(x)) }
    }

    /// `self * b + c`, rounded twice.
    #[inline(always)]
    pub unsafe fn mul_add(self, b: V, c: V) -> V {
        unsafe { V(_mm_add_ps(_mm_mul_ps(self.0, b.0), c.0)) }
    }

    #[inline(always)]
    pub unsafe fn add(self, b: V) -> V {
        unsafe { V(_mm_add_ps(self.0, b.0)) }
    }

    /// Whether [`V::mul_add`] rounds once.
    pub const FUSED: bool = false;

    #[inline(always)]
    pub unsafe fn sub(self, b: V) -> V {
        unsafe { V(_mm_sub_ps(self.0, b.0)) }
    }

    #[inline(always)]
    pub unsafe fn mul(self, b: V) -> V {
        unsafe { V(_mm_mul_ps(self.0, b.0)) }
    }

    #[inline(always)]
    pub unsafe fn div(self, b: V) -> V {
        unsafe { V(_mm_div_ps(self.0, b.0)) }
    }

    /// `other` where this is NaN.
    #[inline(always)]
    pub unsafe fn or(self, other: V) -> V {
        unsafe {
            let nan = _mm_cmpunord_ps(self.0, self.0);
            V(_mm_or_ps(_mm_andnot_ps(nan, self.0), _mm_and_ps(nan, other.0)))
        }
    }

    /// This where it is NaN, else `other`.
    #[inline(always)]
    pub unsafe fn if_nan_or(self, other: V) -> V {
        unsafe {
            let nan = _mm_cmpunord_ps(self.0, self.0);
            V(_mm_or_ps(_mm_and_ps(nan, self.0), _mm_andnot_ps(nan, other.0)))
        }
    }

    /// A byte per lane as numbers.
    #[inline(always)]
    pub unsafe fn bytes<const SIGNED: bool>(p: *const u8) -> V {
        unsafe {
            let x = _mm_cvtsi32_si128(p.cast::<i32>().read_unaligned());
            // The byte on top of its lane, then shifted down with its sign or without.
            let zero = _mm_setzero_si128();
            let x = _mm_unpacklo_epi16(zero, _mm_unpacklo_epi8(zero, x));
            let x = if SIGNED {
                _mm_srai_epi32::<24>(x)
            } else {
                _mm_srli_epi32::<24>(x)
            };
            V(_mm_cvtepi32_ps(x))
        }
    }

    /// The low bytes of the nearest integers, halves to even, plus `zero`.
    #[inline(always)]
    pub unsafe fn store_bytes(self, zero: i32, p: *mut u8) {
        unsafe {
            let x = _mm_add_epi32(_mm_cvtps_epi32(self.0), _mm_set1_epi32(zero));
            let x = _mm_and_si128(x, _mm_set1_epi32(0xff));
            let x = _mm_packs_epi32(x, x);
            let x = _mm_packus_epi16(x, x);
            p.cast::<i32>().write_unaligned(_mm_cvtsi128_si32(x));
        }
    }

    /// Larger of the two; `b` where either is NaN.
    #[inline(always)]
    pub unsafe fn max(self, b: V) -> V {
        unsafe { V(_mm_max_ps(self.0, b.0)) }
    }

    /// Smaller of the two; `b` where either is NaN.
    #[inline(always)]
    pub unsafe fn min(self, b: V) -> V {
        unsafe { V(_mm_min_ps(self.0, b.0)) }
    }

    /// Lanes where this is less than `b`; none where either is NaN.
    #[inline(always)]
    pub unsafe fn less(self, b: V) -> M {
        unsafe { M(_mm_cmplt_ps(self.0, b.0)) }
    }

    /// Lanes that are NaN.
    #[inline(always)]
    pub unsafe fn is_nan(self) -> M {
        unsafe { M(_mm_cmpunord_ps(self.0, self.0)) }
    }

    /// `self` in the lanes of `at`, `other` elsewhere.
    #[inline(always)]
    pub unsafe fn pick(self, at: M, other: V) -> V {
        unsafe { V(_mm_or_ps(_mm_and_ps(at.0, self.0), _mm_andnot_ps(at.0, other.0))) }
    }

    /// Magnitude.
    #[inline(always)]
    pub unsafe fn abs(self) -> V {
        unsafe { V(_mm_andnot_ps(_mm_set1_ps(-0.0), self.0)) }
    }

    /// The sign turned.
    #[inline(always)]
    pub unsafe fn neg(self) -> V {
        unsafe { V(_mm_xor_ps(_mm_set1_ps(-0.0), self.0)) }
    }

    /// This, which is not negative where `b` is not, with the signs of `b`.
    #[inline(always)]
    pub unsafe fn with_sign_of(self, b: V) -> V {
        unsafe { V(_mm_or_ps(_mm_and_ps(_mm_set1_ps(-0.0), b.0), self.0)) }
    }

    /// Square root.
    #[inline(always)]
    pub unsafe fn sqrt(self) -> V {
        unsafe { V(_mm_sqrt_ps(self.0)) }
    }

    /// Nearest integer, halves to even, of magnitudes below 2^21.
    #[inline(always)]
    pub unsafe fn nearest(self) -> V {
        unsafe { V(_mm_cvtepi32_ps(_mm_cvtps_epi32(self.0))) }
    }

    /// `self * 2^n`, rounded once, for integers `n` from -252 to 254.
    #[inline(always)]
    pub unsafe fn scale(self, n: V) -> V {
        unsafe {
            // Two factors, so that neither overflows; the first product is exact.
            let n = _mm_cvtps_epi32(n.0);
            let half = _mm_srai_epi32::<1>(n);
            let bias = _mm_set1_epi32(127);
            let first = _mm_slli_epi32::<23>(_mm_add_epi32(half, bias));
            let second = _mm_slli_epi32::<23>(_mm_add_epi32(_mm_sub_epi32(n, half), bias));
            let x = _mm_mul_ps(self.0, _mm_castsi128_ps(first));
            V(_mm_mul_ps(x, _mm_castsi128_ps(second)))
        }
    }

    /// Mantissa from 1/2 to below 1 and exponent of positive normal numbers.
    #[inline(always)]
    pub unsafe fn split(self) -> (V, V) {
        unsafe {
            let bits = _mm_castps_si128(self.0);
            let exponent = _mm_sub_epi32(_mm_srli_epi32::<23>(bits), _mm_set1_epi32(126));
            let mantissa = _mm_and_si128(bits, _mm_set1_epi32(0x007f_ffff));
            let mantissa = _mm_or_si128(mantissa, _mm_set1_epi32(0x3f00_0000));
            (V(_mm_castsi128_ps(mantissa)), V(_mm_cvtepi32_ps(exponent)))
        }
    }
}
