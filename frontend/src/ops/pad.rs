//! Pad.

use super::slice::part;
use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::op::{Pad, PadMode};

/// Padding per dimension (all begins, then all ends) and the axes it is for.
fn amounts(c: &NodeCtx, rank: usize) -> Result<(Vec<i64>, Vec<i64>), Fault> {
    let pads = if c.opset < 2 {
        c.ints("paddings")?
            .ok_or_else(|| c.bad_attr("paddings", "is missing"))?
    } else if c.opset < 11 {
        c.ints("pads")?.ok_or_else(|| c.bad_attr("pads", "is missing"))?
    } else {
        c.const_i64s(1, "pads")?
    };
    let axes = if c.opset < 18 {
        None
    } else {
        c.opt_const_i64s(3, "axes")?
    };
    let axes: Vec<i64> = axes.unwrap_or_else(|| (0..rank as i64).collect());
    if pads.len() != 2 * axes.len() {
        let text = format!("{} pads for {} dimensions", pads.len(), axes.len());
        return Err(Fault::new(Code::BadOperands, text));
    }
    Ok((pads, axes))
}

/// The fill value, which the canonical operator holds as f32: refused if that changes it.
fn fill(c: &NodeCtx) -> Result<f32, Fault> {
    let exact = if c.opset < 11 {
        f64::from(c.float("value", 0.0)?)
    } else if c.opt_input(2).is_some() {
        c.const_scalar(2, "constant_value")?
    } else {
        0.0
    };
    let value = exact as f32;
    if f64::from(value) == exact || exact.is_nan() {
        return Ok(value);
    }
    Err(Fault::new(
        Code::Form,
        format!("the fill value {exact} is not exact in f32"),
    ))
}

/// Pad in every mode; negative amounts cut first.
pub(super) fn pad(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let word = c.string("mode", "constant")?;
    let mode = PadMode::from_name(word).ok_or_else(|| c.bad_attr("mode", format!("is `{word}`")))?;
    let shape = c.shape(x);
    let (pads, axes) = amounts(c, shape.len())?;
    let value = fill(c)?;
    // Only to refuse repeated dimensions.
    c.axes(&axes, shape.len())?;
    let (mut before, mut after) = (vec![0; shape.len()], vec![0; shape.len()]);
    let mut cuts = Vec::new();
    for (i, &axis) in axes.iter().enumerate() {
        let axis = c.axis(axis, shape.len())?;
        let (begin, end) = (pads[i], pads[axes.len() + i]);
        let cut = |amount: i64| amount.min(0).unsigned_abs() as usize;
        let left = shape[axis]
            .checked_sub(cut(begin))
            .and_then(|n| n.checked_sub(cut(end)));
        let left = left.ok_or_else(|| {
            Fault::new(
                Code::BadOperands,
                format!("negative pads remove more than dimension {axis} has"),
            )
        })?;
        cuts.push((axis, if left == 0 { 0 } else { cut(begin) }, left, 1));
        before[axis] = begin.max(0) as usize;
        after[axis] = end.max(0) as usize;
    }
    let x = part(c, x, &cuts)?;
    if before.iter().chain(&after).all(|&n| n == 0) {
        return Ok(x);
    }
    let op = Pad {
        mode,
        before,
        after,
        value,
    };
    c.emit(op, &[x])
}

/// CenterCropPad: each dimension is cut, or filled with zeros, evenly at both ends; the odd element is at the end.
pub(super) fn center_crop_pad(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let wanted = c.const_i64s(1, "shape")?;
    let wanted = c.sizes("shape", &wanted)?;
    let axes = c
        .ints("axes")?
        .unwrap_or_else(|| (0..shape.len() as i64).collect());
    // Only to refuse repeated dimensions.
    c.axes(&axes, shape.len())?;
    if axes.len() != wanted.len() {
        let text = format!("{} sizes for {} dimensions", wanted.len(), axes.len());
        return Err(Fault::new(Code::BadOperands, text));
    }
    let (mut before, mut after) = (vec![0; shape.len()], vec![0; shape.len()]);
    let mut cuts = Vec::new();
    for (&axis, &size) in axes.iter().zip(&wanted) {
        let axis = c.axis(axis, shape.len())?;
        if size <= shape[axis] {
            cuts.push((axis, (shape[axis] - size) / 2, size, 1));
        } else {
            before[axis] = (size - shape[axis]) / 2;
            after[axis] = size - shape[axis] - before[axis];
        }
    }
    let x = part(c, x, &cuts)?;
    if before.iter().chain(&after).all(|&n| n == 0) {
        return Ok(x);
    }
    let op = Pad {
        mode: PadMode::Constant,
        before,
        after,
        value: 0.0,
    };
    c.emit(op, &[x])
}
