//! Inputs and outputs as a model declares them, before dimensions are fixed.

use crate::model::ModelFile;
use sdc_frontend::proto::{DimensionValue, TypeValue, ValueInfoProto, data_type};

/// An input or output as a model declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// Its element type, by ONNX's name such as `FLOAT`, and its dimensions; what it is instead, if it is not a tensor.
    pub tensor: Result<(String, Vec<Extent>), &'static str>,
}

/// A declared dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// Elements.
    Size(i64),
    /// A symbol.
    Symbol(String),
    /// Nothing is said.
    Unknown,
}

impl ModelFile {
    /// The inputs, those with a default value excepted.
    pub fn declared_inputs(&self) -> Vec<Declared> {
        self.inputs().map(Declared::of).collect()
    }

    /// The outputs.
    pub fn declared_outputs(&self) -> Vec<Declared> {
        let graph = self.proto.graph.as_ref();
        graph
            .into_iter()
            .flat_map(|g| &g.output)
            .map(Declared::of)
            .collect()
    }
}

impl Declared {
    fn of(info: &ValueInfoProto) -> Self {
        let tensor = match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
            Some(TypeValue::Tensor(t)) => {
                let dims = t.shape.iter().flat_map(|s| &s.dim).map(|d| match &d.value {
                    Some(DimensionValue::DimValue(n)) => Extent::Size(*n),
                    Some(DimensionValue::DimParam(name)) if !name.is_empty() => Extent::Symbol(name.clone()),
                    _ => Extent::Unknown,
                });
                Ok((data_type::name(t.elem_type.unwrap_or(0)), dims.collect()))
            }
            Some(_) => Err("not a tensor"),
            None => Err("of unknown type"),
        };
        Self {
            name: info.name.clone().unwrap_or_default(),
            tensor,
        }
    }

    /// The type as text, symbolic dimensions by name.
    pub(crate) fn type_text(&self) -> String {
        match &self.tensor {
            Ok((dtype, dims)) => {
                let dims = dims.iter().map(|dim| match dim {
                    Extent::Size(n) => n.to_string(),
                    Extent::Symbol(name) => name.clone(),
                    Extent::Unknown => "?".to_owned(),
                });
                format!("{dtype}[{}]", dims.collect::<Vec<_>>().join(","))
            }
            Err(what) => (*what).to_owned(),
        }
    }
}
