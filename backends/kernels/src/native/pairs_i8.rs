//! Sums of products of pairs of 16-bit integers, many channels at a time: for AVX2 and AVX-512.
//!
//! Interleaving two rows of channels leaves the channels in an order of its own, in two registers; sums, scales and
//! results stay in that order until bytes are stored.

use super::lanes_i8::Output;

/// Vectors of 16-bit words, pairs of them, and their sums.
///
/// # Safety
/// Implementations may need CPU features; pointers must be valid for `CHANNELS` elements.
pub trait Pairs: Copy {
    /// Channels at a time; 0 if there are no such vectors.
    const CHANNELS: usize;
    /// A word per channel.
    type Words: Copy;
    /// Two words per channel.
    type Pair: Copy;
    /// A 32-bit sum per channel, which wraps.
    type Sums: Copy;
    /// A factor per channel.
    type Scales: Copy;
    unsafe fn zero() -> Self::Words;
    unsafe fn splat(x: i16) -> Self::Words;
    unsafe fn words(from: *const i16) -> Self::Words;
    /// Bytes, widened.
    unsafe fn bytes<const SIGNED: bool>(from: *const u8) -> Self::Words;
    unsafe fn pair(a: Self::Words, b: Self::Words) -> Self::Pair;
    unsafe fn sums(from: *const i32) -> Self::Sums;
    unsafe fn scales(from: *const f32) -> Self::Scales;
    /// `sums + x.0 * w.0 + x.1 * w.1`
    unsafe fn add(sums: Self::Sums, x: Self::Pair, w: Self::Pair) -> Self::Sums;
    /// `sums - x.0 * w.0 - x.1 * w.1`
    unsafe fn subtract(sums: Self::Sums, x: Self::Pair, w: Self::Pair) -> Self::Sums;
    /// Requantises (see `docs/integer.md`) and stores.
    unsafe fn store(sums: Self::Sums, scales: Self::Scales, out: &Output, y: *mut u8);
}

/// No vectors.
#[derive(Clone, Copy)]
pub struct None;

impl Pairs for None {
    const CHANNELS: usize = 0;
    type Words = ();
    type Pair = ();
    type Sums = ();
    type Scales = ();
    unsafe fn zero() {}
    unsafe fn splat(_: i16) {}
    unsafe fn words(_: *const i16) {}
    unsafe fn bytes<const SIGNED: bool>(_: *const u8) {}
    unsafe fn pair((): (), (): ()) {}
    unsafe fn sums(_: *const i32) {}
    unsafe fn scales(_: *const f32) {}
    unsafe fn add((): (), (): (), (): ()) {}
    unsafe fn subtract((): (), (): (), (): ()) {}
    unsafe fn store((): (), (): (), _: &Output, _: *mut u8) {}
}

#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
mod avx2 {
    use super::super::lanes_i8::requantise;
    use super::{Output, Pairs};
    use core::arch::x86_64::*;

    /// Sixteen channels.
    #[derive(Clone, Copy)]
    pub struct Avx2;

    impl Pairs for Avx2 {
        const CHANNELS: usize = 16;
        type Words = __m256i;
        type Pair = [__m256i; 2];
        type Sums = [__m256i; 2];
        type Scales = [__m256; 2];

        #[inline(always)]
        unsafe fn zero() -> __m256i {
            // SAFETY: AVX2 is enabled where this module exists.
            unsafe { _mm256_setzero_si256() }
        }
        #[inline(always)]
        unsafe fn splat(x: i16) -> __m256i {
            // SAFETY: as in `zero`.
            unsafe { _mm256_set1_epi16(x) }
        }
        #[inline(always)]
        unsafe fn words(from: *const i16) -> __m256i {
            // SAFETY: sixteen elements, by contract.
            unsafe { _mm256_loadu_si256(from.cast()) }
        }
        #[inline(always)]
        unsafe fn bytes<const SIGNED: bool>(from: *const u8) -> __m256i {
            // SAFETY: sixteen elements, by contract.
            unsafe {
                let bytes = _mm_loadu_si128(from.cast());
                if SIGNED {
                    _mm256_cvtepi8_epi16(bytes)
                } else {
                    _mm256_cvtepu8_epi16(bytes)
                }
            }
        }
        #[inline(always)]
        unsafe fn pair(a: __m256i, b: __m256i) -> [__m256i; 2] {
            // SAFETY: as in `zero`.
            unsafe { [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)] }
        }
        #[inline(always)]
        unsafe fn sums(from: *const i32) -> [__m256i; 2] {
            // SAFETY: sixteen elements, by contract.
            unsafe {
                let [a, b] = [0, 8].map(|i| _mm256_loadu_si256(from.add(i).cast()));
                [
                    _mm256_permute2x128_si256::<0x20>(a, b),
                    _mm256_permute2x128_si256::<0x31>(a, b),
                ]
            }
        }
        #[inline(always)]
        unsafe fn scales(from: *const f32) -> [__m256; 2] {
            // SAFETY: sixteen elements, by contract; their bits are moved.
            unsafe { Self::sums(from.cast()).map(|x| _mm256_castsi256_ps(x)) }
        }
        #[inline(always)]
        unsafe fn add(sums: [__m256i; 2], x: [__m256i; 2], w: [__m256i; 2]) -> [__m256i; 2] {
            // SAFETY: as in `zero`.
            unsafe { [0, 1].map(|i| _mm256_add_epi32(sums[i], _mm256_madd_epi16(x[i], w[i]))) }
        }
        #[inline(always)]
        unsafe fn subtract(sums: [__m256i; 2], x: [__m256i; 2], w: [__m256i; 2]) -> [__m256i; 2] {
            // SAFETY: as in `zero`.
            unsafe { [0, 1].map(|i| _mm256_sub_epi32(sums[i], _mm256_madd_epi16(x[i], w[i]))) }
        }
        #[inline(always)]
        unsafe fn store(sums: [__m256i; 2], scales: [__m256; 2], out: &Output, y: *mut u8) {
            // SAFETY: sixteen elements, by contract.
            unsafe {
                if out.shift != 0 {
                    let (mut integers, mut factors) = ([0i32; 16], [0f32; 16]);
                    for i in 0..2 {
                        _mm256_storeu_si256(integers.as_mut_ptr().add(8 * i).cast(), sums[i]);
                        _mm256_storeu_ps(factors.as_mut_ptr().add(8 * i), scales[i]);
                    }
                    for i in 0..16 {
                        // Four of the first register, four of the second, and so on.
                        let at = i / 8 * 4 + i / 4 % 2 * 8 + i % 4;
                        *y.add(i) = requantise(integers[at], factors[at], out);
                    }
                    return;
                }
                let [a, b] = [0, 1].map(|i| {
                    let y = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[i]), scales[i]);
                    let y = _mm256_max_ps(y, _mm256_set1_ps(out.low));
                    let y = _mm256_min_ps(y, _mm256_set1_ps(out.high));
                    _mm256_cvtps_epi32(y)
                });
                // In the order of the channels again. The low bytes are what is stored.
                let words = _mm256_add_epi16(_mm256_packs_epi32(a, b), _mm256_set1_epi16(out.zero as i16));
                let words = _mm256_and_si256(words, _mm256_set1_epi16(0xff));
                let bytes = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(words, words));
                _mm_storeu_si128(y.cast(), _mm256_castsi256_si128(bytes));
            }
        }
    }
}

#[cfg(all(
    target_arch = "x86_64",
    target_feature = "avx512vl",
    target_feature = "avx512bw"
))]
pub use avx512::Avx512;

#[cfg(all(
    target_arch = "x86_64",
    target_feature = "avx512vl",
    target_feature = "avx512bw"
))]
mod avx512 {
    use super::super::lanes_i8::shifted;
    use super::{Output, Pairs};
    use core::arch::x86_64::*;

    /// Thirty-two channels; with `VNNI`, the CPU must have AVX-512 VNNI.
    #[derive(Clone, Copy)]
    pub struct Avx512<const VNNI: bool>;

    impl<const VNNI: bool> Pairs for Avx512<VNNI> {
        const CHANNELS: usize = 32;
        type Words = __m512i;
        type Pair = [__m512i; 2];
        type Sums = [__m512i; 2];
        type Scales = [__m512; 2];

        #[inline(always)]
        unsafe fn zero() -> __m512i {
            // SAFETY: AVX-512 is enabled where this module exists.
            unsafe { _mm512_setzero_si512() }
        }
        #[inline(always)]
        unsafe fn splat(x: i16) -> __m512i {
            // SAFETY: as in `zero`.
            unsafe { _mm512_set1_epi16(x) }
        }
        #[inline(always)]
        unsafe fn words(from: *const i16) -> __m512i {
            // SAFETY: 32 elements, by contract.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }
        #[inline(always)]
        unsafe fn bytes<const SIGNED: bool>(from: *const u8) -> __m512i {
            // SAFETY: 32 elements, by contract.
            unsafe {
                let bytes = _mm256_loadu_si256(from.cast());
                if SIGNED {
                    _mm512_cvtepi8_epi16(bytes)
                } else {
                    _mm512_cvtepu8_epi16(bytes)
                }
            }
        }
        #[inline(always)]
        unsafe fn pair(a: __m512i, b: __m512i) -> [__m512i; 2] {
            // SAFETY: as in `zero`.
            unsafe { [_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b)] }
        }
        #[inline(always)]
        unsafe fn sums(from: *const i32) -> [__m512i; 2] {
            // SAFETY: 32 elements, by contract.
            unsafe {
                let [a, b] = [0, 16].map(|i| _mm512_loadu_si512(from.add(i).cast()));
                [
                    _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b),
                    _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b),
                ]
            }
        }
        #[inline(always)]
        unsafe fn scales(from: *const f32) -> [__m512; 2] {
            // SAFETY: 32 elements, by contract; their bits are moved.
            unsafe { Self::sums(from.cast()).map(|x| _mm512_castsi512_ps(x)) }
        }
        #[inline(always)]
        unsafe fn add(sums: [__m512i; 2], x: [__m512i; 2], w: [__m512i; 2]) -> [__m512i; 2] {
            // SAFETY: as in `zero`; with VNNI the CPU has it.
            unsafe {
                if VNNI {
                    [
                        _mm512_dpwssd_epi32(sums[0], x[0], w[0]),
                        _mm512_dpwssd_epi32(sums[1], x[1], w[1]),
                    ]
                } else {
                    [
                        _mm512_add_epi32(sums[0], _mm512_madd_epi16(x[0], w[0])),
                        _mm512_add_epi32(sums[1], _mm512_madd_epi16(x[1], w[1])),
                    ]
                }
            }
        }
        #[inline(always)]
        unsafe fn subtract(sums: [__m512i; 2], x: [__m512i; 2], w: [__m512i; 2]) -> [__m512i; 2] {
            // SAFETY: as in `zero`.
            unsafe { [0, 1].map(|i| _mm512_sub_epi32(sums[i], _mm512_madd_epi16(x[i], w[i]))) }
        }
        #[inline(always)]
        unsafe fn store(sums: [__m512i; 2], scales: [__m512; 2], out: &Output, y: *mut u8) {
            // SAFETY: 32 elements, by contract.
            unsafe {
                let [a, b] = [0, 1].map(|i| {
                    if out.shift != 0 {
                        return shifted(sums[i], _mm512_castps_si512(scales[i]), out);
                    }
                    let y = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[i]), scales[i]);
                    let y = _mm512_max_ps(y, _mm512_set1_ps(out.low));
                    let y = _mm512_min_ps(y, _mm512_set1_ps(out.high));
                    _mm512_cvtps_epi32(y)
                });
                // In the order of the channels again. The low bytes are what is stored.
                let words = _mm512_add_epi16(_mm512_packs_epi32(a, b), _mm512_set1_epi16(out.zero as i16));
                _mm256_storeu_si256(y.cast(), _mm512_cvtepi16_epi8(words));
            }
        }
    }
}

/// The best vectors for the level this is compiled for, without features beyond it.
#[cfg(all(target_arch = "x86_64", target_feature = "avx512bw"))]
pub type BestPairs = avx512::Avx512<false>;
/// The best vectors for the level this is compiled for, without features beyond it.
#[cfg(all(
    target_arch = "x86_64",
    target_feature = "avx2",
    not(target_feature = "avx512bw")
))]
pub type BestPairs = avx2::Avx2;
/// The best vectors for the level this is compiled for, without features beyond it.
#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
pub type BestPairs = None;
