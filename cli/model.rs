//! Reading ONNX models.

use crate::dataset;
use crate::exit::Failure;
use crate::files;
use crate::npy;
use crate::sdir;
use bytes::Bytes;
use clap::Args;
use sdc_frontend::proto::{DimensionValue, ModelProto, TypeValue, ValueInfoProto};
use sdc_frontend::{ExternalData, ImportOptions, Imported};
use sdc_ir::graph::Graph;
use sdc_ir::{Digest, Tensor};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A model and the values of its symbolic dimensions.
#[derive(Args, Debug, Clone)]
pub struct ModelArgs {
    /// ONNX model (or a graph in text form, .sdir)
    #[arg(value_name = "MODEL.onnx")]
    pub model: PathBuf,
    #[command(flatten)]
    pub dims: DimArgs,
}

#[derive(Args, Debug, Clone, Default)]
pub struct DimArgs {
    /// Fix a symbolic dimension, such as `--dim batch=1`; may be repeated
    #[arg(long = "dim", value_name = "NAME=N", value_parser = parse_dim)]
    dims: Vec<(String, usize)>,
    /// Fix an input to the tensor of a .npy or .pb file, as shapes may depend on it; it is no input any more. May be repeated
    #[arg(long = "fix", value_name = "INPUT=FILE", value_parser = parse_fix)]
    fixed: Vec<(String, PathBuf)>,
}

fn parse_dim(text: &str) -> Result<(String, usize), String> {
    // The last `=`, for names may hold one.
    let (name, value) = text.rsplit_once('=').ok_or("expected NAME=N")?;
    let value = value.parse().map_err(|_| format!("`{value}` is not a size"))?;
    Ok((name.to_owned(), value))
}

fn parse_fix(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("expected INPUT=FILE")?;
    Ok((name.to_owned(), file.into()))
}

impl DimArgs {
    /// Values by name.
    pub fn map(&self) -> Result<BTreeMap<String, usize>, Failure> {
        let mut map = BTreeMap::new();
        for (name, value) in &self.dims {
            if map
                .insert(name.clone(), *value)
                .is_some_and(|before| before != *value)
            {
                return Err(Failure::usage(format!("--dim gives `{name}` two values")));
            }
        }
        Ok(map)
    }
    /// True if none was given.
    pub fn is_empty(&self) -> bool {
        self.dims.is_empty() && self.fixed.is_empty()
    }
}

/// A model file, decoded.
#[derive(Debug)]
pub struct ModelFile {
    path: PathBuf,
    /// The file as ONNX declares it; large tensors share the mapped file.
    pub proto: ModelProto,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Size of the file in bytes.
    pub size: usize,
    /// Positions, among the inputs the file declares, of those that `--fix` made constants.
    pub fixed: Vec<usize>,
}

/// An imported model.
#[derive(Debug)]
pub struct Model {
    /// The network.
    pub graph: Graph,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// The file's name without extension.
    pub stem: String,
    /// Values of the symbolic dimensions.
    pub dims: BTreeMap<String, usize>,
}

impl ModelFile {
    /// Reads a model file.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let file = files::map(path)?;
        let (digest, size) = (Digest::of(&[&file]), file.len());
        let in_file = |failure: Failure| failure.help(format!("is {} an ONNX model?", path.display()));
        let proto = sdc_frontend::decode(file).map_err(|e| in_file(e.into()))?;
        Ok(Self {
            path: path.to_owned(),
            proto,
            digest,
            size,
            fixed: Vec::new(),
        })
    }

    /// Reads a model file and fixes the inputs that the arguments name.
    pub fn read_fixed(path: &Path, args: &DimArgs) -> Result<Self, Failure> {
        let mut file = Self::read(path)?;
        let declared: Vec<String> = file
            .inputs()
            .map(|i| i.name.clone().unwrap_or_default())
            .collect();
        for (name, source) in &args.fixed {
            let Some(position) = declared.iter().position(|d| d == name) else {
                return Err(Failure::usage(format!("--fix: the model has no input `{name}`")));
            };
            if file.fixed.contains(&position) {
                return Err(Failure::usage(format!("--fix gives `{name}` twice")));
            }
            let tensor = if source.extension().is_some_and(|e| e == "pb") {
                dataset::read(source)?
            } else {
                npy::read(source)?
            };
            file.fix(name, &tensor);
            file.fixed.push(position);
        }
        Ok(file)
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
    /// are asked for by position and name.
    pub fn implied_dims(
        &self,
        mut dims: BTreeMap<String, usize>,
        shape: impl Fn(usize, &str) -> Option<Vec<usize>>,
    ) -> BTreeMap<String, usize> {
        for (position, input) in self.inputs().enumerate() {
            let name = input.name.as_deref().unwrap_or("");
            let declared = symbols(input);
            let Some(actual) = shape(position, name).filter(|s| s.len() == declared.len()) else {
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
    pub fn import(self, dims: BTreeMap<String, usize>) -> Result<(Model, Imported), Failure> {
        let external = Folder::beside(&self.path);
        let options = ImportOptions {
            dims: dims.clone(),
            external: Some(&external),
            ..ImportOptions::default()
        };
        let mut imported = sdc_frontend::import_model(self.proto, &options)?;
        let graph = std::mem::take(&mut imported.graph);
        let model = Model {
            graph,
            digest: self.digest,
            stem: stem(&self.path),
            dims,
        };
        Ok((model, imported))
    }
}

/// Reads and imports a model, or reads a graph in text form.
pub fn import(args: &ModelArgs) -> Result<Model, Failure> {
    if sdir::is_text(&args.model) {
        if !args.dims.is_empty() {
            return Err(Failure::usage(
                "--dim, --fix: a graph in text form has nothing left to fix",
            ));
        }
        let digest = Digest::of(&[&files::map(&args.model)?]);
        let graph = sdir::read_graph(&args.model)?;
        return Ok(Model {
            graph,
            digest,
            stem: stem(&args.model),
            dims: BTreeMap::new(),
        });
    }
    let file = ModelFile::read_fixed(&args.model, &args.dims)?;
    Ok(file.import(args.dims.map()?)?.0)
}

/// For each dimension of an input the name by which it can be given a value; `None` if it has one.
fn symbols(input: &ValueInfoProto) -> Vec<Option<String>> {
    let tensor = match input.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(TypeValue::Tensor(tensor)) => tensor,
        _ => return Vec::new(),
    };
    let dims = tensor.shape.iter().flat_map(|s| &s.dim).enumerate();
    dims.map(|(k, dim)| match &dim.value {
        Some(DimensionValue::DimValue(n)) if *n >= 0 => None,
        Some(DimensionValue::DimParam(name)) if !name.is_empty() => Some(name.clone()),
        _ => Some(format!("{}.{k}", input.name.as_deref().unwrap_or(""))),
    })
    .collect()
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .map_or_else(|| "model".to_owned(), |s| s.to_string_lossy().into_owned())
}

/// External data beside the model. A mapping is kept, for a file holds many tensors.
pub struct Folder<'a> {
    path: &'a Path,
    files: RefCell<BTreeMap<String, Bytes>>,
}

impl<'a> Folder<'a> {
    /// The files beside a model.
    pub fn beside(model: &'a Path) -> Self {
        Self {
            path: model.parent().unwrap_or(Path::new("")),
            files: RefCell::default(),
        }
    }
}

impl ExternalData for Folder<'_> {
    fn load(&self, location: &str) -> Result<Bytes, String> {
        if let Some(file) = self.files.borrow().get(location) {
            return Ok(file.clone());
        }
        let file = sdc_artifact::load::map_file(&self.path.join(location)).map_err(|e| e.to_string())?;
        self.files.borrow_mut().insert(location.to_owned(), file.clone());
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_are_split_at_the_last_equals_sign() {
        assert_eq!(parse_dim("a=b=3"), Ok(("a=b".to_owned(), 3)));
        assert!(parse_dim("a").is_err());
        assert!(parse_dim("a=-1").is_err());
        assert!(parse_dim("a=x").is_err());
    }
}
