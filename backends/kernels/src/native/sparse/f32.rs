//! The kernel `sparse2d_f32`: units are channels.

use super::super::epilogue::Epilogue;
use super::super::params::Sparse2dParams;
use super::super::simd::{LANES, V};
use super::{BLOCK, Plan, Sums, Tile, steps};

/// Vectors of a block.
const VECTORS: usize = BLOCK / LANES;

/// One vector for every so many filters.
#[derive(Clone, Copy)]
struct Block([V; VECTORS]);

impl Sums for Block {
    type Weights = [V; VECTORS];
    const MOST: usize = match VECTORS {
        1 => 16,
        2 => 6,
        _ => 2,
    };

    #[inline(always)]
    unsafe fn weights(from: *const u32) -> [V; VECTORS] {
        // SAFETY: sixteen weights, by contract.
        unsafe {
            let mut weights = [V::splat(0.0); VECTORS];
            for v in 0..VECTORS {
                weights[v] = V::load(from.add(v * LANES).cast());
            }
            weights
        }
    }

    #[inline(always)]
    unsafe fn add(mut self, weights: [V; VECTORS], unit: *const u32) -> Self {
        // SAFETY: the unit exists, by contract.
        unsafe {
            let x = V::splat(*unit.cast::<f32>());
            for v in 0..VECTORS {
                self.0[v] = x.mul_add(weights[v], self.0[v]);
            }
        }
        self
    }
}

struct Conv<'a> {
    p: &'a Sparse2dParams,
    x: *const f32,
    /// Null for none.
    bias: *const f32,
    /// Null for none; may be `y` itself.
    residual: *const f32,
    scratch: *mut f32,
    y: *mut f32,
    epilogue: Epilogue,
}

/// The kernel; operands x, w, places, starts, bias, residual, scratch, y; the range is output rows.
///
/// # Safety
/// The operands must be valid for all elements that the [`Sparse2dParams`] at `params` and the tables say are touched.
#[inline(always)]
pub unsafe fn sparse2d_f32(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: the contract gives eight operands and the parameters.
    unsafe {
        let p = &*params.cast::<Sparse2dParams>();
        let at = |i: usize| operands.add(i).read();
        let optional = |has: i64, i: usize| if has != 0 { at(i) } else { core::ptr::null_mut() };
        let layer = Conv {
            p,
            x: at(0).cast(),
            bias: optional(p.has_bias, 4).cast(),
            residual: optional(p.has_residual, 5).cast(),
            scratch: at(6).cast(),
            y: at(7).cast(),
            epilogue: Epilogue::new(p.act, p.act_a, p.act_b),
        };
        let plan = Plan {
            out_w: p.out_w as usize,
            blocks: (p.out_c as usize).div_ceil(BLOCK),
            sh: p.sh as usize,
            band: p.band as usize,
            copied: p.copied as usize,
            pitch: (p.phases * p.width) as usize,
            copy: at(6).cast_const().cast(),
            weights: at(1).cast_const().cast(),
            places: at(2).cast_const().cast(),
            starts: at(3).cast_const().cast(),
        };
        super::run(
            &plan,
            (begin, end),
            |row, rows| layer.copy(row, rows),
            |tile, sums| layer.start(tile, sums),
            |tile, sums| layer.finish(tile, sums),
        );
    }
}

impl Conv<'_> {
    /// Elements of vector `v` of a block that exist.
    #[inline(always)]
    fn there(&self, block: usize, v: usize) -> usize {
        (self.p.out_c as usize)
            .saturating_sub(block * BLOCK + v * LANES)
            .min(LANES)
    }

    /// Copies `count` pixels, `step` elements apart: their channels from `channel` on, at most sixteen.
    #[inline(always)]
    unsafe fn pixels(&self, from: *const f32, step: isize, count: usize, channel: usize, to: *mut f32) {
        let left = self.p.in_c as usize - channel;
        let (mut from, mut to) = (from.wrapping_offset((channel as i64 * self.p.xs_c) as isize), to);
        for _ in 0..count {
            // SAFETY: the channels exist, and a line of scratch memory.
            unsafe {
                if self.p.xs_c == 1 && left >= BLOCK {
                    for v in 0..VECTORS {
                        V::load(from.add(v * LANES)).store(to.add(v * LANES));
                    }
                } else {
                    for l in 0..BLOCK {
                        let value = if l < left {
                            *from.offset(l as isize * self.p.xs_c as isize)
                        } else {
                            0.0
                        };
                        *to.add(l) = value;
                    }
                }
            }
            (from, to) = (from.wrapping_offset(step), to.wrapping_add(BLOCK));
        }
    }
}

/// Clears `count` lines.
#[inline(always)]
unsafe fn clear(to: *mut f32, count: usize) {
    for v in 0..count * VECTORS {
        // SAFETY: the lines exist, by contract.
        unsafe { V::splat(0.0).store(to.add(v * LANES)) };
    }
}

impl Conv<'_> {
    #[inline(never)]
    unsafe fn copy(&self, row: i64, rows: usize) {
        let p = self.p;
        let (mut channel, mut plane) = (0, self.scratch);
        let width = p.width as usize;
        // SAFETY: rows and columns of the input are looked at where they exist; the scratch operand has room.
        unsafe {
            while channel < p.in_c as usize {
                let mut to = plane;
                for r in 0..rows as i64 {
                    let input = row * p.sh - p.pt + r;
                    let exists = (0..p.in_h).contains(&input);
                    let from = self.x.wrapping_offset(((input - p.x_row0) * p.xs_h) as isize);
                    for phase in 0..p.phases {
                        // Columns before the first that exists, and those to the end of the last.
                        let first = phase - p.pl;
                        let before = steps(-first, p.sw).min(if exists { width } else { 0 });
                        let last = steps(p.in_w - first, p.sw)
                            .min(if exists { width } else { 0 })
                            .max(before);
                        clear(to, before);
                        let column = first + before as i64 * p.sw;
                        let from = from.wrapping_offset((column * p.xs_w) as isize);
                        self.pixels(
                            from,
                            (p.sw * p.xs_w) as isize,
                            last - before,
                            channel,
                            to.add(before * BLOCK),
                        );
                        clear(to.add(last * BLOCK), width - last);
                        to = to.add(width * BLOCK);
                    }
                }
                channel += BLOCK;
                plane = plane.wrapping_add((p.copied * p.phases * p.width) as usize * BLOCK);
            }
        }
    }

    #[inline(never)]
    unsafe fn start(&self, tile: Tile, sums: *mut Block) {
        let (p, at) = (self.p, tile.block * BLOCK);
        let (step, pixel) = (
            p.rs_w as isize,
            (tile.row - p.r_row0) * p.rs_h + tile.column * p.rs_w,
        );
        let mut line = self.residual.wrapping_offset(pixel as isize).wrapping_add(at);
        let mut sums = sums;
        // SAFETY: the elements that exist of bias and residual, and sums for all pixels.
        unsafe {
            let mut bias = [V::splat(0.0); VECTORS];
            for v in 0..VECTORS {
                if !self.bias.is_null() {
                    bias[v] = V::load_n(self.bias.wrapping_add(at + v * LANES), self.there(tile.block, v));
                }
            }
            for _ in 0..tile.rows {
                let mut from = line;
                for _ in 0..tile.columns {
                    let mut start = Block(bias);
                    if !self.residual.is_null() {
                        for v in 0..VECTORS {
                            let residual = V::load_n(from.wrapping_add(v * LANES), self.there(tile.block, v));
                            start.0[v] = bias[v].add(residual);
                        }
                    }
                    sums.write(start);
                    sums = sums.add(1);
                    from = from.wrapping_offset(step);
                }
                line = line.wrapping_offset(p.rs_h as isize);
            }
        }
    }

    #[inline(never)]
    unsafe fn finish(&self, tile: Tile, sums: *const Block) {
        let (p, epilogue, at) = (self.p, self.epilogue, tile.block * BLOCK);
        let (row, step) = (p.ys_h as isize, p.ys_w as isize);
        let pixel = (tile.row - p.y_row0) * p.ys_h + tile.column * p.ys_w;
        let mut line = self.y.wrapping_offset(pixel as isize).wrapping_add(at);
        let mut there = [0; VECTORS];
        for v in 0..VECTORS {
            there[v] = self.there(tile.block, v);
        }
        let mut sums = sums;
        // SAFETY: the elements that exist of the result.
        unsafe {
            for _ in 0..tile.rows {
                let mut to = line;
                for _ in 0..tile.columns {
                    let sum = sums.read();
                    for v in 0..VECTORS {
                        epilogue
                            .apply(sum.0[v])
                            .store_n(to.wrapping_add(v * LANES), there[v]);
                    }
                    sums = sums.add(1);
                    to = to.wrapping_offset(step);
                }
                line = line.wrapping_offset(row);
            }
        }
    }
}
