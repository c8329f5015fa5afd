//! Integer convolution: kernel calls on channels-last bytes.

use super::nest::Ref;
use super::{Lowering, TileError, quantised_weights, rebuild, sparse, split};
use sdc_ir::graph::op::QLinearConv;
use sdc_ir::graph::{Graph, Node, Value};
use sdc_ir::registry::conv2d_i8::{BLOCK, LANES};
use sdc_ir::schedule::{Algorithm, Form, Run, Tasks};
use sdc_ir::tile::{Affine, Bound, Buffer, FuncBuilder, KernelCall, View};
use sdc_ir::{DType, Tensor};
use std::ops::Range;

/// The constant operands, as numbers.
pub(super) struct Constants {
    /// `[M, C/group, kh, kw]`
    weights: Vec<i64>,
    shape: [usize; 4],
    bias: Vec<i32>,
    /// The bits of `f32`, or `i32` with a shift.
    multiplier: Vec<i32>,
    multiplier_type: DType,
}

/// Lowers output rows `rows` of an integer convolution.
pub fn lower(
    cx: &mut Lowering<'_>,
    node: Node,
    op: &QLinearConv,
    rows: Range<usize>,
    run: &Run,
    tasks: Tasks,
) -> Result<(), TileError> {
    if let Algorithm::Sparse { band, .. } = run.algorithm {
        return sparse::quantised(cx, node, op, (band, run.weights), rows, tasks);
    }
    let data = &cx.graph.nodes()[node];
    let (input, result) = (data.inputs[0], data.outputs[0]);
    let (x, y) = (cx.place(input), cx.place(result));
    if (x.strides[1] != 1 && x.shape[1] != 1) || (y.strides[1] != 1 && y.shape[1] != 1) {
        return Err(cx.unsupported(node, "operands are not channels-last"));
    }
    let depthwise = op.group > 1 && op.group == x.shape[1] && op.group == y.shape[1];
    let packed = if depthwise {
        Packed::depthwise(cx, node)?
    } else {
        Packed::dense(cx, node, op, run.weights)?
    };
    let cut = split::grid(tasks, rows.len());
    let out_c = packed.shape[0] / op.group;
    if cut.channel_parts != 1 && (op.group != 1 || !out_c.is_multiple_of(cut.channel_parts * BLOCK)) {
        return Err(cx.unsupported(node, "parts of the channels are not whole blocks"));
    }
    let signed = [input, result].map(|v| i64::from(cx.dtype(v) == DType::I8));
    let call = Call {
        op,
        packed: &packed,
        x: &x,
        y: &y,
        depthwise,
        // Parts of the channels are whole blocks, which follow one another.
        part: out_c / cut.channel_parts,
        signed,
    };
    let mut b = FuncBuilder::new();
    split::for_parts(&mut b, x.shape[0], tasks, &rows, &mut |b, image, at, range| {
        if depthwise || op.group == 1 {
            b.kernel(call.on(&image, &0.into(), &at, range));
        } else {
            b.for_range(0, op.group, 1, |b, g| {
                b.kernel(call.on(&image, &g, &at, range));
            });
        }
    });
    cx.push_func(b, data.origins.clone());
    Ok(())
}

/// The constant operands in buffers.
pub(super) struct Packed {
    /// `[M, C/group, kh, kw]`
    shape: [usize; 4],
    weights: Buffer,
    /// Elements of a group's weights.
    len: usize,
    /// Bytes per weight.
    planes: usize,
    /// Numbers per filter: of depthwise bias and scale, else bias, sum of the weights and scale.
    vectors: Vec<Buffer>,
}

impl Packed {
    fn depthwise(cx: &mut Lowering<'_>, node: Node) -> Result<Self, TileError> {
        let inputs = &cx.graph.nodes()[node].inputs;
        let k = constants(cx, node, inputs)?;
        let name = |what: &str| format!("{} {what}", inputs[1]);
        let [m, _, kh, kw] = k.shape;
        let taps = kh * kw;
        let moved: Vec<i16> = (0..taps * m)
            .map(|i| k.weights[i % m * taps + i / m] as i16)
            .collect();
        let weights = constant(cx, node, moved, &name("taps-major"))?;
        let bias = constant(cx, node, k.bias.clone(), &name("bias"))?;
        let scale = k.multipliers(cx, node, k.multiplier.clone(), &name("scale"))?;
        Ok(Self {
            shape: k.shape,
            weights,
            len: 0,
            planes: 1,
            vectors: vec![bias, scale],
        })
    }

    fn dense(
        cx: &mut Lowering<'_>,
        node: Node,
        op: &QLinearConv,
        form: Option<Form>,
    ) -> Result<Self, TileError> {
        let inputs = &cx.graph.nodes()[node].inputs;
        let k = constants(cx, node, inputs)?;
        let name = |what: &str| format!("{} {what}", inputs[1]);
        let planes = planes(cx.graph, inputs[1]);
        let weights = match form.filter(|form| form.is_compressed()) {
            Some(form) => {
                let streamed = form == Form::Streamed;
                quantised_weights::panels(cx, node, inputs[1], k.shape, op.group, streamed).ok_or_else(
                    || cx.unsupported(node, "the weights cannot be rebuilt in the kernel's order"),
                )?
            }
            None => constant(cx, node, packed(&k, op.group, planes), &name("packed"))?,
        };
        Ok(Self {
            shape: k.shape,
            weights,
            len: packed_len(k.shape, op.group, planes) / op.group,
            planes,
            vectors: Self::vectors(cx, node, op, &k)?,
        })
    }

    /// Bias, sum of the weights and scale of each filter; those of a group are rounded up to a multiple of [`LANES`].
    pub(super) fn vectors(
        cx: &mut Lowering<'_>,
        node: Node,
        op: &QLinearConv,
        k: &Constants,
    ) -> Result<Vec<Buffer>, TileError> {
        let inputs = &cx.graph.nodes()[node].inputs;
        let name = |what: &str| format!("{} {what}", inputs[1]);
        let [m, c, kh, kw] = k.shape;
        let out_c = m / op.group;
        let padded = out_c.next_multiple_of(LANES);
        let sums: Vec<i32> = k
            .weights
            .chunks_exact(c * kh * kw)
            .map(|filter| filter.iter().sum::<i64>() as i32)
            .collect();
        let bias = constant(cx, node, spread(&k.bias, out_c, padded), &name("bias"))?;
        let sums = constant(cx, node, spread(&sums, out_c, padded), &name("sums"))?;
        let scale = k.multipliers(cx, node, spread(&k.multiplier, out_c, padded), &name("scale"))?;
        Ok(vec![bias, sums, scale])
    }
}

/// A call of the kernel, but for the image, the group, the part of the channels, and the rows.
struct Call<'a> {
    op: &'a QLinearConv,
    packed: &'a Packed,
    x: &'a Ref,
    y: &'a Ref,
    depthwise: bool,
    /// Channels of a part.
    part: usize,
    /// Whether operand and result are signed.
    signed: [i64; 2],
}

impl Call<'_> {
    fn params(&self) -> Vec<i64> {
        let (op, x, y) = (self.op, self.x, self.y);
        let [_, c, kh, kw] = self.packed.shape;
        let in_c = if self.depthwise { x.shape[1] } else { c };
        let mut params: Vec<i64> = [x.shape[2], x.shape[3], in_c, y.shape[3]]
            .map(|n| n as i64)
            .to_vec();
        if !self.depthwise {
            params.push(self.part as i64);
        }
        let ([sh, sw], [dh, dw]) = ([0, 1].map(|d| op.strides[d]), [0, 1].map(|d| op.dilations[d]));
        params.extend([kh, kw, sh, sw, dh, dw].map(|n| n as i64));
        params.extend([op.pads[0] as i64, op.pads[1] as i64]);
        params.extend([x.strides[2], x.strides[3], 0, y.strides[2], y.strides[3], 0]);
        if !self.depthwise {
            params.push(self.packed.planes as i64);
        }
        let [x_signed, y_signed] = self.signed;
        let shift = op.shift as i64;
        params.extend([x_signed, op.x_zero, y_signed, op.y_zero, op.min, op.max, shift]);
        params
    }

    fn on(&self, image: &Affine, group: &Affine, at: &Affine, range: Range<Bound>) -> KernelCall {
        let [m, c, ..] = self.packed.shape;
        let out_c = m / self.op.group;
        let padded = out_c.next_multiple_of(LANES);
        let (len, part) = (self.packed.len, self.part);
        let view = |buffer: Buffer, offset: Affine| Some(View { buffer, offset });
        let of = |per_group: usize, per_part: usize| {
            group.clone() * per_group as i64 + at.clone() * per_part as i64
        };
        let tensor =
            |r: &Ref, channel: Affine| view(r.buffer, image.clone() * r.strides[0] + channel + r.offset);
        let weights = view(self.packed.weights, of(len, part * len / padded));
        let mut operands = vec![tensor(self.x, of(c, 0)), weights];
        operands.extend(self.packed.vectors.iter().map(|&v| view(v, of(padded, part))));
        operands.push(tensor(self.y, of(out_c, part)));
        let kernel = if self.depthwise {
            "depthwise2d_i8"
        } else {
            "conv2d_i8"
        };
        KernelCall {
            kernel: kernel.to_owned(),
            params: self.params(),
            operands,
            begin: range.start,
            end: range.end,
        }
    }
}

pub(super) fn constants(cx: &Lowering<'_>, node: Node, inputs: &[Value]) -> Result<Constants, TileError> {
    let get = |i: usize, what: &str| {
        cx.graph
            .constant(inputs[i])
            .ok_or_else(|| cx.unsupported(node, format!("{what} that are not constant are not supported")))
    };
    let fail = |e: sdc_ir::tensor::TensorError| cx.unsupported(node, e.to_string());
    let weights = match rebuild::Weights::any(cx.graph, inputs[1]) {
        Some(weights) => {
            let rebuilt = weights.stored().rebuild();
            rebuilt.map_err(|e| cx.unsupported(node, e.to_string()))?.0
        }
        None => get(1, "weights")?.clone(),
    };
    let multiplier = get(3, "multipliers")?;
    Ok(Constants {
        weights: weights.to_i64_vec().unwrap_or_default(),
        shape: [0, 1, 2, 3].map(|d| weights.shape()[d]),
        bias: get(2, "biases")?.elements::<i32>().map_err(fail)?.to_vec(),
        multiplier: match multiplier.dtype() {
            DType::I32 => multiplier.elements::<i32>().map_err(fail)?.to_vec(),
            _ => {
                let real = multiplier.elements::<f32>().map_err(fail)?;
                real.iter().map(|m| m.to_bits() as i32).collect()
            }
        },
        multiplier_type: multiplier.dtype(),
    })
}

impl Constants {
    /// A constant of multipliers in their own type.
    fn multipliers(
        &self,
        cx: &mut Lowering<'_>,
        node: Node,
        bits: Vec<i32>,
        name: &str,
    ) -> Result<Buffer, TileError> {
        if self.multiplier_type == DType::I32 {
            constant(cx, node, bits, name)
        } else {
            let real: Vec<f32> = bits.into_iter().map(|m| f32::from_bits(m as u32)).collect();
            constant(cx, node, real, name)
        }
    }
}

/// Numbers per filter, every group's `out_c` filled up to `padded` with zeros.
fn spread<T: Copy + Default>(all: &[T], out_c: usize, padded: usize) -> Vec<T> {
    let mut result = Vec::with_capacity(all.len().div_ceil(out_c) * padded);
    for group in all.chunks(out_c) {
        result.extend_from_slice(group);
        result.resize(result.len() + padded - group.len(), T::default());
    }
    result
}

/// Bytes per weight: two if some do not fit one.
pub fn planes(graph: &Graph, weights: Value) -> usize {
    let wide = |w: &i64| !(-128..=127).contains(w);
    let all = graph
        .constant(weights)
        .filter(|t| t.dtype() != DType::I8)
        .and_then(Tensor::to_i64_vec);
    1 + usize::from(all.is_some_and(|all| all.iter().any(wide)))
}

/// Elements of the packed weights of all groups.
pub(super) fn packed_len([m, c, kh, kw]: [usize; 4], groups: usize, planes: usize) -> usize {
    groups * planes * kh * kw * c.next_multiple_of(4) * (m / groups).next_multiple_of(LANES)
}

/// Weights as `conv2d_i8` reads them, groups one after another.
fn packed(k: &Constants, groups: usize, planes: usize) -> Vec<i8> {
    let [m, c, kh, kw] = k.shape;
    let (out_c, taps) = (m / groups, kh * kw);
    let mut result = Vec::new();
    for g in 0..groups {
        for first in (0..out_c).step_by(BLOCK) {
            let width = BLOCK.min((out_c - first).next_multiple_of(LANES));
            for plane in 0..planes {
                for tap in 0..taps {
                    for quad in 0..c.div_ceil(4) {
                        for i in 0..width * 4 {
                            let (filter, channel) = (first + i / 4, quad * 4 + i % 4);
                            let exists = filter < out_c && channel < c;
                            let weight = if exists {
                                k.weights[((g * out_c + filter) * c + channel) * taps + tap]
                            } else {
                                0
                            };
                            // The first plane holds what a byte can, the second the rest.
                            let low = weight.clamp(-128, 127);
                            result.push(if plane == 0 { low } else { weight - low } as i8);
                        }
                    }
                }
            }
        }
    }
    result
}

fn constant<T: sdc_ir::tensor::Element>(
    cx: &mut Lowering<'_>,
    node: Node,
    elements: Vec<T>,
    name: &str,
) -> Result<Buffer, TileError> {
    let tensor = Tensor::from_elements(vec![elements.len()], elements)
        .map_err(|e| cx.unsupported(node, e.to_string()))?;
    Ok(cx.constant(tensor, name))
}
