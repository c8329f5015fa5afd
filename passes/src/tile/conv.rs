//! Convolution: kernel calls on channels-last data.

use super::matrix::Matrix;
use super::nest::Ref;
use super::rebuild::{self, Blocks, Matrices};
use super::{Lowering, TileError, generic_conv, sparse, split, winograd};
use sdc_ir::Tensor;
use sdc_ir::graph::op::{Activation, Conv};
use sdc_ir::graph::{Graph, Node, Value};
use sdc_ir::schedule::{Algorithm, Form, Run, Tasks, Widths};
use sdc_ir::tile::{Affine, Bound, Buffer, FuncBuilder, KernelCall, View};
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

/// Weights of a convolution.
enum Source {
    /// Packed, and the elements of a group.
    Packed(Buffer, usize),
    /// Rebuilt when the model is loaded, or while it runs.
    Compressed(Box<rebuild::Weights>, Matrices, bool),
}

/// Compressed weights that the kernels can have in their own form.
pub fn compressed(
    graph: &Graph,
    widths: &Widths,
    value: Value,
    shape: &[usize],
    group: usize,
    depthwise: bool,
) -> Option<(rebuild::Weights, Matrices)> {
    let &[_, c, _, kw] = shape else { return None };
    let (block, lanes) = if depthwise {
        (shape[0], 1)
    } else {
        (widths.block, widths.kernel_lanes)
    };
    let matrices = Matrices {
        groups: if depthwise { 1 } else { group },
        row_steps: vec![0, 1, kw * c, c],
        block,
        lanes,
    };
    let weights = rebuild::Weights::of(graph, value, &[0]).filter(|w| w.fits(&matrices))?;
    Some((weights, matrices))
}

/// Whether each output channel reads one input channel, and these lie side by side.
pub fn is_depthwise(op: &Conv, x: &Ref, y: &Ref) -> bool {
    op.group > 1
        && x.shape.len() == 4
        && op.group == x.shape[1]
        && op.group == y.shape[1]
        && x.strides[1] == 1
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
pub fn lower(
    cx: &mut Lowering<'_>,
    node: Node,
    op: &Conv,
    run: &Run,
    rows: Range<usize>,
    tasks: Tasks,
) -> Result<(), TileError> {
    match run.algorithm {
        Algorithm::Loops => return generic_conv::lower(cx, node, op, rows),
        Algorithm::Winograd { tile, band } => {
            return winograd::lower(cx, node, op, run, rows, (tile, band), tasks);
        }
        Algorithm::Sparse { band, .. } => {
            return sparse::conv(cx, node, op, (band, run.weights), rows, tasks);
        }
        Algorithm::Kernel(_) => {}
    }
    let data = &cx.graph.nodes()[node];
    let o = operands(&data.inputs, op.bias, op.residual);
    let (x, y) = (cx.place(o.x), cx.place(data.outputs[0]));
    let depthwise = run.algorithm == Algorithm::Kernel("depthwise2d_f32");
    let kernel = if depthwise {
        is_depthwise(op, &x, &y)
    } else {
        x.shape.len() == 4
    };
    if !kernel || y.strides.get(1) != Some(&1) {
        return Err(cx.unsupported(node, "the kernel does not fit these operands"));
    }
    let bias = o.bias.map(|v| cx.place(v));
    let residual = o.residual.map(|v| cx.place(v));
    if residual
        .as_ref()
        .is_some_and(|r| r.strides[1] != 1 && r.shape[1] != 1)
    {
        return Err(cx.unsupported(node, "residual is not channels-last"));
    }
    let source = source(cx, node, op, o.w, run.weights, depthwise)?;
    let layer = Layer {
        node,
        op,
        w: o.w,
        x: &x,
        y: &y,
        bias: bias.as_ref(),
        residual: residual.as_ref(),
    };
    let b = match (source, run.weights) {
        (source, _) if depthwise => layer.depthwise(cx, &source, &rows, tasks)?,
        (Source::Compressed(weights, matrices, _), Some(Form::Blocks)) => {
            layer.blocks(cx, &weights, &matrices, &rows)
        }
        (source, _) => layer.dense(cx, &source, &rows, tasks)?,
    };
    cx.push_func(b, data.origins.clone());
    Ok(())
}

/// The weights of a convolution in the form that the schedule asks for.
fn source(
    cx: &mut Lowering<'_>,
    node: Node,
    op: &Conv,
    w: Value,
    form: Option<Form>,
    depthwise: bool,
) -> Result<Source, TileError> {
    let matrix = matrix(cx, w, op.group, depthwise);
    let name = if depthwise { "taps-major" } else { "packed" };
    if let Some(buffer) = matrix.buffer(cx, (node, [0, 0]), w, form, format!("{w} {name}"))? {
        return Ok(Source::Packed(buffer, matrix.packed_len()));
    }
    let refused = || {
        cx.unsupported(
            node,
            "its weights cannot have the form that the schedule asks for",
        )
    };
    let streamed = match form {
        Some(Form::Resident) => false,
        Some(Form::Streamed) => true,
        Some(Form::Blocks) if op.group == 1 && !depthwise => true,
        _ => return Err(refused()),
    };
    let shape = cx.graph.ty(w).sizes();
    let (weights, matrices) =
        compressed(cx.graph, &cx.widths, w, shape, op.group, depthwise).ok_or_else(refused)?;
    Ok(Source::Compressed(Box::new(weights), matrices, streamed))
}

/// A convolution's operands in memory.
struct Layer<'a> {
    node: Node,
    op: &'a Conv,
    w: Value,
    x: &'a Ref,
    y: &'a Ref,
    bias: Option<&'a Ref>,
    residual: Option<&'a Ref>,
}

impl Layer<'_> {
    fn kernel(&self, cx: &Lowering<'_>) -> [usize; 2] {
        let shape = cx.graph.ty(self.w).sizes();
        [shape[2], shape[3]]
    }

    fn depthwise(
        &self,
        cx: &mut Lowering<'_>,
        source: &Source,
        rows: &Range<usize>,
        tasks: Tasks,
    ) -> Result<FuncBuilder, TileError> {
        let kernel = self.kernel(cx);
        let w = match source {
            Source::Compressed(weights, matrices, streamed) => {
                let origins = &cx.graph.nodes()[self.node].origins;
                rebuild::panels(cx, origins, weights, matrices, *streamed)
            }
            Source::Packed(buffer, _) => *buffer,
        };
        let call = Depthwise {
            op: self.op,
            kernel,
            x: self.x,
            w,
            bias: self.bias,
            residual: self.residual,
            y: self.y,
        };
        cx.check_channels(self.node, 1, split::grid(tasks, rows.len()).channel_parts)?;
        let mut b = FuncBuilder::new();
        split::for_parts(&mut b, self.x.shape[0], tasks, rows, &mut |b, image, _, range| {
            b.kernel(call.call(image, range));
        });
        Ok(b)
    }

    /// Input and output channels of a group.
    fn channels(&self) -> [usize; 2] {
        [self.x.shape[1] / self.op.group, self.y.shape[1] / self.op.group]
    }

    /// The call for `part` output channels of one group.
    fn call(&self, cx: &Lowering<'_>, w: Buffer, part: usize) -> Conv2d {
        let (op, [in_c, _], kernel) = (self.op, self.channels(), self.kernel(cx));
        let image_of = |r: &Ref, n: usize| r.narrow(1, 0, n).inner();
        Conv2d {
            rows: [kernel[0], op.strides[0], op.dilations[0]],
            columns: [kernel[1], op.strides[1], op.dilations[1]],
            before: [op.pads[0] as i64, op.pads[1] as i64],
            x: image_of(self.x, in_c),
            w: View {
                buffer: w,
                offset: 0.into(),
            },
            bias: self.bias.map(|r| View {
                buffer: r.buffer,
                offset: r.offset.into(),
            }),
            residual: self.residual.map(|r| image_of(r, part)),
            y: image_of(self.y, part),
            act: op.act,
        }
    }

    /// Weights rebuilt a block of channels at a time, each of which is computed for all pixels.
    fn blocks(
        &self,
        cx: &mut Lowering<'_>,
        weights: &rebuild::Weights,
        matrices: &Matrices,
        rows: &Range<usize>,
    ) -> FuncBuilder {
        let out_c = self.y.shape[1];
        let (blocks, matrices) = Blocks::of(out_c, weights, matrices);
        let block = blocks.block;
        let (of_kernel, lanes) = (cx.widths.block, cx.widths.kernel_lanes);
        let w = rebuild::scratch(cx, weights, &matrices);
        let [whole, rest] = [block, out_c % block].map(|n| self.call(cx, w, n.min(out_c)));
        let residual_image = self.residual.map_or(0, |r| r.strides[0]);
        let mut b = FuncBuilder::new();
        blocks.emit(cx, &mut b, weights, &matrices, w, |b, at, columns| {
            let part = if columns == block { &whole } else { &rest };
            b.for_range(0, self.x.shape[0], 1, |b, image| {
                let shift = [
                    image.clone() * self.x.strides[0],
                    0.into(),
                    at.clone(),
                    image.clone() * residual_image + at.clone(),
                    image * self.y.strides[0] + at.clone(),
                ];
                let range = Bound::from(rows.start)..Bound::from(rows.end);
                b.kernel(part.call(of_kernel, lanes, range, &shift));
            });
        });
        b
    }

    /// All weights in one place.
    fn dense(
        &self,
        cx: &mut Lowering<'_>,
        source: &Source,
        rows: &Range<usize>,
        tasks: Tasks,
    ) -> Result<FuncBuilder, TileError> {
        let (op, [in_c, out_c], kernel) = (self.op, self.channels(), self.kernel(cx));
        let (w, per_group) = match source {
            Source::Compressed(weights, matrices, streamed) => {
                let origins = &cx.graph.nodes()[self.node].origins;
                let buffer = rebuild::panels(cx, origins, weights, matrices, *streamed);
                (buffer, weights.matrix_len(matrices))
            }
            &Source::Packed(buffer, per_group) => (buffer, per_group),
        };
        let parts = split::grid(tasks, rows.len()).channel_parts;
        // Groups are a loop within each task.
        cx.check_channels(self.node, if op.group == 1 { out_c } else { 1 }, parts)?;
        let part = out_c / parts;
        let call = self.call(cx, w, part);
        let (block, lanes) = (cx.widths.block, cx.widths.kernel_lanes);
        // Blocks of packed weights follow one another, and every part but the only one is made of whole blocks.
        let reduction = in_c * kernel[0] * kernel[1];
        let residual_image = self.residual.map_or(0, |r| r.strides[0]);
        let mut b = FuncBuilder::new();
        split::for_parts(
            &mut b,
            self.x.shape[0],
            tasks,
            rows,
            &mut |b, image, part_at, range| {
                let group = |b: &mut FuncBuilder, g: Affine| {
                    let channel = g.clone() * out_c as i64 + part_at.clone() * part as i64;
                    let shift = [
                        image.clone() * self.x.strides[0] + g.clone() * (in_c as i64 * self.x.strides[1]),
                        g.clone() * per_group as i64 + part_at.clone() * (part * reduction) as i64,
                        channel.clone(),
                        image.clone() * residual_image + channel.clone(),
                        image.clone() * self.y.strides[0] + channel,
                    ];
                    b.kernel(call.call(block, lanes, range.clone(), &shift));
                };
                if op.group == 1 {
                    group(b, 0.into())
                } else {
                    b.for_range(0, op.group, 1, group)
                }
            },
        );
        Ok(b)
    }
}

/// How weights `[M, C/group, kh, kw]` in memory are matrices: rows are taps and input channels, columns output channels; for a
/// depthwise convolution rows are taps, and all channels one block.
pub fn matrix(cx: &Lowering<'_>, w: Value, group: usize, depthwise: bool) -> Matrix {
    let place = cx.scene.place(w);
    let [m, c, kh, kw] = [0, 1, 2, 3].map(|d| (place.shape[d], place.strides[d]));
    let columns = if depthwise { m.0 } else { m.0 / group };
    let (groups, mut rows) = (m.0 / columns.max(1), vec![kh, kw]);
    if !depthwise {
        rows.push(c);
    }
    Matrix {
        groups: (groups, columns as i64 * m.1),
        first: place.offset,
        rows,
        columns: (columns, m.1),
        block: if depthwise { columns } else { cx.widths.block },
        lanes: if depthwise { 1 } else { cx.widths.kernel_lanes },
    }
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
