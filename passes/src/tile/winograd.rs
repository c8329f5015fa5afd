//! Which 3x3 convolutions are computed by Winograd's minimal filtering, and their lowering.
//!
//! It takes 2.25 or 4 times fewer products than direct summation, and transforms of inputs and outputs besides; its
//! weights are 1.8 or 4 times as many. So it pays for many channels and not too few pixels, and the model may not grow by
//! more than a share of its weights: of the layers that would gain, those that gain most per byte get it.

use super::conv::{Operands, activation_params, operands, tensor};
use super::nest::Ref;
use super::split::{self, Layer, MACS_PER_TASK, Split};
use super::{Lowering, TileError, pack};
use sdc_ir::graph::op::Conv;
use sdc_ir::graph::{Graph, Node, Op};
use sdc_ir::registry::winograd::{scratch_len, weights};
use sdc_ir::tile::{Affine, Bound, BufferData, BufferKind, FuncBuilder, KernelCall, View};
use sdc_ir::{DType, Tensor};
use std::collections::BTreeMap;
use std::ops::Range;

/// Rule of the remarks.
const RULE: &str = "winograd";

/// The model's constants may grow by this part of them, or by [`ALLOWANCE`] bytes.
const GROWTH: usize = 10;

/// What a small model may grow by, in bytes.
const ALLOWANCE: usize = 1 << 20;

/// Estimated time over that of direct summation from which on nothing is gained for sure, in per cent.
const PAYS: usize = 88;

/// A 3x3 convolution of one group with stride 1: what its cost depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    rows: usize,
    columns: usize,
    in_c: usize,
    out_c: usize,
}

/// To transform one number, and store it and load it again, in multiply-accumulates.
const TRANSFORM: usize = 20;

/// Channels from which on direct summation leaves out the borders of windows.
const LEAVES_OUT: usize = 96;

/// Bytes of weights from which on they come from far and not from the core's own cache.
const FAR: usize = 1 << 20;

impl Shape {
    /// Estimated time of direct summation, in multiply-accumulates, as everything here (`cargo bench -p sdc-kernels --bench
    /// winograd` is what the constants are fitted to).
    fn direct(&self, lanes: usize) -> usize {
        // With many channels the kernel leaves out the products with what lies outside the input.
        let pixels = if self.in_c >= LEAVES_OUT {
            ((3 * self.rows - 2) * (3 * self.columns - 2)).div_ceil(9)
        } else {
            self.rows * self.columns
        };
        products(pixels, 9, self.in_c, self.out_c.next_multiple_of(lanes))
    }

    /// Tiles of the whole output.
    fn tiles(&self, tile: usize) -> usize {
        self.rows.div_ceil(tile) * self.columns.div_ceil(tile)
    }

    /// Estimated time with tiles of `tile * tile` outputs.
    fn filtered(&self, tile: usize, lanes: usize) -> usize {
        let (in_c, out_c) = (
            self.in_c.next_multiple_of(lanes),
            self.out_c.next_multiple_of(lanes),
        );
        let (points, tiles) = ((tile + 2).pow(2), self.tiles(tile));
        let band = band(tile, tiles, self.in_c, out_c);
        let rest = tiles % band;
        let whole = (tiles / band).saturating_mul(products(band, points, self.in_c, out_c));
        let last = if rest > 0 {
            products(rest, points, self.in_c, out_c)
        } else {
            0
        };
        let transforms = tiles.saturating_mul(TRANSFORM * points * (in_c + out_c));
        whole.saturating_add(last).saturating_add(transforms)
    }

    /// Bytes of the weights with tiles of this size; 1 for direct summation.
    fn bytes(&self, tile: usize, lanes: usize) -> usize {
        4 * (tile + 2).pow(2) * self.in_c * self.out_c.next_multiple_of(lanes)
    }
}

/// Time of `pixels` rows times a matrix at each of `points` points.
fn products(pixels: usize, points: usize, in_c: usize, out_c: usize) -> usize {
    /// Kernels compute six pixels together, and what is left in fours, threes and twos.
    const TOGETHER: usize = 2;
    let elements = points * in_c * out_c;
    // Fetching the weights takes as long as computing some pixels with them.
    let fetch = if 4 * elements > FAR { 9 } else { 3 };
    pixels
        .div_ceil(TOGETHER)
        .saturating_mul(TOGETHER * elements)
        .saturating_add(fetch * elements)
}

/// Tiles that go through the kernel's scratch buffer at once: up to 32 where each band fetches the weights from far; elsewhere 12 to 24,
/// enough to hide fetching the weights from the core's own cache, and few enough to leave them room there.
fn band(tile: usize, tiles: usize, in_c: usize, out_c: usize) -> usize {
    let far = 4 * (tile + 2).pow(2) * in_c * out_c > FAR;
    let bands = if far { tiles.div_ceil(32) } else { tiles / 12 };
    tiles
        .div_ceil(bands.max(1))
        .next_multiple_of(2)
        .clamp(1, tiles.max(1))
}

/// Chooses the layers of the graph: sides of tiles per node.
pub fn choose(cx: &mut Lowering<'_>) -> BTreeMap<Node, usize> {
    let graph = cx.graph;
    let lanes = cx.options.kernel_lanes;
    let mut layers = Vec::new();
    for node in graph.nodes().ids() {
        let Op::Conv(op) = &graph.nodes()[node].op else {
            continue;
        };
        if let Some(shape) = shape(cx, node, op) {
            layers.push((node, shape));
        }
    }
    let total: usize = graph.weights.iter().map(|(_, _, w)| w.bytes().len()).sum();
    let allowed = (total / GROWTH).max(ALLOWANCE);
    let chosen = allot(&layers.iter().map(|l| l.1).collect::<Vec<_>>(), lanes, allowed);
    let mut tiles = BTreeMap::new();
    for (&(node, shape), tile) in layers.iter().zip(chosen) {
        let origins = &graph.nodes()[node].origins;
        let part = |tile| shape.filtered(tile, lanes) / (shape.direct(lanes) / 100).max(1);
        if let Some(tile) = tile {
            let grown = (shape.bytes(tile, lanes) - shape.bytes(1, lanes)) >> 10;
            cx.ctx.remark(
                RULE,
                origins,
                format!(
                    "tiles of {tile}x{tile}: about {} % of the time, {grown} KiB more of weights",
                    part(tile)
                ),
            );
            tiles.insert(node, tile);
        } else if part(2).min(part(4)) < PAYS {
            let note = format!(
                "about {} % of the time, but the weights of others grow by the {} KiB allowed with more gain",
                part(2).min(part(4)),
                allowed >> 10
            );
            cx.ctx.not_done(RULE, origins, note);
        } else {
            let note = format!("about {} % of the time of direct summation", part(2).min(part(4)));
            cx.ctx.not_done(RULE, origins, note);
        }
    }
    tiles
}

/// Sides of the tiles of each layer, if any, with the greatest gain per byte first.
fn allot(layers: &[Shape], lanes: usize, allowed: usize) -> Vec<Option<usize>> {
    struct Offer {
        layer: usize,
        tile: usize,
        gain: usize,
        bytes: usize,
    }
    let mut offers = Vec::new();
    for (layer, shape) in layers.iter().enumerate() {
        let direct = shape.direct(lanes);
        for tile in [2, 4] {
            let time = shape.filtered(tile, lanes);
            if time < direct / 100 * PAYS {
                offers.push(Offer {
                    layer,
                    tile,
                    gain: direct - time,
                    bytes: shape.bytes(tile, lanes) - shape.bytes(1, lanes),
                });
            }
        }
    }
    // Stable, and without rounding: equal layers stay in order.
    offers.sort_by(|a, b| (b.gain as u128 * a.bytes as u128).cmp(&(a.gain as u128 * b.bytes as u128)));
    let mut best: Vec<Option<&Offer>> = vec![None; layers.len()];
    let mut used = 0;
    for offer in &offers {
        let (gain, bytes) = best[offer.layer].map_or((0, 0), |o| (o.gain, o.bytes));
        if offer.gain > gain && used - bytes + offer.bytes <= allowed {
            used = used - bytes + offer.bytes;
            best[offer.layer] = Some(offer);
        }
    }
    best.into_iter().map(|offer| offer.map(|o| o.tile)).collect()
}

/// The shape of a convolution that the kernel can compute.
fn shape(cx: &mut Lowering<'_>, node: Node, op: &Conv) -> Option<Shape> {
    let graph: &Graph = cx.graph;
    let data = &graph.nodes()[node];
    let Operands { x, w, residual, .. } = operands(&data.inputs, op.bias, op.residual);
    graph.constant(w).filter(|t| t.dtype() == DType::F32)?;
    let fits = op.group == 1
        && graph.ty(w).sizes().get(2..) == Some(&[3, 3])
        && op.strides.iter().chain(&op.dilations).all(|&n| n == 1)
        && graph.ty(data.outputs[0]).elements() != Some(0);
    if !fits {
        return None;
    }
    let last = |r: &Ref| r.shape.len() == 4 && r.strides[1] == 1;
    let (x, y) = (cx.place(x), cx.place(data.outputs[0]));
    let residual = residual.map(|v| cx.place(v));
    (last(&x) && last(&y) && residual.as_ref().is_none_or(last)).then(|| Shape {
        rows: y.shape[2],
        columns: y.shape[3],
        in_c: x.shape[1],
        out_c: y.shape[1],
    })
}

/// Lowers output rows `rows` of a convolution that [`choose`] chose.
pub fn lower(
    cx: &mut Lowering<'_>,
    node: Node,
    op: &Conv,
    dense: &Tensor,
    rows: Range<usize>,
    tile: usize,
) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let o = operands(&data.inputs, op.bias, op.residual);
    let (x, y) = (cx.place(o.x), cx.place(data.outputs[0]));
    let (bias, residual) = (o.bias.map(|v| cx.place(v)), o.residual.map(|v| cx.place(v)));
    let (in_c, out_c) = (x.shape[1], y.shape[1]);
    let (block, lanes) = (cx.options.block, cx.options.kernel_lanes);
    let points = (tile + 2).pow(2);
    let packed = packed_weights(cx, node, dense, tile)?;
    let w = cx.constant(packed, &format!("{} at {points} points", o.w));

    let grid = rows.start / tile..rows.end.div_ceil(tile);
    let columns = y.shape[3].div_ceil(tile);
    let split = Split::of(&Layer {
        rows: grid.len(),
        columns,
        reduction: points * (in_c + TRANSFORM),
        channels: out_c,
        groups: 1,
        block,
        input: x.shape[1..].iter().product(),
        entry: TRANSFORM * points * in_c,
        per_task: MACS_PER_TASK,
    });
    let part = out_c / split.channel_parts;
    let (images, in_rows) = (x.shape[0], split.rows.min(grid.len()).max(1));
    // An image is a task if there are several; of those at most so many have a scratch buffer each.
    const SLOTS: usize = 16;
    let per_slot = images.div_ceil(SLOTS);
    let (tiles, slots) = if images > 1 {
        (grid.len() * columns, images.div_ceil(per_slot))
    } else {
        (in_rows * columns, split.row_parts * split.channel_parts)
    };
    let tiles = band(tile, tiles, in_c, part);
    // A whole number of elements per row of tiles, so that where a task's part begins is affine in its first row.
    let per_row = scratch_len(tile, tiles, in_c, block)
        .div_ceil(in_rows)
        .next_multiple_of(16);
    let slot = per_row * in_rows;
    let scratch = cx.module.buffers.push(BufferData {
        dtype: DType::F32,
        len: slot * slots,
        kind: BufferKind::Temp,
        name: format!("{} scratch", data.outputs[0]),
    });

    let strides = |r: Option<&Ref>| r.map_or([0, 0], |r| [r.strides[2], r.strides[3]]);
    let [ys, rs] = [strides(Some(&y)), strides(residual.as_ref())];
    let mut params: Vec<i64> = [x.shape[2], x.shape[3], in_c, y.shape[3], part]
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
    params.extend([rows.start, rows.end, tile, tiles, block, lanes].map(|n| n as i64));
    params.extend([i64::from(bias.is_some()), i64::from(residual.is_some())]);
    params.extend(activation_params(op.act));

    let call = |image: &Affine, part_at: &Affine, range: Range<Bound>, slot_at: Affine| {
        let channel = part_at.clone() * part as i64;
        let view = |r: &Ref, at: Affine| View {
            buffer: r.buffer,
            offset: image.clone() * r.strides[0] + at + r.offset,
        };
        KernelCall {
            kernel: "winograd_f32".to_owned(),
            params: params.clone(),
            operands: vec![
                Some(view(&x, 0.into())),
                Some(View {
                    buffer: w,
                    offset: part_at.clone() * (part * points * in_c) as i64,
                }),
                bias.as_ref().map(|r| View {
                    buffer: r.buffer,
                    offset: channel.clone() + r.offset,
                }),
                residual.as_ref().map(|r| view(r, channel.clone())),
                Some(View {
                    buffer: scratch,
                    offset: slot_at,
                }),
                Some(view(&y, channel)),
            ],
            begin: range.start,
            end: range.end,
        }
    };
    let mut b = FuncBuilder::new();
    if images > 1 {
        let whole = Bound::from(grid.start)..Bound::from(grid.end);
        b.parallel_for(slots, |b, s| {
            let first = s.clone() * per_slot as i64;
            let end = Bound::of(vec![first.clone() + per_slot, images.into()]);
            b.for_range(first, end, 1, |b, image| {
                b.for_range(0, split.channel_parts, 1, |b, c| {
                    b.kernel(call(&image, &c, whole.clone(), s.clone() * slot as i64));
                });
            });
        });
    } else {
        split::for_parts(&mut b, 1, &split, &grid, &mut |b, image, part_at, range| {
            let first = range.start.exprs()[0].clone() - grid.start;
            let slots_before = part_at.clone() * (split.row_parts * slot) as i64;
            let slot_at = first * per_row as i64 + slots_before;
            b.kernel(call(&image, &part_at, range, slot_at));
        });
    }
    let over: Vec<Ref> = residual.filter(|_| rows == (0..y.shape[2])).into_iter().collect();
    cx.push_func(b, data.origins.clone(), &y, &over);
    Ok(())
}

/// Weights `[M, C, 3, 3]` at the points, in packed columns: the row of point `p` and channel `c` is `p * C + c`.
fn packed_weights(cx: &Lowering<'_>, node: Node, dense: &Tensor, tile: usize) -> Result<Tensor, TileError> {
    let fail = |e: sdc_ir::tensor::TensorError| cx.unsupported(node, e.to_string());
    let (out_c, in_c) = (dense.shape()[0], dense.shape()[1]);
    let points = (tile + 2).pow(2);
    let elements = dense.elements::<f32>().map_err(fail)?;
    // One block of output channels at a time: the model may be large.
    let (block, lanes) = (cx.options.block, cx.options.kernel_lanes);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn square(size: usize, in_c: usize, out_c: usize) -> Shape {
        Shape {
            rows: size,
            columns: size,
            in_c,
            out_c,
        }
    }

    /// Layers that were measured on AVX-512: over direct summation, tiles of 2 and of 4, weights from far.
    #[test]
    fn estimates_are_near_what_was_measured() {
        for (shape, two, four) in [
            (square(28, 512, 512), 0.58, 0.36),
            (square(14, 512, 512), 0.61, 0.50),
            (square(7, 512, 512), 0.89, 1.04),
            (square(14, 256, 256), 0.64, 0.52),
            (square(56, 256, 256), 0.57, 0.38),
            (square(112, 128, 128), 0.59, 0.38),
            (square(56, 64, 64), 0.72, 0.40),
            (square(8, 256, 256), 0.63, 0.79),
            (square(4, 512, 512), 1.40, 1.98),
        ] {
            for (tile, measured) in [(2, two), (4, four)] {
                let estimate = shape.filtered(tile, 16) as f64 / shape.direct(16) as f64;
                let off = estimate / measured;
                assert!(
                    (0.75..1.33).contains(&off),
                    "{shape:?} {tile}: {estimate} for {measured}"
                );
            }
        }
    }

    #[test]
    fn the_room_goes_to_layers_that_gain_most_per_byte() {
        let layers = [square(14, 512, 512), square(112, 64, 64), square(4, 512, 512)];
        let none = allot(&layers, 16, 0);
        assert_eq!(none, [None, None, None]);
        let little = allot(&layers, 16, 1 << 20);
        assert_eq!(little, [None, Some(4), None]);
        let much = allot(&layers, 16, 1 << 30);
        assert_eq!((much[1], much[2]), (Some(4), None));
        assert!(much[0].is_some());
    }

    #[test]
    fn equal_layers_are_chosen_in_order() {
        let layers = [square(28, 128, 128); 4];
        let room = 2 * (layers[0].bytes(4, 16) - layers[0].bytes(1, 16)) + 1;
        let chosen = allot(&layers, 16, room);
        assert!(chosen[0].is_some() && chosen[1].is_some(), "{chosen:?}");
        assert!(chosen.is_sorted_by(|a, b| a >= b), "{chosen:?}");
    }
}
