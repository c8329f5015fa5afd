//! An artifact's files: opened once, in one directory, and held against each other.

use super::LoadError;
use super::map::{copied, map, pieces, sealed};
use super::open::Folder;
use crate::interface::Interface;
use crate::manifest::{self, File, Kind, Manifest};
use crate::record::Record;
use crate::weights;
use memmap2::Mmap;
use sdc_ir::Digest;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What [`verify`] found out.
#[derive(Debug)]
pub struct Verified {
    /// The manifest.
    pub manifest: Manifest,
    /// There is a shared library, and the manifest says what that says of itself. Without one, whoever changes a file can change the
    /// manifest with it.
    pub bound: bool,
}

/// Checks all files of the artifact in `dir` without running anything: sizes and digests, the manifest against the shared library,
/// the weights against both. Works for any target.
///
/// # Errors
/// Files missing, damaged or of different compilations.
pub fn verify(dir: &Path) -> Result<Verified, LoadError> {
    let files = Files::open(dir)?;
    for listed in files.manifest.files.values() {
        let (path, file) = files.regular(listed)?;
        let digest = pieces(&file, listed.size, |_| Ok(())).map_err(|source| LoadError::Io {
            path: path.clone(),
            source,
        })?;
        same(&path, listed.sha256, digest)?;
    }
    let bound = files.manifest.files.contains_key(&Kind::SharedLibrary);
    if bound {
        files.library()?;
    }
    if let Some(listed) = files.manifest.files.get(&Kind::Weights) {
        files.weights(listed, &files.manifest.interface, false)?;
    }
    let manifest = files.manifest;
    Ok(Verified { manifest, bound })
}

/// The directory of an artifact, and its manifest, which is not believed yet.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    folder: Folder,
    pub manifest: Manifest,
}

impl Files {
    pub fn open(dir: &Path) -> Result<Self, LoadError> {
        let folder = Folder::open(dir).map_err(|source| LoadError::Io {
            path: dir.to_owned(),
            source,
        })?;
        let path = dir.join(manifest::FILE_NAME);
        let read = || -> io::Result<Vec<u8>> {
            let mut text = Vec::new();
            let file = folder.regular(manifest::FILE_NAME.as_ref())?;
            // One more than a manifest may have, which it then reports.
            file.take(manifest::MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
            Ok(text)
        };
        let text = read().map_err(|source| LoadError::Io {
            path: path.clone(),
            source,
        })?;
        let manifest = Manifest::parse(&text).map_err(|source| LoadError::Manifest { path, source })?;
        Ok(Self {
            path: dir.to_owned(),
            folder,
            manifest,
        })
    }

    /// The shared library as a sealed copy, and what it says of itself, which the manifest agrees with.
    pub fn library(&self) -> Result<(fs::File, Record), LoadError> {
        let kind = Kind::SharedLibrary;
        let listed = self
            .manifest
            .files
            .get(&kind)
            .ok_or(LoadError::MissingFile { kind })?;
        let (path, file) = self.regular(listed)?;
        let io = |source| LoadError::Io {
            path: path.clone(),
            source,
        };
        let (memory, digest) = sealed(&file, listed.size).map_err(io)?;
        same(&path, listed.sha256, digest)?;
        let image = map(&memory).map_err(io)?;
        let record = Record::read(&image).map_err(|source| LoadError::Record { path, source })?;
        let manifest = &self.manifest;
        let unlike = [
            ("interface", manifest.interface != record.interface),
            (
                "list of weights to give back",
                manifest.transient != record.transient,
            ),
            (
                "weights file",
                manifest.files.get(&Kind::Weights) != record.weights.as_ref(),
            ),
        ];
        match unlike.into_iter().find(|(_, unlike)| *unlike) {
            Some((what, _)) => Err(LoadError::Unlike { what }),
            None => Ok((memory, record)),
        }
    }

    /// The weights file, copied or mapped.
    pub fn weights(&self, listed: &File, interface: &Interface, copy: bool) -> Result<Mmap, LoadError> {
        let (path, file) = self.regular(listed)?;
        let io = |source| LoadError::Io {
            path: path.clone(),
            source,
        };
        let (map, digest) = if copy {
            copied(&file, listed.size as usize).map_err(io)?
        } else {
            // Read rather than mapped, so that it need not all be in this process's memory.
            let digest = pieces(&file, listed.size, |_| Ok(())).map_err(io)?;
            (map(&file).map_err(io)?, digest)
        };
        same(&path, listed.sha256, digest)?;
        // The whole file's digest has been checked, so the payload need not be hashed once more.
        let header = weights::Header::read(&map).map_err(|source| LoadError::Weights {
            path: path.clone(),
            source,
        })?;
        same(&path, interface.weights_digest, header.digest)?;
        Ok(map)
    }

    /// Opens a file and checks its size. The open file is what is checked and used, whatever becomes of its name meanwhile.
    fn regular(&self, listed: &File) -> Result<(PathBuf, fs::File), LoadError> {
        let path = self.path.join(&listed.name);
        let open = || -> io::Result<_> {
            let file = self.folder.regular(listed.name.as_ref())?;
            let size = file.metadata()?.len();
            Ok((file, size))
        };
        match open() {
            Ok((file, size)) if size == listed.size => Ok((path, file)),
            Ok((_, actual)) => Err(LoadError::Size {
                path,
                expected: listed.size,
                actual,
            }),
            Err(source) => Err(LoadError::Io { path, source }),
        }
    }
}

fn same(path: &Path, expected: Digest, actual: Digest) -> Result<(), LoadError> {
    if actual == expected {
        return Ok(());
    }
    Err(LoadError::Digest {
        path: path.to_owned(),
        expected,
        actual,
    })
}
