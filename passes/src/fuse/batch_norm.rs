//! Batch normalisation: a scale and a shift per channel, known at compile time.

use super::linear::Linear;
use crate::local::{Outcome, Site};
use sdc_ir::graph::op::BatchNormalization;
use sdc_ir::graph::{BinaryOp, Op};
use sdc_ir::{DType, Tensor};

/// Into the weights and bias of the linear node before.
pub fn into_linear(site: &mut Site<'_>) -> Outcome {
    let Op::BatchNormalization(bn) = site.op else {
        return Outcome::NoMatch;
    };
    let mut linear = match Linear::before(site, 0) {
        None => return Outcome::NoMatch,
        Some(Err(reason)) => return Outcome::Declined(reason),
        Some(Ok(linear)) => linear,
    };
    let (scale, shift) = match scale_and_shift(site, bn) {
        Ok(both) => both,
        Err(reason) => return Outcome::Declined(reason),
    };
    if linear.channel_axis() != 1 {
        return Outcome::Declined("dimension 1 does not count the filters".into());
    }
    let shift_origins = site.origins.to_vec();
    let done = linear
        .scale(site, &scale)
        .and_then(|()| linear.shift(site, &shift, &shift_origins));
    match done {
        Ok(()) => linear.fused(site.origins),
        Err(reason) => Outcome::Declined(reason),
    }
}

/// Into a multiplication and an addition.
pub fn to_scale(site: &mut Site<'_>) -> Outcome {
    let Op::BatchNormalization(bn) = site.op else {
        return Outcome::NoMatch;
    };
    let (scale, shift) = match scale_and_shift(site, bn) {
        Ok(both) => both,
        Err(reason) => return Outcome::Declined(reason),
    };
    // Channels are dimension 1; the rest broadcasts.
    let mut shape = vec![1; site.ty.rank() - 1];
    shape[0] = scale.len();
    let tensor = |values: &[f64]| {
        let values = values.iter().map(|&x| x as f32).collect();
        Tensor::from_elements::<f32>(shape.clone(), values)
    };
    let (Ok(scale), Ok(shift)) = (tensor(&scale), tensor(&shift)) else {
        return Outcome::NoMatch;
    };
    let origins = site.origins.to_vec();
    let scale = site.graph.add_constant(scale, origins.clone());
    let shift = site.graph.add_constant(shift, origins.clone());
    let product = site.graph.add1(
        Op::Binary(BinaryOp::Mul),
        &[site.inputs[0], scale],
        origins.clone(),
    );
    match product {
        Ok(product) => Outcome::node(Op::Binary(BinaryOp::Add), &[product, shift], origins),
        Err(error) => Outcome::Declined(error.reason),
    }
}

/// `scale / sqrt(var + epsilon)` and `bias - mean * that`, per channel.
fn scale_and_shift(site: &Site<'_>, bn: &BatchNormalization) -> Result<(Vec<f64>, Vec<f64>), String> {
    if site.ty.dtype != DType::F32 {
        return Err(format!("{} data", site.ty.dtype));
    }
    let mut parameters = Vec::new();
    for &v in &site.inputs[1..] {
        let tensor = site.graph.constant(v).ok_or("the statistics are not constant")?;
        parameters.push(tensor.to_f64_vec());
    }
    let [scale, bias, mean, var] = parameters.as_slice() else {
        return Err("the operands are not five".into());
    };
    let factors: Vec<f64> = scale
        .iter()
        .zip(var)
        .map(|(s, v)| s / (v + f64::from(bn.epsilon)).sqrt())
        .collect();
    let terms: Vec<f64> = bias
        .iter()
        .zip(mean)
        .zip(&factors)
        .map(|((b, m), f)| b - m * f)
        .collect();
    let fits = |x: &f64| (*x as f32).is_finite();
    if factors.iter().chain(&terms).all(fits) {
        Ok((factors, terms))
    } else {
        Err("the statistics do not give finite factors".into())
    }
}
