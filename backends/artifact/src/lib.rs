//! What sdc ships, and how it is loaded back.
//!
//! - [`merge`], [`symbols`], [`archive`], [`sharedlib`]: from an object under construction to a finished `.o`, `.a` and
//!   `.so`, without an assembler, a linker or a C compiler.
//! - [`interface`], [`header`], [`weights`], [`manifest`], [`record`], [`emit`]: what a user's program must know, and the files that
//!   say it.
//! - [`load`], [`pool`], [`probe`], [`measure`]: running exactly those files, as `sdc run` and `sdc bench` do.
//!
//! Deliberately absent: graphs, passes, ONNX, code generation. This crate sees bytes, symbols and tensor shapes; all it
//! takes from `sdc-ir` is the element types and digests.
#![deny(missing_docs)]

pub mod archive;
pub mod emit;
mod error;
pub mod header;
pub mod interface;
pub mod load;
pub mod manifest;
pub mod measure;
pub mod merge;
pub mod pool;
pub mod probe;
pub mod record;
mod reloc;
pub mod rust_crate;
pub mod sharedlib;
pub mod symbols;
pub mod temporary;
pub mod weights;

pub use error::ObjectError;
/// The `object` crate, in the version whose types appear in this crate's interface.
pub use object;
