//! ONNX models: read from a file or from memory, their open dimensions and inputs fixed, imported.

use crate::error::{Error, Result};
use crate::files;
use crate::stages;
use bytes::Bytes;
use sdc_artifact::load;
use sdc_frontend::proto::{ModelProto, TypeValue, ValueInfoProto};
use sdc_frontend::{ExternalData, ImportOptions, Limits, Remark};
use sdc_ir::graph::Graph;
use sdc_ir::schedule::Schedule;
use sdc_ir::{Digest, Tensor};
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What is fixed when a model is read, as compiled code has static shapes.
#[derive(Debug, Clone, Default)]
pub struct ModelOptions {
    /// Values of symbolic dimensions by name; `INPUT.K` names dimension K of an input that has no name of its own.
    pub dims: BTreeMap<String, usize>,
    /// Inputs that become constants, since shapes may depend on their values. They are no inputs any more.
    pub fixed: Vec<(String, Tensor)>,
    /// What the model may ask for.
    pub limits: Limits,
}

impl ModelOptions {
    /// True if nothing is fixed, and the limits are the usual ones.
    pub fn is_empty(&self) -> bool {
        self.dims.is_empty() && self.fixed.is_empty() && self.limits == Limits::default()
    }
}

/// A model file, decoded but not imported: symbolic dimensions and values of inputs can still be fixed.
#[derive(Debug)]
pub struct ModelFile {
    name: String,
    /// Where external data lies, if the model came from a file.
    folder: Option<PathBuf>,
    /// The file as ONNX declares it; large tensors share the mapped file.
    pub proto: ModelProto,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Size of the file in bytes.
    pub size: usize,
    /// Positions, among the inputs the file declares, of those fixed when it was read.
    pub fixed: Vec<usize>,
    limits: Limits,
}

/// An imported model: a network of static shapes.
#[derive(Debug)]
pub struct Model {
    /// The network.
    pub graph: Graph,
    /// How it is computed, if it was read from a text that says so.
    pub schedule: Option<Schedule>,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// The file's name without extension.
    pub name: String,
    /// Values of the symbolic dimensions.
    pub dims: BTreeMap<String, usize>,
    /// What the import did beyond the usual.
    pub remarks: Vec<Remark>,
}

impl Model {
    /// Reads and imports an ONNX model, or reads a graph in text form (`.sdir`), in which nothing is left to fix.
    ///
    /// # Errors
    /// A file that cannot be read, or is malformed; anything in it that sdc does not support, all of it at once; names of
    /// inputs it does not have.
    pub fn read(path: &Path, options: &ModelOptions) -> Result<Self> {
        if !stages::is_text(path) {
            return ModelFile::read(path, options)?.import(options.dims.clone());
        }
        if !options.is_empty() {
            let message = "--dim, --fix: a graph in text form has nothing left to fix";
            return Err(Error::usage(message));
        }
        let digest = Digest::of(&[&files::map(path)?]);
        let (graph, schedule) = stages::read(path)?;
        Ok(Self {
            digest,
            schedule,
            ..Self::of_graph(stem(path), graph)
        })
    }

    /// Imports an encoded ONNX model, whose tensors must all be within it.
    ///
    /// # Errors
    /// As for [`Model::read`].
    pub fn from_bytes(bytes: Bytes, name: &str, options: &ModelOptions) -> Result<Self> {
        ModelFile::from_bytes(bytes, name, options)?.import(options.dims.clone())
    }

    /// A network that comes from no file.
    pub fn of_graph(name: impl Into<String>, graph: Graph) -> Self {
        Self {
            graph,
            schedule: None,
            digest: Digest::of(&[]),
            name: name.into(),
            dims: BTreeMap::new(),
            remarks: Vec::new(),
        }
    }
}

impl ModelFile {
    /// Reads a model file, and makes inputs constants.
    ///
    /// # Errors
    /// A file that cannot be read or decoded; names of inputs that it does not have, or the same name twice.
    pub fn read(path: &Path, options: &ModelOptions) -> Result<Self> {
        let model = Self::from_bytes(files::map(path)?, &stem(path), options);
        let mut model = model.map_err(|error| match error {
            Error::Import(_) => error.help(format!("is {} an ONNX model?", path.display())),
            error => error,
        })?;
        model.folder = Some(path.parent().unwrap_or(Path::new("")).to_owned());
        Ok(model)
    }

    /// Decodes an encoded model, and makes inputs constants.
    ///
    /// # Errors
    /// As for [`ModelFile::read`].
    pub fn from_bytes(bytes: Bytes, name: &str, options: &ModelOptions) -> Result<Self> {
        // First what is quick: a file that is no model may be of any size.
        let proto = sdc_frontend::decode(bytes.clone())?;
        let mut model = Self {
            name: name.to_owned(),
            folder: None,
            proto,
            digest: Digest::of(&[&bytes]),
            size: bytes.len(),
            fixed: Vec::new(),
            limits: options.limits.clone(),
        };
        let declared = model.input_names();
        for (name, tensor) in &options.fixed {
            let Some(position) = declared.iter().position(|d| d == name) else {
                return Err(Error::usage(format!("--fix: the model has no input `{name}`")));
            };
            if model.fixed.contains(&position) {
                return Err(Error::usage(format!("--fix gives `{name}` twice")));
            }
            model.fix(name, tensor);
            model.fixed.push(position);
        }
        Ok(model)
    }

    /// Names of the inputs, in order.
    pub fn input_names(&self) -> Vec<String> {
        let name = |i: &ValueInfoProto| i.name.clone().unwrap_or_default();
        self.inputs().map(name).collect()
    }

    /// The files that external data may be in.
    pub fn external(&self) -> Option<Folder> {
        self.folder.clone().map(Folder::new)
    }

    /// Makes an input a constant.
    pub fn fix(&mut self, name: &str, tensor: &Tensor) {
        // An initialiser of an input's name is its value: ONNX's own way to say so.
        if let Some(graph) = &mut self.proto.graph {
            graph
                .initializer
                .push(sdc_frontend::tensor::to_proto(name, tensor));
        }
    }

    /// The graph's inputs, those with a default value excepted.
    pub fn inputs(&self) -> impl Iterator<Item = &ValueInfoProto> {
        let graph = self.proto.graph.as_ref();
        graph.into_iter().flat_map(|g| {
            let is_constant = |i: &&ValueInfoProto| g.initializer.iter().any(|t| t.name == i.name);
            g.input.iter().filter(move |i| !is_constant(i))
        })
    }

    /// True if inputs have symbolic dimensions beside those given.
    pub fn has_open_dims(&self, given: &BTreeMap<String, usize>) -> bool {
        let mut open = self.inputs().flat_map(symbols).flatten();
        open.any(|name| !given.contains_key(&name))
    }

    /// The values that inputs of the given shapes imply for symbolic dimensions; `dims` has the last word. Shapes
    /// are asked for by position.
    pub fn implied_dims(
        &self,
        mut dims: BTreeMap<String, usize>,
        shape: impl Fn(usize) -> Option<Vec<usize>>,
    ) -> BTreeMap<String, usize> {
        for (position, input) in self.inputs().enumerate() {
            let declared = symbols(input);
            let Some(actual) = shape(position).filter(|s| s.len() == declared.len()) else {
                continue;
            };
            for (symbol, extent) in declared.into_iter().zip(actual) {
                if let Some(symbol) = symbol {
                    dims.entry(symbol).or_insert(extent);
                }
            }
        }
        dims
    }

    /// Values of symbolic dimensions, with 1 for those that come first in an input and have none: the batch, as a rule.
    pub fn with_single_batch(&self, mut dims: BTreeMap<String, usize>) -> BTreeMap<String, usize> {
        for input in self.inputs() {
            if let Some(Some(batch)) = symbols(input).into_iter().next() {
                dims.entry(batch).or_insert(1);
            }
        }
        dims
    }

    /// Imports the model with these values of its symbolic dimensions.
    ///
    /// # Errors
    /// Everything that is malformed or not supported, at once.
    pub fn import(self, dims: BTreeMap<String, usize>) -> Result<Model> {
        let external = self.external();
        let options = ImportOptions {
            dims: dims.clone(),
            external: external.as_ref().map(|folder| folder as &dyn ExternalData),
            limits: self.limits,
        };
        let imported = sdc_frontend::import_model(self.proto, &options)?;
        Ok(Model {
            schedule: None,
            graph: imported.graph,
            digest: self.digest,
            name: self.name,
            dims,
            remarks: imported.remarks,
        })
    }
}

/// For each dimension of an input the name by which it can be given a value; `None` if it has one.
fn symbols(input: &ValueInfoProto) -> Vec<Option<String>> {
    let tensor = match input.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(TypeValue::Tensor(tensor)) => tensor,
        _ => return Vec::new(),
    };
    let dims = tensor.shape.iter().flat_map(|s| &s.dim).enumerate();
    let input = input.name.as_deref().unwrap_or("");
    dims.map(|(k, dim)| sdc_frontend::symbol(input, k, dim)).collect()
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .map_or_else(|| "model".to_owned(), |s| s.to_string_lossy().into_owned())
}

/// External data beside the model. A mapping is kept, for a file holds many tensors.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    opened: OnceCell<load::Folder>,
    files: RefCell<BTreeMap<String, Bytes>>,
}

impl Folder {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            opened: OnceCell::new(),
            files: RefCell::default(),
        }
    }

    /// The directory is opened once, so that all files are of the same.
    fn open(&self) -> io::Result<&load::Folder> {
        if let Some(folder) = self.opened.get() {
            return Ok(folder);
        }
        let folder = load::Folder::open(&self.path)?;
        Ok(self.opened.get_or_init(|| folder))
    }
}

impl ExternalData for Folder {
    fn load(&self, location: &str) -> Result<Bytes, String> {
        if let Some(file) = self.files.borrow().get(location) {
            return Ok(file.clone());
        }
        let mapped = self
            .open()
            .and_then(|folder| load::map_within(folder, location.as_ref()));
        let file = mapped.map_err(|e| e.to_string())?;
        self.files.borrow_mut().insert(location.to_owned(), file.clone());
        Ok(file)
    }
}
