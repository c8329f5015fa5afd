//! A compiled model in use: compiled or loaded, run from any thread, written to a directory.

use crate::arrays::{Input, Output, Raw, shown, tensor};
use crate::errors::{exception, json};
use crate::model::Given;
use crate::watch::{Watcher, watched};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use sdc::{Artifact, Calibration, Error, Options, Preprocessing, Program as Loaded, Target, files};
use sdc_artifact::interface::{Interface, TensorSpec};
use sdc_artifact::load::Instance;
use sdc_artifact::manifest::Kind;
use sdc_artifact::pool::Pool;
use sdc_passes::decompose::Samples;
use sdc_passes::plan::{report, svg};
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How a model is compiled: what `sdc.compile` takes, one for one.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Wanted {
    name: Option<String>,
    cpu: String,
    kernels: bool,
    winograd: bool,
    streamed: bool,
    resident_weights: Option<usize>,
    ram: Option<usize>,
    flash: Option<usize>,
    integers: bool,
    calib: Vec<Vec<Raw>>,
    calib_samples: usize,
}

/// A compiled model; the class `sdc.Compiled` stands on it.
#[pyclass(subclass, frozen, module = "sdc._sdc")]
pub struct Program {
    loaded: Loaded,
    /// What compiling came to; nothing of one that was loaded.
    artifact: Option<Artifact>,
    /// The artifact's files, open, so that nothing of theirs is left on disk in whatever way the process ends.
    files: Vec<(String, File)>,
    pool: Option<Pool>,
    /// Arenas that no call uses.
    idle: Mutex<Vec<Instance>>,
    inputs: Vec<Py<PyString>>,
    outputs: Vec<Py<PyString>>,
}

#[pymethods]
impl Program {
    /// Compiles a model, or loads the artifact in a directory.
    #[new]
    #[pyo3(signature = (given, wanted, directory, threads, progress))]
    fn new(
        py: Python<'_>,
        given: Option<Given>,
        wanted: Option<Wanted>,
        directory: Option<PathBuf>,
        threads: usize,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let make = move |watcher: &Watcher| match (given, wanted, directory) {
            (Some(given), Some(wanted), _) => compiled(given, wanted, watcher),
            (.., Some(directory)) => {
                let loaded = Loaded::open(&directory)?;
                let files = opened(
                    &directory,
                    loaded.manifest().files.values().map(|f| f.name.clone()),
                )?;
                Ok((loaded, None, files))
            }
            _ => Err(Error::bug("neither a model nor a directory")),
        };
        let (loaded, artifact, files) = watched(py, progress.as_ref(), make)?;
        let pool = match threads {
            1 => None,
            n => Some(
                Pool::new(n).map_err(|e| exception(Error::limit(format!("cannot start threads: {e}"))))?,
            ),
        };
        let first = loaded.instance().map_err(exception)?;
        let names = |specs: &[TensorSpec]| {
            specs
                .iter()
                .map(|t| PyString::new(py, &t.name).unbind())
                .collect()
        };
        Ok(Self {
            inputs: names(&loaded.interface().inputs),
            outputs: names(&loaded.interface().outputs),
            idle: Mutex::new(vec![first]),
            loaded,
            artifact,
            files,
            pool,
        })
    }

    /// Runs the model once on arrays by the inputs' names, and returns arrays by the outputs' names.
    ///
    /// Every input must be there, an array of its very element type and shape. Arrays are read where they lie if they are in row-major order
    /// without gaps, else copied; read-only arrays and whatever speaks DLPack will do. Results are fresh arrays. Others must not write
    /// to an input while the model runs: the interpreter's lock is released meanwhile, and any number of threads may call at once.
    ///
    /// Raises `sdc.UsageError` that says what was expected and what came.
    #[pyo3(signature = (inputs, /))]
    fn run<'py>(&self, py: Python<'py>, inputs: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
        let interface = self.loaded.interface();
        let arrays = self.inputs_of(py, interface, inputs)?;
        let bytes = arrays.iter().map(Input::bytes).collect::<PyResult<Vec<_>>>()?;
        let results = interface.outputs.iter().map(|spec| Output::new(py, spec));
        let (mut filled, shown_as): (Vec<_>, Vec<_>) =
            results.collect::<PyResult<Vec<_>>>()?.into_iter().unzip();
        let mut slices = filled
            .iter_mut()
            .map(Output::bytes)
            .collect::<PyResult<Vec<_>>>()?;
        py.detach(|| self.execute(&bytes, &mut slices))
            .map_err(exception)?;
        drop(filled);
        let results = PyDict::new(py);
        for ((spec, name), array) in interface.outputs.iter().zip(&self.outputs).zip(shown_as) {
            results.set_item(name, shown(spec, array)?)?;
        }
        Ok(results)
    }

    /// Name, element type and shape of each input and of each output.
    fn _ports(&self) -> (Vec<Port>, Vec<Port>) {
        let ports = |specs: &[TensorSpec]| {
            let port = |t: &TensorSpec| (t.name.clone(), t.dtype.name(), t.shape.clone());
            specs.iter().map(port).collect()
        };
        let interface = self.loaded.interface();
        (ports(&interface.inputs), ports(&interface.outputs))
    }

    /// The steps by which the outputs are quantised, where they are.
    fn _steps(&self) -> Vec<Option<f64>> {
        self.artifact.as_ref().map_or_else(Vec::new, |a| a.steps.clone())
    }

    /// Names of the artifact's files, and their sizes.
    fn _files(&self) -> PyResult<Vec<(String, u64)>> {
        let size = |(name, file): &(String, File)| Ok((name.clone(), file.metadata()?.len()));
        self.files.iter().map(size).collect()
    }

    /// The numbers of the artifact, and what the compiler did.
    fn _report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json(py, &summary(self.loaded.interface(), self.artifact.as_ref()))
    }

    /// The memory plan: numbers, text and picture.
    fn _plan<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyAny>, String, String)>> {
        let plan = |artifact: &Artifact| {
            let plan: &report::Report = &artifact.plan;
            Ok((json(py, plan)?, plan.to_string(), svg::timeline(plan)))
        };
        self.artifact.as_ref().map(plan).transpose()
    }

    /// Writes the artifact's files into a directory, which is created if need be.
    fn _save(&self, py: Python<'_>, directory: PathBuf) -> PyResult<()> {
        py.detach(|| -> sdc::Result<()> {
            files::create_dir(&directory)?;
            // What reads the others comes last: it is there only when they are.
            let is_manifest = |name: &str| name == sdc_artifact::manifest::FILE_NAME;
            let (last, first): (Vec<_>, Vec<_>) = self.files.iter().partition(|(name, _)| is_manifest(name));
            for (name, file) in first.into_iter().chain(last) {
                files::write(&directory.join(name), |out| {
                    io::copy(&mut At(file, 0), out).map(drop)
                })?;
            }
            Ok(())
        })
        .map_err(exception)
    }
}

/// Name, element type and shape.
type Port = (String, &'static str, Vec<usize>);

impl Program {
    /// The program itself.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// The inputs in order.
    fn inputs_of<'py>(
        &self,
        py: Python<'py>,
        interface: &Interface,
        given: &Bound<'py, PyDict>,
    ) -> PyResult<Vec<Input<'py>>> {
        let mut arrays = Vec::with_capacity(self.inputs.len());
        for (spec, name) in interface.inputs.iter().zip(&self.inputs) {
            match given.get_item(name)? {
                Some(value) => arrays.push(Input::of(spec, &value)?),
                None => return Err(self.misnamed(py, given)),
            }
        }
        if given.len() == arrays.len() {
            Ok(arrays)
        } else {
            Err(self.misnamed(py, given))
        }
    }

    /// What is missing and what is too much.
    fn misnamed(&self, py: Python<'_>, given: &Bound<'_, PyDict>) -> PyErr {
        let names = || {
            py.import("sdc._arrays")?
                .getattr("misnamed")?
                .call1((self._ports().0, given))
        };
        names().map_or_else(|failed| failed, PyErr::from_value)
    }

    /// Runs in an arena that nobody uses.
    fn execute(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> sdc::Result<()> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let free = idle().pop();
        let mut instance = match free {
            Some(instance) => instance,
            None => self.loaded.instance()?,
        };
        let result = instance.run(inputs, outputs, self.pool.as_ref());
        idle().push(instance);
        Ok(result?)
    }
}

/// A file read from a place that others do not move.
struct At<'a>(&'a File, u64);

impl io::Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read_at(buffer, self.1)?;
        self.1 += read as u64;
        Ok(read)
    }
}

type Made = (Loaded, Option<Artifact>, Vec<(String, File)>);

fn compiled(given: Given, wanted: Wanted, watcher: &Watcher) -> sdc::Result<Made> {
    let target = Target {
        winograd: wanted.winograd,
        resident_weights: wanted.resident_weights,
        ..Target::new(&wanted.cpu, wanted.kernels)?
    };
    let mut model = given.import()?;
    if wanted.integers {
        let fused = sdc::compress::fuse(&model.graph)?;
        let sets = sets(wanted.calib)?;
        let calibration = (!sets.is_empty())
            .then(|| Calibration::of_sets(sets, &fused))
            .transpose()?;
        let samples = calibration.as_ref().map(|c| c as &dyn Samples);
        let limit = wanted.calib_samples;
        model.graph = sdc::to_integers(&fused, samples, &Preprocessing::default(), limit, watcher)?.0;
    }
    let target = target.with_streamed(wanted.streamed, &model.graph)?;
    let options = Options {
        name: wanted.name,
        ram: wanted.ram,
        flash: wanted.flash,
        kinds: [
            Kind::Object,
            Kind::Archive,
            Kind::SharedLibrary,
            Kind::Header,
            Kind::Weights,
            Kind::Manifest,
        ]
        .into(),
        ..Options::new(target)
    };
    let dir = tempfile::Builder::new().prefix("sdc-").tempdir();
    let dir = dir.map_err(|e| Error::usage(format!("cannot create a temporary directory: {e}")))?;
    let artifact = sdc::compile_watched(model, &options, dir.path(), watcher, None)?;
    let loaded = artifact.load()?;
    let names = artifact.files.iter().filter_map(|f| f.path.file_name());
    let files = opened(dir.path(), names.map(|name| name.to_string_lossy().into_owned()))?;
    Ok((loaded, Some(artifact), files))
}

/// Sets of inputs, arrays read.
pub fn sets(raw: Vec<Vec<Raw>>) -> sdc::Result<Vec<Vec<sdc::Tensor>>> {
    let set = |set: Vec<Raw>| set.into_iter().map(tensor).collect();
    raw.into_iter().map(set).collect()
}

/// Files of a directory by name, and the manifest.
fn opened(dir: &Path, names: impl Iterator<Item = String>) -> sdc::Result<Vec<(String, File)>> {
    let open = |name: String| {
        let path = dir.join(&name);
        let file = File::open(&path).map_err(|e| Error::io(&path, e))?;
        Ok((name, file))
    };
    let manifest = sdc_artifact::manifest::FILE_NAME.to_owned();
    let names: std::collections::BTreeSet<String> = names.chain([manifest]).collect();
    names.into_iter().map(open).collect()
}

/// Everything there is to know of an artifact in numbers; of one that was loaded, what its interface says.
fn summary(interface: &Interface, artifact: Option<&Artifact>) -> Value {
    let mut report = json!({
        "name": interface.name,
        "cpu": interface.cpu,
        "features": interface.features,
        "arena_bytes": interface.arena_size,
        "prepared_bytes": interface.prepared_size,
        "weights_bytes": interface.weights_size,
    });
    let (Some(artifact), Some(all)) = (artifact, report.as_object_mut()) else {
        return report;
    };
    let function = |f: &sdc::Function| {
        let origins: Vec<String> = f.origins.iter().map(|o| o.name.clone()).collect();
        json!({
            "name": f.name, "origins": origins, "kernels": f.kernels, "macs": f.macs, "bytes": f.bytes, "tasks": f.tasks,
        })
    };
    let timing = |(step, time): &(&'static str, std::time::Duration)| json!({"step": step, "seconds": time.as_secs_f64()});
    all.insert("code_bytes".into(), json!(artifact.code_bytes));
    all.insert("lower_bound_bytes".into(), json!(artifact.plan.lower_bound_bytes));
    all.insert("resident_weights_bytes".into(), json!(artifact.resident_weights));
    all.insert("kernels".into(), json!(artifact.kernels));
    all.insert(
        "functions".into(),
        artifact.functions.iter().map(function).collect(),
    );
    all.insert("remarks".into(), json!(artifact.remarks));
    all.insert("steps".into(), artifact.timings.iter().map(timing).collect());
    report
}
