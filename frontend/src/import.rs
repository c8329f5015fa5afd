//! From the bytes of a model to graph IR.

use crate::Remark;
use crate::builder::Builder;
use crate::dims::Dims;
use crate::error::{Code, Fault, ImportErrors};
use crate::inline::{default_opset, normal_domain};
use crate::narrow::Narrow;
use crate::nodes::{Importer, Slot, is_default_domain};
use crate::ops::{NEWEST_OPSET, OLDEST_OPSET};
use crate::options::ImportOptions;
use crate::proto::{GraphProto, ModelProto, TypeProto, TypeValue, ValueInfoProto};
use crate::scan::parts;
use crate::sd::Payloads;
use crate::tensor::dtype_of;
use bytes::Bytes;
use prost::Message;
use sdc_ir::graph::{Graph, TensorType};
use std::collections::{BTreeMap, BTreeSet};

/// A model as graph IR.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The graph: canonical operators, static shapes, row-major layouts, nothing dead.
    pub graph: Graph,
    /// What the user may want to know.
    pub remarks: Vec<Remark>,
    /// Version of the default operator set.
    pub opset: i64,
    /// Version of the ONNX IR; 0 if the model does not say.
    pub ir_version: i64,
    /// Name and version of the exporter, as the model gives them.
    pub producer: String,
}

/// Parts a model may be made of: far above any real one, at most some 1.5 GB when decoded.
const MAX_PARTS: usize = 1 << 22;

/// Decodes a model. Large tensors share memory with `bytes`.
///
/// # Errors
/// The bytes are not an ONNX model, or one of millions of parts.
pub fn decode(bytes: Bytes) -> Result<ModelProto, ImportErrors> {
    if parts(&bytes) > MAX_PARTS {
        let text = format!("the model has more than {MAX_PARTS} parts");
        return Err(single(Fault::new(Code::TooManyNodes, text)));
    }
    let model = ModelProto::decode(bytes);
    model.map_err(|e| single(Fault::new(Code::Undecodable, format!("not an ONNX model: {e}"))))
}

/// Imports a serialised model.
///
/// # Errors
/// Every problem found, in the order of the model's nodes.
pub fn import(bytes: Bytes, options: &ImportOptions<'_>) -> Result<Imported, ImportErrors> {
    import_model(decode(bytes)?, options)
}

fn single(fault: Fault) -> ImportErrors {
    ImportErrors(vec![fault.at(None)])
}

/// Imports a decoded model.
///
/// # Errors
/// As [`import`].
pub fn import_model(model: ModelProto, options: &ImportOptions<'_>) -> Result<Imported, ImportErrors> {
    let mut model = model;
    let graph = model.graph.take();
    let mut graph = graph.ok_or_else(|| single(Fault::new(Code::Missing, "the model has no graph")))?;
    let opset = check_opset(&model, &graph).map_err(single)?;
    if graph.node.len() > options.limits.max_nodes {
        let text = format!(
            "{} nodes exceed the limit of {}",
            graph.node.len(),
            options.limits.max_nodes
        );
        return Err(single(Fault::new(Code::TooManyNodes, text)));
    }
    let functions = std::mem::take(&mut model.functions).into_iter().map(|f| {
        let text = |s: &Option<String>| s.clone().unwrap_or_default();
        let domain = normal_domain(&text(&f.domain)).to_owned();
        ((domain, text(&f.name), text(&f.overload)), f)
    });
    let mut importer = Importer {
        builder: Builder::new(graph.name.as_deref().unwrap_or(""), &options.limits),
        errors: Vec::new(),
        scopes: vec![BTreeMap::new()],
        external: options.external,
        opset,
        functions: functions.collect(),
        path: Vec::new(),
        inlined: 0,
        payloads: Payloads::default(),
        stopped: false,
    };
    if opset > NEWEST_OPSET {
        importer.remark(format!(
            "operator set {opset} is newer than the newest known, {NEWEST_OPSET}"
        ));
    }
    let mut payloads = Payloads::read(&model, &graph, options.external);
    importer.errors.append(&mut payloads.errors);
    importer.builder.remarks.append(&mut payloads.remarks);
    importer.payloads = payloads;
    let constants: BTreeSet<String> = graph.initializer.iter().filter_map(|t| t.name.clone()).collect();
    importer.initializers(&mut graph);
    let mut dims = Dims::new(&options.dims);
    importer.inputs(&graph, &constants, &mut dims);
    let before_nodes = importer.errors.len();
    let outputs = graph.output.iter().filter_map(|o| o.name.as_deref());
    importer.run_nodes(&graph.node, outputs);
    importer.outputs(&graph);
    let open = dims.faults(&importer.builder.graph);
    let open = open.into_iter().map(|fault| fault.at(None));
    importer.errors.splice(before_nodes..before_nodes, open);
    if !importer.errors.is_empty() {
        return Err(ImportErrors(importer.errors));
    }
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    Ok(Imported {
        graph: importer.builder.graph.compact(),
        remarks: importer.builder.remarks,
        opset,
        ir_version: model.ir_version.unwrap_or(0),
        producer: format!("{} {}", text(&model.producer_name), text(&model.producer_version))
            .trim()
            .to_owned(),
    })
}

/// The default operator set's version. A model without nodes of that set needs none.
fn check_opset(model: &ModelProto, graph: &GraphProto) -> Result<i64, Fault> {
    match default_opset(&model.opset_import) {
        Some(v) if v < OLDEST_OPSET => {
            let text = format!("operator set {v} is too old, {OLDEST_OPSET} is the oldest supported");
            Err(Fault::new(Code::Opset, text).help("convert the model with onnx.version_converter"))
        }
        Some(v) => Ok(v),
        None if !graph
            .node
            .iter()
            .any(|n| is_default_domain(n.domain.as_deref().unwrap_or(""))) =>
        {
            Ok(NEWEST_OPSET)
        }
        None => Err(Fault::new(
            Code::Missing,
            "the model names no version of the default operator set",
        )),
    }
}

/// The tensor part of a declared type.
fn tensor_type(ty: Option<&TypeProto>) -> Result<&crate::proto::TypeTensor, Fault> {
    match ty.and_then(|t| t.value.as_ref()) {
        Some(TypeValue::Tensor(t)) => Ok(t),
        Some(_) => Err(Fault::new(Code::NotATensor, "only dense tensors are supported")),
        None => Err(Fault::new(Code::BadInput, "it has no type")),
    }
}

/// How elements of a narrow type cross the border.
fn carried_text(narrow: Narrow) -> String {
    let what = match narrow {
        Narrow::Int { .. } => "value",
        Narrow::Float(_) | Narrow::Scale => "code",
    };
    format!(
        "{}, one {} a byte, the element's {what}",
        narrow.name(),
        narrow.carrier()
    )
}

impl Importer<'_> {
    fn remark(&mut self, message: String) {
        self.builder.remarks.push(Remark { node: None, message });
    }

    fn inputs(&mut self, graph: &GraphProto, constants: &BTreeSet<String>, dims: &mut Dims<'_>) {
        let mut with_default = 0;
        for info in &graph.input {
            let name = info.name.as_deref().unwrap_or("");
            if constants.contains(name) {
                with_default += 1;
                continue;
            }
            if name.is_empty() {
                self.fail(Fault::new(Code::BadInput, "an input has no name"), None);
                continue;
            }
            let slot = match self.input(name, info, dims) {
                Ok(slot) => slot,
                Err(mut fault) => {
                    fault.message = format!("input `{name}`: {}", fault.message);
                    self.fail(fault, None);
                    Slot::Poisoned
                }
            };
            self.define(name, slot, None);
        }
        if with_default > 0 {
            self.remark(format!(
                "{with_default} inputs have a default value and are taken as constants"
            ));
        }
    }

    fn input(&mut self, name: &str, info: &ValueInfoProto, dims: &mut Dims<'_>) -> Result<Slot, Fault> {
        let ty = tensor_type(info.r#type.as_ref())?;
        let element = ty.elem_type.unwrap_or(0);
        let narrow = Narrow::of(element);
        let dtype = narrow.map_or_else(|| dtype_of(element), |n| Ok(n.carrier()))?;
        let shape = ty
            .shape
            .as_ref()
            .ok_or_else(|| Fault::new(Code::NotATensor, "it has no shape"))?;
        let ty = TensorType::new(dtype, dims.shape(name, &shape.dim));
        self.builder.check_size(&ty)?;
        let value = self.builder.graph.add_input(name, ty);
        if let Some(narrow) = narrow {
            self.remark(format!("input `{name}` is {}", carried_text(narrow)));
            self.builder.set_narrow(value, Some(narrow));
        }
        Ok(Slot::Value(value))
    }

    fn outputs(&mut self, graph: &GraphProto) {
        if graph.output.is_empty() {
            self.fail(Fault::new(Code::Missing, "the graph has no outputs"), None);
        }
        let mut seen = BTreeSet::new();
        for info in &graph.output {
            let name = info.name.as_deref().unwrap_or("");
            if !seen.insert(name) {
                self.fail(
                    Fault::new(Code::DuplicateName, format!("output `{name}` is listed twice")),
                    None,
                );
            }
            match self.lookup(name) {
                Ok(Some(value)) => {
                    self.builder.graph.add_output(name, value);
                    self.compare_declared(name, info);
                }
                Ok(None) => {}
                Err(mut fault) => {
                    fault.message = format!("output `{name}`: {}", fault.message);
                    self.fail(fault, None);
                }
            }
        }
    }

    /// Notes an output whose declared type is not the inferred one: exporters are often wrong there, never binding.
    fn compare_declared(&mut self, name: &str, info: &ValueInfoProto) {
        let Ok(declared) = tensor_type(info.r#type.as_ref()) else {
            return;
        };
        let Some(port) = self.builder.graph.outputs.last() else {
            return;
        };
        let ty = self.builder.graph.ty(port.value);
        if let Some(narrow) = self.builder.narrow(port.value) {
            let text = format!("output `{name}` is {}", carried_text(narrow));
            self.remark(text);
            return;
        }
        let element_fits = declared.elem_type.unwrap_or(0) == crate::tensor::onnx_type(ty.dtype);
        let shape_fits = declared.shape.as_ref().is_none_or(|s| {
            s.dim.len() == ty.rank()
                && s.dim.iter().zip(ty.sizes()).all(|(d, &n)| match d.value {
                    Some(crate::proto::DimensionValue::DimValue(v)) if v > 0 => v as usize == n,
                    _ => true,
                })
        });
        if !(element_fits && shape_fits) {
            let text = format!("output `{name}` is {ty}, the model declares another type");
            self.remark(text);
        }
    }
}
