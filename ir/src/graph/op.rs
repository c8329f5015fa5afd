//! The canonical operators.
//!
//! Names are ONNX's. Where ONNX has several spellings of one thing (Flatten, Squeeze, Unsqueeze, Identity...; Gemm;
//! GlobalAveragePool; Split; Flatten) only the general one is here, and the frontend lowers the rest to it.

use super::Weight;
use super::attr::{Attr, AttrError, AttrMap, AttrValue};
use crate::{DType, word_enum};

word_enum! {
    /// Element-wise operators of one operand, without attributes. The result has the operand's type.
    UnaryOp {
        /// Absolute value.
        Abs = "Abs",
        /// Negation.
        Neg = "Neg",
        /// Natural exponential.
        Exp = "Exp",
        /// Natural logarithm.
        Log = "Log",
        /// Square root.
        Sqrt = "Sqrt",
        /// `1 / x`.
        Reciprocal = "Reciprocal",
        /// Round towards minus infinity.
        Floor = "Floor",
        /// Round towards plus infinity.
        Ceil = "Ceil",
        /// Round half to even.
        Round = "Round",
        /// -1, 0 or 1.
        Sign = "Sign",
        /// Hyperbolic tangent.
        Tanh = "Tanh",
        /// Logistic function.
        Sigmoid = "Sigmoid",
        /// Gauss error function.
        Erf = "Erf",
        /// `max(x, 0)`.
        Relu = "Relu",
        /// `ln(1 + e^x)`.
        Softplus = "Softplus",
        /// Sine.
        Sin = "Sin",
        /// Cosine.
        Cos = "Cos",
        /// Logical not, of `bool`.
        Not = "Not",
    }
}

word_enum! {
    /// Element-wise operators of two operands of equal dtype, with numpy broadcasting.
    BinaryOp {
        /// Sum.
        Add = "Add",
        /// Difference.
        Sub = "Sub",
        /// Product.
        Mul = "Mul",
        /// Quotient; integers truncate towards zero.
        Div = "Div",
        /// Power.
        Pow = "Pow",
        /// Larger of the two.
        Max = "Max",
        /// Smaller of the two.
        Min = "Min",
        /// Equal; result `bool`.
        Equal = "Equal",
        /// Less; result `bool`.
        Less = "Less",
        /// Less or equal; result `bool`.
        LessOrEqual = "LessOrEqual",
        /// Greater; result `bool`.
        Greater = "Greater",
        /// Greater or equal; result `bool`.
        GreaterOrEqual = "GreaterOrEqual",
        /// Logical and, of `bool`.
        And = "And",
        /// Logical or, of `bool`.
        Or = "Or",
        /// Logical exclusive or, of `bool`.
        Xor = "Xor",
    }
}

impl BinaryOp {
    /// True if the result is `bool` whatever the operands.
    pub const fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Equal | Less | LessOrEqual | Greater | GreaterOrEqual)
    }
    /// True if the operands must be `bool`.
    pub const fn is_logical(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Xor)
    }
}

word_enum! {
    /// What a reduction computes.
    ReduceKind {
        /// Sum.
        Sum = "sum",
        /// Arithmetic mean.
        Mean = "mean",
        /// Maximum.
        Max = "max",
        /// Minimum.
        Min = "min",
        /// Product.
        Prod = "prod",
    }
}

word_enum! {
    /// How [`Pad`] fills the border.
    PadMode {
        /// With a given value.
        Constant = "constant",
        /// Mirrored without repeating the edge.
        Reflect = "reflect",
        /// With the edge's value.
        Edge = "edge",
        /// Periodically.
        Wrap = "wrap",
    }
}

word_enum! {
    /// Interpolation of [`Resize`].
    ResizeMode {
        /// The nearest sample.
        Nearest = "nearest",
        /// Linear in each resized dimension.
        Linear = "linear",
        /// Cubic convolution in each resized dimension.
        Cubic = "cubic",
    }
}

word_enum! {
    /// How [`Resize`] maps an output coordinate to an input coordinate (ONNX `coordinate_transformation_mode`).
    CoordinateMode {
        /// `(x + 0.5) / scale - 0.5`
        HalfPixel = "half_pixel",
        /// As `half_pixel`, but 0 when the output length is 1.
        PytorchHalfPixel = "pytorch_half_pixel",
        /// `x * (in - 1) / (out - 1)`
        AlignCorners = "align_corners",
        /// `x / scale`
        Asymmetric = "asymmetric",
    }
}

word_enum! {
    /// How [`Resize`] rounds in `nearest` mode.
    NearestMode {
        /// Halves go down.
        RoundPreferFloor = "round_prefer_floor",
        /// Halves go up.
        RoundPreferCeil = "round_prefer_ceil",
        /// Always down.
        Floor = "floor",
        /// Always up.
        Ceil = "ceil",
    }
}

/// Activation applied by a fused epilogue. Text: `none`, `relu`, `clip(0.0,6.0)`, `leaky_relu(0.1)`.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum Activation {
    /// Identity.
    #[default]
    None,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, min), max)`
    Clip {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
    /// `x` where positive, else `alpha * x`
    LeakyRelu {
        /// Slope of the negative side.
        alpha: f32,
    },
}

impl AttrValue for Activation {
    fn to_attr(&self) -> Attr {
        match *self {
            Activation::None => Attr::Word("none".to_owned()),
            Activation::Relu => Attr::Word("relu".to_owned()),
            Activation::Clip { min, max } => Attr::Call("clip".to_owned(), vec![min, max]),
            Activation::LeakyRelu { alpha } => Attr::Call("leaky_relu".to_owned(), vec![alpha]),
        }
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::Word(w) if w == "none" => Some(Activation::None),
            Attr::Word(w) if w == "relu" => Some(Activation::Relu),
            Attr::Call(w, args) => match (w.as_str(), args.as_slice()) {
                ("clip", &[min, max]) => Some(Activation::Clip { min, max }),
                ("leaky_relu", &[alpha]) => Some(Activation::LeakyRelu { alpha }),
                _ => None,
            },
            _ => None,
        }
    }
}

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
