//! The constants of a module, laid out in the weights' payload.

use crate::error::{Error, Result};
use sdc_artifact::manifest::Part;
use sdc_artifact::weights;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::Weight;
use sdc_ir::tile::{Buffer, BufferData, BufferKind, Module};
use sdc_passes::plan::{Residency, constants};
use std::collections::BTreeMap;

/// Constants of a module and where they lie in the weights' payload.
pub struct Constants {
    /// Each constant once, in the order of the payload.
    pub order: Vec<Weight>,
    /// Offset of each buffer that is a constant.
    pub offsets: Vec<Option<u64>>,
    /// Size of the payload.
    pub payload: u64,
}

impl Constants {
    /// Lays out the constants that some buffer holds, in the order of the buffers.
    pub fn of(module: &Module) -> Result<Self> {
        let order: Vec<Weight> = constants(module).iter().map(|c| c.weight).collect();
        let position: BTreeMap<Weight, usize> = order.iter().enumerate().map(|(i, &w)| (w, i)).collect();
        let layout = weights::layout(order.iter().map(|&w| module.weights[w].bytes().len()))
            .ok_or_else(|| Error::limit("the weights exceed the address space"))?;
        let offset = |kind: &BufferKind| match kind {
            BufferKind::Const(weight) => Some(layout.offsets[position[weight]] - weights::PAYLOAD as u64),
            _ => None,
        };
        let offsets = module.buffers.values().map(|b| offset(&b.kind)).collect();
        Ok(Self {
            order,
            offsets,
            payload: layout.payload,
        })
    }

    /// The transient weights as the manifest lists them: in the order of the payload.
    pub fn transient(&self, module: &Module, residency: &Residency) -> Vec<Part> {
        let part = |(buffer, data): (Buffer, &BufferData)| {
            let BufferKind::Const(weight) = data.kind else {
                return None;
            };
            let chosen = residency.transient.iter().find(|t| t.weight == weight)?;
            Some(Part {
                first_call: chosen.first_call as u64,
                last_call: chosen.last_call as u64,
                offset: weights::PAYLOAD as u64 + self.offsets[buffer.index()]?,
                bytes: module.weights[weight].bytes().len() as u64,
            })
        };
        let mut parts: Vec<Part> = module.buffers.iter().filter_map(part).collect();
        // Several buffers may hold the same constant.
        parts.sort_by_key(|p| p.offset);
        parts.dedup();
        parts
    }
}
