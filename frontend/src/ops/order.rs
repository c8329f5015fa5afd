//! Positions of extrema, the k largest, running sums.

use super::index::{iota, take_along};
use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::DType;
use sdc_ir::graph::op::{ArgMax, Cumulative, ReduceKind, TopK};
use sdc_ir::graph::{BinaryOp, Value};

/// ArgMax, ArgMin.
pub(super) fn arg_extremum(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let axis = c.axis(c.int("axis", 0)?, c.rank(x))?;
    let keepdims = c.flag("keepdims", true)?;
    let op = ArgMax {
        axis,
        smallest: c.op_type() == "ArgMin",
        last: c.flag("select_last_index", false)?,
    };
    let y = c.emit(op, &[x])?;
    if keepdims {
        return Ok(y);
    }
    let mut shape = c.shape(y);
    shape.remove(axis);
    c.reshape(y, shape)
}

/// TopK; sorted whether asked for or not.
pub(super) fn top_k(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    c.ignore(&["sorted"]);
    let x = c.input(0)?;
    let axis = c.axis(c.int("axis", -1)?, c.rank(x))?;
    let smallest = !c.flag("largest", true)?;
    let k = if c.opset < 10 {
        c.opt_int("k")?.ok_or_else(|| c.bad_attr("k", "is missing"))?
    } else {
        match c.const_i64s(1, "k")?[..] {
            [k] => k,
            _ => return Err(Fault::new(Code::BadOperands, "operand 1 (k) is not one number")),
        }
    };
    let k = usize::try_from(k).map_err(|_| Fault::new(Code::BadOperands, format!("k is {k}")))?;
    let indices = c.emit(TopK { axis, k, smallest }, &[x])?;
    let values = take_along(c, x, indices, axis)?;
    Ok(vec![values, indices])
}

/// Hardmax: 1 at the first largest element, else 0.
pub(super) fn hardmax(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let joint = c.opset < 13;
    let axis = c.axis(c.int("axis", if joint { 1 } else { -1 })?, shape.len())?;
    let (seen, axis) = if joint && axis + 1 < shape.len() {
        // The dimensions from the axis on are one.
        let rows = shape[..axis].iter().product();
        let columns = shape[axis..].iter().product();
        (c.reshape(x, vec![rows, columns])?, 1)
    } else {
        (x, axis)
    };
    let (size, rank) = (c.shape(seen)[axis], c.rank(seen));
    let op = ArgMax {
        axis,
        smallest: false,
        last: false,
    };
    let at = c.emit(op, &[seen])?;
    let positions = iota(c, size, (0, 1), axis, rank)?;
    let hot = c.binary(BinaryOp::Equal, at, positions)?;
    let y = c.cast(hot, c.dtype(x))?;
    c.reshape(y, shape)
}

/// CumSum, CumProd.
pub(super) fn cumulative(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let kind = if c.op_type() == "CumProd" {
        ReduceKind::Prod
    } else {
        ReduceKind::Sum
    };
    let axis = match c.const_i64s(1, "axis")?[..] {
        [axis] => c.axis(axis, c.rank(x))?,
        _ => {
            return Err(Fault::new(
                Code::BadOperands,
                "operand 1 (axis) is not one number",
            ));
        }
    };
    if c.dtype(x) == DType::Bool {
        return Err(Fault::new(
            Code::BadOperands,
            "elements of type bool have no arithmetic",
        ));
    }
    let op = Cumulative {
        kind,
        axis,
        exclusive: c.flag("exclusive", false)?,
        reverse: c.flag("reverse", false)?,
    };
    c.emit(op, &[x])
}
