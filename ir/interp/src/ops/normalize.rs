//! Normalisations and softmax. Variances are those of the population.

use super::movement::expand;
use crate::EvalError;
use crate::values::{from_floats, read_floats};
use sdc_ir::Tensor;
use sdc_ir::graph::op::{BatchNormalization, InstanceNormalization, LayerNormalization, Softmax};

fn floats(name: &'static str, inputs: &[&Tensor]) -> Result<Vec<Vec<f64>>, EvalError> {
    inputs.iter().map(|x| read_floats(name, x)).collect()
}

/// Brings the values to mean 0 and variance 1, `epsilon` added to the variance.
fn standardize(v: &mut [f64], epsilon: f32) {
    let n = v.len() as f64;
    let mean = v.iter().sum::<f64>() / n;
    let var = v.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    let std = (var + f64::from(epsilon)).sqrt();
    v.iter_mut().for_each(|x| *x = (*x - mean) / std);
}

pub(super) fn batch(op: &BatchNormalization, inputs: &[&Tensor]) -> Result<Tensor, EvalError> {
    let mut operands = floats("BatchNormalization", inputs)?;
    let (x, parameters) = operands.split_at_mut(1);
    let [scale, bias, mean, var] = [0, 1, 2, 3].map(|i| &parameters[i]);
    let shape = inputs[0].shape();
    let plane: usize = shape[2..].iter().product();
    for (i, channel) in x[0].chunks_exact_mut(plane).enumerate() {
        let c = i % shape[1];
        let std = (var[c] + f64::from(op.epsilon)).sqrt();
        channel
            .iter_mut()
            .for_each(|x| *x = (*x - mean[c]) / std * scale[c] + bias[c]);
    }
    from_floats(inputs[0].dtype(), shape.to_vec(), &x[0])
}

pub(super) fn instance(op: &InstanceNormalization, inputs: &[&Tensor]) -> Result<Tensor, EvalError> {
    let mut operands = floats("InstanceNormalization", inputs)?;
    let (x, parameters) = operands.split_at_mut(1);
    let shape = inputs[0].shape();
    let plane: usize = shape[2..].iter().product();
    for (i, channel) in x[0].chunks_exact_mut(plane).enumerate() {
        let c = i % shape[1];
        standardize(channel, op.epsilon);
        channel
            .iter_mut()
            .for_each(|x| *x = *x * parameters[0][c] + parameters[1][c]);
    }
    from_floats(inputs[0].dtype(), shape.to_vec(), &x[0])
}

pub(super) fn layer(op: &LayerNormalization, inputs: &[&Tensor]) -> Result<Tensor, EvalError> {
    let shape = inputs[0].shape();
    let mut x = read_floats("LayerNormalization", inputs[0])?;
    let scale = read_floats("LayerNormalization", &expand(inputs[1], shape)?)?;
    let bias = read_floats("LayerNormalization", &expand(inputs[2], shape)?)?;
    let group: usize = shape[op.axis..].iter().product();
    x.chunks_exact_mut(group).for_each(|v| standardize(v, op.epsilon));
    for ((x, scale), bias) in x.iter_mut().zip(scale).zip(bias) {
        *x = *x * scale + bias;
    }
    from_floats(inputs[0].dtype(), shape.to_vec(), &x)
}

pub(super) fn softmax(op: &Softmax, x: &Tensor) -> Result<Tensor, EvalError> {
    let mut v = read_floats("Softmax", x)?;
    let len = x.shape()[op.axis];
    let inner: usize = x.shape()[op.axis + 1..].iter().product();
    for block in v.chunks_exact_mut(len * inner) {
        for i in 0..inner {
            let along = || (0..len).map(|k| k * inner + i);
            // Without the maximum the exponentials of large elements overflow.
            let max = along()
                .map(|at| block[at])
                .fold(f64::NEG_INFINITY, super::elementwise::max);
            let sum: f64 = along().map(|at| libm::exp(block[at] - max)).sum();
            for at in along() {
                let shifted = block[at] - max;
                block[at] = if op.log {
                    shifted - libm::log(sum)
                } else {
                    libm::exp(shifted) / sum
                };
            }
        }
    }
    from_floats(x.dtype(), x.shape().to_vec(), &v)
}
