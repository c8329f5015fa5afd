//! How windows lie in a copy of the input.

use super::super::nest::Ref;
use super::{Axis, Sparse, divided, int, scaled};
use sdc_ir::registry::sparse2d::{BLOCK, Copied};
use sdc_ir::tile::{FuncBuilder, Val};

/// The window of a convolution.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Rows and columns.
    pub size: [usize; 2],
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
    pub pads: [usize; 2],
}

impl Window {
    /// A single pixel.
    pub const PIXEL: Window = Window {
        size: [1, 1],
        strides: [1, 1],
        dilations: [1, 1],
        pads: [0, 0],
    };

    /// Of an operator with weights of this shape.
    pub fn of(strides: &[usize], dilations: &[usize], pads: &[usize], weights: &[usize]) -> Self {
        let two = |of: &[usize]| [0, 1].map(|d| of.get(d).copied().unwrap_or(1));
        Self {
            size: two(weights.get(2..).unwrap_or(&[])),
            strides: two(strides),
            dilations: two(dilations),
            pads: two(pads),
        }
    }

    /// The same convolution of the input's pixels that it reads, if its windows are single pixels of the input.
    pub fn of_pixels(self, x: &Ref, y: &Ref) -> (Self, Ref) {
        let mut x = x.clone();
        let Window { strides, .. } = self;
        if self.size != [1, 1] || self.pads != [0, 0] {
            return (self, x);
        }
        for d in [0, 1] {
            x.shape[2 + d] = y.shape[2 + d];
            x.strides[2 + d] *= strides[d] as i64;
        }
        let strides = [1, 1];
        (Self { strides, ..self }, x)
    }
}

/// A copy of the input, and how windows lie in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Windows {
    pub copied: Copied,
    dilations: [usize; 2],
    stride: usize,
}

impl Windows {
    /// Of a convolution whose bands have so many rows of `columns` results.
    pub fn new(sparse: &Sparse, window: &Window, columns: usize, band: usize) -> Self {
        let [kh, kw] = [(Axis::Rows, 0), (Axis::Columns, 1)].map(|(axis, d)| match sparse.has(axis) {
            true => window.size[d],
            false => 1,
        });
        let ([sh, sw], [dh, dw]) = (window.strides, window.dilations);
        Self {
            copied: Copied {
                units: sparse.unit.per_pixel,
                rows: (band - 1) * sh + (kh - 1) * dh + 1,
                phases: if kw == 1 { 1 } else { sw },
                width: columns + (kw - 1) * dw / sw,
            },
            dilations: window.dilations,
            stride: sw,
        }
    }

    /// The place of a unit of a filter's vector.
    pub(super) fn place(&self, b: &mut FuncBuilder, axes: &[(usize, Axis)], entry: Val) -> Val {
        let [block, row, phase, column] = self.copied.steps();
        let mut rest = entry;
        let mut sum = int(b, 0);
        for &(size, axis) in axes.iter().rev() {
            let (above, digit) = divided(b, rest, size);
            rest = above;
            let parts = match axis {
                Axis::Units => {
                    let (outer, inner) = divided(b, digit, BLOCK);
                    vec![(outer, block), (inner, 1)]
                }
                Axis::Rows => vec![(digit, self.dilations[0] * row)],
                Axis::Columns => {
                    let at = scaled(b, digit, self.dilations[1]);
                    let (outer, inner) = divided(b, at, self.stride);
                    vec![(outer, column), (inner, phase)]
                }
            };
            for (digit, step) in parts {
                let part = scaled(b, digit, step);
                sum = b.add(sum, part);
            }
        }
        sum
    }
}
