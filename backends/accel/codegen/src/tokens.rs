//! Order between engines: which bytes each instruction reads and writes, and the fewest tokens that keep conflicting ones apart.
//!
//! Instructions of an engine complete in their order. So for each pair of engines it is enough to know the last instruction of one that
//! the next of the other is ordered after; what an instruction knew when it started, those that wait for it know as well.

use sdc_accel_isa::{Builder, Engine, Instr, Op};
use std::collections::BTreeMap;
use std::ops::Range;

/// A space of addresses of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Space {
    /// A half of the input buffer; addresses are those in a bank.
    Ib(u32),
    /// The weight buffer; addresses are those in a slice.
    Wb,
    /// The index buffer.
    Xb,
    /// Parameters; addresses are filters.
    Pb,
    /// A slot of results; its address is 0.
    Slot(u32),
    /// Tables; addresses are their numbers.
    Tables,
    /// A map in DRAM; an address is a row of a group of channels.
    Map(usize),
}

/// Some bytes, read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Where.
    pub space: Space,
    /// Which.
    pub range: Range<u32>,
    /// Written, or else read.
    pub write: bool,
}

/// Number of an instruction of an engine, counted from 1; 0 is none.
type Step = u32;

#[derive(Clone, Debug, Default)]
struct Cell {
    end: u32,
    writer: Option<(Engine, Step)>,
    readers: [Step; 4],
}

/// Appends instructions with the tokens they need.
#[derive(Debug)]
pub struct Tokens {
    builder: Builder,
    spaces: BTreeMap<Space, BTreeMap<u32, Cell>>,
    /// Of each engine, for each of its instructions: its number in the program, and what it knew when it started.
    issued: [Vec<(usize, [Step; 4])>; 4],
    known: [[Step; 4]; 4],
}

impl Tokens {
    /// Continues a program.
    pub fn new(builder: Builder) -> Self {
        Self {
            builder,
            spaces: BTreeMap::new(),
            issued: Default::default(),
            known: Default::default(),
        }
    }

    /// The program, to add what is no instruction.
    pub fn builder(&mut self) -> &mut Builder {
        &mut self.builder
    }

    /// The program.
    pub fn finish(self) -> Builder {
        self.builder
    }

    /// Appends an instruction.
    pub fn push(&mut self, engine: Engine, op: impl Into<Op>, accesses: &[Access]) {
        let step = self.issued[engine.index()].len() as Step + 1;
        let mut needs = [0; 4];
        for access in accesses {
            self.touch(access, engine, step, &mut needs);
        }
        self.issue(Instr::on(engine, op), needs);
    }

    /// Ends a part, once every engine is done.
    pub fn halt(&mut self) -> u32 {
        let needs = Engine::ALL.map(|e| self.issued[e.index()].len() as Step);
        let halt = self.issue(Instr::on(Engine::St, Op::Halt), needs);
        let halts = Engine::ALL.map(|e| self.issued[e.index()].len() as Step);
        // All later instructions come after the end of the part.
        self.known = [halts; 4];
        self.spaces.clear();
        halt as u32
    }

    /// Appends an instruction that has to come after these of the other engines.
    fn issue(&mut self, mut instr: Instr, needs: [Step; 4]) -> usize {
        let me = instr.engine.index();
        let number = self.builder.len();
        // Those that know most come first: what they know need not be waited for.
        for engine in [Engine::St, Engine::Ve, Engine::Pe, Engine::Ld] {
            let (other, need) = (engine.index(), needs[engine.index()]);
            if other == me || need <= self.known[me][other] {
                continue;
            }
            let (at, knew) = self.issued[other][need as usize - 1];
            let producer = self.builder.instr_mut(at);
            producer.signal = producer.signal.with(instr.engine);
            instr.wait = instr.wait.with(engine);
            for (mine, theirs) in self.known[me].iter_mut().zip(knew) {
                *mine = (*mine).max(theirs);
            }
            self.known[me][other] = need;
        }
        self.builder.push(instr);
        let mut knew = self.known[me];
        knew[me] = self.issued[me].len() as Step;
        self.issued[me].push((number, knew));
        number
    }

    fn touch(&mut self, access: &Access, engine: Engine, step: Step, needs: &mut [Step; 4]) {
        let Range { start, end } = access.range;
        if start >= end {
            return;
        }
        let cells = self.spaces.entry(access.space).or_default();
        for at in [start, end] {
            split(cells, at);
        }
        let mut at = start;
        let mut fresh = Vec::new();
        for (&from, cell) in cells.range_mut(start..end) {
            if from > at {
                fresh.push(at..from);
            }
            at = cell.end;
            if let Some((writer, step)) = cell.writer {
                needs[writer.index()] = needs[writer.index()].max(step);
            }
            if access.write {
                for (need, reader) in needs.iter_mut().zip(cell.readers) {
                    *need = (*need).max(reader);
                }
            } else {
                cell.readers[engine.index()] = step;
            }
        }
        if access.write {
            let old: Vec<u32> = cells.range(start..end).map(|(&from, _)| from).collect();
            old.iter().for_each(|from| drop(cells.remove(from)));
            fresh = vec![start..end];
        } else if at < end {
            fresh.push(at..end);
        }
        for range in fresh {
            let mut cell = Cell {
                end: range.end,
                ..Cell::default()
            };
            if access.write {
                cell.writer = Some((engine, step));
            } else {
                cell.readers[engine.index()] = step;
            }
            cells.insert(range.start, cell);
        }
    }
}

/// Makes an address the start of a cell, if it lies in one.
fn split(cells: &mut BTreeMap<u32, Cell>, at: u32) {
    if let Some((&from, cell)) = cells.range_mut(..at).next_back()
        && cell.end > at
    {
        let rest = cell.clone();
        debug_assert!(from < at);
        cell.end = at;
        cells.insert(at, rest);
    }
}
