//! The released SmartDeal solver, step by step as the authors' code does it: the baseline all others are held against.
//!
//! Alternates rounding to powers of two, a least-squares basis, a division by the basis, and thresholds. Its defects are kept
//! (no step guarantees descent, the first pass has no threshold); its traps are not: an all-zero slice is answered at once.

use nalgebra::DMatrix;
use rayon::prelude::*;
use sdc_ir::DType;
use sdc_ir::sd::{Decomposed, Format, Geometry, Index, Packing};

/// Parameters of [`solve`]; [`ReleasedOptions::default`] are those of the released inference script.
#[derive(Clone, Debug, PartialEq)]
pub struct ReleasedOptions {
    /// Passes at most, the final rounding included.
    pub iterations: usize,
    /// Coefficients below it become zero; in units of the weights.
    pub theta: f64,
    /// Factor on `theta` when centring finds a column of zeros and the slice starts over.
    pub decay: f64,
    /// Centre each column's magnitudes geometrically before rounding.
    pub centre: bool,
    /// Stop when the rounded coefficients move by less (Frobenius norm).
    pub tolerance: f64,
    /// Singular values below this part of the largest are dropped.
    pub rcond: f64,
    /// Zero whole rows whose absolute sum is below `5 * theta`.
    pub threshold_rows: bool,
    /// Magnitudes are clipped to it.
    pub max_coefficient: f64,
}

impl Default for ReleasedOptions {
    fn default() -> Self {
        Self {
            iterations: 30,
            theta: 1e-3,
            decay: 0.5,
            centre: false,
            tolerance: 1e-10,
            rcond: 1e-10,
            threshold_rows: false,
            max_coefficient: 32.0,
        }
    }
}

/// What [`solve`] found: `a ~ coefficients * basis`.
#[derive(Clone, Debug, PartialEq)]
pub struct Released {
    /// Same shape as the slice; zeros and signed powers of two.
    pub coefficients: DMatrix<f64>,
    /// Square, one row per column of the slice.
    pub basis: DMatrix<f64>,
    /// Frobenius norm of the residual with the rounded coefficients, per pass.
    pub errors: Vec<f64>,
}

/// Times a slice may start over with a smaller threshold: `theta` is then zero for all practical purposes.
const MAX_RESTARTS: usize = 64;

/// Decomposes one slice (`n` rows of `S` weights, `n >= S`), after SmartDeal's released `core_decompose`.
pub fn solve(a: &DMatrix<f64>, options: &ReleasedOptions) -> Released {
    let mut theta = options.theta;
    for _ in 0..MAX_RESTARTS {
        match attempt(a, options, theta) {
            Some(found) => return found,
            None => theta *= options.decay,
        }
    }
    let plain = ReleasedOptions {
        centre: false,
        ..options.clone()
    };
    attempt(a, &plain, 0.0).expect("only centring starts over")
}

/// One run with a fixed threshold; `None` if centring met a column of zeros.
fn attempt(a: &DMatrix<f64>, options: &ReleasedOptions, theta: f64) -> Option<Released> {
    let s = a.ncols();
    if a.iter().all(|&x| x == 0.0) {
        return Some(Released {
            coefficients: a.clone(),
            basis: DMatrix::identity(s, s),
            errors: Vec::new(),
        });
    }
    let centre = options.centre && a.column_iter().all(|c| c.iter().any(|&x| x != 0.0));
    let mut ce = a.clone();
    let mut previous: Option<DMatrix<f64>> = None;
    let mut errors = Vec::new();
    for _ in 0..options.iterations.saturating_sub(1) {
        let q = round(&ce, centre, options.max_coefficient)?;
        if previous
            .as_ref()
            .is_some_and(|p| (&q - p).norm() <= options.tolerance)
        {
            break;
        }
        let basis = least_squares(&q, a, options.rcond);
        errors.push((a - &q * &basis).norm());
        ce = a * pseudo_inverse(&basis, options.rcond);
        if options.threshold_rows {
            for mut row in ce.row_iter_mut() {
                if row.iter().map(|x| x.abs()).sum::<f64>() < 5.0 * theta {
                    row.fill(0.0);
                }
            }
        }
        ce.apply(|x| {
            if x.abs() < theta {
                *x = 0.0;
            }
        });
        previous = Some(q);
    }
    let coefficients = round(&ce, centre, options.max_coefficient)?;
    let basis = least_squares(&coefficients, a, 1e-10);
    Some(Released {
        coefficients,
        basis,
        errors,
    })
}

/// Each entry to the nearest signed power of two on the linear scale, ties down; `None` if a column to centre is zero.
fn round(ce: &DMatrix<f64>, centre: bool, max: f64) -> Option<DMatrix<f64>> {
    let mut q = ce.clone();
    for mut column in q.column_iter_mut() {
        if centre {
            let shifts: Vec<f64> = column
                .iter()
                .filter(|&&x| x != 0.0)
                .map(|x| x.abs().log2().round() - x.abs().log2())
                .collect();
            if shifts.is_empty() {
                return None;
            }
            column *= (shifts.iter().sum::<f64>() / shifts.len() as f64).exp2();
        }
        column.apply(|x| {
            *x = if *x == 0.0 {
                0.0
            } else {
                x.signum() * nearest_power(x.abs()).min(max)
            }
        });
    }
    Some(q)
}

/// The power of two nearest to a positive number; the lower of two.
fn nearest_power(x: f64) -> f64 {
    let low = x.log2().floor().exp2();
    if x > 1.5 * low { 2.0 * low } else { low }
}

fn pseudo_inverse(m: &DMatrix<f64>, rcond: f64) -> DMatrix<f64> {
    let svd = m.clone().svd(true, true);
    let largest = svd.singular_values.iter().copied().fold(0.0, f64::max);
    svd.pseudo_inverse(rcond * largest)
        .unwrap_or_else(|_| DMatrix::zeros(m.ncols(), m.nrows()))
}

fn least_squares(q: &DMatrix<f64>, a: &DMatrix<f64>, rcond: f64) -> DMatrix<f64> {
    pseudo_inverse(q, rcond) * a
}

/// A whole tensor in the published form: 4-bit codes of seven powers of two, 8-bit bases, one per filter and slice.
///
/// Rows have the width of the kernel if that is 2 to 8 and the tensor has one, else three entries. The released code leaves basis
/// and window of exponents open: here the seven largest powers of each tensor are kept, smaller ones become zero, and
/// bases are rounded to the nearest integer under one scale per filter.
pub fn decompose(geometry: &Geometry, rows: &[f32], options: &ReleasedOptions) -> Decomposed {
    let width = geometry
        .vector_dims
        .get(1..)
        .and_then(|d| d.last())
        .map_or(1, |&d| geometry.shape[d]);
    let s = if (2..=8).contains(&width) { width } else { 3 };
    let (filters, q, length) = (geometry.filters(), geometry.rows(s), geometry.vector_len());
    let slice_rows = (64 * s).min(q);
    let slices: Vec<(usize, usize)> = (0..filters)
        .flat_map(|m| (0..q).step_by(slice_rows).map(move |first| (m, first)))
        .collect();
    let solved: Vec<Released> = slices
        .par_iter()
        .map(|&(m, first)| {
            let w = &rows[m * length..][..length];
            let count = slice_rows.min(q - first);
            let at = |i: usize, j: usize| w.get((first + i) * s + j).map_or(0.0, |&x| f64::from(x));
            let a = DMatrix::from_fn(count, s, at);
            // Slices with fewer rows than entries are solved with rows of zeros below: they stay zero.
            if count >= s {
                return solve(&a, options);
            }
            let mut found = solve(&a.clone().resize_vertically(s, 0.0), options);
            found.coefficients = found.coefficients.rows(0, count).into_owned();
            found
        })
        .collect();
    let exponent = |x: f64| x.abs().log2().round() as i32;
    let top = solved
        .iter()
        .flat_map(|r| r.coefficients.iter())
        .filter(|x| **x != 0.0)
        .map(|&x| exponent(x))
        .max();
    let lowest = top.unwrap_or(0) - 6;
    let mut codes = vec![0i8; filters * q * s];
    for (&(m, first), found) in slices.iter().zip(&solved) {
        for (i, row) in found.coefficients.row_iter().enumerate() {
            for (k, &x) in row.iter().enumerate().filter(|(_, x)| **x != 0.0) {
                let level = exponent(x) - lowest + 1;
                if level >= 1 {
                    codes[((m * q + first + i) * s) + k] = if x > 0.0 { level as i8 } else { -(level as i8) };
                }
            }
        }
    }
    let unit = f64::from(lowest).exp2();
    let (mut bases, mut shifts, mut scales) = (Vec::new(), Vec::new(), Vec::new());
    let per_filter = slices.len() / filters.max(1);
    for m in 0..filters {
        let own = &solved[m * per_filter..][..per_filter];
        let peak = own
            .iter()
            .fold(0f64, |a, r| a.max((&r.coefficients * &r.basis).amax()));
        let entry = own.iter().fold(0f64, |a, r| a.max(r.basis.amax() * unit));
        let mut gain = if peak > 0.0 { 127.0 / peak } else { 1.0 };
        if entry * gain > 127.0 {
            gain = 127.0 / entry;
        }
        // Rounded up, so that the largest weight still fits.
        let scale = (1.0 / gain) as f32;
        for found in own {
            let largest = found.basis.amax() * unit / f64::from(scale);
            let shift = (0..15u8)
                .take_while(|&sh| largest > 0.0 && largest * f64::from(2u32 << sh) <= 127.0)
                .count() as u8;
            let factor = unit / f64::from(scale) * f64::from(1u32 << shift);
            for k in 0..s {
                bases.extend(
                    (0..s).map(|j| (found.basis[(k, j)] * factor).round().clamp(-127.0, 127.0) as i8),
                );
            }
            shifts.push(shift);
        }
        scales.push(scale);
    }
    let format = Format {
        s,
        r: s,
        slice_rows,
        alphabet: (0..7).map(|e| 1 << e).collect(),
        packing: Packing::Nibble,
        basis_bits: 8,
        basis_filters: 1,
        scale: DType::F32,
        index: Index::None,
    };
    Decomposed {
        geometry: geometry.clone(),
        format,
        codes,
        kept: vec![true; filters * q],
        bases,
        shifts,
        scales,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> DMatrix<f64> {
        #[rustfmt::skip]
        let a = [
            0.12, -0.05, 0.33, -0.21, 0.07, 0.02, 0.04, 0.18, -0.09,
            0.30, -0.26, 0.11, -0.03, 0.01, 0.15, 0.09, 0.09, -0.40,
        ];
        DMatrix::from_row_slice(6, 3, &a)
    }

    /// Sign and exponent; 0 exponent sentinel `NONE` is a zero.
    const NONE: i32 = i32::MIN;
    fn powers(rows: &[[(i32, i32); 3]]) -> DMatrix<f64> {
        let flat: Vec<f64> = rows
            .iter()
            .flatten()
            .map(|&(sign, e)| {
                if e == NONE {
                    0.0
                } else {
                    f64::from(sign) * f64::from(e).exp2()
                }
            })
            .collect();
        DMatrix::from_row_slice(rows.len(), 3, &flat)
    }

    fn check(options: &ReleasedOptions, errors: &[f64], ce: &DMatrix<f64>, basis: [f64; 9], last: f64) {
        let a = example();
        let found = solve(&a, options);
        assert_eq!(found.errors.len(), errors.len(), "{:?}", found.errors);
        for (x, y) in found.errors.iter().zip(errors) {
            assert!((x - y).abs() < 1e-6, "{:?}", found.errors);
        }
        assert_eq!(&found.coefficients, ce);
        assert!(
            (&found.basis - DMatrix::from_row_slice(3, 3, &basis)).amax() < 1e-6,
            "{}",
            found.basis
        );
        assert!(((a - &found.coefficients * &found.basis).norm() - last).abs() < 1e-6);
    }

    #[test]
    fn vectors_without_centring() {
        let mut rows = [
            [(1, -3), (-1, -4), (1, -2)],
            [(-1, -2), (1, -4), (1, -4)],
            [(1, -4), (1, -3), (-1, -3)],
            [(1, -2), (-1, -2), (1, -3)],
            [(-1, -6), (1, -7), (1, -3)],
            [(1, -4), (1, -4), (-1, -1)],
        ];
        let options = ReleasedOptions {
            theta: 4e-3,
            ..Default::default()
        };
        let basis = [
            0.850948, 0.133667, 0.333279, -0.338015, 1.236754, 0.329486, -0.094691, 0.006190, 0.976730,
        ];
        check(
            &options,
            &[0.140501, 0.116590, 0.109477],
            &powers(&rows),
            basis,
            0.109477,
        );

        rows[1][2] = (0, NONE);
        rows[4] = [(0, NONE), (0, NONE), (1, -3)];
        let options = ReleasedOptions {
            theta: 0.05,
            ..Default::default()
        };
        let basis = [
            0.854658, 0.131090, 0.183141, -0.354915, 1.231603, 0.221090, -0.110064, 0.003173, 0.953558,
        ];
        check(&options, &[0.140501, 0.127950], &powers(&rows), basis, 0.127950);
    }

    #[test]
    fn vectors_with_centring() {
        let rows = [
            [(1, -3), (-1, -6), (1, -2)],
            [(-1, -2), (1, -5), (1, -4)],
            [(1, -4), (1, -2), (-1, -3)],
            [(1, -2), (-1, -2), (1, -4)],
            [(-1, -6), (1, -6), (1, -3)],
            [(1, -4), (1, -3), (-1, -1)],
        ];
        let options = ReleasedOptions {
            theta: 4e-3,
            centre: true,
            ..Default::default()
        };
        let basis = [
            0.954374, -0.228483, 0.312392, -0.171774, 0.779868, 0.128087, -0.078486, -0.021499, 0.960527,
        ];
        let errors = [0.143812, 0.117135, 0.102821, 0.102413, 0.102061];
        check(&options, &errors, &powers(&rows), basis, 0.102061);
    }

    /// Mean SQNR in dB over Gaussian slices, and the share of zero coefficients.
    fn gaussian(options: &ReleasedOptions) -> (f64, f64) {
        let mut random = fastrand::Rng::with_seed(7);
        let mut normal = move || {
            let (u, v) = (1.0 - random.f64(), random.f64());
            0.05 * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        };
        let (mut db, mut zeros, n) = (0.0, 0, 40);
        for _ in 0..n {
            let a = DMatrix::from_fn(192, 3, |_, _| normal());
            let found = solve(&a, options);
            let noise = (&a - &found.coefficients * &found.basis).norm_squared();
            db += 10.0 * (a.norm_squared() / noise).log10();
            zeros += found.coefficients.iter().filter(|&&x| x == 0.0).count();
        }
        (db / f64::from(n), zeros as f64 / (f64::from(n) * 576.0))
    }

    #[test]
    fn quality_on_gaussian_slices() {
        for (iterations, listed) in [(2, 14.5), (5, 14.7), (10, 14.8), (30, 14.8)] {
            let (db, zeros) = gaussian(&ReleasedOptions {
                iterations,
                theta: 4e-3,
                ..Default::default()
            });
            assert!((db - listed).abs() < 0.15, "{iterations} iterations: {db:.2} dB");
            assert!((zeros - 0.06).abs() < 0.015, "{zeros}");
        }
        let (db, zeros) = gaussian(&ReleasedOptions {
            theta: 0.02,
            ..Default::default()
        });
        assert!(
            (db - 13.1).abs() < 0.12 && (zeros - 0.32).abs() < 0.02,
            "{db:.2} dB, {zeros:.3} zeros"
        );
        let (db, _) = gaussian(&ReleasedOptions {
            theta: 4e-3,
            centre: true,
            ..Default::default()
        });
        assert!((db - 14.84).abs() < 0.12, "centred: {db:.2} dB");
    }

    #[test]
    fn zeros_are_answered() {
        let zero = DMatrix::zeros(4, 3);
        assert_eq!(solve(&zero, &ReleasedOptions::default()).coefficients, zero);
        let mut column = DMatrix::zeros(4, 3);
        column[(1, 1)] = 0.5;
        for centre in [false, true] {
            let found = solve(
                &column,
                &ReleasedOptions {
                    centre,
                    ..Default::default()
                },
            );
            assert!((&column - found.coefficients * found.basis).norm() < 1e-12);
        }
    }
}
