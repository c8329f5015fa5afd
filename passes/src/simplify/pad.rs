//! `Pad` into the padding of what follows.

use crate::local::{Outcome, Site};
use crate::pass::merge_origins;
use sdc_ir::graph::infer::infer;
use sdc_ir::graph::op::{Pad, PadMode};
use sdc_ir::graph::{Graph, Op, UnaryOp, Value};

/// Two constant borders of one value are one border.
pub fn merge_pads(site: &mut Site<'_>) -> Outcome {
    let (Op::Pad(outer), Some(producer)) = (site.op, site.producer(0)) else {
        return Outcome::NoMatch;
    };
    let Op::Pad(inner) = &producer.op else {
        return Outcome::NoMatch;
    };
    let constant = outer.mode == PadMode::Constant && inner.mode == PadMode::Constant;
    if !constant || outer.value.to_bits() != inner.value.to_bits() {
        return Outcome::NoMatch;
    }
    let sum = |a: &[usize], b: &[usize]| a.iter().zip(b).map(|(x, y)| x + y).collect();
    let merged = Pad {
        mode: PadMode::Constant,
        before: sum(&inner.before, &outer.before),
        after: sum(&inner.after, &outer.after),
        value: outer.value,
    };
    let origins = merge_origins(&producer.origins, site.origins);
    Outcome::node(merged, &producer.inputs, origins)
}

/// A border of zeros becomes padding of the convolution.
pub fn pad_into_conv(site: &mut Site<'_>) -> Outcome {
    let Op::Conv(conv) = site.op else {
        return Outcome::NoMatch;
    };
    let Some(pad) = spatial_pad(site) else {
        return Outcome::NoMatch;
    };
    if !fills_zero(&pad) {
        return Outcome::Declined(format!("the border is not zero but {}", border(&pad)));
    }
    let mut conv = conv.clone();
    extend(&mut conv.pads, &pad);
    replace(site, conv.into())
}

/// A border of zeros becomes padding of the average, counted in the divisor.
pub fn pad_into_average_pool(site: &mut Site<'_>) -> Outcome {
    let Op::AveragePool(pool) = site.op else {
        return Outcome::NoMatch;
    };
    let Some(pad) = spatial_pad(site) else {
        return Outcome::NoMatch;
    };
    if !fills_zero(&pad) {
        return Outcome::Declined(format!("the border is not zero but {}", border(&pad)));
    }
    let mut pool = pool.clone();
    extend(&mut pool.pads, &pad);
    extend(&mut pool.counted, &pad);
    replace(site, pool.into())
}

/// A border that never wins becomes padding of the maximum: one of `-inf`, or one of zeros around numbers of which
/// none is negative. (Each window must then meet the input, which inference checks, and dilation could avoid.)
pub fn pad_into_max_pool(site: &mut Site<'_>) -> Outcome {
    let Op::MaxPool(pool) = site.op else {
        return Outcome::NoMatch;
    };
    let (Some(pad), Some(producer)) = (spatial_pad(site), site.producer(0)) else {
        return Outcome::NoMatch;
    };
    let never_wins = pad.mode == PadMode::Constant
        && (pad.value == f32::NEG_INFINITY
            || (pad.value == 0.0 && never_negative(site.graph, producer.inputs[0], 32)));
    if !never_wins {
        return Outcome::Declined(format!("the border may win: {}", border(&pad)));
    }
    if pool.dilations.iter().any(|&d| d != 1) {
        return Outcome::Declined("a dilated window may miss the input".into());
    }
    let mut pool = pool.clone();
    extend(&mut pool.pads, &pad);
    replace(site, pool.into())
}

/// The `Pad` before this node, if it leaves batch and channels alone.
fn spatial_pad(site: &Site<'_>) -> Option<Pad> {
    match &site.producer(0)?.op {
        Op::Pad(p) if p.before[..2] == [0, 0] && p.after[..2] == [0, 0] => Some(p.clone()),
        _ => None,
    }
}

/// True if the border is filled with zeros.
fn fills_zero(pad: &Pad) -> bool {
    pad.mode == PadMode::Constant && pad.value == 0.0
}

fn border(pad: &Pad) -> String {
    match pad.mode {
        PadMode::Constant => format!("constant {}", pad.value),
        mode => mode.name().to_owned(),
    }
}

/// Adds a border's spatial sizes to `pads` (all begins, then all ends).
fn extend(pads: &mut [usize], pad: &Pad) {
    let sizes = pad.before[2..].iter().chain(&pad.after[2..]);
    pads.iter_mut().zip(sizes).for_each(|(p, n)| *p += n);
}

/// The node with `op` reading what the `Pad` reads, if that is a legal node.
fn replace(site: &Site<'_>, op: Op) -> Outcome {
    let Some(producer) = site.producer(0) else {
        return Outcome::NoMatch;
    };
    let mut inputs = site.inputs.to_vec();
    inputs[0] = producer.inputs[0];
    let types: Vec<_> = inputs.iter().map(|&v| site.graph.ty(v)).collect();
    match infer(&op, &types) {
        Ok(types) if types.first() == Some(site.ty) => {
            let origins = merge_origins(site.origins, &producer.origins);
            Outcome::node(op, &inputs, origins)
        }
        Ok(_) => Outcome::NoMatch,
        Err(error) => Outcome::Declined(error.reason),
    }
}

/// True if no element can be negative, as far as a look at this many nodes can tell.
fn never_negative(graph: &Graph, value: Value, mut nodes: usize) -> bool {
    let mut asked = vec![value];
    while let Some(value) = asked.pop() {
        let (Some(node), Some(rest)) = (graph.def_node(value), nodes.checked_sub(1)) else {
            return false;
        };
        nodes = rest;
        let node = &graph.nodes()[node];
        match &node.op {
            Op::Unary(UnaryOp::Relu | UnaryOp::Sigmoid | UnaryOp::Abs | UnaryOp::Exp) => {}
            Op::Clip(c) if c.min >= 0.0 && c.max >= 0.0 => {}
            Op::Softmax(s) if !s.log => {}
            Op::MaxPool(_) | Op::AveragePool(_) | Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) => {
                asked.push(node.inputs[0]);
            }
            // More operands than can be looked at need not be queued.
            Op::Concat(_) if node.inputs.len() <= nodes => asked.extend(&node.inputs),
            _ => return false,
        }
    }
    true
}
