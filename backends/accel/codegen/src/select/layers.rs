//! Nodes to layers.

use super::Selector;
use super::classify::enlarged;
use super::spread::Spread;
use crate::net::{Body, Convolution, Link, Operand, Phase, Pointwise, Pooling, Target, Window2};
use crate::weights::Weights;
use sdc_accel_isa::Quant;
use sdc_ir::analysis::Window;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::op::{QLinearAdd, QLinearConv, QLinearMul};
use sdc_ir::graph::{Node, NodeData, Op, Value};
use sdc_ir::sd::Stored;
use sdc_ir::{DType, Tensor};

/// Cycles of a step that a round of a map through DRAM may cost, about.
const ROUND: usize = 40;

impl Selector<'_> {
    pub(super) fn node(&mut self, n: Node) {
        let data = &self.graph.nodes()[n];
        let result = data.outputs[0];
        if self.absorbed[n.index()].is_some() {
            return;
        }
        match &data.op {
            Op::Slice(_) | Op::Pad(_) | Op::Reshape(_) | Op::Transpose(_) => {
                if self.leaves(result) {
                    self.settle(result);
                }
            }
            Op::Concat(_) => self.concat(data),
            Op::Resize(op) => {
                let times = enlarged(self.graph, data, op).unwrap_or([1, 1]);
                let x = self.operand(data.inputs[0]);
                let target = self.target(result);
                for (i, j) in (0..times[0]).flat_map(|i| (0..times[1]).map(move |j| (i, j))) {
                    let target = Target {
                        start: [i, j],
                        step: times,
                        ..target.clone()
                    };
                    let body = Body::Pointwise(Pointwise::Copy, vec![x.clone()]);
                    self.push(x.shape, "resize", body, Vec::new(), target);
                }
            }
            Op::MaxPool(p) => {
                let pool = Pooling {
                    average: false,
                    counted: false,
                    window: window(&p.kernel, &p.strides, &p.dilations, &p.pads),
                    quant: self.type_only(data.inputs[0]),
                };
                self.pool(data, pool);
            }
            Op::QLinearAveragePool(p) => {
                let quant = Quant {
                    z: p.x_zero as i32,
                    mul: p.multiplier as i32,
                    shift: p.shift as u32,
                    yz: p.y_zero as i32,
                    yi8: p.to == DType::I8,
                    ..self.type_only(data.inputs[0])
                };
                let quant = limits(quant, p.to);
                let pool = Pooling {
                    average: true,
                    counted: p.counted.iter().any(|&n| n > 0),
                    window: window(&p.kernel, &p.strides, &p.dilations, &p.pads),
                    quant,
                };
                self.pool(data, pool);
            }
            _ => self.computed(n),
        }
    }

    fn pool(&mut self, data: &NodeData, pool: Pooling) {
        let x = self.windowed(data.inputs[0]);
        let target = self.target(data.outputs[0]);
        let shape = self.shape(data.outputs[0]);
        let op = if pool.average { "avgpool" } else { "maxpool" };
        self.push(shape, op, Body::Pool(pool, x), Vec::new(), target);
    }

    /// Parts that are not written into the whole directly are copied.
    fn concat(&mut self, data: &NodeData) {
        let whole = data.outputs[0];
        let target = self.target(whole);
        let mut channel = 0;
        for &v in &data.inputs {
            let shape = self.shape(v);
            if self.parents[v.index()] != Some((whole, channel)) {
                let x = self.operand(v);
                let target = Target {
                    coff: target.coff + channel,
                    ..target.clone()
                };
                let body = Body::Pointwise(Pointwise::Copy, vec![x]);
                self.push(shape, "concat", body, Vec::new(), target);
            }
            channel += shape[0];
        }
    }

    /// A convolution or an operator of VE, with those absorbed before it.
    fn computed(&mut self, n: Node) {
        let mut chain = Vec::new();
        let mut at = n;
        let body = loop {
            let before = self.absorbed.iter().position(|&a| a == Some(at));
            let data = &self.graph.nodes()[at];
            let Some(before) = before else {
                break self.body(data);
            };
            let before = Node::new(before);
            let slot = self.graph.nodes()[before].outputs[0];
            chain.push(self.link(data, slot));
            at = before;
        };
        chain.reverse();
        let result = self.graph.nodes()[n].outputs[0];
        let target = self.target(result);
        let shape = self.shape(result);
        let op = match &body {
            Body::Conv(c) if c.depthwise => "dwconv",
            Body::Conv(_) => "conv",
            Body::Pointwise(Pointwise::Add(..), _) => "add",
            Body::Pointwise(Pointwise::Mul(..), _) => "mul",
            Body::Pointwise(Pointwise::Lut(_), _) => "lookup",
            Body::Pointwise(Pointwise::Copy, _) => "copy",
            Body::Pool(..) => "pool",
        };
        self.push(shape, op, body, chain, target);
    }

    /// What follows in a slot that holds `slot`.
    fn link(&mut self, data: &NodeData, slot: Value) -> Link {
        let whole = self.shape(data.outputs[0]);
        match &data.op {
            Op::QLinearAdd(op) => {
                let own = data.inputs.iter().position(|&v| v == slot).unwrap_or(0);
                let other = (data.inputs.len() == 2).then(|| 1 - own);
                Link {
                    op: Pointwise::Add(
                        self.addend(data, op, own),
                        other.map(|i| self.addend(data, op, i)),
                    ),
                    other: other.map(|i| self.repeated(data.inputs[i], whole)),
                }
            }
            Op::QLinearMul(op) => {
                let own = data.inputs.iter().position(|&v| v == slot).unwrap_or(0);
                Link {
                    op: Pointwise::Mul(self.factor(data, op, own), self.factor(data, op, 1 - own)),
                    other: Some(self.repeated(data.inputs[1 - own], whole)),
                }
            }
            _ => Link {
                op: self.table(data),
                other: None,
            },
        }
    }

    fn body(&mut self, data: &NodeData) -> Body {
        let whole = self.shape(data.outputs[0]);
        match &data.op {
            Op::QLinearConv(op) => {
                let node = self.graph.def_node(data.outputs[0]);
                let spread = node.and_then(|n| Spread::of(self.graph, n));
                Body::Conv(Box::new(self.convolution(data, op, spread)))
            }
            Op::QLinearAdd(op) => {
                let second = (data.inputs.len() == 2).then(|| self.addend(data, op, 1));
                let operands = data.inputs.iter().map(|&v| self.repeated(v, whole)).collect();
                Body::Pointwise(Pointwise::Add(self.addend(data, op, 0), second), operands)
            }
            Op::QLinearMul(op) => {
                let operands = data.inputs.iter().map(|&v| self.repeated(v, whole)).collect();
                Body::Pointwise(
                    Pointwise::Mul(self.factor(data, op, 0), self.factor(data, op, 1)),
                    operands,
                )
            }
            _ => {
                let x = self.operand(data.inputs[0]);
                Body::Pointwise(self.table(data), vec![x])
            }
        }
    }

    fn table(&self, data: &NodeData) -> Pointwise {
        let entries = self.graph.constant(data.inputs[1]).map(Tensor::bytes);
        let mut table = Box::new([0; 256]);
        for (to, from) in table.iter_mut().zip(entries.into_iter().flatten()) {
            *to = *from;
        }
        Pointwise::Lut(table)
    }

    /// An operand that broadcasts to a shape.
    fn repeated(&mut self, v: Value, [_, h, w]: [usize; 3]) -> Operand {
        let mut x = self.operand(v);
        for (d, size) in [h, w].into_iter().enumerate() {
            if x.shape[d + 1] == 1 && size != 1 {
                x.step[d] = 0;
                x.shape[d + 1] = size;
            }
        }
        x
    }

    fn type_only(&self, v: Value) -> Quant {
        let ty = self.graph.ty(v).dtype;
        let quant = Quant {
            z: 0,
            mul: 0,
            shift: 1,
            yz: 0,
            lo: 0,
            hi: 0,
            xi8: ty == DType::I8,
            yi8: ty == DType::I8,
        };
        limits(quant, ty)
    }

    fn addend(&self, data: &NodeData, op: &QLinearAdd, i: usize) -> Quant {
        Quant {
            z: op.zeros[i] as i32,
            mul: op.multipliers[i] as i32,
            shift: op.shift as u32,
            yz: op.y_zero as i32,
            lo: op.min as i32,
            hi: op.max as i32,
            xi8: self.graph.ty(data.inputs[i]).dtype == DType::I8,
            yi8: op.to == DType::I8,
        }
    }

    fn factor(&self, data: &NodeData, op: &QLinearMul, i: usize) -> Quant {
        Quant {
            z: op.zeros[i] as i32,
            mul: op.multiplier as i32,
            shift: op.shift as u32,
            yz: op.y_zero as i32,
            lo: op.min as i32,
            hi: op.max as i32,
            xi8: self.graph.ty(data.inputs[i]).dtype == DType::I8,
            yi8: op.to == DType::I8,
        }
    }

    fn convolution(&mut self, data: &NodeData, op: &QLinearConv, spread: Option<Spread>) -> Convolution {
        let weights = self.weights(data.inputs[1]);
        let w = self.graph.ty(data.inputs[1]).sizes().to_vec();
        let mut kernel = [w[2], w[3]];
        let flat = if spread.is_none() {
            self.flattened(data, op, &w)
        } else {
            None
        };
        let x = match flat {
            Some(x) => {
                kernel = [x.shape[1], x.shape[2]];
                x
            }
            None => self.windowed(spread.map_or(data.inputs[0], |s| s.x)),
        };
        let [m, e, f] = self.shape(data.outputs[0]);
        let ints = |v: Value| {
            let tensor = self.graph.constant(v).and_then(|t| t.elements::<i32>().ok());
            tensor.map(|all| all.to_vec()).unwrap_or_default()
        };
        // Its instruction keeps no sums: a larger window is one of a group a channel.
        let one = kernel[0] * kernel[1] <= self.config.line_file as usize;
        let depthwise = one && op.group > 1 && op.group == x.shape[0] && op.group == m;
        Convolution {
            weights: if depthwise {
                weights.without_index()
            } else {
                weights
            },
            bias: ints(data.inputs[2]),
            multiplier: ints(data.inputs[3]),
            strides: [op.strides[0], op.strides[1]],
            dilations: [op.dilations[0], op.dilations[1]],
            group: op.group,
            depthwise,
            phase_step: spread.map_or([1, 1], |s| s.steps),
            phases: match &spread {
                Some(spread) => spread.phases(op, [e, f]),
                None => vec![Phase {
                    tap_step: [1, 1],
                    tap_first: [0, 0],
                    before: [op.pads[0] as i64, op.pads[1] as i64],
                    size: [e, f],
                    start: [0, 0],
                }],
            },
            quant: Quant {
                z: op.x_zero as i32,
                mul: 0,
                shift: op.shift as u32,
                yz: op.y_zero as i32,
                lo: op.min as i32,
                hi: op.max as i32,
                xi8: self.graph.ty(data.inputs[0]).dtype == DType::I8,
                yi8: op.to == DType::I8,
            },
            kernel,
            x,
        }
    }

    /// A product with a flattened map is a convolution whose window is the map: the order of the weights is the same.
    fn flattened(&mut self, data: &NodeData, op: &QLinearConv, w: &[usize]) -> Option<Operand> {
        let m = w[0];
        if w[2..] != [1, 1] || op.group != 1 || op.strides != [1, 1] || op.pads.iter().any(|&p| p > 0) {
            return None;
        }
        let mut v = data.inputs[0];
        let flat = self.shape(v);
        while let Some(n) = self.graph.def_node(v).filter(|_| self.is_machine(v)) {
            let node = &self.graph.nodes()[n];
            if !matches!(node.op, Op::Reshape(_) | Op::Transpose(_)) {
                break;
            }
            v = node.inputs[0];
        }
        let [c, h, w] = super::classify::shape_of(self.graph, v)?;
        let same = flat == [c * h * w, 1, 1] && h * w > 1 && h * w <= self.config.line_file as usize;
        if !same || self.is_constant(v) {
            return None;
        }
        // Lines without a channel cost steps; if many, the map had better lie flat, for which it has to go through DRAM.
        let lines = self.config.lines as usize;
        let steps = |channels: usize, taps: usize| channels.div_ceil(lines) * taps;
        let tiles = m.div_ceil(self.config.slices as usize);
        if tiles * (steps(c, h * w) - steps(c * h * w, 1)) > ROUND {
            return None;
        }
        Some(self.windowed(v))
    }

    fn weights(&self, v: Value) -> Weights {
        let node = self.graph.def_node(v).map(|n| &self.graph.nodes()[n]);
        if let Some(NodeData {
            op: Op::Rebuild(_),
            inputs,
            ..
        }) = node
            && let Some(Ok(stored)) = self.graph.constant(inputs[0]).map(|t| Stored::unpack(t.bytes()))
        {
            if let Stored::Sd(d) = &stored
                && d.geometry.filter_dims == [0]
            {
                match d.geometry.vector_dims[..] {
                    [1, 2, 3] => return Weights::Sd(Box::new(d.clone()), false),
                    [1, 3, 2] => return Weights::Sd(Box::new(d.clone()), true),
                    _ => {}
                }
            }
            if let Ok((rebuilt, _)) = stored.rebuild()
                && let Ok(all) = rebuilt.elements::<i8>()
            {
                return Weights::Plain(all.to_vec());
            }
        }
        let plain = self.graph.constant(v).and_then(|t| t.elements::<i8>().ok());
        Weights::Plain(plain.map(|all| all.to_vec()).unwrap_or_default())
    }
}

fn limits(quant: Quant, ty: DType) -> Quant {
    let (lo, hi) = if ty == DType::I8 { (-128, 127) } else { (0, 255) };
    Quant { lo, hi, ..quant }
}

fn window(kernel: &[usize], strides: &[usize], dilations: &[usize], pads: &[usize]) -> Window2 {
    let of = |d: usize| Window {
        kernel: kernel[d],
        stride: strides[d],
        dilation: dilations[d],
        before: pads[d],
    };
    Window2 { y: of(0), x: of(1) }
}
