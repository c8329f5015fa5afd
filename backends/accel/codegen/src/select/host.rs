//! What the host does: graphs of their own between the parts.

use super::Selection;
use super::classify::Who;
use crate::net::MapId;
use sdc_accel_isa::{HostStep, Place};
use sdc_ir::entity::EntityId;
use sdc_ir::graph::op::Constant;
use sdc_ir::graph::{Graph, Node, Op, Port, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Where in DRAM a value lies: channels of a map from one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// The map.
    pub map: MapId,
    /// The first channel.
    pub channel: usize,
}

impl Selection {
    /// Where a value is for the host.
    pub fn place(&self, graph: &Graph, v: Value, addresses: &[Option<u32>]) -> Place {
        match self.boundary[v.index()] {
            Some(Boundary { map, channel }) => {
                let plane = self.net.maps[map].h * self.net.maps[map].w;
                let address = addresses[self.net.root(map)].unwrap_or(0);
                Place::Dram(address + (channel * plane) as u32)
            }
            None => Place::Host(name(graph, v)),
        }
    }

    /// The steps of the host, in their order.
    pub fn steps(&self, graph: &Graph, addresses: &[Option<u32>]) -> Vec<HostStep> {
        let mut stages: BTreeMap<u32, Vec<Node>> = BTreeMap::new();
        for n in graph.nodes().ids() {
            if matches!(self.who[n.index()], Who::Host(_)) {
                stages.entry(self.stages[n.index()]).or_default().push(n);
            }
        }
        stages
            .into_iter()
            .map(|(stage, nodes)| self.step(graph, stage / 2, &nodes, addresses))
            .collect()
    }

    fn step(&self, graph: &Graph, part: u32, nodes: &[Node], addresses: &[Option<u32>]) -> HostStep {
        let mut step = Graph::new(format!("step before part {part}"));
        let mut map: BTreeMap<Value, Value> = BTreeMap::new();
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        let inside: BTreeSet<Value> = nodes
            .iter()
            .flat_map(|&n| graph.nodes()[n].outputs.iter().copied())
            .collect();
        let reads = nodes
            .iter()
            .flat_map(|&n| graph.nodes()[n].inputs.iter().copied());
        for v in reads.filter(|v| !inside.contains(v)) {
            let constant = graph
                .def_node(v)
                .is_some_and(|n| self.who[n.index()] == Who::Constant);
            if !constant && !map.contains_key(&v) {
                map.insert(v, step.add_input(name(graph, v), graph.ty(v).clone()));
                inputs.push(self.place(graph, v, addresses));
            }
        }
        for &n in nodes {
            copy(graph, n, &mut step, &mut map);
        }
        let read_by: BTreeSet<Value> = graph
            .nodes()
            .iter()
            .filter(|(n, _)| !nodes.contains(n))
            .flat_map(|(_, data)| data.inputs.iter().copied())
            .collect();
        for &v in &inside {
            if read_by.contains(&v) || graph.is_output(v) {
                step.add_output(name(graph, v), map[&v]);
                outputs.push(self.place(graph, v, addresses));
            }
        }
        HostStep::new(part, &step, inputs, outputs)
    }
}

/// Copies a node and the constants it reads.
fn copy(graph: &Graph, n: Node, step: &mut Graph, map: &mut BTreeMap<Value, Value>) {
    let data = &graph.nodes()[n];
    for &v in &data.inputs {
        if let (false, Some(d)) = (map.contains_key(&v), graph.def_node(v)) {
            copy(graph, d, step, map);
        }
    }
    let op = match &data.op {
        Op::Constant(c) => Constant {
            weight: step.weights.adopt(&graph.weights, c.weight),
        }
        .into(),
        op => op.clone(),
    };
    let inputs = data.inputs.iter().map(|v| map[v]).collect();
    let types = data.outputs.iter().map(|&v| graph.ty(v).clone()).collect();
    let results = step.push_node(op, inputs, types, data.origins.clone());
    map.extend(data.outputs.iter().copied().zip(results));
}

/// A value's name with the host, which no other value has: the caller's, unless an input is called so, or one that no caller uses.
fn name(graph: &Graph, v: Value) -> String {
    let of = |ports: &[Port], name: &str| ports.iter().any(|p| p.name == name);
    if let Some(port) = graph.inputs.iter().find(|p| p.value == v) {
        return port.name.clone();
    }
    let free = |p: &&Port| p.value == v && !of(&graph.inputs, &p.name);
    if let Some(port) = graph.outputs.iter().find(free) {
        return port.name.clone();
    }
    let mut name = v.to_string();
    while of(&graph.inputs, &name) || of(&graph.outputs, &name) {
        name.insert(0, '%');
    }
    name
}
