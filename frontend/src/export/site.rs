//! Where in the ONNX graph a layer of the optimised graph came from.

use super::net::{Net, attribute, is_op};
use sdc_ir::graph::{Graph, NodeData, Op, Origin};

/// The ONNX node that multiplies by a weight, and the nodes that were folded into it.
#[derive(Debug)]
pub(super) struct Site {
    /// Position of the Conv, ConvTranspose, Gemm or MatMul.
    pub node: usize,
    /// Nodes that go away, in order: each reads the one before it.
    pub folded: Vec<usize>,
    /// Shape of the weight operand, if the model states it.
    pub shape: Option<Vec<usize>>,
    /// Gemm with `transB`, or the gates of a recurrent layer: the operand is the transposed weight.
    pub transposed: bool,
    /// Which of the node's operands is the weight.
    pub operand: usize,
    /// The node is a recurrent layer.
    pub recurrent: bool,
    /// Which of how many directions of a recurrent layer it is. `shape` is that of one.
    pub direction: (usize, usize),
}

/// Operators whose second operand is a weight.
const LINEAR: [&str; 4] = ["Conv", "ConvTranspose", "Gemm", "MatMul"];
/// Operators whose second operand is the weight of their inputs, the third that of their state.
const RECURRENT: [&str; 3] = ["LSTM", "GRU", "RNN"];

impl Site {
    /// Finds the site of a node of the graph after fusion.
    ///
    /// # Errors
    /// Why its weight cannot be exchanged in the model.
    pub fn find(net: &Net<'_>, graph: &Graph, layer: &NodeData) -> Result<Self, String> {
        let (nodes, origins) = (&net.graph.node, &layer.origins);
        let origin = multiplier(origins)?;
        let index = origin.index as usize;
        let node = nodes
            .get(index)
            .filter(|node| is_op(node, &origin.op))
            .ok_or("it lies inside a function or a subgraph")?;
        let recurrent = RECURRENT.contains(&origin.op.as_str());
        let operand = if matches!(layer.op, Op::Recurrent(_)) {
            2
        } else {
            1
        };
        let (Some(weight), [output, others @ ..]) = (node.input.get(operand), node.output.as_slice()) else {
            return Err("its node has no weight".into());
        };
        if !recurrent && !others.is_empty() {
            return Err("its node has several results".into());
        }
        let mut shape = net.constant_shape(weight);
        if shape.as_ref().is_some_and(|s| s.len() < 2) {
            return Err("its weight is a vector".into());
        }
        let direction = match &mut shape {
            Some(shape) if recurrent => {
                let all = std::mem::replace(&mut shape[0], 1);
                (direction(graph, layer, all)?, all)
            }
            None if recurrent => return Err("its weights are computed".into()),
            _ => (0, 1),
        };
        if net.has_twin(index) {
            return Err("another node of the model does the same".into());
        }
        let gemm = origin.op == "Gemm";
        let alpha = attribute(node, "alpha").and_then(|a| a.f).unwrap_or(1.0);
        if gemm && alpha != 1.0 && !net.varies(&node.input[0]) {
            return Err("alpha scales the other operand".into());
        }
        let trans_b = attribute(node, "transB").and_then(|a| a.i).unwrap_or(0);
        Ok(Self {
            node: index,
            folded: if recurrent {
                Vec::new()
            } else {
                folded(net, output, origins)
            },
            shape,
            transposed: recurrent || gemm && trans_b != 0,
            operand,
            recurrent,
            direction,
        })
    }
}

/// The one node of the model that multiplies by a layer's weight.
fn multiplier(origins: &[Origin]) -> Result<&Origin, String> {
    let is_linear = |o: &&Origin| LINEAR.contains(&o.op.as_str()) || RECURRENT.contains(&o.op.as_str());
    let mut linear = origins.iter().filter(is_linear);
    match (linear.next(), linear.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err("no node of the model multiplies by it".into()),
        _ => Err("it stands for several nodes of the model".into()),
    }
}

/// Which of a recurrent node's directions a layer is: an import makes one layer of a kind for each, in their order.
fn direction(graph: &Graph, layer: &NodeData, all: usize) -> Result<usize, String> {
    let own = multiplier(&layer.origins)?;
    let same = |n: &&NodeData| {
        std::mem::discriminant(&n.op) == std::mem::discriminant(&layer.op)
            && multiplier(&n.origins) == Ok(own)
    };
    let layers: Vec<&NodeData> = graph.nodes().values().filter(same).collect();
    let found = layers.iter().position(|n| n.outputs == layer.outputs);
    found
        .filter(|_| layers.len() == all)
        .ok_or_else(|| format!("{} of its {all} directions are left", layers.len()))
}

/// The nodes after `output` that fusion took up as scales and biases of the weight.
fn folded(net: &Net<'_>, output: &str, origins: &[Origin]) -> Vec<usize> {
    let mut folded = Vec::new();
    // Nodes that do nothing go away only if something after them does.
    let mut passed = Vec::new();
    let mut name = output;
    while let Some(i) = net.only_reader(name) {
        let node = &net.graph.node[i];
        let Some(next) = node.output.first() else { break };
        let mut others = node.input.iter().filter(|n| *n != name && !n.is_empty());
        passed.push(i);
        if is_op(node, "Identity") || (is_op(node, "Dropout") && node.output.len() == 1) {
            name = next;
            continue;
        }
        let scales = ["BatchNormalization", "Mul", "Div", "Add", "Sub"];
        let was_fused = origins
            .iter()
            .any(|o| o.index as usize == i && scales.contains(&o.op.as_str()) && is_op(node, &o.op));
        if !was_fused || others.any(|n| net.varies(n)) {
            break;
        }
        folded.append(&mut passed);
        name = next;
    }
    folded
}
