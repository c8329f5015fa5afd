//! Programs of the accelerator: `sdc asm`, `sdc disasm`, `sdc sim`.

pub mod asm;
pub mod disasm;
pub mod sim;
mod trace;
