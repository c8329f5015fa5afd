//! Pooling over one spatial dimension, and over three or more.

use super::{Emitter, Legal, dropped, lift, lift_list};
use sdc_ir::graph::op::{AveragePool, MaxPool};
use sdc_ir::graph::{Emit, Op, Value};
use std::ops::Range;

/// A pooling's window attributes under a change of each list: `(list, neutral element, begins and ends)`.
fn changed(op: &Op, change: impl Fn(&[usize], usize, bool) -> Vec<usize>) -> Option<Op> {
    Some(match op {
        Op::MaxPool(op) => MaxPool {
            kernel: change(&op.kernel, 1, false),
            strides: change(&op.strides, 1, false),
            pads: change(&op.pads, 0, true),
            dilations: change(&op.dilations, 1, false),
        }
        .into(),
        Op::AveragePool(op) => AveragePool {
            kernel: change(&op.kernel, 1, false),
            strides: change(&op.strides, 1, false),
            pads: change(&op.pads, 0, true),
            counted: change(&op.counted, 0, true),
            dilations: change(&op.dilations, 1, false),
        }
        .into(),
        _ => return None,
    })
}

/// Over `[N,C,W]`: as over `[N,C,1,W]`.
pub fn one_dimensional(c: &mut Emitter<'_, '_>, op: &Op, inputs: &[Value]) -> Option<Legal> {
    let &[x] = inputs else { return None };
    if c.rank(x) != 3 {
        return None;
    }
    let flat = changed(op, |list, neutral, _| lift_list(list, neutral))?;
    Some(lift(c, x).and_then(|x| {
        let y = c.emit(flat, &[x])?;
        dropped(c, y)
    }))
}

/// Over three or more spatial dimensions, as poolings over one or two each: windows are boxes, so extrema of extrema are extrema of
/// the whole, and, as each part's divisor depends on its own dimensions only, means of means are means.
pub fn boxes(c: &mut Emitter<'_, '_>, op: &Op, inputs: &[Value]) -> Option<Legal> {
    let &[x] = inputs else { return None };
    if c.rank(x) < 5 {
        return None;
    }
    changed(op, |list, _, _| list.to_vec())?;
    Some(by_dimension(c, op, x))
}

fn by_dimension(c: &mut Emitter<'_, '_>, op: &Op, x: Value) -> Legal {
    let mut shape = c.shape(x);
    let spatial = shape.len() - 2;
    let (mut x, mut end) = (x, spatial);
    while end > 0 {
        // The last two, then one at a time: of these the later dimensions, done already, are the columns.
        let dims = if end == spatial {
            end - 2..end
        } else {
            end - 1..end
        };
        let flat = changed(op, |list, neutral, ends| part(list, neutral, ends, &dims));
        let flat = flat.ok_or("only poolings have windows that are boxes")?;
        let (before, after) = shape.split_at(2 + dims.start);
        let (rows, columns) = (before.iter().product(), after[1..].iter().product());
        let image = c.reshape(x, vec![rows, 1, after[0], columns])?;
        let y = c.emit(flat, &[image])?;
        let got = c.shape(y);
        shape[2 + dims.start] = got[2];
        if dims.len() == 2 {
            shape[2 + dims.start + 1] = got[3];
        }
        x = c.reshape(y, shape.clone())?;
        end = dims.start;
    }
    Ok(x)
}

/// Of a list's entries those of one or two dimensions, as two.
fn part(list: &[usize], neutral: usize, ends: bool, dims: &Range<usize>) -> Vec<usize> {
    let own = |list: &[usize]| {
        let mut own = list[dims.clone()].to_vec();
        own.resize(2, neutral);
        own
    };
    if !ends {
        return own(list);
    }
    let (begins, ends) = list.split_at(list.len() / 2);
    [own(begins), own(ends)].concat()
}
