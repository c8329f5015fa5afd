//! Matrix products: calls of the GEMM kernel, or blocked loops.

use super::conv::{activation_params, operands};
use super::generic_conv::activate;
use super::nest::Ref;
use super::rebuild::{self, Blocks, Matrices};
use super::storage::Scene;
use super::{Lowering, TileError, elementwise, matmul_packed, pack, sparse};
use sdc_ir::DType;
use sdc_ir::graph::op::MatMul;
use sdc_ir::graph::{Graph, Node, NodeData, Value};
use sdc_ir::schedule::{Algorithm, Form, Run, Tasks, Widths};
use sdc_ir::tile::{Affine, Bound, Buffer, FuncBuilder, KernelCall, Ty, Val, View};

/// Lowers a matrix product.
pub fn lower(cx: &mut Lowering<'_>, node: Node, op: &MatMul, run: &Run) -> Result<(), TileError> {
    let tasks = run.parts.first().map_or(Tasks::One, |p| p.tasks);
    match (run.algorithm, run.weights) {
        (Algorithm::Sparse { .. }, _) => sparse::product(cx, node, op, run),
        (Algorithm::Kernel(_), Some(Form::AtRun)) => matmul_packed::lower(cx, node, op, run),
        (Algorithm::Kernel(_), Some(form)) => constant(cx, node, op, form, tasks),
        _ => loops(cx, node, op),
    }
}

/// A product with rows of the left operand merged, its result, and its residual.
pub struct Rows {
    a: Ref,
    out: Ref,
    residual: Option<Ref>,
    /// Inner size and columns.
    pub k: usize,
    pub n: usize,
}

impl Rows {
    /// Of a product whose right operand is one matrix of constants, if its operands' rows lie so that the kernel can read them.
    pub fn of(scene: &Scene<'_>, node: Node, op: &MatMul) -> Option<Self> {
        let data = &scene.graph.nodes()[node];
        let o = operands(&data.inputs, op.bias, op.residual);
        let &[k, n] = scene.graph.ty(o.w).sizes() else {
            return None;
        };
        let out = flattened(&scene.place(data.outputs[0])).filter(|c| c.strides[1] == 1)?;
        let residual = match o.residual {
            Some(v) => Some(flattened(&scene.place(v)).filter(|r| r.strides[1] == 1)?),
            None => None,
        };
        Some(Self {
            a: flattened(&scene.place(o.x))?,
            out,
            residual,
            k,
            n,
        })
    }

    /// Number of rows.
    pub fn m(&self) -> usize {
        self.a.shape[0]
    }

    /// Operand, result and residual as `[1, channels, 1, rows]`.
    pub fn as_images(&self) -> (Ref, Ref, Option<Ref>) {
        let image = |r: &Ref| Ref {
            buffer: r.buffer,
            offset: r.offset,
            strides: vec![0, r.strides[1], 0, r.strides[0]],
            shape: vec![1, r.shape[1], 1, r.shape[0]],
        };
        (
            image(&self.a),
            image(&self.out),
            self.residual.as_ref().map(image),
        )
    }

    /// The call for all blocks of columns.
    fn call(&self, op: &MatMul, widths: &Widths, w: Buffer, bias: Option<&Ref>) -> KernelCall {
        let mut params: Vec<i64> = [self.m(), self.n, self.k].map(|n| n as i64).to_vec();
        params.extend([self.a.strides[0], self.a.strides[1], self.out.strides[0]]);
        params.push(self.residual.as_ref().map_or(0, |r| r.strides[0]));
        params.extend([widths.block as i64, widths.kernel_lanes as i64]);
        params.extend([i64::from(op.bias), i64::from(op.residual)]);
        params.extend(activation_params(op.act));
        let view = |r: &Ref| View {
            buffer: r.buffer,
            offset: r.offset.into(),
        };
        let weights = View {
            buffer: w,
            offset: 0.into(),
        };
        KernelCall {
            kernel: "gemm_f32".to_owned(),
            params,
            operands: vec![
                Some(view(&self.a)),
                Some(weights),
                bias.map(view),
                self.residual.as_ref().map(view),
                Some(view(&self.out)),
            ],
            begin: 0.into(),
            end: self.n.div_ceil(widths.block).into(),
        }
    }
}

/// Compressed weights as the kernel reads them.
pub fn compressed(graph: &Graph, widths: &Widths, w: Value) -> Option<(rebuild::Weights, Matrices)> {
    let (weights, row_steps) = rebuild::Weights::of_product(graph, w)?;
    let matrices = Matrices {
        groups: 1,
        row_steps,
        block: widths.block,
        lanes: widths.kernel_lanes,
    };
    Some((weights, matrices))
}

/// A product with constant or compressed weights.
fn constant(
    cx: &mut Lowering<'_>,
    node: Node,
    op: &MatMul,
    form: Form,
    tasks: Tasks,
) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let o = operands(&data.inputs, op.bias, op.residual);
    if Rows::of(&cx.scene, node, op).is_none() {
        return Err(cx.unsupported(node, "the kernel does not fit these operands"));
    }
    cx.place(o.x);
    let compressed = compressed(cx.graph, &cx.widths, o.w).filter(|_| form != Form::Constant);
    let columns = cx.graph.ty(data.outputs[0]).sizes().last().copied().unwrap_or(1);
    let blocks = compressed
        .as_ref()
        .filter(|_| form == Form::Blocks)
        .map(|(weights, matrices)| (weights, Blocks::of(columns, weights, matrices)));
    let w = match (&blocks, &compressed) {
        (Some((weights, (_, matrices))), _) => rebuild::scratch(cx, weights, matrices),
        (None, Some((weights, matrices))) => {
            rebuild::panels(cx, &data.origins, weights, matrices, form == Form::Streamed)
        }
        (None, None) => packed(cx, node, o.w)?,
    };
    // From now on constants are in buffers.
    let (bias, _) = (o.bias.map(|v| cx.place(v)), o.residual.map(|v| cx.place(v)));
    let refused = || cx.unsupported(node, "the kernel does not fit these operands");
    let rows = Rows::of(&cx.scene, node, op).ok_or_else(refused)?;
    let (block, n) = (cx.widths.block, rows.n);
    let whole = rows.call(op, &cx.widths, w, bias.as_ref());
    let call = |begin: Bound, end: Bound| KernelCall {
        begin,
        end,
        ..whole.clone()
    };
    let mut b = FuncBuilder::new();
    if let Some((weights, (parts, matrices))) = &blocks {
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
    } else {
        // A block is the unit of sharing.
        let blocks = n.div_ceil(block);
        match tasks {
            Tasks::Every(each) => b.parallel_for(blocks.div_ceil(each), |b, t| {
                let lo = t * each as i64;
                let hi = Bound::of(vec![lo.clone() + each, blocks.into()]);
                b.kernel(call(lo.into(), hi));
            }),
            _ => b.kernel(call(0.into(), blocks.into())),
        }
    }
    cx.push_func(b, data.origins.clone());
    Ok(())
}

/// Constant weights, packed at compile time.
fn packed(cx: &mut Lowering<'_>, node: Node, w: Value) -> Result<Buffer, TileError> {
    let fail = |e: sdc_ir::tensor::TensorError| cx.unsupported(node, e.to_string());
    let weights = cx.graph.constant(w).filter(|t| t.shape().len() == 2);
    let weights = weights.ok_or_else(|| cx.unsupported(node, "neither dense nor compressed weights"))?;
    let [k, n] = [weights.shape()[0], weights.shape()[1]];
    let elements = weights.elements::<f32>().map_err(fail)?;
    let (block, lanes) = (cx.widths.block, cx.widths.kernel_lanes);
    let packed = pack::columns(k, n, block, lanes, |row, column| elements[row * n + column]).map_err(fail)?;
    Ok(cx.constant(packed, &format!("{w} packed")))
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

/// The operands of a product with all batch dimensions in place (stride 0 where they are broadcast): `[batch.., rows, columns]`.
pub struct Batched {
    pub a: Ref,
    pub w: Ref,
    pub out: Ref,
    pub bias: Option<Ref>,
    pub residual: Option<Ref>,
}

impl Batched {
    /// Of a product; `None` if an operand has less than two dimensions.
    pub fn of(node: &NodeData, op: &MatMul, mut place: impl FnMut(Value) -> Ref) -> Option<Self> {
        let o = operands(&node.inputs, op.bias, op.residual);
        let out = place(node.outputs[0]);
        let (a, w) = (place(o.x), place(o.w));
        if a.shape.len() < 2 || w.shape.len() < 2 {
            return None;
        }
        let batch = &out.shape[..out.shape.len() - 2];
        let with_batch = |r: &Ref| r.broadcast(&[batch, &r.shape[r.shape.len() - 2..]].concat());
        let mut addend = |v: Value| place(v).broadcast(&out.shape);
        Some(Self {
            a: with_batch(&a),
            w: with_batch(&w),
            bias: o.bias.map(&mut addend),
            residual: o.residual.map(&mut addend),
            out,
        })
    }
}

/// A product of run-time operands: register-blocked loops over batch, rows and columns.
fn loops(cx: &mut Lowering<'_>, node: Node, op: &MatMul) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let dtype = cx.dtype(data.inputs[0]);
    if matches!(dtype, DType::F16 | DType::BF16 | DType::Bool) {
        return Err(cx.unsupported(node, format!("{dtype} products are not supported")));
    }
    let Some(Batched {
        a,
        w,
        out,
        bias,
        residual,
    }) = Batched::of(data, op, |v| cx.place(v))
    else {
        return Err(cx.unsupported(node, "operands of rank 1 are reshaped by the importer"));
    };
    let rank = out.shape.len();
    let batch = out.shape[..rank - 2].to_vec();
    let (m, n, k) = (out.shape[rank - 2], out.shape[rank - 1], a.shape[rank - 1]);
    let unit = |r: &Option<Ref>| r.as_ref().is_none_or(|r| matches!(r.strides[rank - 1], 0 | 1));
    let addends = unit(&bias) && unit(&residual);
    let vectors = addends && dtype == DType::F32 && w.strides[rank - 1] == 1 && out.strides[rank - 1] == 1;
    let product = Product {
        a,
        w,
        out: out.clone(),
        bias,
        residual,
        op,
        dtype,
        k,
    };
    let lanes = if vectors { cx.widths.lanes } else { 1 };
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
    cx.push_func(b, data.origins.clone());
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
