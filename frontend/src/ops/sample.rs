//! GridSample and AffineGrid: pixels gathered at computed positions, and their weighted sums.

use super::index::iota;
use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::op::{Activation, Gather, MatMul};
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};
use sdc_ir::{DType, Tensor};

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadOperands, text)
}

fn product(shape: &[usize]) -> Result<usize, Fault> {
    let n = sdc_ir::tensor::element_count(shape);
    n.ok_or_else(|| Fault::new(Code::TooLarge, "a tensor is too large"))
}

/// What lies beyond the image.
#[derive(Clone, Copy)]
enum Beyond {
    Zeros,
    Border,
    Reflection,
}

/// Coefficient of the cubic convolution, as PyTorch has it.
const CUBIC: f64 = -0.75;

/// GridSample (opsets 16 to 22), in any number of dimensions.
pub(super) fn grid_sample(c: &mut NodeCtx) -> Lowered {
    let (x, grid) = (c.input(0)?, c.input(1)?);
    let corners = c.flag("align_corners", false)?;
    let taps: &[i64] = match c.string("mode", if c.opset < 20 { "bilinear" } else { "linear" })? {
        "nearest" => &[0],
        "linear" | "bilinear" => &[0, 1],
        "cubic" | "bicubic" => &[-1, 0, 1, 2],
        other => return Err(c.bad_attr("mode", format!("is `{other}`"))),
    };
    let beyond = match c.string("padding_mode", "zeros")? {
        "zeros" => Beyond::Zeros,
        "border" => Beyond::Border,
        "reflection" => Beyond::Reflection,
        other => return Err(c.bad_attr("padding_mode", format!("is `{other}`"))),
    };
    let (shape, points) = (c.shape(x), c.shape(grid));
    let rank = shape.len().saturating_sub(2);
    let fits = rank > 0 && points.len() == shape.len() && points[0] == shape[0] && points[rank + 1] == rank;
    if !fits || shape.contains(&0) {
        return Err(bad(format!(
            "a grid of shape {points:?} does not fit an image of shape {shape:?}"
        )));
    }
    let (batch, channels, image) = (shape[0], shape[1], &shape[2..]);
    let count = product(&points[1..=rank])?;
    let dtype = c.dtype(x);
    let computing = if dtype == DType::F64 {
        DType::F64
    } else {
        DType::F32
    };

    // Along each dimension the index, weight and validity of every tap, `[N,P]` each.
    let grid = c.cast(grid, computing)?;
    let mut along = Vec::with_capacity(rank);
    for (d, &length) in image.iter().enumerate() {
        // The last coordinate belongs to the first dimension.
        let part = c.narrow(grid, rank + 1, rank - 1 - d, rank - d)?;
        let part = c.reshape(part, vec![batch, count])?;
        let at = denormalized(c, part, length, corners)?;
        along.push(taps_along(c, at, taps, length, corners, beyond)?);
    }

    // Pixels as rows of channels.
    let mut perm: Vec<usize> = (0..rank + 2).collect();
    perm.remove(1);
    perm.push(1);
    let rows = c.transpose(x, perm)?;
    let pixels = product(image)?;
    let rows = c.reshape(rows, vec![batch * pixels, channels])?;
    let rows = c.cast(rows, computing)?;
    let strides = sdc_ir::tensor::row_major_strides(image);
    let first = iota(c, batch, (0, pixels as i64), 0, 2)?;

    let mut sum = None;
    for choice in 0..taps.len().pow(rank as u32) {
        let (mut row, mut weight) = (first, None);
        let mut rest = choice;
        for (d, list) in along.iter().enumerate() {
            let tap = &list[rest % taps.len()];
            rest /= taps.len();
            let step = c.with_scalar(BinaryOp::Mul, tap.index, strides[d] as f64)?;
            row = c.binary(BinaryOp::Add, row, step)?;
            weight = match (weight, tap.weight) {
                (None, w) | (w, None) => w,
                (Some(a), Some(b)) => Some(c.binary(BinaryOp::Mul, a, b)?),
            };
        }
        let mut values = c.emit(Gather { axis: 0 }, &[rows, row])?;
        if let Some(weight) = weight {
            let weight = c.reshape(weight, vec![batch, count, 1])?;
            values = c.binary(BinaryOp::Mul, values, weight)?;
        }
        sum = Some(match sum {
            None => values,
            Some(sum) => c.binary(BinaryOp::Add, sum, values)?,
        });
    }
    let y = sum.ok_or_else(|| bad("there is nothing to sample"))?;
    let y = c.cast(y, dtype)?;
    let y = c.transpose(y, vec![0, 2, 1])?;
    c.reshape(y, [&[batch, channels], &points[1..=rank]].concat())
}

/// From -1..1 to positions between pixels.
fn denormalized(c: &mut NodeCtx, g: Value, length: usize, corners: bool) -> Lowered {
    let g = c.with_scalar(BinaryOp::Add, g, 1.0)?;
    if corners {
        return c.with_scalar(BinaryOp::Mul, g, (length as f64 - 1.0) / 2.0);
    }
    let g = c.with_scalar(BinaryOp::Mul, g, length as f64)?;
    let g = c.with_scalar(BinaryOp::Sub, g, 1.0)?;
    c.with_scalar(BinaryOp::Mul, g, 0.5)
}

/// One neighbour of a position along a dimension.
struct Tap {
    /// `i64`, valid whatever the position.
    index: Value,
    /// Absent where it is 1.
    weight: Option<Value>,
}

fn taps_along(
    c: &mut NodeCtx,
    at: Value,
    taps: &[i64],
    length: usize,
    corners: bool,
    beyond: Beyond,
) -> Result<Vec<Tap>, Fault> {
    let op = if taps.len() == 1 {
        UnaryOp::Round
    } else {
        UnaryOp::Floor
    };
    let base = c.unary(op, at)?;
    let fraction = c.binary(BinaryOp::Sub, at, base)?;
    let mut list = Vec::with_capacity(taps.len());
    for &tap in taps {
        let place = c.with_scalar(BinaryOp::Add, base, tap as f64)?;
        let mut weight = match taps.len() {
            1 => None,
            2 => Some(linear(c, fraction, tap)?),
            _ => Some(cubic(c, fraction, tap)?),
        };
        let last = length as f64 - 1.0;
        let place = match beyond {
            Beyond::Zeros => {
                let low = c.with_scalar(BinaryOp::GreaterOrEqual, place, 0.0)?;
                let high = c.with_scalar(BinaryOp::LessOrEqual, place, last)?;
                let inside = c.binary(BinaryOp::And, low, high)?;
                let inside = c.cast(inside, c.dtype(place))?;
                weight = Some(match weight {
                    None => inside,
                    Some(w) => c.binary(BinaryOp::Mul, w, inside)?,
                });
                place
            }
            Beyond::Border => place,
            Beyond::Reflection => reflected(c, place, length, corners)?,
        };
        let place = c.with_scalar(BinaryOp::Max, place, 0.0)?;
        let place = c.with_scalar(BinaryOp::Min, place, last)?;
        list.push(Tap {
            index: c.cast(place, DType::I64)?,
            weight,
        });
    }
    Ok(list)
}

/// `1 - t` for the pixel before the position, `t` for the one after.
fn linear(c: &mut NodeCtx, t: Value, tap: i64) -> Lowered {
    if tap == 1 {
        return Ok(t);
    }
    let one = c.scalar(c.dtype(t), 1.0)?;
    c.binary(BinaryOp::Sub, one, t)
}

/// Keys' cubic convolution at the distance of the tap.
fn cubic(c: &mut NodeCtx, t: Value, tap: i64) -> Lowered {
    // The distance, which is never negative: t + 1, t, 1 - t, 2 - t.
    let distance = match tap {
        -1 | 0 => c.with_scalar(BinaryOp::Add, t, -tap as f64)?,
        _ => {
            let whole = c.scalar(c.dtype(t), tap as f64)?;
            c.binary(BinaryOp::Sub, whole, t)?
        }
    };
    let factors = match tap {
        0 | 1 => [CUBIC + 2.0, -(CUBIC + 3.0), 0.0, 1.0],
        _ => [CUBIC, -5.0 * CUBIC, 8.0 * CUBIC, -4.0 * CUBIC],
    };
    let mut y = c.scalar(c.dtype(t), factors[0])?;
    for factor in &factors[1..] {
        y = c.binary(BinaryOp::Mul, y, distance)?;
        y = c.with_scalar(BinaryOp::Add, y, *factor)?;
    }
    Ok(y)
}

/// A position mirrored at the borders until it lies between them: a triangular wave.
fn reflected(c: &mut NodeCtx, place: Value, length: usize, corners: bool) -> Lowered {
    let (low, range) = if corners {
        (0.0, length as f64 - 1.0)
    } else {
        (-0.5, length as f64)
    };
    if range == 0.0 {
        return c.with_scalar(BinaryOp::Mul, place, 0.0);
    }
    let from = c.with_scalar(BinaryOp::Sub, place, low)?;
    let turns = c.with_scalar(BinaryOp::Div, from, 2.0 * range)?;
    let turns = c.unary(UnaryOp::Floor, turns)?;
    let whole = c.with_scalar(BinaryOp::Mul, turns, 2.0 * range)?;
    let phase = c.binary(BinaryOp::Sub, from, whole)?;
    let off = c.with_scalar(BinaryOp::Sub, phase, range)?;
    let off = c.unary(UnaryOp::Abs, off)?;
    let top = c.scalar(c.dtype(place), low + range)?;
    c.binary(BinaryOp::Sub, top, off)
}

/// AffineGrid: the positions of a regular grid, last dimension first, transformed for each image.
pub(super) fn affine_grid(c: &mut NodeCtx) -> Lowered {
    let theta = c.input(0)?;
    let corners = c.flag("align_corners", false)?;
    let size = c.const_i64s(1, "size")?;
    let size = c.sizes("size", &size)?;
    let shape = c.shape(theta);
    let rank = size.len().saturating_sub(2);
    if rank == 0 || shape != [size[0], rank, rank + 1] {
        return Err(bad(format!(
            "transformations of shape {shape:?} do not fit a size of {size:?}"
        )));
    }
    let image = &size[2..];
    let count = product(image)?;
    let limit = c.builder.limits.max_folded_elements;
    if count
        .checked_mul(rank + 1)
        .is_none_or(|n| n > limit.saturating_mul(16))
    {
        let text = format!("{count} positions exceed the limit on what is computed at compile time");
        return Err(Fault::new(Code::FoldLimit, text));
    }
    let place = |i: usize, length: usize| match corners {
        true if length == 1 => -1.0,
        true => -1.0 + 2.0 * i as f64 / (length as f64 - 1.0),
        false => -1.0 + (2 * i + 1) as f64 / length as f64,
    };
    // `[rank + 1, P]`: a row per coordinate and one of ones.
    let strides = sdc_ir::tensor::row_major_strides(image);
    let mut grid = Vec::with_capacity(count * (rank + 1));
    for d in (0..rank).rev() {
        grid.extend((0..count).map(|p| place(p / strides[d] % image[d], image[d])));
    }
    grid.extend(std::iter::repeat_n(1.0, count));
    let grid = Tensor::from_elements(vec![rank + 1, count], grid);
    let grid = c.constant(grid.map_err(|e| Fault::new(Code::TooLarge, e.to_string()))?)?;
    let grid = c.cast(grid, c.dtype(theta))?;
    let op = MatMul {
        bias: false,
        residual: false,
        act: Activation::None,
    };
    let y = c.emit(op, &[theta, grid])?;
    let y = c.transpose(y, vec![0, 2, 1])?;
    c.reshape(y, [&[size[0]], image, &[rank]].concat())
}
