//! Graph level: SSA over tensors.
//!
//! A [`Graph`] is a list of nodes in topological order over typed values. Operators are a closed enum ([`Op`]) of a
//! small canonical set; the frontend lowers ONNX's larger set to it. Constant data lives in a [`Weights`] table and
//! is referred to by [`op::Constant`] nodes. Each node keeps its [`Origin`]s: the ONNX nodes it came from.
//!
//! Semantics: every operator computes what the ONNX operator of the same name computes (newest opset), except where
//! the operator's own documentation says otherwise. Floating-point results may differ from exact arithmetic by the
//! rounding of each elementary step; the order of summation is not fixed at this level.

pub mod attr;
pub mod build;
pub mod dim;
pub mod emit;
pub mod infer;
pub mod op;
pub mod types;
pub mod verify;
pub mod weights;

pub use attr::{Attr, AttrError};
pub use dim::{Dim, Shape};
pub use emit::Emit;
pub use infer::InferError;
pub use op::{BinaryOp, Op, UnaryOp};
pub use types::{Layout, TensorType};
pub use weights::Weights;

use crate::entity::{Arena, EntityId};
use std::fmt;

crate::entity!(Value, "%", "An SSA value: one tensor.");
crate::entity!(Node, "n", "An operator application.");
crate::entity!(Weight, "@w", "An entry of the weights table.");

/// Where a node came from in the user's model. After fusion a node has several.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Origin {
    /// ONNX node name (made up from operator and index if the model gave none); for constants the initialiser's name.
    pub name: String,
    /// ONNX operator, or `Initializer`.
    pub op: String,
    /// Position in the ONNX graph's node list (or initialiser list).
    pub index: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} #{})", self.name, self.op, self.index)
    }
}

/// What defines a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Def {
    /// The graph input with this position.
    Input(usize),
    /// An output of a node, with its position among the node's outputs.
    Node(Node, usize),
}

/// A value's type and definition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ValueData {
    /// Type: dtype, shape, layout.
    pub ty: TensorType,
    /// Definition.
    pub def: Def,
}

/// One application of an operator.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeData {
    /// Operator with its attributes.
    pub op: Op,
    /// Operands, in the order the operator documents.
    pub inputs: Vec<Value>,
    /// Results.
    pub outputs: Vec<Value>,
    /// ONNX nodes it stands for; never empty.
    pub origins: Vec<Origin>,
}

/// A named graph input or output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// The name users know it by.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// A network: nodes in topological order.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Graph {
    /// Model name, free text.
    pub name: String,
    pub(crate) values: Arena<Value, ValueData>,
    pub(crate) nodes: Arena<Node, NodeData>,
    /// Inputs, in ONNX order, constants excluded.
    pub inputs: Vec<Port>,
    /// Outputs, in ONNX order. The same value may appear twice.
    pub outputs: Vec<Port>,
    /// Constant data.
    pub weights: Weights,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
    /// All values.
    pub fn values(&self) -> &Arena<Value, ValueData> {
        &self.values
    }
    /// All nodes, in topological order.
    pub fn nodes(&self) -> &Arena<Node, NodeData> {
        &self.nodes
    }
    /// Type of a value.
    pub fn ty(&self, value: Value) -> &TensorType {
        &self.values[value].ty
    }
    /// The node that defines a value, unless it is an input.
    pub fn def_node(&self, value: Value) -> Option<Node> {
        match self.values[value].def {
            Def::Node(n, _) => Some(n),
            Def::Input(_) => None,
        }
    }
    /// The data of a value defined by a [`op::Constant`].
    pub fn constant(&self, value: Value) -> Option<&crate::Tensor> {
        match &self.nodes[self.def_node(value)?].op {
            Op::Constant(c) => Some(&self.weights[c.weight]),
            _ => None,
        }
    }
    /// For each value the nodes that read it, in order, once per operand; graph outputs not counted.
    pub fn uses(&self) -> Vec<Vec<Node>> {
        let mut uses = vec![Vec::new(); self.values.len()];
        for (n, data) in self.nodes.iter() {
            for v in &data.inputs {
                uses[v.index()].push(n);
            }
        }
        uses
    }
    /// True if the value is one of the graph's outputs.
    pub fn is_output(&self, value: Value) -> bool {
        self.outputs.iter().any(|p| p.value == value)
    }
}
