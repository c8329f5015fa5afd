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
use sdc_ir::tile::{FoldOp, FuncBuilder, KernelCall, Ty, Val};

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
    let mut b = FuncBuilder::new();
    nest::emit(
        &mut b,
        &[&out_others, &x_others],
        across,
        tasks,
        &mut |b, lanes, access| {
            let ty = Ty::vector(dtype, lanes);
            let (to, from) = (&access[0].index, &access[1].index);
            let max = largest.emit(b, ty, from, 0, along);
            let shift = |b: &mut FuncBuilder, x| {
                let wide = b.ty(x).lanes;
                let max = if wide > b.ty(max).lanes {
                    b.splat(wide, max)
                } else {
                    max
                };
                b.sub(x, max)
            };
            let main = size - size % usize::from(along);
            // The exponentials wait in the result for their sum.
            let exponential = |b: &mut FuncBuilder, i: sdc_ir::tile::Affine, wide: u8, sum: Val| {
                let x = b.load(
                    Ty::vector(dtype, wide),
                    x.buffer,
                    from.clone() + i.clone() * stride,
                );
                let shifted = shift(b, x);
                let e = math::exp(b, shifted);
                if !op.log {
                    b.store(out.buffer, to.clone() + i * out.strides[op.axis], e);
                }
                vec![b.add(sum, e)]
            };
            let mut total = constant(b, ty, 0.0);
            if main > 0 {
                let zero = constant(b, Ty::vector(dtype, along.max(lanes)), 0.0);
                let sums = b.for_carried(0, main, along.into(), &[zero], |b, i, sum| {
                    exponential(b, i, along.max(lanes), sum[0])
                })[0];
                total = if along > 1 {
                    b.fold(FoldOp::Add, sums)
                } else {
                    sums
                };
            }
            if main < size {
                total = b.for_carried(main, size, 1, &[total], |b, i, sum| {
                    exponential(b, i, lanes, sum[0])
                })[0];
            }
            let scale = if op.log {
                math::log(b, total)
            } else {
                let one = constant(b, ty, 1.0);
                b.div(one, total)
            };
            let element = |b: &mut FuncBuilder, i: sdc_ir::tile::Affine, wide: u8| {
                let ty = Ty::vector(dtype, wide);
                let place = to.clone() + i.clone() * out.strides[op.axis];
                let scale = if wide > b.ty(scale).lanes {
                    b.splat(wide, scale)
                } else {
                    scale
                };
                let y = if op.log {
                    let x = b.load(ty, x.buffer, from.clone() + i * stride);
                    let shifted = shift(b, x);
                    b.sub(shifted, scale)
                } else {
                    let e = b.load(ty, out.buffer, place.clone());
                    b.mul(e, scale)
                };
                b.store(out.buffer, place, y);
            };
            b.for_range(0, main, along.into(), |b, i| element(b, i, along.max(lanes)));
            if main < size {
                b.for_range(main, size, 1, |b, i| element(b, i, lanes));
            }
        },
    );
    // The maximum of a row is known before the first element of it is written, and each element is read just before its
    // own place is: the result may lie over the operand.
    cx.push_func(b, data.origins.clone());
    Ok(())
}
