//! Packed forms of constant weights, as the micro-kernels read them.

use sdc_ir::Tensor;
use sdc_ir::tensor::TensorError;

/// A `[k, n]` matrix given by its elements, in blocks of `block` columns: block `b` is `[k][width]`, `width = block`
/// except for the last block, whose columns are padded with zeros to a multiple of `lanes`.
///
/// `at(row, column)` is the element. Result: a rank-1 `f32` tensor.
///
/// # Errors
/// The packed matrix is too large to address.
pub fn columns(
    k: usize,
    n: usize,
    block: usize,
    lanes: usize,
    at: impl Fn(usize, usize) -> f32,
) -> Result<Tensor, TensorError> {
    let mut packed = Vec::with_capacity(packed_len(k, n, block, lanes));
    columns_into(&mut packed, k, n, block, lanes, at);
    Tensor::from_elements(vec![packed.len()], packed)
}

/// Appends what [`columns`] makes.
pub fn columns_into(
    packed: &mut Vec<f32>,
    k: usize,
    n: usize,
    block: usize,
    lanes: usize,
    at: impl Fn(usize, usize) -> f32,
) {
    for first in (0..n).step_by(block) {
        let columns = block.min(n - first);
        let width = if columns == block {
            block
        } else {
            columns.next_multiple_of(lanes)
        };
        for row in 0..k {
            packed.extend((first..first + columns).map(|column| at(row, column)));
            packed.extend(std::iter::repeat_n(0.0, width - columns));
        }
    }
}

/// Elements of the packed form.
pub fn packed_len(k: usize, n: usize, block: usize, lanes: usize) -> usize {
    let rest = n % block;
    k * (n - rest + rest.next_multiple_of(lanes))
}
