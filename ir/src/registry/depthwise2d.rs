//! `depthwise2d_f32`: each channel convolved with its own window, channels-last.
//!
//! `y[oy][ox][c] = act(bias[c] + residual[oy][ox][c] + sum over ky, kx of x[iy][ix][c] * w[ky][kx][c])`, names and
//! conventions as in [`conv2d_f32`](super::conv2d); every channel stride is one.

use super::call::{Activation, Lane, Params, Plane, Tile};
use super::window::Axis;
use super::{Kernel, Operand};
use crate::DType;
use crate::tile::{Affine, Bound, FuncBuilder, KernelCall, Ty, Val, View};

pub(super) const KERNEL: Kernel = Kernel {
    name: "depthwise2d_f32",
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
        "channels",
        "out_w",
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
        "x_row0",
        "ys_h",
        "ys_w",
        "y_row0",
        "rs_h",
        "rs_w",
        "r_row0",
        "has_bias",
        "has_residual",
        "act",
        "act_a",
        "act_b",
    ],
    range: "output rows, absolute",
    body,
};

/// Columns of a register tile.
const PIXELS: usize = 4;

/// Widest window whose columns are written out rather than looped over.
const UNROLLED: i64 = 5;

fn body(b: &mut FuncBuilder, call: &KernelCall) {
    let p = Params::of(&KERNEL, call);
    let (Some(Some(x)), Some(Some(weights)), Some(Some(y))) =
        (call.operands.first(), call.operands.get(1), call.operands.get(4))
    else {
        return;
    };
    let depthwise = Depthwise {
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
        channels: p.get("channels"),
        x: Plane::new(x, p.get("xs_h"), p.get("xs_w"), p.get("x_row0")),
        weights: weights.clone(),
        bias: p.optional(2, "has_bias"),
        residual: p
            .optional(3, "has_residual")
            .map(|r| Plane::new(&r, p.get("rs_h"), p.get("rs_w"), p.get("r_row0"))),
        y: Plane::new(y, p.get("ys_h"), p.get("ys_w"), p.get("y_row0")),
        activation: p.activation(),
    };
    let out_w = p.get("out_w");
    b.for_range(call.begin.clone(), call.end.clone(), 1, |b, row| {
        depthwise.emit_row(b, &row, out_w)
    });
}

struct Depthwise {
    rows: Axis,
    columns: Axis,
    channels: i64,
    x: Plane,
    weights: View,
    bias: Option<View>,
    residual: Option<Plane>,
    y: Plane,
    activation: Activation,
}

impl Depthwise {
    fn emit_row(&self, b: &mut FuncBuilder, row: &Affine, out_w: i64) {
        let vector = Ty::vector(DType::F32, 4);
        let vectors = self.channels / 4 * 4;
        if vectors > 0 {
            let (begin, end) = self.columns.inner(out_w);
            let wide = (end - begin) / PIXELS as i64 * PIXELS as i64;
            if wide > 0 {
                b.for_range(begin, begin + wide, PIXELS as i64, |b, column| {
                    b.for_range(0, vectors, 4, |b, c| {
                        self.emit_tile(b, (row, &column), PIXELS, vector, &c)
                    });
                });
            }
            // Single columns: before the tiles (side 0) and after them (side 1), in one piece of code.
            let (begin, after) = if wide > 0 { (begin, begin + wide) } else { (0, 0) };
            b.for_range(0, 2, 1, |b, side| {
                let last = Bound::of(vec![side.clone() * out_w + begin, out_w.into()]);
                b.for_range(side * after, last, 1, |b, column| {
                    b.for_range(0, vectors, 4, |b, c| {
                        self.emit_tile(b, (row, &column), 1, vector, &c)
                    });
                });
            });
        }
        if vectors < self.channels {
            b.for_range(0, out_w, 1, |b, column| {
                b.for_range(vectors, self.channels, 1, |b, c| {
                    self.emit_tile(b, (row, &column), 1, Ty::scalar(DType::F32), &c);
                });
            });
        }
    }

    /// Tiles of several columns lie inside the input, as far as columns go; single ones may not.
    fn emit_tile(
        &self,
        b: &mut FuncBuilder,
        (row, column): (&Affine, &Affine),
        pixels: usize,
        ty: Ty,
        c: &Affine,
    ) {
        let tile = Tile {
            pixels,
            vectors: 1,
            ty,
            bias: self.bias.as_ref().map(|view| Lane::new(view, c.clone(), 0)),
            residual: self.residual.as_ref().map(|r| r.lane(row, column, 1, c)),
            y: self.y.lane(row, column, 1, c),
            activation: self.activation,
        };
        let (window, dilation) = (self.columns.window, self.columns.dilation);
        tile.emit(b, |b, sums| {
            self.rows.for_taps(b, row, false, sums, |b, ky, iy, sums| {
                let add = |b: &mut FuncBuilder, kx: Affine, ix: Affine, sums: Vec<Val>| {
                    let weights = (ky.clone() * window + kx) * self.channels + c.clone();
                    let w = Lane::new(&self.weights, weights, 0).load(b, ty, 0, 0);
                    let x = self.x.lane(&iy, &ix, self.columns.stride, c);
                    let x: Vec<Val> = (0..pixels).map(|p| x.load(b, ty, p, 0)).collect();
                    x.into_iter().zip(sums).map(|(x, sum)| b.fma(x, w, sum)).collect()
                };
                if pixels > 1 && window <= UNROLLED {
                    let start = self.columns.start(column);
                    (0..window).fold(sums, |sums, kx| {
                        add(b, kx.into(), start.clone() + kx * dilation, sums)
                    })
                } else {
                    self.columns.for_taps(b, column, pixels > 1, sums, add)
                }
            })
        });
    }
}
