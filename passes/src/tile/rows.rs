//! The algebra of row intervals: which input rows an interval of output rows needs.
//!
//! All spatial operators follow `input row = output row * stride - padding + tap * dilation` or its transpose. One map
//! serves execution by strips, patches and carried rows alike.

use sdc_ir::analysis::Window;
use sdc_ir::graph::op::{ConvTranspose, Resize};
use sdc_ir::graph::{Graph, Node, Op};
use std::ops::Range;

/// Rows (dimension 2) of a node's first operand that rows `out` of its result need; `None` if the operator is not
/// spatial.
///
/// The interval is sufficient, and the smallest one that holds every row read.
pub fn demand(graph: &Graph, node: Node, out: Range<usize>) -> Option<Range<usize>> {
    let data = &graph.nodes()[node];
    let shape = |operand: usize| data.inputs.get(operand).map(|&v| graph.ty(v).sizes());
    let size = *shape(0)?.get(2)?;
    let windowed = |kernel: usize, strides: &[usize], dilations: &[usize], pads: &[usize]| {
        Window {
            kernel,
            stride: strides[0],
            dilation: dilations[0],
            before: pads[0],
        }
        .demand(out.clone(), size)
    };
    Some(match &data.op {
        Op::Conv(c) => windowed(*shape(1)?.get(2)?, &c.strides, &c.dilations, &c.pads),
        Op::MaxPool(p) => windowed(p.kernel[0], &p.strides, &p.dilations, &p.pads),
        Op::AveragePool(p) => windowed(p.kernel[0], &p.strides, &p.dilations, &p.pads),
        Op::QLinearAveragePool(p) => windowed(p.kernel[0], &p.strides, &p.dilations, &p.pads),
        Op::QLinearConv(c) => windowed(*shape(1)?.get(2)?, &c.strides, &c.dilations, &c.pads),
        Op::ConvTranspose(c) => transposed_demand(c, *shape(1)?.get(2)?, size, out),
        Op::Pad(p) => {
            hull(out.filter_map(|row| super::pad::source(p.mode, row as i64 - p.before[2] as i64, size)))
        }
        Op::Resize(r) => resize_demand(r, size, out),
        _ => return None,
    })
}

/// Output row `y` of a transposed convolution reads input row `i` where `y = i * stride + tap * dilation - before`.
fn transposed_demand(op: &ConvTranspose, kernel: usize, size: usize, out: Range<usize>) -> Range<usize> {
    let (stride, dilation, before) = (op.strides[0] as i64, op.dilations[0] as i64, op.pads[0]);
    let reached = (0..kernel as i64).flat_map(|tap| {
        let (lo, hi) = (
            out.start as i64 + before - tap * dilation,
            out.end as i64 - 1 + before - tap * dilation,
        );
        let first = lo.div_euclid(stride) + i64::from(lo.rem_euclid(stride) != 0);
        let inside = first.max(0)..(hi.div_euclid(stride) + 1).min(size as i64);
        [inside.clone().next(), inside.last()]
    });
    hull(reached.flatten().map(|row| row as usize))
}

fn resize_demand(op: &Resize, size: usize, out: Range<usize>) -> Range<usize> {
    let taps = super::resize::taps(op, 2, size);
    hull(out.flat_map(|row| taps.iter().map(move |t| t.index[row]).collect::<Vec<_>>()))
}

/// Smallest interval that holds all of these.
fn hull(rows: impl Iterator<Item = usize>) -> Range<usize> {
    rows.fold(0..0, |all, row| {
        if all.is_empty() {
            row..row + 1
        } else {
            all.start.min(row)..all.end.max(row + 1)
        }
    })
}
