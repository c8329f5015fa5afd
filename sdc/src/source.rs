//! What a path names: a model still to be compiled, or an artifact. Open dimensions of a model can follow from inputs.

use crate::accel::{AccelProgram, Loaded};
use crate::artifact::{Directory, Program};
use crate::compile::Options;
use crate::error::{Error, Result};
use crate::model::{Model, ModelFile, ModelOptions};
use crate::observe::Observer;
use crate::stages;
use sdc_ir::Tensor;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a path names, before it is compiled or loaded. Where a `shape` is asked for, it gives the shapes of inputs by position where
/// they are known: symbolic dimensions follow from them.
#[derive(Debug)]
pub enum Source {
    /// The directory of an artifact.
    Compiled(PathBuf),
    /// A decoded model, and values of its symbolic dimensions.
    Onnx(Box<ModelFile>, BTreeMap<String, usize>),
    /// A graph in text form.
    Graph(Box<Model>),
}

impl Source {
    /// Reads a model. Of a directory nothing is read yet.
    ///
    /// # Errors
    /// As for [`ModelFile::read`]; for a directory, options that come too late.
    pub fn open(path: PathBuf, options: &ModelOptions) -> Result<Self> {
        if path.is_dir() {
            if !options.is_empty() {
                let message = format!("{} is compiled already: nothing can be fixed", path.display());
                return Err(Error::usage(message));
            }
            return Ok(Self::Compiled(path));
        }
        if stages::is_text(&path) {
            return Ok(Self::Graph(Box::new(Model::read(&path, options)?)));
        }
        let file = ModelFile::read(&path, options)?;
        Ok(Self::Onnx(Box::new(file), options.dims.clone()))
    }

    /// Positions, among the inputs the model declares, of those fixed when it was read.
    pub fn fixed(&self) -> &[usize] {
        match self {
            Self::Onnx(file, _) => &file.fixed,
            Self::Compiled(_) | Self::Graph(_) => &[],
        }
    }

    /// Makes an input of an ONNX model a constant.
    pub fn fix(&mut self, name: &str, tensor: &Tensor) {
        if let Self::Onnx(file, _) = self {
            file.fix(name, tensor);
        }
    }

    /// True if inputs have symbolic dimensions that no option fixes.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Onnx(file, dims) => file.has_open_dims(dims),
            Self::Compiled(_) | Self::Graph(_) => false,
        }
    }

    /// The names of the inputs; `None` for an artifact, which knows them once it is loaded.
    pub fn input_names(&self) -> Option<Vec<String>> {
        match self {
            Self::Compiled(_) => None,
            Self::Onnx(file, _) => Some(file.input_names()),
            Self::Graph(model) => Some(model.graph.inputs.iter().map(|p| p.name.clone()).collect()),
        }
    }

    /// The imported model.
    ///
    /// # Errors
    /// As for [`ModelFile::import`]; an artifact, which is compiled already.
    pub fn model(self, shape: impl Fn(usize) -> Option<Vec<usize>>) -> Result<Model> {
        match self {
            Self::Compiled(path) => Err(Error::usage(format!(
                "{} is compiled already; this needs the model",
                path.display()
            ))),
            Self::Graph(model) => Ok(*model),
            Self::Onnx(file, dims) => {
                let dims = file.implied_dims(dims, shape);
                file.import(dims)
            }
        }
    }

    /// The artifact: of a model, compiled into a directory that lives as long as the value.
    ///
    /// # Errors
    /// As for [`Source::model`] and [`compile`](crate::compile()).
    pub fn directory(
        self,
        shape: impl Fn(usize) -> Option<Vec<usize>>,
        options: &Options,
        observer: &dyn Observer,
    ) -> Result<Directory> {
        match self {
            Self::Compiled(path) => Ok(Directory::existing(path, options.load)),
            source => Directory::compile(source.model(shape)?, options, observer),
        }
    }

    /// Whatever runs: the artifact of a directory is that of the accelerator, if its manifest says so.
    ///
    /// # Errors
    /// As for [`Source::load`] and [`AccelProgram::open`].
    pub fn loaded(
        self,
        shape: impl Fn(usize) -> Option<Vec<usize>>,
        options: &Options,
        observer: &dyn Observer,
    ) -> Result<Loaded> {
        match self {
            Self::Compiled(path) if AccelProgram::is_in(&path) => {
                Ok(Loaded::Accel(Box::new(AccelProgram::open(&path)?)))
            }
            source => Ok(Loaded::Native(Box::new(source.load(shape, options, observer)?))),
        }
    }

    /// The artifact, loaded.
    ///
    /// # Errors
    /// As for [`Source::directory`] and [`Directory::load`].
    pub fn load(
        self,
        shape: impl Fn(usize) -> Option<Vec<usize>>,
        options: &Options,
        observer: &dyn Observer,
    ) -> Result<Program> {
        self.directory(shape, options, observer)?.load()
    }
}
