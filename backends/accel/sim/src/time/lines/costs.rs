//! What a tap costs the lanes of a line.

use super::super::digits::{DIGITS, table};
use crate::exec::conv::{Strip, columns_inside};
use sdc_accel_isa::Config;

/// A strip's costs.
pub(super) struct Costs<'a> {
    pub s: &'a Strip,
    lanes: usize,
    /// What a step costs at least; 5 where lanes are not bit-serial.
    least: u8,
    bser: bool,
    /// Digits of each byte.
    table: [u8; 256],
}

/// The lanes of a line under a tap: what they cost, and what is in them.
#[derive(Clone, Copy, Default)]
pub(super) struct Group {
    /// The slowest lane.
    pub slowest: u8,
    /// All lanes together.
    pub digits: u16,
    /// Some activation is not zero.
    pub live: bool,
}

impl<'a> Costs<'a> {
    pub fn new(s: &'a Strip, config: &Config) -> Self {
        let bser = s.geom.bser && config.bser;
        Self {
            s,
            lanes: config.lanes as usize,
            least: if bser { 1 } else { DIGITS as u8 },
            bser,
            table: table(s.quant.xi8, s.quant.z),
        }
    }

    /// Columns of the strip whose activations lie in a row, and the bytes from the first of them on.
    fn inside<'r>(&self, row: Option<&'r [u8]>, dx: i64) -> Option<(std::ops::Range<usize>, &'r [u8])> {
        let row = row?;
        let (step, first) = (self.s.geom.ux as usize, self.s.first_column() + dx);
        let inside = columns_inside(first, step, self.s.f, row.len());
        let from = first + (inside.start * step) as i64;
        (!inside.is_empty()).then(|| (inside, &row[from as usize..]))
    }

    /// The cost of each lane of the row under a tap, `[f]`.
    pub fn lanes(&self, row: Option<&[u8]>, dx: i64, out: &mut [u8]) {
        out.fill(self.least);
        if let Some((inside, bytes)) = self.inside(row, dx).filter(|_| self.bser) {
            let bytes = bytes.iter().step_by(self.s.geom.ux as usize);
            let lanes = out[inside].iter_mut().zip(bytes);
            lanes.for_each(|(lane, &b)| *lane = self.table[usize::from(b)].max(1));
        }
    }

    /// The groups of the row under a tap.
    pub fn groups(&self, row: Option<&[u8]>, dx: i64, out: &mut [Group]) {
        for (g, group) in out.iter_mut().enumerate() {
            let alive = self.lanes.min(self.s.f - g * self.lanes);
            *group = Group {
                slowest: self.least,
                digits: if self.bser {
                    0
                } else {
                    alive as u16 * DIGITS as u16
                },
                live: false,
            };
        }
        let Some((inside, mut bytes)) = self.inside(row, dx) else {
            return;
        };
        let (step, mut x) = (self.s.geom.ux as usize, inside.start);
        while x < inside.end {
            let g = x / self.lanes;
            let count = (inside.end - x).min((g + 1) * self.lanes - x);
            let (mut slowest, mut digits) = (0, 0u16);
            for &b in bytes.iter().step_by(step).take(count) {
                let d = self.table[usize::from(b)];
                slowest = slowest.max(d);
                digits += u16::from(d);
            }
            let group = &mut out[g];
            group.live = digits > 0;
            if self.bser {
                group.slowest = group.slowest.max(slowest);
                group.digits = digits;
            }
            x += count;
            bytes = bytes.get(count * step..).unwrap_or_default();
        }
    }
}
