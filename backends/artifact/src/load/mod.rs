//! Loads an artifact's shared library and weights, and runs them: what `sdc run` and `sdc bench` execute is what
//! `sdc compile` shipped.
//!
//! Deliberately absent: file formats of tensors, comparison of outputs, timing.

mod cpu;
mod files;
mod instance;
mod library;
mod map;
mod memory;
mod open;
mod transient;

pub use cpu::missing as missing_cpu_features;
pub use files::{Verified, verify};
pub use instance::{ArenaUse, Instance};
pub use map::{map_file, map_within};
pub use memory::Memory;
pub use open::Folder;

use crate::interface::Interface;
use crate::manifest::{Kind, Manifest, ManifestError};
use crate::record::RecordError;
use crate::weights::WeightsError;
use files::Files;
use library::Library;
use memmap2::Mmap;
use sdc_ir::Digest;
use std::io;
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
    #[error("{path}: {source}", path = path.display())]
    Record { path: PathBuf, source: RecordError },
    #[error("the manifest's {what} is not what the shared library was linked for")]
    Unlike { what: &'static str },
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
    /// The weights file, mapped or copied; none when the library holds the weights itself.
    weights: Option<Mmap>,
    /// What runs give back.
    transient: Vec<Range>,
    prepared: Memory,
}

/// Weights files up to this size are copied; larger ones are mapped, so that their pages can be given back.
const COPIED: u64 = 128 << 20;

/// How an artifact is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Copy the weights whatever their size. A mapped file that others change while the model runs changes its results, or ends
    /// the process if it is shortened.
    pub copy: bool,
}

impl Artifact {
    /// Loads the artifact in `dir`, as [`Artifact::open_with`] does by default.
    ///
    /// # Errors
    /// As for [`Artifact::open_with`].
    pub fn open(dir: &Path) -> Result<Self, LoadError> {
        Self::open_with(dir, LoadOptions::default())
    }

    /// Loads the artifact in `dir`: copies the shared library to where nobody can change it, checks its digest, holds the manifest
    /// against what the library says of itself, checks the weights against that, and lets the model prepare itself. Whoever can
    /// replace library and manifest together decides what runs; any other change to the files is an error.
    ///
    /// # Errors
    /// A host or CPU that cannot run it, files missing, damaged or of different compilations, too little memory.
    pub fn open_with(dir: &Path, options: LoadOptions) -> Result<Self, LoadError> {
        let files = Files::open(dir)?;
        let (memory, record) = files.library()?;
        let interface = &record.interface;
        let missing = missing_cpu_features(&interface.features);
        if !missing.is_empty() {
            return Err(LoadError::Cpu {
                cpu: interface.cpu.clone(),
                missing,
            });
        }
        let library = Library::open(memory, interface)?;
        let mut weights = None;
        if !interface.weights_embedded {
            let file = record
                .weights
                .as_ref()
                .ok_or(LoadError::MissingFile { kind: Kind::Weights })?;
            // Copies cannot be given back, which whoever compiled the model may have insisted on.
            let given_back = record.transient.as_ref().is_some_and(|t| t.always);
            let copy = options.copy || (file.size <= COPIED && !given_back);
            weights = Some((files.weights(file, interface, copy)?, copy));
        }
        let prepared = Memory::new("prepared memory", interface.prepared_size)?;
        let transient = match (&weights, &record.transient) {
            (Some((weights, false)), Some(transient)) => transient::ranges(weights, transient),
            _ => Vec::new(),
        };
        let mut loaded = Loaded {
            manifest: files.manifest,
            library,
            weights: weights.map(|(weights, _)| weights),
            transient,
            prepared,
        };
        loaded.prepare()?;
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
