//! Walks tile IR and drives an emitter: what every native backend shares.
//!
//! [`lower`] visits one tile function and calls an [`Emitter`] for each loop, access and instruction. It decides what is
//! the same for all targets: where buffers live ([`Placement`]), how an affine index becomes an address (what is invariant
//! in a loop is computed before it, constants go to the displacement, and products in the innermost loop become
//! additions), how often an innermost loop's body is repeated, and which functions are cut into [`tasks`].
//!
//! Deliberately absent: instructions of any target, object files, and the choice of what to lower: tiling and
//! vectorising were decided by the passes.
#![deny(missing_docs)]

mod address;
mod emitter;
mod error;
mod kernels;
mod placement;
mod scan;
mod unroll;
mod walk;

pub use emitter::{Address, Emitter, LoopHead};
pub use error::LowerError;
pub use kernels::{expand, operand_slots};
pub use placement::{Placement, Root, WEIGHTS_PAYLOAD};
pub use walk::{lower, tasks};
