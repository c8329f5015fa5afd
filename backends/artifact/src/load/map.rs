//! Files as memory: mapped, or copied to where nobody else can change them.
#![allow(unsafe_code, reason = "mapping a file is unsafe: others could change it")]

use super::open::{Folder, regular};
use crate::weights::HUGE_PAGE;
use bytes::Bytes;
use memmap2::{Advice, Mmap, MmapMut};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use sdc_ir::Digest;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Maps a whole file read-only. Pages are read when touched, and shared with other processes that map the file.
///
/// The file must not be shortened while mapped: touching what is gone kills the process. (Replacing it by renaming another
/// over it, as [`crate::emit`] does, is fine.)
///
/// # Errors
/// Those of opening and mapping; `InvalidInput` for what is no regular file.
pub fn map_file(path: &Path) -> io::Result<Bytes> {
    Ok(Bytes::from_owner(map(&regular(path)?)?))
}

/// As [`map_file`], for a file of a folder.
///
/// # Errors
/// As for [`map_file`] and [`Folder::regular`].
pub fn map_within(folder: &Folder, path: &Path) -> io::Result<Bytes> {
    Ok(Bytes::from_owner(map(&folder.regular(path)?)?))
}

/// As [`map_file`], for a regular file that is already open.
pub(super) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is private and read-only. That nobody changes the file meanwhile is the documented condition,
    // which no program can enforce on its own.
    unsafe { Mmap::map(file) }
}

/// Copies a file of `size` bytes to a file in memory that nobody can write to any more, and hashes it.
pub(super) fn sealed(file: &File, size: u64) -> io::Result<(File, Digest)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag, and let any file in memory be executed.
    let memory = memfd_create("sdc", flags | MemfdFlags::EXEC).or_else(|_| memfd_create("sdc", flags))?;
    let mut memory = File::from(memory);
    let digest = pieces(file, size, |piece| memory.write_all(piece))?;
    fcntl_add_seals(
        &memory,
        SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )?;
    Ok((memory, digest))
}

/// Copies a file of `size` bytes to memory of this process alone, read-only, and hashes it.
pub(super) fn copied(file: &File, size: usize) -> io::Result<(Mmap, Digest)> {
    let mut memory = MmapMut::map_anon(size.max(1))?;
    if size >= HUGE_PAGE {
        // Where the system has none to spare, small pages do.
        let _ = memory.advise(Advice::HugePage);
    }
    let mut at = 0;
    let digest = pieces(file, size as u64, |piece| {
        memory[at..at + piece.len()].copy_from_slice(piece);
        at += piece.len();
        Ok(())
    })?;
    Ok((memory.make_read_only()?, digest))
}

/// Reads a file of `size` bytes in pieces that stay in the cache. The digest of all; one of less for a file that ends before.
pub(super) fn pieces(
    file: &File,
    size: u64,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut rest = file.take(size);
    loop {
        let n = rest.read(&mut buffer)?;
        if n == 0 {
            return Ok(Digest(hash.finalize().into()));
        }
        hash.update(&buffer[..n]);
        each(&buffer[..n])?;
    }
}
