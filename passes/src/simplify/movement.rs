//! Movements of movements.

use crate::local::{Outcome, Site};
use crate::pass::merge_origins;
use sdc_ir::graph::Op;
use sdc_ir::graph::op::{Concat, Reshape, Slice, Transpose};

/// A transposition that moves only dimensions of size 1 is a `Reshape`.
pub fn unit_transpose(site: &mut Site<'_>) -> Outcome {
    let Op::Transpose(t) = site.op else {
        return Outcome::NoMatch;
    };
    let shape = site.operand(0).sizes();
    let moved: Vec<usize> = t.perm.iter().copied().filter(|&d| shape[d] != 1).collect();
    if !moved.is_sorted() {
        return Outcome::NoMatch;
    }
    let shape = site.ty.sizes().to_vec();
    Outcome::node(Reshape { shape }, site.inputs, site.origins.to_vec())
}

/// `Transpose` of `Transpose` is one `Transpose`.
pub fn merge_transposes(site: &mut Site<'_>) -> Outcome {
    let Op::Transpose(second) = site.op else {
        return Outcome::NoMatch;
    };
    let Some(producer) = site.producer(0) else {
        return Outcome::NoMatch;
    };
    let Op::Transpose(first) = &producer.op else {
        return Outcome::NoMatch;
    };
    let perm = second.perm.iter().map(|&d| first.perm[d]).collect();
    let origins = merge_origins(&producer.origins, site.origins);
    Outcome::node(Transpose { perm }, &producer.inputs, origins)
}

/// `Reshape` of `Reshape` is the last one.
pub fn merge_reshapes(site: &mut Site<'_>) -> Outcome {
    let (Op::Reshape(_), Some(producer)) = (site.op, site.producer(0)) else {
        return Outcome::NoMatch;
    };
    if !matches!(producer.op, Op::Reshape(_)) {
        return Outcome::NoMatch;
    }
    let origins = merge_origins(&producer.origins, site.origins);
    Outcome::node(site.op.clone(), &producer.inputs, origins)
}

/// `Slice` of `Slice` is one `Slice`.
pub fn merge_slices(site: &mut Site<'_>) -> Outcome {
    let (Op::Slice(second), Some(producer)) = (site.op, site.producer(0)) else {
        return Outcome::NoMatch;
    };
    let Op::Slice(first) = &producer.op else {
        return Outcome::NoMatch;
    };
    let mut starts = Vec::with_capacity(first.starts.len());
    let mut steps = Vec::with_capacity(first.starts.len());
    for d in 0..first.starts.len() {
        // Within the bounds of the first operand, unless an empty slice starts anywhere.
        let start = first.starts[d] as i128 + second.starts[d] as i128 * i128::from(first.steps[d]);
        let (Ok(start), Some(step)) = (
            usize::try_from(start),
            first.steps[d].checked_mul(second.steps[d]),
        ) else {
            return Outcome::NoMatch;
        };
        starts.push(start);
        steps.push(step);
    }
    let merged = Slice {
        starts,
        sizes: second.sizes.clone(),
        steps,
    };
    let origins = merge_origins(&producer.origins, site.origins);
    Outcome::node(merged, &producer.inputs, origins)
}

/// A slice that lies within one operand of a `Concat` is a slice of that operand.
pub fn slice_of_concat(site: &mut Site<'_>) -> Outcome {
    let (Op::Slice(slice), Some(producer)) = (site.op, site.producer(0)) else {
        return Outcome::NoMatch;
    };
    let Op::Concat(Concat { axis }) = producer.op else {
        return Outcome::NoMatch;
    };
    if slice.sizes[axis] == 0 {
        return Outcome::NoMatch;
    }
    let start = slice.starts[axis];
    let last = start as i128 + (slice.sizes[axis] as i128 - 1) * i128::from(slice.steps[axis]);
    let (low, high) = ((start as i128).min(last), (start as i128).max(last));
    let mut begin = 0;
    for &operand in &producer.inputs {
        let end = begin + site.graph.ty(operand).sizes()[axis];
        if begin as i128 <= low && high < end as i128 {
            let mut part = slice.clone();
            part.starts[axis] = start - begin;
            let origins = merge_origins(&producer.origins, site.origins);
            return Outcome::node(part, &[operand], origins);
        }
        begin = end;
    }
    Outcome::NoMatch
}

/// A `Concat` along the same dimension dissolves in its only reader; empty operands go.
pub fn merge_concats(site: &mut Site<'_>) -> Outcome {
    let Op::Concat(Concat { axis }) = *site.op else {
        return Outcome::NoMatch;
    };
    let mut inputs = Vec::new();
    let mut origins = Vec::new();
    for (i, &v) in site.inputs.iter().enumerate() {
        match site.producer(i) {
            _ if site.operand(i).sizes()[axis] == 0 => {}
            Some(p) if p.op == *site.op && site.uses(v) == 1 => {
                inputs.extend_from_slice(&p.inputs);
                origins = merge_origins(&origins, &p.origins);
            }
            _ => inputs.push(v),
        }
    }
    if inputs == site.inputs || inputs.is_empty() {
        return Outcome::NoMatch;
    }
    let origins = merge_origins(&origins, site.origins);
    Outcome::node(Concat { axis }, &inputs, origins)
}
