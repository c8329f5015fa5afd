//! Transposed convolutions.

use super::conv::spread as apart;
use super::{Emitter, Legal, dropped, extent, lift, lift_list};
use sdc_ir::DType;
use sdc_ir::graph::op::{Conv, ConvTranspose, Slice};
use sdc_ir::graph::{Emit, Op, Value};

/// Over `[N,C,W]`: as over `[N,C,1,W]`.
pub fn one_dimensional(c: &mut Emitter<'_, '_>, op: &Op, inputs: &[Value]) -> Option<Legal> {
    let Op::ConvTranspose(op) = op else { return None };
    let lifted = op.strides.len() == 1 && !needs_spreading(c, op, inputs);
    lifted.then(|| {
        let flat = ConvTranspose {
            strides: lift_list(&op.strides, 1),
            dilations: lift_list(&op.dilations, 1),
            pads: lift_list(&op.pads, 0),
            output_padding: lift_list(&op.output_padding, 0),
            ..op.clone()
        };
        let mut operands = inputs.to_vec();
        for v in &mut operands[..2] {
            *v = lift(c, *v)?;
        }
        let y = c.emit(flat, &operands)?;
        dropped(c, y)
    })
}

/// The kernels transpose filters of f32, of up to two spatial dimensions.
fn needs_spreading(c: &Emitter<'_, '_>, op: &ConvTranspose, inputs: &[Value]) -> bool {
    op.strides.len() > 2 || c.dtype(inputs[0]) == DType::F64
}

/// As a plain convolution: of the input with zeros between its elements, by the filter mirrored.
pub fn spread(c: &mut Emitter<'_, '_>, op: &Op, inputs: &[Value]) -> Option<Legal> {
    let Op::ConvTranspose(op) = op else { return None };
    needs_spreading(c, op, inputs).then(|| {
        let (mut x, spatial) = (inputs[0], op.strides.len());
        for i in 0..spatial {
            x = apart(c, x, 2 + i, op.strides[i])?;
        }
        let w = mirrored(c, inputs[1], op.group)?;
        let kernel = c.shape(w)[2..].to_vec();
        let mut pads = vec![0; 2 * spatial];
        let (mut starts, mut sizes) = (vec![0; spatial + 2], c.shape(x));
        for i in 0..spatial {
            let reach = extent(kernel[i], op.dilations[i]) - 1;
            for (side, extra) in [0, op.output_padding[i]].into_iter().enumerate() {
                // What the plain convolution has for padding; where it is negative, a cut.
                let pad = reach as i128 + extra as i128 - i128::from(op.pads[side * spatial + i]);
                let magnitude =
                    usize::try_from(pad.unsigned_abs()).map_err(|_| "the padding is too large")?;
                if pad >= 0 {
                    pads[side * spatial + i] = magnitude;
                    continue;
                }
                sizes[2 + i] = sizes[2 + i]
                    .checked_sub(magnitude)
                    .ok_or("the crops leave nothing of the input")?;
                if side == 0 {
                    starts[2 + i] = magnitude;
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
            dilations: op.dilations.clone(),
            group: op.group,
            bias: op.bias,
            residual: false,
            act: op.act,
        };
        c.emit(op, &[&[x, w], &inputs[2..]].concat())
    })
}

/// The filter `[C,M/group,k..]` as `[M,C/group,k..]`, every spatial dimension backwards.
fn mirrored(c: &mut Emitter<'_, '_>, w: Value, group: usize) -> Legal {
    let shape = c.shape(w);
    let (channels, part, kernel) = (shape[0], shape[1], &shape[2..]);
    let grouped = [&[group, channels / group, part], kernel].concat();
    let w = c.reshape(w, grouped.clone())?;
    let mut perm: Vec<usize> = (0..grouped.len()).collect();
    perm.swap(1, 2);
    let w = c.transpose(w, perm)?;
    let sizes = [&[group * part, channels / group], kernel].concat();
    let w = c.reshape(w, sizes.clone())?;
    let mut starts = vec![0; sizes.len()];
    let mut steps = vec![1; sizes.len()];
    for d in 2..sizes.len() {
        (starts[d], steps[d]) = (sizes[d] - 1, -1);
    }
    c.emit(Slice { starts, sizes, steps }, &[w])
}
