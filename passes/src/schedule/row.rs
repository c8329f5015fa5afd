//! Softmax and normalisation: rows without gaps by a kernel, others in loops.

use super::{Choice, Chooser, cut};
use crate::tile::{norm, softmax};
use sdc_ir::DType;
use sdc_ir::graph::Node;
use sdc_ir::graph::op::Softmax;
use sdc_ir::schedule::Run;

/// Fewest elements for which the kernel of softmax is called: below, the code of a loop is smaller and as quick.
const ELEMENTS: usize = 64;

/// Elements worth a task of their own, of a softmax and of a normalisation.
const SOFTMAX: i64 = 8 * 1024;
const NORMALISE: i64 = 16 * 1024;

/// The passes over a row: of a softmax maximum, exponentials, scaling; of a normalisation mean, variance, results.
const PASSES: usize = 4;

pub fn softmax(cx: &mut Chooser<'_>, node: Node, op: &Softmax) -> Run {
    const RULE: &str = "softmax";
    let graph = cx.graph;
    let data = &graph.nodes()[node];
    let x = graph.ty(data.inputs[0]);
    let (dtype, elements) = (x.dtype, super::elements(graph, data.inputs[0]));
    if dtype == DType::F32 && elements >= ELEMENTS {
        if let Some(rows) = softmax::rows(&cx.scene, node, op) {
            let note = format!("rows of {} elements, in the widest vectors", rows.columns);
            cx.ctx.remark(RULE, &data.origins, note);
            return Choice::kernel("softmax_f32").whole(node, rows.tasks(SOFTMAX, cut::MOST));
        }
        cx.ctx.not_done(RULE, &data.origins, "a loop: its rows have gaps");
    }
    Choice::LOOPS.whole(node, cut::pieces(elements, PASSES))
}

pub fn normalise(cx: &mut Chooser<'_>, node: Node) -> Run {
    const RULE: &str = "normalise";
    let graph = cx.graph;
    let data = &graph.nodes()[node];
    let elements = super::elements(graph, data.inputs[0]);
    let layer = norm::Layer::of(&cx.scene, node);
    if let Some(rows) = layer.as_ref().and_then(norm::Layer::rows) {
        let note = format!("rows of {} elements, in the widest vectors", rows.columns);
        cx.ctx.remark(RULE, &data.origins, note);
        return Choice::kernel("layer_norm_f32").whole(node, rows.tasks(NORMALISE, cut::MOST));
    }
    let reason = format!(
        "a loop: no rows of {} elements or more with a scale and a bias for each",
        norm::ROW
    );
    cx.ctx.not_done(RULE, &data.origins, reason);
    Choice::LOOPS.whole(node, cut::pieces(elements, PASSES))
}
