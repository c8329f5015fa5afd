//! Why a tile function could not be lowered, or a module not be compiled.

use sdc_ir::graph::Origin;
use sdc_ir::tile::verify::Fault;
use sdc_ir::tile::{Buffer, Val, Var};

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
    #[error("the code generator does not accept its configuration: {0}")]
    Setup(String),
    #[error("cannot write the object: {0}")]
    Object(String),
}

/// What is wrong with one function.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are named by their messages")]
pub enum FuncError {
    #[error(transparent)]
    Lower(#[from] LowerError),
    #[error("{what} is not supported on this instruction set")]
    Unsupported { what: String },
    #[error("the code generator failed: {0}")]
    Codegen(String),
    #[error("the code would call `{0}` of a run-time library")]
    LibCall(String),
    #[error("cannot write the object: {0}")]
    Object(String),
}

fn of(origins: &[Origin]) -> String {
    match origins {
        [] => String::new(),
        [one] => format!(", from {one}"),
        [first, rest @ ..] => format!(", from {first} and {} more", rest.len()),
    }
}

/// A function that the tile verifier would refuse, or a placement that does not fit its module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are named by their messages")]
pub enum LowerError {
    #[error("value {0} is used where it is not defined")]
    UndefinedVal(Val),
    #[error("loop variable {0} is used outside its loop")]
    UndefinedVar(Var),
    #[error("buffer {0} does not exist")]
    UndefinedBuffer(Buffer),
    #[error("buffer {0} has no place in the plan")]
    Unplaced(Buffer),
    #[error("buffer {buffer} takes bytes {offset}..{offset}+{bytes}, beyond the {size} bytes of its memory")]
    Outside {
        buffer: Buffer,
        offset: u64,
        bytes: usize,
        size: u64,
    },
    #[error("buffer {buffer} lies at byte {offset}, which is not a multiple of {align}")]
    Misaligned { buffer: Buffer, offset: u64, align: u64 },
    #[error("the address of an element of buffer {0} overflows")]
    AddressOverflow(Buffer),
    #[error("loop variable {var} steps by {step}")]
    Step { var: Var, step: i64 },
    #[error("loops are nested more than {0} deep")]
    TooDeep(usize),
    #[error("there is no kernel `{0}`")]
    UnknownKernel(String),
}
