//! How a layer is cut, once it is known which maps stay: tiles of filters, bands of rows, and where streamed rows are put.

use crate::error::AccelError;
use crate::net::{Body, Convolution, Layer, Net, Operand, Phase};
use crate::residency::{Band, Gap, Residency, row_bytes};
use crate::strips::runs;
use crate::weights::{Filter, Image, Piece};
use sdc_accel_isa::Config;
use std::ops::Range;

/// Where an operand's rows are.
#[derive(Clone, Debug)]
pub enum Source {
    /// In the input buffer.
    Stays(Vec<Band>),
    /// In DRAM; bands of rows come into these buffers in turns.
    Streams {
        /// Half and first byte of each.
        buffers: Vec<(u32, u32)>,
        /// Rows that a buffer holds.
        rows: usize,
    },
}

/// Filters that the slices hold together.
#[derive(Clone, Debug)]
pub struct Tile {
    /// The filters.
    pub filters: Range<usize>,
    /// Channels of the layer's input that they read.
    pub channels: Range<usize>,
    /// Pixel groups side by side, as a power of two.
    pub fold: u32,
    /// What is loaded, a piece each.
    pub images: Vec<Image>,
}

/// How a layer is executed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of each operand.
    pub sources: Vec<Source>,
    /// Where the result stays; `None` if it goes to DRAM.
    pub result: Option<Vec<Band>>,
    /// Filters of a convolution; channels of an operator of VE.
    pub tiles: Vec<Tile>,
    /// Of a convolution: parts of the filters.
    pub pieces: Vec<Piece>,
    /// All tiles work on a band before the next comes.
    pub bands_outside: bool,
    /// The weights of all tiles stay loaded.
    pub weights_stay: bool,
    /// What was not done for want of room.
    pub remarks: Vec<String>,
}

/// Plans a layer.
///
/// # Errors
/// Its least tile does not fit.
pub fn plan(net: &Net, layer: usize, residency: &Residency, config: &Config) -> Result<Plan, AccelError> {
    let l = &net.layers[layer];
    let mut plan = Plan {
        sources: Vec::new(),
        result: residency.bands[l.target.map].clone(),
        tiles: Vec::new(),
        pieces: Vec::new(),
        bands_outside: false,
        weights_stay: true,
        remarks: Vec::new(),
    };
    if let Body::Conv(conv) = &l.body {
        tiles(conv, l.shape[0], config, &mut plan);
        let most = |of: fn(&Image) -> usize| {
            let rooms = plan.tiles.iter().map(|t| t.images.iter().map(of).sum::<usize>());
            (rooms.clone().max().unwrap_or(0), rooms.sum::<usize>())
        };
        let (largest, all) = most(Image::room);
        let wb = 2 * config.wb_bank as usize;
        // Half a bank is what alignment of bases may cost.
        let filters: usize = plan.tiles.iter().map(|t| t.filters.len()).sum();
        plan.weights_stay = all + largest <= wb && filters + 64 <= 2 * config.pb_bank as usize;
    }
    let parts = |n: usize| {
        let part = |c: usize| Tile {
            filters: c..(c + n).min(l.shape[0]),
            channels: c..(c + n).min(l.shape[0]),
            fold: 0,
            images: Vec::new(),
        };
        (0..l.shape[0]).step_by(n).map(part).collect()
    };
    let mut n = l.shape[0];
    loop {
        if !matches!(l.body, Body::Conv(_)) {
            plan.tiles = parts(n);
        }
        match sources(net, layer, residency, config, &mut plan) {
            // An operator of VE has less to load at a time if it takes the channels in parts.
            Err(_) if !matches!(l.body, Body::Conv(_)) && n > config.lines as usize => {
                n = (n / 2).next_multiple_of(config.lines as usize).min(n - 1);
            }
            other => return other.map(|()| plan),
        }
    }
}

/// Cuts filters into tiles and their weights into pieces.
fn tiles(conv: &Convolution, m: usize, config: &Config, plan: &mut Plan) {
    let [kh, kw] = conv.kernel;
    let per_group = m / conv.group;
    let c = if conv.depthwise {
        1
    } else {
        conv.x.shape[0] / conv.group
    };
    let filter = Filter { c, kh, kw };
    let columns = conv.phases.iter().map(|p| p.size[1]).max().unwrap_or(1);
    let lanes = config.lanes as usize;
    let most = (config.ob_slot as usize / lanes.min(columns))
        .min(config.slices as usize)
        .max(1);
    let fold = if conv.depthwise {
        0
    } else {
        fold_of(per_group, config.slices as usize)
    };
    let mut ranges = Vec::new();
    if conv.depthwise {
        ranges.extend(
            (0..m)
                .step_by(most)
                .map(|k| (k..(k + most).min(m), k..(k + most).min(m))),
        );
    } else {
        for g in 0..conv.group {
            for k in (0..per_group).step_by(most) {
                let filters = g * per_group + k..g * per_group + (k + most).min(per_group);
                ranges.push((filters, g * c..(g + 1) * c));
            }
        }
    }
    let filters: Vec<Range<usize>> = ranges.iter().map(|r| r.0.clone()).collect();
    let mut plain = None;
    let pieces = conv.weights.pieces(filter, &filters, config);
    let pieces = pieces
        .filter(|p| !conv.depthwise || p.len() == 1)
        .unwrap_or_else(|| {
            let weights = crate::weights::Weights::Plain(conv.weights.plain());
            let pieces = weights.pieces(filter, &filters, config).unwrap_or_default();
            plain = Some(weights);
            plan.remarks.push(
                "compressed weights have no cut that fits the weight buffer: they are loaded as bytes"
                    .to_owned(),
            );
            pieces
        });
    let weights = plain.as_ref().unwrap_or(&conv.weights);
    plan.tiles = ranges
        .into_iter()
        .map(|(filters, channels)| Tile {
            images: pieces
                .iter()
                .map(|p| weights.image(filter, filters.clone(), p))
                .collect(),
            filters,
            channels,
            fold,
        })
        .collect();
    plan.pieces = pieces;
}

/// How many pixel groups fit side by side, as a power of two: at most 4.
fn fold_of(m: usize, slices: usize) -> u32 {
    (0..=2).rev().find(|&k| m << k <= slices).unwrap_or(0)
}

/// Rows of an operand's map that rows `out` of the result need.
pub fn demand(
    net: &Net,
    layer: &Layer,
    phase: Option<&Phase>,
    operand: usize,
    out: Range<usize>,
) -> Range<usize> {
    let all = layer.operands();
    let x = all[operand];
    let size = net.maps[x.map].h;
    match (&layer.body, operand, phase) {
        (Body::Conv(conv), 0, Some(phase)) => conv.demand(phase, out, size),
        (Body::Pool(pool, _), 0, _) => {
            let rows = pool.window.y.demand(out, size);
            if rows.is_empty() { 0..1 } else { rows }
        }
        _ => x.rows(out),
    }
}

/// Channels of an operand's map that a buffer for it holds.
pub fn channels(layer: &Layer, operand: usize, x: &Operand, tile: Option<&Tile>) -> Range<usize> {
    let (from, to) = match (tile, operand) {
        (Some(t), 0) => (t.channels.start as i64, t.channels.end as i64),
        (Some(t), _) => (t.filters.start as i64, t.filters.end as i64),
        (None, _) => (0, x.shape[0] as i64),
    };
    // Of a broadcast or extended operand only what exists.
    let limit = |c: i64| (c + i64::from(x.coff)).clamp(x.limit.start as i64, x.limit.end as i64) as usize;
    let _ = layer;
    let range = limit(from)..limit(to);
    if range.is_empty() { 0..1 } else { range }
}

/// The phases of a layer: of all but convolutions there is none, and the whole result.
pub fn phases(layer: &Layer) -> Vec<(Option<&Phase>, [usize; 2])> {
    match &layer.body {
        Body::Conv(c) => c.phases.iter().map(|p| (Some(p), p.size)).collect(),
        _ => vec![(None, [layer.shape[1], layer.shape[2]])],
    }
}

fn sources(
    net: &Net,
    layer: usize,
    residency: &Residency,
    config: &Config,
    plan: &mut Plan,
) -> Result<(), AccelError> {
    let l = &net.layers[layer];
    let operands = l.operands();
    let streams: Vec<usize> = (0..operands.len())
        .filter(|&i| residency.bands[operands[i].map].is_none())
        .collect();
    // All filters read the same rows, or each tile reads its own channels.
    let own_channels = plan.tiles.windows(2).any(|t| t[0].channels != t[1].channels);
    plan.bands_outside = !streams.is_empty() && !own_channels && plan.tiles.len() > 1 && plan.weights_stay;
    // Bytes of a row of each streamed operand, for the tile that needs most.
    let row = |i: usize| -> usize {
        let width = |t: Option<&Tile>| {
            let range = channels(l, i, operands[i], t);
            row_bytes(net, config, operands[i].map, range.len())
        };
        let all = plan.tiles.iter().map(|t| width(Some(t))).max();
        if plan.bands_outside {
            width(None)
        } else {
            all.unwrap_or_else(|| width(None))
        }
    };
    let rows_of: Vec<usize> = streams.iter().map(|&i| row(i)).collect();
    let gaps = residency.scratch(net, config, layer);
    let height = phases(l).iter().map(|p| p.1[0]).max().unwrap_or(1);
    let need = |n: usize, i: usize| {
        let ends = phases(l)
            .into_iter()
            .flat_map(|(p, size)| (0..size[0]).step_by(n).map(move |y| (p, y..(y + n).min(size[0]))));
        let rows = ends.map(|(p, out)| demand(net, l, p, i, out).len());
        rows.max().unwrap_or(1)
    };
    let fit = |n: usize, double: bool| {
        let sizes: Vec<usize> = streams
            .iter()
            .zip(&rows_of)
            .map(|(&i, row)| need(n, i) * row)
            .collect();
        buffers(&sizes, &gaps, if double { 2 } else { 1 })
    };
    let found = if streams.is_empty() {
        Some((height, Vec::new()))
    } else if let Some(whole) = fit(height, false) {
        Some((height, whole))
    } else {
        let best = |double: bool| {
            let n = (1..height)
                .collect::<Vec<_>>()
                .partition_point(|&n| fit(n, double).is_some());
            (n > 0).then(|| fit(n, double).map(|b| (n, b))).flatten()
        };
        best(true).or_else(|| best(false))
    };
    let Some((n, places)) = found else {
        let need: usize = streams
            .iter()
            .zip(&rows_of)
            .map(|(&i, row)| need(1, i) * row)
            .sum();
        return Err(AccelError::TooLarge {
            layer: l.origin.clone(),
            buffer: "each bank of the input buffer",
            need,
            size: gaps.iter().map(|g| g.size).max().unwrap_or(0),
        });
    };
    let mut places = places.into_iter();
    plan.sources = (0..operands.len())
        .map(|i| match &residency.bands[operands[i].map] {
            Some(bands) => Source::Stays(bands.clone()),
            None => Source::Streams {
                buffers: places.next().unwrap_or_default(),
                rows: need(n, i),
            },
        })
        .collect();
    Ok(())
}

/// `copies` buffers of each size in the gaps, the largest first.
fn buffers(sizes: &[usize], gaps: &[Gap], copies: usize) -> Option<Vec<Vec<(u32, u32)>>> {
    let mut gaps = gaps.to_vec();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(sizes[i]));
    let mut places = vec![Vec::new(); sizes.len()];
    for i in order {
        for _ in 0..copies {
            let gap = gaps
                .iter_mut()
                .filter(|g| g.size >= sizes[i])
                .min_by_key(|g| g.size)?;
            places[i].push((gap.half, gap.base as u32));
            gap.base += sizes[i];
            gap.size -= sizes[i];
        }
    }
    Some(places)
}

impl Plan {
    /// Ranges of result rows for each of which every operand's rows lie in one band, and the result too in the same ones.
    pub fn bands(&self, net: &Net, layer: &Layer, phase: Option<&Phase>, rows: usize) -> Vec<Range<usize>> {
        let mut bands = Vec::new();
        for run in self.result_runs(layer, phase, rows) {
            let mut y = run.start;
            while y < run.end {
                let fits = |end: usize| {
                    let mut sources = self.sources.iter().enumerate();
                    sources.all(|(i, s)| s.holds(&demand(net, layer, phase, i, y..end)))
                };
                let end = (y + 2..=run.end)
                    .take_while(|&end| fits(end))
                    .last()
                    .unwrap_or(y + 1);
                bands.push(y..end);
                y = end;
            }
        }
        bands
    }

    fn result_runs(&self, layer: &Layer, phase: Option<&Phase>, rows: usize) -> Vec<Range<usize>> {
        let Some(bands) = &self.result else {
            return vec![0..rows];
        };
        runs(0..rows, |y| {
            let row = result_row(layer, phase, y);
            bands.iter().map(|b| b.rows.contains(&row)).collect::<Vec<_>>()
        })
    }
}

/// The row of the result's map that row `y` of a phase is.
pub fn result_row(layer: &Layer, phase: Option<&Phase>, y: usize) -> usize {
    let row = match (&layer.body, phase) {
        (Body::Conv(c), Some(p)) => p.start[0] + y * c.phase_step[0],
        _ => y,
    };
    layer.target.start[0] + row * layer.target.step[0]
}

impl Source {
    fn holds(&self, rows: &Range<usize>) -> bool {
        match self {
            Source::Stays(_) => self.band(rows).is_some(),
            Source::Streams { rows: most, .. } => rows.len() <= *most,
        }
    }

    /// The band that holds these rows.
    pub fn band(&self, rows: &Range<usize>) -> Option<&Band> {
        let Source::Stays(bands) = self else { return None };
        bands
            .iter()
            .find(|b| b.rows.start <= rows.start && rows.end <= b.rows.end)
    }
}
