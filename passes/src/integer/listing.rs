//! What a graph computes in integers, what it does not, and where the boundaries are: read off the graph itself.

use sdc_ir::DType;
use sdc_ir::graph::{Graph, Op};
use serde::Serialize;

/// Arithmetic of an operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arithmetic {
    /// Integers only, from operands to result.
    Integer,
    /// Between real numbers and integers: QuantizeLinear, DequantizeLinear.
    Boundary,
    /// Some operand or result is a real number.
    Float,
}

/// An operator of the listing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Line {
    /// Operator.
    pub op: &'static str,
    /// The user's nodes.
    pub origins: Vec<String>,
    /// How it computes.
    pub arithmetic: Arithmetic,
    /// Element types of operands, constants included.
    pub from: Vec<String>,
    /// Element type of the result.
    pub to: String,
}

/// Every operator of a graph but constants, in order. An operator counts as integer only if the type of every operand and result does.
pub fn listing(graph: &Graph) -> Vec<Line> {
    let dtype = |v: &sdc_ir::graph::Value| graph.ty(*v).dtype;
    let integer = |d: DType| d.is_int() || d == DType::Bool;
    let nodes = graph
        .nodes()
        .values()
        .filter(|n| !matches!(n.op, Op::Constant(_)));
    nodes
        .map(|node| {
            let mut all = node.inputs.iter().chain(&node.outputs).map(dtype);
            let arithmetic = if matches!(node.op, Op::QuantizeLinear(_) | Op::DequantizeLinear(_)) {
                Arithmetic::Boundary
            } else if all.all(integer) {
                Arithmetic::Integer
            } else {
                Arithmetic::Float
            };
            Line {
                op: node.op.name(),
                origins: node.origins.iter().map(ToString::to_string).collect(),
                arithmetic,
                from: node.inputs.iter().map(|v| dtype(v).to_string()).collect(),
                to: dtype(&node.outputs[0]).to_string(),
            }
        })
        .collect()
}
