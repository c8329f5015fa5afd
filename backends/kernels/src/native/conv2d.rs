//! Convolution as an implicit matrix product: pixels by output channels, reduced over (ky, kx, ic).
//!
//! Loops, outermost first: a band of output pixels (flattened over rows and columns, so short rows waste nothing), a
//! block of output channels, a chunk of the reduction, a tile of pixels. There are three ways to read the input:
//! - *tap by tap*, for many contiguous channels: a chunk is a run of channels of one tap, and pixels whose tap lies
//!   outside the input sit it out;
//! - *row by row*, where the rows of a window are contiguous: a chunk is some rows of the window, each read in place, or
//!   from the row of zeros, or, if the row lies partly outside, from a copy on the stack;
//! - otherwise chunks span taps. Where a tile's windows lie inside the input it is read in place through a table of
//!   offsets; elsewhere the tile's part is gathered, zeros included, into a small buffer on the stack.
//!
//! GEMM is the case of a 1x1 window.

use core::mem::MaybeUninit;

use super::arith::div;
use super::epilogue::Epilogue;
use super::micro::{self, Ahead, MR, RUNS, Step, Tile};
use super::params::Conv2dParams;
use super::simd::{LANES, V};
use super::windows::{
    Chunk, KC, PITCH, Pixel, Reach, Windows, fill_offsets, gather_inside, gather_pixel, gather_window,
    window_rows, zero,
};

/// Output channels of a full weight block.
pub const NR: usize = V::COLUMNS * LANES;

/// Weights from which on it pays to ask for those of the next run: more than the core's own cache holds together with others.
const FAR: usize = 1 << 17;

/// Channels from which on a tap is worth a chunk of its own.
const TAP_CHANNELS: usize = 96;

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
    fn new(p: &Conv2dParams, pixels: usize) -> Chunks {
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
            // Weights that are read once need not fit a cache.
            Way::Tap if pixels <= micro::SINGLE => (taps, in_c, 4 * micro::pages(NR)),
            Way::Tap => (taps, in_c, micro::longest_run(pixels, NR, KC)),
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
            offset: if self.way == Way::Tap {
                tap_at.row * p.xs_h as isize + tap_at.column * p.xs_w as isize + from as isize
            } else {
                0
            },
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
    let plan = Chunks::new(p, pixels);
    let reduction = plan.reduction;
    let mut offsets = [const { MaybeUninit::<isize>::uninit() }; KC];
    let mut gather = [const { MaybeUninit::<f32>::uninit() }; MR * PITCH];
    let mut table_of = usize::MAX;
    let mut zeros = [const { MaybeUninit::<f32>::uninit() }; PITCH];
    // SAFETY: the buffer has room for a whole vector after KC.
    unsafe { zero(zeros.as_mut_ptr().cast(), KC) };

    let mut places = [const { MaybeUninit::<Place>::uninit() }; BAND];
    let mut band_pixel = Pixel {
        row: rows.0 as isize,
        column: 0,
    };
    let mut tile = Tile::new(operands.x, operands.y);
    let mut done = 0;
    while done < pixels {
        let band = (pixels - done).min(BAND);
        let places = places.as_mut_ptr().cast::<Place>();
        // SAFETY: a band has at most BAND pixels.
        unsafe { place(p, band_pixel, band, places) };
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
                    let reach = if plan.way == Way::Tap {
                        Reach::of(p, chunk.tap, rows.1)
                    } else {
                        Reach::ALL
                    };
                    let rest = Step { k: 0, ..step };
                    let mut pass = Pass {
                        p,
                        operands,
                        places,
                        chunk,
                        step: &step,
                        first,
                        way: plan.way,
                        channel: block * NR,
                        zeros: zeros.as_ptr().cast(),
                        reach,
                        inside: true,
                        // Less arithmetic than loads leaves little time to ask in.
                        far: reduction * p.out_c as usize > if pixels < 4 { 4 * FAR } else { FAR },
                        count: reach.count(band_pixel, band, p.out_w as isize),
                    };
                    // In one place, so that it is compiled once.
                    loop {
                        band_tiles(&pass, &mut tile, gather.as_mut_ptr().cast());
                        if !pass.inside || pass.count == band || !(first || step.last) {
                            break;
                        }
                        // The others still need their first sum, or the epilogue.
                        pass = Pass {
                            step: &rest,
                            inside: false,
                            count: band - pass.count,
                            ..pass
                        };
                    }
                }
            }
        }
        band_pixel = band_pixel.after(band, p.out_w as usize);
        done += band;
    }
}

/// An output pixel, and where its operands are.
#[derive(Clone, Copy)]
struct Place {
    at: Pixel,
    /// From operand `x` to the first element of its window, which may lie outside the input.
    x: isize,
    /// From operand `y` to its first channel.
    y: isize,
}

/// Lists `count` pixels from `at` on.
///
/// # Safety
/// `places` must have room for them.
#[inline(always)]
unsafe fn place(p: &Conv2dParams, at: Pixel, count: usize, places: *mut Place) {
    let (width, step) = (p.out_w as isize, (p.sw * p.xs_w) as isize);
    let row_of = |row: isize| {
        let x = row * p.sh as isize - (p.pt + p.x_row0) as isize;
        (
            x * p.xs_h as isize - (p.pl * p.xs_w) as isize,
            (row - p.y_row0 as isize) * p.ys_h as isize,
        )
    };
    let (x, y) = row_of(at.row);
    let mut next = Place {
        at,
        x: x + at.column * step,
        y: y + at.column * p.ys_w as isize,
    };
    for i in 0..count {
        // SAFETY: forwarded.
        unsafe { places.add(i).write(next) };
        next.at.column += 1;
        next.x += step;
        next.y += p.ys_w as isize;
        if next.at.column == width {
            next.at = Pixel {
                row: next.at.row + 1,
                column: 0,
            };
            (next.x, next.y) = row_of(next.at.row);
        }
    }
}

/// What stays the same while the tiles of a band pass over one chunk of one block.
struct Pass<'a> {
    p: &'a Conv2dParams,
    operands: &'a Operands,
    /// The band's pixels.
    places: *const Place,
    chunk: Chunk,
    step: &'a Step,
    first: bool,
    way: Way,
    channel: usize,
    zeros: *const f32,
    reach: Reach,
    /// Whether the pixels in `reach` are meant, or the others; and how many they are.
    inside: bool,
    count: usize,
    /// Whether to ask for the weights of the next run.
    far: bool,
}

/// The tiles of the pass's pixels.
#[inline(always)]
unsafe fn band_tiles(pass: &Pass<'_>, tile: &mut Tile, gather: *mut f32) {
    let p = pass.p;
    let (reach_h, reach_w) = (((p.kh - 1) * p.dh) as isize, ((p.kw - 1) * p.dw) as isize);
    tile.ahead = if pass.far {
        Ahead::new(pass.step, pass.count)
    } else {
        Ahead::NOTHING
    };
    let full = if pass.way == Way::Gather {
        6
    } else {
        micro::full_tile(pass.step.vectors)
    };
    let (x, y) = (
        pass.operands.x.wrapping_offset(pass.chunk.offset),
        pass.operands.y.wrapping_add(pass.channel),
    );
    let mut next = pass.places;
    let mut left = pass.count;
    while left > 0 {
        let m = match left {
            MR.. if full == MR => MR,
            6.. => 6,
            4.. => 4,
            3 => 3,
            2.. => 2,
            _ => 1,
        };
        let mut windows = Windows {
            at: [Pixel { row: 0, column: 0 }; MR],
            count: m,
            outside: 0,
        };
        for i in 0..m {
            // SAFETY: `count` of the band's pixels are meant.
            let place = unsafe {
                while !pass.reach.all && pass.reach.has((*next).at) != pass.inside {
                    next = next.add(1);
                }
                &*next
            };
            next = next.wrapping_add(1);
            tile.x[0][i] = x.wrapping_offset(place.x);
            tile.y[i] = y.wrapping_offset(place.y);
            tile.start[i] = tile.y[i];
            if pass.first && pass.step.has_start {
                let (row, column) = (place.at.row - p.r_row0 as isize, place.at.column);
                let r = row * p.rs_h as isize + column * p.rs_w as isize;
                tile.start[i] = pass
                    .operands
                    .residual
                    .wrapping_offset(r)
                    .wrapping_add(pass.channel);
            }
            if pass.way != Way::Tap {
                let row = place.at.row * p.sh as isize - p.pt as isize;
                let column = place.at.column * p.sw as isize - p.pl as isize;
                let inside = row >= 0
                    && row + reach_h < p.in_h as isize
                    && column >= 0
                    && column + reach_w < p.in_w as isize;
                windows.outside |= u32::from(!inside) << i;
                windows.at[i] = Pixel { row, column };
            }
        }
        let offsets = windows.outside == 0 && pass.way == Way::Gather && m == 6;
        // SAFETY: the tile's windows lie inside the input, or are gathered into a buffer of MR rows.
        unsafe {
            match pass.way {
                Way::Row => window_rows(p, pass.chunk, pass.zeros, &windows, &mut tile.x, gather),
                Way::Gather if !offsets => {
                    for i in 0..m {
                        let row = gather.add(i * PITCH);
                        if windows.outside >> i & 1 == 0 {
                            gather_inside(tile.x[0][i], pass.step, row);
                        } else if pass.chunk.k0 == 0 && pass.step.last {
                            gather_window(p, tile.x[0][i], windows.at[i], row);
                        } else {
                            gather_pixel(p, tile.x[0][i], windows.at[i], pass.chunk, row);
                        }
                        tile.x[0][i] = row;
                    }
                }
                Way::Tap | Way::Gather => {}
            }
            micro::run(m, offsets, tile, pass.step);
        }
        left -= m;
    }
}
