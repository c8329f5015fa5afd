//! Models as Python gives them, and what is fixed of them.

use crate::arrays::{Raw, tensor};
use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use sdc::{Error, Model, ModelFile, ModelOptions, stages};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A model, and what is fixed of it: made by `sdc._model.given`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Given {
    /// Where it is, unless it is in `data`.
    path: Option<PathBuf>,
    /// The encoded model.
    data: Option<PyBackedBytes>,
    /// Values of symbolic dimensions.
    dims: BTreeMap<String, usize>,
    /// Inputs that become constants.
    fix: Vec<(String, Raw)>,
    /// Shapes of inputs that symbolic dimensions follow from.
    shapes: BTreeMap<String, Vec<usize>>,
    /// A symbolic dimension that comes first in an input and has no value is 1.
    single_batch: bool,
}

impl Given {
    /// What is fixed, arrays read.
    fn fixed(&mut self) -> sdc::Result<Vec<(String, sdc::Tensor)>> {
        let fix = std::mem::take(&mut self.fix).into_iter();
        fix.map(|(name, raw)| Ok((name, tensor(raw)?))).collect()
    }

    /// The decoded model, with values of its symbolic dimensions.
    pub fn file(mut self) -> sdc::Result<(ModelFile, ModelOptions)> {
        let options = ModelOptions {
            fixed: self.fixed()?,
            ..ModelOptions::default()
        };
        let file = match (&self.path, self.data.take()) {
            (Some(path), _) => ModelFile::read(path, &options)?,
            (None, Some(data)) => ModelFile::from_bytes(Bytes::from_owner(data), "model", &options)?,
            (None, None) => return Err(Error::usage("no model given")),
        };
        let names = file.input_names();
        let shape = |position: usize| self.shapes.get(names.get(position)?).cloned();
        let mut dims = file.implied_dims(self.dims, shape);
        if self.single_batch {
            dims = file.with_single_batch(dims);
        }
        let options = ModelOptions {
            dims,
            ..ModelOptions::default()
        };
        Ok((file, options))
    }

    /// The imported model.
    pub fn import(mut self) -> sdc::Result<Model> {
        match &self.path {
            Some(path) if stages::is_text(path) => {
                let (path, dims) = (path.clone(), std::mem::take(&mut self.dims));
                let fixed = self.fixed()?;
                let options = ModelOptions {
                    dims,
                    fixed,
                    ..ModelOptions::default()
                };
                Model::read(&path, &options)
            }
            _ => {
                let (file, options) = self.file()?;
                file.import(options.dims)
            }
        }
    }
}
