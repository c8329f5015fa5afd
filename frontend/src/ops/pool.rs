//! Pooling over windows and over whole images, and LRN, which is a pooling over channels.

use super::window::{Padding, drop_lift, extent, geometry, lift, lift_list, spatial_rank};
use crate::ctx::{Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::op::{AveragePool, MaxPool, Reduce, ReduceKind};
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};

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

pub(super) fn max_pool(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    // The order only concerns the indices.
    let column_major = c.flag("storage_order", false)?;
    if column_major && c.output_read(1) {
        return Err(c.unsupported_attr("storage_order", 1));
    }
    let p = pool(c, x)?;
    let op = MaxPool {
        kernel: p.kernel,
        strides: p.strides,
        pads: p.pads,
        dilations: p.dilations,
    };
    if c.rank(x) > 4 {
        return by_dimension(c, x, |c, x, part| {
            let op = MaxPool {
                kernel: part.of(&op.kernel, 1),
                strides: part.of(&op.strides, 1),
                pads: part.ends(&op.pads),
                dilations: part.of(&op.dilations, 1),
            };
            c.emit(op, &[x])
        });
    }
    if c.rank(x) > 3 {
        return c.emit(op, &[x]);
    }
    let op = MaxPool {
        kernel: lift_list(&op.kernel, 1),
        strides: lift_list(&op.strides, 1),
        pads: lift_list(&op.pads, 0),
        dilations: lift_list(&op.dilations, 1),
    };
    let lifted = lift(c, x)?;
    let y = c.emit(op, &[lifted])?;
    drop_lift(c, y)
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
    averages(c, x, op)
}

/// Means over windows in any number of spatial dimensions.
fn averages(c: &mut NodeCtx, x: Value, op: AveragePool) -> Lowered {
    if c.rank(x) > 4 {
        return by_dimension(c, x, |c, x, part| {
            let op = AveragePool {
                kernel: part.of(&op.kernel, 1),
                strides: part.of(&op.strides, 1),
                pads: part.ends(&op.pads),
                counted: part.ends(&op.counted),
                dilations: part.of(&op.dilations, 1),
            };
            c.emit(op, &[x])
        });
    }
    if c.rank(x) > 3 {
        return c.emit(op, &[x]);
    }
    let op = AveragePool {
        kernel: lift_list(&op.kernel, 1),
        strides: lift_list(&op.strides, 1),
        pads: lift_list(&op.pads, 0),
        counted: lift_list(&op.counted, 0),
        dilations: lift_list(&op.dilations, 1),
    };
    let lifted = lift(c, x)?;
    let y = c.emit(op, &[lifted])?;
    drop_lift(c, y)
}

/// The spatial dimensions that one of several poolings in turn is for.
struct Part {
    dims: std::ops::Range<usize>,
}

impl Part {
    /// Two-dimensional window attributes: those of this part.
    fn of(&self, list: &[usize], neutral: usize) -> Vec<usize> {
        let mut own = list[self.dims.clone()].to_vec();
        own.resize(2, neutral);
        own
    }
    /// The same for begins and ends.
    fn ends(&self, list: &[usize]) -> Vec<usize> {
        let (begins, ends) = list.split_at(list.len() / 2);
        [self.of(begins, 0), self.of(ends, 0)].concat()
    }
}

/// Pooling over three or more spatial dimensions as poolings over one or two each: windows are boxes, so extrema of extrema are
/// extrema of the whole, and, as each part's divisor depends on its own dimensions only, means of means are means.
fn by_dimension(
    c: &mut NodeCtx,
    x: Value,
    mut pool: impl FnMut(&mut NodeCtx, Value, &Part) -> Lowered,
) -> Lowered {
    let mut shape = c.shape(x);
    let spatial = shape.len() - 2;
    let mut x = x;
    let mut end = spatial;
    while end > 0 {
        // The last two, then one at a time: of these the later dimensions, done already, are the columns.
        let dims = if end == spatial {
            end - 2..end
        } else {
            end - 1..end
        };
        let (before, after) = shape.split_at(2 + dims.start);
        let size = |dims: &[usize]| dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let too_large = || Fault::new(Code::TooLarge, "the input is too large");
        let rows = size(before).ok_or_else(too_large)?;
        let columns = size(&after[1..]).ok_or_else(too_large)?;
        let image = c.reshape(x, vec![rows, 1, after[0], columns])?;
        let part = Part { dims: dims.clone() };
        let y = pool(c, image, &part)?;
        let got = c.shape(y);
        shape[2 + dims.start] = got[2];
        if dims.len() == 2 {
            shape[2 + dims.start + 1] = got[3];
        }
        x = c.reshape(y, shape.clone())?;
        end = dims.start;
    }
    Ok(x)
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
    let mean = averages(c, powers, op)?;
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
    // Padding counts, so every mean is the sum divided by `size`, which the formula divides by anyway.
    let pads = vec![(size - 1) / 2, 0, size / 2, 0];
    let op = AveragePool {
        kernel: vec![size, 1],
        strides: vec![1, 1],
        counted: pads.clone(),
        pads,
        dilations: vec![1, 1],
    };
    let mean = c.emit(op, &[image])?;
    let mean = c.reshape(mean, shape)?;
    let scaled = c.with_scalar(BinaryOp::Mul, mean, f64::from(alpha))?;
    let base = c.with_scalar(BinaryOp::Add, scaled, f64::from(bias))?;
    let divisor = c.with_scalar(BinaryOp::Pow, base, f64::from(beta))?;
    c.binary(BinaryOp::Div, x, divisor)
}
