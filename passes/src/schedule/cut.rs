//! How a layer's work is cut into tasks: by output rows, by output channels, or both.

use sdc_ir::schedule::{Grid, Tasks};
use std::ops::Range;

/// Multiply-accumulates that make a task worth its start: some ten microseconds.
pub const MACS_PER_TASK: usize = 1 << 19;

/// Most tasks of one function.
pub const MOST: usize = 16;

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

impl Layer {
    /// The cut with the least estimated time, over one thread and several.
    pub fn grid(&self) -> Grid {
        let macs = self.rows * self.columns * self.reduction * self.channels * self.groups;
        let most = (macs / self.per_task).clamp(1, MOST);
        // Groups are a loop within each task.
        let blocks = if self.groups == 1 && self.channels.is_multiple_of(self.block) {
            self.channels / self.block
        } else {
            1
        };
        let rows_inside = self.reduction * self.channels * self.groups > self.input;
        let mut best = Grid {
            rows: self.rows.max(1),
            row_parts: 1,
            channel_parts: 1,
            rows_inside,
        };
        let mut least = self.cost(&best);
        for channel_parts in (1..=blocks.min(most)).filter(|&n| blocks.is_multiple_of(n)) {
            for wanted in 1..=(most / channel_parts).min(self.rows.max(1)) {
                let rows = self.rows.div_ceil(wanted).max(1);
                let grid = Grid {
                    rows,
                    row_parts: self.rows.div_ceil(rows).max(1),
                    channel_parts,
                    rows_inside,
                };
                let cost = self.cost(&grid);
                if cost < least {
                    (best, least) = (grid, cost);
                }
            }
        }
        best
    }

    /// Estimated time, in multiply-accumulates: the sum over thread counts of the busiest thread's, one thread weighing as
    /// much as the others together.
    fn cost(&self, grid: &Grid) -> usize {
        let weights = self.reduction * self.channels / grid.channel_parts;
        // Streaming the weights takes as long as computing some pixels with them: more where they come from far.
        let stream = if weights * 4 > 1 << 20 { 12 } else { 4 };
        let pixels = (grid.rows * self.columns).next_multiple_of(TILE);
        // What a task takes besides: its start, and finding its pixels.
        const START: usize = 1 << 16;
        let task = (pixels + stream) * weights * self.groups + pixels * self.entry + START;
        let tasks = grid.row_parts * grid.channel_parts;
        let several: usize = THREADS.iter().map(|&t| t * task * tasks.div_ceil(t)).sum();
        several + task * tasks * THREADS.len()
    }
}

/// A cut of one image; with several images, those are the tasks.
pub fn tasks(images: usize, grid: Grid) -> Tasks {
    let channels = grid.channel_parts;
    if images > 1 {
        Tasks::Each { rounds: 1, channels }
    } else if grid.row_parts == 1 && channels == 1 {
        Tasks::One
    } else {
        Tasks::Grid(grid)
    }
}

/// Rows worth computing at the same time, given the multiply-accumulates of all.
pub fn by_rows(images: usize, rows: &Range<usize>, macs: usize) -> Tasks {
    const MOST_ROWS: usize = 8;
    let count = (macs / MACS_PER_TASK).clamp(1, MOST_ROWS).min(rows.len().max(1));
    let per_part = rows.len().div_ceil(count).max(1);
    tasks(
        images,
        Grid {
            rows: per_part,
            row_parts: rows.len().div_ceil(per_part),
            channel_parts: 1,
            rows_inside: false,
        },
    )
}

/// Fewest elements worth a task of their own.
const PIECE: usize = 16 * 1024;

/// Pieces of a nest of loops over `elements` elements, if a round of its body is worth `work` of them.
pub fn pieces(elements: usize, work: usize) -> Tasks {
    match (elements.saturating_mul(work) / PIECE).min(MOST) {
        0 | 1 => Tasks::One,
        n => Tasks::AtMost(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn imbalance(grid: &Grid, layer: &Layer, threads: usize) -> f64 {
        let tasks = grid.row_parts * grid.channel_parts;
        let busiest = tasks.div_ceil(threads) * grid.rows * layer.channels / grid.channel_parts;
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
            let split = layer.grid();
            assert!(imbalance(&split, &layer, 2) < 1.1, "{layer:?}: {split:?}");
        }
    }

    #[test]
    fn small_layers_stay_whole_and_parts_are_whole_blocks() {
        let small = layer(7, 7, 64, 64).grid();
        assert_eq!((small.row_parts, small.channel_parts), (1, 1));
        let ragged = layer(7, 7, 4608, 500).grid();
        assert_eq!(ragged.channel_parts, 1);
        let grouped = Layer {
            groups: 4,
            ..layer(14, 14, 576, 128)
        };
        assert_eq!(grouped.grid().channel_parts, 1);
    }

    #[test]
    fn all_parts_are_within_the_layer() {
        for rows in 1..40 {
            let layer = layer(rows, 17, 300, 256);
            let split = layer.grid();
            assert!(split.rows * split.row_parts >= rows, "{split:?}");
            assert!(split.rows * (split.row_parts - 1) < rows, "{split:?}");
            assert!(256 % split.channel_parts == 0 && (256 / split.channel_parts).is_multiple_of(64));
        }
    }
}
