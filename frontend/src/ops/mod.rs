//! The operators: one module per family, and the one table that finds them.
//!
//! To add an operator: write `fn name(c: &mut NodeCtx) -> Lowered` in its family's module and add its line to the table.

mod activation;
mod attention;
mod bits;
mod cast;
mod constant;
mod conv;
mod einsum;
mod elementwise;
mod index;
mod learn;
mod linear;
mod loss;
mod matmul;
mod microsoft;
mod normalize;
mod order;
mod pad;
mod pool;
mod qlinear;
mod quant;
mod recurrent;
mod recurrent_steps;
mod reduce;
mod region;
mod resample;
mod reshape;
mod resize;
mod sample;
mod signal;
mod slice;
mod training;
mod trigonometry;
mod window;

pub(crate) use index::{join, repeat};

use crate::ctx::{Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::Value;

/// Newest operator set whose changes the lowerings know (ONNX 1.23).
pub(crate) const NEWEST_OPSET: i64 = 28;
/// Oldest operator set accepted.
pub(crate) const OLDEST_OPSET: i64 = 1;

/// How a node becomes graph IR.
#[derive(Clone, Copy)]
pub(crate) enum Lowering {
    One(fn(&mut NodeCtx) -> Lowered),
    Many(fn(&mut NodeCtx) -> Result<Vec<Value>, Fault>),
    /// A branch known at compile time is put in place of the node; done by the importer, which owns the scopes.
    If,
    /// Loops are unrolled, by the importer too.
    Loop,
    Scan,
    /// Has bodies that are put in place, by the importer too.
    FlexAttention,
    /// Reads or makes a sequence, which is no value of the graph but a list that the importer keeps.
    Sequence,
}

/// One line of the table.
pub(crate) struct Entry {
    pub name: &'static str,
    /// Operator set that introduced the operator.
    pub since: i64,
    /// Number of operands: least and most.
    pub operands: (usize, usize),
    pub lowering: Lowering,
}

/// The operators of a domain; `None` if none of them is known.
pub(crate) fn domain(domain: &str) -> Option<&'static [Entry]> {
    match domain {
        "" | "ai.onnx" => Some(TABLE),
        "ai.onnx.ml" => Some(LEARN),
        "ai.onnx.preview" => Some(PREVIEW),
        "ai.onnx.preview.training" => Some(TRAINING),
        "com.microsoft" => Some(MICROSOFT),
        _ => None,
    }
}

/// The entry of an operator.
pub(crate) fn find(domain: &str, name: &str) -> Option<&'static Entry> {
    let table = self::domain(domain)?;
    let at = table.binary_search_by(|e| e.name.cmp(name)).ok()?;
    Some(&table[at])
}

/// Domains and names of all operators with a lowering.
pub fn operators() -> impl Iterator<Item = (&'static str, &'static str)> {
    let domains = [
        "",
        "ai.onnx.ml",
        "ai.onnx.preview",
        "ai.onnx.preview.training",
        "com.microsoft",
    ];
    domains
        .into_iter()
        .flat_map(|d| domain(d).unwrap_or_default().iter().map(move |e| (d, e.name)))
}

/// Names of the default domain's operators with a lowering, in alphabetical order.
pub fn supported_operators() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|e| e.name)
}

/// The operator set that introduced an operator of the default domain, from which on sdc supports it.
pub fn supported_since(name: &str) -> Option<i64> {
    find("", name).map(|e| e.since)
}

/// Why an operator is refused whose result has a size that depends on its operands' values, and the bound that is missing.
pub(crate) fn unbounded(name: &str) -> Option<&'static str> {
    Some(match name {
        "NonMaxSuppression" => {
            "the number of boxes it selects depends on values, and nothing bounds it at compile time but the product of batches, \
             classes and max_output_boxes_per_class; let the model end with its boxes and scores, and select outside it"
        }
        "Unique" => {
            "the number of distinct elements depends on values, and nothing bounds it at compile time but the number of elements"
        }
        "StringSplit" => "the number of parts depends on the text, and nothing bounds it at compile time",
        _ => return None,
    })
}

/// A lowering was entered in the table under a name it does not handle.
fn unknown(c: &NodeCtx) -> Fault {
    Fault::new(
        Code::Operator,
        format!("operator {} is not supported", c.op_type()),
    )
}

const ANY: usize = usize::MAX;

const fn one(
    name: &'static str,
    since: i64,
    operands: (usize, usize),
    f: fn(&mut NodeCtx) -> Lowered,
) -> Entry {
    Entry {
        name,
        since,
        operands,
        lowering: Lowering::One(f),
    }
}

const fn sequence(name: &'static str, since: i64, operands: (usize, usize)) -> Entry {
    Entry {
        name,
        since,
        operands,
        lowering: Lowering::Sequence,
    }
}

const fn many(
    name: &'static str,
    since: i64,
    operands: (usize, usize),
    f: fn(&mut NodeCtx) -> Result<Vec<Value>, Fault>,
) -> Entry {
    Entry {
        name,
        since,
        operands,
        lowering: Lowering::Many(f),
    }
}

/// Sorted by name.
#[rustfmt::skip]
static TABLE: &[Entry] = &[
    one("Abs", 1, (1, 1), elementwise::unary),
    one("Acos", 7, (1, 1), trigonometry::acos),
    one("Acosh", 9, (1, 1), trigonometry::acosh),
    one("Add", 1, (2, 2), elementwise::binary),
    one("AffineGrid", 20, (2, 2), sample::affine_grid),
    one("And", 1, (2, 2), elementwise::binary),
    one("ArgMax", 1, (1, 1), order::arg_extremum),
    one("ArgMin", 1, (1, 1), order::arg_extremum),
    one("Asin", 7, (1, 1), trigonometry::asin),
    one("Asinh", 9, (1, 1), trigonometry::asinh),
    one("Atan", 7, (1, 1), elementwise::unary),
    one("Atanh", 9, (1, 1), trigonometry::atanh),
    many("Attention", 23, (3, 7), attention::attention),
    one("AveragePool", 1, (1, 1), pool::average_pool),
    many("BatchNormalization", 1, (5, 5), normalize::batch),
    one("BitCast", 26, (1, 1), bits::bit_cast),
    one("BitShift", 11, (2, 2), bits::shift),
    one("BitwiseAnd", 18, (2, 2), bits::bitwise),
    one("BitwiseNot", 18, (1, 1), bits::bitwise_not),
    one("BitwiseOr", 18, (2, 2), bits::bitwise),
    one("BitwiseXor", 18, (2, 2), bits::bitwise),
    one("BlackmanWindow", 17, (1, 1), signal::window),
    one("Cast", 1, (1, 1), cast::cast),
    one("CastLike", 15, (2, 2), cast::cast_like),
    many("CausalConvWithState", 27, (2, 4), attention::causal_conv),
    one("Ceil", 1, (1, 1), elementwise::unary),
    one("Celu", 12, (1, 1), activation::celu),
    one("CenterCropPad", 18, (2, 2), pad::center_crop_pad),
    one("Clip", 1, (1, 3), activation::clip),
    one("Col2Im", 18, (3, 3), region::col2im),
    one("Compress", 9, (2, 2), index::compress),
    one("Concat", 1, (1, ANY), slice::concat),
    sequence("ConcatFromSequence", 11, (1, 1)),
    one("Constant", 1, (0, 0), constant::constant),
    one("ConstantOfShape", 9, (1, 1), constant::constant_of_shape),
    one("Conv", 1, (2, 3), conv::conv),
    one("ConvInteger", 10, (2, 4), qlinear::conv_integer),
    one("ConvTranspose", 1, (2, 3), conv::conv_transpose),
    one("Cos", 7, (1, 1), elementwise::unary),
    one("Cosh", 9, (1, 1), trigonometry::cosh),
    one("CumProd", 26, (2, 2), order::cumulative),
    one("CumSum", 11, (2, 2), order::cumulative),
    one("DFT", 17, (1, 3), signal::dft),
    one("DeformConv", 19, (3, 5), region::deform_conv),
    one("DepthToSpace", 1, (1, 1), reshape::depth_to_space),
    one("DequantizeLinear", 10, (2, 3), quant::dequantize),
    one("Det", 11, (1, 1), linear::det),
    one("Div", 1, (2, 2), elementwise::binary),
    many("Dropout", 1, (1, 3), constant::dropout),
    many("DynamicQuantizeLinear", 11, (1, 1), qlinear::dynamic),
    one("Einsum", 12, (1, ANY), einsum::einsum),
    one("Elu", 1, (1, 1), activation::elu),
    one("Equal", 1, (2, 2), elementwise::binary),
    one("Erf", 9, (1, 1), elementwise::unary),
    one("Exp", 1, (1, 1), elementwise::unary),
    one("Expand", 8, (2, 2), reshape::expand),
    one("EyeLike", 9, (1, 1), index::eye_like),
    one("Flatten", 1, (1, 1), reshape::flatten),
    one("Floor", 1, (1, 1), elementwise::unary),
    many("GRU", 7, (3, 6), recurrent::layer),
    one("Gather", 1, (2, 2), slice::gather),
    one("GatherElements", 11, (2, 2), index::gather_elements),
    one("GatherND", 11, (2, 2), index::gather_nd),
    one("Gelu", 20, (1, 1), activation::gelu),
    one("Gemm", 1, (2, 3), matmul::gemm),
    one("GlobalAveragePool", 1, (1, 1), pool::global),
    one("GlobalLpPool", 1, (1, 1), pool::global_lp),
    one("GlobalMaxPool", 1, (1, 1), pool::global),
    one("Greater", 1, (2, 2), elementwise::binary),
    one("GreaterOrEqual", 12, (2, 2), elementwise::binary),
    one("GridSample", 16, (2, 2), sample::grid_sample),
    one("GroupNormalization", 18, (3, 3), normalize::group),
    one("HammingWindow", 17, (1, 1), signal::window),
    one("HannWindow", 17, (1, 1), signal::window),
    one("HardSigmoid", 1, (1, 1), activation::hard_sigmoid),
    one("HardSwish", 14, (1, 1), activation::hard_swish),
    one("Hardmax", 1, (1, 1), order::hardmax),
    one("Identity", 1, (1, 1), constant::identity),
    Entry { name: "If", since: 1, operands: (1, 1), lowering: Lowering::If },
    one("InstanceNormalization", 1, (3, 3), normalize::instance),
    one("IsInf", 10, (1, 1), elementwise::is_inf),
    one("IsNaN", 9, (1, 1), elementwise::is_nan),
    one("LRN", 1, (1, 1), pool::lrn),
    many("LSTM", 7, (3, 8), recurrent::layer),
    many("LayerNormalization", 17, (2, 3), normalize::layer),
    one("LeakyRelu", 1, (1, 1), activation::leaky_relu),
    one("Less", 1, (2, 2), elementwise::binary),
    one("LessOrEqual", 12, (2, 2), elementwise::binary),
    many("LinearAttention", 27, (3, 6), attention::linear_attention),
    one("Log", 1, (1, 1), elementwise::unary),
    one("LogSoftmax", 1, (1, 1), normalize::softmax),
    Entry { name: "Loop", since: 1, operands: (2, ANY), lowering: Lowering::Loop },
    one("LpNormalization", 1, (1, 1), normalize::lp),
    one("LpPool", 1, (1, 1), pool::lp_pool),
    one("MatMul", 1, (2, 2), matmul::matmul),
    one("MatMulInteger", 10, (2, 4), qlinear::matmul_integer),
    one("Max", 1, (1, ANY), elementwise::extremum),
    many("MaxPool", 1, (1, 1), pool::max_pool),
    one("MaxUnpool", 9, (2, 3), region::max_unpool),
    one("Mean", 1, (1, ANY), elementwise::mean),
    one("MeanVarianceNormalization", 9, (1, 1), normalize::mean_variance),
    one("MelWeightMatrix", 17, (5, 5), linear::mel_weights),
    one("Min", 1, (1, ANY), elementwise::extremum),
    one("Mish", 18, (1, 1), activation::mish),
    one("Mod", 10, (2, 2), elementwise::modulo),
    one("Mul", 1, (2, 2), elementwise::binary),
    one("Neg", 1, (1, 1), elementwise::unary),
    one("NegativeLogLikelihoodLoss", 12, (2, 3), loss::nll),
    one("NonZero", 9, (1, 1), index::non_zero),
    one("Not", 1, (1, 1), elementwise::unary),
    one("OneHot", 9, (3, 3), index::one_hot),
    one("Or", 1, (2, 2), elementwise::binary),
    one("PRelu", 1, (2, 2), activation::prelu),
    one("Pad", 1, (1, 4), pad::pad),
    one("Pow", 1, (2, 2), elementwise::pow),
    one("QLinearConv", 10, (8, 9), qlinear::conv),
    one("QLinearMatMul", 10, (8, 8), qlinear::matmul),
    one("QuantizeLinear", 10, (2, 3), quant::quantize),
    one("RMSNormalization", 23, (2, 2), normalize::rms),
    many("RNN", 7, (3, 6), recurrent::layer),
    one("Range", 11, (3, 3), constant::range),
    one("Reciprocal", 1, (1, 1), elementwise::unary),
    one("ReduceL1", 1, (1, 2), reduce::l1),
    one("ReduceL2", 1, (1, 2), reduce::l2),
    one("ReduceLogSum", 1, (1, 2), reduce::log_sum),
    one("ReduceLogSumExp", 1, (1, 2), reduce::log_sum_exp),
    one("ReduceMax", 1, (1, 2), reduce::plain),
    one("ReduceMean", 1, (1, 2), reduce::plain),
    one("ReduceMin", 1, (1, 2), reduce::plain),
    one("ReduceProd", 1, (1, 2), reduce::plain),
    one("ReduceSum", 1, (1, 2), reduce::plain),
    one("ReduceSumSquare", 1, (1, 2), reduce::sum_square),
    one("Relu", 1, (1, 1), elementwise::unary),
    one("Reshape", 1, (1, 2), reshape::reshape),
    one("Resize", 10, (1, 4), resize::resize),
    one("ReverseSequence", 10, (2, 2), index::reverse_sequence),
    one("RoiAlign", 10, (3, 3), region::roi_align),
    one("RotaryEmbedding", 23, (3, 4), attention::rotary),
    one("Round", 11, (1, 1), elementwise::unary),
    one("STFT", 17, (2, 4), signal::stft),
    Entry { name: "Scan", since: 8, operands: (1, ANY), lowering: Lowering::Scan },
    one("Scatter", 9, (3, 3), index::scatter_elements),
    one("ScatterElements", 11, (3, 3), index::scatter_elements),
    one("ScatterND", 11, (3, 3), index::scatter_nd),
    one("Selu", 1, (1, 1), activation::selu),
    sequence("SequenceAt", 11, (2, 2)),
    sequence("SequenceConstruct", 11, (1, ANY)),
    sequence("SequenceEmpty", 11, (0, 0)),
    sequence("SequenceErase", 11, (1, 2)),
    sequence("SequenceInsert", 11, (2, 3)),
    sequence("SequenceLength", 11, (1, 1)),
    one("Shape", 1, (1, 1), constant::shape),
    one("Shrink", 9, (1, 1), activation::shrink),
    one("Sigmoid", 1, (1, 1), elementwise::unary),
    one("Sign", 9, (1, 1), elementwise::unary),
    // What ONNX Runtime's optimiser calls RMSNormalization, in the default domain.
    one("SimplifiedLayerNormalization", 1, (2, 2), normalize::rms),
    one("Sin", 7, (1, 1), elementwise::unary),
    one("Sinh", 9, (1, 1), trigonometry::sinh),
    one("Size", 1, (1, 1), constant::size),
    one("Slice", 1, (1, 5), slice::slice),
    one("Softmax", 1, (1, 1), normalize::softmax),
    many("SoftmaxCrossEntropyLoss", 12, (2, 3), loss::cross_entropy),
    one("Softplus", 1, (1, 1), elementwise::unary),
    one("Softsign", 1, (1, 1), activation::softsign),
    one("SpaceToDepth", 1, (1, 1), reshape::space_to_depth),
    many("Split", 1, (1, 2), slice::split),
    sequence("SplitToSequence", 11, (1, 2)),
    one("Sqrt", 1, (1, 1), elementwise::unary),
    one("Squeeze", 1, (1, 2), reshape::squeeze),
    one("Sub", 1, (2, 2), elementwise::binary),
    one("Sum", 1, (1, ANY), elementwise::sum),
    one("SwiGLU", 28, (2, 2), activation::swiglu),
    one("Swish", 24, (1, 1), activation::swish),
    one("Tan", 7, (1, 1), trigonometry::tan),
    one("Tanh", 1, (1, 1), elementwise::unary),
    one("TensorScatter", 24, (2, 3), index::tensor_scatter),
    one("ThresholdedRelu", 10, (1, 1), activation::thresholded_relu),
    one("Tile", 1, (2, 2), reshape::tile),
    many("TopK", 1, (1, 2), order::top_k),
    one("Transpose", 1, (1, 1), reshape::transpose),
    one("Trilu", 14, (1, 2), index::trilu),
    one("Unsqueeze", 1, (1, 2), reshape::unsqueeze),
    one("Upsample", 1, (1, 2), resize::upsample),
    one("Where", 9, (3, 3), elementwise::select),
    one("Xor", 1, (2, 2), elementwise::binary),
];

/// Of domain `ai.onnx.ml`.
#[rustfmt::skip]
static LEARN: &[Entry] = &[
    one("ArrayFeatureExtractor", 1, (2, 2), learn::feature_extractor),
    one("Binarizer", 1, (1, 1), learn::binarizer),
];

/// Of domain `ai.onnx.preview`.
#[rustfmt::skip]
static PREVIEW: &[Entry] = &[
    Entry { name: "FlexAttention", since: 1, operands: (3, 3), lowering: Lowering::FlexAttention },
];

/// Of domain `ai.onnx.preview.training`.
#[rustfmt::skip]
static TRAINING: &[Entry] = &[
    many("Adagrad", 1, (5, ANY), training::adagrad),
    many("Adam", 1, (6, ANY), training::adam),
    many("Momentum", 1, (5, ANY), training::momentum),
];

/// Of domain `com.microsoft`, sorted by name. Its version says nothing about operators.
#[rustfmt::skip]
static MICROSOFT: &[Entry] = &[
    one("BiasGelu", 1, (2, 2), microsoft::gelu),
    one("DequantizeLinear", 1, (2, 3), quant::dequantize),
    one("DynamicQuantizeMatMul", 1, (3, 5), microsoft::dynamic_quantize_matmul),
    one("ExpandDims", 1, (2, 2), microsoft::expand_dims),
    one("FastGelu", 1, (1, 2), microsoft::fast_gelu),
    one("FusedConv", 1, (2, 4), microsoft::fused_conv),
    one("FusedGemm", 1, (2, 3), microsoft::fused_gemm),
    one("FusedMatMul", 1, (2, 2), microsoft::fused_matmul),
    one("Gelu", 1, (1, 1), microsoft::gelu),
    one("MatMulIntegerToFloat", 1, (4, 7), microsoft::matmul_integer_to_float),
    one("MatMulNBits", 1, (3, 6), microsoft::matmul_n_bits),
    one("QGemm", 1, (6, 9), microsoft::qgemm),
    one("QLinearAdd", 1, (7, 8), microsoft::qlinear_binary),
    one("QLinearConcat", 1, (5, ANY), microsoft::qlinear_concat),
    one("QLinearGlobalAveragePool", 1, (5, 5), microsoft::qlinear_global_average),
    one("QLinearLeakyRelu", 1, (4, 5), microsoft::qlinear_unary),
    one("QLinearMul", 1, (7, 8), microsoft::qlinear_binary),
    one("QLinearSigmoid", 1, (4, 5), microsoft::qlinear_unary),
    one("QLinearSoftmax", 1, (5, 5), microsoft::qlinear_softmax),
    one("QuantizeLinear", 1, (2, 3), quant::quantize),
    one("QuickGelu", 1, (1, 1), microsoft::quick_gelu),
    many("SkipLayerNormalization", 1, (3, 5), microsoft::skip_layer),
    many("SkipSimplifiedLayerNormalization", 1, (3, 4), microsoft::skip_rms),
    one("TransposeMatMul", 1, (2, 2), microsoft::fused_matmul),
];

#[cfg(test)]
mod tests {
    use super::{LEARN, MICROSOFT, TABLE, TRAINING};

    #[test]
    fn the_tables_are_sorted_and_without_repetition() {
        for pair in [TABLE, LEARN, TRAINING, MICROSOFT]
            .iter()
            .flat_map(|t| t.windows(2))
        {
            assert!(
                pair[0].name < pair[1].name,
                "{} before {}",
                pair[0].name,
                pair[1].name
            );
        }
    }
}
