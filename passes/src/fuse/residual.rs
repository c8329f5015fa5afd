//! Addition of a tensor of the result's shape.

use super::linear::Linear;
use crate::local::{Outcome, Site};
use sdc_ir::graph::op::Activation;
use sdc_ir::graph::{BinaryOp, Op};

/// `linear + other` into the linear node. If both operands are linear the later one takes it: the other's result is
/// there by then, and no node has to wait.
pub fn into_linear(site: &mut Site<'_>) -> Outcome {
    if *site.op != Op::Binary(BinaryOp::Add) {
        return Outcome::NoMatch;
    }
    let mut candidates = [0, 1];
    candidates.sort_by_key(|&i| std::cmp::Reverse(site.graph.def_node(site.inputs[i])));
    let mut reason = None;
    for i in candidates {
        match attempt(site, i) {
            None => {}
            Some(Ok(linear)) => return linear.fused(site.origins),
            // The reason of the preferred candidate is the one to tell.
            Some(Err(why)) => reason = reason.or(Some(why)),
        }
    }
    reason.map_or(Outcome::NoMatch, Outcome::Declined)
}

fn attempt(site: &Site<'_>, i: usize) -> Option<Result<Linear, String>> {
    let mut linear = match Linear::before(site, i)? {
        Ok(linear) => linear,
        Err(reason) => return Some(Err(reason)),
    };
    let reason = if site.operand(1 - i) != &linear.ty {
        Some("the operands differ in shape".to_owned())
    } else if linear.act != Activation::None {
        Some(format!("{} already ends in an activation", linear.name()))
    } else if linear.residual.is_some() {
        Some(format!("{} already adds a residual", linear.name()))
    } else if !linear.takes_residual() {
        Some(format!("{} takes no residual", linear.name()))
    } else {
        None
    };
    linear.residual = Some(site.inputs[1 - i]);
    Some(reason.map_or(Ok(linear), Err))
}
