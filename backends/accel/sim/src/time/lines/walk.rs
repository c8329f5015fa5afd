//! The lines in a `conv`, kernel row by kernel row.

use super::costs::{Costs, Group};
use super::{Block, Groups, Span, Work, blocks, spans};
use crate::exec::conv::Strip;
use crate::exec::weights::Weights;
use crate::memory::Memory;
use sdc_accel_isa::{Config, Sync};
use std::ops::Range;

/// Walks over a `conv`'s strip: its blocks, and what happens in all of them.
pub(crate) fn walk(s: &Strip, weights: &Weights, memory: &Memory, config: &Config) -> (Vec<Block>, Work) {
    let groups = Groups::of(s, config.lanes as usize);
    let skip = s.geom.wskip && config.wskip && s.fmt.sd;
    let shares = shares(s, weights, skip);
    let columns: Vec<(usize, i64)> = s.columns().collect();
    let mut walk = Walk {
        costs: Costs::new(s, config),
        config,
        weights,
        memory,
        taps: vec![Group::default(); columns.len() * groups.alive.len()],
        live: vec![true; groups.alive.len()],
        stored: vec![vec![true; columns.len()]; shares.len()],
        spans: spans(s, &groups, config),
        groups: &groups,
        columns,
        shares,
        skip,
        work: Work::default(),
    };
    let blocks = blocks(s, config).into_iter().map(|channels| match config.sync {
        Sync::Line => walk.by_lines(channels),
        Sync::Lane => walk.by_lanes(channels),
        Sync::Array => walk.together(channels),
    });
    let blocks = blocks.collect();
    (blocks, walk.work)
}

/// The filters of each index group that is told apart.
fn shares(s: &Strip, weights: &Weights, skip: bool) -> Vec<u64> {
    if !skip || weights.kept.len() == 1 {
        return vec![s.m as u64];
    }
    let group = weights.group;
    (0..weights.kept.len())
        .map(|j| group.min(s.m - j * group) as u64)
        .collect()
}

struct Walk<'a> {
    costs: Costs<'a>,
    config: &'a Config,
    weights: &'a Weights,
    memory: &'a Memory,
    groups: &'a Groups,
    spans: Vec<Span>,
    /// Kernel columns that are executed, with their distances.
    columns: Vec<(usize, i64)>,
    /// Filters of each index group.
    shares: Vec<u64>,
    skip: bool,
    work: Work,
    /// Of the kernel row at hand: `[columns][groups]`, the groups that are executed, and for each index group the columns.
    taps: Vec<Group>,
    live: Vec<bool>,
    stored: Vec<Vec<bool>>,
}

/// A kernel row of a channel over one row of results.
struct KernelRow<'m> {
    bytes: Option<&'m [u8]>,
    line: usize,
    /// First position of the row of results.
    first: usize,
}

impl<'a> Walk<'a> {
    fn empty(&self, channels: Range<usize>) -> Block {
        let cells = self.shares.len() * self.config.lines as usize * self.groups.positions();
        Block {
            channels,
            steps: vec![0; cells],
            fetches: vec![0; cells],
        }
    }

    /// Calls `f` for every kernel row of every channel and row of results, and counts it.
    fn rows(&mut self, block: &mut Block, mut f: impl FnMut(&Self, &KernelRow<'a>, &mut [u32])) {
        let (s, count) = (self.costs.s, self.groups.alive.len());
        let askip = s.geom.askip && self.config.askip;
        for channel in block.channels.clone() {
            for (r, dy) in s.rows() {
                self.choose(channel, r);
                for y in 0..s.e {
                    let row = KernelRow {
                        bytes: self.memory.row(&s.view, s.c0 + channel as i64, s.row_of(y) + dy),
                        line: channel % self.config.lines as usize,
                        first: y * count,
                    };
                    for (&(_, dx), groups) in self.columns.iter().zip(self.taps.chunks_exact_mut(count)) {
                        self.costs.groups(row.bytes, dx, groups);
                    }
                    if askip {
                        for (g, live) in self.live.iter_mut().enumerate() {
                            *live = self.taps.iter().skip(g).step_by(count).any(|t| t.live);
                        }
                    }
                    self.count(&row, &mut block.fetches);
                    f(self, &row, &mut block.steps);
                }
            }
        }
    }

    /// Which columns of a kernel row each index group executes.
    fn choose(&mut self, channel: usize, r: usize) {
        if !self.skip {
            return;
        }
        let geom = &self.costs.s.geom;
        let (kh, kw, s) = (geom.kh as usize, geom.kw as usize, self.weights.s);
        for (kept, stored) in self.weights.kept.iter().zip(&mut self.stored) {
            for (&(t, _), stored) in self.columns.iter().zip(stored) {
                let number = if geom.order {
                    (channel * kw + t) * kh + r
                } else {
                    (channel * kh + r) * kw + t
                };
                *stored = kept[number / s];
            }
        }
    }

    /// Counts a kernel row, and adds its fetches.
    fn count(&mut self, row: &KernelRow<'_>, fetches: &mut [u32]) {
        let count = self.groups.alive.len();
        for (group, &filters) in self.shares.iter().enumerate() {
            let stored = &self.stored[group];
            let (all, columns) = (stored.len() as u64, stored.iter().filter(|&&k| k).count() as u64);
            let cell = self.cell(group, row);
            let work = &mut self.work;
            for (g, fetch) in fetches[cell].iter_mut().enumerate() {
                let lanes = self.groups.alive[g] as u64 * filters;
                work.asked += lanes * all;
                work.skipped_weight += lanes * (all - columns);
                if !self.live[g] {
                    work.skipped_activation += lanes * columns;
                    continue;
                }
                work.executed += lanes * columns;
                work.line_steps += columns * filters;
                if columns > 0 {
                    *fetch += self.spans[g].cycles;
                    work.fetched += if row.bytes.is_some() {
                        self.spans[g].inside
                    } else {
                        0
                    };
                }
                let taps = self.taps.iter().skip(g).step_by(count).zip(stored);
                let digits: u64 = taps.map(|(t, &k)| if k { u64::from(t.digits) } else { 0 }).sum();
                work.digits += digits * filters;
            }
        }
    }

    /// The places of a row's positions in a block.
    fn cell(&self, group: usize, row: &KernelRow<'_>) -> Range<usize> {
        let line = group * self.config.lines as usize + row.line;
        let at = line * self.groups.positions() + row.first;
        at..at + self.groups.alive.len()
    }

    /// The taps that an index group executes, with their columns' distances.
    fn executed(&self, group: usize) -> impl Iterator<Item = (i64, &[Group])> {
        let taps = self.taps.chunks_exact(self.groups.alive.len());
        let columns = self.columns.iter().zip(taps).zip(&self.stored[group]);
        columns
            .filter(|(_, k)| **k)
            .map(|((&(_, dx), taps), _)| (dx, taps))
    }

    /// Lanes of a line step together: a step takes as long as its slowest lane.
    fn by_lines(&mut self, channels: Range<usize>) -> Block {
        let mut block = self.empty(channels);
        self.rows(&mut block, |walk, row, steps| {
            for group in 0..walk.shares.len() {
                let steps = &mut steps[walk.cell(group, row)];
                for (_, taps) in walk.executed(group) {
                    for ((sum, tap), &live) in steps.iter_mut().zip(taps).zip(&walk.live) {
                        *sum += if live { u32::from(tap.slowest) } else { 0 };
                    }
                }
            }
        });
        block
    }

    /// Lanes meet at the end of an interval: a line takes as long as the lane with the most to do.
    fn by_lanes(&mut self, channels: Range<usize>) -> Block {
        let mut block = self.empty(channels);
        let lanes = self.config.lanes as usize;
        let mut sums = vec![0u32; block.steps.len() * lanes];
        let mut costs = vec![0; self.costs.s.f];
        self.rows(&mut block, |walk, row, _| {
            for group in 0..walk.shares.len() {
                let cell = walk.cell(group, row);
                let sums = &mut sums[cell.start * lanes..cell.end * lanes];
                for (dx, _) in walk.executed(group) {
                    walk.costs.lanes(row.bytes, dx, &mut costs);
                    let all = sums.iter_mut().zip(&costs).enumerate();
                    let live = all.filter(|(x, _)| walk.live[x / lanes]);
                    live.for_each(|(_, (sum, &cost))| *sum += u32::from(cost));
                }
            }
        });
        for (step, sums) in block.steps.iter_mut().zip(sums.chunks_exact(lanes)) {
            *step = sums.iter().copied().max().unwrap_or(0);
        }
        block
    }

    /// All lines of all slices step together: their k-th executed steps take as long as the slowest of them.
    fn together(&mut self, channels: Range<usize>) -> Block {
        let mut block = self.empty(channels);
        // Of each position the slowest k-th step; of each line its steps so far.
        let mut slowest: Vec<Vec<u8>> = vec![Vec::new(); self.groups.positions()];
        let mut so_far = vec![0usize; block.steps.len()];
        self.rows(&mut block, |walk, row, _| {
            for group in 0..walk.shares.len() {
                let cell = walk.cell(group, row);
                for (_, taps) in walk.executed(group) {
                    for (g, tap) in taps.iter().enumerate().filter(|(g, _)| walk.live[*g]) {
                        let k = &mut so_far[cell.start + g];
                        let slowest = &mut slowest[row.first + g];
                        slowest.resize(slowest.len().max(*k + 1), 0);
                        slowest[*k] = slowest[*k].max(tap.slowest);
                        *k += 1;
                    }
                }
            }
        });
        for (step, slowest) in block.steps.iter_mut().zip(&slowest) {
            *step = slowest.iter().map(|&s| u32::from(s)).sum();
        }
        block
    }
}
