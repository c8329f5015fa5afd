//! Rebuilding against plain formulas.

use super::*;

#[test]
fn rows_along_the_kernels_axes() {
    let shape = [2, 3, 4, 5];
    let dense: Vec<i32> = (0..2 * 3 * 4 * 5).collect();
    let at = |m: usize, c: usize, y: usize, x: usize| dense[((m * 3 + c) * 4 + y) * 5 + x];
    let x_rows = Geometry::conv(&shape, Axis::X).gather(&dense, 5);
    let y_rows = Geometry::conv(&shape, Axis::Y).gather(&dense, 4);
    for m in 0..2 {
        for c in 0..3 {
            for y in 0..4 {
                for x in 0..5 {
                    assert_eq!(x_rows[(m * 12 + c * 4 + y) * 5 + x], at(m, c, y, x));
                    assert_eq!(y_rows[(m * 15 + c * 5 + x) * 4 + y], at(m, c, y, x));
                }
            }
        }
    }
}

#[test]
fn matmul_and_gates() {
    let matmul = Geometry::matmul(&[7, 2]);
    assert_eq!((matmul.filters(), matmul.vector_len(), matmul.rows(3)), (2, 7, 3));
    let dense: Vec<i32> = (1..=14).collect();
    let expected = [1, 3, 5, 7, 9, 11, 13, 0, 0, 2, 4, 6, 8, 10, 12, 14, 0, 0];
    assert_eq!(matmul.gather(&dense, 3), expected);
    let batch = Geometry::matmul(&[5, 7, 2]);
    assert_eq!((batch.filters(), batch.vector_len()), (10, 7));
    let gates = Geometry::leading(&[2, 12, 9], 2);
    assert_eq!((gates.filters(), gates.vector_len()), (24, 9));
    assert_eq!(
        Geometry::conv(&[4, 3, 9], Axis::Y),
        Geometry::conv(&[4, 3, 9], Axis::X)
    );
}

#[test]
fn rounding_and_saturation() {
    let row = |codes: &[i8], basis: &[i8], shift| {
        let mut out = [0; 3];
        rebuild_row(&[1, 2, 4], codes, basis, shift, &mut out);
        out
    };
    // Halves go up, also below zero.
    assert_eq!(row(&[1], &[1, -1, 3], 1), [1, 0, 2]);
    assert_eq!(row(&[-2], &[3, -3, 5], 2), [-1, 2, -2]);
    assert_eq!(row(&[1, -1], &[1, 2, 3, 4, 5, 6], 0), [-3, -3, -3]);
    assert_eq!(row(&[3, 3], &[127, -128, 1, 127, -128, 1], 0), [127, -128, 8]);
}

#[test]
fn golden_weights() {
    let d = golden();
    let (weights, scales) = rebuild(&d).unwrap();
    // Row 0 of filter 0: (64 * [100, -20, 3] - [0, 1, -128] + 32) >> 6.
    // Row 2 of filter 1: (-64 * [127, 0, 0] + [1, 64, 2] + [-3, -2, 33] + 16) >> 5, of which the first saturates.
    let expected = [100i8, -20, 5, 0, 0, 0, 3, -6, 1, -1, -1, 17, 0, 0, 0, -128, 2, 1];
    assert_eq!(weights.elements::<i8>().unwrap()[..], expected);
    assert_eq!(weights.shape(), [2, 1, 3, 3]);
    assert_eq!(scales, [0.5, 0.0625]);
    let real = dequantised(&d).unwrap();
    let real = real.elements::<f32>().unwrap();
    assert_eq!((real[0], real[15], real[16]), (50.0, -8.0, 0.125));
}

proptest! {
    #[test]
    fn gather_and_scatter_are_inverse(geometry in any_geometry(), s in 1..=8usize) {
        let dense: Vec<u32> = (1..=geometry.shape.iter().product::<usize>() as u32).collect();
        let rows = geometry.gather(&dense, s);
        let pitch = geometry.rows(s) * s;
        for (i, &entry) in rows.iter().enumerate() {
            let (filter, position) = (i / pitch, i % pitch);
            let padding = position >= geometry.vector_len();
            prop_assert_eq!(entry, if padding { 0 } else { dense[geometry.dense_index(filter, position)] });
        }
        prop_assert_eq!(geometry.scatter(&rows, s), dense);
    }

    #[test]
    fn weights_follow_the_formula(d in any_decomposed()) {
        let (g, f) = (&d.geometry, &d.format);
        let (weights, scales) = rebuild(&d).unwrap();
        let weights = weights.elements::<i8>().unwrap();
        let real = dequantised(&d).unwrap();
        let real = real.elements::<f32>().unwrap();
        let rows = g.vector_len().div_ceil(f.s);
        let slices = rows.div_ceil(f.slice_rows);
        prop_assert_eq!(scales.len(), g.filters());
        for (m, scale) in scales.into_iter().enumerate() {
            for p in 0..g.vector_len() {
                let (q, j) = (p / f.s, p % f.s);
                let basis = m / f.basis_filters * slices + q / f.slice_rows;
                // Exact in f64: no integer arithmetic shared with the code under test.
                let sum: f64 = (0..f.r).map(|k| {
                    let code = d.codes[(m * rows + q) * f.r + k];
                    let level = if code == 0 { 0.0 } else {
                        f64::from(f.alphabet[code.unsigned_abs() as usize - 1]) * f64::from(code.signum())
                    };
                    level * f64::from(d.bases[(basis * f.r + k) * f.s + j])
                }).sum();
                let unit = f64::from(d.shifts[basis]).exp2();
                let expected = (sum / unit + if unit > 1.0 { 0.5 } else { 0.0 }).floor().clamp(-128.0, 127.0);
                let at = g.dense_index(m, p);
                prop_assert_eq!(f64::from(weights[at]), expected);
                prop_assert_eq!(real[at], expected as f32 * scale);
            }
        }
    }
}
