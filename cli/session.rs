//! A model or an artifact, ready to run. A model is compiled into a temporary directory first, so what runs is always what
//! `sdc compile` ships.

use crate::build::{self, Request};
use crate::exit::Failure;
use crate::files;
use crate::model::{self, DimArgs, Model, ModelArgs, ModelFile};
use crate::sdir;
use crate::target::{HereArgs, Target};
use bytes::Bytes;
use clap::Args;
use sdc_artifact::interface::TensorSpec;
use sdc_artifact::load::{Artifact, Memory};
use sdc_artifact::manifest::Kind;
use sdc_ir::Tensor;
use sdc_ir::graph::types::shape_text;
use sdc_ir::graph::{Graph, TensorType};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Args, Debug, Clone)]
pub struct SessionArgs {
    /// ONNX model, or a directory that `sdc compile` wrote
    #[arg(value_name = "MODEL.onnx|DIR")]
    pub path: PathBuf,
    #[command(flatten)]
    dims: DimArgs,
    #[command(flatten)]
    here: HereArgs,
}

/// What a path names, before it is compiled or loaded.
pub struct Source {
    target: Option<Target>,
    dims: BTreeMap<String, usize>,
    path: PathBuf,
    kind: SourceKind,
}

enum SourceKind {
    Compiled,
    Onnx(Box<ModelFile>),
    Graph(Box<Model>),
}

impl Source {
    /// Looks at a path; an ONNX file is decoded.
    pub fn open(args: &SessionArgs) -> Result<Self, Failure> {
        let path = args.path.clone();
        if path.is_dir() {
            if !args.dims.is_empty() || !args.here.is_empty() {
                let message = format!(
                    "{} is compiled already; --dim, --fix, --cpu, --no-kernels, --no-winograd and --resident-weights come too late",
                    path.display()
                );
                return Err(Failure::usage(message));
            }
            return Ok(Self {
                target: None,
                dims: BTreeMap::new(),
                path,
                kind: SourceKind::Compiled,
            });
        }
        let target = Some(args.here.target()?);
        let kind = if sdir::is_text(&path) {
            let args = ModelArgs {
                model: path.clone(),
                dims: args.dims.clone(),
            };
            SourceKind::Graph(Box::new(model::import(&args)?))
        } else {
            SourceKind::Onnx(Box::new(ModelFile::read_fixed(&path, &args.dims)?))
        };
        Ok(Self {
            target,
            dims: args.dims.map()?,
            path,
            kind,
        })
    }

    /// Positions, among the inputs the model declares, of those fixed at compile time.
    pub fn fixed(&self) -> &[usize] {
        match &self.kind {
            SourceKind::Onnx(file) => &file.fixed,
            SourceKind::Compiled | SourceKind::Graph(_) => &[],
        }
    }

    /// Makes an input of an ONNX model a constant.
    pub fn fix(&mut self, name: &str, tensor: &Tensor) {
        if let SourceKind::Onnx(file) = &mut self.kind {
            file.fix(name, tensor);
        }
    }

    /// True if inputs have symbolic dimensions that no option fixes.
    pub fn is_open(&self) -> bool {
        match &self.kind {
            SourceKind::Onnx(file) => file.has_open_dims(&self.dims),
            SourceKind::Compiled | SourceKind::Graph(_) => false,
        }
    }

    /// The names of the inputs; `None` for an artifact, which knows them once it is loaded.
    pub fn input_names(&self) -> Option<Vec<String>> {
        match &self.kind {
            SourceKind::Compiled => None,
            SourceKind::Onnx(file) => Some(
                file.inputs()
                    .map(|i| i.name.clone().unwrap_or_default())
                    .collect(),
            ),
            SourceKind::Graph(model) => Some(model.graph.inputs.iter().map(|p| p.name.clone()).collect()),
        }
    }

    /// The artifact, in a directory that lives as long as the first value. `shape` gives shapes of inputs by position and
    /// name where they are known: symbolic dimensions follow from them.
    pub fn directory(self, shape: impl Fn(usize, &str) -> Option<Vec<usize>>) -> Result<Directory, Failure> {
        match self.kind {
            SourceKind::Compiled => Ok(Directory {
                path: self.path,
                steps: Vec::new(),
                _temporary: None,
            }),
            _ => Ok(self.build(shape, false)?.0),
        }
    }

    /// The artifact of a model, built so that its functions can be timed, and what they are.
    ///
    /// # Errors
    /// Also for an artifact, which is built already.
    pub fn profiled(self) -> Result<(Directory, Vec<build::Function>), Failure> {
        let (directory, built) = self.build(|_, _| None, true)?;
        Ok((directory, built.functions))
    }

    fn build(
        self,
        shape: impl Fn(usize, &str) -> Option<Vec<usize>>,
        profile: bool,
    ) -> Result<(Directory, build::Built), Failure> {
        let target = self.target.clone();
        let model = self.model(shape)?;
        let target = target.ok_or_else(|| Failure::bug("a model without a target"))?;
        Directory::build(model, &target, profile)
    }

    /// The imported model; `shape` as for [`Self::directory`].
    fn model(self, shape: impl Fn(usize, &str) -> Option<Vec<usize>>) -> Result<Model, Failure> {
        match self.kind {
            SourceKind::Compiled => Err(Failure::usage(format!(
                "{} is compiled already; this needs the model",
                self.path.display()
            ))),
            SourceKind::Graph(model) => Ok(*model),
            SourceKind::Onnx(file) => {
                let dims = file.implied_dims(self.dims, shape);
                Ok(file.import(dims)?.0)
            }
        }
    }

    /// The imported graph; `shape` as for [`Self::directory`].
    pub fn graph(self, shape: impl Fn(usize, &str) -> Option<Vec<usize>>) -> Result<Graph, Failure> {
        Ok(self.model(shape)?.graph)
    }

    /// The artifact, loaded.
    pub fn load(self, shape: impl Fn(usize, &str) -> Option<Vec<usize>>) -> Result<Artifact, Failure> {
        let directory = self.directory(shape)?;
        // Once loaded, the files are mapped or read: the directory may go.
        Ok(Artifact::open(directory.path())?)
    }
}

/// An artifact's directory; a temporary one goes away with the value.
pub struct Directory {
    path: PathBuf,
    steps: Vec<Option<f64>>,
    _temporary: Option<tempfile::TempDir>,
}

impl Directory {
    /// A model's artifact, compiled into a temporary directory.
    pub fn of(model: Model, target: &Target) -> Result<Self, Failure> {
        Ok(Self::build(model, target, false)?.0)
    }

    fn build(model: Model, target: &Target, profile: bool) -> Result<(Self, build::Built), Failure> {
        let dir = files::temp_dir()?;
        let request = Request {
            name: &model.stem,
            model: model.digest,
            target,
            embed_weights: false,
            kinds: [Kind::SharedLibrary, Kind::Weights, Kind::Manifest].into(),
            options: BTreeMap::new(),
            passes: Default::default(),
            ram: None,
            flash: None,
            profile,
        };
        let steps = sdc_passes::quantise::output_steps(&model.graph);
        let built = build::build(model.graph, &request, None, dir.path())?;
        let directory = Self {
            path: dir.path().to_owned(),
            steps,
            _temporary: Some(dir),
        };
        Ok((directory, built))
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The quantisation step of output `i`, if it has one; unknown where the model was compiled before.
    pub fn step(&self, i: usize) -> Option<f64> {
        self.steps.get(i).copied().flatten()
    }
}

/// A tensor's type as text.
pub fn type_text(spec: &TensorSpec) -> String {
    format!("{}{}", spec.dtype, shape_text(&spec.shape))
}

/// The bytes of a tensor for an input, aligned as compiled code wants them.
pub fn input_bytes(spec: &TensorSpec, tensor: &Tensor) -> Result<Memory, Failure> {
    if (tensor.dtype(), tensor.shape()) != (spec.dtype, &spec.shape[..]) {
        let given = TensorType::new(tensor.dtype(), tensor.shape());
        let failure = Failure::usage(format!(
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
    let mut memory = Memory::new("input", tensor.bytes().len())?;
    memory.copy_from_slice(tensor.bytes());
    Ok(memory)
}

/// Runs an artifact once.
pub fn run_once(artifact: &Artifact, inputs: &[Tensor]) -> Result<Vec<Tensor>, Failure> {
    let specs = &artifact.interface().inputs;
    let inputs: Vec<Memory> = specs
        .iter()
        .zip(inputs)
        .map(|(spec, tensor)| input_bytes(spec, tensor))
        .collect::<Result<_, _>>()?;
    let inputs: Vec<&[u8]> = inputs.iter().map(|m| &m[..]).collect();
    let mut outputs = artifact.outputs()?;
    let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(|m| &mut m[..]).collect();
    artifact.instance()?.run(&inputs, &mut slices, None)?;
    let specs = &artifact.interface().outputs;
    specs
        .iter()
        .zip(&outputs)
        .map(|(spec, memory)| tensor(spec, memory))
        .collect()
}

/// An output as a tensor.
pub fn tensor(spec: &TensorSpec, bytes: &[u8]) -> Result<Tensor, Failure> {
    Tensor::new(spec.dtype, spec.shape.clone(), Bytes::copy_from_slice(bytes)).map_err(Failure::bug)
}
