//! `winograd_f32`: convolution of one image and one group with a 3x3 window and stride 1, channels-last, by Winograd's
//! minimal filtering `F(m x m, 3 x 3)`, `m` = 2 or 4 (Lavin and Gray, "Fast algorithms for convolutional neural networks").
//!
//! It computes what `conv2d_f32` does, with other roundings ([`ERROR`] bounds them), and a value that is not finite reaches
//! all outputs of its tiles. Tiles of `m x m` outputs lie on a grid that begins at output row and column 0; the range
//! counts rows of tiles. Per tile, `n = m + 2`:
//!
//! - the `n x n` inputs from `(row * m - pt, column * m - pl)` on, zero outside the input, are transformed column by
//!   column and then row by row ([`input`]),
//! - each of the `n * n` results is a row of channels, multiplied with the matrix of its point,
//! - the products are transformed likewise ([`output`]) and, with bias and residual added and the activation applied,
//!   stored where row and column exist and the row is in `row_lo .. row_hi`.
//!
//! Weights are transformed beforehand ([`weights`]) and packed in blocks of `nr` output channels; block `i` is
//! `[n * n][in_c][width]`, `width` as for `conv2d_f32`. The scratch operand has [`scratch_len`] elements for `tiles` tiles;
//! nothing in it lasts. The operands `x`, `y` and `residual` point at rows `x_row0`, `y_row0`, `r_row0`.

use super::call::{Activation, Params, Plane};
use super::{Kernel, Operand};
use crate::DType;
use crate::tile::{Affine, Bound, FuncBuilder, KernelCall, Ty, Val, View};

pub(super) const KERNEL: Kernel = Kernel {
    name: "winograd_f32",
    operands: &[
        Operand::read("x"),
        Operand::read("w"),
        Operand::optional("bias"),
        Operand::optional("residual"),
        Operand::write("scratch"),
        Operand::write("y"),
    ],
    params: &[
        "in_h",
        "in_w",
        "in_c",
        "out_w",
        "out_c",
        "pt",
        "pl",
        "xs_h",
        "xs_w",
        "x_row0",
        "ys_h",
        "ys_w",
        "y_row0",
        "rs_h",
        "rs_w",
        "r_row0",
        "row_lo",
        "row_hi",
        "tile",
        "tiles",
        "nr",
        "lanes",
        "has_bias",
        "has_residual",
        "act",
        "act_a",
        "act_b",
    ],
    range: "rows of tiles, absolute",
    body,
};

/// Bound of the error of an output, in units of `2^-24 * max|x| * sum|w|`, the maximum over the tile's inputs and the sum
/// over the weights of the output channel: by the side of the tile, 2 or 4. Direct summation has a bound that grows with
/// the number of terms and is in practice near 1; tests hold the kernels to this.
pub const ERROR: [(usize, f64); 2] = [(2, 4.0), (4, 16.0)];

/// The finite points of `F(4, 3)` besides 0, each with both signs: numbers whose powers stay near 1 lose the fewest digits.
const A: f64 = std::f64::consts::FRAC_1_SQRT_2;
const B: f64 = std::f64::consts::SQRT_2;

/// The 3x3 weights of one input and one output channel, row by row, at the `(tile + 2)^2` points.
pub fn weights(tile: usize, window: &[f32; 9]) -> Vec<f32> {
    let rows: &[[f64; 3]] = match tile {
        2 => &[
            [-1.0, 0.0, 0.0],
            [0.5, 0.5, 0.5],
            [0.5, -0.5, 0.5],
            [0.0, 0.0, 1.0],
        ],
        _ => &[
            [1.0, 0.0, 0.0],
            [-1.0 / 1.5, -A / 1.5, -0.5 / 1.5],
            [-1.0 / 1.5, A / 1.5, -0.5 / 1.5],
            [1.0 / 6.0, B / 6.0, 2.0 / 6.0],
            [1.0 / 6.0, -B / 6.0, 2.0 / 6.0],
            [0.0, 0.0, 1.0],
        ],
    };
    let mut out = Vec::with_capacity(rows.len() * rows.len());
    for down in rows {
        let column = |x: usize| -> f64 { (0..3).map(|y| down[y] * f64::from(window[3 * y + x])).sum() };
        let columns = [column(0), column(1), column(2)];
        out.extend(
            rows.iter()
                .map(|across| (0..3).map(|x| across[x] * columns[x]).sum::<f64>() as f32),
        );
    }
    out
}

/// As [`weights`], in `f32` and for a vector of channels: the values at the points, of a window row by row.
pub fn weights_in_loop(b: &mut FuncBuilder, tile: usize, window: &[Val; 9]) -> Vec<Val> {
    let [x0, x1, x2] = [0, 1, 2].map(|x| filter(b, tile, [window[x], window[3 + x], window[6 + x]]));
    let mut out = Vec::with_capacity(x0.len() * x0.len());
    for ((a, c), d) in x0.into_iter().zip(x1).zip(x2) {
        out.extend(filter(b, tile, [a, c, d]));
    }
    out
}

/// The transform of three weights in one dimension.
fn filter(b: &mut FuncBuilder, tile: usize, g: [Val; 3]) -> Vec<Val> {
    // Of points that differ in sign: the sum of the even terms and the odd one, and their difference.
    let pair = |b: &mut FuncBuilder, [even0, odd, even2]: [f64; 3]| {
        let lanes = b.ty(g[0]).lanes;
        let (even0, odd) = (b.f32(lanes, even0 as f32), b.f32(lanes, odd as f32));
        let first = b.mul(even0, g[0]);
        let even = scaled(b, even2, g[2], first);
        let odd = b.mul(odd, g[1]);
        [b.add(even, odd), b.sub(even, odd)]
    };
    if tile == 2 {
        let zero = b.f32(b.ty(g[0]).lanes, 0.0);
        let [plus, minus] = pair(b, [0.5, 0.5, 0.5]);
        return vec![b.sub(zero, g[0]), plus, minus, g[2]];
    }
    let [minus, plus] = pair(b, [-1.0 / 1.5, -A / 1.5, -0.5 / 1.5]);
    let [far, behind] = pair(b, [1.0 / 6.0, B / 6.0, 2.0 / 6.0]);
    vec![g[0], minus, plus, far, behind, g[2]]
}

/// Elements of the scratch operand.
pub fn scratch_len(tile: usize, tiles: usize, in_c: usize, nr: usize) -> usize {
    (tile + 2).pow(2) * (tiles * (in_c + nr) + 2 * SKEW)
}

/// Elements that an implementation may leave between the matrices of two points.
const SKEW: usize = 16;

/// `scale * x + y`
fn scaled(b: &mut FuncBuilder, scale: f64, x: Val, y: Val) -> Val {
    let lanes = b.ty(x).lanes;
    let scale = b.f32(lanes, scale as f32);
    b.fma(scale, x, y)
}

/// The transform of `tile + 2` inputs in one dimension.
fn input(b: &mut FuncBuilder, tile: i64, d: &[Val]) -> Vec<Val> {
    if tile == 2 {
        return vec![
            b.sub(d[2], d[0]),
            b.add(d[1], d[2]),
            b.sub(d[2], d[1]),
            b.sub(d[3], d[1]),
        ];
    }
    let (even_a, odd_a) = (scaled(b, -2.0, d[2], d[4]), scaled(b, -2.0, d[1], d[3]));
    let (even_b, odd_b) = (scaled(b, -0.5, d[2], d[4]), scaled(b, -0.5, d[1], d[3]));
    let (first, last) = (b.add(d[0], d[4]), b.add(d[1], d[5]));
    vec![
        scaled(b, -2.5, d[2], first),
        scaled(b, A, odd_a, even_a),
        scaled(b, -A, odd_a, even_a),
        scaled(b, B, odd_b, even_b),
        scaled(b, -B, odd_b, even_b),
        scaled(b, -2.5, d[3], last),
    ]
}

/// From `tile + 2` products to `tile` outputs in one dimension.
fn output(b: &mut FuncBuilder, tile: i64, m: &[Val]) -> Vec<Val> {
    let (sum_a, difference_a) = (b.add(m[1], m[2]), b.sub(m[1], m[2]));
    if tile == 2 {
        return vec![b.add(m[0], sum_a), b.add(difference_a, m[3])];
    }
    let (sum_b, difference_b) = (b.add(m[3], m[4]), b.sub(m[3], m[4]));
    let lanes = b.ty(m[0]).lanes;
    let (a, half) = (b.f32(lanes, A as f32), b.f32(lanes, 0.5));
    let sums = b.add(sum_a, sum_b);
    let (second, third) = (b.mul(a, difference_a), b.mul(half, sum_a));
    let fourth = scaled(b, 0.5 * A, difference_a, m[5]);
    vec![
        b.add(m[0], sums),
        scaled(b, B, difference_b, second),
        scaled(b, 2.0, sum_b, third),
        scaled(b, 2.0 * B, difference_b, fourth),
    ]
}

fn body(b: &mut FuncBuilder, call: &KernelCall) {
    let p = Params::of(&KERNEL, call);
    let operand = |i: usize| call.operands.get(i).and_then(Option::as_ref);
    let (Some(x), Some(weights), Some(scratch), Some(y)) = (operand(0), operand(1), operand(4), operand(5))
    else {
        return;
    };
    let tile = if p.get("tile") == 2 { 2 } else { 4 };
    let tiles = Tiles {
        tile,
        n: tile + 2,
        input: (p.get("in_h"), p.get("in_w"), p.get("in_c")),
        pad: (p.get("pt"), p.get("pl")),
        out_w: p.get("out_w"),
        out_c: p.get("out_c"),
        rows: (p.get("row_lo"), p.get("row_hi")),
        x: Plane::new(x, p.get("xs_h"), p.get("xs_w"), p.get("x_row0")),
        weights: weights.clone(),
        block: (p.get("nr"), p.get("lanes")),
        bias: p.optional(2, "has_bias"),
        residual: p
            .optional(3, "has_residual")
            .map(|r| Plane::new(&r, p.get("rs_h"), p.get("rs_w"), p.get("r_row0"))),
        scratch: scratch.clone(),
        y: Plane::new(y, p.get("ys_h"), p.get("ys_w"), p.get("y_row0")),
        activation: p.activation(),
    };
    let columns = (tiles.out_w + tile - 1) / tile;
    b.for_range(call.begin.clone(), call.end.clone(), 1, |b, row| {
        b.for_range(0, columns, 1, |b, column| tiles.emit(b, &row, &column));
    });
}

/// A call, its tiles computed one by one. Extents are rows, columns, channels.
struct Tiles {
    tile: i64,
    n: i64,
    input: (i64, i64, i64),
    pad: (i64, i64),
    out_w: i64,
    out_c: i64,
    rows: (i64, i64),
    x: Plane,
    weights: View,
    /// Channels of a full block of weights, and what the width of the last is a multiple of.
    block: (i64, i64),
    bias: Option<View>,
    residual: Option<Plane>,
    scratch: View,
    y: Plane,
    activation: Activation,
}

/// Emits a loop over `count` channels in vectors, and one over what remains.
fn channels(b: &mut FuncBuilder, count: i64, mut body: impl FnMut(&mut FuncBuilder, Ty, Affine)) {
    let whole = count / 4 * 4;
    for (lo, hi, ty) in [
        (0, whole, Ty::vector(DType::F32, 4)),
        (whole, count, Ty::scalar(DType::F32)),
    ] {
        if lo < hi {
            b.for_range(lo, hi, i64::from(ty.lanes), |b, c| body(b, ty, c));
        }
    }
}

impl Tiles {
    fn points(&self) -> i64 {
        self.n * self.n
    }

    fn emit(&self, b: &mut FuncBuilder, row: &Affine, column: &Affine) {
        self.gather(b, row, column);
        let (channels, at) = (self.input.2, Affine::constant(0));
        self.transform(b, channels, &at, (self.n, 1), input, self.n);
        self.transform(b, channels, &at, (1, self.n), input, self.n);
        let (nr, lanes) = self.block;
        let full = self.out_c / nr;
        b.for_range(0, full, 1, |b, block| {
            self.block(b, (row, column), block * nr, (nr, nr));
        });
        let rest = self.out_c % nr;
        if rest > 0 {
            let width = (rest + lanes - 1) / lanes * lanes;
            self.block(b, (row, column), (full * nr).into(), (rest, width));
        }
    }

    fn scratch(&self, at: Affine) -> Affine {
        self.scratch.offset.clone() + at
    }

    /// Copies the inputs of a tile to the scratch buffer, zeros for those that do not exist.
    fn gather(&self, b: &mut FuncBuilder, row: &Affine, column: &Affine) {
        let (in_h, in_w, in_c) = self.input;
        channels(b, self.points() * in_c, |b, ty, c| {
            let zero = b.f32(ty.lanes, 0.0);
            b.store(self.scratch.buffer, self.scratch(c), zero);
        });
        let existing = |start: &Affine, size: i64| {
            let lo = Bound::of(vec![0.into(), start.clone() * -1]);
            (lo, Bound::of(vec![self.n.into(), start.clone() * -1 + size]))
        };
        let (top, left) = (
            row.clone() * self.tile - self.pad.0,
            column.clone() * self.tile - self.pad.1,
        );
        let (lo, hi) = existing(&top, in_h);
        b.for_range(lo, hi, 1, |b, i| {
            let (lo, hi) = existing(&left, in_w);
            b.for_range(lo, hi, 1, |b, j| {
                let to = (i.clone() * self.n + j.clone()) * in_c;
                let (iy, ix) = (top.clone() + i, left.clone() + j);
                channels(b, in_c, |b, ty, c| {
                    let value = self.x.lane(&iy, &ix, 1, &c).load(b, ty, 0, 0);
                    b.store(self.scratch.buffer, self.scratch(to.clone() + c), value);
                });
            });
        });
    }

    /// Transforms the rows of `channels` elements at the points from `at` in the scratch buffer on, in place: along points
    /// `along.0` apart, `count` times at points `along.1` apart.
    fn transform(
        &self,
        b: &mut FuncBuilder,
        width: i64,
        at: &Affine,
        along: (i64, i64),
        with: fn(&mut FuncBuilder, i64, &[Val]) -> Vec<Val>,
        count: i64,
    ) {
        b.for_range(0, count, 1, |b, line| {
            channels(b, width, |b, ty, c| {
                let place = |k: i64| {
                    self.scratch(
                        at.clone() + line.clone() * (along.1 * width) + c.clone() + k * along.0 * width,
                    )
                };
                let d: Vec<Val> = (0..self.n)
                    .map(|k| b.load(ty, self.scratch.buffer, place(k)))
                    .collect();
                for (k, value) in with(b, self.tile, &d).into_iter().enumerate() {
                    b.store(self.scratch.buffer, place(k as i64), value);
                }
            });
        });
    }

    /// The output channels `channel ..` of one block: `size` is how many there are, and how many with padding.
    fn block(&self, b: &mut FuncBuilder, tile: (&Affine, &Affine), channel: Affine, size: (i64, i64)) {
        let (in_c, (count, width)) = (self.input.2, size);
        let products = Affine::constant(self.points() * in_c);
        // Blocks before this one are full.
        let weights = self.weights.offset.clone() + channel.clone() * (self.points() * in_c);
        b.for_range(0, self.points(), 1, |b, point| {
            self.multiply(b, &point, &weights, &products, width);
        });
        self.transform(b, width, &products, (self.n, 1), output, self.n);
        let (row, column) = tile;
        let top = row.clone() * self.tile;
        let lo = Bound::of(vec![0.into(), top.clone() * -1 + self.rows.0]);
        let hi = Bound::of(vec![self.tile.into(), top.clone() * -1 + self.rows.1]);
        b.for_range(lo, hi, 1, |b, i| {
            channels(b, count, |b, ty, c| {
                let d: Vec<Val> = (0..self.n)
                    .map(|j| {
                        let at = products.clone() + (i.clone() * self.n + j) * width + c.clone();
                        b.load(ty, self.scratch.buffer, self.scratch(at))
                    })
                    .collect();
                let bias = self.bias.as_ref().map(|v| {
                    let at = v.offset.clone() + channel.clone() + c.clone();
                    b.load(ty, v.buffer, at)
                });
                for (j, sum) in output(b, self.tile, &d).into_iter().enumerate() {
                    let sum = bias.map_or(sum, |bias| b.add(bias, sum));
                    // A column that may not exist: a loop of one round or none.
                    let left = column.clone() * self.tile;
                    let hi = Bound::of(vec![(j + 1).into(), left.clone() * -1 + self.out_w]);
                    b.for_range(j, hi, 1, |b, j| {
                        let (oy, ox) = (top.clone() + i.clone(), left.clone() + j);
                        let at = channel.clone() + c.clone();
                        let mut sum = sum;
                        if let Some(residual) = &self.residual {
                            let start = residual.lane(&oy, &ox, 1, &at).load(b, ty, 0, 0);
                            sum = b.add(sum, start);
                        }
                        let out = self.activation.apply(b, sum);
                        self.y.lane(&oy, &ox, 1, &at).store(b, 0, 0, out);
                    });
                }
            });
        });
    }

    /// The products at one point.
    fn multiply(&self, b: &mut FuncBuilder, point: &Affine, weights: &Affine, products: &Affine, width: i64) {
        let in_c = self.input.2;
        channels(b, width, |b, ty, c| {
            let zero = b.f32(ty.lanes, 0.0);
            let sums = b.for_carried(0, in_c, 1, &[zero], |b, k, sums| {
                let at = self.scratch(point.clone() * in_c + k.clone());
                let x = b.load_splat(ty, self.scratch.buffer, at);
                let at = weights.clone() + (point.clone() * in_c + k) * width + c.clone();
                let w = b.load(ty, self.weights.buffer, at);
                vec![b.fma(x, w, sums[0])]
            });
            let at = products.clone() + point.clone() * width + c;
            b.store(self.scratch.buffer, self.scratch(at), sums[0]);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One-dimensional `F(tile, 3)` in `f64`, from the two-dimensional weights of a window that is a row.
    #[test]
    fn transformed_weights_of_a_single_tap_are_outer_products() {
        for tile in [2, 4] {
            let n = tile + 2;
            let at = |window: [f32; 9]| weights(tile, &window);
            let mut corner = [0.0; 9];
            corner[0] = 1.0;
            let mut centre = [0.0; 9];
            centre[4] = 1.0;
            let (first, middle) = (at(corner), at(centre));
            for i in 0..n {
                for j in 0..n {
                    let outer = f64::from(first[i * n]) * f64::from(first[j]) / f64::from(first[0]);
                    assert!(
                        (f64::from(first[i * n + j]) - outer).abs() < 1e-6,
                        "{tile} {i} {j}"
                    );
                }
            }
            // The tap in the middle is no power of the points 0 and infinity.
            assert!(
                middle[..n]
                    .iter()
                    .chain(&middle[n * (n - 1)..])
                    .all(|&w| w == 0.0)
            );
        }
    }
}
