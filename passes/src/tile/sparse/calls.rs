//! Calls of the kernels.

use super::super::conv::{activation_params, operands};
use super::super::nest::Ref;
use super::super::quantised_conv::{self, Packed};
use super::super::{Lowering, TileError, matmul, split};
use super::tables::tables;
use super::{Axis, Sparse, Unit, Window, Windows};
use sdc_ir::DType;
use sdc_ir::graph::Node;
use sdc_ir::graph::op::{Activation, Conv, MatMul, QLinearConv};
use sdc_ir::registry::sparse2d::BLOCK;
use sdc_ir::schedule::{Form, Grid, Run, Tasks};
use sdc_ir::tile::{Affine, Bound, Buffer, BufferData, BufferKind, FuncBuilder, KernelCall, View};
use std::ops::Range;

/// Most images that have a copy each at the same time.
pub const SLOTS: usize = 16;

/// Scratch memory of the tasks of a function: a part for each.
struct Slots {
    buffer: Buffer,
    /// From a row of a task to the next, so that a task's part is affine in its first row; from one task to the next.
    per_row: usize,
    slot: usize,
    count: usize,
}

impl Slots {
    fn new(
        cx: &mut Lowering<'_>,
        (dtype, len, name): (DType, usize, String),
        images: usize,
        tasks: Tasks,
        cut: &Grid,
    ) -> Self {
        let rows = cut.rows.max(1);
        let per_row = len.div_ceil(rows).next_multiple_of(BLOCK);
        let count = match tasks {
            Tasks::Each { rounds, .. } => images.div_ceil(rounds),
            _ => cut.row_parts * cut.channel_parts,
        };
        let buffer = cx.module.buffers.push(BufferData {
            dtype,
            len: per_row * rows * count,
            kind: BufferKind::Temp,
            name,
        });
        Self {
            buffer,
            per_row,
            slot: per_row * rows,
            count,
        }
    }

    /// `body(image, part of the channels, rows, where its memory begins)` for each task.
    fn for_parts(
        &self,
        b: &mut FuncBuilder,
        images: usize,
        (tasks, cut): (Tasks, &Grid),
        rows: &Range<usize>,
        mut body: impl FnMut(&mut FuncBuilder, Affine, Affine, Range<Bound>, Affine),
    ) {
        if let Tasks::Each { rounds, .. } = tasks {
            let whole = Bound::from(rows.start)..Bound::from(rows.end);
            b.parallel_for(self.count, |b, s| {
                let first = s.clone() * rounds as i64;
                let end = Bound::of(vec![first.clone() + rounds, images.into()]);
                b.for_range(first, end, 1, |b, image| {
                    b.for_range(0, cut.channel_parts, 1, |b, c| {
                        body(b, image.clone(), c, whole.clone(), s.clone() * self.slot as i64);
                    });
                });
            });
            return;
        }
        split::for_parts(b, images, tasks, rows, &mut |b, image, part_at, range| {
            let first = range.start.exprs()[0].clone() - rows.start;
            let before = part_at.clone() * (cut.row_parts * self.slot) as i64;
            let at = first * self.per_row as i64 + before;
            body(b, image, part_at, range, at);
        });
    }
}

/// A convolution's operands and how it is cut.
struct Layer<'a> {
    node: Node,
    sparse: Option<Sparse>,
    window: Window,
    band: usize,
    form: Option<Form>,
    x: Ref,
    y: Ref,
    rows: Range<usize>,
    tasks: Tasks,
    /// Name, and element type of the scratch memory.
    kernel: &'a str,
    scratch: DType,
}

/// What is the same in calls of both kernels: parameters in three parts, and operands.
struct Common {
    sizes: Vec<i64>,
    strides: [i64; 4],
    bands: Vec<i64>,
    unit: Unit,
}

impl Layer<'_> {
    /// The layer's functions: `call` gives parameters, and what stands between the tables and the scratch memory given the offsets of an
    /// image and of a channel.
    fn lower(
        mut self,
        cx: &mut Lowering<'_>,
        call: impl Fn(&Common) -> Vec<i64>,
        between: impl Fn(&Affine, &Affine) -> Vec<Option<View>>,
    ) -> Result<(), TileError> {
        let origins = cx.graph.nodes()[self.node].origins.clone();
        let last = |r: &Ref| r.shape.len() == 4 && (r.strides[1] == 1 || r.shape[1] == 1);
        let sparse = self
            .sparse
            .take()
            .filter(|_| last(&self.y) && self.x.shape.len() == 4);
        let Some(sparse) = sparse.filter(|_| self.form == Some(Form::Resident) && self.band > 0) else {
            return Err(cx.unsupported(self.node, "the kernel does not fit these operands or weights"));
        };
        (self.window, self.x) = self.window.of_pixels(&self.x, &self.y);
        let (x, y, window) = (&self.x, &self.y, self.window);
        let windows = Windows::new(&sparse, &window, y.shape[3], self.band);
        let tables =
            tables(cx, &origins, &sparse, &windows).map_err(|e| cx.unsupported(self.node, e.to_string()))?;
        let cut = split::grid(self.tasks, self.rows.len());
        let part = y.shape[1] / cut.channel_parts;
        if cut.channel_parts > 1 && !y.shape[1].is_multiple_of(cut.channel_parts * BLOCK) {
            return Err(cx.unsupported(self.node, "parts of the channels are not whole blocks"));
        }
        let copied = windows.copied;
        let sizes = [
            x.shape[2],
            x.shape[3],
            x.shape[1],
            y.shape[3],
            part,
            window.strides[0],
            window.strides[1],
        ];
        let sizes = [&sizes[..], &window.pads].concat();
        let bands = [self.band, copied.rows, copied.phases, copied.width, tables.most];
        let params = call(&Common {
            sizes: sizes.iter().map(|&n| n as i64).collect(),
            strides: [x.strides[2], x.strides[3], y.strides[2], y.strides[3]],
            bands: bands.map(|n| n as i64).to_vec(),
            unit: sparse.unit,
        });
        let name = format!("{} scratch", cx.graph.nodes()[self.node].outputs[0]);
        let slots = Slots::new(
            cx,
            (self.scratch, copied.len(), name),
            x.shape[0],
            self.tasks,
            &cut,
        );
        let view = |buffer, offset| Some(View { buffer, offset });
        let mut b = FuncBuilder::new();
        slots.for_parts(
            &mut b,
            x.shape[0],
            (self.tasks, &cut),
            &self.rows,
            |b, image, parts, range, at| {
                let channel = parts.clone() * part as i64;
                let mut operands = vec![
                    view(x.buffer, image.clone() * x.strides[0] + x.offset),
                    view(tables.w, 0.into()),
                    view(tables.places, 0.into()),
                    view(tables.starts, parts * (part / BLOCK) as i64),
                ];
                operands.extend(between(&image, &channel));
                operands.push(view(slots.buffer, at));
                operands.push(view(y.buffer, image * y.strides[0] + channel + y.offset));
                b.kernel(KernelCall {
                    kernel: self.kernel.to_owned(),
                    params: params.clone(),
                    operands,
                    begin: range.start,
                    end: range.end,
                });
            },
        );
        cx.push_func(b, origins);
        Ok(())
    }
}

impl Layer<'_> {
    /// Of floats.
    fn floats(
        self,
        cx: &mut Lowering<'_>,
        bias: Option<&Ref>,
        residual: Option<&Ref>,
        act: Activation,
    ) -> Result<(), TileError> {
        let channels = self.x.strides.get(1).copied().unwrap_or(1);
        let rs = residual.map_or([0, 0], |r| [r.strides[2], r.strides[3]]);
        let params = |c: &Common| {
            let [xs_h, xs_w, ys_h, ys_w] = c.strides;
            let strides = [xs_h, xs_w, channels, 0, ys_h, ys_w, 0, rs[0], rs[1], 0];
            let has = [bias.is_some(), residual.is_some()].map(i64::from);
            [&c.sizes[..], &strides, &c.bands, &has, &activation_params(act)].concat()
        };
        self.lower(cx, params, |image, channel| {
            let bias = bias.map(|r| View {
                buffer: r.buffer,
                offset: channel.clone() + r.offset,
            });
            let residual = residual.map(|r| View {
                buffer: r.buffer,
                offset: image.clone() * r.strides[0] + channel.clone() + r.offset,
            });
            vec![bias, residual]
        })
    }
}

/// Lowers output rows `rows` of a convolution of one group, `band` of them from a copy of the input.
pub fn conv(
    cx: &mut Lowering<'_>,
    node: Node,
    op: &Conv,
    (band, form): (usize, Option<Form>),
    rows: Range<usize>,
    tasks: Tasks,
) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let o = operands(&data.inputs, op.bias, op.residual);
    let (x, y) = (cx.place(o.x), cx.place(data.outputs[0]));
    let (bias, residual) = (o.bias.map(|v| cx.place(v)), o.residual.map(|v| cx.place(v)));
    let fits = residual
        .as_ref()
        .is_none_or(|r| r.strides.get(1) == Some(&1) || r.shape.get(1) == Some(&1));
    if op.group != 1 || !fits {
        return Err(cx.unsupported(node, "the kernel does not fit these operands"));
    }
    let layer = Layer {
        node,
        sparse: Sparse::of_conv(cx.graph, o.w),
        window: Window::of(&op.strides, &op.dilations, &op.pads, cx.graph.ty(o.w).sizes()),
        band,
        form,
        x,
        y,
        rows,
        tasks,
        kernel: "sparse2d_f32",
        scratch: DType::F32,
    };
    layer.floats(cx, bias.as_ref(), residual.as_ref(), op.act)
}

/// Lowers a product of rows: a convolution of single pixels.
pub fn product(cx: &mut Lowering<'_>, node: Node, op: &MatMul, run: &Run) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let o = operands(&data.inputs, op.bias, op.residual);
    cx.place(o.x);
    let (bias, _) = (o.bias.map(|v| cx.place(v)), o.residual.map(|v| cx.place(v)));
    let rows = matmul::Rows::of(&cx.scene, node, op)
        .ok_or_else(|| cx.unsupported(node, "the kernel does not fit these operands"))?;
    let (x, y, residual) = rows.as_images();
    let layer = Layer {
        node,
        sparse: Sparse::of_product(cx.graph, o.w),
        window: Window::PIXEL,
        band: 1,
        form: run.weights,
        x,
        y,
        rows: 0..1,
        tasks: run.parts.first().map_or(Tasks::One, |part| part.tasks),
        kernel: "sparse2d_f32",
        scratch: DType::F32,
    };
    layer.floats(cx, bias.as_ref(), residual.as_ref(), op.act)
}

/// As [`conv`], of integers.
pub fn quantised(
    cx: &mut Lowering<'_>,
    node: Node,
    op: &QLinearConv,
    (band, form): (usize, Option<Form>),
    rows: Range<usize>,
    tasks: Tasks,
) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let (input, w, result) = (data.inputs[0], data.inputs[1], data.outputs[0]);
    let (x, y) = (cx.place(input), cx.place(result));
    if op.group != 1 || (x.strides[1] != 1 && x.shape[1] != 1) {
        return Err(cx.unsupported(node, "the kernel does not fit these operands"));
    }
    let constants = quantised_conv::constants(cx, node, &data.inputs)?;
    let vectors = Packed::vectors(cx, node, op, &constants)?;
    let [x_signed, y_signed] = [input, result].map(|v| i64::from(cx.dtype(v) == DType::I8));
    let layer = Layer {
        node,
        sparse: Sparse::of_conv(cx.graph, w),
        window: Window::of(&op.strides, &op.dilations, &op.pads, cx.graph.ty(w).sizes()),
        band,
        form,
        x,
        y,
        rows,
        tasks,
        kernel: "sparse2d_i8",
        scratch: DType::I32,
    };
    let params = |c: &Common| {
        let [xs_h, xs_w, ys_h, ys_w] = c.strides;
        let Unit {
            per_pixel,
            jump,
            bytes,
            along,
            ..
        } = c.unit;
        let along = [Axis::Rows, Axis::Columns, Axis::Units].map(|axis| axis == along);
        let steps = [op.dilations[0], op.dilations[1], 1];
        let steps = [0, 1, 2].map(|d| if along[d] { steps[d] as i64 } else { 0 });
        let unit = [per_pixel, jump, bytes].map(|n| n as i64);
        let quantised = [
            x_signed,
            op.x_zero,
            y_signed,
            op.y_zero,
            op.min,
            op.max,
            op.shift as i64,
        ];
        let strides = [xs_h, xs_w, 0, ys_h, ys_w, 0];
        [&c.sizes[..], &strides, &c.bands, &unit, &steps, &quantised].concat()
    };
    layer.lower(cx, params, |_, channel| {
        let at = |&buffer| {
            Some(View {
                buffer,
                offset: channel.clone(),
            })
        };
        vectors.iter().map(at).collect()
    })
}
