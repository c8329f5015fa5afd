//! Calls of the pooling kernels, and how their work is cut.

use super::nest::Ref;
use super::split::{self, MACS_PER_TASK, Split};
use sdc_ir::DType;
use sdc_ir::tile::{Affine, Bound, FuncBuilder, KernelCall, View};
use std::ops::Range;

/// What reading an element of a window costs, in multiply-accumulates of a kernel.
const COST: usize = 8;

/// Most tasks of one function.
const MOST: usize = 8;

/// Channels of a part are a multiple of this: whole vectors of every instruction set.
const CHANNELS: usize = 16;

/// Windows over channels-last data of two spatial dimensions.
pub struct Windows<'a> {
    pub kernel: &'a [usize],
    pub strides: &'a [usize],
    pub dilations: &'a [usize],
    /// Padding before rows and columns.
    pub pads: &'a [usize],
    pub what: What<'a>,
}

/// What is computed of each window.
#[derive(Clone, Copy)]
pub enum What<'a> {
    /// The largest element.
    Max,
    /// The mean, with padding that counts: before rows and columns, after rows and columns.
    Mean { counted: &'a [usize] },
}

impl Windows<'_> {
    /// Whether there is a kernel for these elements, from `x` to `y`.
    pub fn has_kernel(&self, dtype: DType, x: &Ref, y: &Ref) -> bool {
        let elements = match self.what {
            What::Max => matches!(dtype, DType::F32 | DType::U8 | DType::I8),
            What::Mean { .. } => dtype == DType::F32,
        };
        elements && x.strides[1] == 1 && y.strides[1] == 1
    }

    /// Emits output rows `rows` of all images: of `x` `[N, C, H, W]`, into `y`.
    pub fn emit(&self, b: &mut FuncBuilder, dtype: DType, x: &Ref, y: &Ref, rows: &Range<usize>) {
        let channels = x.shape[1];
        let taps: usize = self.kernel.iter().product();
        let elements = rows.len() * y.shape[3] * channels * taps;
        // A byte takes a fourth of the time of four.
        let split = cut(
            rows.len(),
            channels,
            COST * elements / (4 / dtype.size().clamp(1, 4)),
        );
        let part = channels / split.channel_parts;
        split::for_parts(b, x.shape[0], &split, rows, &mut |b, image, at, range| {
            let first = at * part as i64;
            b.kernel(self.call(dtype, x, y, &image, (&first, part), range));
        });
    }

    /// The call for some output rows of some channels of an image.
    fn call(
        &self,
        dtype: DType,
        x: &Ref,
        y: &Ref,
        image: &Affine,
        (first, channels): (&Affine, usize),
        range: Range<Bound>,
    ) -> KernelCall {
        let mut params: Vec<i64> = [x.shape[2], x.shape[3], channels, y.shape[3]]
            .map(|n| n as i64)
            .to_vec();
        for part in [self.kernel, self.strides, self.dilations, &self.pads[..2]] {
            params.extend(part.iter().map(|&n| n as i64));
        }
        params.extend([x.strides[2], x.strides[3], 0, y.strides[2], y.strides[3], 0]);
        let kernel = if dtype == DType::F32 {
            params.push(i64::from(matches!(self.what, What::Mean { .. })));
            match self.what {
                What::Max => params.extend([0; 4]),
                What::Mean { counted } => params.extend(counted.iter().map(|&n| n as i64)),
            }
            "pool2d_f32"
        } else {
            params.push(i64::from(dtype == DType::I8));
            "max_pool2d_i8"
        };
        let view = |r: &Ref| {
            Some(View {
                buffer: r.buffer,
                offset: image.clone() * r.strides[0] + first.clone() + r.offset,
            })
        };
        KernelCall {
            kernel: kernel.to_owned(),
            params,
            operands: vec![view(x), view(y)],
            begin: range.start,
            end: range.end,
        }
    }
}

/// Tasks of rows; where there are fewer rows than tasks that are worth it, of channels too.
fn cut(rows: usize, channels: usize, cost: usize) -> Split {
    let rows = rows.max(1);
    let wanted = (cost / MACS_PER_TASK).clamp(1, MOST);
    let per_part = rows.div_ceil(wanted);
    let row_parts = rows.div_ceil(per_part);
    let whole = |parts: &usize| channels.is_multiple_of(parts * CHANNELS);
    Split {
        rows: per_part,
        row_parts,
        channel_parts: (1..=wanted / row_parts).rev().find(whole).unwrap_or(1),
        rows_inside: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_are_cut_by_channels_into_whole_vectors() {
        let tasks = |rows, channels, cost| {
            let split = cut(rows, channels, cost * MACS_PER_TASK);
            assert!(split.rows * split.row_parts >= rows && split.rows * (split.row_parts - 1) < rows);
            assert_eq!(channels % split.channel_parts, 0);
            (split.row_parts, split.channel_parts)
        };
        assert_eq!(tasks(1, 2048, 5), (1, 4));
        assert_eq!(tasks(3, 96, 8), (3, 2));
        assert_eq!(tasks(56, 64, 100), (8, 1));
        // Neither is there work for two, nor can 24 channels be halved.
        assert_eq!(tasks(1, 2048, 1), (1, 1));
        assert_eq!(tasks(1, 24, 100), (1, 1));
    }
}
