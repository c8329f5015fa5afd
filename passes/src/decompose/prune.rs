//! Which rows are dropped, the same for groups of consecutive filters.

use super::metric::{Form, Metric};
use sdc_ir::sd::Geometry;

/// What dropping each row costs in the metric with everything else as it is, summed over each group of `shared` filters:
/// `[ceil(M/G), Q]`, rows of `s`. `rows` is `[M, Q, s]`.
pub fn costs(geometry: &Geometry, rows: &[f64], s: usize, metric: &Metric, shared: usize) -> Vec<f64> {
    let (filters, q) = (geometry.filters(), geometry.rows(s));
    let mut costs = vec![0.0; filters.div_ceil(shared) * q];
    let blocks: Vec<Vec<Vec<f64>>> = metric
        .forms
        .iter()
        .map(|form: &Form| (0..q).map(|row| form.block(row, s)).collect())
        .collect();
    for (i, w) in rows.chunks_exact(s).enumerate() {
        let (m, row) = (i / q, i % q);
        let block = &blocks[metric.group(m)][row];
        let cost: f64 = (0..s * s).map(|k| w[k / s] * block[k] * w[k % s]).sum();
        costs[m / shared * q + row] += cost;
    }
    costs
}

/// Marks as kept the dearest rows of all layers together so that `density` of the rows stay (groups counted once). `costs` are per
/// layer, already weighted by what an error of that layer matters.
pub fn global(costs: &[Vec<f64>], density: f64) -> Vec<Vec<bool>> {
    let mut all: Vec<(f64, usize, usize)> = Vec::new();
    for (layer, own) in costs.iter().enumerate() {
        all.extend(own.iter().enumerate().map(|(i, &c)| (c, layer, i)));
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let keep = (all.len() as f64 * density.clamp(0.0, 1.0)).round() as usize;
    let mut kept: Vec<Vec<bool>> = costs.iter().map(|c| vec![false; c.len()]).collect();
    for &(_, layer, i) in &all[..keep] {
        kept[layer][i] = true;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_dearest() {
        let kept = global(&[vec![1.0, 5.0], vec![2.0, 0.5, 4.0]], 0.6);
        assert_eq!(kept, [vec![false, true], vec![true, false, true]]);
        assert_eq!(global(&[vec![1.0]], 0.0), [vec![false]]);
    }

    #[test]
    fn cost_is_the_quadratic_form_of_the_row() {
        let geometry = Geometry::leading(&[2, 4], 1);
        let rows = [1.0, 2.0, 0.0, 1.0, 1.0, 0.0, 3.0, 0.0];
        let metric = Metric {
            filters: 2,
            forms: vec![Form::Diagonal(vec![1.0, 10.0, 2.0, 1.0])],
        };
        assert_eq!(costs(&geometry, &rows, 2, &metric, 2), [41.0 + 1.0, 1.0 + 18.0]);
        assert_eq!(costs(&geometry, &rows, 2, &metric, 1), [41.0, 1.0, 1.0, 18.0]);
    }
}
