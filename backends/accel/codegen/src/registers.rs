//! The register files as caches: a value that an engine's file holds is not written again.

use crate::tokens::{Access, Tokens};
use sdc_accel_isa::{Cfg, Engine, Op, Register};

/// Registers of a file.
const SIZE: usize = 16;

/// What the files of all engines hold, the last used last.
#[derive(Debug, Default)]
pub struct Registers {
    files: [[Vec<(Register, u32)>; 4]; 4],
}

impl Registers {
    /// The number of a register of the engine with this value; it is written unless one holds it.
    pub fn get(&mut self, tokens: &mut Tokens, engine: Engine, value: Register) -> u32 {
        let file = &mut self.files[engine.index()][file_of(&value)];
        let entry = match file.iter().position(|(held, _)| *held == value) {
            Some(at) => file.remove(at),
            None => {
                let index = if file.len() < SIZE {
                    file.len() as u32
                } else {
                    file.remove(0).1
                };
                tokens.push(engine, Op::Cfg(Cfg { index, value }), &[] as &[Access]);
                (value, index)
            }
        };
        file.push(entry);
        entry.1
    }
}

fn file_of(register: &Register) -> usize {
    match register {
        Register::View(_) => 0,
        Register::Geom(_) => 1,
        Register::Fmt(_) => 2,
        Register::Quant(_) => 3,
    }
}
