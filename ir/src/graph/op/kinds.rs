//! What canonical operators are told apart by, besides their names: functions of elements, modes, and the activation of an epilogue.

use crate::graph::attr::{Attr, AttrValue};
use crate::word_enum;

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
        /// Inverse tangent.
        Atan = "Atan",
        /// Complement of every bit, of integers.
        BitwiseNot = "BitwiseNot",
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
        /// And of every bit, of integers.
        BitwiseAnd = "BitwiseAnd",
        /// Or of every bit, of integers.
        BitwiseOr = "BitwiseOr",
        /// Exclusive or of every bit, of integers.
        BitwiseXor = "BitwiseXor",
        /// `a << b`, of integers; 0 where b is negative, or the width or more.
        ShiftLeft = "ShiftLeft",
        /// `a >> b`, of integers, arithmetic for signed ones; where b is negative, or the width or more, -1 if a is
        /// negative, else 0.
        ShiftRight = "ShiftRight",
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
    /// True if the operands must be integers.
    pub const fn is_bitwise(self) -> bool {
        use BinaryOp::*;
        matches!(self, BitwiseAnd | BitwiseOr | BitwiseXor | ShiftLeft | ShiftRight)
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
    /// How [`Scatter`](super::Scatter) combines an update with what is there.
    ScatterMode {
        /// The update replaces it; of several the last wins.
        Set = "set",
        /// Sum.
        Add = "add",
        /// Product.
        Mul = "mul",
        /// Larger of the two.
        Max = "max",
        /// Smaller of the two.
        Min = "min",
    }
}

word_enum! {
    /// Equations of [`Recurrent`](super::Recurrent).
    Cell {
        /// Long short-term memory; gates in ONNX's order i, o, f, c; state h, c.
        Lstm = "lstm",
        /// Gated recurrent unit, `linear_before_reset` = 0; gates z, r, h; state h.
        Gru = "gru",
        /// Gated recurrent unit, `linear_before_reset` = 1.
        GruLinear = "gru_linear",
        /// One gate; state h.
        Rnn = "rnn",
    }
}

impl Cell {
    /// Number of gates.
    pub const fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru | Cell::GruLinear => 3,
            Cell::Rnn => 1,
        }
    }
    /// Number of state vectors.
    pub const fn states(self) -> usize {
        match self {
            Cell::Lstm => 2,
            Cell::Gru | Cell::GruLinear | Cell::Rnn => 1,
        }
    }
}

word_enum! {
    /// How [`Pad`](super::Pad) fills the border.
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
    /// Interpolation of [`Resize`](super::Resize).
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
    /// How [`Resize`](super::Resize) maps an output coordinate to an input coordinate (ONNX `coordinate_transformation_mode`).
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
    /// How [`Resize`](super::Resize) rounds in `nearest` mode.
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
