//! The accelerator's simulator: what a program computes, bit for bit, how many cycles it takes, and what it does on the way.
//!
//! There is one executor (`exec`); time (`time`) and counters read the instructions that it executes and the activations they meet.
//! Deliberately absent: files, and what energy the counts are worth.
#![deny(missing_docs)]

mod account;
mod counters;
mod exec;
mod memory;
mod ports;
pub mod report;
mod run;
mod sim;
mod time;

pub use counters::{Busy, Bytes, Counts};
pub use sim::{Event, Mode, Options, Outcome, SimError, Simulator};
