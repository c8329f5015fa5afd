//! Lowers the graph to tile functions: one per group of nodes.
//!
//! A group is a spatial operator, a matrix product, a reduction, a data movement, or a tree of element-wise operators.
//! Heavy work becomes kernel calls; everything else loop nests. Every spatial lowering computes *an interval of
//! output rows* from the input rows it needs ([`rows`]); the whole tensor is the interval `[0, H)`. Views, and Concat operands
//! written in place, move no byte ([`storage`]).
//!
//! Not here: choosing layouts (the layout pass) and memory offsets (the plan).

mod conv;
mod conv_transpose;
mod elementwise;
mod generic_conv;
mod map;
mod matmul;
mod matmul_packed;
mod movement;
pub mod nest;
mod norm;
mod order;
mod pack;
mod pad;
mod pool;
mod pool_calls;
mod quantised;
mod quantised_conv;
mod quantised_elementwise;
mod quantised_norm;
mod quantised_weights;
mod rebuild;
mod recurrent;
mod reduce;
mod resize;
pub mod rows;
mod scatter;
mod softmax;
mod split;
mod storage;
mod winograd;

pub use quantised::range as quantised_range;

use crate::pass::{Ctx, Remark};
use crate::plan::InPlace;
use nest::Ref;
use sdc_ir::entity::{Arena, EntityId};
use sdc_ir::graph::{Graph, Node, Op, Origin, Value, Weight};
use sdc_ir::tile::{Buffer, BufferData, BufferKind, Func, FuncBuilder, Module, math};
use sdc_ir::{DType, Digest, Tensor};
use std::collections::BTreeMap;
use std::ops::Range;
use storage::Storage;

/// What the tile level must know of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileOptions {
    /// Lanes of `f32` vectors in loop nests.
    pub lanes: u8,
    /// Output channels per block of packed weights.
    pub block: usize,
    /// Lanes of the micro-kernels: the last block of packed weights is padded to a multiple of it.
    pub kernel_lanes: usize,
    /// Compressed weights are rebuilt tile by tile while the model runs, not when it is loaded.
    pub streamed: bool,
    /// 3x3 convolutions may be computed by Winograd's filtering, which rounds otherwise than direct summation; needs whole rows of
    /// tiles as input, so not for schedules of single rows.
    pub winograd: bool,
}

impl Default for TileOptions {
    /// For 128-bit vectors.
    fn default() -> Self {
        Self {
            lanes: 4,
            block: 8,
            kernel_lanes: 4,
            streamed: false,
            winograd: false,
        }
    }
}

/// A lowered graph.
#[derive(Debug, Clone)]
pub struct Lowered {
    /// The functions and buffers.
    pub module: Module,
    /// Where a function may write its result over an operand.
    pub in_place: Vec<InPlace>,
    /// What was chosen, and why.
    pub remarks: Vec<Remark>,
}

/// A node that cannot be lowered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{op}: {reason}; operands: {}; from {}", operands.join(", "), origins.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
pub struct TileError {
    /// Operator.
    pub op: &'static str,
    /// Why not.
    pub reason: String,
    /// Operand types as text.
    pub operands: Vec<String>,
    /// The user's nodes.
    pub origins: Vec<Origin>,
}

/// Lowers a graph in which the layout pass has run.
///
/// # Errors
/// All nodes that have no lowering, at once.
pub fn lower(graph: &Graph, options: &TileOptions) -> Result<Lowered, Vec<TileError>> {
    lower_cut(graph, options, &|_| Vec::new())
}

/// As [`lower`], but each spatial node for which `cuts` names inner row numbers is computed in several intervals of
/// output rows, one function each. Any cut gives the same bits.
///
/// # Errors
/// As [`lower`].
pub fn lower_cut(
    graph: &Graph,
    options: &TileOptions,
    cuts: &dyn Fn(Node) -> Vec<usize>,
) -> Result<Lowered, Vec<TileError>> {
    let mut module = Module {
        name: graph.name.clone(),
        ..Module::default()
    };
    let storage = Storage::assign(graph, &mut module);
    let mut cx = Lowering {
        graph,
        options,
        module,
        in_place: Vec::new(),
        storage,
        constants: BTreeMap::new(),
        rebuilt: BTreeMap::new(),
        phases: BTreeMap::new(),
        winograd: BTreeMap::new(),
        ctx: Ctx::new(crate::pipeline::TILE),
    };
    if options.winograd {
        cx.winograd = winograd::choose(&mut cx);
    }
    let mut errors = Vec::new();
    for node in graph.nodes().ids() {
        if let Err(e) = cx.node(node, cuts) {
            errors.push(e);
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    cx.copy_outputs();
    rebuild::fill_dense(&mut cx);
    Ok(Lowered {
        module: without_unused_buffers(cx.module, &mut cx.in_place),
        in_place: cx.in_place,
        remarks: cx.ctx.into_remarks(),
    })
}

/// State of one lowering.
struct Lowering<'g> {
    graph: &'g Graph,
    options: &'g TileOptions,
    module: Module,
    in_place: Vec<InPlace>,
    storage: Storage,
    constants: BTreeMap<Weight, Buffer>,
    /// Prepared matrices, by the digest of the compressed weights.
    rebuilt: BTreeMap<(Digest, rebuild::Matrices), Buffer>,
    /// Prepared matrices of transposed convolutions, by phase.
    phases: BTreeMap<(Node, [usize; 2]), Buffer>,
    /// Sides of tiles of the convolutions computed by Winograd's filtering.
    winograd: BTreeMap<Node, usize>,
    /// What was chosen so far, and why.
    ctx: Ctx,
}

impl Lowering<'_> {
    fn node(&mut self, node: Node, cuts: &dyn Fn(Node) -> Vec<usize>) -> Result<(), TileError> {
        let graph = self.graph;
        let data = &graph.nodes()[node];
        let result = data.outputs[0];
        let skipped = matches!(data.op, Op::Constant(_))
            || self.storage.is_inlined(result)
            || storage::view_of(graph, node).is_some();
        if skipped || graph.ty(result).elements() == Some(0) {
            return Ok(());
        }
        match &data.op {
            op if elementwise::is_elementwise(op) => elementwise::lower(self, node),
            Op::Rebuild(_) => rebuild::check(self, node),
            Op::Conv(op) => self.spatial(node, cuts, |cx, rows| conv::lower(cx, node, op, rows)),
            Op::QLinearConv(op) => {
                self.spatial(node, cuts, |cx, rows| quantised_conv::lower(cx, node, op, rows))
            }
            Op::ConvTranspose(op) => {
                self.spatial(node, cuts, |cx, rows| conv_transpose::lower(cx, node, op, rows))
            }
            Op::MaxPool(_) | Op::AveragePool(_) | Op::QLinearAveragePool(_) => {
                self.spatial(node, cuts, |cx, rows| pool::lower(cx, node, rows))
            }
            Op::Pad(op) => self.spatial(node, cuts, |cx, rows| pad::lower(cx, node, op, rows)),
            Op::Resize(op) => self.spatial(node, cuts, |cx, rows| resize::lower(cx, node, op, rows)),
            Op::MatMul(op) => matmul::lower(self, node, op),
            Op::Reduce(op) => reduce::lower(self, node, op),
            Op::Softmax(op) => softmax::lower(self, node, op),
            Op::QLinearSoftmax(op) => quantised_norm::softmax(self, node, op),
            Op::QLinearInstanceNormalization(op) => quantised_norm::instance(self, node, op),
            Op::InstanceNormalization(op) => norm::instance(self, node, op.epsilon),
            Op::LayerNormalization(op) => norm::layer(self, node, op),
            Op::Concat(op) => movement::concat(self, node, op.axis),
            Op::Slice(op) => movement::slice(self, node, op),
            Op::Gather(op) => movement::gather(self, node, op.axis),
            Op::Scatter(op) => scatter::lower(self, node, op.mode),
            Op::Cumulative(op) => order::cumulative(self, node, op),
            Op::ArgMax(op) => order::arg_max(self, node, op),
            Op::TopK(op) => order::top_k(self, node, op),
            Op::Recurrent(op) => recurrent::lower(self, node, op),
            Op::Relayout(_) | Op::Expand(_) | Op::Transpose(_) | Op::Reshape(_) => movement::copy(self, node),
            other => Err(self.unsupported(node, format!("no lowering for {}", other.name()))),
        }
    }

    /// Lowers a node in intervals of output rows (dimension 2).
    fn spatial(
        &mut self,
        node: Node,
        cuts: &dyn Fn(Node) -> Vec<usize>,
        mut lower: impl FnMut(&mut Self, Range<usize>) -> Result<(), TileError>,
    ) -> Result<(), TileError> {
        let shape = self.graph.ty(self.graph.nodes()[node].outputs[0]).sizes();
        let height = shape.get(2).copied().unwrap_or(1);
        let mut bounds = cuts(node);
        bounds.retain(|&c| 0 < c && c < height);
        bounds.extend([0, height]);
        bounds.sort_unstable();
        bounds.dedup();
        bounds.windows(2).try_for_each(|w| lower(self, w[0]..w[1]))
    }

    /// Place of a value; a constant gets its buffer now.
    fn place(&mut self, value: Value) -> Ref {
        if let Some(place) = self.storage.get(value) {
            return place.clone();
        }
        let tensor = self
            .graph
            .constant(value)
            .expect("only constants and inlined values have no place")
            .clone();
        let buffer = self.constant(tensor, &value.to_string());
        let place = storage::dense(self.graph.ty(value), buffer);
        self.storage.set(value, place.clone());
        place
    }

    /// A read-only buffer with this content; equal contents share one.
    fn constant(&mut self, tensor: Tensor, name: &str) -> Buffer {
        let (dtype, len) = (tensor.dtype(), tensor.len());
        let weight = self.module.weights.add(tensor);
        let buffers = &mut self.module.buffers;
        *self.constants.entry(weight).or_insert_with(|| {
            buffers.push(BufferData {
                dtype,
                len,
                kind: BufferKind::Const(weight),
                name: name.to_owned(),
            })
        })
    }

    /// Appends a function. `out` is where it writes; each of `over` is a place it reads exactly one element from for
    /// each element it writes, before it writes it, so that it may lie under the result if it has the same form.
    fn push_func(&mut self, b: FuncBuilder, origins: Vec<Origin>, out: &Ref, over: &[Ref]) {
        let func = self.module.funcs.len();
        let is_temp = |module: &Module, b: Buffer| module.buffers[b].kind == BufferKind::Temp;
        for place in over {
            let whole = |r: &Ref, m: &Module| {
                r.offset == 0 && r.shape.iter().product::<usize>() == m.buffers[r.buffer].len
            };
            let fits = place.buffer != out.buffer
                && is_temp(&self.module, place.buffer)
                && is_temp(&self.module, out.buffer)
                && same_strides(place, out)
                && whole(place, &self.module)
                && whole(out, &self.module)
                && self.module.buffers[place.buffer].dtype.size()
                    == self.module.buffers[out.buffer].dtype.size();
            if fits {
                self.in_place.push(InPlace {
                    func,
                    input: place.buffer,
                    output: out.buffer,
                });
            }
        }
        self.module.funcs.push(b.finish(format!("f{func}"), origins));
    }

    /// Graph outputs that share another value's bytes are copied at the end.
    fn copy_outputs(&mut self) {
        for (i, value) in self.storage.copies.clone() {
            let ty = self.graph.ty(value).clone();
            let port = &self.graph.outputs[i];
            let origins = match self.graph.def_node(value) {
                Some(node) => self.graph.nodes()[node].origins.clone(),
                None => vec![Origin {
                    name: port.name.clone(),
                    op: "Output".to_owned(),
                    index: i as u32,
                }],
            };
            let source = self.place(value);
            let kind = BufferKind::Output(i);
            let len = ty.elements().unwrap_or(0);
            let buffer = self.module.buffers.push(BufferData {
                dtype: ty.dtype,
                len,
                kind,
                name: port.name.clone(),
            });
            let out = storage::dense(&ty, buffer);
            movement::copy_ref(self, origins, &source, &out, ty.dtype);
        }
    }

    fn unsupported(&self, node: Node, reason: impl Into<String>) -> TileError {
        let data = &self.graph.nodes()[node];
        TileError {
            op: data.op.name(),
            reason: reason.into(),
            operands: data
                .inputs
                .iter()
                .map(|&v| self.graph.ty(v).to_string())
                .collect(),
            origins: data.origins.clone(),
        }
    }

    fn dtype(&self, value: Value) -> DType {
        self.graph.ty(value).dtype
    }
}

fn same_strides(a: &Ref, b: &Ref) -> bool {
    a.shape == b.shape && (0..a.shape.len()).all(|d| a.shape[d] == 1 || a.strides[d] == b.strides[d])
}

/// Drops buffers no function touches (results of empty tensors, inlined chains), keeping inputs and outputs.
fn without_unused_buffers(module: Module, in_place: &mut [InPlace]) -> Module {
    let mut used = vec![false; module.buffers.len()];
    for func in module.prepare.iter().chain(&module.funcs) {
        for_each_buffer(&func.body, &mut |b| used[b.index()] = true);
    }
    let mut map: Vec<Option<Buffer>> = vec![None; used.len()];
    let mut buffers: Arena<Buffer, BufferData> = Arena::new();
    for (id, data) in module.buffers.iter() {
        if used[id.index()] || matches!(data.kind, BufferKind::Input(_) | BufferKind::Output(_)) {
            map[id.index()] = Some(buffers.push(data.clone()));
        }
    }
    let renamed = |b: Buffer| map[b.index()].expect("used buffers are kept");
    let all_renamed = |funcs: Vec<Func>| funcs.into_iter().map(|f| renamed_func(f, &renamed)).collect();
    for pair in in_place.iter_mut() {
        pair.input = renamed(pair.input);
        pair.output = renamed(pair.output);
    }
    Module {
        name: module.name,
        buffers,
        prepare: all_renamed(module.prepare),
        funcs: all_renamed(module.funcs),
        weights: module.weights,
    }
}

fn for_each_buffer(stmts: &[sdc_ir::tile::Stmt], visit: &mut dyn FnMut(Buffer)) {
    use sdc_ir::tile::{Inst, Stmt};
    for stmt in stmts {
        match stmt {
            Stmt::Let(_, Inst::Load { buffer, .. } | Inst::LoadSplat { buffer, .. })
            | Stmt::Store { buffer, .. } => {
                visit(*buffer);
            }
            Stmt::Let(..) => {}
            Stmt::For(f) => for_each_buffer(&f.body, visit),
            Stmt::Kernel(call) => call.operands.iter().flatten().for_each(|view| visit(view.buffer)),
        }
    }
}

fn renamed_func(mut func: Func, renamed: &dyn Fn(Buffer) -> Buffer) -> Func {
    fn walk(stmts: &mut [sdc_ir::tile::Stmt], renamed: &dyn Fn(Buffer) -> Buffer) {
        use sdc_ir::tile::{Inst, Stmt};
        for stmt in stmts {
            match stmt {
                Stmt::Let(_, Inst::Load { buffer, .. } | Inst::LoadSplat { buffer, .. })
                | Stmt::Store { buffer, .. } => *buffer = renamed(*buffer),
                Stmt::Let(..) => {}
                Stmt::For(f) => walk(&mut f.body, renamed),
                Stmt::Kernel(call) => {
                    call.operands
                        .iter_mut()
                        .flatten()
                        .for_each(|view| view.buffer = renamed(view.buffer));
                }
            }
        }
    }
    walk(&mut func.body, renamed);
    func
}
