//! What a check tests: a model made ready for the inputs at hand. Another shape of its inputs is another program, and so is
//! another value of an input that shapes depend on.

use crate::accel::{AccelOptions, AccelProgram, translate};
use crate::artifact::{self, Program};
use crate::compile::Options;
use crate::compress::fuse;
use crate::error::Result;
use crate::images::Preprocessing;
use crate::integer::{computes_in_integers, to_integers};
use crate::model::{Model, ModelOptions};
use crate::observe::Observer;
use crate::source::Source;
use sdc_ir::graph::Graph;
use sdc_ir::{Digest, Tensor};
use sdc_passes::quantise;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Elements of a fixed input that are printed.
const SHOWN: usize = 8;

/// The model under test for the shapes of some inputs.
pub enum Subject {
    /// With the quantisation steps of its outputs.
    Native(Box<Program>, Vec<Option<f64>>),
    /// With the graph it was made of, if it was made here.
    Accel(Box<AccelProgram>, Option<Box<Graph>>),
    Interpreted(Box<Graph>),
}

impl Subject {
    /// Number of inputs, and names of outputs.
    pub fn ports(&self) -> (usize, Vec<String>) {
        match self {
            Subject::Native(program, _) => {
                let interface = program.interface();
                let names = interface.outputs.iter().map(|t| t.name.clone());
                (interface.inputs.len(), names.collect())
            }
            Subject::Accel(program, _) => {
                let names = program.outputs().iter().map(|t| t.name.clone());
                (program.inputs().len(), names.collect())
            }
            Subject::Interpreted(graph) => {
                let names = graph.outputs.iter().map(|p| p.name.clone());
                (graph.inputs.len(), names.collect())
            }
        }
    }

    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        match self {
            Subject::Native(program, _) => artifact::run(program, inputs),
            Subject::Accel(program, _) => program.run(inputs),
            Subject::Interpreted(graph) => artifact::interpret(graph, inputs),
        }
    }

    /// What the outputs have to be, bit for bit, if that is known: of a program for the accelerator what its graph computes.
    pub fn exact(&self, inputs: &[Tensor]) -> Result<Option<Vec<Tensor>>> {
        match self {
            Subject::Accel(_, Some(graph)) => artifact::interpret(graph, inputs).map(Some),
            _ => Ok(None),
        }
    }

    /// The quantisation step of output `i`, if it has one and it is known.
    pub fn step(&self, i: usize) -> Option<f64> {
        match self {
            Subject::Native(_, steps) => steps.get(i).copied().flatten(),
            Subject::Accel(..) => None,
            Subject::Interpreted(graph) => quantise::output_steps(graph).get(i).copied().flatten(),
        }
    }
}

/// A subject for some recorded inputs.
pub struct Ready<'s> {
    pub subject: &'s Subject,
    /// The inputs that it takes.
    pub inputs: Vec<Tensor>,
    /// Names of those that it does not take any more, because their recorded values were needed to compile it.
    pub fixed: Vec<String>,
}

/// Of each input its shape, if that is open, and the digest of its value, if that is fixed.
type Key = Vec<(Vec<usize>, Option<Digest>)>;

/// What runs a model under test.
#[derive(Debug)]
pub enum Way {
    /// The reference interpreter, on what was imported.
    Interpreter,
    /// Native code.
    Native(Options),
    /// A program for the accelerator, on the simulator: the model in integers, whose ranges are those of the recorded inputs.
    Accel(AccelOptions),
}

/// The model under test, made ready for the inputs at hand.
pub struct Subjects<'a> {
    path: PathBuf,
    fixed: ModelOptions,
    way: Way,
    observer: &'a dyn Observer,
    /// Inputs have symbolic dimensions, so other shapes are another program.
    open: bool,
    /// Names of the inputs; unknown of an artifact, which is what it is.
    names: Vec<String>,
    /// Positions of the inputs whose values turned out to be needed.
    needed: BTreeSet<usize>,
    /// What was said already.
    said: BTreeSet<String>,
    /// The model as read; it is read again for further programs.
    first: Option<Source>,
    ready: BTreeMap<Key, Subject>,
}

impl<'a> Subjects<'a> {
    pub fn new(path: PathBuf, fixed: ModelOptions, way: Way, observer: &'a dyn Observer) -> Result<Self> {
        let source = Source::open(path.clone(), &fixed)?;
        Ok(Self {
            path,
            fixed,
            way,
            observer,
            open: source.is_open(),
            names: source.input_names().unwrap_or_default(),
            needed: BTreeSet::new(),
            said: BTreeSet::new(),
            first: Some(source),
            ready: BTreeMap::new(),
        })
    }

    /// Positions of the inputs fixed when the model was read.
    pub fn fixed(&self) -> Vec<usize> {
        self.first
            .as_ref()
            .map_or_else(Vec::new, |source| source.fixed().to_vec())
    }

    /// The subject for some inputs. Those without whose values the model cannot be compiled become constants: only those that
    /// the diagnosis asks for, as long as it asks for more.
    pub fn of(&mut self, recorded: &[Tensor]) -> Result<Ready<'_>> {
        let key = loop {
            let key = self.key(recorded);
            if self.ready.contains_key(&key) {
                break key;
            }
            match self.make(recorded) {
                Ok(subject) => {
                    self.ready.insert(key.clone(), subject);
                    break key;
                }
                Err(error) => {
                    let before = self.needed.len();
                    let asked = error.problems().into_iter().flat_map(|p| p.fix);
                    let positions = asked.filter_map(|name| self.names.iter().position(|n| *n == name));
                    self.needed.extend(positions.filter(|&k| k < recorded.len()));
                    if self.needed.len() == before {
                        self.say(recorded);
                        return Err(error);
                    }
                }
            }
        };
        self.say(recorded);
        Ok(Ready {
            subject: &self.ready[&key],
            inputs: self.rest(recorded),
            fixed: self.needed.iter().map(|&k| self.names[k].clone()).collect(),
        })
    }

    fn key(&self, recorded: &[Tensor]) -> Key {
        let input = |(k, tensor): (usize, &Tensor)| {
            let shape = if self.open { tensor.shape() } else { &[] };
            let value = self.needed.contains(&k);
            (shape.to_vec(), value.then(|| Digest::of(&[tensor.bytes()])))
        };
        recorded.iter().enumerate().map(input).collect()
    }

    fn rest(&self, recorded: &[Tensor]) -> Vec<Tensor> {
        let taken = recorded.iter().enumerate();
        let taken = taken.filter(|(k, _)| !self.needed.contains(k));
        taken.map(|(_, tensor)| tensor.clone()).collect()
    }

    fn make(&mut self, recorded: &[Tensor]) -> Result<Subject> {
        let mut source = match self.first.take() {
            Some(source) => source,
            None => Source::open(self.path.clone(), &self.fixed)?,
        };
        for &k in &self.needed {
            source.fix(&self.names[k], &recorded[k]);
        }
        let rest = self.rest(recorded);
        let shape = |position: usize| rest.get(position).map(|t| t.shape().to_vec());
        let options = match &self.way {
            Way::Interpreter => return Ok(Subject::Interpreted(Box::new(source.model(shape)?.graph))),
            Way::Accel(options) => {
                let model = source.model(shape)?;
                return self.accelerated(model, options, rest);
            }
            Way::Native(options) => options,
        };
        if let Source::Compiled(path) = &source
            && AccelProgram::is_in(path)
        {
            return Ok(Subject::Accel(Box::new(AccelProgram::open(path)?), None));
        }
        let directory = source.directory(shape, options, self.observer)?;
        let program = directory.load()?;
        Ok(Subject::Native(Box::new(program), directory.steps().to_vec()))
    }

    fn accelerated(&self, mut model: Model, options: &AccelOptions, inputs: Vec<Tensor>) -> Result<Subject> {
        if !computes_in_integers(&model.graph) {
            let (fused, plain) = (fuse(&model.graph)?, Preprocessing::default());
            model.graph = to_integers(&fused, Some(&vec![inputs]), &plain, 1, self.observer)?.0;
        }
        let translated = translate(&model, options, self.observer, None)?;
        let program = AccelProgram::new(translated.compiled.program)?;
        Ok(Subject::Accel(
            Box::new(program),
            Some(Box::new(translated.graph)),
        ))
    }

    /// Says what was fixed, each value once.
    fn say(&mut self, recorded: &[Tensor]) {
        for &k in &self.needed {
            let name = &self.names[k];
            let text = format!(
                "input `{name}` fixed to the recorded value {}; compile with --fix {name}=FILE to do the same",
                value_text(&recorded[k])
            );
            if self.said.insert(text.clone()) {
                self.observer.note(&text);
            }
        }
    }
}

/// A tensor's value, as far as it is short.
fn value_text(tensor: &Tensor) -> String {
    let shown: Vec<String> = match tensor.to_i64_vec() {
        Some(all) => all.iter().take(SHOWN).map(i64::to_string).collect(),
        None => tensor
            .to_f64_vec()
            .iter()
            .take(SHOWN)
            .map(f64::to_string)
            .collect(),
    };
    match (tensor.shape(), tensor.len().saturating_sub(SHOWN)) {
        ([], _) => shown.join(""),
        (_, 0) => format!("[{}]", shown.join(", ")),
        (_, more) => format!("[{}, and {more} more]", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut() {
        let text = |n: i64| value_text(&Tensor::from_elements(vec![n as usize], (0..n).collect()).unwrap());
        assert_eq!(text(0), "[]");
        assert_eq!(text(2), "[0, 1]");
        assert_eq!(text(10), "[0, 1, 2, 3, 4, 5, 6, 7, and 2 more]");
        assert_eq!(value_text(&Tensor::scalar(1.5f32)), "1.5");
    }
}
