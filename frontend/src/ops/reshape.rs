//! New shapes for the same elements, permutations, and broadcasting.

use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::Value;
use sdc_ir::graph::infer::broadcast;
use sdc_ir::graph::types::shape_text;

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadOperands, text)
}

fn product(shape: &[usize]) -> Result<usize, Fault> {
    let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    n.ok_or_else(|| {
        Fault::new(
            Code::TooLarge,
            format!("shape {} is too large", shape_text(shape)),
        )
    })
}

/// Reshape: 0 keeps a dimension (unless `allowzero`), one -1 takes what is left.
pub(super) fn reshape(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let wanted = if c.opset < 5 {
        c.ints("shape")?.ok_or_else(|| bad("`shape` is missing"))?
    } else {
        c.const_i64s(1, "shape")?
    };
    let allow_zero = c.flag("allowzero", false)?;
    let from = c.shape(x);
    let mut shape = Vec::with_capacity(wanted.len());
    let mut free = None;
    for (i, &d) in wanted.iter().enumerate() {
        shape.push(match d {
            0 if !allow_zero => *from.get(i).ok_or_else(|| {
                bad(format!(
                    "shape {wanted:?} copies dimension {i}, which the input does not have"
                ))
            })?,
            -1 if free.is_some() => return Err(bad(format!("shape {wanted:?} has more than one -1"))),
            -1 => {
                free = Some(i);
                1
            }
            _ => usize::try_from(d).map_err(|_| bad(format!("shape {wanted:?} has the entry {d}")))?,
        });
    }
    if let Some(i) = free {
        let (have, rest) = (product(&from)?, product(&shape)?);
        if rest == 0 || !have.is_multiple_of(rest) {
            return Err(bad(format!("{} elements do not fit shape {wanted:?}", have)));
        }
        shape[i] = have / rest;
    }
    c.reshape(x, shape)
}

pub(super) fn flatten(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let rank = shape.len();
    let axis = c.int("axis", 1)?;
    // The split point may also lie behind the last dimension.
    let axis = if axis == rank as i64 {
        rank
    } else {
        c.axis(axis, rank)?
    };
    let matrix = vec![product(&shape[..axis])?, product(&shape[axis..])?];
    c.reshape(x, matrix)
}

/// `axes`: an attribute before opset 13, an operand since.
fn axes_of(c: &NodeCtx) -> Result<Option<Vec<i64>>, Fault> {
    if c.opset < 13 {
        c.ints("axes")
    } else {
        c.opt_const_i64s(1, "axes")
    }
}

pub(super) fn squeeze(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let axes = match axes_of(c)? {
        Some(axes) => c.axes(&axes, shape.len())?,
        None => (0..shape.len()).filter(|&i| shape[i] == 1).collect(),
    };
    if let Some(&axis) = axes.iter().find(|&&a| shape[a] != 1) {
        return Err(bad(format!(
            "dimension {axis} of {} is not 1",
            shape_text(&shape)
        )));
    }
    let kept = (0..shape.len())
        .filter(|i| !axes.contains(i))
        .map(|i| shape[i])
        .collect();
    c.reshape(x, kept)
}

pub(super) fn unsqueeze(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let axes = axes_of(c)?.ok_or_else(|| bad("`axes` is missing"))?;
    unsqueezed(c, x, &axes)
}

/// The value with dimensions of size 1 at these places of the result.
pub(super) fn unsqueezed(c: &mut NodeCtx, x: Value, axes: &[i64]) -> Lowered {
    let shape = c.shape(x);
    let rank = shape.len() + axes.len();
    if rank > c.builder.limits.max_rank {
        return Err(Fault::new(
            Code::TooLarge,
            format!("rank {rank} exceeds the limit"),
        ));
    }
    let axes = c.axes(axes, rank)?;
    let mut old = shape.into_iter();
    let new = (0..rank).map(|i| {
        if axes.contains(&i) {
            1
        } else {
            old.next().unwrap_or(1)
        }
    });
    let new = new.collect();
    c.reshape(x, new)
}

pub(super) fn transpose(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let perm = match c.ints("perm")? {
        Some(perm) => c.sizes("perm", &perm)?,
        None => (0..c.rank(x)).rev().collect(),
    };
    c.transpose(x, perm)
}

/// Expand broadcasts both ways: the operand's dimensions may also exceed the shape's.
pub(super) fn expand(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let wanted = c.const_i64s(1, "shape")?;
    let wanted = c.sizes("shape", &wanted)?;
    let from = c.shape(x);
    let shape = broadcast(&from, &wanted);
    let shape = shape.ok_or_else(|| {
        bad(format!(
            "{} and {} do not broadcast",
            shape_text(&from),
            shape_text(&wanted)
        ))
    })?;
    c.expand(x, shape)
}

/// Tile: each repeated dimension gets a new one beside it, is broadcast along that, and merged with it.
pub(super) fn tile(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let repeats = c.const_i64s(1, "repeats")?;
    let repeats = c.sizes("repeats", &repeats)?;
    let shape = c.shape(x);
    if repeats.len() != shape.len() {
        return Err(bad(format!("{} repeats for rank {}", repeats.len(), shape.len())));
    }
    let (mut split, mut wide, mut merged) = (Vec::new(), Vec::new(), Vec::new());
    for (&n, &times) in shape.iter().zip(&repeats) {
        if times != 1 {
            split.push(1);
            wide.push(times);
        }
        split.push(n);
        wide.push(n);
        merged.push(product(&[n, times])?);
    }
    if split.len() > c.builder.limits.max_rank {
        return Err(Fault::new(Code::TooLarge, "too many repeated dimensions"));
    }
    let y = c.reshape(x, split)?;
    let y = c.expand(y, wide)?;
    c.reshape(y, merged)
}

fn blocks(c: &NodeCtx, x: Value) -> Result<(usize, [usize; 4]), Fault> {
    let size = c
        .opt_int("blocksize")?
        .ok_or_else(|| c.bad_attr("blocksize", "is missing"))?;
    let size = usize::try_from(size).ok().filter(|&b| b > 0);
    let size = size.ok_or_else(|| c.bad_attr("blocksize", "is not positive"))?;
    let shape = c.shape(x);
    let dims = <[usize; 4]>::try_from(&shape[..])
        .map_err(|_| bad(format!("the input has rank {}, not 4", shape.len())))?;
    Ok((size, dims))
}

/// True for depth-column-row order, false for column-row-depth.
fn depth_first(c: &NodeCtx) -> Result<bool, Fault> {
    match c.string("mode", "DCR")? {
        "DCR" => Ok(true),
        "CRD" => Ok(false),
        other => Err(c.bad_attr("mode", format!("is `{other}`"))),
    }
}

pub(super) fn depth_to_space(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let (b, [n, ch, h, w]) = blocks(c, x)?;
    let square = product(&[b, b])?;
    if !ch.is_multiple_of(square) {
        return Err(bad(format!("{ch} channels are not a multiple of {square}")));
    }
    let depth = ch / square;
    let (split, perm) = if depth_first(c)? {
        (vec![n, b, b, depth, h, w], vec![0, 3, 4, 1, 5, 2])
    } else {
        (vec![n, depth, b, b, h, w], vec![0, 1, 4, 2, 5, 3])
    };
    let y = c.reshape(x, split)?;
    let y = c.transpose(y, perm)?;
    let shape = vec![n, depth, product(&[h, b])?, product(&[w, b])?];
    c.reshape(y, shape)
}

pub(super) fn space_to_depth(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let (b, [n, ch, h, w]) = blocks(c, x)?;
    if !h.is_multiple_of(b) || !w.is_multiple_of(b) {
        return Err(bad(format!("{h} x {w} is not a multiple of the block size {b}")));
    }
    let y = c.reshape(x, vec![n, ch, h / b, b, w / b, b])?;
    let perm = if depth_first(c)? {
        vec![0, 3, 5, 1, 2, 4]
    } else {
        vec![0, 1, 3, 5, 2, 4]
    };
    let y = c.transpose(y, perm)?;
    let shape = vec![n, product(&[ch, b, b])?, h / b, w / b];
    c.reshape(y, shape)
}
