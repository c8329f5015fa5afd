//! `conv2d_i8`: integer convolution of one image and one group, channels-last, requantised to 8 bits.
//!
//! `y[oy][ox][oc] = clamp(round_half_even(f32(acc) * scale[oc]) + y_zero, y_min, y_max)` with the `i32`
//! `acc = bias[oc] + sum over ky, kx, ic of (x[iy][ix][ic] - x_zero) * w[ky][kx][ic][oc]`, `iy`, `ix` and the rows that
//! operands point at as in `conv2d_f32`. What lies outside the input counts as `x_zero`. Inputs and outputs are u8, or i8
//! where `x_signed` / `y_signed`. With a `y_shift` n, `scale` is i32 and `y[oy][ox][oc] = clamp(y_zero + ((acc * scale[oc] + 2^(n-1)) >> n),
//! y_min, y_max)` in 64 bits.
//!
//! Weights are i8, packed in blocks of 64 filters, the last block narrower but a multiple of 16: block `i` is
//! `[planes][tap][C4][width][4]`, the innermost four being successive channels, `C4 = ceil(in_c / 4)`, missing channels and
//! filters zero. A weight is the sum of its `planes` (two where one byte does not hold it). `bias`, `wsum` and `scale`
//! have an element per filter, rounded up to a multiple of 16; `wsum` is the sum of a filter's weights, which kernels
//! that multiply unshifted inputs need.

use super::call::{Params, Plane};
use super::requantise::{self, Requantise};
use super::window::Axis;
use super::{Kernel, Operand};
use crate::DType;
use crate::tile::{Affine, FuncBuilder, KernelCall, Ty, Val, View};

/// Filters of a full block.
pub const BLOCK: usize = 64;
/// The last block's width is a multiple of this.
pub const LANES: usize = 16;

pub(super) const KERNEL: Kernel = Kernel {
    name: "conv2d_i8",
    operands: &[
        Operand::read("x"),
        Operand::read("w"),
        Operand::read("bias"),
        Operand::read("wsum"),
        Operand::read("scale"),
        Operand::write("y"),
    ],
    params: &[
        "in_h", "in_w", "in_c", "out_w", "out_c", "kh", "kw", "sh", "sw", "dh", "dw", "pt", "pl", "xs_h",
        "xs_w", "x_row0", "ys_h", "ys_w", "y_row0", "planes", "x_signed", "x_zero", "y_signed", "y_zero",
        "y_min", "y_max", "y_shift",
    ],
    range: "output rows, absolute",
    body,
};

fn body(b: &mut FuncBuilder, call: &KernelCall) {
    let p = Params::of(&KERNEL, call);
    let operands: Vec<&View> = call.operands.iter().flatten().collect();
    let &[x, w, bias, _, scale, y] = operands.as_slice() else {
        return;
    };
    let conv = Conv {
        rows: axis(&p, "in_h", "kh", "sh", "dh", "pt"),
        columns: axis(&p, "in_w", "kw", "sw", "dw", "pl"),
        channels: p.get("in_c"),
        planes: p.get("planes"),
        x: Plane::new(x, p.get("xs_h"), p.get("xs_w"), p.get("x_row0")),
        x_type: requantise::byte(p.get("x_signed")),
        x_zero: p.get("x_zero"),
        w,
        bias,
        scale,
        y: Plane::new(y, p.get("ys_h"), p.get("ys_w"), p.get("y_row0")),
        requantise: Requantise::of(&p),
    };
    let (filters, block) = (p.get("out_c"), BLOCK as i64);
    let (full, rest) = (filters / block, filters % block);
    let lanes = LANES as i64;
    let width = (rest + lanes - 1) / lanes * lanes;
    let block_size = conv.planes * p.get("kh") * p.get("kw") * conv.quads() * 4;
    b.for_range(call.begin.clone(), call.end.clone(), 1, |b, oy| {
        b.for_range(0, p.get("out_w"), 1, |b, ox| {
            b.for_range(0, full, 1, |b, blk| {
                let base = blk.clone() * (block_size * block);
                b.for_range(0, block, 1, |b, c| {
                    let filter = blk.clone() * block + c.clone();
                    conv.pixel(b, [&oy, &ox], base.clone() + c * 4, block, filter);
                });
            });
            b.for_range(0, rest, 1, |b, c| {
                let base = Affine::from(full * block * block_size) + c.clone() * 4;
                conv.pixel(b, [&oy, &ox], base, width, c + full * block);
            });
        });
    });
}

/// One axis of the window, from parameters.
pub(super) fn axis(
    p: &Params<'_>,
    input: &str,
    window: &str,
    stride: &str,
    dilation: &str,
    pad: &str,
) -> Axis {
    Axis {
        input: p.get(input),
        window: p.get(window),
        stride: p.get(stride),
        dilation: p.get(dilation),
        pad: p.get(pad),
    }
}

struct Conv<'a> {
    rows: Axis,
    columns: Axis,
    channels: i64,
    planes: i64,
    x: Plane,
    x_type: DType,
    x_zero: i64,
    w: &'a View,
    bias: &'a View,
    scale: &'a View,
    y: Plane,
    requantise: Requantise,
}

impl Conv<'_> {
    /// Groups of four channels.
    fn quads(&self) -> i64 {
        (self.channels + 3) / 4
    }

    /// One result. `base` is the filter's first weight in its block of `width` filters.
    fn pixel(&self, b: &mut FuncBuilder, [oy, ox]: [&Affine; 2], base: Affine, width: i64, filter: Affine) {
        let word = Ty::scalar(DType::I32);
        let start = b.load(word, self.bias.buffer, self.bias.offset.clone() + filter.clone());
        let (taps, quads) = (self.columns.window, self.quads());
        let plane = self.rows.window * taps * quads * width * 4;
        let sums = b.for_carried(0, self.planes, 1, &[start], |b, which, sums| {
            self.rows
                .for_taps(b, oy, false, sums.to_vec(), |b, ky, iy, sums| {
                    self.columns.for_taps(b, ox, false, sums, |b, kx, ix, sums| {
                        let tap = which.clone() * plane + (ky.clone() * taps + kx) * (quads * width * 4);
                        let quad = |b: &mut FuncBuilder, q: Affine, count: i64, sums: &[Val]| {
                            b.for_carried(0, count, 1, sums, |b, c, sums| {
                                let x = self.x.lane(&iy, &ix, 1, &(q.clone() * 4 + c.clone()));
                                let x = b.load(Ty::scalar(self.x_type), x.buffer, x.at);
                                let x = b.convert(DType::I32, x);
                                let zero = b.int(word, self.x_zero);
                                let x = b.sub(x, zero);
                                let at = base.clone() + tap.clone() + q.clone() * (width * 4) + c;
                                let at = self.w.offset.clone() + at;
                                let w = b.load(Ty::scalar(DType::I8), self.w.buffer, at);
                                let w = b.convert(DType::I32, w);
                                let product = b.mul(x, w);
                                vec![b.add(sums[0], product)]
                            })
                        };
                        let full = self.channels / 4;
                        let sums = b.for_carried(0, full, 1, &sums, |b, q, sums| quad(b, q, 4, sums));
                        quad(b, full.into(), self.channels % 4, &sums)
                    })
                })
        });
        let scale = self.scale.offset.clone() + filter.clone();
        let scale = b.load(Ty::scalar(self.requantise.multiplier()), self.scale.buffer, scale);
        let y = self.requantise.emit(b, sums[0], scale);
        let to = self.y.lane(oy, ox, 1, &filter);
        to.store(b, 0, 0, y);
    }
}
