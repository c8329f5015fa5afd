//! Why a network has no program.

/// One thing that the machine cannot do, or that does not fit it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccelError {
    /// An operator or parameter that neither the machine nor the host can do.
    #[error("{layer}: {reason}")]
    Unsupported {
        /// The user's node.
        layer: String,
        /// Why.
        reason: String,
    },
    /// A tile that no cut makes small enough.
    #[error("{layer}: its least tile needs {need} bytes of {buffer}, which has {size}")]
    TooLarge {
        /// The user's node.
        layer: String,
        /// The buffer.
        buffer: &'static str,
        /// Bytes needed.
        need: usize,
        /// Bytes there are.
        size: usize,
    },
    /// Weights and maps together exceed what an address can say.
    #[error("weights and maps exceed the 4 GiB that the machine addresses")]
    Dram,
}

impl AccelError {
    /// True if a size exceeds a limit; otherwise the network is not supported.
    pub fn is_limit(&self) -> bool {
        !matches!(self, AccelError::Unsupported { .. })
    }
}
