//! Where each graph value lives: its buffer, offset and strides.
//!
//! A value is *stored* (it has a buffer of its own), a *view* (of another value's bytes), a *part* (a Concat operand
//! written straight into its place in the result), or *inlined* (computed inside its only consumer's loop and never
//! stored).

use super::nest::Ref;
use super::{elementwise, quantised_elementwise};
use sdc_ir::entity::EntityId;
use sdc_ir::graph::{Graph, Node, Op, TensorType, Value};
use sdc_ir::tile::{Buffer, BufferData, BufferKind, Module};

/// Most operators computed in one element-wise loop.
const MAX_INLINED: usize = 24;

/// The place of every value of a graph. Constants get theirs on demand.
#[derive(Debug)]
pub struct Storage {
    refs: Vec<Option<Ref>>,
    inlined: Vec<bool>,
    /// Graph outputs that need a copy from another value's buffer: (output position, source).
    pub copies: Vec<(usize, Value)>,
}

impl Storage {
    /// Decides the place of every value and adds the buffers to the module.
    pub fn assign(graph: &Graph, module: &mut Module) -> Self {
        let uses = graph.uses();
        let inlined = inline(graph, &uses);
        let mut storage = Self {
            refs: vec![None; graph.values().len()],
            inlined,
            copies: Vec::new(),
        };
        for (i, port) in graph.inputs.iter().enumerate() {
            storage.store(graph, module, port.value, BufferKind::Input(i), &port.name);
        }
        // Outputs first claim the values they are views of, so that their producers write to the caller's memory.
        for (i, port) in graph.outputs.iter().enumerate() {
            let root = view_root(graph, port.value);
            let is_result = graph
                .def_node(root)
                .is_some_and(|n| !matches!(graph.nodes()[n].op, Op::Constant(_) | Op::Rebuild(_)));
            if is_result && storage.refs[root.index()].is_none() {
                storage.store(graph, module, root, BufferKind::Output(i), &port.name);
            } else {
                storage.copies.push((i, port.value));
            }
        }
        // Users before producers, so that the place of a Concat is known when its operands are placed.
        for (node, data) in graph.nodes().iter().rev() {
            for &v in &data.outputs {
                let own = view_of(graph, node).is_none() && !matches!(data.op, Op::Constant(_));
                if !own || storage.inlined[v.index()] || storage.refs[v.index()].is_some() {
                    continue;
                }
                if matches!(data.op, Op::Rebuild(_)) {
                    // Filled when the model is loaded, if any function reads it.
                    storage.store(graph, module, v, BufferKind::Prepared, &v.to_string());
                    continue;
                }
                match part_of(graph, &uses, v) {
                    Some((concat, at, axis)) => {
                        let result = graph.nodes()[concat].outputs[0];
                        let place = storage.refs[result.index()].clone();
                        storage.refs[v.index()] =
                            place.map(|whole| whole.narrow(axis, at, at + graph.ty(v).sizes()[axis]));
                    }
                    None => {
                        let name = v.to_string();
                        storage.store(graph, module, v, BufferKind::Temp, &name);
                    }
                }
            }
        }
        for (node, data) in graph.nodes().iter() {
            if let Some(source) = view_of(graph, node) {
                let base = storage.refs[source.index()].clone();
                storage.refs[data.outputs[0].index()] =
                    base.map(|base| dense(graph.ty(data.outputs[0]), base.buffer));
            }
        }
        storage
    }

    fn store(&mut self, graph: &Graph, module: &mut Module, value: Value, kind: BufferKind, name: &str) {
        let ty = graph.ty(value);
        let len = ty.elements().unwrap_or(0);
        let buffer = module.buffers.push(BufferData {
            dtype: ty.dtype,
            len,
            kind,
            name: name.to_owned(),
        });
        self.refs[value.index()] = Some(dense(ty, buffer));
    }

    /// Place of a value that is neither a constant nor inlined.
    pub fn get(&self, value: Value) -> Option<&Ref> {
        self.refs[value.index()].as_ref()
    }

    /// Records the place of a constant.
    pub fn set(&mut self, value: Value, place: Ref) {
        self.refs[value.index()] = Some(place);
    }

    /// True if the value is computed inside its consumer.
    pub fn is_inlined(&self, value: Value) -> bool {
        self.inlined[value.index()]
    }
}

/// A dense tensor of this type at the start of a buffer.
pub fn dense(ty: &TensorType, buffer: Buffer) -> Ref {
    let strides = ty.strides().into_iter().map(|s| s as i64).collect();
    Ref {
        buffer,
        offset: 0,
        strides,
        shape: ty.sizes().to_vec(),
    }
}

/// True if both types place each element at the same index.
pub fn same_bytes(a: &TensorType, b: &TensorType) -> bool {
    let (x, y) = (a.strides(), b.strides());
    a.sizes() == b.sizes() && (0..a.rank()).all(|d| a.sizes()[d] == 1 || x[d] == y[d])
}

/// The operand whose bytes a node's result shares, if the node moves nothing. Views of constants are not views:
/// constants have no place of their own until someone reads them.
pub fn view_of(graph: &Graph, node: Node) -> Option<Value> {
    let data = &graph.nodes()[node];
    let source = *data.inputs.first()?;
    let view = match &data.op {
        // The layout pass made sure of it.
        Op::Transpose(_) | Op::Reshape(_) => true,
        Op::Relayout(_) => same_bytes(graph.ty(source), graph.ty(data.outputs[0])),
        _ => false,
    };
    (view && graph.constant(source).is_none()).then_some(source)
}

fn view_root(graph: &Graph, mut value: Value) -> Value {
    while let Some(source) = graph.def_node(value).and_then(|n| view_of(graph, n)) {
        value = source;
    }
    value
}

/// If the value may be written straight into a Concat: that node, and where its part begins along which dimension.
fn part_of(graph: &Graph, uses: &[Vec<Node>], value: Value) -> Option<(Node, usize, usize)> {
    let [user] = uses[value.index()].as_slice() else {
        return None;
    };
    let data = &graph.nodes()[*user];
    let Op::Concat(concat) = &data.op else { return None };
    if graph.is_output(value) || graph.ty(value).layout != graph.ty(data.outputs[0]).layout {
        return None;
    }
    let before = data
        .inputs
        .iter()
        .take_while(|&&v| v != value)
        .map(|&v| graph.ty(v).sizes()[concat.axis])
        .sum();
    Some((*user, before, concat.axis))
}

/// Which values are computed inside their only consumer: element-wise results of the consumer's shape, but for those
/// that a kernel computes.
fn inline(graph: &Graph, uses: &[Vec<Node>]) -> Vec<bool> {
    let mut inlined = vec![false; graph.values().len()];
    let mut weight = vec![0usize; graph.values().len()];
    for (node, data) in graph.nodes().iter() {
        let result = data.outputs[0];
        if !elementwise::is_elementwise(&data.op) {
            continue;
        }
        weight[result.index()] = 1;
        // Kernels of integer operators read their operands from memory.
        let kernel =
            quantised_elementwise::root(graph, node, &|_| false).is_some_and(|root| root.is_integer());
        for &v in data.inputs.iter().filter(|_| !kernel) {
            let candidate = weight[v.index()] > 0
                && uses[v.index()].len() == 1
                && !graph.is_output(v)
                && graph.ty(v).sizes() == graph.ty(result).sizes()
                && weight[result.index()] + weight[v.index()] <= MAX_INLINED;
            if candidate {
                inlined[v.index()] = true;
                weight[result.index()] += weight[v.index()];
            }
        }
        if quantised_elementwise::root(graph, node, &|v| inlined[v.index()]).is_some() {
            // No part of a loop.
            weight[result.index()] = 0;
        }
    }
    inlined
}
