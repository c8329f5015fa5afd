//! Shape and element-type inference: the result types of an operator from its operand types.
//!
//! One function per operator family; layouts are not inferred (results are row-major). Attributes are checked against
//! the operands here, so an operator that passes has attribute lists of the right length, steps that are not zero,
//! indices in range and sizes that do not overflow. Deliberately absent: any bound on memory, which is the caller's.

mod data;
mod elementwise;
mod normalize;
mod order;
mod product;
mod quantised;
mod recurrent;
mod window;

#[cfg(test)]
mod tests;

use super::{Op, TensorType};
use crate::DType;

pub use elementwise::broadcast;

/// Why operands do not fit an operator. Names neither node nor values: the caller adds those.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{op}: {reason}; operands: {}", operands.join(", "))]
pub struct InferError {
    /// Operator.
    pub op: &'static str,
    /// What is wrong.
    pub reason: String,
    /// Operand types as text.
    pub operands: Vec<String>,
    /// The operands do fit, but the result would exceed what memory can address.
    pub overflow: bool,
}

/// Why a family's function fails.
enum Fail {
    /// The operands do not fit.
    Unfit(String),
    /// The result is too large to address.
    Overflow(String),
}

impl From<String> for Fail {
    fn from(reason: String) -> Self {
        Fail::Unfit(reason)
    }
}

impl From<&str> for Fail {
    fn from(reason: &str) -> Self {
        Fail::Unfit(reason.to_owned())
    }
}

fn overflow(reason: impl Into<String>) -> Fail {
    Fail::Overflow(reason.into())
}

/// Result of a family's function; the reason becomes [`InferError::reason`].
type Inferred = Result<TensorType, Fail>;

/// Result types of `op` applied to operands of these types. [`Op::Constant`] is the caller's business (its type is
/// the weight's).
///
/// # Errors
/// Wrong operand count, ranks, shapes, element types, or attributes that do not fit them; a result whose size
/// overflows; a symbolic dimension.
pub fn infer(op: &Op, operands: &[&TensorType]) -> Result<Vec<TensorType>, InferError> {
    let result = match op {
        _ if operands.iter().any(|x| x.shape.constant().is_none()) => {
            Err("symbolic dimensions have no size".into())
        }
        Op::Constant(_) => Err("the type of a constant is its weight's".into()),
        Op::Rebuild(op) => rebuild(op, operands),
        Op::Relayout(_) => one(operands).cloned(),
        Op::Unary(u) => elementwise::unary(*u, operands),
        Op::Binary(b) => elementwise::binary(*b, operands),
        Op::Clip(_) | Op::LeakyRelu(_) | Op::Elu(_) | Op::HardSigmoid(_) => elementwise::float_map(operands),
        Op::Where(_) => elementwise::select(operands),
        Op::Cast(op) => one(operands).map(|x| TensorType::new(op.to, x.shape.clone())),
        Op::QuantizeLinear(_) => quantised::quantize(operands),
        Op::QLinearConv(op) => quantised::conv(op, operands),
        Op::QLinearAdd(op) => quantised::add(op, operands),
        Op::QLinearMul(op) => quantised::mul(op, operands),
        Op::QLinearAveragePool(op) => quantised::average_pool(op, operands),
        Op::QLinearSoftmax(op) => quantised::softmax(op, operands),
        Op::QLinearInstanceNormalization(op) => quantised::instance(op, operands),
        Op::Lookup(_) => quantised::lookup(operands),
        Op::DequantizeLinear(_) => quantised::dequantize(operands),
        Op::Conv(op) => product::conv(op, operands),
        Op::ConvTranspose(op) => product::conv_transpose(op, operands),
        Op::MatMul(op) => product::matmul(op, operands),
        Op::MaxPool(op) => window::max_pool(op, operands),
        Op::AveragePool(op) => window::average_pool(op, operands),
        Op::Resize(op) => window::resize(op, operands),
        Op::BatchNormalization(_) => normalize::batch(operands),
        Op::InstanceNormalization(_) => normalize::instance(operands),
        Op::LayerNormalization(op) => normalize::layer(op, operands),
        Op::Softmax(op) => normalize::softmax(op, operands),
        Op::Reduce(op) => normalize::reduce(op, operands),
        Op::Transpose(op) => data::transpose(op, operands),
        Op::Reshape(op) => data::reshape(op, operands),
        Op::Expand(op) => data::expand(op, operands),
        Op::Concat(op) => data::concat(op, operands),
        Op::Slice(op) => data::slice(op, operands),
        Op::Pad(op) => data::pad(op, operands),
        Op::Gather(op) => data::gather(op, operands),
        Op::BitCast(op) => data::bit_cast(op, operands),
        Op::Scatter(op) => data::scatter(op, operands),
        Op::Cumulative(op) => order::cumulative(op, operands),
        Op::ArgMax(op) => order::arg_max(op, operands),
        Op::TopK(op) => order::top_k(op, operands),
        Op::Recurrent(op) => recurrent::recurrent(op, operands),
    };
    result
        .and_then(|ty| {
            if addressable(&ty) {
                Ok(vec![TensorType::new(ty.dtype, ty.shape)])
            } else {
                Err(overflow(format!("a result of type {ty} is too large")))
            }
        })
        .map_err(|fail| {
            let (reason, overflow) = match fail {
                Fail::Unfit(reason) => (reason, false),
                Fail::Overflow(reason) => (reason, true),
            };
            InferError {
                op: op.name(),
                reason,
                operands: operands.iter().map(ToString::to_string).collect(),
                overflow,
            }
        })
}

/// True if strides and byte offsets of the type are far from overflow, even where a zero dimension makes it empty.
/// False for a type with symbols.
pub fn addressable(ty: &TensorType) -> bool {
    ty.shape.constant().is_some_and(crate::tensor::is_addressable)
}

fn rebuild(op: &super::op::Rebuild, operands: &[&TensorType]) -> Inferred {
    let packed = one(operands)?;
    ensure(packed.dtype == DType::U8 && packed.rank() == 1, || {
        "packed weights are u8 of one dimension".to_owned()
    })?;
    ensure(matches!(op.to, DType::F32 | DType::I8), || {
        format!("weights are rebuilt as f32 or i8, not {}", op.to)
    })?;
    Ok(TensorType::new(op.to, op.shape.clone()))
}

fn one<'a>(operands: &[&'a TensorType]) -> Result<&'a TensorType, Fail> {
    count(operands).map(|[x]| x)
}

fn count<'a, const N: usize>(operands: &[&'a TensorType]) -> Result<[&'a TensorType; N], Fail> {
    operands
        .try_into()
        .map_err(|_| format!("takes {N} operand(s), got {}", operands.len()).into())
}

/// Fails with the text unless the condition holds.
fn ensure(condition: bool, reason: impl FnOnce() -> String) -> Result<(), Fail> {
    if condition { Ok(()) } else { Err(reason().into()) }
}

fn float(x: &TensorType) -> Result<(), Fail> {
    ensure(x.dtype.is_float(), || {
        format!("elements of type {} are not floating-point", x.dtype)
    })
}

fn numeric(x: &TensorType) -> Result<(), Fail> {
    ensure(x.dtype != DType::Bool, || {
        "elements of type bool have no arithmetic".to_owned()
    })
}

fn same_dtype(operands: &[&TensorType]) -> Result<(), Fail> {
    ensure(operands.windows(2).all(|w| w[0].dtype == w[1].dtype), || {
        "operands have different element types".to_owned()
    })
}

/// Fails unless the attribute has `expected` entries.
fn attr_len(name: &str, len: usize, expected: usize) -> Result<(), Fail> {
    ensure(len == expected, || {
        format!("`{name}` has {len} entries where {expected} are needed")
    })
}

fn axis_in(axis: usize, rank: usize) -> Result<(), Fail> {
    ensure(axis < rank, || {
        format!("axis {axis} is out of range for rank {rank}")
    })
}
