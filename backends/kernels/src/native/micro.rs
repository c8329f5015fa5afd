//! The register tile shared by convolution and GEMM: `M` pixels by `NV` vectors of output channels.
//!
//! Every output element is summed in the same order whatever the tile it falls into, so results do not depend on how
//! a caller cuts its range: bias plus residual first, then the taps in weight order. Sums that are continued later go
//! through the output in f32, which loses nothing.

use super::epilogue::Epilogue;
use super::simd::{LANES, V};

/// Pixels of a full tile.
pub const MR: usize = 6;

/// Rows of weights that small tiles fetch ahead: with little arithmetic per weight, memory is what they wait for.
const AHEAD: usize = 16;

/// Where the pixels of one tile are.
pub struct Tile {
    /// Input of each pixel; element k is `x[m][offsets[k]]`, or `x[m][k]` when the step has no offsets.
    pub x: [*const f32; MR],
    /// Output of each pixel, at the first channel of the block.
    pub y: [*mut f32; MR],
    /// What each sum starts from besides the bias (the residual, or an earlier partial sum); unused if the step says so.
    pub start: [*const f32; MR],
    /// Weights of the next step, or any address: a full tile hints that it will need `k` vectors from here.
    pub next: *const f32,
}

/// One run of the reduction over one block of output channels.
#[derive(Clone, Copy)]
pub struct Step {
    /// Input offset of each k.
    pub offsets: *const isize,
    /// Weights: `k` rows of `vectors * LANES`.
    pub weights: *const f32,
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

/// Runs `step` on the first `m` pixels of `tile`; `m` must be 1, 2, 4 or `MR`, and offsets are for `MR` only.
///
/// # Safety
/// All pointers must be valid for the elements described above, `weights` for `k * vectors * LANES`.
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
            (MR, true) => micro::<MR, NV, true>(tile, step),
            (MR, false) => micro::<MR, NV, false>(tile, step),
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
        for k in 0..step.k {
            let at = if OFFSETS { *step.offsets.add(k) } else { k as isize };
            if M == MR {
                V::prefetch(tile.next.wrapping_add(k * LANES));
            }
            let mut row = [V::splat(0.0); NV];
            for v in 0..NV {
                row[v] = V::load(w.add(v * LANES));
                if M < MR {
                    V::prefetch(w.wrapping_add((AHEAD * NV + v) * LANES));
                }
            }
            w = w.add(NV * LANES);
            for m in 0..M {
                let pixel = V::splat(*tile.x[m].offset(at));
                for v in 0..NV {
                    acc[m][v] = pixel.mul_add(row[v], acc[m][v]);
                }
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
