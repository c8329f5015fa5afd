//! Which constants of a graph are weights of layers, and how they are read.

use sdc_ir::DType;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::{Graph, Node, Op, Origin, Value};
use sdc_ir::sd::{Axis, Geometry};

/// A constant used as weights, with the nodes that use it.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The constant.
    pub weight: Value,
    /// Nodes that use it as weights, in order. All are of one kind.
    pub users: Vec<Node>,
    /// How it is read.
    pub geometry: Geometry,
    /// Groups of filters with inputs of their own (group convolution).
    pub groups: usize,
    /// The user's nodes.
    pub origins: Vec<Origin>,
    /// Multiplications per filter entry: output positions, summed over the users.
    pub positions: usize,
}

impl Layer {
    /// Weights in the tensor.
    pub fn len(&self) -> usize {
        self.geometry.shape.iter().product()
    }
    /// Never true: tensors without elements are no layers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Name for messages: that of the first node.
    pub fn name(&self) -> String {
        self.origins.first().map_or_else(String::new, |o| o.name.clone())
    }
}

/// Tensors with fewer weights are not worth a header.
const MIN_WEIGHTS: usize = 16;

/// The layers in the order of their first use. A constant with any other use is none.
pub fn layers(graph: &Graph) -> Vec<Layer> {
    let (uses, live) = (graph.uses(), graph.live_nodes());
    let mut found: Vec<Layer> = Vec::new();
    for v in graph.values().ids() {
        let ty = graph.ty(v);
        let users: Vec<Node> = uses[v.index()]
            .iter()
            .copied()
            .filter(|n| live[n.index()])
            .collect();
        let floats = ty.dtype == DType::F32 && ty.elements().is_some_and(|n| n >= MIN_WEIGHTS);
        if graph.constant(v).is_none() || graph.is_output(v) || users.is_empty() || !floats {
            continue;
        }
        let read: Option<Vec<(Geometry, usize, usize)>> =
            users.iter().map(|&n| geometry(graph, n, v)).collect();
        let Some(read) = read else { continue };
        let (geometry, groups, _) = read[0].clone();
        if read.iter().any(|r| r.0 != geometry || r.1 != groups) {
            continue;
        }
        found.push(Layer {
            weight: v,
            geometry,
            groups,
            positions: read.iter().map(|r| r.2).sum(),
            origins: graph.nodes()[users[0]].origins.clone(),
            users,
        });
    }
    found.sort_by_key(|l| (l.users[0].index(), l.weight.index()));
    found
}

/// How a node reads a constant as weights: geometry, groups, output positions.
fn geometry(graph: &Graph, node: Node, v: Value) -> Option<(Geometry, usize, usize)> {
    let data = &graph.nodes()[node];
    if data.inputs.iter().filter(|&&i| i == v).count() != 1 || data.inputs.get(1) != Some(&v) {
        return None;
    }
    let (shape, out) = (graph.ty(v).sizes(), graph.ty(data.outputs[0]).sizes());
    match &data.op {
        Op::Conv(conv) => {
            let positions = out[0] * out[2..].iter().product::<usize>();
            Some((Geometry::conv(shape, Axis::X), conv.group, positions))
        }
        Op::ConvTranspose(conv) if conv.group == 1 && shape.len() >= 3 => {
            let positions = graph.ty(data.inputs[0]).sizes()[2..].iter().product();
            let vector = std::iter::once(0).chain(2..shape.len()).collect();
            let geometry = Geometry {
                shape: shape.to_vec(),
                filter_dims: vec![1],
                vector_dims: vector,
            };
            Some((geometry, 1, positions))
        }
        Op::MatMul(_) if shape.len() == 2 => {
            Some((Geometry::matmul(shape), 1, out[..out.len() - 1].iter().product()))
        }
        // States `[T,S,N,H]`: each step multiplies those of all batch positions.
        Op::Recurrent(_) => Some((Geometry::matmul(shape), 1, out[0] * out[2])),
        _ => None,
    }
}
