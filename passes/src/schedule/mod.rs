//! Decides how a graph is computed: writes today's choices into a [`Schedule`].
//!
//! First where values lie ([`storage`]), then for each stored result the algorithm or kernel, the form of its weights, and the
//! cut into tasks, one file per family of operators. Costs are in multiply-accumulates of a kernel, as measured; nothing
//! here depends on the number of threads.
//!
//! Not here: loops (the tile pass emits what a schedule says), layouts, and memory offsets.

mod conv;
mod cut;
mod elementwise;
mod product;
mod rebuild;
mod row;
mod sparse;
mod storage;
mod window;
mod winograd;

pub use sparse::RULE as ROW_SPARSE;

use crate::pass::{Ctx, Remark};
use crate::tile::storage::Scene;
use sdc_ir::graph::{Graph, Node, Op, Value};
use sdc_ir::schedule::{Algorithm, Copy, Form, Part, Run, Schedule, Storage, Tasks, Widths};
use std::collections::BTreeMap;
use std::ops::Range;

/// Name of the pass.
pub const NAME: &str = "schedule";

/// What the schedule must know of the target, and what the user allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduleOptions {
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
    /// Rows of compressed weights that are not stored may be left out, by kernels that form sums of floats in another order.
    pub sparse: bool,
}

impl Default for ScheduleOptions {
    /// For 128-bit vectors.
    fn default() -> Self {
        Self {
            lanes: 4,
            block: 8,
            kernel_lanes: 4,
            streamed: false,
            winograd: false,
            sparse: false,
        }
    }
}

impl ScheduleOptions {
    /// The widths of the target.
    pub const fn widths(&self) -> Widths {
        Widths {
            lanes: self.lanes,
            block: self.block,
            kernel_lanes: self.kernel_lanes,
        }
    }
}

/// Schedules a graph in which the layout pass has run; also what was chosen and what was not, and why.
pub fn schedule(graph: &Graph, options: &ScheduleOptions) -> (Schedule, Vec<Remark>) {
    schedule_cut(graph, options, &|_| Vec::new())
}

/// As [`schedule`], but each spatial node for which `cuts` names inner row numbers is computed in several intervals of
/// output rows, one function each. Any cut gives the same bits.
pub fn schedule_cut(
    graph: &Graph,
    options: &ScheduleOptions,
    cuts: &dyn Fn(Node) -> Vec<usize>,
) -> (Schedule, Vec<Remark>) {
    let (storage, copies) = storage::assign(graph);
    let mut cx = Chooser {
        scene: Scene::new(graph, &storage).0,
        graph,
        options,
        cuts,
        winograd: BTreeMap::new(),
        ctx: Ctx::new(NAME),
    };
    if options.winograd {
        cx.winograd = winograd::choose(&mut cx);
    }
    let mut runs = Vec::new();
    for (node, data) in graph.nodes().iter() {
        let result = data.outputs[0];
        let stored = matches!(
            storage[result],
            Storage::Arena | Storage::Output(_) | Storage::Part(_)
        );
        if stored && graph.ty(result).elements() != Some(0) {
            runs.push(cx.run(node));
        }
    }
    let copies = copies.into_iter().map(|output| Copy {
        output,
        tasks: cut::pieces(elements(graph, graph.outputs[output].value), 1),
    });
    let copies = copies.collect();
    let widths = options.widths();
    let remarks = cx.ctx.into_remarks();
    let mut schedule = Schedule {
        widths,
        storage,
        runs,
        copies,
    };
    rebuild::drop_unread(graph, &mut schedule);
    (schedule, remarks)
}

fn elements(graph: &Graph, value: Value) -> usize {
    graph.ty(value).elements().unwrap_or(0)
}

/// What is chosen for a run, besides its parts.
struct Choice {
    algorithm: Algorithm,
    weights: Option<Form>,
}

impl Choice {
    const LOOPS: Choice = Choice {
        algorithm: Algorithm::Loops,
        weights: None,
    };

    const fn kernel(name: &'static str) -> Choice {
        Choice {
            algorithm: Algorithm::Kernel(name),
            weights: None,
        }
    }

    const fn with(self, weights: Form) -> Choice {
        Choice {
            weights: Some(weights),
            ..self
        }
    }

    /// A run with one part.
    fn whole(self, node: Node, tasks: Tasks) -> Run {
        self.parts(node, vec![Part { rows: None, tasks }])
    }

    fn parts(self, node: Node, parts: Vec<Part>) -> Run {
        Run {
            node,
            algorithm: self.algorithm,
            weights: self.weights,
            parts,
        }
    }
}

/// State of the choice.
struct Chooser<'g> {
    graph: &'g Graph,
    scene: Scene<'g>,
    options: &'g ScheduleOptions,
    cuts: &'g dyn Fn(Node) -> Vec<usize>,
    /// The convolutions computed by Winograd's filtering.
    winograd: BTreeMap<Node, usize>,
    /// What was chosen so far, and why.
    ctx: Ctx,
}

impl Chooser<'_> {
    fn run(&mut self, node: Node) -> Run {
        let graph = self.graph;
        let data = &graph.nodes()[node];
        match &data.op {
            op if op.is_elementwise() => elementwise::choose(self, node),
            Op::Conv(op) => conv::choose(self, node, op),
            Op::QLinearConv(op) => conv::quantised(self, node, op),
            Op::ConvTranspose(op) => conv::transposed(self, node, op),
            Op::MaxPool(_) | Op::AveragePool(_) | Op::QLinearAveragePool(_) => window::pool(self, node),
            Op::Reduce(op) => window::reduce(self, node, op),
            Op::MatMul(op) => product::choose(self, node, op),
            Op::Recurrent(op) => product::recurrent(self, node, op),
            Op::Softmax(op) => row::softmax(self, node, op),
            Op::LayerNormalization(_) | Op::InstanceNormalization(_) => row::normalise(self, node),
            Op::Pad(_) | Op::Resize(_) => {
                let parts = self.spatial(node, |_| Tasks::One);
                Choice::LOOPS.parts(node, parts)
            }
            Op::Concat(_) => self.concat(node),
            Op::Scatter(_) => Choice::LOOPS.whole(node, Tasks::One),
            // A round of the loops over the result goes over one or several dimensions of the operand.
            Op::Cumulative(_)
            | Op::ArgMax(_)
            | Op::QLinearSoftmax(_)
            | Op::QLinearInstanceNormalization(_) => {
                let passes = match &data.op {
                    Op::Cumulative(_) | Op::ArgMax(_) => 1,
                    _ => 4,
                };
                Choice::LOOPS.whole(node, cut::pieces(elements(graph, data.inputs[0]), passes))
            }
            Op::TopK(_) => Choice::LOOPS.whole(node, cut::pieces(elements(graph, data.inputs[0]), 1)),
            _ => Choice::LOOPS.whole(node, cut::pieces(elements(graph, data.outputs[0]), 1)),
        }
    }

    /// A copy per operand that is not computed in its place.
    fn concat(&self, node: Node) -> Run {
        let data = &self.graph.nodes()[node];
        let whole = data.outputs[0];
        let copied = data
            .inputs
            .iter()
            .filter(|&&v| elements(self.graph, v) != 0 && !self.scene.is_part_of(v, whole));
        let parts = copied.map(|&v| Part {
            rows: None,
            tasks: cut::pieces(elements(self.graph, v), 1),
        });
        let parts = parts.collect();
        Choice::LOOPS.parts(node, parts)
    }

    /// The parts of a spatial node: intervals of output rows (dimension 2), each cut by `tasks`.
    fn spatial(&self, node: Node, mut tasks: impl FnMut(&Range<usize>) -> Tasks) -> Vec<Part> {
        let shape = self.graph.ty(self.graph.nodes()[node].outputs[0]).sizes();
        let Some(&height) = shape.get(2) else {
            return vec![Part {
                rows: None,
                tasks: tasks(&(0..1)),
            }];
        };
        let mut bounds = (self.cuts)(node);
        bounds.retain(|&c| 0 < c && c < height);
        bounds.extend([0, height]);
        bounds.sort_unstable();
        bounds.dedup();
        let intervals = bounds.windows(2).map(|w| w[0]..w[1]);
        intervals
            .map(|rows| Part {
                tasks: tasks(&rows),
                rows: Some(rows),
            })
            .collect()
    }
}
