//! sdc's second native backend: tile IR to an ELF object for x86-64 through LLVM.
//!
//! [`compile`] is LLVM's part of [`sdc_lower::compile`]: instructions of one function, LLVM's passes over all of them, and what its code
//! generator writes, read back as an object. Floating point is what tile IR says: no fast-math flags, and nothing is contracted but
//! `fma`, which is one instruction where the CPU has it and otherwise a product and a sum.
//!
//! Without the cargo feature `llvm` this crate is empty, so that the workspace builds where there is no LLVM. No type of LLVM appears in
//! its interface.
//!
//! Deliberately absent: calls into any library (the functions say that they know none), writable data, unwind tables, and the search
//! for vectors in the instructions of tile IR: how wide those are is decided before.
#![deny(missing_docs)]
#![cfg(feature = "llvm")]

mod emit;
mod entry_code;
mod machine;
mod native;
mod object;
mod unit;

pub use native::{compile, text};
