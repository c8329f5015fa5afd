//! Quantisation, dequantisation, and the integer operators between them.

use super::{Fail, Inferred, broadcast, count, ensure, float};
use crate::DType;
use crate::graph::TensorType;
use crate::graph::op::{
    Activation, Conv, QLinearAdd, QLinearAveragePool, QLinearConv, QLinearInstanceNormalization, QLinearMul,
    QLinearSoftmax,
};
use crate::graph::types::shape_text;

/// Scale and zero point have to broadcast to the tensor they describe, which they do not enlarge.
fn describes(x: &TensorType, of: &TensorType) -> Result<(), Fail> {
    ensure(
        broadcast(x.sizes(), of.sizes()).as_deref() == Some(x.sizes()),
        || {
            let (a, b) = (shape_text(of.sizes()), shape_text(x.sizes()));
            format!("a scale or zero point of shape {a} does not fit {b}")
        },
    )
}

fn scale(ty: &TensorType) -> Result<(), Fail> {
    float(ty)?;
    ensure(ty.dtype != DType::F64, || "a scale must not be f64".to_owned())
}

pub(super) fn quantize(operands: &[&TensorType]) -> Inferred {
    let [x, s, z] = count(operands)?;
    ensure(
        matches!(x.dtype, DType::F32 | DType::F16 | DType::BF16 | DType::I32),
        || format!("elements of type {} cannot be quantised", x.dtype),
    )?;
    scale(s)?;
    ensure(z.dtype.is_int() && z.dtype.size() <= 2, || {
        format!("quantised elements of type {} are not supported", z.dtype)
    })?;
    describes(x, s)?;
    describes(x, z)?;
    Ok(TensorType::new(z.dtype, x.shape.clone()))
}

pub(super) fn dequantize(operands: &[&TensorType]) -> Inferred {
    let [x, s, z] = count(operands)?;
    let integer = x.dtype.is_int() && (x.dtype.size() <= 2 || x.dtype == DType::I32);
    ensure(integer, || {
        format!("elements of type {} cannot be dequantised", x.dtype)
    })?;
    ensure(z.dtype == x.dtype, || {
        format!(
            "a zero point of type {} for elements of type {}",
            z.dtype, x.dtype
        )
    })?;
    scale(s)?;
    describes(x, s)?;
    describes(x, z)?;
    Ok(TensorType::new(s.dtype, x.shape.clone()))
}

/// The convolution itself is shaped as one of floats.
pub(super) fn conv(op: &QLinearConv, operands: &[&TensorType]) -> Inferred {
    let [x, w, bias, multiplier] = count(operands)?;
    ensure(x.rank() == 4, || "needs two spatial dimensions".to_owned())?;
    let expect = |what: &str, ty: &TensorType, allowed: &[DType]| {
        ensure(allowed.contains(&ty.dtype), || {
            format!("{what} of type {} are not supported", ty.dtype)
        })
    };
    expect("inputs", x, &[DType::U8, DType::I8])?;
    expect("weights", w, &[DType::I8, DType::I16])?;
    expect("biases", bias, &[DType::I32])?;
    if op.shift == 0 {
        expect("multipliers", multiplier, &[DType::F32])?;
    } else {
        expect("multipliers", multiplier, &[DType::I32])?;
        shifts(op.shift)?;
    }
    zero_of(x, op.x_zero)?;
    result(op.to, op.y_zero, op.min, op.max)?;
    let float = |ty: &TensorType| TensorType::new(DType::F32, ty.shape.clone());
    let (x, w, bias) = (float(x), float(w), float(bias));
    let conv = Conv {
        strides: op.strides.clone(),
        pads: op.pads.clone(),
        dilations: op.dilations.clone(),
        group: op.group,
        bias: true,
        residual: false,
        act: Activation::None,
    };
    let result = super::product::conv(&conv, &[&x, &w, &bias])?;
    ensure(multiplier.sizes() == bias.sizes(), || {
        "one multiplier per filter is needed".to_owned()
    })?;
    Ok(TensorType::new(op.to, result.shape))
}

/// What a product with a multiplier may be shifted by.
fn shifts(by: usize) -> Result<(), Fail> {
    ensure((1..=62).contains(&by), || {
        format!("a shift of {by} is not within 1..=62")
    })
}

/// Integers of a type with 8 or 16 bits.
fn range(dtype: DType) -> Result<std::ops::RangeInclusive<i64>, Fail> {
    match dtype {
        DType::U8 => Ok(0..=255),
        DType::I8 => Ok(-128..=127),
        DType::I16 => Ok(-32768..=32767),
        other => Err(format!("elements of type {other} are not supported").into()),
    }
}

fn zero_of(x: &TensorType, zero: i64) -> Result<(), Fail> {
    ensure(range(x.dtype)?.contains(&zero), || {
        format!("the zero point {zero} is outside {}", x.dtype)
    })
}

/// Zero point and bounds of a result of 8 bits.
fn result(to: DType, zero: i64, min: i64, max: i64) -> Result<(), Fail> {
    ensure(matches!(to, DType::U8 | DType::I8), || {
        format!("results of type {to} are not supported")
    })?;
    let range = range(to)?;
    ensure(
        [zero, min, max].iter().all(|v| range.contains(v)) && min <= max,
        || "a zero point or bound is outside its type".to_owned(),
    )
}

pub(super) fn add(op: &QLinearAdd, operands: &[&TensorType]) -> Inferred {
    let given = (op.zeros.len(), op.multipliers.len());
    ensure(
        !operands.is_empty() && given == (operands.len(), operands.len()),
        || {
            format!(
                "{} operands have {} zero points and {} multipliers",
                operands.len(),
                given.0,
                given.1
            )
        },
    )?;
    for (x, &zero) in operands.iter().zip(&op.zeros) {
        zero_of(x, zero)?;
    }
    let limit = 1i64 << 31;
    ensure(op.multipliers.iter().all(|m| -limit < *m && *m < limit), || {
        "a multiplier has more than 31 bits".to_owned()
    })?;
    // The sum, its rounding included, has to fit 64 bits: each product takes at most 48.
    ensure(operands.len() <= 1 << 12, || "too many operands".to_owned())?;
    shifts(op.shift)?;
    result(op.to, op.y_zero, op.min, op.max)?;
    let mut shape = operands[0].sizes().to_vec();
    for x in &operands[1..] {
        shape = broadcast(&shape, x.sizes()).ok_or_else(|| Fail::from("operands do not broadcast"))?;
    }
    Ok(TensorType::new(op.to, shape))
}

pub(super) fn mul(op: &QLinearMul, operands: &[&TensorType]) -> Inferred {
    let [a, b] = count(operands)?;
    let [a_zero, b_zero] = op.zeros[..] else {
        return Err("needs two zero points".into());
    };
    zero_of(a, a_zero)?;
    zero_of(b, b_zero)?;
    // Two operands of 16 bits would need more than 64 for the product with the multiplier.
    ensure(a.dtype.size() + b.dtype.size() <= 3, || {
        "one operand must have 8 bits".to_owned()
    })?;
    positive(op.multiplier)?;
    shifts(op.shift)?;
    result(op.to, op.y_zero, op.min, op.max)?;
    let shape = broadcast(a.sizes(), b.sizes()).ok_or_else(|| Fail::from("operands do not broadcast"))?;
    Ok(TensorType::new(op.to, shape))
}

fn positive(multiplier: i64) -> Result<(), Fail> {
    ensure((1..1 << 31).contains(&multiplier), || {
        format!("the multiplier {multiplier} is not within 1..2^31")
    })
}

/// Shaped as the pooling of floats.
pub(super) fn average_pool(op: &QLinearAveragePool, operands: &[&TensorType]) -> Inferred {
    let [x] = count(operands)?;
    ensure(x.rank() == 4, || "needs two spatial dimensions".to_owned())?;
    byte(x)?;
    zero_of(x, op.x_zero)?;
    positive(op.multiplier)?;
    shifts(op.shift)?;
    result(op.to, op.y_zero, op.y_zero, op.y_zero)?;
    let float = TensorType::new(DType::F32, x.shape.clone());
    let pooled = super::window::average_pool(&op.window(), &[&float])?;
    // A sum of this many bytes fits 32 bits.
    let window = op.kernel.iter().try_fold(1usize, |n, &k| n.checked_mul(k));
    ensure(window.is_some_and(|n| n <= 1 << 23), || {
        "the window is too large".to_owned()
    })?;
    Ok(TensorType::new(op.to, pooled.shape))
}

fn byte(x: &TensorType) -> Result<(), Fail> {
    ensure(matches!(x.dtype, DType::U8 | DType::I8), || {
        format!("elements of type {} are not supported", x.dtype)
    })
}

pub(super) fn softmax(op: &QLinearSoftmax, operands: &[&TensorType]) -> Inferred {
    let [x, table] = count(operands)?;
    byte(x)?;
    ensure(table.dtype == DType::I32 && table.sizes() == [256], || {
        "a table has 256 elements of type i32".to_owned()
    })?;
    ensure(x.sizes().get(op.axis).is_some_and(|&n| n <= 1 << 23), || {
        format!("there is no dimension {}, or it is too large", op.axis)
    })?;
    Ok(TensorType::new(DType::I32, x.shape.clone()))
}

pub(super) fn instance(op: &QLinearInstanceNormalization, operands: &[&TensorType]) -> Inferred {
    let [x, multiplier, bias] = count(operands)?;
    ensure(x.rank() == 4, || "needs two spatial dimensions".to_owned())?;
    byte(x)?;
    let channels = [x.sizes()[1]];
    ensure(
        multiplier.dtype == DType::I32 && multiplier.sizes() == channels,
        || "one i32 multiplier per channel is needed".to_owned(),
    )?;
    ensure(bias.dtype == DType::I64 && bias.sizes() == channels, || {
        "one i64 bias per channel is needed".to_owned()
    })?;
    zero_of(x, op.x_zero)?;
    shifts(op.shift)?;
    result(op.to, op.y_zero, op.min, op.max)?;
    let elements = x.sizes()[2].checked_mul(x.sizes()[3]).filter(|&n| n <= 1 << 22);
    let Some(elements) = elements else {
        return Err("there are too many elements".into());
    };
    let limit = (elements as i64 * elements as i64).saturating_mul(1 << 16).max(2);
    ensure((1..limit).contains(&op.epsilon), || {
        format!("epsilon {} is not within 1..{limit}", op.epsilon)
    })?;
    Ok(TensorType::new(op.to, x.shape.clone()))
}

pub(super) fn lookup(operands: &[&TensorType]) -> Inferred {
    let [x, table] = count(operands)?;
    byte(x)?;
    byte(table)?;
    ensure(table.sizes() == [256], || "a table has 256 elements".to_owned())?;
    Ok(TensorType::new(table.dtype, x.shape.clone()))
}
