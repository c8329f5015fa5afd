//! Domain `ai.onnx.preview.training`: one step of an optimiser, in its lists of tensors.

use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::DType;
use sdc_ir::graph::op::Where;
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};

/// Operands: learning rate, number of updates so far, and then lists of tensors of equal length: `lists` of them.
fn lists(c: &NodeCtx, lists: usize) -> Result<Vec<Vec<Value>>, Fault> {
    let all = c.all_inputs()?;
    let rest = all.get(2..).unwrap_or_default();
    if rest.is_empty() || !rest.len().is_multiple_of(lists) {
        let text = format!("{} operands are not {lists} lists and two scalars", all.len());
        return Err(Fault::new(Code::BadOperands, text));
    }
    Ok(rest
        .chunks_exact(rest.len() / lists)
        .map(<[Value]>::to_vec)
        .collect())
}

fn scaled(c: &mut NodeCtx, x: Value, factor: f32) -> Lowered {
    c.with_scalar(BinaryOp::Mul, x, factor.into())
}

/// `a * x + b * y`.
fn blend(c: &mut NodeCtx, (a, x): (f32, Value), (b, y): (f32, Value)) -> Lowered {
    let (x, y) = (scaled(c, x, a)?, scaled(c, y, b)?);
    c.binary(BinaryOp::Add, x, y)
}

/// The gradient with the derivative of the weights' squared norm.
fn regularised(c: &mut NodeCtx, x: Value, gradient: Value) -> Lowered {
    let norm = c.float("norm_coefficient", 0.0)?;
    blend(c, (norm, x), (1.0, gradient))
}

/// `x - step`, where the step is a rate times a direction.
fn moved(c: &mut NodeCtx, x: Value, rate: Value, direction: Value) -> Lowered {
    let rate = c.reshape(rate, Vec::new())?;
    let rate = c.cast(rate, c.dtype(x))?;
    let step = c.binary(BinaryOp::Mul, rate, direction)?;
    c.binary(BinaryOp::Sub, x, step)
}

pub(super) fn adagrad(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    let (decay, epsilon) = (c.float("decay_factor", 0.0)?, c.float("epsilon", 0.0)?);
    let lists = lists(c, 3)?;
    let (rate, count) = (c.input(0)?, c.input(1)?);
    let count = c.cast(count, c.dtype(rate))?;
    let decayed = scaled(c, count, decay)?;
    let decayed = c.with_scalar(BinaryOp::Add, decayed, 1.0)?;
    let rate = c.binary(BinaryOp::Div, rate, decayed)?;
    let (mut xs, mut hs) = (Vec::new(), Vec::new());
    for ((&x, &gradient), &h) in lists[0].iter().zip(&lists[1]).zip(&lists[2]) {
        let gradient = regularised(c, x, gradient)?;
        let square = c.binary(BinaryOp::Mul, gradient, gradient)?;
        let h = c.binary(BinaryOp::Add, h, square)?;
        let root = c.unary(UnaryOp::Sqrt, h)?;
        let divisor = c.with_scalar(BinaryOp::Add, root, epsilon.into())?;
        let direction = c.binary(BinaryOp::Div, gradient, divisor)?;
        xs.push(moved(c, x, rate, direction)?);
        hs.push(h);
    }
    Ok([xs, hs].concat())
}

pub(super) fn adam(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    let (alpha, beta) = (c.float("alpha", 0.9)?, c.float("beta", 0.999)?);
    let epsilon = c.float("epsilon", 1e-6)?;
    let after = c.float("norm_coefficient_post", 0.0)?;
    let lists = lists(c, 4)?;
    let (rate, count) = (c.input(0)?, c.input(1)?);
    // From the second update on, the averages' start at zero is made up for.
    let count = c.cast(count, DType::F32)?;
    let rest = |c: &mut NodeCtx, base: f32| {
        let base = c.scalar(DType::F32, base.into())?;
        let power = c.binary(BinaryOp::Pow, base, count)?;
        let one = c.scalar(DType::F32, 1.0)?;
        c.binary(BinaryOp::Sub, one, power)
    };
    let (first, second) = (rest(c, alpha)?, rest(c, beta)?);
    let root = c.unary(UnaryOp::Sqrt, second)?;
    let factor = c.binary(BinaryOp::Div, root, first)?;
    let started = c.with_scalar(BinaryOp::Greater, count, 0.0)?;
    let one = c.scalar(DType::F32, 1.0)?;
    let one = c.expand(one, c.shape(started))?;
    let factor = c.emit(Where {}, &[started, factor, one])?;
    let factor = c.cast(factor, c.dtype(rate))?;
    let rate = c.binary(BinaryOp::Mul, rate, factor)?;
    let (mut xs, mut vs, mut hs) = (Vec::new(), Vec::new(), Vec::new());
    for (i, &x) in lists[0].iter().enumerate() {
        let gradient = regularised(c, x, lists[1][i])?;
        let v = blend(c, (alpha, lists[2][i]), (1.0 - alpha, gradient))?;
        let square = c.binary(BinaryOp::Mul, gradient, gradient)?;
        let h = blend(c, (beta, lists[3][i]), (1.0 - beta, square))?;
        let root = c.unary(UnaryOp::Sqrt, h)?;
        let divisor = c.with_scalar(BinaryOp::Add, root, epsilon.into())?;
        let direction = c.binary(BinaryOp::Div, v, divisor)?;
        let x = moved(c, x, rate, direction)?;
        xs.push(if after == 0.0 {
            x
        } else {
            scaled(c, x, 1.0 - after)?
        });
        vs.push(v);
        hs.push(h);
    }
    Ok([xs, vs, hs].concat())
}

pub(super) fn momentum(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    let (alpha, beta) = (c.float("alpha", 0.0)?, c.float("beta", 0.0)?);
    let nesterov = match c.string("mode", "standard")? {
        "standard" => false,
        "nesterov" => true,
        other => return Err(c.bad_attr("mode", format!("is `{other}`"))),
    };
    let lists = lists(c, 3)?;
    let (rate, count) = (c.input(0)?, c.input(1)?);
    let started = c.with_scalar(BinaryOp::Greater, count, 0.0)?;
    let started = c.reshape(started, Vec::new())?;
    let (mut xs, mut vs) = (Vec::new(), Vec::new());
    for ((&x, &gradient), &v) in lists[0].iter().zip(&lists[1]).zip(&lists[2]) {
        let gradient = regularised(c, x, gradient)?;
        let (later, first) = (c.scalar(c.dtype(x), beta.into())?, c.scalar(c.dtype(x), 1.0)?);
        let weight = c.emit(Where {}, &[started, later, first])?;
        let part = c.binary(BinaryOp::Mul, weight, gradient)?;
        let v = scaled(c, v, alpha)?;
        let v = c.binary(BinaryOp::Add, v, part)?;
        let direction = if nesterov {
            blend(c, (1.0, gradient), (alpha, v))?
        } else {
            v
        };
        xs.push(moved(c, x, rate, direction)?);
        vs.push(v);
    }
    Ok([xs, vs].concat())
}
