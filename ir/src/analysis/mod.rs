//! What several passes and backends ask of intervals of time, of windows and of nodes.
//!
//! - [`problem`], [`place`], [`sweep`]: sizes over intervals of time, and the search for their offsets.
//! - [`window`]: which inputs a range of outputs needs.
//! - [`macs`]: what a node multiplies.

pub mod macs;
pub mod place;
pub mod problem;
pub mod sweep;
pub mod window;

pub use window::Window;
