//! Operators that sample an image at computed places, or put windows back into one: DeformConv, RoiAlign, Col2Im, MaxUnpool.

use super::index::iota;
use super::matmul::matmul_of;
use super::window::{extent, geometry};
use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::op::{Gather, Pad, PadMode, Reduce, ReduceKind, Scatter, ScatterMode, Where};
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};
use sdc_ir::{DType, Tensor};

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadOperands, text)
}

fn product(shape: &[usize]) -> Result<usize, Fault> {
    let n = sdc_ir::tensor::element_count(shape);
    n.ok_or_else(|| Fault::new(Code::TooLarge, "a tensor is too large"))
}

/// The four pixels around a place, each with its row number along one dimension and its weight.
struct Taps {
    /// Lower and upper neighbour: index (i64), weight.
    ends: [(Value, Value); 2],
}

/// Neighbours of positions along a dimension of this length. With `drop` those outside weigh nothing; else places up to one pixel
/// outside take the border's value, and those beyond nothing.
fn taps(c: &mut NodeCtx, at: Value, length: usize, drop: bool) -> Result<Taps, Fault> {
    let last = length as f64 - 1.0;
    let at = if drop {
        at
    } else {
        let raised = c.with_scalar(BinaryOp::Max, at, 0.0)?;
        c.with_scalar(BinaryOp::Min, raised, last)?
    };
    let low = c.unary(UnaryOp::Floor, at)?;
    let upper = c.binary(BinaryOp::Sub, at, low)?;
    let one = c.scalar(c.dtype(at), 1.0)?;
    let lower = c.binary(BinaryOp::Sub, one, upper)?;
    let high = c.with_scalar(BinaryOp::Add, low, 1.0)?;
    let end = |c: &mut NodeCtx, place: Value, weight: Value| {
        let above = c.with_scalar(BinaryOp::GreaterOrEqual, place, 0.0)?;
        let below = c.with_scalar(BinaryOp::LessOrEqual, place, last)?;
        let inside = c.binary(BinaryOp::And, above, below)?;
        let zero = c.scalar(c.dtype(weight), 0.0)?;
        let weight = c.emit(Where {}, &[inside, weight, zero])?;
        let place = c.with_scalar(BinaryOp::Max, place, 0.0)?;
        let place = c.with_scalar(BinaryOp::Min, place, last)?;
        Ok::<_, Fault>((c.cast(place, DType::I64)?, weight))
    };
    Ok(Taps {
        ends: [end(c, low, lower)?, end(c, high, upper)?],
    })
}

/// An image `[N,C,H,W]` as rows of channels, and the number of pixels of one.
fn pixels(c: &mut NodeCtx, x: Value) -> Result<(Value, usize), Fault> {
    let &[n, channels, h, w] = &c.shape(x)[..] else {
        return Err(bad("the image needs four dimensions"));
    };
    if n == 0 || h == 0 || w == 0 {
        return Err(bad("the image is empty"));
    }
    let rows = c.transpose(x, vec![0, 2, 3, 1])?;
    let rows = c.reshape(rows, vec![product(&[n, h, w])?, channels])?;
    Ok((rows, h * w))
}

fn floating(c: &NodeCtx, x: Value) -> Result<DType, Fault> {
    match c.dtype(x) {
        DType::F64 => Ok(DType::F64),
        dtype if dtype.is_float() => Ok(DType::F32),
        other => Err(bad(format!("the image is of {other} elements"))),
    }
}

/// DeformConv: the image sampled at every window's displaced places, then a product.
pub(super) fn deform_conv(c: &mut NodeCtx) -> Lowered {
    let (x, w, offset) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let dtype = c.dtype(x);
    let computing = floating(c, x)?;
    let (&[n, channels, height, width], &[filters, part, kh, kw]) = (&c.shape(x)[..], &c.shape(w)[..]) else {
        return Err(Fault::new(
            Code::Form,
            "only two spatial dimensions are supported",
        ));
    };
    if c.ints("kernel_shape")?
        .is_some_and(|k| k != [kh as i64, kw as i64])
    {
        return Err(c.bad_attr("kernel_shape", "is not the filter's"));
    }
    let count = |c: &NodeCtx, name: &'static str| {
        let n = c.int(name, 1)?;
        usize::try_from(n)
            .ok()
            .filter(|&n| n > 0)
            .ok_or_else(|| c.bad_attr(name, format!("is {n}")))
    };
    let (groups, offsets) = (count(c, "group")?, count(c, "offset_group")?);
    let g = geometry(c, 2)?;
    let pads = g.pads(&[height, width], &[kh, kw])?;
    let mut out = [0; 2];
    for d in 0..2 {
        let reach = extent([kh, kw][d], g.dilations[d])?;
        let padded = [height, width][d]
            .saturating_add(pads[d])
            .saturating_add(pads[d + 2]);
        out[d] = padded
            .checked_sub(reach)
            .ok_or_else(|| bad("no window fits the image"))?
            / g.strides[d]
            + 1;
    }
    let [oh, ow] = out;
    let k = kh * kw;
    let fits = channels.is_multiple_of(groups)
        && channels.is_multiple_of(offsets)
        && filters.is_multiple_of(groups)
        && part == channels / groups
        && c.shape(offset) == [n, offsets * k * 2, oh, ow]
        && k > 0;
    let limit = c.builder.limits.max_folded_elements;
    if [k, oh, ow].iter().any(|&n| n > limit) {
        let text = format!("a filter or result of more than {limit} places is not supported");
        return Err(Fault::new(Code::FoldLimit, text));
    }
    if !fits {
        return Err(bad(format!(
            "filter, offsets and groups do not fit; the result is {oh} by {ow}"
        )));
    }
    // Coordinates [N, OG, K, OH, OW], of one dimension each.
    let offset = c.cast(offset, computing)?;
    let offset = c.reshape(offset, vec![n * offsets, k, 2, oh, ow])?;
    let mut along = Vec::new();
    for d in 0..2 {
        let own = c.narrow(offset, 2, d, d + 1)?;
        let own = c.reshape(own, vec![n * offsets, k, oh, ow])?;
        let kernel: Vec<f64> = (0..k)
            .map(|i| ([i / kw, i % kw][d] * g.dilations[d]) as f64 - pads[d] as f64)
            .collect();
        let start = listed(c, kernel, vec![k, 1, 1], computing)?;
        let starts: Vec<f64> = (0..out[d]).map(|o| (o * g.strides[d]) as f64).collect();
        let place = listed(c, starts, if d == 0 { vec![oh, 1] } else { vec![ow] }, computing)?;
        let base = c.binary(BinaryOp::Add, start, place)?;
        let at = c.binary(BinaryOp::Add, base, own)?;
        along.push(taps(c, at, [height, width][d], true)?);
    }
    let split = c.reshape(x, vec![n * offsets, channels / offsets, height, width])?;
    let split = c.cast(split, computing)?;
    let samples = sampled(c, split, &along, [height, width], &[n * offsets, k, oh, ow])?;
    let samples = match c.opt_input(4) {
        Some(mask) => {
            let mask = c.cast(mask, computing)?;
            let mask = c.reshape(mask, vec![n * offsets, k, oh, ow, 1])?;
            c.binary(BinaryOp::Mul, samples, mask)?
        }
        None => samples,
    };
    // [N, OG, K, OH, OW, C/OG] to columns [N, G, OH*OW, C/G * K].
    let columns = c.reshape(samples, vec![n, offsets, k, oh * ow, channels / offsets])?;
    let columns = c.transpose(columns, vec![0, 3, 1, 4, 2])?;
    let columns = c.reshape(columns, vec![n, oh * ow, groups, part * k])?;
    let columns = c.transpose(columns, vec![0, 2, 1, 3])?;
    let w = c.cast(w, computing)?;
    let w = c.reshape(w, vec![1, groups, filters / groups, part * k])?;
    let w = c.transpose(w, vec![0, 1, 3, 2])?;
    let y = matmul_of(c, columns, w)?;
    let y = c.transpose(y, vec![0, 1, 3, 2])?;
    let mut y = c.reshape(y, vec![n, filters, oh, ow])?;
    if let Some(bias) = c.opt_input(3) {
        let bias = c.cast(bias, computing)?;
        let bias = c.reshape(bias, vec![filters, 1, 1])?;
        y = c.binary(BinaryOp::Add, y, bias)?;
    }
    c.cast(y, dtype)
}

/// Bilinear samples of images at places of the given shape, whose first dimension is the image's; channels come last.
fn sampled(c: &mut NodeCtx, x: Value, along: &[Taps], [h, w]: [usize; 2], shape: &[usize]) -> Lowered {
    let (rows, _) = pixels(c, x)?;
    let images = iota(c, shape[0], (0, (h * w) as i64), 0, shape.len())?;
    weighted(c, rows, images, along, w, BinaryOp::Add)
}

/// The weighted neighbours of places in images of rows of `w` pixels, joined; `images` is where each place's image begins.
fn weighted(
    c: &mut NodeCtx,
    rows: Value,
    images: Value,
    along: &[Taps],
    w: usize,
    join: BinaryOp,
) -> Lowered {
    let mut all = None;
    for (row, row_weight) in along[0].ends {
        for (column, column_weight) in along[1].ends {
            let at = c.with_scalar(BinaryOp::Mul, row, w as f64)?;
            let at = c.binary(BinaryOp::Add, at, column)?;
            let at = c.binary(BinaryOp::Add, at, images)?;
            let values = c.emit(Gather { axis: 0 }, &[rows, at])?;
            let weight = c.binary(BinaryOp::Mul, row_weight, column_weight)?;
            let mut lifted = c.shape(weight);
            lifted.push(1);
            let weight = c.reshape(weight, lifted)?;
            let part = c.binary(BinaryOp::Mul, values, weight)?;
            all = Some(match all {
                None => part,
                Some(others) => c.binary(join, others, part)?,
            });
        }
    }
    all.ok_or_else(|| bad("there is nothing to sample"))
}

/// Numbers as a constant.
fn listed(c: &mut NodeCtx, values: Vec<f64>, shape: Vec<usize>, dtype: DType) -> Lowered {
    let tensor =
        Tensor::from_elements(shape, values).map_err(|e| Fault::new(Code::TooLarge, e.to_string()))?;
    let value = c.constant(tensor)?;
    c.cast(value, dtype)
}

/// RoiAlign: each bin the mean or the maximum of a grid of samples.
pub(super) fn roi_align(c: &mut NodeCtx) -> Lowered {
    let (x, rois, images) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let dtype = c.dtype(x);
    let computing = floating(c, x)?;
    let (half_pixel, at_least_one) = match c.string(
        "coordinate_transformation_mode",
        if c.opset < 16 {
            "output_half_pixel"
        } else {
            "half_pixel"
        },
    )? {
        "half_pixel" => (true, false),
        "output_half_pixel" => (false, true),
        other => return Err(c.bad_attr("coordinate_transformation_mode", format!("is `{other}`"))),
    };
    let kind = match c.string("mode", "avg")? {
        "avg" => ReduceKind::Mean,
        "max" => ReduceKind::Max,
        other => return Err(c.bad_attr("mode", format!("is `{other}`"))),
    };
    let size = |c: &NodeCtx, name: &'static str| {
        let n = c.int(name, 1)?;
        usize::try_from(n)
            .ok()
            .filter(|&n| n > 0)
            .ok_or_else(|| c.bad_attr(name, format!("is {n}")))
    };
    let out = [size(c, "output_height")?, size(c, "output_width")?];
    let ratio = match usize::try_from(c.int("sampling_ratio", 0)?) {
        Ok(0) => {
            let text =
                "`sampling_ratio` 0, where the number of samples depends on the regions, is not supported";
            return Err(Fault::new(Code::Form, text).help("export the model with a sampling ratio"));
        }
        Ok(ratio) => ratio,
        Err(_) => return Err(c.bad_attr("sampling_ratio", "is negative")),
    };
    let scale = c.float("spatial_scale", 1.0)?;
    let &[batch, channels, h, w] = &c.shape(x)[..] else {
        return Err(bad("the image needs four dimensions"));
    };
    let &[regions, 4] = &c.shape(rois)[..] else {
        return Err(bad("regions need four numbers each"));
    };
    if c.shape(images) != [regions] {
        return Err(bad("regions and their images differ in number"));
    }
    let rois = c.cast(rois, computing)?;
    let rois = c.with_scalar(BinaryOp::Mul, rois, scale.into())?;
    let rois = if half_pixel {
        c.with_scalar(BinaryOp::Sub, rois, 0.5)?
    } else {
        rois
    };
    let limit = c.builder.limits.max_folded_elements;
    let samples = |n: usize| n.checked_mul(ratio).filter(|&n| n <= limit);
    let (Some(rows), Some(columns)) = (samples(out[0]), samples(out[1])) else {
        let text = format!("more than {limit} samples along a dimension");
        return Err(Fault::new(Code::FoldLimit, text));
    };
    let shape = [regions, rows, columns];
    let (mut along, mut inside) = (Vec::new(), None);
    for d in 0..2 {
        // Regions are x1, y1, x2, y2.
        let (low, high) = (c.narrow(rois, 1, 1 - d, 2 - d)?, c.narrow(rois, 1, 3 - d, 4 - d)?);
        let mut length = c.binary(BinaryOp::Sub, high, low)?;
        if at_least_one {
            length = c.with_scalar(BinaryOp::Max, length, 1.0)?;
        }
        let count = shape[1 + d];
        let shares: Vec<f64> = (0..count).map(|i| (i as f64 + 0.5) / count as f64).collect();
        let shares = listed(c, shares, vec![count], computing)?;
        let part = c.binary(BinaryOp::Mul, length, shares)?;
        let at = c.binary(BinaryOp::Add, low, part)?;
        let at = c.reshape(
            at,
            if d == 0 {
                vec![regions, count, 1]
            } else {
                vec![regions, 1, count]
            },
        )?;
        let above = c.with_scalar(BinaryOp::GreaterOrEqual, at, -1.0)?;
        let below = c.with_scalar(BinaryOp::LessOrEqual, at, [h, w][d] as f64)?;
        let valid = c.binary(BinaryOp::And, above, below)?;
        inside = Some(match inside {
            None => valid,
            Some(other) => c.binary(BinaryOp::And, other, valid)?,
        });
        along.push(taps(c, at, [h, w][d], false)?);
    }
    let image = c.cast(x, computing)?;
    let (rows, area) = pixels(c, image)?;
    let images = c.cast(images, DType::I64)?;
    let images = c.with_scalar(BinaryOp::Max, images, 0.0)?;
    let images = c.with_scalar(BinaryOp::Min, images, batch as f64 - 1.0)?;
    let images = c.with_scalar(BinaryOp::Mul, images, area as f64)?;
    let images = c.reshape(images, vec![regions, 1, 1])?;
    // With `max`, of the weighted neighbours too.
    let join = if kind == ReduceKind::Max {
        BinaryOp::Max
    } else {
        BinaryOp::Add
    };
    let value = weighted(c, rows, images, &along, w, join)?;
    let inside = inside.ok_or_else(|| bad("there is nothing to sample"))?;
    let inside = c.reshape(inside, vec![shape[0], shape[1], shape[2], 1])?;
    let zero = c.scalar(computing, 0.0)?;
    let value = c.emit(Where {}, &[inside, value, zero])?;
    let value = c.reshape(value, vec![regions, out[0], ratio, out[1], ratio, channels])?;
    let pooled = Reduce {
        kind,
        axes: vec![2, 4],
        keepdims: false,
    };
    let y = c.emit(pooled, &[value])?;
    let y = c.transpose(y, vec![0, 3, 1, 2])?;
    c.cast(y, dtype)
}

/// Col2Im: windows added up where they lay.
pub(super) fn col2im(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let (image, block) = (c.const_i64s(1, "image shape")?, c.const_i64s(2, "block shape")?);
    let (image, block) = (c.sizes("image shape", &image)?, c.sizes("block shape", &block)?);
    let rank = image.len();
    let list = |c: &NodeCtx, name: &'static str, default: usize, count: usize| {
        let given = c.ints(name)?;
        let list = given.map_or_else(|| Ok(vec![default; count]), |l| c.sizes(name, &l))?;
        match list.len() == count {
            true => Ok(list),
            false => Err(c.bad_attr(name, format!("needs {count} entries"))),
        }
    };
    let (dilations, strides) = (list(c, "dilations", 1, rank)?, list(c, "strides", 1, rank)?);
    let pads = list(c, "pads", 0, 2 * rank)?;
    let &[n, wide, columns] = &c.shape(x)[..] else {
        return Err(bad("the columns need three dimensions"));
    };
    let (k, area) = (product(&block)?, product(&image)?);
    let limit = c.builder.limits.max_folded_elements;
    if rank == 0
        || block.len() != rank
        || k == 0
        || area == 0
        || !wide.is_multiple_of(k)
        || strides.contains(&0)
    {
        return Err(bad("image shape, block shape and columns do not fit"));
    }
    let mut steps = Vec::new();
    for d in 0..rank {
        let padded = image[d].saturating_add(pads[d]).saturating_add(pads[rank + d]);
        let room = padded.checked_sub(extent(block[d], dilations[d])?);
        steps.push(room.ok_or_else(|| bad("no block fits the image"))? / strides[d] + 1);
    }
    if product(&steps)? != columns {
        return Err(bad(format!(
            "{columns} columns, but the blocks have {steps:?} places"
        )));
    }
    let total = product(&[k, columns])?;
    if total > limit {
        let text = format!("{total} positions exceed the limit of {limit} elements computed at compile time");
        return Err(Fault::new(Code::FoldLimit, text));
    }
    // The pixel of every element of every block; what lies in the padding goes to one more row.
    let unravel = |mut i: usize, shape: &[usize]| {
        let mut at = vec![0; shape.len()];
        for d in (0..shape.len()).rev() {
            at[d] = i % shape[d];
            i /= shape[d];
        }
        at
    };
    let target = |b: usize, s: usize| {
        let (b, s) = (unravel(b, &block), unravel(s, &steps));
        let place = (0..rank).try_fold(0usize, |flat, d| {
            let at = (s[d] * strides[d] + b[d] * dilations[d]).checked_sub(pads[d])?;
            (at < image[d]).then(|| flat * image[d] + at)
        });
        place.unwrap_or(area) as i64
    };
    let places: Vec<i64> = (0..total).map(|i| target(i / columns, i % columns)).collect();
    let places =
        Tensor::from_elements(vec![total], places).map_err(|e| Fault::new(Code::TooLarge, e.to_string()))?;
    let places = c.constant(places)?;
    let channels = wide / k;
    let rows = c.reshape(x, vec![n * channels, total])?;
    let rows = c.transpose(rows, vec![1, 0])?;
    let zero = c.scalar(c.dtype(x), 0.0)?;
    let empty = c.expand(zero, vec![area + 1, n * channels])?;
    let op = Scatter {
        mode: ScatterMode::Add,
    };
    let y = c.emit(op, &[empty, places, rows])?;
    let y = c.narrow(y, 0, 0, area)?;
    let y = c.transpose(y, vec![1, 0])?;
    c.reshape(y, [&[n, channels][..], &image].concat())
}

/// MaxUnpool: values put back to where a MaxPool found them, zeros elsewhere.
pub(super) fn max_unpool(c: &mut NodeCtx) -> Lowered {
    let (x, places) = (c.input(0)?, c.input(1)?);
    let shape = c.shape(x);
    let rank = shape.len().saturating_sub(2);
    let kernel = c
        .ints("kernel_shape")?
        .ok_or_else(|| c.bad_attr("kernel_shape", "is missing"))?;
    let kernel = c.sizes("kernel_shape", &kernel)?;
    if rank == 0 || kernel.len() != rank || c.shape(places) != shape {
        return Err(bad("kernel, values and indices do not fit"));
    }
    let g = geometry(c, rank)?;
    let pads = g.pads(&shape[2..], &kernel)?;
    let mut pooled = shape[..2].to_vec();
    for d in 0..rank {
        let full = shape[2 + d]
            .checked_sub(1)
            .and_then(|n| n.checked_mul(g.strides[d]));
        let full = full.and_then(|n| {
            n.checked_add(kernel[d])?
                .checked_sub(pads[d].checked_add(pads[rank + d])?)
        });
        pooled.push(full.ok_or_else(|| bad("the pads leave nothing"))?);
    }
    let (count, total) = (product(&shape)?, product(&pooled)?);
    let wanted = match c.opt_const_i64s(2, "output shape")? {
        Some(wanted) => c.sizes("output shape", &wanted)?,
        None => pooled.clone(),
    };
    if wanted.len() != pooled.len() || wanted.iter().zip(&pooled).any(|(w, p)| w < p) {
        return Err(bad(format!(
            "an output of shape {wanted:?} does not hold {pooled:?}"
        )));
    }
    let zero = c.scalar(c.dtype(x), 0.0)?;
    let empty = c.expand(zero, vec![total, 1])?;
    let places = c.cast(places, DType::I64)?;
    let places = c.reshape(places, vec![count])?;
    let values = c.reshape(x, vec![count, 1])?;
    let op = Scatter {
        mode: ScatterMode::Set,
    };
    let y = c.emit(op, &[empty, places, values])?;
    let y = c.reshape(y, pooled.clone())?;
    if wanted == pooled {
        return Ok(y);
    }
    let after = wanted.iter().zip(&pooled).map(|(w, p)| w - p).collect();
    let op = Pad {
        mode: PadMode::Constant,
        before: vec![0; wanted.len()],
        after,
        value: 0.0,
    };
    c.emit(op, &[y])
}
