//! Softmax and instance normalisation.

use super::Grid;
use super::convert::{Converter, EVERYTHING, Refusal, multipliers, refuse};
use sdc_ir::Tensor;
use sdc_ir::graph::op::{QLinearInstanceNormalization, QLinearSoftmax};
use sdc_ir::graph::{Node, NodeData};

/// Softmax by a table of exponentials.
pub(super) fn softmax(cx: &mut Converter<'_>, data: &NodeData, axis: usize) -> Result<(), Refusal> {
    let x = cx.integers(data.inputs[0])?;
    let step = f64::from(x.grid.scale);
    let entry = |d: i32| ((-f64::from(d) * step).exp() * f64::from(1 << 30)).round_ties_even() as i32;
    let table = Tensor::from_elements(vec![256], (0..256).map(entry).collect::<Vec<_>>());
    let table = table.map_err(|e| Some(e.to_string()))?;
    let table = cx.rewrite.dst.add_constant(table, data.origins.clone());
    let y = cx.add(QLinearSoftmax { axis }, &[x.value, table], &data.origins)?;
    cx.settle_on(data.outputs[0], y, Grid::SHARES);
    Ok(())
}

/// Instance normalisation with exact sums and an integer root.
pub(super) fn instance(
    cx: &mut Converter<'_>,
    n: Node,
    data: &NodeData,
    epsilon: f32,
) -> Result<(), Refusal> {
    let constants = [1, 2].map(|i| cx.src().constant(data.inputs[i]).map(Tensor::to_f64_vec));
    let [Some(scale), Some(bias)] = constants else {
        return refuse("scale or bias is not constant");
    };
    let [_, _, height, width] = cx.src().ty(data.inputs[0]).sizes()[..] else {
        return refuse("it has not two spatial dimensions");
    };
    let x = cx.integers(data.inputs[0])?;
    let target = cx.target(n, EVERYTHING)?;
    let step = f64::from(target.grid.scale);
    // The deviation comes in steps of 2^-16.
    let gains: Vec<f64> = scale.iter().map(|s| s / step / 65536.0).collect();
    let (multipliers, shift) = multipliers(&gains)?;
    let unit = 2f64.powi(shift as i32);
    let biases: Vec<f64> = bias.iter().map(|b| (b / step * unit).round_ties_even()).collect();
    if biases.iter().any(|b| b.is_nan() || b.abs() >= 2f64.powi(61)) {
        return refuse("a bias is out of range");
    }
    let count = (height * width) as f64;
    let square = f64::from(x.grid.scale) * f64::from(x.grid.scale);
    let added = (f64::from(epsilon) / square * count * count)
        .round_ties_even()
        .max(1.0);
    let op = QLinearInstanceNormalization {
        x_zero: x.grid.zero,
        epsilon: added as i64,
        shift,
        y_zero: target.grid.zero,
        min: target.bounds.0,
        max: target.bounds.1,
        to: target.grid.dtype,
    };
    let channels = vec![scale.len()];
    let fail = |e: sdc_ir::tensor::TensorError| Some(e.to_string());
    let multipliers: Vec<i32> = multipliers.iter().map(|&m| m as i32).collect();
    let multipliers = Tensor::from_elements(channels.clone(), multipliers).map_err(fail)?;
    let biases: Vec<i64> = biases.iter().map(|&b| b as i64).collect();
    let biases = Tensor::from_elements(channels, biases).map_err(fail)?;
    let [multipliers, biases] =
        [multipliers, biases].map(|t| cx.rewrite.dst.add_constant(t, data.origins.clone()));
    let y = cx.add(op, &[x.value, multipliers, biases], &target.origins)?;
    cx.settle(&target, y);
    Ok(())
}
