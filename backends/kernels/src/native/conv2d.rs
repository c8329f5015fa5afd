//! Convolution as an implicit matrix product: pixels by output channels, reduced over (ky, kx, ic).
//!
//! Loops, outermost first: a band of output pixels (flattened over rows and columns, so short rows waste nothing), a
//! block of output channels, a chunk of the reduction, a tile of pixels. There are two ways to read the input:
//! - *tap by tap*, for many contiguous channels: a chunk is a run of channels of one tap, and a pixel whose tap lies
//!   outside the input reads a row of zeros;
//! - otherwise chunks span taps. Where a tile's windows lie inside the input it is read in place through a table of
//!   offsets; elsewhere the tile's part is gathered, zeros included, into a small buffer on the stack.
//!
//! GEMM is the case of a 1x1 window.

use core::mem::MaybeUninit;

use super::arith::{div, div_ceil};
use super::epilogue::Epilogue;
use super::micro::{self, MR, Step, Tile};
use super::params::Conv2dParams;
use super::simd::{LANES, V};

/// Output channels of a full weight block.
pub const NR: usize = V::COLUMNS * LANES;

/// Longest run of the reduction done at once: the weights of a run (`KC * NR` floats) should stay in the caches
/// nearest to the core while all tiles of a band pass over them.
const KC: usize = 256;

/// Channels from which on a tap is worth a chunk of its own.
const TAP_CHANNELS: usize = 96;

/// Row pitch of the gather buffer: room to store a whole vector beyond `KC`, and not a multiple of the page size.
const PITCH: usize = KC + 16;

/// Pixels of a band: its input and output should stay in the second cache over all blocks and chunks.
const BAND: usize = 40 * MR;

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
}

/// How the reduction is cut.
#[derive(Clone, Copy)]
struct Chunks {
    reduction: usize,
    tapwise: bool,
    count: usize,
    /// Length of what is cut into `parts`: a tap, or everything.
    span: usize,
    parts: usize,
}

impl Chunks {
    #[inline(always)]
    fn new(p: &Conv2dParams) -> Chunks {
        let (taps, in_c) = ((p.kh * p.kw) as usize, p.in_c as usize);
        let tapwise = p.xs_c == 1 && (taps == 1 || in_c >= TAP_CHANNELS);
        let (spans, span) = if tapwise { (taps, in_c) } else { (1, taps * in_c) };
        let parts = if span > KC { span.div_ceil(KC) } else { 1 };
        Chunks {
            reduction: taps * in_c,
            tapwise,
            count: spans * parts,
            span,
            parts,
        }
    }

    #[inline(always)]
    fn chunk(&self, p: &Conv2dParams, index: usize) -> Chunk {
        // Equal parts: a short last one would pay for loading and storing the sums without doing much.
        let len = div(self.span + self.parts - 1, self.parts);
        let tap = div(index, self.parts);
        let from = (index - tap * self.parts) * len;
        let ky = div(tap, p.kw as usize);
        let kx = tap - ky * p.kw as usize;
        let tap_at = Pixel {
            row: ky as isize * p.dh as isize,
            column: kx as isize * p.dw as isize,
        };
        Chunk {
            k0: tap * self.span + from,
            len: if self.span - from < len {
                self.span - from
            } else {
                len
            },
            tap: tap_at,
            offset: tap_at.row * p.xs_h as isize + tap_at.column * p.xs_w as isize + from as isize,
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
                if !plan.tapwise && table_of != index {
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
                        tapwise: plan.tapwise,
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
    tapwise: bool,
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
        x: [null; MR],
        y: [null.cast_mut(); MR],
        start: [null; MR],
        next: null,
    };
    // Weights lie in the order they are used, so those of the next pass follow; each tile fetches a part of them.
    let part = pass.step.k * LANES;
    let mut next = pass.step.weights.wrapping_add(part * pass.step.vectors);
    let mut parts = pass.step.vectors;
    let mut at = at;
    let mut left = count;
    while left > 0 {
        let m = match left {
            MR.. => MR,
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        let mut window = [Pixel { row: 0, column: 0 }; MR];
        let mut inside = true;
        for i in 0..m {
            let row = at.row * p.sh as isize - p.pt as isize;
            let column = at.column * p.sw as isize - p.pl as isize;
            inside &= row >= 0
                && row + reach_h < p.in_h as isize
                && column >= 0
                && column + reach_w < p.in_w as isize;
            window[i] = Pixel { row, column };
            // Wrapping, because a window may begin outside the input; such pointers are not used.
            tile.x[i] = operands
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
        let offsets = inside && !pass.tapwise && m == MR;
        // SAFETY: the tile's windows lie inside the input, or are gathered into a buffer of MR rows.
        unsafe {
            if pass.tapwise {
                let chunk = pass.chunk;
                for i in 0..m {
                    let row = window[i].row + chunk.tap.row;
                    let column = window[i].column + chunk.tap.column;
                    let exists =
                        (0..p.in_h as isize).contains(&row) && (0..p.in_w as isize).contains(&column);
                    tile.x[i] = if exists {
                        tile.x[i].wrapping_offset(chunk.offset)
                    } else {
                        pass.zeros
                    };
                }
            } else if !offsets {
                for i in 0..m {
                    let row = gather.add(i * PITCH);
                    gather_pixel(p, tile.x[i], window[i], pass.chunk, row);
                    tile.x[i] = row;
                }
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
