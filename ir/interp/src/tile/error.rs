//! Why a tile module could not be run.

use sdc_ir::tile::Buffer;

/// A tile module could not be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// Wrong number of inputs.
    #[error("the module reads {expected} inputs, got {actual}")]
    InputCount {
        /// Inputs of the module.
        expected: usize,
        /// Inputs given.
        actual: usize,
    },
    /// An input has the wrong length.
    #[error("input {position}: the module expects {expected} bytes, got {actual}")]
    InputLength {
        /// Position of the input.
        position: usize,
        /// Bytes of its buffer.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
    /// A buffer cannot be placed in memory.
    #[error("buffer {buffer} (`{name}`): {reason}")]
    Buffer {
        /// The buffer.
        buffer: Buffer,
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// No output has this position, or several have.
    #[error("output {0} is not exactly one buffer")]
    Output(usize),
    /// Memory for all buffers does not suffice.
    #[error("out of memory: the buffers need {0} bytes")]
    OutOfMemory(usize),
    /// A function is not well formed. The tile verifier says more.
    #[error("function `{func}`: {reason}")]
    Malformed {
        /// Name of the function.
        func: String,
        /// What is wrong.
        reason: String,
    },
    /// An access outside its buffer.
    #[error(
        "function `{func}`: {lanes} element(s) at index {index} are outside buffer {buffer} (`{name}`) of {len}"
    )]
    OutOfBounds {
        /// Name of the function.
        func: String,
        /// The buffer.
        buffer: Buffer,
        /// Its name.
        name: String,
        /// Index of the first element accessed.
        index: i64,
        /// Number of elements accessed.
        lanes: usize,
        /// Number of elements of the buffer.
        len: usize,
    },
}
