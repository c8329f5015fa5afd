//! sdc's own integer arithmetic (`docs/integer.md`, section 2): requantisation by a product and a shift in 64 bits.

use super::movement::expand;
use super::pool::{divisors, window_sums};
use super::quantised::ints;
use crate::EvalError;
use crate::values::{count, from_ints, int_range, with_room};
use sdc_ir::graph::TensorType;
use sdc_ir::graph::op::{QLinearAdd, QLinearAveragePool, QLinearInstanceNormalization, QLinearMul};
use sdc_ir::integer::{Requantise, average_multiplier};
use sdc_ir::{DType, Tensor};

/// Requantises sums of 64 bits.
pub(super) fn requantiser(shift: usize, zero: i64, min: i64, max: i64) -> impl Fn(i128) -> i128 {
    let shift = shift as u32;
    let out = Requantise {
        shift,
        zero,
        min,
        max,
    };
    move |sum| out.of(sum as i64).into()
}

pub(super) fn add(op: &QLinearAdd, inputs: &[&Tensor], ty: &TensorType) -> Result<Tensor, EvalError> {
    let mut sums = vec![0i128; count(ty.sizes())?];
    for ((x, &zero), &multiplier) in inputs.iter().zip(&op.zeros).zip(&op.multipliers) {
        let x = ints("QLinearAdd", &expand(x, ty.sizes())?)?;
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += (x - i128::from(zero)) * i128::from(multiplier);
        }
    }
    let out = requantiser(op.shift, op.y_zero, op.min, op.max);
    let y: Vec<i128> = sums.into_iter().map(|sum| out(sum)).collect();
    from_ints(ty.dtype, ty.sizes().to_vec(), &y)
}

pub(super) fn mul(op: &QLinearMul, inputs: &[&Tensor], ty: &TensorType) -> Result<Tensor, EvalError> {
    let [a, b] = [0, 1].map(|i| ints("QLinearMul", &expand(inputs[i], ty.sizes())?));
    let out = requantiser(op.shift, op.y_zero, op.min, op.max);
    let [a_zero, b_zero] = [0, 1].map(|i| i128::from(op.zeros[i]));
    let y: Vec<i128> = a?
        .into_iter()
        .zip(b?)
        .map(|(a, b)| out((a - a_zero) * (b - b_zero) * i128::from(op.multiplier)))
        .collect();
    from_ints(ty.dtype, ty.sizes().to_vec(), &y)
}

pub(super) fn average_pool(
    op: &QLinearAveragePool,
    x: &Tensor,
    ty: &TensorType,
) -> Result<Tensor, EvalError> {
    let zero = i128::from(op.x_zero);
    let centred: Vec<i128> = ints("QLinearAveragePool", x)?
        .into_iter()
        .map(|x| x - zero)
        .collect();
    let pool = op.window();
    let sums = window_sums(&pool, &centred, x.shape(), ty.sizes(), 0)?;
    let along: Vec<Vec<f64>> = (0..2)
        .map(|d| divisors(&pool, x.shape(), ty.sizes(), d))
        .collect();
    let (min, max) = int_range(op.to);
    let out = requantiser(op.shift, op.y_zero, min as i64, max as i64);
    let (height, width) = (ty.sizes()[2], ty.sizes()[3]);
    let mut y = with_room(sums.len())?;
    for (i, sum) in sums.into_iter().enumerate() {
        let divisor = (along[0][i / width % height] * along[1][i % width]) as i64;
        y.push(out(sum * i128::from(average_multiplier(op.multiplier, divisor))));
    }
    from_ints(ty.dtype, ty.sizes().to_vec(), &y)
}

pub(super) fn softmax(axis: usize, inputs: &[&Tensor], shape: &[usize]) -> Result<Tensor, EvalError> {
    let name = "QLinearSoftmax";
    let (x, table) = (ints(name, inputs[0])?, ints(name, inputs[1])?);
    let (size, inner): (usize, usize) = (shape[axis], shape[axis + 1..].iter().product());
    let mut y = vec![0; x.len()];
    for first in (0..x.len()).filter(|i| i.checked_div(inner).unwrap_or(0).checked_rem(size) == Some(0)) {
        let along = || (0..size).map(|i| first + i * inner);
        let Some(largest) = along().map(|i| x[i]).max() else {
            continue;
        };
        let weight = |i: usize| table[(largest - x[i]) as usize];
        let sum: i128 = along().map(weight).sum();
        for i in along() {
            // A sum that is not positive comes from a table that is none.
            y[i] = ((weight(i) << 24) + sum / 2).checked_div(sum).unwrap_or(0);
        }
    }
    from_ints(DType::I32, shape.to_vec(), &y)
}

pub(super) fn instance(
    op: &QLinearInstanceNormalization,
    inputs: &[&Tensor],
    ty: &TensorType,
) -> Result<Tensor, EvalError> {
    let name = "QLinearInstanceNormalization";
    let operands = inputs
        .iter()
        .map(|t| ints(name, t))
        .collect::<Result<Vec<_>, _>>()?;
    let (x, multiplier, bias) = (&operands[0], &operands[1], &operands[2]);
    let plane = count(&ty.sizes()[2..])?;
    let bits = QLinearInstanceNormalization::root_bits(plane);
    let n = plane as i128;
    let out = requantiser(op.shift, op.y_zero, op.min, op.max);
    let mut y = with_room(x.len())?;
    for (i, x) in x.chunks_exact(plane.max(1)).enumerate() {
        let channel = i % ty.sizes()[1];
        let centred = || x.iter().map(|x| x - i128::from(op.x_zero));
        let sum: i128 = centred().sum();
        let squares: i128 = centred().map(|x| x * x).sum();
        let square = (n * squares - sum * sum + i128::from(op.epsilon)) << (2 * bits);
        let root = square.isqrt();
        for x in centred() {
            let deviation = ((n * x - sum) << (16 + bits)) / root;
            y.push(out(deviation * multiplier[channel] + bias[channel]));
        }
    }
    from_ints(ty.dtype, ty.sizes().to_vec(), &y)
}

pub(super) fn lookup(x: &Tensor, table: &Tensor, shape: &[usize]) -> Result<Tensor, EvalError> {
    let entries = table.bytes();
    let y: Vec<u8> = x.bytes().iter().map(|&bits| entries[usize::from(bits)]).collect();
    Ok(Tensor::new(table.dtype(), shape.to_vec(), y.into())?)
}
