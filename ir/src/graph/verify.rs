//! The graph verifier: every fault of a graph, in order.
//!
//! The laws, by [`Law`]:
//! - **Id**: operands, results, ports and weight attributes name entries that exist.
//! - **Definition**: a value is defined once, by what its [`Def`] says; values are numbered in order of definition.
//! - **Order**: a node's operands are inputs or results of earlier nodes.
//! - **Type**: results have the element type and shape that [`infer`] gives (a constant: its weight's); sizes do not
//!   overflow. Attribute lists fit the operands, since inference checks that.
//! - **Symbol**: every dimension has a size. Symbols stand in shapes before the model's open dimensions are pinned, which
//!   is before anything that works on a verified graph; results of operands with symbols have no inferred type.
//! - **Layout**: a layout orders exactly the dimensions of its value.
//! - **Origin**: every node has at least one origin.
//! - **Name**: input names differ from each other, and output names from each other.
//!
//! Not checked: that something is used (dead nodes, unused inputs and weights are legal); which operators need equal or
//! particular layouts (the layout pass's business); the digests of weights (checked where they are read); limits of
//! memory; the meaning of anything, which is the interpreter's.

use super::infer::{addressable, infer};
use super::{Def, Dim, Graph, Node, NodeData, Op, Origin, Port, TensorType};
use std::collections::BTreeSet;
use std::fmt;

/// What a fault violates; see the module's documentation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "described in the module's documentation")]
pub enum Law {
    Id,
    Definition,
    Order,
    Type,
    Symbol,
    Layout,
    Origin,
    Name,
}

/// One violation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What is violated.
    pub law: Law,
    /// The node at fault; `None` if it is an input, an output or a value.
    pub node: Option<Node>,
    /// Origins of that node.
    pub origins: Vec<Origin>,
    /// What is wrong, with the ids concerned.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = self.node {
            write!(f, "{node}: ")?;
        }
        f.write_str(&self.message)?;
        for (i, origin) in self.origins.iter().enumerate() {
            write!(f, "{}{origin}", if i == 0 { ", from " } else { ", " })?;
        }
        Ok(())
    }
}

/// Every violation of the laws, nodes in order; empty for a sound graph.
pub fn verify(graph: &Graph) -> Vec<Fault> {
    let mut v = Verifier {
        graph,
        node: None,
        faults: Vec::new(),
    };
    v.inputs();
    for (n, node) in graph.nodes.iter() {
        v.node = Some(n);
        v.node(n, node);
    }
    v.node = None;
    v.values();
    v.outputs();
    v.faults
}

struct Verifier<'a> {
    graph: &'a Graph,
    /// The node being looked at.
    node: Option<Node>,
    faults: Vec<Fault>,
}

impl Verifier<'_> {
    fn fault(&mut self, law: Law, message: String) {
        let origins = self
            .node
            .map_or(Vec::new(), |n| self.graph.nodes[n].origins.clone());
        self.faults.push(Fault {
            law,
            node: self.node,
            origins,
            message,
        });
    }

    fn inputs(&mut self) {
        let graph = self.graph;
        for (i, port) in graph.inputs.iter().enumerate() {
            let what = format!("input {i} ({:?})", port.name);
            match graph.values.get(port.value) {
                None => self.fault(Law::Id, format!("{what}: {} does not exist", port.value)),
                Some(data) if data.def != Def::Input(i) => {
                    self.fault(
                        Law::Definition,
                        format!("{what}: {} is not defined as it", port.value),
                    );
                }
                Some(data) if is_open(&data.ty) => {}
                Some(data) => self.size(&what, &data.ty),
            }
        }
        self.names("input", &graph.inputs);
    }

    fn outputs(&mut self) {
        for (i, port) in self.graph.outputs.iter().enumerate() {
            if self.graph.values.get(port.value).is_none() {
                let message = format!("output {i} ({:?}): {} does not exist", port.name, port.value);
                self.fault(Law::Id, message);
            }
        }
        self.names("output", &self.graph.outputs);
    }

    fn names(&mut self, what: &str, ports: &[Port]) {
        let mut seen = BTreeSet::new();
        for port in ports {
            if !seen.insert(&port.name) {
                self.fault(Law::Name, format!("two {what}s are called {:?}", port.name));
            }
        }
    }

    /// Every value is defined by what its definition says, in order, and its layout fits.
    fn values(&mut self) {
        let graph = self.graph;
        let mut last = (None, 0);
        let mut inputs = 0;
        for (v, data) in graph.values.iter() {
            let defined = match data.def {
                Def::Input(i) => graph.inputs.get(i).map(|p| p.value),
                Def::Node(n, k) => graph.nodes.get(n).and_then(|n| n.outputs.get(k).copied()),
            };
            if defined != Some(v) {
                self.fault(
                    Law::Definition,
                    format!("{v} is not what its definition {:?} defines", data.def),
                );
            }
            let in_order = match data.def {
                Def::Input(i) => std::mem::replace(&mut inputs, i + 1) <= i,
                Def::Node(n, k) => std::mem::replace(&mut last, (Some(n), k + 1)) <= (Some(n), k),
            };
            if !in_order {
                self.fault(
                    Law::Definition,
                    format!("{v} is numbered after values defined later"),
                );
            }
            for (d, symbol) in data.ty.shape.symbols() {
                let symbol = Dim::Symbol(symbol.to_owned());
                self.fault(
                    Law::Symbol,
                    format!("{v}: dimension {d} is the symbol {symbol}, which must be given a size first"),
                );
            }
            if data.ty.layout.order().len() != data.ty.rank() {
                let order = data.ty.layout.order();
                self.fault(
                    Law::Layout,
                    format!("{v}: {} has a layout of {} dimensions", data.ty, order.len()),
                );
            }
        }
    }

    fn size(&mut self, what: &str, ty: &TensorType) {
        if !addressable(ty) {
            self.fault(Law::Type, format!("{what}: type {ty} has too many elements"));
        }
    }

    fn node(&mut self, n: Node, node: &NodeData) {
        let name = node.op.name();
        if node.origins.is_empty() {
            self.fault(Law::Origin, format!("{name} has no origin"));
        }
        let mut sound = true;
        for &v in node.inputs.iter().chain(&node.outputs) {
            if self.graph.values.get(v).is_none() {
                self.fault(Law::Id, format!("{name}: {v} does not exist"));
                sound = false;
            }
        }
        if !sound {
            return;
        }
        for &v in &node.inputs {
            if self.graph.def_node(v).is_some_and(|def| def >= n) {
                self.fault(Law::Order, format!("{name} uses {v}, which is defined later"));
            }
        }
        for (k, &v) in node.outputs.iter().enumerate() {
            if self.graph.values[v].def != Def::Node(n, k) {
                self.fault(
                    Law::Definition,
                    format!("{name}: result {k} is {v}, which is defined elsewhere"),
                );
            }
        }
        self.types(node);
    }

    fn types(&mut self, node: &NodeData) {
        let name = node.op.name();
        let operands: Vec<&TensorType> = node.inputs.iter().map(|&v| self.graph.ty(v)).collect();
        if operands.iter().any(|ty| is_open(ty)) {
            return;
        }
        let expected = match &node.op {
            Op::Constant(c) => {
                if !operands.is_empty() {
                    self.fault(Law::Type, format!("{name} has operands"));
                }
                match self.graph.weights.get(c.weight) {
                    Some(tensor) => vec![TensorType::new(tensor.dtype(), tensor.shape())],
                    None => return self.fault(Law::Id, format!("{name}: {} does not exist", c.weight)),
                }
            }
            op => match infer(op, &operands) {
                Ok(types) => types,
                Err(error) => return self.fault(Law::Type, error.to_string()),
            },
        };
        if expected.len() != node.outputs.len() {
            let (want, have) = (expected.len(), node.outputs.len());
            self.fault(
                Law::Type,
                format!("{name} has {have} results, should have {want}"),
            );
        }
        for (&v, expected) in node.outputs.iter().zip(&expected) {
            let ty = self.graph.ty(v);
            if !ty.same_tensor(expected) {
                self.fault(Law::Type, format!("{name}: {v} is {ty}, should be {expected}"));
            }
        }
    }
}

/// True if a dimension is a symbol.
fn is_open(ty: &TensorType) -> bool {
    ty.shape.constant().is_none()
}
