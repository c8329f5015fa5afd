//! Where buffers live at run time.

use crate::LowerError;
use sdc_ir::entity::EntityId;
use sdc_ir::tile::{Buffer, BufferKind, Module};

/// Offset of the payload in the weights image: its header takes one unit of alignment.
pub const WEIGHTS_PAYLOAD: u64 = 64;

/// Byte offsets of the buffers of one module, all lists indexed by [`Buffer`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// Offset in the arena; `Some` for each `Temp` buffer.
    pub temps: Vec<Option<u64>>,
    /// Offset in the payload of the weights image (so without its header); `Some` for each `Const` buffer.
    pub consts: Vec<Option<u64>>,
    /// Offset in the prepared memory; `Some` for each `Prepared` buffer.
    pub prepared: Vec<Option<u64>>,
    /// Size of the arena.
    pub arena_size: u64,
    /// Alignment of the arena, a power of two; each offset in it is a multiple of its buffer's element size.
    pub arena_align: u64,
    /// Size of the weights image, header included.
    pub weights_size: u64,
    /// Size of the prepared memory.
    pub prepared_size: u64,
}

/// A pointer the caller of the compiled model provides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// The arena.
    Arena,
    /// The weights image, from its header on.
    Weights,
    /// The prepared memory.
    Prepared,
    /// The input with this position.
    Input(usize),
    /// The output with this position.
    Output(usize),
}

impl Root {
    /// True if no function ever writes through it. The prepared memory is written once, by functions that may also read it.
    pub fn is_readonly(self) -> bool {
        matches!(self, Root::Weights | Root::Input(_))
    }
}

impl Placement {
    /// The pointer a buffer is reached through, and the buffer's byte offset from it.
    ///
    /// # Errors
    /// A buffer that does not exist or has no offset, or one that does not lie within its memory.
    pub fn place(&self, module: &Module, buffer: Buffer) -> Result<(Root, i64), LowerError> {
        let data = module
            .buffers
            .get(buffer)
            .ok_or(LowerError::UndefinedBuffer(buffer))?;
        let (root, offsets, start, size) = match data.kind {
            BufferKind::Input(position) => return Ok((Root::Input(position), 0)),
            BufferKind::Output(position) => return Ok((Root::Output(position), 0)),
            BufferKind::Temp => (Root::Arena, &self.temps, 0, self.arena_size),
            BufferKind::Prepared => (Root::Prepared, &self.prepared, 0, self.prepared_size),
            BufferKind::Const(_) => (Root::Weights, &self.consts, WEIGHTS_PAYLOAD, self.weights_size),
        };
        let offset = offsets
            .get(buffer.index())
            .copied()
            .flatten()
            .ok_or(LowerError::Unplaced(buffer))?;
        let bytes = data.len.saturating_mul(data.dtype.size());
        let outside = LowerError::Outside {
            buffer,
            offset,
            bytes,
            size,
        };
        let at = offset.checked_add(start).ok_or_else(|| outside.clone())?;
        let end = at.checked_add(bytes as u64).filter(|end| *end <= size);
        // A size beyond i64 is no size of any memory.
        if end.is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(outside);
        }
        let align = data.dtype.size() as u64;
        if offset % align != 0 {
            return Err(LowerError::Misaligned {
                buffer,
                offset,
                align,
            });
        }
        Ok((root, at as i64))
    }
}
