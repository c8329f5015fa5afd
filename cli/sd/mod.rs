//! Compression of a network's weights, as the commands share it: its options, and its report for people.

mod options;
mod page;
pub mod report;

pub use options::{SolverArgs, WishArgs, parse, settings};
