//! Transposed convolution as ordinary convolutions, one per output phase.
//!
//! Output rows `y = stride * q + phase` read input rows `q + (phase + before - tap * dilation) / stride` for the taps
//! where that division is exact. For a fixed phase this is a convolution with stride 1 over a subset of the taps, in
//! reverse order: no multiplication by inserted zeros (seed-systems 2.5, EcoFlow), no scatter.
//!
//! Compressed weights are rebuilt as a dense tensor when the model is loaded, resident or streamed, and shared out to the phases then.

use super::conv::{Conv2d, operands, tensor};
use super::nest::Ref;
use super::{Lowering, TileError, pack, rebuild, split};
use sdc_ir::DType;
use sdc_ir::graph::op::ConvTranspose;
use sdc_ir::graph::{Node, Origin};
use sdc_ir::schedule::{Form, Run, Tasks};
use sdc_ir::tile::{Affine, Bound, Buffer, BufferData, BufferKind, FuncBuilder, Ty, View};
use std::borrow::Cow;
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

/// Weights of a transposed convolution.
enum Source<'a> {
    Dense(Cow<'a, [f32]>),
    /// The tensor in prepared memory.
    Rebuilt(Ref),
}

/// The weights of one phase as packed columns, groups one after another.
struct Matrix<'a> {
    taps: &'a [[usize; 2]],
    groups: usize,
    in_c: usize,
}

impl Matrix<'_> {
    /// A prepared buffer, copied from the dense tensor `[C, M, kh, kw]` when the model is loaded.
    fn prepared(&self, cx: &mut Lowering<'_>, dense: &Ref, name: String, origins: &[Origin]) -> Buffer {
        let (block, lanes, out_c) = (cx.widths.block, cx.widths.kernel_lanes, dense.shape[1]);
        let rows = self.taps.len() * self.in_c;
        let one = pack::packed_len(rows, out_c, block, lanes);
        let buffer = cx.module.buffers.push(BufferData {
            dtype: DType::F32,
            len: one * self.groups,
            kind: BufferKind::Prepared,
            name,
        });
        let (full, rest) = (out_c / block, out_c % block);
        let padded = rest.next_multiple_of(lanes);
        let mut b = FuncBuilder::new();
        for (i, [ky, kx]) in self.taps.iter().enumerate() {
            for (blocks, columns, width) in [(0..full, block, block), (full..full + 1, rest, padded)] {
                if blocks.is_empty() || columns == 0 {
                    continue;
                }
                let from = dense.offset + *ky as i64 * dense.strides[2] + *kx as i64 * dense.strides[3];
                b.for_range(0, self.groups, 1, |b, g| {
                    b.for_range(0, self.in_c, 1, |b, c| {
                        b.for_range(blocks.start, blocks.end, 1, |b, at| {
                            let row = g.clone() * one as i64
                                + at.clone() * (rows * block) as i64
                                + c.clone() * width as i64
                                + i * self.in_c * width;
                            let channel =
                                (g.clone() * self.in_c as i64 + c.clone()) * dense.strides[0] + from;
                            b.for_range(0, columns, 1, |b, column| {
                                let filter = at.clone() * block as i64 + column.clone();
                                let place = channel.clone() + filter * dense.strides[1];
                                let weight = b.load(Ty::scalar(DType::F32), dense.buffer, place);
                                b.store(buffer, row.clone() + column, weight);
                            });
                            b.for_range(columns, width, 1, |b, column| {
                                let zero = b.f32(1, 0.0);
                                b.store(buffer, row.clone() + column, zero);
                            });
                        });
                    });
                });
            }
        }
        rebuild::push_prepare(cx, b, origins);
        buffer
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
    let dense = cx.graph.constant(o.w).filter(|t| t.dtype() == DType::F32);
    let source = match (run.weights, dense) {
        (Some(Form::Constant), Some(weights)) => Source::Dense(
            weights
                .elements::<f32>()
                .map_err(|e| cx.unsupported(node, e.to_string()))?,
        ),
        (Some(Form::Resident), None) if rebuild::Weights::any(cx.graph, o.w).is_some() => {
            Source::Rebuilt(cx.place(o.w))
        }
        _ => return Err(cx.unsupported(node, "weights must be a constant of f32")),
    };
    if x.shape.len() != 4 || y.strides[1] != 1 {
        return Err(cx.unsupported(node, "only two spatial dimensions are supported"));
    }
    let bias = o.bias.map(|v| cx.place(v));
    let shape = cx.graph.ty(o.w).sizes().to_vec();
    let [out_c, kh, kw] = [1, 2, 3].map(|d| shape[d]);
    let in_c = x.shape[1] / op.group;
    let (block, lanes) = (cx.widths.block, cx.widths.kernel_lanes);
    let mut b = FuncBuilder::new();
    let mut phases = Vec::new();
    for ry in 0..op.strides[0].min(y.shape[2]) {
        let py = phase(ry, kh, op.strides[0], op.dilations[0], op.pads[0]);
        for rx in 0..op.strides[1].min(y.shape[3]) {
            let px = phase(rx, kw, op.strides[1], op.dilations[1], op.pads[1]);
            let taps: Vec<[usize; 2]> = py
                .taps
                .iter()
                .flat_map(|&ky| px.taps.iter().map(move |&kx| [ky, kx]))
                .collect();
            let per_group = pack::packed_len(taps.len() * in_c, out_c, block, lanes);
            let w = match &source {
                Source::Dense(elements) => {
                    let mut packed = Vec::new();
                    for g in 0..op.group {
                        let group = pack::columns(taps.len() * in_c, out_c, block, lanes, |row, column| {
                            let (c, [ky, kx]) = (g * in_c + row % in_c, taps[row / in_c]);
                            elements[((c * out_c + column) * kh + ky) * kw + kx]
                        });
                        let group = group.map_err(|e| cx.unsupported(node, e.to_string()))?;
                        packed.extend_from_slice(
                            &group
                                .elements::<f32>()
                                .map_err(|e| cx.unsupported(node, e.to_string()))?,
                        );
                    }
                    let packed = tensor(cx, node, packed)?;
                    cx.constant(packed, &format!("{} phase {ry},{rx} packed", o.w))
                }
                Source::Rebuilt(dense) => match cx.phases.get(&(node, [ry, rx])) {
                    Some(&buffer) => buffer,
                    None => {
                        let name = format!("{} phase {ry},{rx} rebuilt", o.w);
                        let matrix = Matrix {
                            taps: &taps,
                            groups: op.group,
                            in_c,
                        };
                        let buffer = matrix.prepared(cx, dense, name, &data.origins);
                        cx.phases.insert((node, [ry, rx]), buffer);
                        buffer
                    }
                },
            };
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
