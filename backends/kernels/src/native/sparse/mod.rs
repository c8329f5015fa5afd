//! Convolution by the weights that are there: for each block of sixteen filters a table of places in the input, and a row of sixteen
//! weights for each of them.
//!
//! The input of a band of output rows is copied into scratch memory first: padded, and sixteen units (channels, or small groups of bytes) of
//! one pixel side by side. There every place is a constant away from the first tap of an output pixel, and pixels side by side are a line of
//! the caches apart, which instructions can say: an entry of the table is one load of weights and one product for each pixel of a tile.
//!
//! Every sum is formed in the order of the table whatever the tile, so results do not depend on how a range is cut.

pub mod f32;
pub mod i8;

use core::marker::PhantomData;
use core::mem::MaybeUninit;

/// Filters of a block, and units side by side in scratch memory.
pub const BLOCK: usize = 16;

/// The sums of a block of filters for one pixel.
pub trait Sums: Copy {
    /// The weights of an entry.
    type Weights: Copy;
    /// Most sums at once that leave registers for the rest.
    const MOST: usize;
    /// Sixteen weights.
    unsafe fn weights(from: *const u32) -> Self::Weights;
    /// Adds the products of the weights with a unit.
    unsafe fn add(self, weights: Self::Weights, unit: *const u32) -> Self;
}

/// Output pixels that are computed together for a block of filters: where they begin and how many they are.
#[derive(Clone, Copy)]
pub struct Tile {
    pub block: usize,
    pub row: i64,
    pub column: i64,
    pub rows: usize,
    pub columns: usize,
}

/// Sizes and tables of a layer.
#[derive(Clone, Copy)]
pub struct Plan {
    pub out_w: usize,
    pub blocks: usize,
    pub sh: usize,
    /// Output rows computed from one copy, and rows of the copy.
    pub band: usize,
    pub copied: usize,
    /// Units from a row of the copy to the next, in lines of [`BLOCK`].
    pub pitch: usize,
    pub copy: *const u32,
    pub weights: *const u32,
    pub places: *const i32,
    pub starts: *const i32,
}

/// Steps of a length that reach or pass a distance.
#[inline(always)]
fn steps(distance: i64, step: i64) -> usize {
    let steps = (distance.max(0) as usize + step as usize - 1).checked_div(step as usize);
    steps.unwrap_or(0)
}

/// A block of filters of a band: what its tiles share.
struct Strip<'a, B, S, F> {
    plan: &'a Plan,
    /// What the sums of a tile start from, row by row, and what stores finished ones.
    start: &'a S,
    finish: &'a F,
    block: usize,
    /// The first output row of the band.
    first: i64,
    sums: PhantomData<B>,
}

/// Computes output rows `begin..end`. `copy` is told an output row and how many rows of the input to copy to scratch memory, from that of
/// the row's first tap on; `start` writes what the sums of a tile start from, row by row, and `finish` stores finished ones. (They are
/// no methods of a trait: the compiler would export those.)
///
/// # Safety
/// The plan describes operands that are valid for all that is touched.
#[inline(always)]
pub unsafe fn run<B: Sums>(
    plan: &Plan,
    (begin, end): (i64, i64),
    copy: impl Fn(i64, usize),
    start: impl Fn(Tile, *mut B),
    finish: impl Fn(Tile, *const B),
) {
    let mut first = begin;
    while first < end {
        let rows = ((end - first) as usize).min(plan.band.max(1));
        let reach = plan.copied.wrapping_sub(plan.band.wrapping_sub(1) * plan.sh);
        // SAFETY: forwarded.
        unsafe {
            copy(first, (rows - 1) * plan.sh + reach);
            for block in 0..plan.blocks {
                let strip = Strip {
                    plan,
                    start: &start,
                    finish: &finish,
                    block,
                    first,
                    sums: PhantomData,
                };
                strip.rows(rows);
            }
        }
        first += rows as i64;
    }
}

impl<B: Sums, S: Fn(Tile, *mut B), F: Fn(Tile, *const B)> Strip<'_, B, S, F> {
    /// All pixels of `rows` rows.
    #[inline(always)]
    unsafe fn rows(&self, rows: usize) {
        let width = self.plan.out_w;
        let most = B::MOST;
        let wide = match most {
            16.. if width % 16 > width % 14 => 14,
            16.. => 16,
            6.. => 6,
            4.. => 4,
            _ => 2,
        };
        let mut column = 0;
        // SAFETY: the pixels exist.
        unsafe {
            while column + wide <= width {
                for row in 0..rows {
                    let _ = match wide {
                        16 if most >= 16 => self.tile::<1, 16>(row, column),
                        14 if most >= 16 => self.tile::<1, 14>(row, column),
                        6 if most >= 6 => self.tile::<1, 6>(row, column),
                        4 if most >= 4 => self.tile::<1, 4>(row, column),
                        _ => self.tile::<1, 2>(row, column),
                    };
                }
                column += wide;
            }
            while column < width {
                let left = width - column;
                let mut row = 0;
                let columns = match left {
                    8.. if most >= 16 => 8,
                    7 if most >= 16 => 7,
                    4.. if most >= 4 => 4,
                    2.. => 2,
                    _ => 1,
                };
                while row < rows {
                    let left = rows - row;
                    row += match columns {
                        8 if most >= 16 && left >= 2 => self.tile::<2, 8>(row, column),
                        8 if most >= 16 => self.tile::<1, 8>(row, column),
                        7 if most >= 16 && left >= 2 => self.tile::<2, 7>(row, column),
                        7 if most >= 16 => self.tile::<1, 7>(row, column),
                        4 if most >= 16 && left >= 4 => self.tile::<4, 4>(row, column),
                        4 if most >= 4 => self.tile::<1, 4>(row, column),
                        2 if most >= 16 && left >= 4 => self.tile::<4, 2>(row, column),
                        2 if most >= 4 && left >= 2 => self.tile::<2, 2>(row, column),
                        2 => self.tile::<1, 2>(row, column),
                        _ if most >= 4 && left >= 4 => self.tile::<4, 1>(row, column),
                        _ => self.tile::<1, 1>(row, column),
                    };
                }
                column += columns;
            }
        }
    }

    /// `R` times `C` pixels; returns `R`. Part of its caller, which may have features that this level does not.
    #[inline(always)]
    unsafe fn tile<const R: usize, const C: usize>(&self, row: usize, column: usize) -> usize {
        let plan = self.plan;
        let tile = Tile {
            block: self.block,
            row: self.first + row as i64,
            column: column as i64,
            rows: R,
            columns: C,
        };
        // SAFETY: the pixels exist, and what the tables say of their windows.
        unsafe {
            let (from, to) = (*plan.starts.add(self.block), *plan.starts.add(self.block + 1));
            // The sums begin and end in memory, written and read by functions of their own: an array between that is indexed by constants
            // alone stays in registers.
            let mut memory = MaybeUninit::<[[B; C]; R]>::uninit();
            let ends = memory.as_mut_ptr().cast();
            (self.start)(tile, ends);
            let mut sums = memory.assume_init_read();
            let step = plan.sh * plan.pitch * BLOCK;
            let copy = plan.copy.add(row * step + column * BLOCK);
            let mut weights = plan.weights.add(from as usize * BLOCK);
            let mut place = plan.places.add(from as usize);
            let end = plan.places.add(to as usize);
            while place != end {
                let w = B::weights(weights);
                let mut unit = copy.offset(*place as isize);
                for r in 0..R {
                    for c in 0..C {
                        sums[r][c] = sums[r][c].add(w, unit.add(c * BLOCK));
                    }
                    unit = unit.wrapping_add(step);
                }
                weights = weights.add(BLOCK);
                place = place.add(1);
            }
            memory.write(sums);
            (self.finish)(tile, ends);
        }
        R
    }
}
