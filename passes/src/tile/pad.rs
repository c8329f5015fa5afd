//! Pad: per padded dimension a few segments, each an affine map into the input; the result is their product.

use super::nest::Ref;
use super::{Lowering, TileError, movement};
use sdc_ir::DType;
use sdc_ir::graph::Node;
use sdc_ir::graph::op::{Pad, PadMode};
use sdc_ir::tile::FuncBuilder;
use std::ops::Range;

/// A run of output indices along one dimension that read `start, start + step, ..`; `None` reads the fill value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    out: usize,
    len: usize,
    source: Option<(usize, i64)>,
}

/// Input index that output index `at` (relative to the input's start, so negative before it) reads, or `None` for the
/// fill value. `size` is the input's.
pub fn source(mode: PadMode, at: i64, size: usize) -> Option<usize> {
    let n = size as i64;
    if n == 0 {
        return None;
    }
    let index = match mode {
        PadMode::Constant => return (0..n).contains(&at).then_some(at as usize),
        PadMode::Edge => at.clamp(0, n - 1),
        PadMode::Wrap => at.rem_euclid(n),
        PadMode::Reflect if n == 1 => 0,
        PadMode::Reflect => {
            let period = 2 * (n - 1);
            let folded = at.rem_euclid(period);
            folded.min(period - folded)
        }
    };
    Some(index as usize)
}

/// The output indices `range` of one dimension cut into affine runs.
fn segments(mode: PadMode, before: usize, size: usize, range: Range<usize>) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for out in range {
        let from = source(mode, out as i64 - before as i64, size);
        if let Some(last) = segments.last_mut() {
            let continues = match (last.source, from) {
                (None, None) => true,
                (Some((start, step)), Some(from)) => {
                    let distance = from as i64 - start as i64;
                    if last.len == 1 && distance.abs() <= 1 {
                        last.source = Some((start, distance));
                        true
                    } else {
                        distance == step * last.len as i64
                    }
                }
                _ => false,
            };
            if continues {
                last.len += 1;
                continue;
            }
        }
        segments.push(Segment {
            out,
            len: 1,
            source: from.map(|s| (s, 1)),
        });
    }
    segments
}

/// Lowers output rows `rows` of a Pad.
pub fn lower(cx: &mut Lowering<'_>, node: Node, op: &Pad, rows: Range<usize>) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let dtype = cx.dtype(data.inputs[0]);
    let (x, out) = (cx.place(data.inputs[0]), cx.place(data.outputs[0]));
    let per_dim: Vec<Vec<Segment>> = (0..out.shape.len())
        .map(|d| {
            let range = if d == 2 { rows.clone() } else { 0..out.shape[d] };
            segments(op.mode, op.before[d], x.shape[d], range)
        })
        .collect();
    let lanes = if dtype == DType::F32 { cx.widths.lanes } else { 1 };
    let mut b = FuncBuilder::new();
    regions(&mut b, &per_dim, &x, &out, &mut |b, part, source| match source {
        Some(source) => movement::emit_part(b, &source, &part, dtype, lanes),
        None => movement::emit_fill(b, &part, dtype, lanes, op.value.into()),
    });
    cx.push_func(b, data.origins.clone());
    Ok(())
}

/// Visits the product of the segments: the part of the output and, unless it is fill, the part of the input.
fn regions(
    b: &mut FuncBuilder,
    per_dim: &[Vec<Segment>],
    x: &Ref,
    out: &Ref,
    visit: &mut dyn FnMut(&mut FuncBuilder, Ref, Option<Ref>),
) {
    // `done` dimensions are narrowed already. A fill segment fills everything below it at once.
    fn walk(
        b: &mut FuncBuilder,
        per_dim: &[Vec<Segment>],
        done: usize,
        source: Ref,
        part: Ref,
        visit: &mut dyn FnMut(&mut FuncBuilder, Ref, Option<Ref>),
    ) {
        let Some(segments) = per_dim.get(done) else {
            return visit(b, part, Some(source));
        };
        for s in segments {
            let part = part.narrow(done, s.out, s.out + s.len);
            match s.source {
                None => {
                    let rest = per_dim[done + 1..]
                        .iter()
                        .enumerate()
                        .fold(part, |part, (i, segments)| {
                            let end = segments.last().map_or(0, |s| s.out + s.len);
                            part.narrow(done + 1 + i, segments.first().map_or(0, |s| s.out), end)
                        });
                    visit(b, rest, None);
                }
                Some((start, step)) => {
                    let mut source = source.clone();
                    source.offset += start as i64 * source.strides[done];
                    source.strides[done] *= step;
                    source.shape[done] = s.len;
                    walk(b, per_dim, done + 1, source, part, visit);
                }
            }
        }
    }
    walk(b, per_dim, 0, x.clone(), out.clone(), visit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_follow_the_source_map() {
        for mode in PadMode::ALL {
            for (before, size, after) in [(0, 5, 0), (2, 5, 3), (1, 2, 1), (4, 1, 2), (7, 3, 8)] {
                let total = before + size + after;
                let mut seen = Vec::new();
                for s in segments(*mode, before, size, 0..total) {
                    assert_eq!(s.out, seen.len());
                    seen.extend((0..s.len).map(|i| {
                        s.source
                            .map(|(start, step)| (start as i64 + i as i64 * step) as usize)
                    }));
                }
                let expected: Vec<_> = (0..total)
                    .map(|o| source(*mode, o as i64 - before as i64, size))
                    .collect();
                assert_eq!(seen, expected, "{mode:?} {before} {size} {after}");
            }
        }
    }

    #[test]
    fn reflection_does_not_repeat_the_edge() {
        let all: Vec<_> = (-2..5).map(|i| source(PadMode::Reflect, i, 3)).collect();
        assert_eq!(all, [2, 1, 0, 1, 2, 1, 0].map(Some));
    }
}
