//! From the state of a solution to the stored form.

use super::{Bases, Run, Solved};
use sdc_ir::DType;
use sdc_ir::sd::{Decomposed, Index};

impl Run<'_> {
    /// Rounds the scales to the stored type.
    pub(super) fn store_scales(&mut self) {
        for x in &mut self.state.scales {
            *x = if self.format.scale == DType::F16 {
                half::f16::from_f64(*x).to_f64()
            } else {
                f64::from(*x as f32)
            };
        }
    }

    pub(super) fn finish(self) -> Solved {
        let loss = self.loss();
        let energy = self.energies.iter().sum();

        let Bases::Stored(bases) = &self.state.bases else {
            unreachable!("bases are rounded before the scales are stored")
        };
        let format = self.format.clone();
        let groups = self.problem.geometry.index_groups(&format);
        let kept = match (format.index, self.problem.kept) {
            (Index::Rows(_), Some(kept)) => kept.to_vec(),
            _ => vec![true; groups * self.q],
        };
        let weight = Decomposed {
            geometry: self.problem.geometry.clone(),
            codes: self
                .state
                .words
                .iter()
                .flat_map(|&w| self.book.codes(w).iter().copied())
                .collect(),
            kept,
            bases: bases.iter().flat_map(|b| b.0.iter().copied()).collect(),
            shifts: bases.iter().map(|b| b.1).collect(),
            scales: self.state.scales.iter().map(|&x| x as f32).collect(),
            format,
        };
        Solved { weight, loss, energy }
    }
}
