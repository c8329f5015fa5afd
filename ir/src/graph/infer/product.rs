//! Convolutions and matrix products.

use super::window::{Window, reaches, spatial_rank};
use super::{Fail, Inferred, attr_len, broadcast, ensure, float, numeric, overflow, same_dtype};
use crate::graph::TensorType;
use crate::graph::op::{Conv, ConvTranspose, MatMul};
use crate::graph::types::shape_text;

fn expect_shape(name: &str, x: &TensorType, shape: &[usize]) -> Result<(), Fail> {
    ensure(x.sizes() == shape, || {
        format!("{name} is {}, not {}", shape_text(x.sizes()), shape_text(shape))
    })
}

/// Splits the operands into the two main ones and the flagged optional ones, bias then residual.
type Operands<'a> = (
    &'a TensorType,
    &'a TensorType,
    Option<&'a TensorType>,
    Option<&'a TensorType>,
);

fn split<'a>(operands: &[&'a TensorType], bias: bool, residual: bool) -> Result<Operands<'a>, Fail> {
    let expected = 2 + usize::from(bias) + usize::from(residual);
    ensure(operands.len() == expected, || {
        format!(
            "takes {expected} operands with these flags, got {}",
            operands.len()
        )
    })?;
    same_dtype(operands)?;
    let residual_at = 2 + usize::from(bias);
    Ok((
        operands[0],
        operands[1],
        bias.then(|| operands[2]),
        residual.then(|| operands[residual_at]),
    ))
}

fn groups(channels: usize, filters: usize, group: usize) -> Result<(), Fail> {
    ensure(
        group > 0 && channels.is_multiple_of(group) && filters.is_multiple_of(group),
        || format!("group {group} does not divide {channels} input and {filters} output channels"),
    )
}

fn same_rank(x: &TensorType, w: &TensorType) -> Result<(), Fail> {
    ensure(w.rank() == x.rank(), || {
        format!("the filter has rank {}, the input {}", w.rank(), x.rank())
    })
}

pub(super) fn conv(op: &Conv, operands: &[&TensorType]) -> Inferred {
    let (x, w, bias, residual) = split(operands, op.bias, op.residual)?;
    float(x)?;
    let spatial = spatial_rank(x)?;
    same_rank(x, w)?;
    let filters = w.sizes()[0];
    groups(x.sizes()[1], filters, op.group)?;
    ensure(w.sizes()[1] == x.sizes()[1] / op.group, || {
        let (has, group) = (x.sizes()[1], op.group);
        format!(
            "filters read {} channels per group, but the input has {has} in {group} group(s)",
            w.sizes()[1]
        )
    })?;
    let window = Window {
        kernel: &w.sizes()[2..],
        strides: &op.strides,
        pads: &op.pads,
        dilations: &op.dilations,
    };
    window.check(spatial)?;
    let mut shape = vec![x.sizes()[0], filters];
    shape.extend(window.output(&x.sizes()[2..])?);
    if let Some(b) = bias {
        expect_shape("the bias", b, &[filters])?;
    }
    if let Some(r) = residual {
        expect_shape("the residual", r, &shape)?;
    }
    Ok(TensorType::new(x.dtype, shape))
}

pub(super) fn conv_transpose(op: &ConvTranspose, operands: &[&TensorType]) -> Inferred {
    let (x, w, bias, _) = split(operands, op.bias, false)?;
    float(x)?;
    let spatial = spatial_rank(x)?;
    same_rank(x, w)?;
    attr_len("strides", op.strides.len(), spatial)?;
    attr_len("dilations", op.dilations.len(), spatial)?;
    attr_len("output_padding", op.output_padding.len(), spatial)?;
    attr_len("pads", op.pads.len(), 2 * spatial)?;
    let pads: Vec<usize> = op.pads.iter().map(|p| p.unsigned_abs() as usize).collect();
    let output_padding = &op.output_padding;
    reaches(&[&w.sizes()[2..], &op.strides, &op.dilations, &pads, output_padding])?;
    ensure(w.sizes()[0] == x.sizes()[1], || {
        format!(
            "filters read {} channels, but the input has {}",
            w.sizes()[0],
            x.sizes()[1]
        )
    })?;
    groups(x.sizes()[1], w.sizes()[0], op.group)?;
    let filters = w.sizes()[1]
        .checked_mul(op.group)
        .ok_or_else(|| overflow("too many output channels"))?;
    let mut shape = vec![x.sizes()[0], filters];
    for i in 0..spatial {
        let (n, k, s, d) = (x.sizes()[2 + i], w.sizes()[2 + i], op.strides[i], op.dilations[i]);
        ensure(n > 0 && k > 0 && s > 0 && d > 0, || {
            format!(
                "spatial dimension {i} has input {n}, kernel {k}, stride {s}, dilation {d}; none may be 0"
            )
        })?;
        // Products of two 64-bit numbers do not overflow i128.
        let full = (s as i128) * (n as i128 - 1) + (k as i128 - 1) * (d as i128) + 1;
        let size =
            full + op.output_padding[i] as i128 - i128::from(op.pads[i]) - i128::from(op.pads[spatial + i]);
        let size = usize::try_from(size).ok().filter(|&n| n > 0);
        shape.push(
            size.ok_or_else(|| format!("spatial dimension {i} of the result is not positive or too large"))?,
        );
    }
    if let Some(b) = bias {
        expect_shape("the bias", b, &[filters])?;
    }
    Ok(TensorType::new(x.dtype, shape))
}

pub(super) fn matmul(op: &MatMul, operands: &[&TensorType]) -> Inferred {
    let (a, b, bias, residual) = split(operands, op.bias, op.residual)?;
    numeric(a)?;
    let (ra, rb) = (a.rank(), b.rank());
    ensure(ra >= 2 && rb >= 2, || {
        "operands must have rank 2 or more".to_owned()
    })?;
    ensure(a.sizes()[ra - 1] == b.sizes()[rb - 2], || {
        format!(
            "inner dimensions {} and {} differ",
            a.sizes()[ra - 1],
            b.sizes()[rb - 2]
        )
    })?;
    let mut shape =
        broadcast(&a.sizes()[..ra - 2], &b.sizes()[..rb - 2]).ok_or("batch dimensions do not broadcast")?;
    shape.extend([a.sizes()[ra - 2], b.sizes()[rb - 1]]);
    if let Some(bias) = bias {
        expect_shape("the bias", bias, &[b.sizes()[rb - 1]])?;
    }
    if let Some(r) = residual {
        expect_shape("the residual", r, &shape)?;
    }
    Ok(TensorType::new(a.dtype, shape))
}
