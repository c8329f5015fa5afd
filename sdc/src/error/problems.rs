//! Problems: one for each kind of thing that is wrong, nodes that fail alike being counted, not repeated.

use sdc_frontend::{Code, ImportError, ImportErrors, supported_since};
use sdc_passes::driver::DriverError;
use sdc_passes::pipeline::PipelineError;
use serde::Serialize;

/// One thing that is wrong, for people.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
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
    #[serde(rename = "nodes")]
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

/// The problems of an import, by kind.
pub(super) fn of_import(errors: &ImportErrors) -> Vec<Problem> {
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
    problems
}

/// The problems that passes found, by kind.
pub(super) fn of_pipeline(error: &PipelineError) -> Vec<Problem> {
    match error {
        PipelineError::Tile(errors) => merged(errors.iter().map(|e| {
            let key = format!("{:?}", (e.op, &e.reason));
            (Some(key), tile_problem(e))
        })),
        PipelineError::Driver(DriverError::Malformed(faults)) => faults.iter().map(Problem::plain).collect(),
        PipelineError::Schedule(faults) => faults.iter().map(Problem::plain).collect(),
        error => vec![Problem::plain(error)],
    }
}

impl Problem {
    /// Just a message.
    pub(crate) fn plain(message: impl std::fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            ..Self::default()
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
fn merged(problems: impl Iterator<Item = (Option<String>, Problem)>) -> Vec<Problem> {
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

fn tile_problem(error: &sdc_passes::tile::TileError) -> Problem {
    Problem {
        message: format!(
            "{}: {}: {}",
            sdc_passes::pass::origin_text(&error.origins),
            error.op,
            error.reason
        ),
        code: Some(Code::Lowering.text().to_owned()),
        notes: vec![format!("operands: {}", error.operands.join(", "))],
        at: Some(Nodes {
            operator: error.origins.first().map_or(error.op, |o| &o.op).to_owned(),
            count: 1,
            names: error
                .origins
                .first()
                .map(|o| o.name.clone())
                .into_iter()
                .collect(),
            operands: vec![error.operands.join(", ")],
            supported_since: error.origins.first().and_then(|o| supported_since(&o.op)),
        }),
        ..Problem::default()
    }
}
