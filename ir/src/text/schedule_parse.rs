//! Parsing schedules.

use super::lexer::Kind;
use super::parser::{Names, Parser, Result};
use super::{Level, TextError, graph_parse};
use crate::entity::{Arena, EntityId};
use crate::graph::{Graph, Node, Value, Weights};
use crate::schedule::{Algorithm, Copy, Form, Grid, Part, Run, Schedule, Storage, Tasks, Widths};

/// Parses a graph with its schedule; the data of its weights come from `store`. The text is well formed; whether the
/// schedule fits the graph is for [`crate::schedule::verify`] to say.
///
/// # Errors
/// [`TextError::Parse`] lists the faults of the text, [`TextError::MissingWeights`] what `store` lacks.
pub fn parse_schedule(text: &str, store: &Weights) -> std::result::Result<(Graph, Schedule), TextError> {
    let (graph, raw) = graph_parse::parse(text, store, Level::Schedule, Raw::parse)?;
    let schedule = raw.build(&graph);
    Ok((graph, schedule))
}

/// A schedule by the names of values: which nodes define them is known when the graph is built.
struct Raw {
    widths: Widths,
    stores: Vec<(Value, Storage)>,
    runs: Vec<(Value, Run)>,
    copies: Vec<Copy>,
}

impl Raw {
    fn parse(p: &mut Parser<'_>, names: &Names<Value>) -> Result<Self> {
        p.expect_word("schedule")?;
        let widths = Widths {
            lanes: number(p, "lanes")?,
            block: number(p, "block")?,
            kernel_lanes: number(p, "kernel_lanes")?,
        };
        p.expect("{")?;
        let mut raw = Self {
            widths,
            stores: Vec::new(),
            runs: Vec::new(),
            copies: Vec::new(),
        };
        p.statements(|p| raw.statement(p, names))?;
        Ok(raw)
    }

    fn statement(&mut self, p: &mut Parser<'_>, names: &Names<Value>) -> Result<()> {
        if p.eat_word("store") {
            let place = p.place();
            let value = value(p, names)?;
            let storage = storage(p, names)?;
            if self.stores.iter().any(|s| s.0 == value) {
                p.note(place, format!("{value} is stored twice"));
            }
            self.stores.push((value, storage));
        } else if p.eat_word("run") {
            let value = value(p, names)?;
            self.runs.push((value, run(p)?));
        } else if p.eat_word("copy") {
            p.expect_word("to")?;
            let output = number(p, "output")?;
            p.expect_word("tasks")?;
            let tasks = tasks(p)?;
            self.copies.push(Copy { output, tasks });
        } else {
            return Err(p.expected("`store`, `run`, `copy` or `}`"));
        }
        Ok(())
    }

    fn build(self, graph: &Graph) -> Schedule {
        let mut storage: Arena<Value, Storage> = graph.values().ids().map(|_| Storage::Constant).collect();
        for (value, place) in self.stores {
            storage[value] = place;
        }
        // A run of an input names no node; the verifier finds no node of this number either.
        let none = Node::new(graph.nodes().len());
        let with_node = |(value, run): (Value, Run)| Run {
            node: graph.def_node(value).unwrap_or(none),
            ..run
        };
        Schedule {
            widths: self.widths,
            storage,
            runs: self.runs.into_iter().map(with_node).collect(),
            copies: self.copies,
        }
    }
}

/// `word 12`
fn number<T: std::str::FromStr>(p: &mut Parser<'_>, word: &str) -> Result<T> {
    p.expect_word(word)?;
    p.unsigned("a number")
}

fn value(p: &mut Parser<'_>, names: &Names<Value>) -> Result<Value> {
    let name = p.id(Kind::Value, "a value such as `%0`")?;
    Ok(names.get(p, name))
}

fn storage(p: &mut Parser<'_>, names: &Names<Value>) -> Result<Storage> {
    let token = p.word("where it lies")?;
    Ok(match token.text {
        "input" => Storage::Input(p.unsigned("the position of an input")?),
        "output" => Storage::Output(p.unsigned("the position of an output")?),
        "constant" => Storage::Constant,
        "arena" => Storage::Arena,
        "prepared" => Storage::Prepared,
        "packed" => Storage::Packed,
        "view" => Storage::View(value(p, names)?),
        "part" => Storage::Part(value(p, names)?),
        "inline" => Storage::Inline,
        other => {
            let message = format!(
                "`{other}` is no place; there are input, output, constant, arena, prepared, packed, view, part and inline"
            );
            return Err(p.error_at(token.place, message));
        }
    })
}

/// `by conv2d_f32 weights constant rows 0..8 tasks one`
fn run(p: &mut Parser<'_>) -> Result<Run> {
    p.expect_word("by")?;
    let algorithm = algorithm(p)?;
    let mut weights = None;
    if p.eat_word("weights") {
        let token = p.word("the form of the weights")?;
        weights = Some(Form::from_name(token.text).ok_or_else(|| {
            let forms: Vec<&str> = Form::ALL.iter().map(|f| f.name()).collect();
            let message = format!(
                "`{}` is no form of weights; there are {}",
                token.text,
                forms.join(", ")
            );
            p.error_at(token.place, message)
        })?);
    }
    let mut parts = Vec::new();
    while p.at_word("rows") || p.at_word("tasks") {
        let mut rows = None;
        if p.eat_word("rows") {
            let start = p.unsigned("the first row")?;
            p.expect("..")?;
            rows = Some(start..p.unsigned("the row after the last")?);
        }
        p.expect_word("tasks")?;
        let tasks = tasks(p)?;
        parts.push(Part { rows, tasks });
    }
    Ok(Run {
        node: Node::new(0),
        algorithm,
        weights,
        parts,
    })
}

fn algorithm(p: &mut Parser<'_>) -> Result<Algorithm> {
    let token = p.word("`loops`, `winograd` or a kernel")?;
    match token.text {
        "loops" => Ok(Algorithm::Loops),
        "winograd" => Ok(Algorithm::Winograd {
            tile: p.unsigned("the side of a tile")?,
            band: number(p, "band")?,
        }),
        name => match Algorithm::SPARSE.into_iter().find(|&kernel| kernel == name) {
            Some(kernel) => Ok(Algorithm::Sparse {
                kernel,
                band: number(p, "band")?,
            }),
            None => Algorithm::of_kernel(name)
                .ok_or_else(|| p.error_at(token.place, format!("there is no kernel `{name}`"))),
        },
    }
}

fn tasks(p: &mut Parser<'_>) -> Result<Tasks> {
    let token = p.word("a cut into tasks")?;
    Ok(match token.text {
        "one" => Tasks::One,
        "each" => Tasks::Each {
            rounds: p.unsigned("rounds of a task")?,
            channels: number(p, "channels")?,
        },
        "at_most" => Tasks::AtMost(p.unsigned("a number of tasks")?),
        "every" => Tasks::Every(p.unsigned("a number of units")?),
        "grid" => Tasks::Grid(Grid {
            row_parts: p.unsigned("a number of parts")?,
            rows: number(p, "by")?,
            channel_parts: number(p, "channels")?,
            rows_inside: p.eat_word("rows_inside"),
        }),
        other => {
            let message = format!("`{other}` is no cut; there are one, each, at_most, every and grid");
            return Err(p.error_at(token.place, message));
        }
    })
}
