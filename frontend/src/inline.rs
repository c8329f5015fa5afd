//! Bodies put in place of a node: the branch an If is known to take, and model-local functions.

use crate::error::{Code, Fault};
use crate::nodes::{Importer, Slot, Stop, is_default_domain};
use crate::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto};
use sdc_ir::graph::{Origin, Value};
use std::collections::BTreeMap;

/// Inlined bodies within each other. Subgraphs are bounded by the decoder; functions could call themselves.
const MAX_DEPTH: usize = 32;

impl Importer<'_> {
    pub fn enter(&mut self, origin: &Origin) -> Result<(), Fault> {
        if self.path.len() >= MAX_DEPTH {
            let text = format!("bodies nest more than {MAX_DEPTH} deep");
            return Err(Fault::new(Code::TooManyNodes, text));
        }
        let name = match self.path.is_empty() {
            true => origin.name.clone(),
            // The prefix is in the path already.
            false => origin.name.rsplit('/').next().unwrap_or_default().to_owned(),
        };
        self.path.push((name, origin.index));
        Ok(())
    }

    /// Values of a body's outputs; none if one of them is poisoned.
    fn results(&mut self, names: &[&str]) -> Result<Vec<Value>, Stop> {
        let mut values = Vec::with_capacity(names.len());
        for name in names {
            values.push(self.lookup(name)?.ok_or(Stop::Skip)?);
        }
        Ok(values)
    }

    /// The results of the branch that an If with this condition takes.
    pub fn branch(&mut self, node: &NodeProto, origin: &Origin, condition: bool) -> Result<Vec<Value>, Stop> {
        let wanted = if condition { "then_branch" } else { "else_branch" };
        let attr = node.attribute.iter().find(|a| a.name.as_deref() == Some(wanted));
        let graph = attr.and_then(|a| a.g.as_deref());
        let graph = graph
            .ok_or_else(|| Fault::new(Code::BadAttribute, format!("attribute `{wanted}` is missing")))?;
        let mut graph: GraphProto = graph.clone();
        self.enter(origin)?;
        self.scopes.push(BTreeMap::new());
        self.initializers(&mut graph);
        let results = self.body_results(&graph);
        self.scopes.pop();
        self.path.pop();
        results
    }

    /// Lowers the nodes of a body in the current scope; the values of its outputs.
    pub fn body_results(&mut self, graph: &GraphProto) -> Result<Vec<Value>, Stop> {
        let outputs: Vec<&str> = graph
            .output
            .iter()
            .map(|o| o.name.as_deref().unwrap_or(""))
            .collect();
        self.run_nodes(&graph.node, outputs.iter().copied());
        self.results(&outputs)
    }

    /// The model's function that a node calls, if it has one of that name.
    pub fn function_of(&self, node: &NodeProto) -> Option<FunctionProto> {
        if self.functions.is_empty() {
            return None;
        }
        let text = |s: &Option<String>| s.clone().unwrap_or_default();
        let domain = normal_domain(&text(&node.domain)).to_owned();
        self.functions
            .get(&(domain, text(&node.op_type), text(&node.overload)))
            .cloned()
    }

    /// The results of a function call.
    pub fn call(
        &mut self,
        function: &FunctionProto,
        node: &NodeProto,
        origin: &Origin,
        inputs: Vec<Option<Value>>,
    ) -> Result<Vec<Value>, Stop> {
        let opset = default_opset(&function.opset_import).unwrap_or(self.opset);
        if opset < crate::ops::OLDEST_OPSET {
            let text = format!("the function's operator set {opset} is too old");
            return Err(Fault::new(Code::Opset, text).into());
        }
        if inputs.len() > function.input.len() {
            return Err(Fault::new(Code::BadOperands, "more operands than the function takes").into());
        }
        let body: Vec<NodeProto> = function.node.iter().map(|n| bound(n, function, node)).collect();
        self.enter(origin)?;
        // A function sees its operands only, not the names around the call.
        let scopes = std::mem::replace(&mut self.scopes, vec![BTreeMap::new()]);
        let outer_opset = std::mem::replace(&mut self.opset, opset);
        for (name, value) in function.input.iter().zip(inputs) {
            if let Some(v) = value {
                self.define(name, Slot::Value(v), Some(origin));
            }
        }
        let body = without_absent(body, function, self);
        let outputs: Vec<&str> = function.output.iter().map(String::as_str).collect();
        self.run_nodes(&body, outputs.iter().copied());
        let wanted = outputs.len().min(node.output.len());
        let results = self.results(&outputs[..wanted]);
        self.opset = outer_opset;
        self.scopes = scopes;
        self.path.pop();
        results
    }
}

/// The default domain in one spelling.
pub(crate) fn normal_domain(domain: &str) -> &str {
    if is_default_domain(domain) { "" } else { domain }
}

/// Version of the default domain in a list of operator sets.
pub(crate) fn default_opset(imports: &[crate::proto::OperatorSetIdProto]) -> Option<i64> {
    let default =
        |i: &&crate::proto::OperatorSetIdProto| is_default_domain(i.domain.as_deref().unwrap_or(""));
    imports.iter().filter(default).filter_map(|i| i.version).max()
}

/// Operands the call leaves out become left-out operands of the body's nodes.
fn without_absent(
    mut body: Vec<NodeProto>,
    function: &FunctionProto,
    importer: &Importer<'_>,
) -> Vec<NodeProto> {
    let scope = importer.scopes.last();
    let absent: Vec<&String> = function
        .input
        .iter()
        .filter(|n| scope.is_none_or(|s| !s.contains_key(*n)))
        .collect();
    for name in body.iter_mut().flat_map(|n| &mut n.input) {
        if absent.contains(&&*name) {
            name.clear();
        }
    }
    body
}

/// A body node with the attributes it takes from the call put in.
fn bound(node: &NodeProto, function: &FunctionProto, call: &NodeProto) -> NodeProto {
    let mut node = node.clone();
    node.attribute = node
        .attribute
        .iter()
        .filter_map(|a| bound_attribute(a, function, call))
        .collect();
    node
}

fn bound_attribute(
    attr: &AttributeProto,
    function: &FunctionProto,
    call: &NodeProto,
) -> Option<AttributeProto> {
    let Some(wanted) = attr.ref_attr_name.as_deref().filter(|r| !r.is_empty()) else {
        return Some(attr.clone());
    };
    // Neither given nor with a default: the node's attribute is absent too.
    let mut given = call.attribute.iter().chain(&function.attribute_proto);
    let mut found = given.find(|a| a.name.as_deref() == Some(wanted))?.clone();
    found.name.clone_from(&attr.name);
    Some(found)
}
