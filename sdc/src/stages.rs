//! Programs as text, stage by stage. As files: `NAME.sdir`, with the weights' data in `NAME.sdw` or, for a directory of stages, in one
//! `weights.sdw`.

use crate::error::{Error, Result};
use crate::files;
use sdc_ir::graph::verify::verify;
use sdc_ir::graph::{Graph, Weights};
use sdc_ir::schedule::Schedule;
use sdc_ir::text::{self, Level, TextError, weights_file};
use sdc_ir::tile::Module;
use sdc_passes::driver::{DriverError, Observer};
use sdc_passes::pipeline::{IMPORT, PLAN, PipelineError, SCHEDULE, TILE};
use sdc_passes::plan::{Plan, report};
use sdc_passes::tile::Lowered;
use std::path::{Path, PathBuf};

/// Extension of the text forms.
pub const EXTENSION: &str = "sdir";
/// The weights of all stages in a directory.
const SHARED_WEIGHTS: &str = "weights.sdw";

/// True if the file name says that a file holds a text form.
pub fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == EXTENSION)
}

/// Reads a graph and its weights, and its schedule if the text has one, and verifies them.
///
/// # Errors
/// Files that cannot be read or parsed; a tile module; weights that are not there; a graph or schedule that is malformed.
pub fn read(path: &Path) -> Result<(Graph, Option<Schedule>)> {
    let source = files::text(path)?;
    let located = |e: &dyn std::fmt::Display| Error::malformed(format!("{}: {e}", path.display()));
    let level = text::level(&source).map_err(|e| located(&e))?;
    let store = match weights_path(path) {
        None => Weights::new(),
        Some(file) => weights_file::read(files::map(&file)?)
            .map_err(|e| Error::malformed(format!("{}: {e}", file.display())))?,
    };
    let parsed = match level {
        Level::Graph => text::parse_graph(&source, &store).map(|graph| (graph, None)),
        Level::Schedule => text::parse_schedule(&source, &store).map(|(graph, s)| (graph, Some(s))),
        Level::Tile => {
            let message = format!("{}: passes work on graphs, this is a tile module", path.display());
            return Err(Error::usage(message));
        }
    };
    let (graph, schedule) = parsed.map_err(|e| match &e {
        TextError::Parse(_) => located(&e),
        TextError::MissingWeights(_) => Error::usage(format!("{}: {e}", path.display()))
            .help("the data belongs in a file beside it that ends in .sdw"),
    })?;
    // Not all that reads a graph starts with the driver, which would verify it.
    let faults = verify(&graph);
    if !faults.is_empty() {
        let faults = faults.iter().map(ToString::to_string).collect();
        return Err(PipelineError::from(DriverError::Malformed(faults)).into());
    }
    let faults = schedule
        .as_ref()
        .map(|s| sdc_ir::schedule::verify::verify(&graph, s));
    match faults.filter(|faults| !faults.is_empty()) {
        Some(faults) => Err(PipelineError::Schedule(faults).into()),
        None => Ok((graph, schedule)),
    }
}

fn weights_path(path: &Path) -> Option<PathBuf> {
    [path.with_extension("sdw"), path.with_file_name(SHARED_WEIGHTS)]
        .into_iter()
        .find(|p| p.is_file())
}

/// Writes a graph's text, and its weights beside it.
///
/// # Errors
/// Those of writing.
pub fn write_graph(path: &Path, graph: &Graph) -> Result<()> {
    files::write(&path.with_extension("sdw"), |mut out| {
        weights_file::write(&graph.weights, &mut out)
    })?;
    files::write(path, |out| write!(out, "{graph}"))
}

/// One stage of a compilation as text.
#[derive(Debug)]
pub struct Stage {
    /// The pass after which it was.
    pub pass: &'static str,
    /// Its text; the plan's is a table.
    pub text: String,
    /// Weights the text refers to.
    weights: Weights,
}

/// An observer that keeps the stages asked for.
#[derive(Debug)]
pub struct Dump {
    /// The only pass to keep, if not all are.
    only: Option<String>,
    /// What was kept.
    pub stages: Vec<Stage>,
}

impl Dump {
    /// Keeps the stage after this pass; all for `all`.
    pub fn of(pass: &str) -> Self {
        let only = (pass != "all").then(|| pass.to_owned());
        Self {
            only,
            stages: Vec::new(),
        }
    }

    /// Forgets all stages but the one after this pass; `all` forgets none.
    pub fn retain(&mut self, pass: Option<&str>) {
        self.stages
            .retain(|stage| pass.is_some_and(|p| p == "all" || p == stage.pass));
    }

    fn keep(&mut self, pass: &'static str, text: impl FnOnce() -> String, weights: &Weights) {
        if self.only.as_ref().is_none_or(|only| only == pass) {
            self.stages.push(Stage {
                pass,
                text: text(),
                weights: weights.clone(),
            });
        }
    }

    /// Writes the stages to `DIR/0_import.sdir` and so on, the weights of all to one file. Returns the files.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        files::create_dir(dir)?;
        let mut all = Weights::new();
        for stage in &self.stages {
            for (weight, ..) in stage.weights.iter() {
                all.adopt(&stage.weights, weight);
            }
        }
        let path = dir.join(SHARED_WEIGHTS);
        files::write(&path, |mut out| weights_file::write(&all, &mut out))?;
        let mut written = vec![path];
        for (number, stage) in self.stages.iter().enumerate() {
            let extension = if stage.pass == PLAN { "txt" } else { EXTENSION };
            let path = dir.join(format!("{number}_{}.{extension}", stage.pass));
            files::write(&path, |out| out.write_all(stage.text.as_bytes()))?;
            written.push(path);
        }
        Ok(written)
    }
}

impl Observer for Dump {
    fn graph(&mut self, pass: &'static str, graph: &Graph) {
        self.keep(pass, || graph.to_string(), &graph.weights);
    }
    fn scheduled(&mut self, graph: &Graph, schedule: &Schedule) {
        let text = || text::Scheduled { graph, schedule }.to_string();
        self.keep(SCHEDULE, text, &graph.weights);
    }
    fn lowered(&mut self, lowered: &Lowered) {
        self.keep(TILE, || lowered.module.to_string(), &lowered.module.weights);
    }
    fn planned(&mut self, module: &Module, plan: &Plan) {
        self.keep(PLAN, || report::report(module, plan).to_string(), &Weights::new());
    }
}

/// Stages that can be asked for.
pub fn stages() -> Vec<&'static str> {
    std::iter::once(IMPORT)
        .chain(sdc_passes::pipeline::list_passes().iter().map(|p| p.name))
        .collect()
}

/// Refuses the name of a stage that does not exist; `all` stands for all.
///
/// # Errors
/// [`Kind::Usage`](crate::Kind::Usage).
pub fn check_stage(name: &str) -> Result<()> {
    if name == "all" || stages().contains(&name) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "no stage `{name}`; there are {}",
        stages().join(", ")
    )))
}
