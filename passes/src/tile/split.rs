//! Emits the tasks of a cut by images, output rows and output channels.

use sdc_ir::schedule::{Grid, Tasks};
use sdc_ir::tile::{Affine, Bound, FuncBuilder};
use std::ops::Range;

/// What is emitted for an image, a part of the channels, and some rows.
pub type Body<'a> = dyn FnMut(&mut FuncBuilder, Affine, Affine, Range<Bound>) + 'a;

/// The cut of one image's rows and channels.
pub fn grid(tasks: Tasks, rows: usize) -> Grid {
    let whole = |channel_parts| Grid {
        rows,
        row_parts: 1,
        channel_parts,
        rows_inside: false,
    };
    match tasks {
        Tasks::Grid(grid) => grid,
        Tasks::Each { channels, .. } => whole(channels),
        Tasks::One | Tasks::AtMost(_) | Tasks::Every(_) => whole(1),
    }
}

/// Runs `body(image, channel part, rows)` for each image and part.
pub fn for_parts(b: &mut FuncBuilder, images: usize, tasks: Tasks, rows: &Range<usize>, body: &mut Body<'_>) {
    let whole = Bound::from(rows.start)..Bound::from(rows.end);
    match tasks {
        Tasks::Grid(grid) => for_grid(b, &grid, rows, &mut |b, part, range| {
            for_images(b, images, |b, image| body(b, image, part.clone(), range.clone()));
        }),
        Tasks::Each { rounds, channels } => for_each(b, images, rounds, |b, image| {
            if channels == 1 {
                body(b, image, 0.into(), whole.clone());
            } else {
                b.for_range(0, channels, 1, |b, c| body(b, image.clone(), c, whole.clone()));
            }
        }),
        Tasks::One | Tasks::AtMost(_) | Tasks::Every(_) => {
            for_images(b, images, |b, image| body(b, image, 0.into(), whole.clone()));
        }
    }
}

/// Images one after the other.
fn for_images(b: &mut FuncBuilder, images: usize, mut body: impl FnMut(&mut FuncBuilder, Affine)) {
    if images == 1 {
        body(b, 0.into());
    } else {
        b.for_range(0, images, 1, body);
    }
}

/// A task for every so many rounds of `count`.
pub fn for_each(
    b: &mut FuncBuilder,
    count: usize,
    rounds: usize,
    mut body: impl FnMut(&mut FuncBuilder, Affine),
) {
    if rounds == 1 {
        return b.parallel_for(count, body);
    }
    b.parallel_for(count.div_ceil(rounds), |b, task| {
        let first = task * rounds as i64;
        let end = Bound::of(vec![first.clone() + rounds, count.into()]);
        b.for_range(first, end, 1, |b, i| body(b, i));
    });
}

/// The parts of a grid, each a task.
fn for_grid(
    b: &mut FuncBuilder,
    grid: &Grid,
    rows: &Range<usize>,
    body: &mut dyn FnMut(&mut FuncBuilder, Affine, Range<Bound>),
) {
    let part = |row_part: Affine| {
        let lo = row_part * grid.rows as i64 + rows.start;
        let hi = Bound::of(vec![lo.clone() + grid.rows, rows.end.into()]);
        Bound::from(lo)..hi
    };
    let (row_parts, channel_parts) = (grid.row_parts, grid.channel_parts);
    if channel_parts == 1 {
        return b.parallel_for(row_parts, |b, r| body(b, 0.into(), part(r)));
    }
    if row_parts == 1 {
        let whole = Bound::from(rows.start)..Bound::from(rows.end);
        return b.parallel_for(channel_parts, |b, c| body(b, c, whole));
    }
    let (outer, inner) = if grid.rows_inside {
        (channel_parts, row_parts)
    } else {
        (row_parts, channel_parts)
    };
    // A quotient is not affine: of the outer loop all but one round are empty.
    b.parallel_for(outer * inner, |b, task| {
        b.for_range(0, outer, 1, |b, o| {
            let first = task.clone() + o.clone() * -(inner as i64);
            let lo = Bound::of(vec![0.into(), first.clone()]);
            let hi = Bound::of(vec![inner.into(), first + 1]);
            b.for_range(lo, hi, 1, |b, i| {
                let (r, c) = if grid.rows_inside { (i, o) } else { (o, i) };
                body(b, c, part(r));
            });
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdc_ir::DType;
    use sdc_ir::tile::{BufferData, BufferKind, Module};

    #[test]
    fn every_part_is_computed_in_either_order() {
        let (rows, channel_parts) = (1..6, 2);
        for rows_inside in [false, true] {
            let grid = Grid {
                rows: 2,
                row_parts: 3,
                channel_parts,
                rows_inside,
            };
            let mut module = Module::default();
            let out = module.buffers.push(BufferData {
                dtype: DType::I64,
                len: rows.len() * channel_parts,
                kind: BufferKind::Output(0),
                name: "out".to_owned(),
            });
            let mut b = FuncBuilder::new();
            for_parts(&mut b, 1, Tasks::Grid(grid), &rows, &mut |b, _, part, range| {
                b.for_range(range.start, range.end, 1, |b, row| {
                    let at = part.clone() * rows.len() as i64 + row + -1;
                    let value = b.affine(at.clone() + 100);
                    b.store(out, at, value);
                });
            });
            module.funcs.push(b.finish("f", Vec::new()));
            let outputs = sdc_interp::run_tile(&module, &[]).unwrap();
            let (values, _) = outputs[0].as_chunks();
            let values: Vec<i64> = values.iter().map(|v| i64::from_le_bytes(*v)).collect();
            assert_eq!(values, (100..110).collect::<Vec<i64>>());
        }
    }
}
