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

/// Most contiguous runs of input per step.
pub const RUNS: usize = 8;

/// Vectors of weights that a tile of `MR` pixels holds at once.
const NEAR: usize = if V::COLUMNS == 4 { 4 } else { 2 };

/// Rows of weights that small tiles fetch ahead: with little arithmetic per weight, memory is what they wait for.
const AHEAD: usize = 16;

/// Where the pixels of one tile are.
pub struct Tile {
    /// Input of each pixel, for each run of the step; element k of a run is `x[run][m][k]`, or, with offsets,
    /// `x[0][m][offsets[k]]`.
    pub x: [[*const f32; MR]; RUNS],
    /// Output of each pixel, at the first channel of the block.
    pub y: [*mut f32; MR],
    /// What each sum starts from besides the bias (the residual, or an earlier partial sum); unused if the step says so.
    pub start: [*const f32; MR],
    /// Weights of the next step, or any address: a tile of 6 or more hints that it will need
    /// `runs * k` vectors from here.
    pub next: *const f32,
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

/// Runs `step` on the first `m` pixels of `tile`; `m` must be 1, 2, 4, 6 or [`full_tile`], and offsets are for 6 only.
///
/// # Safety
/// All pointers must be valid for the elements described above, `weights` for `runs * k * vectors * LANES`.
#[inline(always)]
pub unsafe fn run(m: usize, offsets: bool, tile: &Tile, step: &Step) {
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
unsafe fn run_columns<const NV: usize>(m: usize, offsets: bool, tile: &Tile, step: &Step) {
    // SAFETY: forwarded.
    unsafe {
        match (m, offsets) {
            (MR, _) if full_tile(NV) == MR => micro::<MR, NV, false>(tile, step),
            (6, true) => micro::<6, NV, true>(tile, step),
            (6, false) => micro::<6, NV, false>(tile, step),
            (4, _) => micro::<4, NV, false>(tile, step),
            (2, _) => micro::<2, NV, false>(tile, step),
            _ => micro::<1, NV, false>(tile, step),
        }
    }
}

#[inline(never)]
unsafe fn micro<const M: usize, const NV: usize, const OFFSETS: bool>(tile: &Tile, step: &Step) {
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
        let mut next = tile.next;
        for run in 0..step.runs {
            // A mask in place of a check that could panic.
            let x = &tile.x[if OFFSETS { 0 } else { run & (RUNS - 1) }];
            let mut k = 0;
            if !OFFSETS && M == MR {
                // More pixels than address registers: each pointer is fetched once for several k.
                while k + NEAR / NV <= step.k {
                    let mut rows = [[V::splat(0.0); NV]; NEAR];
                    for i in 0..NEAR / NV {
                        V::prefetch(next);
                        next = next.wrapping_add(LANES);
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
                if M >= 6 {
                    V::prefetch(next);
                    next = next.wrapping_add(LANES);
                }
                let mut row = [V::splat(0.0); NV];
                for v in 0..NV {
                    row[v] = V::load(w.add(v * LANES));
                    if M < 6 {
                        V::prefetch(w.wrapping_add((AHEAD * NV + v) * LANES));
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
