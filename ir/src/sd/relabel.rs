//! The same filters and vectors under another shape: how a stored weight follows `Transpose` and `Reshape` without being rebuilt.

use super::{Geometry, Stored};

/// The same codes, or integers, as a tensor of another shape: `geometry` comes from [`transposed`] or [`reshaped`].
pub fn with_geometry(stored: Stored, geometry: Geometry) -> Stored {
    let mut stored = stored;
    match &mut stored {
        Stored::Sd(d) => d.geometry = geometry,
        Stored::Int8(q) => q.geometry = geometry,
    }
    stored
}

/// The geometry of the transposed tensor, whose dimension `k` is dimension `perm[k]` of the old one. `perm` is a permutation.
pub fn transposed(geometry: &Geometry, perm: &[usize]) -> Geometry {
    let mut place = vec![0; perm.len()];
    for (k, &p) in perm.iter().enumerate() {
        place[p] = k;
    }
    let moved = |dims: &[usize]| dims.iter().map(|&d| place[d]).collect();
    Geometry {
        shape: perm.iter().map(|&p| geometry.shape[p]).collect(),
        filter_dims: moved(&geometry.filter_dims),
        vector_dims: moved(&geometry.vector_dims),
    }
}

/// The geometry of the same elements under another shape, if filters and vectors are still made of whole dimensions. The order of
/// filters, and of the entries of their vectors, stays.
pub fn reshaped(geometry: &Geometry, shape: &[usize]) -> Option<Geometry> {
    if geometry.shape == shape {
        return Some(geometry.clone());
    }
    if shape.iter().product::<usize>() != geometry.shape.iter().product() {
        return None;
    }
    let is_unit = |d: &usize| geometry.shape[*d] == 1;
    let kept = |dims: &[usize]| -> Vec<usize> { dims.iter().copied().filter(|d| !is_unit(d)).collect() };
    let (filters, vector) = (kept(&geometry.filter_dims), kept(&geometry.vector_dims));
    if filters.iter().chain(&vector).is_sorted() {
        let count = geometry.filters();
        // At least one dimension numbers filters, and the fewest that do.
        let n = (1..=shape.len()).find(|&n| shape[..n].iter().product::<usize>() == count)?;
        return Some(Geometry::leading(shape, n));
    }
    // Dimensions of extent 1 may come and go anywhere.
    let old: Vec<usize> = (0..geometry.shape.len()).filter(|d| !is_unit(d)).collect();
    let (units, new): (Vec<usize>, Vec<usize>) = (0..shape.len()).partition(|&d| shape[d] == 1);
    let same = old
        .iter()
        .map(|&d| geometry.shape[d])
        .eq(new.iter().map(|&d| shape[d]));
    let place = |d: &usize| old.iter().position(|o| o == d).map(|i| new[i]);
    let moved = |dims: Vec<usize>| dims.iter().map(place).collect::<Option<Vec<_>>>();
    let (filter_dims, mut vector_dims) = (moved(filters)?, moved(vector)?);
    vector_dims.extend(units);
    same.then(|| Geometry {
        shape: shape.to_vec(),
        filter_dims,
        vector_dims,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sd::Axis;

    /// Filters of the elements 0, 1, 2 ...
    fn rows(geometry: &Geometry) -> Vec<i32> {
        let count = geometry.shape.iter().product::<usize>() as i32;
        geometry.gather(&(0..count).collect::<Vec<_>>(), 1)
    }

    #[test]
    fn a_transposed_matrix_keeps_its_filters() {
        let matmul = Geometry::matmul(&[4, 6]);
        let gemm = transposed(&matmul, &[1, 0]);
        assert_eq!(gemm, Geometry::leading(&[6, 4], 1));
        assert_eq!(transposed(&gemm, &[1, 0]), matmul);
    }

    #[test]
    fn shapes_change_around_filters_and_vectors() {
        let gates = Geometry::leading(&[2, 12, 5], 2);
        let flat = reshaped(&gates, &[24, 5]).unwrap();
        assert_eq!(flat, Geometry::leading(&[24, 5], 1));
        let lifted = reshaped(&Geometry::leading(&[4, 3, 7], 1), &[4, 3, 1, 7]).unwrap();
        assert_eq!(lifted, Geometry::conv(&[4, 3, 1, 7], Axis::X));
        // A filter would be cut in two.
        assert_eq!(reshaped(&flat, &[48, 5, 1]), None);
        assert_eq!(reshaped(&Geometry::leading(&[4, 6], 1), &[8, 3]), None);
        for to in [&[24, 5][..], &[24, 1, 5], &[1, 24, 5], &[4, 6, 5, 1]] {
            assert_eq!(rows(&reshaped(&gates, to).unwrap()), rows(&gates), "{to:?}");
        }
    }

    #[test]
    fn unit_dimensions_come_and_go_whatever_the_order() {
        let matmul = Geometry::matmul(&[4, 6]);
        let lifted = reshaped(&matmul, &[1, 4, 1, 6]).unwrap();
        assert_eq!(rows(&lifted), rows(&matmul));
        assert_eq!(reshaped(&lifted, &[4, 6]).unwrap(), matmul);
        assert_eq!(reshaped(&matmul, &[2, 12]), None);
    }
}
