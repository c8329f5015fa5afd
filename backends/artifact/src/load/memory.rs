//! Memory in whole pages.
#![allow(unsafe_code, reason = "pages that nobody may touch")]

use super::LoadError;
use memmap2::MmapMut;
use std::ffi::{c_int, c_void};
use std::io;
use std::ops::{Deref, DerefMut};

unsafe extern "C" {
    fn mprotect(address: *mut c_void, len: usize, protection: c_int) -> c_int;
}

/// Zeroed memory, aligned to a page, that costs nothing until it is touched.
#[derive(Debug)]
pub struct Memory {
    map: MmapMut,
    /// Where it begins in the mapping.
    start: usize,
    len: usize,
}

/// At least a page.
const PAGE: usize = 1 << 16;

impl Memory {
    /// `len` bytes; `what` names them in the error.
    ///
    /// # Errors
    /// [`LoadError::Memory`] when the system has no room.
    pub fn new(what: &'static str, len: usize) -> Result<Self, LoadError> {
        // A mapping cannot be empty.
        match MmapMut::map_anon(len.max(1)) {
            Ok(map) => Ok(Self { map, start: 0, len }),
            Err(source) => Err(LoadError::Memory {
                what,
                size: len,
                source,
            }),
        }
    }

    /// `len` bytes that end where a page ends, with pages before and after that nobody may touch: for tests, in which code that reads or
    /// writes beyond its tensors ends the process. Aligned as far as `len` is.
    ///
    /// # Errors
    /// As [`Memory::new`].
    pub fn guarded(len: usize) -> Result<Self, LoadError> {
        let failed = |source| LoadError::Memory {
            what: "guarded memory",
            size: len,
            source,
        };
        let inner = len.checked_next_multiple_of(PAGE).filter(|n| *n < usize::MAX / 2);
        let inner = inner.ok_or_else(|| failed(io::ErrorKind::OutOfMemory.into()))?;
        let mut map = MmapMut::map_anon(inner + 2 * PAGE).map_err(failed)?;
        for at in [0, PAGE + inner] {
            // SAFETY: whole pages of this mapping, which nothing refers to; no slice of the mapping reaches there.
            if unsafe { mprotect(map.as_mut_ptr().add(at).cast(), PAGE, 0) } != 0 {
                return Err(failed(io::Error::last_os_error()));
            }
        }
        let start = PAGE + inner - len;
        Ok(Self { map, start, len })
    }
}

impl Deref for Memory {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: within the mapping; no reference to the guards is made.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.start), self.len) }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the mapping is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().add(self.start), self.len) }
    }
}
