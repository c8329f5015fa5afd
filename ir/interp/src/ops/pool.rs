//! Pooling, any number of spatial dimensions.

use super::elementwise::max;
use super::window::{Run, Window, begins, indices};
use crate::EvalError;
use crate::values::{
    Values, count, filled, from_floats, from_ints, int_range, no_such_type, read, read_floats,
};
use sdc_ir::Tensor;
use sdc_ir::graph::op::{AveragePool, MaxPool};

/// Folds the elements of each window, in row-major order, into `y`.
fn fold<T: Copy>(
    x: &[T],
    y: &mut [T],
    kernel: &[usize],
    window: &Window<'_>,
    step: impl Fn(T, T) -> T,
) -> Result<(), EvalError> {
    if x.is_empty() {
        return Ok(());
    }
    let stride = window.strides[window.strides.len() - 1];
    let (x_plane, y_plane) = (window.size.iter().product(), window.positions.iter().product());
    for k in indices(kernel)? {
        let runs = window.runs(&k);
        for (x, y) in x.chunks_exact(x_plane).zip(y.chunks_exact_mut(y_plane)) {
            for &Run {
                position,
                coordinate,
                len,
            } in &runs
            {
                let from = x[coordinate..].iter().step_by(stride);
                for (y, &x) in y[position..position + len].iter_mut().zip(from) {
                    *y = step(*y, x);
                }
            }
        }
    }
    Ok(())
}

pub(super) fn max_pool(op: &MaxPool, x: &Tensor, shape: &[usize]) -> Result<Tensor, EvalError> {
    let window = Window {
        size: &x.shape()[2..],
        positions: &shape[2..],
        strides: &op.strides,
        dilations: &op.dilations,
        begin: begins(&op.pads),
    };
    match read(x) {
        Values::Float(v) => {
            let mut y = filled(count(shape)?, f64::NEG_INFINITY)?;
            fold(&v, &mut y, &op.kernel, &window, max)?;
            from_floats(x.dtype(), shape.to_vec(), &y)
        }
        Values::Int(v) => {
            let mut y = filled(count(shape)?, int_range(x.dtype()).0)?;
            fold(&v, &mut y, &op.kernel, &window, i128::max)?;
            from_ints(x.dtype(), shape.to_vec(), &y)
        }
        Values::Bool(_) => Err(no_such_type("MaxPool", x.dtype())),
    }
}

/// The sum of each window's elements inside the input; `x_shape` and `shape` are those of operand and result.
pub(super) fn window_sums<T: Copy + std::ops::Add<Output = T>>(
    op: &AveragePool,
    x: &[T],
    x_shape: &[usize],
    shape: &[usize],
    zero: T,
) -> Result<Vec<T>, EvalError> {
    let window = Window {
        size: &x_shape[2..],
        positions: &shape[2..],
        strides: &op.strides,
        dilations: &op.dilations,
        begin: begins(&op.pads),
    };
    let mut y = filled(count(shape)?, zero)?;
    fold(x, &mut y, &op.kernel, &window, |sum, x| sum + x)?;
    Ok(y)
}

pub(super) fn average_pool(op: &AveragePool, x: &Tensor, shape: &[usize]) -> Result<Tensor, EvalError> {
    let mut y = window_sums(op, &read_floats("AveragePool", x)?, x.shape(), shape, 0.0)?;
    let divisors: Vec<Vec<f64>> = (0..op.kernel.len())
        .map(|d| divisors(op, x.shape(), shape, d))
        .collect();
    let plane = count(&shape[2..])?;
    for (i, p) in indices(&shape[2..])?.enumerate() {
        let divisor: f64 = divisors.iter().zip(&p).map(|(along, &p)| along[p]).product();
        y.iter_mut().skip(i).step_by(plane).for_each(|y| *y /= divisor);
    }
    from_floats(x.dtype(), shape.to_vec(), &y)
}

/// For each position along spatial dimension `d`, how many elements of the window count.
pub(super) fn divisors(op: &AveragePool, x_shape: &[usize], shape: &[usize], d: usize) -> Vec<f64> {
    let low = -(op.counted[d] as i128);
    let high = x_shape[2 + d] as i128 + op.counted[op.kernel.len() + d] as i128;
    let inside = |p: usize| {
        (0..op.kernel[d])
            .map(|k| {
                p as i128 * op.strides[d] as i128 + k as i128 * op.dilations[d] as i128 - op.pads[d] as i128
            })
            .filter(|at| (low..high).contains(at))
            .count() as f64
    };
    (0..shape[2 + d]).map(inside).collect()
}
