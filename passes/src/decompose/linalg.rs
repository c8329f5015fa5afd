//! Small dense algebra on top of nalgebra.

use nalgebra::{Cholesky, DMatrix, DVector};
use pulp::Arch;

/// `x L^-1` for a lower triangular `L` `[s, s]` (row-major).
pub fn divide_lower(x: &[f64], l: &[f64], s: usize, out: &mut [f64]) {
    for j in (0..s).rev() {
        let done: f64 = (j + 1..s).map(|k| out[k] * l[k * s + j]).sum();
        out[j] = (x[j] - done) / l[j * s + j];
    }
}

/// `x M` for a matrix `[s, s]` (row-major).
pub fn times(x: &[f64], m: &[f64], s: usize, out: &mut [f64]) {
    for (j, o) in out.iter_mut().enumerate().take(s) {
        *o = (0..s).map(|i| x[i] * m[i * s + j]).sum();
    }
}

/// `y + a x`, as fast as the machine adds. Products and sums are rounded one by one, the same on every machine.
pub fn add_times(arch: Arch, y: &mut [f64], a: f64, x: &[f64]) {
    arch.dispatch(
        #[inline(always)]
        || y.iter_mut().zip(x).for_each(|(y, x)| *y += a * x),
    );
}

/// Cholesky factorisation of a symmetric matrix, with a growing ridge until it succeeds.
pub fn factor(m: &DMatrix<f64>) -> Cholesky<f64, nalgebra::Dyn> {
    let n = m.nrows();
    let mean = (m.trace() / n.max(1) as f64).abs().max(f64::MIN_POSITIVE);
    let mut ridge = 0.0;
    loop {
        let mut trial = m.clone();
        for i in 0..n {
            trial[(i, i)] += ridge;
        }
        if let Some(found) = Cholesky::new(trial) {
            return found;
        }
        ridge = if ridge == 0.0 { 1e-10 * mean } else { ridge * 100.0 };
        if !ridge.is_finite() {
            return Cholesky::new(DMatrix::identity(n, n)).expect("the identity is positive definite");
        }
    }
}

/// The solution of a symmetric positive system.
pub fn solve(m: &DMatrix<f64>, b: &[f64]) -> Vec<f64> {
    factor(m)
        .solve(&DVector::from_row_slice(b))
        .iter()
        .copied()
        .collect()
}
