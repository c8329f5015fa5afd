//! Which maps stay in the input buffer, and where.
//!
//! A map takes `ceil(C/lines)*H*W` bytes of every bank of a half, from the layer that writes it first to the last that reads it. One that fits
//! neither half whole is cut by rows into two bands; rows that windows reach over the cut for are in both. What does not fit is spilled:
//! written to DRAM, and streamed from there. Maps that save most traffic for the room and time they take come first.

use crate::net::{Body, Layer, MapId, Net};
use sdc_accel_isa::Config;
use std::ops::Range;

/// Rows of a map in a half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Band {
    /// The rows.
    pub rows: Range<usize>,
    /// The half.
    pub half: u32,
    /// First byte in each bank.
    pub base: u32,
}

/// Bytes of each bank of a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The half.
    pub half: u32,
    /// First byte.
    pub base: usize,
    /// Bytes.
    pub size: usize,
}

/// When and how a map is used.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// Layers that write it.
    pub writers: Vec<usize>,
    /// Layers that read it, once an operand.
    pub readers: Vec<usize>,
    /// Rows that a window reaches beyond its first, at most.
    pub reach: usize,
}

/// The decision.
#[derive(Clone, Debug)]
pub struct Residency {
    /// Of each map its bands, if it stays.
    pub bands: Vec<Option<Vec<Band>>>,
    /// Of each map.
    pub lives: Vec<Life>,
    spans: Vec<Range<usize>>,
    bank: usize,
}

/// The lives of all maps.
pub fn lives(net: &Net) -> Vec<Life> {
    let mut lives = vec![Life::default(); net.maps.len()];
    for (t, layer) in net.layers.iter().enumerate() {
        lives[layer.target.map].writers.push(t);
        for (i, x) in layer.operands().into_iter().enumerate() {
            let life = &mut lives[x.map];
            life.readers.push(t);
            life.reach = life.reach.max(if i == 0 { reach(layer) } else { 0 });
        }
    }
    lives
}

fn reach(layer: &Layer) -> usize {
    match &layer.body {
        Body::Conv(c) => (c.kernel[0] - 1) * c.dilations[0],
        Body::Pool(p, _) => (p.window.y.kernel - 1) * p.window.y.dilation,
        Body::Pointwise(..) => 0,
    }
}

impl Residency {
    /// Keeps what fits, but for the maps in `spilled`.
    pub fn new(net: &Net, config: &Config, spilled: &[MapId]) -> Self {
        let lives = lives(net);
        let spans: Vec<Range<usize>> = lives
            .iter()
            .map(|l| {
                let all = || l.writers.iter().chain(&l.readers);
                let (first, last) = (all().min().copied(), all().max().copied());
                let first = match (first, l.writers.is_empty()) {
                    // What is loaded may come while the layer before is at work.
                    (Some(t), true) => t.saturating_sub(1),
                    (t, _) => t.unwrap_or(0),
                };
                first..last.map_or(first, |t| t + 1)
            })
            .collect();
        let mut this = Self {
            bands: vec![None; net.maps.len()],
            spans,
            lives,
            bank: config.ib_bank as usize,
        };
        let mut wanted: Vec<MapId> = (0..net.maps.len()).filter(|&m| this.may_stay(net, m)).collect();
        wanted.retain(|m| !spilled.contains(m));
        let size = |m: MapId| row_bytes(net, config, m, net.maps[m].c) * net.maps[m].h;
        // Large maps first packs best; if not all fit, those that save most come first.
        wanted.sort_by_key(|&m| std::cmp::Reverse(size(m)));
        if !wanted.iter().all(|&m| this.place(net, config, m)) {
            this.bands.fill(None);
            let density = |m: MapId| {
                let life = &this.lives[m];
                let uses = usize::from(!life.writers.is_empty()) + life.readers.len();
                let saved = (net.maps[m].bytes() * (uses - 1)) as u64 + 1;
                (saved << 20) / (size(m) * this.spans[m].len()).max(1) as u64
            };
            wanted.sort_by_key(|&m| std::cmp::Reverse(density(m)));
            for m in wanted {
                this.place(net, config, m);
            }
        }
        this
    }

    /// A map that only one part of the program reads, and that DRAM is not where it has to go.
    fn may_stay(&self, net: &Net, m: MapId) -> bool {
        let (map, life) = (&net.maps[m], &self.lives[m]);
        let part = |t: &usize| net.layers[*t].part;
        let one_part = life.readers.iter().map(part).all(|p| p == part(&life.readers[0]));
        let written_here = !life.writers.is_empty();
        !life.readers.is_empty() && one_part && !(written_here && (map.dram || map.alias.is_some()))
    }

    /// Free bytes of both halves during some layers.
    fn gaps(&self, net: &Net, config: &Config, during: &Range<usize>) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for half in 0..2 {
            let mut taken: Vec<(usize, usize)> = Vec::new();
            for (m, bands) in self.bands.iter().enumerate() {
                let Some(bands) = bands else { continue };
                if self.spans[m].start < during.end && during.start < self.spans[m].end {
                    let row = row_bytes(net, config, m, net.maps[m].c);
                    let here = bands.iter().filter(|b| b.half == half);
                    taken.extend(here.map(|b| (b.base as usize, b.base as usize + b.rows.len() * row)));
                }
            }
            taken.sort_unstable();
            let mut at = 0;
            for (start, end) in taken.into_iter().chain([(self.bank, self.bank)]) {
                if start > at {
                    gaps.push(Gap {
                        half,
                        base: at,
                        size: start - at,
                    });
                }
                at = at.max(end);
            }
        }
        gaps
    }

    /// Free bytes of both halves during a layer.
    pub fn scratch(&self, net: &Net, config: &Config, layer: usize) -> Vec<Gap> {
        self.gaps(net, config, &(layer..layer + 1))
    }

    fn place(&mut self, net: &Net, config: &Config, m: MapId) -> bool {
        let (h, row) = (net.maps[m].h, row_bytes(net, config, m, net.maps[m].c));
        let gaps = self.gaps(net, config, &self.spans[m]);
        let band = |gap: &Gap, rows: Range<usize>| Band {
            rows,
            half: gap.half,
            base: gap.base as u32,
        };
        let tightest = gaps.iter().filter(|g| g.size >= h * row).min_by_key(|g| g.size);
        if let Some(gap) = tightest {
            self.bands[m] = Some(vec![band(gap, 0..h)]);
            return true;
        }
        let largest = |half: u32| gaps.iter().filter(|g| g.half == half).max_by_key(|g| g.size);
        let (Some(low), Some(high)) = (largest(0), largest(1)) else {
            return false;
        };
        let (first, second) = (low.size / row, high.size / row);
        let reach = self.lives[m].reach;
        if first + second < h + reach || first <= reach || second <= reach {
            return false;
        }
        let second = second.min(h - 1);
        let first = h + reach - second;
        self.bands[m] = Some(vec![band(low, 0..first), band(high, h - second..h)]);
        true
    }

    /// The map that stays during a layer and whose spilling costs least.
    pub fn cheapest(&self, net: &Net, layer: usize) -> Option<MapId> {
        let here = |m: &MapId| self.bands[*m].is_some() && self.spans[*m].contains(&layer);
        let cost =
            |m: &MapId| net.maps[*m].bytes() * (self.lives[*m].readers.len() + self.lives[*m].writers.len());
        (0..net.maps.len()).filter(here).min_by_key(cost)
    }
}

/// Bytes of each bank that a row of `channels` channels of a map takes.
pub fn row_bytes(net: &Net, config: &Config, m: MapId, channels: usize) -> usize {
    channels.div_ceil(config.lines as usize) * net.maps[m].w
}
