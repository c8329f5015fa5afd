//! From when to when a value's bytes are needed.

use super::{Schedule, Storage};
use crate::entity::Arena;
use crate::graph::{Graph, Value};

/// First and last run, by position and both included, that touches the bytes of each value with a buffer of its own: the
/// values that it is the [`Schedule::root`] of counted in, and the copies to outputs counted as one run more. `None` for
/// values that share another's bytes, for those without bytes, and for those no run touches.
pub fn lifetimes(graph: &Graph, schedule: &Schedule) -> Arena<Value, Option<(usize, usize)>> {
    let mut lives: Arena<Value, Option<(usize, usize)>> = graph.values().ids().map(|_| None).collect();
    let mut touch = |value: Value, time: usize| {
        let root = schedule.root(value);
        if schedule.storage(root) != Storage::Inline {
            let life = lives[root].get_or_insert((time, time));
            life.1 = life.1.max(time);
        }
    };
    for (time, run) in schedule.runs.iter().enumerate() {
        for node in schedule.nodes(graph, run) {
            let data = &graph.nodes()[node];
            for &v in data.inputs.iter().chain(&data.outputs) {
                touch(v, time);
            }
        }
    }
    for copy in &schedule.copies {
        if let Some(port) = graph.outputs.get(copy.output) {
            touch(port.value, schedule.runs.len());
        }
    }
    lives
}
