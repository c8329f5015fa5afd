//! The baseline: every layer by the released solver, in the published form.

use super::{Inputs, Run, Told};
use crate::decompose::{Choice, DecomposeError, LayerResult, Plan, Progress, released};
use sdc_ir::sd::Stored;

impl Run<'_> {
    /// The baseline: every layer by the released solver, in the published form.
    pub(super) fn released(
        &self,
        options: &released::ReleasedOptions,
        progress: &mut Told<'_>,
    ) -> Result<Plan, DecomposeError> {
        let mut plan = Plan {
            layers: Vec::new(),
            totals: self.sizes,
            pareto: Vec::new(),
        };
        for (l, layer) in self.layers.iter().enumerate() {
            let name = layer.name();
            let (done, total) = (l, self.layers.len());
            let on = progress(Progress {
                stage: "solve",
                done,
                total,
                layer: &name,
            });
            if !on {
                return Err(DecomposeError::Stopped);
            }
            let weight = released::decompose(&layer.geometry, &self.rows[l], options);
            let stored = Stored::Sd(weight);
            let inputs = Inputs {
                metrics: vec![None; self.layers.len()],
                means: vec![None; self.layers.len()],
            };
            let loss = self.relative_loss(l, &inputs, &stored)?;
            plan.layers.push(LayerResult {
                node: layer.users[0],
                weight: layer.weight,
                origins: layer.origins.clone(),
                shape: layer.geometry.shape.clone(),
                bytes: stored.packed_len(),
                choice: Choice::Stored(stored),
                bias: None,
                sqnr_db: -10.0 * loss.max(1e-20).log10(),
                output_error: None,
                density: 1.0,
                why: "released solver: every layer in the published form".to_owned(),
            });
        }
        plan.totals.bytes = self.fixed + plan.layers.iter().map(|l| self.aligned(l.bytes)).sum::<usize>();
        Ok(plan)
    }
}
