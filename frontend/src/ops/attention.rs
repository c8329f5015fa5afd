//! Attention and the operators that came with it, as compositions. Half types compute in `f32` throughout.

use super::index::{iota, join, repeat};
use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::DType;
use sdc_ir::graph::op::{Activation, Conv, MatMul, Pad, PadMode, Reduce, ReduceKind, Softmax, Where};
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};

const PRODUCT: MatMul = MatMul {
    bias: false,
    residual: false,
    act: Activation::None,
};

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadOperands, text)
}

/// Element type to compute in.
fn computing(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

fn heads(c: &NodeCtx, name: &'static str) -> Result<Option<usize>, Fault> {
    match c.opt_int(name)? {
        None => Ok(None),
        Some(n) => usize::try_from(n)
            .ok()
            .filter(|&n| n > 0)
            .map(Some)
            .ok_or_else(|| c.bad_attr(name, format!("is {n}"))),
    }
}

/// `[B,S,heads*D]` as `[B,heads,S,D]`.
fn split_heads(c: &mut NodeCtx, x: Value, heads: Option<usize>) -> Lowered {
    let &[batch, length, width] = &c.shape(x)[..] else {
        return Err(bad("queries, keys and values need one rank, 3 or 4"));
    };
    let heads = heads.ok_or_else(|| bad("operands of rank 3 need the number of heads"))?;
    if !width.is_multiple_of(heads) {
        return Err(bad(format!("{heads} heads do not divide {width}")));
    }
    let x = c.reshape(x, vec![batch, length, heads, width / heads])?;
    c.transpose(x, vec![0, 2, 1, 3])
}

/// `[B,heads,S,D]` as `[B,S,heads*D]`.
fn merge_heads(c: &mut NodeCtx, x: Value) -> Lowered {
    let x = c.transpose(x, vec![0, 2, 1, 3])?;
    let shape = c.shape(x);
    c.reshape(x, vec![shape[0], shape[1], shape[2] * shape[3]])
}

/// 0 where allowed, minus infinity elsewhere.
fn bias_of(c: &mut NodeCtx, allowed: Value, dtype: DType) -> Lowered {
    let (zero, never) = (c.scalar(dtype, 0.0)?, c.scalar(dtype, f64::NEG_INFINITY)?);
    c.emit(Where {}, &[allowed, zero, never])
}

/// Sum of two optional biases.
fn plus(c: &mut NodeCtx, a: Option<Value>, b: Value) -> Result<Option<Value>, Fault> {
    match a {
        None => Ok(Some(b)),
        Some(a) => c.binary(BinaryOp::Add, a, b).map(Some),
    }
}

/// Attention (opsets 23 to 25): outputs Y, the present keys and values, and the scores at the stage asked for.
pub(super) fn attention(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    c.ignore(&["softmax_precision"]);
    let causal = c.flag("is_causal", false)?;
    let (q_heads, kv_heads) = (heads(c, "q_num_heads")?, heads(c, "kv_num_heads")?);
    let scale = c.opt_float("scale")?;
    let softcap = c.float("softcap", 0.0)?;
    let stage = c.int("qk_matmul_output_mode", 0)?;
    let window = [c.int("left_window_size", -1)?, c.int("right_window_size", -1)?];
    let [q, k, v] = [c.input(0)?, c.input(1)?, c.input(2)?];
    let dtype = c.dtype(q);
    let flat = c.rank(q) == 3;
    let (q, k, v) = if flat {
        let (q, k) = (split_heads(c, q, q_heads)?, split_heads(c, k, kv_heads)?);
        (q, k, split_heads(c, v, kv_heads)?)
    } else {
        (q, k, v)
    };
    if [q, k, v].iter().any(|&x| c.rank(x) != 4) {
        return Err(bad("queries, keys and values need one rank, 3 or 4"));
    }
    let past = match (c.opt_input(4), c.opt_input(5)) {
        (Some(key), Some(value)) => Some((key, value)),
        (None, None) => None,
        _ => return Err(bad("past keys and values come together")),
    };
    let (present_key, present_value, offset) = match past {
        Some((key, value)) => {
            let before = c.shape(key).get(2).copied().unwrap_or(0);
            (join(c, &[key, k], 2)?, join(c, &[value, v], 2)?, before)
        }
        None => (k, v, 0),
    };
    let computing = computing(dtype);
    let (q, k) = (c.cast(q, computing)?, c.cast(present_key, computing)?);
    let v = c.cast(present_value, computing)?;
    let (q_shape, k_shape) = (c.shape(q), c.shape(k));
    let (queries, keys) = (q_shape[2], k_shape[2]);
    if k_shape[1] == 0 || !q_shape[1].is_multiple_of(k_shape[1]) || c.shape(v)[1] != k_shape[1] {
        return Err(bad(format!(
            "{} query heads share {} key heads",
            q_shape[1], k_shape[1]
        )));
    }

    // The additive bias: mask, causal frontier, window, padding.
    let lengths = c.opt_input(6);
    let mut bias = match c.opt_input(3) {
        Some(mask) => Some(padded_mask(c, mask, keys, computing)?),
        None => None,
    };
    let frontier = match (lengths, past) {
        (Some(lengths), None) => {
            let lengths = c.cast(lengths, DType::I64)?;
            let lengths = c.reshape(lengths, vec![q_shape[0], 1, 1, 1])?;
            c.with_scalar(BinaryOp::Sub, lengths, queries as f64)?
        }
        _ => c.scalar(DType::I64, offset as f64)?,
    };
    // Position of each query among the keys.
    let rows = iota(c, queries, (0, 1), 0, 2)?;
    let rows = c.binary(BinaryOp::Add, rows, frontier)?;
    let columns = iota(c, keys, (0, 1), 1, 2)?;
    let right = if causal { Some(0) } else { None };
    for (bound, op, sign) in [
        (right, BinaryOp::LessOrEqual, 1.0),
        (Some(window[1]).filter(|&n| n >= 0), BinaryOp::LessOrEqual, 1.0),
        (
            Some(window[0]).filter(|&n| n >= 0),
            BinaryOp::GreaterOrEqual,
            -1.0,
        ),
    ] {
        let Some(bound) = bound else { continue };
        let limit = c.with_scalar(BinaryOp::Add, rows, sign * bound as f64)?;
        let allowed = c.binary(op, columns, limit)?;
        let part = bias_of(c, allowed, computing)?;
        bias = plus(c, bias, part)?;
    }
    if let Some(lengths) = lengths {
        let lengths = c.cast(lengths, DType::I64)?;
        let lengths = c.reshape(lengths, vec![q_shape[0], 1, 1, 1])?;
        let allowed = c.binary(BinaryOp::Less, columns, lengths)?;
        let part = bias_of(c, allowed, computing)?;
        bias = plus(c, bias, part)?;
    }

    // Scores.
    let times = q_shape[1] / k_shape[1];
    let (k, v) = if times > 1 {
        (repeat(c, k, 1, times)?, repeat(c, v, 1, times)?)
    } else {
        (k, v)
    };
    let scale = scale.map_or_else(|| 1.0 / (q_shape[3] as f64).sqrt(), f64::from);
    if scale < 0.0 {
        return Err(c.unsupported_attr("scale", scale));
    }
    let (q, k) = if dtype == computing {
        (
            c.with_scalar(BinaryOp::Mul, q, scale.sqrt())?,
            c.with_scalar(BinaryOp::Mul, k, scale.sqrt())?,
        )
    } else {
        (c.with_scalar(BinaryOp::Mul, q, scale)?, k)
    };
    let transposed = c.transpose(k, vec![0, 1, 3, 2])?;
    let raw = c.emit(PRODUCT, &[q, transposed])?;
    let capped = if softcap > 0.0 {
        let y = c.with_scalar(BinaryOp::Div, raw, f64::from(softcap))?;
        let y = c.unary(UnaryOp::Tanh, y)?;
        c.with_scalar(BinaryOp::Mul, y, f64::from(softcap))?
    } else {
        raw
    };
    let biased = match bias {
        Some(bias) => c.binary(BinaryOp::Add, capped, bias)?,
        None => capped,
    };
    if c.shape(biased) != c.shape(raw) {
        return Err(bad("the mask does not broadcast to the scores"));
    }
    let mut weights = c.emit(Softmax { axis: 3, log: false }, &[biased])?;
    if let Some(bias) = bias {
        weights = without_masked_rows(c, weights, bias)?;
    }
    let mut y = c.emit(PRODUCT, &[weights, v])?;
    if flat {
        y = merge_heads(c, y)?;
    }
    let shown = match stage {
        0 => raw,
        1 => capped,
        2 => biased,
        3 => weights,
        other => return Err(c.bad_attr("qk_matmul_output_mode", format!("is {other}"))),
    };
    Ok(vec![
        c.cast(y, dtype)?,
        present_key,
        present_value,
        c.cast(shown, dtype)?,
    ])
}

/// An attention mask as a bias that covers all keys: what it leaves out is masked.
fn padded_mask(c: &mut NodeCtx, mask: Value, keys: usize, dtype: DType) -> Lowered {
    let mask = if c.dtype(mask) == DType::Bool {
        bias_of(c, mask, dtype)?
    } else {
        c.cast(mask, dtype)?
    };
    let shape = c.shape(mask);
    let Some(&last) = shape.last() else {
        return Err(bad("the mask is a scalar"));
    };
    if last >= keys {
        return Ok(mask);
    }
    let mut after = vec![0; shape.len()];
    after[shape.len() - 1] = keys - last;
    let op = Pad {
        mode: PadMode::Constant,
        before: vec![0; shape.len()],
        after,
        value: f32::NEG_INFINITY,
    };
    c.emit(op, &[mask])
}

/// Zero weights for queries that may see no key: their softmax is no number.
fn without_masked_rows(c: &mut NodeCtx, weights: Value, bias: Value) -> Lowered {
    let last = c.rank(bias) - 1;
    let largest = Reduce {
        kind: ReduceKind::Max,
        axes: vec![last],
        keepdims: true,
    };
    let dtype = c.dtype(bias);
    let best = c.emit(largest, &[bias])?;
    let blind = c.with_scalar(BinaryOp::Equal, best, f64::NEG_INFINITY)?;
    let zero = c.scalar(dtype, 0.0)?;
    c.emit(Where {}, &[blind, zero, weights])
}

/// RotaryEmbedding (opset 23).
pub(super) fn rotary(c: &mut NodeCtx) -> Lowered {
    use sdc_ir::graph::op::{Gather, Slice};
    let (x, cos, sin) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let interleaved = c.flag("interleaved", false)?;
    let count = c.int("num_heads", 0)?;
    let part = c.int("rotary_embedding_dim", 0)?;
    let shape = c.shape(x);
    // As [B,S,heads,D].
    let seen = match shape.len() {
        4 => c.transpose(x, vec![0, 2, 1, 3])?,
        3 => {
            let heads = usize::try_from(count)
                .ok()
                .filter(|&h| h > 0 && shape[2].is_multiple_of(h));
            let heads = heads.ok_or_else(|| c.bad_attr("num_heads", format!("is {count}")))?;
            c.reshape(x, vec![shape[0], shape[1], heads, shape[2] / heads])?
        }
        rank => return Err(bad(format!("the input has rank {rank}"))),
    };
    let &[batch, length, _, width] = &c.shape(seen)[..] else {
        return Err(bad("the input needs rank 4"));
    };
    let part = if part == 0 {
        width
    } else {
        usize::try_from(part).unwrap_or(usize::MAX)
    };
    if part > width || !part.is_multiple_of(2) || part == 0 {
        return Err(c.bad_attr("rotary_embedding_dim", format!("is {part} of {width}")));
    }
    let half = part / 2;
    let angle = |c: &mut NodeCtx, cache: Value| {
        let rows = match c.opt_input(3) {
            Some(positions) => c.emit(Gather { axis: 0 }, &[cache, positions])?,
            None => cache,
        };
        c.reshape(rows, vec![batch, length, 1, half])
    };
    let (cos, sin) = (angle(c, cos)?, angle(c, sin)?);
    let rotated = c.narrow(seen, 3, 0, part)?;
    let pick = |c: &mut NodeCtx, k: usize| {
        let mut sizes = c.shape(rotated);
        sizes[3] = half;
        let op = Slice {
            starts: vec![0, 0, 0, if interleaved { k } else { k * half }],
            sizes,
            steps: vec![1, 1, 1, if interleaved { 2 } else { 1 }],
        };
        c.emit(op, &[rotated])
    };
    let (a, b) = (pick(c, 0)?, pick(c, 1)?);
    let (ca, sb) = (c.binary(BinaryOp::Mul, cos, a)?, c.binary(BinaryOp::Mul, sin, b)?);
    let (sa, cb) = (c.binary(BinaryOp::Mul, sin, a)?, c.binary(BinaryOp::Mul, cos, b)?);
    let (real, imaginary) = (c.binary(BinaryOp::Sub, ca, sb)?, c.binary(BinaryOp::Add, sa, cb)?);
    let turned = if interleaved {
        let mut split = c.shape(real);
        split.push(1);
        let (real, imaginary) = (c.reshape(real, split.clone())?, c.reshape(imaginary, split)?);
        let pairs = join(c, &[real, imaginary], 4)?;
        let whole = c.shape(rotated);
        c.reshape(pairs, whole)?
    } else {
        join(c, &[real, imaginary], 3)?
    };
    let all = if part < width {
        let rest = c.narrow(seen, 3, part, width)?;
        join(c, &[turned, rest], 3)?
    } else {
        turned
    };
    if shape.len() == 3 {
        c.reshape(all, shape)
    } else {
        c.transpose(all, vec![0, 2, 1, 3])
    }
}

/// CausalConvWithState: a depthwise convolution over the past state followed by the input.
pub(super) fn causal_conv(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    let (x, w) = (c.input(0)?, c.input(1)?);
    let act = c.string("activation", "none")?;
    let dtype = c.dtype(x);
    let (&[batch, channels, length], &[filters, 1, kernel]) = (&c.shape(x)[..], &c.shape(w)[..]) else {
        return Err(bad("the input and the filters need rank 3"));
    };
    if filters != channels || kernel == 0 {
        return Err(bad(format!("{filters} filters for {channels} channels")));
    }
    let past = match c.opt_input(3) {
        Some(past) => past,
        None => {
            let zero = c.scalar(dtype, 0.0)?;
            c.expand(zero, vec![batch, channels, kernel - 1])?
        }
    };
    let all = if kernel > 1 { join(c, &[past, x], 2)? } else { x };
    let present = c.narrow(all, 2, length, length + kernel - 1)?;
    let computing = computing(dtype);
    // In two dimensions, which is what kernels know.
    let wide = c.cast(all, computing)?;
    let wide = c.reshape(wide, vec![batch, channels, 1, length + kernel - 1])?;
    let w = c.cast(w, computing)?;
    let mut operands = vec![wide, c.reshape(w, vec![channels, 1, 1, kernel])?];
    let bias = c.opt_input(2);
    if let Some(bias) = bias {
        operands.push(c.cast(bias, computing)?);
    }
    let op = Conv {
        strides: vec![1, 1],
        pads: vec![0; 4],
        dilations: vec![1, 1],
        group: channels,
        bias: bias.is_some(),
        residual: false,
        act: Activation::None,
    };
    let y = c.emit(op, &operands)?;
    let mut y = c.reshape(y, vec![batch, channels, length])?;
    match act {
        "none" => {}
        "silu" | "swish" => {
            let gate = c.unary(UnaryOp::Sigmoid, y)?;
            y = c.binary(BinaryOp::Mul, y, gate)?;
        }
        other => return Err(c.bad_attr("activation", format!("is `{other}`"))),
    }
    Ok(vec![c.cast(y, dtype)?, present])
}

/// Most steps of a [`linear_attention`] that are written out one after the other.
const MAX_STEPS: usize = 64;

/// LinearAttention: the recurrence, step by step.
pub(super) fn linear_attention(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    c.ignore(&["chunk_size"]);
    let rule = c.string("update_rule", "gated_delta")?;
    let (gated, delta) = match rule {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(c.bad_attr("update_rule", format!("is `{other}`"))),
    };
    let (q_heads, kv_heads) = (heads(c, "q_num_heads")?, heads(c, "kv_num_heads")?);
    let scale = c.float("scale", 0.0)?;
    let [q, k, v] = [c.input(0)?, c.input(1)?, c.input(2)?];
    let dtype = c.dtype(q);
    let prepared = |c: &mut NodeCtx, x: Value, heads| {
        let x = c.cast(x, DType::F32)?;
        split_heads(c, x, heads)
    };
    let (q, k) = (prepared(c, q, q_heads)?, prepared(c, k, kv_heads)?);
    let v = prepared(c, v, kv_heads)?;
    let (q_shape, k_shape) = (c.shape(q), c.shape(k));
    let (batch, steps, dk, dv) = (q_shape[0], q_shape[2], k_shape[3], c.shape(v)[3]);
    let (many, few) = (q_shape[1], k_shape[1]);
    if steps > MAX_STEPS {
        let text = format!("{steps} steps; at most {MAX_STEPS} are supported");
        return Err(Fault::new(Code::Form, text));
    }
    if !many.is_multiple_of(few) {
        return Err(bad(format!("{many} query heads share {few} key heads")));
    }
    // Per head, or per head and key element.
    let decay = match (gated, c.opt_input(4)) {
        (true, Some(x)) => {
            let x = prepared(c, x, kv_heads)?;
            Some(c.unary(UnaryOp::Exp, x)?)
        }
        (false, None) => None,
        _ => {
            return Err(bad(format!(
                "the decay operand and the rule `{rule}` do not go together"
            )));
        }
    };
    let beta = match (delta, c.opt_input(5)) {
        (true, Some(x)) => {
            let per_head = c.shape(x).get(2) == Some(&few);
            Some(prepared(c, x, if per_head { kv_heads } else { Some(1) })?)
        }
        (false, None) => None,
        _ => {
            return Err(bad(format!(
                "the beta operand and the rule `{rule}` do not go together"
            )));
        }
    };
    let (mut state, state_dtype) = match c.opt_input(3) {
        Some(s) => (c.cast(s, DType::F32)?, c.dtype(s)),
        None => {
            let zero = c.scalar(DType::F32, 0.0)?;
            (c.expand(zero, vec![batch, few, dk, dv])?, dtype)
        }
    };
    let scale = if scale == 0.0 {
        1.0 / (dk as f64).sqrt()
    } else {
        f64::from(scale)
    };
    let q = c.with_scalar(BinaryOp::Mul, q, scale)?;
    let mut outputs = Vec::new();
    for t in 0..steps {
        // Rows [B,H,1,D] and columns [B,H,D,1].
        let at = |c: &mut NodeCtx, x: Value| c.narrow(x, 2, t, t + 1);
        let (q, k, mut v) = (at(c, q)?, at(c, k)?, at(c, v)?);
        if let Some(decay) = decay {
            let d = at(c, decay)?;
            let d = c.transpose(d, vec![0, 1, 3, 2])?;
            state = c.binary(BinaryOp::Mul, state, d)?;
        }
        if let Some(beta) = beta {
            let retrieved = c.emit(PRODUCT, &[k, state])?;
            let rest = c.binary(BinaryOp::Sub, v, retrieved)?;
            let b = at(c, beta)?;
            v = c.binary(BinaryOp::Mul, b, rest)?;
        }
        let column = c.transpose(k, vec![0, 1, 3, 2])?;
        let outer = c.binary(BinaryOp::Mul, column, v)?;
        state = c.binary(BinaryOp::Add, state, outer)?;
        let seen = if many > few {
            repeat(c, state, 1, many / few)?
        } else {
            state
        };
        outputs.push(c.emit(PRODUCT, &[q, seen])?);
    }
    let y = join(c, &outputs, 2)?;
    let y = merge_heads(c, y)?;
    Ok(vec![c.cast(y, dtype)?, c.cast(state, state_dtype)?])
}
