//! `gemm_f32`: `c[m][n] = act(bias[n] + residual[m][n] + sum over k of a[m][k] * b[k][n])`.
//!
//! `a` has any strides; rows of `c` and `residual` have unit stride. `b` is packed as the weights of
//! [`conv2d_f32`](super::conv2d), with K plain. It is that kernel with a 1x1 window over one row of `m` pixels.

use super::call::{Params, Plane};
use super::conv2d::{Product, Weights};
use super::window::Axis;
use super::{Kernel, Operand};
use crate::tile::{FuncBuilder, KernelCall};

pub(super) const KERNEL: Kernel = Kernel {
    name: "gemm_f32",
    operands: &[
        Operand::read("a"),
        Operand::read("b"),
        Operand::optional("bias"),
        Operand::optional("residual"),
        Operand::write("c"),
    ],
    params: &[
        "m",
        "n",
        "k",
        "as_m",
        "as_k",
        "cs_m",
        "rs_m",
        "nr",
        "lanes",
        "has_bias",
        "has_residual",
        "act",
        "act_a",
        "act_b",
    ],
    range: "blocks of nr columns",
    body,
};

fn body(b: &mut FuncBuilder, call: &KernelCall) {
    let p = Params::of(&KERNEL, call);
    let (Some(Some(a)), Some(Some(weights)), Some(Some(c))) =
        (call.operands.first(), call.operands.get(1), call.operands.get(4))
    else {
        return;
    };
    let axis = |input| Axis {
        input,
        window: 1,
        stride: 1,
        dilation: 1,
        pad: 0,
    };
    let product = Product {
        rows: axis(1),
        columns: axis(p.get("m")),
        in_c: p.get("k"),
        out_w: p.get("m"),
        x: Plane::new(a, 0, p.get("as_m"), 0),
        xs_c: p.get("as_k"),
        weights: Weights {
            view: weights.clone(),
            out_c: p.get("n"),
            nr: p.get("nr"),
            lanes: p.get("lanes"),
        },
        bias: p.optional(2, "has_bias"),
        residual: p
            .optional(3, "has_residual")
            .map(|r| Plane::new(&r, 0, p.get("rs_m"), 0)),
        y: Plane::new(c, 0, p.get("cs_m"), 0),
        activation: p.activation(),
    };
    product.emit(b, (0.into(), 1.into()), (call.begin.clone(), call.end.clone()));
}
