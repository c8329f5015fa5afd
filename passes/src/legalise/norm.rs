//! Normalisations of `f64`, written out.

use super::{Emitter, Legal};
use sdc_ir::DType;
use sdc_ir::graph::{BinaryOp, Emit, Op, UnaryOp, Value};

/// LayerNormalization and InstanceNormalization: `(x - mean) / sqrt(variance + epsilon) * scale + bias`.
pub fn doubles(c: &mut Emitter<'_, '_>, op: &Op, inputs: &[Value]) -> Option<Legal> {
    let (axis, epsilon) = match op {
        Op::InstanceNormalization(op) => (2, op.epsilon),
        Op::LayerNormalization(op) => (op.axis, op.epsilon),
        _ => return None,
    };
    let &[x, scale, bias] = inputs else { return None };
    (c.dtype(x) == DType::F64).then(|| {
        let axes = (axis..c.rank(x)).collect();
        let mut parameters = [scale, bias];
        if let Op::InstanceNormalization(_) = op {
            let mut per_channel = vec![1; c.rank(x) - 1];
            per_channel[0] = c.shape(x)[1];
            for p in &mut parameters {
                *p = c.reshape(*p, per_channel.clone())?;
            }
        }
        let (mean, variance) = c.variance_over(x, axes)?;
        let deviation = c.binary(BinaryOp::Sub, x, mean)?;
        let shifted = c.with_scalar(BinaryOp::Add, variance, epsilon.into())?;
        let root = c.unary(UnaryOp::Sqrt, shifted)?;
        let unit = c.binary(BinaryOp::Div, deviation, root)?;
        let scaled = c.binary(BinaryOp::Mul, unit, parameters[0])?;
        c.binary(BinaryOp::Add, scaled, parameters[1])
    })
}
