//! Convolution with a 3x3 window and stride 1 by Winograd's minimal filtering, `F(2x2, 3x3)` or `F(4x4, 3x3)`.
//!
//! Tiles of `m x m` outputs lie on a grid that begins at the first output, whatever range is computed. For a band of them:
//! their inputs are transformed to `(m + 2)^2` matrices of tiles by channels in the scratch buffer; for each block of
//! output channels, these are multiplied with the transformed weights, and the products transformed to outputs, with
//! bias, residual and activation. Every sum is formed in an order that does not depend on the band.

use core::mem::MaybeUninit;

use super::arith::div;
use super::epilogue::Epilogue;
use super::micro::{self, Ahead, MR, Step, Tile};
use super::params::WinogradParams;
use super::simd::{LANES, V};
use super::winograd_form::{Form, Four, MOST, Two};

/// Output channels of a full weight block.
const NR: usize = V::COLUMNS * LANES;

/// Longest run of the reduction done at once.
const KC: usize = 512;

/// Channels of input whose places are looked up at once.
const CHANNELS: usize = 256;

/// Elements between one matrix of the scratch buffer and the next, so that they are not all a multiple of a page apart.
const SKEW: usize = 16;

/// Base pointers of the operands of one call.
#[derive(Clone, Copy)]
struct Operands {
    x: *const f32,
    weights: *const f32,
    /// Null for none.
    bias: *const f32,
    /// Null for none; may be `y` itself.
    residual: *const f32,
    scratch: *mut f32,
    y: *mut f32,
}

/// A tile, by its place in the grid.
#[derive(Clone, Copy)]
struct At {
    row: usize,
    column: usize,
}

/// The kernel `winograd_f32`; operands x, w, bias, residual, scratch, y; the range is rows of tiles.
///
/// # Safety
/// The operands must be valid for all elements that the [`WinogradParams`] at `params` say are touched, the weights
/// packed for this instance (`nr == NR`, `lanes == LANES`), and the scratch buffer as large as
/// `(m + 2)^2 * (tiles * (in_c + nr) + 32)`.
#[inline(always)]
pub unsafe fn winograd_f32(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: forwarded; the caller vouches for six pointers.
    unsafe {
        let p = &*params.cast::<WinogradParams>();
        let at = |i: usize| operands.add(i).read().cast::<f32>();
        let null = core::ptr::null();
        let operands = Operands {
            x: at(0),
            weights: at(1),
            bias: if p.has_bias != 0 { at(2) } else { null },
            residual: if p.has_residual != 0 { at(3) } else { null },
            scratch: at(4),
            y: at(5),
        };
        let rows = (begin.max(0) as usize, end.max(0) as usize);
        if p.tile == 4 {
            bands::<Four>(p, &operands, rows);
        } else {
            bands::<Two>(p, &operands, rows);
        }
    }
}

/// Computes rows `rows.0 .. rows.1` of tiles.
#[inline(never)]
unsafe fn bands<F: Form>(p: &WinogradParams, operands: &Operands, rows: (usize, usize)) {
    let points = F::N * F::N;
    let (in_c, out_c) = (p.in_c as usize, p.out_c as usize);
    let columns = div(p.out_w as usize + F::M - 1, F::M);
    let capacity = p.tiles.max(1) as usize;
    let inputs = Matrices {
        at: operands.scratch,
        row: in_c,
        pitch: capacity * in_c + SKEW,
    };
    let products = Matrices {
        at: operands.scratch.wrapping_add(points * inputs.pitch),
        row: NR,
        pitch: capacity * NR + SKEW,
    };
    let mut zeros = [const { MaybeUninit::<f32>::uninit() }; CHANNELS + LANES];
    let mut i = 0;
    while i + LANES <= CHANNELS + LANES {
        // SAFETY: inside the array.
        unsafe { V::splat(0.0).store(zeros.as_mut_ptr().cast::<f32>().add(i)) };
        i += LANES;
    }
    let zeros = zeros.as_ptr().cast::<f32>();
    let mut tile = Tile::new(inputs.at, products.at);

    let mut first = At {
        row: rows.0,
        column: 0,
    };
    let mut left = rows.1.saturating_sub(rows.0) * columns;
    while left > 0 {
        let band = left.min(capacity);
        let mut at = first;
        for tile in 0..band {
            // SAFETY: forwarded.
            unsafe { transform_inputs::<F>(p, operands, at, inputs.row_of(tile), inputs.pitch, zeros) };
            at = next(at, columns);
        }
        let mut channel = 0;
        while channel < out_c {
            let block = (out_c - channel).min(NR);
            let vectors = block.div_ceil(LANES);
            // SAFETY: every block before this one is full; the rest is forwarded.
            unsafe {
                let mut weights = operands.weights.add(channel * points * in_c);
                for point in 0..points {
                    multiply(
                        &mut tile,
                        &inputs.nth(point),
                        weights,
                        vectors,
                        &products.nth(point),
                        (band, in_c),
                    );
                    weights = weights.add(in_c * vectors * LANES);
                }
                let mut at = first;
                for tile in 0..band {
                    let from = Matrices {
                        at: products.row_of(tile),
                        ..products
                    };
                    transform_outputs::<F>(p, operands, at, &from, (channel, block));
                    at = next(at, columns);
                }
            }
            channel += NR;
        }
        first = at;
        left -= band;
    }
}

#[inline(always)]
fn next(at: At, columns: usize) -> At {
    if at.column + 1 == columns {
        At {
            row: at.row + 1,
            column: 0,
        }
    } else {
        At {
            column: at.column + 1,
            ..at
        }
    }
}

/// One matrix per point, a tile in each row.
#[derive(Clone, Copy)]
struct Matrices {
    at: *mut f32,
    row: usize,
    pitch: usize,
}

impl Matrices {
    #[inline(always)]
    fn row_of(&self, tile: usize) -> *mut f32 {
        self.at.wrapping_add(tile * self.row)
    }

    #[inline(always)]
    fn nth(&self, point: usize) -> Matrices {
        Matrices {
            at: self.at.wrapping_add(point * self.pitch),
            ..*self
        }
    }
}

/// Transforms the inputs of one tile, to element `c` of `out + point * pitch` for each point and channel.
#[inline(never)]
unsafe fn transform_inputs<F: Form>(
    p: &WinogradParams,
    operands: &Operands,
    at: At,
    out: *mut f32,
    pitch: usize,
    zeros: *const f32,
) {
    let row = (at.row * F::M) as i64 - p.pt;
    let column = (at.column * F::M) as i64 - p.pl;
    // Wrapping, because a tile may begin outside the input; such pointers are not used.
    let corner = operands
        .x
        .wrapping_offset(((row - p.x_row0) * p.xs_h + column * p.xs_w) as isize);
    let in_c = p.in_c as usize;
    let mut from = 0;
    while from < in_c {
        let count = (in_c - from).min(CHANNELS);
        let mut places = [[zeros; MOST]; MOST];
        for i in 0..F::N {
            let inside = (0..p.in_h).contains(&(row + i as i64));
            for j in 0..F::N {
                if inside && (0..p.in_w).contains(&(column + j as i64)) {
                    let offset = i as i64 * p.xs_h + j as i64 * p.xs_w;
                    places[i][j] = corner.wrapping_offset(offset as isize).wrapping_add(from);
                }
            }
        }
        let mut c = 0;
        // SAFETY: the places have `count` elements each, or are `zeros` with at least as many; `out` has a row for each
        // point.
        unsafe {
            while c + LANES <= count {
                input_vector::<F, true>(&places, c, LANES, out.add(from + c), pitch);
                c += LANES;
            }
            if c < count {
                input_vector::<F, false>(&places, c, count - c, out.add(from + c), pitch);
            }
        }
        from += count;
    }
}

/// `n` channels from `c` on of all places.
#[inline(always)]
unsafe fn input_vector<F: Form, const FULL: bool>(
    places: &[[*const f32; MOST]; MOST],
    c: usize,
    n: usize,
    out: *mut f32,
    pitch: usize,
) {
    // SAFETY: forwarded.
    unsafe {
        let zero = V::splat(0.0);
        let mut columns = [[zero; MOST]; MOST];
        for j in 0..F::N {
            let mut d = [zero; MOST];
            for i in 0..F::N {
                let place = places[i][j].add(c);
                d[i] = if FULL { V::load(place) } else { V::load_n(place, n) };
            }
            columns[j] = F::input(d);
        }
        for i in 0..F::N {
            let mut d = [zero; MOST];
            for j in 0..F::N {
                d[j] = columns[j][i];
            }
            let d = F::input(d);
            for j in 0..F::N {
                let place = out.add((i * F::N + j) * pitch);
                if FULL {
                    d[j].store(place);
                } else {
                    d[j].store_n(place, n);
                }
            }
        }
    }
}

/// `y[t] = sum over k of x[t][k] * w[k]` for `size.0` tiles and `size.1` terms, `vectors` vectors wide.
#[inline(always)]
unsafe fn multiply(
    tile: &mut Tile,
    x: &Matrices,
    w: *const f32,
    vectors: usize,
    y: &Matrices,
    size: (usize, usize),
) {
    let (tiles, terms) = size;
    let null = core::ptr::null::<f32>();
    let width = vectors * LANES;
    let full = micro::full_tile(vectors);
    let mut k0 = 0;
    while k0 < terms {
        let k = (terms - k0).min(micro::longest_run(tiles, NR, KC));
        let step = Step {
            offsets: core::ptr::null(),
            weights: w.wrapping_add(k0 * width),
            runs: 1,
            k,
            bias: null,
            has_start: k0 > 0,
            last: false,
            columns: width,
            vectors,
            epilogue: Epilogue::new(0, 0, 0),
        };
        tile.ahead = Ahead::new(&step, tiles);
        let mut t = 0;
        while t < tiles {
            let m = match tiles - t {
                MR.. if full == MR => MR,
                6.. => 6,
                4.. => 4,
                3 => 3,
                2.. => 2,
                _ => 1,
            };
            for i in 0..m {
                tile.x[0][i] = x.row_of(t + i).wrapping_add(k0);
                tile.y[i] = y.row_of(t + i);
                tile.start[i] = tile.y[i];
            }
            // SAFETY: the rows exist, and the weights have `k` rows of `width`.
            unsafe { micro::run(m, false, tile, &step) };
            t += m;
        }
        k0 += k;
    }
}

/// Turns the products of one tile into outputs: `channels.1` channels from `channels.0` on.
#[inline(never)]
unsafe fn transform_outputs<F: Form>(
    p: &WinogradParams,
    operands: &Operands,
    at: At,
    products: &Matrices,
    channels: (usize, usize),
) {
    let row = (at.row * F::M) as i64;
    let column = (at.column * F::M) as i64;
    // Rows and columns of the tile that are wanted.
    let lo = (p.row_lo - row).clamp(0, F::M as i64) as usize;
    let hi = (p.row_hi - row).clamp(lo as i64, F::M as i64) as usize;
    let wide = (p.out_w - column).clamp(0, F::M as i64) as usize;
    let (channel, count) = channels;
    let y = operands
        .y
        .wrapping_offset(((row - p.y_row0) * p.ys_h + column * p.ys_w) as isize)
        .wrapping_add(channel);
    let residual = operands
        .residual
        .wrapping_offset(((row - p.r_row0) * p.rs_h + column * p.rs_w) as isize)
        .wrapping_add(channel);
    let epilogue = Epilogue::new(p.act, p.act_a, p.act_b);
    let mut c = 0;
    while c < count {
        let n = (count - c).min(LANES);
        // SAFETY: the products have whole vectors; only channels, rows and columns that exist are read and written.
        unsafe {
            let zero = V::splat(0.0);
            let mut rows = [[zero; MOST]; MOST];
            for j in 0..F::N {
                let mut d = [zero; MOST];
                for i in 0..F::N {
                    d[i] = V::load(products.nth(i * F::N + j).at.add(c));
                }
                let d = F::output(d);
                for i in 0..F::M {
                    rows[i][j] = d[i];
                }
            }
            let bias = if operands.bias.is_null() {
                zero
            } else {
                V::load_n(operands.bias.add(channel + c), n)
            };
            for i in lo..hi {
                let out = F::output(rows[i & 3]);
                for j in 0..F::M {
                    if j >= wide {
                        break;
                    }
                    let mut sum = bias.add(out[j]);
                    if !operands.residual.is_null() {
                        let at = residual.offset(i as isize * p.rs_h as isize + j as isize * p.rs_w as isize);
                        sum = sum.add(V::load_n(at.add(c), n));
                    }
                    let at = y.offset(i as isize * p.ys_h as isize + j as isize * p.ys_w as isize);
                    epilogue.apply(sum).store_n(at.add(c), n);
                }
            }
        }
        c += LANES;
    }
}
