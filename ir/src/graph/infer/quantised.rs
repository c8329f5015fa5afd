//! Quantisation, dequantisation, and the integer operators between them.

use super::{Fail, Inferred, broadcast, count, ensure, float};
use crate::DType;
use crate::graph::TensorType;
use crate::graph::op::{Activation, Conv, QLinearConv};
use crate::graph::types::shape_text;

/// Scale and zero point have to broadcast to the tensor they describe, which they do not enlarge.
fn describes(x: &TensorType, of: &TensorType) -> Result<(), Fail> {
    ensure(
        broadcast(&x.shape, &of.shape).as_deref() == Some(&x.shape[..]),
        || {
            let (a, b) = (shape_text(&of.shape), shape_text(&x.shape));
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
    expect("multipliers", multiplier, &[DType::F32])?;
    let byte = |dtype| match dtype {
        DType::U8 => Ok(0..=255),
        DType::I8 => Ok(-128..=127),
        other => Err(Fail::from(format!("results of type {other} are not supported"))),
    };
    let (from, to) = (byte(x.dtype)?, byte(op.to)?);
    ensure(
        from.contains(&op.x_zero)
            && to.contains(&op.y_zero)
            && to.contains(&op.min)
            && to.contains(&op.max)
            && op.min <= op.max,
        || "a zero point or bound is outside its type".to_owned(),
    )?;
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
    ensure(multiplier.shape == bias.shape, || {
        "one multiplier per filter is needed".to_owned()
    })?;
    Ok(TensorType::new(op.to, result.shape))
}
