//! What goes wrong: errors with a kind, and the problems they consist of, for people.

mod problems;

pub use problems::{Nodes, Problem};

use sdc_artifact::ObjectError;
use sdc_artifact::emit::EmitError;
use sdc_artifact::load::{Fault, LoadError};
use sdc_artifact::measure::MeasureError;
use sdc_frontend::{Class, ImportError, ImportErrors};
use sdc_passes::decompose::DecomposeError;
use sdc_passes::driver::DriverError;
use sdc_passes::integer::IntegerError;
use sdc_passes::pass::PassError;
use sdc_passes::pipeline::PipelineError;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

/// A result of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose fault an error is. The command line makes exit codes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Wrong use, or a file that cannot be read or written.
    Usage,
    /// A file that breaks its format's rules.
    Malformed,
    /// The input is fine, sdc cannot do it.
    Unsupported,
    /// A size exceeds a limit.
    Limit,
    /// The caller's [`Observer`](crate::Observer) asked to stop.
    Cancelled,
    /// A bug in sdc.
    Bug,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What this crate itself finds wrong.
    #[error("{}", .1.message)]
    Plain(Kind, Box<Problem>),
    /// Several things of this crate's own, or of the accelerator's crates.
    #[error("{}", .1.iter().map(|p| p.message.as_str()).collect::<Vec<_>>().join("\n"))]
    Several(Kind, Vec<Problem>),
    /// A file or directory could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A model could not be read.
    #[error(transparent)]
    Import(#[from] ImportErrors),
    /// The passes gave up.
    #[error(transparent)]
    Pipeline(Box<PipelineError>),
    /// Weights could not be compressed.
    #[error(transparent)]
    Compress(#[from] DecomposeError),
    /// A network could not be converted to integers.
    #[error(transparent)]
    Integer(#[from] IntegerError),
    /// The code generator gave up.
    #[error(transparent)]
    Codegen(Box<sdc_lower::Error>),
    /// Code and kernels could not be linked.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// An artifact could not be written.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// An artifact could not be loaded or run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An artifact could not be measured.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// Another error, with what would help.
    #[error("{error}")]
    Advised {
        /// The error.
        error: Box<Error>,
        /// What would help.
        help: String,
    },
}

impl Error {
    /// An error with just a message.
    pub fn new(kind: Kind, message: impl Display) -> Self {
        Self::Plain(kind, Box::new(Problem::plain(message)))
    }
    /// Of kind [`Kind::Usage`].
    pub fn usage(message: impl Display) -> Self {
        Self::new(Kind::Usage, message)
    }
    /// Of kind [`Kind::Malformed`].
    pub fn malformed(message: impl Display) -> Self {
        Self::new(Kind::Malformed, message)
    }
    /// Of kind [`Kind::Unsupported`].
    pub fn unsupported(message: impl Display) -> Self {
        Self::new(Kind::Unsupported, message)
    }
    /// Of kind [`Kind::Limit`].
    pub fn limit(message: impl Display) -> Self {
        Self::new(Kind::Limit, message)
    }
    /// Of kind [`Kind::Bug`]: a state that no input should lead to.
    pub fn bug(message: impl Display) -> Self {
        Self::new(Kind::Bug, message)
    }
    /// A limit of the user's is exceeded; the first line of the text says by how much, the others why.
    pub fn too_large(limit: &str, text: &str) -> Self {
        let mut lines = text.lines().map(str::to_owned);
        let error = Self::limit(format!("{limit}: {}", lines.next().unwrap_or_default()));
        lines.fold(error, Self::note)
    }
    /// A file could not be read or written.
    pub fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Io { path, source }
    }
    /// Adds what would help to the last problem.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        match self {
            Self::Plain(kind, mut problem) => {
                problem.help = Some(help.into());
                Self::Plain(kind, problem)
            }
            error => Self::Advised {
                error: Box::new(error),
                help: help.into(),
            },
        }
    }
    /// Adds a fact to an error of this crate's own.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        if let Self::Plain(_, problem) = &mut self {
            problem.notes.push(note.into());
        }
        self
    }

    /// Whose fault it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Plain(kind, _) | Self::Several(kind, _) => *kind,
            Self::Io { .. } => Kind::Usage,
            Self::Import(errors) => errors.class().into(),
            Self::Pipeline(error) => pipeline(error),
            Self::Compress(error) => compress(error),
            Self::Integer(IntegerError::Samples(error)) => compress(error),
            Self::Integer(IntegerError::Infer(_)) => Kind::Bug,
            Self::Integer(_) => Kind::Unsupported,
            Self::Codegen(error) => codegen(error),
            Self::Object(ObjectError::OutOfReach { .. }) => Kind::Limit,
            Self::Emit(EmitError::Io { .. }) => Kind::Usage,
            // What this program made does not keep its promises.
            Self::Object(_) | Self::Emit(_) => Kind::Bug,
            Self::Load(error) => error.fault().into(),
            Self::Measure(error) => error.fault().into(),
            Self::Advised { error, .. } => error.kind(),
        }
    }

    /// All that is wrong: at least one problem.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = match self {
            Self::Plain(_, problem) => vec![(**problem).clone()],
            Self::Several(_, problems) => problems.clone(),
            Self::Import(errors) => problems::of_import(errors),
            Self::Pipeline(error) => problems::of_pipeline(error),
            Self::Advised { error, .. } => error.problems(),
            error => vec![Problem::plain(error)],
        };
        if let (Some(problem), Some(help)) = (problems.last_mut(), self.advice()) {
            problem.help = Some(help.to_owned());
        }
        problems
    }

    /// What would help against an error as a whole.
    fn advice(&self) -> Option<&str> {
        match self {
            Self::Advised { help, .. } => Some(help),
            Self::Compress(DecomposeError::TooSmall { .. }) => {
                Some("ask for less, or allow pruning with --density")
            }
            Self::Integer(IntegerError::Quantised(_)) => {
                Some("it computes in integers without --activations int8")
            }
            Self::Object(ObjectError::OutOfReach { .. }) => {
                Some("leave the weights out of the object (no --embed-weights)")
            }
            Self::Load(error) | Self::Measure(MeasureError::Load(error)) => {
                (error.fault() == Fault::Unsupported).then_some("choose another --cpu")
            }
            _ => None,
        }
    }
}

fn pipeline(error: &PipelineError) -> Kind {
    use PipelineError as E;
    match error {
        _ if error.is_bug() => Kind::Bug,
        E::UnknownPass { .. } | E::NoSchedule | E::Widths { .. } => Kind::Usage,
        E::Schedule(_) => Kind::Malformed,
        E::Plan(_) | E::Driver(DriverError::NoInput(_)) => Kind::Limit,
        E::Driver(DriverError::Malformed(_)) => Kind::Malformed,
        E::Driver(DriverError::Pass {
            error: PassError::AfterLayout(_),
            ..
        }) => Kind::Usage,
        _ => Kind::Unsupported,
    }
}

fn compress(error: &DecomposeError) -> Kind {
    use DecomposeError as E;
    match error {
        E::TooSmall { .. } => Kind::Limit,
        E::Stopped => Kind::Cancelled,
        E::Samples(_) | E::Wish(_) | E::LayerDensity(..) => Kind::Usage,
        E::NotFinite(_) => Kind::Malformed,
        E::Stored(_) | E::Graph(_) => Kind::Bug,
        _ => Kind::Unsupported,
    }
}

fn codegen(error: &sdc_lower::Error) -> Kind {
    use sdc_lower::{Error, FuncError};
    match error {
        Error::UnknownCpu { .. } | Error::Name(_) => Kind::Usage,
        Error::Func {
            source: FuncError::Unsupported { .. },
            ..
        } => Kind::Unsupported,
        _ => Kind::Bug,
    }
}

impl From<Class> for Kind {
    fn from(class: Class) -> Self {
        match class {
            Class::Usage => Kind::Usage,
            Class::Malformed => Kind::Malformed,
            Class::Unsupported => Kind::Unsupported,
            Class::Limit => Kind::Limit,
        }
    }
}

impl From<Fault> for Kind {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Usage => Kind::Usage,
            Fault::Malformed => Kind::Malformed,
            Fault::Unsupported => Kind::Unsupported,
            Fault::Limit => Kind::Limit,
        }
    }
}

impl From<ImportError> for Error {
    fn from(error: ImportError) -> Self {
        ImportErrors(vec![error]).into()
    }
}

impl From<PipelineError> for Error {
    fn from(error: PipelineError) -> Self {
        Self::Pipeline(Box::new(error))
    }
}

impl From<sdc_lower::Error> for Error {
    fn from(error: sdc_lower::Error) -> Self {
        Self::Codegen(Box::new(error))
    }
}
