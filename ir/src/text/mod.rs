//! The text forms of all levels: printers (`Display` of [`Graph`](crate::graph::Graph), [`Scheduled`] and
//! [`Module`](crate::tile::Module)), parsers, and the side file that holds the weights' data.
//!
//! The grammar is specified in `docs/ir.md`. Text is versioned by its first line (`sdir 1 graph`, `sdir 1 schedule`, `sdir 1 tile`).
//! Weights appear by digest only; a parser finds their data in a [`Weights`](crate::graph::Weights) table, usually read
//! from a [`weights_file`]. Printing and parsing again gives an equal graph, and an equal module if its functions are
//! [renumbered](crate::tile::Func::renumbered).
//!
//! Text may be hostile: nesting and numbers are bounded, nothing is allocated beyond the text's own size, and no
//! input panics. Not here: checks of meaning (types, scopes), which are the verifiers'; reading and naming files.

mod graph_parse;
mod graph_print;
mod lexer;
mod parser;
mod quote;
mod schedule_parse;
mod schedule_print;
mod tile_parse;
mod tile_print;
mod weights;
pub mod weights_file;

pub use graph_parse::parse_graph;
pub use schedule_parse::parse_schedule;
pub use schedule_print::Scheduled;
pub use tile_parse::parse_module;

pub(crate) use quote::WordOrQuoted;

use crate::Digest;
use std::fmt;

/// Version in the first line of all text forms.
pub const VERSION: u32 = 1;

/// Which of the levels a text describes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// `sdir 1 graph`
    Graph,
    /// `sdir 1 schedule`
    Schedule,
    /// `sdir 1 tile`
    Tile,
}

impl Level {
    /// Every level, from the most abstract on.
    pub const ALL: [Level; 3] = [Level::Graph, Level::Schedule, Level::Tile];

    /// The word in the first line.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Graph => "graph",
            Level::Schedule => "schedule",
            Level::Tile => "tile",
        }
    }
}

/// The level that the first line of a text declares.
///
/// # Errors
/// The text does not start with `sdir`, a supported version and a level (comments may precede it).
pub fn level(text: &str) -> Result<Level, ParseErrors> {
    parser::Parser::new(text)
        .header()
        .map_err(|e| ParseErrors(vec![e]))
}

/// One fault of a text, with its place.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What was expected and what is there, or what is wrong.
    pub message: String,
}

/// The faults of a text, in order; at most a few dozen are gathered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseErrors(pub Vec<ParseError>);

impl fmt::Display for ParseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ParseErrors {}

/// Why a text could not be turned into a graph or module.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TextError {
    /// The text itself is at fault.
    #[error(transparent)]
    Parse(#[from] ParseErrors),
    /// The text is well formed, but the data of these weights is not in the table given.
    #[error("{} of the weights are missing: {}", .0.len(), list(.0))]
    MissingWeights(Vec<Digest>),
}

fn list(digests: &[Digest]) -> String {
    let digests: Vec<String> = digests.iter().map(|d| format!("sha256:{d}")).collect();
    digests.join(", ")
}
