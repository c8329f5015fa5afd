//! Import errors: stable codes, classes for exit codes, and the list that names every problem at once.

use sdc_ir::graph::{Origin, Value};
use std::fmt;

/// What kind of failure an error is; decides the exit code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    /// The caller's doing: a bad option, a file that cannot be read (exit code 2).
    Usage,
    /// The model breaks ONNX's rules (exit code 3).
    Malformed,
    /// The model is fine, sdc cannot compile it (exit code 4).
    Unsupported,
    /// A size exceeds a limit (exit code 5).
    Limit,
}

impl Class {
    /// Exit code of the command-line tool.
    pub const fn exit_code(self) -> u8 {
        match self {
            Class::Usage => 2,
            Class::Malformed => 3,
            Class::Unsupported => 4,
            Class::Limit => 5,
        }
    }
}

macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident = $text:literal, $class:ident;)*) => {
        /// Stable code of an error: E01xx malformed, E02xx unsupported, E03xx limit, E04xx usage.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Code { $($(#[$meta])* $name),* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$name),*];
            /// The code as printed: `E0201`.
            pub const fn text(self) -> &'static str {
                match self { $(Code::$name => $text),* }
            }
            /// Its class.
            pub const fn class(self) -> Class {
                match self { $(Code::$name => Class::$class),* }
            }
        }
    };
}

codes! {
    /// The bytes are not an ONNX protobuf message.
    Undecodable = "E0101", Malformed;
    /// A required part of the model is absent.
    Missing = "E0102", Malformed;
    /// A tensor's declared shape and its data disagree.
    BadTensor = "E0103", Malformed;
    /// A node or output reads a value that nothing defines.
    UndefinedValue = "E0104", Malformed;
    /// Two definitions of one name.
    DuplicateName = "E0105", Malformed;
    /// Nodes depend on each other in a circle.
    Cycle = "E0106", Malformed;
    /// An attribute is absent, of the wrong type or out of range.
    BadAttribute = "E0107", Malformed;
    /// Operands do not fit the operator.
    BadOperands = "E0108", Malformed;
    /// An input declaration makes no sense.
    BadInput = "E0109", Malformed;
    /// External data lies outside its file or its permitted folder.
    BadExternalData = "E0110", Malformed;
    /// The operator is younger than the operator set the model declares.
    NotInOpset = "E0111", Malformed;
    /// A compressed weight cannot be read, or is not the int8 weight it travels with.
    BadPayload = "E0112", Malformed;

    /// No lowering for this operator.
    Operator = "E0201", Unsupported;
    /// The operator is of a domain sdc does not know.
    Domain = "E0202", Unsupported;
    /// The operator set is too old.
    Opset = "E0203", Unsupported;
    /// An attribute, or a value of it, that the lowering does not know.
    Attribute = "E0204", Unsupported;
    /// An element type sdc does not have.
    ElementType = "E0205", Unsupported;
    /// An operand that shapes depend on is computed from the model's inputs.
    DataDependent = "E0206", Unsupported;
    /// An input or output that is not a tensor of known rank.
    NotATensor = "E0207", Unsupported;
    /// A combination of operands or a use of an output that the lowering does not know.
    Form = "E0208", Unsupported;
    /// A sparse tensor.
    Sparse = "E0209", Unsupported;
    /// A symbolic dimension has no value.
    UnpinnedDim = "E0210", Unsupported;
    /// Compressed weights of a version sdc does not know.
    PayloadVersion = "E0211", Unsupported;

    /// The operator has no code for these element types, ranks or sizes; found after the import, by the passes.
    Lowering = "E0212", Unsupported;

    /// A tensor has too many elements or dimensions.
    TooLarge = "E0301", Limit;
    /// The model has too many nodes.
    TooManyNodes = "E0302", Limit;
    /// Too much would be computed at compile time.
    FoldLimit = "E0303", Limit;

    /// `--dim` names a dimension the model does not have, or gives an impossible value.
    BadPin = "E0401", Usage;
    /// An external data file cannot be read.
    ExternalUnreadable = "E0402", Usage;
}

/// One problem of a model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportError {
    /// Stable code.
    pub code: Code,
    /// The node (or initialiser) at fault; absent if the model as a whole is.
    pub node: Option<Origin>,
    /// Operands where known, as `name: f32[1,3]`.
    pub operands: Vec<String>,
    /// What is wrong.
    pub message: String,
    /// What would help.
    pub help: Option<String>,
    /// Inputs of the model whose values, given at compile time, would remove the problem.
    pub fix: Vec<String>,
}

impl ImportError {
    /// Class of the code.
    pub fn class(&self) -> Class {
        self.code.class()
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.code.text())?;
        if let Some(node) = &self.node {
            write!(f, "{node}: ")?;
        }
        f.write_str(&self.message)?;
        if !self.operands.is_empty() {
            write!(f, "; operands: {}", self.operands.join(", "))?;
        }
        if let Some(help) = &self.help {
            write!(f, "; help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ImportError {}

/// Every problem found in one import; never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportErrors(pub Vec<ImportError>);

impl ImportErrors {
    /// The class that decides the exit code. A model that is malformed is so whatever else it is; then a wrong use
    /// is named, then what is unsupported, then limits.
    pub fn class(&self) -> Class {
        let rank = |c: Class| match c {
            Class::Malformed => 0,
            Class::Usage => 1,
            Class::Unsupported => 2,
            Class::Limit => 3,
        };
        let worst = self.0.iter().map(ImportError::class).min_by_key(|&c| rank(c));
        worst.unwrap_or(Class::Malformed)
    }
}

impl fmt::Display for ImportErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, e) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{e}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ImportErrors {}

/// A problem while its node is not yet known: what lowerings return.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub code: Code,
    pub message: String,
    pub help: Option<String>,
    /// Inputs that would remove the problem.
    pub fix: Vec<String>,
    /// The value that should have been known at compile time, if that is the problem.
    pub unknown: Option<Value>,
}

impl Fault {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            help: None,
            fix: Vec::new(),
            unknown: None,
        }
    }
    /// Says which value should have been known.
    pub fn of(mut self, value: Value) -> Self {
        self.unknown = Some(value);
        self
    }
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
    /// The finished error, at a node or of the whole model.
    pub fn at(self, node: Option<Origin>) -> ImportError {
        ImportError {
            code: self.code,
            node,
            operands: Vec::new(),
            message: self.message,
            help: self.help,
            fix: self.fix,
        }
    }
}
