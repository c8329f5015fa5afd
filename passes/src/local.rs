//! Local rewriting: rules applied node by node, in topological order, to a growing copy of the graph.
//!
//! A rule sees one node whose operands are already rewritten, and answers with a value or another node to put in its
//! place. It never changes nodes already emitted: fusing a node into its producer emits the fused node here, and the
//! producer, now unread, disappears in [`Graph::compact`]. Thus operands always precede their users.

use crate::pass::{Ctx, PassError};
use sdc_ir::entity::EntityId;
use sdc_ir::graph::build::Rewrite;
use sdc_ir::graph::{Graph, Node, NodeData, Op, Origin, TensorType, Value};
use std::collections::BTreeMap;

/// The node under consideration, and the graph emitted so far.
pub struct Site<'a> {
    /// Destination: everything before this node.
    pub graph: &'a mut Graph,
    /// Operator.
    pub op: &'a Op,
    /// Operands, in the destination.
    pub inputs: &'a [Value],
    /// Origins of the node.
    pub origins: &'a [Origin],
    /// Type of its result.
    pub ty: &'a TensorType,
    uses: &'a [usize],
    budget: &'a mut Budget,
}

/// What the rules may spend on computing constants in one walk over a graph. In proportion to the model's own
/// constants, so that a long chain of large constant expressions takes neither hours nor all memory.
struct Budget {
    bytes: usize,
    steps: usize,
}

impl Budget {
    fn new(graph: &Graph) -> Self {
        let bytes: usize = graph.weights.iter().map(|(_, _, t)| t.bytes().len()).sum();
        Self {
            bytes: bytes.saturating_mul(3).saturating_add(16 << 20),
            steps: bytes.saturating_mul(4).saturating_add(64 << 20),
        }
    }
}

impl Site<'_> {
    /// The node that computes operand `i`, unless it is a graph input.
    pub fn producer(&self, i: usize) -> Option<&NodeData> {
        self.graph
            .def_node(*self.inputs.get(i)?)
            .map(|n| &self.graph.nodes()[n])
    }
    /// Type of operand `i`.
    pub fn operand(&self, i: usize) -> &TensorType {
        self.graph.ty(self.inputs[i])
    }
    /// Takes from the budget for computed constants.
    ///
    /// # Errors
    /// The reason to give if too little is left.
    pub fn spend(&mut self, bytes: usize, steps: usize) -> Result<(), String> {
        let left = |have: usize, wanted: usize| have.checked_sub(wanted);
        match (left(self.budget.bytes, bytes), left(self.budget.steps, steps)) {
            (Some(bytes), Some(steps)) => {
                *self.budget = Budget { bytes, steps };
                Ok(())
            }
            _ => Err("too much work on constants for the compiler".into()),
        }
    }
    /// The same place with another node.
    pub fn with<'s>(&'s mut self, op: &'s Op, inputs: &'s [Value], ty: &'s TensorType) -> Site<'s> {
        Site {
            graph: self.graph,
            op,
            inputs,
            origins: self.origins,
            ty,
            uses: self.uses,
            budget: self.budget,
        }
    }
    /// How many operands and graph outputs of the source are this destination value.
    pub fn uses(&self, value: Value) -> usize {
        self.uses.get(value.index()).copied().unwrap_or(0)
    }
}

/// What takes a node's place.
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
#[derive(Debug)]
pub enum Patch {
    /// A value of the destination.
    Value(Value),
    /// Another node; the rules are tried on it again.
    Node(Op, Vec<Value>, Vec<Origin>),
}

/// A rule's answer.
#[derive(Debug)]
pub enum Outcome {
    /// The rule is not about such nodes.
    NoMatch,
    /// The rule is about such nodes, but not this one, for this reason.
    Declined(String),
    /// Rewritten.
    Applied(Patch),
}

impl Outcome {
    /// A replacement by an existing value.
    pub fn value(value: Value) -> Self {
        Outcome::Applied(Patch::Value(value))
    }
    /// A replacement by another node.
    pub fn node(op: impl Into<Op>, inputs: &[Value], origins: Vec<Origin>) -> Self {
        Outcome::Applied(Patch::Node(op.into(), inputs.to_vec(), origins))
    }
}

/// A named local rewrite.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Name in remarks.
    pub name: &'static str,
    /// The rewrite.
    pub apply: fn(&mut Site<'_>) -> Outcome,
}

/// How often one node may be rewritten before the rules are taken to undo each other.
const MAX_REWRITES: usize = 64;

/// Applies rules to every node of a graph once, in order; the first rule that applies wins. Equal nodes are merged if
/// `merge_equal`. Returns the new graph, compacted, and the number of rewrites.
///
/// # Errors
/// A rule built a node that does not fit (a bug in the rule).
pub fn apply(
    graph: &Graph,
    rules: &[Rule],
    merge_equal: bool,
    ctx: &mut Ctx,
) -> Result<(Graph, usize), PassError> {
    let mut source_uses = vec![0; graph.values().len()];
    for node in graph.nodes().values() {
        for v in &node.inputs {
            source_uses[v.index()] += 1;
        }
    }
    for p in &graph.outputs {
        source_uses[p.value.index()] += 1;
    }
    let mut local = Local {
        rewrite: Rewrite::new(graph),
        rules,
        uses: Vec::new(),
        source_uses,
        budget: Budget::new(graph),
        emitted: merge_equal.then(BTreeMap::new),
        count: 0,
        ctx,
    };
    for p in &graph.inputs {
        local.note_uses(p.value);
    }
    for n in graph.nodes().ids() {
        local.node(n)?;
    }
    Ok((local.rewrite.finish().compact(), local.count))
}

struct Local<'a, 'c> {
    rewrite: Rewrite<'a>,
    rules: &'a [Rule],
    /// Per destination value: reads by the source of the values it stands for.
    uses: Vec<usize>,
    source_uses: Vec<usize>,
    budget: Budget,
    /// Emitted nodes by operator and operands, constants by digest; `None` if equal nodes are to stay.
    emitted: Option<BTreeMap<String, Value>>,
    count: usize,
    ctx: &'c mut Ctx,
}

impl Local<'_, '_> {
    fn node(&mut self, n: Node) -> Result<(), PassError> {
        let src = self.rewrite.src;
        let data = &src.nodes()[n];
        let &[result] = data.outputs.as_slice() else {
            self.rewrite.copy(n);
            data.outputs.iter().for_each(|&v| self.note_uses(v));
            return Ok(());
        };
        if let Op::Constant(c) = &data.op {
            let key = format!("Constant {}", src.weights.digest(c.weight));
            let known = self.emitted.as_ref().and_then(|e| e.get(&key)).copied();
            match known {
                Some(value) => self.rewrite.set(result, value),
                None => self.rewrite.copy(n),
            }
            if let Some(emitted) = &mut self.emitted {
                emitted.insert(key, self.rewrite.get(result));
            }
            self.note_uses(result);
            return Ok(());
        }
        let ty = src.ty(result).clone();
        let mut inputs = self.rewrite.get_all(&data.inputs);
        let mut op = data.op.clone();
        let mut origins = data.origins.clone();
        let mut last = None;
        for _ in 0..MAX_REWRITES {
            match self.first_match(&op, &inputs, &origins, &ty) {
                None => {
                    let value = self.emit(n, op, inputs, origins, last)?;
                    return self.settle(result, value, last);
                }
                Some((rule, patch)) => {
                    self.count += 1;
                    last = Some(rule);
                    match patch {
                        Patch::Value(value) => return self.settle(result, value, last),
                        Patch::Node(o, i, or) => (op, inputs, origins) = (o, i, or),
                    }
                }
            }
        }
        Err(PassError::Endless {
            rule: last.unwrap_or_default(),
            origins,
        })
    }

    fn first_match(
        &mut self,
        op: &Op,
        inputs: &[Value],
        origins: &[Origin],
        ty: &TensorType,
    ) -> Option<(&'static str, Patch)> {
        for rule in self.rules {
            let mut site = Site {
                graph: &mut self.rewrite.dst,
                op,
                inputs,
                origins,
                ty,
                uses: &self.uses,
                budget: &mut self.budget,
            };
            match (rule.apply)(&mut site) {
                Outcome::NoMatch => {}
                Outcome::Declined(reason) => self.ctx.not_done(rule.name, origins, reason),
                Outcome::Applied(patch) => {
                    let involved = match &patch {
                        Patch::Node(_, _, all) => all,
                        Patch::Value(_) => origins,
                    };
                    self.ctx.remark(rule.name, involved, "");
                    return Some((rule.name, patch));
                }
            }
        }
        None
    }

    /// Emits the node, or finds an equal one.
    fn emit(
        &mut self,
        n: Node,
        op: Op,
        inputs: Vec<Value>,
        origins: Vec<Origin>,
        last: Option<&'static str>,
    ) -> Result<Value, PassError> {
        let src = self.rewrite.src;
        let data = &src.nodes()[n];
        // `Debug` of an operator spells out every attribute, floats so that they read back to the same bits.
        let key = format!("{op:?}{inputs:?}");
        if let Some(emitted) = &self.emitted
            && let Some(&value) = emitted.get(&key)
            && self.rewrite.dst.ty(value) == src.ty(data.outputs[0])
        {
            self.count += 1;
            self.ctx
                .remark("merge_equal", &origins, format!("the same as {value}"));
            return Ok(value);
        }
        let value = match last {
            None => {
                self.rewrite.copy(n);
                self.rewrite.get(data.outputs[0])
            }
            Some(rule) => {
                let added = self.rewrite.dst.add1(op, &inputs, origins.clone());
                added.map_err(|error| PassError::Infer {
                    rule,
                    origins,
                    error: Box::new(error),
                })?
            }
        };
        if let Some(emitted) = &mut self.emitted {
            emitted.insert(key, value);
        }
        Ok(value)
    }

    fn settle(&mut self, source: Value, value: Value, rule: Option<&'static str>) -> Result<(), PassError> {
        let (from, to) = (self.rewrite.src.ty(source), self.rewrite.dst.ty(value));
        if from != to {
            let origins = self
                .rewrite
                .src
                .def_node(source)
                .map(|n| self.rewrite.src.nodes()[n].origins.clone());
            return Err(PassError::TypeChanged {
                rule: rule.unwrap_or("merge_equal"),
                origins: origins.unwrap_or_default(),
                from: from.to_string(),
                to: to.to_string(),
            });
        }
        self.rewrite.set(source, value);
        self.note_uses(source);
        Ok(())
    }

    fn note_uses(&mut self, source: Value) {
        let value = self.rewrite.get(source);
        self.uses.resize(self.uses.len().max(value.index() + 1), 0);
        self.uses[value.index()] += self.source_uses[source.index()];
    }
}
