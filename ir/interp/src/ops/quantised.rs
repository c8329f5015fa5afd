//! Quantisation and the integer operators, in exactly the arithmetic of `docs/integer.md`.
//!
//! Unlike other float operators these compute in `f32`, step by step: results are integers, which have to be equal
//! everywhere.

use super::integer::requantiser;
use super::movement::expand;
use crate::EvalError;
use crate::values::{Values, count, from_floats, from_ints, int_range, no_such_type, read, with_room};
use sdc_ir::graph::TensorType;
use sdc_ir::graph::op::QLinearConv;
use sdc_ir::{DType, Tensor};

/// Elements of an integer tensor.
pub(super) fn ints(op: &'static str, x: &Tensor) -> Result<Vec<i128>, EvalError> {
    match read(x) {
        Values::Int(v) => Ok(v),
        _ => Err(no_such_type(op, x.dtype())),
    }
}

/// Elements of a float or integer tensor, rounded to `f32`.
fn singles(x: &Tensor) -> Vec<f32> {
    x.to_f64_vec().into_iter().map(|v| v as f32).collect()
}

/// `saturate(round_half_even(x) + zero)`; NaN gives 0.
fn saturate(x: f32, zero: f32, low: f32, high: f32) -> i128 {
    let y = x.round_ties_even() + zero;
    let y = if y < low { low } else { y };
    let y = if y > high { high } else { y };
    y as i128
}

/// Range of an 8- or 16-bit type, exact in `f32`.
fn float_range(dtype: DType) -> (f32, f32) {
    let (low, high) = int_range(dtype);
    (low as f32, high as f32)
}

pub(super) fn quantize(inputs: &[&Tensor], ty: &TensorType) -> Result<Tensor, EvalError> {
    let x = singles(inputs[0]);
    let scale = singles(&expand(inputs[1], ty.sizes())?);
    let zero = singles(&expand(inputs[2], ty.sizes())?);
    let (low, high) = float_range(ty.dtype);
    let y: Vec<i128> = x
        .iter()
        .zip(scale.iter().zip(&zero))
        .map(|(x, (s, z))| saturate(x / s, *z, low, high))
        .collect();
    from_ints(ty.dtype, ty.sizes().to_vec(), &y)
}

pub(super) fn dequantize(inputs: &[&Tensor], ty: &TensorType) -> Result<Tensor, EvalError> {
    let name = "DequantizeLinear";
    let x = ints(name, inputs[0])?;
    let scale = singles(&expand(inputs[1], ty.sizes())?);
    let zero = ints(name, &expand(inputs[2], ty.sizes())?)?;
    let y: Vec<f64> = x
        .iter()
        .zip(scale.iter().zip(&zero))
        .map(|(x, (s, z))| f64::from((x - z) as i32 as f32 * s))
        .collect();
    from_floats(ty.dtype, ty.sizes().to_vec(), &y)
}

/// What sums are multiplied by: ONNX's arithmetic, or sdc's own.
enum Multiplier {
    Real(Vec<f32>),
    Integer(Vec<i128>),
}

pub(super) fn conv(op: &QLinearConv, inputs: &[&Tensor], ty: &TensorType) -> Result<Tensor, EvalError> {
    let name = "QLinearConv";
    let operands = inputs[..3]
        .iter()
        .map(|t| ints(name, t))
        .collect::<Result<Vec<_>, _>>()?;
    let (x, w, bias) = (&operands[0], &operands[1], &operands[2]);
    let multiplier = if op.shift == 0 {
        Multiplier::Real(singles(inputs[3]))
    } else {
        Multiplier::Integer(ints(name, inputs[3])?)
    };
    let requantise = requantiser(op.shift, op.y_zero, op.min, op.max);
    let [channels, height, width] = [1, 2, 3].map(|d| inputs[0].shape()[d]);
    let [group_channels, kh, kw] = [1, 2, 3].map(|d| inputs[1].shape()[d]);
    let [filters, rows, columns] = [1, 2, 3].map(|d| ty.sizes()[d]);
    let group_filters = filters / op.group;
    // Where window element `k` at position `at` reads along one dimension, unless that is padding.
    let source = |at: usize, k: usize, d: usize, size: usize| {
        (at * op.strides[d] + k * op.dilations[d])
            .checked_sub(op.pads[d])
            .filter(|&i| i < size)
    };
    let mut y = with_room(count(ty.sizes())?)?;
    for n in 0..ty.sizes()[0] {
        for m in 0..filters {
            let first = m / group_filters * group_channels;
            for (oy, ox) in (0..rows).flat_map(|oy| (0..columns).map(move |ox| (oy, ox))) {
                let mut acc = bias[m];
                for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                    let (Some(iy), Some(ix)) = (source(oy, ky, 0, height), source(ox, kx, 1, width)) else {
                        continue;
                    };
                    for c in 0..group_channels {
                        let at = ((n * channels + first + c) * height + iy) * width + ix;
                        let weight = w[((m * group_channels + c) * kh + ky) * kw + kx];
                        acc += (x[at] - i128::from(op.x_zero)) * weight;
                    }
                }
                // The pass that makes these operators proves that sums fit.
                let acc = acc as i32;
                y.push(match &multiplier {
                    Multiplier::Real(all) => {
                        let scaled = acc as f32 * all[m];
                        saturate(scaled, op.y_zero as f32, op.min as f32, op.max as f32)
                    }
                    Multiplier::Integer(all) => requantise(i128::from(acc) * all[m]),
                });
            }
        }
    }
    from_ints(ty.dtype, ty.sizes().to_vec(), &y)
}
