//! Domain `ai.onnx.ml`: the few operators that are on numbers alone.

use crate::ctx::{Emit, Lowered, NodeCtx};
use sdc_ir::graph::BinaryOp;
use sdc_ir::graph::op::Gather;

/// ArrayFeatureExtractor: chosen columns of the last dimension.
pub(super) fn feature_extractor(c: &mut NodeCtx) -> Lowered {
    let (x, at) = (c.input(0)?, c.input(1)?);
    let count = c.ty(at).elements().unwrap_or(0);
    let at = c.reshape(at, vec![count])?;
    let x = match c.shape(x)[..] {
        [n] => c.reshape(x, vec![1, n])?,
        _ => x,
    };
    let axis = c.axis(-1, c.rank(x))?;
    c.emit(Gather { axis }, &[x, at])
}

/// Binarizer: 1 above the threshold, else 0.
pub(super) fn binarizer(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let threshold = c.float("threshold", 0.0)?;
    let above = c.with_scalar(BinaryOp::Greater, x, threshold.into())?;
    c.cast(above, c.dtype(x))
}
