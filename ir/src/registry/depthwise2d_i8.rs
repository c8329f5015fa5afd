//! `depthwise2d_i8`: integer depthwise convolution of one image, channels-last, requantised to 8 bits.
//!
//! As `conv2d_i8` with one filter per channel: weights `[ky][kx][channel]` are i16, `bias` (i32) and `scale` (f32; i32 with a `y_shift`) have
//! an element per channel. Every channel stride is one.

use super::call::{Params, Plane};
use super::conv2d_i8::axis;
use super::requantise::{self, Requantise};
use super::{Kernel, Operand};
use crate::DType;
use crate::tile::{FuncBuilder, KernelCall, Ty, View};

pub(super) const KERNEL: Kernel = Kernel {
    name: "depthwise2d_i8",
    operands: &[
        Operand::read("x"),
        Operand::read("w"),
        Operand::read("bias"),
        Operand::read("scale"),
        Operand::write("y"),
    ],
    params: &[
        "in_h", "in_w", "channels", "out_w", "kh", "kw", "sh", "sw", "dh", "dw", "pt", "pl", "xs_h", "xs_w",
        "x_row0", "ys_h", "ys_w", "y_row0", "x_signed", "x_zero", "y_signed", "y_zero", "y_min", "y_max",
        "y_shift",
    ],
    range: "output rows, absolute",
    body,
};

fn body(b: &mut FuncBuilder, call: &KernelCall) {
    let p = Params::of(&KERNEL, call);
    let operands: Vec<&View> = call.operands.iter().flatten().collect();
    let &[x, w, bias, scale, y] = operands.as_slice() else {
        return;
    };
    let rows = axis(&p, "in_h", "kh", "sh", "dh", "pt");
    let columns = axis(&p, "in_w", "kw", "sw", "dw", "pl");
    let channels = p.get("channels");
    let x = Plane::new(x, p.get("xs_h"), p.get("xs_w"), p.get("x_row0"));
    let y = Plane::new(y, p.get("ys_h"), p.get("ys_w"), p.get("y_row0"));
    let (x_type, requantise) = (requantise::byte(p.get("x_signed")), Requantise::of(&p));
    let word = Ty::scalar(DType::I32);
    b.for_range(call.begin.clone(), call.end.clone(), 1, |b, oy| {
        b.for_range(0, p.get("out_w"), 1, |b, ox| {
            b.for_range(0, channels, 1, |b, c| {
                let start = b.load(word, bias.buffer, bias.offset.clone() + c.clone());
                let sums = rows.for_taps(b, &oy, false, vec![start], |b, ky, iy, sums| {
                    columns.for_taps(b, &ox, false, sums, |b, kx, ix, sums| {
                        let from = x.lane(&iy, &ix, 1, &c);
                        let value = from.load(b, Ty::scalar(x_type), 0, 0);
                        let value = b.convert(DType::I32, value);
                        let zero = b.int(word, p.get("x_zero"));
                        let value = b.sub(value, zero);
                        let tap = (ky.clone() * columns.window + kx) * channels + c.clone();
                        let tap = w.offset.clone() + tap;
                        let weight = b.load(Ty::scalar(DType::I16), w.buffer, tap);
                        let weight = b.convert(DType::I32, weight);
                        let product = b.mul(value, weight);
                        vec![b.add(sums[0], product)]
                    })
                });
                let scale = b.load(
                    Ty::scalar(requantise.multiplier()),
                    scale.buffer,
                    scale.offset.clone() + c.clone(),
                );
                let result = requantise.emit(b, sums[0], scale);
                y.lane(&oy, &ox, 1, &c).store(b, 0, 0, result);
            });
        });
    });
}
