//! The import in progress: names in scope, and one node after the other.

use crate::Remark;
use crate::builder::Builder;
use crate::ctx::NodeCtx;
use crate::error::{Code, Fault, ImportError};
use crate::narrow::Narrow;
use crate::ops::{self, Entry, Lowering};
use crate::options::ExternalData;
use crate::order::{all_reads, order};
use crate::proto::{FunctionProto, GraphProto, NodeProto, TensorProto};
use crate::sd::Payloads;
use crate::tensor::to_carrier;
use sdc_ir::Tensor;
use sdc_ir::graph::{Origin, Value};
use sdc_ir::sd::Stored;
use std::collections::{BTreeMap, BTreeSet};

/// What a name stands for.
pub(crate) enum Slot {
    Value(Value),
    /// An initialiser nothing has read yet, and the narrow type whose elements it carries.
    Weight(Tensor, Option<Narrow>, Origin),
    /// An initialiser sdc cannot hold; reported where it is read.
    Refused(Fault),
    /// Tensors in order; only operators on sequences read it.
    Sequence(Vec<Value>),
    /// The result of something that failed and was reported. What reads it is skipped.
    Poisoned,
}

pub(crate) struct Importer<'a> {
    pub builder: Builder<'a>,
    pub errors: Vec<ImportError>,
    /// Names of the graph and, further on, of the subgraphs being inlined.
    pub scopes: Vec<BTreeMap<String, Slot>>,
    pub external: Option<&'a dyn ExternalData>,
    /// Version of the default operator set.
    pub opset: i64,
    /// Model-local functions by domain, name and overload.
    pub functions: BTreeMap<(String, String, String), FunctionProto>,
    /// Names of the inlined nodes we are inside of, and the outermost one's position.
    pub path: Vec<(String, u32)>,
    /// Nodes seen of inlined bodies, counted each time.
    pub inlined: usize,
    /// Compressed weights, and the nodes they replace.
    pub payloads: Payloads,
    /// Import ended early, for a reason that was reported: names may be missing that the model does define.
    pub stopped: bool,
}

/// Errors after which an import ends: more would not be read.
const MAX_ERRORS: usize = 1000;

/// The default domain has two spellings.
pub(crate) fn is_default_domain(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

impl Importer<'_> {
    pub fn fail(&mut self, fault: Fault, node: Option<Origin>) {
        self.errors.push(fault.at(node));
    }

    /// Binds a name in the innermost scope.
    pub fn define(&mut self, name: &str, slot: Slot, origin: Option<&Origin>) {
        if name.is_empty() {
            return;
        }
        let scope = self
            .scopes
            .last_mut()
            .expect("the graph's own scope is never popped");
        if scope.insert(name.to_owned(), slot).is_some() {
            self.fail(
                Fault::new(Code::DuplicateName, format!("value `{name}` is defined twice")),
                origin.cloned(),
            );
        }
    }

    /// Defines the initialisers of a graph.
    pub fn initializers(&mut self, graph: &mut GraphProto) {
        let dense = std::mem::take(&mut graph.initializer);
        for (index, mut pb) in dense.into_iter().enumerate() {
            let name = pb.name.take().unwrap_or_default();
            let origin = Origin {
                name: name.clone(),
                op: "Initializer".into(),
                index: index as u32,
            };
            let slot = self.initializer(pb, &origin);
            self.define(&name, slot, Some(&origin));
        }
        for sparse in &graph.sparse_initializer {
            let name = sparse
                .values
                .as_ref()
                .and_then(|v| v.name.as_deref())
                .unwrap_or("");
            let fault = Fault::new(
                Code::Sparse,
                format!("initialiser `{name}` is sparse, which is not supported"),
            );
            self.define(name, Slot::Refused(fault), None);
        }
    }

    fn initializer(&mut self, pb: TensorProto, origin: &Origin) -> Slot {
        match to_carrier(pb, self.external) {
            Ok((tensor, narrow)) => Slot::Weight(tensor, narrow, origin.clone()),
            // A type we do not have is no problem while nothing reads it.
            Err(fault) if fault.code == Code::ElementType => {
                let text = format!("initialiser `{}`: {}", origin.name, fault.message);
                Slot::Refused(Fault::new(Code::ElementType, text))
            }
            Err(fault) => {
                self.fail(fault, Some(origin.clone()));
                Slot::Poisoned
            }
        }
    }

    /// The value of a name; `Ok(None)` if it is poisoned, or if it has symbolic dimensions: nothing can be inferred from
    /// those, and they are reported at the end.
    pub fn lookup(&mut self, name: &str) -> Result<Option<Value>, Fault> {
        let slot = self.scopes.iter_mut().rev().find_map(|scope| scope.get_mut(name));
        let Some(slot) = slot else {
            if self.stopped {
                return Ok(None);
            }
            return Err(Fault::new(
                Code::UndefinedValue,
                format!("value `{name}` is not defined"),
            ));
        };
        match slot {
            Slot::Value(v) => Ok(Some(*v).filter(|&v| self.builder.graph.ty(v).shape.constant().is_some())),
            Slot::Poisoned => Ok(None),
            Slot::Sequence(_) => Err(Fault::new(
                Code::NotATensor,
                format!("`{name}` is a sequence, where a tensor is needed"),
            )),
            Slot::Refused(fault) => Err(fault.clone()),
            Slot::Weight(tensor, narrow, origin) => {
                let made = self.builder.weight(tensor.clone(), origin);
                *slot = match &made {
                    Ok(v) => {
                        self.builder.set_narrow(*v, *narrow);
                        Slot::Value(*v)
                    }
                    Err(_) => Slot::Poisoned,
                };
                made.map(Some)
            }
        }
    }

    /// Lowers nodes in dependence order, binding their outputs in the innermost scope.
    pub fn run_nodes<'m>(&mut self, nodes: &'m [NodeProto], outputs: impl Iterator<Item = &'m str>) {
        let read = all_reads(nodes, outputs);
        let order = match order(nodes) {
            Ok(order) => order,
            Err(circle) => {
                let names: Vec<String> = circle
                    .iter()
                    .take(8)
                    .map(|&i| self.origin(&nodes[i], i).to_string())
                    .collect();
                let text = format!(
                    "{} nodes depend on each other in a circle: {}",
                    circle.len(),
                    names.join(", ")
                );
                self.fail(Fault::new(Code::Cycle, text), None);
                self.stopped = true;
                return;
            }
        };
        if !order.is_sorted() {
            let message = "the nodes are not in dependence order; they were sorted".to_owned();
            self.builder.remarks.push(Remark { node: None, message });
        }
        for i in order {
            self.stopped |= self.errors.len() >= MAX_ERRORS;
            if self.stopped {
                return;
            }
            self.inlined += usize::from(!self.path.is_empty());
            let most = self.builder.limits.max_inlined;
            if self.inlined > most {
                let text = format!("functions, branches and loops write out more than {most} nodes");
                let fault = Fault::new(Code::TooManyNodes, text);
                self.fail(fault.help("--limit inlined=N allows more"), None);
                self.stopped = true;
                return;
            }
            self.node(&nodes[i], i, &read);
        }
    }

    fn origin(&self, node: &NodeProto, index: usize) -> Origin {
        let op = node.op_type.clone().unwrap_or_default();
        let own = match node.name.as_deref() {
            None | Some("") => format!("{op}_{index}"),
            Some(name) => name.to_owned(),
        };
        let mut name = String::new();
        for (outer, _) in &self.path {
            name.push_str(outer);
            name.push('/');
        }
        name.push_str(&own);
        // Inside an inlined body the position is that of the node in the model's own list.
        let index = self.path.first().map_or(index as u32, |&(_, outer)| outer);
        Origin { name, op, index }
    }

    fn node(&mut self, node: &NodeProto, index: usize, read: &BTreeSet<&str>) {
        let origin = self.origin(node, index);
        if self.path.is_empty() {
            if self.payloads.is_inner(index) {
                node.output
                    .iter()
                    .for_each(|name| self.define(name, Slot::Poisoned, Some(&origin)));
                return;
            }
            if let Some((stored, weight)) = self.payloads.take(index) {
                self.compressed(node, &stored, &weight);
                return;
            }
        }
        let entry = ops::find(node.domain.as_deref().unwrap_or(""), &origin.op);
        let on_sequences = entry.filter(|e| matches!(e.lowering, Lowering::Sequence));
        let results = match on_sequences {
            Some(entry) => {
                let used = self.check_use(entry, node).map_err(Stop::Fault);
                used.and_then(|()| self.sequence(node, &origin))
                    .map(|slot| vec![slot])
            }
            None => {
                let values = self.lower(node, &origin, read);
                values.map(|values| values.into_iter().map(Slot::Value).collect())
            }
        };
        let results: Vec<Slot> = match results {
            Ok(slots) => slots,
            Err(Stop::Skip) => Vec::new(),
            Err(Stop::Fault(mut fault)) => {
                self.advise(&mut fault, node);
                let mut error = fault.at(Some(origin.clone()));
                error.operands = self.operand_texts(node);
                self.errors.push(error);
                Vec::new()
            }
        };
        let failed = results.is_empty();
        let mut results = results.into_iter();
        for (i, name) in node.output.iter().enumerate() {
            match results.next() {
                Some(slot) => self.define(name, slot, Some(&origin)),
                None => {
                    if !failed && !name.is_empty() && read.contains(name.as_str()) {
                        let text = format!("output {i} (`{name}`) is not supported");
                        self.fail(Fault::new(Code::Form, text), Some(origin.clone()));
                    }
                    self.define(name, Slot::Poisoned, Some(&origin));
                }
            }
        }
    }

    /// Binds the result of a node to the compressed weight that it amounts to.
    fn compressed(&mut self, node: &NodeProto, stored: &Stored, weight: &Origin) {
        let slot = match self.builder.stored_weight(stored, weight) {
            Ok(value) => Slot::Value(value),
            Err(fault) => {
                self.fail(fault, Some(weight.clone()));
                Slot::Poisoned
            }
        };
        if let Some(name) = node.output.first() {
            self.define(name, slot, Some(weight));
        }
    }

    /// Operands as `name: type`, as far as they are known.
    fn operand_texts(&self, node: &NodeProto) -> Vec<String> {
        let text = |name: &String| {
            let slot = self.scopes.iter().rev().find_map(|scope| scope.get(name));
            match slot {
                Some(Slot::Value(v)) => format!("{name}: {}", self.builder.graph.ty(*v)),
                _ => name.clone(),
            }
        };
        node.input.iter().filter(|n| !n.is_empty()).map(text).collect()
    }

    fn lower(
        &mut self,
        node: &NodeProto,
        origin: &Origin,
        read: &BTreeSet<&str>,
    ) -> Result<Vec<Value>, Stop> {
        let domain = node.domain.as_deref().unwrap_or("");
        let op = origin.op.as_str();
        let function = self.function_of(node);
        let entry = ops::find(domain, op);
        if entry.is_none() && function.is_none() {
            let fault = match ops::unbounded(op) {
                _ if !is_default_domain(domain) => {
                    let text = format!("operator {op} of domain `{domain}` is not supported");
                    let known = ops::domain(domain).unwrap_or_default();
                    let fault = Fault::new(Code::Domain, text);
                    match known.iter().map(|e| e.name).collect::<Vec<_>>().join(", ") {
                        none if none.is_empty() => fault,
                        list => fault.help(format!("of this domain there are {list}")),
                    }
                }
                Some(what) => Fault::new(
                    Code::DataDependent,
                    format!("operator {op} is not supported: {what}"),
                ),
                None => Fault::new(Code::Operator, format!("operator {op} is not supported")),
            };
            return Err(fault.into());
        }
        let inputs = self.operands(node)?;
        // A function the model brings is the operator's meaning for this model, whatever the name.
        if let Some(function) = function {
            return self.call(&function, node, origin, inputs);
        }
        let Some(entry) = entry else { return Ok(Vec::new()) };
        self.check_use(entry, node)?;
        let is_read: Vec<bool> = node.output.iter().map(|n| read.contains(n.as_str())).collect();
        let mut ctx = NodeCtx::new(
            &mut self.builder,
            node,
            origin.clone(),
            self.opset,
            inputs,
            is_read,
        );
        let values = match entry.lowering {
            Lowering::One(f) => vec![f(&mut ctx)?],
            Lowering::Many(f) => f(&mut ctx)?,
            Lowering::If => {
                let condition = ctx.input(0)?;
                return match ctx.known(condition).is_some() {
                    true => {
                        let taken = ctx.const_scalar(0, "condition")? != 0.0;
                        self.branch(node, origin, taken)
                    }
                    false => self.both_branches(node, origin, condition),
                };
            }
            Lowering::FlexAttention => {
                let inputs = ctx.into_inputs();
                return Ok(vec![self.flex_attention(node, origin, &inputs)?]);
            }
            Lowering::Loop => {
                let inputs = ctx.into_inputs();
                return self.unrolled_loop(node, origin, &inputs);
            }
            Lowering::Scan => {
                let inputs = ctx.into_inputs();
                return self.unrolled_scan(node, origin, &inputs);
            }
            // Done before operands are looked up, which are no tensors.
            Lowering::Sequence => return Err(Stop::Skip),
        };
        if ctx.opset < 6 {
            // Of in-place execution, which was the operators' own matter then.
            ctx.ignore(&["consumed_inputs"]);
        }
        let unknown = ctx.unknown_attributes();
        for name in &unknown {
            let text = format!("attribute `{name}` is not supported");
            self.fail(Fault::new(Code::Attribute, text), Some(origin.clone()));
        }
        if unknown.is_empty() {
            Ok(values)
        } else {
            Err(Stop::Skip)
        }
    }

    fn check_use(&self, entry: &Entry, node: &NodeProto) -> Result<(), Fault> {
        if self.opset < entry.since {
            let text = format!(
                "{} came with operator set {}, the model declares {}",
                entry.name, entry.since, self.opset
            );
            return Err(Fault::new(Code::NotInOpset, text));
        }
        let (least, most) = entry.operands;
        if node.input.len() < least || node.input.len() > most {
            let text = format!(
                "takes {least} to {most} operands, the node has {}",
                node.input.len()
            );
            return Err(Fault::new(Code::BadOperands, text));
        }
        let repeated = node.attribute.iter().enumerate();
        let repeated = repeated
            .into_iter()
            .find(|(i, a)| node.attribute[..*i].iter().any(|b| a.name == b.name));
        match repeated {
            Some((_, a)) => {
                let name = a.name.as_deref().unwrap_or("");
                Err(Fault::new(
                    Code::BadAttribute,
                    format!("attribute `{name}` is given twice"),
                ))
            }
            None => Ok(()),
        }
    }

    /// Values of a node's operands.
    fn operands(&mut self, node: &NodeProto) -> Result<Vec<Option<Value>>, Stop> {
        let mut values = Vec::with_capacity(node.input.len());
        let mut poisoned = false;
        for name in &node.input {
            if name.is_empty() {
                values.push(None);
                continue;
            }
            let value = self.lookup(name)?;
            poisoned |= value.is_none();
            values.push(value);
        }
        if poisoned { Err(Stop::Skip) } else { Ok(values) }
    }
}

/// Why a node has no results.
pub(crate) enum Stop {
    /// To be reported.
    Fault(Fault),
    /// Reported already, here or at what it depends on.
    Skip,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}
