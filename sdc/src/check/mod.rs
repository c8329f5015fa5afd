//! Outputs of a model against recorded ones.

mod subject;

use crate::artifact::input_bytes;
use crate::dataset::DataSet;
use crate::error::{Error, Result};
use crate::model::ModelOptions;
use crate::observe::Observer;
use sdc_artifact::load::ArenaUse;
use sdc_interp::compare::{Class, Report, compare, granted};
use sdc_ir::Tensor;
use serde::Serialize;
use std::path::PathBuf;
pub use subject::Way;
use subject::{Ready, Subject, Subjects};

/// What differences pass: element by element `|a-b| <= atol + rtol * |b|`. If neither is given, what its element type allows of an
/// output as a whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tolerance {
    /// Relative tolerance.
    pub rtol: Option<f64>,
    /// Absolute tolerance.
    pub atol: Option<f64>,
}

impl Tolerance {
    /// For an output that has a quantisation step, or none.
    fn class(self, step: Option<f64>) -> Class {
        match (self.rtol, self.atol, step) {
            (None, None, Some(step)) => Class::Quantised { step },
            (None, None, None) => Class::ROUNDING,
            (rtol, atol, _) => Class::Elementwise {
                rtol: rtol.unwrap_or(0.0),
                atol: atol.unwrap_or(0.0),
            },
        }
    }
}

/// One output of one data set.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its name.
    pub data_set: String,
    /// The output's name.
    pub output: String,
    /// Inputs whose recorded values were needed to compile the model.
    pub fixed: Vec<String>,
    /// It is as recorded, within the tolerance.
    pub passed: bool,
    /// Largest difference.
    pub max_error: f64,
    /// Largest magnitude of the recorded output.
    pub scale: f64,
    /// The largest error that passes; absent where it depends on the element.
    pub allowed: Option<f64>,
    /// How it differs, or that it does not.
    pub detail: String,
}

/// A model under test. It is compiled anew for each shape of its inputs, and for each value of those that shapes depend on: they are
/// fixed to what was recorded, and the observer hears of it.
pub struct Checker<'a> {
    subjects: Subjects<'a>,
    /// Positions of the inputs that were fixed from the start: recorded sets include them.
    fixed: Vec<usize>,
}

impl<'a> Checker<'a> {
    /// Reads the model or artifact at `path`.
    ///
    /// # Errors
    /// As for [`Source::open`](crate::Source::open); an artifact cannot be interpreted.
    pub fn new(path: PathBuf, fixed: ModelOptions, way: Way, observer: &'a dyn Observer) -> Result<Self> {
        let subjects = Subjects::new(path, fixed, way, observer)?;
        let fixed = subjects.fixed();
        Ok(Self { subjects, fixed })
    }

    /// Runs the model on recorded inputs and compares, output by output: with what was recorded, or, where it is known what outputs
    /// have to be bit for bit, with that, and with what was recorded if the tolerance is given.
    ///
    /// # Errors
    /// Anything that keeps the model from running on them; other numbers of inputs or outputs than the model's.
    pub fn check(&mut self, set: &DataSet, tolerance: Tolerance) -> Result<Vec<Row>> {
        let expected = set.outputs()?;
        let ready = self.ready(set)?;
        let (_, names) = ready.subject.ports();
        if expected.len() != names.len() {
            return Err(count(set, "outputs", expected.len(), names.len()));
        }
        let actual = ready.subject.run(&ready.inputs)?;
        let rows = |expected: &[Tensor], class: &dyn Fn(usize) -> Class| -> Vec<Row> {
            let outputs = names.iter().zip(actual.iter().zip(expected)).enumerate();
            let row = |(i, (name, (actual, expected))): (usize, (&String, (&Tensor, &Tensor)))| Row {
                data_set: set.name(),
                fixed: ready.fixed.clone(),
                ..Row::new(name, &compare(actual, expected, class(i)))
            };
            outputs.map(row).collect()
        };
        let recorded = || rows(&expected, &|i| tolerance.class(ready.subject.step(i)));
        let Some(exact) = ready.subject.exact(&ready.inputs)? else {
            return Ok(recorded());
        };
        let mut all = rows(&exact, &|_| Class::Exact);
        if tolerance.rtol.is_some() || tolerance.atol.is_some() {
            all.extend(recorded());
        }
        Ok(all)
    }

    /// What a run on recorded inputs does to its arena, and the arena's size; `None` of the interpreter, which has none.
    ///
    /// # Errors
    /// As for [`Checker::check`].
    pub fn arena(&mut self, set: &DataSet) -> Result<Option<(ArenaUse, usize)>> {
        let ready = self.ready(set)?;
        let Subject::Native(program, _) = ready.subject else {
            return Ok(None);
        };
        let interface = program.interface();
        let inputs = interface.inputs.iter().zip(&ready.inputs);
        let inputs = inputs.map(|(spec, tensor)| input_bytes(spec, tensor));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let inputs: Vec<&[u8]> = inputs.iter().map(|m| &m[..]).collect();
        let used = program.instance()?.measure(&inputs, None)?;
        Ok(Some((used, interface.arena_size)))
    }

    fn ready(&mut self, set: &DataSet) -> Result<Ready<'_>> {
        let inputs = set.inputs()?.into_iter().enumerate();
        let inputs = inputs.filter(|(k, _)| !self.fixed.contains(k)).map(|(_, t)| t);
        let inputs: Vec<Tensor> = inputs.collect();
        let ready = self.subjects.of(&inputs)?;
        let (wanted, _) = ready.subject.ports();
        if ready.inputs.len() != wanted {
            return Err(count(set, "inputs", inputs.len(), wanted + ready.fixed.len()));
        }
        Ok(ready)
    }
}

fn count(set: &DataSet, what: &str, given: usize, wanted: usize) -> Error {
    Error::usage(format!("{}: {given} {what}, the model has {wanted}", set.name()))
}

impl Row {
    /// An output against what was expected, of no data set. `step` is the quantisation step of the output, if it has one.
    pub fn of(
        output: &str,
        actual: &Tensor,
        expected: &Tensor,
        tolerance: Tolerance,
        step: Option<f64>,
    ) -> Self {
        Self::new(output, &compare(actual, expected, tolerance.class(step)))
    }

    fn new(output: &str, report: &Report) -> Self {
        let allowed = match report.class {
            Class::Quantised { step } => Some(4.0 * step),
            _ if !report.expected.dtype.is_float() => Some(0.0),
            Class::Exact => Some(0.0),
            Class::Rounding { rel } => Some(rel.max(granted(report.actual.dtype)) * report.scale),
            Class::Elementwise { .. } => None,
        };
        Self {
            data_set: String::new(),
            output: output.to_owned(),
            fixed: Vec::new(),
            passed: report.passed(),
            max_error: report.max_abs,
            scale: report.scale,
            allowed,
            detail: report.to_string(),
        }
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Row {
            data_set,
            output,
            max_error,
            ..
        } = self;
        if !self.passed {
            return write!(f, "{data_set} {output}: {}", self.detail);
        }
        write!(f, "{data_set} {output}: ok, max_error {max_error:.3e}")?;
        match self.allowed {
            Some(allowed) => write!(f, ", allowed {allowed:.3e}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_what_was_allowed() {
        let t = |x: f32| Tensor::from_elements(vec![1], vec![x]).unwrap();
        let row = |a, b| Row::of("y", &t(a), &t(b), Tolerance::default(), None);
        let close = row(1.00001, 1.0);
        assert!(
            close.passed && close.to_string().ends_with("allowed 1.000e-4"),
            "{close}"
        );
        let row = row(1.1, 1.0);
        assert!(!row.passed && row.to_string().contains("differs"), "{row}");
    }
}
