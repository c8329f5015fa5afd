//! How coarse the outputs of a quantised graph are, for comparisons.

use sdc_ir::DType;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::{Graph, Op, UnaryOp, Value};

/// For each output the step of the grid its elements come from: the largest scale of the DequantizeLinear it comes
/// from, directly or through operators that move elements or bring them no farther apart (Relu, Clip, Sigmoid, Tanh,
/// Softmax, pooling). Bytes computed from quantised activations have the step 1: a tie may be rounded either way. `None` for outputs that are
/// not of these kinds: other arithmetic mixes steps, and other integers are exact.
///
/// Only a graph that quantises its own activations has steps; dequantised weights alone make nothing coarse.
pub fn output_steps(graph: &Graph) -> Vec<Option<f64>> {
    // Per value: the step, of values that are computed from quantised activations.
    let mut steps: Vec<Option<f64>> = vec![None; graph.values().len()];
    let mut quantised = vec![false; graph.values().len()];
    for data in graph.nodes().values() {
        let result = data.outputs[0];
        quantised[result.index()] =
            matches!(data.op, Op::QuantizeLinear(_)) || data.inputs.iter().any(|v| quantised[v.index()]);
        let keeps_distance = match &data.op {
            Op::DequantizeLinear(_) if quantised[data.inputs[0].index()] => {
                steps[result.index()] = scale(graph, data.inputs[1]);
                continue;
            }
            Op::Unary(u) => matches!(
                u,
                UnaryOp::Relu | UnaryOp::Sigmoid | UnaryOp::Tanh | UnaryOp::Neg | UnaryOp::Abs
            ),
            Op::Clip(_) | Op::MaxPool(_) | Op::AveragePool(_) | Op::Relayout(_) | Op::Transpose(_) => true,
            Op::Reshape(_) | Op::Expand(_) | Op::Concat(_) | Op::Slice(_) | Op::Pad(_) => true,
            Op::Softmax(softmax) => !softmax.log,
            _ => false,
        };
        if keeps_distance {
            let known: Vec<f64> = data.inputs.iter().filter_map(|v| steps[v.index()]).collect();
            steps[result.index()] = known.into_iter().reduce(f64::max);
        }
    }
    let coarse = |v: Value| {
        let computed = graph.def_node(v).is_some_and(|n| {
            let inputs = &graph.nodes()[n].inputs;
            inputs.iter().any(|i| quantised[i.index()])
        });
        computed && matches!(graph.ty(v).dtype, DType::I8 | DType::U8)
    };
    let step = |v: Value| if coarse(v) { Some(1.0) } else { steps[v.index()] };
    graph.outputs.iter().map(|p| step(p.value)).collect()
}

/// Largest element of a constant scale.
fn scale(graph: &Graph, scale: Value) -> Option<f64> {
    graph.constant(scale)?.to_f64_vec().into_iter().reduce(f64::max)
}
