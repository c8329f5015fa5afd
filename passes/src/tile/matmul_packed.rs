//! Products of two run-time matrices through the GEMM kernel: one function packs the right operand into a temporary
//! buffer, the next multiplies. Packing moves each element once, the product uses it once per row.

use super::conv::activation_params;
use super::matmul::Batched;
use super::matrix::Matrix;
use super::nest::Ref;
use super::{Lowering, TileError, pack, split};
use sdc_ir::DType;
use sdc_ir::graph::Node;
use sdc_ir::graph::op::MatMul;
use sdc_ir::schedule::{Run, Tasks};
use sdc_ir::tile::{Affine, Bound, BufferData, BufferKind, FuncBuilder, KernelCall, View};

/// Whether the kernel can compute the product: a bias that is one row for all, rows of the residual and the result without gaps.
pub fn fits(p: &Batched) -> bool {
    let columns = p.out.shape.len() - 1;
    let bias = p
        .bias
        .as_ref()
        .is_none_or(|r| r.strides[..columns].iter().all(|&s| s == 0) && r.strides[columns] == 1);
    let residual = p.residual.as_ref().is_none_or(|r| r.strides[columns] == 1);
    p.a.shape[columns] > 0 && p.out.strides[columns] == 1 && bias && residual
}

/// Batch dimensions in which the right operand is packed: those that it is not broadcast over.
pub fn own_batch(p: &Batched) -> Vec<usize> {
    let rows = p.out.shape.len() - 2;
    let own = |d: usize| if p.w.strides[d] == 0 { 1 } else { p.out.shape[d] };
    (0..rows).map(own).collect()
}

/// Lowers the product.
pub fn lower(cx: &mut Lowering<'_>, node: Node, op: &MatMul, run: &Run) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let w = data.inputs[1];
    let p = Batched::of(data, op, |v| cx.place(v)).filter(fits);
    let p = p.ok_or_else(|| cx.unsupported(node, "the kernel does not fit these operands"))?;
    if cx.dtype(w) != DType::F32 {
        return Err(cx.unsupported(node, "only f32 is supported"));
    }
    let tasks = |i: usize| run.parts.get(i).map_or(Tasks::One, |part| part.tasks);
    let (rows, columns) = (p.out.shape.len() - 2, p.out.shape.len() - 1);
    let [n, k] = [p.out.shape[columns], p.a.shape[columns]];
    let origins = data.origins.clone();
    let (block, lanes) = (cx.widths.block, cx.widths.kernel_lanes);
    // Batch dimensions that the right operand is broadcast over share one packed copy.
    let mut packed = vec![0i64; rows];
    let mut len = pack::packed_len(k, n, block, lanes);
    let own = own_batch(&p);
    for d in (0..rows).rev() {
        if own[d] > 1 {
            packed[d] = len as i64;
            len *= p.out.shape[d];
        }
    }
    let buffer = cx.module.buffers.push(BufferData {
        dtype: DType::F32,
        len,
        kind: BufferKind::Temp,
        name: format!("{w} packed"),
    });
    let right = Matrix {
        groups: (1, 0),
        first: 0,
        rows: vec![(k, p.w.strides[rows])],
        columns: (n, p.w.strides[columns]),
        block,
        lanes,
    };
    let mut b = FuncBuilder::new();
    batches(&mut b, &own, tasks(0), &mut Vec::new(), &mut |b, at| {
        let [from, to] = [(p.w.buffer, p.w.at(at)), (buffer, linear(at, &packed))];
        let view = |(buffer, offset)| View { buffer, offset };
        right.emit(b, &view(from), &view(to), cx.widths.lanes);
    });
    cx.push_func(b, origins.clone());

    let params = params(&p, op, block, lanes);
    let blocks = n.div_ceil(block);
    let mut b = FuncBuilder::new();
    batches(
        &mut b,
        &p.out.shape[..rows],
        tasks(1),
        &mut Vec::new(),
        &mut |b, at| {
            let view = |r: &Ref| View {
                buffer: r.buffer,
                offset: r.at(at),
            };
            let operands = vec![
                Some(view(&p.a)),
                Some(View {
                    buffer,
                    offset: linear(at, &packed),
                }),
                p.bias.as_ref().map(view),
                p.residual.as_ref().map(view),
                Some(view(&p.out)),
            ];
            b.kernel(KernelCall {
                kernel: "gemm_f32".to_owned(),
                params: params.clone(),
                operands,
                begin: 0.into(),
                end: Bound::from(blocks),
            });
        },
    );
    cx.push_func(b, origins);
    Ok(())
}

/// Parameters of the kernel.
fn params(p: &Batched, op: &MatMul, block: usize, lanes: usize) -> Vec<i64> {
    let (rows, columns) = (p.out.shape.len() - 2, p.out.shape.len() - 1);
    let mut params: Vec<i64> = [p.out.shape[rows], p.out.shape[columns], p.a.shape[columns]]
        .map(|n| n as i64)
        .to_vec();
    params.extend([p.a.strides[rows], p.a.strides[columns], p.out.strides[rows]]);
    params.push(p.residual.as_ref().map_or(0, |r| r.strides[rows]));
    params.extend([block as i64, lanes as i64]);
    params.extend([i64::from(p.bias.is_some()), i64::from(p.residual.is_some())]);
    params.extend(activation_params(op.act));
    params
}

fn linear(at: &[Affine], strides: &[i64]) -> Affine {
    at.iter()
        .zip(strides)
        .fold(Affine::constant(0), |sum, (i, &s)| sum + i.clone() * s)
}

/// Loops over batch dimensions; with tasks of a round each, the first that has several entries is parallel.
fn batches(
    b: &mut FuncBuilder,
    shape: &[usize],
    tasks: Tasks,
    at: &mut Vec<Affine>,
    body: &mut dyn FnMut(&mut FuncBuilder, &[Affine]),
) {
    let Some(&size) = shape.get(at.len()) else {
        return body(b, at);
    };
    let first = at.iter().all(|i| i.as_constant().is_some());
    let mut entry = |b: &mut FuncBuilder, i: Affine| {
        at.push(i);
        batches(b, shape, tasks, at, body);
        at.pop();
    };
    match tasks {
        _ if size == 1 => entry(b, 0.into()),
        Tasks::Each { rounds, .. } if first => split::for_each(b, size, rounds, entry),
        _ => b.for_range(0, size, 1, entry),
    }
}
