//! Multiplications with accumulation that a node asks for, by ONNX's definition of its operator: what people compare
//! networks by, not what the compiled code executes.

use crate::graph::{Graph, NodeData, Op};

/// Multiply-accumulates of a node; 0 for operators that are not counted by them.
pub fn of(graph: &Graph, node: &NodeData) -> u64 {
    let shape = |k: usize| node.inputs.get(k).map_or(&[][..], |&v| graph.ty(v).sizes());
    let out = node.outputs.first().map_or(&[][..], |&v| graph.ty(v).sizes());
    let product = |dims: &[usize]| dims.iter().fold(1u64, |n, &d| n.saturating_mul(d as u64));
    match &node.op {
        // Weights are [M, C/group, kernel..]: each output element takes all but the first dimension.
        Op::Conv(_) => product(out).saturating_mul(product(shape(1).get(1..).unwrap_or(&[]))),
        // Weights are [C, M/group, kernel..]: each input element goes to all but the first dimension.
        Op::ConvTranspose(_) => product(shape(0)).saturating_mul(product(shape(1).get(1..).unwrap_or(&[]))),
        Op::MatMul(_) => product(out).saturating_mul(shape(0).last().copied().unwrap_or(1) as u64),
        _ => 0,
    }
}
