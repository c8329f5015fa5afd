//! The order of work, and of loads.
//!
//! Work is a list: a strip of a convolution with what follows in its slot, or a part of an operator of VE. Each load says which piece of work
//! needs it first and last, and after which piece its place is free; emission then loads as far ahead as there is room.

use crate::net::{Body, Layer, MapId, Net};
use crate::plan::{Plan, Source, Tile, channels, demand, phases, result_row};
use crate::strips::{Strip, strips};
use sdc_accel_isa::{Config, View};
use std::ops::Range;

/// Elements that an operator of VE computes at a time, at least, where rows allow it.
const VE_ELEMENTS: usize = 4096;
/// Bytes of a map that are loaded at a time, at least, where rows allow it.
const LOAD_BYTES: usize = 4096;

/// Number of a load.
pub type LoadId = usize;

/// Result rows for which views stay the same.
#[derive(Clone, Debug)]
pub struct Band {
    /// Number of the layer.
    pub layer: usize,
    /// Number of the tile, of a convolution.
    pub tile: Option<usize>,
    /// Number of the phase.
    pub phase: usize,
    /// The rows; instructions count from the first.
    pub rows: Range<usize>,
    /// Of each operand: its map's rows as an instruction that follows the geometry sees them, and its first row.
    pub views: Vec<(View, usize)>,
}

/// A piece of work.
#[derive(Clone, Debug)]
pub struct Work {
    /// Number of its band.
    pub band: usize,
    /// What is computed. Rows count in the phase.
    pub strip: Strip,
    /// Channels or filters.
    pub channels: Range<usize>,
    /// Of a convolution: its pieces, and the loads that bring their weights; then the load of the parameters.
    pub weights: Vec<(usize, LoadId)>,
    /// The load of the tile's parameters.
    pub parameters: LoadId,
    /// Sums are complete: the result goes on.
    pub complete: bool,
    /// The loads of the tables that body and chain use, in this order.
    pub tables: Vec<LoadId>,
}

/// What is loaded.
#[derive(Clone, Debug)]
pub enum What {
    /// Weights of a tile and piece.
    Weights {
        /// Layer.
        layer: usize,
        /// Tile.
        tile: usize,
        /// Piece.
        piece: usize,
    },
    /// Biases and multipliers of a tile.
    Parameters {
        /// Layer.
        layer: usize,
        /// Tile.
        tile: usize,
    },
    /// A table.
    Table(Box<[u8; 256]>),
    /// Rows of a map.
    Rows {
        /// The map.
        map: MapId,
        /// Where they go: rows of the view are those of the map from `first` on, channels those from `channels.start` on.
        view: View,
        /// The map's row that is row 0 of the view.
        first: usize,
        /// Channels.
        channels: Range<usize>,
        /// Rows.
        rows: Range<usize>,
    },
}

/// A load.
#[derive(Clone, Debug)]
pub struct Load {
    /// What.
    pub what: What,
    /// The layer it is for.
    pub layer: usize,
    /// First work that needs it.
    pub first: usize,
    /// Last work that needs it.
    pub last: usize,
    /// Number of works that have to be emitted before.
    pub after: usize,
}

/// Everything in its order.
#[derive(Debug, Default)]
pub struct Schedule {
    /// Bands.
    pub bands: Vec<Band>,
    /// Work.
    pub works: Vec<Work>,
    /// Loads, by their numbers.
    pub loads: Vec<Load>,
    /// For each layer, its first work.
    pub starts: Vec<usize>,
}

/// Loads of rows that nobody has needed yet.
struct Pending {
    operand: usize,
    rows: Range<usize>,
    load: LoadId,
}

struct Scheduler<'a> {
    net: &'a Net,
    plans: &'a [Plan],
    config: &'a Config,
    out: Schedule,
    /// Maps that stay and have to be loaded: they are once.
    loaded: Vec<bool>,
    pending: Vec<Pending>,
    /// The part's first layer.
    part: usize,
}

/// Schedules the layers of a part.
pub fn schedule(
    net: &Net,
    layers: Range<usize>,
    plans: &[Plan],
    config: &Config,
    written: &[bool],
) -> Schedule {
    let mut s = Scheduler {
        net,
        plans,
        config,
        out: Schedule::default(),
        loaded: written.to_vec(),
        pending: Vec::new(),
        part: layers.start,
    };
    s.out.starts = vec![0; layers.start];
    for layer in layers {
        s.out.starts.push(s.out.works.len());
        s.layer(layer);
    }
    // Loads come in the order of their first use; of equal ones as they were made.
    s.out.loads.iter_mut().for_each(|l| l.last = l.last.max(l.first));
    s.out
}

impl Scheduler<'_> {
    fn layer(&mut self, layer: usize) {
        let (plan, l) = (&self.plans[layer], &self.net.layers[layer]);
        self.load_maps(layer);
        let Body::Conv(_) = l.body else {
            self.pointwise(layer);
            return;
        };
        let all: Vec<usize> = (0..plan.tiles.len()).collect();
        let sets: Vec<&[usize]> = if plan.bands_outside {
            vec![&all[..]]
        } else {
            all.chunks(1).collect()
        };
        let stays = plan.bands_outside;
        let mut weights: Vec<Option<Vec<LoadId>>> = vec![None; plan.tiles.len()];
        let mut turns = vec![0; plan.sources.len()];
        let mut ends = vec![Vec::new(); plan.sources.len()];
        for set in sets {
            for (phase, (p, size)) in phases(l).into_iter().enumerate() {
                for rows in plan.bands(self.net, l, p, size[0]) {
                    let tile = (!stays).then(|| set[0]);
                    let views = self.views(layer, tile, phase, &rows, &mut turns, &mut ends);
                    for &t in set {
                        let loads = weights[t].take().unwrap_or_else(|| self.weights(layer, t));
                        self.strips(layer, t, phase, &rows, &views, &loads);
                        weights[t] = Some(loads);
                    }
                    self.settle(&turns, &mut ends);
                }
            }
        }
    }

    /// Loads of a tile's weights and parameters, each piece one; the last is of the parameters. Pieces that do not fit together have none.
    fn weights(&mut self, layer: usize, tile: usize) -> Vec<LoadId> {
        let t = &self.plans[layer].tiles[tile];
        let now = self.out.works.len();
        let mut loads = Vec::new();
        if pieces_fit(t, self.config) {
            for piece in 0..t.images.len() {
                loads.push(self.load(What::Weights { layer, tile, piece }, layer, now, 0));
            }
        }
        loads.push(self.load(What::Parameters { layer, tile }, layer, now, 0));
        loads
    }

    fn load(&mut self, what: What, layer: usize, first: usize, after: usize) -> LoadId {
        self.out.loads.push(Load {
            what,
            layer,
            first,
            last: first,
            after,
        });
        self.out.loads.len() - 1
    }

    fn strips(
        &mut self,
        layer: usize,
        tile: usize,
        phase: usize,
        rows: &Range<usize>,
        views: &[(View, usize)],
        loads: &[LoadId],
    ) {
        let (plan, l) = (&self.plans[layer], &self.net.layers[layer]);
        let t = &plan.tiles[tile];
        self.out.bands.push(Band {
            layer,
            tile: Some(tile),
            phase,
            rows: rows.clone(),
            views: views.to_vec(),
        });
        let band = self.out.bands.len() - 1;
        let (p, size) = phases(l)[phase];
        let sums = plan.pieces.len() > 1 || blocks(l, plan, self.config) > 1;
        let parameters = loads[loads.len() - 1];
        for strip in strips(self.config, t.filters.len(), rows.clone(), size[1], sums) {
            let tables = self.tables(layer);
            let mut work = Work {
                band,
                strip,
                channels: t.filters.clone(),
                weights: (0..plan.pieces.len()).zip(loads.iter().copied()).collect(),
                parameters,
                complete: true,
                tables,
            };
            if loads.len() > plan.pieces.len() {
                self.push(work, l, p, loads);
                continue;
            }
            // Each piece comes anew for each strip.
            for piece in 0..plan.pieces.len() {
                let now = self.out.works.len();
                let load = self.load(What::Weights { layer, tile, piece }, layer, now, 0);
                work.weights = vec![(piece, load)];
                work.complete = piece + 1 == plan.pieces.len();
                self.push(work.clone(), l, p, &[load, parameters]);
            }
        }
    }

    /// Appends work; what it needs lives at least until then.
    fn push(&mut self, work: Work, l: &Layer, phase: Option<&crate::net::Phase>, loads: &[LoadId]) {
        let now = self.out.works.len();
        let tables = work.tables.clone();
        for &load in loads.iter().chain(&tables) {
            self.out.loads[load].last = now;
        }
        let (net, strip) = (self.net, work.strip);
        let loads = &mut self.out.loads;
        self.pending.retain(|p| {
            let needed = demand(net, l, phase, p.operand, strip.y..strip.y + strip.e);
            let claimed = p.rows.start < needed.end;
            if claimed {
                loads[p.load].first = now;
            }
            !claimed
        });
        self.out.works.push(work);
    }

    /// The loads of a layer's tables, made with its first work.
    fn tables(&mut self, layer: usize) -> Vec<LoadId> {
        let l = &self.net.layers[layer];
        let start = self.out.starts[layer];
        if let Some(first) = self.out.works.get(start) {
            return first.tables.clone();
        }
        let mut tables = Vec::new();
        let body = match &l.body {
            Body::Pointwise(op, _) => Some(op),
            _ => None,
        };
        for op in body.into_iter().chain(l.chain.iter().map(|c| &c.op)) {
            if let crate::net::Pointwise::Lut(table) = op {
                tables.push(self.load(What::Table(table.clone()), layer, start, 0));
            }
        }
        tables
    }

    fn pointwise(&mut self, layer: usize) {
        let (plan, l) = (&self.plans[layer], &self.net.layers[layer]);
        let direct = plan.result.is_some() && l.chain.is_empty();
        let (mut turns, mut ends) = (vec![0; plan.sources.len()], vec![Vec::new(); plan.sources.len()]);
        for (tile, part) in plan.tiles.iter().enumerate() {
            for rows in plan.bands(self.net, l, None, l.shape[1]) {
                let views = self.views(layer, Some(tile), 0, &rows, &mut turns, &mut ends);
                self.out.bands.push(Band {
                    layer,
                    tile: Some(tile),
                    phase: 0,
                    rows: rows.clone(),
                    views,
                });
                for (channels, strip) in self.boxes(&part.filters, l.shape[2], &rows, direct) {
                    let tables = self.tables(layer);
                    let work = Work {
                        band: self.out.bands.len() - 1,
                        strip,
                        channels,
                        weights: Vec::new(),
                        parameters: 0,
                        complete: true,
                        tables,
                    };
                    self.push(work, l, None, &[]);
                }
                self.settle(&turns, &mut ends);
            }
        }
    }

    /// The end of a band: its buffers are free from here on.
    fn settle(&mut self, turns: &[usize], ends: &mut [Vec<usize>]) {
        let now = self.out.works.len();
        self.pending.clear();
        for (ends, turn) in ends.iter_mut().zip(turns) {
            ends.resize(*turn, now);
        }
    }

    /// Parts of an operator of VE: into the input buffer directly, or into a slot.
    fn boxes(
        &self,
        all: &Range<usize>,
        f: usize,
        rows: &Range<usize>,
        direct: bool,
    ) -> Vec<(Range<usize>, Strip)> {
        const CHANNELS: usize = 4096;
        let lanes = self.config.lanes as usize;
        let most = if direct {
            CHANNELS
        } else {
            (self.config.ob_slot as usize / lanes.min(f)).min(64)
        };
        let mut boxes = Vec::new();
        for from in all.clone().step_by(most) {
            let channels = from..(from + most).min(all.end);
            let strips = if direct {
                let e = (VE_ELEMENTS / (channels.len() * f)).clamp(1, 4096);
                let starts = rows.clone().step_by(e);
                starts
                    .map(|y| Strip {
                        y,
                        x: 0,
                        e: e.min(rows.end - y),
                        f,
                    })
                    .collect()
            } else {
                strips(self.config, channels.len(), rows.clone(), f, false)
            };
            boxes.extend(strips.into_iter().map(|s| (channels.clone(), s)));
        }
        boxes
    }

    /// Views of the operands for some rows; what is not there yet is loaded.
    fn views(
        &mut self,
        layer: usize,
        tile: Option<usize>,
        phase: usize,
        rows: &Range<usize>,
        turns: &mut [usize],
        ends: &mut [Vec<usize>],
    ) -> Vec<(View, usize)> {
        let (plan, l) = (&self.plans[layer], &self.net.layers[layer]);
        let p = phases(l)[phase].0;
        let operands = l.operands();
        let mut views = Vec::new();
        for (i, x) in operands.into_iter().enumerate() {
            let map = &self.net.maps[x.map];
            let needed = demand(self.net, l, p, i, rows.clone());
            let view = |half: u32, base: u32, chans: usize, count: usize, coff: i64| View {
                half,
                base,
                chans: chans as u32,
                rows: count as u32,
                pitch: map.w as u32,
                coff: coff as i32,
                sy: x.step[0] as u32,
                sx: x.step[1] as u32,
                fill: u32::from(x.fill),
            };
            match &plan.sources[i] {
                Source::Stays(_) => {
                    let band = plan.sources[i]
                        .band(&needed)
                        .expect("bands of rows follow those of maps");
                    let v = view(band.half, band.base, x.limit.end, band.rows.len(), x.coff.into());
                    views.push((v, band.rows.start));
                }
                Source::Streams { buffers, .. } => {
                    let tile = tile.map(|t| &plan.tiles[t]);
                    let channels = channels(l, i, x, tile);
                    let (half, base) = buffers[turns[i] % buffers.len()];
                    let after = turns[i].checked_sub(buffers.len()).map(|before| ends[i][before]);
                    turns[i] += 1;
                    let v = view(
                        half,
                        base,
                        channels.len(),
                        needed.len(),
                        i64::from(x.coff) - channels.start as i64,
                    );
                    let after = after.unwrap_or(self.out.starts[layer]);
                    self.load_rows(layer, i, x.map, v, &needed, &channels, after);
                    views.push((v, needed.start));
                }
            }
        }
        views
    }

    #[allow(clippy::too_many_arguments, reason = "all say where rows go")]
    fn load_rows(
        &mut self,
        layer: usize,
        operand: usize,
        map: MapId,
        view: View,
        needed: &Range<usize>,
        channels: &Range<usize>,
        after: usize,
    ) {
        let now = self.out.works.len();
        let step = (LOAD_BYTES / (channels.len() * self.net.maps[map].w)).max(1);
        for y in needed.clone().step_by(step) {
            let rows = y..(y + step).min(needed.end);
            let what = What::Rows {
                map,
                view: plain(view),
                first: needed.start,
                channels: channels.clone(),
                rows: rows.clone(),
            };
            let load = self.load(what, layer, now, after);
            self.pending.push(Pending { operand, rows, load });
        }
    }

    /// Maps that stay and come from DRAM are loaded before their first use.
    fn load_maps(&mut self, layer: usize) {
        let (plan, l) = (&self.plans[layer], &self.net.layers[layer]);
        for (i, x) in l.operands().into_iter().enumerate() {
            let Source::Stays(bands) = &plan.sources[i] else {
                continue;
            };
            if std::mem::replace(&mut self.loaded[x.map], true) {
                continue;
            }
            let map = &self.net.maps[x.map];
            // The place is free from the layer before on, if it is of this part; but the bytes may be written there.
            let here = self.net.layers[self.part..layer].iter();
            let root = self.net.root(x.map);
            let written = here.clone().any(|l| self.net.root(l.target.map) == root);
            let before = layer.saturating_sub(1).max(self.part);
            let after = self.out.starts[if written { layer } else { before }];
            for band in bands {
                let view = View {
                    half: band.half,
                    base: band.base,
                    chans: map.c as u32,
                    rows: band.rows.len() as u32,
                    pitch: map.w as u32,
                    coff: 0,
                    sy: 1,
                    sx: 1,
                    fill: 0,
                };
                self.load_rows(layer, i, x.map, view, &band.rows, &(0..map.c), after);
            }
        }
    }
}

/// A view as loads see it: channels from 0, every row and column.
fn plain(view: View) -> View {
    View {
        coff: 0,
        sy: 1,
        sx: 1,
        fill: 0,
        ..view
    }
}

/// Blocks of channels that the line files take after each other.
pub fn blocks(l: &Layer, plan: &Plan, config: &Config) -> usize {
    let Body::Conv(conv) = &l.body else { return 1 };
    if conv.depthwise {
        return 1;
    }
    let lines = config.lines as usize;
    let of = |p: &crate::weights::Piece| {
        let together = (config.line_file as usize / p.taps()).max(1);
        p.c.len().div_ceil(lines).div_ceil(together)
    };
    plan.pieces.iter().map(of).max().unwrap_or(1)
}

/// True if WB holds all pieces of a tile together.
fn pieces_fit(tile: &Tile, config: &Config) -> bool {
    let rooms: usize = tile.images.iter().map(|i| i.room() + i.base_bytes).sum();
    tile.images.len() == 1 || rooms <= 2 * config.wb_bank as usize
}

/// The rows of the result's map that a strip writes, one after another.
pub fn result_rows(l: &Layer, phase: Option<&crate::net::Phase>, strip: &Strip) -> Range<usize> {
    result_row(l, phase, strip.y)..result_row(l, phase, strip.y + strip.e - 1) + 1
}
