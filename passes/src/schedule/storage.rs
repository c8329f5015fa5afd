//! Where values lie: which have a buffer, which are views, which are computed in their place in a Concat, and which are
//! computed inside their only reader's loop and never stored.

use crate::tile::quantised_elementwise;
use crate::tile::storage::view_of;
use sdc_ir::entity::{Arena, EntityId};
use sdc_ir::graph::{Graph, Node, Op, Value};
use sdc_ir::schedule::Storage;

/// Most operators computed in one element-wise loop.
const MAX_INLINED: usize = 24;

/// The storage of every value, and the outputs that are copied from elsewhere.
pub fn assign(graph: &Graph) -> (Arena<Value, Storage>, Vec<usize>) {
    let uses = graph.uses();
    let inlined = inline(graph, &uses);
    let mut chosen: Vec<Option<Storage>> = vec![None; graph.values().len()];
    for (i, port) in graph.inputs.iter().enumerate() {
        chosen[port.value.index()] = Some(Storage::Input(i));
    }
    let mut copies = Vec::new();
    // Outputs first claim the values they are views of, so that their producers write to the caller's memory.
    for (i, port) in graph.outputs.iter().enumerate() {
        let root = view_root(graph, port.value);
        let is_result = graph
            .def_node(root)
            .is_some_and(|n| !matches!(graph.nodes()[n].op, Op::Constant(_) | Op::Rebuild(_)));
        if is_result && chosen[root.index()].is_none() {
            chosen[root.index()] = Some(Storage::Output(i));
        } else {
            copies.push(i);
        }
    }
    for (node, data) in graph.nodes().iter() {
        for &v in &data.outputs {
            let view = view_of(graph, node);
            let place = match &data.op {
                Op::Constant(_) => Storage::Constant,
                // Filled when the model is loaded, unless all its readers take it in a form of their own.
                Op::Rebuild(_) => Storage::Prepared,
                _ if inlined[v.index()] => Storage::Inline,
                _ => match (view, part_of(graph, &uses, v)) {
                    (Some(source), _) => Storage::View(source),
                    (None, Some(whole)) => Storage::Part(whole),
                    (None, None) => Storage::Arena,
                },
            };
            chosen[v.index()].get_or_insert(place);
        }
    }
    (
        chosen.into_iter().map(|s| s.unwrap_or(Storage::Arena)).collect(),
        copies,
    )
}

fn view_root(graph: &Graph, mut value: Value) -> Value {
    while let Some(source) = graph.def_node(value).and_then(|n| view_of(graph, n)) {
        value = source;
    }
    value
}

/// The result of the Concat that the value may be written straight into.
fn part_of(graph: &Graph, uses: &[Vec<Node>], value: Value) -> Option<Value> {
    let [user] = uses[value.index()].as_slice() else {
        return None;
    };
    let data = &graph.nodes()[*user];
    let whole = data.outputs[0];
    let fits = matches!(data.op, Op::Concat(_))
        && !graph.is_output(value)
        && graph.ty(value).layout == graph.ty(whole).layout;
    fits.then_some(whole)
}

/// Which values are computed inside their only consumer: element-wise results of the consumer's shape, but for those
/// that a kernel computes.
fn inline(graph: &Graph, uses: &[Vec<Node>]) -> Vec<bool> {
    let mut inlined = vec![false; graph.values().len()];
    let mut weight = vec![0usize; graph.values().len()];
    for (node, data) in graph.nodes().iter() {
        let result = data.outputs[0];
        if !data.op.is_elementwise() {
            continue;
        }
        weight[result.index()] = 1;
        // Kernels of integer operators read their operands from memory.
        let kernel =
            quantised_elementwise::root(graph, node, &|_| false).is_some_and(|root| root.is_integer());
        for &v in data.inputs.iter().filter(|_| !kernel) {
            let candidate = weight[v.index()] > 0
                && uses[v.index()].len() == 1
                && !graph.is_output(v)
                && graph.ty(v).shape == graph.ty(result).shape
                && weight[result.index()] + weight[v.index()] <= MAX_INLINED;
            if candidate {
                inlined[v.index()] = true;
                weight[result.index()] += weight[v.index()];
            }
        }
        if quantised_elementwise::root(graph, node, &|v| inlined[v.index()]).is_some() {
            // No part of a loop.
            weight[result.index()] = 0;
        }
    }
    inlined
}
