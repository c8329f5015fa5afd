//! `Relu`, `Clip`, and bounds written as `Max` and `Min`.

use crate::constant::uniform;
use crate::local::{Outcome, Site};
use crate::pass::merge_origins;
use sdc_ir::DType;
use sdc_ir::graph::op::Clip;
use sdc_ir::graph::{BinaryOp, Op, UnaryOp};

const RELU: Op = Op::Unary(UnaryOp::Relu);

/// `max(x, c)` and `min(x, c)` with one bound for all elements are `Clip`.
pub fn bounds_to_clip(site: &mut Site<'_>) -> Outcome {
    let Op::Binary(op @ (BinaryOp::Max | BinaryOp::Min)) = site.op else {
        return Outcome::NoMatch;
    };
    if site.ty.dtype != DType::F32 || site.operand(0) != site.ty {
        return Outcome::NoMatch;
    }
    let Some(bound) = site.graph.constant(site.inputs[1]).and_then(uniform) else {
        return Outcome::NoMatch;
    };
    // The constant is f32, so the conversion back is exact.
    let bound = bound as f32;
    if bound.is_nan() {
        return Outcome::NoMatch;
    }
    let clip = match op {
        BinaryOp::Max => Clip {
            min: bound,
            max: f32::INFINITY,
        },
        _ => Clip {
            min: f32::NEG_INFINITY,
            max: bound,
        },
    };
    Outcome::node(clip, &site.inputs[..1], site.origins.to_vec())
}

/// `Clip` to `[0, inf]` is `Relu`; without bounds it is nothing.
pub fn clip_to_relu(site: &mut Site<'_>) -> Outcome {
    match *site.op {
        Op::Clip(Clip { min, max }) if max == f32::INFINITY && min == f32::NEG_INFINITY => {
            Outcome::value(site.inputs[0])
        }
        Op::Clip(Clip { min, max }) if max == f32::INFINITY && min == 0.0 => {
            Outcome::node(RELU, site.inputs, site.origins.to_vec())
        }
        _ => Outcome::NoMatch,
    }
}

/// Of two bounds in a row only one remains: `min(max(min(max(x, a), b), c), d)` is
/// `min(max(x, max(a, c)), min(max(b, c), d))`.
pub fn merge_clips(site: &mut Site<'_>) -> Outcome {
    let Some(second) = bounds(site.op) else {
        return Outcome::NoMatch;
    };
    let Some(producer) = site.producer(0) else {
        return Outcome::NoMatch;
    };
    let Some(first) = bounds(&producer.op) else {
        return Outcome::NoMatch;
    };
    let origins = merge_origins(&producer.origins, site.origins);
    if producer.op == RELU && *site.op == RELU {
        // Also right for integers, which have no Clip.
        return Outcome::node(RELU, &[producer.inputs[0]], origins);
    }
    let clip = Clip {
        min: first.0.max(second.0),
        max: first.1.max(second.0).min(second.1),
    };
    Outcome::node(clip, &[producer.inputs[0]], origins)
}

fn bounds(op: &Op) -> Option<(f32, f32)> {
    match op {
        Op::Clip(c) if !c.min.is_nan() && !c.max.is_nan() => Some((c.min, c.max)),
        Op::Unary(UnaryOp::Relu) => Some((0.0, f32::INFINITY)),
        _ => None,
    }
}
