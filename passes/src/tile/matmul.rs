//! Matrix products: the GEMM kernel where the right operand is constant or worth packing, blocked loops otherwise.

use super::conv::{activation_params, operands};
use super::generic_conv::activate;
use super::nest::Ref;
use super::rebuild::{self, Blocks, Matrices};
use super::split::MACS_PER_TASK;
use super::{Lowering, TileError, elementwise, matmul_packed, pack};
use sdc_ir::DType;
use sdc_ir::graph::op::MatMul;
use sdc_ir::graph::{Node, Value};
use sdc_ir::tile::{Affine, Bound, FuncBuilder, KernelCall, Ty, Val, View};

/// Rows that could be computed in the time it takes to fetch the weights.
const ROWS_PER_STREAM: usize = 8;

/// Lowers a matrix product.
pub fn lower(cx: &mut Lowering<'_>, node: Node, op: &MatMul) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let o = operands(&data.inputs, op.bias, op.residual);
    let (a, out) = (cx.place(o.x), cx.place(data.outputs[0]));
    let weights = cx
        .graph
        .constant(o.w)
        .filter(|t| t.dtype() == DType::F32 && t.shape().len() == 2)
        .cloned();
    let rows = flattened(&a);
    let (block, lanes) = (cx.options.block, cx.options.kernel_lanes);
    let compressed = rebuild::Weights::of_product(cx, o.w).map(|(weights, row_steps)| {
        let matrices = Matrices {
            groups: 1,
            row_steps,
            block,
            lanes,
        };
        (weights, matrices)
    });
    let constant = weights.is_some() || compressed.is_some();
    match (constant, rows, flattened(&out)) {
        (true, Some(a), Some(c)) if c.strides[1] == 1 && flat_residual(cx, o.residual) => {
            let shape = cx.graph.ty(o.w).sizes();
            let [k, n] = [shape[0], shape[1]];
            let streamed = cx.options.streamed && n > block;
            let w = match (&weights, &compressed) {
                (Some(weights), _) => {
                    let elements = weights
                        .elements::<f32>()
                        .map_err(|e| cx.unsupported(node, e.to_string()))?;
                    let packed = pack::columns(k, n, block, lanes, |row, column| elements[row * n + column])
                        .map_err(|e| cx.unsupported(node, e.to_string()))?;
                    cx.constant(packed, &format!("{} packed", o.w))
                }
                (None, Some((weights, matrices))) if streamed => rebuild::scratch(cx, weights, matrices),
                (None, Some((weights, matrices))) => rebuild::panels(cx, &data.origins, weights, matrices),
                (None, None) => return Err(cx.unsupported(node, "neither dense nor compressed weights")),
            };
            let bias = o.bias.map(|v| cx.place(v));
            let residual = o.residual.map(|v| cx.place(v));
            let residual_rows = residual.as_ref().and_then(flattened);
            let mut params: Vec<i64> = [a.shape[0], n, k].map(|n| n as i64).to_vec();
            params.extend([a.strides[0], a.strides[1], c.strides[0]]);
            params.push(residual_rows.as_ref().map_or(0, |r| r.strides[0]));
            params.extend([block as i64, lanes as i64]);
            params.extend([i64::from(bias.is_some()), i64::from(residual.is_some())]);
            params.extend(activation_params(op.act));
            let view = |r: &Ref| View {
                buffer: r.buffer,
                offset: r.offset.into(),
            };
            let operands = vec![
                Some(view(&a)),
                Some(View {
                    buffer: w,
                    offset: 0.into(),
                }),
                bias.as_ref().map(view),
                residual.as_ref().map(view),
                Some(view(&c)),
            ];
            let call = |begin: Bound, end: Bound| KernelCall {
                kernel: "gemm_f32".to_owned(),
                params: params.clone(),
                operands: operands.clone(),
                begin,
                end,
            };
            let blocks = n.div_ceil(block);
            let mut b = FuncBuilder::new();
            if let (Some((weights, matrices)), true) = (&compressed, streamed) {
                let parts = Blocks { columns: n, block };
                parts.emit(cx, &mut b, weights, matrices, w, |b, at, columns| {
                    let mut part = call(0.into(), 1.into());
                    part.params[1] = columns as i64;
                    for operand in [2, 3, 4] {
                        if let Some(view) = &mut part.operands[operand] {
                            view.offset = view.offset.clone() + at.clone();
                        }
                    }
                    b.kernel(part);
                });
                let over: Vec<Ref> = residual.into_iter().collect();
                cx.push_func(b, data.origins.clone(), &out, &over);
                return Ok(());
            }
            // A block is the unit of sharing. With few rows the weights' bytes take the time, else the products. Equal
            // tasks of a power of two suit most numbers of threads.
            let block_cost = (k * block * (a.shape[0] + ROWS_PER_STREAM)).max(1);
            let most = (blocks * block_cost / MACS_PER_TASK).clamp(1, 16.min(blocks));
            let tasks = 1usize << most.ilog2();
            let per_task = blocks.div_ceil(tasks);
            let tasks = blocks.div_ceil(per_task);
            if tasks > 1 {
                b.parallel_for(tasks, |b, t| {
                    let lo = t * per_task as i64;
                    let hi = Bound::of(vec![lo.clone() + per_task, blocks.into()]);
                    b.kernel(call(lo.into(), hi));
                });
            } else {
                b.kernel(call(0.into(), blocks.into()));
            }
            let over: Vec<Ref> = residual.into_iter().collect();
            cx.push_func(b, data.origins.clone(), &out, &over);
            Ok(())
        }
        _ => loops(cx, node, op),
    }
}

/// True if there is no residual or the kernel can read it.
fn flat_residual(cx: &mut Lowering<'_>, residual: Option<Value>) -> bool {
    residual.is_none_or(|v| flattened(&cx.place(v)).is_some_and(|r| r.strides[1] == 1))
}

/// All dimensions but the last merged into one, if their strides allow it: `[rows, columns]`.
fn flattened(r: &Ref) -> Option<Ref> {
    let rank = r.shape.len();
    if rank < 2 {
        return None;
    }
    let mut stride = None;
    for d in (0..rank - 1).rev().filter(|&d| r.shape[d] != 1) {
        let inner: usize = r.shape[d + 1..rank - 1].iter().product();
        let base = *stride.get_or_insert(r.strides[d]);
        if r.strides[d] != base * inner as i64 {
            return None;
        }
    }
    let rows = r.shape[..rank - 1].iter().product();
    Some(Ref {
        buffer: r.buffer,
        offset: r.offset,
        strides: vec![stride.unwrap_or(0), r.strides[rank - 1]],
        shape: vec![rows, r.shape[rank - 1]],
    })
}

/// Rows and vectors of columns computed together.
const ROWS: usize = 4;
const VECTORS: usize = 2;

/// A product of run-time operands: register-blocked loops over batch, rows and columns.
fn loops(cx: &mut Lowering<'_>, node: Node, op: &MatMul) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let o = operands(&data.inputs, op.bias, op.residual);
    let dtype = cx.dtype(o.x);
    if matches!(dtype, DType::F16 | DType::BF16 | DType::Bool) {
        return Err(cx.unsupported(node, format!("{dtype} products are not supported")));
    }
    let out = cx.place(data.outputs[0]);
    let rank = out.shape.len();
    let (a, w) = (cx.place(o.x), cx.place(o.w));
    if a.shape.len() < 2 || w.shape.len() < 2 {
        return Err(cx.unsupported(node, "operands of rank 1 are reshaped by the importer"));
    }
    let (m, n, k) = (
        out.shape[rank - 2],
        out.shape[rank - 1],
        a.shape[a.shape.len() - 1],
    );
    let batch = out.shape[..rank - 2].to_vec();
    let with_batch = |r: &Ref| {
        let own = r.shape.len() - 2;
        let mut shape = batch.clone();
        shape.extend(&r.shape[own..]);
        r.broadcast(&shape)
    };
    let bias = o.bias.map(|v| cx.place(v).broadcast(&out.shape));
    let residual = o.residual.map(|v| cx.place(v).broadcast(&out.shape));
    let packed = matmul_packed::Product {
        a: &with_batch(&a),
        w: (&with_batch(&w), o.w),
        out: &out,
        bias: bias.as_ref(),
        residual: residual.as_ref(),
        op,
    };
    if dtype == DType::F32 && matmul_packed::lower(cx, node, &packed) {
        return Ok(());
    }
    let unit = |r: &Option<Ref>| r.as_ref().is_none_or(|r| matches!(r.strides[rank - 1], 0 | 1));
    let addends = unit(&bias) && unit(&residual);
    let vectors =
        addends && dtype == DType::F32 && w.strides[w.shape.len() - 1] == 1 && out.strides[rank - 1] == 1;
    let product = Product {
        a: with_batch(&a),
        w: with_batch(&w),
        out: out.clone(),
        bias,
        residual,
        op,
        dtype,
        k,
    };
    let lanes = if vectors { cx.options.lanes } else { 1 };
    let wide = VECTORS * usize::from(lanes);
    let mut b = FuncBuilder::new();
    product.batches(&mut b, &batch, &mut Vec::new(), &mut |b, at| {
        let full_m = m - m % ROWS;
        let columns = |b: &mut FuncBuilder, i: Affine, rows: usize| {
            let full_n = n - n % wide;
            let lane_n = n - n % usize::from(lanes);
            b.for_range(0, full_n, wide as i64, |b, j| {
                product.tile(b, at, &i, &j, rows, VECTORS, lanes)
            });
            if lane_n > full_n {
                b.for_range(full_n, lane_n, lanes.into(), |b, j| {
                    product.tile(b, at, &i, &j, rows, 1, lanes)
                });
            }
            if n > lane_n {
                b.for_range(lane_n, n, 1, |b, j| product.tile(b, at, &i, &j, rows, 1, 1));
            }
        };
        b.for_range(0, full_m, ROWS as i64, |b, i| columns(b, i, ROWS));
        if m > full_m {
            b.for_range(full_m, m, 1, |b, i| columns(b, i, 1));
        }
    });
    let over: Vec<Ref> = product.residual.iter().cloned().collect();
    cx.push_func(b, data.origins.clone(), &out, &over);
    Ok(())
}

struct Product<'a> {
    a: Ref,
    w: Ref,
    out: Ref,
    bias: Option<Ref>,
    residual: Option<Ref>,
    op: &'a MatMul,
    dtype: DType,
    k: usize,
}

impl Product<'_> {
    fn batches(
        &self,
        b: &mut FuncBuilder,
        batch: &[usize],
        at: &mut Vec<Affine>,
        body: &mut dyn FnMut(&mut FuncBuilder, &[Affine]),
    ) {
        let Some(&size) = batch.get(at.len()) else {
            return body(b, at);
        };
        b.for_range(0, size, 1, |b, i| {
            at.push(i);
            self.batches(b, batch, at, body);
            at.pop();
        });
    }

    /// `rows` by `vectors * lanes` results.
    #[allow(
        clippy::too_many_arguments,
        reason = "the coordinates and sizes of one register tile"
    )]
    fn tile(
        &self,
        b: &mut FuncBuilder,
        batch: &[Affine],
        i: &Affine,
        j: &Affine,
        rows: usize,
        vectors: usize,
        lanes: u8,
    ) {
        let ty = Ty::vector(self.dtype, lanes);
        let at = |i: Affine, j: Affine| batch.iter().cloned().chain([i, j]).collect::<Vec<_>>();
        let column = |v: usize| j.clone() + v * usize::from(lanes);
        let zero = elementwise::constant(b, ty, 0.0);
        let sums = b.for_carried(0, self.k, 1, &vec![zero; rows * vectors], |b, k, sums| {
            let ws: Vec<Val> = (0..vectors)
                .map(|v| b.load(ty, self.w.buffer, self.w.at(&at(k.clone(), column(v)))))
                .collect();
            let mut next = Vec::with_capacity(sums.len());
            for r in 0..rows {
                let x = b.load_splat(ty, self.a.buffer, self.a.at(&at(i.clone() + r, k.clone())));
                next.extend((0..vectors).map(|v| b.fma(x, ws[v], sums[r * vectors + v])));
            }
            next
        });
        for r in 0..rows {
            for v in 0..vectors {
                let place = at(i.clone() + r, column(v));
                let mut y = sums[r * vectors + v];
                for addend in [&self.bias, &self.residual].into_iter().flatten() {
                    let index = addend.at(&place);
                    let contiguous = addend.strides.last() == Some(&1) || lanes == 1;
                    let x = if contiguous {
                        b.load(ty, addend.buffer, index)
                    } else {
                        b.load_splat(ty, addend.buffer, index)
                    };
                    y = b.add(y, x);
                }
                let y = activate(b, self.op.act, y);
                b.store(self.out.buffer, self.out.at(&place), y);
            }
        }
    }
}
