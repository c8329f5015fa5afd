//! Emitting nodes in terms of others: what import and legalisation write their rewrites with.

use super::op::{Cast, Expand, Reduce, ReduceKind, Reshape, Slice, Transpose};
use super::{BinaryOp, Graph, Op, UnaryOp, Value};
use crate::{DType, Tensor};

/// A graph that grows node by node. The implementation says what becomes of each: whose origins it has, what is folded or
/// rewritten further, and what is refused.
pub trait Emit {
    /// Why a node cannot be emitted.
    type Error;

    /// The graph so far.
    fn graph(&self) -> &Graph;
    /// A node of one result, or what amounts to it.
    ///
    /// # Errors
    /// The operands do not fit, or the implementation refuses the node.
    fn emit(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Result<Value, Self::Error>;
    /// A constant.
    ///
    /// # Errors
    /// The implementation refuses it.
    fn constant(&mut self, tensor: Tensor) -> Result<Value, Self::Error>;

    /// Element type of a value.
    fn dtype(&self, value: Value) -> DType {
        self.graph().ty(value).dtype
    }
    /// Shape of a value.
    fn shape(&self, value: Value) -> Vec<usize> {
        self.graph().ty(value).sizes().to_vec()
    }
    /// Number of a value's dimensions.
    fn rank(&self, value: Value) -> usize {
        self.graph().ty(value).rank()
    }
    /// A rank-0 constant; integers truncate.
    ///
    /// # Errors
    /// As [`Emit::constant`].
    fn scalar(&mut self, dtype: DType, value: f64) -> Result<Value, Self::Error> {
        self.constant(Tensor::scalar_of(dtype, value))
    }
    /// A rank-1 constant of equal elements, `len` of them.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    fn filled(&mut self, dtype: DType, value: f64, len: usize) -> Result<Value, Self::Error> {
        let one = self.scalar(dtype, value)?;
        self.expand(one, vec![len])
    }
    /// `op(x)`.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    fn unary(&mut self, op: UnaryOp, x: Value) -> Result<Value, Self::Error> {
        self.emit(op, &[x])
    }
    /// `op(a, b)`.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    fn binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Result<Value, Self::Error> {
        self.emit(op, &[a, b])
    }
    /// `op(x, value)` with the value in x's element type.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    fn with_scalar(&mut self, op: BinaryOp, x: Value, value: f64) -> Result<Value, Self::Error> {
        let scalar = self.scalar(self.dtype(x), value)?;
        self.binary(op, x, scalar)
    }
    /// The value under another shape; itself if it has that shape.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    fn reshape(&mut self, x: Value, shape: Vec<usize>) -> Result<Value, Self::Error> {
        if self.graph().ty(x).sizes() == shape {
            return Ok(x);
        }
        self.emit(Reshape { shape }, &[x])
    }
    /// The value with dimensions permuted; itself if they stay.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    fn transpose(&mut self, x: Value, perm: Vec<usize>) -> Result<Value, Self::Error> {
        if perm.iter().enumerate().all(|(i, &p)| i == p) && perm.len() == self.rank(x) {
            return Ok(x);
        }
        self.emit(Transpose { perm }, &[x])
    }
    /// The value in another element type; itself if it has that type.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    fn cast(&mut self, x: Value, to: DType) -> Result<Value, Self::Error> {
        if self.dtype(x) == to {
            return Ok(x);
        }
        self.emit(Cast { to }, &[x])
    }
    /// The value broadcast to a shape; itself if it has that shape.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    fn expand(&mut self, x: Value, shape: Vec<usize>) -> Result<Value, Self::Error> {
        if self.graph().ty(x).sizes() == shape {
            return Ok(x);
        }
        self.emit(Expand { shape }, &[x])
    }
    /// The elements `lo..hi` of one dimension.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    fn narrow(&mut self, x: Value, axis: usize, lo: usize, hi: usize) -> Result<Value, Self::Error> {
        let mut sizes = self.shape(x);
        let mut starts = vec![0; sizes.len()];
        (starts[axis], sizes[axis]) = (lo, hi - lo);
        let steps = vec![1; sizes.len()];
        self.emit(Slice { starts, sizes, steps }, &[x])
    }
    /// Mean over some dimensions, which keep size 1.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    fn mean_over(&mut self, x: Value, axes: Vec<usize>) -> Result<Value, Self::Error> {
        let op = Reduce {
            kind: ReduceKind::Mean,
            axes,
            keepdims: true,
        };
        self.emit(op, &[x])
    }
    /// Mean and variance over some dimensions, which keep size 1.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    fn variance_over(&mut self, x: Value, axes: Vec<usize>) -> Result<(Value, Value), Self::Error> {
        let mean = self.mean_over(x, axes.clone())?;
        let deviation = self.binary(BinaryOp::Sub, x, mean)?;
        let square = self.binary(BinaryOp::Mul, deviation, deviation)?;
        Ok((mean, self.mean_over(square, axes)?))
    }
}
