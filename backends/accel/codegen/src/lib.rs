//! Code generation for the SmartDeal accelerator: integer graphs, as they are after `quantise`, to programs of SDA-1 (`docs/accelerator.md`).
//!
//! - [`select`]: which nodes the machine computes, as [`net`] (maps and layers), and what is left to the host.
//! - `columns`: layers of which not even a window fits, in tiles.
//! - [`residency`]: which maps stay in the input buffer. [`plan`]: tiles and bands of a layer. [`weights`]: what is loaded for them.
//! - [`schedule`]: work and loads in their order. [`emit`]: instructions, with [`tokens`] between engines.
//!
//! Deliberately absent: files, flags, and what instructions do.
#![deny(missing_docs)]

mod columns;
mod compile;
pub mod emit;
mod error;
pub mod net;
pub mod plan;
mod pool;
mod registers;
pub mod residency;
pub mod schedule;
pub mod select;
pub mod strips;
pub mod tokens;
pub mod weights;

pub use compile::{Compiled, HostNode, LayerSummary, compile};
pub use error::AccelError;
