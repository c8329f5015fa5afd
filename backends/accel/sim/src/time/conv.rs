//! Cycles of `conv` and `dwcv` (specification, 6.2 and 6.3).

use super::lines::{Block, Groups, Work, blocks, spans, walk};
use crate::exec::conv::Strip;
use crate::exec::weights::Weights;
use crate::memory::Memory;
use sdc_accel_isa::{Config, Rebuild};

/// Cycles of a strip, by the term that won its maximum.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Cycles {
    pub rebuild: u64,
    pub steps: u64,
    pub fetch: u64,
    pub drain: u64,
}

impl Cycles {
    pub fn total(&self) -> u64 {
        self.rebuild + self.steps + self.fetch + self.drain
    }

    /// Adds an interval: the line's steps, its fetches, and what rebuilding or draining takes meanwhile.
    fn interval(&mut self, t: &Interval, rebuild: u64, drain: u64) {
        let most = t.time().max(rebuild).max(drain);
        let terms = [
            (rebuild, &mut self.rebuild),
            (t.steps.max(1), &mut self.steps),
            (t.fetch, &mut self.fetch),
            (drain, &mut self.drain),
        ];
        if let Some((_, winner)) = terms.into_iter().find(|(term, _)| *term == most) {
            *winner += most;
        }
    }
}

/// The longest steps and fetches of an interval, over lines and index groups.
#[derive(Clone, Copy, Default)]
struct Interval {
    steps: u64,
    fetch: u64,
    /// Pixels of the widest of its groups.
    pixels: u64,
}

impl Interval {
    fn time(&self) -> u64 {
        self.steps.max(self.fetch).max(1)
    }
}

/// Cycles of a `conv`, and what it does in them.
pub(crate) fn conv(s: &Strip, weights: &Weights, memory: &Memory, config: &Config) -> (Cycles, Work) {
    let (blocks, work) = walk(s, weights, memory, config);
    let groups = Groups::of(s, config.lanes as usize);
    let rebuilds: Vec<u64> = blocks
        .iter()
        .map(|b| rebuild(s, weights, &b.channels, config))
        .collect();
    let each = match config.rebuild {
        Rebuild::Strip => 0,
        Rebuild::Pixel => rebuilds.iter().sum(),
    };
    let mut cycles = Cycles::default();
    if !s.reuse {
        cycles.rebuild += rebuilds.first().copied().unwrap_or(0);
    }
    for (i, block) in blocks.iter().enumerate() {
        let intervals = intervals(block, &groups, 1 << s.geom.fold);
        if let Some(&next) = rebuilds.get(i + 1) {
            let mut now = Cycles::default();
            intervals.iter().for_each(|t| now.interval(t, each, 0));
            if next >= now.total() {
                cycles.rebuild += next;
            } else {
                cycles.rebuild += now.rebuild;
                cycles.steps += now.steps;
                cycles.fetch += now.fetch;
            }
        } else {
            last_block(&intervals, each, &mut cycles);
        }
    }
    (cycles, work)
}

/// The last block's intervals: each drains while the next one runs.
fn last_block(intervals: &[Interval], rebuild: u64, cycles: &mut Cycles) {
    let mut drain = 0;
    for t in intervals {
        cycles.interval(t, rebuild, drain);
        drain = t.pixels;
    }
    cycles.drain += drain;
}

fn intervals(block: &Block, groups: &Groups, fold: usize) -> Vec<Interval> {
    let positions: Vec<usize> = (0..groups.positions()).collect();
    let count = positions.len();
    let lines = block.steps.len() / count;
    let interval = |together: &[usize]| {
        let at = |line: usize| together.iter().map(move |p| line * count + p);
        let steps = (0..lines).flat_map(at).map(|c| u64::from(block.steps[c]));
        let fetch = (0..lines).map(|line| at(line).map(|c| u64::from(block.fetches[c])).sum::<u64>());
        let pixels = together.iter().map(|&p| groups.alive_at(p) as u64);
        Interval {
            steps: steps.max().unwrap_or(0),
            fetch: fetch.max().unwrap_or(0),
            pixels: pixels.max().unwrap_or(0),
        }
    };
    positions.chunks(fold).map(interval).collect()
}

/// Cycles of filling the line files with a block of channels.
fn rebuild(s: &Strip, weights: &Weights, channels: &std::ops::Range<usize>, config: &Config) -> u64 {
    let kernel = (s.geom.kh * s.geom.kw) as usize;
    if !s.fmt.sd {
        return (channels.len() * kernel).div_ceil(config.rebuild_engines as usize) as u64;
    }
    let rows = |kept: &Vec<bool>| {
        let first = |q: usize| q * weights.s / kernel;
        let stored = kept.iter().enumerate();
        stored
            .filter(|(q, k)| **k && channels.contains(&first(*q)))
            .count()
    };
    let most = weights.kept.iter().map(rows).max().unwrap_or(0);
    most.div_ceil(config.rebuild_engines as usize) as u64 * u64::from(s.fmt.r) * u64::from(s.fmt.terms())
}

/// Cycles of a `dwcv`: it walks down the rows of a column of pixel groups, so that most rows are fetched once.
pub(crate) fn depthwise(s: &Strip, weights: &Weights, memory: &Memory, config: &Config) -> (Cycles, Work) {
    let (table, mut work) = depthwise_steps(s, memory, config);
    let groups = Groups::of(s, config.lanes as usize);
    let spans = spans(s, &groups, config);
    let filters = s.m.div_ceil(config.lines as usize) as u64;
    let all = blocks(s, config);
    let rebuild = all
        .first()
        .map_or(0, |channels| rebuild(s, weights, channels, config));
    let each = if config.rebuild == Rebuild::Pixel {
        rebuild
    } else {
        0
    };
    let mut cycles = Cycles::default();
    if !s.reuse {
        cycles.rebuild += rebuild;
    }
    let (kernel_rows, step) = (s.rows().count(), s.geom.uy as usize);
    let mut drain = 0;
    for (g, span) in spans.iter().enumerate() {
        for y in 0..s.e {
            let rows = if y == 0 {
                kernel_rows
            } else {
                kernel_rows.min(step)
            };
            let t = Interval {
                steps: table[y * groups.alive.len() + g],
                fetch: filters * rows as u64 * u64::from(span.cycles),
                pixels: groups.alive[g] as u64,
            };
            cycles.interval(&t, each, drain);
            drain = t.pixels;
            let inside = s.rows().map(|(_, dy)| s.row_of(y) + dy);
            let inside = inside.skip(kernel_rows - rows);
            let inside = inside.filter(|y| (0..i64::from(s.view.rows)).contains(y)).count();
            work.fetched += s.m as u64 * inside as u64 * span.inside;
        }
    }
    cycles.drain += drain;
    (cycles, work)
}

/// Steps of the busiest line for each position, over all channels.
fn depthwise_steps(s: &Strip, memory: &Memory, config: &Config) -> (Vec<u64>, Work) {
    super::lines::depthwise(s, memory, config)
}
