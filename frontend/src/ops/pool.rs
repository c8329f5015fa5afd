//! Pooling over windows and over whole images, and LRN, which is a pooling over channels.

use super::index::iota;
use super::window::{Padding, extent, geometry, spatial_rank};
use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::op::{AveragePool, Gather, MaxPool, Reduce, ReduceKind, Where};
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};
use sdc_ir::{DType, Tensor};

/// Window attributes of a pooling node, ready for the canonical operator.
struct Pool {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    /// Padding with the end padding that `ceil_mode` adds.
    pads: Vec<usize>,
    /// Padding the model asked for.
    own_pads: Vec<usize>,
}

fn pool(c: &NodeCtx, x: Value) -> Result<Pool, Fault> {
    let spatial = spatial_rank(c, x)?;
    let kernel = c
        .ints("kernel_shape")?
        .ok_or_else(|| c.bad_attr("kernel_shape", "is missing"))?;
    let kernel = c.sizes("kernel_shape", &kernel)?;
    if kernel.len() != spatial || kernel.contains(&0) {
        return Err(c.bad_attr(
            "kernel_shape",
            format!("{kernel:?} does not fit {spatial} spatial dimensions"),
        ));
    }
    let ceil = c.flag("ceil_mode", false)?;
    let auto = c.string("auto_pad", "NOTSET")?;
    let g = geometry(c, spatial)?;
    let input = &c.shape(x)[2..];
    let own_pads = g.pads(input, &kernel)?;
    let mut pads = own_pads.clone();
    if ceil && auto != "VALID" && matches!(g.padding, Padding::Explicit(_)) {
        for i in 0..spatial {
            pads[spatial + i] = ceil_end_pad(
                input[i],
                extent(kernel[i], g.dilations[i])?,
                g.strides[i],
                pads[i],
                pads[spatial + i],
            )
            .ok_or_else(|| c.bad_attr("pads", "make the result's size overflow"))?;
        }
    }
    Ok(Pool {
        kernel,
        strides: g.strides,
        dilations: g.dilations,
        pads,
        own_pads,
    })
}

/// End padding under which rounding down gives the size that rounding up asks for. A window that would start in the
/// end padding is left out (ONNX AveragePool-22).
fn ceil_end_pad(input: usize, extent: usize, stride: usize, begin: usize, end: usize) -> Option<usize> {
    let padded = input.checked_add(begin)?.checked_add(end)?;
    let Some(free) = padded.checked_sub(extent) else {
        // No window fits; inference says so.
        return Some(end);
    };
    let mut last_start = free.div_ceil(stride).checked_mul(stride)?;
    if last_start >= input + begin {
        last_start = last_start.saturating_sub(stride);
    }
    let needed = last_start.checked_add(extent)?.saturating_sub(input + begin);
    Some(end.max(needed))
}

/// MaxPool, with the places of the maxima where something reads them.
pub(super) fn max_pool(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    let x = c.input(0)?;
    // The order only concerns the indices.
    let column_major = c.flag("storage_order", false)?;
    let p = pool(c, x)?;
    if c.output_read(1) {
        return with_places(c, x, &p, column_major);
    }
    let op = MaxPool {
        kernel: p.kernel,
        strides: p.strides,
        pads: p.pads,
        dilations: p.dilations,
    };
    Ok(vec![c.emit(op, &[x])?])
}

/// Most elements of a window whose maximum's place is wanted.
const MAX_WINDOW: usize = 256;

/// Maxima and their places in the flattened input, by comparing the elements of the window one after the other.
fn with_places(c: &mut NodeCtx, x: Value, p: &Pool, column_major: bool) -> Result<Vec<Value>, Fault> {
    let shape = c.shape(x);
    let rank = p.kernel.len();
    let window = p.kernel.iter().try_fold(1usize, |n, &k| n.checked_mul(k));
    if window.is_none_or(|n| n > MAX_WINDOW) {
        let text =
            format!("places of maxima in windows of more than {MAX_WINDOW} elements are not supported");
        return Err(Fault::new(Code::Form, text));
    }
    let mut sizes = shape[..2].to_vec();
    for d in 0..rank {
        let padded = shape[2 + d]
            .saturating_add(p.pads[d])
            .saturating_add(p.pads[rank + d]);
        let room = padded.checked_sub(extent(p.kernel[d], p.dilations[d])?);
        let room = room.ok_or_else(|| Fault::new(Code::BadOperands, "no window fits the input"))?;
        sizes.push(room / p.strides[d] + 1);
    }
    // Of every element of the window the positions along every dimension are computed here.
    let limit = 16 * c.builder.limits.max_folded_elements;
    let positions = sizes[2..].iter().fold(0usize, |n, &s| n.saturating_add(s));
    if positions.saturating_mul(window.unwrap_or(0)) > limit {
        let text = format!("places of maxima need more than {limit} positions computed at compile time");
        return Err(Fault::new(Code::FoldLimit, text));
    }
    // The place of an element of the first image's first channel, along each dimension.
    let mut weights = vec![1usize; rank];
    let order: Vec<usize> = if column_major {
        (1..rank).collect()
    } else {
        (0..rank - 1).rev().collect()
    };
    for &d in &order {
        let before = if column_major { d - 1 } else { d + 1 };
        weights[d] = weights[before].saturating_mul(shape[2 + before]);
    }
    let area: usize = shape[2..].iter().product();
    let images = iota(c, shape[0], (0, (area * shape[1]) as i64), 0, rank + 2)?;
    let channels = iota(c, shape[1], (0, area as i64), 1, rank + 2)?;
    let first = c.binary(BinaryOp::Add, images, channels)?;
    // The largest element so far, its place, and whether there is one (left out where there is one everywhere).
    let mut best: Option<(Value, Value, Option<Value>)> = None;
    for element in 0..window.unwrap_or(0) {
        let mut rest = element;
        let mut offset = vec![0; rank];
        for d in (0..rank).rev() {
            offset[d] = rest % p.kernel[d] * p.dilations[d];
            rest /= p.kernel[d];
        }
        let (mut value, mut place, mut inside) = (x, first, None);
        for d in 0..rank {
            // Positions beyond the border are of the border, and do not count.
            let at: Vec<i64> = (0..sizes[2 + d])
                .map(|o| (o * p.strides[d] + offset[d]) as i64 - p.pads[d] as i64)
                .collect();
            let last = shape[2 + d] as i64 - 1;
            let clamped: Vec<i64> = at.iter().map(|&i| i.clamp(0, last)).collect();
            let line = |values: Vec<i64>| {
                let mut shape = vec![1; rank + 2];
                shape[2 + d] = values.len();
                Tensor::from_elements(shape, values).map_err(|e| Fault::new(Code::TooLarge, e.to_string()))
            };
            if at != clamped {
                let valid = at.iter().zip(&clamped).map(|(a, b)| i64::from(a == b)).collect();
                let valid = c.constant(line(valid)?)?;
                let valid = c.cast(valid, DType::Bool)?;
                inside = Some(match inside {
                    None => valid,
                    Some(other) => c.binary(BinaryOp::And, other, valid)?,
                });
            }
            let weighted = clamped.iter().map(|&i| i * weights[d] as i64).collect();
            let weighted = c.constant(line(weighted)?)?;
            place = c.binary(BinaryOp::Add, place, weighted)?;
            let positions = Tensor::from_elements(vec![clamped.len()], clamped);
            let positions = positions.map_err(|e| Fault::new(Code::TooLarge, e.to_string()))?;
            let positions = c.constant(positions)?;
            value = c.emit(Gather { axis: 2 + d }, &[value, positions])?;
        }
        // What lies in the padding never counts; any element does where none has yet.
        best = Some(match best {
            None => (value, c.expand(place, sizes.clone())?, inside),
            Some((value_before, place_before, seen)) => {
                let mut better = c.binary(BinaryOp::Greater, value, value_before)?;
                if let Some(seen) = seen {
                    let none = c.unary(UnaryOp::Not, seen)?;
                    better = c.binary(BinaryOp::Or, better, none)?;
                }
                if let Some(inside) = inside {
                    better = c.binary(BinaryOp::And, better, inside)?;
                }
                let seen = match (seen, inside) {
                    (Some(seen), Some(inside)) => Some(c.binary(BinaryOp::Or, seen, inside)?),
                    _ => None,
                };
                let place = c.expand(place, sizes.clone())?;
                (
                    c.emit(Where {}, &[better, value, value_before])?,
                    c.emit(Where {}, &[better, place, place_before])?,
                    seen,
                )
            }
        });
    }
    let (value, place, _) = best.ok_or_else(|| Fault::new(Code::BadOperands, "the window is empty"))?;
    Ok(vec![value, place])
}

pub(super) fn average_pool(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let include = c.flag("count_include_pad", false)?;
    let p = pool(c, x)?;
    let counted = if include {
        p.own_pads
    } else {
        vec![0; p.pads.len()]
    };
    let op = AveragePool {
        kernel: p.kernel,
        strides: p.strides,
        pads: p.pads,
        counted,
        dilations: p.dilations,
    };
    c.emit(op, &[x])
}

/// LpPool: the p-th root of the sum of p-th powers over windows.
pub(super) fn lp_pool(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let p = if c.opset < 2 {
        f64::from(c.float("p", 2.0)?)
    } else {
        c.int("p", 2)? as f64
    };
    let window = pool(c, x)?;
    let powers = power_of_magnitude(c, x, p)?;
    let elements = window.kernel.iter().fold(1.0, |n, &k| n * k as f64);
    // All padding counts, so every divisor is the window's size.
    let op = AveragePool {
        kernel: window.kernel,
        strides: window.strides,
        counted: window.pads.clone(),
        pads: window.pads,
        dilations: window.dilations,
    };
    let mean = c.emit(op, &[powers])?;
    let sum = c.with_scalar(BinaryOp::Mul, mean, elements)?;
    root(c, sum, p)
}

/// `|x|^p`.
pub(super) fn power_of_magnitude(c: &mut NodeCtx, x: Value, p: f64) -> Lowered {
    if p == 2.0 {
        return c.binary(BinaryOp::Mul, x, x);
    }
    let magnitude = c.unary(UnaryOp::Abs, x)?;
    match p == 1.0 {
        true => Ok(magnitude),
        false => c.with_scalar(BinaryOp::Pow, magnitude, p),
    }
}

/// The p-th root of what is not negative.
pub(super) fn root(c: &mut NodeCtx, x: Value, p: f64) -> Lowered {
    match p {
        1.0 => Ok(x),
        2.0 => c.unary(UnaryOp::Sqrt, x),
        _ => c.with_scalar(BinaryOp::Pow, x, 1.0 / p),
    }
}

/// GlobalLpPool.
pub(super) fn global_lp(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    spatial_rank(c, x)?;
    let p = c.int("p", 2)? as f64;
    let powers = power_of_magnitude(c, x, p)?;
    let op = Reduce {
        kind: ReduceKind::Sum,
        axes: (2..c.rank(x)).collect(),
        keepdims: true,
    };
    let sum = c.emit(op, &[powers])?;
    root(c, sum, p)
}

/// GlobalAveragePool, GlobalMaxPool: reductions over the spatial dimensions.
pub(super) fn global(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    spatial_rank(c, x)?;
    let kind = match c.op_type() {
        "GlobalMaxPool" => ReduceKind::Max,
        _ => ReduceKind::Mean,
    };
    let axes = (2..c.rank(x)).collect();
    let op = Reduce {
        kind,
        axes,
        keepdims: true,
    };
    c.emit(op, &[x])
}

/// LRN: `x / (bias + alpha/size * sum(x^2 over neighbouring channels))^beta`.
pub(super) fn lrn(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let size = c
        .opt_int("size")?
        .ok_or_else(|| c.bad_attr("size", "is missing"))?;
    let size = usize::try_from(size).ok().filter(|&s| s > 0);
    let size = size.ok_or_else(|| c.bad_attr("size", "is not positive"))?;
    let (alpha, beta, bias) = (
        c.float("alpha", 1e-4)?,
        c.float("beta", 0.75)?,
        c.float("bias", 1.0)?,
    );
    let shape = c.shape(x);
    if shape.len() < 2 {
        return Err(Fault::new(
            Code::BadOperands,
            "the input has no channel dimension",
        ));
    }
    let rest = shape[2..].iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let rest = rest.ok_or_else(|| Fault::new(Code::TooLarge, "the input is too large"))?;
    let square = c.binary(BinaryOp::Mul, x, x)?;
    let image = c.reshape(square, vec![shape[0], 1, shape[1], rest])?;
    // No more channels than there are, however far the neighbourhood reaches.
    let most = shape[1].saturating_sub(1);
    let (before, after) = (((size - 1) / 2).min(most), (size / 2).min(most));
    let window = before + 1 + after;
    // Padding counts, so every mean is the sum divided by the window's size, which is the `size` that the formula divides by as a rule.
    let alpha = f64::from(alpha) * (window as f64 / size as f64);
    let pads = vec![before, 0, after, 0];
    let op = AveragePool {
        kernel: vec![window, 1],
        strides: vec![1, 1],
        counted: pads.clone(),
        pads,
        dilations: vec![1, 1],
    };
    let mean = c.emit(op, &[image])?;
    let mean = c.reshape(mean, shape)?;
    let scaled = c.with_scalar(BinaryOp::Mul, mean, alpha)?;
    let base = c.with_scalar(BinaryOp::Add, scaled, f64::from(bias))?;
    let divisor = c.with_scalar(BinaryOp::Pow, base, f64::from(beta))?;
    c.binary(BinaryOp::Div, x, divisor)
}
