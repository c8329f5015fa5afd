//! Who reads what in an ONNX graph, and what of it depends on the inputs.

use crate::nodes::is_default_domain;
use crate::order::{order, reads};
use crate::proto::{AttributeProto, GraphProto, NodeProto};
use std::collections::{BTreeMap, BTreeSet};

/// The graph with its edges. Subgraphs' reads count as their node's.
pub(super) struct Net<'m> {
    pub graph: &'m GraphProto,
    readers: BTreeMap<&'m str, Vec<usize>>,
    outputs: BTreeSet<&'m str>,
    /// Names that depend on the graph's inputs.
    varying: BTreeSet<&'m str>,
    /// Initialisers and results of `Constant` nodes, with their dimensions.
    constants: BTreeMap<&'m str, &'m [i64]>,
}

impl<'m> Net<'m> {
    pub fn new(graph: &'m GraphProto) -> Self {
        let mut readers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, node) in graph.node.iter().enumerate() {
            reads(node, &mut |name| readers.entry(name).or_default().push(i));
        }
        let mut constants: BTreeMap<&str, &[i64]> = BTreeMap::new();
        for tensor in &graph.initializer {
            constants.insert(tensor.name.as_deref().unwrap_or(""), &tensor.dims);
        }
        let inputs = graph.input.iter().filter_map(|i| i.name.as_deref());
        let mut varying: BTreeSet<&str> = inputs.filter(|name| !constants.contains_key(name)).collect();
        // A graph in circles was refused at import.
        for i in order(&graph.node).unwrap_or_default() {
            let node = &graph.node[i];
            let mut varies = false;
            reads(node, &mut |name| varies |= varying.contains(name));
            if varies {
                varying.extend(node.output.iter().map(String::as_str));
            } else if let (Some("Constant"), [name]) = (node.op_type.as_deref(), node.output.as_slice())
                && let Some(tensor) = attribute(node, "value").and_then(|a| a.t.as_deref())
            {
                constants.insert(name, &tensor.dims);
            }
        }
        Self {
            readers,
            outputs: graph.output.iter().filter_map(|o| o.name.as_deref()).collect(),
            varying,
            constants,
            graph,
        }
    }

    /// The only reader of a name, unless the graph gives it out.
    pub fn only_reader(&self, name: &str) -> Option<usize> {
        match self.readers.get(name)?.as_slice() {
            &[one] if !self.outputs.contains(name) => Some(one),
            _ => None,
        }
    }

    /// True if the value depends on the graph's inputs.
    pub fn varies(&self, name: &str) -> bool {
        self.varying.contains(name)
    }

    /// Shape of a constant, if the model states it.
    pub fn constant_shape(&self, name: &str) -> Option<Vec<usize>> {
        let dims = self.constants.get(name)?;
        dims.iter().map(|&d| usize::try_from(d).ok()).collect()
    }

    /// True if another node does the very same, so that an import makes one of the two.
    pub fn has_twin(&self, index: usize) -> bool {
        let node = &self.graph.node[index];
        let candidates = node
            .input
            .first()
            .and_then(|name| self.readers.get(name.as_str()));
        candidates.into_iter().flatten().any(|&i| {
            let other = &self.graph.node[i];
            i != index
                && (&other.op_type, &other.input, &other.attribute)
                    == (&node.op_type, &node.input, &node.attribute)
        })
    }
}

/// An attribute of a node.
pub(super) fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|a| a.name.as_deref() == Some(name))
}

/// True if the node is this operator of the default domain.
pub(super) fn is_op(node: &NodeProto, op: &str) -> bool {
    node.op_type.as_deref() == Some(op) && is_default_domain(node.domain.as_deref().unwrap_or(""))
}
