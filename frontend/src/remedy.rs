//! What would remove a problem: values given at compile time, or folding.

use crate::error::{Code, Fault};
use crate::nodes::{Importer, Slot};
use crate::proto::NodeProto;
use sdc_ir::graph::Value;
use std::collections::BTreeSet;

/// Elements of an input that one may be asked to fix.
const FIXABLE: usize = 1 << 12;

impl Importer<'_> {
    /// Advice on a node that cannot be imported.
    pub fn remedy(&self, fault: &Fault, node: &NodeProto) -> Option<String> {
        if let Some(value) = fault.unknown {
            return Some(self.fixing(value));
        }
        let about_the_node = matches!(
            fault.code,
            Code::Operator
                | Code::Domain
                | Code::Attribute
                | Code::Form
                | Code::ElementType
                | Code::DataDependent
        );
        let names = node.input.iter().filter(|name| !name.is_empty());
        let mut operands = names.map(|name| self.scopes.iter().rev().find_map(|scope| scope.get(name)));
        let constant = |slot: Option<&Slot>| match slot {
            Some(Slot::Weight(..)) => true,
            Some(Slot::Value(v)) => self.builder.graph.constant(*v).is_some(),
            _ => false,
        };
        (about_the_node && !node.input.is_empty() && operands.all(constant)).then(|| {
            "all its operands are constants: folding the model beforehand (onnxsim, or ONNX Runtime's offline optimiser) \
             removes the node"
                .to_owned()
        })
    }

    /// How a value could be known at compile time.
    fn fixing(&self, value: Value) -> String {
        let inputs = self.inputs_behind(value);
        let small = |v: &Value| self.builder.graph.ty(*v).elements().is_some_and(|n| n <= FIXABLE);
        let fallback = "export the model with fixed shapes";
        if inputs.is_empty() || !inputs.iter().all(small) {
            return fallback.to_owned();
        }
        let options: Vec<String> = self
            .builder
            .graph
            .inputs
            .iter()
            .filter(|port| inputs.contains(&port.value))
            .map(|port| format!("--fix {}=FILE", port.name))
            .collect();
        format!(
            "give what it is computed from at compile time with {}, or {fallback}",
            options.join(" ")
        )
    }

    /// The model's inputs that a value is computed from.
    fn inputs_behind(&self, value: Value) -> BTreeSet<Value> {
        let graph = &self.builder.graph;
        let (mut seen, mut pending) = (BTreeSet::from([value]), vec![value]);
        let mut inputs = BTreeSet::new();
        while let Some(value) = pending.pop() {
            match graph.def_node(value) {
                None => {
                    inputs.insert(value);
                }
                Some(node) => {
                    let operands = &graph.nodes()[node].inputs;
                    pending.extend(operands.iter().copied().filter(|&v| seen.insert(v)));
                }
            }
        }
        inputs
    }
}
