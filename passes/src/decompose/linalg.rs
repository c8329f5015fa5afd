//! Small dense algebra on top of nalgebra, whose factorisations take their matrices column by column: here they are taken in blocks, so that
//! nearly all of the work is products.

use nalgebra::{Cholesky, DMatrix, DMatrixViewMut, DVector};
use pulp::Arch;
use rayon::prelude::*;

/// Columns of a matrix that are factored by themselves.
const BLOCK: usize = 64;
/// Columns of a task.
const STRIP: usize = 256;

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

/// Takes from the later rows of `target` `[n, f]` what the rows `from .. from + width` of it turned out to be: `M[later, rows] * moves`, for
/// `moves` `[width, f]` (column-major).
pub fn take_from_later(
    target: &mut [f64],
    m: &DMatrix<f64>,
    from: usize,
    width: usize,
    moves: &DMatrix<f64>,
) {
    let (n, later) = (m.nrows(), from + width);
    if later >= n || moves.iter().all(|&x| x == 0.0) {
        return;
    }
    let columns = moves.ncols();
    let mut target = DMatrixViewMut::from_slice(target, n, columns);
    let rows = m.view((later, from), (n - later, width));
    target
        .rows_mut(later, n - later)
        .gemm(-1.0, &rows, &moves.rows(0, width), 1.0);
}

/// The lower triangular `L` with `L L^T` a symmetric positive matrix.
#[derive(Clone, Debug)]
pub struct Factor {
    /// What is above the diagonal means nothing.
    lower: DMatrix<f64>,
    /// Inverses of its diagonal blocks.
    inverses: Vec<DMatrix<f64>>,
}

impl Factor {
    /// Factors a matrix of which only the lower triangle is looked at; `None` if it is not positive definite.
    fn new(mut m: DMatrix<f64>) -> Option<Self> {
        let n = m.nrows();
        let mut inverses = Vec::with_capacity(n.div_ceil(BLOCK));
        for at in (0..n).step_by(BLOCK) {
            let width = BLOCK.min(n - at);
            let rest = n - at - width;
            let own = Cholesky::new(m.view((at, at), (width, width)).clone_owned())?.unpack();
            let inverse = own.solve_lower_triangular(&DMatrix::identity(width, width))?;
            m.view_mut((at, at), (width, width)).copy_from(&own);
            if rest > 0 {
                let below = m.view((at + width, at), (rest, width)) * inverse.transpose();
                m.view_mut((at + width, at), (rest, width)).copy_from(&below);
                let turned = below.transpose();
                let trailing = &mut m.as_mut_slice()[(at + width) * n..];
                trailing
                    .par_chunks_mut(STRIP * n)
                    .enumerate()
                    .for_each(|(i, strip)| {
                        let (first, columns) = (i * STRIP, strip.len() / n);
                        let mut strip = DMatrixViewMut::from_slice(strip, n, columns);
                        let rows = rest - first;
                        strip.rows_mut(at + width + first, rows).gemm(
                            -1.0,
                            &below.rows(first, rows),
                            &turned.columns(first, columns),
                            1.0,
                        );
                    });
            }
            inverses.push(inverse);
        }
        Some(Self { lower: m, inverses })
    }

    /// The solution of the system for each column of `b`.
    pub fn solve(&self, mut b: DMatrix<f64>) -> DMatrix<f64> {
        let n = self.lower.nrows();
        b.as_mut_slice()
            .par_chunks_mut(STRIP * n.max(1))
            .for_each(|strip| {
                let columns = strip.len() / n;
                let mut x = DMatrixViewMut::from_slice(strip, n, columns);
                for (k, inverse) in self.inverses.iter().enumerate() {
                    let (at, width) = (k * BLOCK, inverse.nrows());
                    let own = inverse * x.rows(at, width);
                    let rest = n - at - width;
                    let below = self.lower.view((at + width, at), (rest, width));
                    x.rows_mut(at + width, rest).gemm(-1.0, &below, &own, 1.0);
                    x.rows_mut(at, width).copy_from(&own);
                }
                for (k, inverse) in self.inverses.iter().enumerate().rev() {
                    let (at, width) = (k * BLOCK, inverse.nrows());
                    let own = inverse.transpose() * x.rows(at, width);
                    let before = self.lower.view((at, 0), (width, at)).transpose();
                    x.rows_mut(0, at).gemm(-1.0, &before, &own, 1.0);
                    x.rows_mut(at, width).copy_from(&own);
                }
            });
        b
    }

    /// The inverse of the matrix that was factored.
    pub fn inverse(&self) -> DMatrix<f64> {
        let n = self.lower.nrows();
        self.solve(DMatrix::identity(n, n))
    }

    /// `L`, with zeros above the diagonal.
    pub fn unpack(mut self) -> DMatrix<f64> {
        self.lower.fill_upper_triangle(0.0, 1);
        self.lower
    }
}

/// Factor of a symmetric matrix, with a growing ridge until there is one.
pub fn factor(m: &DMatrix<f64>) -> Factor {
    let n = m.nrows();
    let mean = (m.trace() / n.max(1) as f64).abs().max(f64::MIN_POSITIVE);
    let mut ridge = 0.0;
    loop {
        let mut trial = m.clone();
        for i in 0..n {
            trial[(i, i)] += ridge;
        }
        if let Some(found) = Factor::new(trial) {
            return found;
        }
        ridge = if ridge == 0.0 { 1e-10 * mean } else { ridge * 100.0 };
        if !ridge.is_finite() {
            return Factor::new(DMatrix::identity(n, n)).expect("the identity is positive definite");
        }
    }
}

/// The solution of a symmetric positive system.
pub fn solve(m: &DMatrix<f64>, b: &[f64]) -> Vec<f64> {
    let b = DVector::from_row_slice(b);
    let solved = factor(m).solve(DMatrix::from_columns(&[b]));
    solved.as_slice().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decompose::synthetic::normal;

    #[test]
    fn blocks_give_what_columns_give() {
        let mut random = fastrand::Rng::with_seed(5);
        for n in [1, 3, BLOCK, BLOCK + 1, 3 * BLOCK - 5, 2 * STRIP + 7] {
            let x = DMatrix::from_fn(n, n + 3, |_, _| normal(&mut random));
            let m = &x * x.transpose() + DMatrix::identity(n, n);
            let b = DMatrix::from_fn(n, 5, |_, _| normal(&mut random));
            let found = factor(&m);
            let near = |a: &DMatrix<f64>, b: &DMatrix<f64>| (a - b).amax() <= 1e-9 * b.amax().max(1.0);
            assert!(near(&(&m * found.solve(b.clone())), &b), "{n}");
            assert!(near(&(&m * found.inverse()), &DMatrix::identity(n, n)), "{n}");
            let lower = found.unpack();
            assert!(near(&(&lower * lower.transpose()), &m), "{n}");
        }
    }

    #[test]
    fn what_is_not_positive_gets_a_ridge() {
        let m = DMatrix::from_element(3, 3, 1.0);
        assert!(Factor::new(m.clone()).is_none());
        let sum: f64 = solve(&m, &[1.0, 1.0, 1.0]).iter().sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    }
}
