//! What representative inputs make of every value of a network.

use super::{Histogram, IntegerError, Options, Progress};
use crate::decompose::DecomposeError;
use crate::decompose::evaluate::Evaluator;
use rayon::prelude::*;
use sdc_interp::{EvalError, eval_op};
use sdc_ir::entity::EntityId;
use sdc_ir::graph::build::Rewrite;
use sdc_ir::graph::{Graph, Op, Port, Value};
use sdc_ir::{DType, Tensor};

/// Inputs evaluated side by side. A constant, so that nothing depends on the number of threads.
const BATCH: usize = 8;

/// A histogram by value, of those observed.
type Seen = Vec<Option<Histogram>>;

/// What runs a network quickly, such as compiled code. Called from several threads at once.
pub trait Machine: Sync {
    /// Runs the network of [`observed`](super::observed) on a set of inputs and shows each output: its position, and its elements as bytes,
    /// aligned for them, in any order.
    ///
    /// # Errors
    /// Why it could not.
    fn run(&self, inputs: &[Tensor], show: &mut dyn FnMut(usize, &[u8])) -> Result<(), String>;
}

/// A histogram of each `f32` value that is no constant, and how much the ranges still moved at the end. Memory does not depend on the
/// number of inputs.
pub fn observe(
    graph: &Graph,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<(Seen, f64), IntegerError> {
    if let Some(machine) = options.machine {
        let outputs = computed(graph);
        return collect(graph, options, progress, &|inputs| {
            run(graph, machine, &outputs, inputs)
        });
    }
    let dense = rebuilt(graph)?;
    let network = Evaluator::new(&dense);
    let (first, wanted) = first_reads(&dense);
    collect(graph, options, progress, &|inputs| {
        interpret(&dense, &network, &first, &wanted, inputs)
    })
}

/// The histograms of all inputs, from those of one set.
fn collect(
    graph: &Graph,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Progress) -> bool,
    look: &(dyn Fn(&[Tensor]) -> Result<Seen, IntegerError> + Sync),
) -> Result<(Seen, f64), IntegerError> {
    let total = options.samples.count().min(options.limit);
    let mut all: Seen = vec![None; graph.values().len()];
    let (mut earlier, mut next_look, mut drift) = (ranges(&all), 1, 1.0);
    for first in (0..total).step_by(BATCH) {
        let batch: Vec<usize> = (first..total.min(first + BATCH)).collect();
        let seen = batch.into_par_iter().map(|i| look(&options.samples.get(i)?));
        for seen in seen.collect::<Result<Vec<_>, _>>()? {
            for (all, seen) in all.iter_mut().zip(seen) {
                match (all, seen) {
                    (Some(all), Some(seen)) => all.merge(&seen),
                    (all @ None, seen) => *all = seen,
                    (Some(_), None) => {}
                }
            }
        }
        let done = total.min(first + BATCH);
        if done >= next_look {
            let now = ranges(&all);
            drift = moved(&earlier, &now);
            (earlier, next_look) = (now, 2 * done);
        }
        if !progress(Progress { done, total, drift }) {
            return Err(DecomposeError::Stopped.into());
        }
    }
    Ok((all, drift))
}

/// What a machine makes of a set of inputs.
fn run(
    graph: &Graph,
    machine: &dyn Machine,
    outputs: &[Value],
    inputs: &[Tensor],
) -> Result<Seen, IntegerError> {
    let mut seen: Seen = vec![None; graph.values().len()];
    for (port, tensor) in graph.inputs.iter().zip(inputs) {
        add(&mut seen, port.value, tensor);
    }
    let shown = machine.run(inputs, &mut |at, bytes| {
        if let Some(value) = outputs.get(at) {
            let histogram = seen[value.index()].get_or_insert_default();
            histogram.add(bytemuck::cast_slice(bytes));
        }
    });
    shown.map_err(IntegerError::Machine)?;
    Ok(seen)
}

/// What the interpreter makes of a set of inputs.
fn interpret(
    graph: &Graph,
    network: &Evaluator<'_>,
    first: &[Vec<usize>],
    wanted: &[Value],
    inputs: &[Tensor],
) -> Result<Seen, IntegerError> {
    let mut seen: Seen = vec![None; graph.values().len()];
    let results = network.run(inputs, wanted, &mut |node, operands| {
        for &at in &first[node.index()] {
            add(&mut seen, graph.nodes()[node].inputs[at], operands[at]);
        }
    })?;
    for (&v, tensor) in wanted.iter().zip(&results) {
        if let Some(tensor) = tensor {
            add(&mut seen, v, tensor);
        }
    }
    Ok(seen)
}

fn add(seen: &mut Seen, value: Value, tensor: &Tensor) {
    if let Ok(values) = tensor.elements::<f32>() {
        seen[value.index()].get_or_insert_default().add(&values);
    }
}

/// The `f32` values that nodes compute from inputs, in order: the outputs of the network that machines run.
fn computed(graph: &Graph) -> Vec<Value> {
    let live = graph.live_nodes();
    let nodes = graph.nodes().iter().filter(|(n, _)| live[n.index()]);
    let nodes = nodes.filter(|(_, data)| !matches!(data.op, Op::Constant(_) | Op::Rebuild(_)));
    let values = nodes.flat_map(|(_, data)| data.outputs.iter().copied());
    values.filter(|&v| graph.ty(v).dtype == DType::F32).collect()
}

/// The graph with all that nodes compute as outputs.
pub fn with_all_outputs(mut graph: Graph) -> Graph {
    let ports = computed(&graph).into_iter().enumerate().map(|(at, value)| Port {
        name: format!("value{at}"),
        value,
    });
    graph.outputs = ports.collect();
    graph
}

/// For each node the operands that no node before it reads; and the values that no node reads. Only `f32`, without constants.
fn first_reads(graph: &Graph) -> (Vec<Vec<usize>>, Vec<Value>) {
    let live = graph.live_nodes();
    let mut read = vec![false; graph.values().len()];
    let mut first = vec![Vec::new(); graph.nodes().len()];
    let counts = |v: Value| graph.ty(v).dtype == DType::F32 && graph.constant(v).is_none();
    for (n, data) in graph.nodes().iter().filter(|(n, _)| live[n.index()]) {
        for (at, &v) in data.inputs.iter().enumerate() {
            if !std::mem::replace(&mut read[v.index()], true) && counts(v) {
                first[n.index()].push(at);
            }
        }
    }
    let results = graph.nodes().iter().filter(|(n, _)| live[n.index()]);
    let unread = results
        .flat_map(|(_, data)| data.outputs.iter().copied())
        .filter(|&v| !read[v.index()] && counts(v));
    (first, unread.collect())
}

/// The same values with compressed weights as dense constants.
fn rebuilt(graph: &Graph) -> Result<Graph, EvalError> {
    let mut rewrite = Rewrite::new(graph);
    for (n, data) in graph.nodes().iter() {
        let packed = data.inputs.first().and_then(|&v| graph.constant(v));
        match (&data.op, packed) {
            (Op::Rebuild(_), Some(packed)) => {
                let dense = eval_op(&data.op, &[packed])?.remove(0);
                let new = rewrite.dst.add_constant(dense, data.origins.clone());
                rewrite.set(data.outputs[0], new);
            }
            _ => rewrite.copy(n),
        }
    }
    Ok(rewrite.finish())
}

fn ranges(all: &[Option<Histogram>]) -> Vec<Option<(f64, f64)>> {
    all.iter()
        .map(|h| h.as_ref().and_then(Histogram::range))
        .collect()
}

/// The largest share by which a range has grown.
fn moved(before: &[Option<(f64, f64)>], after: &[Option<(f64, f64)>]) -> f64 {
    let grown = before.iter().zip(after).filter_map(|(before, after)| {
        let (after, width) = after.map(|(low, high)| ((low, high), high - low))?;
        let Some((low, high)) = before else {
            return Some(1.0);
        };
        (width > 0.0)
            .then(|| (1.0 - (high - low) / width).max(0.0))
            .filter(|_| after.0 <= after.1)
    });
    grown.fold(0.0, f64::max)
}
