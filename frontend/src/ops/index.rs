//! Operators that gather and scatter by index tensors: all come down to one Gather or Scatter of rows of a matrix.

use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::op::{Concat, Gather, Scatter, ScatterMode, Slice, Where};
use sdc_ir::graph::{BinaryOp, Value};
use sdc_ir::{DType, Tensor};

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadOperands, text)
}

/// `start, start + step, ..`, `len` of them, along dimension `axis` of a tensor of this rank whose other sizes are 1.
pub(super) fn iota(
    c: &mut NodeCtx,
    len: usize,
    (start, step): (i64, i64),
    axis: usize,
    rank: usize,
) -> Lowered {
    let limit = c.builder.limits.max_folded_elements;
    if len > limit {
        let text = format!("{len} positions exceed the limit of {limit} elements computed at compile time");
        return Err(Fault::new(Code::FoldLimit, text));
    }
    let values = (0..len as i64)
        .map(|i| start.wrapping_add(i.wrapping_mul(step)))
        .collect();
    let mut shape = vec![1; rank];
    if let Some(size) = shape.get_mut(axis) {
        *size = len;
    }
    let tensor =
        Tensor::from_elements(shape, values).map_err(|e| Fault::new(Code::TooLarge, e.to_string()))?;
    c.constant(tensor)
}

/// Indices as i64, negative ones counted from the end of a dimension of this size.
fn wrapped(c: &mut NodeCtx, indices: Value, size: usize) -> Lowered {
    if !matches!(c.dtype(indices), DType::I32 | DType::I64) {
        return Err(bad(format!("indices are {}, not i32 or i64", c.dtype(indices))));
    }
    let indices = c.cast(indices, DType::I64)?;
    let below = c.with_scalar(BinaryOp::Less, indices, 0.0)?;
    let raised = c.with_scalar(BinaryOp::Add, indices, size as f64)?;
    c.emit(Where {}, &[below, raised, indices])
}

fn elements(shape: &[usize]) -> Result<usize, Fault> {
    sdc_ir::tensor::element_count(shape).ok_or_else(|| Fault::new(Code::TooLarge, "a tensor is too large"))
}

/// Positions, in the flattened data, of the elements that indices along `axis` name (as GatherElements): shape of the
/// indices.
fn flat_positions(c: &mut NodeCtx, data: &[usize], indices: Value, axis: usize) -> Lowered {
    let shape = c.shape(indices);
    let fits = shape.len() == data.len()
        && (0..data.len()).all(|d| d == axis || shape[d] <= data[d])
        && (data[axis] > 0 || shape.contains(&0));
    if !fits {
        return Err(bad(format!(
            "indices of shape {shape:?} do not fit data of shape {data:?}"
        )));
    }
    let strides = sdc_ir::tensor::row_major_strides(data);
    // Out of range must not become another row's element.
    let mut at = wrapped(c, indices, data[axis])?;
    at = c.with_scalar(BinaryOp::Max, at, 0.0)?;
    at = c.with_scalar(BinaryOp::Min, at, data[axis].saturating_sub(1) as f64)?;
    at = c.with_scalar(BinaryOp::Mul, at, strides[axis] as f64)?;
    for d in (0..data.len()).filter(|&d| d != axis && shape[d] > 1) {
        let offsets = iota(c, shape[d], (0, strides[d] as i64), d, data.len())?;
        at = c.binary(BinaryOp::Add, at, offsets)?;
    }
    Ok(at)
}

/// `result[.., i, ..] = data[.., indices[.., i, ..], ..]` (GatherElements).
pub(super) fn take_along(c: &mut NodeCtx, data: Value, indices: Value, axis: usize) -> Lowered {
    let shape = c.shape(data);
    let at = flat_positions(c, &shape, indices, axis)?;
    let flat = c.reshape(data, vec![elements(&shape)?])?;
    c.emit(Gather { axis: 0 }, &[flat, at])
}

pub(super) fn gather_elements(c: &mut NodeCtx) -> Lowered {
    let (data, indices) = (c.input(0)?, c.input(1)?);
    let axis = c.axis(c.int("axis", 0)?, c.rank(data))?;
    take_along(c, data, indices, axis)
}

/// The row numbers that an index tensor `[.., k]` names in data seen as rows over its first `batch + k` dimensions, and
/// the number and width of those rows.
fn rows(
    c: &mut NodeCtx,
    data: &[usize],
    indices: Value,
    batch: usize,
) -> Result<(Value, usize, usize), Fault> {
    let shape = c.shape(indices);
    let Some((&k, outer)) = shape.split_last() else {
        return Err(bad("indices must not be a scalar"));
    };
    let fits = batch + k <= data.len() && batch <= outer.len() && outer[..batch] == data[..batch] && k > 0;
    if !fits {
        return Err(bad(format!(
            "indices of shape {shape:?} do not fit data of shape {data:?}"
        )));
    }
    let named = &data[..batch + k];
    let (count, width) = (elements(named)?, elements(&data[batch + k..])?);
    let strides = sdc_ir::tensor::row_major_strides(named);
    let mut sum = None;
    for j in 0..k {
        let mut starts = vec![0; shape.len()];
        let mut sizes = shape.clone();
        (starts[outer.len()], sizes[outer.len()]) = (j, 1);
        let steps = vec![1; shape.len()];
        let part = c.emit(Slice { starts, sizes, steps }, &[indices])?;
        let part = c.reshape(part, outer.to_vec())?;
        let size = named[batch + j];
        let part = wrapped(c, part, size)?;
        let part = c.with_scalar(BinaryOp::Max, part, 0.0)?;
        let part = c.with_scalar(BinaryOp::Min, part, size.saturating_sub(1) as f64)?;
        let part = c.with_scalar(BinaryOp::Mul, part, strides[batch + j] as f64)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => c.binary(BinaryOp::Add, sum, part)?,
        });
    }
    let mut at = sum.ok_or_else(|| bad("indices name no dimension"))?;
    for d in 0..batch {
        let offsets = iota(c, outer[d], (0, strides[d] as i64), d, outer.len())?;
        at = c.binary(BinaryOp::Add, at, offsets)?;
    }
    Ok((at, count, width))
}

pub(super) fn gather_nd(c: &mut NodeCtx) -> Lowered {
    let (data, indices) = (c.input(0)?, c.input(1)?);
    let batch = c.int("batch_dims", 0)?;
    let batch = usize::try_from(batch).map_err(|_| c.bad_attr("batch_dims", "is negative"))?;
    gather_rows(c, data, indices, batch)
}

/// GatherND of values at hand.
pub(super) fn gather_rows(c: &mut NodeCtx, data: Value, indices: Value, batch: usize) -> Lowered {
    let shape = c.shape(data);
    let (at, count, width) = rows(c, &shape, indices, batch)?;
    let matrix = c.reshape(data, vec![count, width])?;
    let gathered = c.emit(Gather { axis: 0 }, &[matrix, at])?;
    let mut result = c.shape(indices);
    let k = result.pop().unwrap_or(0);
    result.extend(&shape[batch + k..]);
    c.reshape(gathered, result)
}

fn mode(c: &NodeCtx) -> Result<ScatterMode, Fault> {
    match c.string("reduction", "none")? {
        "none" => Ok(ScatterMode::Set),
        "add" => Ok(ScatterMode::Add),
        "mul" => Ok(ScatterMode::Mul),
        "max" => Ok(ScatterMode::Max),
        "min" => Ok(ScatterMode::Min),
        other => Err(c.bad_attr("reduction", format!("is `{other}`"))),
    }
}

/// ScatterElements, and Scatter, its first name.
pub(super) fn scatter_elements(c: &mut NodeCtx) -> Lowered {
    let (data, indices, updates) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let axis = c.axis(c.int("axis", 0)?, c.rank(data))?;
    let mode = mode(c)?;
    let shape = c.shape(data);
    if c.shape(indices) != c.shape(updates) {
        return Err(bad("indices and updates differ in shape"));
    }
    let at = flat_positions(c, &shape, indices, axis)?;
    let (n, k) = (elements(&shape)?, elements(&c.shape(indices))?);
    let matrix = c.reshape(data, vec![n, 1])?;
    let at = c.reshape(at, vec![k])?;
    let updates = c.reshape(updates, vec![k, 1])?;
    let y = c.emit(Scatter { mode }, &[matrix, at, updates])?;
    c.reshape(y, shape)
}

pub(super) fn scatter_nd(c: &mut NodeCtx) -> Lowered {
    let (data, indices, updates) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let mode = mode(c)?;
    let shape = c.shape(data);
    let (at, n, m) = rows(c, &shape, indices, 0)?;
    let k = elements(&c.shape(at))?;
    let mut expected = c.shape(indices);
    let depth = expected.pop().unwrap_or(0);
    expected.extend(&shape[depth..]);
    if c.shape(updates) != expected {
        return Err(bad(format!("updates need the shape {expected:?}")));
    }
    let matrix = c.reshape(data, vec![n, m])?;
    let at = c.reshape(at, vec![k])?;
    let updates = c.reshape(updates, vec![k, m])?;
    let y = c.emit(Scatter { mode }, &[matrix, at, updates])?;
    c.reshape(y, shape)
}

/// `on` where a position along a new dimension equals the index, else `off`.
pub(super) fn one_hot(c: &mut NodeCtx) -> Lowered {
    let (indices, values) = (c.input(0)?, c.input(2)?);
    let depth = c.const_scalar(1, "depth")?;
    if !(depth >= 1.0 && depth <= c.builder.limits.max_folded_elements as f64) {
        return Err(bad(format!("a depth of {depth}")));
    }
    let depth = depth as usize;
    if c.shape(values) != [2] {
        return Err(bad("values must be two numbers"));
    }
    let rank = c.rank(indices) + 1;
    let axis = c.axis(c.int("axis", -1)?, rank)?;
    let indices = c.cast(indices, DType::I64)?;
    let indices = wrapped(c, indices, depth)?;
    let mut shape = c.shape(indices);
    shape.insert(axis, 1);
    let indices = c.reshape(indices, shape)?;
    let positions = iota(c, depth, (0, 1), axis, rank)?;
    let hot = c.binary(BinaryOp::Equal, indices, positions)?;
    let [off, on] = [0, 1].map(|i| {
        let part = Slice {
            starts: vec![i],
            sizes: vec![1],
            steps: vec![1],
        };
        let part = c.emit(part, &[values])?;
        c.reshape(part, Vec::new())
    });
    c.emit(Where {}, &[hot, on?, off?])
}

/// A `bool` matrix: is column - row `op` k?
fn diagonal(c: &mut NodeCtx, op: BinaryOp, (rows, columns): (usize, usize), k: i64) -> Lowered {
    let row = iota(c, rows, (k, 1), 0, 2)?;
    let column = iota(c, columns, (0, 1), 1, 2)?;
    c.binary(op, column, row)
}

pub(super) fn trilu(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let upper = c.flag("upper", true)?;
    let k = match c.opt_input(1) {
        Some(_) => c.const_scalar(1, "k")?.clamp(-1e15, 1e15) as i64,
        None => 0,
    };
    let shape = c.shape(x);
    let &[.., rows, columns] = &shape[..] else {
        return Err(bad("the input is no matrix"));
    };
    if shape.contains(&0) {
        return Ok(x);
    }
    let op = if upper {
        BinaryOp::GreaterOrEqual
    } else {
        BinaryOp::LessOrEqual
    };
    let kept = diagonal(c, op, (rows, columns), k)?;
    let zero = c.scalar(c.dtype(x), 0.0)?;
    c.emit(Where {}, &[kept, x, zero])
}

pub(super) fn eye_like(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let dtype = match c.opt_int("dtype")? {
        Some(t) => crate::tensor::dtype_of(i32::try_from(t).unwrap_or(0))?,
        None => c.dtype(x),
    };
    let k = c.int("k", 0)?;
    let &[rows, columns] = &c.shape(x)[..] else {
        return Err(bad("the input is no matrix"));
    };
    let ones = diagonal(c, BinaryOp::Equal, (rows, columns), k)?;
    c.cast(ones, dtype)
}

/// The first `lengths[n]` elements along `time` of each batch element `n` in reverse, the rest as it is.
pub(super) fn reverse_along(c: &mut NodeCtx, x: Value, lengths: Value, time: usize, batch: usize) -> Lowered {
    let shape = c.shape(x);
    let rank = shape.len();
    if time == batch || c.shape(lengths) != [shape[batch]] {
        return Err(bad("sequence lengths do not fit the batch"));
    }
    let mut aligned = vec![1; rank];
    aligned[batch] = shape[batch];
    let lengths = c.cast(lengths, DType::I64)?;
    let lengths = c.reshape(lengths, aligned)?;
    let steps = iota(c, shape[time], (0, 1), time, rank)?;
    let last = c.with_scalar(BinaryOp::Sub, lengths, 1.0)?;
    let mirrored = c.binary(BinaryOp::Sub, last, steps)?;
    let inside = c.binary(BinaryOp::Less, steps, lengths)?;
    let at = c.emit(Where {}, &[inside, mirrored, steps])?;
    let at = c.expand(at, shape)?;
    take_along(c, x, at, time)
}

pub(super) fn reverse_sequence(c: &mut NodeCtx) -> Lowered {
    let (x, lengths) = (c.input(0)?, c.input(1)?);
    let rank = c.rank(x);
    let time = c.axis(c.int("time_axis", 0)?, rank)?;
    let batch = c.axis(c.int("batch_axis", 1)?, rank)?;
    reverse_along(c, x, lengths, time, batch)
}

/// TensorScatter: updates written into a cache from a position of their own in each batch element on.
pub(super) fn tensor_scatter(c: &mut NodeCtx) -> Lowered {
    let (cache, update) = (c.input(0)?, c.input(1)?);
    let (shape, new) = (c.shape(cache), c.shape(update));
    let rank = shape.len();
    let axis = c.axis(c.int("axis", -2)?, rank)?;
    let circular = match c.string("mode", "linear")? {
        "linear" => false,
        "circular" => true,
        other => return Err(c.bad_attr("mode", format!("is `{other}`"))),
    };
    let fits = axis > 0 && new.len() == rank && (0..rank).all(|d| d == axis || new[d] == shape[d]);
    if !fits || new[axis] > shape[axis] {
        return Err(bad("the update does not fit the cache"));
    }
    let mut at = iota(c, new[axis], (0, 1), axis, rank)?;
    if let Some(start) = c.opt_input(2) {
        let mut aligned = vec![1; rank];
        aligned[0] = shape[0];
        let start = c.cast(start, DType::I64)?;
        let start = c.reshape(start, aligned)?;
        at = c.binary(BinaryOp::Add, at, start)?;
    }
    if circular {
        let size = c.constant(Tensor::scalar_of(DType::I64, shape[axis] as f64))?;
        let turns = c.binary(BinaryOp::Div, at, size)?;
        let whole = c.binary(BinaryOp::Mul, turns, size)?;
        at = c.binary(BinaryOp::Sub, at, whole)?;
    }
    let at = c.expand(at, new.clone())?;
    let at = flat_positions(c, &shape, at, axis)?;
    let (n, k) = (elements(&shape)?, elements(&new)?);
    let matrix = c.reshape(cache, vec![n, 1])?;
    let at = c.reshape(at, vec![k])?;
    let update = c.reshape(update, vec![k, 1])?;
    let mode = ScatterMode::Set;
    let y = c.emit(Scatter { mode }, &[matrix, at, update])?;
    c.reshape(y, shape)
}

/// A dimension repeated element by element: `[.., n, ..]` to `[.., n * times, ..]`, each element `times` times in a row.
pub(crate) fn repeat(c: &mut NodeCtx, x: Value, axis: usize, times: usize) -> Lowered {
    let mut shape = c.shape(x);
    let mut split = shape.clone();
    split.insert(axis + 1, 1);
    let x = c.reshape(x, split.clone())?;
    split[axis + 1] = times;
    let x = c.expand(x, split)?;
    shape[axis] = shape[axis].saturating_mul(times);
    c.reshape(x, shape)
}

/// Operands joined along a dimension.
pub(crate) fn join(c: &mut NodeCtx, parts: &[Value], axis: usize) -> Lowered {
    c.emit(Concat { axis }, parts)
}

/// Positions as a constant list.
fn listed(c: &mut NodeCtx, positions: Vec<i64>, shape: Vec<usize>) -> Lowered {
    let tensor =
        Tensor::from_elements(shape, positions).map_err(|e| Fault::new(Code::TooLarge, e.to_string()))?;
    c.constant(tensor)
}

/// Compress with a condition known at compile time: the selected elements.
pub(super) fn compress(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let axis = c.opt_int("axis")?;
    let (x, axis) = match axis {
        Some(axis) => (x, c.axis(axis, c.rank(x))?),
        None => {
            let n = elements(&c.shape(x))?;
            (c.reshape(x, vec![n])?, 0)
        }
    };
    let condition = c.const_tensor(
        1,
        "condition: the number of its true elements is the result's size",
    )?;
    let length = c.shape(x)[axis];
    let chosen = condition
        .to_f64_vec()
        .into_iter()
        .enumerate()
        .filter(|(_, x)| *x != 0.0);
    let chosen: Vec<i64> = chosen.map(|(i, _)| i as i64).collect();
    if chosen.last().is_some_and(|&last| last as usize >= length) {
        return Err(bad("the condition is longer than the dimension"));
    }
    let count = chosen.len();
    let at = listed(c, chosen, vec![count])?;
    c.emit(Gather { axis }, &[x, at])
}

/// NonZero of what is known at compile time: an index per column.
pub(super) fn non_zero(c: &mut NodeCtx) -> Lowered {
    let x = c.const_tensor(0, "the number of its non-zero elements is the result's size")?;
    let strides = sdc_ir::tensor::row_major_strides(x.shape());
    let values = x.to_f64_vec();
    let found: Vec<usize> = (0..values.len()).filter(|&i| values[i] != 0.0).collect();
    let rank = x.shape().len();
    let limit = c.builder.limits.max_folded_elements;
    if found.len().saturating_mul(rank) > limit {
        let text = format!(
            "{} positions exceed the limit of {limit} elements computed at compile time",
            found.len()
        );
        return Err(Fault::new(Code::FoldLimit, text));
    }
    let positions = (0..rank).flat_map(|d| found.iter().map(move |&i| (d, i)));
    let positions = positions
        .map(|(d, i)| (i / strides[d] % x.shape()[d]) as i64)
        .collect();
    listed(c, positions, vec![rank, found.len()])
}
