//! Who did what: counters and cycles of each layer, from the marks in the code.

use crate::counters::{Busy, Bytes, Counts};
use crate::exec::Machine;
use crate::exec::conv::Strip;
use crate::time::clock::{Span, State};
use crate::time::conv::Cycles;
use crate::time::dram::Transfer;
use crate::time::lines::{Work, blocks};
use crate::values::Values;
use sdc_accel_isa::{Engine, Fmt, Instr, Ldw, Op, Place, Program, Tile, mark};
use std::ops::Range;

/// What a layer did.
#[derive(Clone, Default)]
pub(crate) struct LayerAccount {
    pub bytes: Bytes,
    pub counts: Counts,
    pub busy: Busy,
    /// Completion of its last instruction.
    pub end: u64,
    /// `[m0, y, x, e, f, reuse]`
    pub strips: Vec<[u32; 6]>,
    pub fmt: Option<Fmt>,
    pub fold: u32,
}

/// What a time of an engine was.
pub(crate) type Told = (Engine, State, u64, u64);

/// A load of weights whose use is not known when it happens.
struct Load {
    row: usize,
    bytes: u64,
    basis: bool,
}

/// Accounts of all layers.
pub(crate) struct Account<'p> {
    program: &'p Program,
    /// The layers in the order of their ids, then what belongs to none.
    pub layers: Vec<LayerAccount>,
    /// The row of each engine's layer.
    current: [usize; 4],
    /// The last tile mark of each engine.
    tiles: [Tile; 4],
    inputs: Vec<Range<u64>>,
    loads: Vec<Load>,
    /// The load that wrote each byte of the first slice, plus one.
    loaded: Vec<u32>,
    /// States of all engines, each engine's in their order.
    pub told: Vec<Told>,
    /// First cycle of the part that runs.
    pub base: u64,
    /// Results of layers, if they are wanted.
    pub values: Option<Values>,
}

impl<'p> Account<'p> {
    pub fn new(program: &'p Program) -> Self {
        let none = program.layers.len();
        let bytes = |port: &sdc_accel_isa::Port| port.shape.iter().product::<usize>() * port.dtype.size();
        let inputs = program.inputs.iter().filter_map(|port| match port.place {
            Place::Dram(at) => Some(u64::from(at)..u64::from(at) + bytes(port) as u64),
            Place::Host(_) => None,
        });
        Self {
            program,
            layers: vec![LayerAccount::default(); none + 1],
            current: [none; 4],
            tiles: [Tile::default(); 4],
            inputs: inputs.collect(),
            loads: Vec::new(),
            loaded: vec![0; 2 * program.config.wb_bank as usize],
            told: Vec::new(),
            base: 0,
            values: None,
        }
    }

    /// Notes results of an instruction that has run.
    pub fn results(&mut self, instr: &Instr, strip: Option<&Strip>, machine: &mut Machine) {
        let (layer, tile) = (self.layer(instr.engine), self.tiles[instr.engine.index()]);
        if let (Some(values), Some(layer)) = (&mut self.values, layer) {
            values.see(instr, strip, machine, layer, tile);
        }
    }

    /// The account an instruction goes to.
    fn row(&mut self, instr: &Instr) -> &mut LayerAccount {
        &mut self.layers[self.current[instr.engine.index()]]
    }

    /// The layer of an engine, for traces.
    pub fn layer(&self, engine: Engine) -> Option<u32> {
        let row = self.current[engine.index()];
        self.program.layers.keys().nth(row).copied()
    }

    /// A mark takes effect before it is counted, and the end of a layer after.
    pub fn enter(&mut self, instr: &Instr) {
        let Op::Mark(m) = &instr.op else { return };
        let engine = instr.engine.index();
        match m.kind {
            mark::BEGIN => {
                let row = self.program.layers.keys().position(|&id| id == m.id);
                self.current[engine] = row.unwrap_or(self.program.layers.len());
                self.tiles[engine] = Tile::default();
            }
            mark::TILE => self.tiles[engine] = self.program.tiles.get(&m.id).copied().unwrap_or_default(),
            _ => {}
        }
    }

    /// Likewise.
    pub fn leave(&mut self, instr: &Instr) {
        if matches!(&instr.op, Op::Mark(m) if m.kind == mark::END) {
            self.current[instr.engine.index()] = self.program.layers.len();
        }
    }

    /// Counts an instruction that is about to run.
    pub fn count(&mut self, instr: &Instr, machine: &Machine, transfer: Option<Transfer>) {
        let registers = &machine.registers[instr.engine.index()];
        let row = self.row(instr);
        row.counts.instructions += 1;
        row.bytes.program += sdc_accel_isa::WORD as u64;
        if let Some(t) = transfer {
            self.moved(instr, machine, t);
        }
        let row = self.row(instr);
        let bytes = &mut row.bytes;
        let operand = |n: u32, e: u32, f: u32| u64::from(n) * u64::from(e) * u64::from(f);
        let read = |bytes: &mut Bytes, operand: u32, n: u64| {
            *(if operand >= 16 {
                &mut bytes.ob_read
            } else {
                &mut bytes.ib_read
            }) += n;
        };
        match &instr.op {
            Op::Std(i) => bytes.ob_read += operand(i.m, i.e, i.f),
            Op::Sti(i) => {
                bytes.ob_read += operand(i.m, i.e, i.f);
                bytes.ib_written += operand(i.m, i.e, i.f);
            }
            Op::Add(i) => {
                let n = operand(i.n, i.e, i.f);
                read(bytes, i.a, n);
                if i.two {
                    read(bytes, i.b, n);
                }
            }
            Op::Mul(i) => {
                let n = operand(i.n, i.e, i.f);
                read(bytes, i.a, n);
                read(bytes, i.b, n);
            }
            Op::Lut(i) => read(bytes, i.a, operand(i.n, i.e, i.f)),
            Op::Mov(i) => read(bytes, i.a, operand(i.n, i.e, i.f)),
            Op::Pool(i) => {
                let taps = registers.geom(i.geom).map_or(1, |g| u64::from(g.kh * g.kw));
                read(bytes, i.a, operand(i.n, i.e, i.f) * taps);
            }
            _ => {}
        }
        if let Some((dst, n, taps)) = vector(&instr.op, registers) {
            *(if dst >= 16 {
                &mut bytes.ob_written
            } else {
                &mut bytes.ib_written
            }) += n;
            row.counts.ve_ops += n * taps;
        }
    }

    /// Counts a transfer, and where its bytes go or come from on the machine.
    fn moved(&mut self, instr: &Instr, machine: &Machine, t: Transfer) {
        let padding = t.granules * u64::from(machine.config.dram_granule) - t.bytes;
        let at_row = self.current[instr.engine.index()];
        let input = match &instr.op {
            Op::Ldm(i) => self.inputs.iter().any(|range| range.contains(&u64::from(i.dram))),
            _ => false,
        };
        let bytes = &mut self.layers[at_row].bytes;
        if instr.engine == Engine::St {
            bytes.dram_written += t.bytes;
            bytes.padding_written += padding;
            if matches!(instr.op, Op::Stv(_)) {
                bytes.ib_read += t.bytes;
            }
            return;
        }
        bytes.dram_read += t.bytes;
        bytes.padding_read += padding;
        match &instr.op {
            Op::Ldm(_) => {
                *(if input { &mut bytes.input } else { &mut bytes.map }) += t.bytes;
                bytes.ib_written += t.bytes;
            }
            Op::Ldw(i) => {
                bytes.wb_written += (u64::from(i.bytes) * u64::from(i.slices)) << i.copies;
                self.loaded_weights(i, at_row, t.bytes);
            }
            Op::Ldx(_) => {
                bytes.index += t.bytes;
                bytes.xb_written += t.bytes;
            }
            Op::Ldp(_) => {
                bytes.params += t.bytes;
                bytes.pb_written += t.bytes;
            }
            Op::Ldt(_) => bytes.table += t.bytes,
            _ => {}
        }
    }

    fn loaded_weights(&mut self, i: &Ldw, row: usize, bytes: u64) {
        let basis = false;
        self.loads.push(Load { row, bytes, basis });
        if i.slice == 0 {
            let at = (i.bank * self.program.config.wb_bank + i.addr) as usize;
            let end = (at + i.bytes as usize).min(self.loaded.len());
            let number = self.loads.len() as u32;
            self.loaded[at.min(end)..end].fill(number);
        }
    }

    /// Counts a strip that has run; `work` is known with time only.
    pub fn strip(&mut self, instr: &Instr, s: &Strip, machine: &Machine, work: Option<&Work>) {
        let engine = instr.engine.index();
        let tile = self.tiles[engine];
        if !s.reuse && s.fmt.sd {
            // What it reads bases from was a load of bases.
            let at = (s.wbank * machine.config.wb_bank + s.baddr) as usize;
            let load = self
                .loaded
                .get(at)
                .and_then(|&n| self.loads.get_mut((n as usize).wrapping_sub(1)));
            if let Some(load) = load {
                load.basis = true;
            }
        }
        let row = &mut self.layers[self.current[engine]];
        if !s.keep {
            row.strips.push([
                tile.m0,
                tile.y.saturating_add(s.oy),
                tile.x.saturating_add(s.ox),
                s.e as u32,
                s.f as u32,
                u32::from(s.reuse),
            ]);
        }
        row.fmt = Some(s.fmt);
        row.fold = row.fold.max(1 << s.geom.fold);
        row.counts.strips += 1;
        let results = (s.m * s.e * s.f) as u64;
        let depthwise = matches!(instr.op, Op::Dwcv(_));
        let blocks = if depthwise {
            1
        } else {
            blocks(s, &machine.config).len() as u64
        };
        row.counts.tree_adds += results * u64::from(machine.config.lines) * blocks;
        let bytes = &mut row.bytes;
        let passes = 4 * results * (blocks - 1);
        bytes.acc_read += passes + if s.accin { 4 * results } else { 0 };
        bytes.acc_written += passes + if s.keep { 4 * results } else { 0 };
        if !(s.accin && s.keep) {
            bytes.pb_read += 8 * s.m as u64;
        }
        if !s.keep {
            bytes.ob_written += results;
            row.counts.requantisations += results;
        }
        if !s.reuse {
            rebuilt(s, machine, row);
        }
        match work {
            Some(work) => {
                row.counts.macs += work.asked;
                row.counts.executed += work.executed;
                row.counts.skipped_weight += work.skipped_weight;
                row.counts.skipped_activation += work.skipped_activation;
                row.counts.digits += work.digits;
                row.bytes.ib_read += work.fetched;
                row.bytes.lines_read += work.line_steps;
            }
            None => row.counts.macs += results * (s.c * s.taps().len()) as u64,
        }
    }

    /// Counts the cycles of an instruction.
    pub fn cycles(&mut self, instr: &Instr, span: &Span, cycles: Option<&Cycles>, channel: bool) {
        let base = self.base;
        let row = self.row(instr);
        if instr.op != Op::Halt {
            row.end = row.end.max(base + span.end);
        }
        let (busy, n) = (&mut row.busy, span.free - span.start);
        match (&instr.op, instr.engine) {
            (Op::Nop | Op::Halt | Op::Cfg(_) | Op::Mark(_), _) => busy.control += n,
            (_, Engine::Ld) => busy.ld_busy += n,
            (_, Engine::Pe) => busy.pe_busy += n,
            (_, Engine::Ve) => busy.ve_busy += n,
            (_, Engine::St) => busy.st_busy += n,
        }
        if channel {
            busy.dram_busy += n;
        }
        if let Some(c) = cycles {
            busy.pe_rebuild += c.rebuild;
            busy.pe_steps += c.steps;
            busy.pe_fetch += c.fetch;
            busy.pe_drain += c.drain;
        }
    }

    /// Gives loads of weights their class.
    pub fn settle(&mut self) {
        for load in &self.loads {
            let bytes = &mut self.layers[load.row].bytes;
            *(if load.basis {
                &mut bytes.basis
            } else {
                &mut bytes.stream
            }) += load.bytes;
        }
        self.loads.clear();
    }
}

/// What filling the line files reads and adds.
fn rebuilt(s: &Strip, machine: &Machine, row: &mut LayerAccount) {
    let weights = &machine.weights;
    let filters = s.m as u64;
    row.bytes.lines_written += filters * weights.per_filter as u64;
    if !s.fmt.sd {
        row.bytes.wb_read += filters * weights.per_filter as u64;
        return;
    }
    let rows = weights.kept.first().map_or(0, Vec::len);
    let bits = u64::from(s.fmt.row_bits());
    for (j, kept) in weights.kept.iter().enumerate() {
        let share = weights.group.min(s.m - j * weights.group) as u64;
        let stored = kept.iter().filter(|&&k| k).count() as u64;
        row.bytes.wb_read += share * (stored * bits).div_ceil(8);
        let codes = stored * u64::from(s.fmt.r);
        row.counts.rebuild_adds += share * codes * u64::from(s.fmt.s * s.fmt.terms());
    }
    let slice = (s.fmt.slice as usize).max(1);
    let first = s.geom.row0 as usize;
    let bases = ((first + rows.max(1) - 1) / slice - first / slice + 1) as u64;
    row.bytes.wb_read += filters * bases * u64::from(s.fmt.basis_bytes());
    if s.fmt.g > 0 {
        let groups = weights.kept.len() as u64;
        row.bytes.xb_read += groups * rows.div_ceil(8) as u64;
        row.counts.index_tests += groups * rows as u64;
    }
}

/// Destination, elements and taps of a vector operation.
pub(crate) fn vector(op: &Op, registers: &sdc_accel_isa::Registers) -> Option<(u32, u64, u64)> {
    let vector = op.vector()?;
    let taps = match op {
        Op::Pool(i) => registers.geom(i.geom).map_or(1, |g| u64::from(g.kh * g.kw)),
        _ => 1,
    };
    Some((vector.dst, vector.part.elements(), taps))
}
