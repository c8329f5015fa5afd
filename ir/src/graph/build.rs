//! Building and rewriting graphs.
//!
//! Passes do not mutate nodes in place: they walk a source graph and build a new one ([`Rewrite`]), which renumbers
//! values and drops what is dead as a by-product.

use super::infer::{InferError, infer};
use super::op::Constant;
use super::{Def, Graph, NodeData, Op, Origin, Port, TensorType, Value, ValueData};
use crate::Tensor;
use crate::entity::EntityId;

impl Graph {
    /// Appends a graph input.
    pub fn add_input(&mut self, name: impl Into<String>, ty: TensorType) -> Value {
        let value = self.values.push(ValueData {
            ty,
            def: Def::Input(self.inputs.len()),
        });
        self.inputs.push(Port {
            name: name.into(),
            value,
        });
        value
    }

    /// Declares a value to be a graph output.
    pub fn add_output(&mut self, name: impl Into<String>, value: Value) {
        self.outputs.push(Port {
            name: name.into(),
            value,
        });
    }

    /// Appends a constant node.
    pub fn add_constant(&mut self, tensor: Tensor, origins: Vec<Origin>) -> Value {
        let ty = TensorType::new(tensor.dtype(), tensor.shape());
        let weight = self.weights.add(tensor);
        self.push_node(Constant { weight }.into(), Vec::new(), vec![ty], origins)[0]
    }

    /// Appends a node with inferred result types.
    ///
    /// # Errors
    /// The operands do not fit the operator.
    pub fn add(&mut self, op: Op, inputs: &[Value], origins: Vec<Origin>) -> Result<Vec<Value>, InferError> {
        let types = {
            let operands: Vec<&TensorType> = inputs.iter().map(|&v| self.ty(v)).collect();
            infer(&op, &operands)?
        };
        Ok(self.push_node(op, inputs.to_vec(), types, origins))
    }

    /// As [`Graph::add`], for operators with one result.
    ///
    /// # Errors
    /// The operands do not fit the operator.
    pub fn add1(
        &mut self,
        op: impl Into<Op>,
        inputs: &[Value],
        origins: Vec<Origin>,
    ) -> Result<Value, InferError> {
        Ok(self.add(op.into(), inputs, origins)?[0])
    }

    /// Appends a node whose result types the caller knows. The verifier holds them against inference.
    pub fn push_node(
        &mut self,
        op: Op,
        inputs: Vec<Value>,
        types: Vec<TensorType>,
        origins: Vec<Origin>,
    ) -> Vec<Value> {
        let node = super::Node::new(self.nodes.len());
        let outputs: Vec<Value> = types
            .into_iter()
            .enumerate()
            .map(|(i, ty)| {
                self.values.push(ValueData {
                    ty,
                    def: Def::Node(node, i),
                })
            })
            .collect();
        self.nodes.push(NodeData {
            op,
            inputs,
            outputs: outputs.clone(),
            origins,
        });
        outputs
    }

    /// Sets the layout of a value (the layout pass only).
    pub fn set_layout(&mut self, value: Value, layout: super::Layout) {
        self.values[value].ty.layout = layout;
    }

    /// Nodes from which some output can be reached, by node index.
    pub fn live_nodes(&self) -> Vec<bool> {
        let mut live = vec![false; self.nodes.len()];
        let mut wanted: Vec<Value> = self.outputs.iter().map(|p| p.value).collect();
        while let Some(v) = wanted.pop() {
            if let Some(n) = self.def_node(v)
                && !std::mem::replace(&mut live[n.index()], true)
            {
                wanted.extend(&self.nodes[n].inputs);
            }
        }
        live
    }

    /// The graph without dead nodes and unused weights, renumbered in order. Inputs stay even if unused.
    pub fn compact(&self) -> Graph {
        let live = self.live_nodes();
        let mut rewrite = Rewrite::new(self);
        for n in self.nodes.ids().filter(|n| live[n.index()]) {
            rewrite.copy(n);
        }
        rewrite.finish()
    }
}

/// A graph being built from another one. Inputs are copied at the start; then, in source order, each node is either
/// copied or replaced (by mapping its results to new values).
#[derive(Debug)]
pub struct Rewrite<'a> {
    /// Source.
    pub src: &'a Graph,
    /// Destination.
    pub dst: Graph,
    map: Vec<Option<Value>>,
}

impl<'a> Rewrite<'a> {
    /// Starts with the source's inputs.
    pub fn new(src: &'a Graph) -> Self {
        let mut dst = Graph::new(src.name.clone());
        let mut map = vec![None; src.values.len()];
        for p in &src.inputs {
            map[p.value.index()] = Some(dst.add_input(p.name.clone(), src.ty(p.value).clone()));
        }
        Self { src, dst, map }
    }

    /// The destination value of a source value. Panics if its node was neither copied nor replaced yet: a bug in the pass.
    pub fn get(&self, value: Value) -> Value {
        self.map[value.index()].expect("operands are rewritten before their users")
    }

    /// The destination values of several source values.
    pub fn get_all(&self, values: &[Value]) -> Vec<Value> {
        values.iter().map(|&v| self.get(v)).collect()
    }

    /// Declares which destination value stands for a source value.
    pub fn set(&mut self, value: Value, new: Value) {
        self.map[value.index()] = Some(new);
    }

    /// Copies a source node, types and layouts kept.
    pub fn copy(&mut self, node: super::Node) {
        let data = &self.src.nodes[node];
        let op = match &data.op {
            Op::Constant(c) => Constant {
                weight: self.dst.weights.adopt(&self.src.weights, c.weight),
            }
            .into(),
            op => op.clone(),
        };
        let inputs = self.get_all(&data.inputs);
        let types = data.outputs.iter().map(|&v| self.src.ty(v).clone()).collect();
        let outputs = self.dst.push_node(op, inputs, types, data.origins.clone());
        for (&old, new) in data.outputs.iter().zip(outputs) {
            self.set(old, new);
        }
    }

    /// Maps the outputs and returns the destination.
    pub fn finish(mut self) -> Graph {
        for p in &self.src.outputs {
            let value = self.get(p.value);
            self.dst.add_output(p.name.clone(), value);
        }
        self.dst
    }
}
