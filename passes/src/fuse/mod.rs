//! Fusion: what follows a convolution or matrix product moves into it.
//!
//! The fused node stands where the last of its parts stood, so that all its operands precede it. Conv, ConvTranspose
//! and MatMul compute `act(linear + bias + residual)`; hence the order in which parts can still be taken up: scales and
//! batch norms before a residual, a residual before an activation, and nothing after that.
//!
//! Rounding: scaled weights are computed in f64 and rounded once.

mod activation;
mod batch_norm;
mod linear;
mod residual;
mod scale;
#[cfg(test)]
mod tests;

use crate::local::{self, Rule};
use crate::pass::{Class, Ctx, Pass, PassError, require_row_major};
use sdc_ir::graph::Graph;

/// The rules, first match wins.
pub const RULES: &[Rule] = &[
    rule("batch_norm_into_linear", batch_norm::into_linear),
    rule("batch_norm_to_scale", batch_norm::to_scale),
    rule("scale_into_linear", scale::scale_into_linear),
    rule("bias_into_linear", scale::bias_into_linear),
    rule("residual_into_linear", residual::into_linear),
    rule("activation_into_linear", activation::into_linear),
];

const fn rule(name: &'static str, apply: fn(&mut local::Site<'_>) -> local::Outcome) -> Rule {
    Rule { name, apply }
}

/// The pass. It has no options.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fuse;

impl Pass for Fuse {
    fn name(&self) -> &'static str {
        "fuse"
    }
    fn summary(&self) -> &'static str {
        "batch norm, scale, bias, residual addition and activation into convolutions and matrix products"
    }
    fn class(&self) -> Class {
        Class::Rounding
    }
    fn run(&self, graph: &Graph, ctx: &mut Ctx) -> Result<Graph, PassError> {
        require_row_major(graph)?;
        Ok(local::apply(&graph.compact(), RULES, false, ctx)?.0)
    }
}
