//! Activations at the end of a linear node.

use super::linear::Linear;
use crate::local::{Outcome, Site};
use sdc_ir::graph::op::Activation;
use sdc_ir::graph::{Op, UnaryOp};

/// `Relu`, `Clip` and `LeakyRelu` into the linear node before.
pub fn into_linear(site: &mut Site<'_>) -> Outcome {
    let act = match site.op {
        Op::Unary(UnaryOp::Relu) => Activation::Relu,
        Op::Clip(c) => Activation::Clip {
            min: c.min,
            max: c.max,
        },
        Op::LeakyRelu(l) => Activation::LeakyRelu { alpha: l.alpha },
        _ => return Outcome::NoMatch,
    };
    let mut linear = match Linear::before(site, 0) {
        None => return Outcome::NoMatch,
        Some(Err(reason)) => return Outcome::Declined(reason),
        Some(Ok(linear)) => linear,
    };
    if let Err(reason) = linear.expect_open() {
        return Outcome::Declined(reason);
    }
    linear.act = act;
    linear.fused(site.origins)
}
