//! Dequantised constants that no integer operator takes.

use crate::local::{Outcome, Site};
use crate::pass::merge_origins;
use sdc_ir::graph::Op;

/// Dequantised constants become floating-point constants; what rearranges them goes along.
pub fn dequantise(site: &mut Site<'_>) -> Outcome {
    if matches!(site.op, Op::Constant(_)) || site.inputs.is_empty() {
        return Outcome::NoMatch;
    }
    let movement = matches!(
        site.op,
        Op::DequantizeLinear(_) | Op::Transpose(_) | Op::Reshape(_)
    );
    if !movement || site.inputs.iter().any(|&v| site.graph.constant(v).is_none()) {
        return Outcome::NoMatch;
    }
    let bytes = site.ty.bytes().unwrap_or(usize::MAX);
    if let Err(reason) = site.spend(bytes, site.ty.elements().unwrap_or(usize::MAX)) {
        return Outcome::Declined(reason);
    }
    let constants: Vec<_> = site
        .inputs
        .iter()
        .filter_map(|&v| site.graph.constant(v))
        .collect();
    let folded = match sdc_interp::eval_op(site.op, &constants) {
        Ok(mut results) if results.len() == 1 => results.remove(0),
        Ok(_) => return Outcome::NoMatch,
        Err(error) => return Outcome::Declined(error.to_string()),
    };
    let mut origins = site.origins.to_vec();
    for i in 0..site.inputs.len() {
        origins = merge_origins(&origins, site.producer(i).map_or(&[], |p| &p.origins));
    }
    Outcome::value(site.graph.add_constant(folded, origins))
}
