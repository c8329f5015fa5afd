//! From codes to integers, `LANES` filters at a time.

use super::packed::{Basis, Packed};
use super::words::{Best, LANES, Words};
use core::mem::MaybeUninit;

/// Rows decoded at a time.
const PIECE: usize = 32;

/// At the beginning of a line of the caches.
#[repr(C, align(64))]
pub struct Aligned<T>(pub T);

/// Filters beside one another, and how far they are decoded.
pub struct Decoder<'a> {
    pub packed: Packed<'a>,
    /// The first filter, as a column of the matrix.
    pub column: i64,
    /// Where the next stored row of each filter is, in bits.
    at: [usize; LANES],
    /// Value of each nibble, or of each digit of a row's word.
    values: [i32; 17],
    /// Whether 16 bits hold a row's word and its sums, and 8 bits each value.
    narrow: bool,
    /// What divides by the number of levels: the upper half of a product is the quotient.
    reciprocal: u64,
    /// The bases of narrow rows: a vector for each entry.
    bases: Aligned<MaybeUninit<[i16; 64 * LANES]>>,
    /// Ones where sums count twice, and what they are multiplied by.
    double: Aligned<[i16; LANES]>,
    factor: Aligned<[i16; LANES]>,
    /// The bases that are there, counted as in the packed bytes: of the first filter and of the last, and how many filters.
    loaded: (i64, i64, usize),
}

impl<'a> Decoder<'a> {
    #[inline(always)]
    pub fn new(packed: &Packed<'a>) -> Self {
        let p = packed.p;
        let alphabet = (p.alphabet_hi as u64) << 32 | p.alphabet_lo as u64;
        let magnitude = |position: i64| {
            if position == 0 {
                0
            } else {
                (alphabet >> ((8 * (position - 1)) & 63) & 255) as i32
            }
        };
        let (mut values, mut largest) = ([0; 17], 0);
        for i in 0..17 {
            let at = i as i64;
            values[i] = if p.nibbles != 0 {
                let value = magnitude(at & 7);
                if at & 8 != 0 { -value } else { value }
            } else {
                let code = at - p.magnitudes;
                // Digits beyond the alphabet do not occur.
                if code > p.magnitudes {
                    0
                } else if code < 0 {
                    -magnitude(-code)
                } else {
                    magnitude(code)
                }
            };
            largest = largest.max(values[i]);
        }
        let narrow = p.row_bits <= 16
            && largest <= 127
            && i64::from(largest) * p.r < 256
            && (p.nibbles != 0 || p.magnitudes <= 7);
        Self {
            packed: *packed,
            column: 0,
            at: [0; LANES],
            values,
            narrow,
            // The number of levels is odd and not 1, so this is the quotient rounded up; `checked_div` cannot fail.
            reciprocal: match u64::MAX.checked_div((2 * p.magnitudes + 1) as u64 | 1) {
                Some(quotient) => quotient + 1,
                None => 0,
            },
            bases: Aligned(MaybeUninit::uninit()),
            double: Aligned([0; LANES]),
            factor: Aligned([0; LANES]),
            loaded: (-1, -1, 0),
        }
    }

    /// Turns to the `lanes` filters from `column` on, whose codes begin at bit `position`; returns the bit after them.
    ///
    /// # Safety
    /// The filters exist.
    #[inline(always)]
    pub unsafe fn begin(&mut self, column: i64, lanes: usize, position: usize) -> usize {
        let p = self.packed.p;
        self.column = column;
        let mut position = position;
        let mut stored = p.rows;
        for lane in 0..lanes.min(LANES) {
            self.at[lane] = position;
            let filter = column + lane as i64;
            let another = (p.filter0 + filter).checked_rem(p.index_filters) == Some(0);
            if lane == 0 || another {
                // SAFETY: forwarded.
                stored = unsafe { self.packed.stored(filter) };
            }
            position += (stored * p.row_bits) as usize;
        }
        position
    }

    /// Entries of `count` rows from `row` on, those that follow the last decoded: for each entry, in order, `LANES` bytes in `table`.
    /// They are zero for filters from `lanes` on.
    ///
    /// # Safety
    /// The rows exist and `table` has room for their entries.
    #[inline(always)]
    pub unsafe fn rows(&mut self, row: usize, count: usize, lanes: usize, table: *mut i8) {
        let p = self.packed.p;
        let s = p.s as usize;
        let (mut row, end, mut table) = (row, row + count, table);
        while row < end {
            let slice = (row as i64).checked_div(p.slice_rows).unwrap_or(0);
            let count = ((slice + 1) * p.slice_rows) as usize - row;
            let count = count.min(end - row).min(PIECE);
            // SAFETY: a piece of the rows, all in one slice.
            unsafe {
                if self.narrow {
                    self.load_bases(slice, lanes);
                    self.piece(row, count, lanes, table);
                } else {
                    for lane in 0..LANES {
                        if lane < lanes {
                            self.wide_piece(row, count, slice, lane, table.add(lane));
                        } else {
                            for entry in 0..count * s {
                                *table.add(entry * LANES + lane) = 0;
                            }
                        }
                    }
                }
                table = table.add(count * s * LANES);
            }
            row += count;
        }
    }

    /// The bases of a slice, as vectors, if they are not there yet.
    ///
    /// # Safety
    /// The bases exist.
    #[inline(always)]
    unsafe fn load_bases(&mut self, slice: i64, lanes: usize) {
        let column = self.column;
        let first = self.packed.basis_of(column, slice);
        let last = self.packed.basis_of(column + lanes as i64 - 1, slice);
        if self.loaded == (first, last, lanes) {
            return;
        }
        self.loaded = (first, last, lanes);
        let (s, r) = (self.packed.p.s as usize & 15, self.packed.p.r as usize & 15);
        let bases = self.bases.0.as_mut_ptr().cast::<i16>();
        let mut now = -1;
        let mut basis = Basis::NONE;
        for lane in 0..LANES {
            let number = if lane < lanes {
                self.packed.basis_of(column + lane as i64, slice)
            } else {
                now
            };
            if number != now {
                // SAFETY: forwarded.
                unsafe { self.packed.basis(number, &mut basis) };
                now = number;
            }
            for k in 0..r.min(8) {
                for j in 0..s.min(8) {
                    let at = (k * s + j) * LANES + lane;
                    // SAFETY: there is room for eight times eight vectors.
                    unsafe { *bases.add(at) = basis.entries[k][j] };
                }
            }
            // A shift of 0 is one of 1 after doubling.
            let shift = basis.shift.max(1);
            self.double.0[lane] = if basis.shift == 0 { -1 } else { 0 };
            self.factor.0[lane] = (1i32 << (15 - shift)) as i16;
        }
    }

    /// # Safety
    /// The bases are there; as [`Decoder::rows`].
    #[inline(always)]
    unsafe fn piece(&mut self, row: usize, count: usize, lanes: usize, table: *mut i8) {
        let p = self.packed.p;
        let mut words = Aligned(MaybeUninit::<[u16; PIECE * LANES]>::uninit());
        let words = words.0.as_mut_ptr().cast::<u16>();
        // SAFETY: forwarded.
        unsafe {
            if p.index_filters != 0 || lanes < LANES {
                let zero = if p.nibbles != 0 { 0 } else { self.zero_word() };
                for i in 0..count * LANES {
                    *words.add(i) = zero;
                }
            }
            let mut lane = 0;
            while lane < lanes {
                let kept = self.packed.kept(self.column + lane as i64, row, count);
                let last = lane + Best::TOGETHER.saturating_sub(1);
                // Filters in a row that are all there, have the same rows, and do not end where the packed bytes do.
                let together = last > lane
                    && last < lanes
                    && self
                        .packed
                        .same_index(self.column + lane as i64, self.column + last as i64)
                    && self.at[last] / 8 + 4 * count + 8 <= p.len as usize;
                if together {
                    self.words_together(lane, kept, words.add(lane));
                    lane += Best::TOGETHER;
                } else {
                    self.words(lane, kept, count, words.add(lane));
                    lane += 1;
                }
            }
            let words = words.cast_const().cast();
            match (p.nibbles != 0, p.s) {
                (true, 1) => self.entries::<1, true>(words, count, table),
                (true, 2) => self.entries::<2, true>(words, count, table),
                (true, 3) => self.entries::<3, true>(words, count, table),
                (true, 4) => self.entries::<4, true>(words, count, table),
                (true, 5) => self.entries::<5, true>(words, count, table),
                (true, 6) => self.entries::<6, true>(words, count, table),
                (true, 7) => self.entries::<7, true>(words, count, table),
                (true, _) => self.entries::<8, true>(words, count, table),
                (false, 1) => self.entries::<1, false>(words, count, table),
                (false, 2) => self.entries::<2, false>(words, count, table),
                (false, 3) => self.entries::<3, false>(words, count, table),
                (false, 4) => self.entries::<4, false>(words, count, table),
                (false, 5) => self.entries::<5, false>(words, count, table),
                (false, 6) => self.entries::<6, false>(words, count, table),
                (false, 7) => self.entries::<7, false>(words, count, table),
                (false, _) => self.entries::<8, false>(words, count, table),
            }
        }
    }

    /// The word of a row of zeros: all its digits are the number of magnitudes.
    #[inline(always)]
    fn zero_word(&self) -> u16 {
        let p = self.packed.p;
        let mut word = 0;
        for _ in 0..p.r {
            word = word * (2 * p.magnitudes + 1) + p.magnitudes;
        }
        word as u16
    }

    /// The words of a filter's stored rows among `count`, at every `LANES`th place from `to` on; of a word, bits beyond its own may be set.
    ///
    /// # Safety
    /// The rows exist, and their places.
    #[inline(always)]
    unsafe fn words(&mut self, lane: usize, kept: u32, count: usize, to: *mut u16) {
        let bits = self.packed.p.row_bits as usize;
        let mut at = self.at[lane];
        let mut done = 0;
        // SAFETY: forwarded; a row follows the stored one before it.
        unsafe {
            if kept == u32::MAX >> (32 - count as u32) {
                // Four words in one load.
                while bits <= 14 && done + 4 <= count {
                    let four = self.packed.from(at);
                    for i in 0..4 {
                        *to.add((done + i) * LANES) = (four >> (i * bits)) as u16;
                    }
                    at += 4 * bits;
                    done += 4;
                }
                while done < count {
                    *to.add(done * LANES) = self.packed.from(at) as u16;
                    at += bits;
                    done += 1;
                }
            } else {
                let mut left = kept;
                while left != 0 {
                    let row = left.trailing_zeros() as usize;
                    left &= left - 1;
                    *to.add(row * LANES) = self.packed.from(at) as u16;
                    at += bits;
                }
            }
        }
        self.at[lane] = at;
    }

    /// As [`Decoder::words`] for as many filters as are fetched together, from `lane` on, which keep the same rows.
    ///
    /// # Safety
    /// As there; eight bytes can be read wherever one of the words begins.
    #[inline(always)]
    unsafe fn words_together(&mut self, lane: usize, kept: u32, to: *mut u16) {
        let bits = self.packed.p.row_bits as usize;
        let most = if bits <= 14 { 4 } else { 3 };
        let mut left = kept;
        while left != 0 {
            let (mut rows, mut count) = ([to; 4], 0);
            while left != 0 && count < most {
                rows[count & 3] = to.wrapping_add(left.trailing_zeros() as usize * LANES);
                left &= left - 1;
                count += 1;
            }
            // SAFETY: forwarded; words follow one another, and the rows have places.
            unsafe {
                let at = self.at.as_mut_ptr().add(lane);
                let rows = core::slice::from_raw_parts(rows.as_ptr(), count);
                Best::fetch(self.packed.bytes, at, count * bits, bits, rows);
            }
        }
    }

    /// Entries from words.
    ///
    /// # Safety
    /// `count` rows of words, and room for their entries.
    #[inline(never)]
    unsafe fn entries<const S: usize, const NIBBLES: bool>(
        &self,
        words: *const i16,
        count: usize,
        table: *mut i8,
    ) {
        let p = self.packed.p;
        let r = p.r as usize;
        let mut values = [0i8; 16];
        for i in 0..16 {
            values[i] = self.values[i] as i8;
        }
        // SAFETY: forwarded; the bases have `r` rows of `S` vectors.
        unsafe {
            let values = Best::table(&values);
            let levels = 2 * p.magnitudes as u32 + 1;
            let (divisor, levels) = (Best::divisor(levels), Best::splat(levels as i16));
            let mask = Best::splat(((1u32 << p.row_bits) - 1) as i16);
            let (double, factor) = (
                Best::load(self.double.0.as_ptr()),
                Best::load(self.factor.0.as_ptr()),
            );
            for row in 0..count {
                let mut word = Best::load(words.add(row * LANES));
                let mut sums = [Best::splat(0); S];
                if !NIBBLES {
                    word = word.and(mask);
                }
                for k in 0..r {
                    // Row words end with their last code, nibbles begin with the first.
                    let (value, k) = if NIBBLES {
                        let value = word.pick_nibble(values);
                        word = word.next_nibble();
                        (value, k)
                    } else {
                        let above = word.quotient(divisor);
                        let digit = word.sub(above.mul(levels));
                        word = above;
                        (digit.pick(values), r - 1 - k)
                    };
                    let basis = self.bases.0.as_ptr().cast::<i16>().add(k * S * LANES);
                    for j in 0..S {
                        sums[j] = sums[j].add(value.mul(Best::load(basis.add(j * LANES))));
                    }
                }
                for j in 0..S {
                    sums[j].store(double, factor, table.add((row * S + j) * LANES));
                }
            }
        }
    }

    /// Rows whose words or sums are too wide for vectors, of one filter; entries are `LANES` bytes apart.
    ///
    /// # Safety
    /// As [`Decoder::rows`].
    #[inline(never)]
    unsafe fn wide_piece(&mut self, row: usize, count: usize, slice: i64, lane: usize, table: *mut i8) {
        let p = self.packed.p;
        let (s, r) = ((p.s as usize & 15).min(8), (p.r as usize & 15).min(8));
        let column = self.column + lane as i64;
        // SAFETY: forwarded.
        unsafe {
            let mut basis = Basis::NONE;
            self.packed.basis(self.packed.basis_of(column, slice), &mut basis);
            let kept = self.packed.kept(column, row, count);
            for i in 0..count {
                let mut sums = [(1i32 << basis.shift) >> 1; 8];
                if kept >> i & 1 != 0 {
                    let mut word = self.packed.bits(self.at[lane], p.row_bits);
                    self.at[lane] += p.row_bits as usize;
                    for k in 0..r {
                        let (digit, k) = if p.nibbles != 0 {
                            let digit = word & 15;
                            word >>= 4;
                            (digit, k)
                        } else {
                            let above = ((u128::from(word) * u128::from(self.reciprocal)) >> 64) as u64;
                            let digit = word - above * (2 * p.magnitudes + 1) as u64;
                            word = above;
                            (digit, r - 1 - k)
                        };
                        let value = self.values[(digit as usize).min(16)];
                        for j in 0..8 {
                            sums[j] += value * i32::from(basis.entries[k & 7][j]);
                        }
                    }
                }
                for j in 0..s {
                    let weight = (sums[j] >> basis.shift).clamp(-128, 127);
                    *table.add((i * s + j) * LANES) = weight as i8;
                }
            }
        }
    }
}
