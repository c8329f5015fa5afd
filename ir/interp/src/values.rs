//! Tensor elements as numbers to compute with, and back.
//!
//! Three kinds stand for all thirteen element types: `f64` holds every float exactly, `i128` every integer.

use crate::EvalError;
use half::{bf16, f16};
use sdc_ir::tensor::{TensorError, element_count};
use sdc_ir::{DType, Tensor};

/// The elements of a tensor, in row-major order.
pub(crate) enum Values {
    Float(Vec<f64>),
    Int(Vec<i128>),
    Bool(Vec<bool>),
}

/// A vector of `n` equal elements; an error instead of an abort when memory does not suffice.
pub(crate) fn filled<T: Clone>(n: usize, value: T) -> Result<Vec<T>, EvalError> {
    let mut v = with_room(n)?;
    v.resize(n, value);
    Ok(v)
}

/// An empty vector with room for `n` elements.
pub(crate) fn with_room<T>(n: usize) -> Result<Vec<T>, EvalError> {
    let mut v = Vec::new();
    v.try_reserve_exact(n)
        .map_err(|_| EvalError::OutOfMemory(n.saturating_mul(size_of::<T>())))?;
    Ok(v)
}

/// Number of elements of a shape.
pub(crate) fn count(shape: &[usize]) -> Result<usize, EvalError> {
    element_count(shape).ok_or_else(|| TensorError::TooLarge(shape.to_vec()).into())
}

/// The unsigned integers are reinterpreted by [`Tensor::to_i64_vec`], which wraps only `u64`.
fn ints(x: &Tensor) -> Option<Vec<i128>> {
    let unsigned64 = x.dtype() == DType::U64;
    let widen = |i: i64| {
        if unsigned64 {
            i128::from(i as u64)
        } else {
            i128::from(i)
        }
    };
    Some(x.to_i64_vec()?.into_iter().map(widen).collect())
}

/// The elements of any tensor.
pub(crate) fn read(x: &Tensor) -> Values {
    match x.dtype() {
        DType::Bool => Values::Bool(x.bytes().iter().map(|&b| b != 0).collect()),
        _ => match ints(x) {
            Some(v) => Values::Int(v),
            None => Values::Float(x.to_f64_vec()),
        },
    }
}

/// The elements of a float tensor, or an error in the name of `op`.
pub(crate) fn read_floats(op: &'static str, x: &Tensor) -> Result<Vec<f64>, EvalError> {
    if x.dtype().is_float() {
        Ok(x.to_f64_vec())
    } else {
        Err(no_such_type(op, x.dtype()))
    }
}

/// The operator is not defined for this element type.
pub(crate) fn no_such_type(op: &'static str, dtype: DType) -> EvalError {
    let reason = format!("not defined for elements of type {dtype}");
    EvalError::Unsupported { op, reason }
}

macro_rules! collect {
    ($shape:expr, $v:expr, $f:expr) => {
        Tensor::from_elements($shape, $v.iter().map($f).collect::<Vec<_>>())
    };
}

/// Rounds to nearest even (`f16` and `bf16` by way of `f32`) or, for an integer or `bool` result, truncates and
/// saturates (NaN gives 0).
pub(crate) fn from_floats(dtype: DType, shape: Vec<usize>, v: &[f64]) -> Result<Tensor, EvalError> {
    Ok(match dtype {
        DType::F64 => collect!(shape, v, |&x| x),
        DType::F32 => collect!(shape, v, |&x| x as f32),
        DType::F16 => collect!(shape, v, |&x| f16::from_f32(x as f32)),
        DType::BF16 => collect!(shape, v, |&x| bf16::from_f32(x as f32)),
        DType::I64 => collect!(shape, v, |&x| x as i64),
        DType::I32 => collect!(shape, v, |&x| x as i32),
        DType::I16 => collect!(shape, v, |&x| x as i16),
        DType::I8 => collect!(shape, v, |&x| x as i8),
        DType::U64 => collect!(shape, v, |&x| x as u64),
        DType::U32 => collect!(shape, v, |&x| x as u32),
        DType::U16 => collect!(shape, v, |&x| x as u16),
        DType::U8 => collect!(shape, v, |&x| x as u8),
        DType::Bool => return from_bools(shape, v.iter().map(|&x| x != 0.0)),
    }?)
}

/// Wraps in an integer type, rounds to a float type (once, except to `f16` and `bf16`).
pub(crate) fn from_ints(dtype: DType, shape: Vec<usize>, v: &[i128]) -> Result<Tensor, EvalError> {
    Ok(match dtype {
        DType::F64 => collect!(shape, v, |&x| x as f64),
        DType::F32 => collect!(shape, v, |&x| x as f32),
        DType::F16 => collect!(shape, v, |&x| f16::from_f32(x as f32)),
        DType::BF16 => collect!(shape, v, |&x| bf16::from_f32(x as f32)),
        DType::I64 => collect!(shape, v, |&x| x as i64),
        DType::I32 => collect!(shape, v, |&x| x as i32),
        DType::I16 => collect!(shape, v, |&x| x as i16),
        DType::I8 => collect!(shape, v, |&x| x as i8),
        DType::U64 => collect!(shape, v, |&x| x as u64),
        DType::U32 => collect!(shape, v, |&x| x as u32),
        DType::U16 => collect!(shape, v, |&x| x as u16),
        DType::U8 => collect!(shape, v, |&x| x as u8),
        DType::Bool => return from_bools(shape, v.iter().map(|&x| x != 0)),
    }?)
}

/// A `bool` tensor.
pub(crate) fn from_bools(shape: Vec<usize>, v: impl Iterator<Item = bool>) -> Result<Tensor, EvalError> {
    let bytes: Vec<u8> = v.map(u8::from).collect();
    Ok(Tensor::new(DType::Bool, shape, bytes.into())?)
}

/// A tensor of the given type from elements of the matching kind.
pub(crate) fn write(dtype: DType, shape: Vec<usize>, v: Values) -> Result<Tensor, EvalError> {
    match v {
        Values::Float(v) => from_floats(dtype, shape, &v),
        Values::Int(v) => from_ints(dtype, shape, &v),
        Values::Bool(v) => from_bools(shape, v.into_iter()),
    }
}

/// Smallest and largest value of an integer type.
pub(crate) fn int_range(dtype: DType) -> (i128, i128) {
    let bits = 8 * dtype.size() as u32;
    if dtype.is_signed_int() {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1)
    }
}
