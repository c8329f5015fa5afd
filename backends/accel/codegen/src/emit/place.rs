//! Which bytes of the input buffer and of DRAM an instruction touches.

use crate::net::{MapId, Net};
use crate::tokens::{Access, Space};
use sdc_accel_isa::View;
use std::ops::Range;

/// Rows of channels of a view, channels counted with its offset; what lies outside is not touched.
pub fn view(view: &View, lines: u32, channels: Range<usize>, rows: Range<usize>, write: bool) -> Vec<Access> {
    let end = channels.end.min(view.chans as usize);
    if channels.start >= end {
        return Vec::new();
    }
    let groups = channels.start / lines as usize..end.div_ceil(lines as usize);
    let rows = rows.start as u32..(rows.end as u32).min(view.rows);
    let of = |group: usize| {
        let from = view.base + group as u32 * view.rows * view.pitch;
        from + rows.start * view.pitch..from + rows.end * view.pitch
    };
    let access = |group: usize| Access {
        space: Space::Ib(view.half),
        range: of(group),
        write,
    };
    groups.map(access).collect()
}

/// Channels that DRAM accesses are told apart by.
const GROUP: usize = 16;

/// Rows of channels of a map in DRAM.
pub fn map(net: &Net, map: MapId, channels: Range<usize>, rows: Range<usize>, write: bool) -> Vec<Access> {
    let root = net.root(map);
    let space = Space::Map(root);
    let aliased = net.maps.iter().any(|m| m.alias == Some(root)) || root != map;
    if aliased {
        // Rows of one shape are not rows of the other.
        return vec![Access {
            space,
            range: 0..1,
            write,
        }];
    }
    let h = net.maps[map].h;
    let groups = channels.start / GROUP..channels.end.div_ceil(GROUP);
    let of = |group: usize| Access {
        space,
        range: (group * h + rows.start) as u32..(group * h + rows.end) as u32,
        write,
    };
    groups.map(of).collect()
}
