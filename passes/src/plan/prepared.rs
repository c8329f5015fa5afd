//! Where prepared buffers lie: one after another, since all of them live as long as the model.

use super::allocated;
use sdc_ir::tile::{BufferKind, Module};

/// The layout of the prepared memory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Prepared {
    /// By buffer: byte offset of those that are prepared, a multiple of [`super::ALIGN`].
    pub offsets: Vec<Option<usize>>,
    /// Bytes in all.
    pub size: usize,
}

impl Prepared {
    /// Alignment of the prepared memory.
    pub fn align(&self) -> usize {
        if self.size == 0 { 1 } else { super::ALIGN }
    }

    /// Offsets as placements have them.
    pub fn placed(&self) -> Vec<Option<u64>> {
        self.offsets.iter().map(|o| o.map(|at| at as u64)).collect()
    }
}

/// Lays out the prepared buffers of a module, in their order; `None` if they exceed the address space.
pub fn prepared(module: &Module) -> Option<Prepared> {
    let mut layout = Prepared::default();
    for buffer in module.buffers.values() {
        let here = (buffer.kind == BufferKind::Prepared).then_some(layout.size);
        layout.offsets.push(here);
        if here.is_some() {
            layout.size = layout.size.checked_add(allocated(buffer.bytes())?)?;
        }
    }
    Some(layout)
}
