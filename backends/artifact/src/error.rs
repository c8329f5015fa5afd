//! Errors of the modules that make and check object code.

/// An object could not be merged, checked or linked. Each is a fault of the compiler or of its kernels, not of the
/// user's model, except where a size limit of the code model is named.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are named by their messages")]
pub enum ObjectError {
    #[error("cannot read the object: {0}")]
    Read(#[from] object::read::Error),
    #[error("cannot write the object: {0}")]
    Write(#[from] object::write::Error),
    #[error("not a relocatable x86-64 ELF object")]
    NotRelocatable,
    #[error("malformed object: {what} in section `{section}`")]
    Malformed { section: String, what: &'static str },
    #[error("no kernel object defines `{symbol}`")]
    MissingKernel { symbol: String },
    #[error("section `{section}` refers to `{symbol}`, which is not defined")]
    Undefined { symbol: String, section: String },
    #[error("`{symbol}` has a kind or place that cannot be linked ({what})")]
    UnsupportedSymbol { symbol: String, what: &'static str },
    #[error("section `{section}` cannot be carried over ({what})")]
    UnsupportedSection { section: String, what: &'static str },
    #[error(
        "relocation type {r_type} at {offset:#x} of section `{section}`, against `{symbol}`, is not supported"
    )]
    UnsupportedRelocation {
        section: String,
        offset: u64,
        r_type: u32,
        symbol: String,
    },
    #[error(
        "the reference at {offset:#x} of section `{section}` to `{symbol}` does not fit in 32 bits: code and constants \
         together exceed 2 GiB"
    )]
    OutOfReach {
        section: String,
        offset: u64,
        symbol: String,
    },
    #[error(
        "code in section `{section}` holds the absolute address of `{symbol}`, so it would not be position-independent"
    )]
    TextRelocation { section: String, symbol: String },
    #[error("undefined symbols remain: {}", .0.join(", "))]
    UndefinedSymbols(Vec<String>),
    #[error("global symbols outside `{prefix}*`: {}", .symbols.join(", "))]
    ForeignGlobals { prefix: String, symbols: Vec<String> },
    #[error("section `{section}` is writable data: the code would not be re-entrant")]
    WritableData { section: String },
    #[error("the object exports no symbol")]
    NoExports,
    #[error("cannot write the archive: {0}")]
    Archive(#[source] std::io::Error),
}
