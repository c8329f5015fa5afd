//! The places of values in memory, as a schedule has them: buffer, offset and strides.

use super::nest::Ref;
use sdc_ir::entity::{Arena, EntityId};
use sdc_ir::graph::{Graph, Node, Op, TensorType, Value};
use sdc_ir::schedule::Storage;
use sdc_ir::tile::{Buffer, BufferData, BufferKind};

/// A graph and where its values lie.
#[derive(Debug)]
pub struct Scene<'g> {
    /// The graph.
    pub graph: &'g Graph,
    /// Its values' storage.
    storage: &'g Arena<Value, Storage>,
    refs: Vec<Option<Ref>>,
}

impl<'g> Scene<'g> {
    /// The places of all values, and the buffers that hold them.
    pub fn new(graph: &'g Graph, storage: &'g Arena<Value, Storage>) -> (Self, Arena<Buffer, BufferData>) {
        let mut scene = Self {
            graph,
            storage,
            refs: vec![None; graph.values().len()],
        };
        let mut buffers = Arena::new();
        for (i, port) in graph.inputs.iter().enumerate() {
            scene.store(&mut buffers, port.value, BufferKind::Input(i), &port.name);
        }
        let mut outputs: Vec<(usize, Value)> = storage
            .iter()
            .filter_map(|(v, s)| match s {
                Storage::Output(i) => Some((*i, v)),
                _ => None,
            })
            .collect();
        outputs.sort_unstable();
        for (i, value) in outputs {
            scene.store(&mut buffers, value, BufferKind::Output(i), &graph.outputs[i].name);
        }
        // Users before producers, so that the place of a Concat is known when its operands are placed.
        for (_, data) in graph.nodes().iter().rev() {
            for &v in &data.outputs {
                match storage[v] {
                    Storage::Arena => scene.store(&mut buffers, v, BufferKind::Temp, &v.to_string()),
                    Storage::Prepared => scene.store(&mut buffers, v, BufferKind::Prepared, &v.to_string()),
                    Storage::Part(of) => scene.refs[v.index()] = scene.part(v, of),
                    _ => {}
                }
            }
        }
        for (v, place) in storage.iter() {
            if let Storage::View(of) = place {
                let base = scene.refs[of.index()].as_ref();
                scene.refs[v.index()] = base.map(|base| dense(graph.ty(v), base.buffer));
            }
        }
        (scene, buffers)
    }

    fn store(&mut self, buffers: &mut Arena<Buffer, BufferData>, value: Value, kind: BufferKind, name: &str) {
        let ty = self.graph.ty(value);
        let buffer = buffers.push(BufferData {
            dtype: ty.dtype,
            len: ty.elements().unwrap_or(0),
            kind,
            name: name.to_owned(),
        });
        self.refs[value.index()] = Some(dense(ty, buffer));
    }

    /// The place within the result of the Concat that reads the value.
    fn part(&self, value: Value, of: Value) -> Option<Ref> {
        let data = &self.graph.nodes()[self.graph.def_node(of)?];
        let Op::Concat(concat) = &data.op else { return None };
        let size = |v: Value| self.graph.ty(v).sizes()[concat.axis];
        let before: usize = data
            .inputs
            .iter()
            .take_while(|&&v| v != value)
            .map(|&v| size(v))
            .sum();
        let whole = self.refs[of.index()].as_ref()?;
        Some(whole.narrow(concat.axis, before, before + size(value)))
    }

    /// The place of a value. A constant's is in no buffer yet.
    pub fn place(&self, value: Value) -> Ref {
        match &self.refs[value.index()] {
            Some(place) => place.clone(),
            None => dense(self.graph.ty(value), Buffer::new(u32::MAX as usize)),
        }
    }

    /// The place of a value that lies in a buffer; `None` for constants and values that are not stored.
    pub fn get(&self, value: Value) -> Option<&Ref> {
        self.refs[value.index()].as_ref()
    }

    /// Records the place of a constant.
    pub fn set(&mut self, value: Value, place: Ref) {
        self.refs[value.index()] = Some(place);
    }

    /// True if the value is computed in its place in the result `whole` of a Concat.
    pub fn is_part_of(&self, value: Value, whole: Value) -> bool {
        self.storage[value] == Storage::Part(whole)
    }

    /// True if the value is computed inside its reader.
    pub fn is_inlined(&self, value: Value) -> bool {
        self.storage[value] == Storage::Inline
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

/// The operand whose bytes a node's result shares, if the node moves nothing. Views of constants are not views:
/// constants have no place of their own until someone reads them.
pub fn view_of(graph: &Graph, node: Node) -> Option<Value> {
    let data = &graph.nodes()[node];
    let source = *data.inputs.first()?;
    let view = match &data.op {
        // The layout pass made sure of it.
        Op::Transpose(_) | Op::Reshape(_) => true,
        Op::Relayout(_) => graph.ty(source).same_bytes(graph.ty(data.outputs[0])),
        _ => false,
    };
    (view && graph.constant(source).is_none()).then_some(source)
}
