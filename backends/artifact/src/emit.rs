//! Writes an artifact's files into a directory, all or none.
//!
//! Every file is first written in full under a temporary name in the destination, then renamed. A failure leaves the directory as
//! it was, even one amid the renames; the manifest is renamed last, so a reader that checks its digests never accepts a mixture.

use crate::interface::{Interface, InterfaceError};
use crate::manifest::{FORMAT, File, Kind, Manifest, ManifestError, Origin, Transient};
use crate::record::{Record, RecordError};
use crate::temporary::{self, Temporary};
use crate::weights::{HUGE_PAGE, Header};
use crate::{ObjectError, archive, header, rust_crate, sharedlib, symbols, weights};
use object::write::{Object, StandardSection, Symbol, SymbolSection};
use object::{SymbolFlags, SymbolKind, SymbolScope};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sdc_ir::Digest;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A compiled model, ready to be written.
#[derive(Debug)]
pub struct Package<'a> {
    /// Its interface.
    pub interface: &'a Interface,
    /// The finished relocatable object.
    pub object: &'a [u8],
    /// The weights, in the order of their layout; empty when they are embedded in the object.
    pub weights: &'a [&'a [u8]],
    /// For the manifest.
    pub origin: Origin,
    /// For the manifest.
    pub transient: Option<Transient>,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its contents.
    pub sha256: Digest,
}

/// Files could not be made or written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are named by their messages")]
pub enum EmitError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("the weights are embedded in the object, so there is no weights file to write")]
    Embedded,
    #[error("the weights are {actual} bytes with their header, the interface says {expected}")]
    WeightsSize { expected: u64, actual: u64 },
}

/// Writes the files of the wanted kinds into `dir`, which is created if need be. Returns them in the order of [`Kind`].
///
/// # Errors
/// An object that breaks its promises ([`symbols::check`]) or cannot be linked; an interface that is not valid or does
/// not agree with the weights; and those of the file system.
pub fn emit(dir: &Path, package: &Package<'_>, wanted: &BTreeSet<Kind>) -> Result<Vec<Written>, EmitError> {
    let interface = package.interface;
    interface.validate()?;
    symbols::check(package.object, &interface.name)?;
    let name = &interface.name;
    let created = temporary::Created::new(dir).map_err(|source| EmitError::Io {
        path: dir.to_owned(),
        source,
    });
    // Goes last, after the files.
    let _created = created?;
    temporary::clear(dir);
    let mut staged = Staged {
        dir,
        name,
        files: Vec::new(),
    };
    // The library's record names the weights file, so that is first.
    let weights = wanted.get(&Kind::Weights);
    if let Some(kind) = weights {
        let header = weights_header(package)?;
        staged.add(*kind, |out| weights::write(out, &header, package.weights))?;
    }
    for kind in wanted {
        match kind {
            Kind::Object => staged.add(*kind, |out| out.write_all(package.object))?,
            Kind::Archive => {
                let bytes = archive::archive(&Kind::Object.file_name(name), package.object)?;
                staged.add(*kind, |out| out.write_all(&bytes))?;
            }
            Kind::SharedLibrary => {
                let record = Record {
                    interface: interface.clone(),
                    transient: package.transient.clone(),
                    weights: weights.map(|_| file(&staged.files[0].0, name)),
                };
                let bytes = sharedlib::link(package.object, &kind.file_name(name), &record.to_bytes()?)?;
                staged.add(*kind, |out| out.write_all(&bytes))?;
            }
            Kind::Header => {
                let text = header::text(interface);
                staged.add(*kind, |out| out.write_all(text.as_bytes()))?;
            }
            Kind::CargoToml => {
                let text = rust_crate::cargo_toml(interface);
                staged.add(*kind, |out| out.write_all(text.as_bytes()))?;
            }
            Kind::BuildScript => {
                let text = rust_crate::build_script(interface);
                staged.add(*kind, |out| out.write_all(text.as_bytes()))?;
            }
            Kind::RustSource => {
                let text = rust_crate::library_source(interface);
                staged.add(*kind, |out| out.write_all(text.as_bytes()))?;
            }
            Kind::Weights => {}
            Kind::Manifest => {
                // `Kind` orders the manifest last, so all files it lists are there.
                let files = staged
                    .files
                    .iter()
                    .map(|(w, _)| (w.kind, file(w, name)))
                    .collect::<BTreeMap<_, _>>();
                let manifest = Manifest {
                    format: FORMAT,
                    sdc: env!("CARGO_PKG_VERSION").to_owned(),
                    interface: interface.clone(),
                    origin: package.origin.clone(),
                    transient: package.transient.clone(),
                    files,
                };
                let text = manifest.to_text()?;
                staged.add(*kind, |out| out.write_all(text.as_bytes()))?;
            }
        }
    }
    staged.files.sort_by_key(|(written, _)| written.kind);
    staged.commit()
}

/// Adds the weights image to an object under construction, as the read-only global `NAME_weights`. The sections of the
/// object hold a copy. `header` is [`Header::of`] the tensors.
///
/// # Errors
/// `InvalidData` when `header` is not that of these tensors.
pub fn embed_weights(
    object: &mut Object<'_>,
    name: &str,
    header: &Header,
    tensors: &[&[u8]],
) -> io::Result<()> {
    let mut image = Vec::with_capacity(usize::try_from(header.image()).unwrap_or(0));
    weights::write(&mut image, header, tensors)?;
    let section = object.add_subsection(StandardSection::ReadOnlyData, b"weights");
    let size = image.len() as u64;
    object.set_section_data(section, image, weights::ALIGN as u64);
    object.add_symbol(Symbol {
        name: format!("{name}_weights").into_bytes(),
        value: 0,
        size,
        kind: SymbolKind::Data,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    });
    Ok(())
}

fn weights_header(package: &Package<'_>) -> Result<Header, EmitError> {
    let interface = package.interface;
    if interface.weights_embedded {
        return Err(EmitError::Embedded);
    }
    let layout = weights::layout(package.weights.iter().map(|t| t.len()));
    let actual = layout.map_or(u64::MAX, |l| weights::PAYLOAD as u64 + l.payload);
    let expected = interface.weights_size as u64;
    if actual != expected {
        return Err(EmitError::WeightsSize { expected, actual });
    }
    Ok(Header {
        payload: actual - weights::PAYLOAD as u64,
        digest: interface.weights_digest,
    })
}

fn file(written: &Written, name: &str) -> File {
    File {
        name: written.kind.file_name(name),
        size: written.size,
        sha256: written.sha256,
    }
}

/// Files written in full, under temporary names that vanish unless committed.
struct Staged<'a> {
    dir: &'a Path,
    name: &'a str,
    files: Vec<(Written, Temporary)>,
}

impl Staged<'_> {
    fn add(
        &mut self,
        kind: Kind,
        fill: impl FnOnce(&mut Hashing) -> io::Result<()>,
    ) -> Result<(), EmitError> {
        let path = self.dir.join(kind.file_name(self.name));
        let stage = || -> io::Result<_> {
            let mode = if kind == Kind::SharedLibrary { 0o777 } else { 0o666 };
            let file = Temporary::create(self.dir, mode)?;
            let mut out = Hashing {
                out: BufWriter::with_capacity(HUGE_PAGE, file),
                hash: Sha256::new(),
                size: 0,
            };
            fill(&mut out)?;
            let file = out.out.into_inner().map_err(io::IntoInnerError::into_error)?;
            Ok((file, out.size, Digest(out.hash.finalize().into())))
        };
        let (file, size, sha256) = stage().map_err(|source| EmitError::Io {
            path: path.clone(),
            source,
        })?;
        self.files.push((
            Written {
                kind,
                path,
                size,
                sha256,
            },
            file,
        ));
        Ok(())
    }

    /// Renames all files, or none: what a failure finds renamed already is put back.
    fn commit(self) -> Result<Vec<Written>, EmitError> {
        let _naming = temporary::naming(self.dir);
        let mut done: Vec<Placed> = Vec::with_capacity(self.files.len());
        let mut all = Vec::with_capacity(self.files.len());
        for (written, file) in self.files {
            match place(file, &written.path) {
                Ok(placed) => done.push(placed),
                Err(source) => {
                    done.into_iter().rev().for_each(Placed::undo);
                    let path = written.path;
                    return Err(EmitError::Io { path, source });
                }
            }
            all.push(written);
        }
        Ok(all)
    }
}

/// A file that has its name.
enum Placed {
    /// Nothing had that name before.
    New(PathBuf),
    /// What had that name before has the temporary one, which vanishes with the value.
    Exchanged(Temporary, PathBuf),
    /// What had that name before is gone: the file system cannot exchange names.
    Replaced,
}

impl Placed {
    /// As far as the file system lets one.
    fn undo(self) {
        match self {
            Placed::New(path) => drop(std::fs::remove_file(path)),
            Placed::Exchanged(file, path) => drop(exchange(file.path(), &path)),
            Placed::Replaced => {}
        }
    }
}

fn place(file: Temporary, path: &Path) -> io::Result<Placed> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            file.persist(path)?;
            Ok(Placed::New(path.to_owned()))
        }
        Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        _ if exchange(file.path(), path).is_ok() => Ok(Placed::Exchanged(file, path.to_owned())),
        _ => {
            file.persist(path)?;
            Ok(Placed::Replaced)
        }
    }
}

fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// Hashes and counts what passes through.
struct Hashing {
    out: BufWriter<Temporary>,
    hash: Sha256,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = HUGE_PAGE - (self.size % HUGE_PAGE as u64) as usize;
        let n = self.out.write(&bytes[..bytes.len().min(room)])?;
        self.hash.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
