//! `softmax_f32`: `y[r][i] = e^(x[r][i] - m) / sum over i of e^(x[r][i] - m)`, where `m` is the largest of the row; with `log` the
//! logarithm of that.
//!
//! Rows have `size` elements without gaps and begin `xs_r` and `ys_r` apart. `y` may lie over `x`.

use super::call::Params;
use super::row::{self, Rows};
use super::{Kernel, Operand};
use crate::tile::{Affine, FoldOp, FuncBuilder, KernelCall, View, math};

pub(super) const KERNEL: Kernel = Kernel {
    name: "softmax_f32",
    operands: &[Operand::read("x"), Operand::write("y")],
    params: &["size", "xs_r", "ys_r", "log"],
    range: "rows",
    body,
};

fn body(b: &mut FuncBuilder, call: &KernelCall) {
    let p = Params::of(&KERNEL, call);
    let operands: Vec<&View> = call.operands.iter().flatten().collect();
    let &[x, y] = operands.as_slice() else { return };
    let (x, y) = (Rows::new(x, p.get("xs_r")), Rows::new(y, p.get("ys_r")));
    let (size, log) = (p.get("size"), p.get("log") != 0);
    b.for_range(call.begin.clone(), call.end.clone(), 1, |b, row| {
        let max = row::fold(b, size, FoldOp::Max, |b, i, lanes| x.load(b, lanes, &row, &i));
        let shifted = |b: &mut FuncBuilder, i: &Affine, lanes| {
            let value = x.load(b, lanes, &row, i);
            let max = row::wide(b, lanes, max);
            b.sub(value, max)
        };
        // The exponentials wait in the result for their sum.
        let total = row::fold(b, size, FoldOp::Add, |b, i, lanes| {
            let value = shifted(b, &i, lanes);
            let e = math::exp(b, value);
            if !log {
                y.store(b, &row, &i, e);
            }
            e
        });
        let scale = if log {
            math::log(b, total)
        } else {
            let one = b.f32(1, 1.0);
            b.div(one, total)
        };
        row::each(b, size, |b, i, lanes| {
            let scale = row::wide(b, lanes, scale);
            let value = if log {
                let value = shifted(b, &i, lanes);
                b.sub(value, scale)
            } else {
                let e = y.load(b, lanes, &row, &i);
                b.mul(e, scale)
            };
            y.store(b, &row, &i, value);
        });
    });
}
