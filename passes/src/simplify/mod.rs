//! Simplification: constant folding, dead code, identities, merging of movements, neutral constants, equal nodes.
//!
//! Exact: every rule keeps every element of every result (zeros may change sign, `x + 0` being `x`). Each rule is a
//! function of its own name; the rules are tried in the order of [`RULES`] until none applies any more.
//!
//! Not here: whatever changes rounding (that is `fuse`), and anything about layouts.

mod arithmetic;
pub(crate) mod fold;
mod identity;
mod movement;
mod pad;
mod range;
#[cfg(test)]
mod tests;

use crate::local::{self, Rule};
use crate::pass::{Class, Ctx, Pass, PassError, require_row_major};
use sdc_ir::graph::Graph;

/// The rules, first match wins.
pub const RULES: &[Rule] = &[
    rule("fold", fold::fold),
    rule("identity_movement", identity::movement),
    rule("identity_window", identity::window),
    rule("unit_reduce", identity::unit_reduce),
    rule("neutral_constant", arithmetic::neutral_constant),
    rule("constant_right", arithmetic::constant_right),
    rule("subtract_constant", arithmetic::subtract_constant),
    rule("divide_by_power_of_two", arithmetic::divide_by_power_of_two),
    rule("constant_condition", arithmetic::constant_condition),
    rule("expand_of_operand", arithmetic::expand_of_operand),
    rule("bounds_to_clip", range::bounds_to_clip),
    rule("clip_to_relu", range::clip_to_relu),
    rule("merge_clips", range::merge_clips),
    rule("unit_transpose", movement::unit_transpose),
    rule("merge_transposes", movement::merge_transposes),
    rule("merge_reshapes", movement::merge_reshapes),
    rule("merge_slices", movement::merge_slices),
    rule("slice_of_concat", movement::slice_of_concat),
    rule("merge_concats", movement::merge_concats),
    rule("merge_pads", pad::merge_pads),
    rule("pad_into_conv", pad::pad_into_conv),
    rule("pad_into_average_pool", pad::pad_into_average_pool),
    rule("pad_into_max_pool", pad::pad_into_max_pool),
];

const fn rule(name: &'static str, apply: fn(&mut local::Site<'_>) -> local::Outcome) -> Rule {
    Rule { name, apply }
}

/// Rounds before giving up. Each round works on simplified operands, so that two or three are usual.
const MAX_ROUNDS: usize = 16;

/// The pass. It has no options.
#[derive(Debug, Clone, Copy, Default)]
pub struct Simplify;

impl Pass for Simplify {
    fn name(&self) -> &'static str {
        "simplify"
    }
    fn summary(&self) -> &'static str {
        "fold constants; remove identities, dead and repeated nodes; merge movements, clips and pads"
    }
    fn class(&self) -> Class {
        Class::Exact
    }
    fn run(&self, graph: &Graph, ctx: &mut Ctx) -> Result<Graph, PassError> {
        require_row_major(graph)?;
        let mut graph = graph.compact();
        for _ in 0..MAX_ROUNDS {
            ctx.forget_not_done();
            let (next, rewrites) = local::apply(&graph, RULES, true, ctx)?;
            graph = next;
            if rewrites == 0 {
                break;
            }
        }
        Ok(graph)
    }
}
