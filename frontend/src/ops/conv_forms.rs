//! Convolutions that the kernels do not know, made of those they know: in three dimensions, and transposed with weights that are
//! computed.

use super::conv::emit_conv;
use super::index::narrow;
use super::window::extent;
use crate::ctx::{Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::op::{Activation, Conv, Pad, PadMode, Slice};
use sdc_ir::graph::{BinaryOp, Value};

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadOperands, text)
}

/// A border of zeros.
fn bordered(c: &mut NodeCtx, x: Value, before: Vec<usize>, after: Vec<usize>) -> Lowered {
    if before.iter().chain(&after).all(|&n| n == 0) {
        return Ok(x);
    }
    let op = Pad {
        mode: PadMode::Constant,
        before,
        after,
        value: 0.0,
    };
    c.emit(op, &[x])
}

/// A convolution in three dimensions: for each plane of the filter one in two, with the depth among the images; their sum.
pub(super) fn conv3d(c: &mut NodeCtx, op: Conv, operands: &[Value]) -> Lowered {
    let (&[x, w], bias) = (&operands[..2], operands.get(2)) else {
        return Err(bad("a convolution needs an input and a filter"));
    };
    let (mut before, mut after) = (vec![0; 5], vec![0; 5]);
    (before[2], after[2]) = (op.pads[0], op.pads[3]);
    let x = bordered(c, x, before, after)?;
    let (&[batch, channels, depth, rows, columns], &[filters, part, planes, kh, kw]) =
        (&c.shape(x)[..], &c.shape(w)[..])
    else {
        return Err(bad("the input and the filter need five dimensions"));
    };
    let span = extent(planes, op.dilations[0])?;
    let steps = depth
        .checked_sub(span)
        .map(|free| free / op.strides[0] + 1)
        .ok_or_else(|| bad("the filter is larger than the input"))?;
    let mut sum = None;
    for plane in 0..planes {
        let mut starts = vec![0; 5];
        starts[2] = plane * op.dilations[0];
        let mut strides = vec![1; 5];
        strides[2] = i64::try_from(op.strides[0]).map_err(|_| bad("the stride is too large"))?;
        let slice = Slice {
            starts,
            sizes: vec![batch, channels, steps, rows, columns],
            steps: strides,
        };
        let images = c.emit(slice, &[x])?;
        let images = c.transpose(images, vec![0, 2, 1, 3, 4])?;
        let images = c.reshape(images, vec![batch * steps, channels, rows, columns])?;
        let filter = narrow(c, w, 2, plane, plane + 1)?;
        let mut given = vec![images, c.reshape(filter, vec![filters, part, kh, kw])?];
        // The bias once.
        let biased = plane == 0 && op.bias;
        given.extend(bias.filter(|_| biased));
        let flat = Conv {
            strides: op.strides[1..].to_vec(),
            pads: [&op.pads[1..3], &op.pads[4..6]].concat(),
            dilations: op.dilations[1..].to_vec(),
            group: op.group,
            bias: biased,
            residual: false,
            act: Activation::None,
        };
        let y = c.emit(flat, &given)?;
        sum = Some(match sum {
            None => y,
            Some(sum) => c.binary(BinaryOp::Add, sum, y)?,
        });
    }
    let y = sum.ok_or_else(|| bad("the filter is empty"))?;
    let &[_, _, h, w] = &c.shape(y)[..] else {
        return Err(bad("the result needs four dimensions"));
    };
    let y = c.reshape(y, vec![batch, steps, filters, h, w])?;
    c.transpose(y, vec![0, 2, 1, 3, 4])
}

/// `stride - 1` zeros between elements along a dimension.
pub(super) fn spread(c: &mut NodeCtx, x: Value, axis: usize, stride: usize) -> Lowered {
    let mut shape = c.shape(x);
    if stride == 1 || shape[axis] == 0 {
        return Ok(x);
    }
    let last = (shape[axis] - 1)
        .checked_mul(stride)
        .ok_or_else(|| bad("the strides are too large"))?;
    let mut apart = shape.clone();
    apart.insert(axis + 1, 1);
    let x = c.reshape(x, apart.clone())?;
    let mut after = vec![0; apart.len()];
    after[axis + 1] = stride - 1;
    let x = bordered(c, x, vec![0; apart.len()], after)?;
    shape[axis] = last + stride;
    let x = c.reshape(x, shape)?;
    narrow(c, x, axis, 0, last + 1)
}

/// A transposed convolution as a plain one: of the input with zeros between its elements, by the filter mirrored.
pub(super) struct Spread {
    pub strides: Vec<usize>,
    pub dilations: Vec<usize>,
    /// All begins, then all ends.
    pub crops: Vec<i64>,
    pub output_padding: Vec<usize>,
    pub group: usize,
}

impl Spread {
    pub fn conv(self, c: &mut NodeCtx, x: Value, w: Value, bias: Option<Value>) -> Lowered {
        let spatial = self.strides.len();
        let mut x = x;
        for i in 0..spatial {
            x = spread(c, x, 2 + i, self.strides[i])?;
        }
        let w = self.mirrored(c, w)?;
        // What the plain convolution has for padding; where it is negative, a cut.
        let kernel = c.shape(w)[2..].to_vec();
        let mut pads = vec![0; 2 * spatial];
        let (mut starts, mut sizes) = (vec![0; spatial + 2], c.shape(x));
        for i in 0..spatial {
            let reach = extent(kernel[i], self.dilations[i])? - 1;
            let signed = |n: usize| i64::try_from(n).map_err(|_| bad("the window is too large"));
            let extra = [0, signed(self.output_padding[i])?];
            for (side, extra) in extra.into_iter().enumerate() {
                let crop = self.crops[side * spatial + i];
                let pad = signed(reach)?
                    .checked_sub(crop)
                    .and_then(|p| p.checked_add(extra))
                    .ok_or_else(|| bad("the padding is too large"))?;
                pads[side * spatial + i] = usize::try_from(pad).unwrap_or(0);
                let cut = usize::try_from(pad.saturating_neg()).unwrap_or(0);
                sizes[2 + i] = sizes[2 + i]
                    .checked_sub(cut)
                    .ok_or_else(|| bad("the crops leave nothing"))?;
                if side == 0 {
                    starts[2 + i] = cut;
                }
            }
        }
        if sizes != c.shape(x) {
            let steps = vec![1; spatial + 2];
            x = c.emit(Slice { starts, sizes, steps }, &[x])?;
        }
        let op = Conv {
            strides: vec![1; spatial],
            pads,
            dilations: self.dilations,
            group: self.group,
            bias: bias.is_some(),
            residual: false,
            act: Activation::None,
        };
        let operands = [x, w].into_iter().chain(bias).collect();
        emit_conv(c, op, operands)
    }

    /// The filter `[C,M/group,k..]` as `[M,C/group,k..]`, every spatial dimension backwards.
    fn mirrored(&self, c: &mut NodeCtx, w: Value) -> Lowered {
        let shape = c.shape(w);
        let (channels, part, kernel) = (shape[0], shape[1], &shape[2..]);
        if channels % self.group != 0 {
            return Err(bad(format!(
                "{} groups do not divide {channels} channels",
                self.group
            )));
        }
        let grouped = [&[self.group, channels / self.group, part], kernel].concat();
        let w = c.reshape(w, grouped.clone())?;
        let mut perm: Vec<usize> = (0..grouped.len()).collect();
        perm.swap(1, 2);
        let w = c.transpose(w, perm)?;
        let filters = self
            .group
            .checked_mul(part)
            .ok_or_else(|| bad("too many filters"))?;
        let w = c.reshape(w, [&[filters, channels / self.group], kernel].concat())?;
        let sizes = c.shape(w);
        let mut starts = vec![0; sizes.len()];
        let mut steps = vec![1; sizes.len()];
        for d in 2..sizes.len() {
            (starts[d], steps[d]) = (sizes[d].saturating_sub(1), -1);
        }
        c.emit(Slice { starts, sizes, steps }, &[w])
    }
}
