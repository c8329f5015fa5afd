//! What the lines do in each pixel group of a strip: steps and fetches, from the activations they meet.

mod costs;
mod depthwise;
mod walk;

pub(crate) use depthwise::depthwise;
pub(crate) use walk::walk;

use crate::exec::conv::Strip;
use sdc_accel_isa::Config;

/// A block of channels whose weights the line files hold at once.
pub(crate) struct Block {
    /// Its channels.
    pub channels: std::ops::Range<usize>,
    /// For each index group and line, `[groups][lines][positions]`: cycles of steps, and of fetches.
    pub steps: Vec<u32>,
    pub fetches: Vec<u32>,
}

/// What happened, over all filters of the strip.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Work {
    pub asked: u64,
    pub executed: u64,
    pub skipped_weight: u64,
    pub skipped_activation: u64,
    pub digits: u64,
    /// Steps of all filters, counted once for the lanes of a line.
    pub line_steps: u64,
    /// Bytes of the map that were fetched.
    pub fetched: u64,
}

/// Pixel groups of a strip, row by row: positions `y * groups + g`.
pub(crate) struct Groups {
    /// Lanes in use in each group of a row.
    pub alive: Vec<usize>,
    pub rows: usize,
}

impl Groups {
    pub fn of(s: &Strip, lanes: usize) -> Self {
        let alive = (0..s.f).step_by(lanes).map(|x| lanes.min(s.f - x)).collect();
        Self { alive, rows: s.e }
    }

    pub fn positions(&self) -> usize {
        self.rows * self.alive.len()
    }

    pub fn alive_at(&self, position: usize) -> usize {
        self.alive[position % self.alive.len()]
    }
}

/// The strip's blocks: `max(1, line_file / (kh*kw))` groups of as many channels as there are lines.
pub(crate) fn blocks(s: &Strip, config: &Config) -> Vec<std::ops::Range<usize>> {
    let lines = config.lines as usize;
    let kernel = (s.geom.kh * s.geom.kw) as usize;
    let at_once = lines * (config.line_file as usize / kernel).max(1);
    (0..s.c)
        .step_by(at_once)
        .map(|c| c..(c + at_once).min(s.c))
        .collect()
}

/// What a pixel group fetches of a row.
pub(crate) struct Span {
    pub cycles: u32,
    /// Its bytes inside the map.
    pub inside: u64,
}

/// The span of each group of a row.
pub(crate) fn spans(s: &Strip, groups: &Groups, config: &Config) -> Vec<Span> {
    let distances: Vec<i64> = s.columns().map(|(_, dx)| dx).collect();
    let lanes = config.lanes as usize;
    let least = distances.iter().copied().min().unwrap_or(0);
    let reach = distances.iter().copied().max().unwrap_or(0) - least;
    let span = |(g, &alive): (usize, &usize)| {
        let step = i64::from(s.geom.ux);
        let bytes = (alive as i64 - 1) * step + reach + 1;
        let first = s.first_column() + (g * lanes) as i64 * step + least;
        let inside = (first + bytes).min(i64::from(s.view.pitch)) - first.max(0);
        Span {
            cycles: if distances.is_empty() {
                0
            } else {
                (bytes as u32).div_ceil(config.fetch_bytes)
            },
            inside: inside.max(0) as u64,
        }
    };
    groups.alive.iter().enumerate().map(span).collect()
}
