//! `max_pool2d_i8`: the largest byte of each window, channels-last; what lies outside the input does not count.
//!
//! Names are those of `depthwise2d_i8`. Elements are u8, or i8 where `x_signed`; a window without any element inside gives the
//! type's least number.

use super::call::{Params, Plane};
use super::conv2d_i8::axis;
use super::requantise::byte;
use super::{Kernel, Operand};
use crate::tile::{FuncBuilder, KernelCall, Ty, View};

pub(super) const KERNEL: Kernel = Kernel {
    name: "max_pool2d_i8",
    operands: &[Operand::read("x"), Operand::write("y")],
    params: &[
        "in_h", "in_w", "channels", "out_w", "kh", "kw", "sh", "sw", "dh", "dw", "pt", "pl", "xs_h", "xs_w",
        "x_row0", "ys_h", "ys_w", "y_row0", "x_signed",
    ],
    range: "output rows, absolute",
    body,
};

fn body(b: &mut FuncBuilder, call: &KernelCall) {
    let p = Params::of(&KERNEL, call);
    let operands: Vec<&View> = call.operands.iter().flatten().collect();
    let &[x, y] = operands.as_slice() else { return };
    let rows = axis(&p, "in_h", "kh", "sh", "dh", "pt");
    let columns = axis(&p, "in_w", "kw", "sw", "dw", "pl");
    let x = Plane::new(x, p.get("xs_h"), p.get("xs_w"), p.get("x_row0"));
    let y = Plane::new(y, p.get("ys_h"), p.get("ys_w"), p.get("y_row0"));
    let signed = p.get("x_signed");
    let ty = Ty::scalar(byte(signed));
    b.for_range(call.begin.clone(), call.end.clone(), 1, |b, oy| {
        b.for_range(0, p.get("out_w"), 1, |b, ox| {
            b.for_range(0, p.get("channels"), 1, |b, c| {
                let least = b.int(ty, if signed == 0 { 0 } else { -128 });
                let largest = rows.for_taps(b, &oy, false, vec![least], |b, _, iy, v| {
                    columns.for_taps(b, &ox, false, v, |b, _, ix, v| {
                        let value = x.lane(&iy, &ix, 1, &c).load(b, ty, 0, 0);
                        vec![b.max(v[0], value)]
                    })
                });
                y.lane(&oy, &ox, 1, &c).store(b, 0, 0, largest[0]);
            });
        });
    });
}
