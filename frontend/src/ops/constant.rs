//! Constants, what is known from types alone, and operators that pass their operand through.

use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::Value;
use sdc_ir::{DType, Tensor};

fn ints(values: Vec<i64>) -> Result<Tensor, Fault> {
    Tensor::from_elements(vec![values.len()], values).map_err(|e| Fault::new(Code::BadTensor, e.to_string()))
}

/// Constant in all its spellings but the sparse and textual ones.
pub(super) fn constant(c: &mut NodeCtx) -> Lowered {
    let mut found = Vec::new();
    let mut narrow = None;
    if let Some((tensor, carried)) = c.tensor("value")? {
        found.push(tensor);
        narrow = carried;
    }
    found.extend(c.opt_float("value_float")?.map(Tensor::scalar));
    found.extend(c.opt_int("value_int")?.map(Tensor::scalar));
    if let Some(list) = c.floats("value_floats")? {
        let tensor = Tensor::from_elements(vec![list.len()], list);
        found.push(tensor.map_err(|e| Fault::new(Code::BadTensor, e.to_string()))?);
    }
    if let Some(list) = c.ints("value_ints")? {
        found.push(ints(list)?);
    }
    let text = ["value_string", "value_strings", "sparse_value"];
    if let Some(name) = c.unknown_attributes().iter().find(|n| text.contains(&n.as_str())) {
        return Err(Fault::new(
            Code::Attribute,
            format!("constants given as `{name}` are not supported"),
        ));
    }
    match found.pop() {
        Some(tensor) if found.is_empty() => {
            let origin = c.origin.clone();
            let value = c.builder.weight(tensor, &origin)?;
            c.builder.set_narrow(value, narrow);
            Ok(value)
        }
        _ => Err(Fault::new(Code::BadAttribute, "needs exactly one value")),
    }
}

/// ConstantOfShape: a broadcast scalar, so that nothing is allocated for it here.
pub(super) fn constant_of_shape(c: &mut NodeCtx) -> Lowered {
    let shape = c.const_i64s(0, "shape")?;
    let shape = c.sizes("shape", &shape)?;
    let (value, narrow) = match c.tensor("value")? {
        Some((t, narrow)) if t.len() == 1 => {
            let scalar = t.reshaped(Vec::new());
            (
                scalar.map_err(|e| Fault::new(Code::BadTensor, e.to_string()))?,
                narrow,
            )
        }
        Some(_) => return Err(c.bad_attr("value", "is not a single element")),
        None => (Tensor::scalar_of(DType::F32, 0.0), None),
    };
    let value = c.constant(value)?;
    c.builder.set_narrow(value, narrow);
    c.expand(value, shape)
}

/// Shape, with the part from `start` to `end` (opset 15).
pub(super) fn shape(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let rank = shape.len() as i64;
    let clamp = |i: i64| if i < 0 { i.saturating_add(rank).max(0) } else { i.min(rank) } as usize;
    let (start, end) = (clamp(c.int("start", 0)?), clamp(c.int("end", rank)?));
    let part = shape.get(start..end).unwrap_or(&[]);
    c.constant(ints(part.iter().map(|&d| d as i64).collect())?)
}

pub(super) fn size(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let n = c.ty(x).elements().unwrap_or(0);
    c.constant(Tensor::scalar(n as i64))
}

/// Range of constants.
pub(super) fn range(c: &mut NodeCtx) -> Lowered {
    // Narrow floats are computed in f64 and rounded once, which is what the attribute's default asks for.
    c.ignore(&["stash_type"]);
    let (dtype, same) = {
        let types: Vec<DType> = (0..3)
            .map(|i| Ok(c.dtype(c.input(i)?)))
            .collect::<Result<_, Fault>>()?;
        (types[0], types.iter().all(|&t| t == types[0]))
    };
    if !same || dtype == DType::Bool {
        return Err(Fault::new(
            Code::BadOperands,
            "start, limit and delta need one numeric element type",
        ));
    }
    if dtype.is_int() {
        let one = |i, what| {
            let values = c.const_i64s(i, what)?;
            values
                .first()
                .copied()
                .filter(|_| values.len() == 1)
                .ok_or_else(|| Fault::new(Code::BadOperands, format!("operand {i} ({what}) is not a scalar")))
        };
        let (start, limit, delta) = (one(0, "start")?, one(1, "limit")?, one(2, "delta")?);
        let (start, limit, delta) = (i128::from(start), i128::from(limit), i128::from(delta));
        if delta == 0 {
            return Err(Fault::new(Code::BadOperands, "delta is 0"));
        }
        let span = (limit - start) * delta.signum();
        let count = if span <= 0 {
            0
        } else {
            (span - 1) / delta.abs() + 1
        };
        let count = folded_len(c, dtype, count as f64)?;
        let values: Vec<i64> = (0..count).map(|i| (start + i as i128 * delta) as i64).collect();
        let value = c.constant(ints(values)?)?;
        return c.cast(value, dtype);
    }
    let (start, limit) = (c.const_scalar(0, "start")?, c.const_scalar(1, "limit")?);
    let delta = c.const_scalar(2, "delta")?;
    let count = ((limit - start) / delta).ceil();
    if !count.is_finite() {
        return Err(Fault::new(
            Code::BadOperands,
            "the number of elements is not finite",
        ));
    }
    let count = folded_len(c, dtype, count.max(0.0))?;
    let values: Vec<f64> = (0..count).map(|i| start + i as f64 * delta).collect();
    let tensor = Tensor::from_elements(vec![count], values);
    let value = c.constant(tensor.map_err(|e| Fault::new(Code::BadTensor, e.to_string()))?)?;
    c.cast(value, dtype)
}

/// A length that may be computed at import.
fn folded_len(c: &NodeCtx, dtype: DType, count: f64) -> Result<usize, Fault> {
    let limit = c.builder.limits.max_folded_elements;
    if count <= limit as f64 {
        return Ok(count as usize);
    }
    let text =
        format!("{count} {dtype} elements exceed the limit of {limit} elements computed at compile time");
    Err(Fault::new(Code::FoldLimit, text))
}

pub(super) fn identity(c: &mut NodeCtx) -> Lowered {
    c.input(0)
}

/// Dropout in inference, or of nothing: the operand, and a mask that keeps everything.
pub(super) fn dropout(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    c.ignore(&["ratio", "seed"]);
    if c.opset < 7 {
        c.ignore(&["is_test"]);
    }
    let x = c.input(0)?;
    if c.opt_input(2).is_some() && c.const_scalar(2, "training_mode")? != 0.0 {
        let ratio = match c.opt_input(1) {
            Some(_) => c.const_scalar(1, "ratio")?,
            None => 0.5,
        };
        if ratio != 0.0 {
            let text = "training mode, which drops elements at random, is not supported";
            return Err(Fault::new(Code::Form, text).help("export the model for inference"));
        }
    }
    let mut outputs = vec![x];
    if c.output_read(1) {
        let mask = c.scalar(if c.opset < 10 { c.dtype(x) } else { DType::Bool }, 1.0)?;
        outputs.push(c.expand(mask, c.shape(x))?);
    }
    Ok(outputs)
}
