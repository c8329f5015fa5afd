//! Calls of the pooling kernels.

use super::nest::Ref;
use super::split;
use sdc_ir::DType;
use sdc_ir::schedule::Tasks;
use sdc_ir::tile::{Affine, Bound, FuncBuilder, KernelCall, View};
use std::ops::Range;

/// What is pooled: images of so many output rows, columns and channels, and elements of a window.
#[derive(Clone, Copy, Debug)]
pub struct Pooling {
    pub images: usize,
    pub rows: usize,
    pub columns: usize,
    pub channels: usize,
    pub taps: usize,
}

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
    /// The kernel for these elements, from `x` to `y`, if there is one.
    pub fn kernel(&self, dtype: DType, x: &Ref, y: &Ref) -> Option<&'static str> {
        let kernel = match (self.what, dtype) {
            (_, DType::F32) => "pool2d_f32",
            (What::Max, DType::U8 | DType::I8) => "max_pool2d_i8",
            _ => return None,
        };
        (x.strides[1] == 1 && y.strides[1] == 1).then_some(kernel)
    }

    /// Emits output rows `rows` of all images: of `x` `[N, C, H, W]`, into `y`. The channels of a part are whole vectors.
    pub fn emit(
        &self,
        b: &mut FuncBuilder,
        dtype: DType,
        x: &Ref,
        y: &Ref,
        rows: &Range<usize>,
        tasks: Tasks,
    ) {
        let part = x.shape[1] / split::grid(tasks, rows.len()).channel_parts;
        split::for_parts(b, x.shape[0], tasks, rows, &mut |b, image, at, range| {
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
