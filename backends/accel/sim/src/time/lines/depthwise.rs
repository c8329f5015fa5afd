//! The lines in a `dwcv`: each slice has a channel of its own.

use super::costs::{Costs, Group};
use super::{Groups, Work};
use crate::exec::conv::Strip;
use crate::memory::Memory;
use sdc_accel_isa::{Config, Sync};

/// Steps of the busiest line for each position, over all channels: with `dwmap` the rows of a kernel go to lines of their own.
pub(crate) fn depthwise(s: &Strip, memory: &Memory, config: &Config) -> (Vec<u64>, Work) {
    let groups = Groups::of(s, config.lanes as usize);
    let count = groups.alive.len();
    let lines = if s.geom.dwmap { config.lines as usize } else { 1 };
    let mut walk = Walk {
        costs: Costs::new(s, config),
        config,
        lanes: config.lanes as usize,
        columns: s.columns().map(|(_, dx)| dx).collect(),
        work: Work::default(),
        taps: vec![Group::default(); count],
        sums: vec![0; lines * count],
        ordinal: vec![0; lines],
        cost: vec![0; s.f],
        by_lane: vec![0; s.f],
    };
    let mut busiest = vec![0u64; groups.positions()];
    // By array policy: the slowest k-th step of all lines and channels.
    let mut together: Vec<Vec<u8>> = vec![Vec::new(); groups.positions()];
    for channel in 0..s.m {
        for y in 0..s.e {
            let positions = y * count..(y + 1) * count;
            walk.sums.fill(0);
            walk.ordinal.fill(0);
            for (i, (_, dy)) in s.rows().enumerate() {
                let row = memory.row(&s.view, s.c0 + channel as i64, s.row_of(y) + dy);
                walk.row(row, i % lines, &mut together[positions.clone()]);
            }
            for sums in walk.sums.chunks_exact(count) {
                let busiest = busiest[positions.clone()].iter_mut();
                busiest.zip(sums).for_each(|(most, &sum)| *most = sum.max(*most));
            }
        }
    }
    if config.sync == Sync::Array {
        let sum = |steps: &Vec<u8>| steps.iter().map(|&s| u64::from(s)).sum();
        busiest = together.iter().map(sum).collect();
    }
    walk.work.executed = walk.work.asked;
    (busiest, walk.work)
}

struct Walk<'a> {
    costs: Costs<'a>,
    config: &'a Config,
    lanes: usize,
    /// Distances of the kernel columns.
    columns: Vec<i64>,
    work: Work,
    taps: Vec<Group>,
    /// Steps so far, `[lines][groups]`.
    sums: Vec<u64>,
    /// Steps so far of each line.
    ordinal: Vec<usize>,
    cost: Vec<u8>,
    by_lane: Vec<u32>,
}

impl Walk<'_> {
    /// A kernel row over a row of results.
    fn row(&mut self, bytes: Option<&[u8]>, line: usize, together: &mut [Vec<u8>]) {
        let count = self.taps.len();
        let sums = &mut self.sums[line * count..(line + 1) * count];
        self.by_lane.fill(0);
        for &dx in &self.columns {
            self.costs.groups(bytes, dx, &mut self.taps);
            self.work.digits += self.taps.iter().map(|t| u64::from(t.digits)).sum::<u64>();
            self.work.asked += self.costs.s.f as u64;
            self.work.line_steps += count as u64;
            match self.config.sync {
                Sync::Line => sums
                    .iter_mut()
                    .zip(&self.taps)
                    .for_each(|(sum, t)| *sum += u64::from(t.slowest)),
                Sync::Lane => {
                    self.costs.lanes(bytes, dx, &mut self.cost);
                    let lanes = self.by_lane.iter_mut().zip(&self.cost);
                    lanes.for_each(|(sum, &c)| *sum += u32::from(c));
                }
                Sync::Array => {
                    let k = self.ordinal[line];
                    for (steps, tap) in together.iter_mut().zip(&self.taps) {
                        steps.resize(steps.len().max(k + 1), 0);
                        steps[k] = steps[k].max(tap.slowest);
                    }
                    self.ordinal[line] += 1;
                }
            }
        }
        if self.config.sync == Sync::Lane {
            for (sum, lanes) in sums.iter_mut().zip(self.by_lane.chunks(self.lanes)) {
                *sum += u64::from(lanes.iter().copied().max().unwrap_or(0));
            }
        }
    }
}
