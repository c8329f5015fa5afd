//! Parts of tensors: Slice, Split, Concat, Gather.

use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::Value;
use sdc_ir::graph::op::{Concat, Gather, Slice};

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadOperands, text)
}

/// Elements `start..end` by `step` of a dimension, negative positions counted from the end and all clamped, as first
/// index and count.
fn range(dim: usize, start: i64, end: i64, step: i64) -> (usize, usize) {
    // Wide numbers: exporters write i64::MIN and i64::MAX for "all the way".
    let (n, step) = (dim as i128, i128::from(step));
    let absolute = |i: i64| if i < 0 { i128::from(i) + n } else { i128::from(i) };
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let start = absolute(start).clamp(low.max(0).min(high), high);
    let end = absolute(end).clamp(low, high);
    let span = (end - start) * step.signum();
    if span <= 0 || n == 0 {
        return (0, 0);
    }
    let count = (span - 1) / step.abs() + 1;
    (start as usize, count as usize)
}

/// A part along some dimensions; the value itself if it is the whole.
pub(super) fn part(c: &mut NodeCtx, x: Value, ranges: &[(usize, usize, usize, i64)]) -> Lowered {
    let shape = c.shape(x);
    let mut op = Slice {
        starts: vec![0; shape.len()],
        sizes: shape.clone(),
        steps: vec![1; shape.len()],
    };
    for &(axis, start, size, step) in ranges {
        op.starts[axis] = start;
        op.sizes[axis] = size;
        op.steps[axis] = if size > 1 { step } else { 1 };
    }
    if op.sizes == shape && op.steps.iter().all(|&s| s == 1) {
        return Ok(x);
    }
    c.emit(op, &[x])
}

/// Slice: positions are attributes before opset 10, operands since.
pub(super) fn slice(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let missing = |name| bad(format!("`{name}` is missing"));
    let (starts, ends, axes, steps) = if c.opset < 10 {
        let starts = c.ints("starts")?.ok_or_else(|| missing("starts"))?;
        (
            starts,
            c.ints("ends")?.ok_or_else(|| missing("ends"))?,
            c.ints("axes")?,
            None,
        )
    } else {
        let (starts, ends) = (c.const_i64s(1, "starts")?, c.const_i64s(2, "ends")?);
        (
            starts,
            ends,
            c.opt_const_i64s(3, "axes")?,
            c.opt_const_i64s(4, "steps")?,
        )
    };
    let shape = c.shape(x);
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()]
        .iter()
        .any(|&n| n != starts.len())
    {
        return Err(bad("starts, ends, axes and steps have different lengths"));
    }
    // Only to refuse repeated dimensions; the order of the lists counts below.
    c.axes(&axes, shape.len())?;
    let mut ranges = Vec::with_capacity(axes.len());
    for i in 0..axes.len() {
        let axis = c.axis(axes[i], shape.len())?;
        if steps[i] == 0 {
            return Err(bad("a step is 0"));
        }
        let (start, count) = range(shape[axis], starts[i], ends[i], steps[i]);
        ranges.push((axis, start, count, steps[i]));
    }
    part(c, x, &ranges)
}

/// Split: sizes from an attribute (before opset 13), an operand, or by equal division.
pub(super) fn split(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let axis = c.axis(c.int("axis", 0)?, shape.len())?;
    let dim = shape[axis];
    let outputs = c.output_count();
    let declared = if c.opset < 13 {
        c.ints("split")?
    } else {
        c.opt_const_i64s(1, "split")?
    };
    let mut chunks = outputs;
    if c.opset >= 18
        && let Some(n) = c.opt_int("num_outputs")?
    {
        chunks = usize::try_from(n)
            .ok()
            .filter(|&n| n == outputs && declared.is_none())
            .ok_or_else(|| c.bad_attr("num_outputs", format!("is {n}, the node has {outputs} outputs")))?;
    }
    let sizes = match declared {
        Some(sizes) => c.sizes("split", &sizes)?,
        None if chunks > 0 => {
            if c.opset < 18 && !dim.is_multiple_of(chunks) {
                return Err(bad(format!(
                    "dimension {axis} of size {dim} does not split into {chunks} equal parts"
                )));
            }
            let size = dim.div_ceil(chunks);
            (0..chunks)
                .map(|i| dim.saturating_sub(i * size).min(size))
                .collect()
        }
        None => return Err(bad("there are no outputs")),
    };
    let total = sizes.iter().try_fold(0usize, |n, &s| n.checked_add(s));
    if sizes.len() != outputs || total != Some(dim) {
        return Err(bad(format!(
            "sizes {sizes:?} do not split {dim} elements into {outputs} outputs"
        )));
    }
    let mut start = 0;
    sizes
        .iter()
        .map(|&size| {
            let piece = part(c, x, &[(axis, start, size, 1)]);
            start += size;
            piece
        })
        .collect()
}

pub(super) fn concat(c: &mut NodeCtx) -> Lowered {
    let all = c.all_inputs()?;
    let &first = all.first().ok_or_else(|| bad("needs at least one operand"))?;
    let axis = c
        .opt_int("axis")?
        .ok_or_else(|| c.bad_attr("axis", "is missing"))?;
    let axis = c.axis(axis, c.rank(first))?;
    if all.len() == 1 {
        return Ok(first);
    }
    c.emit(Concat { axis }, &all)
}

pub(super) fn gather(c: &mut NodeCtx) -> Lowered {
    let (x, indices) = (c.input(0)?, c.input(1)?);
    let shape = c.shape(x);
    let axis = c.axis(c.int("axis", 0)?, shape.len())?;
    if let Some(known) = c.known(indices).and_then(|t| t.to_i64_vec()) {
        let n = shape[axis] as i64;
        if let Some(i) = known.into_iter().find(|i| !(-n..n).contains(i)) {
            return Err(bad(format!(
                "index {i} is out of range for dimension {axis} of size {n}"
            )));
        }
    }
    c.emit(Gather { axis }, &[x, indices])
}

#[cfg(test)]
mod tests {
    use super::range;

    /// ONNX's rule, by counting: Python's, but a start before the beginning is the beginning for negative steps too.
    fn reference(dim: usize, start: i64, end: i64, step: i64) -> Vec<usize> {
        let n = dim as i64;
        let fix = |i: i64| if i < 0 { i + n } else { i };
        let (mut i, end) = if step > 0 {
            (fix(start).clamp(0, n), fix(end).clamp(0, n))
        } else {
            (fix(start).min(n - 1).max(0.min(n - 1)), fix(end).clamp(-1, n - 1))
        };
        let mut all = Vec::new();
        while if step > 0 { i < end } else { i > end } {
            all.push(i as usize);
            i += step;
        }
        all
    }

    #[test]
    fn ranges_are_onnxs() {
        for dim in 0..5 {
            for (start, end) in (-7..7).flat_map(|s| (-7..7).map(move |e| (s, e))) {
                for step in [-3, -2, -1, 1, 2, 3] {
                    let (first, count) = range(dim, start, end, step);
                    let all: Vec<usize> = (0..count)
                        .map(|i| (first as i64 + i as i64 * step) as usize)
                        .collect();
                    assert_eq!(
                        all,
                        reference(dim, start, end, step),
                        "{dim} {start}:{end}:{step}"
                    );
                }
            }
        }
        assert_eq!(range(5, i64::MAX, i64::MIN, -1), (4, 5));
        assert_eq!(range(5, i64::MIN, i64::MAX, i64::MAX), (0, 1));
    }
}
