//! `manifest.json`: what was compiled, from what, how, and the digests of the files beside it.
//!
//! Deliberately absent: times, paths and host names; the same input gives the same bytes.

use crate::interface::{Interface, InterfaceError};
use sdc_ir::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the manifest's own format.
pub const FORMAT: u32 = 2;
/// The manifest's file name.
pub const FILE_NAME: &str = "manifest.json";
/// Manifests are small; a larger file is not one.
pub(crate) const MAX_BYTES: usize = 16 << 20;

/// One artifact's manifest. Keys come out in the order of the fields, maps sorted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of the sdc that wrote it.
    pub sdc: String,
    /// What a program must know of the model; its name and CPU among it.
    pub interface: Interface,
    /// How it came about.
    pub origin: Origin,
    /// Weights that whoever runs the model may give back while a run is past them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transient: Option<Transient>,
    /// The files beside the manifest, by kind.
    pub files: BTreeMap<Kind, File>,
}

/// Weights that are not read all through a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transient {
    /// The user wants them given back whatever it costs; otherwise only where that takes next to no time.
    pub always: bool,
    /// The parts of the weights, by offset.
    pub parts: Vec<Part>,
}

/// A part of the weights. A run calls `parallel_for` equally often each time; calls are counted from 0, and the number after
/// the last one stands for the end of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Not read before this call begins, except by functions that run right before it on the calling thread alone.
    pub first_call: u64,
    /// Not read after this call has ended.
    pub last_call: u64,
    /// Where it begins in the weights file, in bytes.
    pub offset: u64,
    /// Its size.
    pub bytes: u64,
}

/// Where an artifact comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// SHA-256 of the model file.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "text::optional")]
    pub model: Option<Digest>,
    /// The options it was compiled with, as on the command line.
    pub options: BTreeMap<String, String>,
    /// Summary of the memory plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// Summary of a memory plan, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The arena's size.
    pub peak: u64,
    /// The largest set of bytes live at once: no plan can do with less.
    pub lower_bound: u64,
    /// Number of buffers placed.
    pub buffers: u64,
}

/// What a file of an artifact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `NAME.o`
    Object,
    /// `libNAME.a`
    Archive,
    /// `libNAME.so`
    SharedLibrary,
    /// `NAME.h`
    Header,
    /// `Cargo.toml` of the crate that the directory is
    CargoToml,
    /// `build.rs` of that crate
    BuildScript,
    /// `lib.rs` of that crate
    RustSource,
    /// `NAME.weights`
    Weights,
    /// `manifest.json`, which does not list itself
    Manifest,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 9] = [
        Kind::Object,
        Kind::Archive,
        Kind::SharedLibrary,
        Kind::Header,
        Kind::CargoToml,
        Kind::BuildScript,
        Kind::RustSource,
        Kind::Weights,
        Kind::Manifest,
    ];

    /// The name of this kind of file, for the model called `name`.
    pub fn file_name(self, name: &str) -> String {
        match self {
            Kind::Object => format!("{name}.o"),
            Kind::Archive => format!("lib{name}.a"),
            Kind::SharedLibrary => format!("lib{name}.so"),
            Kind::Header => format!("{name}.h"),
            Kind::CargoToml => "Cargo.toml".to_owned(),
            Kind::BuildScript => "build.rs".to_owned(),
            Kind::RustSource => "lib.rs".to_owned(),
            Kind::Weights => format!("{name}.weights"),
            Kind::Manifest => FILE_NAME.to_owned(),
        }
    }
}

/// One file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Plain file name, without directories.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the whole file.
    #[serde(with = "text")]
    pub sha256: Digest,
}

/// The text is not a manifest that this version wrote.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are named by their messages")]
pub enum ManifestError {
    #[error("manifest: larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("manifest: {0}")]
    Json(#[from] serde_json::Error),
    #[error("manifest: format {0}; this sdc reads format {FORMAT}")]
    Format(u64),
    #[error("manifest: {0}")]
    Interface(#[from] InterfaceError),
    #[error("manifest: file name `{found}`, expected `{expected}`")]
    FileName { found: String, expected: String },
    #[error("manifest: the weights file has {found} bytes, the interface says {expected}")]
    WeightsSize { found: u64, expected: u64 },
    #[error("manifest: {} bytes at {} are no part of a weights file, or overlap, or are done with before they are needed", .0.bytes, .0.offset)]
    Part(Part),
}

impl Manifest {
    /// The manifest's text: JSON, indented, with a final newline.
    ///
    /// # Errors
    /// [`ManifestError::Json`] only in theory: all keys are strings.
    pub fn to_text(&self) -> Result<String, ManifestError> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }

    /// Reads and validates a manifest.
    ///
    /// # Errors
    /// Not JSON of this shape; another format version; an interface that is not valid; file names other than those the
    /// model's name implies (so a manifest cannot point outside its directory).
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Version {
            format: u64,
        }
        if text.len() > MAX_BYTES {
            return Err(ManifestError::TooLarge);
        }
        // The version first, so that a newer format is not reported as a malformed old one.
        let version: Version = serde_json::from_slice(text)?;
        if version.format != u64::from(FORMAT) {
            return Err(ManifestError::Format(version.format));
        }
        let manifest: Manifest = serde_json::from_slice(text)?;
        manifest.interface.validate()?;
        for (kind, file) in &manifest.files {
            let expected = kind.file_name(&manifest.interface.name);
            if file.name != expected {
                return Err(ManifestError::FileName {
                    found: file.name.clone(),
                    expected,
                });
            }
        }
        let expected = manifest.interface.weights_size as u64;
        if let Some(found) = manifest
            .files
            .get(&Kind::Weights)
            .map(|f| f.size)
            .filter(|s| *s != expected)
        {
            return Err(ManifestError::WeightsSize { found, expected });
        }
        let mut free = if manifest.interface.weights_embedded {
            expected
        } else {
            0
        };
        for part in manifest.transient.iter().flat_map(|t| &t.parts) {
            let end = part.offset.checked_add(part.bytes).filter(|end| *end <= expected);
            match end {
                Some(end) if free <= part.offset && part.first_call <= part.last_call => free = end,
                _ => return Err(ManifestError::Part(*part)),
            }
        }
        Ok(manifest)
    }
}

/// Serde by way of `Display` and `FromStr`.
pub(crate) mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::fmt::Display;
    use std::str::FromStr;

    pub fn serialize<T: Display, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(value)
    }

    pub fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }

    /// The same for values that may be absent.
    pub mod optional {
        use super::*;
        use serde::Serialize;

        pub fn serialize<T: Display, S: Serializer>(value: &Option<T>, s: S) -> Result<S::Ok, S::Error> {
            value.as_ref().map(T::to_string).serialize(s)
        }

        pub fn deserialize<'de, T, D>(d: D) -> Result<Option<T>, D::Error>
        where
            T: FromStr<Err: Display>,
            D: Deserializer<'de>,
        {
            let text = Option::<String>::deserialize(d)?;
            text.map(|t| t.parse().map_err(D::Error::custom)).transpose()
        }
    }
}
