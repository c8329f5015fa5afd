//! What a program that uses a compiled model must know of it.
//!
//! Deliberately absent: file names and digests of files ([`crate::manifest`]), and anything only the compiler knows.

mod ident;

pub use ident::{Identifiers, is_identifier, sanitise};

use sdc_ir::{DType, Digest};
use serde::{Deserialize, Serialize};

/// Largest alignment an artifact may ask for: a page.
pub const MAX_ALIGN: usize = 4096;

/// The interface of one compiled model. All sizes and alignments are in bytes; alignments are powers of two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// C identifier; every global symbol and macro starts with it and an underscore.
    pub name: String,
    /// Inputs, in the order of `NAME_run`'s `inputs`.
    pub inputs: Vec<TensorSpec>,
    /// Outputs, in the order of `NAME_run`'s `outputs`.
    pub outputs: Vec<TensorSpec>,
    /// Scratch memory of one run.
    pub arena_size: usize,
    /// Alignment of the arena.
    pub arena_align: usize,
    /// The weights image: header and payload ([`crate::weights`]).
    pub weights_size: usize,
    /// Alignment of the weights image in memory.
    pub weights_align: usize,
    /// Memory that `NAME_prepare` fills and runs share; 0 when there is nothing to prepare.
    pub prepared_size: usize,
    /// Alignment of the prepared memory.
    pub prepared_align: usize,
    /// SHA-256 of the weights payload.
    #[serde(with = "crate::manifest::text")]
    pub weights_digest: Digest,
    /// Whether the object holds the weights image itself, as `NAME_weights`.
    pub weights_embedded: bool,
    /// The CPU that was compiled for, such as `x86-64-v3`.
    pub cpu: String,
    /// Names (as in Rust's `target_feature`) of the CPU features the code needs.
    pub features: Vec<String>,
}

/// One input or output: dense, row-major in its ONNX order of dimensions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// The user's name, as in the model.
    pub name: String,
    /// The name as a C identifier, unique among the inputs or among the outputs.
    pub c_name: String,
    /// Element type.
    #[serde(with = "crate::manifest::text")]
    pub dtype: DType,
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Specifications of all inputs, or all outputs, with C names made from the users' names.
    pub fn list(tensors: impl IntoIterator<Item = (String, DType, Vec<usize>)>) -> Vec<Self> {
        let mut names = Identifiers::default();
        let spec = |(name, dtype, shape): (String, _, _)| TensorSpec {
            c_name: names.add(&name),
            name,
            dtype,
            shape,
        };
        tensors.into_iter().map(spec).collect()
    }

    /// Number of elements; `None` when it exceeds the address space.
    pub fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }

    /// Size in bytes; `None` when it exceeds the address space.
    pub fn bytes(&self) -> Option<usize> {
        self.elements()?
            .checked_mul(self.dtype.size())
            .filter(|n| isize::try_from(*n).is_ok())
    }
}

/// An interface that no compiler of ours would have written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are named by their messages")]
pub enum InterfaceError {
    #[error("`{0}` is not usable as a C identifier")]
    Identifier(String),
    #[error("the C name `{0}` occurs twice")]
    Twice(String),
    #[error("tensor `{0}` exceeds the address space")]
    TooLarge(String),
    #[error("{what}: {value} is not a power of two up to {MAX_ALIGN}")]
    Align { what: &'static str, value: usize },
    #[error("{what}: {value} bytes is not plausible")]
    Size { what: &'static str, value: usize },
}

impl Interface {
    /// Checks what the other modules and the loader rely on: identifiers, uniqueness, sizes that can be allocated,
    /// alignments.
    ///
    /// # Errors
    /// The first violation.
    pub fn validate(&self) -> Result<(), InterfaceError> {
        for name in
            std::iter::once(&self.name).chain(self.inputs.iter().chain(&self.outputs).map(|t| &t.c_name))
        {
            if !is_identifier(name) {
                return Err(InterfaceError::Identifier(name.clone()));
            }
        }
        for tensors in [&self.inputs, &self.outputs] {
            let mut seen = std::collections::BTreeSet::new();
            for tensor in tensors {
                if !seen.insert(&tensor.c_name) {
                    return Err(InterfaceError::Twice(tensor.c_name.clone()));
                }
                if tensor.bytes().is_none() {
                    return Err(InterfaceError::TooLarge(tensor.name.clone()));
                }
            }
        }
        let aligns = [
            ("alignment of the arena", self.arena_align),
            ("alignment of the weights", self.weights_align),
            ("alignment of the prepared memory", self.prepared_align),
        ];
        if let Some((what, value)) = aligns
            .into_iter()
            .find(|(_, v)| !v.is_power_of_two() || *v > MAX_ALIGN)
        {
            return Err(InterfaceError::Align { what, value });
        }
        let sizes = [
            ("arena", self.arena_size),
            ("weights", self.weights_size),
            ("prepared memory", self.prepared_size),
        ];
        // Room for guard pages and rounding must remain representable.
        if let Some((what, value)) = sizes.into_iter().find(|(_, v)| *v > isize::MAX as usize / 2) {
            return Err(InterfaceError::Size { what, value });
        }
        if self.weights_size < crate::weights::PAYLOAD {
            return Err(InterfaceError::Size {
                what: "weights",
                value: self.weights_size,
            });
        }
        Ok(())
    }
}
