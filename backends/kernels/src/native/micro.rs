//! The register tile shared by convolution and GEMM: `M` pixels by `NV` vectors of output channels.
//!
//! Every output element is summed in the same order whatever the tile it falls into, so results do not depend on how
//! a caller cuts its range: bias plus residual first, then the taps in weight order. Sums that are continued later go
//! through the output in f32, which loses nothing.

use super::epilogue::Epilogue;
use super::simd::{LANES, V};

/// Most pixels of a tile.
pub const MR: usize = 12;

/// Pixels of a full tile of `vectors` vectors of channels: enough sums to hide the latency of an addition, and few
/// enough for the registers.
#[inline(always)]
pub const fn full_tile(vectors: usize) -> usize {
    if vectors == 1 || (vectors == 2 && V::COLUMNS == 4) {
        MR
    } else {
        6
    }
}

/// Pixels up to which one tile does, or two for five: each weight is read once, or twice.
pub const SINGLE: usize = 6;

/// Most contiguous runs of input per step.
pub const RUNS: usize = 8;

/// Vectors of weights that a tile of `MR` pixels holds at once.
const NEAR: usize = if V::COLUMNS == 4 { 4 } else { 2 };

/// Rows of weights that small tiles ask for ahead if they do not ask for the next step's.
const NEXT_ROWS: usize = 16;

/// Parts of a step's weights that are asked for in turns.
const PARTS: usize = 8;

/// Floats of a page and of a line.
const PAGE: usize = 1024;
const LINE: usize = 16;

/// Rows of weights of `width` floats that make a page for each part.
pub const fn pages(width: usize) -> usize {
    PARTS * PAGE / width
}

/// Pixels, or Winograd's tiles, up to which weights come from memory rather than from a cache.
const FEW: usize = 24;

/// Longest run of the reduction done at once over weights of `width` floats, where `most` is right for weights in a cache. With few pixels it
/// is shorter: runs that the first cache holds for all tiles leave the core's buffers for misses to the weights of the next.
#[inline(always)]
pub fn longest_run(pixels: usize, width: usize, most: usize) -> usize {
    if pixels <= FEW { pages(width) } else { most }
}

/// Hints that the weights of the next step will be needed.
///
/// A core reads memory fastest in several pages at once, so these weights count as [`PARTS`] parts, each of whole pages, which the tiles
/// of a step ask for in turns, a line at a time. (Parts that begin amid a page take up to half as long again.)
#[derive(Clone, Copy)]
pub struct Ahead {
    /// What to ask for next, or any address.
    next: *const f32,
    /// From one part to the next, in floats.
    part: usize,
    /// Lines asked for so far, and of all.
    asked: usize,
    lines: usize,
    /// Whether a [`SINGLE`] tile asks for them all. Otherwise large tiles ask for one line with each k: more would leave no room
    /// for the loads of the step's own weights.
    alone: bool,
}

impl Ahead {
    /// Asks for nothing.
    pub const NOTHING: Ahead = Ahead {
        next: core::ptr::null(),
        part: 0,
        asked: 0,
        lines: 0,
        alone: false,
    };

    /// What the tiles of `pixels` pixels ask for in `step`: the weights after its own, which follow in memory as they do in time.
    #[inline(always)]
    pub fn new(step: &Step, pixels: usize) -> Ahead {
        let floats = step.runs * step.k * step.vectors * LANES;
        let end = step.weights.wrapping_add(floats);
        Ahead {
            next: end.map_addr(|address| address & !(4 * PAGE - 1)),
            part: floats.div_ceil(PARTS).next_multiple_of(PAGE),
            asked: 0,
            lines: floats / LINE,
            alone: pixels <= SINGLE,
        }
    }

    /// Asks for `count` lines, which divides [`PARTS`].
    #[inline(always)]
    unsafe fn ask(&mut self, count: usize) {
        for i in 0..count {
            // SAFETY: a hint may name any address.
            unsafe { V::prefetch(self.next.wrapping_add(i * self.part)) };
        }
        self.asked += count;
        let next = self.next.wrapping_add(count * self.part);
        self.next = if self.asked.is_multiple_of(PARTS) {
            next.wrapping_sub(PARTS * self.part).wrapping_add(LINE)
        } else {
            next
        };
    }
}

/// Where the pixels of one tile are.
pub struct Tile {
    /// Input of each pixel, for each run of the step; element k of a run is `x[run][m][k]`, or, with offsets,
    /// `x[0][m][offsets[k]]`.
    pub x: [[*const f32; MR]; RUNS],
    /// Output of each pixel, at the first channel of the block.
    pub y: [*mut f32; MR],
    /// What each sum starts from besides the bias (the residual, or an earlier partial sum); unused if the step says so.
    pub start: [*const f32; MR],
    /// The weights of the next step.
    pub ahead: Ahead,
}

impl Tile {
    /// A tile all of whose pixels are at `x` and `y`: something to begin with.
    #[inline(always)]
    pub fn new(x: *const f32, y: *mut f32) -> Tile {
        Tile {
            x: [[x; MR]; RUNS],
            y: [y; MR],
            start: [x; MR],
            ahead: Ahead::NOTHING,
        }
    }
}

/// One run of the reduction over one block of output channels.
#[derive(Clone, Copy)]
pub struct Step {
    /// Input offset of each k.
    pub offsets: *const isize,
    /// Weights: `runs * k` rows of `vectors * LANES`.
    pub weights: *const f32,
    /// Contiguous runs of input, at most `RUNS`, and their length.
    pub runs: usize,
    pub k: usize,
    /// Bias of the block's channels, null for zero.
    pub bias: *const f32,
    pub has_start: bool,
    /// Whether the sums are complete after this run.
    pub last: bool,
    /// Channels that exist, at most `vectors * LANES`; only these are read from bias and start and written to `y`.
    pub columns: usize,
    pub vectors: usize,
    pub epilogue: Epilogue,
}

/// Runs `step` on the first `m` pixels of `tile`; `m` must be 1, 2, 3, 4, 6 or [`full_tile`], and offsets are for 6 only.
///
/// # Safety
/// All pointers must be valid for the elements described above, `weights` for `runs * k * vectors * LANES`.
#[inline(always)]
pub unsafe fn run(m: usize, offsets: bool, tile: &mut Tile, step: &Step) {
    // SAFETY: forwarded. A chain of comparisons rather than a table of pointers keeps data relocations out of the object.
    unsafe {
        match step.vectors {
            1 => run_columns::<1>(m, offsets, tile, step),
            2 => run_columns::<2>(m, offsets, tile, step),
            3 if V::COLUMNS >= 3 => run_columns::<3>(m, offsets, tile, step),
            4 if V::COLUMNS >= 4 => run_columns::<4>(m, offsets, tile, step),
            _ => {}
        }
    }
}

#[inline(always)]
unsafe fn run_columns<const NV: usize>(m: usize, offsets: bool, tile: &mut Tile, step: &Step) {
    // SAFETY: forwarded.
    unsafe {
        let hints = tile.ahead.asked < tile.ahead.lines;
        match (m, offsets) {
            (MR, _) if full_tile(NV) == MR => micro::<MR, NV, false>(tile, step, hints),
            (6, true) => micro::<6, NV, true>(tile, step, hints),
            (6, false) => micro::<6, NV, false>(tile, step, hints),
            (4, _) => micro::<4, NV, false>(tile, step, hints),
            (3, _) => micro::<3, NV, false>(tile, step, hints),
            (2, _) => micro::<2, NV, false>(tile, step, hints),
            _ => micro::<1, NV, false>(tile, step, hints),
        }
    }
}

#[inline(always)]
unsafe fn micro<const M: usize, const NV: usize, const OFFSETS: bool>(
    tile: &mut Tile,
    step: &Step,
    hints: bool,
) {
    // SAFETY: forwarded. Without hints there are registers for all addresses; narrow blocks are too few to be worth the code.
    unsafe {
        if hints && NV == V::COLUMNS {
            sums::<M, NV, OFFSETS, true>(tile, step);
        } else {
            sums::<M, NV, OFFSETS, false>(tile, step);
        }
    }
}

#[inline(never)]
unsafe fn sums<const M: usize, const NV: usize, const OFFSETS: bool, const HINTS: bool>(
    tile: &mut Tile,
    step: &Step,
) {
    // SAFETY: the caller of `run` vouches for the pointers; columns beyond `step.columns` are touched in the weights
    // only, whose rows are padded to whole vectors.
    unsafe {
        let tail = step.columns - (NV - 1) * LANES;
        let mut acc = [[V::splat(0.0); NV]; M];

        let mut base = [V::splat(0.0); NV];
        if !step.bias.is_null() {
            base = load_row(step.bias, tail);
        }
        for m in 0..M {
            acc[m] = base;
            if step.has_start {
                let start: [V; NV] = load_row(tile.start[m], tail);
                for v in 0..NV {
                    acc[m][v] = base[v].add(start[v]);
                }
            }
        }

        let mut w = step.weights;
        let mut ahead = tile.ahead;
        for run in 0..step.runs {
            // A mask in place of a check that could panic.
            let x = &tile.x[if OFFSETS { 0 } else { run & (RUNS - 1) }];
            let mut k = 0;
            if !OFFSETS && M == MR {
                // More pixels than address registers: each pointer is fetched once for several k.
                while k + NEAR / NV <= step.k {
                    let mut rows = [[V::splat(0.0); NV]; NEAR];
                    for i in 0..NEAR / NV {
                        if HINTS {
                            ahead.ask(1);
                        }
                        for v in 0..NV {
                            rows[i][v] = V::load(w.add((i * NV + v) * LANES));
                        }
                    }
                    w = w.add(NEAR / NV * NV * LANES);
                    for m in 0..M {
                        let pixels = x[m].add(k);
                        for i in 0..NEAR / NV {
                            let pixel = V::splat(*pixels.add(i));
                            for v in 0..NV {
                                acc[m][v] = pixel.mul_add(rows[i][v], acc[m][v]);
                            }
                        }
                    }
                    k += NEAR / NV;
                }
            }
            while k < step.k {
                let at = if OFFSETS { *step.offsets.add(k) } else { k as isize };
                if HINTS {
                    if M < 4 || ahead.alone {
                        ahead.ask((NV * LANES).div_ceil(LINE));
                    } else {
                        ahead.ask(1);
                    }
                }
                let mut row = [V::splat(0.0); NV];
                for v in 0..NV {
                    row[v] = V::load(w.add(v * LANES));
                    if !HINTS && M < 4 {
                        V::prefetch(w.wrapping_add((NEXT_ROWS * NV + v) * LANES));
                    }
                }
                w = w.add(NV * LANES);
                for m in 0..M {
                    let pixel = V::splat(*x[m].offset(at));
                    for v in 0..NV {
                        acc[m][v] = pixel.mul_add(row[v], acc[m][v]);
                    }
                }
                k += 1;
            }
        }
        if HINTS {
            tile.ahead = ahead;
        }

        for m in 0..M {
            let mut out = acc[m];
            if step.last {
                for v in 0..NV {
                    out[v] = step.epilogue.apply(out[v]);
                }
            }
            store_row(out, tile.y[m], tail);
        }
    }
}

/// `NV` vectors, of which the last has `tail` (1 to `LANES`) elements.
#[inline(always)]
unsafe fn load_row<const NV: usize>(p: *const f32, tail: usize) -> [V; NV] {
    // SAFETY: the caller vouches for (NV - 1) * LANES + tail elements.
    unsafe {
        let mut row = [V::splat(0.0); NV];
        for v in 0..NV - 1 {
            row[v] = V::load(p.add(v * LANES));
        }
        row[NV - 1] = V::load_n(p.add((NV - 1) * LANES), tail);
        row
    }
}

#[inline(always)]
unsafe fn store_row<const NV: usize>(row: [V; NV], p: *mut f32, tail: usize) {
    // SAFETY: as in `load_row`.
    unsafe {
        for v in 0..NV - 1 {
            row[v].store(p.add(v * LANES));
        }
        row[NV - 1].store_n(p.add((NV - 1) * LANES), tail);
    }
}
