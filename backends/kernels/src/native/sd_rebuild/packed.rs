//! Fields of the packed bytes.

use super::super::params::SdRebuildParams;

/// Packed weights, and what says where their fields are.
#[derive(Clone, Copy)]
pub struct Packed<'a> {
    pub p: &'a SdRebuildParams,
    pub bytes: *const u8,
}

/// A basis as integers, padded with zeros.
pub struct Basis {
    pub entries: [[i16; 8]; 8],
    pub shift: u32,
}

impl Basis {
    /// Nothing but padding.
    pub const NONE: Basis = Basis {
        entries: [[0; 8]; 8],
        shift: 0,
    };
}

impl<'a> Packed<'a> {
    /// # Safety
    /// The parameters describe the bytes.
    #[inline(always)]
    pub unsafe fn new(p: &'a SdRebuildParams, bytes: *const u8) -> Self {
        Self { p, bytes }
    }

    /// The bits from bit `at` on, at least 57 where there are so many; what follows the last byte reads as zero.
    ///
    /// # Safety
    /// The first bit lies in the packed bytes.
    #[inline(always)]
    pub unsafe fn from(&self, at: usize) -> u64 {
        // SAFETY: eight bytes are read only where there are eight, single ones only where there is one.
        unsafe {
            let byte = at >> 3;
            let left = self.p.len as usize - byte;
            let word = if left >= 8 {
                self.bytes.add(byte).cast::<u64>().read_unaligned()
            } else {
                let mut word = 0;
                for k in 0..left {
                    word |= u64::from(*self.bytes.add(byte + k)) << (8 * k);
                }
                word
            };
            word >> (at & 7)
        }
    }

    /// A field of `width` bits, at most 40, its lowest at bit `at`.
    ///
    /// # Safety
    /// The field lies in the packed bytes.
    #[inline(always)]
    pub unsafe fn bits(&self, at: usize, width: i64) -> u64 {
        // SAFETY: forwarded.
        unsafe { self.from(at) & ((1 << width) - 1) }
    }

    /// The group of filters that share the row index with a column, if there is an index.
    #[inline(always)]
    fn index_group(&self, column: i64) -> i64 {
        (self.p.filter0 + column)
            .checked_div(self.p.index_filters)
            .unwrap_or(0)
    }

    /// Whether two columns keep the same rows.
    #[inline(always)]
    pub fn same_index(&self, a: i64, b: i64) -> bool {
        self.index_group(a) == self.index_group(b)
    }

    /// A bit for each of `count` rows, at most 32, of a column from `row` on: whether it is stored.
    ///
    /// # Safety
    /// The rows exist.
    #[inline(always)]
    pub unsafe fn kept(&self, column: i64, row: usize, count: usize) -> u32 {
        if self.p.index_filters == 0 {
            return u32::MAX >> (32 - count as u32);
        }
        let at = 8 * self.p.at_index as usize + (self.index_group(column) * self.p.rows) as usize + row;
        // SAFETY: every row of every group has a bit.
        unsafe { self.bits(at, count as i64) as u32 }
    }

    /// Rows stored of a column.
    ///
    /// # Safety
    /// The column exists.
    pub unsafe fn stored(&self, column: i64) -> i64 {
        let rows = self.p.rows as usize;
        if self.p.index_filters == 0 {
            return self.p.rows;
        }
        let (mut row, mut stored) = (0, 0);
        while row < rows {
            let count = (rows - row).min(32);
            // SAFETY: forwarded.
            stored += unsafe { self.kept(column, row, count) }.count_ones();
            row += count;
        }
        i64::from(stored)
    }

    /// The bit at which the codes of a column begin.
    ///
    /// # Safety
    /// The columns before exist.
    pub unsafe fn position(&self, column: i64) -> usize {
        let p = self.p;
        let mut before = p.row0;
        let mut filter = 0;
        while filter < column {
            // The filters up to the end of a group have the same rows.
            let same = if p.index_filters == 0 {
                column
            } else {
                p.index_filters - (p.filter0 + filter).checked_rem(p.index_filters).unwrap_or(0)
            };
            let same = same.min(column - filter);
            // SAFETY: forwarded.
            before += unsafe { self.stored(filter) } * same;
            filter += same;
        }
        (8 * p.at_codes + before * p.row_bits) as usize
    }

    /// The number of the basis of a column's rows in a slice.
    #[inline(always)]
    pub fn basis_of(&self, column: i64, slice: i64) -> i64 {
        let p = self.p;
        let slices = (p.rows + p.slice_rows - 1).checked_div(p.slice_rows).unwrap_or(0);
        let group = (p.filter0 + column).checked_div(p.basis_filters).unwrap_or(0);
        group * slices + slice
    }

    /// Loads a basis over one of the same format, or none.
    ///
    /// # Safety
    /// The basis exists.
    #[inline(always)]
    pub unsafe fn basis(&self, basis: i64, into: &mut Basis) {
        let (s, r, width) = (self.p.s as usize, self.p.r as usize, self.p.basis_bits);
        // SAFETY: forwarded.
        unsafe {
            let mut at = 8 * self.p.at_bases as usize + basis as usize * s * r * width as usize;
            for row in into.entries.iter_mut().take(r) {
                for entry in row.iter_mut().take(s) {
                    let bits = self.bits(at, width) as i32;
                    let sign = 1 << (width - 1);
                    *entry = ((bits ^ sign) - sign) as i16;
                    at += width as usize;
                }
            }
            into.shift = self.bits(8 * self.p.at_shifts as usize + 4 * basis as usize, 4) as u32;
        }
    }

    /// The scale of a column.
    ///
    /// # Safety
    /// The column exists.
    #[inline(always)]
    pub unsafe fn scale(&self, column: i64) -> f32 {
        let filter = (self.p.filter0 + column) as isize;
        // SAFETY: every filter has a scale.
        unsafe {
            let at = self.bytes.offset(self.p.at_scales as isize);
            if self.p.half == 0 {
                return f32::from_bits(at.cast::<u32>().offset(filter).read_unaligned());
            }
            let bits = at.cast::<u16>().offset(filter).read_unaligned();
            // Exponent and fraction of a half have a float's order; what is left is the difference of the biases.
            f32::from_bits(u32::from(bits) << 13) * f32::from_bits((127 + 112) << 23)
        }
    }
}
