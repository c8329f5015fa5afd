//! `quantize_f32`: QuantizeLinear with one scale and zero point, of pixels in any order to channels-last bytes.
//!
//! `y[row][column][c] = clamp(round_half_even(x[row][column][c] / y_scale) + y_zero, ...)` within the range of the result's type, u8 or i8
//! where `y_signed`; NaN gives 0. `y_scale` is the bits of an `f32`. `x` has any strides, `y` a channel stride of one.

use super::add_i8::quantised;
use super::call::Params;
use super::requantise::byte;
use super::{Kernel, Operand};
use crate::DType;
use crate::tile::{Affine, FuncBuilder, KernelCall, Ty, View};

pub(super) const KERNEL: Kernel = Kernel {
    name: "quantize_f32",
    operands: &[Operand::read("x"), Operand::write("y")],
    params: &[
        "columns", "channels", "xs_h", "xs_w", "xs_c", "ys_h", "ys_w", "y_signed", "y_zero", "y_scale",
    ],
    range: "rows",
    body,
};

fn body(b: &mut FuncBuilder, call: &KernelCall) {
    let p = Params::of(&KERNEL, call);
    let operands: Vec<&View> = call.operands.iter().flatten().collect();
    let &[x, y] = operands.as_slice() else { return };
    let signed = p.get("y_signed");
    let bounds = if signed == 0 { (0, 255) } else { (-128, 127) };
    let (xs_c, channels) = (p.get("xs_c"), p.get("channels"));
    let element = |b: &mut FuncBuilder, lanes: u8, [row, column, c]: [&Affine; 3]| {
        let from = row.clone() * p.get("xs_h") + column.clone() * p.get("xs_w") + c.clone() * xs_c;
        let ty = Ty::vector(DType::F32, lanes);
        let value = b.load(ty, x.buffer, x.offset.clone() + from);
        let scale = b.f32(lanes, f32::from_bits(p.get("y_scale") as u32));
        let value = b.div(value, scale);
        let value = quantised(b, value, p.get("y_zero"), bounds, byte(signed));
        let to = row.clone() * p.get("ys_h") + column.clone() * p.get("ys_w") + c.clone();
        b.store(y.buffer, y.offset.clone() + to, value);
    };
    // Vectors of channels, where these follow one another.
    let lanes: u8 = if xs_c == 1 { 4 } else { 1 };
    let main = channels - channels % i64::from(lanes);
    b.for_range(call.begin.clone(), call.end.clone(), 1, |b, row| {
        b.for_range(0, p.get("columns"), 1, |b, column| {
            b.for_range(0, main, lanes.into(), |b, c| {
                element(b, lanes, [&row, &column, &c])
            });
            b.for_range(main, channels, 1, |b, c| element(b, 1, [&row, &column, &c]));
        });
    });
}
