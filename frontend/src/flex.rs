//! FlexAttention (domain `ai.onnx.preview`): attention whose scores and probabilities the model's own bodies modify.

use crate::ctx::{Emit, Lowered};
use crate::error::{Code, Fault};
use crate::nodes::{Importer, Stop};
use crate::ops::repeat;
use crate::proto::NodeProto;
use crate::tensor::dtype_of;
use sdc_ir::DType;
use sdc_ir::graph::op::{Activation, MatMul, Softmax};
use sdc_ir::graph::{BinaryOp, Origin, Value};

const PRODUCT: MatMul = MatMul {
    bias: false,
    residual: false,
    act: Activation::None,
};

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadOperands, text)
}

impl Importer<'_> {
    /// `softmax(score_mod(q k' scale)) v`, with `prob_mod` after the softmax.
    pub fn flex_attention(
        &mut self,
        node: &NodeProto,
        origin: &Origin,
        inputs: &[Option<Value>],
    ) -> Result<Value, Stop> {
        let &[Some(q), Some(k), Some(v)] = inputs else {
            return Err(bad("needs queries, keys and values").into());
        };
        let mut c = self.ctx(node, origin);
        let (&[_, heads, _, size], &[_, shared, _, _], 4) = (&c.shape(q)[..], &c.shape(k)[..], c.rank(v))
        else {
            return Err(bad("queries, keys and values need rank 4").into());
        };
        if size == 0 || shared == 0 || !heads.is_multiple_of(shared) || c.shape(v)[1] != shared {
            return Err(bad(format!(
                "{heads} heads of queries do not share {shared} of keys and values"
            ))
            .into());
        }
        let dtype = c.dtype(q);
        let computing = match c.int("softmax_precision", 0)? {
            0 if dtype == DType::F64 => DType::F64,
            0 => DType::F32,
            n => dtype_of(i32::try_from(n).unwrap_or(0))?,
        };
        let scale = c.float("scale", 1.0 / (size as f32).sqrt())?;
        let (k, v) = (
            repeat(&mut c, k, 1, heads / shared)?,
            repeat(&mut c, v, 1, heads / shared)?,
        );
        // Half types lose nothing by being multiplied in f32.
        let wide = match dtype {
            DType::F16 | DType::BF16 => DType::F32,
            other => other,
        };
        let (q, k, v) = (c.cast(q, wide)?, c.cast(k, wide)?, c.cast(v, wide)?);
        let k = c.transpose(k, vec![0, 1, 3, 2])?;
        let scores = c.emit(PRODUCT, &[q, k])?;
        let scores = c.with_scalar(BinaryOp::Mul, scores, scale.into())?;
        let scores = c.cast(scores, computing)?;
        let scores = self.modified(node, origin, "score_mod", scores)?;
        let mut c = self.ctx(node, origin);
        let shares = c.emit(Softmax { axis: 3, log: false }, &[scores])?;
        let shares = self.modified(node, origin, "prob_mod", shares)?;
        let mut c = self.ctx(node, origin);
        let shares = c.cast(shares, wide)?;
        let y: Lowered = c.emit(PRODUCT, &[shares, v]);
        Ok(c.cast(y?, dtype)?)
    }

    /// What a body of the node makes of a value; the value itself if the node has no such body.
    fn modified(&mut self, node: &NodeProto, origin: &Origin, name: &str, x: Value) -> Result<Value, Stop> {
        if node.attribute.iter().all(|a| a.name.as_deref() != Some(name)) {
            return Ok(x);
        }
        let results = self.body(node, name, origin, &[x])?;
        let ty = |v: Value| self.builder.graph.ty(v);
        match results[..] {
            [y] if ty(x) == ty(y) => Ok(y),
            _ => Err(bad(format!("`{name}` does not give one tensor of its operand's type")).into()),
        }
    }
}
