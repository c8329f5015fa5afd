//! Representative inputs from files, read one at a time.

use crate::dataset::DataSet;
use crate::error::{Error, Result};
use crate::images::{Images, Preprocessing};
use crate::npy;
use sdc_artifact::interface::TensorSpec;
use sdc_ir::graph::Graph;
use sdc_ir::{DType, Tensor};
use sdc_passes::decompose::{DecomposeError, Samples};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Sets of inputs of a graph, from several files.
pub struct Calibration {
    files: Vec<File>,
    inputs: Vec<TensorSpec>,
    preprocessing: Preprocessing,
}

/// Sets that are read before a mapped file is opened anew: what was read of it counts as this process's memory while it is mapped.
const READS: usize = 128;

/// A file or recorded set.
struct File {
    path: PathBuf,
    sets: usize,
    source: Mutex<(Arc<Source>, usize)>,
}

enum Source {
    /// Images or floats for the only input, as many as the batch at a time.
    Images(Images),
    /// Sets held in memory.
    Sets(Vec<Vec<Tensor>>),
    /// Tensors with samples along the first dimension, by input.
    Arrays(Vec<Tensor>),
    /// A recorded set.
    Recorded(DataSet),
}

impl Calibration {
    /// Opens files and directories for a graph's inputs; `None` if there are none. An `.npy` file holds images or inputs, an `.npz` file
    /// inputs by name, each more than one along the first dimension; a directory holds recorded sets.
    ///
    /// # Errors
    /// Files that cannot be read or do not fit the inputs; not one whole batch.
    pub fn open(paths: &[PathBuf], preprocessing: &Preprocessing, graph: &Graph) -> Result<Option<Self>> {
        if paths.is_empty() {
            return Ok(None);
        }
        let inputs = specs(graph);
        let mut files = Vec::new();
        for path in paths {
            for source in open(path, preprocessing, &inputs)? {
                files.push(File {
                    path: path.clone(),
                    sets: sets(&source, &inputs),
                    source: Mutex::new((Arc::new(source), 0)),
                });
            }
        }
        let calibration = Self {
            files,
            inputs,
            preprocessing: preprocessing.clone(),
        };
        if calibration.count() == 0 {
            return Err(Error::usage("--calib: not one whole batch of inputs"));
        }
        Ok(Some(calibration))
    }

    /// Sets of inputs in memory, each in the order of a graph's inputs.
    ///
    /// # Errors
    /// No set; one with tensors of other types or shapes than the inputs'.
    pub fn of_sets(sets: Vec<Vec<Tensor>>, graph: &Graph) -> Result<Self> {
        let inputs = specs(graph);
        if sets.is_empty() {
            return Err(Error::usage("not one set of inputs to calibrate with"));
        }
        for (index, set) in sets.iter().enumerate() {
            fits(&format!("set {index}"), set, &inputs).map_err(Error::usage)?;
        }
        let file = File {
            path: PathBuf::new(),
            sets: sets.len(),
            source: Mutex::new((Arc::new(Source::Sets(sets)), 0)),
        };
        Ok(Self {
            files: vec![file],
            inputs,
            preprocessing: Preprocessing::default(),
        })
    }

    /// What is behind a file, for one more set.
    fn source(&self, file: &File) -> Result<Arc<Source>, DecomposeError> {
        let mut state = file.source.lock().unwrap_or_else(PoisonError::into_inner);
        let mapped = file.path.extension().is_some_and(|e| e == "npy");
        if mapped && state.1 == READS {
            let reopened = open(&file.path, &self.preprocessing, &self.inputs).map_err(failed)?;
            match reopened.into_iter().next() {
                Some(source) if sets(&source, &self.inputs) == file.sets => *state = (Arc::new(source), 0),
                _ => {
                    let text = format!("{} has changed meanwhile", file.path.display());
                    return Err(DecomposeError::Samples(text));
                }
            }
        }
        state.1 += 1;
        Ok(state.0.clone())
    }
}

fn failed(error: Error) -> DecomposeError {
    DecomposeError::Samples(error.to_string())
}

/// Whole sets in a source.
fn sets(source: &Source, inputs: &[TensorSpec]) -> usize {
    match source {
        Source::Images(images) => images.len() / batch(&inputs[0]),
        Source::Arrays(all) => {
            let count =
                |(t, spec): (&Tensor, &TensorSpec)| t.len() / spec.elements().unwrap_or(usize::MAX).max(1);
            all.iter().zip(inputs).map(count).min().unwrap_or(0)
        }
        Source::Sets(all) => all.len(),
        Source::Recorded(_) => 1,
    }
}

/// The inputs of a graph.
fn specs(graph: &Graph) -> Vec<TensorSpec> {
    TensorSpec::list(graph.inputs.iter().map(|p| {
        let ty = graph.ty(p.value);
        (p.name.clone(), ty.dtype, ty.sizes().to_vec())
    }))
}

/// Whether a set has the inputs' types and shapes; if not, what it has.
fn fits(name: &str, set: &[Tensor], inputs: &[TensorSpec]) -> Result<(), String> {
    let mut pairs = set.iter().zip(inputs);
    if set.len() == inputs.len() && pairs.all(|(t, spec)| t.dtype() == spec.dtype && t.shape() == spec.shape)
    {
        return Ok(());
    }
    let text = |dtype: DType, shape: &[usize]| format!("{dtype}{shape:?}");
    let found: Vec<String> = set.iter().map(|t| text(t.dtype(), t.shape())).collect();
    let wanted: Vec<String> = inputs.iter().map(|s| text(s.dtype, &s.shape)).collect();
    Err(format!(
        "{name} has {}, the model takes {}",
        found.join(", "),
        wanted.join(", ")
    ))
}

fn batch(spec: &TensorSpec) -> usize {
    spec.shape.first().copied().unwrap_or(1).max(1)
}

fn open(path: &Path, preprocessing: &Preprocessing, inputs: &[TensorSpec]) -> Result<Vec<Source>> {
    if path.is_dir() {
        let sets = DataSet::all(path)?;
        return Ok(sets.into_iter().map(Source::Recorded).collect());
    }
    if path.extension().is_some_and(|e| e == "npz") {
        let mut found = npy::read_npz(path)?;
        let mut arrays = Vec::new();
        for spec in inputs {
            let array = found.remove(&spec.name).ok_or_else(|| {
                Error::usage(format!(
                    "{}: no array `{}` for the model's input",
                    path.display(),
                    spec.name
                ))
            })?;
            arrays.push(array);
        }
        return Ok(vec![arrays_for(path, arrays, inputs)?]);
    }
    let array = npy::read(path)?;
    let [input] = inputs else {
        return Err(Error::usage(format!(
            "{}: the model has {} inputs, an .npy file serves one",
            path.display(),
            inputs.len()
        ))
        .help("use an .npz file whose arrays bear the inputs' names"));
    };
    match Images::new(preprocessing, &array, input) {
        Ok(images) => Ok(vec![Source::Images(images)]),
        Err(_) if array.dtype() == input.dtype && array.shape().get(1..) == input.shape.get(1..) => {
            Ok(vec![arrays_for(path, vec![array], inputs)?])
        }
        Err(error) => Err(error),
    }
}

fn arrays_for(path: &Path, arrays: Vec<Tensor>, inputs: &[TensorSpec]) -> Result<Source> {
    for (array, spec) in arrays.iter().zip(inputs) {
        // Further samples along the first dimension, or along one more.
        let own = array.shape();
        let fits = own.get(1..) == spec.shape.get(1..) || own.get(1..) == Some(&spec.shape[..]);
        if !fits || array.dtype() != spec.dtype {
            return Err(Error::usage(format!(
                "{}: {}{:?} does not hold inputs `{}` of {}{:?}",
                path.display(),
                array.dtype(),
                own,
                spec.name,
                spec.dtype,
                spec.shape
            )));
        }
    }
    Ok(Source::Arrays(arrays))
}

impl Samples for Calibration {
    fn count(&self) -> usize {
        self.files.iter().map(|f| f.sets).sum()
    }

    fn get(&self, index: usize) -> Result<Vec<Tensor>, DecomposeError> {
        let mut index = index;
        for file in &self.files {
            if index < file.sets {
                return self.read(&*self.source(file)?, index);
            }
            index -= file.sets;
        }
        Err(DecomposeError::Samples(format!("there is no set {index}")))
    }
}

impl Calibration {
    fn read(&self, source: &Source, index: usize) -> Result<Vec<Tensor>, DecomposeError> {
        let bad = |e: &dyn std::fmt::Display| DecomposeError::Samples(e.to_string());
        match source {
            Source::Images(images) => {
                let spec = &self.inputs[0];
                let (count, size) = (batch(spec), images.elements());
                let mut values = vec![0.0f32; count * size];
                for (slot, image) in values.chunks_exact_mut(size).enumerate() {
                    images.fill(index * count + slot, image);
                }
                let tensor = Tensor::from_elements(spec.shape.clone(), values).map_err(|e| bad(&e))?;
                Ok(vec![tensor])
            }
            Source::Arrays(all) => all
                .iter()
                .zip(&self.inputs)
                .map(|(array, spec)| {
                    let bytes = spec.bytes().unwrap_or(usize::MAX);
                    let part = array.bytes().slice(index * bytes..(index + 1) * bytes);
                    Tensor::new(spec.dtype, spec.shape.clone(), part).map_err(|e| bad(&e))
                })
                .collect(),
            Source::Sets(all) => Ok(all[index].clone()),
            Source::Recorded(set) => {
                let inputs = set.inputs().map_err(failed)?;
                fits(&set.name(), &inputs, &self.inputs).map_err(DecomposeError::Samples)?;
                Ok(inputs)
            }
        }
    }
}
