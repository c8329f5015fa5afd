//! What follows from a format's parameters alone.

use super::{Decomposed, Format, Index, Packing};

impl Format {
    /// Values a code can take: zero, and each magnitude with both signs.
    pub fn levels(&self) -> usize {
        2 * self.alphabet.len() + 1
    }

    /// Number of different rows of codes, `levels^r`.
    pub(super) fn words(&self) -> u64 {
        // At most 17^8, which is below 2^33.
        (self.levels() as u64).pow(self.r as u32)
    }

    /// Bits of a stored row of codes.
    pub fn row_bits(&self) -> usize {
        match self.packing {
            Packing::Nibble => 4 * self.r,
            // levels^r is odd, hence never a power of two: the bits of the largest word are the logarithm rounded up.
            Packing::Row => (u64::BITS - (self.words() - 1).leading_zeros()) as usize,
        }
    }

    /// Consecutive filters that share a bit of the row index; 1 without an index.
    pub fn index_filters(&self) -> usize {
        match self.index {
            Index::None => 1,
            Index::Rows(filters) => filters,
        }
    }

    /// The integer a code stands for.
    ///
    /// # Panics
    /// If the code is not in the alphabet.
    pub fn value(&self, code: i8) -> i32 {
        value(&self.alphabet, code)
    }
}

/// See [`Format::value`].
pub(super) fn value(alphabet: &[u8], code: i8) -> i32 {
    if code == 0 {
        return 0;
    }
    let magnitude = i32::from(alphabet[usize::from(code.unsigned_abs()) - 1]);
    if code < 0 { -magnitude } else { magnitude }
}

impl Decomposed {
    /// Rows of a filter, `Q`.
    pub fn rows(&self) -> usize {
        self.geometry.rows(self.format.s)
    }

    /// The codes of a row, `[r]`.
    pub fn row_codes(&self, filter: usize, row: usize) -> &[i8] {
        let r = self.format.r;
        &self.codes[(filter * self.rows() + row) * r..][..r]
    }

    /// True if the row is stored.
    pub fn is_kept(&self, filter: usize, row: usize) -> bool {
        self.kept[filter / self.format.index_filters() * self.rows() + row]
    }

    /// The basis of a row, `[r, S]`, and its shift.
    pub fn basis(&self, filter: usize, row: usize) -> (&[i8], u8) {
        let Format {
            s,
            r,
            slice_rows,
            basis_filters,
            ..
        } = self.format;
        let basis = filter / basis_filters * self.geometry.slices(&self.format) + row / slice_rows;
        (&self.bases[basis * r * s..][..r * s], self.shifts[basis])
    }
}
