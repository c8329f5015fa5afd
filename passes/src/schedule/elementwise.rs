//! Trees of element-wise operators: a kernel's call where there is one for them, else a loop.

use super::{Choice, Chooser, cut};
use crate::tile::elementwise::Tree;
use crate::tile::{map, quantised_elementwise};
use sdc_ir::graph::Node;
use sdc_ir::schedule::Run;

/// Rule of the remarks.
const RULE: &str = "map";

/// Fewest elements for which `map_f32` is called: below, choosing the steps takes longer than they do.
const ELEMENTS: usize = 256;

/// Elements worth a task of their own, of numbers and of bytes.
const TASK: i64 = 16 * 1024;
const BYTES: i64 = 64 * 1024;

pub fn choose(cx: &mut Chooser<'_>, node: Node) -> Run {
    if let Some((kernel, rows)) = quantised_elementwise::kernel(&cx.scene, node) {
        return Choice::kernel(kernel).whole(node, rows.tasks(BYTES, cut::MOST));
    }
    let elements = super::elements(cx.graph, cx.graph.nodes()[node].outputs[0]);
    let loops = Choice::LOOPS.whole(node, cut::pieces(elements, 1));
    let tree = Tree::of(&cx.scene, node);
    if elements < ELEMENTS || !tree.is_transcendental() {
        return loops;
    }
    match map::Program::of(&tree) {
        Ok(program) => {
            let steps = program.steps();
            let note = format!("a program of {steps} steps for {elements} elements, in the widest vectors");
            cx.ctx.remark(RULE, &tree.origins, note);
            Choice::kernel("map_f32").whole(node, program.rows.tasks(TASK, cut::MOST))
        }
        Err(reason) => {
            cx.ctx.not_done(RULE, &tree.origins, format!("a loop: {reason}"));
            loops
        }
    }
}
