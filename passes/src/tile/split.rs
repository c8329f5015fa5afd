//! How a layer's work is cut into tasks: by output rows, by output channels, or both.
//!
//! The cut depends on the layer alone, never on the number of threads, and every output element is computed the same way
//! whatever the cut, so results are the same bits for any number of threads.

use sdc_ir::tile::{Affine, Bound, FuncBuilder};
use std::ops::Range;

/// Multiply-accumulates that make a task worth its start: some ten microseconds.
pub const MACS_PER_TASK: usize = 1 << 19;

/// Most tasks of one function.
const MOST: usize = 16;

/// Numbers of threads a cut should suit; one counts as much as all others.
const THREADS: [usize; 3] = [2, 4, 8];

/// Pixels that kernels compute together.
const TILE: usize = 6;

/// What a convolution computes per image.
#[derive(Debug, Clone, Copy)]
pub struct Layer {
    /// Output rows and columns.
    pub rows: usize,
    pub columns: usize,
    /// Products summed per output element.
    pub reduction: usize,
    /// Output channels of a group, and groups.
    pub channels: usize,
    pub groups: usize,
    /// Channels per block of packed weights: parts are made of whole blocks.
    pub block: usize,
    /// Elements of the input of one image.
    pub input: usize,
    /// What each pixel takes besides in every part of the channels, in multiply-accumulates.
    pub entry: usize,
    /// Multiply-accumulates that make a task worth its start: [`MACS_PER_TASK`], or fewer where that was measured.
    pub per_task: usize,
}

/// A cut into `row_parts * channel_parts` tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Rows of all row parts but the last, which may have fewer.
    pub rows: usize,
    /// Parts along rows.
    pub row_parts: usize,
    /// Equal parts along channels.
    pub channel_parts: usize,
    /// Which tasks follow one another: the row parts of a channel part, which read the same weights, or the channel parts of a
    /// row part, which read the same input.
    pub rows_inside: bool,
}

impl Split {
    /// The cut with the least estimated time, over one thread and several.
    pub fn of(layer: &Layer) -> Split {
        let macs = layer.rows * layer.columns * layer.reduction * layer.channels * layer.groups;
        let most = (macs / layer.per_task).clamp(1, MOST);
        // Groups are a loop within each task.
        let blocks = if layer.groups == 1 && layer.channels.is_multiple_of(layer.block) {
            layer.channels / layer.block
        } else {
            1
        };
        let rows_inside = layer.reduction * layer.channels * layer.groups > layer.input;
        let mut best = Split {
            rows: layer.rows.max(1),
            row_parts: 1,
            channel_parts: 1,
            rows_inside,
        };
        let mut least = best.cost(layer);
        for channel_parts in (1..=blocks.min(most)).filter(|&n| blocks.is_multiple_of(n)) {
            for wanted in 1..=(most / channel_parts).min(layer.rows.max(1)) {
                let rows = layer.rows.div_ceil(wanted).max(1);
                let split = Split {
                    rows,
                    row_parts: layer.rows.div_ceil(rows).max(1),
                    channel_parts,
                    rows_inside,
                };
                let cost = split.cost(layer);
                if cost < least {
                    (best, least) = (split, cost);
                }
            }
        }
        best
    }

    /// Estimated time, in multiply-accumulates: the sum over thread counts of the busiest thread's, one thread weighing as
    /// much as the others together.
    fn cost(&self, layer: &Layer) -> usize {
        let weights = layer.reduction * layer.channels / self.channel_parts;
        // Streaming the weights takes as long as computing some pixels with them: more where they come from far.
        let stream = if weights * 4 > 1 << 20 { 12 } else { 4 };
        let pixels = (self.rows * layer.columns).next_multiple_of(TILE);
        // What a task takes besides: its start, and finding its pixels.
        const START: usize = 1 << 16;
        let task = (pixels + stream) * weights * layer.groups + pixels * layer.entry + START;
        let tasks = self.row_parts * self.channel_parts;
        let several: usize = THREADS.iter().map(|&t| t * task * tasks.div_ceil(t)).sum();
        several + task * tasks * THREADS.len()
    }
}

/// What is emitted for an image, a part of the channels, and some rows.
pub type Body<'a> = dyn FnMut(&mut FuncBuilder, Affine, Affine, Range<Bound>) + 'a;

/// Runs `body(image, channel part, rows)` for each image and part; a parallel loop over the images if there are several,
/// else over the parts if there are several.
pub fn for_parts(
    b: &mut FuncBuilder,
    images: usize,
    split: &Split,
    rows: &Range<usize>,
    body: &mut Body<'_>,
) {
    let whole = Bound::from(rows.start)..Bound::from(rows.end);
    let part = |row_part: Affine| {
        let lo = row_part * split.rows as i64 + rows.start;
        let hi = Bound::of(vec![lo.clone() + split.rows, rows.end.into()]);
        Bound::from(lo)..hi
    };
    let (row_parts, channel_parts) = (split.row_parts, split.channel_parts);
    if images > 1 {
        b.parallel_for(images, |b, image| {
            if channel_parts == 1 {
                body(b, image, 0.into(), whole);
            } else {
                b.for_range(0, channel_parts, 1, |b, c| {
                    body(b, image.clone(), c, whole.clone())
                });
            }
        });
    } else if row_parts == 1 && channel_parts == 1 {
        body(b, 0.into(), 0.into(), whole);
    } else if channel_parts == 1 {
        b.parallel_for(row_parts, |b, r| body(b, 0.into(), 0.into(), part(r)));
    } else if row_parts == 1 {
        b.parallel_for(channel_parts, |b, c| body(b, 0.into(), c, whole));
    } else {
        let (outer, inner) = if split.rows_inside {
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
                    let (r, c) = if split.rows_inside { (i, o) } else { (o, i) };
                    body(b, 0.into(), c, part(r));
                });
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdc_ir::DType;
    use sdc_ir::tile::{BufferData, BufferKind, Module};

    fn layer(rows: usize, columns: usize, reduction: usize, channels: usize) -> Layer {
        Layer {
            rows,
            columns,
            reduction,
            channels,
            groups: 1,
            block: 64,
            input: rows * columns * reduction,
            entry: 0,
            per_task: MACS_PER_TASK,
        }
    }

    /// Greatest number of parts' worth of work that one of `threads` threads gets, over the mean.
    fn imbalance(split: &Split, layer: &Layer, threads: usize) -> f64 {
        let tasks = split.row_parts * split.channel_parts;
        let busiest = tasks.div_ceil(threads) * split.rows * layer.channels / split.channel_parts;
        (busiest * threads) as f64 / (layer.rows * layer.channels) as f64
    }

    #[test]
    fn two_threads_share_every_layer_of_a_residual_network_evenly() {
        for (size, reduction, channels) in [
            (56, 64, 64),
            (56, 576, 64),
            (28, 1152, 128),
            (28, 128, 512),
            (14, 2304, 256),
            (14, 1024, 256),
            (7, 4608, 512),
            (7, 512, 2048),
        ] {
            let layer = layer(size, size, reduction, channels);
            let split = Split::of(&layer);
            assert!(imbalance(&split, &layer, 2) < 1.1, "{layer:?}: {split:?}");
        }
    }

    #[test]
    fn small_layers_stay_whole_and_parts_are_whole_blocks() {
        let small = Split::of(&layer(7, 7, 64, 64));
        assert_eq!((small.row_parts, small.channel_parts), (1, 1));
        let ragged = Split::of(&layer(7, 7, 4608, 500));
        assert_eq!(ragged.channel_parts, 1);
        let grouped = Layer {
            groups: 4,
            ..layer(14, 14, 576, 128)
        };
        assert_eq!(Split::of(&grouped).channel_parts, 1);
    }

    #[test]
    fn all_parts_are_within_the_layer() {
        for rows in 1..40 {
            let layer = layer(rows, 17, 300, 256);
            let split = Split::of(&layer);
            assert!(split.rows * split.row_parts >= rows, "{split:?}");
            assert!(split.rows * (split.row_parts - 1) < rows, "{split:?}");
            assert!(256 % split.channel_parts == 0 && (256 / split.channel_parts).is_multiple_of(64));
        }
    }

    #[test]
    fn every_part_is_computed_in_either_order() {
        let (rows, channel_parts) = (1..6, 2);
        for rows_inside in [false, true] {
            let split = Split {
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
            for_parts(&mut b, 1, &split, &rows, &mut |b, _, part, range| {
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
