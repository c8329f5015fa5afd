//! Graphs: node by node, in order.

use crate::EvalError;
use sdc_ir::Tensor;
use sdc_ir::graph::{Graph, Value};

/// Runs a graph on its inputs (in the graph's order; logical row-major) and returns its outputs in order.
///
/// # Errors
/// Inputs that are not the graph's, or a node that fails ([`EvalError::Node`] says which).
pub fn run_graph(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    run_graph_values(graph, inputs, |_, _| {})
}

/// As [`run_graph`]; `visit` sees each input and each node result that some output depends on, in order.
///
/// # Errors
/// As [`run_graph`].
pub fn run_graph_values(
    graph: &Graph,
    inputs: &[Tensor],
    visit: impl FnMut(Value, &Tensor),
) -> Result<Vec<Tensor>, EvalError> {
    let _ = (graph, inputs, visit);
    Err(EvalError::Unsupported {
        op: "graph",
        reason: "not written yet".into(),
    })
}
