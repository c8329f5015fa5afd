//! A quick evaluator of graphs for calibration: convolutions and matrix products in `f32` by blocked products, everything else by
//! the reference interpreter.
//!
//! Not an oracle and not what is shipped: it only has to see realistic activations soon.

use nalgebra::{DMatrixView, DMatrixViewMut};
use sdc_interp::{EvalError, eval_op};
use sdc_ir::entity::EntityId;
use sdc_ir::graph::op::{Activation, Conv};
use sdc_ir::graph::{Graph, Node, Op, Value};
use sdc_ir::tensor::element_count;
use sdc_ir::{DType, Tensor};
use std::borrow::Cow;

/// A graph with some of its constants replaced.
#[derive(Clone, Debug)]
pub struct Evaluator<'a> {
    graph: &'a Graph,
    /// By value: the constant to use.
    constants: Vec<Option<Tensor>>,
    /// By value: the last node that reads it.
    last_use: Vec<Option<Node>>,
    live: Vec<bool>,
}

/// What a visitor sees: a node about to be evaluated, with its operands.
pub type Visit<'v> = &'v mut dyn FnMut(Node, &[&Tensor]);

impl<'a> Evaluator<'a> {
    /// An evaluator of the graph as it is.
    pub fn new(graph: &'a Graph) -> Self {
        let mut last_use = vec![None; graph.values().len()];
        for (n, data) in graph.nodes().iter() {
            for v in &data.inputs {
                last_use[v.index()] = Some(n);
            }
        }
        let constants = graph.values().ids().map(|v| graph.constant(v).cloned()).collect();
        Self {
            graph,
            constants,
            last_use,
            live: graph.live_nodes(),
        }
    }

    /// Uses another tensor of the same type for a constant.
    pub fn replace(&mut self, value: Value, tensor: Tensor) {
        self.constants[value.index()] = Some(tensor);
    }

    /// Evaluates on one set of inputs, calling `visit` before each node; returns the values wanted.
    ///
    /// # Errors
    /// A node fails, or the inputs do not fit.
    pub fn run(
        &self,
        inputs: &[Tensor],
        wanted: &[Value],
        visit: Visit<'_>,
    ) -> Result<Vec<Option<Tensor>>, EvalError> {
        let mut state = self.begin(inputs)?;
        self.finish(&mut state, wanted, visit)
    }

    /// The state before the first node.
    ///
    /// # Errors
    /// The inputs do not fit.
    pub fn begin(&self, inputs: &[Tensor]) -> Result<State, EvalError> {
        let graph = self.graph;
        if inputs.len() != graph.inputs.len() {
            return Err(EvalError::InputCount {
                expected: graph.inputs.len(),
                actual: inputs.len(),
            });
        }
        let mut values: Vec<Option<Tensor>> = vec![None; graph.values().len()];
        for (port, x) in graph.inputs.iter().zip(inputs) {
            let expected = graph.ty(port.value);
            if x.dtype() != expected.dtype || x.shape() != expected.sizes() {
                return Err(EvalError::InputType {
                    name: port.name.clone(),
                    expected: expected.to_string(),
                    actual: format!("{}{:?}", x.dtype(), x.shape()),
                });
            }
            values[port.value.index()] = Some(x.clone());
        }
        Ok(State { values, next: 0 })
    }

    /// Evaluates the nodes that are left, calling `visit` before each; returns the values wanted, as far as they are new.
    ///
    /// # Errors
    /// A node fails.
    pub fn finish(
        &self,
        state: &mut State,
        wanted: &[Value],
        visit: Visit<'_>,
    ) -> Result<Vec<Option<Tensor>>, EvalError> {
        let mut kept = vec![None; wanted.len()];
        self.steps(state, self.graph.nodes().len(), visit, &mut |value, tensor| {
            for (slot, _) in kept.iter_mut().zip(wanted).filter(|(_, w)| **w == value) {
                *slot = Some(tensor.clone());
            }
        })?;
        Ok(kept)
    }

    /// Evaluates up to the node before `until`, calling `visit` before each.
    ///
    /// # Errors
    /// A node fails.
    pub fn advance(&self, state: &mut State, until: Node, visit: Visit<'_>) -> Result<(), EvalError> {
        self.steps(state, until.index(), visit, &mut |_, _| {})
    }

    /// The operands of a node, in a state before it.
    ///
    /// # Errors
    /// An operand is not there.
    pub fn operands<'s>(&'s self, state: &'s State, node: Node) -> Result<Vec<&'s Tensor>, EvalError> {
        let found = self.graph.nodes()[node].inputs.iter().map(|&v| {
            let found = self.constants[v.index()]
                .as_ref()
                .or(state.values[v.index()].as_ref());
            found.ok_or(EvalError::Undefined(v))
        });
        found.collect()
    }

    fn steps(
        &self,
        state: &mut State,
        end: usize,
        visit: Visit<'_>,
        made: &mut dyn FnMut(Value, &Tensor),
    ) -> Result<(), EvalError> {
        let from = state.next;
        state.next = end.max(from);
        let open = |node: Node| (from..end).contains(&node.index()) && self.live[node.index()];
        for (node, data) in self.graph.nodes().iter().filter(|(n, _)| open(*n)) {
            if matches!(data.op, Op::Constant(_)) {
                continue;
            }
            let results = {
                let operands = self.operands(state, node)?;
                visit(node, &operands);
                eval_node(&data.op, &operands, self.graph, &data.outputs).map_err(|source| {
                    EvalError::Node {
                        node,
                        op: data.op.name(),
                        origins: data.origins.clone(),
                        source: Box::new(source),
                    }
                })?
            };
            for (&v, tensor) in data.outputs.iter().zip(results) {
                made(v, &tensor);
                state.values[v.index()] = Some(tensor);
            }
            for &v in &data.inputs {
                if self.last_use[v.index()] == Some(node) {
                    state.values[v.index()] = None;
                }
            }
        }
        Ok(())
    }

    /// Bytes of the values alive before each of the given nodes, at most.
    pub fn most_alive(&self, before: &[Node]) -> usize {
        let graph = self.graph;
        let bytes = |v: Value| graph.ty(v).bytes().unwrap_or(usize::MAX);
        let alive = |at: Node| {
            let crossing = graph.values().ids().filter(|&v| {
                let born = graph.def_node(v).is_none_or(|n| n.index() < at.index());
                let used = self.last_use[v.index()].is_some_and(|n| n.index() >= at.index());
                born && used && self.constants[v.index()].is_none()
            });
            crossing.fold(0, |sum: usize, v| sum.saturating_add(bytes(v)))
        };
        before.iter().map(|&n| alive(n)).max().unwrap_or(0)
    }
}

/// Values between two nodes of an evaluation. Cheap to copy: tensors are shared.
#[derive(Clone, Debug)]
pub struct State {
    /// By value, as far as still needed.
    values: Vec<Option<Tensor>>,
    /// The first node not evaluated.
    next: usize,
}

fn eval_node(
    op: &Op,
    operands: &[&Tensor],
    graph: &Graph,
    outputs: &[Value],
) -> Result<Vec<Tensor>, EvalError> {
    match op {
        Op::Conv(conv) if is_planar(operands) => {
            let shape = graph.ty(outputs[0]).sizes();
            let mut y = conv_sums(conv, operands[0], operands[1], shape)?;
            finish(conv, operands, shape, &mut y)?;
            Ok(vec![Tensor::from_elements(shape.to_vec(), y)?])
        }
        _ => eval_op(op, operands),
    }
}

/// True if a convolution's operands are what the quick path handles: two spatial dimensions, `f32`.
pub fn is_planar(operands: &[&Tensor]) -> bool {
    operands[1].shape().len() == 4 && operands.iter().all(|t| t.dtype() == DType::F32)
}

fn floats(t: &Tensor) -> Result<Cow<'_, [f32]>, EvalError> {
    Ok(t.elements::<f32>()?)
}

/// Adds bias and residual, and activates.
fn finish(op: &Conv, operands: &[&Tensor], shape: &[usize], y: &mut [f32]) -> Result<(), EvalError> {
    let plane = shape[2] * shape[3];
    if op.bias {
        let bias = floats(operands[2])?;
        for (i, channel) in y.chunks_exact_mut(plane.max(1)).enumerate() {
            channel.iter_mut().for_each(|y| *y += bias[i % shape[1]]);
        }
    }
    if op.residual {
        let residual = floats(operands[operands.len() - 1])?;
        y.iter_mut().zip(residual.iter()).for_each(|(y, r)| *y += r);
    }
    activate(op.act, y);
    Ok(())
}

fn activate(act: Activation, y: &mut [f32]) {
    match act {
        Activation::None => {}
        Activation::Relu => y.iter_mut().for_each(|y| *y = y.max(0.0)),
        Activation::Clip { min, max } => y.iter_mut().for_each(|y| *y = y.max(min).min(max)),
        Activation::LeakyRelu { alpha } => y.iter_mut().filter(|y| **y < 0.0).for_each(|y| *y *= alpha),
    }
}

/// The convolution alone, `[N, M, oh, ow]`.
///
/// # Errors
/// Operands that are not `f32`.
pub fn conv_sums(op: &Conv, x: &Tensor, w: &Tensor, shape: &[usize]) -> Result<Vec<f32>, EvalError> {
    let (xs, ws) = (x.shape(), w.shape());
    let (x, w) = (floats(x)?, floats(w)?);
    let count = element_count(shape).ok_or(EvalError::OutOfMemory(usize::MAX))?;
    let mut y = vec![0f32; count];
    let (filters, plane) = (shape[1], shape[2] * shape[3]);
    let (group_channels, group_filters) = (ws[1], filters / op.group);
    let depth = ws[1] * ws[2] * ws[3];
    if plane == 0 || depth == 0 {
        return Ok(y);
    }
    if group_channels == 1 && group_filters == 1 {
        let arch = pulp::Arch::new();
        for (i, y) in y.chunks_exact_mut(plane).enumerate() {
            let (n, m) = (i / filters, i % filters);
            let x = &x[(n * xs[1] + m) * xs[2] * xs[3]..][..xs[2] * xs[3]];
            let w = &w[m * depth..][..depth];
            arch.dispatch(
                #[inline(always)]
                || depthwise(op, x, &xs[2..], w, &ws[2..], y, &shape[2..]),
            );
        }
        return Ok(y);
    }
    let mut patches = Vec::new();
    for n in 0..shape[0] {
        for g in 0..op.group {
            let from = (n * xs[1] + g * group_channels) * xs[2] * xs[3];
            let x = &x[from..][..group_channels * xs[2] * xs[3]];
            let patches = if is_pointwise(op, &ws[2..]) {
                x
            } else {
                unfold(op, x, &xs[2..], &ws[2..], &shape[2..], &mut patches);
                &patches
            };
            let w = &w[g * group_filters * depth..][..group_filters * depth];
            let y = &mut y[(n * filters + g * group_filters) * plane..][..group_filters * plane];
            // Column-major views: y^T [plane, filters] = patches^T [plane, depth] * w^T [depth, filters].
            let mut out = DMatrixViewMut::from_slice(y, plane, group_filters);
            let left = DMatrixView::from_slice(patches, plane, depth);
            let right = DMatrixView::from_slice(w, depth, group_filters);
            out.gemm(1.0, &left, &right, 0.0);
        }
    }
    Ok(y)
}

/// True if the patches are the input itself.
fn is_pointwise(op: &Conv, kernel: &[usize]) -> bool {
    let still = |all: &[usize], x: usize| all.iter().all(|&v| v == x);
    still(kernel, 1) && still(&op.strides, 1) && still(&op.pads, 0)
}

/// Where a kernel column meets a row of the input: the outputs whose input exists, and the input of the first of them.
fn overlap(op: &Conv, kx: usize, width: usize, out: usize) -> (std::ops::Range<usize>, usize) {
    let (stride, at, pad) = (op.strides[1], kx * op.dilations[1], op.pads[1]);
    let first = pad.saturating_sub(at).div_ceil(stride).min(out);
    // Inputs are ox * stride + at - pad < width.
    let end = (width + pad).saturating_sub(at).div_ceil(stride).min(out);
    (first..end.max(first), (first * stride + at).saturating_sub(pad))
}

/// The input row that a kernel row meets at an output row, if it exists.
fn input_row(op: &Conv, ky: usize, oy: usize, height: usize) -> Option<usize> {
    let iy = (oy * op.strides[0] + ky * op.dilations[0]).checked_sub(op.pads[0])?;
    (iy < height).then_some(iy)
}

/// The patches of one group's channels: for each of `[channel, ky, kx]` a plane of output positions, zero outside the input.
pub fn unfold(op: &Conv, x: &[f32], size: &[usize], kernel: &[usize], out: &[usize], patches: &mut Vec<f32>) {
    let plane = size[0] * size[1];
    patches.clear();
    for x in x.chunks_exact(plane.max(1)) {
        for ky in 0..kernel[0] {
            for kx in 0..kernel[1] {
                let (range, from) = overlap(op, kx, size[1], out[1]);
                for oy in 0..out[0] {
                    let start = patches.len();
                    patches.resize(start + out[1], 0.0);
                    let Some(iy) = input_row(op, ky, oy, size[0]).filter(|_| !range.is_empty()) else {
                        continue;
                    };
                    let row = &x[iy * size[1]..][from..size[1]];
                    let to = &mut patches[start..][range.clone()];
                    if op.strides[1] == 1 {
                        to.copy_from_slice(&row[..to.len()]);
                    } else {
                        let taken = row.iter().step_by(op.strides[1]);
                        to.iter_mut().zip(taken).for_each(|(p, &v)| *p = v);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn depthwise(
    op: &Conv,
    x: &[f32],
    size: &[usize],
    w: &[f32],
    kernel: &[usize],
    y: &mut [f32],
    out: &[usize],
) {
    for ky in 0..kernel[0] {
        for kx in 0..kernel[1] {
            let w = w[ky * kernel[1] + kx];
            let (range, from) = overlap(op, kx, size[1], out[1]);
            if range.is_empty() {
                continue;
            }
            for oy in 0..out[0] {
                let Some(iy) = input_row(op, ky, oy, size[0]) else {
                    continue;
                };
                let row = &x[iy * size[1]..][from..size[1]];
                let to = &mut y[oy * out[1]..][range.clone()];
                if op.strides[1] == 1 {
                    to.iter_mut().zip(row).for_each(|(y, &v)| *y += w * v);
                } else {
                    let taken = row.iter().step_by(op.strides[1]);
                    to.iter_mut().zip(taken).for_each(|(y, &v)| *y += w * v);
                }
            }
        }
    }
}
