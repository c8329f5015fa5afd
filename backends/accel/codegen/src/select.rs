//! From a graph to layers of the machine and steps of the host.
//!
//! Parts of the program and steps of the host take turns: the host's stages have even numbers, the machine's odd ones, and a node's stage is
//! the least that comes after those of what it reads. What passes between stages goes through DRAM. Slices, borders of channels and reshapes
//! are views and cost nothing; concatenations are places in a map; an operator of VE that alone reads a convolution's result follows in its slot.

pub mod classify;
mod host;
mod layers;
mod spread;
mod values;

pub use host::Boundary;

use crate::error::AccelError;
use crate::net::{Net, Operand};
use classify::{Who, classify, origin};
use sdc_accel_isa::Config;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::{Graph, Node, Op, Value};

/// A network shared out.
#[derive(Debug)]
pub struct Selection {
    /// The machine's share.
    pub net: Net,
    /// Of each value the map that holds it in DRAM and the first channel, if the host or the caller reads or writes it.
    pub boundary: Vec<Option<Boundary>>,
    /// Who computes each node.
    pub who: Vec<Who>,
    /// The stage of each node.
    pub stages: Vec<u32>,
    /// Number of parts.
    pub parts: u32,
}

/// State of the selection.
struct Selector<'a> {
    graph: &'a Graph,
    config: &'a Config,
    who: Vec<Who>,
    stages: Vec<u32>,
    uses: Vec<Vec<Node>>,
    net: Net,
    /// Of each value how the machine reads it, once it does.
    operands: Vec<Option<Operand>>,
    /// Of each value the concatenation it is a part of, and its first channel there.
    parents: Vec<Option<(Value, usize)>>,
    /// Of each node the operator in whose layer it is computed.
    absorbed: Vec<Option<Node>>,
    boundary: Vec<Option<Boundary>>,
    part: u32,
    layer_origin: String,
}

/// Shares a network out.
///
/// # Errors
/// Everything that neither machine nor host can do.
pub fn select(graph: &Graph, config: &Config) -> Result<Selection, Vec<AccelError>> {
    let who = classify(graph)?;
    let stages = stages(graph, &who);
    let mut s = Selector {
        uses: graph.uses(),
        operands: vec![None; graph.values().len()],
        parents: vec![None; graph.values().len()],
        absorbed: vec![None; graph.nodes().len()],
        boundary: vec![None; graph.values().len()],
        net: Net::default(),
        graph,
        config,
        who,
        stages,
        part: 0,
        layer_origin: String::new(),
    };
    s.find_parents();
    s.find_chains();
    let mut nodes: Vec<Node> = graph
        .nodes()
        .ids()
        .filter(|&n| s.who[n.index()] == Who::Machine)
        .collect();
    nodes.sort_by_key(|&n| (s.stages[n.index()], n));
    for n in nodes {
        s.part = s.stages[n.index()] / 2;
        s.layer_origin = origin(&graph.nodes()[n]);
        s.node(n);
    }
    let parts = s.net.layers.last().map_or(0, |l| l.part + 1);
    Ok(Selection {
        net: s.net,
        boundary: s.boundary,
        who: s.who,
        stages: s.stages,
        parts,
    })
}

fn stages(graph: &Graph, who: &[Who]) -> Vec<u32> {
    let mut stages: Vec<u32> = Vec::new();
    for (n, data) in graph.nodes().iter() {
        let machine = who[n.index()] == Who::Machine;
        let mut stage = u32::from(machine);
        for &v in &data.inputs {
            let Some(d) = graph.def_node(v) else { continue };
            if who[d.index()] == Who::Constant {
                continue;
            }
            let theirs = stages[d.index()];
            let other = (who[d.index()] == Who::Machine) != machine;
            stage = stage.max(theirs + u32::from(other));
        }
        stages.push(stage);
    }
    stages
}

impl Selector<'_> {
    fn is_machine(&self, v: Value) -> bool {
        self.graph
            .def_node(v)
            .is_some_and(|n| self.who[n.index()] == Who::Machine)
    }

    fn is_constant(&self, v: Value) -> bool {
        self.graph
            .def_node(v)
            .is_some_and(|n| self.who[n.index()] == Who::Constant)
    }

    fn stage_of(&self, v: Value) -> Option<u32> {
        self.graph.def_node(v).map(|n| self.stages[n.index()])
    }

    /// True if the host, the caller or another part needs this value of the machine in DRAM.
    fn leaves(&self, v: Value) -> bool {
        let own = self.stage_of(v);
        let elsewhere = |u: &Node| Some(self.stages[u.index()]) != own;
        self.graph.is_output(v) || self.uses[v.index()].iter().any(elsewhere)
    }

    /// Results that are written into a concatenation directly.
    fn find_parents(&mut self) {
        for (n, data) in self.graph.nodes().iter() {
            if !matches!(data.op, Op::Concat(_)) || self.who[n.index()] != Who::Machine {
                continue;
            }
            let whole = data.outputs[0];
            let mut channel = 0;
            for &v in &data.inputs {
                let same_part = self.stage_of(v) == self.stage_of(whole);
                if self.computes(v) && same_part && self.parents[v.index()].is_none() {
                    self.parents[v.index()] = Some((whole, channel));
                }
                channel += classify::shape_of(self.graph, v).unwrap_or_default()[0];
            }
        }
    }

    /// True if a value is computed by the machine rather than another's seen in another way.
    fn computes(&self, v: Value) -> bool {
        let Some(n) = self.graph.def_node(v) else {
            return false;
        };
        let op = &self.graph.nodes()[n].op;
        let view = matches!(op, Op::Slice(_) | Op::Pad(_) | Op::Reshape(_) | Op::Transpose(_));
        self.who[n.index()] == Who::Machine && !view
    }

    /// Operators of VE that alone read a convolution's result are computed with it, and those that alone read theirs.
    fn find_chains(&mut self) {
        for (n, data) in self.graph.nodes().iter() {
            let follows = matches!(data.op, Op::QLinearAdd(_) | Op::QLinearMul(_) | Op::Lookup(_));
            if !follows || self.who[n.index()] != Who::Machine {
                continue;
            }
            let operands = match data.op {
                Op::Lookup(_) => &data.inputs[..1],
                _ => &data.inputs[..],
            };
            let heads = operands.iter().filter(|&&v| self.heads(v, n));
            // Of two convolutions the later one.
            let head = heads.filter_map(|&v| self.graph.def_node(v)).max();
            if let Some(head) = head {
                self.absorbed[head.index()] = Some(n);
            }
        }
    }

    /// True if a value is a convolution's, perhaps with operators after it, that only `user` reads.
    fn heads(&self, v: Value, user: Node) -> bool {
        let Some(n) = self.graph.def_node(v) else {
            return false;
        };
        let data = &self.graph.nodes()[n];
        let own = match &data.op {
            Op::QLinearConv(op) => op.shift > 0,
            _ => self.absorbed.contains(&Some(n)),
        };
        let shape = |v: Value| classify::shape_of(self.graph, v);
        own && self.who[n.index()] == Who::Machine
            && self.uses[v.index()] == [user]
            && !self.graph.is_output(v)
            && self.stages[n.index()] == self.stages[user.index()]
            && shape(v) == shape(self.graph.nodes()[user].outputs[0])
    }
}
