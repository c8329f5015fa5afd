//! Whether the rows of compressed weights that are not stored are left out.
//!
//! Times are estimated per pixel of the result and block of 16 filters, in tenths of the time of a vector product of 16 lanes. The
//! constants are fitted to what was measured of the kernels (docs/performance.md). Streamed weights are not looked at: to make the tables
//! takes longer than they save.

use super::cut::{self, Layer, MACS_PER_TASK};
use super::{Choice, Chooser};
use crate::tile::conv::operands;
use crate::tile::matmul::Rows;
use crate::tile::nest::Ref;
use crate::tile::sparse::{SLOTS, Sparse, Window, Windows};
use sdc_ir::graph::op::{Conv, QLinearConv};
use sdc_ir::graph::{Node, Value};
use sdc_ir::schedule::{Algorithm, Form, Run, Tasks};
use std::ops::Range;

/// Name of the choice in remarks.
/// Rule of the remarks on leaving out rows that are not stored.
pub const RULE: &str = "row-sparse";

/// Bytes of a copy of the input that stay in the core's own cache beside weights and results.
const COPY: usize = 192 << 10;

/// What things take, in tenths of a vector product.
struct Costs {
    kernel: &'static str,
    /// A product of the kernel for dense weights, and what a result takes besides.
    dense: usize,
    dense_end: usize,
    /// An entry, what a result takes besides, and copying 16 units of a pixel.
    entry: usize,
    end: usize,
    line: usize,
}

const F32: Costs = Costs {
    kernel: "sparse2d_f32",
    dense: 11,
    dense_end: 60,
    entry: 11,
    end: 90,
    line: 42,
};

const I8: Costs = Costs {
    kernel: "sparse2d_i8",
    dense: 11,
    dense_end: 120,
    entry: 11,
    end: 130,
    line: 60,
};

/// A convolution of one group that reads just the rows that are stored, if that is estimated to take less time.
pub fn conv(cx: &mut Chooser<'_>, node: Node, op: &Conv) -> Option<Run> {
    let data = &cx.graph.nodes()[node];
    let o = operands(&data.inputs, op.bias, op.residual);
    let residual = o.residual.map(|v| cx.scene.place(v));
    if op.group != 1 || residual.is_some_and(|r| !is_last(&r)) {
        return None;
    }
    let weights = cx.graph.ty(o.w).sizes();
    let products = weights.get(1..)?.iter().product();
    let window = Window::of(&op.strides, &op.dilations, &op.pads, weights);
    run(cx, node, (o.w, window), products, &F32)
}

/// As [`conv`], of integers.
pub fn quantised(cx: &mut Chooser<'_>, node: Node, op: &QLinearConv) -> Option<Run> {
    let data = &cx.graph.nodes()[node];
    let w = data.inputs[1];
    if op.group != 1 || !is_last(&cx.scene.place(data.inputs[0])) {
        return None;
    }
    let &[_, c, kh, kw] = cx.graph.ty(w).sizes() else {
        return None;
    };
    let window = Window::of(&op.strides, &op.dilations, &op.pads, cx.graph.ty(w).sizes());
    run(cx, node, (w, window), c.div_ceil(4) * kh * kw, &I8)
}

/// Whether channels lie side by side.
fn is_last(r: &Ref) -> bool {
    r.shape.len() == 4 && (r.strides[1] == 1 || r.shape[1] == 1)
}

/// A product of rows that reads just the rows of the weights that are stored.
pub fn product(cx: &mut Chooser<'_>, node: Node, w: Value, rows: &Rows) -> Option<Run> {
    let (x, y, _) = rows.as_images();
    let layer = Image {
        sparse: Sparse::of_product(cx.graph, w)?,
        window: Window::PIXEL,
        x,
        y,
        products: rows.k,
    };
    let (algorithm, tasks) = layer.choose(cx, node, &F32)?;
    Some(
        Choice {
            algorithm,
            weights: Some(Form::Resident),
        }
        .whole(node, tasks(&(0..1))),
    )
}

fn run(
    cx: &mut Chooser<'_>,
    node: Node,
    (w, window): (Value, Window),
    products: usize,
    costs: &Costs,
) -> Option<Run> {
    let data = &cx.graph.nodes()[node];
    let (x, y) = (cx.scene.place(data.inputs[0]), cx.scene.place(data.outputs[0]));
    if x.shape.len() != 4 || !is_last(&y) {
        return None;
    }
    let layer = Image {
        sparse: Sparse::of_conv(cx.graph, w)?,
        window,
        x,
        y,
        products,
    };
    let (algorithm, tasks) = layer.choose(cx, node, costs)?;
    let choice = Choice {
        algorithm,
        weights: Some(Form::Resident),
    };
    Some(choice.parts(node, cx.spatial(node, tasks)))
}

/// A layer as a convolution of images.
struct Image {
    sparse: Sparse,
    window: Window,
    x: Ref,
    y: Ref,
    /// Vector products per pixel and block of filters of the kernel for dense weights.
    products: usize,
}

impl Image {
    /// Algorithm and the cut of rows, if it takes less time than all weights rebuilt.
    fn choose(
        self,
        cx: &mut Chooser<'_>,
        node: Node,
        costs: &Costs,
    ) -> Option<(Algorithm, impl Fn(&Range<usize>) -> Tasks + use<>)> {
        if !cx.options.sparse || cx.options.streamed {
            return None;
        }
        let origins = &cx.graph.nodes()[node].origins;
        let Image {
            sparse, products, y, ..
        } = self;
        let (window, x) = self.window.of_pixels(&self.x, &y);
        let [rows, columns] = [y.shape[2], y.shape[3]];
        let bytes = |band| Windows::new(&sparse, &window, columns, band).copied.len() * 4;
        let (line, row) = (bytes(1), bytes(2) - bytes(1));
        let band = (COPY.saturating_sub(line) / row.max(1) + 1)
            .max(4)
            .min(rows.max(1));

        let (blocks, entries, all) = (sparse.blocks(), sparse.entries(), sparse.dense());
        let lines = bytes(band) / 64 * costs.line / (band * columns).max(1) / blocks;
        let dense = products * costs.dense + costs.dense_end;
        let fixed = costs.end + lines;
        let wanted = entries * costs.entry / blocks + fixed;
        let density = 100 * entries / (blocks * all).max(1);
        let note = format!(
            "{density} % of the rows are kept by some of 16 filters: about {} % of the time of the rebuilt form",
            100 * wanted / dense
        );
        if wanted >= dense || !sparse.is_indexed() {
            let gains = 100 * dense.saturating_sub(fixed) / (costs.entry * all).max(1);
            cx.ctx
                .not_done(RULE, origins, format!("{note}; it would gain below {gains} %"));
            return None;
        }
        cx.ctx.remark(RULE, origins, note);
        let images = x.shape[0];
        let block = cx.options.block;
        let tasks = move |rows: &Range<usize>| {
            let layer = Layer {
                rows: rows.len(),
                columns,
                reduction: (wanted / 10).max(1),
                channels: y.shape[1],
                groups: 1,
                block,
                input: x.shape[1..].iter().product(),
                entry: blocks * lines * 16 / 10,
                per_task: MACS_PER_TASK,
            };
            let grid = layer.grid();
            if images > 1 {
                // Of the images at most so many have a copy each at the same time.
                return Tasks::Each {
                    rounds: images.div_ceil(SLOTS),
                    channels: grid.channel_parts,
                };
            }
            cut::tasks(images, grid)
        };
        let kernel = costs.kernel;
        Some((Algorithm::Sparse { kernel, band }, tasks))
    }
}
