//! What is proved of a program before anything of it runs (`docs/accelerator.md`, sections 5 and 8).
//!
//! - `operands`: fields within the machine, registers written, addresses inside their memories, work within limits;
//! - `tokens`: no deadlock, no overflow of counters, no tokens left;
//! - `races`: any two accesses of different engines to a byte, one of them a write, are ordered by tokens; all bytes read were written; weights
//!   that are reused are those that were loaded.

mod access;
mod operands;
mod races;
mod shadow;
mod tokens;

pub use operands::{MAX_CODE, MAX_DRAM, MAX_FILTER, MAX_WORK};

use crate::{Code, Fault, Faults, Op, Place, Port, Program, mark};
use sdc_ir::tensor::element_count;

impl Program {
    /// Proves that the program runs to its end, and that every legal order of its instructions gives the same result.
    ///
    /// # Errors
    /// All faults, those of instructions with the layer they belong to.
    pub fn verify(&self) -> Result<(), Faults> {
        let mut faults = Faults::default();
        whole(self, &mut faults);
        operands::check(self, &mut faults);
        tokens::check(self, &mut faults);
        // The accesses of a program that is wrong otherwise mean nothing.
        if faults.is_empty() {
            races::check(self, &mut faults);
        }
        if faults.is_empty() {
            return Ok(());
        }
        let layers = layers(self);
        let mut named = Faults::default();
        for fault in faults.list() {
            let layer = fault.instr.and_then(|i| layers.get(i).cloned().flatten());
            named.push(Fault {
                layer,
                ..fault.clone()
            });
        }
        named.count_more(faults.more());
        Err(named)
    }
}

/// For each instruction the operator and origin of its layer.
fn layers(program: &Program) -> Vec<Option<String>> {
    let mut current = [None; 4];
    let named = program.code.iter().map(|instr| {
        let current = &mut current[instr.engine.index()];
        if let Op::Mark(m) = &instr.op {
            match m.kind {
                mark::BEGIN => *current = Some(m.id),
                mark::END => *current = None,
                _ => {}
            }
        }
        let layer = program.layers.get(&(*current)?)?;
        Some(format!("{} of {}", layer.op, layer.origin))
    });
    named.collect()
}

/// Faults of the program as a whole.
fn whole(program: &Program, faults: &mut Faults) {
    let limit = |faults: &mut Faults, what: &str, found: u64, most: u64| {
        if found > most {
            let message = format!("{found} {what}, more than {most}");
            faults.push(Fault::new(Code::A60, message));
        }
    };
    limit(faults, "instructions", program.code.len() as u64, MAX_CODE as u64);
    limit(faults, "bytes of DRAM", program.dram.into(), MAX_DRAM.into());
    for data in &program.data {
        if u64::from(data.addr) + data.bytes.len() as u64 > program.dram.into() {
            let message = format!("data at {} end outside DRAM of {} bytes", data.addr, program.dram);
            faults.push(Fault::new(Code::A20, message));
        }
    }
    for port in program.inputs.iter().chain(&program.outputs) {
        let end = port_end(port);
        if end.is_none_or(|end| end > u64::from(program.dram) && matches!(port.place, Place::Dram(_))) {
            let message = format!("`{}` ends outside DRAM of {} bytes", port.name, program.dram);
            faults.push(Fault::new(Code::A20, message));
        }
    }
    let parts = program.parts();
    if let Some(last) = parts.last().filter(|p| program.code[p.end - 1].op != Op::Halt) {
        let message = "the program does not end with `halt`";
        faults.push(Fault::at(Code::A30, last.end - 1, message));
    }
    let order = program.host.windows(2).find(|w| w[0].part > w[1].part);
    if let Some(pair) = order {
        let message = format!(
            "a step of the host before part {} follows one before part {}",
            pair[1].part, pair[0].part
        );
        faults.push(Fault::new(Code::A02, message));
    }
}

/// The address behind a port's last byte; 0 with the host.
fn port_end(port: &Port) -> Option<u64> {
    let bytes = element_count(&port.shape)?.checked_mul(port.dtype.size())?;
    match port.place {
        Place::Dram(at) => u64::from(at).checked_add(bytes as u64),
        Place::Host(_) => Some(0),
    }
}
