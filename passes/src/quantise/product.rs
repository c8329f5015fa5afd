//! Convolutions and matrix products between dequantisation and quantisation.

use super::operand::{Activation as Input, Grid, Weights, bias};
use crate::local::{Outcome, Site};
use crate::pass::merge_origins;
use sdc_ir::Tensor;
use sdc_ir::graph::op::{Activation, Conv, MatMul, QLinearConv, Reshape, Transpose};
use sdc_ir::graph::{Op, Origin, Value};

/// What a product computes, apart from its operands' integers.
struct Product {
    input: Input,
    weights: Weights,
    bias: Vec<i32>,
    multiplier: Vec<f32>,
    output: Grid,
    bounds: (i64, i64),
    origins: Vec<Origin>,
}

/// QuantizeLinear of a Conv of dequantised operands becomes QLinearConv.
pub fn convolution(site: &mut Site<'_>) -> Outcome {
    let Some((Op::Conv(conv), inputs)) = producer(site) else {
        return Outcome::NoMatch;
    };
    let bias = conv.bias.then(|| inputs[2]);
    let made =
        product(site, &inputs, 0, bias, conv.act, conv.residual).and_then(|p| integer_conv(site, &conv, p));
    match made {
        Ok(value) => Outcome::value(value),
        Err(reason) => Outcome::Declined(reason),
    }
}

/// QuantizeLinear of a MatMul of dequantised operands becomes a QLinearConv of one window over the rows.
pub fn matrix(site: &mut Site<'_>) -> Outcome {
    let Some((Op::MatMul(matmul), inputs)) = producer(site) else {
        return Outcome::NoMatch;
    };
    if site.graph.ty(inputs[1]).rank() != 2 {
        return Outcome::Declined("the second operand is not a matrix".to_owned());
    }
    let bias = matmul.bias.then(|| inputs[2]);
    let made = product(site, &inputs, 1, bias, matmul.act, matmul.residual)
        .and_then(|p| integer_matmul(site, &matmul, p));
    match made {
        Ok(value) => Outcome::value(value),
        Err(reason) => Outcome::Declined(reason),
    }
}

/// The node that computes what a QuantizeLinear quantises.
fn producer(site: &Site<'_>) -> Option<(Op, Vec<Value>)> {
    if !matches!(site.op, Op::QuantizeLinear(_)) {
        return None;
    }
    let data = site.producer(0)?;
    matches!(data.op, Op::Conv(_) | Op::MatMul(_)).then(|| (data.op.clone(), data.inputs.clone()))
}

fn product(
    site: &Site<'_>,
    inputs: &[Value],
    output_dim: usize,
    bias_value: Option<Value>,
    act: Activation,
    residual: bool,
) -> Result<Product, String> {
    let graph = &*site.graph;
    if site.uses(site.inputs[0]) > 1 {
        return Err("its result is also used in floating point".to_owned());
    }
    if residual {
        return Err("it has a fused residual".to_owned());
    }
    let output = Grid::of(graph, site.ty.dtype, site.inputs[1], site.inputs[2])?;
    let input = Input::read(graph, inputs[0])?;
    if !(output.is_byte() && input.grid.is_byte()) {
        return Err(format!("{} to {} activations", input.grid.dtype, output.dtype));
    }
    let weights = Weights::read(graph, inputs[1], output_dim)?;
    let steps: Vec<f64> = weights
        .scale
        .iter()
        .map(|&s| f64::from(s) * f64::from(input.grid.scale))
        .collect();
    let bias = bias(graph, bias_value, &steps)?;
    let multiplier: Vec<f32> = weights
        .scale
        .iter()
        .map(|s| input.grid.scale * s / output.scale)
        .collect();
    if multiplier.iter().any(|m| !m.is_normal()) {
        return Err("a quotient of scales is not a normal number".to_owned());
    }
    fits(&input.grid, &weights, &bias)?;
    let (low, high) = output.range();
    let bounds = match act {
        Activation::None => (low, high),
        Activation::Relu => (output.quantise(0.0), high),
        Activation::Clip { min, max } => (output.quantise(min), output.quantise(max)),
        Activation::LeakyRelu { .. } => return Err("LeakyRelu has no integer form".to_owned()),
    };
    if bounds.0 > bounds.1 {
        return Err("the bounds of its activation are reversed".to_owned());
    }
    let mut origins = site.producer(0).map_or(Vec::new(), |p| p.origins.clone());
    for more in [site.origins, &input.origins, &weights.origins] {
        origins = merge_origins(&origins, more);
    }
    Ok(Product {
        input,
        weights,
        bias,
        multiplier,
        output,
        bounds,
        origins,
    })
}

/// Proves that no sum of any input exceeds 32 bits.
fn fits(input: &Grid, weights: &Weights, bias: &[i32]) -> Result<(), String> {
    let (low, high) = input.range();
    let reach = (high - input.zero).max(input.zero - low);
    let each = weights.values.len() / bias.len().max(1);
    let sums = weights.values.chunks_exact(each.max(1)).zip(bias);
    for (filter, bias) in sums {
        let size: i64 = filter.iter().map(|w| w.abs()).sum();
        if size * reach + i64::from(bias.unsigned_abs()) > i64::from(i32::MAX) {
            return Err("sums could exceed 32 bits".to_owned());
        }
    }
    Ok(())
}

/// Emits the integer convolution of a product; `x` is its input.
fn emit(site: &mut Site<'_>, p: &Product, conv: &Conv, x: Value, shape: Vec<usize>) -> Result<Value, String> {
    let vector = |e: Result<Tensor, sdc_ir::tensor::TensorError>| e.map_err(|e| e.to_string());
    let n = p.bias.len();
    let bias = vector(Tensor::from_elements(vec![n], p.bias.clone()))?;
    let multiplier = vector(Tensor::from_elements(vec![n], p.multiplier.clone()))?;
    let constants = [p.weights.tensor(shape)?, bias, multiplier];
    let [w, bias, multiplier] = constants.map(|t| site.graph.add_constant(t, p.weights.origins.clone()));
    let op = QLinearConv {
        strides: conv.strides.clone(),
        pads: conv.pads.clone(),
        dilations: conv.dilations.clone(),
        group: conv.group,
        x_zero: p.input.grid.zero,
        y_zero: p.output.zero,
        min: p.bounds.0,
        max: p.bounds.1,
        to: p.output.dtype,
        shift: 0,
    };
    site.graph
        .add1(op, &[x, w, bias, multiplier], p.origins.clone())
        .map_err(|e| e.to_string())
}

fn integer_conv(site: &mut Site<'_>, conv: &Conv, p: Product) -> Result<Value, String> {
    if p.weights.shape.len() != 4 {
        return Err("it has not two spatial dimensions".to_owned());
    }
    emit(site, &p, conv, p.input.value, p.weights.shape.clone())
}

fn integer_matmul(site: &mut Site<'_>, _: &MatMul, p: Product) -> Result<Value, String> {
    let (columns, depth) = (p.weights.shape[0], p.weights.shape[1]);
    let rows = site.ty.elements().unwrap_or(0) / columns.max(1);
    if site.graph.ty(p.input.value).elements() != rows.checked_mul(depth) {
        return Err("its operands broadcast".to_owned());
    }
    let window = Conv {
        strides: vec![1, 1],
        pads: vec![0; 4],
        dilations: vec![1, 1],
        group: 1,
        bias: true,
        residual: false,
        act: Activation::None,
    };
    let origins = p.origins.clone();
    let step = |site: &mut Site<'_>, op: Op, x: Value| {
        site.graph
            .add1(op, &[x], origins.clone())
            .map_err(|e| e.to_string())
    };
    let reshape = |shape: Vec<usize>| Op::from(Reshape { shape });
    let swap = || Op::from(Transpose { perm: vec![1, 0] });
    // Rows become pixels of one column, and depth becomes channels: the same bytes under other names.
    let x = step(site, reshape(vec![rows, depth]), p.input.value)?;
    let x = step(site, swap(), x)?;
    let x = step(site, reshape(vec![1, depth, rows, 1]), x)?;
    let y = emit(site, &p, &window, x, vec![columns, depth, 1, 1])?;
    let y = step(site, reshape(vec![columns, rows]), y)?;
    let y = step(site, swap(), y)?;
    let shape = site.ty.sizes().to_vec();
    step(site, reshape(shape), y)
}
