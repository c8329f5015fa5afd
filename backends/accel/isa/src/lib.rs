//! SDA-1, the instruction set of the SmartDeal accelerator (`docs/accelerator.md`).
//!
//! - [`Config`]: the machine, every size of it a key with a range.
//! - [`Instr`], [`Op`], [`Register`]: instructions as structs of named fields with their true values; [`encode`] and [`decode`] are the 128-bit words.
//! - [`Program`]: code, DRAM image, inputs and outputs, layers and host steps; [`Builder`] makes one.
//!
//! Deliberately absent: what instructions do and how long they take (the simulator), and how programs are found (code generation).
#![deny(missing_docs)]

mod check;
mod config;
mod container;
mod encode;
mod engine;
mod fault;
mod field;
mod flow;
mod instr;
mod program;
mod reg;
mod registers;
pub mod text;
mod vector;

pub use check::{MAX_CODE, MAX_DRAM, MAX_FILTER, MAX_WORK};
pub use config::{Config, ConfigError, KEYS, Key, Range, Rebuild, Sync};
pub use container::WORD;
pub use encode::{WordError, decode, encode};
pub use engine::{Engine, EngineSet};
pub use fault::{Class, Code, Fault, Faults};
pub use field::{Field, FieldKind, Fields};
pub use flow::Flow;
pub use instr::{
    Add, Cfg, Conv, Dwcv, Instr, Ldm, Ldp, Ldt, Ldw, Ldx, Lut, Mark, Mov, Mul, Op, Pool, Std, Sti, Stv, mark,
};
pub use program::{Builder, Data, Grid, HostStep, Layer, Place, Port, Program, Tile};
pub use reg::{File, Fmt, Geom, Quant, Register, View};
pub use registers::Registers;
pub use vector::{Part, Vector};
