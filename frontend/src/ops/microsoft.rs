//! Domain `com.microsoft`: what ONNX Runtime's optimiser and quantiser put into models. The meaning is that of ONNX Runtime's
//! documentation of its contributed operators.

use super::activation::{gelu_of, swish_by};
use super::conv::conv_of;
use super::index::join;
use super::matmul::matmul_of;
use super::normalize::rms_of;
use super::qlinear::{dequantized, quantized};
use super::quant::along;
use super::reshape::unsqueezed;
use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::DType;
use sdc_ir::graph::op::{
    Clip, DequantizeLinear, HardSigmoid, LayerNormalization, LeakyRelu, QuantizeLinear, Softmax,
};
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadOperands, text)
}

/// The activation that a fused operator ends with; `parameters` are its alpha and beta, or its bounds.
fn activated(c: &mut NodeCtx, y: Value, parameters: &[f32]) -> Lowered {
    let parameter = |i: usize, default: f32| parameters.get(i).copied().unwrap_or(default);
    match c.string("activation", "")? {
        "" => Ok(y),
        "Relu" => c.unary(UnaryOp::Relu, y),
        "Tanh" => c.unary(UnaryOp::Tanh, y),
        "Sigmoid" => c.unary(UnaryOp::Sigmoid, y),
        "LeakyRelu" => c.emit(
            LeakyRelu {
                alpha: parameter(0, 0.01),
            },
            &[y],
        ),
        "Clip" => {
            let (min, max) = (parameter(0, f32::MIN), parameter(1, f32::MAX));
            c.emit(Clip { min, max }, &[y])
        }
        "HardSigmoid" => {
            let (alpha, beta) = (parameter(0, 0.2), parameter(1, 0.5));
            c.emit(HardSigmoid { alpha, beta }, &[y])
        }
        other => Err(c.unsupported_attr("activation", other)),
    }
}

/// FusedConv: `act(conv(x, w) + bias + z)`.
pub(super) fn fused_conv(c: &mut NodeCtx) -> Lowered {
    let parameters = c.floats("activation_params")?.unwrap_or_default();
    let (x, w, bias) = (c.input(0)?, c.input(1)?, c.opt_input(2));
    let mut y = conv_of(c, x, w, bias)?;
    if let Some(z) = c.opt_input(3) {
        y = c.binary(BinaryOp::Add, y, z)?;
    }
    activated(c, y, &parameters)
}

/// FusedGemm: a Gemm and an activation.
pub(super) fn fused_gemm(c: &mut NodeCtx) -> Lowered {
    let mut parameters = Vec::new();
    for name in ["activation_alpha", "activation_beta"] {
        // A later one without the earlier does not occur: each activation takes alpha, or alpha and beta.
        parameters.extend(c.opt_float(name)?);
    }
    c.ignore(&["activation_gamma"]);
    let y = super::matmul::gemm(c)?;
    activated(c, y, &parameters)
}

/// FusedMatMul and TransposeMatMul: a scaled product of matrices that may be transposed.
pub(super) fn fused_matmul(c: &mut NodeCtx) -> Lowered {
    let alpha = c.float("alpha", 1.0)?;
    if c.flag("transBatchA", false)? || c.flag("transBatchB", false)? {
        return Err(c.unsupported_attr("transBatchA or transBatchB", 1));
    }
    let side = |c: &mut NodeCtx, i: usize, name: &'static str| {
        let x = c.input(i)?;
        let rank = c.rank(x);
        if !c.flag(name, false)? || rank < 2 {
            return Ok(x);
        }
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(rank - 1, rank - 2);
        c.transpose(x, perm)
    };
    let (a, b) = (side(c, 0, "transA")?, side(c, 1, "transB")?);
    let y = matmul_of(c, a, b)?;
    match alpha == 1.0 {
        true => Ok(y),
        false => c.with_scalar(BinaryOp::Mul, y, alpha.into()),
    }
}

/// Gelu and BiasGelu, by the error function.
pub(super) fn gelu(c: &mut NodeCtx) -> Lowered {
    let x = biased(c)?;
    gelu_of(c, x, false)
}

/// FastGelu, by the hyperbolic tangent.
pub(super) fn fast_gelu(c: &mut NodeCtx) -> Lowered {
    let x = biased(c)?;
    gelu_of(c, x, true)
}

/// Operand 0 plus operand 1, if there is one.
fn biased(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    match c.opt_input(1) {
        Some(bias) => c.binary(BinaryOp::Add, x, bias),
        None => Ok(x),
    }
}

pub(super) fn quick_gelu(c: &mut NodeCtx) -> Lowered {
    let (x, alpha) = (c.input(0)?, c.float("alpha", 1.702)?);
    swish_by(c, x, alpha)
}

/// ExpandDims: Unsqueeze with the axis as an operand.
pub(super) fn expand_dims(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let axes = c.const_i64s(1, "axis")?;
    unsqueezed(c, x, &axes)
}

/// SkipLayerNormalization: operands input, skip, gamma, beta, bias.
pub(super) fn skip_layer(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    let epsilon = c.float("epsilon", 1e-12)?;
    let sum = skipped(c, 4)?;
    let axis = c
        .rank(sum)
        .checked_sub(1)
        .ok_or_else(|| bad("the input is a scalar"))?;
    let (gamma, beta) = (c.input(2)?, c.opt_input(3));
    let beta = match beta {
        Some(beta) => beta,
        None => c.scalar(c.dtype(sum), 0.0)?,
    };
    let y = c.emit(LayerNormalization { axis, epsilon }, &[sum, gamma, beta])?;
    let (mean, deviation) = match c.output_read(1) || c.output_read(2) {
        true => {
            let (mean, variance) = c.variance_over(sum, vec![axis])?;
            let shifted = c.with_scalar(BinaryOp::Add, variance, epsilon.into())?;
            let root = c.unary(UnaryOp::Sqrt, shifted)?;
            (mean, c.unary(UnaryOp::Reciprocal, root)?)
        }
        false => (sum, sum),
    };
    Ok(vec![y, mean, deviation, sum])
}

/// SkipSimplifiedLayerNormalization: operands input, skip, gamma, bias.
pub(super) fn skip_rms(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    let epsilon = c.float("epsilon", 1e-5)?;
    let sum = skipped(c, 3)?;
    let gamma = c.input(2)?;
    let y = rms_of(c, sum, gamma, -1, epsilon)?;
    if c.output_read(1) || c.output_read(2) {
        return Err(Fault::new(
            Code::Form,
            "the mean and the deviation are not supported as outputs",
        ));
    }
    Ok(vec![y, sum, sum, sum])
}

/// Operands 0 and 1 and the bias, added up.
fn skipped(c: &mut NodeCtx, bias: usize) -> Lowered {
    let (x, skip) = (c.input(0)?, c.input(1)?);
    let mut sum = c.binary(BinaryOp::Add, x, skip)?;
    if let Some(bias) = c.opt_input(bias) {
        sum = c.binary(BinaryOp::Add, sum, bias)?;
    }
    Ok(sum)
}

// Operators on quantised tensors.

/// QLinearAdd, QLinearMul: two quantised operands, each with scale and zero point, then those of the result.
pub(super) fn qlinear_binary(c: &mut NodeCtx) -> Lowered {
    let (a, b) = (dequantized(c, 0, 1)?, dequantized(c, 3, 1)?);
    let op = if c.op_type() == "QLinearAdd" {
        BinaryOp::Add
    } else {
        BinaryOp::Mul
    };
    let y = c.binary(op, a, b)?;
    result(c, y, 6)
}

/// As `quantized`; the zero point may be left out, and then is the zero of operand 0's type.
fn result(c: &mut NodeCtx, y: Value, i: usize) -> Lowered {
    if c.opt_input(i + 1).is_some() {
        return quantized(c, y, i);
    }
    let scale = c.input(i)?;
    let scale = c.cast(scale, DType::F32)?;
    let scale = along(c, scale, y, 1)?;
    let zero = c.scalar(c.dtype(c.input(0)?), 0.0)?;
    c.emit(QuantizeLinear {}, &[y, scale, zero])
}

/// QLinearSigmoid, QLinearLeakyRelu.
pub(super) fn qlinear_unary(c: &mut NodeCtx) -> Lowered {
    let x = dequantized(c, 0, 1)?;
    let y = match c.op_type() {
        "QLinearSigmoid" => c.unary(UnaryOp::Sigmoid, x)?,
        _ => {
            let alpha = c.float("alpha", 0.01)?;
            c.emit(LeakyRelu { alpha }, &[x])?
        }
    };
    result(c, y, 3)
}

pub(super) fn qlinear_softmax(c: &mut NodeCtx) -> Lowered {
    let x = dequantized(c, 0, 1)?;
    let rank = c.rank(x);
    let opset = c.opt_int("opset")?.unwrap_or(13);
    let axis = c.axis(c.int("axis", -1)?, rank)?;
    if opset < 13 && axis + 1 != rank {
        return Err(c.unsupported_attr("opset", opset));
    }
    let y = c.emit(Softmax { axis, log: false }, &[x])?;
    result(c, y, 3)
}

pub(super) fn qlinear_global_average(c: &mut NodeCtx) -> Lowered {
    let x = dequantized(c, 0, 1)?;
    let rank = c.rank(x);
    let axes = if c.flag("channels_last", false)? {
        (1..rank.saturating_sub(1)).collect()
    } else {
        (2..rank).collect()
    };
    let y = c.mean_over(x, axes)?;
    result(c, y, 3)
}

/// QLinearConcat: scale and zero point of the result, then those of each operand after it.
pub(super) fn qlinear_concat(c: &mut NodeCtx) -> Lowered {
    let count = c.all_inputs()?.len();
    if count < 5 || count % 3 != 2 {
        return Err(bad(format!("{count} operands are not two and three each")));
    }
    let parts = (2..count).step_by(3).map(|i| dequantized(c, i, 1));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let axis = c
        .opt_int("axis")?
        .ok_or_else(|| c.bad_attr("axis", "is missing"))?;
    let axis = c.axis(axis, c.rank(parts[0]))?;
    let y = join(c, &parts, axis)?;
    quantized(c, y, 0)
}

/// QGemm: operands a, scale, zero, b, scale, zero, c (i32), then scale and zero of the result, which is float without them.
pub(super) fn qgemm(c: &mut NodeCtx) -> Lowered {
    let alpha = c.float("alpha", 1.0)?;
    let (trans_a, trans_b) = (c.flag("transA", false)?, c.flag("transB", false)?);
    // The scales of b belong to the product's columns.
    let (a, b) = (
        dequantized(c, 0, 0)?,
        dequantized(c, 3, if trans_b { 0 } else { 1 })?,
    );
    let a = if trans_a { c.transpose(a, vec![1, 0])? } else { a };
    let b = if trans_b { c.transpose(b, vec![1, 0])? } else { b };
    let mut y = matmul_of(c, a, b)?;
    if let Some(addend) = c.opt_input(6) {
        let (sa, sb) = (c.input(1)?, c.input(4)?);
        let sa = c.reshape(sa, Vec::new())?;
        let scale = c.binary(BinaryOp::Mul, sa, sb)?;
        let addend = c.cast(addend, DType::F32)?;
        let addend = c.binary(BinaryOp::Mul, addend, scale)?;
        y = c.binary(BinaryOp::Add, y, addend)?;
    }
    if alpha != 1.0 {
        y = c.with_scalar(BinaryOp::Mul, y, alpha.into())?;
    }
    match c.opt_input(7) {
        Some(_) => result(c, y, 7),
        None => Ok(y),
    }
}

/// MatMulIntegerToFloat: operands a, b, their scales, their zero points, a bias.
pub(super) fn matmul_integer_to_float(c: &mut NodeCtx) -> Lowered {
    let a = centred(c, 0, 2, 4, -2)?;
    let b = centred(c, 1, 3, 5, -1)?;
    let y = matmul_of(c, a, b)?;
    match c.opt_input(6) {
        Some(bias) => c.binary(BinaryOp::Add, y, bias),
        None => Ok(y),
    }
}

/// DynamicQuantizeMatMul: operands a (float, quantised here), b, its scale and zero point, a bias.
pub(super) fn dynamic_quantize_matmul(c: &mut NodeCtx) -> Lowered {
    let (q, scale, zero) = match super::qlinear::dynamic(c)?[..] {
        [q, scale, zero] => (q, scale, zero),
        _ => return Err(bad("the input cannot be quantised")),
    };
    let a = c.emit(DequantizeLinear {}, &[q, scale, zero])?;
    let b = centred(c, 1, 2, 3, -1)?;
    let y = matmul_of(c, a, b)?;
    match c.opt_input(4) {
        Some(bias) => c.binary(BinaryOp::Add, y, bias),
        None => Ok(y),
    }
}

/// `(x - zero) * scale` of operands anywhere; a list of scales belongs to dimension `axis`.
fn centred(c: &mut NodeCtx, x: usize, scale: usize, zero: usize, axis: i64) -> Lowered {
    let (x, scale) = (c.input(x)?, c.input(scale)?);
    let zero = match c.opt_input(zero) {
        Some(zero) => zero,
        None => c.scalar(c.dtype(x), 0.0)?,
    };
    let (scale, zero) = (along(c, scale, x, axis)?, along(c, zero, x, axis)?);
    c.emit(DequantizeLinear {}, &[x, scale, zero])
}

/// MatMulNBits: `a @ dequantised(b)'`, b as blocks of packed codes along K: `[N, blocks, bytes]`; scales `[N * blocks]`, zero points
/// packed alike or in the scales' type; a bias. The lowest bits come first.
pub(super) fn matmul_n_bits(c: &mut NodeCtx) -> Lowered {
    let size = |c: &NodeCtx, name: &'static str| {
        let n = c
            .opt_int(name)?
            .and_then(|n| usize::try_from(n).ok())
            .filter(|&n| n > 0);
        n.ok_or_else(|| c.bad_attr(name, "is missing or not positive"))
    };
    let (k, n, block) = (size(c, "K")?, size(c, "N")?, size(c, "block_size")?);
    let bits = c.int("bits", 4)?;
    c.ignore(&["accuracy_level"]);
    let per_byte = match bits {
        2 | 4 | 8 => 8 / bits as usize,
        _ => return Err(c.unsupported_attr("bits", bits)),
    };
    if c.opt_input(4).is_some() {
        return Err(Fault::new(
            Code::Form,
            "group indices (operand 4) are not supported",
        ));
    }
    let (a, packed, scales) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let blocks = k.div_ceil(block);
    let bytes = block.div_ceil(per_byte);
    let elements = |c: &NodeCtx, v: Value| c.ty(v).elements();
    if c.dtype(packed) != DType::U8
        || elements(c, packed) != n.checked_mul(blocks).and_then(|x| x.checked_mul(bytes))
        || elements(c, scales) != n.checked_mul(blocks)
        || block % per_byte != 0
    {
        let text = format!("operands do not fit K = {k}, N = {n}, {bits} bits in blocks of {block}");
        return Err(bad(text));
    }
    let packed = c.reshape(packed, vec![n, blocks, bytes])?;
    let codes = unpacked(c, packed, bits as u32)?;
    let scales = c.reshape(scales, vec![n, blocks, 1])?;
    let scales = c.cast(scales, DType::F32)?;
    let zero = match c.opt_input(3) {
        None => c.scalar(DType::F32, f64::from(1u32 << (bits - 1)))?,
        Some(zero) if c.dtype(zero) == DType::U8 => {
            let row = blocks.div_ceil(per_byte);
            let zero = c.reshape(zero, vec![n, 1, row])?;
            let zero = unpacked(c, zero, bits as u32)?;
            let zero = c.narrow(zero, 2, 0, blocks)?;
            let zero = c.reshape(zero, vec![n, blocks, 1])?;
            c.cast(zero, DType::F32)?
        }
        Some(zero) => {
            let zero = c.reshape(zero, vec![n, blocks, 1])?;
            c.cast(zero, DType::F32)?
        }
    };
    let codes = c.cast(codes, DType::F32)?;
    let codes = c.binary(BinaryOp::Sub, codes, zero)?;
    let b = c.binary(BinaryOp::Mul, codes, scales)?;
    let b = c.reshape(b, vec![n, blocks * block])?;
    let b = c.narrow(b, 1, 0, k)?;
    let b = c.transpose(b, vec![1, 0])?;
    let dtype = c.dtype(a);
    let a = c.cast(a, DType::F32)?;
    let mut y = matmul_of(c, a, b)?;
    if let Some(bias) = c.opt_input(5) {
        let bias = c.cast(bias, DType::F32)?;
        y = c.binary(BinaryOp::Add, y, bias)?;
    }
    c.cast(y, dtype)
}

/// `[.., bytes]` as `[.., bytes * codes per byte]`, the lowest bits first.
fn unpacked(c: &mut NodeCtx, packed: Value, bits: u32) -> Lowered {
    let mut shape = c.shape(packed);
    let each = 8 / bits;
    if each == 1 {
        return Ok(packed);
    }
    shape.push(1);
    let lifted = c.reshape(packed, shape.clone())?;
    let parts = (0..each).map(|i| {
        let moved = c.with_scalar(BinaryOp::ShiftRight, lifted, f64::from(i * bits))?;
        c.with_scalar(BinaryOp::BitwiseAnd, moved, f64::from((1u32 << bits) - 1))
    });
    let parts = parts.collect::<Result<Vec<_>, Fault>>()?;
    let joined = join(c, &parts, shape.len() - 1)?;
    shape.pop();
    if let Some(last) = shape.last_mut() {
        *last *= each as usize;
    }
    c.reshape(joined, shape)
}
