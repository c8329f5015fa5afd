//! Compressed weights that no run reads as the dense tensor need no memory for it.

use sdc_ir::entity::EntityId;
use sdc_ir::graph::{Graph, Node, Op, Value};
use sdc_ir::schedule::{Form, Run, Schedule, Storage};
use std::collections::BTreeMap;

/// Stores as [`Storage::Packed`] the results of `Rebuild` that all readers take in a form of their own.
pub fn drop_unread(graph: &Graph, schedule: &mut Schedule) {
    let runs: BTreeMap<Node, &Run> = schedule.runs.iter().map(|run| (run.node, run)).collect();
    let mut dense = vec![false; graph.values().len()];
    for (node, data) in graph.nodes().iter() {
        let packed = runs
            .get(&node)
            .is_some_and(|run| takes_packed(&data.op, run.weights));
        let view = matches!(schedule.storage(data.outputs[0]), Storage::View(_));
        for (i, &v) in data.inputs.iter().enumerate() {
            let as_packed = packed && i == 1;
            if !view && !as_packed {
                mark(schedule, &mut dense, v);
            }
        }
    }
    for port in &graph.outputs {
        mark(schedule, &mut dense, port.value);
    }
    for (value, place) in schedule.storage.ids().zip(dense) {
        if schedule.storage[value] == Storage::Prepared && !place {
            schedule.storage[value] = Storage::Packed;
        }
    }
}

fn mark(schedule: &Schedule, dense: &mut [bool], value: Value) {
    if let Some(read) = dense.get_mut(schedule.root(value).index()) {
        *read = true;
    }
}

/// Whether the weights are read from the packed bytes. A transposed convolution shares a dense tensor out to its phases, and what is packed
/// at run time is a dense tensor before.
fn takes_packed(op: &Op, form: Option<Form>) -> bool {
    form.is_some_and(|form| form != Form::AtRun) && !matches!(op, Op::ConvTranspose(_))
}
