//! Cutting results into strips, and rows into ranges that one view serves.

use sdc_accel_isa::Config;
use std::ops::Range;

/// Part of a result that one instruction computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strip {
    /// First row.
    pub y: usize,
    /// First column.
    pub x: usize,
    /// Rows.
    pub e: usize,
    /// Columns.
    pub f: usize,
}

/// Most rows and columns that an instruction's fields hold.
const MOST: (usize, usize) = (128, 256);

/// The strips of rows `rows` of a result of `m` filters and `columns` columns: whole rows if they fit a slot (and ACC, where sums are kept or
/// weights come in several blocks), else parts of a row in multiples of the lanes.
pub fn strips(config: &Config, m: usize, rows: Range<usize>, columns: usize, sums: bool) -> Vec<Strip> {
    let (lanes, acc) = (config.lanes as usize, config.acc_pixels as usize);
    let room = config.ob_slot as usize / m;
    let pixels = columns.next_multiple_of(lanes);
    if columns <= room.min(MOST.1) && (!sums || pixels <= acc) {
        let most = (room / columns).min(MOST.0);
        let most = if sums { most.min(acc / pixels) } else { most };
        let starts = rows.clone().step_by(most);
        return starts
            .map(|y| Strip {
                y,
                x: 0,
                e: most.min(rows.end - y),
                f: columns,
            })
            .collect();
    }
    let width = if sums { room.min(acc) } else { room }.min(MOST.1) / lanes * lanes;
    let width = width.max(lanes);
    let along = |y: usize| {
        (0..columns).step_by(width).map(move |x| Strip {
            y,
            x,
            e: 1,
            f: width.min(columns - x),
        })
    };
    rows.flat_map(along).collect()
}

/// Consecutive runs of equal keys.
pub fn runs<K: PartialEq>(rows: Range<usize>, key: impl Fn(usize) -> K) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for y in rows {
        match runs.last_mut() {
            Some(run) if key(run.start) == key(y) => run.end = y + 1,
            _ => runs.push(y..y + 1),
        }
    }
    runs
}
