//! Normalisations and softmax.

use super::pool::{power_of_magnitude, root};
use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::op::{
    BatchNormalization, InstanceNormalization, LayerNormalization, Reduce, ReduceKind, Softmax, Where,
};
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};

/// BatchNormalization.
pub(super) fn batch(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    let momentum = c.float("momentum", 0.9)?;
    if c.opset < 7 && !c.flag("is_test", false)? {
        // Exporters of that time left it out of inference models too; there is nothing else to run.
        c.ignore(&["is_test"]);
    }
    let epsilon = c.float("epsilon", 1e-5)?;
    if c.flag("training_mode", false)? {
        return batch_in_training(c, epsilon, momentum);
    }
    if c.opset < 9 && !c.flag("spatial", true)? {
        return Err(c.unsupported_attr("spatial", 0));
    }
    let x = c.input(0)?;
    let dtype = c.dtype(x);
    let mut operands = vec![x];
    for i in 1..5 {
        let parameter = c.input(i)?;
        operands.push(c.cast(parameter, dtype)?);
    }
    Ok(vec![c.emit(BatchNormalization { epsilon }, &operands)?])
}

/// By the batch's own mean and variance; then the running ones, which these are mixed into.
fn batch_in_training(c: &mut NodeCtx, epsilon: f32, momentum: f32) -> Result<Vec<Value>, Fault> {
    let x = c.input(0)?;
    let (dtype, shape) = (c.dtype(x), c.shape(x));
    let Some(&channels) = shape.get(1) else {
        return Err(Fault::new(
            Code::BadOperands,
            "the input has no channel dimension",
        ));
    };
    let axes = (0..shape.len()).filter(|&d| d != 1).collect();
    let (mean, variance) = c.variance_over(x, axes)?;
    let (mean, variance) = (
        c.reshape(mean, vec![channels])?,
        c.reshape(variance, vec![channels])?,
    );
    let (scale, bias) = (c.input(1)?, c.input(2)?);
    let (scale, bias) = (c.cast(scale, dtype)?, c.cast(bias, dtype)?);
    let y = c.emit(BatchNormalization { epsilon }, &[x, scale, bias, mean, variance])?;
    let mut outputs = vec![y];
    for (i, of_batch) in [(3, mean), (4, variance)] {
        let running = c.input(i)?;
        let kept = c.with_scalar(BinaryOp::Mul, running, momentum.into())?;
        let of_batch = c.cast(of_batch, c.dtype(running))?;
        let new = c.with_scalar(BinaryOp::Mul, of_batch, 1.0 - f64::from(momentum))?;
        outputs.push(c.binary(BinaryOp::Add, kept, new)?);
    }
    Ok(outputs)
}

pub(super) fn instance(c: &mut NodeCtx) -> Lowered {
    let epsilon = c.float("epsilon", 1e-5)?;
    let operands = [c.input(0)?, c.input(1)?, c.input(2)?];
    c.emit(InstanceNormalization { epsilon }, &operands)
}

/// LayerNormalization; mean and inverse standard deviation are computed beside it where something reads them.
pub(super) fn layer(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    c.ignore(&["stash_type"]);
    let (x, scale) = (c.input(0)?, c.input(1)?);
    let epsilon = c.float("epsilon", 1e-5)?;
    let rank = c.rank(x);
    let axis = c.axis(c.int("axis", -1)?, rank)?;
    let bias = match c.opt_input(2) {
        Some(bias) => bias,
        None => c.scalar(c.dtype(x), 0.0)?,
    };
    let y = c.emit(LayerNormalization { axis, epsilon }, &[x, scale, bias])?;
    if !c.output_read(1) && !c.output_read(2) {
        return Ok(vec![y]);
    }
    let (mean, variance) = c.variance_over(x, (axis..rank).collect())?;
    let shifted = c.with_scalar(BinaryOp::Add, variance, f64::from(epsilon))?;
    let root = c.unary(UnaryOp::Sqrt, shifted)?;
    Ok(vec![y, mean, c.unary(UnaryOp::Reciprocal, root)?])
}

/// GroupNormalization: each group of channels is normalised as one channel of an InstanceNormalization. Scale and bias
/// are per group before opset 21, per channel since.
pub(super) fn group(c: &mut NodeCtx) -> Lowered {
    c.ignore(&["stash_type"]);
    let (x, scale, bias) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let epsilon = c.float("epsilon", 1e-5)?;
    let groups = c
        .opt_int("num_groups")?
        .ok_or_else(|| c.bad_attr("num_groups", "is missing"))?;
    let shape = c.shape(x);
    if shape.len() < 2 {
        return Err(Fault::new(
            Code::BadOperands,
            "the input has no channel dimension",
        ));
    }
    let groups = usize::try_from(groups)
        .ok()
        .filter(|&g| g > 0 && shape[1].is_multiple_of(g));
    let groups =
        groups.ok_or_else(|| c.bad_attr("num_groups", format!("does not divide {} channels", shape[1])))?;
    let per_group = shape[2..]
        .iter()
        .try_fold(shape[1] / groups, |n, &d| n.checked_mul(d));
    let per_group = per_group.ok_or_else(|| Fault::new(Code::TooLarge, "the input is too large"))?;
    let folded = c.reshape(x, vec![shape[0], groups, per_group])?;
    if c.opset < 21 {
        let y = c.emit(InstanceNormalization { epsilon }, &[folded, scale, bias])?;
        return c.reshape(y, shape);
    }
    let (one, zero) = (
        c.filled(c.dtype(x), 1.0, groups)?,
        c.filled(c.dtype(x), 0.0, groups)?,
    );
    let y = c.emit(InstanceNormalization { epsilon }, &[folded, one, zero])?;
    let y = c.reshape(y, shape.clone())?;
    let mut per_channel = vec![1; shape.len() - 1];
    per_channel[0] = shape[1];
    let scale = c.reshape(scale, per_channel.clone())?;
    let bias = c.reshape(bias, per_channel)?;
    let scaled = c.binary(BinaryOp::Mul, y, scale)?;
    c.binary(BinaryOp::Add, scaled, bias)
}

/// RMSNormalization: `x / sqrt(mean(x^2) + epsilon) * scale` over the dimensions from `axis` on.
pub(super) fn rms(c: &mut NodeCtx) -> Lowered {
    c.ignore(&["stash_type"]);
    let (x, scale) = (c.input(0)?, c.input(1)?);
    let epsilon = c.float("epsilon", 1e-5)?;
    let axis = c.int("axis", -1)?;
    rms_of(c, x, scale, axis, epsilon)
}

pub(super) fn rms_of(c: &mut NodeCtx, x: Value, scale: Value, axis: i64, epsilon: f32) -> Lowered {
    let rank = c.rank(x);
    let axis = c.axis(axis, rank)?;
    let square = c.binary(BinaryOp::Mul, x, x)?;
    let mean = c.mean_over(square, (axis..rank).collect())?;
    let shifted = c.with_scalar(BinaryOp::Add, mean, f64::from(epsilon))?;
    let root = c.unary(UnaryOp::Sqrt, shifted)?;
    let unit = c.binary(BinaryOp::Div, x, root)?;
    c.binary(BinaryOp::Mul, unit, scale)
}

/// MeanVarianceNormalization: `(x - mean) / (sqrt(mean(x^2) - mean^2) + 1e-9)`, the variance computed from
/// deviations, which is the same number with less cancellation.
pub(super) fn mean_variance(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let axes = c.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let axes = c.axes(&axes, c.rank(x))?;
    let (mean, variance) = c.variance_over(x, axes)?;
    let deviation = c.binary(BinaryOp::Sub, x, mean)?;
    let root = c.unary(UnaryOp::Sqrt, variance)?;
    let divisor = c.with_scalar(BinaryOp::Add, root, 1e-9)?;
    c.binary(BinaryOp::Div, deviation, divisor)
}

/// Softmax, LogSoftmax. Before opset 13 the dimensions from `axis` (default 1) on are normalised together; since, `axis`
/// (default last) alone.
pub(super) fn softmax(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let log = c.op_type() == "LogSoftmax";
    let shape = c.shape(x);
    let rank = shape.len();
    let joint = c.opset < 13;
    let axis = c.int("axis", if joint { 1 } else { -1 })?;
    // As a matrix split point, the old axis may also be the rank itself.
    if joint && axis == rank as i64 {
        return Err(Fault::new(
            Code::BadAttribute,
            format!("axis {axis} leaves nothing to normalise"),
        ));
    }
    let axis = c.axis(axis, rank)?;
    if !joint || axis + 1 == rank {
        return c.emit(Softmax { axis, log }, &[x]);
    }
    let columns = shape[axis..].iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let rows = shape[..axis].iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let (Some(rows), Some(columns)) = (rows, columns) else {
        return Err(Fault::new(Code::TooLarge, "the input is too large"));
    };
    let matrix = c.reshape(x, vec![rows, columns])?;
    let y = c.emit(Softmax { axis: 1, log }, &[matrix])?;
    c.reshape(y, shape)
}

/// LpNormalization; what has norm 0 stays 0.
pub(super) fn lp(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let p = c.int("p", 2)?;
    if !(1..=2).contains(&p) {
        return Err(c.bad_attr("p", format!("is {p}")));
    }
    let op = Reduce {
        kind: ReduceKind::Sum,
        axes: vec![c.axis(c.int("axis", -1)?, c.rank(x))?],
        keepdims: true,
    };
    let powers = power_of_magnitude(c, x, p as f64)?;
    let sum = c.emit(op, &[powers])?;
    let norm = root(c, sum, p as f64)?;
    let none = c.with_scalar(BinaryOp::Equal, norm, 0.0)?;
    let zero = c.scalar(c.dtype(x), 0.0)?;
    let quotient = c.binary(BinaryOp::Div, x, norm)?;
    c.emit(Where {}, &[none, zero, quotient])
}
