//! Between the dense tensor and rows of filters.

use super::{Format, Geometry};

/// Direction of a convolution's rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Axis {
    /// Along the kernel's last dimension: row `c*kh + y` holds the weights at `x = 0..kw`.
    X,
    /// Along the kernel's dimension before the last: row `c*kw + x` holds the weights at `y = 0..kh`.
    Y,
}

impl Geometry {
    /// Convolution weights `[M, C/groups, ...kernel]`: a filter per output channel. With fewer than two kernel dimensions there is only
    /// [`Axis::X`].
    pub fn conv(shape: &[usize], axis: Axis) -> Self {
        let mut geometry = Self::leading(shape, 1);
        let last = geometry.vector_dims.len();
        if axis == Axis::Y && last >= 3 {
            geometry.vector_dims.swap(last - 2, last - 1);
        }
        geometry
    }

    /// The right operand of MatMul, `[..., K, N]`: a filter per output column (of each matrix of a batch), its vector along `K`.
    pub fn matmul(shape: &[usize]) -> Self {
        let inner = shape.len().saturating_sub(2);
        Self {
            shape: shape.to_vec(),
            filter_dims: (0..shape.len()).filter(|&d| d != inner).collect(),
            vector_dims: (0..shape.len()).filter(|&d| d == inner).collect(),
        }
    }

    /// The first `n` dimensions number the filters, the others run along the vector: Gemm with `transB` (`n = 1`), gates `[D, 4H, I]`
    /// of LSTM (`n = 2`).
    pub fn leading(shape: &[usize], n: usize) -> Self {
        let n = n.min(shape.len());
        Self {
            shape: shape.to_vec(),
            filter_dims: (0..n).collect(),
            vector_dims: (n..shape.len()).collect(),
        }
    }

    /// Number of filters, `M`.
    pub fn filters(&self) -> usize {
        self.filter_dims.iter().map(|&d| self.shape[d]).product()
    }

    /// Entries of a filter's vector, without padding.
    pub fn vector_len(&self) -> usize {
        self.vector_dims.iter().map(|&d| self.shape[d]).product()
    }

    /// Rows of a filter, `Q`, when rows have `s` entries.
    pub fn rows(&self, s: usize) -> usize {
        self.vector_len().div_ceil(s)
    }

    /// Slices of a filter, `T`.
    pub fn slices(&self, format: &Format) -> usize {
        self.rows(format.s).div_ceil(format.slice_rows)
    }

    /// Sets of bases, `ceil(M/H)`.
    pub fn basis_groups(&self, format: &Format) -> usize {
        self.filters().div_ceil(format.basis_filters)
    }

    /// Groups of filters that share a row index, `ceil(M/G)`.
    pub fn index_groups(&self, format: &Format) -> usize {
        self.filters().div_ceil(format.index_filters())
    }

    /// Place in the dense row-major tensor of an entry of a filter's vector.
    pub fn dense_index(&self, filter: usize, position: usize) -> usize {
        let strides = crate::tensor::row_major_strides(&self.shape);
        let offset = |mut index: usize, dims: &[usize]| {
            let mut sum = 0;
            for &d in dims.iter().rev() {
                sum += index % self.shape[d] * strides[d];
                index /= self.shape[d];
            }
            sum
        };
        offset(filter, &self.filter_dims) + offset(position, &self.vector_dims)
    }

    /// Offsets in the dense tensor of each index over `dims`, row-major: the place of (filter, position) is the sum of the two parts.
    fn offsets(&self, dims: &[usize]) -> Vec<usize> {
        let strides = crate::tensor::row_major_strides(&self.shape);
        dims.iter().fold(vec![0], |outer, &d| {
            let steps = (0..self.shape[d]).map(|i| i * strides[d]);
            outer
                .iter()
                .flat_map(|&o| steps.clone().map(move |i| o + i))
                .collect()
        })
    }

    /// The dense elements as rows, `[M, Q, s]`; padding is `T::default()`.
    ///
    /// # Panics
    /// If `dense` does not have the elements of `shape`.
    pub fn gather<T: Copy + Default>(&self, dense: &[T], s: usize) -> Vec<T> {
        assert_eq!(
            dense.len(),
            self.shape.iter().product(),
            "elements of the dense tensor"
        );
        let positions = self.offsets(&self.vector_dims);
        let pitch = self.rows(s) * s;
        let mut rows = Vec::with_capacity(self.filters() * pitch);
        for filter in self.offsets(&self.filter_dims) {
            let start = rows.len();
            rows.extend(positions.iter().map(|p| dense[filter + p]));
            rows.resize(start + pitch, T::default());
        }
        rows
    }

    /// The inverse of [`Geometry::gather`]: padding is dropped.
    ///
    /// # Panics
    /// If `rows` is not `[M, Q, s]`.
    pub fn scatter<T: Copy + Default>(&self, rows: &[T], s: usize) -> Vec<T> {
        let positions = self.offsets(&self.vector_dims);
        let pitch = self.rows(s) * s;
        assert_eq!(rows.len(), self.filters() * pitch, "elements of the rows");
        let mut dense = vec![T::default(); self.shape.iter().product()];
        for (filter, vector) in self
            .offsets(&self.filter_dims)
            .iter()
            .zip(rows.chunks(pitch.max(1)))
        {
            for (p, &value) in positions.iter().zip(vector) {
                dense[filter + p] = value;
            }
        }
        dense
    }
}
