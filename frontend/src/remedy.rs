//! What would remove a problem: values given at compile time, or folding.

use crate::error::{Code, Fault};
use crate::nodes::{Importer, Slot};
use crate::proto::NodeProto;
use sdc_ir::graph::Value;
use std::collections::BTreeSet;

/// Elements of an input that one may be asked to fix.
const FIXABLE: usize = 1 << 12;

impl Importer<'_> {
    /// Adds advice to the fault of a node that cannot be imported.
    pub fn advise(&self, fault: &mut Fault, node: &NodeProto) {
        if let Some(value) = fault.unknown {
            fault.fix = self.fixable(value);
        }
        if fault.help.is_none() {
            fault.help = self.remedy(fault, node);
        }
    }

    fn remedy(&self, fault: &Fault, node: &NodeProto) -> Option<String> {
        if fault.unknown.is_some() {
            let fallback = "export the model with fixed shapes";
            let options: Vec<String> = fault
                .fix
                .iter()
                .map(|name| format!("--fix {name}=FILE"))
                .collect();
            return Some(match options.is_empty() {
                true => fallback.to_owned(),
                false => format!(
                    "give what it is computed from at compile time with {}, or {fallback}",
                    options.join(" ")
                ),
            });
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

    /// The inputs that would have to be given for a value to be known; none if one of them is too large to ask for.
    fn fixable(&self, value: Value) -> Vec<String> {
        let graph = &self.builder.graph;
        let inputs = self.inputs_behind(value);
        let small = |v: &Value| graph.ty(*v).elements().is_some_and(|n| n <= FIXABLE);
        if !inputs.iter().all(small) {
            return Vec::new();
        }
        let behind = graph.inputs.iter().filter(|port| inputs.contains(&port.value));
        behind.map(|port| port.name.clone()).collect()
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
