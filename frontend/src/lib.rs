//! sdc's ONNX frontend: protobuf types, import into graph IR, one module per operator family.
//!
//! [`import`] turns the bytes of a model into a [`sdc_ir::graph::Graph`] of canonical operators without symbols:
//! open dimensions are pinned by options, shape computations are folded away, and every problem of the model is
//! reported in one list. Models are taken to be hostile: sizes are checked before anything is allocated by them.
//!
//! Deliberately absent: optimisation (only what is constant is computed here), what kernels can and cannot do (the pass
//! `legalise` knows that), the file system (external data comes
//! from a loader the caller gives), and training.

mod builder;
mod control;
mod ctx;
mod dims;
pub mod error;
pub mod export;
mod flex;
mod import;
mod inline;
mod narrow;
mod nodes;
mod ops;
pub mod options;
mod order;
pub mod proto;
mod remedy;
mod scan;
mod sd;
mod sequences;
pub mod tensor;

pub use dims::symbol;
pub use error::{Class, Code, ImportError, ImportErrors};
pub use import::{Imported, decode, import, import_model};
pub use ops::{operators, supported_operators, supported_since};
pub use options::{ExternalData, ImportOptions, Limits};
pub use tensor::{read_tensor_pb, write_tensor_pb};

use sdc_ir::graph::Origin;
use std::fmt;

/// Something a user may want to know about an import that succeeded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remark {
    /// The node it is about, if it is about one.
    pub node: Option<Origin>,
    /// The remark.
    pub message: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = &self.node {
            write!(f, "{node}: ")?;
        }
        f.write_str(&self.message)
    }
}
