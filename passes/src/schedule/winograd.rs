//! Which 3x3 convolutions are computed by Winograd's minimal filtering, and how their work is cut.
//!
//! It takes 2.25 or 4 times fewer products than direct summation, and transforms of inputs and outputs besides; its
//! weights are 1.8 or 4 times as many. So it pays for many channels and not too few pixels, and the model may not grow by
//! more than a share of its weights: of the layers that would gain, those that gain most per byte get it.

use super::cut::{self, Layer, MACS_PER_TASK};
use super::{Choice, Chooser};
use crate::tile::conv::{Operands, operands};
use crate::tile::nest::Ref;
use crate::tile::rebuild;
use crate::tile::winograd::{SLOTS, tiles_at_once};
use sdc_ir::DType;
use sdc_ir::graph::op::Conv;
use sdc_ir::graph::{Graph, Node, Op};
use sdc_ir::schedule::{Algorithm, Form, Run, Tasks};
use std::collections::BTreeMap;

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
    /// Whether the weights are known at run time only, and transformed then.
    at_run: bool,
}

/// To transform the weights of one input and one output channel, in multiply-accumulates.
const TRANSFORM_WEIGHTS: usize = 1400;

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
        let weights = if self.at_run { TRANSFORM_WEIGHTS } else { 0 };
        whole
            .saturating_add(last)
            .saturating_add(transforms)
            .saturating_add(weights.saturating_mul(in_c * out_c))
    }

    /// Bytes of the model's weights with tiles of this size; 1 for direct summation.
    fn bytes(&self, tile: usize, lanes: usize) -> usize {
        if self.at_run {
            return 0;
        }
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
pub fn choose(cx: &mut Chooser<'_>) -> BTreeMap<Node, usize> {
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
fn shape(cx: &Chooser<'_>, node: Node, op: &Conv) -> Option<Shape> {
    let graph: &Graph = cx.graph;
    let data = &graph.nodes()[node];
    let Operands { x, w, residual, .. } = operands(&data.inputs, op.bias, op.residual);
    let fits = op.group == 1
        && graph.ty(w).dtype == DType::F32
        && rebuild::Weights::any(graph, w).is_none()
        && graph.ty(w).sizes().get(2..) == Some(&[3, 3])
        && op.strides.iter().chain(&op.dilations).all(|&n| n == 1)
        && graph.ty(data.outputs[0]).elements() != Some(0);
    if !fits {
        return None;
    }
    let last = |r: &Ref| r.shape.len() == 4 && r.strides[1] == 1;
    let (x, y) = (cx.scene.place(x), cx.scene.place(data.outputs[0]));
    let residual = residual.map(|v| cx.scene.place(v));
    (last(&x) && last(&y) && residual.as_ref().is_none_or(last)).then(|| Shape {
        rows: y.shape[2],
        columns: y.shape[3],
        in_c: x.shape[1],
        out_c: y.shape[1],
        at_run: graph.constant(w).is_none(),
    })
}

/// A run with tiles of this side.
pub fn run(cx: &Chooser<'_>, node: Node, tile: usize) -> Run {
    let data = &cx.graph.nodes()[node];
    let (x, y) = (cx.scene.place(data.inputs[0]), cx.scene.place(data.outputs[0]));
    let (in_c, out_c, images) = (x.shape[1], y.shape[1], x.shape[0]);
    let points = (tile + 2).pow(2);
    let columns = y.shape[3].div_ceil(tile);
    let mut band = None;
    let parts = cx.spatial(node, |rows| {
        let grid = rows.start / tile..rows.end.div_ceil(tile);
        let cut = Layer {
            rows: grid.len(),
            columns,
            reduction: points * (in_c + TRANSFORM),
            channels: out_c,
            groups: 1,
            block: cx.options.block,
            input: x.shape[1..].iter().product(),
            entry: TRANSFORM * points * in_c,
            per_task: MACS_PER_TASK,
        }
        .grid();
        let part = out_c / cut.channel_parts;
        band.get_or_insert(self::band(
            tile,
            tiles_at_once(&grid, columns, images, &cut),
            in_c,
            part,
        ));
        if images > 1 {
            // An image is a task; of those at most so many have a scratch buffer each.
            let rounds = images.div_ceil(SLOTS);
            return Tasks::Each {
                rounds,
                channels: cut.channel_parts,
            };
        }
        cut::tasks(images, cut)
    });
    let band = band.unwrap_or(1);
    let choice = Choice {
        algorithm: Algorithm::Winograd { tile, band },
        weights: Some(match cx.graph.constant(data.inputs[1]) {
            Some(_) => Form::Constant,
            None => Form::AtRun,
        }),
    };
    choice.parts(node, parts)
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
            at_run: false,
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
