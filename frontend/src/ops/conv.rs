//! Conv and ConvTranspose.

use super::window::{Geometry, Padding, extent, geometry, halves, spatial_rank};
use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::Value;
use sdc_ir::graph::op::{Activation, Conv, ConvTranspose};

/// The filter's spatial size, held against `kernel_shape`.
fn kernel_of(c: &NodeCtx, w: Value, spatial: usize) -> Result<Vec<usize>, Fault> {
    let shape = c.shape(w);
    if shape.len() != spatial + 2 {
        let text = format!("the filter has rank {}, the input {}", shape.len(), spatial + 2);
        return Err(Fault::new(Code::BadOperands, text));
    }
    let kernel = shape[2..].to_vec();
    if let Some(declared) = c.ints("kernel_shape")?
        && c.sizes("kernel_shape", &declared)? != kernel
    {
        return Err(c.bad_attr(
            "kernel_shape",
            format!("is {declared:?}, the filter has {kernel:?}"),
        ));
    }
    Ok(kernel)
}

fn group_of(c: &NodeCtx) -> Result<usize, Fault> {
    let group = c.int("group", 1)?;
    usize::try_from(group)
        .ok()
        .filter(|&g| g > 0)
        .ok_or_else(|| c.bad_attr("group", format!("is {group}")))
}

fn bias_shape(c: &NodeCtx, bias: Value) -> Result<(), Fault> {
    if c.rank(bias) == 1 {
        return Ok(());
    }
    Err(Fault::new(
        Code::BadOperands,
        format!("the bias has rank {}", c.rank(bias)),
    ))
}

pub(super) fn conv(c: &mut NodeCtx) -> Lowered {
    let (x, w) = (c.input(0)?, c.input(1)?);
    let bias = c.opt_input(2);
    conv_of(c, x, w, bias)
}

/// The convolution that the node's attributes describe, of these operands.
pub(super) fn conv_of(c: &mut NodeCtx, x: Value, w: Value, bias: Option<Value>) -> Lowered {
    let spatial = spatial_rank(c, x)?;
    let kernel = kernel_of(c, w, spatial)?;
    let group = group_of(c)?;
    let g = geometry(c, spatial)?;
    let pads = g.pads(&c.shape(x)[2..], &kernel)?;
    let op = Conv {
        strides: g.strides,
        pads,
        dilations: g.dilations,
        group,
        bias: bias.is_some(),
        residual: false,
        act: Activation::None,
    };
    let mut operands = vec![x, w];
    if let Some(b) = bias {
        bias_shape(c, b)?;
        operands.push(b);
    }
    c.emit(op, &operands)
}

/// Cropping of a transposed convolution: explicit, or what `output_shape` or SAME padding leave to remove.
fn crops(
    c: &NodeCtx,
    g: &Geometry,
    input: &[usize],
    kernel: &[usize],
    output_padding: &[usize],
) -> Result<Vec<i64>, Fault> {
    let spatial = input.len();
    let wanted = c.ints("output_shape")?;
    let upper = match (&g.padding, &wanted) {
        (Padding::Explicit(pads), None) => {
            let signed: Option<Vec<i64>> = pads.iter().map(|&p| i64::try_from(p).ok()).collect();
            return signed.ok_or_else(|| c.bad_attr("pads", "is too large"));
        }
        (Padding::SameUpper, _) => true,
        (Padding::Explicit(_) | Padding::SameLower, _) => false,
    };
    let given = wanted.is_some();
    let wanted = match wanted {
        // Some exporters list batch and channels too.
        Some(w) if w.len() == spatial || w.len() == spatial + 2 => {
            c.sizes("output_shape", &w[w.len() - spatial..])?
        }
        Some(w) => {
            return Err(c.bad_attr(
                "output_shape",
                format!("{w:?} does not fit {spatial} spatial dimensions"),
            ));
        }
        None => input
            .iter()
            .zip(&g.strides)
            .map(|(&n, &s)| n.saturating_mul(s))
            .collect(),
    };
    let mut crops = vec![0; 2 * spatial];
    for i in 0..spatial {
        let full = g.strides[i]
            .checked_mul(input[i].saturating_sub(1))
            .and_then(|n| n.checked_add(output_padding[i]))
            .and_then(|n| n.checked_add(extent(kernel[i], g.dilations[i]).ok()?))
            .and_then(|n| i64::try_from(n).ok());
        let total = full
            .zip(i64::try_from(wanted[i]).ok())
            .map(|(full, wanted)| full - wanted);
        let total = total.ok_or_else(|| Fault::new(Code::BadAttribute, "the result's size overflows"))?;
        // SAME never extends the result; an `output_shape` beyond what the windows reach does, at the end.
        let total = if given { total } else { total.max(0) };
        (crops[i], crops[spatial + i]) = match usize::try_from(total) {
            Ok(total) => {
                let (begin, end) = halves(total, upper);
                (begin as i64, end as i64)
            }
            Err(_) => (0, total),
        };
    }
    Ok(crops)
}

pub(super) fn conv_transpose(c: &mut NodeCtx) -> Lowered {
    let (x, w) = (c.input(0)?, c.input(1)?);
    let bias = c.opt_input(2);
    let spatial = spatial_rank(c, x)?;
    let kernel = kernel_of(c, w, spatial)?;
    let group = group_of(c)?;
    let g = geometry(c, spatial)?;
    let output_padding = match c.ints("output_padding")? {
        Some(list) if list.len() == spatial => c.sizes("output_padding", &list)?,
        Some(list) => return Err(c.bad_attr("output_padding", format!("has {} entries", list.len()))),
        None => vec![0; spatial],
    };
    let pads = crops(c, &g, &c.shape(x)[2..], &kernel, &output_padding)?;
    let op = ConvTranspose {
        strides: g.strides,
        pads,
        dilations: g.dilations,
        output_padding,
        group,
        bias: bias.is_some(),
        act: Activation::None,
    };
    let mut operands = vec![x, w];
    if let Some(b) = bias {
        bias_shape(c, b)?;
        operands.push(b);
    }
    c.emit(op, &operands)
}
