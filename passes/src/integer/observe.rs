//! What representative inputs make of every value of a network.

use super::{Histogram, IntegerError, Options, Progress};
use crate::decompose::DecomposeError;
use crate::decompose::evaluate::Evaluator;
use rayon::prelude::*;
use sdc_interp::{EvalError, eval_op};
use sdc_ir::entity::EntityId;
use sdc_ir::graph::build::Rewrite;
use sdc_ir::graph::{Graph, Op, Value};
use sdc_ir::{DType, Tensor};

/// Inputs evaluated side by side. A constant, so that nothing depends on the number of threads.
const BATCH: usize = 8;

/// A histogram of each `f32` value that is no constant, and how much the ranges still moved at the end. Memory does not depend on the
/// number of inputs.
pub fn observe(
    graph: &Graph,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<(Vec<Option<Histogram>>, f64), IntegerError> {
    let dense = rebuilt(graph)?;
    let network = Evaluator::new(&dense);
    let (read_first, wanted) = first_reads(&dense);
    let total = options.samples.count().min(options.limit);
    let mut all: Vec<Option<Histogram>> = vec![None; dense.values().len()];
    let (mut earlier, mut next_look, mut drift) = (ranges(&all), 1, 1.0);
    for first in (0..total).step_by(BATCH) {
        let batch: Vec<usize> = (first..total.min(first + BATCH)).collect();
        let seen = batch.into_par_iter().map(|i| {
            let mut seen: Vec<Option<Histogram>> = vec![None; dense.values().len()];
            let mut add = |v: Value, tensor: &Tensor| {
                if let Ok(values) = tensor.elements::<f32>() {
                    seen[v.index()].get_or_insert_default().add(&values);
                }
            };
            let inputs = options.samples.get(i)?;
            let results = network.run(&inputs, &wanted, &mut |node, operands| {
                for &at in &read_first[node.index()] {
                    add(dense.nodes()[node].inputs[at], operands[at]);
                }
            })?;
            for (&v, tensor) in wanted.iter().zip(&results) {
                if let Some(tensor) = tensor {
                    add(v, tensor);
                }
            }
            Ok::<_, IntegerError>(seen)
        });
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
