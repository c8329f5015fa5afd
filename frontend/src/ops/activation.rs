//! Activation functions. What is not canonical is composed of what is, by the formula in the operator's ONNX page.

use super::elementwise::bounded;
use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::DType;
use sdc_ir::graph::op::{Clip, Elu, HardSigmoid, LeakyRelu, Where};
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};

pub(super) fn leaky_relu(c: &mut NodeCtx) -> Lowered {
    let (x, alpha) = (c.input(0)?, c.float("alpha", 0.01)?);
    c.emit(LeakyRelu { alpha }, &[x])
}

/// PRelu; with one slope for all it is LeakyRelu.
pub(super) fn prelu(c: &mut NodeCtx) -> Lowered {
    let (x, slope) = (c.input(0)?, c.input(1)?);
    if c.dtype(x) == DType::F32
        && let Some(data) = c.known(slope)
        && data.dtype() == DType::F32
        && data.len() == 1
        && data.shape().len() <= c.rank(x)
    {
        let alpha = data.to_f64_vec()[0] as f32;
        return c.emit(LeakyRelu { alpha }, &[x]);
    }
    // Before opset 7 a list of slopes belongs to the channels.
    let slope = match (c.opset < 7, &c.shape(x)[..], &c.shape(slope)[..]) {
        (true, &[_, channels, ref rest @ ..], &[n]) if n == channels => {
            let mut shape = vec![1; 1 + rest.len()];
            shape[0] = n;
            c.reshape(slope, shape)?
        }
        _ => slope,
    };
    let below = c.with_scalar(BinaryOp::Less, x, 0.0)?;
    let scaled = c.binary(BinaryOp::Mul, x, slope)?;
    if c.shape(scaled) != c.shape(x) {
        return Err(Fault::new(
            Code::BadOperands,
            "the slope does not broadcast to the input",
        ));
    }
    c.emit(Where {}, &[below, scaled, x])
}

/// Clip: bounds are attributes before opset 11, operands since.
pub(super) fn clip(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    if c.opset < 11 {
        let (min, max) = (c.float("min", f32::MIN)?, c.float("max", f32::MAX)?);
        return c.emit(Clip { min, max }, &[x]);
    }
    let bounds = [c.opt_input(1), c.opt_input(2)];
    let known = |bound: Option<Value>, default: f32| match bound {
        None => Some(default),
        Some(v) => match c.known(v)?.to_f64_vec()[..] {
            [b] if !b.is_nan() => Some(b as f32),
            _ => None,
        },
    };
    // The canonical Clip has f32 bounds: exact for the types no wider than that.
    if matches!(c.dtype(x), DType::F32 | DType::F16 | DType::BF16)
        && let (Some(min), Some(max)) = (
            known(bounds[0], f32::NEG_INFINITY),
            known(bounds[1], f32::INFINITY),
        )
    {
        return c.emit(Clip { min, max }, &[x]);
    }
    let x = match bounds[0] {
        Some(min) => bounded(c, BinaryOp::Max, x, min)?,
        None => x,
    };
    match bounds[1] {
        Some(max) => bounded(c, BinaryOp::Min, x, max),
        None => Ok(x),
    }
}

pub(super) fn elu(c: &mut NodeCtx) -> Lowered {
    let (x, alpha) = (c.input(0)?, c.float("alpha", 1.0)?);
    c.emit(Elu { alpha }, &[x])
}

pub(super) fn selu(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let alpha = c.float("alpha", 1.673_263_2)?;
    let gamma = c.float("gamma", 1.050_701)?;
    let y = c.emit(Elu { alpha }, &[x])?;
    c.with_scalar(BinaryOp::Mul, y, f64::from(gamma))
}

pub(super) fn celu(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let alpha = c.float("alpha", 1.0)?;
    if alpha <= 0.0 || !alpha.is_finite() {
        return Err(c.unsupported_attr("alpha", alpha));
    }
    // max(0,x) + min(0, alpha*(exp(x/alpha)-1)) = alpha * elu(x/alpha), as alpha is positive.
    let scaled = c.with_scalar(BinaryOp::Div, x, f64::from(alpha))?;
    let y = c.emit(Elu { alpha: 1.0 }, &[scaled])?;
    c.with_scalar(BinaryOp::Mul, y, f64::from(alpha))
}

pub(super) fn hard_sigmoid(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let (alpha, beta) = (c.float("alpha", 0.2)?, c.float("beta", 0.5)?);
    c.emit(HardSigmoid { alpha, beta }, &[x])
}

pub(super) fn hard_swish(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let gate = HardSigmoid {
        alpha: 1.0 / 6.0,
        beta: 0.5,
    };
    let gate = c.emit(gate, &[x])?;
    c.binary(BinaryOp::Mul, x, gate)
}

fn swish_of(c: &mut NodeCtx, x: Value) -> Lowered {
    let alpha = c.float("alpha", 1.0)?;
    swish_by(c, x, alpha)
}

/// `x * sigmoid(alpha * x)`.
pub(super) fn swish_by(c: &mut NodeCtx, x: Value, alpha: f32) -> Lowered {
    let scaled = if alpha == 1.0 {
        x
    } else {
        c.with_scalar(BinaryOp::Mul, x, f64::from(alpha))?
    };
    let gate = c.unary(UnaryOp::Sigmoid, scaled)?;
    c.binary(BinaryOp::Mul, x, gate)
}

pub(super) fn swish(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    swish_of(c, x)
}

pub(super) fn swiglu(c: &mut NodeCtx) -> Lowered {
    let (a, b) = (c.input(0)?, c.input(1)?);
    let gated = swish_of(c, a)?;
    c.binary(BinaryOp::Mul, gated, b)
}

pub(super) fn gelu(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    match c.string("approximate", "none")? {
        "none" => gelu_of(c, x, false),
        "tanh" => gelu_of(c, x, true),
        other => Err(c.bad_attr("approximate", format!("is `{other}`"))),
    }
}

/// Gelu by the error function, or by its approximation with a hyperbolic tangent.
pub(super) fn gelu_of(c: &mut NodeCtx, x: Value, approximate: bool) -> Lowered {
    let inner = if approximate {
        let square = c.binary(BinaryOp::Mul, x, x)?;
        let cube = c.binary(BinaryOp::Mul, square, x)?;
        let cubic = c.with_scalar(BinaryOp::Mul, cube, 0.044_715)?;
        let sum = c.binary(BinaryOp::Add, x, cubic)?;
        let scaled = c.with_scalar(BinaryOp::Mul, sum, std::f64::consts::FRAC_2_PI.sqrt())?;
        c.unary(UnaryOp::Tanh, scaled)?
    } else {
        let scaled = c.with_scalar(BinaryOp::Mul, x, std::f64::consts::FRAC_1_SQRT_2)?;
        c.unary(UnaryOp::Erf, scaled)?
    };
    let gate = c.with_scalar(BinaryOp::Add, inner, 1.0)?;
    let half = c.with_scalar(BinaryOp::Mul, x, 0.5)?;
    c.binary(BinaryOp::Mul, half, gate)
}

pub(super) fn softsign(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let magnitude = c.unary(UnaryOp::Abs, x)?;
    let divisor = c.with_scalar(BinaryOp::Add, magnitude, 1.0)?;
    c.binary(BinaryOp::Div, x, divisor)
}

pub(super) fn mish(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let soft = c.unary(UnaryOp::Softplus, x)?;
    let gate = c.unary(UnaryOp::Tanh, soft)?;
    c.binary(BinaryOp::Mul, x, gate)
}

pub(super) fn thresholded_relu(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let alpha = c.float("alpha", 1.0)?;
    let above = c.with_scalar(BinaryOp::Greater, x, f64::from(alpha))?;
    let zero = c.scalar(c.dtype(x), 0.0)?;
    c.emit(Where {}, &[above, x, zero])
}

pub(super) fn shrink(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let (bias, lambd) = (
        f64::from(c.float("bias", 0.0)?),
        f64::from(c.float("lambd", 0.5)?),
    );
    let zero = c.scalar(c.dtype(x), 0.0)?;
    let below = c.with_scalar(BinaryOp::Less, x, -lambd)?;
    let above = c.with_scalar(BinaryOp::Greater, x, lambd)?;
    let raised = c.with_scalar(BinaryOp::Add, x, bias)?;
    let lowered = c.with_scalar(BinaryOp::Sub, x, bias)?;
    let upper = c.emit(Where {}, &[above, lowered, zero])?;
    c.emit(Where {}, &[below, raised, upper])
}
