//! Accesses of different engines to a byte, one of them a write, are ordered; what is read was written.
//!
//! Instructions are taken in one legal order. Each knows, by vector clocks over the token channels, which instructions are complete before
//! it starts; each byte knows who touched it last. Queues order the starts of instructions, not their ends, so they do not count.

use super::access::{Access, Space, Weights, each, size};
use super::shadow::{Found, Shadow, Stamp};
use crate::{Code, Engine, Fault, Faults, Flow, Instr, Op, Place, Program, Registers};
use std::collections::{BTreeSet, VecDeque};

/// Instructions of each engine that are complete.
type Clock = [u32; 4];

pub(super) fn check(program: &Program, faults: &mut Faults) {
    let mut proof = Proof::new(program);
    for part in program.parts() {
        let mut flow = Flow::new(&program.code, part, program.config.queue);
        while let Some(engine) = Engine::ALL.into_iter().find(|&e| flow.ready(e)) {
            let Some(number) = flow.start(engine) else { return };
            proof.instr(number, faults);
            flow.complete(number);
            if proof.is_full() {
                let message = "accesses too scattered to be proved free of races";
                faults.push(Fault::at(Code::A60, number, message));
                return;
            }
        }
        proof.join_all();
    }
}

struct Proof<'a> {
    program: &'a Program,
    registers: [Registers; 4],
    clocks: [Clock; 4],
    /// Clocks that tokens carry, from the first engine to the second.
    tokens: [[VecDeque<Clock>; 4]; 4],
    /// For each instruction its number among those of its engine, from 1.
    order: Vec<u32>,
    dram: Shadow<1>,
    chip: [Shadow<4>; 6],
    /// What XB holds.
    xb: Vec<u8>,
    /// Pairs that were reported.
    pairs: BTreeSet<(usize, usize)>,
    /// Filters, rows and columns of the sums that are kept.
    sums: Option<(u32, u32, u32)>,
    lines: Option<Lines>,
}

/// What the line files hold.
struct Lines {
    weights: Weights,
    depthwise: bool,
    /// The instruction that filled them, and what was complete then.
    filled: usize,
    clock: Clock,
}

const CHIP: [Space; 6] = [
    Space::Ib,
    Space::Wb,
    Space::Xb,
    Space::Pb,
    Space::Tables,
    Space::Ob,
];

impl<'a> Proof<'a> {
    fn new(program: &'a Program) -> Self {
        let bytes = |space| size(&program.config, space, program.dram);
        Self {
            program,
            registers: Default::default(),
            clocks: Default::default(),
            tokens: Default::default(),
            order: vec![0; program.code.len()],
            dram: Shadow::new(bytes(Space::Dram)),
            chip: CHIP.map(|space| Shadow::new(bytes(space))),
            xb: vec![0; bytes(Space::Xb)],
            pairs: BTreeSet::new(),
            sums: None,
            lines: None,
        }
    }

    fn is_full(&self) -> bool {
        self.dram.is_full() || self.chip.iter().any(Shadow::is_full)
    }

    /// A `halt` is where all engines meet.
    fn join_all(&mut self) {
        let done: Clock = std::array::from_fn(|e| self.clocks[e][e]);
        self.clocks = [done; 4];
    }

    /// An instruction that starts now.
    fn instr(&mut self, number: usize, faults: &mut Faults) {
        let program = self.program;
        let instr = &program.code[number];
        let engine = instr.engine.index();
        for from in instr.wait.iter() {
            if let Some(clock) = self.tokens[from.index()][engine].pop_front() {
                join(&mut self.clocks[engine], &clock);
            }
        }
        self.order[number] = self.clocks[engine][engine] + 1;
        if let Op::Cfg(cfg) = &instr.op {
            self.registers[engine].write(cfg);
        }
        let mut found: Vec<(Access, Found)> = Vec::new();
        let registers = self.registers[engine].clone();
        each(&program.config, &registers, instr, &mut |access| {
            found.push((access, self.touch(&access, number, engine)));
        });
        self.weights(number, instr, &registers, &mut found, faults);
        self.report(number, &found, faults);
        if let Op::Ldx(_) = instr.op {
            self.index_bits(number, instr, faults);
        }
        self.sums_kept(number, instr, faults);
        // From here on it counts as complete.
        self.clocks[engine][engine] += 1;
        for to in instr.signal.iter() {
            self.tokens[engine][to.index()].push_back(self.clocks[engine]);
        }
    }

    fn touch(&mut self, access: &Access, number: usize, engine: usize) -> Found {
        let (mut found, stamp) = (Found::default(), number as Stamp + 1);
        let &Access { at, bytes, .. } = access;
        match (CHIP.iter().position(|&s| s == access.space), access.write) {
            (Some(chip), true) => self.chip[chip].write(at, bytes, stamp, &mut found),
            (Some(chip), false) => self.chip[chip].read(at, bytes, stamp, engine, &mut found),
            (None, true) => self.dram.write(at, bytes, stamp, &mut found),
            (None, false) => {
                self.dram.read(at, bytes, stamp, 0, &mut found);
                // DRAM begins with the image, zeros where it says nothing.
                found.unwritten = false;
            }
        }
        found
    }

    /// Reads weights and index bits.
    fn weights(
        &mut self,
        number: usize,
        instr: &Instr,
        registers: &Registers,
        found: &mut Vec<(Access, Found)>,
        faults: &mut Faults,
    ) {
        let Some(weights) = Weights::of(&instr.op, registers) else {
            return;
        };
        let config = &self.program.config;
        let Some(runs) = weights.runs(config, &self.xb) else {
            faults.push(Fault::at(
                Code::A20,
                number,
                "weights or index bits end outside their memory",
            ));
            return;
        };
        let write = false;
        let run = |space, (at, bytes)| Access {
            space,
            write,
            at,
            bytes,
        };
        let index = weights.index(config).map(|i| run(Space::Xb, i));
        let accesses: Vec<Access> = runs.into_iter().map(|r| run(Space::Wb, r)).chain(index).collect();
        self.reused(number, instr, weights, &accesses, faults);
        let engine = instr.engine.index();
        for access in accesses {
            found.push((access, self.touch(&access, number, engine)));
        }
    }

    /// Line files are reused only if they hold these very weights still.
    fn reused(
        &mut self,
        number: usize,
        instr: &Instr,
        weights: Weights,
        accesses: &[Access],
        faults: &mut Faults,
    ) {
        let (reuse, depthwise) = match &instr.op {
            Op::Conv(i) => (i.reuse, false),
            Op::Dwcv(i) => (i.reuse, true),
            _ => return,
        };
        let same = |l: &Lines| l.weights == weights && l.depthwise == depthwise;
        if !reuse {
            self.lines = Some(Lines {
                weights,
                depthwise,
                filled: number,
                clock: self.clocks[instr.engine.index()],
            });
            return;
        }
        let Some(lines) = self.lines.as_ref().filter(|l| same(l)) else {
            let message = "reuse, but the convolution before it has other weights";
            faults.push(Fault::at(Code::A22, number, message));
            return;
        };
        for access in accesses {
            let chip = usize::from(access.space == Space::Xb) + 1;
            let later = self.chip[chip]
                .writes(access.at, access.bytes)
                .into_iter()
                .find(|&stamp| {
                    let Some(writer) = (stamp as usize).checked_sub(1) else {
                        return false;
                    };
                    let engine = self.program.code[writer].engine.index();
                    lines.clock[engine] < self.order[writer]
                });
            if let Some(later) = later {
                let message = format!(
                    "reuse of what instruction {} loaded, but instruction {} wrote over it",
                    lines.filled,
                    later - 1
                );
                faults.push(Fault::at(Code::A22, number, message));
                return;
            }
        }
    }

    /// Sums that go on were kept for just these results.
    fn sums_kept(&mut self, number: usize, instr: &Instr, faults: &mut Faults) {
        let Op::Conv(i) = &instr.op else { return };
        let strip = (i.m, i.e, i.f);
        if i.accin && self.sums != Some(strip) {
            let message = "sums go on that no convolution of the same filters, rows and columns kept";
            faults.push(Fault::at(Code::A21, number, message));
        }
        if i.keep {
            self.sums = Some(strip);
        }
    }

    /// Index bits decide what else is read, so they are part of the image.
    fn index_bits(&mut self, number: usize, instr: &Instr, faults: &mut Faults) {
        let Op::Ldx(i) = &instr.op else { return };
        let (from, bytes) = (i.dram as usize, i.bytes as usize);
        let written = self.dram.writes(from, bytes).into_iter().any(|stamp| stamp != 0);
        let inputs = self.program.inputs.iter().filter_map(|port| match port.place {
            Place::Dram(at) => Some((
                at as usize,
                port.shape.iter().product::<usize>() * port.dtype.size(),
            )),
            Place::Host(_) => None,
        });
        let overlaps = |(at, length): (usize, usize)| at < from + bytes && from < at + length;
        if written || inputs.clone().any(overlaps) {
            let message = "index bits that are no part of the image";
            faults.push(Fault::at(Code::A21, number, message));
            return;
        }
        let at = (i.bank * self.program.config.xb_bank + i.addr) as usize;
        let Some(place) = self.xb.get_mut(at..at + bytes) else {
            return;
        };
        place.fill(0);
        for data in &self.program.data {
            let start = data.addr as usize;
            let (low, high) = (start.max(from), (start + data.bytes.len()).min(from + bytes));
            if low < high {
                place[low - from..high - from].copy_from_slice(&data.bytes[low - start..high - start]);
            }
        }
    }

    /// Races, and bytes that nobody wrote.
    fn report(&mut self, number: usize, found: &[(Access, Found)], faults: &mut Faults) {
        let engine = self.program.code[number].engine;
        let clock = self.clocks[engine.index()];
        let mut told = false;
        for (access, found) in found {
            if found.unwritten && !access.write && !told {
                told = true;
                let message = format!("reads bytes of {} that were never written", access.space.name());
                faults.push(Fault::at(Code::A21, number, message));
            }
            for &stamp in &found.stamps {
                let Some(other) = (stamp as usize).checked_sub(1) else {
                    continue;
                };
                let by = self.program.code[other].engine;
                if by == engine
                    || clock[by.index()] >= self.order[other]
                    || !self.pairs.insert((other, number))
                {
                    continue;
                }
                let message = format!(
                    "race with instruction {other} (`{}` of {by}) over {}: no tokens order them",
                    self.program.code[other].op.name(),
                    access.space.name()
                );
                faults.push(Fault::at(Code::A33, number, message));
            }
        }
    }
}

fn join(clock: &mut Clock, other: &Clock) {
    clock.iter_mut().zip(other).for_each(|(c, o)| *c = (*c).max(*o));
}
