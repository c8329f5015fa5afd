//! Convolution: kernel calls on channels-last data.

use super::nest::Ref;
use super::rebuild::{self, Blocks, Matrices};
use super::split::{self, Layer, Split};
use super::{Lowering, TileError, generic_conv, pack, winograd};
use sdc_ir::graph::op::{Activation, Conv};
use sdc_ir::graph::{Node, Value};
use sdc_ir::tile::{Affine, Bound, Buffer, FuncBuilder, KernelCall, View};
use sdc_ir::{DType, Tensor};
use std::ops::Range;

/// Kernel parameters of an activation: code and two `f32` arguments as bits.
pub fn activation_params(act: Activation) -> [i64; 3] {
    let bits = |x: f32| i64::from(x.to_bits());
    match act {
        Activation::None => [0, 0, 0],
        Activation::Relu => [1, 0, 0],
        Activation::Clip { min, max } => [2, bits(min), bits(max)],
        Activation::LeakyRelu { alpha } => [3, bits(alpha), 0],
    }
}

/// What a product costs where channels are not summed, in multiply-accumulates of a matrix product.
pub const DEPTHWISE_COST: usize = 4;

/// Weights of a convolution.
enum Source {
    Dense(Tensor),
    Compressed(Box<rebuild::Weights>, Matrices),
}

/// Compressed weights that the kernels can have in their own form.
fn compressed(
    cx: &Lowering<'_>,
    value: Value,
    shape: &[usize],
    group: usize,
    depthwise: bool,
) -> Option<Source> {
    let &[_, c, _, kw] = shape else { return None };
    let (block, lanes) = if depthwise {
        (shape[0], 1)
    } else {
        (cx.options.block, cx.options.kernel_lanes)
    };
    let matrices = Matrices {
        groups: if depthwise { 1 } else { group },
        row_steps: vec![0, 1, kw * c, c],
        block,
        lanes,
    };
    let weights = rebuild::Weights::of(cx, value, &[0]).filter(|w| w.fits(&matrices))?;
    Some(Source::Compressed(Box::new(weights), matrices))
}

/// A `conv2d_f32` call in terms of tensors; one image, one group, channels-last result.
#[derive(Clone)]
pub struct Conv2d {
    /// Window along rows: kernel, stride, dilation.
    pub rows: [usize; 3],
    /// Window along columns: kernel, stride, dilation.
    pub columns: [usize; 3],
    /// Padding before rows and columns; may be negative (reading starts inside).
    pub before: [i64; 2],
    /// `[C, H, W]` input.
    pub x: Ref,
    /// Packed weights.
    pub w: View,
    /// Bias, one per output channel.
    pub bias: Option<View>,
    /// `[M, H, W]` residual.
    pub residual: Option<Ref>,
    /// `[M, H, W]` result.
    pub y: Ref,
    /// Epilogue.
    pub act: Activation,
}

impl Conv2d {
    /// The call computing output rows `range`. `group` shifts the operands by whole groups: per operand in the
    /// registry's order an affine offset in elements.
    pub fn call(&self, block: usize, lanes: usize, range: Range<Bound>, shift: &[Affine; 5]) -> KernelCall {
        let [in_c, in_h, in_w] = [self.x.shape[0], self.x.shape[1], self.x.shape[2]];
        let [out_c, out_w] = [self.y.shape[0], self.y.shape[2]];
        let residual_strides = self
            .residual
            .as_ref()
            .map_or([0, 0], |r| [r.strides[1], r.strides[2]]);
        let mut params: Vec<i64> = [in_h, in_w, in_c, out_w, out_c].map(|n| n as i64).to_vec();
        let ([kh, sh, dh], [kw, sw, dw]) = (self.rows, self.columns);
        params.extend([kh, kw, sh, sw, dh, dw].map(|n| n as i64));
        params.extend(self.before);
        params.extend([self.x.strides[1], self.x.strides[2], self.x.strides[0], 0]);
        params.extend([self.y.strides[1], self.y.strides[2], 0]);
        params.extend([residual_strides[0], residual_strides[1], 0]);
        params.extend([block as i64, lanes as i64]);
        params.extend([i64::from(self.bias.is_some()), i64::from(self.residual.is_some())]);
        params.extend(activation_params(self.act));
        let view = |r: &Ref, by: &Affine| View {
            buffer: r.buffer,
            offset: by.clone() + r.offset,
        };
        let moved = |v: &View, by: &Affine| View {
            buffer: v.buffer,
            offset: v.offset.clone() + by.clone(),
        };
        let operands = vec![
            Some(view(&self.x, &shift[0])),
            Some(moved(&self.w, &shift[1])),
            self.bias.as_ref().map(|v| moved(v, &shift[2])),
            self.residual.as_ref().map(|r| view(r, &shift[3])),
            Some(view(&self.y, &shift[4])),
        ];
        KernelCall {
            kernel: "conv2d_f32".to_owned(),
            params,
            operands,
            begin: range.start,
            end: range.end,
        }
    }
}

/// Operands of a convolution node.
pub struct Operands {
    pub x: Value,
    pub w: Value,
    pub bias: Option<Value>,
    pub residual: Option<Value>,
}

/// Splits the operand list of a node with optional bias and residual.
pub fn operands(inputs: &[Value], bias: bool, residual: bool) -> Operands {
    let mut rest = inputs[2..].iter().copied();
    Operands {
        x: inputs[0],
        w: inputs[1],
        bias: if bias { rest.next() } else { None },
        residual: if residual { rest.next() } else { None },
    }
}

/// Lowers output rows `rows` of a convolution.
pub fn lower(cx: &mut Lowering<'_>, node: Node, op: &Conv, rows: Range<usize>) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let o = operands(&data.inputs, op.bias, op.residual);
    let (x, y) = (cx.place(o.x), cx.place(data.outputs[0]));
    let weights = cx
        .graph
        .constant(o.w)
        .filter(|t| t.dtype() == DType::F32)
        .cloned();
    let shape = cx.graph.ty(o.w).sizes().to_vec();
    if let (Some(&tile), Some(dense)) = (cx.winograd.get(&node), &weights) {
        return winograd::lower(cx, node, op, dense, rows, tile);
    }
    let depthwise = op.group > 1
        && x.shape.len() == 4
        && op.group == x.shape[1]
        && op.group == y.shape[1]
        && x.strides[1] == 1;
    let weights = match weights {
        Some(dense) => Some(Source::Dense(dense)),
        None => compressed(cx, o.w, &shape, op.group, depthwise),
    };
    let (Some(weights), 4, true) = (weights, x.shape.len(), y.strides.get(1) == Some(&1)) else {
        return generic_conv::lower(cx, node, op, rows);
    };
    let kernel = [shape[2], shape[3]];
    let bias = o.bias.map(|v| cx.place(v));
    let residual = o.residual.map(|v| cx.place(v));
    if residual
        .as_ref()
        .is_some_and(|r| r.strides[1] != 1 && r.shape[1] != 1)
    {
        return Err(cx.unsupported(node, "residual is not channels-last"));
    }
    let mut b = FuncBuilder::new();
    let images = x.shape[0];
    if depthwise {
        let macs = DEPTHWISE_COST * y.shape[1..].iter().product::<usize>() * kernel[0] * kernel[1];
        let chunks = chunks(&rows, macs);
        let w = match &weights {
            Source::Compressed(weights, matrices) => rebuild::panels(cx, &data.origins, weights, matrices),
            Source::Dense(weights) => {
                let taps = weights
                    .elements::<f32>()
                    .map_err(|e| cx.unsupported(node, e.to_string()))?;
                let (channels, size) = (x.shape[1], kernel[0] * kernel[1]);
                let moved: Vec<f32> = (0..size * channels)
                    .map(|i| taps[i % channels * size + i / channels])
                    .collect();
                let packed = tensor(cx, node, moved)?;
                cx.constant(packed, &format!("{} taps-major", o.w))
            }
        };
        let call = Depthwise {
            op,
            kernel,
            x: &x,
            w,
            bias: bias.as_ref(),
            residual: residual.as_ref(),
            y: &y,
        };
        for_images(&mut b, images, &chunks, &rows, |b, image, range| {
            b.kernel(call.call(image, range))
        });
    } else {
        let (in_c, out_c) = (x.shape[1] / op.group, y.shape[1] / op.group);
        let (w, per_group) = match &weights {
            Source::Compressed(weights, matrices) => {
                let buffer = match cx.options.streamed && op.group == 1 && out_c > cx.options.block {
                    true => rebuild::scratch(cx, weights, matrices),
                    false => rebuild::panels(cx, &data.origins, weights, matrices),
                };
                (buffer, weights.matrix_len(matrices))
            }
            Source::Dense(weights) => {
                let (packed, per_group) = packed_weights(cx, node, weights, op.group)?;
                (cx.constant(packed, &format!("{} packed", o.w)), per_group)
            }
        };
        let channels = |r: &Ref, n: usize| r.narrow(1, 0, n);
        let image_of = Ref::inner;
        let call = Conv2d {
            rows: [kernel[0], op.strides[0], op.dilations[0]],
            columns: [kernel[1], op.strides[1], op.dilations[1]],
            before: [op.pads[0] as i64, op.pads[1] as i64],
            x: image_of(&channels(&x, in_c)),
            w: View {
                buffer: w,
                offset: 0.into(),
            },
            bias: bias.as_ref().map(|r| View {
                buffer: r.buffer,
                offset: r.offset.into(),
            }),
            residual: residual.as_ref().map(|r| image_of(&channels(r, out_c))),
            y: image_of(&channels(&y, out_c)),
            act: op.act,
        };
        let (block, lanes) = (cx.options.block, cx.options.kernel_lanes);
        if let Source::Compressed(weights, matrices) = &weights
            && cx.options.streamed
            && op.group == 1
            && out_c > block
        {
            let blocks = Blocks {
                columns: out_c,
                block,
            };
            blocks.emit(cx, &mut b, weights, matrices, w, |b, at, columns| {
                let mut part = call.clone();
                part.y = channels(&y, columns).inner();
                part.residual = residual.as_ref().map(|r| channels(r, columns).inner());
                b.for_range(0, images, 1, |b, image| {
                    let shift = [
                        image.clone() * x.strides[0],
                        0.into(),
                        at.clone(),
                        image.clone() * residual.as_ref().map_or(0, |r| r.strides[0]) + at.clone(),
                        image * y.strides[0] + at.clone(),
                    ];
                    let range = Bound::from(rows.start)..Bound::from(rows.end);
                    b.kernel(part.call(block, lanes, range, &shift));
                });
            });
            let over: Vec<Ref> = residual.filter(|_| rows == (0..y.shape[2])).into_iter().collect();
            cx.push_func(b, data.origins.clone(), &y, &over);
            return Ok(());
        }
        let split = Split::of(&Layer {
            rows: rows.len(),
            columns: y.shape[3],
            reduction: in_c * kernel[0] * kernel[1],
            channels: out_c,
            groups: op.group,
            block,
            input: x.shape[1..].iter().product(),
            entry: 0,
            per_task: split::MACS_PER_TASK,
        });
        let part = out_c / split.channel_parts;
        let call = Conv2d {
            residual: call.residual.map(|r| r.narrow(0, 0, part)),
            y: call.y.narrow(0, 0, part),
            ..call
        };
        // Blocks of packed weights follow one another, and every part but the only one is made of whole blocks.
        let reduction = in_c * kernel[0] * kernel[1];
        split::for_parts(&mut b, images, &split, &rows, &mut |b, image, part_at, range| {
            let group = |b: &mut FuncBuilder, g: Affine| {
                let channel = g.clone() * out_c as i64 + part_at.clone() * part as i64;
                let shift = [
                    image.clone() * x.strides[0] + g.clone() * (in_c as i64 * x.strides[1]),
                    g.clone() * per_group as i64 + part_at.clone() * (part * reduction) as i64,
                    channel.clone(),
                    image.clone() * residual.as_ref().map_or(0, |r| r.strides[0]) + channel.clone(),
                    image.clone() * y.strides[0] + channel,
                ];
                b.kernel(call.call(block, lanes, range.clone(), &shift));
            };
            if op.group == 1 {
                group(b, 0.into())
            } else {
                b.for_range(0, op.group, 1, group)
            }
        });
    }
    let over: Vec<Ref> = residual.filter(|_| rows == (0..y.shape[2])).into_iter().collect();
    cx.push_func(b, data.origins.clone(), &y, &over);
    Ok(())
}

/// Weights `[M, C/group, kh, kw]` of every group in packed columns, groups one after another, and the elements of one
/// group. The row of tap `(ky, kx)`, channel `c` is `(ky * kw + kx) * C/group + c`.
fn packed_weights(
    cx: &Lowering<'_>,
    node: Node,
    weights: &Tensor,
    groups: usize,
) -> Result<(Tensor, usize), TileError> {
    let [m, c, kh, kw] = [0, 1, 2, 3].map(|d| weights.shape()[d]);
    let (out_c, taps) = (m / groups, kh * kw);
    let (block, lanes) = (cx.options.block, cx.options.kernel_lanes);
    let fail = |e: sdc_ir::tensor::TensorError| cx.unsupported(node, e.to_string());
    let elements = weights.elements::<f32>().map_err(fail)?;
    let at = |g: usize| {
        let elements = &elements;
        move |row: usize, column: usize| elements[((g * out_c + column) * c + row % c) * taps + row / c]
    };
    let per_group = pack::packed_len(taps * c, out_c, block, lanes);
    if groups == 1 {
        return Ok((
            pack::columns(taps * c, out_c, block, lanes, at(0)).map_err(fail)?,
            per_group,
        ));
    }
    let mut all = Vec::with_capacity(per_group * groups);
    for g in 0..groups {
        let packed = pack::columns(taps * c, out_c, block, lanes, at(g)).map_err(fail)?;
        all.extend_from_slice(&packed.elements::<f32>().map_err(fail)?);
    }
    Ok((tensor(cx, node, all)?, per_group))
}

/// A rank-1 constant.
pub fn tensor(cx: &Lowering<'_>, node: Node, elements: Vec<f32>) -> Result<Tensor, TileError> {
    Tensor::from_elements(vec![elements.len()], elements).map_err(|e| cx.unsupported(node, e.to_string()))
}

struct Depthwise<'a> {
    op: &'a Conv,
    kernel: [usize; 2],
    x: &'a Ref,
    w: Buffer,
    bias: Option<&'a Ref>,
    residual: Option<&'a Ref>,
    y: &'a Ref,
}

impl Depthwise<'_> {
    fn call(&self, image: Affine, range: Range<Bound>) -> KernelCall {
        let (x, y, op) = (self.x, self.y, self.op);
        let residual_strides = self.residual.map_or([0, 0], |r| [r.strides[2], r.strides[3]]);
        let mut params: Vec<i64> = [x.shape[2], x.shape[3], x.shape[1], y.shape[3]]
            .map(|n| n as i64)
            .to_vec();
        let spatial = [
            self.kernel[0],
            self.kernel[1],
            op.strides[0],
            op.strides[1],
            op.dilations[0],
            op.dilations[1],
            op.pads[0],
            op.pads[1],
        ];
        params.extend(spatial.map(|n| n as i64));
        params.extend([x.strides[2], x.strides[3], 0, y.strides[2], y.strides[3], 0]);
        params.extend([residual_strides[0], residual_strides[1], 0]);
        params.extend([i64::from(self.bias.is_some()), i64::from(self.residual.is_some())]);
        params.extend(activation_params(op.act));
        let view = |r: &Ref| View {
            buffer: r.buffer,
            offset: image.clone() * r.strides[0] + r.offset,
        };
        let operands = vec![
            Some(view(x)),
            Some(View {
                buffer: self.w,
                offset: 0.into(),
            }),
            self.bias.map(|r| View {
                buffer: r.buffer,
                offset: r.offset.into(),
            }),
            self.residual.map(view),
            Some(view(y)),
        ];
        KernelCall {
            kernel: "depthwise2d_f32".to_owned(),
            params,
            operands,
            begin: range.start,
            end: range.end,
        }
    }
}

/// Number of row chunks worth running concurrently, and rows per chunk.
pub fn chunks(rows: &Range<usize>, macs: usize) -> (usize, usize) {
    const MAX_CHUNKS: usize = 8;
    let count = (macs / split::MACS_PER_TASK)
        .clamp(1, MAX_CHUNKS)
        .min(rows.len().max(1));
    let per_chunk = rows.len().div_ceil(count).max(1);
    (rows.len().div_ceil(per_chunk), per_chunk)
}

/// Runs `body` for each image and each chunk of rows; a parallel loop if that is the only loop needed.
pub fn for_images(
    b: &mut FuncBuilder,
    images: usize,
    &(count, per_chunk): &(usize, usize),
    rows: &Range<usize>,
    mut body: impl FnMut(&mut FuncBuilder, Affine, Range<Bound>),
) {
    let whole = Split {
        rows: per_chunk,
        row_parts: count,
        channel_parts: 1,
        rows_inside: false,
    };
    split::for_parts(b, images, &whole, rows, &mut |b, image, _, range| {
        body(b, image, range)
    });
}
