//! `conv2d_f32`: convolution of one image and one group, channels-last, weights packed in blocks of output channels.
//!
//! `y[oy][ox][oc] = act(bias[oc] + residual[oy][ox][oc] + sum over ky, kx, ic of x[iy][ix][ic] * w[ky][kx][ic][oc])`
//! with `iy = oy*sh - pt + ky*dh`, `ix = ox*sw - pl + kx*dw`, and zero for what lies outside the input.
//!
//! The operand `x` points at row `x_row0` of the input, `y` and `residual` at rows `y_row0` and `r_row0` of the output;
//! the residual may be the output itself. Weights are packed in blocks of `nr` output channels; block `i` is
//! `[K][width]`, with K in the order (ky, kx, ic) and `width = nr`, or for the last block the remaining channels rounded
//! up to a multiple of `lanes`, padded with zeros.

use super::call::{Activation, Lane, Params, Plane, Tile};
use super::window::Axis;
use super::{Kernel, Operand};
use crate::DType;
use crate::tile::{Affine, Bound, FuncBuilder, KernelCall, Ty, Val, View};

pub(super) const KERNEL: Kernel = Kernel {
    name: "conv2d_f32",
    operands: &[
        Operand::read("x"),
        Operand::read("w"),
        Operand::optional("bias"),
        Operand::optional("residual"),
        Operand::write("y"),
    ],
    params: &[
        "in_h",
        "in_w",
        "in_c",
        "out_w",
        "out_c",
        "kh",
        "kw",
        "sh",
        "sw",
        "dh",
        "dw",
        "pt",
        "pl",
        "xs_h",
        "xs_w",
        "xs_c",
        "x_row0",
        "ys_h",
        "ys_w",
        "y_row0",
        "rs_h",
        "rs_w",
        "r_row0",
        "nr",
        "lanes",
        "has_bias",
        "has_residual",
        "act",
        "act_a",
        "act_b",
    ],
    range: "output rows, absolute",
    body,
};

fn body(b: &mut FuncBuilder, call: &KernelCall) {
    let p = Params::of(&KERNEL, call);
    let (Some(Some(x)), Some(Some(weights)), Some(Some(y))) =
        (call.operands.first(), call.operands.get(1), call.operands.get(4))
    else {
        return;
    };
    let product = Product {
        rows: Axis {
            input: p.get("in_h"),
            window: p.get("kh"),
            stride: p.get("sh"),
            dilation: p.get("dh"),
            pad: p.get("pt"),
        },
        columns: Axis {
            input: p.get("in_w"),
            window: p.get("kw"),
            stride: p.get("sw"),
            dilation: p.get("dw"),
            pad: p.get("pl"),
        },
        in_c: p.get("in_c"),
        out_w: p.get("out_w"),
        x: Plane::new(x, p.get("xs_h"), p.get("xs_w"), p.get("x_row0")),
        xs_c: p.get("xs_c"),
        weights: Weights {
            view: weights.clone(),
            out_c: p.get("out_c"),
            nr: p.get("nr"),
            lanes: p.get("lanes"),
        },
        bias: p.optional(2, "has_bias"),
        residual: p
            .optional(3, "has_residual")
            .map(|r| Plane::new(&r, p.get("rs_h"), p.get("rs_w"), p.get("r_row0"))),
        y: Plane::new(y, p.get("ys_h"), p.get("ys_w"), p.get("y_row0")),
        activation: p.activation(),
    };
    let blocks = product.weights.out_c.max(0) as u64;
    let blocks = blocks.div_ceil(product.weights.nr.max(1) as u64) as i64;
    let (product, begin, end) = product.flattened(call.begin.clone(), call.end.clone());
    product.emit(b, (begin, end), (0.into(), blocks.into()));
}

/// Packed weights.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    pub(super) view: View,
    pub(super) out_c: i64,
    pub(super) nr: i64,
    pub(super) lanes: i64,
}

/// A convolution as a matrix product: pixels by output channels, reduced over the window and the input channels.
#[derive(Clone, Debug)]
pub(super) struct Product {
    pub(super) rows: Axis,
    pub(super) columns: Axis,
    pub(super) in_c: i64,
    pub(super) out_w: i64,
    pub(super) x: Plane,
    pub(super) xs_c: i64,
    pub(super) weights: Weights,
    pub(super) bias: Option<View>,
    pub(super) residual: Option<Plane>,
    pub(super) y: Plane,
    pub(super) activation: Activation,
}

/// Channels of one block that share a tile shape: `count` tiles of `vectors` vectors of type `ty`.
struct Group {
    first: i64,
    count: i64,
    vectors: usize,
    ty: Ty,
}

const VECTOR: Ty = Ty::vector(DType::F32, 4);

/// Cuts `channels` into tiles of `vectors` vectors, then of fewer, then of single channels.
fn groups(channels: i64, vectors: usize) -> Vec<Group> {
    let mut first = 0;
    let mut out = Vec::new();
    for (vectors, ty) in [
        (vectors, VECTOR),
        (2, VECTOR),
        (1, VECTOR),
        (1, Ty::scalar(DType::F32)),
    ] {
        let width = vectors as i64 * i64::from(ty.lanes);
        let count = (channels - first) / width;
        if count > 0 {
            out.push(Group {
                first,
                count,
                vectors,
                ty,
            });
            first += count * width;
        }
    }
    out
}

impl Product {
    /// The same convolution over one long row of pixels, if it is pointwise and its rows follow each other.
    fn flattened(mut self, begin: Bound, end: Bound) -> (Self, Bound, Bound) {
        let pointwise = [self.rows, self.columns]
            .iter()
            .all(|a| a.window == 1 && a.stride == 1 && a.pad == 0);
        let planes = [Some(&self.x), Some(&self.y), self.residual.as_ref()];
        let flat = planes.iter().flatten().all(|p| p.is_flat(self.out_w));
        let (Some(first), Some(last)) = (begin.as_constant(), end.as_constant()) else {
            return (self, begin, end);
        };
        let inside =
            self.columns.input >= self.out_w && (first >= last || (0 <= first && last <= self.rows.input));
        if !(pointwise && flat && inside) {
            return (self, begin, end);
        }
        for plane in [Some(&mut self.x), Some(&mut self.y), self.residual.as_mut()]
            .into_iter()
            .flatten()
        {
            plane.view.offset = plane.view.offset.clone() + first * plane.row;
        }
        self.out_w *= (last - first).max(0);
        self.rows.input = 1;
        self.columns.input = self.out_w;
        (self, 0.into(), 1.into())
    }

    /// Emits rows `rows.0 .. rows.1` for the blocks `blocks.0 .. blocks.1` of output channels.
    pub(super) fn emit(&self, b: &mut FuncBuilder, rows: (Bound, Bound), blocks: (Bound, Bound)) {
        let inside = match (rows.0.as_constant(), rows.1.as_constant()) {
            (Some(begin), Some(end)) => {
                let (first, last) = self.rows.inner(end.max(0));
                first <= begin && end <= last
            }
            _ => false,
        };
        if rows.0.as_constant() == Some(0) && rows.1.as_constant() == Some(1) {
            self.emit_row(b, &0.into(), inside, &blocks);
        } else {
            b.for_range(rows.0, rows.1, 1, |b, row| {
                self.emit_row(b, &row, inside, &blocks)
            });
        }
    }

    fn emit_row(&self, b: &mut FuncBuilder, row: &Affine, inside: bool, blocks: &(Bound, Bound)) {
        let reduction = self.rows.window * self.columns.window * self.in_c;
        let Weights { out_c, nr, lanes, .. } = self.weights;
        let (full, rest) = (out_c / nr.max(1), out_c % nr.max(1));
        // The last block has another width, so it has its own code.
        let width = (rest + lanes.max(1) - 1) / lanes.max(1) * lanes;
        for (first, last, channels, width) in [(0, full, nr, nr), (full, full + 1, rest, width)] {
            if first == last || channels == 0 {
                continue;
            }
            let with = |bound: &Bound, limit: i64| {
                let mut exprs = bound.exprs().to_vec();
                if bound.as_constant() != Some(limit) {
                    exprs.push(limit.into());
                }
                Bound::of(exprs)
            };
            b.for_range(with(&blocks.0, first), with(&blocks.1, last), 1, |b, block| {
                let base = block.clone() * (nr * reduction);
                // With few pixels in a row, more channels at once hide the latency of the sums.
                let vectors = if self.out_w < PIXELS as i64 { 4 } else { 2 };
                for group in groups(channels, vectors) {
                    let step = group.vectors as i64 * i64::from(group.ty.lanes);
                    b.for_range(
                        group.first,
                        group.first + group.count * step,
                        step,
                        |b, channel| {
                            let weights = base.clone() + channel.clone();
                            let strip = Strip {
                                channel: block.clone() * nr + channel,
                                weights: Lane::new(&self.weights.view, weights, width),
                                group: &group,
                            };
                            self.emit_strip(b, row, inside, &strip);
                        },
                    );
                }
            });
        }
    }

    /// All pixels of a row for one tile width of channels.
    fn emit_strip(&self, b: &mut FuncBuilder, row: &Affine, inside: bool, strip: &Strip<'_>) {
        let (begin, end) = self.columns.inner(self.out_w);
        let wide = (end - begin) / PIXELS as i64 * PIXELS as i64;
        if wide > 0 {
            b.for_range(begin, begin + wide, PIXELS as i64, |b, column| {
                self.emit_tile(b, (row, &column), (inside, true), PIXELS, strip);
            });
        }
        let inner = (begin, end) == (0, self.out_w);
        // Single pixels: before the tiles (side 0) and after them (side 1), in one piece of code.
        let (begin, after) = if wide > 0 { (begin, begin + wide) } else { (0, 0) };
        let single = |b: &mut FuncBuilder, column: &Affine| {
            self.emit_tile(b, (row, column), (inside, inner), 1, strip);
        };
        if begin == 0 {
            if after < self.out_w {
                b.for_range(after, self.out_w, 1, |b, column| single(b, &column));
            }
        } else {
            b.for_range(0, 2, 1, |b, side| {
                let last = Bound::of(vec![side.clone() * self.out_w + begin, self.out_w.into()]);
                b.for_range(side * after, last, 1, |b, column| single(b, &column));
            });
        }
    }

    fn emit_tile(
        &self,
        b: &mut FuncBuilder,
        (row, column): (&Affine, &Affine),
        inside: (bool, bool),
        pixels: usize,
        strip: &Strip<'_>,
    ) {
        let (group, channel) = (strip.group, &strip.channel);
        let tile = Tile {
            pixels,
            vectors: group.vectors,
            ty: group.ty,
            bias: self.bias.as_ref().map(|view| Lane::new(view, channel.clone(), 0)),
            residual: self.residual.as_ref().map(|r| r.lane(row, column, 1, channel)),
            y: self.y.lane(row, column, 1, channel),
            activation: self.activation,
        };
        tile.emit(b, |b, sums| {
            self.rows.for_taps(b, row, inside.0, sums, |b, ky, iy, sums| {
                self.columns
                    .for_taps(b, column, inside.1, sums, |b, kx, ix, sums| {
                        let tap = (ky * self.columns.window + kx) * self.in_c;
                        b.for_carried(0, self.in_c, 1, &sums, |b, ic, sums| {
                            let x = self
                                .x
                                .lane(&iy, &ix, self.columns.stride, &(ic.clone() * self.xs_c));
                            let mut weights = strip.weights.clone();
                            weights.at = weights.at + (tap + ic) * strip.weights.step;
                            multiply(b, group, &x, &weights, sums)
                        })
                    })
            })
        });
    }
}

/// Pixels of a register tile: with two vectors of channels, its sums fill half of the 16 registers.
const PIXELS: usize = 4;

/// A tile width of output channels: where it starts in the output and in the weights (`step`: width of their rows).
struct Strip<'a> {
    channel: Affine,
    weights: Lane,
    group: &'a Group,
}

/// Adds one product to every sum.
fn multiply(b: &mut FuncBuilder, group: &Group, x: &Lane, weights: &Lane, sums: &[Val]) -> Vec<Val> {
    let lanes = usize::from(group.ty.lanes);
    let weights: Vec<Val> = (0..group.vectors)
        .map(|v| weights.load(b, group.ty, 0, v * lanes))
        .collect();
    let mut next = Vec::with_capacity(sums.len());
    for (pixel, sums) in sums.chunks(group.vectors).enumerate() {
        let x = x.load_splat(b, group.ty, pixel);
        next.extend(sums.iter().zip(&weights).map(|(&sum, &w)| b.fma(x, w, sum)));
    }
    next
}
