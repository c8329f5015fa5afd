//! What a shared library says of itself, in a section of its own: whoever loads it need not believe the manifest beside it.
//!
//! The text is JSON. The manifest holds the library's digest, so it cannot be in there; everything else that running the model depends on is.

use crate::interface::Interface;
use crate::manifest::{File, Transient};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection};
use serde::{Deserialize, Serialize};

/// The section's name.
pub const SECTION: &str = ".sdc.record";

/// What a library was linked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The model's interface.
    pub interface: Interface,
    /// The weights that may be given back during a run.
    pub transient: Option<Transient>,
    /// The weights file that was written with the library.
    pub weights: Option<File>,
}

/// The library holds no record that this version wrote.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is no ELF file, or has no such section.
    #[error("no section `{SECTION}` that says what it was compiled for")]
    Missing,
    /// The section holds something else.
    #[error("section `{SECTION}`: {0}")]
    Json(#[from] serde_json::Error),
}

impl Record {
    /// The section's contents.
    ///
    /// # Errors
    /// [`RecordError::Json`] only in theory: all keys are strings.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads the record of a shared library.
    ///
    /// # Errors
    /// A file that is no library of ours.
    pub fn read(library: &[u8]) -> Result<Self, RecordError> {
        let file: ElfFile64<'_> = ElfFile64::parse(library).map_err(|_| RecordError::Missing)?;
        let section = file.section_by_name(SECTION).ok_or(RecordError::Missing)?;
        let text = section.data().map_err(|_| RecordError::Missing)?;
        Ok(serde_json::from_slice(text)?)
    }
}
