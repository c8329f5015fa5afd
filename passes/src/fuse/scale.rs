//! Multiplication by, and addition of, constants per channel.

use super::linear::Linear;
use crate::constant::along_axis;
use crate::local::{Outcome, Site};
use sdc_ir::graph::{BinaryOp, Op};

/// `linear * c` and `linear / c` into the weights.
pub fn scale_into_linear(site: &mut Site<'_>) -> Outcome {
    per_channel(
        site,
        BinaryOp::Mul,
        BinaryOp::Div,
        f64::recip,
        |linear, site, c| linear.scale(site, c),
    )
}

/// `linear + c` and `linear - c` into the bias.
pub fn bias_into_linear(site: &mut Site<'_>) -> Outcome {
    per_channel(
        site,
        BinaryOp::Add,
        BinaryOp::Sub,
        |c| -c,
        |linear, site, c| {
            let origins = site.origins.to_vec();
            linear.shift(site, c, &origins)
        },
    )
}

/// `linear op c`, `c op linear`, and `linear inverse c` as `linear op invert(c)`.
fn per_channel(
    site: &mut Site<'_>,
    op: BinaryOp,
    inverse: BinaryOp,
    invert: fn(f64) -> f64,
    apply: fn(&mut Linear, &mut Site<'_>, &[f64]) -> Result<(), String>,
) -> Outcome {
    let inverted = *site.op == Op::Binary(inverse);
    if !inverted && *site.op != Op::Binary(op) {
        return Outcome::NoMatch;
    }
    let orders: &[(usize, usize)] = if inverted { &[(0, 1)] } else { &[(0, 1), (1, 0)] };
    for &(x, c) in orders {
        let (Some(linear), Some(constant)) = (Linear::before(site, x), site.graph.constant(site.inputs[c]))
        else {
            continue;
        };
        let mut linear = match linear {
            Ok(linear) => linear,
            Err(reason) => return Outcome::Declined(reason),
        };
        let Some(mut values) = along_axis(constant, linear.ty.sizes(), linear.channel_axis()) else {
            return Outcome::Declined("the constant is not one f32 per filter".into());
        };
        if inverted {
            values.iter_mut().for_each(|v| *v = invert(*v));
        }
        return match apply(&mut linear, site, &values) {
            Ok(()) => linear.fused(site.origins),
            Err(reason) => Outcome::Declined(reason),
        };
    }
    Outcome::NoMatch
}
