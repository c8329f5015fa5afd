//! Convolution without a kernel: plain loops for what the kernels do not cover (run-time weights, other element types,
//! one or three spatial dimensions, other layouts).

use super::conv::operands;
use super::nest::Ref;
use super::{Lowering, TileError, elementwise};
use sdc_ir::graph::Node;
use sdc_ir::graph::op::{Activation, Conv};
use sdc_ir::tile::{Affine, Bound, FuncBuilder, Ty, Val};
use std::ops::Range;

/// Lowers output rows `rows`; any rank, any float element type but half.
pub fn lower(cx: &mut Lowering<'_>, node: Node, op: &Conv, rows: Range<usize>) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let o = operands(&data.inputs, op.bias, op.residual);
    let dtype = cx.dtype(o.x);
    if !matches!(dtype, sdc_ir::DType::F32 | sdc_ir::DType::F64) {
        return Err(cx.unsupported(node, "only f32 and f64 are supported"));
    }
    if op.dilations.iter().any(|&d| d != 1) {
        return Err(cx.unsupported(
            node,
            "dilation needs constant f32 weights and two spatial dimensions",
        ));
    }
    let (x, w, y) = (cx.place(o.x), cx.place(o.w), cx.place(data.outputs[0]));
    let (bias, residual) = (o.bias.map(|v| cx.place(v)), o.residual.map(|v| cx.place(v)));
    let spatial = x.shape.len() - 2;
    let mut b = FuncBuilder::new();
    let plan = Plan {
        op,
        x: &x,
        w: &w,
        y: &y,
        bias,
        residual,
        ty: Ty::scalar(dtype),
        spatial,
    };
    let mut bounds: Vec<Range<usize>> = y.shape[2..].iter().map(|&n| 0..n).collect();
    if let Some(first) = bounds.first_mut() {
        *first = rows;
    }
    plan.outputs(&mut b, &bounds);
    cx.push_func(b, data.origins.clone());
    Ok(())
}

struct Plan<'a> {
    op: &'a Conv,
    x: &'a Ref,
    w: &'a Ref,
    y: &'a Ref,
    bias: Option<Ref>,
    residual: Option<Ref>,
    ty: Ty,
    spatial: usize,
}

impl Plan<'_> {
    fn outputs(&self, b: &mut FuncBuilder, bounds: &[Range<usize>]) {
        let (in_c, out_c) = (self.w.shape[1], self.y.shape[1] / self.op.group);
        b.for_range(0, self.y.shape[0], 1, |b, n| {
            b.for_range(0, self.op.group, 1, |b, g| {
                b.for_range(0, out_c, 1, |b, m| {
                    let m = g.clone() * out_c as i64 + m;
                    self.positions(b, bounds, &mut vec![n.clone(), m], &(g * in_c as i64));
                });
            });
        });
    }

    /// Loops over output positions; `at` holds the coordinates so far.
    fn positions(
        &self,
        b: &mut FuncBuilder,
        bounds: &[Range<usize>],
        at: &mut Vec<Affine>,
        first_c: &Affine,
    ) {
        let Some(range) = bounds.get(at.len() - 2) else {
            return self.element(b, at, first_c);
        };
        b.for_range(range.start, range.end, 1, |b, i| {
            at.push(i);
            self.positions(b, bounds, at, first_c);
            at.pop();
        });
    }

    fn element(&self, b: &mut FuncBuilder, at: &[Affine], first_c: &Affine) {
        let zero = elementwise::constant(b, self.ty, 0.0);
        let sum = b.for_carried(0, self.w.shape[1], 1, &[zero], |b, c, sum| {
            let x_at = vec![at[0].clone(), first_c.clone() + c.clone()];
            vec![self.taps(b, at, x_at, vec![at[1].clone(), c], sum[0])]
        });
        let mut y = sum[0];
        if let Some(bias) = &self.bias {
            let v = b.load(self.ty, bias.buffer, bias.at(&at[1..2]));
            y = b.add(y, v);
        }
        if let Some(residual) = &self.residual {
            let v = b.load(self.ty, residual.buffer, residual.at(at));
            y = b.add(y, v);
        }
        let y = activate(b, self.op.act, y);
        b.store(self.y.buffer, self.y.at(at), y);
    }

    /// Sums over the taps that lie inside the input.
    fn taps(
        &self,
        b: &mut FuncBuilder,
        at: &[Affine],
        x_at: Vec<Affine>,
        w_at: Vec<Affine>,
        sum: Val,
    ) -> Val {
        let d = x_at.len() - 2;
        if d == self.spatial {
            let x = b.load(self.ty, self.x.buffer, self.x.at(&x_at));
            let w = b.load(self.ty, self.w.buffer, self.w.at(&w_at));
            return b.fma(x, w, sum);
        }
        let (kernel, size) = (self.w.shape[2 + d], self.x.shape[2 + d]);
        let start = at[2 + d].clone() * self.op.strides[d] as i64 - self.op.pads[d];
        let lo = Bound::of(vec![0.into(), start.clone() * -1]);
        let hi = Bound::of(vec![kernel.into(), start.clone() * -1 + size]);
        b.for_carried(lo, hi, 1, &[sum], |b, tap, sum| {
            let (mut x_at, mut w_at) = (x_at.clone(), w_at.clone());
            x_at.push(start.clone() + tap.clone());
            w_at.push(tap);
            vec![self.taps(b, at, x_at, w_at, sum[0])]
        })[0]
    }
}

/// The epilogue's activation.
pub fn activate(b: &mut FuncBuilder, act: Activation, x: Val) -> Val {
    let ty = b.ty(x);
    match act {
        Activation::None => x,
        Activation::Relu => {
            let zero = elementwise::constant(b, ty, 0.0);
            b.max(zero, x)
        }
        Activation::Clip { min, max } => {
            let (lo, hi) = (
                elementwise::constant(b, ty, min.into()),
                elementwise::constant(b, ty, max.into()),
            );
            let x = b.max(lo, x);
            b.min(hi, x)
        }
        Activation::LeakyRelu { alpha } => {
            let alpha = elementwise::constant(b, ty, alpha.into());
            let zero = elementwise::constant(b, ty, 0.0);
            let low = b.mul(x, alpha);
            let negative = b.compare(sdc_ir::tile::CompareOp::Lt, x, zero);
            b.select(negative, low, x)
        }
    }
}
