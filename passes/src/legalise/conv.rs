//! Convolutions: over one spatial dimension, over three or more, dilated and of other types than f32.

use super::{Emitter, Legal, dropped, extent, lift, lift_list};
use sdc_ir::DType;
use sdc_ir::graph::op::{Activation, Conv, Pad, PadMode, Slice};
use sdc_ir::graph::{BinaryOp, Emit, Op, Value};

/// The kernels dilate filters of f32; others get zeros between their elements.
pub fn dilated(c: &mut Emitter<'_, '_>, op: &Op, inputs: &[Value]) -> Option<Legal> {
    let (Op::Conv(op), [x, w, rest @ ..]) = (op, inputs) else {
        return None;
    };
    let plain = c.dtype(*x) == DType::F32;
    if plain || op.dilations.iter().all(|&d| d == 1) {
        return None;
    }
    let dense = Conv {
        dilations: vec![1; op.dilations.len()],
        ..op.clone()
    };
    let mut w = Ok(*w);
    for (i, &dilation) in op.dilations.iter().enumerate() {
        w = w.and_then(|w| spread(c, w, 2 + i, dilation));
    }
    Some(w.and_then(|w| c.emit(dense, &[&[*x, w], rest].concat())))
}

/// Over `[N,C,W]`: as over `[N,C,1,W]`.
pub fn one_dimensional(c: &mut Emitter<'_, '_>, op: &Op, inputs: &[Value]) -> Option<Legal> {
    let Op::Conv(op) = op else { return None };
    (op.strides.len() == 1).then(|| {
        let flat = Conv {
            strides: lift_list(&op.strides, 1),
            dilations: lift_list(&op.dilations, 1),
            pads: lift_list(&op.pads, 0),
            ..op.clone()
        };
        let mut operands = inputs.to_vec();
        for v in &mut operands {
            if c.rank(*v) == 3 {
                *v = lift(c, *v)?;
            }
        }
        let y = c.emit(flat, &operands)?;
        dropped(c, y)
    })
}

/// Over three spatial dimensions or more: for each plane of the filter a convolution over one less, with the first dimension among
/// the images; their sum.
pub fn planes(c: &mut Emitter<'_, '_>, op: &Op, inputs: &[Value]) -> Option<Legal> {
    let Op::Conv(op) = op else { return None };
    (op.strides.len() > 2).then(|| {
        let mut rest = inputs[2..].iter().copied();
        let bias = if op.bias { rest.next() } else { None };
        let mut y = sum_of_planes(c, op, inputs[0], inputs[1], bias)?;
        if let Some(residual) = rest.next() {
            y = c.binary(BinaryOp::Add, y, residual)?;
        }
        match op.act.op() {
            Some(act) => c.emit(act, &[y]),
            None => Ok(y),
        }
    })
}

fn sum_of_planes(c: &mut Emitter<'_, '_>, op: &Conv, x: Value, w: Value, bias: Option<Value>) -> Legal {
    let spatial = op.strides.len();
    let (mut before, mut after) = (vec![0; spatial + 2], vec![0; spatial + 2]);
    (before[2], after[2]) = (op.pads[0], op.pads[spatial]);
    let x = bordered(c, x, before, after)?;
    let (image, filter) = (c.shape(x), c.shape(w));
    let (batch, planes) = (image[0], filter[2]);
    let steps = (image[2] - extent(planes, op.dilations[0])) / op.strides[0] + 1;
    let stride = i64::try_from(op.strides[0]).map_err(|_| "the stride is too large")?;
    let mut perm: Vec<usize> = (0..spatial + 2).collect();
    perm.swap(1, 2);
    let flat = Conv {
        strides: op.strides[1..].to_vec(),
        pads: [&op.pads[1..spatial], &op.pads[spatial + 1..]].concat(),
        dilations: op.dilations[1..].to_vec(),
        group: op.group,
        bias: false,
        residual: false,
        act: Activation::None,
    };
    let mut sum = None;
    for plane in 0..planes {
        let (mut starts, mut sizes) = (vec![0; spatial + 2], image.clone());
        (starts[2], sizes[2]) = (plane * op.dilations[0], steps);
        let mut strides = vec![1; spatial + 2];
        strides[2] = stride;
        let slice = Slice {
            starts,
            sizes,
            steps: strides,
        };
        let images = c.emit(slice, &[x])?;
        let images = c.transpose(images, perm.clone())?;
        let images = c.reshape(images, [&[batch * steps, image[1]], &image[3..]].concat())?;
        let part = c.narrow(w, 2, plane, plane + 1)?;
        let part = c.reshape(part, [&filter[..2], &filter[3..]].concat())?;
        // The bias once.
        let bias = bias.filter(|_| plane == 0);
        let flat = Conv {
            bias: bias.is_some(),
            ..flat.clone()
        };
        let given: Vec<Value> = [images, part].into_iter().chain(bias).collect();
        let y = c.emit(flat, &given)?;
        sum = Some(match sum {
            None => y,
            Some(sum) => c.binary(BinaryOp::Add, sum, y)?,
        });
    }
    let y = sum.ok_or("the filter is empty")?;
    let sizes = c.shape(y);
    let y = c.reshape(y, [&[batch, steps], &sizes[1..]].concat())?;
    c.transpose(y, perm)
}

/// A border of zeros.
fn bordered(c: &mut Emitter<'_, '_>, x: Value, before: Vec<usize>, after: Vec<usize>) -> Legal {
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

/// `stride - 1` zeros between elements along a dimension.
pub fn spread(c: &mut Emitter<'_, '_>, x: Value, axis: usize, stride: usize) -> Legal {
    let mut shape = c.shape(x);
    if stride == 1 || shape[axis] == 0 {
        return Ok(x);
    }
    let last = (shape[axis] - 1)
        .checked_mul(stride)
        .and_then(|last| last.checked_add(stride).map(|_| last))
        .ok_or("the strides are too large")?;
    let mut apart = shape.clone();
    apart.insert(axis + 1, 1);
    let x = c.reshape(x, apart.clone())?;
    let mut after = vec![0; apart.len()];
    after[axis + 1] = stride - 1;
    let x = bordered(c, x, vec![0; apart.len()], after)?;
    shape[axis] = last + stride;
    let x = c.reshape(x, shape)?;
    c.narrow(x, axis, 0, last + 1)
}
