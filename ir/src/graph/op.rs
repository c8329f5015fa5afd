//! The canonical operators.
//!
//! Names are ONNX's. Where ONNX has several spellings of one thing (Flatten, Squeeze, Unsqueeze, Identity...; Gemm;
//! GlobalAveragePool; Split; Flatten) only the general one is here, and the frontend lowers the rest to it.

mod facts;
mod kinds;

pub use facts::Locality;
pub use kinds::{
    Activation, BinaryOp, Cell, CoordinateMode, NearestMode, PadMode, ReduceKind, ResizeMode, ScatterMode,
    UnaryOp,
};

use super::Weight;
use super::attr::{Attr, AttrError, AttrMap, AttrValue};
use crate::DType;

impl From<UnaryOp> for Op {
    fn from(op: UnaryOp) -> Op {
        Op::Unary(op)
    }
}

impl From<BinaryOp> for Op {
    fn from(op: BinaryOp) -> Op {
        Op::Binary(op)
    }
}

impl Activation {
    /// The operator that does the same, of one operand; `None` for the identity.
    pub fn op(self) -> Option<Op> {
        match self {
            Activation::None => None,
            Activation::Relu => Some(UnaryOp::Relu.into()),
            Activation::Clip { min, max } => Some(Clip { min, max }.into()),
            Activation::LeakyRelu { alpha } => Some(LeakyRelu { alpha }.into()),
        }
    }
}

/// Declares the operators with attributes: a struct each, the `Op` enum, and conversion to and from named attributes.
macro_rules! operators {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty),* $(,)? })*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, PartialEq, Debug)]
            pub struct $name { $($(#[$fmeta])* pub $field: $ty),* }

            impl From<$name> for Op {
                fn from(op: $name) -> Op { Op::$name(op) }
            }
        )*

        /// A canonical operator with its attributes.
        #[derive(Clone, PartialEq, Debug)]
        #[allow(missing_docs, reason = "each variant is documented at its struct")]
        pub enum Op {
            Unary(UnaryOp),
            Binary(BinaryOp),
            $($name($name)),*
        }

        impl Op {
            /// Names of all operators but [`UnaryOp`]s and [`BinaryOp`]s, which list their own.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// Name in the text form; ONNX's where the operator is ONNX's.
            pub const fn name(&self) -> &'static str {
                match self {
                    Op::Unary(u) => u.name(),
                    Op::Binary(b) => b.name(),
                    $(Op::$name(_) => stringify!($name)),*
                }
            }

            /// Attributes in declaration order.
            pub fn attrs(&self) -> Vec<(&'static str, Attr)> {
                match self {
                    Op::Unary(_) | Op::Binary(_) => Vec::new(),
                    $(Op::$name(_op) => vec![$((stringify!($field), _op.$field.to_attr())),*]),*
                }
            }

            /// The operator with this name and exactly these attributes.
            ///
            /// # Errors
            /// Unknown operator; missing, bad or unknown attributes.
            pub fn from_parts(name: &str, mut attrs: AttrMap) -> Result<Op, AttrError> {
                let op: (&'static str, Op) = match name {
                    $(stringify!($name) => (stringify!($name), Op::$name($name {
                        $($field: take::<$ty>(stringify!($name), stringify!($field), &mut attrs)?),*
                    })),)*
                    _ => {
                        if let Some(u) = UnaryOp::from_name(name) {
                            (u.name(), Op::Unary(u))
                        } else if let Some(b) = BinaryOp::from_name(name) {
                            (b.name(), Op::Binary(b))
                        } else {
                            return Err(AttrError::UnknownOp(name.to_owned()));
                        }
                    }
                };
                if !attrs.is_empty() {
                    let names = attrs.into_keys().collect::<Vec<_>>().join(", ");
                    return Err(AttrError::Unknown { op: op.0, names });
                }
                Ok(op.1)
            }
        }
    };
}

fn take<T: AttrValue>(op: &'static str, name: &'static str, attrs: &mut AttrMap) -> Result<T, AttrError> {
    let attr = attrs.remove(name).ok_or(AttrError::Missing { op, name })?;
    T::from_attr(&attr).ok_or(AttrError::Bad { op, name })
}

operators! {
    /// A tensor of the weights table. No operands.
    Constant {
        /// Which.
        weight: Weight,
    }
    /// The dense weights of a compressed weight ([`crate::sd::Stored`]): as real numbers, or as the integers before they are
    /// multiplied by the scales of their filters. Operand: its packed bytes, `u8[n]`. A value that is not packed weights of this
    /// shape is an error when it is evaluated; lowering asks for a constant.
    Rebuild {
        /// Shape of the result.
        shape: Vec<usize>,
        /// Element type of the result: `f32`, or `i8` for the integers.
        to: DType,
    }
    /// Identity whose result has another layout. Operand: x. The only operator that may change a layout at will.
    Relayout {}

    /// Convolution. Operands: x `[N,C,spatial..]`, w `[M,C/group,kernel..]`, then bias `[M]` if `bias`, then residual
    /// (shape of the result) if `residual`. Result `act(conv(x, w) + bias + residual)`.
    Conv {
        /// Window step per spatial dimension.
        strides: Vec<usize>,
        /// Zero padding: all begins, then all ends.
        pads: Vec<usize>,
        /// Distance of kernel elements per spatial dimension.
        dilations: Vec<usize>,
        /// Number of groups; divides C and M.
        group: usize,
        /// There is a bias operand.
        bias: bool,
        /// There is a residual operand.
        residual: bool,
        /// Applied last.
        act: Activation,
    }
    /// Transposed convolution. Operands: x `[N,C,spatial..]`, w `[C,M/group,kernel..]`, then bias `[M]` if `bias`.
    /// Result `act(..)`, spatial size `stride*(in-1) + output_padding + (kernel-1)*dilation + 1 - pads`.
    ConvTranspose {
        /// Step per spatial dimension.
        strides: Vec<usize>,
        /// Cropping: all begins, then all ends. May be negative (extends the result).
        pads: Vec<i64>,
        /// Distance of kernel elements per spatial dimension.
        dilations: Vec<usize>,
        /// Extra size at the end of each spatial dimension.
        output_padding: Vec<usize>,
        /// Number of groups; divides C and M.
        group: usize,
        /// There is a bias operand.
        bias: bool,
        /// Applied last.
        act: Activation,
    }
    /// Matrix product with numpy's batching rules. Operands: a, b, then bias (`[N]`, added to each row) if `bias`,
    /// then residual (shape of the result) if `residual`. Result `act(a @ b + bias + residual)`. ONNX Gemm lowers to it.
    MatMul {
        /// There is a bias operand.
        bias: bool,
        /// There is a residual operand.
        residual: bool,
        /// Applied last.
        act: Activation,
    }
    /// Maximum over windows. Operand: x `[N,C,spatial..]`. Padding never wins. `pads` already reflect `auto_pad` and
    /// `ceil_mode`: the result's size is `(in + pads - ((kernel-1)*dilation+1)) / stride + 1`.
    MaxPool {
        /// Window size.
        kernel: Vec<usize>,
        /// Window step.
        strides: Vec<usize>,
        /// Padding: all begins, then all ends.
        pads: Vec<usize>,
        /// Distance of window elements.
        dilations: Vec<usize>,
    }
    /// Mean over windows. Operand: x `[N,C,spatial..]`. The divisor of each window is the number of its elements that
    /// lie inside the input extended by `counted` at each end (ONNX: `counted = pads` for count_include_pad = 1 without
    /// the extra end padding of ceil_mode, zeros for 0).
    AveragePool {
        /// Window size.
        kernel: Vec<usize>,
        /// Window step.
        strides: Vec<usize>,
        /// Padding: all begins, then all ends.
        pads: Vec<usize>,
        /// Part of the padding that counts in the divisor: all begins, then all ends.
        counted: Vec<usize>,
        /// Distance of window elements.
        dilations: Vec<usize>,
    }
    /// `(x - mean) / sqrt(var + epsilon) * scale + bias` per channel (dimension 1). Operands: x, scale, bias, mean, var.
    BatchNormalization {
        /// Added to the variance.
        epsilon: f32,
    }
    /// Per image and channel normalisation over the spatial dimensions. Operands: x `[N,C,spatial..]`, scale `[C]`, bias `[C]`.
    InstanceNormalization {
        /// Added to the variance.
        epsilon: f32,
    }
    /// Normalisation over the dimensions from `axis` on. Operands: x, scale, bias (both broadcast to x).
    LayerNormalization {
        /// First normalised dimension.
        axis: usize,
        /// Added to the variance.
        epsilon: f32,
    }
    /// `min(max(x, min), max)`, floats only. Operand: x.
    Clip {
        /// Lower bound, possibly `-inf`.
        min: f32,
        /// Upper bound, possibly `inf`.
        max: f32,
    }
    /// `x` where `x >= 0`, else `alpha * x`. Operand: x.
    LeakyRelu {
        /// Slope of the negative side.
        alpha: f32,
    }
    /// `x` where `x >= 0`, else `alpha * (e^x - 1)`. Operand: x.
    Elu {
        /// Scale of the negative side.
        alpha: f32,
    }
    /// `max(0, min(1, alpha * x + beta))`. Operand: x.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    }
    /// `cond ? a : b` with broadcasting. Operands: cond (`bool`), a, b.
    Where {}
    /// Conversion of elements, as ONNX Cast (float to integer truncates). Operand: x.
    Cast {
        /// Element type of the result.
        to: DType,
    }
    /// `saturate(round_half_even(x / scale) + zero_point)`, divided and rounded in `f32`, of zero_point's element type
    /// (8 or 16 bits). Operands: x, scale, zero_point; the last two broadcast to x's shape (ONNX's `axis` is spelled by
    /// their shapes). NaN gives 0. ONNX QuantizeLinear 10-25 but for blocked and float8 forms.
    QuantizeLinear {}
    /// `(x - zero_point) * scale`, the difference a wrapping `i32`, the product in `f32`, of scale's element type.
    /// Operands: x (8, 16 or 32 bits), scale, zero_point of x's type; the last two broadcast to x's shape.
    /// ONNX DequantizeLinear 10-25 but for blocked and float8 forms.
    DequantizeLinear {}
    /// Convolution of quantised data in integers: `y = clamp(round_half_even(f32(acc) * multiplier[m]) + y_zero, min, max)`
    /// with `acc = bias[m] + sum (x - x_zero) * w`, an `i32`. Operands: x `[N,C,H,W]` (u8 or i8), w `[M,C/group,kh,kw]`
    /// (i8 or i16, its zero point taken off; i16 within -255..=255), bias `[M]` (i32), multiplier `[M]` (f32).
    /// ONNX QLinearConv, with the scales' quotient as one operand and a fused clamp. Padding has the value `x_zero`.
    ///
    /// With a `shift` n, multipliers are positive i32, and `y = clamp(y_zero + ((acc * multiplier[m] + 2^(n-1)) >> n), min, max)`
    /// in 64 bits: sdc's own arithmetic (`docs/integer.md`).
    QLinearConv {
        /// Window step per spatial dimension.
        strides: Vec<usize>,
        /// Padding: all begins, then all ends.
        pads: Vec<usize>,
        /// Distance of kernel elements per spatial dimension.
        dilations: Vec<usize>,
        /// Number of groups; divides C and M.
        group: usize,
        /// Zero point of x.
        x_zero: i64,
        /// Zero point of the result.
        y_zero: i64,
        /// Least result.
        min: i64,
        /// Greatest result.
        max: i64,
        /// Element type of the result, u8 or i8.
        to: DType,
        /// 0 for `f32` multipliers, else what products with integer ones are shifted by, 1..=62.
        shift: usize,
    }
    /// Weighted sum in integers: `y = clamp(y_zero + ((sum over i of (x[i] - zeros[i]) * multipliers[i] + 2^(n-1)) >> n), min, max)`
    /// in 64 bits, with `n = shift`. Operands: one or more x (u8, i8 or i16), which broadcast. Each multiplier's magnitude is below
    /// 2^31. Addition, subtraction, a change of scale, and Relu or Clip on integers. Arithmetic: `docs/integer.md`.
    QLinearAdd {
        /// Zero point of each operand.
        zeros: Vec<i64>,
        /// Multiplier of each operand.
        multipliers: Vec<i64>,
        /// What the sum is shifted by, 1..=62.
        shift: usize,
        /// Zero point of the result.
        y_zero: i64,
        /// Least result.
        min: i64,
        /// Greatest result.
        max: i64,
        /// Element type of the result, u8 or i8.
        to: DType,
    }
    /// Product in integers: `y = clamp(y_zero + (((a - zeros[0]) * (b - zeros[1]) * multiplier + 2^(n-1)) >> n), min, max)` in 64 bits,
    /// with `n = shift` and `0 < multiplier < 2^31`. Operands: a, b (u8, i8 or i16), which broadcast. Arithmetic: `docs/integer.md`.
    QLinearMul {
        /// Zero points of the operands, two.
        zeros: Vec<i64>,
        /// Multiplier of the product.
        multiplier: i64,
        /// What it is shifted by, 1..=62.
        shift: usize,
        /// Zero point of the result.
        y_zero: i64,
        /// Least result.
        min: i64,
        /// Greatest result.
        max: i64,
        /// Element type of the result, u8 or i8.
        to: DType,
    }
    /// Mean over windows in integers: `y = clamp(y_zero + ((sum (x - x_zero) * M + 2^(n-1)) >> n))` in 64 bits, the sum over the window's
    /// elements inside the input, `M = (multiplier + c/2) / c` in integers with the divisor c as in [`AveragePool`], `n = shift`,
    /// limited to the range of the result's type. Operand: x `[N,C,H,W]` (u8 or i8). Arithmetic: `docs/integer.md`.
    QLinearAveragePool {
        /// Window size.
        kernel: Vec<usize>,
        /// Window step.
        strides: Vec<usize>,
        /// Padding: all begins, then all ends.
        pads: Vec<usize>,
        /// Part of the padding that counts in the divisor: all begins, then all ends.
        counted: Vec<usize>,
        /// Distance of window elements.
        dilations: Vec<usize>,
        /// Zero point of x.
        x_zero: i64,
        /// Multiplier of one element, below 2^31.
        multiplier: i64,
        /// What products are shifted by, 1..=62.
        shift: usize,
        /// Zero point of the result.
        y_zero: i64,
        /// Element type of the result, u8 or i8.
        to: DType,
    }
    /// Softmax over one dimension in integers, in steps of 2^-24: `y = (table[d] * 2^24 + s/2) / s` in 64 bits, with `d` the largest x of
    /// the dimension less this one and `s` the sum of the `table[d]` along it. Operands: x (u8 or i8), table `[256]` (i32, positive, the
    /// first the largest). The result is i32. Arithmetic: `docs/integer.md`.
    QLinearSoftmax {
        /// Normalised dimension, of at most 2^23 elements.
        axis: usize,
    }
    /// Per image and channel normalisation over the two spatial dimensions in integers, of at most 2^22 elements. Operands: x
    /// `[N,C,H,W]` (u8 or i8), multiplier `[C]` (i32), bias `[C]` (i64, of magnitude below 2^61). Arithmetic: `docs/integer.md`.
    QLinearInstanceNormalization {
        /// Zero point of x.
        x_zero: i64,
        /// Added to the square of the deviation times the squared number of elements; at least 1, and below 2^16 times that square.
        epsilon: i64,
        /// What the weighted deviation is shifted by, 1..=62.
        shift: usize,
        /// Zero point of the result.
        y_zero: i64,
        /// Least result.
        min: i64,
        /// Greatest result.
        max: i64,
        /// Element type of the result, u8 or i8.
        to: DType,
    }
    /// `table[bits of x]`: any function of eight bits. Operands: x (u8 or i8), table `[256]` (u8 or i8), in the order of x's bits as an
    /// unsigned number.
    Lookup {}
    /// Reduction over `axes` (sorted, distinct). Operand: x. ONNX ReduceSum, ReduceMean, ..., Global*Pool.
    Reduce {
        /// What is computed.
        kind: ReduceKind,
        /// Reduced dimensions.
        axes: Vec<usize>,
        /// Keep reduced dimensions with size 1.
        keepdims: bool,
    }
    /// Softmax over one dimension (ONNX 13 semantics). Operand: x.
    Softmax {
        /// Normalised dimension.
        axis: usize,
        /// Logarithm of it (LogSoftmax).
        log: bool,
    }
    /// `result[i0, i1, ..] = x[..]` with result dimension `k` taken from x's dimension `perm[k]`. Operand: x.
    Transpose {
        /// A permutation.
        perm: Vec<usize>,
    }
    /// Same elements in row-major order under another shape. Operand: x.
    Reshape {
        /// Shape of the result, fully known.
        shape: Vec<usize>,
    }
    /// Numpy broadcasting to a shape. Operand: x.
    Expand {
        /// Shape of the result.
        shape: Vec<usize>,
    }
    /// Joins operands along one dimension.
    Concat {
        /// The dimension.
        axis: usize,
    }
    /// Strided part: element `i` of dimension `d` is `x[starts[d] + i*steps[d]]`, `sizes[d]` of them. Operand: x.
    Slice {
        /// First index per dimension.
        starts: Vec<usize>,
        /// Number of elements per dimension.
        sizes: Vec<usize>,
        /// Step per dimension, not zero; may be negative.
        steps: Vec<i64>,
    }
    /// Border around every dimension. Operand: x.
    Pad {
        /// How the border is filled.
        mode: PadMode,
        /// Elements added before: one per dimension. (Negative ONNX pads lower to a Slice first.)
        before: Vec<usize>,
        /// Elements added after.
        after: Vec<usize>,
        /// Fill of `constant` mode (converted to the element type).
        value: f32,
    }
    /// `result[.., i.., ..] = x[.., indices[i..], ..]` along `axis`. Operands: x, indices (i32 or i64; negative counts
    /// from the end; out of range is clamped to the nearest valid index).
    Gather {
        /// Gathered dimension.
        axis: usize,
    }
    /// The same bits under another element type of equal size. Operand: x.
    BitCast {
        /// Element type of the result.
        to: DType,
    }
    /// Running sum or product along a dimension. Operand: x (numeric). ONNX CumSum, CumProd.
    Cumulative {
        /// `sum` or `prod`; no other.
        kind: ReduceKind,
        /// The dimension.
        axis: usize,
        /// Element i combines those before it, itself excluded.
        exclusive: bool,
        /// From the end to the beginning.
        reverse: bool,
    }
    /// Index (i64) of the largest element of a dimension, which stays with size 1. Operand: x (numeric). ONNX ArgMax, ArgMin.
    /// A NaN is never chosen, but where there is nothing else, index 0 is.
    ArgMax {
        /// The dimension.
        axis: usize,
        /// Of the smallest instead.
        smallest: bool,
        /// Of equal elements the last instead of the first.
        last: bool,
    }
    /// Indices (i64) of the k largest elements of a dimension, in descending order, equal ones by index. Operand: x
    /// (numeric). NaN counts as larger than everything else, as with ONNX Runtime. ONNX TopK.
    TopK {
        /// The dimension; the result has size `k` there.
        axis: usize,
        /// How many.
        k: usize,
        /// The smallest instead, in ascending order.
        smallest: bool,
    }
    /// A copy of data with rows changed: for each i in order, row `indices[i]` is combined with row i of the updates.
    /// Operands: data `[n,m]`, indices `[k]` (i64; negative counts from the end; out of range is clamped), updates `[k,m]`.
    /// ONNX ScatterElements, ScatterND.
    Scatter {
        /// How.
        mode: ScatterMode,
    }
    /// The sequential part of a recurrent layer. Operands: the input's part of the gates, biases included, `[T,N,G*H]`; the
    /// recurrent weights `[H,G*H]`; a bias `[G*H]` of the recurrent product; the initial state `[S,N,H]`; the peephole
    /// weights `[3,H]` (i, o, f; LSTM only, and only with `peephole`). Result: the state after each step, `[T,S,N,H]`.
    /// ONNX LSTM 22, GRU 22, RNN 22, one direction.
    Recurrent {
        /// Equations.
        cell: Cell,
        /// ONNX's activation f: of the gates (of the RNN's only equation).
        f: UnaryOp,
        /// ONNX's activation g: of the candidate.
        g: UnaryOp,
        /// ONNX's activation h: of the cell before the output gate (LSTM).
        h: UnaryOp,
        /// There is a peephole operand.
        peephole: bool,
    }
    /// Interpolation to another spatial size (ONNX Resize 11-19 and Upsample). Operand: x.
    Resize {
        /// Result's shape.
        sizes: Vec<usize>,
        /// Scale per dimension as the coordinate mapping uses it (result/input, or the model's own value).
        scales: Vec<f32>,
        /// Interpolation.
        mode: ResizeMode,
        /// Coordinate mapping.
        coordinates: CoordinateMode,
        /// Rounding in nearest mode.
        nearest: NearestMode,
        /// Coefficient of cubic interpolation.
        cubic_coeff_a: f32,
        /// Cubic and linear: weights of samples outside are dropped and the rest renormalised.
        exclude_outside: bool,
    }
}

impl QLinearAveragePool {
    /// The pooling of floats with the same windows.
    pub fn window(&self) -> AveragePool {
        AveragePool {
            kernel: self.kernel.clone(),
            strides: self.strides.clone(),
            pads: self.pads.clone(),
            counted: self.counted.clone(),
            dilations: self.dilations.clone(),
        }
    }
}

impl QLinearInstanceNormalization {
    /// By how many bits the root is finer than its square asks for, given the number of elements: as many as 62 bits allow.
    pub fn root_bits(count: usize) -> u32 {
        23u32.saturating_sub(count.max(1).next_power_of_two().trailing_zeros())
    }
}
