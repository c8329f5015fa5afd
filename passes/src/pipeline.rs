//! temp
pub use crate::pass::{Class, Ctx, Pass, PassError};
