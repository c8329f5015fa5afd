//! Files as memory.
#![allow(unsafe_code, reason = "mapping a file is unsafe: others could change it")]

use bytes::Bytes;
use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::path::Path;

/// Maps a whole file read-only. Pages are read when touched, and shared with other processes that map the file.
///
/// The file must not be shortened while mapped: touching what is gone kills the process. (Replacing it by renaming another
/// over it, as [`crate::emit`] does, is fine.)
///
/// # Errors
/// Those of opening and mapping; `InvalidInput` for what is no regular file.
pub fn map_file(path: &Path) -> io::Result<Bytes> {
    Ok(Bytes::from_owner(map(&File::open(path)?)?))
}

/// As [`map_file`], for a file that is already open.
pub(super) fn map(file: &File) -> io::Result<Mmap> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    // SAFETY: the mapping is private and read-only. That nobody changes the file meanwhile is the documented condition,
    // which no program can enforce on its own.
    unsafe { Mmap::map(file) }
}
