//! Why a module could not be compiled.

use cranelift_module::ModuleError;
use sdc_ir::graph::Origin;
use sdc_ir::tile::verify::Fault;
use sdc_lower::LowerError;

/// A module that cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are named by their messages")]
pub enum Error {
    #[error("unknown CPU `{name}`; known: {}", .known.join(", "))]
    UnknownCpu { name: String, known: Vec<&'static str> },
    #[error("`{0}` is not a C identifier")]
    Name(String),
    #[error("the module is not sound: {}", .0.first().map(ToString::to_string).unwrap_or_default())]
    Malformed(Vec<Fault>),
    #[error("in `{func}`{}: {source}", of(.origins))]
    Func {
        func: String,
        /// The user's nodes it computes.
        origins: Vec<Origin>,
        source: FuncError,
    },
    #[error("in an entry point: {0}")]
    Entry(#[source] FuncError),
    #[error("Cranelift does not accept its configuration: {0}")]
    Setup(String),
    #[error("cannot write the object: {0}")]
    Object(#[from] Box<ModuleError>),
}

/// What is wrong with one function.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are named by their messages")]
pub enum FuncError {
    #[error(transparent)]
    Lower(#[from] LowerError),
    #[error("{what} is not supported on this instruction set")]
    Unsupported { what: String },
    #[error("Cranelift failed: {0}")]
    Codegen(String),
    #[error("the code would call `{0}` of a run-time library")]
    LibCall(String),
    #[error("cannot write the object: {0}")]
    Object(#[from] Box<ModuleError>),
}

fn of(origins: &[Origin]) -> String {
    match origins {
        [] => String::new(),
        [one] => format!(", from {one}"),
        [first, rest @ ..] => format!(", from {first} and {} more", rest.len()),
    }
}
