//! Lowers a scheduled graph to tile functions: those of each run of its schedule, which says where values lie, what computes them,
//! in which form weights are read, and how work is cut. Nothing is decided here.
//!
//! Kernel calls where the schedule has a kernel; everything else loop nests. Every spatial lowering computes *an interval of
//! output rows* from the input rows it needs ([`rows`]); the whole tensor is the interval `[0, H)`. Views, and Concat operands
//! written in place, move no byte ([`storage`]).
//!
//! Not here: choices (the schedule pass) and memory offsets (the plan).

pub(crate) mod conv;
pub(crate) mod conv_transpose;
pub(crate) mod elementwise;
mod generic_conv;
pub(crate) mod map;
pub(crate) mod matmul;
pub(crate) mod matmul_packed;
mod matrix;
mod movement;
pub mod nest;
pub(crate) mod norm;
mod order;
mod pack;
mod pad;
pub(crate) mod pool;
pub(crate) mod pool_calls;
mod quantised;
pub(crate) mod quantised_conv;
pub(crate) mod quantised_elementwise;
mod quantised_norm;
pub(crate) mod quantised_weights;
pub(crate) mod rebuild;
pub(crate) mod recurrent;
pub(crate) mod reduce;
mod resize;
pub mod rows;
mod scatter;
pub(crate) mod softmax;
pub(crate) mod sparse;
mod split;
pub(crate) mod storage;
pub(crate) mod winograd;

pub use quantised::range as quantised_range;

use nest::Ref;
use sdc_ir::entity::{Arena, EntityId};
use sdc_ir::graph::{Graph, Node, Op, Origin, Value, Weight};
use sdc_ir::schedule::{Part, Run, Schedule, Tasks, Widths};
use sdc_ir::tile::{Buffer, BufferData, BufferKind, Func, FuncBuilder, Module, math};
use sdc_ir::{DType, Digest, Tensor};
use std::collections::BTreeMap;
use std::ops::Range;
use storage::Scene;

/// A lowered graph.
#[derive(Debug, Clone)]
pub struct Lowered {
    /// The functions and buffers.
    pub module: Module,
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

/// Lowers a graph as a schedule of it says, which must verify.
///
/// # Errors
/// All nodes that have no lowering, or not the one that the schedule asks for, at once.
pub fn lower(graph: &Graph, schedule: &Schedule) -> Result<Lowered, Vec<TileError>> {
    let (scene, buffers) = Scene::new(graph, &schedule.storage);
    let mut cx = Lowering {
        graph,
        schedule,
        widths: schedule.widths,
        scene,
        module: Module {
            name: graph.name.clone(),
            buffers,
            ..Module::default()
        },
        constants: BTreeMap::new(),
        rebuilt: BTreeMap::new(),
        packed: BTreeMap::new(),
        sparse: BTreeMap::new(),
    };
    let mut errors = Vec::new();
    for (node, data) in graph.nodes().iter() {
        if let Op::Rebuild(_) = data.op {
            errors.extend(rebuild::check(&cx, node).err());
        }
    }
    rebuild::fill_dense(&mut cx);
    for run in &schedule.runs {
        errors.extend(cx.run(run).err());
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    cx.copy_outputs();
    Ok(Lowered {
        module: without_unused_buffers(cx.module),
    })
}

/// State of one lowering.
pub(crate) struct Lowering<'g> {
    graph: &'g Graph,
    schedule: &'g Schedule,
    widths: Widths,
    scene: Scene<'g>,
    module: Module,
    constants: BTreeMap<Weight, Buffer>,
    /// Prepared matrices, by the digest of the compressed weights.
    rebuilt: BTreeMap<(Digest, rebuild::Matrices), Buffer>,
    /// Matrices that functions fill from tensors in memory.
    packed: BTreeMap<(Node, matrix::Part), Buffer>,
    /// Prepared tables of the rows that are stored.
    sparse: BTreeMap<(Digest, sparse::Windows), sparse::Tables>,
}

impl Lowering<'_> {
    fn run(&mut self, run: &Run) -> Result<(), TileError> {
        let (graph, node, algorithm) = (self.graph, run.node, run.algorithm);
        let tasks = run.parts.first().map_or(Tasks::One, |part| part.tasks);
        match &graph.nodes()[node].op {
            op if op.is_elementwise() => elementwise::lower(self, node, algorithm, tasks),
            op if op.is_spatial() => run.parts.iter().try_for_each(|part| self.spatial(run, part)),
            Op::MatMul(op) => matmul::lower(self, node, op, run),
            Op::Reduce(op) => reduce::lower(self, node, op, algorithm, tasks),
            Op::Softmax(op) => softmax::lower(self, node, op, algorithm, tasks),
            Op::QLinearSoftmax(op) => quantised_norm::softmax(self, node, op, tasks),
            Op::QLinearInstanceNormalization(op) => quantised_norm::instance(self, node, op, tasks),
            Op::InstanceNormalization(_) | Op::LayerNormalization(_) => {
                norm::lower(self, node, algorithm, tasks)
            }
            Op::Concat(op) => movement::concat(self, node, op.axis, run),
            Op::Slice(op) => movement::slice(self, node, op, tasks),
            Op::Gather(op) => movement::gather(self, node, op.axis, tasks),
            Op::Scatter(op) => scatter::lower(self, node, op.mode),
            Op::Cumulative(op) => order::cumulative(self, node, op, tasks),
            Op::ArgMax(op) => order::arg_max(self, node, op, tasks),
            Op::TopK(op) => order::top_k(self, node, op, tasks),
            Op::Recurrent(op) => recurrent::lower(self, node, op, run),
            Op::Relayout(_) | Op::Expand(_) | Op::Transpose(_) | Op::Reshape(_) => {
                movement::copy(self, node, tasks)
            }
            other => Err(self.unsupported(node, format!("no lowering for {}", other.name()))),
        }
    }

    /// Lowers an interval of output rows (dimension 2).
    fn spatial(&mut self, run: &Run, part: &Part) -> Result<(), TileError> {
        let (graph, node, tasks) = (self.graph, run.node, part.tasks);
        let rows: Range<usize> = part.rows.clone().unwrap_or(0..1);
        match &graph.nodes()[node].op {
            Op::Conv(op) => conv::lower(self, node, op, run, rows, tasks),
            Op::QLinearConv(op) => quantised_conv::lower(self, node, op, rows, run, tasks),
            Op::ConvTranspose(op) => conv_transpose::lower(self, node, op, run, rows, tasks),
            Op::MaxPool(_) | Op::AveragePool(_) | Op::QLinearAveragePool(_) => {
                pool::lower(self, node, rows, run.algorithm, tasks)
            }
            Op::Pad(op) => pad::lower(self, node, op, rows),
            Op::Resize(op) => resize::lower(self, node, op, rows),
            other => Err(self.unsupported(node, format!("no lowering for {}", other.name()))),
        }
    }

    /// Fails unless parts of the output channels are whole blocks of packed weights.
    fn check_channels(&self, node: Node, channels: usize, parts: usize) -> Result<(), TileError> {
        if parts == 1 || channels.is_multiple_of(parts * self.widths.block) {
            return Ok(());
        }
        Err(self.unsupported(
            node,
            format!("{parts} parts of {channels} channels are not whole blocks"),
        ))
    }

    /// Place of a value; a constant gets its buffer now.
    fn place(&mut self, value: Value) -> Ref {
        if let Some(place) = self.scene.get(value) {
            return place.clone();
        }
        let tensor = self
            .graph
            .constant(value)
            .expect("only constants and inlined values have no place")
            .clone();
        let buffer = self.constant(tensor, &value.to_string());
        let place = storage::dense(self.graph.ty(value), buffer);
        self.scene.set(value, place.clone());
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

    /// Appends a function.
    fn push_func(&mut self, b: FuncBuilder, origins: Vec<Origin>) {
        let func = self.module.funcs.len();
        self.module.funcs.push(b.finish(format!("f{func}"), origins));
    }

    /// Graph outputs that share another value's bytes are copied at the end.
    fn copy_outputs(&mut self) {
        for copy in &self.schedule.copies {
            let (i, value) = (copy.output, self.graph.outputs[copy.output].value);
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
            movement::copy_ref(self, origins, &source, &out, ty.dtype, copy.tasks);
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

/// Drops buffers no function touches (results of empty tensors, inlined chains), keeping inputs and outputs.
fn without_unused_buffers(module: Module) -> Module {
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
