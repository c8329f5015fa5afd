//! What passes ask of an operator, each answered for every operator.

use super::Op;

/// How the elements of an operator's result depend on its operands' elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Locality {
    /// No operands.
    Constant,
    /// Each element from the elements at its own place, operands being broadcast.
    ElementWise,
    /// Each row (dimension 2) from an interval of rows.
    Spatial,
    /// The elements of the operand as they are, under another shape, order of dimensions or layout.
    Same,
    /// In some other way.
    Other,
}

impl Op {
    /// How the elements of the result depend on the operands' elements.
    pub const fn locality(&self) -> Locality {
        match self {
            Op::Constant(_) => Locality::Constant,
            Op::Unary(_)
            | Op::Binary(_)
            | Op::Where(_)
            | Op::Clip(_)
            | Op::LeakyRelu(_)
            | Op::Elu(_)
            | Op::HardSigmoid(_)
            | Op::Cast(_)
            | Op::BitCast(_)
            | Op::QuantizeLinear(_)
            | Op::DequantizeLinear(_)
            | Op::QLinearAdd(_)
            | Op::QLinearMul(_)
            | Op::Lookup(_)
            | Op::BatchNormalization(_) => Locality::ElementWise,
            Op::Conv(_)
            | Op::QLinearConv(_)
            | Op::ConvTranspose(_)
            | Op::MaxPool(_)
            | Op::AveragePool(_)
            | Op::QLinearAveragePool(_)
            | Op::Pad(_)
            | Op::Resize(_) => Locality::Spatial,
            Op::Relayout(_) | Op::Transpose(_) | Op::Reshape(_) => Locality::Same,
            Op::Rebuild(_)
            | Op::MatMul(_)
            | Op::InstanceNormalization(_)
            | Op::LayerNormalization(_)
            | Op::QLinearSoftmax(_)
            | Op::QLinearInstanceNormalization(_)
            | Op::Reduce(_)
            | Op::Softmax(_)
            | Op::Expand(_)
            | Op::Concat(_)
            | Op::Slice(_)
            | Op::Gather(_)
            | Op::Cumulative(_)
            | Op::ArgMax(_)
            | Op::TopK(_)
            | Op::Scatter(_)
            | Op::Recurrent(_) => Locality::Other,
        }
    }

    /// True for operators computed element by element from broadcast operands.
    pub const fn is_elementwise(&self) -> bool {
        matches!(self.locality(), Locality::ElementWise)
    }

    /// True for operators that compute each row of their result (dimension 2) from an interval of rows, so that a run may
    /// compute it in parts.
    pub const fn is_spatial(&self) -> bool {
        matches!(self.locality(), Locality::Spatial)
    }
}
