//! Element-wise operators with constants.

use crate::constant::uniform;
use crate::local::{Outcome, Site};
use crate::pass::merge_origins;
use sdc_ir::graph::op::Expand;
use sdc_ir::graph::{BinaryOp, Op};
use sdc_ir::{DType, Tensor};

/// `x + 0`, `x - 0`, `x * 1`, `x / 1`, `x ^ 1` are `x`, and so are `0 + x` and `1 * x`. The sign of a zero `x` may change.
pub fn neutral_constant(site: &mut Site<'_>) -> Outcome {
    let Op::Binary(op) = site.op else {
        return Outcome::NoMatch;
    };
    let (neutral, commutes) = match op {
        BinaryOp::Add => (0.0, true),
        BinaryOp::Sub => (0.0, false),
        BinaryOp::Mul => (1.0, true),
        BinaryOp::Div | BinaryOp::Pow => (1.0, false),
        _ => return Outcome::NoMatch,
    };
    for (x, c) in [(0, 1), (1, 0)] {
        let is_neutral = site.graph.constant(site.inputs[c]).and_then(uniform) == Some(neutral);
        if is_neutral && (commutes || c == 1) && site.operand(x) == site.ty {
            return Outcome::value(site.inputs[x]);
        }
    }
    Outcome::NoMatch
}

/// `c + x` is `x + c`, so that the other rules look for constants on the right only.
pub fn constant_right(site: &mut Site<'_>) -> Outcome {
    let commutes = matches!(
        site.op,
        Op::Binary(BinaryOp::Add | BinaryOp::Mul | BinaryOp::Max | BinaryOp::Min)
    );
    if commutes
        && site.graph.constant(site.inputs[0]).is_some()
        && site.graph.constant(site.inputs[1]).is_none()
    {
        let swapped = [site.inputs[1], site.inputs[0]];
        return Outcome::node(site.op.clone(), &swapped, site.origins.to_vec());
    }
    Outcome::NoMatch
}

/// `x - c` is `x + (-c)`.
pub fn subtract_constant(site: &mut Site<'_>) -> Outcome {
    map_constant(site, BinaryOp::Sub, BinaryOp::Add, |c| Some(-c))
}

/// `x / c` is `x * (1 / c)` when `c` and `1 / c` are powers of two.
pub fn divide_by_power_of_two(site: &mut Site<'_>) -> Outcome {
    map_constant(site, BinaryOp::Div, BinaryOp::Mul, |c| {
        let power_of_two = |x: f32| x.is_normal() && x.to_bits() & 0x007f_ffff == 0;
        (power_of_two(c) && power_of_two(1.0 / c)).then(|| 1.0 / c)
    })
}

/// `x op c` to `x other f(c)` for f32 constants, if `f` has a value for every element.
fn map_constant(site: &mut Site<'_>, op: BinaryOp, other: BinaryOp, f: fn(f32) -> Option<f32>) -> Outcome {
    if *site.op != Op::Binary(op) || site.ty.dtype != DType::F32 {
        return Outcome::NoMatch;
    }
    if site.graph.constant(site.inputs[1]).is_none() {
        return Outcome::NoMatch;
    }
    let n = site.operand(1).elements().unwrap_or(usize::MAX);
    if let Err(reason) = site.spend(n.saturating_mul(4), n) {
        return Outcome::Declined(reason);
    }
    let Some(c) = site.graph.constant(site.inputs[1]) else {
        return Outcome::NoMatch;
    };
    let Ok(elements) = c.elements::<f32>() else {
        return Outcome::NoMatch;
    };
    let Some(mapped) = elements.iter().map(|&x| f(x)).collect::<Option<Vec<f32>>>() else {
        return Outcome::NoMatch;
    };
    let Ok(mapped) = Tensor::from_elements(c.shape().to_vec(), mapped) else {
        return Outcome::NoMatch;
    };
    let origins = site.producer(1).map_or(&[][..], |p| &p.origins).to_vec();
    let c = site.graph.add_constant(mapped, origins);
    Outcome::node(Op::Binary(other), &[site.inputs[0], c], site.origins.to_vec())
}

/// `Where` with the same answer everywhere is one of its branches.
pub fn constant_condition(site: &mut Site<'_>) -> Outcome {
    if !matches!(site.op, Op::Where(_)) {
        return Outcome::NoMatch;
    }
    let Some(cond) = site.graph.constant(site.inputs[0]).and_then(uniform) else {
        return Outcome::NoMatch;
    };
    let chosen = if cond != 0.0 { 1 } else { 2 };
    if site.operand(chosen) == site.ty {
        return Outcome::value(site.inputs[chosen]);
    }
    let shape = site.ty.sizes().to_vec();
    Outcome::node(Expand { shape }, &[site.inputs[chosen]], site.origins.to_vec())
}

/// An operator that broadcasts needs no `Expand` before it when the other operands give the shape.
pub fn expand_of_operand(site: &mut Site<'_>) -> Outcome {
    if !matches!(site.op, Op::Binary(_) | Op::Where(_)) {
        return Outcome::NoMatch;
    }
    for i in 0..site.inputs.len() {
        let Some(producer) = site.producer(i) else {
            continue;
        };
        if !matches!(producer.op, Op::Expand(_)) {
            continue;
        }
        let mut inputs = site.inputs.to_vec();
        inputs[i] = producer.inputs[0];
        let origins = merge_origins(site.origins, &producer.origins);
        let types: Vec<_> = inputs.iter().map(|&v| site.graph.ty(v)).collect();
        if sdc_ir::graph::infer::infer(site.op, &types).is_ok_and(|t| t.first() == Some(site.ty)) {
            return Outcome::node(site.op.clone(), &inputs, origins);
        }
    }
    Outcome::NoMatch
}
