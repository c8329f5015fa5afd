//! How the machine reads values: maps, and views of them.

use super::Selector;
use super::classify::shape_of;
use super::host::Boundary;
use crate::net::{Body, Layer, Map, MapId, Operand, Pointwise, Target};
use sdc_ir::entity::EntityId;
use sdc_ir::graph::op::{Pad, Slice};
use sdc_ir::graph::{Op, Value};

impl Selector<'_> {
    pub(super) fn shape(&self, v: Value) -> [usize; 3] {
        shape_of(self.graph, v).expect("only bytes of one image are selected")
    }

    pub(super) fn new_map(&mut self, [c, h, w]: [usize; 3]) -> MapId {
        self.net.maps.push(Map {
            c,
            h,
            w,
            ..Map::default()
        });
        self.net.maps.len() - 1
    }

    /// Where the machine writes a value that it computes.
    pub(super) fn target(&mut self, v: Value) -> Target {
        let (map, coff) = match self.parents[v.index()] {
            Some((whole, channel)) => {
                let target = self.target(whole);
                (target.map, target.coff + channel)
            }
            None => match &self.operands[v.index()] {
                Some(x) => (x.map, x.coff as usize),
                None => (self.new_map(self.shape(v)), 0),
            },
        };
        if self.operands[v.index()].is_none() {
            let mut x = Operand::whole(map, &self.net.maps[map]);
            x.shape = self.shape(v);
            x.coff = coff as i32;
            x.limit = coff..coff + x.shape[0];
            self.operands[v.index()] = Some(x);
        }
        if self.leaves(v) {
            self.net.maps[map].dram = true;
            self.boundary[v.index()] = Some(Boundary { map, channel: coff });
        }
        Target {
            map,
            coff,
            start: [0, 0],
            step: [1, 1],
        }
    }

    /// How the machine reads a value.
    pub(super) fn operand(&mut self, v: Value) -> Operand {
        if let Some(x) = &self.operands[v.index()] {
            return x.clone();
        }
        let node = self.graph.def_node(v).map(|n| &self.graph.nodes()[n]);
        let x = match node.map(|data| (&data.op, &data.inputs[..])) {
            Some((Op::Constant(_), _)) => {
                let map = self.new_map(self.shape(v));
                self.net.maps[map].dram = true;
                self.net.maps[map].constant = self.graph.constant(v).map(|t| t.bytes().to_vec());
                Operand::whole(map, &self.net.maps[map])
            }
            Some((Op::Slice(op), &[x])) if self.is_machine(v) => self.slice(v, x, op),
            Some((Op::Pad(op), &[x])) if self.is_machine(v) => self.pad(v, x, op),
            Some((Op::Reshape(_) | Op::Transpose(_), &[x])) if self.is_machine(v) => self.reshape(v, x),
            _ => {
                // The caller's or the host's.
                let map = self.new_map(self.shape(v));
                self.net.maps[map].dram = true;
                self.boundary[v.index()] = Some(Boundary { map, channel: 0 });
                Operand::whole(map, &self.net.maps[map])
            }
        };
        self.operands[v.index()] = Some(x.clone());
        x
    }

    /// How windows read a value: consecutive channels of a map, copied if they are not.
    pub(super) fn windowed(&mut self, v: Value) -> Operand {
        let x = self.operand(v);
        if x.is_plain(&self.net.maps[x.map]) {
            return x;
        }
        let copy = self.copy(x);
        self.operands[v.index()] = Some(copy.clone());
        copy
    }

    /// A copy as a map of its own.
    fn copy(&mut self, x: Operand) -> Operand {
        let map = self.new_map(x.shape);
        let target = Target {
            map,
            coff: 0,
            start: [0, 0],
            step: [1, 1],
        };
        self.push(
            x.shape,
            "copy",
            Body::Pointwise(Pointwise::Copy, vec![x]),
            Vec::new(),
            target,
        );
        Operand::whole(map, &self.net.maps[map])
    }

    pub(super) fn push(
        &mut self,
        shape: [usize; 3],
        op: &'static str,
        body: Body,
        chain: Vec<crate::net::Link>,
        target: Target,
    ) {
        self.net.layers.push(Layer {
            origin: self.layer_origin.clone(),
            op,
            part: self.part,
            shape,
            body,
            chain,
            target,
        });
    }

    /// Makes a value that leaves, and that is only a view so far, a map of its own.
    pub(super) fn settle(&mut self, v: Value) {
        let x = self.operand(v);
        let map = &self.net.maps[x.map];
        if !x.is_plain(map) || map.alias.is_some() {
            let copy = self.copy(x);
            self.operands[v.index()] = Some(copy);
        }
        let x = self.operand(v);
        self.net.maps[x.map].dram = true;
        self.boundary[v.index()] = Some(Boundary {
            map: x.map,
            channel: x.coff as usize,
        });
    }

    /// `[channels, rows, columns]` of a list of numbers, one a dimension.
    fn dims<T: Copy>(&self, all: &[T], other: T) -> [T; 3] {
        match *all {
            [c] => [c, other, other],
            [_, c] => [c, other, other],
            [_, c, w] => [c, other, w],
            [_, c, h, w] => [c, h, w],
            _ => [other; 3],
        }
    }

    fn slice(&mut self, v: Value, from: Value, op: &Slice) -> Operand {
        let mut x = self.operand(from);
        let starts = self.dims(&op.starts, 0);
        let steps = self.dims(&op.steps, 1);
        let shape = self.shape(v);
        x.coff += starts[0] as i32;
        let first = x.coff.max(0) as usize;
        let last = (i64::from(x.coff) + shape[0] as i64).max(0) as usize;
        if shape[0] < x.shape[0] {
            x.limit = x.limit.start.max(first)..x.limit.end.min(last).max(first + 1);
        }
        for d in 0..2 {
            x.start[d] += starts[d + 1] * x.step[d];
            x.step[d] *= if shape[d + 1] == 1 {
                1
            } else {
                steps[d + 1] as usize
            };
        }
        x.shape = shape;
        if x.step.iter().any(|&s| s > 15) {
            return self.sliced_twice(from, v, op);
        }
        x
    }

    /// A slice of a strided view whose steps multiply to more than a view has.
    fn sliced_twice(&mut self, from: Value, v: Value, op: &Slice) -> Operand {
        let x = self.operand(from);
        let copy = self.copy(x);
        self.operands[from.index()] = Some(copy);
        self.slice(v, from, op)
    }

    fn pad(&mut self, v: Value, from: Value, op: &Pad) -> Operand {
        let x = self.operand(from);
        let shape = self.shape(v);
        let before = self.dims(&op.before, 0);
        let fill = op.value as i64 as u8;
        let channels_only = shape[1..] == x.shape[1..];
        let all = x.coff == x.limit.start as i32 && x.limit.end == x.limit.start + x.shape[0];
        // Channels below the tensor's first have to be outside the map, or they would be read.
        if channels_only && all && (x.limit.start == 0 || before[0] == 0) {
            return Operand {
                coff: x.coff - before[0] as i32,
                fill,
                shape,
                ..x
            };
        }
        let map = self.new_map(shape);
        let place = |start: [usize; 2], coff: usize| Target {
            map,
            coff,
            start,
            step: [1, 1],
        };
        // A view of nothing but its border, and then the tensor in it.
        let border = Operand {
            coff: -8192,
            limit: 0..1,
            start: [0, 0],
            step: [0, 0],
            fill,
            shape,
            ..x.clone()
        };
        self.push(
            shape,
            "pad",
            Body::Pointwise(Pointwise::Copy, vec![border]),
            Vec::new(),
            place([0, 0], 0),
        );
        let inside = Body::Pointwise(Pointwise::Copy, vec![x.clone()]);
        self.push(
            x.shape,
            "pad",
            inside,
            Vec::new(),
            place([before[1], before[2]], before[0]),
        );
        Operand::whole(map, &self.net.maps[map])
    }

    /// The same bytes under another shape: the map itself, or its bytes in DRAM.
    fn reshape(&mut self, v: Value, from: Value) -> Operand {
        let x = self.operand(from);
        let shape = self.shape(v);
        if x.shape == shape {
            return x;
        }
        let whole = x.is_plain(&self.net.maps[x.map]) && x.coff == 0 && x.shape[0] == self.net.maps[x.map].c;
        let x = if whole { x } else { self.copy(x) };
        let root = self.net.root(x.map);
        self.net.maps[root].dram = true;
        let map = self.new_map(shape);
        self.net.maps[map].alias = Some(root);
        self.net.maps[map].dram = true;
        Operand::whole(map, &self.net.maps[map])
    }
}
