//! Lowering of 3x3 convolutions computed by Winograd's minimal filtering.

use super::conv::{activation_params, matrix, operands, tensor};
use super::matrix::Matrix;
use super::nest::Ref;
use super::split;
use super::{Lowering, TileError, pack};
use sdc_ir::graph::op::Conv;
use sdc_ir::graph::{Node, Value};
use sdc_ir::registry::winograd::{scratch_len, weights, weights_in_loop};
use sdc_ir::schedule::{Form, Grid, Run, Tasks};
use sdc_ir::tile::{Affine, Bound, Buffer, BufferData, BufferKind, FuncBuilder, KernelCall, Ty, View};
use sdc_ir::{DType, Tensor};
use std::ops::Range;

/// Most images that have a scratch buffer each.
pub const SLOTS: usize = 16;

/// Tiles that a task computes, of rows `grid` of tiles.
pub fn tiles_at_once(grid: &Range<usize>, columns: usize, images: usize, cut: &Grid) -> usize {
    if images > 1 {
        grid.len() * columns
    } else {
        cut.rows.min(grid.len()).max(1) * columns
    }
}

/// Lowers output rows `rows` of a convolution with tiles of `tile * tile` outputs, `band` of which go through the kernel's scratch buffer
/// at once.
pub fn lower(
    cx: &mut Lowering<'_>,
    node: Node,
    op: &Conv,
    run: &Run,
    rows: Range<usize>,
    (tile, band): (usize, usize),
    tasks: Tasks,
) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let o = operands(&data.inputs, op.bias, op.residual);
    let (x, y) = (cx.place(o.x), cx.place(data.outputs[0]));
    let (bias, residual) = (o.bias.map(|v| cx.place(v)), o.residual.map(|v| cx.place(v)));
    let last = |r: &Ref| r.shape.len() == 4 && r.strides[1] == 1;
    if !last(&x) || !last(&y) || !residual.as_ref().is_none_or(last) {
        return Err(cx.unsupported(node, "operands are not channels-last"));
    }
    let w = at_points(cx, node, o.w, run.weights, tile)?;

    let grid = rows.start / tile..rows.end.div_ceil(tile);
    let cut = split::grid(tasks, grid.len());
    cx.check_channels(node, y.shape[1], cut.channel_parts)?;
    let slots = Slots::of(tasks, &grid, &cut, &x, &y, tile);
    let band = band.clamp(1, slots.tiles.max(1));
    // A whole number of elements per row of tiles, so that where a task's part begins is affine in its first row.
    let per_row = scratch_len(tile, band, x.shape[1], cx.widths.block)
        .div_ceil(slots.rows)
        .next_multiple_of(16);
    let slot = per_row * slots.rows;
    let scratch = cx.module.buffers.push(BufferData {
        dtype: DType::F32,
        len: slot * slots.count,
        kind: BufferKind::Temp,
        name: format!("{} scratch", data.outputs[0]),
    });
    let part = y.shape[1] / cut.channel_parts;
    let call = Call {
        params: params(cx, op, &rows, (tile, band), (&x, &y, residual.as_ref()), part),
        part_w: part * (tile + 2).pow(2) * x.shape[1],
        part,
        w,
        scratch,
        bias: bias.as_ref(),
        residual: residual.as_ref(),
        x: &x,
        y: &y,
    };
    let mut b = FuncBuilder::new();
    let images = x.shape[0];
    if let Tasks::Each { rounds, .. } = tasks {
        let whole = Bound::from(grid.start)..Bound::from(grid.end);
        b.parallel_for(slots.count, |b, s| {
            let first = s.clone() * rounds as i64;
            let end = Bound::of(vec![first.clone() + rounds, images.into()]);
            b.for_range(first, end, 1, |b, image| {
                b.for_range(0, cut.channel_parts, 1, |b, c| {
                    b.kernel(call.on(&image, &c, whole.clone(), s.clone() * slot as i64));
                });
            });
        });
    } else {
        split::for_parts(&mut b, images, tasks, &grid, &mut |b, image, part_at, range| {
            let first = range.start.exprs()[0].clone() - grid.start;
            let slots_before = part_at.clone() * (cut.row_parts * slot) as i64;
            let slot_at = first * per_row as i64 + slots_before;
            b.kernel(call.on(&image, &part_at, range, slot_at));
        });
    }
    cx.push_func(b, data.origins.clone());
    Ok(())
}

/// The parts of the scratch memory: one for each task.
struct Slots {
    count: usize,
    /// Rows of tiles, and tiles, of a task.
    rows: usize,
    tiles: usize,
}

impl Slots {
    fn of(tasks: Tasks, grid: &Range<usize>, cut: &Grid, x: &Ref, y: &Ref, tile: usize) -> Self {
        let columns = y.shape[3].div_ceil(tile);
        // With a task for every so many images, each goes over the whole of its images.
        let (count, images) = match tasks {
            Tasks::Each { rounds, .. } => (x.shape[0].div_ceil(rounds), x.shape[0]),
            _ => (cut.row_parts * cut.channel_parts, 1),
        };
        Self {
            count,
            rows: cut.rows.min(grid.len()).max(1),
            tiles: tiles_at_once(grid, columns, images, cut),
        }
    }
}

/// Parameters of the kernel, for parts of `part` channels.
fn params(
    cx: &Lowering<'_>,
    op: &Conv,
    rows: &Range<usize>,
    (tile, band): (usize, usize),
    (x, y, residual): (&Ref, &Ref, Option<&Ref>),
    part: usize,
) -> Vec<i64> {
    let strides = |r: Option<&Ref>| r.map_or([0, 0], |r| [r.strides[2], r.strides[3]]);
    let [ys, rs] = [strides(Some(y)), strides(residual)];
    let mut params: Vec<i64> = [x.shape[2], x.shape[3], x.shape[1], y.shape[3], part]
        .map(|n| n as i64)
        .to_vec();
    params.extend([
        op.pads[0] as i64,
        op.pads[1] as i64,
        x.strides[2],
        x.strides[3],
        0,
    ]);
    params.extend([ys[0], ys[1], 0, rs[0], rs[1], 0]);
    let (block, lanes) = (cx.widths.block, cx.widths.kernel_lanes);
    params.extend([rows.start, rows.end, tile, band, block, lanes].map(|n| n as i64));
    params.extend([i64::from(op.bias), i64::from(residual.is_some())]);
    params.extend(activation_params(op.act));
    params
}

/// A call of the kernel, but for the image, the part of the channels, and the rows.
struct Call<'a> {
    params: Vec<i64>,
    /// Channels of a part, and elements of its weights.
    part: usize,
    part_w: usize,
    w: Buffer,
    scratch: Buffer,
    bias: Option<&'a Ref>,
    residual: Option<&'a Ref>,
    x: &'a Ref,
    y: &'a Ref,
}

impl Call<'_> {
    fn on(&self, image: &Affine, part_at: &Affine, range: Range<Bound>, slot_at: Affine) -> KernelCall {
        let channel = part_at.clone() * self.part as i64;
        let view = |r: &Ref, at: Affine| View {
            buffer: r.buffer,
            offset: image.clone() * r.strides[0] + at + r.offset,
        };
        KernelCall {
            kernel: "winograd_f32".to_owned(),
            params: self.params.clone(),
            operands: vec![
                Some(view(self.x, 0.into())),
                Some(View {
                    buffer: self.w,
                    offset: part_at.clone() * self.part_w as i64,
                }),
                self.bias.map(|r| View {
                    buffer: r.buffer,
                    offset: channel.clone() + r.offset,
                }),
                self.residual.map(|r| view(r, channel.clone())),
                Some(View {
                    buffer: self.scratch,
                    offset: slot_at,
                }),
                Some(view(self.y, channel)),
            ],
            begin: range.start,
            end: range.end,
        }
    }
}

/// A buffer with the weights at the points.
fn at_points(
    cx: &mut Lowering<'_>,
    node: Node,
    w: Value,
    form: Option<Form>,
    tile: usize,
) -> Result<Buffer, TileError> {
    let name = format!("{w} at {} points", (tile + 2).pow(2));
    match cx.graph.constant(w).filter(|t| t.dtype() == DType::F32) {
        Some(dense) if form == Some(Form::Constant) => {
            let packed = packed_weights(cx, node, &dense.clone(), tile)?;
            Ok(cx.constant(packed, &name))
        }
        None if form == Some(Form::AtRun) => {
            if let Some(&buffer) = cx.packed.get(&(node, [tile, tile])) {
                return Ok(buffer);
            }
            let direct = matrix(cx, w, 1, false);
            let windows = direct.buffer(cx, (node, [0, 0]), w, form, format!("{w} packed"))?;
            let windows = windows.ok_or_else(|| cx.unsupported(node, "its weights are not of f32"))?;
            let buffer = transformed(cx, node, &direct, windows, tile, name);
            cx.packed.insert((node, [tile, tile]), buffer);
            Ok(buffer)
        }
        _ => Err(cx.unsupported(
            node,
            "Winograd's filtering needs weights of f32 that are not compressed",
        )),
    }
}

/// A buffer that a function fills with the weights at the points, of those that it finds packed: in each block rows are taps and input
/// channels before, points and input channels then.
fn transformed(
    cx: &mut Lowering<'_>,
    node: Node,
    direct: &Matrix,
    windows: Buffer,
    tile: usize,
    name: String,
) -> Buffer {
    let (columns, in_c, points) = (direct.columns.0, direct.rows[2].0, (tile + 2).pow(2));
    let to = cx.module.buffers.push(BufferData {
        dtype: DType::F32,
        len: direct.packed_len() / 9 * points,
        kind: BufferKind::Temp,
        name,
    });
    let (full, rest) = (columns / direct.block, columns % direct.block);
    let widths = [
        (0, full, direct.block),
        (
            full,
            full + usize::from(rest > 0),
            rest.next_multiple_of(direct.lanes),
        ),
    ];
    let mut b = FuncBuilder::new();
    for (lo, hi, width) in widths.into_iter().filter(|w| w.0 < w.1) {
        let lanes = if width.is_multiple_of(cx.widths.lanes.into()) {
            cx.widths.lanes
        } else {
            1
        };
        b.for_range(lo, hi, 1, |b, block| {
            b.for_range(0, in_c, 1, |b, c| {
                b.for_range(0, width, lanes.into(), |b, j| {
                    let at = |rows: usize, row: usize| {
                        block.clone() * (direct.block * rows * in_c) as i64
                            + (c.clone() + row * in_c) * width as i64
                            + j.clone()
                    };
                    let ty = Ty::vector(DType::F32, lanes);
                    let window = std::array::from_fn(|tap| b.load(ty, windows, at(9, tap)));
                    for (point, value) in weights_in_loop(b, tile, &window).into_iter().enumerate() {
                        b.store(to, at(points, point), value);
                    }
                });
            });
        });
    }
    cx.push_func(b, cx.graph.nodes()[node].origins.clone());
    to
}

/// Weights `[M, C, 3, 3]` at the points, in packed columns: the row of point `p` and channel `c` is `p * C + c`.
fn packed_weights(cx: &Lowering<'_>, node: Node, dense: &Tensor, tile: usize) -> Result<Tensor, TileError> {
    let fail = |e: sdc_ir::tensor::TensorError| cx.unsupported(node, e.to_string());
    let (out_c, in_c) = (dense.shape()[0], dense.shape()[1]);
    let points = (tile + 2).pow(2);
    let elements = dense.elements::<f32>().map_err(fail)?;
    // One block of output channels at a time: the model may be large.
    let (block, lanes) = (cx.widths.block, cx.widths.kernel_lanes);
    let mut all = Vec::with_capacity(pack::packed_len(points * in_c, out_c, block, lanes));
    for first in (0..out_c).step_by(block) {
        let columns = block.min(out_c - first);
        let mut at_points = Vec::with_capacity(columns * in_c * points);
        let (windows, _) = elements[first * in_c * 9..(first + columns) * in_c * 9].as_chunks();
        for window in windows {
            at_points.extend(weights(tile, window));
        }
        let packed = pack::columns(points * in_c, columns, block, lanes, |row, column| {
            at_points[(column * in_c + row % in_c) * points + row / in_c]
        });
        all.extend_from_slice(&packed.map_err(fail)?.elements::<f32>().map_err(fail)?);
    }
    tensor(cx, node, all)
}
