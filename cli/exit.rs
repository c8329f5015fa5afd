//! How a command ends: exit codes, and the problems that lead to them.

use sdc_artifact::emit::EmitError;
use sdc_artifact::load::{Fault, LoadError};
use sdc_artifact::measure::MeasureError;
use sdc_frontend::{Class, Code, ImportError, ImportErrors, supported_since};
use serde::Serialize;
use std::fmt::Display;
use std::io;
use std::path::Path;

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

/// One thing that is wrong, for people.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Problem {
    /// Stable code, such as `E0201`.
    pub code: Option<String>,
    /// What is wrong, and where.
    pub message: String,
    /// Facts that help to understand it, one per line.
    pub notes: Vec<String>,
    /// What would help.
    pub help: Option<String>,
    /// Inputs of the model that would remove it if they were given at compile time.
    pub fix: Vec<String>,
    /// Of a problem with nodes of a model: which they are, all of the same kind.
    pub at: Option<Nodes>,
}

/// Nodes that share a problem.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Nodes {
    /// Their operator.
    pub operator: String,
    /// How many there are.
    pub count: usize,
    /// Their names.
    pub names: Vec<String>,
    /// The operands of each, as `name: f32[1,3]`.
    pub operands: Vec<String>,
    /// The first operator set from which on sdc supports the operator; absent if it does in none.
    pub supported_since: Option<i64>,
}

/// Why a command did not do what was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The process's exit code.
    pub exit: Exit,
    /// What to report; may be empty when the command's own output says it all.
    pub problems: Vec<Problem>,
}

impl Failure {
    fn new(exit: Exit, message: impl Display) -> Self {
        let message = message.to_string();
        let problems = vec![Problem {
            message,
            ..Problem::default()
        }];
        Self { exit, problems }
    }
    pub fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, message)
    }
    pub fn malformed(message: impl Display) -> Self {
        Self::new(Exit::Malformed, message)
    }
    pub fn unsupported(message: impl Display) -> Self {
        Self::new(Exit::Unsupported, message)
    }
    pub fn limit(message: impl Display) -> Self {
        Self::new(Exit::Limit, message)
    }
    /// A state that no input should lead to.
    pub fn bug(message: impl Display) -> Self {
        Self::new(Exit::Bug, message)
    }
    /// Outputs differ; the command has printed which.
    pub fn differ() -> Self {
        Self {
            exit: Exit::Differ,
            problems: Vec::new(),
        }
    }
    /// A file could not be read or written.
    pub fn io(path: &Path, error: &io::Error) -> Self {
        Self::usage(format!("{}: {error}", path.display()))
    }
    /// Adds what would help to the last problem.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        if let Some(problem) = self.problems.last_mut() {
            problem.help = Some(help.into());
        }
        self
    }
    /// Adds a fact to the last problem.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        if let Some(problem) = self.problems.last_mut() {
            problem.notes.push(note.into());
        }
        self
    }
}

/// Only results written to standard output are passed on with a bare `?`; files go through [`Failure::io`]. A reader that
/// has seen enough (`sdc ... | head`) is no error.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self {
                exit: Exit::Fine,
                problems: Vec::new(),
            };
        }
        Self::usage(format!("standard output: {error}"))
    }
}

impl From<Class> for Exit {
    fn from(class: Class) -> Self {
        match class {
            Class::Usage => Exit::Usage,
            Class::Malformed => Exit::Malformed,
            Class::Unsupported => Exit::Unsupported,
            Class::Limit => Exit::Limit,
        }
    }
}

impl From<&ImportError> for Problem {
    fn from(error: &ImportError) -> Self {
        let message = match &error.node {
            Some(node) => format!("{node}: {}", error.message),
            None => error.message.clone(),
        };
        let notes = match error.operands.as_slice() {
            [] => Vec::new(),
            operands => vec![format!("operands: {}", operands.join(", "))],
        };
        Problem {
            code: Some(error.code.text().to_owned()),
            message,
            notes,
            help: error.help.clone(),
            fix: error.fix.clone(),
            at: error.node.as_ref().map(|node| Nodes {
                operator: node.op.clone(),
                count: 1,
                names: vec![node.name.clone()],
                operands: vec![error.operands.join(", ")],
                supported_since: supported_since(&node.op),
            }),
        }
    }
}

/// Nodes named in full in a group of many.
const NAMED: usize = 8;

/// One problem for each kind: those of equal keys are about nodes that fail alike, which are counted, not repeated.
pub fn merged(problems: impl Iterator<Item = (Option<String>, Problem)>) -> Vec<Problem> {
    let mut groups: Vec<(Option<String>, Problem)> = Vec::new();
    for (key, problem) in problems {
        let same = groups.iter_mut().find(|(k, _)| key.is_some() && *k == key);
        match same {
            Some((_, group)) => {
                if let (Some(all), Some(one)) = (&mut group.at, problem.at) {
                    all.count += one.count;
                    all.names.extend(one.names);
                    all.operands.extend(one.operands);
                }
            }
            None => groups.push((key, problem)),
        }
    }
    let named = |(_, mut problem): (Option<String>, Problem)| {
        if let Some(at) = problem.at.as_ref().filter(|at| at.count > 1) {
            let more = at.names.len().saturating_sub(1 + NAMED);
            let tail = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            let others: Vec<&str> = at.names[1..].iter().take(NAMED).map(String::as_str).collect();
            let note = format!("{} nodes, also {}{tail}", at.count, others.join(", "));
            problem.notes.push(note);
        }
        problem
    };
    groups.into_iter().map(named).collect()
}

impl From<ImportErrors> for Failure {
    fn from(errors: ImportErrors) -> Self {
        let keyed = errors.0.iter().map(|error| {
            let node = error.node.as_ref();
            let key = node.map(|n| format!("{:?}", (error.code, &n.op, &error.message, &error.help)));
            (key, Problem::from(error))
        });
        let mut problems = merged(keyed);
        let set_matters = [Code::NotInOpset, Code::Operator].map(|code| code.text());
        for problem in &mut problems {
            if problem
                .code
                .as_deref()
                .is_some_and(|code| set_matters.contains(&code))
            {
                let since = problem.at.as_ref().and_then(|at| at.supported_since);
                problem.notes.push(match since {
                    Some(set) => format!("nearest supported operator set: {set}"),
                    None => "supported in no operator set".to_owned(),
                });
            }
        }
        Self {
            exit: errors.class().into(),
            problems,
        }
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        ImportErrors(vec![error]).into()
    }
}

impl From<EmitError> for Failure {
    fn from(error: EmitError) -> Self {
        match &error {
            EmitError::Io { .. } => Self::usage(error),
            // The others say that what this program made does not keep its promises.
            _ => Self::bug(error),
        }
    }
}

impl From<Fault> for Exit {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Usage => Exit::Usage,
            Fault::Malformed => Exit::Malformed,
            Fault::Unsupported => Exit::Unsupported,
            Fault::Limit => Exit::Limit,
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let failure = Self::new(error.fault().into(), &error);
        match error.fault() {
            Fault::Unsupported => failure.help("choose another --cpu"),
            _ => failure,
        }
    }
}

impl From<MeasureError> for Failure {
    fn from(error: MeasureError) -> Self {
        match error {
            MeasureError::Load(error) => error.into(),
            error => Self::new(error.fault().into(), error),
        }
    }
}
