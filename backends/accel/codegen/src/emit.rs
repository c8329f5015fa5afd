//! From the schedule to instructions.

mod load;
mod place;
mod ve;

use crate::error::AccelError;
use crate::net::{Body, Convolution, Net};
use crate::plan::{Plan, phases};
use crate::pool::Pool;
use crate::registers::Registers;
use crate::schedule::{Band, LoadId, Schedule, Work};
use crate::tokens::{Access, Space, Tokens};
use sdc_accel_isa::{Config, Conv, Dwcv, Engine, Fmt, Geom, Mark, Op, Quant, Register, View, mark};
use std::collections::{BTreeMap, VecDeque};

/// Loads that are emitted before anything needs them, at most: more would fill LD's queue, and then nothing else is issued.
const AHEAD: usize = 20;

/// Bytes between DRAM and the machine, by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Traffic {
    /// Streams of weights.
    pub stream: u64,
    /// Bases.
    pub basis: u64,
    /// Index bits.
    pub index: u64,
    /// Biases and multipliers.
    pub parameters: u64,
    /// Tables.
    pub table: u64,
    /// Maps read.
    pub read: u64,
    /// Maps written.
    pub written: u64,
}

impl Traffic {
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            stream: self.stream + other.stream,
            basis: self.basis + other.basis,
            index: self.index + other.index,
            parameters: self.parameters + other.parameters,
            table: self.table + other.table,
            read: self.read + other.read,
            written: self.written + other.written,
        }
    }
}

/// Where a load put its bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Placed {
    /// First byte, filter or table.
    at: usize,
    /// First byte of the index bits.
    index: usize,
}

/// Emits parts of a program.
pub struct Emitter<'a> {
    net: &'a Net,
    plans: &'a [Plan],
    config: Config,
    tokens: Tokens,
    registers: Registers,
    /// Addresses of maps in DRAM, as far as they have one.
    addresses: &'a [Option<u32>],
    /// Addresses of what is loaded, by layer, tile and piece.
    images: BTreeMap<(usize, usize, usize), (u32, u32, u32)>,
    parameters: BTreeMap<(usize, usize), u32>,
    tables: BTreeMap<Vec<u8>, u32>,
    placed: Vec<Placed>,
    wb: Pool,
    xb: Pool,
    pb: Pool,
    tt: Pool,
    slot: u32,
    /// What the line files hold: format, geometry, place.
    held: Option<(Fmt, Geom, [u32; 5])>,
    /// The layer that each engine is at.
    at: [Option<u32>; 4],
    tile: Option<usize>,
    layers: &'a [u32],
    /// Bytes by layer.
    pub traffic: Vec<Traffic>,
}

impl<'a> Emitter<'a> {
    /// Continues a program. `layers` are the layers' ids.
    pub fn new(
        net: &'a Net,
        plans: &'a [Plan],
        addresses: &'a [Option<u32>],
        layers: &'a [u32],
        builder: sdc_accel_isa::Builder,
    ) -> Self {
        let config = builder.config().clone();
        let two = |bank: u32| Pool::new(2 * bank as usize);
        Self {
            net,
            plans,
            tokens: Tokens::new(builder),
            registers: Registers::default(),
            addresses,
            images: BTreeMap::new(),
            parameters: BTreeMap::new(),
            tables: BTreeMap::new(),
            placed: Vec::new(),
            wb: two(config.wb_bank),
            xb: two(config.xb_bank),
            pb: two(config.pb_bank),
            tt: Pool::new(config.tables as usize),
            slot: 0,
            held: None,
            at: [None; 4],
            tile: None,
            layers,
            traffic: vec![Traffic::default(); net.layers.len()],
            config,
        }
    }

    /// Emits a part.
    ///
    /// # Errors
    /// Weights or DRAM that do not fit.
    pub fn part(&mut self, schedule: &Schedule) -> Result<u32, AccelError> {
        let mut order: Vec<LoadId> = (0..schedule.loads.len()).collect();
        let rows = |l: LoadId| matches!(schedule.loads[l].what, crate::schedule::What::Rows { .. });
        order.sort_by_key(|&l| (schedule.loads[l].first, rows(l)));
        let order = VecDeque::from(order);
        self.placed = vec![Placed::default(); schedule.loads.len()];
        self.registers = Registers::default();
        self.held = None;
        // What is not emitted yet, and when what is emitted is needed first.
        let (mut waiting, mut ahead) = (order, Vec::new());
        for (now, work) in schedule.works.iter().enumerate() {
            ahead.retain(|&first| first > now);
            self.loads(schedule, now, &mut waiting, &mut ahead)?;
            self.work(&schedule.bands[work.band], work)?;
            for pool in [&mut self.wb, &mut self.xb, &mut self.pb, &mut self.tt] {
                pool.release(now);
            }
        }
        for engine in Engine::ALL {
            self.leave(engine);
        }
        for pool in [&mut self.wb, &mut self.xb, &mut self.pb, &mut self.tt] {
            pool.release(usize::MAX);
        }
        Ok(self.tokens.halt())
    }

    /// Emits the loads that are due, and others as far ahead as there is room. Rows that are not written yet, or whose place is not free yet,
    /// let weights pass.
    fn loads(
        &mut self,
        schedule: &Schedule,
        now: usize,
        waiting: &mut VecDeque<LoadId>,
        ahead: &mut Vec<usize>,
    ) -> Result<(), AccelError> {
        let mut passed = 0;
        while let Some(&id) = waiting.get(passed) {
            let load = &schedule.loads[id];
            let due = load.first <= now;
            if !due && ahead.len() >= AHEAD {
                break;
            }
            if load.after > now {
                if passed >= AHEAD {
                    break;
                }
                passed += 1;
                continue;
            }
            if !self.load(id, load)? {
                if due {
                    return Err(self.no_room(load));
                }
                break;
            }
            waiting.remove(passed);
            ahead.push(load.first);
        }
        Ok(())
    }

    /// The program.
    pub fn finish(self) -> sdc_accel_isa::Builder {
        self.tokens.finish()
    }

    /// Marks in an engine which layer it is at.
    fn enter(&mut self, engine: Engine, layer: usize) {
        let id = self.layers[layer];
        if self.at[engine.index()] != Some(id) {
            self.leave(engine);
            self.at[engine.index()] = Some(id);
            self.mark(engine, mark::BEGIN, id);
        }
    }

    fn leave(&mut self, engine: Engine) {
        if let Some(id) = self.at[engine.index()].take() {
            self.mark(engine, mark::END, id);
        }
    }

    fn mark(&mut self, engine: Engine, kind: u32, id: u32) {
        self.tokens.push(engine, Op::Mark(Mark { kind, id }), &[]);
    }

    fn work(&mut self, band: &Band, work: &Work) -> Result<(), AccelError> {
        let layer = &self.net.layers[band.layer];
        match &layer.body {
            Body::Conv(conv) => self.convolve(conv, band, work)?,
            _ if self.plans[band.layer].result.is_some() && layer.chain.is_empty() => {
                self.element_wise(band, work, None);
                return Ok(());
            }
            _ => self.element_wise(band, work, Some(self.slot)),
        }
        if work.complete {
            self.chain(band, work);
            self.store(band, work);
            self.slot = 1 - self.slot;
        }
        Ok(())
    }

    fn convolve(&mut self, conv: &Convolution, band: &Band, work: &Work) -> Result<(), AccelError> {
        let plan = &self.plans[band.layer];
        let tile = &plan.tiles[band.tile.unwrap_or(0)];
        let single = plan.pieces.len() == 1;
        self.enter(Engine::Pe, band.layer);
        for &(piece, load) in &work.weights {
            let (image, at) = (&tile.images[piece], self.placed[load]);
            let (view, first) = band.views[0];
            let geom = self.geometry(conv, band, piece, first);
            let fmt = match image.g {
                _ if image.bases.is_empty() => crate::weights::Weights::Plain(Vec::new()).fmt(0),
                g => conv.weights.fmt(g),
            };
            let offset = if conv.depthwise {
                0
            } else {
                tile.channels.start + plan.pieces[piece].c.start
            };
            // A depthwise convolution names its first channel itself.
            let c0 = i64::from(view.coff) + tile.channels.start as i64;
            let view = View {
                coff: if conv.depthwise {
                    0
                } else {
                    view.coff + offset as i32
                },
                ..view
            };
            let bank = self.config.wb_bank;
            let start = (at.at + image.base_bytes) as u32;
            let prm = self.placed[work.parameters].at as u32;
            let index = at.index as u32;
            let reads = self.reads(conv, band, work, image, at, view, first);
            let v = self
                .registers
                .get(&mut self.tokens, Engine::Pe, Register::View(view));
            let g = self
                .registers
                .get(&mut self.tokens, Engine::Pe, Register::Geom(geom));
            let f = self
                .registers
                .get(&mut self.tokens, Engine::Pe, Register::Fmt(fmt));
            let q = self
                .registers
                .get(&mut self.tokens, Engine::Pe, Register::Quant(conv.quant));
            self.mark_tile(band, work);
            let key = (
                fmt,
                geom,
                [
                    start,
                    at.at as u32,
                    index,
                    work.weights[0].1 as u32,
                    tile.filters.len() as u32,
                ],
            );
            let reuse = self.held == Some(key) && self.blocks(band.layer) == 1;
            self.held = Some(key);
            let strip = work.strip;
            let common = Dwcv {
                view: v,
                geom: g,
                fmt: f,
                quant: q,
                wbank: start / bank,
                waddr: start % bank,
                baddr: if image.bases.is_empty() {
                    0
                } else {
                    at.at as u32 % bank
                },
                c0: c0 as u32,
                prm,
                m: tile.filters.len() as u32,
                oy: (strip.y - band.rows.start) as u32,
                ox: strip.x as u32,
                e: strip.e as u32,
                f: strip.f as u32,
                slot: self.slot,
                reuse,
            };
            if conv.depthwise {
                self.tokens.push(Engine::Pe, common, &reads);
                continue;
            }
            let op = Conv {
                view: v,
                geom: g,
                fmt: f,
                quant: q,
                wbank: common.wbank,
                waddr: common.waddr,
                baddr: common.baddr,
                xbank: index / self.config.xb_bank,
                xaddr: index % self.config.xb_bank,
                prm,
                m: common.m,
                oy: common.oy,
                ox: common.ox,
                e: common.e,
                f: common.f,
                slot: self.slot,
                reuse,
                accin: piece > 0,
                keep: !single && piece + 1 < plan.pieces.len(),
            };
            self.tokens.push(Engine::Pe, op, &reads);
        }
        Ok(())
    }

    fn blocks(&self, layer: usize) -> usize {
        crate::schedule::blocks(&self.net.layers[layer], &self.plans[layer], &self.config)
    }

    fn geometry(&self, conv: &Convolution, band: &Band, piece: usize, first: usize) -> Geom {
        let plan = &self.plans[band.layer];
        let (p, tile) = (&plan.pieces[piece], &plan.tiles[band.tile.unwrap_or(0)]);
        let phase = &conv.phases[band.phase];
        let [uy, ux] = conv.strides.map(|u| u as u32);
        let [dy, dx] = conv.dilations.map(|d| d as u32);
        // Row 0 of the instruction is the band's first, row 0 of the view the map's row `first`; taps count from the piece's first.
        let pt = phase.before[0] + first as i64
            - (band.rows.start * conv.strides[0]) as i64
            - (p.rows.start * conv.dilations[0]) as i64;
        let pl = phase.before[1] - (p.columns.start * conv.dilations[1]) as i64;
        Geom {
            kh: p.rows.len() as u32,
            kw: p.columns.len() as u32,
            uy,
            ux,
            dy,
            dx,
            pt: pt as i32,
            pl: pl as i32,
            c: if conv.depthwise { 1 } else { p.c.len() as u32 },
            order: conv.weights.order() && !tile.images[piece].bases.is_empty(),
            row0: tile.images[piece].row0,
            wskip: true,
            askip: true,
            bser: true,
            dwmap: true,
            fold: tile.fold,
            ty: phase.tap_step[0] as u32,
            ty0: phase.tap_first[0] as u32,
            tx: phase.tap_step[1] as u32,
            tx0: phase.tap_first[1] as u32,
            flip: false,
        }
    }

    /// Marks where a tile's and band's instructions lie in their layer.
    fn mark_tile(&mut self, band: &Band, work: &Work) {
        let m0 = work.channels.start as u32;
        let y = band.rows.start as u32;
        if self.tile != Some(work.band) {
            self.tile = Some(work.band);
            let id = self.tokens.builder().tile(sdc_accel_isa::Tile { m0, y, x: 0 });
            self.mark(Engine::Pe, mark::TILE, id);
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "what an instruction reads has many places"
    )]
    fn reads(
        &self,
        conv: &Convolution,
        band: &Band,
        work: &Work,
        image: &crate::weights::Image,
        at: Placed,
        view: View,
        first: usize,
    ) -> Vec<Access> {
        let (net, layer) = (self.net, &self.net.layers[band.layer]);
        let strip = work.strip;
        let phase = phases(layer)[band.phase].0;
        let rows = crate::plan::demand(net, layer, phase, 0, strip.y..strip.y + strip.e);
        let plan = &self.plans[band.layer];
        let tile = &plan.tiles[band.tile.unwrap_or(0)];
        let (from, count) = if conv.depthwise {
            (
                i64::from(band.views[0].0.coff) + tile.channels.start as i64,
                tile.filters.len(),
            )
        } else {
            (
                i64::from(view.coff),
                plan.pieces.iter().map(|p| p.c.len()).max().unwrap_or(1),
            )
        };
        let channels = from as usize..from as usize + count;
        let mut all = place::view(
            &view,
            self.config.lines,
            channels,
            rows.start - first..rows.end - first,
            false,
        );
        let read = |space: Space, start: usize, len: usize| Access {
            space,
            range: start as u32..(start + len) as u32,
            write: false,
        };
        all.push(read(Space::Wb, at.at, image.room()));
        if !image.index.is_empty() {
            all.push(read(Space::Xb, at.index, image.index.len()));
        }
        all.push(read(
            Space::Pb,
            self.placed[work.parameters].at,
            tile.filters.len(),
        ));
        all.push(Access {
            space: Space::Slot(self.slot),
            range: 0..1,
            write: true,
        });
        all
    }

    fn quant(&mut self, engine: Engine, quant: Quant) -> u32 {
        self.registers
            .get(&mut self.tokens, engine, Register::Quant(quant))
    }
}
