//! `layer_norm_f32`: `y[r][i] = (x[r][i] - mean) / sqrt(variance + epsilon) * scale[i] + bias[i]`, with mean and variance of the row.
//!
//! Rows have `size` elements without gaps and begin `xs_r` and `ys_r` apart; `epsilon` is the bits of an `f32`. `y` may lie over `x`.

use super::call::Params;
use super::row::{self, Rows};
use super::{Kernel, Operand};
use crate::tile::{Affine, Arith1, FoldOp, FuncBuilder, KernelCall, View};

pub(super) const KERNEL: Kernel = Kernel {
    name: "layer_norm_f32",
    operands: &[
        Operand::read("x"),
        Operand::read("scale"),
        Operand::read("bias"),
        Operand::write("y"),
    ],
    params: &["size", "xs_r", "ys_r", "epsilon"],
    range: "rows",
    body,
};

fn body(b: &mut FuncBuilder, call: &KernelCall) {
    let p = Params::of(&KERNEL, call);
    let operands: Vec<&View> = call.operands.iter().flatten().collect();
    let &[x, scale, bias, y] = operands.as_slice() else {
        return;
    };
    let (x, y) = (Rows::new(x, p.get("xs_r")), Rows::new(y, p.get("ys_r")));
    let (scale, bias) = (Rows::new(scale, 0), Rows::new(bias, 0));
    let size = p.get("size");
    b.for_range(call.begin.clone(), call.end.clone(), 1, |b, row| {
        let n = b.f32(1, size as f32);
        let total = row::fold(b, size, FoldOp::Add, |b, i, lanes| x.load(b, lanes, &row, &i));
        let mean = b.div(total, n);
        let centred = |b: &mut FuncBuilder, i: &Affine, lanes| {
            let value = x.load(b, lanes, &row, i);
            let mean = row::wide(b, lanes, mean);
            b.sub(value, mean)
        };
        let squares = row::fold(b, size, FoldOp::Add, |b, i, lanes| {
            let value = centred(b, &i, lanes);
            b.mul(value, value)
        });
        let variance = b.div(squares, n);
        let epsilon = b.f32(1, f32::from_bits(p.get("epsilon") as u32));
        let variance = b.add(variance, epsilon);
        let deviation = b.arith1(Arith1::Sqrt, variance);
        let one = b.f32(1, 1.0);
        let inverse = b.div(one, deviation);
        row::each(b, size, |b, i, lanes| {
            let value = centred(b, &i, lanes);
            let inverse = row::wide(b, lanes, inverse);
            let unit = b.mul(value, inverse);
            let (scale, bias) = (scale.load(b, lanes, &row, &i), bias.load(b, lanes, &row, &i));
            let value = b.fma(unit, scale, bias);
            y.store(b, &row, &i, value);
        });
    });
}
