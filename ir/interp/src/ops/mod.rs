//! Graph operators, one file per family.
//!
//! Shape inference has accepted the operands before an operator's function is called, and results that are empty are
//! made here, so those functions may rely on ranks, attribute lengths and sizes, and on no dimension of the result
//! being zero.

mod convolution;
mod elementwise;
mod integer;
mod matmul;
mod movement;
mod normalize;
mod order;
mod pool;
mod quantised;
mod recurrent;
mod reduce;
mod resize;
mod scatter;
mod window;

use crate::EvalError;
use crate::values::{count, with_room};
use sdc_ir::graph::infer::infer;
use sdc_ir::graph::{Op, TensorType};
use sdc_ir::sd::Stored;
use sdc_ir::{DType, Tensor};

/// Evaluates one operator on host tensors. Layouts do not matter here: tensors are logical, row-major.
///
/// `Relayout` is the identity. `Constant` has no data here (its weight belongs to a graph) and is an error. What ONNX
/// leaves open: an integer divided by zero is 0; NaN propagates through Max, Min, Relu, Clip, MaxPool and reductions;
/// float to integer saturates, and NaN gives 0.
///
/// # Errors
/// Operands that do not fit the operator, or an element type for which it is not defined.
pub fn eval_op(op: &Op, inputs: &[&Tensor]) -> Result<Vec<Tensor>, EvalError> {
    let types: Vec<TensorType> = inputs
        .iter()
        .map(|x| TensorType::new(x.dtype(), x.shape()))
        .collect();
    let results = infer(op, &types.iter().collect::<Vec<_>>())?;
    let mut out = Vec::new();
    for ty in &results {
        out.push(if count(ty.sizes())? == 0 {
            Tensor::new(ty.dtype, ty.sizes().to_vec(), Vec::new().into())?
        } else {
            // Sixteen bytes per element is what the functions below use at most: better refused than aborted.
            drop(with_room::<u128>(count(ty.sizes())?)?);
            eval_one(op, inputs, ty)?
        });
    }
    Ok(out)
}

fn eval_one(op: &Op, inputs: &[&Tensor], ty: &TensorType) -> Result<Tensor, EvalError> {
    let name = op.name();
    let shape = ty.sizes();
    match op {
        Op::Constant(_) => Err(EvalError::Unsupported {
            op: name,
            reason: "a constant has no data outside its graph".to_owned(),
        }),
        Op::Rebuild(op) => rebuild(inputs[0], shape, op.to),
        Op::Relayout(_) => Ok(inputs[0].clone()),
        Op::Unary(u) => elementwise::unary(*u, inputs[0]),
        Op::Binary(b) => elementwise::binary(*b, inputs[0], inputs[1], ty),
        Op::Clip(op) => elementwise::float_map(name, inputs[0], |x| {
            elementwise::clip(x, op.min.into(), op.max.into())
        }),
        Op::LeakyRelu(op) => {
            elementwise::float_map(name, inputs[0], |x| elementwise::leaky_relu(x, op.alpha.into()))
        }
        Op::Elu(op) => elementwise::float_map(name, inputs[0], |x| {
            if x >= 0.0 {
                x
            } else {
                f64::from(op.alpha) * libm::expm1(x)
            }
        }),
        Op::HardSigmoid(op) => elementwise::float_map(name, inputs[0], |x| {
            elementwise::clip(f64::from(op.alpha) * x + f64::from(op.beta), 0.0, 1.0)
        }),
        Op::Where(_) => movement::select(inputs[0], inputs[1], inputs[2], shape),
        Op::Cast(_) => elementwise::cast(inputs[0], ty.dtype),
        Op::QuantizeLinear(_) => quantised::quantize(inputs, ty),
        Op::QLinearConv(op) => quantised::conv(op, inputs, ty),
        Op::DequantizeLinear(_) => quantised::dequantize(inputs, ty),
        Op::QLinearAdd(op) => integer::add(op, inputs, ty),
        Op::QLinearMul(op) => integer::mul(op, inputs, ty),
        Op::QLinearAveragePool(op) => integer::average_pool(op, inputs[0], ty),
        Op::QLinearSoftmax(op) => integer::softmax(op.axis, inputs, shape),
        Op::QLinearInstanceNormalization(op) => integer::instance(op, inputs, ty),
        Op::Lookup(_) => integer::lookup(inputs[0], inputs[1], shape),
        Op::Conv(op) => convolution::conv(op, inputs, shape),
        Op::ConvTranspose(op) => convolution::conv_transpose(op, inputs, shape),
        Op::MatMul(op) => matmul::matmul(op, inputs, ty),
        Op::MaxPool(op) => pool::max_pool(op, inputs[0], shape),
        Op::AveragePool(op) => pool::average_pool(op, inputs[0], shape),
        Op::BatchNormalization(op) => normalize::batch(op, inputs),
        Op::InstanceNormalization(op) => normalize::instance(op, inputs),
        Op::LayerNormalization(op) => normalize::layer(op, inputs),
        Op::Softmax(op) => normalize::softmax(op, inputs[0]),
        Op::Reduce(op) => reduce::reduce(op, inputs[0], shape),
        Op::Transpose(op) => movement::transpose(&op.perm, inputs[0]),
        Op::Reshape(_) => Ok(inputs[0].reshaped(shape.to_vec())?),
        Op::Expand(_) => movement::expand(inputs[0], shape),
        Op::Concat(op) => movement::concat(op, inputs, shape),
        Op::Slice(op) => movement::slice(op, inputs[0]),
        Op::Pad(op) => movement::pad(op, inputs[0]),
        Op::Gather(op) => movement::gather(op, inputs[0], inputs[1]),
        Op::BitCast(op) => Ok(Tensor::new(op.to, shape.to_vec(), inputs[0].bytes().clone())?),
        Op::Scatter(op) => scatter::scatter(op, inputs),
        Op::Cumulative(op) => order::cumulative(op, inputs[0]),
        Op::ArgMax(op) => order::arg_max(op, inputs[0], shape),
        Op::TopK(op) => order::top_k(op, inputs[0], shape),
        Op::Recurrent(op) => recurrent::recurrent(op, inputs, shape),
        Op::Resize(op) => resize::resize(op, inputs[0]),
    }
}

/// The dense weights of a packed compressed weight, real or as integers.
fn rebuild(packed: &Tensor, shape: &[usize], to: DType) -> Result<Tensor, EvalError> {
    let bad = |reason: String| EvalError::Unsupported {
        op: "Rebuild",
        reason,
    };
    let stored = Stored::unpack(packed.bytes()).map_err(|e| bad(e.to_string()))?;
    let found = &stored.geometry().shape;
    if found != shape {
        return Err(bad(format!(
            "the packed weights have shape {found:?}, not {shape:?}"
        )));
    }
    let dense = match to {
        DType::I8 => stored.rebuild().map(|(integers, _)| integers),
        _ => stored.dequantised(),
    };
    dense.map_err(|e| bad(e.to_string()))
}
