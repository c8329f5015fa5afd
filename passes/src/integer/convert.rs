//! The walk over a network that gives each operator its integer form where it has one.

use super::product::Weights;
use super::{Grid, IntegerError, Left};
use crate::pass::merge_origins;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::build::Rewrite;
use sdc_ir::graph::op::{
    AveragePool, DequantizeLinear, Pad, PadMode, QLinearAdd, QLinearAveragePool, QLinearMul, QuantizeLinear,
    Reduce, ReduceKind, Reshape,
};
use sdc_ir::graph::{BinaryOp, Graph, Node, NodeData, Op, Origin, UnaryOp, Value};
use sdc_ir::{DType, Tensor};

/// A value as integers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Integers {
    pub value: Value,
    pub grid: Grid,
}

/// Why an operator stays as it is. `None`: it is nothing that integers are about.
pub(super) type Refusal = Option<String>;

pub(super) fn refuse<T>(reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Some(reason.into()))
}

/// The network on the way.
pub(super) struct Converter<'a> {
    pub rewrite: Rewrite<'a>,
    uses: Vec<Vec<Node>>,
    /// By source value: the grid that suits it.
    grids: Vec<Option<Grid>>,
    /// By source value: its real numbers, its integers, as far as they exist in the destination.
    floats: Vec<Option<Value>>,
    integers: Vec<Option<Integers>>,
    /// Nodes that were fused into the one before.
    done: Vec<bool>,
    left: Vec<Left>,
}

/// Where a node's result goes: the value of an activation that follows it, or its own, and the bounds of its integers.
pub(super) struct Target {
    pub value: Value,
    pub grid: Grid,
    pub bounds: (i64, i64),
    pub origins: Vec<Origin>,
    /// The activation.
    fused: Option<Node>,
}

/// Converts a graph; `grids` by value.
pub(super) fn convert(graph: &Graph, grids: Vec<Option<Grid>>) -> Result<(Graph, Vec<Left>), IntegerError> {
    let count = graph.values().len();
    let mut cx = Converter {
        rewrite: Rewrite::new(graph),
        uses: graph.uses(),
        grids,
        floats: vec![None; count],
        integers: vec![None; count],
        done: vec![false; graph.nodes().len()],
        left: Vec::new(),
    };
    for port in &graph.inputs {
        cx.floats[port.value.index()] = Some(cx.rewrite.get(port.value));
    }
    for (n, data) in graph.nodes().iter() {
        if !cx.done[n.index()] {
            cx.node(n, data)?;
        }
    }
    for port in &graph.outputs {
        let value = cx.real(port.value)?;
        cx.rewrite.set(port.value, value);
    }
    Ok((cx.rewrite.finish().compact(), cx.left))
}

impl Converter<'_> {
    pub fn src(&self) -> &Graph {
        self.rewrite.src
    }

    fn node(&mut self, n: Node, data: &NodeData) -> Result<(), IntegerError> {
        if matches!(data.op, Op::Constant(_) | Op::Rebuild(_)) {
            self.rewrite.copy(n);
            let value = data.outputs[0];
            self.floats[value.index()] = Some(self.rewrite.get(value));
            return Ok(());
        }
        match self.integer(n, data)? {
            Ok(()) => return Ok(()),
            Err(Some(reason)) => self.left.push(Left {
                op: data.op.name(),
                origins: data.origins.clone(),
                reason,
            }),
            Err(None) => {}
        }
        for &v in &data.inputs {
            let real = self.real(v)?;
            self.rewrite.set(v, real);
        }
        self.rewrite.copy(n);
        for &v in &data.outputs {
            self.floats[v.index()] = Some(self.rewrite.get(v));
        }
        Ok(())
    }

    /// Emits a node's integer form. The inner error says why there is none.
    fn integer(&mut self, n: Node, data: &NodeData) -> Result<Result<(), Refusal>, IntegerError> {
        let src = self.rewrite.src;
        if src.ty(data.outputs[0]).dtype != DType::F32 {
            return Ok(Err(None));
        }
        let tried = match &data.op {
            Op::Conv(_) | Op::ConvTranspose(_) | Op::MatMul(_) => self.linear(n, data),
            _ if !data.inputs.iter().any(|&v| self.has_integers(v)) => {
                refuse("its operands are in floating point")
            }
            op if super::table::is_elementwise(op) => match self.lookup(n, data) {
                Err(None) => self.elementwise(n, data),
                done => done,
            },
            Op::AveragePool(op) => self.average(data, op.clone()),
            Op::Reduce(op) => self.mean(data, op),
            Op::Concat(_) => self.concat(n, data),
            Op::Softmax(op) if !op.log => super::norm::softmax(self, data, op.axis),
            Op::InstanceNormalization(op) => super::norm::instance(self, n, data, op.epsilon),
            Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Slice(_)
            | Op::Expand(_)
            | Op::Pad(_)
            | Op::MaxPool(_) => self.movement(data),
            Op::Gather(_) | Op::Resize(_) => self.movement(data),
            op => refuse(format!("{} has no integer form", op.name())),
        };
        Ok(match tried {
            Ok(()) => Ok(()),
            Err(refusal) => Err(refusal),
        })
    }

    /// Whether a value exists as integers, or is an input, which becomes integers at the boundary.
    fn has_integers(&self, v: Value) -> bool {
        let input = self.src().def_node(v).is_none();
        let own = self.integers[v.index()].is_some_and(|x| x.grid.is_byte());
        own || (input && self.grids[v.index()].is_some())
    }

    /// The node that computes a value, or the input, for people.
    fn origins(&self, v: Value) -> Vec<Origin> {
        let src = self.src();
        match src.def_node(v) {
            Some(n) => src.nodes()[n].origins.clone(),
            None => {
                let at = src.inputs.iter().position(|p| p.value == v).unwrap_or(0);
                vec![Origin {
                    name: src.inputs[at].name.clone(),
                    op: "Input".to_owned(),
                    index: at as u32,
                }]
            }
        }
    }

    fn scalar(&mut self, tensor: Tensor, origins: &[Origin]) -> Value {
        self.rewrite.dst.add_constant(tensor, origins.to_vec())
    }

    /// A node of the destination.
    pub fn add(&mut self, op: impl Into<Op>, inputs: &[Value], origins: &[Origin]) -> Result<Value, Refusal> {
        let added = self.rewrite.dst.add1(op, inputs, origins.to_vec());
        added.map_err(|e| Some(e.to_string()))
    }

    /// Scale and zero point of a grid, as operands.
    fn grid_operands(&mut self, grid: Grid, origins: &[Origin]) -> [Value; 2] {
        let zero = match grid.dtype {
            DType::U8 => Tensor::scalar(grid.zero as u8),
            DType::I32 => Tensor::scalar(grid.zero as i32),
            _ => Tensor::scalar(grid.zero as i8),
        };
        [
            self.scalar(Tensor::scalar(grid.scale), origins),
            self.scalar(zero, origins),
        ]
    }

    /// A value's real numbers.
    fn real(&mut self, v: Value) -> Result<Value, IntegerError> {
        if let Some(value) = self.floats[v.index()] {
            return Ok(value);
        }
        let integers = self.integers[v.index()].expect("a value before its use has one form or the other");
        let origins = self.origins(v);
        let [scale, zero] = self.grid_operands(integers.grid, &origins);
        let operands = [integers.value, scale, zero];
        let real = self.rewrite.dst.add1(DequantizeLinear {}, &operands, origins)?;
        self.floats[v.index()] = Some(real);
        Ok(real)
    }

    /// A value's integers.
    pub fn integers(&mut self, v: Value) -> Result<Integers, Refusal> {
        if let Some(integers) = self.integers[v.index()].filter(|x| x.grid.is_byte()) {
            return Ok(integers);
        }
        if self.integers[v.index()].is_some() {
            self.real(v).map_err(|e| Some(e.to_string()))?;
        }
        let (Some(grid), Some(real)) = (self.grids[v.index()], self.floats[v.index()]) else {
            return refuse("an operand has no finite range");
        };
        let origins = self.origins(v);
        let [scale, zero] = self.grid_operands(grid, &origins);
        let value = self.add(QuantizeLinear {}, &[real, scale, zero], &origins)?;
        let integers = Integers { value, grid };
        self.integers[v.index()] = Some(integers);
        Ok(integers)
    }

    /// A constant's integers: of 16 bits, so that they add no error to speak of.
    fn constant(&mut self, v: Value) -> Result<Option<Integers>, Refusal> {
        let Some(tensor) = self.src().constant(v) else {
            return Ok(None);
        };
        let Ok(values) = tensor.elements::<f32>() else {
            return refuse("a constant is not f32");
        };
        let Some(grid) = Grid::covering(&values, DType::I16) else {
            return refuse("a constant is not finite");
        };
        let integers: Vec<i16> = values.iter().map(|&x| grid.quantise(x.into()) as i16).collect();
        let tensor =
            Tensor::from_elements(tensor.shape().to_vec(), integers).map_err(|e| Some(e.to_string()))?;
        let origins = self.origins(v);
        let value = self.scalar(tensor, &origins);
        Ok(Some(Integers { value, grid }))
    }

    /// The integers of an operand that may be constant.
    fn operand(&mut self, v: Value) -> Result<Integers, Refusal> {
        match self.constant(v)? {
            Some(constant) => Ok(constant),
            None => self.integers(v),
        }
    }

    /// Where the result of a node goes: a Relu or Clip that alone reads it is taken along.
    pub fn target(&mut self, n: Node, own: (f64, f64)) -> Result<Target, Refusal> {
        let src = self.rewrite.src;
        let data = &src.nodes()[n];
        let (mut value, mut real, mut origins) = (data.outputs[0], own, data.origins.clone());
        let mut fused = None;
        if let [user] = self.uses[value.index()][..]
            && !src.is_output(value)
        {
            let next = &src.nodes()[user];
            let bounds = match &next.op {
                Op::Unary(UnaryOp::Relu) => Some((0.0, f64::INFINITY)),
                Op::Clip(clip) => Some((clip.min.into(), clip.max.into())),
                _ => None,
            };
            if let Some((low, high)) = bounds {
                real = (real.0.max(low), real.1.min(high).max(low));
                origins = merge_origins(&origins, &next.origins);
                value = next.outputs[0];
                fused = Some(user);
            }
        }
        let Some(grid) = self.grids[value.index()] else {
            return refuse("its result has no finite range");
        };
        let bounds = (grid.quantise(real.0), grid.quantise(real.1));
        Ok(Target {
            value,
            grid,
            bounds,
            origins,
            fused,
        })
    }

    /// Records a result on a grid of its own.
    pub fn settle_on(&mut self, source: Value, value: Value, grid: Grid) {
        self.integers[source.index()] = Some(Integers { value, grid });
    }

    /// Records a node's result, now that there is one.
    pub fn settle(&mut self, target: &Target, value: Value) {
        if let Some(user) = target.fused {
            self.done[user.index()] = true;
        }
        self.integers[target.value.index()] = Some(Integers {
            value,
            grid: target.grid,
        });
    }

    fn elementwise(&mut self, n: Node, data: &NodeData) -> Result<(), Refusal> {
        let sign = match data.op {
            Op::Binary(BinaryOp::Add) => 1.0,
            Op::Binary(BinaryOp::Sub) => -1.0,
            Op::Binary(BinaryOp::Mul) => return self.product(n, data),
            _ => {
                return refuse(format!(
                    "{} of several tensors has no integer form",
                    data.op.name()
                ));
            }
        };
        let a = self.operand(data.inputs[0])?;
        let b = self.operand(data.inputs[1])?;
        let target = self.target(n, EVERYTHING)?;
        let y = self.weighted(&[(a, 1.0), (b, sign)], &target)?;
        self.settle(&target, y);
        Ok(())
    }

    /// The sum of operands with signs.
    fn weighted(&mut self, operands: &[(Integers, f64)], target: &Target) -> Result<Value, Refusal> {
        let real = operands
            .iter()
            .map(|(x, sign)| sign * f64::from(x.grid.scale) / f64::from(target.grid.scale));
        let (multipliers, shift) = multipliers(&real.collect::<Vec<_>>())?;
        let op = QLinearAdd {
            zeros: operands.iter().map(|(x, _)| x.grid.zero).collect(),
            multipliers,
            shift,
            y_zero: target.grid.zero,
            min: target.bounds.0,
            max: target.bounds.1,
            to: target.grid.dtype,
        };
        let values: Vec<Value> = operands.iter().map(|(x, _)| x.value).collect();
        self.add(op, &values, &target.origins)
    }

    fn product(&mut self, n: Node, data: &NodeData) -> Result<(), Refusal> {
        let a = self.operand(data.inputs[0])?;
        let b = self.operand(data.inputs[1])?;
        let target = self.target(n, EVERYTHING)?;
        let real = f64::from(a.grid.scale) * f64::from(b.grid.scale) / f64::from(target.grid.scale);
        let (multipliers, shift) = multipliers(&[real])?;
        let op = QLinearMul {
            zeros: vec![a.grid.zero, b.grid.zero],
            multiplier: multipliers[0],
            shift,
            y_zero: target.grid.zero,
            min: target.bounds.0,
            max: target.bounds.1,
            to: target.grid.dtype,
        };
        let y = self.add(op, &[a.value, b.value], &target.origins)?;
        self.settle(&target, y);
        Ok(())
    }

    /// The mean over all of the two spatial dimensions is a pooling with one window.
    fn mean(&mut self, data: &NodeData, op: &Reduce) -> Result<(), Refusal> {
        let x = self.src().ty(data.inputs[0]).sizes();
        if op.kind != ReduceKind::Mean || op.axes != [2, 3] || x.len() != 4 {
            return refuse("only the mean over both spatial dimensions has an integer form");
        }
        let window = AveragePool {
            kernel: x[2..].to_vec(),
            strides: vec![1, 1],
            pads: vec![0; 4],
            counted: vec![0; 4],
            dilations: vec![1, 1],
        };
        self.average(data, window)
    }

    fn average(&mut self, data: &NodeData, op: AveragePool) -> Result<(), Refusal> {
        let src = self.src();
        let shape = src.ty(data.outputs[0]).sizes().to_vec();
        if src.ty(data.inputs[0]).rank() != 4 {
            return refuse("it has not two spatial dimensions");
        }
        let x = self.integers(data.inputs[0])?;
        // Its own value, without what follows: the operator has no bounds.
        let value = data.outputs[0];
        let Some(grid) = self.grids[value.index()] else {
            return refuse("its result has no finite range");
        };
        let (multipliers, shift) = multipliers(&[f64::from(x.grid.scale) / f64::from(grid.scale)])?;
        let op = QLinearAveragePool {
            kernel: op.kernel,
            strides: op.strides,
            pads: op.pads,
            counted: op.counted,
            dilations: op.dilations,
            x_zero: x.grid.zero,
            multiplier: multipliers[0],
            shift,
            y_zero: grid.zero,
            to: grid.dtype,
        };
        let mut y = self.add(op, &[x.value], &data.origins)?;
        if self.rewrite.dst.ty(y).sizes() != shape {
            y = self.add(Reshape { shape }, &[y], &data.origins)?;
        }
        self.integers[value.index()] = Some(Integers { value: y, grid });
        Ok(())
    }

    /// Operands on other grids are brought to the result's.
    fn concat(&mut self, n: Node, data: &NodeData) -> Result<(), Refusal> {
        let target = self.target(n, EVERYTHING)?;
        let whole = target.grid.range();
        let mut parts = Vec::new();
        for &v in &data.inputs {
            let x = match self.src().constant(v) {
                Some(_) => self.operand(v)?,
                None => self.integers(v)?,
            };
            let same = x.grid == target.grid && target.bounds == whole;
            parts.push(if same {
                x.value
            } else {
                self.weighted(&[(x, 1.0)], &target)?
            });
        }
        let y = self.add(data.op.clone(), &parts, &target.origins)?;
        self.settle(&target, y);
        Ok(())
    }

    /// What only moves, selects or repeats elements does so with integers.
    fn movement(&mut self, data: &NodeData) -> Result<(), Refusal> {
        let x = self.integers(data.inputs[0])?;
        let op = match &data.op {
            Op::Pad(pad) if pad.mode == PadMode::Constant => {
                let value = x.grid.quantise(pad.value.into());
                let off = (x.grid.real(value) - f64::from(pad.value)).abs();
                if off > f64::from(x.grid.scale) {
                    return refuse(format!("the border's value {} is out of range", pad.value));
                }
                Op::from(Pad {
                    value: value as f32,
                    ..pad.clone()
                })
            }
            Op::Resize(resize) if resize.mode != sdc_ir::graph::op::ResizeMode::Nearest => {
                return refuse("interpolation has no integer form");
            }
            op => op.clone(),
        };
        let mut operands = vec![x.value];
        for &v in &data.inputs[1..] {
            operands
                .push(self.floats[v.index()].ok_or_else(|| Some("an operand is not at hand".to_owned()))?);
        }
        let value = self.add(op, &operands, &data.origins)?;
        self.integers[data.outputs[0].index()] = Some(Integers { value, grid: x.grid });
        Ok(())
    }

    /// Any function of one tensor of eight bits is a table.
    fn lookup(&mut self, n: Node, data: &NodeData) -> Result<(), Refusal> {
        let src = self.rewrite.src;
        let Some(cone) = super::table::Cone::of(src, n) else {
            return Err(None);
        };
        if !self.has_integers(cone.source) || src.ty(cone.source).sizes() != src.ty(data.outputs[0]).sizes() {
            return Err(None);
        }
        let x = self.integers(cone.source)?;
        let Some(grid) = self.grids[data.outputs[0].index()] else {
            return refuse("its result has no finite range");
        };
        let table = cone.table(src, &x.grid, &grid)?;
        let origins = data.origins.clone();
        let table = self.scalar(table, &origins);
        let value = self.add(sdc_ir::graph::op::Lookup {}, &[x.value, table], &origins)?;
        self.integers[data.outputs[0].index()] = Some(Integers { value, grid });
        Ok(())
    }

    fn linear(&mut self, n: Node, data: &NodeData) -> Result<(), Refusal> {
        let weights = Weights::read(self.src(), data)?;
        super::product::emit(self, n, data, weights)
    }
}

/// No bounds.
pub(super) const EVERYTHING: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

/// Integer multipliers below 2^31 in magnitude and the shift that makes them stand for real ones, as exactly as the largest allows.
/// None is zero.
pub(super) fn multipliers(real: &[f64]) -> Result<(Vec<i64>, usize), Refusal> {
    let largest = real.iter().fold(0f64, |m, x| m.max(x.abs()));
    if !largest.is_normal() {
        return refuse("a quotient of scales is not a normal number");
    }
    // The largest becomes one of 31 bits.
    let exponent = ((largest.to_bits() >> 52) & 0x7ff) as i64 - 1023;
    let shift = 30 - exponent;
    if shift < 1 {
        return refuse("a quotient of scales is too large");
    }
    let shift = shift.min(62);
    let integer = |x: &f64| {
        let scaled = (x.abs() * 2f64.powi(shift as i32)).round_ties_even() as i64;
        let magnitude = scaled.clamp(1, (1 << 31) - 1);
        if *x < 0.0 { -magnitude } else { magnitude }
    };
    Ok((real.iter().map(integer).collect(), shift as usize))
}
