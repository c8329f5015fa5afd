//! The windows of a convolution's input: where they are, and copies of those that cannot be read in place.

use super::arith::{div, div_ceil};
use super::micro::{MR, RUNS, Step};
use super::params::Conv2dParams;
use super::simd::{LANES, V};

/// Longest run of the reduction done at once: the weights of a run (`KC * NR` floats) should stay in the caches
/// nearest to the core while all tiles of a band pass over them.
pub const KC: usize = 288;

/// Row pitch of the gather buffer: room to store a whole vector beyond `KC`, and not a multiple of the page size.
pub const PITCH: usize = KC + 16;

/// An output pixel.
#[derive(Clone, Copy)]
pub struct Pixel {
    pub row: isize,
    pub column: isize,
}

impl Pixel {
    /// The pixel `count` after this one, in rows of `width`.
    #[inline(always)]
    pub fn after(self, count: usize, width: usize) -> Pixel {
        let column = self.column as usize + count;
        let rows = div(column, width);
        Pixel {
            row: self.row + rows as isize,
            column: (column - rows * width) as isize,
        }
    }
}

/// A run `k0 .. k0 + len` of the reduction.
#[derive(Clone, Copy)]
pub struct Chunk {
    pub k0: usize,
    pub len: usize,
    /// Tap by tap: where the tap is from the first of the window, in rows and columns, and in elements including the
    /// first channel.
    pub tap: Pixel,
    pub offset: isize,
    /// Row by row: the first row of the window, and how many.
    pub row: usize,
    pub rows: usize,
}

/// The windows of a tile's pixels.
pub struct Windows {
    /// Input row and column of the first element of each, which may lie outside the input.
    pub at: [Pixel; MR],
    pub count: usize,
    /// A bit for each that does not lie inside the input.
    pub outside: u32,
}

/// The output pixels for which an element of the window exists.
#[derive(Clone, Copy)]
pub struct Reach {
    /// Whether it is all pixels that are asked about, whatever the ranges say.
    pub all: bool,
    rows: (isize, isize),
    columns: (isize, isize),
}

impl Reach {
    /// All pixels.
    pub const ALL: Reach = Reach {
        all: true,
        rows: (0, 0),
        columns: (0, 0),
    };

    /// Those, in the rows before `end`, that have the element `tap` rows and columns after the first of their window.
    #[inline(always)]
    pub fn of(p: &Conv2dParams, tap: Pixel, end: i64) -> Reach {
        let range = |size: i64, step: i64, before: i64, tap: isize| {
            let shift = before - tap as i64;
            (
                div_ceil(shift, step) as isize,
                div_ceil(size + shift, step) as isize,
            )
        };
        let rows = range(p.in_h, p.sh, p.pt, tap.row);
        let columns = range(p.in_w, p.sw, p.pl, tap.column);
        Reach {
            all: rows.0 == 0 && rows.1 >= end as isize && columns.0 == 0 && columns.1 >= p.out_w as isize,
            rows,
            columns,
        }
    }

    #[inline(always)]
    pub fn has(&self, pixel: Pixel) -> bool {
        (self.rows.0..self.rows.1).contains(&pixel.row)
            && (self.columns.0..self.columns.1).contains(&pixel.column)
    }

    /// How many of `count` pixels from `at` on, in rows of `width`, it has.
    #[inline(always)]
    pub fn count(&self, mut at: Pixel, count: usize, width: isize) -> usize {
        if self.all {
            return count;
        }
        let (mut left, mut found) = (count as isize, 0);
        while left > 0 {
            let end = (at.column + left).min(width);
            if (self.rows.0..self.rows.1).contains(&at.row) {
                found += (end.min(self.columns.1) - at.column.max(self.columns.0)).max(0);
            }
            left -= end - at.column;
            at = Pixel {
                row: at.row + 1,
                column: 0,
            };
        }
        found as usize
    }
}

/// Where the rows of the chunk are for each of the windows; `x[0]` says where the windows begin.
///
/// Rows that lie partly outside the input are copied to `buffer`, which has `PITCH` elements for each window.
#[inline(always)]
pub unsafe fn window_rows(
    p: &Conv2dParams,
    chunk: Chunk,
    zeros: *const f32,
    windows: &Windows,
    x: &mut [[*const f32; MR]; RUNS],
    buffer: *mut f32,
) {
    let step = (p.dh * p.xs_h) as isize;
    let first = x[0];
    for run in 0..chunk.rows {
        let ky = (chunk.row + run) as isize;
        for i in 0..windows.count.min(MR) {
            x[run & (RUNS - 1)][i] = first[i].wrapping_offset(ky * step);
        }
    }
    let in_c = p.in_c as usize;
    let mut left = windows.outside;
    while left != 0 {
        let i = left.trailing_zeros() as usize & (MR.next_power_of_two() - 1);
        left &= left - 1;
        if i >= MR {
            return;
        }
        let column = windows.at[i].column as i64;
        // Columns of the window that exist: kx in lo .. hi; with dilation there is but one.
        let lo = (-column).max(0).min(p.kw) as usize;
        let hi = (p.in_w - column).min(p.kw).max(lo as i64) as usize;
        let mut out = buffer.wrapping_add(i * PITCH);
        for run in 0..chunk.rows {
            let x = &mut x[run & (RUNS - 1)][i];
            let row = windows.at[i].row + (chunk.row + run) as isize * p.dh as isize;
            if row < 0 || row >= p.in_h as isize || lo == hi {
                *x = zeros;
            } else if hi - lo < p.kw as usize {
                // SAFETY: a window's buffer has room for the chunk and a vector more; the copied columns exist.
                unsafe {
                    zero(out, lo * in_c);
                    copy((*x).wrapping_add(lo * in_c), out.add(lo * in_c), (hi - lo) * in_c);
                    zero(out.add(hi * in_c), chunk.len - hi * in_c);
                }
                *x = out;
                out = out.wrapping_add(chunk.len);
            }
        }
    }
}

/// Input offset, from the first element of a window, of each k of the chunk.
#[inline(never)]
pub fn fill_offsets(p: &Conv2dParams, chunk: Chunk, table: *mut isize) {
    let tap = div(chunk.k0, p.in_c as usize);
    let mut ky = div(tap, p.kw as usize) as i64;
    let mut kx = tap as i64 - ky * p.kw;
    let mut ic = chunk.k0 as i64 - tap as i64 * p.in_c;
    for i in 0..chunk.len {
        let offset = ky * p.dh * p.xs_h + kx * p.dw * p.xs_w + ic * p.xs_c;
        // SAFETY: a chunk has at most KC entries, as has the table.
        unsafe { table.add(i).write(offset as isize) };
        ic += 1;
        if ic == p.in_c {
            ic = 0;
            kx += 1;
            if kx == p.kw {
                kx = 0;
                ky += 1;
            }
        }
    }
}

/// Copies the chunk's part of a window that lies inside the input to `out`.
#[inline(always)]
pub unsafe fn gather_inside(x: *const f32, step: &Step, out: *mut f32) {
    for k in 0..step.k {
        // SAFETY: the table has an offset for each element of the chunk, which `out` has room for.
        unsafe { out.add(k).write(*x.offset(*step.offsets.add(k))) };
    }
}

/// As [`gather_pixel`] for a chunk that is the whole window: nothing to divide.
#[inline(never)]
pub unsafe fn gather_window(p: &Conv2dParams, x: *const f32, window: Pixel, out: *mut f32) {
    let mut out = out;
    for ky in 0..p.kh as isize {
        let row = window.row + ky * p.dh as isize;
        for kx in 0..p.kw as isize {
            let column = window.column + kx * p.dw as isize;
            let exists = (0..p.in_h as isize).contains(&row) && (0..p.in_w as isize).contains(&column);
            let tap = x.wrapping_offset(ky * (p.dh * p.xs_h) as isize + kx * (p.dw * p.xs_w) as isize);
            for ic in 0..p.in_c as isize {
                // SAFETY: only elements inside the input are read; `out` has room for the window.
                unsafe {
                    out.write(if exists {
                        *tap.wrapping_offset(ic * p.xs_c as isize)
                    } else {
                        0.0
                    });
                    out = out.add(1);
                }
            }
        }
    }
}

/// Copies the chunk's part of one window to `out`, with zeros for what lies outside the input.
///
/// `x` is where the window's first element is, or would be.
#[inline(never)]
pub unsafe fn gather_pixel(p: &Conv2dParams, x: *const f32, window: Pixel, chunk: Chunk, out: *mut f32) {
    let per_row = (p.kw * p.in_c) as usize;
    let in_c = p.in_c as usize;
    // A window row that is contiguous in memory is copied in one piece.
    let contiguous = p.xs_c == 1 && p.dw * p.xs_w == p.in_c;
    // Columns of the window that exist: kx in lo .. hi.
    let column = window.column as i64;
    let lo = div_ceil(-column, p.dw).min(p.kw) as usize;
    let hi = div_ceil(p.in_w - column, p.dw).min(p.kw) as usize;

    let end = chunk.k0 + chunk.len;
    let mut k = chunk.k0;
    while k < end {
        let ky = div(k, per_row);
        let row_start = ky * per_row;
        let row_end = (row_start + per_row).min(end);
        let row = window.row + ky as isize * p.dh as isize;
        let exists = row >= 0 && row < p.in_h as isize && lo < hi;
        // The existing part of this row, cut to the chunk.
        let from = if exists {
            (row_start + lo * in_c).max(k).min(row_end)
        } else {
            row_end
        };
        let to = if exists {
            (row_start + hi * in_c).max(from).min(row_end)
        } else {
            row_end
        };
        // SAFETY: `out` has a whole vector of room after the chunk; only elements inside the input are read.
        unsafe {
            let at = |k: usize| out.add(k - chunk.k0);
            let source = x.wrapping_offset(ky as isize * (p.dh * p.xs_h) as isize);
            zero(at(k), from - k);
            if contiguous {
                copy(source.wrapping_add(from - row_start), at(from), to - from);
            } else {
                let mut k = from;
                while k < to {
                    let kx = div(k - row_start, in_c);
                    let ic = k - row_start - kx * in_c;
                    let len = (in_c - ic).min(to - k);
                    let tap = source.wrapping_offset(
                        kx as isize * (p.dw * p.xs_w) as isize + ic as isize * p.xs_c as isize,
                    );
                    if p.xs_c == 1 {
                        copy(tap, at(k), len);
                    } else {
                        for i in 0..len {
                            at(k + i).write(*tap.wrapping_offset(i as isize * p.xs_c as isize));
                        }
                    }
                    k += len;
                }
            }
            zero(at(to), row_end - to);
        }
        k = row_end;
    }
}

/// Zeroes `n` elements; may also overwrite up to a vector after them.
#[inline(always)]
pub unsafe fn zero(out: *mut f32, n: usize) {
    let mut i = 0;
    while i < n {
        // SAFETY: the buffer has room for a whole vector after its last element.
        unsafe { V::splat(0.0).store(out.add(i)) };
        i += LANES;
    }
}

/// Copies `n` elements; may also overwrite up to a vector after them, but reads nothing more.
#[inline(always)]
unsafe fn copy(from: *const f32, out: *mut f32, n: usize) {
    let mut i = 0;
    // SAFETY: as in `zero`; the partial load reads the remaining elements only.
    unsafe {
        while i + LANES <= n {
            V::load(from.add(i)).store(out.add(i));
            i += LANES;
        }
        if i < n {
            V::load_n(from.add(i), n - i).store(out.add(i));
        }
    }
}
