//! Printing schedules.

use super::{VERSION, graph_print, weights};
use crate::graph::{Graph, Value};
use crate::schedule::{Run, Schedule, Storage, lifetimes};
use std::fmt::{self, Display, Formatter};

/// A graph with its schedule; `Display` is the text form, see `docs/ir.md`.
#[derive(Clone, Copy, Debug)]
pub struct Scheduled<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// How it is computed.
    pub schedule: &'a Schedule,
}

impl Display for Scheduled<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Scheduled { graph, schedule } = self;
        writeln!(f, "sdir {VERSION} schedule")?;
        graph_print::block(graph, f)?;
        let widths = schedule.widths;
        writeln!(
            f,
            "schedule lanes {} block {} kernel_lanes {} {{",
            widths.lanes, widths.block, widths.kernel_lanes
        )?;
        let lives = lifetimes(graph, schedule);
        for (value, storage) in schedule.storage.iter() {
            self.store(value, *storage, lives[value], f)?;
        }
        for (i, run) in schedule.runs.iter().enumerate() {
            self.run(i, run, f)?;
        }
        for copy in &schedule.copies {
            writeln!(f, "  copy to output {} tasks {}", copy.output, copy.tasks)?;
        }
        writeln!(f, "}}")?;
        weights::print(&graph.weights, f)
    }
}

impl Scheduled<'_> {
    /// Constants, which all lie alike, are left out. The lifetime is for people: it is derived.
    fn store(
        &self,
        value: Value,
        storage: Storage,
        life: Option<(usize, usize)>,
        f: &mut Formatter<'_>,
    ) -> fmt::Result {
        if storage == Storage::Constant {
            return Ok(());
        }
        write!(f, "  store {value} {storage}")?;
        match (storage, life) {
            (Storage::Arena, Some((first, last))) => writeln!(f, " // from run {first} to {last}"),
            _ => writeln!(f),
        }
    }

    fn run(&self, i: usize, run: &Run, f: &mut Formatter<'_>) -> fmt::Result {
        let graph = self.graph;
        let result = |node| graph.nodes().get(node).and_then(|n| n.outputs.first());
        match result(run.node) {
            Some(value) => write!(f, "  run {value} by {}", run.algorithm)?,
            None => write!(f, "  run ? by {}", run.algorithm)?,
        }
        if let Some(form) = run.weights {
            write!(f, " weights {}", form.name())?;
        }
        for part in &run.parts {
            if let Some(rows) = &part.rows {
                write!(f, " rows {}..{}", rows.start, rows.end)?;
            }
            write!(f, " tasks {}", part.tasks)?;
        }
        writeln!(f, " // run {i}")
    }
}
