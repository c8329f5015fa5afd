//! Convolution and transposed convolution, any number of spatial dimensions.

use super::elementwise::activate;
use super::window::{Run, Window, begins, indices};
use crate::EvalError;
use crate::values::{count, filled, from_floats, read_floats};
use sdc_ir::Tensor;
use sdc_ir::graph::op::{Conv, ConvTranspose};

/// `target[..] += factor * source[..]` with the given distances of elements, `len` times.
fn accumulate(target: &mut [f64], to_step: usize, source: &[f64], from_step: usize, len: usize, factor: f64) {
    if to_step == 1 && from_step == 1 {
        for (t, s) in target[..len].iter_mut().zip(&source[..len]) {
            *t += factor * s;
        }
    } else {
        let pairs = target
            .iter_mut()
            .step_by(to_step)
            .zip(source.iter().step_by(from_step));
        for (t, s) in pairs.take(len) {
            *t += factor * s;
        }
    }
}

/// A result with every element of channel c set to `bias[c]`, or zero.
fn start(shape: &[usize], bias: Option<&Vec<f64>>) -> Result<Vec<f64>, EvalError> {
    let mut y = filled(count(shape)?, 0.0)?;
    if let Some(bias) = bias {
        let plane = count(&shape[2..])?;
        for (i, channel) in y.chunks_exact_mut(plane).enumerate() {
            channel.fill(bias[i % shape[1]]);
        }
    }
    Ok(y)
}

pub(super) fn conv(op: &Conv, inputs: &[&Tensor], shape: &[usize]) -> Result<Tensor, EvalError> {
    let operands = inputs
        .iter()
        .map(|x| read_floats("Conv", x))
        .collect::<Result<Vec<_>, _>>()?;
    let (x, w) = (&operands[0], &operands[1]);
    let (x_shape, w_shape) = (inputs[0].shape(), inputs[1].shape());
    let mut y = start(shape, op.bias.then(|| &operands[2]))?;

    let kernel = &w_shape[2..];
    let window = Window {
        size: &x_shape[2..],
        positions: &shape[2..],
        strides: &op.strides,
        dilations: &op.dilations,
        begin: begins(&op.pads),
    };
    let step = op.strides[op.strides.len() - 1];
    let (x_plane, y_plane, taps) = (count(&x_shape[2..])?, count(&shape[2..])?, count(kernel)?);
    let (channels, filters) = (x_shape[1], shape[1]);
    let (group_channels, group_filters) = (channels / op.group, filters / op.group);
    for (tap, k) in indices(kernel)?.enumerate() {
        let runs = window.runs(&k);
        for (plane, y) in y.chunks_exact_mut(y_plane).enumerate() {
            let (n, m) = (plane / filters, plane % filters);
            for c in 0..group_channels {
                let weight = w[(m * group_channels + c) * taps + tap];
                let from = (n * channels + m / group_filters * group_channels + c) * x_plane;
                let x = &x[from..from + x_plane];
                for &Run {
                    position,
                    coordinate,
                    len,
                } in &runs
                {
                    accumulate(&mut y[position..], 1, &x[coordinate..], step, len, weight);
                }
            }
        }
    }
    if op.residual {
        y.iter_mut()
            .zip(&operands[operands.len() - 1])
            .for_each(|(y, r)| *y += r);
    }
    activate(op.act, &mut y);
    from_floats(inputs[0].dtype(), shape.to_vec(), &y)
}

pub(super) fn conv_transpose(
    op: &ConvTranspose,
    inputs: &[&Tensor],
    shape: &[usize],
) -> Result<Tensor, EvalError> {
    let operands = inputs
        .iter()
        .map(|x| read_floats("ConvTranspose", x))
        .collect::<Result<Vec<_>, _>>()?;
    let (x, w) = (&operands[0], &operands[1]);
    let (x_shape, w_shape) = (inputs[0].shape(), inputs[1].shape());
    let mut y = start(shape, op.bias.then(|| &operands[2]))?;

    let kernel = &w_shape[2..];
    let window = Window {
        size: &shape[2..],
        positions: &x_shape[2..],
        strides: &op.strides,
        dilations: &op.dilations,
        begin: op.pads[..kernel.len()].iter().map(|&p| p.into()).collect(),
    };
    let step = op.strides[op.strides.len() - 1];
    let (x_plane, y_plane, taps) = (count(&x_shape[2..])?, count(&shape[2..])?, count(kernel)?);
    let (channels, filters) = (x_shape[1], shape[1]);
    let (group_channels, group_filters) = (channels / op.group, filters / op.group);
    for (tap, k) in indices(kernel)?.enumerate() {
        let runs = window.runs(&k);
        for (plane, y) in y.chunks_exact_mut(y_plane).enumerate() {
            let (n, m) = (plane / filters, plane % filters);
            let (group, within) = (m / group_filters, m % group_filters);
            for c in group * group_channels..(group + 1) * group_channels {
                let weight = w[(c * group_filters + within) * taps + tap];
                let from = (n * channels + c) * x_plane;
                let x = &x[from..from + x_plane];
                for &Run {
                    position,
                    coordinate,
                    len,
                } in &runs
                {
                    accumulate(&mut y[coordinate..], step, &x[position..], 1, len, weight);
                }
            }
        }
    }
    activate(op.act, &mut y);
    from_floats(inputs[0].dtype(), shape.to_vec(), &y)
}
