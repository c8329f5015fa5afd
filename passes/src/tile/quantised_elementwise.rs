//! Element-wise operators on bytes that have kernels: sums between dequantisation and quantisation, sums and products of
//! integer graphs, and quantisation of numbers.
//!
//! [`root`] says which values are computed by such a kernel, so that they are not taken into a loop of their consumer's.

use super::nest::{Ref, Rows};
use super::storage::Scene;
use super::{Lowering, TileError};
use crate::quantise::Grid;
use sdc_ir::DType;
use sdc_ir::graph::op::{Clip, QLinearAdd, QLinearMul};
use sdc_ir::graph::{BinaryOp, Graph, Node, NodeData, Op, Origin, UnaryOp, Value};
use sdc_ir::registry::add_i8::SCALES;
use sdc_ir::schedule::Tasks;
use sdc_ir::tile::{Affine, FuncBuilder, KernelCall, View};

/// A sum of dequantised tensors, quantised.
pub struct Sum {
    /// One or two operands: integers, and what they mean.
    terms: Vec<(Value, Grid)>,
    output: Grid,
    /// Bounds of the result.
    bounds: (i64, i64),
    /// Values that are computed on the way.
    inner: Vec<Value>,
}

/// What a kernel computes.
pub enum Root<'g> {
    /// `Quantize(Add(Dequantize, Dequantize))`, with Relu or Clip in between; or `Quantize(Dequantize)`.
    Sum(Sum),
    /// Of one or two operands.
    Add(&'g QLinearAdd),
    Mul(&'g QLinearMul),
    /// Of numbers that are in memory.
    Quantize(Grid),
}

impl Root<'_> {
    /// Whether it is one operator on integers rather than what stands between dequantisation and quantisation.
    pub fn is_integer(&self) -> bool {
        matches!(self, Root::Add(_) | Root::Mul(_))
    }
}

fn is_byte(graph: &Graph, v: Value) -> bool {
    matches!(graph.ty(v).dtype, DType::U8 | DType::I8)
}

/// What kernel computes the result of this node, if there is one; `inner` tells of a value whether it is computed for this node
/// alone.
pub fn root<'g>(graph: &'g Graph, node: Node, inner: &dyn Fn(Value) -> bool) -> Option<Root<'g>> {
    let data = &graph.nodes()[node];
    let bytes = || {
        data.inputs
            .iter()
            .chain(&data.outputs)
            .all(|&v| is_byte(graph, v))
    };
    match &data.op {
        Op::QLinearAdd(op) => (data.inputs.len() <= 2 && bytes()).then_some(Root::Add(op)),
        Op::QLinearMul(op) => bytes().then_some(Root::Mul(op)),
        Op::QuantizeLinear(_) => {
            let output = grid(graph, data, data.outputs[0])?;
            let x = data.inputs[0];
            if let Some(sum) = sum(graph, x, output, inner) {
                return Some(Root::Sum(sum));
            }
            let stored = graph.ty(x).dtype == DType::F32 && !inner(x) && graph.constant(x).is_none();
            stored.then_some(Root::Quantize(output))
        }
        _ => None,
    }
}

/// Scale and zero point of a node that quantises to or dequantises from the bytes `integers`.
fn grid(graph: &Graph, data: &NodeData, integers: Value) -> Option<Grid> {
    let single = graph.ty(data.inputs[1]).dtype == DType::F32;
    let grid = Grid::of(graph, graph.ty(integers).dtype, data.inputs[1], data.inputs[2]).ok()?;
    (single && grid.is_byte()).then_some(grid)
}

fn sum(graph: &Graph, quantised: Value, output: Grid, inner: &dyn Fn(Value) -> bool) -> Option<Sum> {
    let mut sum = Sum {
        terms: Vec::new(),
        output,
        bounds: output.range(),
        inner: Vec::new(),
    };
    let mut at = quantised;
    let parts = loop {
        let data = &graph.nodes()[graph.def_node(at)?];
        if !inner(at) || graph.ty(at).dtype != DType::F32 {
            return None;
        }
        sum.inner.push(at);
        // Rounding is monotone: bounds of the number are bounds of the integer.
        let (low, high) = match &data.op {
            Op::Unary(UnaryOp::Relu) => (output.quantise(0.0), i64::MAX),
            Op::Clip(Clip { min, max }) if min <= max => (output.quantise(*min), output.quantise(*max)),
            Op::Binary(BinaryOp::Add) => break data.inputs.clone(),
            Op::DequantizeLinear(_) => break vec![sum.inner.pop()?],
            _ => return None,
        };
        let (min, max) = sum.bounds;
        sum.bounds = (min.max(low).min(max), max.min(high).max(min));
        at = data.inputs[0];
    };
    for part in parts {
        let data = &graph.nodes()[graph.def_node(part)?];
        if !matches!(data.op, Op::DequantizeLinear(_)) || !inner(part) || graph.ty(part).dtype != DType::F32 {
            return None;
        }
        let x = data.inputs[0];
        sum.terms.push((x, grid(graph, data, x)?));
        sum.inner.push(part);
    }
    let ordinary = |g: &Grid| SCALES.contains(&g.scale);
    let fits = ordinary(&output)
        && sum
            .terms
            .iter()
            .all(|(x, g)| ordinary(g) && graph.constant(*x).is_none());
    fits.then_some(sum)
}

/// A kernel's operands in memory.
struct Call<'g> {
    root: Root<'g>,
    /// What it reads.
    reads: Vec<Value>,
}

/// The kernel's operands for this node, if it reads them from memory.
fn call<'g>(scene: &Scene<'g>, node: Node) -> Option<Call<'g>> {
    let data = &scene.graph.nodes()[node];
    let root = root(scene.graph, node, &|v| scene.is_inlined(v))?;
    let reads: Vec<Value> = match &root {
        Root::Sum(sum) => sum.terms.iter().map(|t| t.0).collect(),
        Root::Quantize(_) => vec![data.inputs[0]],
        Root::Add(_) | Root::Mul(_) => data.inputs.clone(),
    };
    let stored = reads.iter().all(|&v| !scene.is_inlined(v));
    stored.then_some(Call { root, reads })
}

/// The kernel for this node, and the rows that it goes over. `None` if there is none, or if its operands do not lie in rows.
pub fn kernel(scene: &Scene<'_>, node: Node) -> Option<(&'static str, Rows)> {
    let call = call(scene, node)?;
    let out = scene.place(scene.graph.nodes()[node].outputs[0]);
    let places: Vec<Ref> = call
        .reads
        .iter()
        .map(|&v| scene.place(v).broadcast(&out.shape))
        .collect();
    let kernel = match &call.root {
        Root::Quantize(_) => return Some(("quantize_f32", quantisation(&places[0], &out)?.0)),
        Root::Sum(_) | Root::Add(_) => "add_i8",
        Root::Mul(_) => "mul_i8",
    };
    let refs: Vec<&Ref> = std::iter::once(&out).chain(&places).collect();
    Some((kernel, Rows::of(&refs)?))
}

/// Lowers a node to a kernel call.
pub fn lower(cx: &mut Lowering<'_>, node: Node, tasks: Tasks) -> Result<(), TileError> {
    let graph = cx.graph;
    let data = &graph.nodes()[node];
    let (Some(Call { root, reads }), Some((kernel, rows))) =
        (call(&cx.scene, node), self::kernel(&cx.scene, node))
    else {
        return Err(refused(cx, node));
    };
    let out = cx.place(data.outputs[0]);
    let places: Vec<Ref> = reads.iter().map(|&v| cx.place(v).broadcast(&out.shape)).collect();
    let signed = |v: Value| i64::from(graph.ty(v).dtype == DType::I8);
    let y_signed = signed(data.outputs[0]);
    let bits = |scale: f32| i64::from(scale.to_bits());
    let mut origins = data.origins.clone();
    let [y, a, b] = [0, 1, 2].map(|i| rows.strides.get(i).copied().unwrap_or(0));
    let mut params = vec![rows.columns, a, b, y];
    match &root {
        Root::Sum(sum) => {
            params.push(i64::from(sum.terms.len() > 1));
            for i in 0..2 {
                let term = sum.terms.get(i).map(|(v, g)| [signed(*v), g.zero, bits(g.scale)]);
                params.extend(term.unwrap_or_default());
            }
            params.extend([y_signed, sum.output.zero, sum.bounds.0, sum.bounds.1, 0]);
            params.push(bits(sum.output.scale));
            for &v in &sum.inner {
                let inner = graph.def_node(v).map_or(&[][..], |n| &graph.nodes()[n].origins);
                add_origins(&mut origins, inner);
            }
        }
        Root::Add(op) => {
            params.push(i64::from(reads.len() > 1));
            for i in 0..2 {
                let term = reads.get(i).map(|&v| [signed(v), op.zeros[i], op.multipliers[i]]);
                params.extend(term.unwrap_or_default());
            }
            params.extend([y_signed, op.y_zero, op.min, op.max, op.shift as i64, 0]);
        }
        Root::Mul(op) => {
            let terms = [0, 1].map(|i| [signed(reads[i]), op.zeros[i]]);
            params.extend(terms.concat());
            params.push(op.multiplier);
            params.extend([y_signed, op.y_zero, op.min, op.max, op.shift as i64]);
        }
        Root::Quantize(grid) => {
            let grid = [y_signed, grid.zero, bits(grid.scale)];
            let b = quantise(&places[0], &out, grid, tasks).ok_or_else(|| refused(cx, node))?;
            cx.push_func(b, origins);
            return Ok(());
        }
    }
    let refs: Vec<&Ref> = std::iter::once(&out).chain(&places).collect();
    let view = |r: &Ref, stride: i64, first: &Affine| View {
        buffer: r.buffer,
        offset: first.clone() * stride + r.offset,
    };
    let mut b = FuncBuilder::new();
    rows.emit(&mut b, tasks, |b, first, range| {
        let mut operands: Vec<Option<View>> = (1..refs.len())
            .map(|i| Some(view(refs[i], rows.outer[i], &first)))
            .collect();
        operands.resize(2, None);
        operands.push(Some(view(refs[0], rows.outer[0], &first)));
        b.kernel(KernelCall {
            kernel: kernel.to_owned(),
            params: params.clone(),
            operands,
            begin: range.0,
            end: range.1,
        });
    });
    cx.push_func(b, origins);
    Ok(())
}

fn refused(cx: &Lowering<'_>, node: Node) -> TileError {
    cx.unsupported(
        node,
        "there is no kernel for these operands, or they do not lie in rows",
    )
}

fn add_origins(all: &mut Vec<Origin>, more: &[Origin]) {
    for origin in more {
        if !all.contains(origin) {
            all.push(origin.clone());
        }
    }
}

/// Rows of images, or of anything without gaps, and their layout: columns, channels, and the strides of the kernel's parameters, before
/// the grid; per operand the distance of repetitions.
fn quantisation(x: &Ref, y: &Ref) -> Option<(Rows, [i64; 7], [i64; 2])> {
    if let Some(rows) = Rows::of(&[y, x]) {
        let n = rows.columns;
        let layout = [1, n, rows.strides[1], n, 1, rows.strides[0], n];
        let outer = [rows.outer[1], rows.outer[0]];
        return Some((rows, layout, outer));
    }
    let (&[n, c, h, w], &[xs_n, xs_c, xs_h, xs_w]) = (&y.shape[..], &x.strides[..]) else {
        return None;
    };
    if y.strides[1] != 1 {
        return None;
    }
    let rows = Rows {
        columns: (w * c) as i64,
        count: h as i64,
        strides: Vec::new(),
        times: n as i64,
        outer: Vec::new(),
    };
    let layout = [w as i64, c as i64, xs_h, xs_w, xs_c, y.strides[2], y.strides[3]];
    Some((rows, layout, [xs_n, y.strides[0]]))
}

/// Quantisation to a grid: signed, zero point, bits of the scale.
fn quantise(x: &Ref, y: &Ref, grid: [i64; 3], tasks: Tasks) -> Option<FuncBuilder> {
    let (rows, layout, outer) = quantisation(x, y)?;
    let mut b = FuncBuilder::new();
    rows.emit(&mut b, tasks, |b, times, (begin, end)| {
        let view = |r: &Ref, stride: i64| {
            Some(View {
                buffer: r.buffer,
                offset: times.clone() * stride + r.offset,
            })
        };
        b.kernel(KernelCall {
            kernel: "quantize_f32".to_owned(),
            params: layout.into_iter().chain(grid).collect(),
            operands: vec![view(x, outer[0]), view(y, outer[1])],
            begin,
            end,
        });
    });
    Some(b)
}
