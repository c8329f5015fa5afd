//! Nodes that compute nothing.

use crate::local::{Outcome, Site};
use sdc_ir::graph::Op;
use sdc_ir::graph::op::Reshape;

/// Movements and conversions that leave their operand as it is: `Reshape` and `Expand` to the same shape, `Transpose`
/// without effect, `Slice` of everything, `Pad` by nothing, `Concat` of one, `Cast` to the same type, `Resize` by 1.
pub fn movement(site: &mut Site<'_>) -> Outcome {
    let identity = match site.op {
        Op::Reshape(_) | Op::Expand(_) | Op::Cast(_) => true,
        Op::Transpose(t) => t.perm.iter().enumerate().all(|(i, &p)| i == p),
        Op::Slice(s) => s.steps.iter().all(|&step| step == 1),
        Op::Pad(p) => p.before.iter().chain(&p.after).all(|&n| n == 0),
        Op::Concat(_) => site.inputs.len() == 1,
        Op::Resize(r) => r.scales.iter().all(|&s| s == 1.0),
        _ => false,
    };
    // With these attributes, the same type means the same elements.
    if identity && site.operand(0) == site.ty {
        Outcome::value(site.inputs[0])
    } else {
        Outcome::NoMatch
    }
}

/// Pooling with windows of one element.
pub fn window(site: &mut Site<'_>) -> Outcome {
    let (kernel, pads) = match site.op {
        Op::MaxPool(p) => (&p.kernel, &p.pads),
        Op::AveragePool(p) => (&p.kernel, &p.pads),
        _ => return Outcome::NoMatch,
    };
    let single = kernel.iter().all(|&k| k == 1) && pads.iter().all(|&p| p == 0);
    // Equal shapes leave only steps of 1, or dimensions of one element.
    if single && site.operand(0) == site.ty {
        Outcome::value(site.inputs[0])
    } else {
        Outcome::NoMatch
    }
}

/// A reduction over dimensions of size 1 is a `Reshape`, whatever it computes.
pub fn unit_reduce(site: &mut Site<'_>) -> Outcome {
    let Op::Reduce(r) = site.op else {
        return Outcome::NoMatch;
    };
    let x = site.operand(0);
    if x.dtype != site.ty.dtype || r.axes.iter().any(|&a| x.sizes()[a] != 1) {
        return Outcome::NoMatch;
    }
    let shape = site.ty.sizes().to_vec();
    Outcome::node(Reshape { shape }, &site.inputs[..1], site.origins.to_vec())
}
