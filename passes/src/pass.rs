//! What a pass is: the trait, its class, its context, its errors and its remarks.
//!
//! A pass is a value holding its options. It neither verifies nor times nor prints: the driver does, for all alike.

use sdc_ir::graph::{Graph, InferError, Origin};
use serde::Serialize;
use std::fmt;

/// What a pass may do to results.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Results stay equal, element by element (the sign of a zero is not looked at).
    Exact,
    /// Results may move by the rounding of the operators touched.
    Rounding,
    /// Results may move by this share of their largest magnitude.
    Approximating {
        /// Relative to the largest magnitude of an output.
        budget: f64,
    },
}

impl Class {
    /// The looser of the two: the class of doing both.
    pub fn and(self, other: Class) -> Class {
        use Class::*;
        match (self, other) {
            (Approximating { budget: a }, Approximating { budget: b }) => Approximating { budget: a + b },
            (a @ Approximating { .. }, _) | (_, a @ Approximating { .. }) => a,
            (Exact, Exact) => Exact,
            _ => Rounding,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Class::Exact => f.write_str("exact"),
            Class::Rounding => f.write_str("rounding"),
            Class::Approximating { budget } => write!(f, "approximating({budget})"),
        }
    }
}

/// One rewrite of a whole graph.
pub trait Pass {
    /// Name on the command line, in dumps and in snapshots.
    fn name(&self) -> &'static str;
    /// One line for `--list-passes`.
    fn summary(&self) -> &'static str;
    /// What it may do to results.
    fn class(&self) -> Class;
    /// The rewritten graph, without dead nodes.
    ///
    /// # Errors
    /// The graph is not one this pass can work on, or (a bug) a rewrite does not fit.
    fn run(&self, graph: &Graph, ctx: &mut Ctx) -> Result<Graph, PassError>;
}

/// What a pass is given besides the graph.
#[derive(Debug, Default)]
pub struct Ctx {
    remarks: Vec<Remark>,
    pass: &'static str,
}

impl Ctx {
    /// A context for the pass with this name.
    pub fn new(pass: &'static str) -> Self {
        Self {
            remarks: Vec::new(),
            pass,
        }
    }
    /// Notes that something was done.
    pub fn remark(&mut self, rule: &'static str, origins: &[Origin], note: impl Into<String>) {
        self.push(rule, true, origins, note.into());
    }
    /// Notes that something was not done, and why.
    pub fn not_done(&mut self, rule: &'static str, origins: &[Origin], reason: impl Into<String>) {
        self.push(rule, false, origins, reason.into());
    }
    fn push(&mut self, rule: &'static str, done: bool, origins: &[Origin], reason: String) {
        let mut names: Vec<String> = origins
            .iter()
            .take(MAX_REMARK_ORIGINS)
            .map(ToString::to_string)
            .collect();
        if origins.len() > names.len() {
            names.push(format!("{} more", origins.len() - names.len()));
        }
        self.remarks.push(Remark {
            pass: self.pass,
            rule,
            done,
            origins: names,
            reason,
        });
    }
    /// Forgets what was not done, for a pass that tries again.
    pub fn forget_not_done(&mut self) {
        self.remarks.retain(|r| r.done);
    }
    /// The remarks so far.
    pub fn into_remarks(self) -> Vec<Remark> {
        self.remarks
    }
}

/// Origins spelled out in a remark.
const MAX_REMARK_ORIGINS: usize = 8;

/// Something a pass did or deliberately left undone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Remark {
    /// Pass.
    pub pass: &'static str,
    /// Rule of the pass.
    pub rule: &'static str,
    /// It was done; otherwise `reason` says why not.
    pub done: bool,
    /// The user's nodes concerned, or the first of many.
    pub origins: Vec<String>,
    /// What was done, or why not.
    pub reason: String,
}

impl fmt::Display for Remark {
    /// `fuse/activation: not done at relu1 (Relu #3): second consumer`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = if self.done { "done" } else { "not done" };
        write!(
            f,
            "{}/{}: {done} at {}",
            self.pass,
            self.rule,
            self.origins.join(" + ")
        )?;
        if self.reason.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.reason)
        }
    }
}

/// Why a pass gave up. Whatever the input, only [`PassError::AfterLayout`] and [`PassError::Unsupported`] are the
/// caller's doing; the others are bugs in the pass.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PassError {
    /// The pass works on row-major graphs only, and the graph already has other layouts.
    #[error("runs before the layout pass, but {0} already has a layout")]
    AfterLayout(String),
    /// Something of the graph that the pass has no way to handle.
    #[error("{}: {reason}", origin_text(origins))]
    Unsupported {
        /// The user's nodes.
        origins: Vec<Origin>,
        /// What and why.
        reason: String,
    },
    /// A rewrite built an operator that does not fit its operands.
    #[error("rule {rule} at {}: {error}", origin_text(origins))]
    Infer {
        /// Rule.
        rule: &'static str,
        /// The user's nodes.
        origins: Vec<Origin>,
        /// What is wrong.
        error: Box<InferError>,
    },
    /// A rewrite changed the type of a result.
    #[error("rule {rule} at {} turns {from} into {to}", origin_text(origins))]
    TypeChanged {
        /// Rule.
        rule: &'static str,
        /// The user's nodes.
        origins: Vec<Origin>,
        /// Type before.
        from: String,
        /// Type after.
        to: String,
    },
    /// Rules undo each other.
    #[error("rule {rule} at {} does not come to an end", origin_text(origins))]
    Endless {
        /// The rule applied last.
        rule: &'static str,
        /// The user's nodes.
        origins: Vec<Origin>,
    },
}

/// Origins for an error message.
pub fn origin_text(origins: &[Origin]) -> String {
    origins
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" + ")
}

/// Origins kept per node. Chains of a thousand nodes that become one exist in hostile models only.
const MAX_ORIGINS: usize = 64;

/// The first origins, then those of the second list that are not among them, up to [`MAX_ORIGINS`].
pub fn merge_origins(first: &[Origin], second: &[Origin]) -> Vec<Origin> {
    let mut all = first.to_vec();
    for o in second {
        if all.len() < MAX_ORIGINS && !all.contains(o) {
            all.push(o.clone());
        }
    }
    all
}

/// Fails if some value is not row-major: the rules of the passes before `layout` build row-major nodes only.
///
/// # Errors
/// [`PassError::AfterLayout`].
pub fn require_row_major(graph: &Graph) -> Result<(), PassError> {
    match graph.values().iter().find(|(_, v)| !v.ty.layout.is_row_major()) {
        Some((v, data)) => Err(PassError::AfterLayout(format!("{v}: {}", data.ty))),
        None => Ok(()),
    }
}
