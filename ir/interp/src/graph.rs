//! Graphs: node by node, in order.

use crate::{EvalError, eval_op};
use sdc_ir::Tensor;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::{Graph, Node, NodeData, Op, TensorType, Value};

/// Runs a graph on its inputs (in the graph's order; logical row-major) and returns its outputs in order.
///
/// Nodes on which no output depends are not evaluated; a value is dropped after its last use.
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
    mut visit: impl FnMut(Value, &Tensor),
) -> Result<Vec<Tensor>, EvalError> {
    let live = graph.live_nodes();
    let mut state = State::new(graph, inputs, &live)?;
    for port in &graph.inputs {
        visit(port.value, state.get(port.value)?);
    }
    for (node, data) in graph.nodes().iter().filter(|(n, _)| live[n.index()]) {
        let located = |source| EvalError::Node {
            node,
            op: data.op.name(),
            origins: data.origins.clone(),
            source: Box::new(source),
        };
        let results = state.eval(graph, data).map_err(located)?;
        for (&value, result) in data.outputs.iter().zip(results) {
            visit(value, &result);
            state.set(value, result);
        }
        state.release(node, data);
    }
    graph
        .outputs
        .iter()
        .map(|p| state.get(p.value).cloned())
        .collect()
}

/// Tensors of the values that are defined and still needed.
struct State {
    tensors: Vec<Option<Tensor>>,
    /// The last live node that reads each value; none for graph outputs and unread values.
    last_use: Vec<Option<Node>>,
}

impl State {
    fn new(graph: &Graph, inputs: &[Tensor], live: &[bool]) -> Result<Self, EvalError> {
        if inputs.len() != graph.inputs.len() {
            return Err(EvalError::InputCount {
                expected: graph.inputs.len(),
                actual: inputs.len(),
            });
        }
        let n = graph.values().len();
        let mut state = State {
            tensors: vec![None; n],
            last_use: vec![None; n],
        };
        for (port, x) in graph.inputs.iter().zip(inputs) {
            let (expected, actual) = (graph.ty(port.value), TensorType::new(x.dtype(), x.shape()));
            if !actual.same_tensor(expected) {
                return Err(EvalError::InputType {
                    name: port.name.clone(),
                    expected: expected.to_string(),
                    actual: actual.to_string(),
                });
            }
            state.set(port.value, x.clone());
        }
        for (node, data) in graph.nodes().iter().filter(|(n, _)| live[n.index()]) {
            for v in &data.inputs {
                state.last_use[v.index()] = Some(node);
            }
        }
        for port in &graph.outputs {
            state.last_use[port.value.index()] = None;
        }
        Ok(state)
    }

    fn get(&self, value: Value) -> Result<&Tensor, EvalError> {
        self.tensors[value.index()]
            .as_ref()
            .ok_or(EvalError::Undefined(value))
    }

    fn set(&mut self, value: Value, tensor: Tensor) {
        self.tensors[value.index()] = Some(tensor);
    }

    fn release(&mut self, node: Node, data: &NodeData) {
        for v in &data.inputs {
            if self.last_use[v.index()] == Some(node) {
                self.tensors[v.index()] = None;
            }
        }
    }

    /// The results of one node, of the types the graph declares.
    fn eval(&self, graph: &Graph, data: &NodeData) -> Result<Vec<Tensor>, EvalError> {
        let results = match &data.op {
            Op::Constant(c) => {
                vec![
                    graph
                        .weights
                        .get(c.weight)
                        .cloned()
                        .ok_or(EvalError::NoWeight(c.weight))?,
                ]
            }
            op => {
                let operands: Vec<&Tensor> = data
                    .inputs
                    .iter()
                    .map(|&v| self.get(v))
                    .collect::<Result<_, _>>()?;
                eval_op(op, &operands)?
            }
        };
        for (&value, result) in data.outputs.iter().zip(&results) {
            let actual = TensorType::new(result.dtype(), result.shape());
            if !actual.same_tensor(graph.ty(value)) {
                return Err(EvalError::ResultType {
                    value,
                    declared: graph.ty(value).to_string(),
                    actual: actual.to_string(),
                });
            }
        }
        Ok(results)
    }
}
