//! Cycles of instructions (specification, section 6), read from what they are about to do.

pub(crate) mod clock;
pub(crate) mod conv;
mod digits;
pub(crate) mod dram;
pub(crate) mod lines;
