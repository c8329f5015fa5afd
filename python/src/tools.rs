//! What is done with models beside compiling them.

use crate::arrays::{Raw, raw, tensor};
use crate::errors::{exception, json};
use crate::model::Given;
use crate::program::{Program, sets};
use crate::watch::watched;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sdc::check::{Row, Tolerance};
use sdc::compress::{CompressOptions, CompressionReport, Solver, Wanted, Wish, solver_name};
use sdc::eval::{EvalOptions, eval};
use sdc::{Calibration, Declared, Error, Extent, Loaded, Preprocessing};
use sdc_passes::decompose::Samples;
use sdc_passes::decompose::released::ReleasedOptions;

/// Name, ONNX's element type, and dimensions: sizes, symbols, or nothing where the model says nothing.
type Port<'py> = (String, String, Vec<Bound<'py, PyAny>>);

/// The inputs and outputs that a model declares.
#[pyfunction]
pub fn declared(py: Python<'_>, given: Given) -> PyResult<(Vec<Port<'_>>, Vec<Port<'_>>)> {
    let (file, _) = given.file().map_err(exception)?;
    let port = |declared: Declared| {
        let (dtype, dims) = declared
            .tensor
            .unwrap_or_else(|what| (what.to_owned(), Vec::new()));
        let dim = |dim: Extent| {
            Ok(match dim {
                Extent::Size(n) => n.into_pyobject(py)?.into_any(),
                Extent::Symbol(name) => name.into_pyobject(py)?.into_any(),
                Extent::Unknown => py.None().into_bound(py),
            })
        };
        let dims = dims.into_iter().map(dim).collect::<PyResult<_>>()?;
        Ok((declared.name, dtype, dims))
    };
    let ports = |all: Vec<Declared>| all.into_iter().map(port).collect::<PyResult<_>>();
    Ok((ports(file.declared_inputs())?, ports(file.declared_outputs())?))
}

/// What is in a model, and what of it is not supported.
#[pyfunction]
pub fn inspect(py: Python<'_>, given: Given) -> PyResult<Bound<'_, PyAny>> {
    let found = watched(py, None, |watcher| {
        let (file, options) = given.file()?;
        sdc::inspect::inspect_file(file, &options, watcher)
    })?;
    json(py, &found.0)
}

/// Arrays taken apart.
type Outputs = Vec<(String, String, Vec<usize>, Py<PyBytes>)>;

/// The outputs of the reference interpreter for inputs in order, by name.
#[pyfunction]
pub fn interpret(py: Python<'_>, given: Given, inputs: Vec<Raw>) -> PyResult<Outputs> {
    let (names, outputs) = watched(py, None, |_| {
        let inputs = inputs.into_iter().map(tensor).collect::<sdc::Result<Vec<_>>>()?;
        let graph = given.import()?.graph;
        let names: Vec<String> = graph.outputs.iter().map(|p| p.name.clone()).collect();
        Ok((names, sdc::interpret(&graph, &inputs)?))
    })?;
    let output = |(name, tensor): (String, &sdc::Tensor)| {
        let (dtype, shape, bytes) = raw(tensor);
        (
            name,
            dtype.to_owned(),
            shape.to_vec(),
            PyBytes::new(py, bytes).unbind(),
        )
    };
    Ok(names.into_iter().zip(&outputs).map(output).collect())
}

/// How an output differs from what was expected.
#[pyfunction]
pub fn compare<'py>(
    py: Python<'py>,
    name: &str,
    pair: (Raw, Raw),
    tolerance: (Option<f64>, Option<f64>),
    step: Option<f64>,
) -> PyResult<Bound<'py, PyAny>> {
    let (actual, expected) = (
        tensor(pair.0).map_err(exception)?,
        tensor(pair.1).map_err(exception)?,
    );
    let (rtol, atol) = tolerance;
    json(
        py,
        &Row::of(name, &actual, &expected, Tolerance { rtol, atol }, step),
    )
}

/// How weights are compressed: what `sdc.compress` takes.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct How {
    /// What is wished for, and how much of it.
    wish: (String, f64),
    solver: String,
    densities: Vec<(String, f64)>,
    samples: Option<usize>,
    seed: Option<u64>,
    threads: usize,
    calib: Vec<Vec<Raw>>,
}

impl How {
    fn options(&self) -> sdc::Result<CompressOptions<'static>> {
        let (wish, x) = (self.wish.0.as_str(), self.wish.1);
        let wish = match wish {
            "ratio" => Wish::Ratio(x),
            "bits" => Wish::Bits(x),
            "density" => Wish::Density(x),
            "budget" => Wish::Budget(x),
            "size" => Wish::Size(x as usize),
            other => return Err(Error::bug(format!("no wish `{other}`"))),
        };
        let released = Solver::Released(ReleasedOptions::default());
        let solvers = [released, Solver::RowSearch, Solver::Curvature, Solver::Feedback];
        let names = solvers.iter().map(solver_name).collect::<Vec<_>>().join(", ");
        let solver = solvers.into_iter().find(|s| solver_name(s) == self.solver);
        let solver =
            solver.ok_or_else(|| Error::usage(format!("solver `{}`: there are {names}", self.solver)))?;
        let defaults = CompressOptions::default();
        Ok(CompressOptions {
            wish,
            solver,
            densities: self.densities.iter().cloned().collect(),
            samples: self.samples.unwrap_or(defaults.samples),
            seed: self.seed.unwrap_or(defaults.seed),
            threads: self.threads,
            ..defaults
        })
    }
}

/// The model with compressed weights, encoded, and what was done.
#[pyfunction]
pub fn compress<'py>(
    py: Python<'py>,
    given: Given,
    how: How,
    progress: Option<Py<PyAny>>,
) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyAny>)> {
    let (bytes, report) = watched(py, progress.as_ref(), |watcher| {
        let options = how.options()?;
        let (file, fixed) = given.file()?;
        let (proto, external) = (file.proto.clone(), file.external());
        let fused = sdc::compress::fuse(&file.import(fixed.dims)?.graph)?;
        let sets = sets(how.calib)?;
        let calibration = (!sets.is_empty())
            .then(|| Calibration::of_sets(sets, &fused))
            .transpose()?;
        let excluded = sdc::compress::obstacles(&proto, &fused);
        let options = CompressOptions {
            calibration: calibration.as_ref().map(|c| c as &dyn Samples),
            excluded: excluded.keys().copied().collect(),
            ..options
        };
        let compressed = sdc::compress::compress(fused, &options, watcher)?;
        let wanted = Wanted {
            model: String::new(),
            options: &options,
            excluded: &excluded,
        };
        let mut report = CompressionReport::of(&compressed, &wanted, watcher)?;
        let bytes = sdc::compress::export(proto, external.as_ref(), &compressed.graph, &report.layers)?;
        report.output_bytes = bytes.len();
        Ok((bytes, report))
    })?;
    Ok((PyBytes::new(py, &bytes), json(py, &report)?))
}

/// How images become inputs, and outputs classes.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Shown {
    scale: f32,
    mean: Vec<f32>,
    std: Vec<f32>,
    reverse_channels: bool,
    label_offset: i64,
    output: Option<String>,
    threads: usize,
}

/// How many labelled images a classifier gets right, and the class it finds for each.
#[pyfunction]
pub fn evaluate<'py>(
    py: Python<'py>,
    program: &Bound<'py, Program>,
    images: Raw,
    labels: Raw,
    how: Shown,
    progress: Option<Py<PyAny>>,
) -> PyResult<(Bound<'py, PyAny>, Vec<i64>)> {
    let options = EvalOptions {
        preprocessing: Preprocessing {
            scale: how.scale,
            mean: how.mean,
            std: how.std,
            layout: None,
            reverse_channels: how.reverse_channels,
        },
        label_offset: how.label_offset,
        output: how.output,
        threads: how.threads,
    };
    let program = Loaded::Native(Box::new(program.get().loaded().clone()));
    let (counts, found) = watched(py, progress.as_ref(), |watcher| {
        eval(&program, &tensor(images)?, &tensor(labels)?, &options, watcher)
    })?;
    Ok((json(py, &counts)?, found))
}
