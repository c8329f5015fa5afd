//! Why a tile function could not be lowered.

use sdc_ir::tile::{Buffer, Val, Var};

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
