//! What the lines do in each pixel group of a strip: steps and fetches, from the activations they meet.

use super::digits::{DIGITS, table};
use crate::exec::conv::{Strip, columns_inside};
use crate::exec::weights::Weights;
use crate::memory::Memory;
use sdc_accel_isa::{Config, Sync};

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

/// Cost of the lanes of a line in one tap of one kernel row.
struct Costs<'a> {
    s: &'a Strip,
    lanes: usize,
    bser: bool,
    /// Digits of each byte.
    table: [u8; 256],
    /// The byte that stands for zero does not count as an activation; of each byte.
    zero: [bool; 256],
}

/// One row of lanes: what it costs, and what is in it.
#[derive(Clone, Copy, Default)]
struct Group {
    /// The slowest lane.
    slowest: u8,
    digits: u16,
    /// Some activation is not zero.
    live: bool,
}

impl<'a> Costs<'a> {
    fn new(s: &'a Strip, config: &Config) -> Self {
        let table = table(s.quant.xi8, s.quant.z);
        Self {
            s,
            lanes: config.lanes as usize,
            bser: s.geom.bser && config.bser,
            table,
            zero: table.map(|digits| digits == 0),
        }
    }

    /// The lanes' bytes under a tap: calls `f(column, byte)` for those inside the map.
    fn each(&self, row: Option<&[u8]>, dx: i64, mut f: impl FnMut(usize, u8)) {
        let Some(row) = row else { return };
        let (step, first) = (self.s.geom.ux as usize, self.s.first_column() + dx);
        let inside = columns_inside(first, step, self.s.f, row.len());
        if inside.is_empty() {
            return;
        }
        let from = (first + (inside.start * step) as i64) as usize;
        for (x, &byte) in inside.zip(row[from..].iter().step_by(step)) {
            f(x, byte);
        }
    }

    /// The cost of each lane of the row under a tap, `[f]`.
    fn lanes(&self, row: Option<&[u8]>, dx: i64, out: &mut [u8]) {
        out.fill(if self.bser { 1 } else { DIGITS as u8 });
        if self.bser {
            self.each(row, dx, |x, byte| out[x] = self.table[usize::from(byte)].max(1));
        }
    }

    /// The groups of the row under a tap.
    fn groups(&self, row: Option<&[u8]>, dx: i64, out: &mut [Group]) {
        let least = if self.bser { 1 } else { DIGITS as u8 };
        out.fill(Group {
            slowest: least,
            digits: 0,
            live: false,
        });
        if !self.bser {
            for (g, group) in out.iter_mut().enumerate() {
                group.digits = DIGITS as u16 * self.lanes.min(self.s.f - g * self.lanes) as u16;
            }
        }
        self.each(row, dx, |x, byte| {
            let group = &mut out[x / self.lanes];
            group.live |= !self.zero[usize::from(byte)];
            if self.bser {
                let digits = self.table[usize::from(byte)];
                group.slowest = group.slowest.max(digits);
                group.digits += u16::from(digits);
            }
        });
    }
}

/// How many index groups are told apart, and the filters of each.
fn shares(s: &Strip, weights: &Weights, skip: bool) -> Vec<u64> {
    if !skip || weights.kept.len() == 1 {
        return vec![s.m as u64];
    }
    let group = weights.group;
    (0..weights.kept.len())
        .map(|j| group.min(s.m - j * group) as u64)
        .collect()
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

/// Bytes that a pixel group fetches of a row, and how many of them are inside the map.
pub(crate) struct Span {
    pub cycles: u32,
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

/// Walks over a `conv`'s strip.
pub(crate) fn walk(s: &Strip, weights: &Weights, memory: &Memory, config: &Config) -> (Vec<Block>, Work) {
    let groups = Groups::of(s, config.lanes as usize);
    let skip = s.geom.wskip && config.wskip && s.fmt.sd;
    let shares = shares(s, weights, skip);
    let mut work = Work::default();
    let blocks = blocks(s, config).into_iter().map(|channels| {
        let mut walk = Walk {
            costs: Costs::new(s, config),
            config,
            weights,
            memory,
            groups: &groups,
            spans: spans(s, &groups, config),
            shares: &shares,
            skip,
            work: &mut work,
        };
        match config.sync {
            Sync::Line => walk.block(channels),
            Sync::Lane => walk.by_lanes(channels),
            Sync::Array => walk.together(channels),
        }
    });
    let blocks = blocks.collect();
    (blocks, work)
}

struct Walk<'a> {
    costs: Costs<'a>,
    config: &'a Config,
    weights: &'a Weights,
    memory: &'a Memory,
    groups: &'a Groups,
    spans: Vec<Span>,
    /// Filters of each index group.
    shares: &'a [u64],
    skip: bool,
    work: &'a mut Work,
}

/// A kernel row of a channel over one row of results.
struct KernelRow {
    channel: usize,
    r: usize,
    /// First position of the row of results.
    first: usize,
}

impl Walk<'_> {
    fn empty(&self, channels: std::ops::Range<usize>) -> Block {
        let cells = self.shares.len() * self.config.lines as usize * self.groups.positions();
        Block {
            channels,
            steps: vec![0; cells],
            fetches: vec![0; cells],
        }
    }

    /// Calls `f(row, taps' groups, live)` for every kernel row of every channel, with the weights' columns.
    fn rows(
        &mut self,
        channels: std::ops::Range<usize>,
        mut f: impl FnMut(&mut Self, &KernelRow, &[Group], &[bool]),
    ) {
        let s = self.costs.s;
        let (columns, count) = (s.columns().collect::<Vec<_>>(), self.groups.alive.len());
        let mut taps = vec![Group::default(); columns.len() * count];
        let mut live = vec![true; count];
        let askip = s.geom.askip && self.config.askip;
        for channel in channels {
            for (r, dy) in s.rows() {
                for y in 0..s.e {
                    let bytes = self.memory.row(&s.view, s.c0 + channel as i64, s.row_of(y) + dy);
                    for (&(_, dx), groups) in columns.iter().zip(taps.chunks_exact_mut(count)) {
                        self.costs.groups(bytes, dx, groups);
                    }
                    if askip {
                        for (g, live) in live.iter_mut().enumerate() {
                            *live = taps.iter().skip(g).step_by(count).any(|t| t.live);
                        }
                    }
                    let row = KernelRow {
                        channel,
                        r,
                        first: y * count,
                    };
                    f(self, &row, &taps, &live);
                }
            }
        }
    }

    /// Weights' columns of a kernel row that an index group executes.
    fn stored(&self, group: usize, row: &KernelRow) -> Vec<bool> {
        let s = self.costs.s;
        let (kh, kw) = (s.geom.kh as usize, s.geom.kw as usize);
        let number = |t: usize| {
            if s.geom.order {
                (row.channel * kw + t) * kh + row.r
            } else {
                (row.channel * kh + row.r) * kw + t
            }
        };
        let kept = &self.weights.kept[if self.weights.kept.len() == 1 { 0 } else { group }];
        s.columns()
            .map(|(t, _)| !self.skip || kept[number(t) / self.weights.s])
            .collect()
    }

    /// Counts a kernel row and adds its fetches; gives the stored columns if there are any.
    fn count(
        &mut self,
        group: usize,
        row: &KernelRow,
        taps: &[Group],
        live: &[bool],
        fetches: &mut [u32],
    ) -> Vec<bool> {
        let stored = self.stored(group, row);
        let (filters, count) = (self.shares[group], self.groups.alive.len());
        let columns = stored.iter().filter(|&&k| k).count() as u64;
        for g in 0..count {
            let lanes = self.groups.alive[g] as u64 * filters;
            self.work.asked += lanes * stored.len() as u64;
            self.work.skipped_weight += lanes * (stored.len() as u64 - columns);
            if !live[g] {
                self.work.skipped_activation += lanes * columns;
                continue;
            }
            self.work.executed += lanes * columns;
            self.work.line_steps += columns * filters;
            if columns > 0 {
                fetches[g] += self.spans[g].cycles;
                let bytes = self.costs.s.row_of(row.first / count);
                let inside = self.inside(bytes, row.r);
                self.work.fetched += if inside { self.spans[g].inside } else { 0 };
            }
            let digits = taps.iter().skip(g).step_by(count).zip(&stored);
            let digits: u64 = digits
                .filter(|(_, k)| **k)
                .map(|(t, _)| u64::from(t.digits))
                .sum();
            self.work.digits += digits * filters;
        }
        stored
    }

    /// True if kernel row `r` of results whose window begins at `row` lies in the map.
    fn inside(&self, row: i64, r: usize) -> bool {
        let dy = self.costs.s.rows().find(|&(k, _)| k == r).map_or(0, |(_, dy)| dy);
        (0..i64::from(self.costs.s.view.rows)).contains(&(row + dy))
    }

    fn cell(&self, group: usize, row: &KernelRow) -> std::ops::Range<usize> {
        let (lines, positions) = (self.config.lines as usize, self.groups.positions());
        let at = (group * lines + row.channel % lines) * positions + row.first;
        at..at + self.groups.alive.len()
    }

    /// Lanes of a line step together: a step takes as long as its slowest lane.
    fn block(&mut self, channels: std::ops::Range<usize>) -> Block {
        let mut block = self.empty(channels.clone());
        let count = self.groups.alive.len();
        self.rows(channels, |walk, row, taps, live| {
            for group in 0..walk.shares.len() {
                let cell = walk.cell(group, row);
                let stored = walk.count(group, row, taps, live, &mut block.fetches[cell.clone()]);
                let steps = &mut block.steps[cell];
                for (taps, _) in taps.chunks_exact(count).zip(stored).filter(|(_, k)| *k) {
                    for ((sum, tap), &live) in steps.iter_mut().zip(taps).zip(live) {
                        *sum += if live { u32::from(tap.slowest) } else { 0 };
                    }
                }
            }
        });
        block
    }

    /// Lanes meet at the end of an interval: a line takes as long as the lane with the most to do.
    fn by_lanes(&mut self, channels: std::ops::Range<usize>) -> Block {
        let mut block = self.empty(channels.clone());
        let (s, f) = (self.costs.s, self.costs.s.f);
        let columns: Vec<_> = s.columns().collect();
        let (lanes, count) = (self.config.lanes as usize, self.groups.alive.len());
        let mut sums = vec![0u32; block.steps.len() * lanes];
        let mut costs = vec![0; f];
        self.rows(channels, |walk, row, taps, live| {
            let bytes = row.first / count;
            let dy = s.rows().find(|&(k, _)| k == row.r).map_or(0, |(_, dy)| dy);
            let bytes = walk
                .memory
                .row(&s.view, s.c0 + row.channel as i64, s.row_of(bytes) + dy);
            for group in 0..walk.shares.len() {
                let cell = walk.cell(group, row);
                let stored = walk.count(group, row, taps, live, &mut block.fetches[cell.clone()]);
                let sums = &mut sums[cell.start * lanes..cell.end * lanes];
                for (&(_, dx), _) in columns.iter().zip(stored).filter(|(_, k)| *k) {
                    walk.costs.lanes(bytes, dx, &mut costs);
                    for (x, &cost) in costs.iter().enumerate().filter(|(x, _)| live[x / lanes]) {
                        sums[x / lanes * lanes + x % lanes] += u32::from(cost);
                    }
                }
            }
        });
        for (step, sums) in block.steps.iter_mut().zip(sums.chunks_exact(lanes)) {
            *step = sums.iter().copied().max().unwrap_or(0);
        }
        block
    }

    /// All lines of all slices step together: the k-th executed steps of all of them take as long as the slowest.
    fn together(&mut self, channels: std::ops::Range<usize>) -> Block {
        let mut block = self.empty(channels.clone());
        let (count, positions) = (self.groups.alive.len(), self.groups.positions());
        // Of each position the slowest k-th step; of each line its steps so far.
        let mut slowest: Vec<Vec<u8>> = vec![Vec::new(); positions];
        let mut so_far = vec![0usize; block.steps.len()];
        self.rows(channels, |walk, row, taps, live| {
            for group in 0..walk.shares.len() {
                let cell = walk.cell(group, row);
                let stored = walk.count(group, row, taps, live, &mut block.fetches[cell.clone()]);
                for (taps, _) in taps.chunks_exact(count).zip(stored).filter(|(_, k)| *k) {
                    for (g, tap) in taps.iter().enumerate().filter(|(g, _)| live[*g]) {
                        let k = &mut so_far[cell.start + g];
                        let slowest = &mut slowest[row.first + g];
                        if slowest.len() <= *k {
                            slowest.push(0);
                        }
                        slowest[*k] = slowest[*k].max(tap.slowest);
                        *k += 1;
                    }
                }
            }
        });
        for (position, slowest) in slowest.iter().enumerate() {
            block.steps[position] = slowest.iter().map(|&s| u32::from(s)).sum();
        }
        block
    }
}

/// Steps of the busiest line of a `dwcv` for each position, over all channels: with `dwmap` the rows of a kernel go to lines of their own.
pub(crate) fn depthwise(s: &Strip, memory: &Memory, config: &Config) -> (Vec<u64>, Work) {
    let groups = Groups::of(s, config.lanes as usize);
    let costs = Costs::new(s, config);
    let (lanes, count) = (config.lanes as usize, groups.alive.len());
    let lines = if s.geom.dwmap { config.lines as usize } else { 1 };
    let columns: Vec<_> = s.columns().collect();
    let mut busiest = vec![0u64; groups.positions()];
    // Of array policy: the slowest k-th step of all lines and channels.
    let mut together: Vec<Vec<u8>> = vec![Vec::new(); groups.positions()];
    let mut work = Work::default();
    let mut taps = vec![Group::default(); count];
    let mut by_lane = vec![0u32; s.f];
    let mut cost = vec![0u8; s.f];
    for channel in 0..s.m {
        for y in 0..s.e {
            let mut sums = vec![0u64; lines * count];
            let mut so_far = vec![0usize; lines];
            for (i, (_, dy)) in s.rows().enumerate() {
                let line = i % lines;
                let bytes = memory.row(&s.view, s.c0 + channel as i64, s.row_of(y) + dy);
                by_lane.fill(0);
                for &(_, dx) in &columns {
                    costs.groups(bytes, dx, &mut taps);
                    work.digits += taps.iter().map(|t| u64::from(t.digits)).sum::<u64>();
                    work.asked += s.f as u64;
                    work.line_steps += count as u64;
                    match config.sync {
                        Sync::Line => {
                            let sums = &mut sums[line * count..(line + 1) * count];
                            sums.iter_mut()
                                .zip(&taps)
                                .for_each(|(sum, t)| *sum += u64::from(t.slowest));
                        }
                        Sync::Lane => {
                            costs.lanes(bytes, dx, &mut cost);
                            by_lane
                                .iter_mut()
                                .zip(&cost)
                                .for_each(|(sum, &c)| *sum += u32::from(c));
                        }
                        Sync::Array => {
                            for (g, tap) in taps.iter().enumerate() {
                                let slowest = &mut together[y * count + g];
                                if slowest.len() <= so_far[line] {
                                    slowest.push(0);
                                }
                                slowest[so_far[line]] = slowest[so_far[line]].max(tap.slowest);
                            }
                            so_far[line] += 1;
                        }
                    }
                }
                if config.sync == Sync::Lane {
                    for (g, lanes) in by_lane.chunks(lanes).enumerate() {
                        sums[line * count + g] += u64::from(lanes.iter().copied().max().unwrap_or(0));
                    }
                }
            }
            for (i, &sum) in sums.iter().enumerate() {
                let most = &mut busiest[y * count + i % count];
                *most = (*most).max(sum);
            }
        }
    }
    if config.sync == Sync::Array {
        let sum = |steps: &Vec<u8>| steps.iter().map(|&s| u64::from(s)).sum();
        busiest = together.iter().map(sum).collect();
    }
    work.executed = work.asked;
    (busiest, work)
}
