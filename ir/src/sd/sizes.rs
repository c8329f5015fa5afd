//! Exact accounting of packed weights.

use super::header::header_bytes;
use super::{Decomposed, Format, Geometry, Index};
use std::ops::Range;

/// Where the bytes of a packed weight go. Everything but `total` is in bits: sections other than the header end inside a byte, and
/// `padding` is what fills it. The sum of the others is `8 * total`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sizes {
    /// Bits of the header.
    pub header: usize,
    /// Bits of the row index.
    pub index: usize,
    /// Bits of the codes.
    pub codes: usize,
    /// Bits of the bases.
    pub bases: usize,
    /// Bits of the shifts.
    pub shifts: usize,
    /// Bits of the scales.
    pub scales: usize,
    /// Zero bits that fill the last byte of sections.
    pub padding: usize,
    /// Packed length in **bytes**.
    pub total: usize,
}

/// Byte ranges of the sections in a packed weight.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sections {
    /// Row index.
    pub index: Range<usize>,
    /// Codes.
    pub codes: Range<usize>,
    /// Bases.
    pub bases: Range<usize>,
    /// Shifts.
    pub shifts: Range<usize>,
    /// Scales.
    pub scales: Range<usize>,
}

impl Sizes {
    /// Byte ranges of the sections, in their order; the first starts behind the header, the last ends at `total`.
    pub fn sections(&self) -> Sections {
        let mut end = self.header / 8;
        let mut next = |bits: usize| {
            let start = end;
            end += bits.div_ceil(8);
            start..end
        };
        Sections {
            index: next(self.index),
            codes: next(self.codes),
            bases: next(self.bases),
            shifts: next(self.shifts),
            scales: next(self.scales),
        }
    }
}

/// Rows stored, summed over all filters: what [`sizes()`] needs to know of the contents.
pub fn stored_rows(d: &Decomposed) -> usize {
    let (filters, shared, rows) = (d.geometry.filters(), d.format.index_filters(), d.rows());
    let groups = d.kept.chunks_exact(rows).enumerate();
    groups
        .map(|(group, kept)| {
            let members = shared.min(filters - group * shared);
            kept.iter().filter(|&&k| k).count() * members
        })
        .sum()
}

/// Exact size of a packed weight of which `stored_rows` rows are stored (summed over all filters; all of them without an index).
/// Constant time: nothing is packed.
///
/// `geometry` and `format` must be free of faults ([`super::faults_of_format`]).
pub fn sizes(geometry: &Geometry, format: &Format, stored_rows: usize) -> Sizes {
    let filters = geometry.filters();
    let bases = geometry.basis_groups(format) * geometry.slices(format);
    let index = match format.index {
        Index::None => 0,
        Index::Rows(_) => geometry.index_groups(format) * geometry.rows(format.s),
    };
    let mut sizes = Sizes {
        header: 8 * header_bytes(geometry, format).len(),
        index,
        codes: stored_rows * format.row_bits(),
        bases: bases * format.r * format.s * usize::from(format.basis_bits),
        shifts: 4 * bases,
        scales: 8 * filters * format.scale.size(),
        padding: 0,
        total: 0,
    };
    let exact = sizes.header + sizes.index + sizes.codes + sizes.bases + sizes.shifts + sizes.scales;
    sizes.total = sizes.sections().scales.end;
    sizes.padding = 8 * sizes.total - exact;
    sizes
}
