//! Half types where sums are formed: in `f32`, rounded once.

use super::{Emitter, Legal};
use sdc_ir::DType;
use sdc_ir::graph::{Emit, Op, Value};

/// Sums of products, quotients of sums, interpolation and pooling.
pub fn sums(c: &mut Emitter<'_, '_>, op: &Op, inputs: &[Value]) -> Option<Legal> {
    let half = inputs.first().map(|&x| c.dtype(x)).filter(|t| is_half(*t))?;
    let sums = matches!(
        op,
        Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::MatMul(_)
            | Op::Reduce(_)
            | Op::Softmax(_)
            | Op::BatchNormalization(_)
            | Op::InstanceNormalization(_)
            | Op::LayerNormalization(_)
            | Op::Recurrent(_)
            | Op::Resize(_)
            | Op::MaxPool(_)
            | Op::AveragePool(_)
    );
    sums.then(|| in_f32(c, op, inputs, half))
}

fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

fn in_f32(c: &mut Emitter<'_, '_>, op: &Op, inputs: &[Value], half: DType) -> Legal {
    let mut wide = inputs.to_vec();
    for x in &mut wide {
        if is_half(c.dtype(*x)) {
            *x = c.cast(*x, DType::F32)?;
        }
    }
    let y = c.emit(op.clone(), &wide)?;
    c.cast(y, half)
}
