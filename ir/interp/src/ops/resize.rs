//! Resize: interpolation along each dimension in turn.
//!
//! Source coordinates are computed in `f32`, as ONNX Runtime does: whether a coordinate falls on a tie decides which
//! sample `nearest` takes, so an oracle with better arithmetic would be a wrong one.

use super::movement::{Table, take};
use crate::EvalError;
use crate::values::{count, filled, from_floats};
use sdc_ir::Tensor;
use sdc_ir::graph::op::{CoordinateMode, NearestMode, Resize, ResizeMode};
use sdc_ir::tensor::row_major_strides;

/// The source coordinate of index `i` along a dimension resized from `from` to `to`.
fn coordinate(op: &Resize, i: usize, scale: f32, from: usize, to: usize) -> f32 {
    let x = i as f32;
    match op.coordinates {
        CoordinateMode::HalfPixel => (x + 0.5) / scale - 0.5,
        CoordinateMode::PytorchHalfPixel if to == 1 => 0.0,
        CoordinateMode::PytorchHalfPixel => (x + 0.5) / scale - 0.5,
        CoordinateMode::AlignCorners if to == 1 => 0.0,
        CoordinateMode::AlignCorners => x * (from - 1) as f32 / (to - 1) as f32,
        CoordinateMode::Asymmetric => x / scale,
    }
}

/// The coordinate rounded by the nearest mode.
fn nearest(mode: NearestMode, x: f64) -> f64 {
    match mode {
        NearestMode::RoundPreferFloor => (x - 0.5).ceil(),
        NearestMode::RoundPreferCeil => (x + 0.5).floor(),
        NearestMode::Floor => x.floor(),
        NearestMode::Ceil => x.ceil(),
    }
}

fn clamp(x: f64, len: usize) -> usize {
    x.clamp(0.0, (len - 1) as f64) as usize
}

/// The samples an element is interpolated from, with their weights.
fn samples(op: &Resize, x: f32, len: usize) -> Vec<(usize, f64)> {
    let base = f64::from(x).floor();
    let t = f64::from(x) - base;
    let taps: Vec<(f64, f64)> = match op.mode {
        ResizeMode::Nearest => vec![(nearest(op.nearest, x.into()), 1.0)],
        ResizeMode::Linear => vec![(base, 1.0 - t), (base + 1.0, t)],
        ResizeMode::Cubic => {
            let a = f64::from(op.cubic_coeff_a);
            // Keys' kernel: within one sample of the centre, and between one and two.
            let near = |d: f64| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
            let far = |d: f64| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
            vec![
                (base - 1.0, far(1.0 + t)),
                (base, near(t)),
                (base + 1.0, near(1.0 - t)),
                (base + 2.0, far(2.0 - t)),
            ]
        }
    };
    let inside = |at: f64| (0.0..len as f64).contains(&at);
    let within: f64 = taps.iter().filter(|t| inside(t.0)).map(|t| t.1).sum();
    // With no weight inside there is nothing to renormalise, and the edge stands for what lies beyond it.
    let exclude = op.exclude_outside && op.mode != ResizeMode::Nearest && within != 0.0;
    taps.into_iter()
        .filter(|t| !exclude || inside(t.0))
        .map(|(at, weight)| (clamp(at, len), if exclude { weight / within } else { weight }))
        .collect()
}

pub(super) fn resize(op: &Resize, x: &Tensor) -> Result<Tensor, EvalError> {
    let rank = x.shape().len();
    let along = |d: usize| -> Vec<Vec<(usize, f64)>> {
        let (from, to) = (x.shape()[d], op.sizes[d]);
        (0..to)
            .map(|i| samples(op, coordinate(op, i, op.scales[d], from, to), from))
            .collect()
    };
    if op.mode == ResizeMode::Nearest {
        // Elements are moved, not computed with: any element type will do.
        let strides = row_major_strides(x.shape());
        let table = |d: usize| along(d).iter().map(|s| Some(s[0].0 * strides[d])).collect();
        return take(x, &(0..rank).map(table).collect::<Vec<Table>>(), &[]);
    }
    let mut shape = x.shape().to_vec();
    let mut v = x.to_f64_vec();
    for d in 0..rank {
        if op.sizes[d] == shape[d] && op.scales[d] == 1.0 {
            continue;
        }
        v = interpolate(&v, &shape, d, &along(d))?;
        shape[d] = op.sizes[d];
    }
    from_floats(x.dtype(), shape, &v)
}

/// Replaces dimension `d`: its new elements are the given weighted sums of the old ones.
fn interpolate(
    x: &[f64],
    shape: &[usize],
    d: usize,
    sums: &[Vec<(usize, f64)>],
) -> Result<Vec<f64>, EvalError> {
    let inner: usize = count(&shape[d + 1..])?;
    let mut result = shape.to_vec();
    result[d] = sums.len();
    let mut y = filled(count(&result)?, 0.0)?;
    let blocks = x
        .chunks_exact(shape[d] * inner)
        .zip(y.chunks_exact_mut(sums.len() * inner));
    for (x, y) in blocks {
        for (sum, y) in sums.iter().zip(y.chunks_exact_mut(inner)) {
            for &(at, weight) in sum {
                let x = &x[at * inner..(at + 1) * inner];
                y.iter_mut().zip(x).for_each(|(y, x)| *y += weight * x);
            }
        }
    }
    Ok(y)
}
