//! VE and ST: element-wise operators, pooling, what follows in a slot, and where results go.

use super::{Emitter, place};
use crate::net::{Body, Operand, Phase, Pointwise};
use crate::plan::{demand, phases, result_row};
use crate::residency;
use crate::schedule::{Band, LoadId, Work, result_rows};
use crate::tokens::{Access, Space};
use sdc_accel_isa::{Add, Engine, Geom, Lut, Mov, Mul, Op, Pool, Register, Std, Sti, View};
use std::ops::Range;

/// The number of slot 0 as an operand.
const SLOT: u32 = 16;

/// The box of an instruction of VE, and its operands.
struct Box {
    dst: u32,
    a: u32,
    b: u32,
    oc: u32,
    oy: u32,
    ox: u32,
    n: u32,
    e: u32,
    f: u32,
}

impl Emitter<'_> {
    /// The body of a layer that is no convolution, into the result's view or a slot.
    pub(super) fn element_wise(&mut self, band: &Band, work: &Work, slot: Option<u32>) {
        let layer = &self.net.layers[band.layer];
        self.enter(Engine::Ve, band.layer);
        let mut accesses = Vec::new();
        let operands: Vec<u32> = (0..match &layer.body {
            Body::Pointwise(_, operands) => operands.len(),
            _ => 1,
        })
            .map(|i| self.operand(band, work, i, &mut accesses))
            .collect();
        let targets: Vec<u32> = match slot {
            Some(slot) => {
                accesses.push(whole_slot(slot, true));
                vec![SLOT + slot]
            }
            None => self.result_views(band, work, Engine::Ve, &mut accesses),
        };
        for dst in targets {
            let b = self.area(
                band,
                work,
                dst,
                operands[0],
                operands.get(1).copied().unwrap_or(0),
            );
            match &layer.body {
                Body::Pointwise(op, _) => {
                    let table = work.tables.first().copied();
                    self.pointwise(op, &b, table, accesses.clone());
                }
                Body::Pool(pool, _) => {
                    let (y, x) = (pool.window.y, pool.window.x);
                    let first = band.views[0].1 as i64;
                    let geom = Geom {
                        kh: y.kernel as u32,
                        kw: x.kernel as u32,
                        uy: y.stride as u32,
                        ux: x.stride as u32,
                        dy: y.dilation as u32,
                        dx: x.dilation as u32,
                        pt: (y.before as i64 + first - (band.rows.start * y.stride) as i64) as i32,
                        pl: x.before as i32,
                        c: work.channels.len() as u32,
                        ty: 1,
                        tx: 1,
                        ..Geom::default()
                    };
                    let geom = self
                        .registers
                        .get(&mut self.tokens, Engine::Ve, Register::Geom(geom));
                    let op = Pool {
                        dst,
                        a: b.a,
                        avg: pool.average,
                        counted: pool.counted,
                        geom,
                        quant: self.quant(Engine::Ve, pool.quant),
                        oc: b.oc,
                        oy: b.oy,
                        ox: b.ox,
                        n: b.n,
                        e: b.e,
                        f: b.f,
                    };
                    self.tokens.push(Engine::Ve, op, &accesses);
                }
                Body::Conv(_) => {}
            }
        }
    }

    fn area(&self, band: &Band, work: &Work, dst: u32, a: u32, b: u32) -> Box {
        let strip = work.strip;
        Box {
            dst,
            a,
            b,
            oc: work.channels.start as u32,
            oy: (strip.y - band.rows.start) as u32,
            ox: strip.x as u32,
            n: work.channels.len() as u32,
            e: strip.e as u32,
            f: strip.f as u32,
        }
    }

    fn pointwise(&mut self, op: &Pointwise, b: &Box, table: Option<LoadId>, mut accesses: Vec<Access>) {
        let Box {
            dst,
            a,
            oc,
            oy,
            ox,
            n,
            e,
            f,
            ..
        } = *b;
        let op: Op = match op {
            Pointwise::Add(qa, qb) => Add {
                dst,
                a,
                b: if qb.is_some() { b.b } else { 0 },
                two: qb.is_some(),
                qa: self.quant(Engine::Ve, *qa),
                qb: qb.map_or(0, |q| self.quant(Engine::Ve, q)),
                oc,
                oy,
                ox,
                n,
                e,
                f,
            }
            .into(),
            Pointwise::Mul(qa, qb) => Mul {
                dst,
                a,
                b: b.b,
                qa: self.quant(Engine::Ve, *qa),
                qb: self.quant(Engine::Ve, *qb),
                oc,
                oy,
                ox,
                n,
                e,
                f,
            }
            .into(),
            Pointwise::Lut(_) => {
                let table = table.map_or(0, |load| self.placed[load].at as u32);
                accesses.push(Access {
                    space: Space::Tables,
                    range: table..table + 1,
                    write: false,
                });
                Lut {
                    dst,
                    a,
                    table,
                    oc,
                    oy,
                    ox,
                    n,
                    e,
                    f,
                }
                .into()
            }
            Pointwise::Copy => Mov {
                dst,
                a,
                oc,
                oy,
                ox,
                n,
                e,
                f,
            }
            .into(),
        };
        self.tokens.push(Engine::Ve, op, &accesses);
    }

    /// What follows in the slot.
    pub(super) fn chain(&mut self, band: &Band, work: &Work) {
        let layer = &self.net.layers[band.layer];
        let bodies = layer.operands().len() - layer.chain.iter().filter(|l| l.other.is_some()).count();
        let (mut operand, mut table) = (
            bodies,
            usize::from(matches!(layer.body, Body::Pointwise(Pointwise::Lut(_), _))),
        );
        for link in &layer.chain {
            self.enter(Engine::Ve, band.layer);
            let mut accesses = vec![whole_slot(self.slot, true)];
            let other = match &link.other {
                Some(_) => {
                    operand += 1;
                    self.operand(band, work, operand - 1, &mut accesses)
                }
                None => 0,
            };
            let slot = SLOT + self.slot;
            let b = self.area(band, work, slot, slot, other);
            let load = matches!(link.op, Pointwise::Lut(_)).then(|| work.tables[table]);
            table += usize::from(load.is_some());
            self.pointwise(&link.op, &b, load, accesses);
        }
    }

    /// The view register of an operand as VE reads it, and what is read.
    fn operand(&mut self, band: &Band, work: &Work, i: usize, accesses: &mut Vec<Access>) -> u32 {
        let layer = &self.net.layers[band.layer];
        let x: &Operand = layer.operands()[i];
        let (view, first) = band.views[i];
        let phase = phases(layer)[band.phase].0;
        let rows = demand(
            self.net,
            layer,
            phase,
            i,
            work.strip.y..work.strip.y + work.strip.e,
        );
        let end = work.channels.end as i64 + i64::from(view.coff);
        let start = (work.channels.start as i64 + i64::from(view.coff)).max(0) as usize;
        let channels = start..end.max(0) as usize;
        let rows = rows.start - first..rows.end - first;
        accesses.extend(place::view(&view, self.config.lines, channels, rows, false));
        let windowed = matches!(layer.body, Body::Pool(..)) && i == 0;
        let moved = if windowed {
            view
        } else {
            // Row 0 of the instruction is the band's first.
            let row = x.start[0] + band.rows.start * x.step[0] - first;
            View {
                base: view.base + (row as u32 * view.pitch) + x.start[1] as u32,
                ..view
            }
        };
        self.registers
            .get(&mut self.tokens, Engine::Ve, Register::View(moved))
    }

    /// View registers of the bands that hold a strip's results.
    fn result_views(
        &mut self,
        band: &Band,
        work: &Work,
        engine: Engine,
        accesses: &mut Vec<Access>,
    ) -> Vec<u32> {
        let (net, layer) = (self.net, &self.net.layers[band.layer]);
        let phase = phases(layer)[band.phase].0;
        let (map, target) = (&net.maps[layer.target.map], &layer.target);
        let rows = result_rows(layer, phase, &work.strip);
        let bands: Vec<residency::Band> = self.plans[band.layer].result.iter().flatten().cloned().collect();
        let mut views = Vec::new();
        for b in bands
            .iter()
            .filter(|b| b.rows.start <= rows.start && rows.end <= b.rows.end)
        {
            let (step, start) = steps(layer, phase);
            let first = result_row(layer, phase, band.rows.start) - b.rows.start;
            let view = View {
                half: b.half,
                base: b.base + (first * map.w + start[1]) as u32,
                chans: map.c as u32,
                rows: b.rows.len() as u32,
                pitch: map.w as u32,
                coff: target.coff as i32,
                sy: step[0] as u32,
                sx: step[1] as u32,
                fill: 0,
            };
            let channels = target.coff + work.channels.start..target.coff + work.channels.end;
            let plain = View { base: b.base, ..view };
            let inside = rows.start - b.rows.start..rows.end - b.rows.start;
            accesses.extend(place::view(&plain, self.config.lines, channels, inside, true));
            views.push(self.registers.get(&mut self.tokens, engine, Register::View(view)));
        }
        views
    }

    /// The slot to where the result goes.
    pub(super) fn store(&mut self, band: &Band, work: &Work) {
        let (net, layer) = (self.net, &self.net.layers[band.layer]);
        let strip = work.strip;
        self.enter(Engine::St, band.layer);
        if self.plans[band.layer].result.is_some() {
            let mut accesses = vec![whole_slot(self.slot, false)];
            for view in self.result_views(band, work, Engine::St, &mut accesses) {
                let op = Sti {
                    slot: self.slot,
                    view,
                    oc: work.channels.start as u32,
                    oy: (strip.y - band.rows.start) as u32,
                    ox: strip.x as u32,
                    m: work.channels.len() as u32,
                    e: strip.e as u32,
                    f: strip.f as u32,
                };
                self.tokens.push(Engine::St, op, &accesses);
            }
            return;
        }
        let phase = phases(layer)[band.phase].0;
        let (map, target) = (&net.maps[layer.target.map], &layer.target);
        let (step, start) = steps(layer, phase);
        let rows = result_rows(layer, phase, &strip);
        let channel = target.coff + work.channels.start;
        let column = start[1] + strip.x * step[1];
        let op = Std {
            slot: self.slot,
            dram: self.address(layer.target.map) + ((channel * map.h + rows.start) * map.w + column) as u32,
            cstride: (map.h * map.w) as u32,
            pitch: (map.w * step[0]) as u32,
            xstep: step[1] as u32,
            m: work.channels.len() as u32,
            e: strip.e as u32,
            f: strip.f as u32,
        };
        let channels: Range<usize> = channel..channel + work.channels.len();
        let mut accesses = vec![whole_slot(self.slot, false)];
        accesses.extend(place::map(net, layer.target.map, channels, rows, true));
        self.tokens.push(Engine::St, op, &accesses);
        self.traffic[band.layer].written += (work.channels.len() * strip.e * strip.f) as u64;
    }
}

/// Steps between the results of a phase in the result's map, and its first row and column there.
fn steps(layer: &crate::net::Layer, phase: Option<&Phase>) -> ([usize; 2], [usize; 2]) {
    let (phase_step, phase_start) = match (&layer.body, phase) {
        (Body::Conv(c), Some(p)) => (c.phase_step, p.start),
        _ => ([1, 1], [0, 0]),
    };
    let t = &layer.target;
    let step = [0, 1].map(|d| phase_step[d] * t.step[d]);
    (step, [0, 1].map(|d| t.start[d] + phase_start[d] * t.step[d]))
}

fn whole_slot(slot: u32, write: bool) -> Access {
    Access {
        space: Space::Slot(slot),
        range: 0..1,
        write,
    }
}
