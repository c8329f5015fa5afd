//! Transposed convolution as ordinary convolutions, one per output phase.
//!
//! Output rows `y = stride * q + phase` read input rows `q + (phase + before - tap * dilation) / stride` for the taps
//! where that division is exact. For a fixed phase this is a convolution with stride 1 over a subset of the taps, in
//! reverse order: no multiplication by inserted zeros (seed-systems 2.5, EcoFlow), no scatter.
//!
//! Compressed weights are rebuilt as a dense tensor when the model is loaded, resident or streamed, and shared out to the phases then.

use super::conv::{Conv2d, operands};
use super::matrix::{Matrix, Part};
use super::nest::Ref;
use super::{Lowering, TileError, rebuild, split};
use sdc_ir::graph::op::ConvTranspose;
use sdc_ir::graph::{Node, Value};
use sdc_ir::schedule::{Form, Run, Tasks};
use sdc_ir::tile::{Affine, Bound, Buffer, BufferKind, FuncBuilder, View};
use std::ops::Range;

/// One phase along one dimension: which taps it uses (in increasing order of input position), the distance between
/// the inputs they read, and the padding before.
#[derive(Debug, PartialEq, Eq)]
struct Phase {
    taps: Vec<usize>,
    dilation: usize,
    before: i64,
}

fn phase(r: usize, kernel: usize, stride: usize, dilation: usize, before: i64) -> Phase {
    let numerator = |tap: usize| r as i64 + before - (tap * dilation) as i64;
    let taps: Vec<usize> = (0..kernel)
        .rev()
        .filter(|&tap| numerator(tap).rem_euclid(stride as i64) == 0)
        .collect();
    let offset = |tap: usize| numerator(tap).div_euclid(stride as i64);
    let distance = match taps.as_slice() {
        [a, b, ..] => offset(*b) - offset(*a),
        _ => 1,
    };
    Phase {
        dilation: distance as usize,
        before: taps.first().map_or(0, |&t| -offset(t)),
        taps,
    }
}

/// Lowers output rows `rows` of a transposed convolution.
pub fn lower(
    cx: &mut Lowering<'_>,
    node: Node,
    op: &ConvTranspose,
    run: &Run,
    rows: Range<usize>,
    tasks: Tasks,
) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let o = operands(&data.inputs, op.bias, false);
    let (x, y) = (cx.place(o.x), cx.place(data.outputs[0]));
    if x.shape.len() != 4 || y.strides[1] != 1 {
        return Err(cx.unsupported(node, "only two spatial dimensions are supported"));
    }
    let bias = o.bias.map(|v| cx.place(v));
    let [out_c, kh, kw] = [1, 2, 3].map(|d| cx.graph.ty(o.w).sizes()[d]);
    let in_c = x.shape[1] / op.group;
    let (block, lanes) = (cx.widths.block, cx.widths.kernel_lanes);
    let mut b = FuncBuilder::new();
    let mut phases = Vec::new();
    for ry in 0..op.strides[0].min(y.shape[2]) {
        let py = phase(ry, kh, op.strides[0], op.dilations[0], op.pads[0]);
        for rx in 0..op.strides[1].min(y.shape[3]) {
            let px = phase(rx, kw, op.strides[1], op.dilations[1], op.pads[1]);
            let matrix = phase_matrix(cx, o.w, op, &py, &px);
            let per_group = matrix.packed_len();
            let w = phase_weights(cx, (node, [ry, rx]), o.w, &matrix, run.weights)?;
            let call = phase_call(op, &x, &y, w, bias.as_ref(), (ry, &py), (rx, &px), [in_c, out_c]);
            // Output rows of this phase: stride * q + ry in `rows`.
            let first = |row: usize| row.saturating_sub(ry).div_ceil(op.strides[0]);
            phases.push((call, per_group, first(rows.start)..first(rows.end)));
        }
    }
    let count = phases.iter().map(|(_, _, rows)| rows.len()).max().unwrap_or(0);
    let cut = split::grid(tasks, count);
    cx.check_channels(node, 1, cut.channel_parts)?;
    // Each task computes the same rows of all phases.
    split::for_parts(
        &mut b,
        x.shape[0],
        tasks,
        &(0..count),
        &mut |b, image, _, range| {
            for (call, per_group, rows) in &phases {
                let lo = range.start.exprs()[0].clone() + rows.start;
                let hi = Bound::of(vec![lo.clone() + cut.rows, rows.end.into()]);
                b.for_range(0, op.group, 1, |b, g| {
                    let shift = [
                        image.clone() * x.strides[0] + g.clone() * (in_c as i64 * x.strides[1]),
                        g.clone() * *per_group as i64,
                        g.clone() * out_c as i64,
                        Affine::default(),
                        image.clone() * y.strides[0] + g * out_c as i64,
                    ];
                    b.kernel(call.call(block, lanes, lo.clone().into()..hi.clone(), &shift));
                });
            }
        },
    );
    cx.push_func(b, data.origins.clone());
    Ok(())
}

/// How weights `[C, M/group, kh, kw]` are the matrices of a phase: rows are its taps and the input channels, columns output channels.
fn phase_matrix(cx: &Lowering<'_>, w: Value, op: &ConvTranspose, py: &Phase, px: &Phase) -> Matrix {
    let place = cx.scene.place(w);
    let [c, m, ky, kx] = [0, 1, 2, 3].map(|d| (place.shape[d], place.strides[d]));
    let in_c = c.0 / op.group;
    // The taps of a phase are equally far apart.
    let taps = |phase: &Phase, stride: i64| match phase.taps.as_slice() {
        [first, second, ..] => (phase.taps.len(), (*second as i64 - *first as i64) * stride),
        taps => (taps.len(), 0),
    };
    let first = |phase: &Phase| phase.taps.first().map_or(0, |&t| t as i64);
    Matrix {
        groups: (op.group, in_c as i64 * c.1),
        first: place.offset + first(py) * ky.1 + first(px) * kx.1,
        rows: vec![taps(py, ky.1), taps(px, kx.1), (in_c, c.1)],
        columns: m,
        block: cx.widths.block,
        lanes: cx.widths.kernel_lanes,
    }
}

/// The weights of one phase in the form that the schedule asks for.
fn phase_weights(
    cx: &mut Lowering<'_>,
    (node, phase): (Node, Part),
    w: Value,
    matrix: &Matrix,
    form: Option<Form>,
) -> Result<Buffer, TileError> {
    let name = |how: &str| format!("{w} phase {},{} {how}", phase[0], phase[1]);
    if form == Some(Form::Resident) && rebuild::Weights::any(cx.graph, w).is_some() {
        let from = cx.place(w).buffer;
        return Ok(matrix.filled(cx, (node, phase), from, BufferKind::Prepared, name("rebuilt")));
    }
    let buffer = matrix.buffer(cx, (node, phase), w, form, name("packed"))?;
    buffer.ok_or_else(|| {
        cx.unsupported(
            node,
            "its weights cannot have the form that the schedule asks for",
        )
    })
}

/// Most rows that a phase has of output rows `rows` of `height`.
pub fn phase_rows(op: &ConvTranspose, rows: &Range<usize>, height: usize) -> usize {
    let stride = op.strides[0];
    let first = |row: usize, phase: usize| row.saturating_sub(phase).div_ceil(stride);
    let own = (0..stride.min(height)).map(|phase| first(rows.end, phase) - first(rows.start, phase));
    own.max().unwrap_or(0)
}

#[allow(
    clippy::too_many_arguments,
    reason = "one call site; a struct would only rename the arguments"
)]
fn phase_call(
    op: &ConvTranspose,
    x: &Ref,
    y: &Ref,
    w: Buffer,
    bias: Option<&Ref>,
    (ry, py): (usize, &Phase),
    (rx, px): (usize, &Phase),
    [in_c, out_c]: [usize; 2],
) -> Conv2d {
    let [sy, sx] = [op.strides[0], op.strides[1]];
    let every = |size: usize, from: usize, step: usize| (size - from).div_ceil(step);
    let part = y.slice(
        &[0, 0, ry, rx],
        &[1, out_c, every(y.shape[2], ry, sy), every(y.shape[3], rx, sx)],
        &[1, 1, sy as i64, sx as i64],
    );
    let image_of = |r: &Ref| Ref {
        strides: r.strides[1..].to_vec(),
        shape: r.shape[1..].to_vec(),
        ..r.clone()
    };
    Conv2d {
        rows: [py.taps.len(), 1, py.dilation],
        columns: [px.taps.len(), 1, px.dilation],
        before: [py.before, px.before],
        x: image_of(&x.narrow(1, 0, in_c)),
        w: View {
            buffer: w,
            offset: 0.into(),
        },
        bias: bias.map(|r| View {
            buffer: r.buffer,
            offset: r.offset.into(),
        }),
        residual: None,
        y: image_of(&part),
        act: op.act,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_share_out_the_taps() {
        // Kernel 3, stride 2, padding 1: even outputs use the middle tap, odd ones the outer two.
        assert_eq!(
            phase(0, 3, 2, 1, 1),
            Phase {
                taps: vec![1],
                dilation: 1,
                before: 0
            }
        );
        assert_eq!(
            phase(1, 3, 2, 1, 1),
            Phase {
                taps: vec![2, 0],
                dilation: 1,
                before: 0
            }
        );
        // Stride above the kernel: some phases have no tap.
        assert!(phase(2, 2, 3, 1, 0).taps.is_empty());
    }
}
