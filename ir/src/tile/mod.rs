//! Tile level: loop nests over flat buffers.
//!
//! A [`Module`] is the whole network after lowering: buffers, and one [`Func`] per fused group of graph nodes, run in
//! order, and functions that run once beforehand to fill prepared memory. A buffer is a flat array of one element type; every access has an affine index in the loop variables
//! (plus, for gathers, a run-time offset). Values are SSA scalars or short vectors, local to a function; loops may
//! carry values. A [`Stmt::Kernel`] calls a micro-kernel of the [`crate::registry`] on buffer views; its meaning is the
//! kernel's body.
//!
//! Loops have bounds that are the maximum / minimum of affine expressions, so that borders need no branches: an empty
//! range runs zero times. There are no conditionals, no recursion, and no allocation.
//!
//! Arithmetic: `f32` operations round to nearest even; `fma` may be computed with one rounding or two (the class
//! *rounding* covers it). Integer `+ - *` wrap.

pub mod affine;
pub mod build;
pub mod math;
mod math64;
pub mod overlay;
mod renumber;
pub mod verify;

pub use affine::{Affine, Bound};
pub use build::FuncBuilder;

use crate::entity::Arena;
use crate::graph::{Origin, Weight, Weights};
use crate::{DType, word_enum};
use std::fmt;

crate::entity!(Buffer, "$", "A flat array.");
crate::entity!(Val, "v", "An SSA scalar or vector, local to a function.");
crate::entity!(Var, "i", "A loop variable, local to a function.");

/// Type of an SSA value: `lanes` elements of `dtype` (1 = scalar). Text: `f32`, `f32x4`.
///
/// Buffers may hold any dtype; values are `f32`, `i32`, `i64`, `u8`/`bool` (as loaded) and the like. Backends must
/// support vectors of 1 lane for every dtype, and of `16 / size` lanes for `f32` and `i32`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ty {
    /// Element type.
    pub dtype: DType,
    /// Number of elements, at least 1.
    pub lanes: u8,
}

impl Ty {
    /// A scalar type.
    pub const fn scalar(dtype: DType) -> Self {
        Self { dtype, lanes: 1 }
    }
    /// A vector type.
    pub const fn vector(dtype: DType, lanes: u8) -> Self {
        Self { dtype, lanes }
    }
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lanes == 1 {
            write!(f, "{}", self.dtype)
        } else {
            write!(f, "{}x{}", self.dtype, self.lanes)
        }
    }
}

/// Where a buffer's bytes live.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BufferKind {
    /// The caller's input with this position. Read only.
    Input(usize),
    /// The caller's output with this position.
    Output(usize),
    /// A constant. Read only.
    Const(Weight),
    /// In the arena; the memory plan gives it an offset.
    Temp,
    /// In the prepared memory: filled once by [`Module::prepare`], read only afterwards.
    Prepared,
}

/// A flat array.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BufferData {
    /// Element type.
    pub dtype: DType,
    /// Number of elements.
    pub len: usize,
    /// Where it lives.
    pub kind: BufferKind,
    /// For people: the graph value or weight it holds, or what it is for.
    pub name: String,
}

impl BufferData {
    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.len * self.dtype.size()
    }
}

/// A lowered network.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Module {
    /// Model name, free text.
    pub name: String,
    /// All buffers.
    pub buffers: Arena<Buffer, BufferData>,
    /// Functions that run once, in order, before the model's first run. They read constants and write prepared buffers.
    pub prepare: Vec<Func>,
    /// Functions in execution order.
    pub funcs: Vec<Func>,
    /// Constant data: packed weights, tables.
    pub weights: Weights,
}

/// One fused group.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Func {
    /// Name, unique in the module.
    pub name: String,
    /// ONNX nodes it computes; never empty.
    pub origins: Vec<Origin>,
    /// Types of its values.
    pub vals: Arena<Val, Ty>,
    /// Its loop variables (unit: nothing is stored per variable).
    pub vars: Arena<Var, ()>,
    /// Statements. If the body is a single `parallel` loop, its iterations may run concurrently.
    pub body: Vec<Stmt>,
}

/// A statement.
#[derive(Clone, PartialEq, Debug)]
pub enum Stmt {
    /// Defines a value.
    Let(Val, Inst),
    /// Writes `value`'s lanes to consecutive elements.
    Store {
        /// Destination.
        buffer: Buffer,
        /// Index of the first element.
        index: Index,
        /// What is written; of the buffer's dtype.
        value: Val,
    },
    /// A counted loop.
    For(For),
    /// A micro-kernel call.
    Kernel(KernelCall),
}

/// A counted loop: `var` runs over `lo, lo+step, ..` while less than `hi`.
///
/// `carried` values start at `init`, are visible in the body as `arg`, and take the value of `next` at the end of each
/// iteration; after the loop `result` holds the last one (`init` if the loop did not run).
#[derive(Clone, PartialEq, Debug)]
pub struct For {
    /// Loop variable.
    pub var: Var,
    /// First value: the maximum of affine expressions.
    pub lo: Bound,
    /// Limit (exclusive): the minimum of affine expressions.
    pub hi: Bound,
    /// Increment, at least 1.
    pub step: i64,
    /// Iterations are independent and may run concurrently. Only on a function's outermost single loop.
    pub parallel: bool,
    /// Loop-carried values.
    pub carried: Vec<Carried>,
    /// Statements.
    pub body: Vec<Stmt>,
}

/// A loop-carried value; all four have the same type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carried {
    /// Its name after the loop.
    pub result: Val,
    /// Its name inside the loop.
    pub arg: Val,
    /// Value before the first iteration (defined outside).
    pub init: Val,
    /// Value for the next iteration (defined in the body, or `arg` itself, or outside).
    pub next: Val,
}

/// An element index: affine, plus an optional run-time offset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Index {
    /// Static part, in elements.
    pub affine: Affine,
    /// An `i64` scalar added to it, in elements.
    pub offset: Option<Val>,
}

impl From<Affine> for Index {
    fn from(affine: Affine) -> Self {
        Self { affine, offset: None }
    }
}

/// A call of a micro-kernel. Range and operands are as the registry's entry says.
#[derive(Clone, PartialEq, Debug)]
pub struct KernelCall {
    /// Registry name.
    pub kernel: String,
    /// Parameter values in the registry's order (`f32` parameters as their bits).
    pub params: Vec<i64>,
    /// Views in the registry's order; optional operands may be absent.
    pub operands: Vec<Option<View>>,
    /// Start of the work range.
    pub begin: Bound,
    /// End (exclusive) of the work range.
    pub end: Bound,
}

/// A buffer from some element on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// The buffer.
    pub buffer: Buffer,
    /// First element.
    pub offset: Affine,
}

word_enum! {
    /// Arithmetic of one operand, lane by lane.
    Arith1 {
        /// `-x`
        Neg = "neg",
        /// `|x|`
        Abs = "abs",
        /// Square root (floats).
        Sqrt = "sqrt",
        /// Towards minus infinity (floats).
        Floor = "floor",
        /// Towards plus infinity (floats).
        Ceil = "ceil",
        /// Half to even (floats).
        Nearest = "nearest",
        /// Bitwise not; logical not on `bool`.
        Not = "not",
    }
}

word_enum! {
    /// Arithmetic of two operands of one type, lane by lane.
    Arith2 {
        /// Sum.
        Add = "add",
        /// Difference.
        Sub = "sub",
        /// Product.
        Mul = "mul",
        /// Quotient. Integers: truncated; a zero divisor gives 0 and `MIN / -1` gives `MIN`.
        Div = "div",
        /// `a < b ? a : b` for floats, so a NaN in `a` yields `b` and a NaN in `b` yields `b`; signed or unsigned minimum for integers.
        Min = "min",
        /// `a > b ? a : b` for floats, with the same rule for NaN; maximum for integers.
        Max = "max",
        /// Bitwise and.
        And = "and",
        /// Bitwise or.
        Or = "or",
        /// Bitwise exclusive or.
        Xor = "xor",
        /// Shift left (integers; the count is taken modulo the width).
        Shl = "shl",
        /// Shift right, arithmetic for signed types.
        Shr = "shr",
    }
}

word_enum! {
    /// Comparisons, lane by lane. NaN compares false except with `ne`. The result is a mask: an integer vector of the
    /// operand's lanes and width (`i32` for `f32`, `i64` for `i64`/`f64`, ...), all ones or all zeros.
    CompareOp {
        /// Equal.
        Eq = "eq",
        /// Not equal.
        Ne = "ne",
        /// Less.
        Lt = "lt",
        /// Less or equal.
        Le = "le",
        /// Greater.
        Gt = "gt",
        /// Greater or equal.
        Ge = "ge",
    }
}

word_enum! {
    /// Horizontal reductions.
    FoldOp {
        /// Sum, pairwise: `(l0 + l2) + (l1 + l3)`.
        Add = "add",
        /// Maximum.
        Max = "max",
        /// Minimum.
        Min = "min",
    }
}

/// What defines a value. The result type is in the function's `vals`.
#[derive(Clone, PartialEq, Debug)]
pub enum Inst {
    /// Consecutive elements of a buffer, as many as the result has lanes.
    Load {
        /// Source; of the result's dtype.
        buffer: Buffer,
        /// Index of the first element.
        index: Index,
    },
    /// One element repeated in every lane.
    LoadSplat {
        /// Source; of the result's dtype.
        buffer: Buffer,
        /// Index of the element.
        index: Index,
    },
    /// The same constant in every lane, as the little-endian bits of one element zero-extended.
    Const(u64),
    /// The value of an affine expression, as an `i64` scalar.
    AffineValue(Affine),
    /// A scalar in every lane.
    Splat(Val),
    /// One operand.
    Arith1(Arith1, Val),
    /// Two operands.
    Arith2(Arith2, Val, Val),
    /// `a * b + c`.
    Fma(Val, Val, Val),
    /// A mask.
    Compare(CompareOp, Val, Val),
    /// Per lane: `b` where the mask is all ones, `c` where it is zero. Operands: mask, b, c.
    Select(Val, Val, Val),
    /// Converts the elements to the result's dtype. Float to integer truncates and saturates (NaN gives 0); to `bool`
    /// it is `x != 0`; integer to narrower integer wraps.
    Convert(Val),
    /// The same bits under another dtype of equal width.
    Bitcast(Val),
    /// One scalar from a vector.
    Fold(FoldOp, Val),
    /// One lane of a vector.
    Lane(Val, u8),
}
