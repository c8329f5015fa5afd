//! Softmax and LogSoftmax: rows without gaps by the kernel `softmax_f32`, others in loops.

use super::elementwise::constant;
use super::nest::{self, Ref, Rows};
use super::reduce::Reduction;
use super::storage::Scene;
use super::{Lowering, TileError, math};
use sdc_ir::DType;
use sdc_ir::graph::Node;
use sdc_ir::graph::op::{ReduceKind, Softmax};
use sdc_ir::schedule::{Algorithm, Tasks};
use sdc_ir::tile::{Affine, FoldOp, FuncBuilder, KernelCall, Ty, Val};

/// The rows that the kernel can go over, result first; `None` if they have gaps.
pub fn rows(scene: &Scene<'_>, node: Node, op: &Softmax) -> Option<Rows> {
    let data = &scene.graph.nodes()[node];
    let (x, out) = (scene.place(data.inputs[0]), scene.place(data.outputs[0]));
    let others = without(op.axis, x.shape.len());
    let contiguous = x.strides[op.axis] == 1 && out.strides[op.axis] == 1;
    contiguous
        .then(|| Rows::over(x.shape[op.axis], &[&out.permuted(&others), &x.permuted(&others)]))
        .flatten()
}

fn without(axis: usize, rank: usize) -> Vec<usize> {
    (0..rank).filter(|&d| d != axis).collect()
}

/// The kernel's calls for rows of the result and the operand, both seen without the rows' dimension.
fn call(rows: &Rows, out: &Ref, x: &Ref, log: bool, tasks: Tasks) -> FuncBuilder {
    let mut b = FuncBuilder::new();
    rows.emit(&mut b, tasks, |b, repetition, (begin, end)| {
        b.kernel(KernelCall {
            kernel: "softmax_f32".to_owned(),
            params: vec![rows.columns, rows.strides[1], rows.strides[0], log.into()],
            operands: vec![
                Some(rows.view(1, x, &repetition)),
                Some(rows.view(0, out, &repetition)),
            ],
            begin,
            end,
        });
    });
    b
}

/// Lowers a softmax: for each position of the other dimensions the maximum, the sum of exponentials, the results.
pub fn lower(
    cx: &mut Lowering<'_>,
    node: Node,
    op: &Softmax,
    algorithm: Algorithm,
    tasks: Tasks,
) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let dtype = cx.dtype(data.inputs[0]);
    if !matches!(dtype, DType::F32 | DType::F64) {
        return Err(cx.unsupported(node, "only f32 and f64 are supported"));
    }
    let lanes = if dtype == DType::F32 { cx.widths.lanes } else { 1 };
    let (x, out) = (cx.place(data.inputs[0]), cx.place(data.outputs[0]));
    let others = without(op.axis, x.shape.len());
    let (size, stride) = (x.shape[op.axis], x.strides[op.axis]);
    let contiguous = stride == 1 && out.strides[op.axis] == 1;
    // Either the lanes run along the axis, or they run across it.
    let across = if contiguous { 1 } else { lanes };
    let along = if contiguous { lanes } else { 1 };
    let axes = [(size, stride)];
    let largest = Reduction {
        kind: ReduceKind::Max,
        x: &x,
        axes: &axes,
    };
    let (x_others, out_others) = (x.permuted(&others), out.permuted(&others));
    if algorithm != Algorithm::Loops {
        let rows = rows(&cx.scene, node, op)
            .filter(|_| dtype == DType::F32)
            .ok_or_else(|| cx.unsupported(node, "its rows have gaps, or are not f32"))?;
        let b = call(&rows, &out_others, &x_others, op.log, tasks);
        cx.push_func(b, data.origins.clone());
        return Ok(());
    }
    let softmax = Loops {
        x: &x,
        out: &out,
        axis: op.axis,
        log: op.log,
        dtype,
        along,
    };
    let mut b = FuncBuilder::new();
    let operands = [&out_others, &x_others];
    nest::emit(&mut b, &operands, across, tasks, &mut |b, lanes, access| {
        let (to, from) = (&access[0].index, &access[1].index);
        let max = largest.emit(b, Ty::vector(dtype, lanes), from, 0, along);
        let row = Row { to, from, max, lanes };
        let total = softmax.exponentials(b, &row);
        softmax.results(b, &row, total);
    });
    cx.push_func(b, data.origins.clone());
    Ok(())
}

/// A softmax in loops.
struct Loops<'a> {
    x: &'a Ref,
    out: &'a Ref,
    axis: usize,
    log: bool,
    dtype: DType,
    /// Lanes along the axis.
    along: u8,
}

/// Where a row begins in the result and the operand, or as many rows side by side as there are lanes, and its maximum.
struct Row<'a> {
    to: &'a Affine,
    from: &'a Affine,
    max: Val,
    lanes: u8,
}

impl Loops<'_> {
    /// Elements of the row, and those of them in whole vectors.
    fn sizes(&self) -> (usize, usize) {
        let size = self.x.shape[self.axis];
        (size, size - size % usize::from(self.along))
    }

    /// An element less the maximum.
    fn shifted(&self, b: &mut FuncBuilder, row: &Row<'_>, i: &Affine, wide: u8) -> Val {
        let at = row.from.clone() + i.clone() * self.x.strides[self.axis];
        let x = b.load(Ty::vector(self.dtype, wide), self.x.buffer, at);
        let max = widened(b, row.max, wide);
        b.sub(x, max)
    }

    fn place(&self, row: &Row<'_>, i: &Affine) -> Affine {
        row.to.clone() + i.clone() * self.out.strides[self.axis]
    }

    /// The sum of the exponentials, which wait in the result for it.
    fn exponentials(&self, b: &mut FuncBuilder, row: &Row<'_>) -> Val {
        let (size, main) = self.sizes();
        let wide = self.along.max(row.lanes);
        let step = |b: &mut FuncBuilder, i: Affine, wide: u8, sum: Val| {
            let shifted = self.shifted(b, row, &i, wide);
            let e = math::exp(b, shifted);
            if !self.log {
                b.store(self.out.buffer, self.place(row, &i), e);
            }
            vec![b.add(sum, e)]
        };
        let mut total = constant(b, Ty::vector(self.dtype, row.lanes), 0.0);
        if main > 0 {
            let zero = constant(b, Ty::vector(self.dtype, wide), 0.0);
            let sums = b.for_carried(0, main, self.along.into(), &[zero], |b, i, sum| {
                step(b, i, wide, sum[0])
            })[0];
            total = if self.along > 1 {
                b.fold(FoldOp::Add, sums)
            } else {
                sums
            };
        }
        if main < size {
            total = b.for_carried(main, size, 1, &[total], |b, i, sum| step(b, i, row.lanes, sum[0]))[0];
        }
        total
    }

    fn results(&self, b: &mut FuncBuilder, row: &Row<'_>, total: Val) {
        let (size, main) = self.sizes();
        let scale = if self.log {
            math::log(b, total)
        } else {
            let one = constant(b, Ty::vector(self.dtype, row.lanes), 1.0);
            b.div(one, total)
        };
        let element = |b: &mut FuncBuilder, i: Affine, wide: u8| {
            let place = self.place(row, &i);
            let scale = widened(b, scale, wide);
            let y = if self.log {
                let shifted = self.shifted(b, row, &i, wide);
                b.sub(shifted, scale)
            } else {
                let e = b.load(Ty::vector(self.dtype, wide), self.out.buffer, place.clone());
                b.mul(e, scale)
            };
            b.store(self.out.buffer, place, y);
        };
        let wide = self.along.max(row.lanes);
        b.for_range(0, main, self.along.into(), |b, i| element(b, i, wide));
        if main < size {
            b.for_range(main, size, 1, |b, i| element(b, i, row.lanes));
        }
    }
}

/// A value in as many lanes.
fn widened(b: &mut FuncBuilder, x: Val, lanes: u8) -> Val {
    if lanes > b.ty(x).lanes {
        b.splat(lanes, x)
    } else {
        x
    }
}
