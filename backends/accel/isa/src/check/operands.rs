//! Operands of single instructions: limits, registers, addresses.

use crate::{
    Add, Code, Config, Conv, Dwcv, Fault, Faults, Fmt, Geom, Instr, Ldw, Mul, Op, Part, Pool, Program, Quant,
    Register, Registers, Std, Vector, View, mark,
};

/// Instructions of a program.
pub const MAX_CODE: usize = 1 << 22;
/// Bytes of DRAM.
pub const MAX_DRAM: u32 = 1 << 30;
/// Weights of a filter in one instruction.
pub const MAX_FILTER: u64 = 1 << 18;
/// Products and elements of a program, over all instructions.
pub const MAX_WORK: u64 = 1 << 38;

/// What is wrong, and its code.
type Found = Vec<(Code, String)>;

pub(super) fn check(program: &Program, faults: &mut Faults) {
    let mut registers: [Registers; 4] = Default::default();
    let mut work = 0u64;
    for (number, instr) in program.code.iter().enumerate() {
        let mut check = Check {
            config: &program.config,
            dram: program.dram.into(),
            registers: &registers[instr.engine.index()],
            found: Vec::new(),
        };
        work = work.saturating_add(check.instr(instr));
        let found = check.found.into_iter();
        faults.extend(found.map(|(code, message)| Fault::at(code, number, message)));
        if let Op::Cfg(cfg) = &instr.op {
            registers[instr.engine.index()].write(cfg);
        }
    }
    if work > MAX_WORK {
        let message = format!("{work} products and elements, more than {MAX_WORK}");
        faults.push(Fault::new(Code::A60, message));
    }
}

struct Check<'a> {
    config: &'a Config,
    dram: u64,
    registers: &'a Registers,
    found: Found,
}

impl Check<'_> {
    fn fault(&mut self, code: Code, message: String) {
        self.found.push((code, message));
    }

    /// A limit on what a field or several together come to.
    fn most(&mut self, code: Code, what: &str, value: u64, most: u64) {
        if value > most {
            self.fault(code, format!("{what} is {value}, more than {most}"));
        }
    }

    fn register<T>(&mut self, file: &str, index: u32, value: Option<T>) -> Option<T> {
        if value.is_none() {
            let message = format!("{file}{index} was never written");
            self.fault(Code::A14, message);
        }
        value
    }

    fn view(&mut self, index: u32) -> Option<View> {
        self.register("view", index, self.registers.view(index))
    }

    fn geom(&mut self, index: u32) -> Option<Geom> {
        self.register("geom", index, self.registers.geom(index))
    }

    fn quant(&mut self, index: u32) -> Option<Quant> {
        self.register("quant", index, self.registers.quant(index))
    }

    /// Checks an instruction; the products and elements it comes to.
    fn instr(&mut self, instr: &Instr) -> u64 {
        let elements = |n: u32, e: u32, f: u32| u64::from(n) * u64::from(e) * u64::from(f);
        match &instr.op {
            Op::Nop | Op::Halt => 1,
            Op::Mark(i) => {
                self.most(Code::A13, "kind", i.kind.into(), mark::USER.into());
                1
            }
            Op::Cfg(cfg) => {
                self.most(Code::A13, "index", cfg.index.into(), 15);
                match &cfg.value {
                    Register::Fmt(v) => self.format(v),
                    Register::View(_) | Register::Geom(_) | Register::Quant(_) => {}
                }
                1
            }
            Op::Ldm(i) => self.map(i.view, (i.c0, i.n), (i.y0, i.rows), i.dram, i.cstride),
            Op::Stv(i) => self.map(i.view, (i.c0, i.n), (i.y0, i.rows), i.dram, i.cstride),
            Op::Ldw(i) => self.ldw(i),
            Op::Ldx(i) => {
                let bank = self.config.xb_bank;
                self.load("xb", i.bank * bank + i.addr, i.bytes, 2 * bank, i.dram)
            }
            Op::Ldp(i) => {
                let bank = 8 * self.config.pb_bank;
                self.load("pb", i.bank * bank + i.addr, i.bytes, 2 * bank, i.dram)
            }
            Op::Ldt(i) => self.load("tables", 256 * i.table, 256, 256 * self.config.tables, i.dram),
            Op::Conv(i) => self.conv(i),
            Op::Dwcv(i) => self.dwcv(i),
            Op::Add(Add { qa, qb, two, .. }) => {
                let _ = two.then(|| self.quant(*qb).map(|q| self.zero_point(&q)));
                let _ = self.quant(*qa).map(|q| self.requantise(&q));
                self.vector(&instr.op)
            }
            Op::Mul(Mul { qa, qb, .. }) => {
                let _ = self.quant(*qb).map(|q| self.zero_point(&q));
                let _ = self.quant(*qa).map(|q| self.requantise(&q));
                self.vector(&instr.op)
            }
            Op::Pool(i) => self.pool(i, &instr.op),
            Op::Lut(i) => {
                let last = u64::from(self.config.tables) - 1;
                self.most(Code::A20, "table", i.table.into(), last);
                self.vector(&instr.op)
            }
            Op::Mov(_) => self.vector(&instr.op),
            Op::Std(i) => self.std(i),
            Op::Sti(i) => {
                self.slot(elements(i.m, i.e, i.f));
                if let Some(view) = self.view(i.view) {
                    let part = Part::new([i.oc, i.oy, i.ox], [i.m, i.e, i.f]);
                    self.touches(&view, part);
                    self.inside(&view, part);
                }
                elements(i.m, i.e, i.f)
            }
        }
    }

    /// A view that windows slide over, or that maps are moved by, lies in its banks as a whole.
    fn whole(&mut self, v: &View) {
        let all = Part::new([0; 3], [v.chans, v.rows, v.pitch]);
        self.touches(
            &View {
                coff: 0,
                sy: 1,
                sx: 1,
                ..*v
            },
            all,
        );
    }

    /// Of other views what is touched does: those of results in part of a map begin where the part does.
    fn touches(&mut self, v: &View, Part { oc, oy, ox, n, e, f }: Part) {
        let last = |first: u32, count: u32, step: u32, size: u32| {
            let last = u64::from(first + count - 1) * u64::from(step);
            last.min(u64::from(size).saturating_sub(1))
        };
        let channel = (i64::from(oc) + i64::from(n) - 1 + i64::from(v.coff)).min(i64::from(v.chans) - 1);
        let Ok(channel) = u64::try_from(channel) else {
            return;
        };
        let group = channel / u64::from(self.config.lines);
        let row = group * u64::from(v.rows) + last(oy, e, v.sy, v.rows);
        let end = u64::from(v.base) + row * u64::from(v.pitch) + last(ox, f, v.sx, v.pitch) + 1;
        self.most(
            Code::A20,
            "the view's end in a bank",
            end,
            self.config.ib_bank.into(),
        );
    }

    fn format(&mut self, f: &Fmt) {
        if !f.sd {
            return;
        }
        let alphabet = f.alphabet();
        let sums = alphabet.iter().all(|a| matches!(a.count_ones(), 1 | 2));
        if !sums || alphabet.windows(2).any(|w| w[0] >= w[1]) {
            let message =
                format!("magnitudes {alphabet:?} do not ascend, or are no sums of at most two powers of two");
            self.fault(Code::A13, message);
        }
        if !f.row {
            self.most(Code::A13, "n of nibbles", f.n.into(), 7);
        }
        if f.slice == 0 {
            self.fault(Code::A13, "slice is 0".to_owned());
        }
        self.most(Code::A13, "g", f.g.into(), 64);
    }

    /// The last byte that `runs` runs take of DRAM.
    fn in_dram(&mut self, first: u32, last_run: u64, bytes: u64) {
        let end = u64::from(first) + last_run + bytes;
        self.most(Code::A20, "the end in DRAM", end, self.dram);
    }

    fn load(&mut self, space: &str, at: u32, bytes: u32, size: u32, dram: u32) -> u64 {
        if bytes == 0 {
            self.fault(Code::A13, "bytes is 0".to_owned());
        }
        let end = u64::from(at) + u64::from(bytes);
        self.most(Code::A20, &format!("the end in {space}"), end, size.into());
        self.in_dram(dram, 0, bytes.into());
        bytes.into()
    }

    fn ldw(&mut self, i: &Ldw) -> u64 {
        let bank = self.config.wb_bank;
        self.most(Code::A20, "addr", i.addr.into(), u64::from(bank) - 1);
        let apart = self.config.slices >> i.copies;
        self.most(
            Code::A20,
            "the last slice of a copy",
            u64::from(i.slice) + u64::from(i.slices),
            apart.into(),
        );
        let all = if i.bcast { 1 } else { u64::from(i.slices) };
        let last = (all - 1) * u64::from(i.bytes);
        self.in_dram(i.dram, last, i.bytes.into());
        self.load("wb", i.bank * bank + i.addr, i.bytes, 2 * bank, i.dram);
        u64::from(i.bytes) * u64::from(i.slices)
    }

    /// Rows of channels between a view and DRAM.
    fn map(
        &mut self,
        view: u32,
        (c0, n): (u32, u32),
        (y0, rows): (u32, u32),
        dram: u32,
        cstride: u32,
    ) -> u64 {
        let Some(v) = self.view(view) else { return 0 };
        self.whole(&v);
        let first = i64::from(c0) + i64::from(v.coff);
        if first < 0 || first + i64::from(n) > v.chans.into() {
            let message = format!("channels {first} and {n} on, of a view of {}", v.chans);
            self.fault(Code::A20, message);
        }
        self.most(
            Code::A20,
            "the last row",
            u64::from(y0) + u64::from(rows),
            v.rows.into(),
        );
        let run = u64::from(rows) * u64::from(v.pitch);
        self.in_dram(dram, u64::from(n - 1) * u64::from(cstride), run);
        u64::from(n) * run
    }

    fn slot(&mut self, bytes: u64) {
        self.most(Code::A13, "m*e*f", bytes, self.config.ob_slot.into());
    }

    /// An operand that is read: what lies outside a view reads as its `fill`.
    fn source(&mut self, operand: u32, part: Part) {
        match operand {
            0..16 => {
                if let Some(view) = self.view(operand) {
                    self.touches(&view, part);
                }
            }
            16 | 17 => self.slot(part.elements()),
            _ => self.fault(
                Code::A13,
                format!("operand {operand} is neither a view nor a slot"),
            ),
        }
    }

    fn target(&mut self, operand: u32, part: Part) {
        self.source(operand, part);
        if let Some(view) = self.registers.view(operand).filter(|_| operand < 16) {
            self.inside(&view, part);
        }
    }

    /// Elements that are written lie in the view, each once.
    fn inside(&mut self, v: &View, Part { oc, oy, ox, n, e, f }: Part) {
        let first = i64::from(oc) + i64::from(v.coff);
        if first < 0 || first + i64::from(n) > v.chans.into() {
            let message = format!("channels {first} and {n} on, of a view of {}", v.chans);
            self.fault(Code::A20, message);
        }
        let last = |o: u32, k: u32, step: u32| (u64::from(o) + u64::from(k) - 1) * u64::from(step) + 1;
        self.most(
            Code::A20,
            "the last row written",
            last(oy, e, v.sy),
            v.rows.into(),
        );
        self.most(
            Code::A20,
            "the last column written",
            last(ox, f, v.sx),
            v.pitch.into(),
        );
        if (v.sy == 0 && e > 1) || (v.sx == 0 && f > 1) {
            self.fault(Code::A23, "a step of 0 writes one element many times".to_owned());
        }
    }

    fn steps_are_one(&mut self, v: &View) {
        if (v.sy, v.sx) != (1, 1) {
            let message = format!(
                "the view's steps are {} and {}; here the geometry has the steps",
                v.sy, v.sx
            );
            self.fault(Code::A23, message);
        }
    }

    fn zero_point(&mut self, q: &Quant) {
        let (low, high) = if q.xi8 { (-128, 127) } else { (0, 255) };
        if !(low..=high).contains(&q.z) {
            self.fault(Code::A13, format!("z is {}; it may be {low} to {high}", q.z));
        }
    }

    fn requantise(&mut self, q: &Quant) {
        self.zero_point(q);
        let (low, high) = if q.yi8 { (-128, 127) } else { (0, 255) };
        if !(low <= q.lo && q.lo <= q.hi && q.hi <= high) {
            let message = format!(
                "results from {} to {} are no bytes from {low} to {high}",
                q.lo, q.hi
            );
            self.fault(Code::A13, message);
        }
        if !(1..=62).contains(&q.shift) {
            self.fault(Code::A13, format!("shift is {}; it may be 1 to 62", q.shift));
        }
    }

    /// Operands that are element by element; the elements.
    fn vector(&mut self, op: &Op) -> u64 {
        let Some(Vector { dst, a, b, part }) = op.vector() else {
            return 0;
        };
        let windowed = matches!(op, Op::Pool(_));
        for operand in [(!windowed).then_some(a), b].into_iter().flatten() {
            self.source(operand, part);
        }
        self.target(dst, part);
        part.elements()
    }

    fn pool(&mut self, i: &Pool, op: &Op) -> u64 {
        let elements = self.vector(op);
        if i.a >= 16 {
            self.fault(Code::A13, "a window needs a view, not a slot".to_owned());
        } else if let Some(view) = self.view(i.a) {
            self.steps_are_one(&view);
            self.whole(&view);
            let first = i64::from(i.oc) + i64::from(view.coff);
            if first < 0 || first + i64::from(i.n) > view.chans.into() {
                let message = format!("channels {first} and {} on, of a view of {}", i.n, view.chans);
                self.fault(Code::A20, message);
            }
        }
        if let Some(q) = self.quant(i.quant) {
            if i.avg {
                self.requantise(&q);
            } else {
                self.zero_point(&q);
            }
        }
        let taps = self.geom(i.geom).map_or(1, |g| u64::from(g.kh * g.kw));
        elements * taps
    }

    fn std(&mut self, i: &Std) -> u64 {
        let elements = u64::from(i.m) * u64::from(i.e) * u64::from(i.f);
        self.slot(elements);
        if i.xstep == 0 {
            self.fault(Code::A13, "xstep is 0".to_owned());
        }
        let last = |k: u32, step: u32| u64::from(k - 1) * u64::from(step);
        let place = last(i.m, i.cstride) + last(i.e, i.pitch) + last(i.f, i.xstep);
        self.in_dram(i.dram, place, 1);
        elements
    }

    fn conv(&mut self, i: &Conv) -> u64 {
        let registers = (self.view(i.view), self.geom(i.geom), self.quant(i.quant));
        self.register("fmt", i.fmt, self.registers.fmt(i.fmt));
        let (Some(view), Some(geom), Some(quant)) = registers else {
            return 0;
        };
        self.strip(&view, &geom, (i.m, i.e, i.f), i.ox, i.prm);
        self.most(
            Code::A13,
            "m*2^fold",
            u64::from(i.m) << geom.fold,
            self.config.slices.into(),
        );
        if i.keep {
            self.zero_point(&quant);
        } else {
            self.requantise(&quant);
        }
        let per_filter = u64::from(geom.c) * u64::from(geom.kh * geom.kw);
        self.most(Code::A13, "c*kh*kw", per_filter, MAX_FILTER);
        let blocks = self.blocks(&geom);
        let lanes = self.config.lanes;
        if i.keep || i.accin || blocks > 1 {
            let pixels = u64::from(i.e) * u64::from(i.f.next_multiple_of(lanes));
            self.most(
                Code::A13,
                "pixels whose sums are kept",
                pixels,
                self.config.acc_pixels.into(),
            );
        }
        if i.reuse && blocks > 1 {
            self.fault(Code::A22, format!("{blocks} blocks of weights cannot be reused"));
        }
        u64::from(i.m) * u64::from(i.e) * u64::from(i.f) * per_filter
    }

    fn dwcv(&mut self, i: &Dwcv) -> u64 {
        let registers = (self.view(i.view), self.geom(i.geom), self.quant(i.quant));
        let fmt = self.register("fmt", i.fmt, self.registers.fmt(i.fmt));
        let (Some(view), Some(geom), Some(quant)) = registers else {
            return 0;
        };
        self.strip(&view, &geom, (i.m, i.e, i.f), i.ox, i.prm);
        self.requantise(&quant);
        if fmt.is_some_and(|f| f.sd && f.g != 0) {
            self.fault(Code::A13, "`dwcv` has no index bits; g must be 0".to_owned());
        }
        u64::from(i.m) * u64::from(i.e) * u64::from(i.f) * u64::from(geom.kh * geom.kw)
    }

    fn strip(&mut self, view: &View, geom: &Geom, (m, e, f): (u32, u32, u32), ox: u32, prm: u32) {
        self.steps_are_one(view);
        self.whole(view);
        self.slot(u64::from(m) * u64::from(e) * u64::from(f));
        self.most(Code::A13, "m", m.into(), self.config.slices.into());
        self.most(
            Code::A13,
            "kh*kw",
            u64::from(geom.kh * geom.kw),
            self.config.line_file.into(),
        );
        if !ox.is_multiple_of(self.config.lanes) {
            self.fault(
                Code::A13,
                format!("ox is {ox}, no multiple of {} lanes", self.config.lanes),
            );
        }
        let end = u64::from(prm) + u64::from(m);
        self.most(
            Code::A20,
            "the end in pb",
            end,
            2 * u64::from(self.config.pb_bank),
        );
    }

    /// Blocks of channels that the line files take.
    fn blocks(&self, geom: &Geom) -> u32 {
        let groups = geom.c.div_ceil(self.config.lines);
        groups.div_ceil((self.config.line_file / (geom.kh * geom.kw)).max(1))
    }
}
