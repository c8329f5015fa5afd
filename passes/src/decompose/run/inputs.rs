//! What the layers' inputs look like in the float network, and what follows from it: metrics, patterns of rows.

use super::{DAMPING, DAMPING_MADE_UP, Inputs, MEAN_SHARE, PRICE_SAMPLES, PRUNED_ROW, Run};
use crate::decompose::allocate::Wish;
use crate::decompose::calibrate::all_layers;
use crate::decompose::evaluate::Evaluator;
use crate::decompose::metric::Metric;
use crate::decompose::{DecomposeError, Solver, analytic, prune};
use sdc_ir::sd::Geometry;

impl Run<'_> {
    /// Moments of all layers in the float network, as the solver wants them.
    pub(super) fn inputs(&self, float: &Evaluator<'_>) -> Result<Inputs, DecomposeError> {
        if self.options.solver == Solver::Curvature {
            let derived = analytic::moments(
                self.graph,
                &self.layers,
                self.options.input_mean,
                self.options.input_deviation,
            );
            let (mut metrics, mut means) = (Vec::new(), Vec::new());
            for (l, found) in derived.into_iter().enumerate() {
                let share = if self.biases[l].is_some() { 0.1 } else { 1.0 };
                metrics.push(
                    found
                        .as_ref()
                        .map(|m| m.metric(share, self.layers[l].geometry.filters())),
                );
                means.push(found.map(|m| m.means));
            }
            return Ok(Inputs { metrics, means });
        }
        let limit = self.options.samples.min(PRICE_SAMPLES);
        let found = all_layers(self.graph, float, &self.layers, self.samples(), limit)?;
        let (mut metrics, mut means) = (Vec::new(), Vec::new());
        for (l, m) in found.iter().enumerate() {
            let seen = m.count > 0.0;
            metrics.push(
                (seen && self.options.solver == Solver::Feedback).then(|| m.metric(self.mean_share(l))),
            );
            means.push(seen.then(|| m.means()));
        }
        Ok(Inputs { metrics, means })
    }

    pub(super) fn mean_share(&self, l: usize) -> f64 {
        if self.biases[l].is_some() { MEAN_SHARE } else { 1.0 }
    }

    pub(super) fn damping(&self) -> f64 {
        if self.options.calibration.is_some() {
            DAMPING
        } else {
            DAMPING_MADE_UP
        }
    }

    /// A metric for rows of `s`, ready to use.
    pub(super) fn metric(&self, l: usize, raw: Option<&Metric>, s: usize) -> Metric {
        let geometry = &self.layers[l].geometry;
        let length = geometry.rows(s) * s;
        match raw {
            Some(m) => m.clone().prepared(length, self.damping()),
            None => Metric::identity(geometry.filters(), length),
        }
    }

    /// Rows kept per layer, if the wish is about density.
    pub(super) fn patterns(&self, inputs: &Inputs) -> Option<Vec<Vec<bool>>> {
        let Wish::Density(density) = self.options.wish else {
            return None;
        };
        let shared = self.options.pattern_filters.max(1);
        let costs: Vec<Vec<f64>> = (0..self.layers.len())
            .map(|l| {
                let s = PRUNED_ROW;
                let geometry = &self.layers[l].geometry;
                let metric = self.metric(l, inputs.metrics[l].as_ref(), s);
                let rows = padded(&self.rows[l], geometry, s);
                let mut costs = prune::costs(geometry, &rows, s, &metric, shared);
                // Relative to the layer's own signal: a layer's error matters in proportion to what it drowns.
                let energy: f64 = costs.iter().sum::<f64>().max(f64::MIN_POSITIVE);
                costs.iter_mut().for_each(|c| *c /= energy);
                costs
            })
            .collect();
        let own = |l: usize| self.options.densities.get(&self.layers[l].name()).copied();
        let (single, together): (Vec<usize>, Vec<usize>) = (0..costs.len()).partition(|&l| own(l).is_some());
        let mut kept = vec![Vec::new(); costs.len()];
        for l in single {
            kept[l] = prune::global(&costs[l..=l], own(l).unwrap_or(density)).concat();
        }
        let rest: Vec<Vec<f64>> = together.iter().map(|&l| costs[l].clone()).collect();
        for (&l, pattern) in together.iter().zip(prune::global(&rest, density)) {
            kept[l] = pattern;
        }
        Some(kept)
    }
}

/// Rows `[M, V]` as `[M, Q, s]`.
pub(super) fn padded(rows: &[f32], geometry: &Geometry, s: usize) -> Vec<f64> {
    let (length, pitch) = (geometry.vector_len(), geometry.rows(s) * s);
    let mut out = vec![0.0; geometry.filters() * pitch];
    for (to, from) in out.chunks_exact_mut(pitch).zip(rows.chunks_exact(length)) {
        to.iter_mut().zip(from).for_each(|(t, &f)| *t = f64::from(f));
    }
    out
}
