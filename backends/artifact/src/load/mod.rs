//! Loads an artifact's shared library and weights, and runs them: what `sdc run` and `sdc bench` execute is what
//! `sdc compile` shipped.
//!
//! Deliberately absent: file formats of tensors, comparison of outputs, timing.

mod cpu;
mod instance;
mod library;
mod map;
mod memory;
mod transient;

pub use cpu::missing as missing_cpu_features;
pub use instance::{ArenaUse, Instance};
pub use map::map_file;
pub use memory::Memory;

use crate::interface::Interface;
use crate::manifest::{self, File, Kind, Manifest, ManifestError};
use crate::weights::{self, WeightsError};
use library::Library;
use memmap2::Mmap;
use sdc_ir::Digest;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use transient::Range;

/// An artifact could not be loaded or run.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are named by their messages")]
pub enum LoadError {
    #[error(
        "artifacts run on x86-64 Linux only; this host is {} on {}",
        std::env::consts::ARCH,
        std::env::consts::OS
    )]
    Host,
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {source}", path = path.display())]
    Manifest { path: PathBuf, source: ManifestError },
    #[error("{path}: {source}", path = path.display())]
    Weights { path: PathBuf, source: WeightsError },
    #[error("the artifact has no {kind:?}; compile it with that output")]
    MissingFile { kind: Kind },
    #[error("{path}: {actual} bytes, the manifest says {expected}", path = path.display())]
    Size {
        path: PathBuf,
        expected: u64,
        actual: u64,
    },
    #[error("{path}: the contents are not those the manifest was written for (digest {actual}, expected {expected})", path = path.display())]
    Digest {
        path: PathBuf,
        expected: Digest,
        actual: Digest,
    },
    #[error("this CPU lacks {}; the artifact was compiled for {cpu}", .missing.join(", "))]
    Cpu { cpu: String, missing: Vec<String> },
    #[error("cannot load the shared library: {0}")]
    Library(#[source] libloading::Error),
    #[error("the shared library's {what} is {actual} bytes, the manifest says {expected}")]
    Disagreement {
        what: &'static str,
        expected: usize,
        actual: usize,
    },
    #[error("no {size} bytes of memory for the {what}: {source}")]
    Memory {
        what: &'static str,
        size: usize,
        source: io::Error,
    },
    #[error("{function} returned {code}")]
    Failed { function: &'static str, code: i32 },
    #[error("{actual} {what} given, the model has {expected}")]
    Count {
        what: &'static str,
        expected: usize,
        actual: usize,
    },
    #[error("{what} `{name}`: {actual} bytes given, the model has {expected}")]
    TensorSize {
        what: &'static str,
        name: String,
        expected: usize,
        actual: usize,
    },
    #[error("{what} `{name}` is not aligned for its element type")]
    Alignment { what: &'static str, name: String },
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The caller's: files missing, or tensors of other sizes.
    Usage,
    /// The artifact's: damaged, or files of different compilations.
    Malformed,
    /// The host or its CPU cannot run it.
    Unsupported,
    /// Too little memory.
    Limit,
}

impl LoadError {
    /// Of what kind it is.
    pub fn fault(&self) -> Fault {
        use LoadError::*;
        match self {
            Host | Cpu { .. } => Fault::Unsupported,
            Memory { .. } => Fault::Limit,
            Io { .. } | MissingFile { .. } | Count { .. } | TensorSize { .. } | Alignment { .. } => {
                Fault::Usage
            }
            _ => Fault::Malformed,
        }
    }
}

/// A loaded artifact, its weights checked and prepared. Cheap to clone; instances run independently.
#[derive(Debug, Clone)]
pub struct Artifact {
    loaded: Arc<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    manifest: Manifest,
    library: Library,
    /// Mapped file; none when the library holds the weights itself.
    weights: Option<Mmap>,
    /// What runs give back.
    transient: Vec<Range>,
    prepared: Memory,
}

impl Artifact {
    /// Loads the artifact in `dir`: reads `manifest.json`, checks size and digest of the shared library and the weights
    /// before anything of them is used, loads the library, maps the weights, and lets the model prepare itself.
    ///
    /// # Errors
    /// A host or CPU that cannot run it, files missing, damaged or of different compilations, too little memory.
    pub fn open(dir: &Path) -> Result<Self, LoadError> {
        let path = dir.join(manifest::FILE_NAME);
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| LoadError::Io { path, source }
        };
        let text = map_file(&path).map_err(io(&path))?;
        let manifest = Manifest::parse(&text).map_err(|source| LoadError::Manifest { path, source })?;
        let interface = &manifest.interface;
        let missing = missing_cpu_features(&interface.features);
        if !missing.is_empty() {
            return Err(LoadError::Cpu {
                cpu: interface.cpu.clone(),
                missing,
            });
        }

        let (path, file) = checked(dir, &manifest, Kind::SharedLibrary)?;
        let library = Library::open(file, &path, interface)?;
        let mut weights = None;
        if !interface.weights_embedded {
            let (path, file) = checked(dir, &manifest, Kind::Weights)?;
            let map = map::map(&file).map_err(io(&path))?;
            // The whole file's digest has been checked, so the payload need not be hashed once more.
            let header = weights::Header::read(&map).map_err(|source| LoadError::Weights {
                path: path.clone(),
                source,
            })?;
            if header.digest != interface.weights_digest {
                let (expected, actual) = (interface.weights_digest, header.digest);
                return Err(LoadError::Digest {
                    path,
                    expected,
                    actual,
                });
            }
            weights = Some(map);
        }
        let prepared = Memory::new("prepared memory", interface.prepared_size)?;
        let mut loaded = Loaded {
            manifest,
            library,
            weights,
            transient: Vec::new(),
            prepared,
        };
        loaded.prepare()?;
        if let (Some(weights), Some(transient)) = (&loaded.weights, &loaded.manifest.transient) {
            loaded.transient = transient::ranges(weights, transient);
        }
        Ok(Self {
            loaded: Arc::new(loaded),
        })
    }

    /// The artifact's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.loaded.manifest
    }

    /// The model's interface.
    pub fn interface(&self) -> &Interface {
        &self.loaded.manifest.interface
    }

    /// An arena of its own for running the model. Instances that run at once give back transient weights that others still read, which
    /// costs these time and nothing else.
    ///
    /// # Errors
    /// [`LoadError::Memory`].
    pub fn instance(&self) -> Result<Instance, LoadError> {
        Instance::new(self.loaded.clone())
    }

    /// Memory for one set of outputs, in order; zeroed, aligned for every element type.
    ///
    /// # Errors
    /// [`LoadError::Memory`].
    pub fn outputs(&self) -> Result<Vec<Memory>, LoadError> {
        self.interface()
            .outputs
            .iter()
            .map(|t| Memory::new("outputs", t.bytes().unwrap_or(usize::MAX)))
            .collect()
    }
}

/// Opens a file of the artifact and checks its size and digest. The open file is what was checked, whatever becomes of the
/// name meanwhile. It is read rather than mapped, so that it need not all be in this process's memory.
fn checked(dir: &Path, manifest: &Manifest, kind: Kind) -> Result<(PathBuf, fs::File), LoadError> {
    let File { name, size, sha256 } = manifest.files.get(&kind).ok_or(LoadError::MissingFile { kind })?;
    let path = dir.join(name);
    let io = |source| LoadError::Io {
        path: path.clone(),
        source,
    };
    let file = fs::File::open(&path).map_err(io)?;
    let actual = file.metadata().map_err(io)?.len();
    if actual != *size {
        return Err(LoadError::Size {
            path,
            expected: *size,
            actual,
        });
    }
    let mut hash = Sha256::new();
    io::copy(&mut (&file).take(*size), &mut hash).map_err(io)?;
    let actual = Digest(hash.finalize().into());
    if actual != *sha256 {
        return Err(LoadError::Digest {
            path,
            expected: *sha256,
            actual,
        });
    }
    Ok((path, file))
}
