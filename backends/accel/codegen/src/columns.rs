//! Layers of which a bank of the input buffer does not hold even the rows of one window: they are cut by columns. Loads bring whole rows, so
//! the columns that a tile reads, those that its neighbours read too included, are copied to a map of their own first.

use crate::net::{Body, Layer, Map, Net, Operand, Pointwise, Target};
use std::ops::Range;

/// Cuts a layer into tiles of `columns` columns of its result. False if that makes nothing smaller, or the layer has no columns to cut.
pub fn cut(net: &mut Net, layer: usize, columns: usize) -> bool {
    let whole = net.layers[layer].clone();
    let width = whole.shape[2];
    let simple = match &whole.body {
        Body::Conv(c) => c.phases.len() == 1 && c.phase_step == [1, 1] && c.phases[0].tap_step == [1, 1],
        Body::Pool(..) => true,
        Body::Pointwise(..) => false,
    };
    if !simple || columns == 0 || columns >= width {
        return false;
    }
    let mut layers = Vec::new();
    for first in (0..width).step_by(columns) {
        tile(net, &whole, first..(first + columns).min(width), &mut layers);
    }
    net.layers.splice(layer..=layer, layers);
    true
}

/// The copy of what a tile reads, and the tile.
fn tile(net: &mut Net, whole: &Layer, out: Range<usize>, layers: &mut Vec<Layer>) {
    let operands = whole.operands();
    let x = operands[0].clone();
    let [c, h, w] = x.shape;
    let read = reads(&whole.body, &out, w);
    let map = net.maps.len();
    net.maps.push(Map {
        c,
        h,
        w: read.len(),
        ..Map::default()
    });
    let origin = whole.origin.clone();
    layers.push(Layer {
        origin,
        op: "copy",
        part: whole.part,
        shape: [c, h, read.len()],
        target: Target {
            map,
            coff: 0,
            start: [0, 0],
            step: [1, 1],
        },
        body: Body::Pointwise(Pointwise::Copy, vec![narrowed(&x, &read)]),
        chain: Vec::new(),
    });
    let mut part = whole.clone();
    part.shape[2] = out.len();
    part.target.start[1] += out.start * part.target.step[1];
    let own = Operand::whole(map, &net.maps[map]);
    match &mut part.body {
        Body::Conv(conv) => {
            let moved = read.start as i64 - (out.start * conv.strides[1]) as i64;
            conv.phases[0].before[1] += moved;
            conv.phases[0].size[1] = out.len();
            conv.x = own;
        }
        Body::Pool(pool, x) => {
            let window = &mut pool.window.x;
            window.before = (window.before + read.start).saturating_sub(out.start * window.stride);
            *x = Operand { fill: x.fill, ..own };
        }
        Body::Pointwise(..) => {}
    }
    for other in part.chain.iter_mut().filter_map(|link| link.other.as_mut()) {
        *other = narrowed(other, &out);
    }
    layers.push(part);
}

/// Columns of the input that columns `out` of the result need; one of them, if all lie in the padding.
fn reads(body: &Body, out: &Range<usize>, size: usize) -> Range<usize> {
    let (stride, before, reach) = match body {
        Body::Conv(c) => (
            c.strides[1],
            c.phases[0].before[1],
            (c.kernel[1] - 1) * c.dilations[1],
        ),
        Body::Pool(p, _) => {
            let x = p.window.x;
            (x.stride, x.before as i64, (x.kernel - 1) * x.dilation)
        }
        Body::Pointwise(..) => (1, 0, 0),
    };
    let at = |x: usize| (x * stride) as i64 - before;
    let first = at(out.start).clamp(0, size as i64 - 1) as usize;
    let end = (at(out.end - 1) + reach as i64 + 1).clamp(first as i64 + 1, size as i64) as usize;
    first..end
}

/// Some columns of an operand; one that is repeated over columns stays.
fn narrowed(x: &Operand, columns: &Range<usize>) -> Operand {
    let mut part = x.clone();
    part.shape[2] = columns.len();
    part.start[1] += columns.start * part.step[1];
    part
}
