//! How a command ends: exit codes, and the failures that lead to them.

use sdc::{Error, Kind, Problem};
use std::fmt::Display;
use std::io;

/// The exit codes, fixed by the design; scripts rely on them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// What was asked for was done.
    Fine = 0,
    /// Outputs differ from what was expected.
    Differ = 1,
    /// Wrong use, or a file that cannot be read or written.
    Usage = 2,
    /// The input file breaks its format's rules.
    Malformed = 3,
    /// The input is fine, sdc cannot do it.
    Unsupported = 4,
    /// A size exceeds a limit.
    Limit = 5,
    /// A bug in sdc.
    Bug = 70,
}

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Usage | Kind::Cancelled => Exit::Usage,
            Kind::Malformed => Exit::Malformed,
            Kind::Unsupported => Exit::Unsupported,
            Kind::Limit => Exit::Limit,
            Kind::Bug => Exit::Bug,
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// Something is wrong.
    Error(Error),
    /// Outputs differ; the command has printed which.
    Differ,
    /// Whoever reads standard output has seen enough (`sdc ... | head`), which is no error.
    Closed,
}

impl Failure {
    pub fn usage(message: impl Display) -> Self {
        Error::usage(message).into()
    }
    pub fn unsupported(message: impl Display) -> Self {
        Error::unsupported(message).into()
    }
    pub fn bug(message: impl Display) -> Self {
        Error::bug(message).into()
    }
    /// The process's exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Error(error) => error.kind().into(),
            Self::Differ => Exit::Differ,
            Self::Closed => Exit::Fine,
        }
    }
    /// What to report; empty when the command's own output says it all.
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Error(error) => error.problems(),
            Self::Differ | Self::Closed => Vec::new(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Only results written to standard output are passed on with a bare `?`; files have errors of their own.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Closed;
        }
        Self::usage(format!("standard output: {error}"))
    }
}
