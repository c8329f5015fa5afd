//! Quantised graphs: operators between DequantizeLinear and QuantizeLinear become integer operators.
//!
//! What is left dequantised weights become floating-point constants here, and only here, so that weights of integer
//! operators stay in eight bits.
//!
//! Rounding: an integer operator's result is within one step of what the operators it stands for would give.
//! Arithmetic: `docs/integer.md`.

mod constant;
mod movement;
mod operand;
mod product;
mod step;

pub(crate) use operand::Grid;
pub use step::output_steps;

use crate::local::{self, Rule};
use crate::pass::{Class, Ctx, Pass, PassError, require_row_major};
use sdc_ir::graph::Graph;

/// The rules, first match wins.
pub const RULES: &[Rule] = &[
    rule("same_grid", movement::same_grid),
    rule("convolution", product::convolution),
    rule("matrix_product", product::matrix),
    rule("movement", movement::movement),
    rule("float_sandwich", movement::float_sandwich),
];

/// Rules for what is left after the integer operators are made.
const LEFT: &[Rule] = &[rule("dequantise_constant", constant::dequantise)];

const fn rule(name: &'static str, apply: fn(&mut local::Site<'_>) -> local::Outcome) -> Rule {
    Rule { name, apply }
}

/// The pass. It has no options.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantise;

impl Pass for Quantise {
    fn name(&self) -> &'static str {
        "quantise"
    }
    fn summary(&self) -> &'static str {
        "operators between dequantisation and quantisation to integer operators"
    }
    fn class(&self) -> Class {
        Class::Rounding
    }
    fn run(&self, graph: &Graph, ctx: &mut Ctx) -> Result<Graph, PassError> {
        require_row_major(graph)?;
        let integer = local::apply(&graph.compact(), RULES, true, ctx)?.0.compact();
        Ok(local::apply(&integer, LEFT, false, ctx)?.0.compact())
    }
}
