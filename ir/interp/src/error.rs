//! Why an evaluation failed.

use crate::tile::TileError;
use sdc_ir::graph::{InferError, Node, Origin, Value};
use sdc_ir::tensor::TensorError;

/// An operator or graph could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The operands do not fit the operator.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// The operator is not defined for these operands.
    #[error("{op}: {reason}")]
    Unsupported {
        /// Operator.
        op: &'static str,
        /// What is not supported.
        reason: String,
    },
    /// A tensor could not be made or read.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A result does not fit into memory.
    #[error("out of memory: {0} bytes for one tensor")]
    OutOfMemory(usize),
    /// The number of inputs is not the graph's.
    #[error("expected {expected} inputs, got {actual}")]
    InputCount {
        /// Inputs of the graph or module.
        expected: usize,
        /// Inputs given.
        actual: usize,
    },
    /// An input's element type or shape is not the graph's.
    #[error("input `{name}`: expected {expected}, got {actual}")]
    InputType {
        /// Name of the input.
        name: String,
        /// Type in the graph, as text.
        expected: String,
        /// Type of the tensor given, as text.
        actual: String,
    },
    /// A value is read that no input and no earlier node defines.
    #[error("value {0} has no definition before its use")]
    Undefined(Value),
    /// A node names a weight that the graph does not have.
    #[error("the weights table has no entry {0}")]
    NoWeight(sdc_ir::graph::Weight),
    /// The graph declares another type for a result than the operator gives.
    #[error("the graph declares {value} to be {declared}, the operator gives {actual}")]
    ResultType {
        /// The value.
        value: Value,
        /// Type in the graph, as text.
        declared: String,
        /// Type of the result, as text.
        actual: String,
    },
    /// A node of a graph failed.
    #[error("node {node} ({op}, from {}): {source}", origins_text(.origins))]
    Node {
        /// The node.
        node: Node,
        /// Its operator.
        op: &'static str,
        /// ONNX nodes it stands for.
        origins: Vec<Origin>,
        /// What went wrong.
        source: Box<EvalError>,
    },
    /// A tile module failed.
    #[error(transparent)]
    Tile(#[from] TileError),
}

fn origins_text(origins: &[Origin]) -> String {
    match origins {
        [] => "nowhere".to_owned(),
        [first] => first.to_string(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}
