//! What instructions do. This is the only semantics: time and counters read what happens here.

pub(crate) mod conv;
mod movement;
mod vector;
pub(crate) mod weights;

use crate::memory::{Memory, Outside};
use sdc_accel_isa::{Code, Config, Fault, Instr, Op, Program, Registers};
use weights::Weights;

/// The state of the machine between two instructions.
pub(crate) struct Machine {
    pub config: Config,
    pub memory: Memory,
    /// Of each engine.
    pub registers: [Registers; 4],
    /// What the line files hold.
    pub weights: Weights,
    scratch: conv::Scratch,
}

/// Why an instruction could not be executed. A program that the loader accepted meets only [`Stop::Code`].
#[derive(Debug)]
pub(crate) enum Stop {
    Outside,
    Register,
    /// Codes that mean nothing, or copies of weights that differ.
    Code(String),
}

impl From<Outside> for Stop {
    fn from(_: Outside) -> Self {
        Self::Outside
    }
}

impl Stop {
    /// The fault, at an instruction.
    pub fn fault(self, instr: usize) -> Fault {
        match self {
            Self::Outside => Fault::at(Code::A20, instr, "an address outside its memory"),
            Self::Register => Fault::at(Code::A14, instr, "a register that was never written"),
            Self::Code(message) => Fault::at(Code::A40, instr, message),
        }
    }
}

impl Machine {
    /// A machine with the program's image in its DRAM.
    pub fn new(program: &Program, config: &Config) -> Self {
        let mut memory = Memory::new(config, program.dram as usize);
        for data in &program.data {
            let at = data.addr as usize;
            if let Some(place) = memory.dram.get_mut(at..at + data.bytes.len()) {
                place.copy_from_slice(&data.bytes);
            }
        }
        Self {
            config: config.clone(),
            memory,
            registers: Default::default(),
            weights: Weights::default(),
            scratch: conv::Scratch::default(),
        }
    }

    /// Executes an instruction.
    pub fn execute(&mut self, instr: &Instr) -> Result<(), Stop> {
        let registers = &mut self.registers[instr.engine.index()];
        match &instr.op {
            Op::Nop | Op::Halt | Op::Mark(_) => Ok(()),
            Op::Cfg(cfg) => {
                registers.write(cfg);
                Ok(())
            }
            Op::Conv(i) => {
                let strip = conv::Strip::of_conv(i, registers).ok_or(Stop::Register)?;
                self.weights.prepare(&strip, &self.memory, &self.config)?;
                conv::run(&strip, &self.weights, &mut self.memory, &mut self.scratch)
            }
            Op::Dwcv(i) => {
                let strip = conv::Strip::of_dwcv(i, registers).ok_or(Stop::Register)?;
                self.weights.prepare(&strip, &self.memory, &self.config)?;
                conv::run_depthwise(&strip, &self.weights, &mut self.memory, &mut self.scratch)
            }
            Op::Ldm(_) | Op::Ldw(_) | Op::Ldx(_) | Op::Ldp(_) | Op::Ldt(_) => {
                movement::load(&instr.op, registers, &mut self.memory, &self.config)
            }
            Op::Std(_) | Op::Sti(_) | Op::Stv(_) => movement::store(&instr.op, registers, &mut self.memory),
            Op::Add(_) | Op::Mul(_) | Op::Pool(_) | Op::Lut(_) | Op::Mov(_) => {
                vector::run(&instr.op, registers, &mut self.memory)
            }
        }
    }
}
