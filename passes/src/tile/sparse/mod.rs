//! Convolutions and products by the rows of compressed weights that are stored: tables of what is there, and calls of the kernels that go
//! through them.
//!
//! Here is what weights there are; [`windows`] says where they meet the input, [`tables`] makes the tables, and [`calls`] the calls.

mod calls;
mod tables;
mod windows;

pub use calls::{SLOTS, conv, product, quantised};
pub use tables::Tables;
pub use windows::{Window, Windows};

use super::rebuild::{Place, Weights};
use sdc_ir::DType;
use sdc_ir::graph::{Graph, Value};
use sdc_ir::registry::sparse2d::BLOCK;
use sdc_ir::sd::{Decomposed, Index, Stored};
use sdc_ir::tile::{FuncBuilder, Ty, Val};

/// What a dimension of the weights runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Axis {
    /// Channels, or the inner dimension of a product.
    Units,
    /// Rows of a window.
    Rows,
    /// Columns of a window.
    Columns,
}

/// What an entry of a table reads of a pixel: a channel, or the up to four bytes that a row of integers or a part of one meets.
#[derive(Debug, Clone, Copy)]
struct Unit {
    /// Units of a row of weights, and of a pixel.
    per_row: usize,
    per_pixel: usize,
    /// Channels from one to the next.
    jump: usize,
    /// Bytes, and what they run over.
    bytes: usize,
    along: Axis,
}

/// Weights of which some rows are not stored.
#[derive(Debug, Clone)]
pub struct Sparse {
    weights: Weights,
    stored: Decomposed,
    unit: Unit,
    /// What the units of a filter's vector run over, outermost first.
    axes: Vec<(usize, Axis)>,
}

impl Sparse {
    /// The weights `[M, C, kh, kw]` of a convolution, if a kernel can go through the rows that are there.
    pub fn of_conv(graph: &Graph, value: Value) -> Option<Self> {
        let channels = *graph.ty(value).sizes().get(1)?;
        Self::new(Weights::of(graph, value, &[0])?, channels, |d| match d {
            1 => Axis::Units,
            2 => Axis::Rows,
            _ => Axis::Columns,
        })
    }

    /// The right operand of a product, as the weights of a convolution of single pixels.
    pub fn of_product(graph: &Graph, value: Value) -> Option<Self> {
        let (weights, _) = Weights::of_product(graph, value)?;
        let channels = weights.rows();
        Self::new(weights, channels, |_| Axis::Units)
    }

    fn new(weights: Weights, channels: usize, axis: impl Fn(usize) -> Axis) -> Option<Self> {
        let Stored::Sd(stored) = weights.stored() else {
            return None;
        };
        let (stored, s) = (stored.clone(), stored.format.s);
        let shape = &stored.geometry.shape;
        let axes = stored.geometry.vector_dims.iter().map(|&d| (shape[d], axis(d)));
        let mut axes: Vec<_> = axes.filter(|&(size, _)| size > 1).collect();
        let unit = Unit {
            per_row: s,
            per_pixel: channels,
            jump: 1,
            bytes: 1,
            along: Axis::Units,
        };
        let unit = match (weights.to(), axes.pop()?) {
            (DType::F32, last) => {
                axes.push(last);
                unit
            }
            // A row that is one of the window.
            (_, (size, along)) if along != Axis::Units && size == s && s <= 4 => Unit {
                per_row: 1,
                bytes: s,
                along,
                ..unit
            },
            // Channels one after another.
            (_, (size, Axis::Units)) if (s <= 4 || s == 8) && (axes.is_empty() || size.is_multiple_of(s)) => {
                let bytes = s.min(4);
                axes.push((size.div_ceil(bytes), Axis::Units));
                Unit {
                    per_row: s.div_ceil(4),
                    per_pixel: size.div_ceil(bytes),
                    jump: bytes,
                    bytes,
                    ..unit
                }
            }
            _ => return None,
        };
        Some(Self {
            weights,
            stored,
            unit,
            axes,
        })
    }

    /// Rows of the weights that are not cut short, units of the last one that is, and units of all.
    fn rows(&self) -> (usize, usize, usize) {
        let (vector, s) = (self.stored.geometry.vector_len(), self.stored.format.s);
        let (whole, rest) = (vector / s, vector % s);
        let rest = match self.weights.to() {
            DType::F32 => rest,
            _ => rest.div_ceil(4),
        };
        (whole, rest, whole * self.unit.per_row + rest)
    }

    /// Type and number of the weights of an entry.
    fn entry(&self) -> (DType, usize) {
        match self.weights.to() {
            DType::F32 => (DType::F32, BLOCK),
            to => (to, 4 * BLOCK),
        }
    }

    /// Where the dense block is rebuilt: entry by entry, of integers four bytes of a filter side by side.
    fn place(&self) -> Place {
        let (s, vector) = (self.stored.format.s, self.stored.geometry.vector_len());
        let integers = self.weights.to() != DType::F32;
        let step = 4 * BLOCK;
        let digits = match integers {
            false => [(1, 0), (1, 0), (vector, 1)],
            true => [
                (self.stored.rows(), s.div_ceil(4) * step),
                (s.div_ceil(4), step),
                (s.min(4), 1),
            ],
        };
        Place {
            filter0: 0,
            filters: self.stored.geometry.filters(),
            digits,
            block: BLOCK,
            lanes: BLOCK,
            strides: integers.then_some((4, 1)),
        }
    }

    /// Whether windows have several rows, or columns, that are not in one unit.
    fn has(&self, axis: Axis) -> bool {
        self.axes.iter().any(|&(_, a)| a == axis)
    }

    /// Whether rows can be left out: the weights have an index of rows.
    pub fn is_indexed(&self) -> bool {
        matches!(self.stored.format.index, Index::Rows(_))
    }

    /// Whether some filter of a block keeps a row.
    fn is_kept(&self, block: usize, row: usize) -> bool {
        let filters = block * BLOCK..((block + 1) * BLOCK).min(self.stored.geometry.filters());
        let step = self.stored.format.index_filters();
        let last = filters.end - 1;
        filters
            .step_by(step)
            .chain([last])
            .any(|filter| self.stored.is_kept(filter, row))
    }

    /// Blocks of filters.
    pub fn blocks(&self) -> usize {
        self.stored.geometry.filters().div_ceil(BLOCK)
    }

    /// Entries that a filter would have with all its rows.
    pub fn dense(&self) -> usize {
        self.rows().2
    }

    /// Entries of all blocks.
    pub fn entries(&self) -> usize {
        self.starts().last().copied().unwrap_or(0)
    }

    /// Entries of each block, and at the end of all, counted up from the first.
    pub fn starts(&self) -> Vec<usize> {
        let (whole, rest, _) = self.rows();
        let mut starts = vec![0];
        let mut at = 0;
        for block in 0..self.blocks() {
            let kept = (0..self.stored.rows()).filter(|&row| self.is_kept(block, row));
            at += kept
                .map(|row| if row < whole { self.unit.per_row } else { rest })
                .sum::<usize>();
            starts.push(at);
        }
        starts
    }
}

fn int(b: &mut FuncBuilder, x: usize) -> Val {
    b.int(Ty::scalar(DType::I64), x as i64)
}

fn scaled(b: &mut FuncBuilder, x: Val, factor: usize) -> Val {
    let factor = int(b, factor);
    b.mul(x, factor)
}

/// Quotient and rest.
fn divided(b: &mut FuncBuilder, x: Val, by: usize) -> (Val, Val) {
    let divisor = int(b, by);
    let above = b.div(x, divisor);
    let below = b.mul(above, divisor);
    let rest = b.sub(x, below);
    (above, rest)
}
