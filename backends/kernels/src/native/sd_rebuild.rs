//! Real weights from packed SmartDeal weights.
//!
//! Integer arithmetic as in the format's definition, so all instances give the same bits: a rebuilt weight is an i8 times the filter's scale.

use super::params::SdRebuildParams;

/// The kernel `sd_rebuild_f32`; operands packed, w; the range is blocks of `nr` filters, and `w` points at the first of them.
///
/// # Safety
/// The operands must be valid for what the [`SdRebuildParams`] at `params` say is touched, and these must describe the packed weights.
#[inline(always)]
pub unsafe fn sd_rebuild_f32(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: forwarded.
    unsafe {
        let p = &*params.cast::<SdRebuildParams>();
        let rebuild = Rebuild::new(p, *operands);
        rebuild.blocks((*operands.add(1)).cast::<f32>(), begin, end);
    }
}

/// The kernel `sd_rebuild_i8`: the integers, without their scales.
///
/// # Safety
/// As [`sd_rebuild_f32`].
#[inline(always)]
pub unsafe fn sd_rebuild_i8(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: forwarded.
    unsafe {
        let p = &*params.cast::<SdRebuildParams>();
        let rebuild = Rebuild::new(p, *operands);
        rebuild.blocks((*operands.add(1)).cast::<i8>(), begin, end);
    }
}

/// What weights are rebuilt to.
trait Weight: Copy {
    /// Whether scales count.
    const SCALED: bool;
    fn of(integer: i32, scale: f32) -> Self;
}

impl Weight for f32 {
    const SCALED: bool = true;
    #[inline(always)]
    fn of(integer: i32, scale: f32) -> Self {
        integer as f32 * scale
    }
}

impl Weight for i8 {
    const SCALED: bool = false;
    #[inline(always)]
    fn of(integer: i32, _: f32) -> Self {
        integer as i8
    }
}

struct Rebuild<'a> {
    p: &'a SdRebuildParams,
    packed: *const u8,
    /// Value of each nibble, or of each digit of a row's word.
    values: [i32; 17],
    /// Smallest multiplier whose product with a word has the quotient by the number of levels in its upper half.
    reciprocal: u64,
}

/// A basis as integers, padded with zeros.
struct Basis {
    entries: [[i32; 8]; 8],
    shift: u32,
}

impl Rebuild<'_> {
    /// # Safety
    /// As the kernel.
    #[inline(always)]
    unsafe fn new(p: &SdRebuildParams, packed: *const u8) -> Rebuild<'_> {
        let alphabet = (p.alphabet_hi as u64) << 32 | p.alphabet_lo as u64;
        let magnitude = |position: i64| {
            if position == 0 {
                0
            } else {
                (alphabet >> ((8 * (position - 1)) & 63) & 255) as i32
            }
        };
        let mut values = [0; 17];
        let mut i = 0;
        while i < 17 {
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
            i += 1;
        }
        let levels = (2 * p.magnitudes + 1) as u64 | 1;
        Rebuild {
            p,
            packed,
            values,
            // `levels` is odd and not 1, so this is the quotient rounded up; `checked_div` cannot fail.
            reciprocal: match u64::MAX.checked_div(levels) {
                Some(quotient) => quotient + 1,
                None => 0,
            },
        }
    }

    /// A field of `width` bits, at most 40, its lowest at bit `at`.
    ///
    /// # Safety
    /// The field lies in the packed bytes.
    #[inline(always)]
    unsafe fn bits(&self, at: usize, width: i64) -> u64 {
        // SAFETY: eight bytes are read only where there are eight, single ones only where there is one.
        unsafe {
            let byte = at >> 3;
            let left = self.p.len as usize - byte;
            let word = if left >= 8 {
                self.packed.add(byte).cast::<u64>().read_unaligned()
            } else {
                let mut word = 0;
                for k in 0..left {
                    word |= u64::from(*self.packed.add(byte + k)) << (8 * k);
                }
                word
            };
            word >> (at & 7) & ((1 << width) - 1)
        }
    }

    /// Whether the row at this place of the index is stored.
    ///
    /// # Safety
    /// There is an index, and the place is in it.
    #[inline(always)]
    unsafe fn kept(&self, row: usize) -> bool {
        // SAFETY: forwarded.
        unsafe { *self.packed.add(self.p.at_index as usize + (row >> 3)) >> (row & 7) & 1 != 0 }
    }

    /// Place in the index of the first row of a column's filter.
    #[inline(always)]
    fn index_base(&self, column: i64) -> usize {
        let group = (self.p.filter0 + column)
            .checked_div(self.p.index_filters)
            .unwrap_or(0);
        (group * self.p.rows) as usize
    }

    /// Rows stored of the columns before `column`.
    ///
    /// # Safety
    /// As the kernel.
    unsafe fn stored_before(&self, column: i64) -> i64 {
        let p = self.p;
        if p.index_filters == 0 {
            return column * p.rows;
        }
        let mut stored = 0;
        let mut filter = 0;
        while filter < column {
            let base = self.index_base(filter);
            let mut count = 0;
            for row in 0..p.rows as usize {
                // SAFETY: every row of every filter has a bit.
                count += i64::from(unsafe { self.kept(base + row) });
            }
            // The filters up to the end of this group have the same rows.
            let inside = (p.filter0 + filter).checked_rem(p.index_filters).unwrap_or(0);
            let same = (p.index_filters - inside).min(column - filter);
            stored += count * same;
            filter += same;
        }
        stored
    }

    /// # Safety
    /// As the kernel.
    #[inline(always)]
    unsafe fn blocks<W: Weight>(&self, w: *mut W, begin: i64, end: i64) {
        let p = self.p;
        let first = begin * p.nr;
        let last = (end * p.nr).min(p.filters);
        // SAFETY: forwarded: columns `first..last` exist, and `w` has room for their blocks.
        unsafe {
            let stored = p.row0 + self.stored_before(first.min(p.filters));
            let mut position = (8 * p.at_codes + stored * p.row_bits) as usize;
            let mut column = first;
            let mut block = w;
            while column < last {
                let count = p.nr.min(p.filters - column);
                let width = if count == p.nr {
                    count
                } else {
                    let over = count.checked_rem(p.lanes).unwrap_or(0);
                    if over == 0 { count } else { count + p.lanes - over }
                };
                let (step, pitch) = if p.ks == 0 { (1, width) } else { (p.fs, p.ks) };
                for i in 0..count {
                    let target = block.offset((i * step) as isize);
                    position = match (p.s, p.r) {
                        (3, 3) => self.filter::<W, 3, 3>(column + i, target, pitch as isize, position),
                        (4, 4) => self.filter::<W, 4, 4>(column + i, target, pitch as isize, position),
                        _ => self.filter::<W, 0, 0>(column + i, target, pitch as isize, position),
                    };
                }
                if p.ks == 0 {
                    for k in 0..p.vector {
                        for i in count..width {
                            *block.offset((k * width + i) as isize) = W::of(0, 0.0);
                        }
                    }
                }
                column += count;
                // The last block may be narrower than this step.
                block = block.wrapping_offset((p.nr * p.vector) as isize);
            }
        }
    }

    /// One filter into elements `pitch` apart; returns the bit after its codes. `S` and `R` are those of the format, or 0.
    ///
    /// # Safety
    /// As the kernel.
    #[inline(never)]
    unsafe fn filter<W: Weight, const S: usize, const R: usize>(
        &self,
        column: i64,
        target: *mut W,
        pitch: isize,
        mut position: usize,
    ) -> usize {
        let p = self.p;
        let (s, r) = if S == 0 {
            (p.s as usize & 15, p.r as usize & 15)
        } else {
            (S, R)
        };
        let (s, r) = (s.min(8), r.min(8));
        let rows = p.rows as usize;
        let (n1, n2) = (p.n1, p.n2);
        let (d0, d1, d2) = (
            p.d0 as isize * pitch,
            p.d1 as isize * pitch,
            p.d2 as isize * pitch,
        );
        // SAFETY: every read is of a field of the packed weights, every store of a row of the matrix.
        unsafe {
            let scale = if W::SCALED {
                self.scale(p.filter0 + column)
            } else {
                1.0
            };
            let index = self.index_base(column);
            let slice_rows = p.slice_rows as usize;
            let mut basis = Basis {
                entries: [[0; 8]; 8],
                shift: 0,
            };
            let slices = (rows + slice_rows - 1).checked_div(slice_rows).unwrap_or(0);
            let group = (p.filter0 + column).checked_div(p.basis_filters).unwrap_or(0) as usize;
            // The place of the next entry, counted up digit by digit.
            let (mut i1, mut i2) = (0, 0);
            let mut place = target;
            let mut left = p.vector as usize;
            let mut row = 0;
            for slice in 0..slices {
                self.load_basis(&mut basis, group * slices + slice, s, r);
                let end = (row + slice_rows).min(rows);
                while row < end {
                    let mut sums = [(1i32 << basis.shift) >> 1; 8];
                    if p.index_filters == 0 || self.kept(index + row) {
                        let mut word = self.bits(position, p.row_bits);
                        position += p.row_bits as usize;
                        for k in 0..r {
                            // Row words end with their last code, nibbles begin with the first.
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
                                sums[j] += value * basis.entries[k & 7][j];
                            }
                        }
                    }
                    for &sum in sums.iter().take(s.min(left)) {
                        *place = W::of((sum >> basis.shift).clamp(-128, 127), scale);
                        i2 += 1;
                        place = place.wrapping_offset(d2);
                        if i2 == n2 {
                            i2 = 0;
                            i1 += 1;
                            place = place.wrapping_offset(d1 - n2 as isize * d2);
                            if i1 == n1 {
                                i1 = 0;
                                place = place.wrapping_offset(d0 - n1 as isize * d1);
                            }
                        }
                    }
                    left -= s.min(left);
                    row += 1;
                }
            }
        }
        position
    }

    /// # Safety
    /// The basis exists.
    #[inline(always)]
    unsafe fn load_basis(&self, into: &mut Basis, basis: usize, s: usize, r: usize) {
        let width = self.p.basis_bits;
        // SAFETY: forwarded.
        unsafe {
            let mut at = 8 * self.p.at_bases as usize + basis * s * r * width as usize;
            for row in into.entries.iter_mut().take(r) {
                for entry in row.iter_mut().take(s) {
                    let bits = self.bits(at, width) as i32;
                    let sign = 1 << (width - 1);
                    *entry = (bits ^ sign) - sign;
                    at += width as usize;
                }
            }
            into.shift = self.bits(8 * self.p.at_shifts as usize + 4 * basis, 4) as u32;
        }
    }

    /// # Safety
    /// The filter exists.
    #[inline(always)]
    unsafe fn scale(&self, filter: i64) -> f32 {
        // SAFETY: every filter has a scale.
        unsafe {
            let at = self.packed.offset((self.p.at_scales) as isize);
            if self.p.half == 0 {
                return f32::from_bits(at.cast::<u32>().offset(filter as isize).read_unaligned());
            }
            let bits = at.cast::<u16>().offset(filter as isize).read_unaligned();
            // Exponent and fraction of a half have a float's order; what is left is the difference of the biases.
            f32::from_bits(u32::from(bits) << 13) * f32::from_bits((127 + 112) << 23)
        }
    }
}
