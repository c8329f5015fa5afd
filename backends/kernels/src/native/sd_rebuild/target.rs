//! Where rebuilt weights go.

use super::super::params::SdRebuildParams;
use super::super::simd::{self, V};
use super::TABLE;
use super::decode::Decoder;
use super::words::{GROUP, LANES, quads};

/// Entries of a table.
const ENTRIES: usize = TABLE / LANES;

/// What weights are rebuilt to.
pub trait Weight: Copy {
    /// Whether scales count.
    const SCALED: bool;
    fn of(integer: i8, scale: f32) -> Self;
}

impl Weight for f32 {
    const SCALED: bool = true;
    #[inline(always)]
    fn of(integer: i8, scale: f32) -> Self {
        f32::from(integer) * scale
    }
}

impl Weight for i8 {
    const SCALED: bool = false;
    #[inline(always)]
    fn of(integer: i8, _: f32) -> Self {
        integer
    }
}

/// One block of columns.
pub struct Target<'a, W> {
    p: &'a SdRebuildParams,
    block: *mut W,
    /// Columns with padding.
    width: i64,
    /// Distances of columns and of rows of the matrix.
    step: isize,
    pitch: isize,
    /// Entries of a filter from one to the next of four that lie side by side, if they do.
    quad: Option<usize>,
    /// Rows of a table.
    rows: usize,
}

/// The rows of the matrix of the entries of a filter, in order, times a distance.
struct Places {
    /// The last two digits of the entry's number.
    i1: i64,
    i2: i64,
    at: isize,
    pitch: isize,
}

impl Places {
    #[inline(always)]
    pub fn new(pitch: isize) -> Self {
        Self {
            i1: 0,
            i2: 0,
            at: 0,
            pitch,
        }
    }

    /// The place of the next entry.
    #[inline(always)]
    pub fn next(&mut self, p: &SdRebuildParams) -> isize {
        let at = self.at;
        self.i2 += 1;
        self.at += p.d2 as isize * self.pitch;
        if self.i2 == p.n2 {
            self.i2 = 0;
            self.i1 += 1;
            self.at += (p.d1 - p.n2 * p.d2) as isize * self.pitch;
            if self.i1 == p.n1 {
                self.i1 = 0;
                self.at += (p.d0 - p.n1 * p.d1) as isize * self.pitch;
            }
        }
        at
    }
}

impl<'a, W: Weight> Target<'a, W> {
    #[inline(always)]
    pub fn new(p: &'a SdRebuildParams, block: *mut W, width: i64) -> Self {
        let (step, pitch) = if p.ks == 0 {
            (1, width as isize)
        } else {
            (p.fs as isize, p.ks as isize)
        };
        let n0 = p.vector.checked_div(p.n1 * p.n2).unwrap_or(0);
        // Integer convolutions read four channels of each filter at a time.
        let digit = match (p.d0, p.d1, p.d2) {
            (_, _, 1) if p.n2 == 4 => Some(1),
            (_, 1, _) if p.n1 == 4 => Some(p.n2),
            (1, _, _) if n0 == 4 => Some(p.n1 * p.n2),
            _ => None,
        };
        let quad = digit
            .filter(|_| !W::SCALED && (step, pitch) == (4, 1))
            .map(|d| d as usize);
        let most = (ENTRIES as u64).checked_div(p.s as u64).unwrap_or(1) as usize;
        // Rows in which quads are whole.
        let whole = quad.and_then(|quad| {
            let unit = (1..=most).find(|rows| (rows * p.s as usize).checked_rem(4 * quad) == Some(0))?;
            Some((most.checked_div(unit)?) * unit)
        });
        Self {
            p,
            block,
            width,
            step,
            pitch,
            quad: quad.filter(|_| whole.is_some()),
            rows: whole.unwrap_or(most),
        }
    }

    /// Columns to be written if `count` exist: with padding where blocks have it.
    #[inline(always)]
    pub fn columns(&self, count: i64) -> i64 {
        if self.p.ks == 0 { self.width } else { count }
    }

    /// Writes the decoder's `lanes` filters as the columns from `first` on, by way of a table.
    ///
    /// # Safety
    /// The columns exist in the block; `table` has room for `TABLE` bytes.
    #[inline(always)]
    pub unsafe fn fill(&self, decoder: &mut Decoder<'_>, first: i64, lanes: usize, table: *mut i8) {
        let (p, s) = (self.p, self.p.s as usize);
        let mut scales = [0.0; LANES];
        let block = self.block.wrapping_offset(first as isize * self.step);
        let mut places = Places::new(self.pitch);
        let mut row = 0;
        // SAFETY: forwarded.
        unsafe {
            if W::SCALED {
                for lane in 0..lanes {
                    scales[lane] = decoder.packed.scale(decoder.column + lane as i64);
                }
            }
            let columns = match p.ks {
                0 => (self.width - first).min(LANES as i64) as usize,
                _ => lanes,
            };
            while row < p.rows as usize {
                let rows = self.rows.min(p.rows as usize - row);
                decoder.rows(row, rows, lanes, table);
                let entries = (rows * s).min(p.vector as usize - row * s);
                match self.quad {
                    Some(quad) if columns.is_multiple_of(GROUP) => {
                        self.write_quads(block.cast(), table, entries, columns, quad, &mut places);
                    }
                    _ if W::SCALED && p.ks == 0 && columns.is_multiple_of(simd::LANES) => {
                        self.write_vectors(block.cast(), table, entries, columns, &scales, &mut places);
                    }
                    _ => self.write(block, table, entries, columns, &scales, &mut places),
                }
                row += rows;
            }
        }
    }

    /// Whole vectors of columns, side by side, times their scales.
    #[inline(never)]
    unsafe fn write_vectors(
        &self,
        block: *mut f32,
        table: *const i8,
        entries: usize,
        columns: usize,
        scales: &[f32; LANES],
        places: &mut Places,
    ) {
        for entry in 0..entries {
            let to = block.wrapping_offset(places.next(self.p));
            let from = table.wrapping_add(entry * LANES).cast::<u8>();
            for lane in (0..columns).step_by(simd::LANES) {
                // SAFETY: the entry is in the table, and its columns in the block.
                unsafe {
                    let scale = V::load(scales.as_ptr().add(lane));
                    V::bytes::<true>(from.add(lane)).mul(scale).store(to.add(lane));
                }
            }
        }
    }

    /// Groups of columns, each with four entries side by side.
    #[inline(never)]
    unsafe fn write_quads(
        &self,
        block: *mut u8,
        table: *const i8,
        entries: usize,
        columns: usize,
        quad: usize,
        places: &mut Places,
    ) {
        let mut entry = 0;
        while entry < entries {
            for within in 0..4 * quad {
                let to = block.wrapping_offset(places.next(self.p));
                if within >= quad {
                    continue;
                }
                let from = table.wrapping_add((entry + within) * LANES);
                for lane in (0..columns).step_by(GROUP) {
                    // SAFETY: four entries, `quad` apart, are in the table, and their columns in the block.
                    unsafe { quads(from.add(lane), quad * LANES, to.add(4 * lane)) };
                }
            }
            entry += 4 * quad;
        }
    }

    /// Some lanes, anywhere.
    #[inline(never)]
    unsafe fn write(
        &self,
        block: *mut W,
        table: *const i8,
        entries: usize,
        columns: usize,
        scales: &[f32; LANES],
        places: &mut Places,
    ) {
        for entry in 0..entries {
            let to = block.wrapping_offset(places.next(self.p));
            for lane in 0..columns.min(LANES) {
                // SAFETY: as in `write_vectors`.
                unsafe {
                    let weight = W::of(*table.add(entry * LANES + lane), scales[lane]);
                    *to.offset(lane as isize * self.step) = weight;
                }
            }
        }
    }
}
