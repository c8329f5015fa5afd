//! MatMul and Gemm.

use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::op::{Activation, MatMul};
use sdc_ir::graph::{BinaryOp, Value};

const PRODUCT: MatMul = MatMul {
    bias: false,
    residual: false,
    act: Activation::None,
};

/// MatMul: a vector operand becomes a matrix of one row (left) or column (right), which the result then loses.
pub(super) fn matmul(c: &mut NodeCtx) -> Lowered {
    let (a, b) = (c.input(0)?, c.input(1)?);
    matmul_of(c, a, b)
}

/// As [`matmul`], of these operands.
pub(super) fn matmul_of(c: &mut NodeCtx, a: Value, b: Value) -> Lowered {
    let (ra, rb) = (c.rank(a), c.rank(b));
    if ra == 0 || rb == 0 {
        return Err(Fault::new(Code::BadOperands, "operands must not be scalars"));
    }
    let left = if ra == 1 {
        let shape = vec![1, c.shape(a)[0]];
        c.reshape(a, shape)?
    } else {
        a
    };
    let right = if rb == 1 {
        let shape = vec![c.shape(b)[0], 1];
        c.reshape(b, shape)?
    } else {
        b
    };
    let y = c.emit(PRODUCT, &[left, right])?;
    let mut shape = c.shape(y);
    if rb == 1 {
        shape.pop();
    }
    if ra == 1 {
        shape.remove(shape.len() - 1 - usize::from(rb > 1));
    }
    c.reshape(y, shape)
}

/// Gemm: `alpha * a' @ b' + beta * c`, the addend as the product's bias where it is the same for all rows.
pub(super) fn gemm(c: &mut NodeCtx) -> Lowered {
    let (alpha, beta) = (c.float("alpha", 1.0)?, c.float("beta", 1.0)?);
    let (trans_a, trans_b) = (c.flag("transA", false)?, c.flag("transB", false)?);
    if c.opset < 7 {
        // Without it the addend has the product's shape already.
        c.ignore(&["broadcast"]);
    }
    let (a, b) = (c.input(0)?, c.input(1)?);
    if c.rank(a) != 2 || c.rank(b) != 2 {
        return Err(Fault::new(Code::BadOperands, "operands must be matrices"));
    }
    let whole = |x: f32| x.fract() == 0.0;
    if c.dtype(a).is_int() && !(whole(alpha) && whole(beta)) {
        return Err(Fault::new(
            Code::Attribute,
            "fractional alpha or beta with integer operands is not supported",
        ));
    }
    let a = if trans_a { c.transpose(a, vec![1, 0])? } else { a };
    let b = if trans_b { c.transpose(b, vec![1, 0])? } else { b };
    // Scaling the constant operand, if one is, costs nothing at run time.
    let (a, b) = match (alpha == 1.0, c.known(a).is_some()) {
        (true, _) => (a, b),
        (false, true) => (c.with_scalar(BinaryOp::Mul, a, f64::from(alpha))?, b),
        (false, false) => (a, c.with_scalar(BinaryOp::Mul, b, f64::from(alpha))?),
    };
    let addend = match c.opt_input(2) {
        Some(_) if beta == 0.0 => None,
        Some(addend) if beta != 1.0 => Some(c.with_scalar(BinaryOp::Mul, addend, f64::from(beta))?),
        other => other,
    };
    let Some(addend) = addend else {
        return c.emit(PRODUCT, &[a, b]);
    };
    let columns = c.shape(b)[1];
    if let Some(bias) = row_bias(c, addend, columns)? {
        let with_bias = MatMul {
            bias: true,
            ..PRODUCT
        };
        return c.emit(with_bias, &[a, b, bias]);
    }
    let product = c.emit(PRODUCT, &[a, b])?;
    let sum = c.binary(BinaryOp::Add, product, addend)?;
    if c.shape(sum) != c.shape(product) {
        return Err(Fault::new(
            Code::BadOperands,
            "operand 2 does not broadcast to the product",
        ));
    }
    Ok(sum)
}

/// The addend as a `[columns]` vector, if it is the same for every row.
fn row_bias(c: &mut NodeCtx, addend: Value, columns: usize) -> Result<Option<Value>, Fault> {
    let shape = c.shape(addend);
    let elements: usize = shape.iter().product();
    if shape.len() > 2 || (shape.len() == 2 && shape[0] != 1) {
        return Ok(None);
    }
    if elements == columns {
        return c.reshape(addend, vec![columns]).map(Some);
    }
    if elements == 1 && c.known(addend).is_some() {
        let scalar = c.reshape(addend, Vec::new())?;
        return c.expand(scalar, vec![columns]).map(Some);
    }
    Ok(None)
}
