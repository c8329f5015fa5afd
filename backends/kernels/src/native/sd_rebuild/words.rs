//! Vectors of 16-bit words: what rows of codes are decoded with.

/// Lanes of 16 bits.
///
/// # Safety
/// Implementations may need CPU features; pointers must be valid for `LANES` elements.
pub trait Words: Copy {
    /// Lanes.
    const LANES: usize;
    /// Sixteen integers to choose from.
    type Table: Copy;
    /// A divisor.
    type Divisor: Copy;
    /// Filters whose words are fetched together; 0 if each has its own loads.
    const TOGETHER: usize;
    /// For each of `TOGETHER` filters the 64 bits from bit `at` of the bytes on, at least 57 of them right, and advances `at` by `step`; the
    /// lowest 16 go to `to[0]`, those `bits` higher to `to[1]` and so on, one filter beside the other.
    unsafe fn fetch(bytes: *const u8, at: *mut usize, step: usize, bits: usize, to: &[*mut u16]);
    unsafe fn table(values: &[i8; 16]) -> Self::Table;
    /// A divisor from 3 to 15, odd, for dividends below 2^16 that are below a power of it.
    unsafe fn divisor(divisor: u32) -> Self::Divisor;
    unsafe fn splat(x: i16) -> Self;
    unsafe fn load(from: *const i16) -> Self;
    unsafe fn and(self, other: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    /// Low halves of products.
    unsafe fn mul(self, other: Self) -> Self;
    /// Four bits lower, unsigned.
    unsafe fn next_nibble(self) -> Self;
    unsafe fn quotient(self, by: Self::Divisor) -> Self;
    /// The integer at each lane's number, which is below 16.
    unsafe fn pick(self, table: Self::Table) -> Self;
    /// As `pick` for the lowest four bits; the others do not count.
    unsafe fn pick_nibble(self, table: Self::Table) -> Self;
    /// Adds itself where `double` has ones, multiplies by `factor`, and stores the nearest multiples of 2^-15, halves up, as bytes that
    /// saturate.
    unsafe fn store(self, double: Self, factor: Self, to: *mut i8);
}

/// Reciprocal and shift such that `x / divisor = x * reciprocal >> (16 + shift)`.
#[inline(always)]
pub const fn reciprocal(divisor: u32) -> (u32, u32) {
    let shift = divisor.ilog2();
    match (1u32 << (16 + shift)).checked_div(divisor) {
        Some(quotient) => (quotient + 1, shift),
        None => (0, 0),
    }
}

// What the factor is too large by must not reach a multiple of the divisor for any dividend.
const _: () = {
    let mut divisor = 3;
    while divisor <= 15 {
        let (factor, shift) = reciprocal(divisor);
        let unit = 1u64 << (16 + shift);
        let mut end = 1u64;
        while end * divisor as u64 <= 1 << 16 {
            end *= divisor as u64;
        }
        let excess = factor as u64 * divisor as u64 - unit;
        assert!(factor < 1 << 16 && excess * (end - 1) < unit);
        divisor += 2;
    }
};

#[cfg(all(
    target_arch = "x86_64",
    target_feature = "avx512vl",
    target_feature = "avx512bw",
    not(miri)
))]
mod avx512 {
    use super::{Words, reciprocal};
    use core::arch::x86_64::*;

    #[derive(Clone, Copy)]
    pub struct Avx512(__m512i);

    // SAFETY (all functions): AVX-512 is enabled where this module exists; pointers are the caller's.
    #[allow(
        unused_unsafe,
        reason = "value intrinsics are safe where their feature is enabled globally"
    )]
    impl Words for Avx512 {
        const LANES: usize = 32;
        const TOGETHER: usize = 8;

        #[inline(always)]
        unsafe fn fetch(bytes: *const u8, at: *mut usize, step: usize, bits: usize, to: &[*mut u16]) {
            unsafe {
                let first = _mm512_loadu_si512(at.cast());
                _mm512_storeu_si512(at.cast(), _mm512_add_epi64(first, _mm512_set1_epi64(step as i64)));
                let words = _mm512_i64gather_epi64::<1>(_mm512_srli_epi64::<3>(first), bytes.cast());
                let mut words = _mm512_srlv_epi64(words, _mm512_and_si512(first, _mm512_set1_epi64(7)));
                for &to in to {
                    _mm_storeu_si128(to.cast(), _mm512_cvtepi64_epi16(words));
                    words = _mm512_srlv_epi64(words, _mm512_set1_epi64(bits as i64));
                }
            }
        }
        type Table = __m512i;
        type Divisor = [__m512i; 2];

        #[inline(always)]
        unsafe fn table(values: &[i8; 16]) -> __m512i {
            unsafe {
                let words = _mm256_cvtepi8_epi16(_mm_loadu_si128(values.as_ptr().cast()));
                _mm512_broadcast_i64x4(words)
            }
        }
        #[inline(always)]
        unsafe fn divisor(divisor: u32) -> [__m512i; 2] {
            let (factor, shift) = reciprocal(divisor);
            unsafe { [_mm512_set1_epi16(factor as i16), _mm512_set1_epi16(shift as i16)] }
        }
        #[inline(always)]
        unsafe fn splat(x: i16) -> Self {
            unsafe { Self(_mm512_set1_epi16(x)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const i16) -> Self {
            unsafe { Self(_mm512_loadu_si512(from.cast())) }
        }
        #[inline(always)]
        unsafe fn and(self, other: Self) -> Self {
            unsafe { Self(_mm512_and_si512(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(_mm512_add_epi16(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Self(_mm512_sub_epi16(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm512_mullo_epi16(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn next_nibble(self) -> Self {
            unsafe { Self(_mm512_srli_epi16::<4>(self.0)) }
        }
        #[inline(always)]
        unsafe fn quotient(self, by: [__m512i; 2]) -> Self {
            unsafe { Self(_mm512_srlv_epi16(_mm512_mulhi_epu16(self.0, by[0]), by[1])) }
        }
        #[inline(always)]
        unsafe fn pick(self, table: __m512i) -> Self {
            unsafe { Self(_mm512_permutexvar_epi16(self.0, table)) }
        }
        #[inline(always)]
        unsafe fn pick_nibble(self, table: __m512i) -> Self {
            // The table is there twice, so that the fifth bit does not count either.
            unsafe { self.pick(table) }
        }
        #[inline(always)]
        unsafe fn store(self, double: Self, factor: Self, to: *mut i8) {
            unsafe {
                let sum = _mm512_adds_epi16(self.0, _mm512_and_si512(self.0, double.0));
                let rounded = _mm512_mulhrs_epi16(sum, factor.0);
                _mm256_storeu_si256(to.cast(), _mm512_cvtsepi16_epi8(rounded));
            }
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_feature = "avx2", not(miri)))]
mod avx2 {
    use super::{Words, reciprocal};
    use core::arch::x86_64::*;

    #[derive(Clone, Copy)]
    pub struct Avx2(__m256i);

    // SAFETY (all functions): AVX2 is enabled where this module exists; pointers are the caller's.
    #[allow(
        unused_unsafe,
        reason = "value intrinsics are safe where their feature is enabled globally"
    )]
    impl Words for Avx2 {
        const LANES: usize = 16;
        const TOGETHER: usize = 0;

        #[inline(always)]
        unsafe fn fetch(_: *const u8, _: *mut usize, _: usize, _: usize, _: &[*mut u16]) {}
        type Table = __m256i;
        type Divisor = (__m256i, __m128i);

        #[inline(always)]
        unsafe fn table(values: &[i8; 16]) -> __m256i {
            unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(values.as_ptr().cast())) }
        }
        #[inline(always)]
        unsafe fn divisor(divisor: u32) -> (__m256i, __m128i) {
            let (factor, shift) = reciprocal(divisor);
            unsafe { (_mm256_set1_epi16(factor as i16), _mm_cvtsi32_si128(shift as i32)) }
        }
        #[inline(always)]
        unsafe fn splat(x: i16) -> Self {
            unsafe { Self(_mm256_set1_epi16(x)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const i16) -> Self {
            unsafe { Self(_mm256_loadu_si256(from.cast())) }
        }
        #[inline(always)]
        unsafe fn and(self, other: Self) -> Self {
            unsafe { Self(_mm256_and_si256(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(_mm256_add_epi16(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Self(_mm256_sub_epi16(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm256_mullo_epi16(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn next_nibble(self) -> Self {
            unsafe { Self(_mm256_srli_epi16::<4>(self.0)) }
        }
        #[inline(always)]
        unsafe fn quotient(self, by: (__m256i, __m128i)) -> Self {
            unsafe { Self(_mm256_srl_epi16(_mm256_mulhi_epu16(self.0, by.0), by.1)) }
        }
        #[inline(always)]
        unsafe fn pick(self, table: __m256i) -> Self {
            unsafe {
                // The low byte of each lane is the integer; it spreads its sign over the high one.
                let low = _mm256_shuffle_epi8(table, self.0);
                Self(_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(low)))
            }
        }
        #[inline(always)]
        unsafe fn pick_nibble(self, table: __m256i) -> Self {
            unsafe { self.and(Self::splat(15)).pick(table) }
        }
        #[inline(always)]
        unsafe fn store(self, double: Self, factor: Self, to: *mut i8) {
            unsafe {
                let sum = _mm256_adds_epi16(self.0, _mm256_and_si256(self.0, double.0));
                let rounded = _mm256_mulhrs_epi16(sum, factor.0);
                let bytes = _mm256_permute4x64_epi64::<0b10_00>(_mm256_packs_epi16(rounded, rounded));
                _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(bytes));
            }
        }
    }
}

/// Plain arrays, for the compiler to vectorise.
#[derive(Clone, Copy)]
pub struct Plain([i16; 8]);

impl Plain {
    #[inline(always)]
    fn with(self, f: impl Fn(i16) -> i16) -> Self {
        Self(self.0.map(f))
    }

    #[inline(always)]
    fn zip(mut self, other: Self, f: impl Fn(i16, i16) -> i16) -> Self {
        for l in 0..8 {
            self.0[l] = f(self.0[l], other.0[l]);
        }
        self
    }
}

impl Words for Plain {
    const LANES: usize = 8;
    const TOGETHER: usize = 0;

    #[inline(always)]
    unsafe fn fetch(_: *const u8, _: *mut usize, _: usize, _: usize, _: &[*mut u16]) {}
    type Table = [i8; 16];
    type Divisor = (u32, u32);

    #[inline(always)]
    unsafe fn table(values: &[i8; 16]) -> [i8; 16] {
        *values
    }
    #[inline(always)]
    unsafe fn divisor(divisor: u32) -> (u32, u32) {
        reciprocal(divisor)
    }
    #[inline(always)]
    unsafe fn splat(x: i16) -> Self {
        Self([x; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const i16) -> Self {
        let mut lanes = [0; 8];
        for l in 0..8 {
            // SAFETY: eight elements, by contract.
            lanes[l] = unsafe { *from.add(l) };
        }
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, i16::wrapping_add)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, i16::wrapping_sub)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, i16::wrapping_mul)
    }
    #[inline(always)]
    unsafe fn next_nibble(self) -> Self {
        self.with(|x| ((x as u16) >> 4) as i16)
    }
    #[inline(always)]
    unsafe fn quotient(self, (factor, shift): (u32, u32)) -> Self {
        self.with(|x| ((u32::from(x as u16) * factor) >> 16 >> shift) as i16)
    }
    #[inline(always)]
    unsafe fn pick(self, table: [i8; 16]) -> Self {
        self.with(|x| i16::from(table[x as usize & 15]))
    }
    #[inline(always)]
    unsafe fn pick_nibble(self, table: [i8; 16]) -> Self {
        // SAFETY: forwarded.
        unsafe { self.pick(table) }
    }
    #[inline(always)]
    unsafe fn store(self, double: Self, factor: Self, to: *mut i8) {
        for l in 0..8 {
            let sum = self.0[l].saturating_add(self.0[l] & double.0[l]);
            let rounded = (i32::from(sum) * i32::from(factor.0[l]) + (1 << 14)) >> 15;
            // SAFETY: eight elements, by contract.
            unsafe { *to.add(l) = rounded.clamp(-128, 127) as i8 };
        }
    }
}

/// The best words for the level this is compiled for.
#[cfg(all(
    target_arch = "x86_64",
    target_feature = "avx512vl",
    target_feature = "avx512bw",
    not(miri)
))]
pub type Best = avx512::Avx512;
/// The best words for the level this is compiled for.
#[cfg(all(
    target_arch = "x86_64",
    target_feature = "avx2",
    not(target_feature = "avx512bw"),
    not(miri)
))]
pub type Best = avx2::Avx2;
/// The best words for the level this is compiled for.
#[cfg(any(not(all(target_arch = "x86_64", target_feature = "avx2")), miri))]
pub type Best = Plain;

/// Filters that are rebuilt together.
pub const LANES: usize = Best::LANES;

/// Filters whose fours are put together at a time.
pub const GROUP: usize = if LANES < 16 { LANES } else { 16 };

/// Puts four bytes of each of `GROUP` filters beside one another, given one of each, `step` bytes apart from the next.
///
/// # Safety
/// The bytes, and room for four times as many.
#[cfg(all(target_arch = "x86_64", target_feature = "avx2", not(miri)))]
#[inline(always)]
pub unsafe fn quads(from: *const i8, step: usize, to: *mut u8) {
    use core::arch::x86_64::*;
    // SAFETY: forwarded; SSE2 is part of the architecture.
    unsafe {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| _mm_loadu_si128(from.add(i * step).cast()));
        let (low, high) = (
            [_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d)],
            [_mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d)],
        );
        for (i, [ab, cd]) in [low, high].into_iter().enumerate() {
            _mm_storeu_si128(to.add(32 * i).cast(), _mm_unpacklo_epi16(ab, cd));
            _mm_storeu_si128(to.add(32 * i + 16).cast(), _mm_unpackhi_epi16(ab, cd));
        }
    }
}

/// As the one above.
///
/// # Safety
/// As there.
#[cfg(any(not(all(target_arch = "x86_64", target_feature = "avx2")), miri))]
#[inline(always)]
pub unsafe fn quads(from: *const i8, step: usize, to: *mut u8) {
    for filter in 0..GROUP {
        for i in 0..4 {
            // SAFETY: forwarded.
            unsafe { *to.add(4 * filter + i) = *from.add(i * step + filter) as u8 };
        }
    }
}
