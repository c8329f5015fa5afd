//! The verifier of schedules: every fault of one, beside a graph that verifies.
//!
//! The laws, by [`Law`]:
//! - **Storage**: every value lies where its definition allows; a view is of its node's first operand, a part within the
//!   Concat that alone reads it, and an inlined value is computed element by element within its only reader.
//! - **Output**: every output of the graph is either written in its place by a run or copied, and by one of them.
//! - **Run**: every stored result is computed by one run, in the graph's order, and nothing else is.
//! - **Algorithm**: a kernel is one that can compute the operator; Winograd's filtering is for 3x3 windows with stride 1, and tables of rows
//!   for compressed weights that are resident.
//! - **Weights**: their form is one that the second operand can have.
//! - **Rows**: a run has the parts that its operator and weights ask for; those of a spatial one make up all rows in order.
//! - **Tasks**: a cut is one that the algorithm has, of positive numbers, and a grid has no empty parts.
//!
//! Not checked: whether operands lie as a kernel needs them (lowering refuses those that do not) and every access of the
//! loops that come of it (the tile verifier's business).

use super::{Algorithm, Form, Run, Schedule, Storage, Tasks};
use crate::graph::op::Locality;
use crate::graph::{Def, Graph, Node, Op, Origin, Value};
use std::collections::BTreeSet;
use std::fmt;

/// What a fault violates; see the module's documentation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "described in the module's documentation")]
pub enum Law {
    Storage,
    Output,
    Run,
    Algorithm,
    Weights,
    Rows,
    Tasks,
}

/// One violation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What is violated.
    pub law: Law,
    /// The user's nodes concerned.
    pub origins: Vec<Origin>,
    /// What is wrong, with the ids concerned.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (i, origin) in self.origins.iter().enumerate() {
            write!(f, "{}{origin}", if i == 0 { ", from " } else { ", " })?;
        }
        Ok(())
    }
}

/// Every violation of the laws; empty for a sound schedule. The graph must verify.
pub fn verify(graph: &Graph, schedule: &Schedule) -> Vec<Fault> {
    let mut v = Verifier {
        graph,
        schedule,
        uses: graph.uses(),
        faults: Vec::new(),
    };
    if schedule.storage.len() != graph.values().len() {
        let message = format!(
            "{} values have storage, the graph has {}",
            schedule.storage.len(),
            graph.values().len()
        );
        v.fault(Law::Storage, None, message);
        return v.faults;
    }
    let widths = schedule.widths;
    if widths.lanes == 0
        || widths.kernel_lanes == 0
        || !widths.block.is_multiple_of(widths.kernel_lanes.max(1))
    {
        v.fault(
            Law::Tasks,
            None,
            format!("widths {widths:?} are not whole vectors"),
        );
    }
    for value in graph.values().ids() {
        v.storage(value);
    }
    v.outputs();
    v.runs();
    v.faults
}

struct Verifier<'a> {
    graph: &'a Graph,
    schedule: &'a Schedule,
    uses: Vec<Vec<Node>>,
    faults: Vec<Fault>,
}

impl Verifier<'_> {
    fn fault(&mut self, law: Law, node: Option<Node>, message: String) {
        let origins = node.map_or(Vec::new(), |n| self.graph.nodes()[n].origins.clone());
        self.faults.push(Fault {
            law,
            origins,
            message,
        });
    }

    fn storage(&mut self, value: Value) {
        let graph = self.graph;
        let storage = self.schedule.storage(value);
        let def = graph.values()[value].def;
        let wrong = match (def, storage) {
            (Def::Input(i), Storage::Input(k)) if i == k => return,
            (Def::Input(i), _) => format!("is input {i}"),
            (Def::Node(node, _), _) => match self.result(value, node, storage) {
                Ok(()) => return,
                Err(reason) => reason,
            },
        };
        self.fault(
            Law::Storage,
            graph.def_node(value),
            format!("{value} cannot be stored as `{storage}`: it {wrong}"),
        );
    }

    /// Whether the result of a node may be stored so.
    fn result(&self, value: Value, node: Node, storage: Storage) -> Result<(), String> {
        use crate::entity::EntityId;
        let graph = self.graph;
        let data = &graph.nodes()[node];
        let is_constant = data.op.locality() == Locality::Constant;
        let is_rebuild = matches!(data.op, Op::Rebuild(_));
        let check = |holds: bool, otherwise: &str| holds.then_some(()).ok_or_else(|| otherwise.to_owned());
        match storage {
            Storage::Input(_) => Err("is no input".to_owned()),
            Storage::Constant => check(is_constant, "is no constant"),
            Storage::Prepared | Storage::Packed => {
                check(is_rebuild, "is not rebuilt from compressed weights")
            }
            _ if is_constant => Err("is a constant".to_owned()),
            _ if is_rebuild => Err("is rebuilt from compressed weights".to_owned()),
            Storage::Arena | Storage::Output(_) => Ok(()),
            Storage::View(of) => {
                check(
                    data.op.locality() == Locality::Same,
                    "moves its operand's elements",
                )?;
                check(data.inputs.first() == Some(&of), "has another operand")?;
                check(
                    graph.constant(of).is_none(),
                    "is of a constant, which has no bytes of its own",
                )?;
                let moves = matches!(data.op, Op::Relayout(_)) && !graph.ty(of).same_bytes(graph.ty(value));
                check(!moves, "has its elements in another order")
            }
            Storage::Part(of) => {
                let [user] = self.uses[value.index()][..] else {
                    return Err("is not read once".to_owned());
                };
                let concat = &graph.nodes()[user];
                check(
                    matches!(concat.op, Op::Concat(_)) && concat.outputs[0] == of,
                    "is not an operand of that Concat",
                )?;
                check(!graph.is_output(value), "is an output of the graph")?;
                check(
                    graph.ty(of).layout == graph.ty(value).layout,
                    "has another layout",
                )?;
                let stored = matches!(
                    self.schedule.storage(of),
                    Storage::Arena | Storage::Output(_) | Storage::Part(_)
                );
                check(stored, "would lie in a value that is not stored")
            }
            Storage::Inline => {
                check(data.op.is_elementwise(), "is not computed element by element")?;
                let [user] = self.uses[value.index()][..] else {
                    return Err("is not read once".to_owned());
                };
                let reader = &graph.nodes()[user];
                check(
                    reader.op.is_elementwise(),
                    "is read by an operator that computes elements from others",
                )?;
                check(!graph.is_output(value), "is an output of the graph")?;
                check(
                    graph.ty(reader.outputs[0]).shape == graph.ty(value).shape,
                    "is broadcast by its reader",
                )
            }
        }
    }

    fn outputs(&mut self) {
        let mut written = vec![0usize; self.graph.outputs.len()];
        let mut unknown = Vec::new();
        for (value, storage) in self.schedule.storage.iter() {
            if let Storage::Output(i) = *storage {
                match self.graph.outputs.get(i) {
                    Some(port) if self.schedule.root(port.value) == value => written[i] += 1,
                    _ => unknown.push((value, i)),
                }
            }
        }
        for (value, i) in unknown {
            self.fault(
                Law::Output,
                self.graph.def_node(value),
                format!("{value} is not output {i}"),
            );
        }
        for copy in &self.schedule.copies {
            let i = copy.output;
            match written.get_mut(i) {
                Some(n) => *n += 1,
                None => self.fault(Law::Output, None, format!("there is no output {i} to copy to")),
            }
            if let Some(reason) = bad_tasks(copy.tasks, None).or(unfit_tasks(copy.tasks, Algorithm::Loops)) {
                self.fault(
                    Law::Tasks,
                    None,
                    format!("tasks `{}` of the copy to output {i}: {reason}", copy.tasks),
                );
            }
        }
        for (i, n) in written.into_iter().enumerate().filter(|&(_, n)| n != 1) {
            let name = &self.graph.outputs[i].name;
            self.fault(
                Law::Output,
                None,
                format!("output {i} ({name:?}) is written {n} times"),
            );
        }
    }

    /// Whether a run must compute this node.
    fn is_computed(&self, node: Node) -> bool {
        let data = &self.graph.nodes()[node];
        data.outputs.iter().any(|&v| {
            let stored = matches!(
                self.schedule.storage(v),
                Storage::Arena | Storage::Output(_) | Storage::Part(_)
            );
            stored && self.graph.ty(v).elements() != Some(0)
        })
    }

    fn runs(&mut self) {
        let graph = self.graph;
        let expected: BTreeSet<Node> = graph.nodes().ids().filter(|&n| self.is_computed(n)).collect();
        let mut found = BTreeSet::new();
        for run in &self.schedule.runs {
            let after = found.last().is_none_or(|&last| last < run.node);
            if !after || !expected.contains(&run.node) {
                let node = graph.nodes().get(run.node).map(|_| run.node);
                let what = node.map_or("?".to_owned(), |n| graph.nodes()[n].outputs[0].to_string());
                let message =
                    format!("the run of {what} is out of the graph's order, or computes what is not stored");
                self.fault(Law::Run, node, message);
            }
            found.insert(run.node);
        }
        for &node in expected.difference(&found) {
            let message = format!("no run computes {}", graph.nodes()[node].outputs[0]);
            self.fault(Law::Run, Some(node), message);
        }
        for run in &self.schedule.runs {
            let Some(data) = graph.nodes().get(run.node) else {
                continue;
            };
            let y = data.outputs[0];
            if let Some(reason) = unfit(graph, &data.op, run.node, run.algorithm) {
                self.fault(
                    Law::Algorithm,
                    Some(run.node),
                    format!("{y} cannot be computed by `{}`: {reason}", run.algorithm),
                );
            }
            if let Some(form) = run.weights
                && let Some(reason) = self.unfit_form(run.node, form)
            {
                let message = format!("the weights of {y} cannot be `{}`: {reason}", form.name());
                self.fault(Law::Weights, Some(run.node), message);
            }
            if matches!(run.algorithm, Algorithm::Sparse { .. }) && run.weights != Some(Form::Resident) {
                let message = format!("{y} has no resident compressed weights that tables could be made of");
                self.fault(Law::Weights, Some(run.node), message);
            }
            self.parts(run);
        }
    }

    fn unfit_form(&self, node: Node, form: Form) -> Option<&'static str> {
        let data = &self.graph.nodes()[node];
        let Some(&weights) = data.inputs.get(1) else {
            return Some("it has none");
        };
        let mut source = weights;
        while let Some(def) = self.graph.def_node(source)
            && self.graph.nodes()[def].op.locality() == Locality::Same
        {
            source = self.graph.nodes()[def].inputs[0];
        }
        let def = self.graph.def_node(source).map(|n| &self.graph.nodes()[n].op);
        let compressed = matches!(def, Some(Op::Rebuild(_)));
        // Integers that are not decomposed are packed at compile time.
        let constant = self.graph.constant(weights).is_some() || compressed;
        match form {
            Form::Constant if !constant => Some("they are known at run time only"),
            form if form.is_compressed() && !compressed => Some("they are not compressed"),
            _ => None,
        }
    }

    fn parts(&mut self, run: &Run) {
        let (node, data) = (run.node, &self.graph.nodes()[run.node]);
        let y = data.outputs[0];
        let height = self.graph.ty(y).sizes().get(2).copied();
        let mut next = 0;
        for part in &run.parts {
            if let Some(rows) = &part.rows {
                if rows.start != next || rows.is_empty() {
                    let message = format!(
                        "rows {}..{} of {y} do not follow row {next}",
                        rows.start, rows.end
                    );
                    self.fault(Law::Rows, Some(node), message);
                }
                next = rows.end;
            }
            let rows = part.rows.as_ref().map(|r| r.len());
            if let Some(reason) = bad_tasks(part.tasks, rows).or(unfit_tasks(part.tasks, run.algorithm)) {
                self.fault(
                    Law::Tasks,
                    Some(node),
                    format!("tasks `{}` of {y}: {reason}", part.tasks),
                );
            }
        }
        let spatial = data.op.is_spatial() && height.is_some();
        let (wanted, counted) = match &data.op {
            _ if spatial => (run.parts.len().max(1), next == height.unwrap_or(0)),
            Op::Concat(_) => {
                let in_place = |v: &&Value| {
                    self.schedule.storage(**v) != Storage::Part(y) && self.graph.ty(**v).elements() != Some(0)
                };
                (data.inputs.iter().filter(in_place).count(), true)
            }
            Op::MatMul(_) if run.weights == Some(Form::AtRun) => (2, true),
            _ => (1, true),
        };
        let by_rows = run.parts.iter().all(|p| p.rows.is_some() == spatial);
        if run.parts.len() != wanted || !counted || !by_rows {
            self.fault(
                Law::Rows,
                Some(node),
                format!("the parts of {y} are not just what it consists of"),
            );
        }
    }
}

/// Most tasks, rounds and parts: far above any use, and far below any overflow.
const LARGEST: usize = 1 << 31;

fn bad_tasks(tasks: Tasks, rows: Option<usize>) -> Option<&'static str> {
    let numbers = match tasks {
        Tasks::One => vec![],
        Tasks::Each { rounds, channels } => vec![rounds, channels],
        Tasks::AtMost(n) | Tasks::Every(n) => vec![n],
        Tasks::Grid(g) => vec![g.rows, g.row_parts, g.channel_parts],
    };
    if numbers.iter().any(|n| !(1..=LARGEST).contains(n)) {
        return Some("a number is out of range");
    }
    match (tasks, rows) {
        // Of Winograd's filtering rows of tiles are cut: fewer.
        (Tasks::Grid(g), Some(rows)) if g.rows * (g.row_parts - 1) >= rows => {
            Some("there are not so many rows")
        }
        _ => None,
    }
}

/// Why a cut does not suit an algorithm.
fn unfit_tasks(tasks: Tasks, algorithm: Algorithm) -> Option<&'static str> {
    let fits = match algorithm.kernel() {
        None => matches!(
            tasks,
            Tasks::One | Tasks::AtMost(_) | Tasks::Each { .. } | Tasks::Grid(_)
        ),
        Some(
            "gemm_f32" | "map_f32" | "add_i8" | "mul_i8" | "quantize_f32" | "softmax_f32" | "layer_norm_f32",
        ) => {
            matches!(tasks, Tasks::One | Tasks::Each { .. } | Tasks::Every(_))
        }
        Some(_) => matches!(tasks, Tasks::One | Tasks::Each { .. } | Tasks::Grid(_)),
    };
    (!fits).then_some("this cut is not one that the algorithm has")
}

/// Why an algorithm cannot compute an operator.
fn unfit(graph: &Graph, op: &Op, node: Node, algorithm: Algorithm) -> Option<&'static str> {
    if let Algorithm::Winograd { tile, band } = algorithm {
        let Op::Conv(conv) = op else {
            return Some("it is no convolution");
        };
        let window = graph.ty(graph.nodes()[node].inputs[1]).sizes().get(2..);
        let plain = conv.group == 1 && conv.strides.iter().chain(&conv.dilations).all(|&n| n == 1);
        if window != Some(&[3, 3]) || !plain {
            return Some("its window is not 3x3 with stride 1, or it has groups");
        }
        return (!matches!(tile, 2 | 4) || band == 0).then_some("tiles are 2x2 or 4x4, and a band has some");
    }
    if let Algorithm::Sparse { band: 0, .. } = algorithm {
        return Some("a band has some rows");
    }
    let kernels: &[&str] = match op {
        Op::Conv(_) => &["conv2d_f32", "depthwise2d_f32", "sparse2d_f32"],
        Op::ConvTranspose(_) => &["conv2d_f32"],
        Op::QLinearConv(_) => &["conv2d_i8", "depthwise2d_i8", "sparse2d_i8"],
        Op::MatMul(_) => &["gemm_f32", "sparse2d_f32"],
        Op::Recurrent(_) => &["gemm_f32"],
        Op::MaxPool(_) | Op::AveragePool(_) | Op::Reduce(_) => &["pool2d_f32", "max_pool2d_i8"],
        Op::Softmax(_) => &["softmax_f32"],
        Op::LayerNormalization(_) | Op::InstanceNormalization(_) => &["layer_norm_f32"],
        op if op.is_elementwise() => &["map_f32", "add_i8", "mul_i8", "quantize_f32"],
        _ => &[],
    };
    match algorithm.kernel() {
        Some(kernel) if !kernels.contains(&kernel) => Some("this kernel computes something else"),
        _ => None,
    }
}
