//! Sliding windows: pooling, the size rule convolutions share, and resizing.

use super::{Fail, Inferred, attr_len, ensure, float, numeric, one, overflow};
use crate::graph::TensorType;
use crate::graph::op::{AveragePool, MaxPool, Resize, ResizeMode};

/// Number of spatial dimensions of `[N,C,spatial..]`.
pub(super) fn spatial_rank(x: &TensorType) -> Result<usize, Fail> {
    ensure(x.rank() >= 3, || {
        format!("the input has rank {}, but needs a spatial dimension", x.rank())
    })?;
    Ok(x.rank() - 2)
}

/// Largest kernel size, stride, dilation and padding. Far above any of use; code generation computes with products of them.
const MAX_REACH: usize = 1 << 20;

/// Fails if a number of a window is beyond all use.
pub(super) fn reaches(lists: &[&[usize]]) -> Result<(), Fail> {
    match lists.iter().copied().flatten().find(|&&n| n > MAX_REACH) {
        Some(n) => Err(overflow(format!(
            "kernel size, stride, dilation or padding {n} exceeds the limit of {MAX_REACH}"
        ))),
        None => Ok(()),
    }
}

/// Geometry of a sliding window, one entry per spatial dimension (`pads`: all begins, then all ends).
pub(super) struct Window<'a> {
    pub kernel: &'a [usize],
    pub strides: &'a [usize],
    pub pads: &'a [usize],
    pub dilations: &'a [usize],
}

impl Window<'_> {
    /// Checks lengths and ranges of the attributes.
    pub fn check(&self, spatial: usize) -> Result<(), Fail> {
        attr_len("kernel", self.kernel.len(), spatial)?;
        attr_len("strides", self.strides.len(), spatial)?;
        attr_len("dilations", self.dilations.len(), spatial)?;
        attr_len("pads", self.pads.len(), 2 * spatial)?;
        let positive = [self.kernel, self.strides, self.dilations]
            .iter()
            .all(|list| !list.contains(&0));
        ensure(positive, || {
            "kernel size, strides and dilations must not be 0".to_owned()
        })?;
        reaches(&[self.kernel, self.strides, self.dilations, self.pads])
    }

    /// Extent of the dilated kernel in one dimension.
    fn extent(&self, i: usize) -> Option<usize> {
        (self.kernel[i] - 1)
            .checked_mul(self.dilations[i])?
            .checked_add(1)
    }

    /// Spatial size of the result: `(in + pads - extent) / stride + 1`. [`Window::check`] must have passed.
    pub fn output(&self, input: &[usize]) -> Result<Vec<usize>, Fail> {
        let half = input.len();
        let size = |(i, &n): (usize, &usize)| {
            let overflow = || overflow(format!("spatial dimension {i} overflows"));
            let padded = n
                .checked_add(self.pads[i])
                .and_then(|n| n.checked_add(self.pads[half + i]));
            let padded = padded.ok_or_else(overflow)?;
            let extent = self.extent(i).ok_or_else(overflow)?;
            let free = padded.checked_sub(extent).ok_or_else(|| {
                Fail::from(format!(
                    "spatial dimension {i}: the window spans {extent}, the padded input only {padded}"
                ))
            })?;
            Ok(free / self.strides[i] + 1)
        };
        input.iter().enumerate().map(size).collect()
    }

    /// Fails if the first or last window of a dimension lies wholly in the padding, where pooling has no value.
    fn touches(&self, input: &[usize], output: &[usize]) -> Result<(), Fail> {
        for (i, (&n, &out)) in input.iter().zip(output).enumerate() {
            let first_ok = self.extent(i).is_some_and(|e| self.pads[i] < e);
            let last_start = (out - 1) as i128 * self.strides[i] as i128 - self.pads[i] as i128;
            ensure(first_ok && last_start < n as i128, || {
                format!("spatial dimension {i}: a window lies wholly in the padding")
            })?;
        }
        Ok(())
    }
}

fn pool(x: &TensorType, window: &Window<'_>) -> Inferred {
    window.check(spatial_rank(x)?)?;
    let output = window.output(&x.sizes()[2..])?;
    window.touches(&x.sizes()[2..], &output)?;
    let shape: Vec<usize> = x.sizes()[..2].iter().copied().chain(output).collect();
    Ok(TensorType::new(x.dtype, shape))
}

pub(super) fn max_pool(op: &MaxPool, operands: &[&TensorType]) -> Inferred {
    let x = one(operands)?;
    numeric(x)?;
    pool(
        x,
        &Window {
            kernel: &op.kernel,
            strides: &op.strides,
            pads: &op.pads,
            dilations: &op.dilations,
        },
    )
}

pub(super) fn average_pool(op: &AveragePool, operands: &[&TensorType]) -> Inferred {
    let x = one(operands)?;
    float(x)?;
    let result = pool(
        x,
        &Window {
            kernel: &op.kernel,
            strides: &op.strides,
            pads: &op.pads,
            dilations: &op.dilations,
        },
    )?;
    attr_len("counted", op.counted.len(), op.pads.len())?;
    ensure(op.counted.iter().zip(&op.pads).all(|(c, p)| c <= p), || {
        "more padding is counted than there is".to_owned()
    })?;
    Ok(result)
}

pub(super) fn resize(op: &Resize, operands: &[&TensorType]) -> Inferred {
    let x = one(operands)?;
    if op.mode != ResizeMode::Nearest {
        numeric(x)?;
    }
    attr_len("sizes", op.sizes.len(), x.rank())?;
    attr_len("scales", op.scales.len(), x.rank())?;
    ensure(op.scales.iter().all(|s| s.is_finite() && *s > 0.0), || {
        "scales must be positive and finite".to_owned()
    })?;
    ensure(
        x.sizes()
            .iter()
            .zip(&op.sizes)
            .all(|(&from, &to)| from > 0 || to == 0),
        || "an empty dimension cannot be enlarged".to_owned(),
    )?;
    Ok(TensorType::new(x.dtype, op.sizes.clone()))
}
