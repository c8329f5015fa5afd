//! Windows that slide over the spatial dimensions of a tensor.

use crate::EvalError;
use crate::values::count;
use std::ops::Range;

/// How a window slides. One entry per spatial dimension.
///
/// With the window at position `p`, its element `k` lies at coordinate `p * stride + k * dilation - begin`. For a
/// convolution the coordinates are the input's and the positions the result's, for a transposed one the reverse.
pub(super) struct Window<'a> {
    /// Number of coordinates.
    pub size: &'a [usize],
    /// Number of positions.
    pub positions: &'a [usize],
    pub strides: &'a [usize],
    pub dilations: &'a [usize],
    /// Coordinate 0 comes so much after the first element at position 0.
    pub begin: Vec<i128>,
}

/// A run along the last dimension: `len` positions from `position` on, whose coordinates start at `coordinate` and are
/// the last stride apart. Both are flat row-major indices.
pub(super) struct Run {
    pub position: usize,
    pub coordinate: usize,
    pub len: usize,
}

impl Window<'_> {
    /// The positions of dimension `d` at which element `k` is inside the tensor, and the coordinate at the first.
    fn inside(&self, d: usize, k: usize) -> (Range<usize>, usize) {
        let stride = self.strides[d] as i128;
        let shift = k as i128 * self.dilations[d] as i128 - self.begin[d];
        // Smallest p with p * stride + shift >= n.
        let first_at = |n: i128| {
            (n - shift + stride - 1)
                .div_euclid(stride)
                .clamp(0, self.positions[d] as i128)
        };
        let (from, to) = (first_at(0), first_at(self.size[d] as i128));
        if from >= to {
            return (0..0, 0);
        }
        (from as usize..to as usize, (from * stride + shift) as usize)
    }

    /// All positions at which the window's element `k` is inside the tensor, as runs.
    pub fn runs(&self, k: &[usize]) -> Vec<Run> {
        let mut runs = vec![Run {
            position: 0,
            coordinate: 0,
            len: 1,
        }];
        let last = k.len() - 1;
        for (d, &k) in k.iter().enumerate() {
            let (range, first) = self.inside(d, k);
            let outer = std::mem::take(&mut runs);
            for run in outer {
                let (p, c) = (run.position * self.positions[d], run.coordinate * self.size[d]);
                if d == last {
                    runs.push(Run {
                        position: p + range.start,
                        coordinate: c + first,
                        len: range.len(),
                    });
                } else {
                    runs.extend(range.clone().enumerate().map(|(i, at)| Run {
                        position: p + at,
                        coordinate: c + first + i * self.strides[d],
                        len: 1,
                    }));
                }
            }
        }
        // Where rows adjoin on both sides one run stands for many: 1x1 kernels would be slow otherwise.
        if self.strides[last] == 1 {
            runs.dedup_by(|next, run| {
                let adjoin =
                    run.position + run.len == next.position && run.coordinate + run.len == next.coordinate;
                if adjoin {
                    run.len += next.len;
                }
                adjoin
            });
        }
        runs.retain(|run| run.len > 0);
        runs
    }
}

/// All indices of an array of this shape, in row-major order; an error if they cannot be counted.
pub(super) fn indices(shape: &[usize]) -> Result<impl Iterator<Item = Vec<usize>>, EvalError> {
    Ok((0..count(shape)?).map(move |mut flat| {
        let mut index = vec![0; shape.len()];
        for (i, &n) in index.iter_mut().zip(shape).rev() {
            *i = flat % n;
            flat /= n;
        }
        index
    }))
}

/// The begins of a list of pads (all begins, then all ends).
pub(super) fn begins(pads: &[usize]) -> Vec<i128> {
    pads[..pads.len() / 2].iter().map(|&p| p as i128).collect()
}
