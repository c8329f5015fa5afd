//! Memory in whole pages.

use super::LoadError;
use memmap2::MmapMut;
use std::ops::{Deref, DerefMut};

/// Zeroed memory, aligned to a page, that costs nothing until it is touched.
#[derive(Debug)]
pub struct Memory {
    map: MmapMut,
    len: usize,
}

impl Memory {
    /// `len` bytes; `what` names them in the error.
    ///
    /// # Errors
    /// [`LoadError::Memory`] when the system has no room.
    pub fn new(what: &'static str, len: usize) -> Result<Self, LoadError> {
        // A mapping cannot be empty.
        match MmapMut::map_anon(len.max(1)) {
            Ok(map) => Ok(Self { map, len }),
            Err(source) => Err(LoadError::Memory {
                what,
                size: len,
                source,
            }),
        }
    }
}

impl Deref for Memory {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.map[..self.len]
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map[..self.len]
    }
}
