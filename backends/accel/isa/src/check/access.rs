//! The bytes that an instruction reads and writes.

use crate::{Config, Fmt, Geom, Instr, Op, Part, Registers, Vector, View};
use std::collections::BTreeSet;

/// A memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Space {
    Dram,
    Ib,
    Wb,
    Xb,
    Pb,
    Tables,
    Ob,
}

impl Space {
    pub fn name(self) -> &'static str {
        ["DRAM", "IB", "WB", "XB", "PB", "tables", "OB"][self as usize]
    }
}

/// Bytes one after another, in a numbering of the memory's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub space: Space,
    pub write: bool,
    pub at: usize,
    pub bytes: usize,
}

/// Bytes of a memory; DRAM's are the program's.
pub(super) fn size(config: &Config, space: Space, dram: u32) -> usize {
    match space {
        Space::Dram => dram as usize,
        Space::Ib => 2 * (config.lines * config.ib_bank) as usize,
        Space::Wb => 2 * (config.slices * config.wb_bank) as usize,
        Space::Xb => 2 * config.xb_bank as usize,
        Space::Pb => 16 * config.pb_bank as usize,
        Space::Tables => 256 * config.tables as usize,
        Space::Ob => 2 * config.ob_slot as usize,
    }
}

/// Where a strip's weights are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Weights {
    pub fmt: Fmt,
    pub m: u32,
    /// Weights of a filter.
    pub per_filter: u32,
    pub kernel: (u32, u32),
    pub order: bool,
    pub row0: u32,
    pub fold: u32,
    pub wbank: u32,
    pub waddr: u32,
    pub baddr: u32,
    pub xbank: u32,
    pub xaddr: u32,
}

impl Weights {
    /// Those of a `conv` or `dwcv`.
    pub fn of(op: &Op, registers: &Registers) -> Option<Self> {
        let weights = |geom: Geom, fmt, m, c: u32, fold| Self {
            fmt,
            m,
            per_filter: c * geom.kh * geom.kw,
            kernel: (geom.kh, geom.kw),
            order: geom.order,
            row0: geom.row0,
            fold,
            wbank: 0,
            waddr: 0,
            baddr: 0,
            xbank: 0,
            xaddr: 0,
        };
        match op {
            Op::Conv(i) => {
                let (geom, fmt) = (registers.geom(i.geom)?, registers.fmt(i.fmt)?);
                Some(Self {
                    wbank: i.wbank,
                    waddr: i.waddr,
                    baddr: i.baddr,
                    xbank: i.xbank,
                    xaddr: i.xaddr,
                    ..weights(geom, fmt, i.m, geom.c, geom.fold)
                })
            }
            Op::Dwcv(i) => Some(Self {
                wbank: i.wbank,
                waddr: i.waddr,
                baddr: i.baddr,
                ..weights(registers.geom(i.geom)?, registers.fmt(i.fmt)?, i.m, 1, 0)
            }),
            _ => None,
        }
    }

    fn rows(&self) -> usize {
        self.per_filter.div_ceil(self.fmt.s) as usize
    }

    /// Bytes of the index bits, of all groups: an offset in XB and a length.
    pub fn index(&self, config: &Config) -> Option<(usize, usize)> {
        if !self.fmt.sd || self.fmt.g == 0 {
            return None;
        }
        let at = (self.xbank * config.xb_bank + self.xaddr) as usize;
        let groups = self.m.div_ceil(self.fmt.g) as usize;
        Some((at, groups * self.rows().div_ceil(8)))
    }

    /// Runs of bytes in WB: streams and bases, in each slice that holds them. `xb` is what XB holds. `None` where index bits or weights
    /// would lie outside.
    pub fn runs(&self, config: &Config, xb: &[u8]) -> Option<Vec<(usize, usize)>> {
        let file = 2 * config.wb_bank as usize;
        let start = (self.wbank * config.wb_bank) as usize;
        let index = match self.index(config) {
            None => None,
            Some((at, bytes)) => Some(xb.get(at..at + bytes)?),
        };
        let stream = |k: u32| {
            if !self.fmt.sd {
                return self.per_filter as usize;
            }
            let stored = match index {
                None => self.rows(),
                Some(index) => {
                    let bytes = self.rows().div_ceil(8);
                    let group = (k / self.fmt.g) as usize;
                    stored_rows(&index[group * bytes..(group + 1) * bytes], self.rows())
                }
            };
            (stored * self.fmt.row_bits() as usize).div_ceil(8)
        };
        let mut parts: Vec<(usize, usize)> = Vec::new();
        let apart = config.slices >> self.fold;
        let bases = self.fmt.sd.then(|| {
            let bytes = self.fmt.basis_bytes() as usize;
            let slice = self.fmt.slice.max(1) as usize;
            let first = self.row0 as usize / slice;
            let last = (self.row0 as usize + self.rows() - 1) / slice;
            (
                start + self.baddr as usize + first * bytes,
                (last - first + 1) * bytes,
            )
        });
        for k in 0..self.m {
            let runs = [Some((start + self.waddr as usize, stream(k))), bases];
            for (at, bytes) in runs.into_iter().flatten().filter(|(_, bytes)| *bytes > 0) {
                if at + bytes > file {
                    return None;
                }
                let copies = (0..1 << self.fold).map(|j| (k + j * apart) as usize * file + at);
                parts.extend(copies.map(|at| (at, bytes)));
            }
        }
        Some(parts)
    }
}

/// Bits that are set among the first `rows`.
fn stored_rows(index: &[u8], rows: usize) -> usize {
    let whole = index[..rows / 8]
        .iter()
        .map(|b| b.count_ones() as usize)
        .sum::<usize>();
    let rest = index.get(rows / 8).map_or(0, |b| b & ((1 << (rows % 8)) - 1));
    whole + rest.count_ones() as usize
}

/// Calls `f` for the bytes of an instruction, but for weights and index bits ([`Weights`]). Operands are known to be within their memories.
pub(super) fn each(config: &Config, registers: &Registers, instr: &Instr, f: &mut dyn FnMut(Access)) {
    let mut walk = Walk { config, registers, f };
    walk.instr(instr);
}

struct Walk<'a> {
    config: &'a Config,
    registers: &'a Registers,
    f: &'a mut dyn FnMut(Access),
}

impl Walk<'_> {
    fn read(&mut self, space: Space, at: usize, bytes: usize) {
        let write = false;
        (self.f)(Access {
            space,
            write,
            at,
            bytes,
        });
    }

    fn write(&mut self, space: Space, at: usize, bytes: usize) {
        let write = true;
        (self.f)(Access {
            space,
            write,
            at,
            bytes,
        });
    }

    fn instr(&mut self, instr: &Instr) {
        match &instr.op {
            Op::Nop | Op::Halt | Op::Cfg(_) | Op::Mark(_) => {}
            Op::Ldm(i) => self.map(i.view, (i.c0, i.n), (i.y0, i.rows), i.dram, i.cstride, false),
            Op::Stv(i) => self.map(i.view, (i.c0, i.n), (i.y0, i.rows), i.dram, i.cstride, true),
            Op::Ldw(i) => {
                let all = if i.bcast { 1 } else { i.slices as usize };
                self.read(Space::Dram, i.dram as usize, all * i.bytes as usize);
                let file = 2 * self.config.wb_bank as usize;
                let at = (i.bank * self.config.wb_bank + i.addr) as usize;
                let apart = (self.config.slices >> i.copies) as usize;
                for copy in 0..1 << i.copies {
                    for k in 0..i.slices as usize {
                        let slice = i.slice as usize + k + copy * apart;
                        self.write(Space::Wb, slice * file + at, i.bytes as usize);
                    }
                }
            }
            Op::Ldx(i) => {
                self.read(Space::Dram, i.dram as usize, i.bytes as usize);
                let at = i.bank * self.config.xb_bank + i.addr;
                self.write(Space::Xb, at as usize, i.bytes as usize);
            }
            Op::Ldp(i) => {
                self.read(Space::Dram, i.dram as usize, i.bytes as usize);
                let at = i.bank * 8 * self.config.pb_bank + i.addr;
                self.write(Space::Pb, at as usize, i.bytes as usize);
            }
            Op::Ldt(i) => {
                self.read(Space::Dram, i.dram as usize, 256);
                self.write(Space::Tables, 256 * i.table as usize, 256);
            }
            Op::Conv(i) => {
                if let (Some(view), Some(geom)) = (self.registers.view(i.view), self.registers.geom(i.geom)) {
                    self.window(&view, &geom, Part::new([0, i.oy, i.ox], [geom.c, i.e, i.f]));
                }
                if !(i.accin && i.keep) {
                    self.read(Space::Pb, 8 * i.prm as usize, 8 * i.m as usize);
                }
                if !i.keep {
                    self.slot(i.slot, (i.m, i.e, i.f), true);
                }
            }
            Op::Dwcv(i) => {
                if let (Some(view), Some(geom)) = (self.registers.view(i.view), self.registers.geom(i.geom)) {
                    self.window(&view, &geom, Part::new([i.c0, i.oy, i.ox], [i.m, i.e, i.f]));
                }
                self.read(Space::Pb, 8 * i.prm as usize, 8 * i.m as usize);
                self.slot(i.slot, (i.m, i.e, i.f), true);
            }
            op @ (Op::Add(_) | Op::Mul(_) | Op::Pool(_) | Op::Lut(_) | Op::Mov(_)) => self.vector(op),
            Op::Std(i) => {
                self.slot(i.slot, (i.m, i.e, i.f), false);
                for (k, j) in (0..i.m).flat_map(|k| (0..i.e).map(move |j| (k, j))) {
                    let at =
                        i.dram as usize + k as usize * i.cstride as usize + j as usize * i.pitch as usize;
                    if i.xstep == 1 {
                        self.write(Space::Dram, at, i.f as usize);
                    } else {
                        (0..i.f as usize).for_each(|x| self.write(Space::Dram, at + x * i.xstep as usize, 1));
                    }
                }
            }
            Op::Sti(i) => {
                self.slot(i.slot, (i.m, i.e, i.f), false);
                self.operand(i.view, Part::new([i.oc, i.oy, i.ox], [i.m, i.e, i.f]), true);
            }
        }
    }

    fn vector(&mut self, op: &Op) {
        let Some(Vector { dst, a, b, part }) = op.vector() else {
            return;
        };
        match op {
            Op::Pool(i) => {
                if let (Some(view), Some(geom)) = (self.registers.view(a), self.registers.geom(i.geom)) {
                    // Every tap of the window counts, none is turned round.
                    let (ty, tx, ty0, tx0, flip) = (1, 1, 0, 0, false);
                    let geom = Geom {
                        ty,
                        tx,
                        ty0,
                        tx0,
                        flip,
                        ..geom
                    };
                    self.window(&view, &geom, part);
                }
            }
            Op::Lut(i) => self.read(Space::Tables, 256 * i.table as usize, 256),
            _ => {}
        }
        let read = [(!matches!(op, Op::Pool(_))).then_some(a), b];
        for operand in read.into_iter().flatten() {
            self.operand(operand, part, false);
        }
        self.operand(dst, part, true);
    }

    fn slot(&mut self, slot: u32, (m, e, f): (u32, u32, u32), write: bool) {
        let (at, bytes) = ((slot * self.config.ob_slot) as usize, (m * e * f) as usize);
        let space = Space::Ob;
        (self.f)(Access {
            space,
            write,
            at,
            bytes,
        });
    }

    /// Where row `y` of channel `c` begins in IB; `None` outside the view.
    fn row_at(&self, v: &View, c: i64, y: i64) -> Option<usize> {
        let inside = (0..i64::from(v.chans)).contains(&c) && (0..i64::from(v.rows)).contains(&y);
        let (c, y) = inside.then_some((c as usize, y as usize))?;
        let (lines, bank) = (self.config.lines as usize, self.config.ib_bank as usize);
        let bank = (v.half as usize * lines + c % lines) * bank;
        Some(bank + v.base as usize + (c / lines * v.rows as usize + y) * v.pitch as usize)
    }

    fn map(
        &mut self,
        view: u32,
        (c0, n): (u32, u32),
        (y0, rows): (u32, u32),
        dram: u32,
        cstride: u32,
        store: bool,
    ) {
        let Some(v) = self.registers.view(view) else {
            return;
        };
        let bytes = (rows * v.pitch) as usize;
        for k in 0..n {
            let c = i64::from(c0 + k) + i64::from(v.coff);
            let Some(at) = self.row_at(&v, c, y0.into()) else {
                continue;
            };
            let outside = dram as usize + k as usize * cstride as usize;
            if store {
                self.read(Space::Ib, at, bytes);
                self.write(Space::Dram, outside, bytes);
            } else {
                self.read(Space::Dram, outside, bytes);
                self.write(Space::Ib, at, bytes);
            }
        }
    }

    /// A view's elements, or a slot.
    fn operand(&mut self, operand: u32, Part { oc, oy, ox, n, e, f }: Part, write: bool) {
        if operand >= 16 {
            return self.slot(operand - 16, (n, e, f), write);
        }
        let Some(v) = self.registers.view(operand) else {
            return;
        };
        let columns = (ox..ox + f).map(|x| i64::from(x) * i64::from(v.sx));
        let columns = runs(columns.filter(|x| *x < v.pitch.into()));
        let rows: BTreeSet<i64> = (oy..oy + e).map(|y| i64::from(y) * i64::from(v.sy)).collect();
        self.elements(&v, (oc, n), &rows, &columns, write);
    }

    /// The elements under a window.
    fn window(&mut self, v: &View, g: &Geom, Part { oc, oy, ox, n, e, f }: Part) {
        let sign = if g.flip { -1 } else { 1 };
        let taps = |k: u32, first: u32, step: u32, dilation: u32| {
            let count = (i64::from(k) - i64::from(first) + i64::from(step) - 1) / i64::from(step);
            (0..count.max(0)).map(move |a| sign * a * i64::from(dilation))
        };
        let rows = (oy..oy + e).flat_map(|y| {
            let first = i64::from(y) * i64::from(g.uy) - i64::from(g.pt);
            taps(g.kh, g.ty0, g.ty, g.dy).map(move |dy| first + dy)
        });
        let rows: BTreeSet<i64> = rows.collect();
        let columns = (ox..ox + f).flat_map(|x| {
            let first = i64::from(x) * i64::from(g.ux) - i64::from(g.pl);
            taps(g.kw, g.tx0, g.tx, g.dx).map(move |dx| first + dx)
        });
        let columns = runs(columns.filter(|x| (0..i64::from(v.pitch)).contains(x)));
        self.elements(v, (oc, n), &rows, &columns, false);
    }

    fn elements(
        &mut self,
        v: &View,
        (oc, n): (u32, u32),
        rows: &BTreeSet<i64>,
        columns: &[(usize, usize)],
        write: bool,
    ) {
        let space = Space::Ib;
        for c in (i64::from(oc) + i64::from(v.coff)..).take(n as usize) {
            // Whole rows one after another are one run.
            let mut run: Option<(usize, usize)> = None;
            for &y in rows {
                let Some(row) = self.row_at(v, c, y) else { continue };
                for &(x, bytes) in columns {
                    let at = row + x;
                    run = Some(match run {
                        Some((start, length)) if start + length == at => (start, length + bytes),
                        Some((start, length)) => {
                            (self.f)(Access {
                                space,
                                write,
                                at: start,
                                bytes: length,
                            });
                            (at, bytes)
                        }
                        None => (at, bytes),
                    });
                }
            }
            if let Some((at, bytes)) = run {
                (self.f)(Access {
                    space,
                    write,
                    at,
                    bytes,
                });
            }
        }
    }
}

/// Columns as runs.
fn runs(columns: impl Iterator<Item = i64>) -> Vec<(usize, usize)> {
    let set: BTreeSet<i64> = columns.collect();
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for x in set {
        match runs.last_mut() {
            Some((at, bytes)) if *at + *bytes == x as usize => *bytes += 1,
            _ => runs.push((x as usize, 1)),
        }
    }
    runs
}
