//! Window attributes shared by convolutions and pooling: strides, dilations, padding in all its spellings.

use crate::ctx::{Emit, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::Value;

/// How a node spells its padding.
pub(super) enum Padding {
    /// All begins, then all ends.
    Explicit(Vec<usize>),
    /// Result of size `ceil(in / stride)`; the odd element goes to the end.
    SameUpper,
    /// The same with the odd element at the beginning.
    SameLower,
}

pub(super) struct Geometry {
    pub strides: Vec<usize>,
    pub dilations: Vec<usize>,
    pub padding: Padding,
}

/// Number of spatial dimensions of an operand `[N,C,spatial..]`.
pub(super) fn spatial_rank(c: &NodeCtx, x: Value) -> Result<usize, Fault> {
    match c.rank(x).checked_sub(2) {
        Some(n) if n > 0 => Ok(n),
        _ => Err(Fault::new(
            Code::BadOperands,
            "the input needs a spatial dimension",
        )),
    }
}

fn positive(c: &NodeCtx, name: &'static str, spatial: usize) -> Result<Vec<usize>, Fault> {
    let Some(values) = c.ints(name)? else {
        return Ok(vec![1; spatial]);
    };
    if values.len() != spatial {
        return Err(c.bad_attr(
            name,
            format!("has {} entries for {spatial} spatial dimensions", values.len()),
        ));
    }
    if values.iter().any(|&v| v < 1) {
        return Err(c.bad_attr(name, format!("{values:?} has an entry below 1")));
    }
    c.sizes(name, &values)
}

/// Reads `strides`, `dilations`, `pads` and `auto_pad`.
pub(super) fn geometry(c: &NodeCtx, spatial: usize) -> Result<Geometry, Fault> {
    let pads = c.ints("pads")?;
    let padding = match c.string("auto_pad", "NOTSET")? {
        "NOTSET" | "" => {
            let pads = pads.unwrap_or_else(|| vec![0; 2 * spatial]);
            if pads.len() != 2 * spatial {
                return Err(c.bad_attr(
                    "pads",
                    format!("has {} entries for {spatial} spatial dimensions", pads.len()),
                ));
            }
            Padding::Explicit(c.sizes("pads", &pads)?)
        }
        "VALID" => Padding::Explicit(vec![0; 2 * spatial]),
        "SAME_UPPER" => Padding::SameUpper,
        "SAME_LOWER" => Padding::SameLower,
        other => return Err(c.bad_attr("auto_pad", format!("is `{other}`"))),
    };
    Ok(Geometry {
        strides: positive(c, "strides", spatial)?,
        dilations: positive(c, "dilations", spatial)?,
        padding,
    })
}

/// Splits a total padding, the odd element at the end (`upper`) or the beginning.
pub(super) fn halves(total: usize, upper: bool) -> (usize, usize) {
    let small = total / 2;
    if upper {
        (small, total - small)
    } else {
        (total - small, small)
    }
}

/// Extent of a dilated kernel.
pub(super) fn extent(kernel: usize, dilation: usize) -> Result<usize, Fault> {
    let span = kernel
        .checked_sub(1)
        .and_then(|k| k.checked_mul(dilation))
        .and_then(|k| k.checked_add(1));
    span.ok_or_else(|| {
        Fault::new(
            Code::BadAttribute,
            format!("kernel size {kernel} with dilation {dilation} makes no window"),
        )
    })
}

impl Geometry {
    /// Explicit padding for an input of this spatial size.
    pub fn pads(&self, input: &[usize], kernel: &[usize]) -> Result<Vec<usize>, Fault> {
        let upper = match &self.padding {
            Padding::Explicit(pads) => return Ok(pads.clone()),
            Padding::SameUpper => true,
            Padding::SameLower => false,
        };
        let spatial = input.len();
        let mut pads = vec![0; 2 * spatial];
        for i in 0..spatial {
            let span = extent(kernel[i], self.dilations[i])?;
            let out = input[i].div_ceil(self.strides[i]);
            // At most the input's size plus the stride: no overflow.
            let covered = out.saturating_sub(1) * self.strides[i];
            let total = covered.saturating_add(span).saturating_sub(input[i]);
            (pads[i], pads[spatial + i]) = halves(total, upper);
        }
        Ok(pads)
    }
}
