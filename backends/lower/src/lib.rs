//! Walks tile IR and drives an emitter: what every native backend shares.
//!
//! [`lower`] visits one tile function and calls an [`Emitter`] for each loop, access and instruction. It decides what is
//! the same for all targets: where buffers live ([`Placement`]), how an affine index becomes an address (what is invariant
//! in a loop is computed before it, constants go to the displacement, and products in the innermost loop become
//! additions), how often an innermost loop's body is repeated, and which functions are cut into [`tasks`].
//!
//! [`compile`] makes a whole object of a module with a [`Generator`]: one local function per tile function, equal ones once, and the
//! global `NAME_run`, `NAME_prepare` and sizes. [`cpu`] lists what can be compiled for.
//!
//! Deliberately absent: instructions of any target, the writing of object files, and the choice of what to lower: tiling and
//! vectorising were decided by the passes.
#![deny(missing_docs)]

mod address;
mod compile;
pub mod cpu;
mod emitter;
mod entry;
mod error;
pub mod generator;
pub mod half;
mod kernels;
mod placement;
mod scan;
mod unroll;
mod walk;

pub use compile::{Compiled, CompiledObject, Options, check, compile};
pub use cpu::{Arch, CpuSpec};
pub use emitter::{Address, Emitter, LoopHead};
pub use entry::Frame;
pub use error::{Error, FuncError, LowerError};
pub use generator::Generator;
pub use kernels::{expand, operand_slots};
/// The `object` crate, in the version whose types appear in this crate's interface.
pub use object;
pub use placement::{Placement, Root, WEIGHTS_PAYLOAD};
pub use walk::{lower, tasks};
