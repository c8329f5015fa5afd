//! Classification losses.

use super::index::take_along;
use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::op::{Gather, Reduce, ReduceKind, Softmax, Where};
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};

/// Loss of log-probabilities `[N,C,d..]` against class numbers `[N,d..]`, with weights per class and an ignored class.
fn negative_log_likelihood(c: &mut NodeCtx, x: Value) -> Lowered {
    let target = c.input(1)?;
    let weights = c.opt_input(2);
    let ignored = c.opt_int("ignore_index")?;
    let reduction = c.string("reduction", "mean")?;
    let shape = c.shape(x);
    let fits = shape.len() >= 2 && c.shape(target) == [&shape[..1], &shape[2..]].concat();
    if !fits {
        return Err(Fault::new(
            Code::BadOperands,
            "the target does not fit the scores",
        ));
    }
    let dtype = c.dtype(x);
    let skip = match ignored {
        Some(class) => Some(c.with_scalar(BinaryOp::Equal, target, class as f64)?),
        None => None,
    };
    let class = match skip {
        Some(skip) => {
            let zero = c.scalar(c.dtype(target), 0.0)?;
            c.emit(Where {}, &[skip, zero, target])?
        }
        None => target,
    };
    let mut column = c.shape(target);
    column.insert(1, 1);
    let at = c.reshape(class, column)?;
    let chosen = take_along(c, x, at, 1)?;
    let chosen = c.reshape(chosen, c.shape(target))?;
    let loss = c.unary(UnaryOp::Neg, chosen)?;
    let weight = match weights {
        Some(w) => Some(c.emit(Gather { axis: 0 }, &[w, class])?),
        None if skip.is_some() => {
            let one = c.scalar(dtype, 1.0)?;
            Some(c.expand(one, c.shape(target))?)
        }
        None => None,
    };
    let weight = match (weight, skip) {
        (Some(w), Some(skip)) => {
            let zero = c.scalar(dtype, 0.0)?;
            Some(c.emit(Where {}, &[skip, zero, w])?)
        }
        (w, _) => w,
    };
    let weighted = match weight {
        Some(w) => c.binary(BinaryOp::Mul, loss, w)?,
        None => loss,
    };
    match (reduction, weight) {
        ("none", _) => Ok(weighted),
        ("sum", _) => total(c, ReduceKind::Sum, weighted),
        ("mean", None) => total(c, ReduceKind::Mean, weighted),
        ("mean", Some(w)) => {
            let (sum, all) = (
                total(c, ReduceKind::Sum, weighted)?,
                total(c, ReduceKind::Sum, w)?,
            );
            c.binary(BinaryOp::Div, sum, all)
        }
        (other, _) => Err(c.bad_attr("reduction", format!("is `{other}`"))),
    }
}

/// A reduction to a scalar.
fn total(c: &mut NodeCtx, kind: ReduceKind, x: Value) -> Lowered {
    let op = Reduce {
        kind,
        axes: (0..c.rank(x)).collect(),
        keepdims: false,
    };
    c.emit(op, &[x])
}

pub(super) fn nll(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    negative_log_likelihood(c, x)
}

/// SoftmaxCrossEntropyLoss: the loss, and the log-probabilities.
pub(super) fn cross_entropy(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    let x = c.input(0)?;
    if c.rank(x) < 2 {
        return Err(Fault::new(
            Code::BadOperands,
            "the scores have no class dimension",
        ));
    }
    let log_prob = c.emit(Softmax { axis: 1, log: true }, &[x])?;
    let loss = negative_log_likelihood(c, log_prob)?;
    Ok(vec![loss, log_prob])
}
