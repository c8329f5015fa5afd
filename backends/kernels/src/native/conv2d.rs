//! Convolution as an implicit matrix product: pixels by output channels, reduced over (ky, kx, ic).
//!
//! Loops, outermost first: a band of output pixels (flattened over rows and columns, so short rows waste nothing), a
//! block of output channels, a chunk of the reduction, a tile of pixels. There are three ways to read the input:
//! - *tap by tap*, for many contiguous channels: a chunk is a run of channels of one tap, and a pixel whose tap lies
//!   outside the input reads a row of zeros;
//! - *row by row*, where the rows of a window are contiguous: a chunk is some rows of the window, each read in place, or
//!   from the row of zeros, or, if the row lies partly outside, from a copy on the stack;
//! - otherwise chunks span taps. Where a tile's windows lie inside the input it is read in place through a table of
//!   offsets; elsewhere the tile's part is gathered, zeros included, into a small buffer on the stack.
//!
//! GEMM is the case of a 1x1 window.

use core::mem::MaybeUninit;

use super::arith::{div, div_ceil};
use super::epilogue::Epilogue;
use super::micro::{self, MR, RUNS, Step, Tile};
use super::params::Conv2dParams;
use super::simd::{LANES, V};

/// Output channels of a full weight block.
pub const NR: usize = V::COLUMNS * LANES;

/// Longest run of the reduction done at once: the weights of a run (`KC * NR` floats) should stay in the caches
/// nearest to the core while all tiles of a band pass over them.
const KC: usize = 288;

/// Channels from which on a tap is worth a chunk of its own.
const TAP_CHANNELS: usize = 96;

/// Row pitch of the gather buffer: room to store a whole vector beyond `KC`, and not a multiple of the page size.
const PITCH: usize = KC + 16;

/// Pixels of a band: its input and output should stay in the second cache over all blocks and chunks.
const BAND: usize = 20 * MR;

/// The kernel `conv2d_f32`; operands x, w, bias, residual, y; the range is output rows.
///
/// # Safety
/// As [`blocks`], with `params` a [`Conv2dParams`].
#[inline(always)]
pub unsafe fn conv2d_f32(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: forwarded.
    unsafe {
        let p = &*params.cast::<Conv2dParams>();
        let operands = Operands::read(operands, p.has_bias != 0, p.has_residual != 0);
        blocks(
            p,
            &operands,
            (begin, end),
            (0, (p.out_c.max(0) as usize).div_ceil(NR)),
        );
    }
}

/// Base pointers of the operands of one call.
#[derive(Clone, Copy)]
pub struct Operands {
    pub x: *const f32,
    pub weights: *const f32,
    /// Null for none.
    pub bias: *const f32,
    /// Null for none; may be `y` itself.
    pub residual: *const f32,
    pub y: *mut f32,
}

impl Operands {
    /// Reads the five pointers of the calling convention.
    #[inline(always)]
    pub unsafe fn read(operands: *const *mut u8, has_bias: bool, has_residual: bool) -> Operands {
        // SAFETY: the caller vouches for five pointers.
        unsafe {
            let at = |i: usize| operands.add(i).read().cast::<f32>();
            let null = core::ptr::null();
            Operands {
                x: at(0),
                weights: at(1),
                bias: if has_bias { at(2) } else { null },
                residual: if has_residual { at(3) } else { null },
                y: at(4),
            }
        }
    }
}

/// An output pixel.
#[derive(Clone, Copy)]
struct Pixel {
    row: isize,
    column: isize,
}

/// A run `k0 .. k0 + len` of the reduction.
#[derive(Clone, Copy)]
struct Chunk {
    k0: usize,
    len: usize,
    /// Tap by tap: where the tap is from the first of the window, in rows and columns, and in elements including the
    /// first channel.
    tap: Pixel,
    offset: isize,
    /// Row by row: the first row of the window, and how many.
    row: usize,
    rows: usize,
}

/// How the input is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Tap,
    Row,
    Gather,
}

/// How the reduction is cut.
#[derive(Clone, Copy)]
struct Chunks {
    reduction: usize,
    way: Way,
    count: usize,
    /// Length of what is cut into `parts`: a tap, the rows of the window, or everything.
    span: usize,
    parts: usize,
    /// Elements of a row of the window.
    row: usize,
}

impl Chunks {
    #[inline(always)]
    fn new(p: &Conv2dParams) -> Chunks {
        let (kh, kw, in_c) = (p.kh as usize, p.kw as usize, p.in_c as usize);
        let (taps, row) = (kh * kw, kw * in_c);
        let dense = p.xs_c == 1 || in_c == 1;
        let way = if p.xs_c == 1 && (taps == 1 || in_c >= TAP_CHANNELS) {
            Way::Tap
        } else if dense && (kw == 1 || p.dw * p.xs_w == p.in_c) && row <= KC {
            Way::Row
        } else {
            Way::Gather
        };
        let (spans, span, most) = match way {
            Way::Tap => (taps, in_c, KC),
            Way::Row => (1, kh, div(KC, row).min(RUNS)),
            Way::Gather => (1, taps * in_c, KC),
        };
        let parts = if span > most {
            div(span + most - 1, most)
        } else {
            1
        };
        Chunks {
            reduction: taps * in_c,
            way,
            count: spans * parts,
            span,
            parts,
            row,
        }
    }

    #[inline(always)]
    fn chunk(&self, p: &Conv2dParams, index: usize) -> Chunk {
        // Equal parts: a short last one would pay for loading and storing the sums without doing much.
        let len = div(self.span + self.parts - 1, self.parts);
        let tap = div(index, self.parts);
        let from = (index - tap * self.parts) * len;
        let len = if self.span - from < len {
            self.span - from
        } else {
            len
        };
        if self.way == Way::Row {
            return Chunk {
                k0: from * self.row,
                len: self.row,
                tap: Pixel { row: 0, column: 0 },
                offset: 0,
                row: from,
                rows: len,
            };
        }
        let ky = div(tap, p.kw as usize);
        let kx = tap - ky * p.kw as usize;
        let tap_at = Pixel {
            row: ky as isize * p.dh as isize,
            column: kx as isize * p.dw as isize,
        };
        Chunk {
            k0: tap * self.span + from,
            len,
            tap: tap_at,
            offset: tap_at.row * p.xs_h as isize + tap_at.column * p.xs_w as isize + from as isize,
            row: 0,
            rows: 1,
        }
    }
}

/// Computes output rows `rows.0 .. rows.1` for the channel blocks `blocks.0 .. blocks.1`.
///
/// # Safety
/// The operands must be valid for all elements that the parameters say are touched, and the weights packed for this
/// instance (`nr == NR`, `lanes == LANES`).
#[inline(never)]
pub unsafe fn blocks(p: &Conv2dParams, operands: &Operands, rows: (i64, i64), blocks: (usize, usize)) {
    let pixels = (rows.1 - rows.0).max(0) as usize * p.out_w as usize;
    let plan = Chunks::new(p);
    let reduction = plan.reduction;
    let mut offsets = [const { MaybeUninit::<isize>::uninit() }; KC];
    let mut gather = [const { MaybeUninit::<f32>::uninit() }; MR * PITCH];
    let mut table_of = usize::MAX;
    let mut zeros = [const { MaybeUninit::<f32>::uninit() }; PITCH];
    // SAFETY: the buffer has room for a whole vector after KC.
    unsafe { zero(zeros.as_mut_ptr().cast(), KC) };

    let mut band_pixel = Pixel {
        row: rows.0 as isize,
        column: 0,
    };
    let mut done = 0;
    while done < pixels {
        let band = (pixels - done).min(BAND);
        let mut next = band_pixel;
        for block in blocks.0..blocks.1 {
            let columns = (p.out_c as usize - block * NR).min(NR);
            let vectors = columns.div_ceil(LANES);
            for index in 0..plan.count {
                let chunk = plan.chunk(p, index);
                if plan.way == Way::Gather && table_of != index {
                    fill_offsets(p, chunk, offsets.as_mut_ptr().cast());
                    table_of = index;
                }
                // SAFETY: every block before this one is full, so it starts at block * NR * reduction; pointers
                // derived here stay inside the operands as the caller vouches.
                unsafe {
                    let weights = operands
                        .weights
                        .add(block * NR * reduction + chunk.k0 * vectors * LANES);
                    let first = index == 0;
                    let step = Step {
                        offsets: offsets.as_ptr().cast(),
                        weights,
                        runs: chunk.rows,
                        k: chunk.len,
                        bias: if first && !operands.bias.is_null() {
                            operands.bias.add(block * NR)
                        } else {
                            core::ptr::null()
                        },
                        has_start: !first || !operands.residual.is_null(),
                        last: index + 1 == plan.count,
                        columns,
                        vectors,
                        epilogue: Epilogue::new(p.act, p.act_a, p.act_b),
                    };
                    let pass = Pass {
                        p,
                        operands,
                        chunk,
                        step: &step,
                        first,
                        way: plan.way,
                        channel: block * NR,
                        zeros: zeros.as_ptr().cast(),
                    };
                    next = band_tiles(&pass, band_pixel, band, gather.as_mut_ptr().cast());
                }
            }
        }
        band_pixel = next;
        done += band;
    }
}

/// What stays the same while the tiles of a band pass over one chunk of one block.
struct Pass<'a> {
    p: &'a Conv2dParams,
    operands: &'a Operands,
    chunk: Chunk,
    step: &'a Step,
    first: bool,
    way: Way,
    channel: usize,
    zeros: *const f32,
}

/// All tiles of `count` pixels from `at` on; returns the pixel after them.
#[inline(always)]
unsafe fn band_tiles(pass: &Pass<'_>, at: Pixel, count: usize, gather: *mut f32) -> Pixel {
    let (p, operands) = (pass.p, pass.operands);
    let (reach_h, reach_w) = (((p.kh - 1) * p.dh) as isize, ((p.kw - 1) * p.dw) as isize);
    let null = core::ptr::null::<f32>();
    let mut tile = Tile {
        x: [[null; MR]; RUNS],
        y: [null.cast_mut(); MR],
        start: [null; MR],
        next: null,
    };
    // Weights lie in the order they are used, so those of the next pass follow; each tile fetches a part of them.
    let part = pass.step.runs * pass.step.k * LANES;
    let mut next = pass.step.weights.wrapping_add(part * pass.step.vectors);
    let mut parts = pass.step.vectors;
    let full = if pass.way == Way::Gather {
        6
    } else {
        micro::full_tile(pass.step.vectors)
    };
    let mut at = at;
    let mut left = count;
    while left > 0 {
        let m = match left {
            MR.. if full == MR => MR,
            6.. => 6,
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        let mut window = [Pixel { row: 0, column: 0 }; MR];
        // A bit for each pixel whose window does not lie inside the input.
        let mut outside = 0u32;
        for i in 0..m {
            let row = at.row * p.sh as isize - p.pt as isize;
            let column = at.column * p.sw as isize - p.pl as isize;
            let inside = row >= 0
                && row + reach_h < p.in_h as isize
                && column >= 0
                && column + reach_w < p.in_w as isize;
            outside |= u32::from(!inside) << i;
            window[i] = Pixel { row, column };
            // Wrapping, because a window may begin outside the input; such pointers are not used.
            tile.x[0][i] = operands
                .x
                .wrapping_offset((row - p.x_row0 as isize) * p.xs_h as isize + column * p.xs_w as isize);
            let y = (at.row - p.y_row0 as isize) * p.ys_h as isize + at.column * p.ys_w as isize;
            tile.y[i] = operands.y.wrapping_offset(y).wrapping_add(pass.channel);
            tile.start[i] = if pass.first {
                let r = (at.row - p.r_row0 as isize) * p.rs_h as isize + at.column * p.rs_w as isize;
                operands.residual.wrapping_offset(r).wrapping_add(pass.channel)
            } else {
                tile.y[i]
            };
            at.column += 1;
            if at.column == p.out_w as isize {
                at = Pixel {
                    row: at.row + 1,
                    column: 0,
                };
            }
        }
        let offsets = outside == 0 && pass.way == Way::Gather && m == 6;
        // SAFETY: the tile's windows lie inside the input, or are gathered into a buffer of MR rows.
        unsafe {
            match pass.way {
                Way::Tap => {
                    let chunk = pass.chunk;
                    for i in 0..m {
                        let row = window[i].row + chunk.tap.row;
                        let column = window[i].column + chunk.tap.column;
                        let exists =
                            (0..p.in_h as isize).contains(&row) && (0..p.in_w as isize).contains(&column);
                        tile.x[0][i] = if exists {
                            tile.x[0][i].wrapping_offset(chunk.offset)
                        } else {
                            pass.zeros
                        };
                    }
                }
                Way::Row => window_rows(pass, outside, &window, m, &mut tile.x, gather),
                Way::Gather if !offsets => {
                    for i in 0..m {
                        let row = gather.add(i * PITCH);
                        if outside >> i & 1 == 0 {
                            gather_inside(tile.x[0][i], pass.step, row);
                        } else if pass.chunk.k0 == 0 && pass.step.last {
                            gather_window(p, tile.x[0][i], window[i], row);
                        } else {
                            gather_pixel(p, tile.x[0][i], window[i], pass.chunk, row);
                        }
                        tile.x[0][i] = row;
                    }
                }
                Way::Gather => {}
            }
            tile.next = next;
            if parts > 0 {
                parts -= 1;
                next = next.wrapping_add(part);
            } else {
                next = pass.step.weights;
            }
            micro::run(m, offsets, &tile, pass.step);
        }
        left -= m;
    }
    at
}

/// Where the rows of the chunk are for each of the first `m` windows; `x[0]` says where the windows begin.
///
/// Rows that lie partly outside the input are copied to `buffer`, which has `PITCH` elements for each window.
#[inline(always)]
unsafe fn window_rows(
    pass: &Pass<'_>,
    outside: u32,
    windows: &[Pixel; MR],
    m: usize,
    x: &mut [[*const f32; MR]; RUNS],
    buffer: *mut f32,
) {
    let (p, chunk) = (pass.p, pass.chunk);
    let step = (p.dh * p.xs_h) as isize;
    let first = x[0];
    for run in 0..chunk.rows {
        let ky = (chunk.row + run) as isize;
        for i in 0..m {
            x[run & (RUNS - 1)][i] = first[i].wrapping_offset(ky * step);
        }
    }
    let in_c = p.in_c as usize;
    let mut left = outside;
    while left != 0 {
        let i = left.trailing_zeros() as usize & (MR.next_power_of_two() - 1);
        left &= left - 1;
        if i >= MR {
            return;
        }
        let column = windows[i].column as i64;
        // Columns of the window that exist: kx in lo .. hi; with dilation there is but one.
        let lo = (-column).max(0).min(p.kw) as usize;
        let hi = (p.in_w - column).min(p.kw).max(lo as i64) as usize;
        let mut out = buffer.wrapping_add(i * PITCH);
        for run in 0..chunk.rows {
            let x = &mut x[run & (RUNS - 1)][i];
            let row = windows[i].row + (chunk.row + run) as isize * p.dh as isize;
            if row < 0 || row >= p.in_h as isize || lo == hi {
                *x = pass.zeros;
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
fn fill_offsets(p: &Conv2dParams, chunk: Chunk, table: *mut isize) {
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
unsafe fn gather_inside(x: *const f32, step: &Step, out: *mut f32) {
    for k in 0..step.k {
        // SAFETY: the table has an offset for each element of the chunk, which `out` has room for.
        unsafe { out.add(k).write(*x.offset(*step.offsets.add(k))) };
    }
}

/// As [`gather_pixel`] for a chunk that is the whole window: nothing to divide.
#[inline(never)]
unsafe fn gather_window(p: &Conv2dParams, x: *const f32, window: Pixel, out: *mut f32) {
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
unsafe fn gather_pixel(p: &Conv2dParams, x: *const f32, window: Pixel, chunk: Chunk, out: *mut f32) {
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
unsafe fn zero(out: *mut f32, n: usize) {
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
