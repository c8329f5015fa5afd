//! Types of graph values.

use super::Shape;
use crate::DType;
use crate::tensor::{element_count, row_major_strides};
use std::fmt;

/// Physical order of a tensor's dimensions: dense, without padding.
///
/// `order[0]` is the slowest-varying logical dimension, the last one is contiguous. NCHW data stored
/// channels-last has order `[0, 2, 3, 1]`. Text: `{0,2,3,1}` after the shape, omitted when row-major.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Layout {
    order: Vec<usize>,
}

impl Layout {
    /// Dimensions in their logical order.
    pub fn row_major(rank: usize) -> Self {
        Self {
            order: (0..rank).collect(),
        }
    }
    /// Batch first, channels (dimension 1) last: the layout of the dense data path. Row-major below rank 3.
    pub fn channels_last(rank: usize) -> Self {
        if rank < 3 {
            return Self::row_major(rank);
        }
        Self {
            order: std::iter::once(0)
                .chain(2..rank)
                .chain(std::iter::once(1))
                .collect(),
        }
    }
    /// A layout from a permutation of `0..rank`; `None` if it is not one.
    pub fn from_order(order: Vec<usize>) -> Option<Self> {
        let mut seen = vec![false; order.len()];
        for &d in &order {
            if d >= order.len() || std::mem::replace(&mut seen[d], true) {
                return None;
            }
        }
        Some(Self { order })
    }
    /// Logical dimensions from slowest to fastest.
    pub fn order(&self) -> &[usize] {
        &self.order
    }
    /// True if dimensions are stored in logical order.
    pub fn is_row_major(&self) -> bool {
        self.order.iter().enumerate().all(|(i, &d)| i == d)
    }
    /// Stride of each logical dimension, in elements, for a tensor of this shape.
    pub fn strides(&self, shape: &[usize]) -> Vec<usize> {
        let physical: Vec<usize> = self.order.iter().map(|&d| shape[d]).collect();
        let physical_strides = row_major_strides(&physical);
        let mut strides = vec![0; shape.len()];
        for (&d, s) in self.order.iter().zip(physical_strides) {
            strides[d] = s;
        }
        strides
    }
}

/// Type of a tensor value: element type, shape, physical layout.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Logical shape, in ONNX's order of dimensions; empty for a scalar.
    pub shape: Shape,
    /// Physical layout; row-major until the layout pass.
    pub layout: Layout,
}

impl TensorType {
    /// A row-major tensor type.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let layout = Layout::row_major(shape.rank());
        Self { dtype, shape, layout }
    }
    /// The same type under another layout.
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }
    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.rank()
    }
    /// The sizes of all dimensions, of a value of a verified graph: [`Shape::sizes`].
    pub fn sizes(&self) -> &[usize] {
        self.shape.sizes()
    }
    /// Number of elements, `None` on overflow or if a dimension is a symbol.
    pub fn elements(&self) -> Option<usize> {
        element_count(self.shape.constant()?)
    }
    /// Bytes of the dense tensor, `None` where the number of elements is.
    pub fn bytes(&self) -> Option<usize> {
        self.elements()?.checked_mul(self.dtype.size())
    }
    /// Stride of each logical dimension, in elements.
    pub fn strides(&self) -> Vec<usize> {
        self.layout.strides(self.sizes())
    }
    /// True if both types have one shape and place each element at the same index.
    pub fn same_bytes(&self, other: &Self) -> bool {
        let (x, y) = (self.strides(), other.strides());
        self.shape == other.shape && (0..self.rank()).all(|d| self.sizes()[d] == 1 || x[d] == y[d])
    }
    /// True if dtype and shape agree, whatever the layouts.
    pub fn same_tensor(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.shape == other.shape
    }
}

/// A shape as text: `[1,3,32,32]`.
pub fn shape_text(shape: &[usize]) -> String {
    let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("[{}]", dims.join(","))
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)?;
        if !self.layout.is_row_major() {
            let order: Vec<String> = self.layout.order().iter().map(ToString::to_string).collect();
            write!(f, "{{{}}}", order.join(","))?;
        }
        Ok(())
    }
}
