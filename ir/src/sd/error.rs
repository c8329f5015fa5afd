//! Why decomposed weights cannot be read or used.

use super::Fault;

/// Why a decomposed weight could not be used, packed or unpacked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SdError {
    /// The value breaks laws.
    #[error("not a decomposed weight: {}", list(.0))]
    Invalid(Vec<Fault>),
    /// It does not start with the magic bytes.
    #[error("not a packed decomposed weight")]
    Magic,
    /// It is of another version of the format.
    #[error("packed weight of version {0}, this reads version 1")]
    Version(u8),
    /// It ends inside the header.
    #[error("packed weight ends inside its header")]
    Truncated,
    /// A number of the header is not written in its shortest form, or is too large.
    #[error("packed weight, byte {0}: malformed number")]
    Number(usize),
    /// The header counts more filter dimensions than the tensor has.
    #[error("packed weight: {filters} filter dimensions of a tensor of {rank}")]
    FilterDims {
        /// Filter dimensions.
        filters: u8,
        /// Dimensions.
        rank: usize,
    },
    /// Its length is not what its header and its index ask for.
    #[error("packed weight is {actual} bytes, its header and index ask for {expected}")]
    Length {
        /// Bytes asked for; at least so many if the index itself is cut off.
        expected: usize,
        /// Bytes there are.
        actual: usize,
    },
    /// A section has other bits than zero behind its last item.
    #[error("packed weight: padding of the {0} is not zero")]
    Padding(&'static str),
    /// A word of the codes stands for nothing: a nibble of minus zero, or a row word of `levels^r` or more.
    #[error("packed weight: stored row {0} holds a word that is no code")]
    Code(usize),
    /// The text form is malformed.
    #[error("line {line}: {reason}")]
    Text {
        /// Line, from 1.
        line: usize,
        /// What was expected, and found.
        reason: String,
    },
}

fn list(faults: &[Fault]) -> String {
    let texts: Vec<_> = faults.iter().map(Fault::to_string).collect();
    texts.join("; ")
}
