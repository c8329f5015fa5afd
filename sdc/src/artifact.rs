//! Artifacts in use: where they lie, and running them on tensors.

use crate::compile::{Artifact, Options, compile_watched};
use crate::error::{Error, Result};
use crate::files;
use crate::model::Model;
use crate::observe::Observer;
use bytes::Bytes;
use sdc_artifact::interface::TensorSpec;
use sdc_artifact::load::{LoadOptions, Memory};
use sdc_artifact::temporary::TemporaryDir;
use sdc_interp::EvalError;
use sdc_ir::Tensor;
use sdc_ir::graph::types::shape_text;
use sdc_ir::graph::{Graph, TensorType};
use std::path::{Path, PathBuf};

/// A loaded artifact.
pub use sdc_artifact::load::Artifact as Program;

/// An artifact's directory; a temporary one goes away with the value.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    load: LoadOptions,
    artifact: Option<Artifact>,
    _temporary: Option<TemporaryDir>,
}

impl Directory {
    /// One that was written before.
    pub fn existing(path: PathBuf, load: LoadOptions) -> Self {
        Self {
            path,
            load,
            artifact: None,
            _temporary: None,
        }
    }

    /// A model compiled into a temporary directory, so that what runs is what is shipped.
    ///
    /// # Errors
    /// As for [`compile`](crate::compile()).
    pub fn compile(model: Model, options: &Options, observer: &dyn Observer) -> Result<Self> {
        let dir = files::temp_dir()?;
        let artifact = compile_watched(model, options, dir.path(), observer, None)?;
        Ok(Self {
            path: dir.path().to_owned(),
            load: options.load,
            artifact: Some(artifact),
            _temporary: Some(dir),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is loaded.
    pub fn load_options(&self) -> LoadOptions {
        self.load
    }

    /// What compiling it came to; unknown of one written before.
    pub fn artifact(&self) -> Option<&Artifact> {
        self.artifact.as_ref()
    }

    /// The quantisation steps of the outputs that have one; unknown where the model was compiled before.
    pub fn steps(&self) -> &[Option<f64>] {
        self.artifact.as_ref().map_or(&[], |artifact| &artifact.steps)
    }

    /// The artifact, loaded: the files are mapped or read, and the directory may go.
    ///
    /// # Errors
    /// A CPU that cannot run it, files missing or damaged, too little memory.
    pub fn load(&self) -> Result<Program> {
        Ok(Program::open_with(&self.path, self.load)?)
    }
}

/// A tensor's type as text.
pub fn type_text(spec: &TensorSpec) -> String {
    format!("{}{}", spec.dtype, shape_text(&spec.shape))
}

/// The bytes of a tensor for an input, aligned as compiled code wants them.
///
/// # Errors
/// A tensor of another type or shape; too little memory.
pub fn input_bytes(spec: &TensorSpec, tensor: &Tensor) -> Result<Memory> {
    fits(spec, tensor)?;
    let mut memory = Memory::new("input", tensor.bytes().len())?;
    memory.copy_from_slice(tensor.bytes());
    Ok(memory)
}

/// Whether a tensor has an input's type and shape.
pub(crate) fn fits(spec: &TensorSpec, tensor: &Tensor) -> Result<()> {
    if (tensor.dtype(), tensor.shape()) != (spec.dtype, &spec.shape[..]) {
        let given = TensorType::new(tensor.dtype(), tensor.shape());
        let failure = Error::usage(format!(
            "input `{}` is {}, but {given} was given",
            spec.name,
            type_text(spec)
        ));
        let wrong_type = tensor.dtype() != spec.dtype && tensor.shape() == spec.shape;
        return Err(if wrong_type {
            failure.help("convert the elements, in numpy with .astype(...)")
        } else {
            failure
        });
    }
    Ok(())
}

/// Runs a program once, on the calling thread: inputs and outputs are in the interface's order.
///
/// # Errors
/// Inputs of other types or shapes; too little memory; a failure that the program reports.
pub fn run(program: &Program, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let specs = &program.interface().inputs;
    let inputs: Vec<Memory> = specs
        .iter()
        .zip(inputs)
        .map(|(spec, tensor)| input_bytes(spec, tensor))
        .collect::<Result<_, _>>()?;
    let inputs: Vec<&[u8]> = inputs.iter().map(|m| &m[..]).collect();
    let mut outputs = program.outputs()?;
    let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(|m| &mut m[..]).collect();
    program.instance()?.run(&inputs, &mut slices, None)?;
    let specs = &program.interface().outputs;
    specs
        .iter()
        .zip(&outputs)
        .map(|(spec, memory)| tensor(spec, memory))
        .collect()
}

/// Runs a network in the reference interpreter, operator by operator.
///
/// # Errors
/// Inputs of another number or other types or shapes; what the interpreter cannot compute.
pub fn interpret(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    sdc_interp::run_graph(graph, inputs).map_err(|e| match e {
        EvalError::InputType { .. } | EvalError::InputCount { .. } => Error::usage(e),
        other => Error::unsupported(other),
    })
}

/// An output as a tensor.
///
/// # Errors
/// Bytes that are not of that type and shape, a bug.
pub fn tensor(spec: &TensorSpec, bytes: &[u8]) -> Result<Tensor> {
    Tensor::new(spec.dtype, spec.shape.clone(), Bytes::copy_from_slice(bytes)).map_err(Error::bug)
}
