//! Compressed weights that travel inside a model (`crate::export` writes them).
//!
//! A payload is a UINT8 initialiser `sdc.sd/NAME`: the packed form of the int8 initialiser NAME, which reaches its readers through
//! DequantizeLinear (and Reshape), or Cast and Mul. Here each payload is rebuilt and held against that int8 copy and its scales; what
//! agrees becomes a `Rebuild` of the very same bytes, in place of the nodes between. Whatever disagrees is an error: one of the two is
//! not what the model was shipped with. A payload whose copy another tool has removed means nothing and is left alone.
//!
//! Not here: quantised tensors without payload, which are ordinary operators.

use crate::Remark;
use crate::error::{Code, Fault, ImportError};
use crate::export::{PAYLOAD_PREFIX, VERSION, VERSION_KEY};
use crate::nodes::is_default_domain;
use crate::options::ExternalData;
use crate::order::reads;
use crate::proto::{GraphProto, ModelProto, NodeProto, TensorProto, data_type};
use crate::tensor::to_tensor;
use sdc_ir::graph::Origin;
use sdc_ir::sd::{Geometry, Stored, relabel};
use sdc_ir::{DType, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// What the payloads of a model replace.
#[derive(Default)]
pub(crate) struct Payloads {
    /// By the position of the node whose result is the weight.
    weights: BTreeMap<usize, (Stored, Origin)>,
    /// Nodes whose results only such nodes read.
    inner: BTreeSet<usize>,
    pub errors: Vec<ImportError>,
    pub remarks: Vec<Remark>,
}

impl Payloads {
    /// Finds and verifies all payloads of a model. `model` is the model without `graph`.
    pub fn read(model: &ModelProto, graph: &GraphProto, external: Option<&dyn ExternalData>) -> Self {
        let mut payloads = Self::default();
        let version = model
            .metadata_props
            .iter()
            .find(|e| e.key.as_deref() == Some(VERSION_KEY));
        let Some(version) = version.map(|e| e.value.as_deref().unwrap_or("")) else {
            return payloads;
        };
        if version != VERSION {
            let text = format!("compressed weights of version {version}, this reads version {VERSION}");
            let fault = Fault::new(Code::PayloadVersion, text)
                .help("use the sdc that wrote the model, or a newer one");
            payloads.errors.push(fault.at(None));
            return payloads;
        }
        let scan = Scan::new(graph, external);
        for (index, tensor) in graph.initializer.iter().enumerate() {
            let name = tensor.name.as_deref().unwrap_or("");
            let Some(weight) = name.strip_prefix(PAYLOAD_PREFIX) else {
                continue;
            };
            let origin = Origin {
                name: weight.to_owned(),
                op: "Initializer".into(),
                index: index as u32,
            };
            match scan.weight(weight, tensor) {
                Ok(Some(found)) => {
                    payloads.inner.extend(found.inner);
                    payloads.weights.insert(found.result, (found.stored, origin));
                }
                Ok(None) => payloads.remarks.push(Remark {
                    node: Some(origin),
                    message: "its payload is unused: no int8 copy of it is read".into(),
                }),
                Err(fault) => payloads.errors.push(fault.at(Some(origin))),
            }
        }
        payloads
    }

    /// The weight that a node of the main graph amounts to.
    pub fn take(&mut self, index: usize) -> Option<(Stored, Origin)> {
        self.weights.remove(&index)
    }

    /// True if the node's result is read by nodes only that [`Payloads::take`] knows.
    pub fn is_inner(&self, index: usize) -> bool {
        self.inner.contains(&index)
    }
}

/// A verified weight in the graph.
struct Found {
    /// In the shape of the result.
    stored: Stored,
    /// Node whose result it is.
    result: usize,
    inner: Vec<usize>,
}

/// The graph's initialisers, readers and what gives them out.
struct Scan<'m> {
    graph: &'m GraphProto,
    external: Option<&'m dyn ExternalData>,
    initializers: BTreeMap<&'m str, &'m TensorProto>,
    readers: BTreeMap<&'m str, Vec<usize>>,
    outputs: BTreeSet<&'m str>,
}

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadPayload, text)
}

impl<'m> Scan<'m> {
    fn new(graph: &'m GraphProto, external: Option<&'m dyn ExternalData>) -> Self {
        let mut readers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, node) in graph.node.iter().enumerate() {
            reads(node, &mut |name| readers.entry(name).or_default().push(i));
        }
        let named = |t: &'m TensorProto| Some((t.name.as_deref()?, t));
        Self {
            graph,
            external,
            initializers: graph.initializer.iter().filter_map(named).collect(),
            readers,
            outputs: graph.output.iter().filter_map(|o| o.name.as_deref()).collect(),
        }
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>, Fault> {
        let pb = self.initializers.get(name);
        pb.map(|&pb| to_tensor(pb.clone(), self.external)).transpose()
    }

    /// The only reader of a name, unless the graph gives it out.
    fn only_reader(&self, name: &str) -> Option<(usize, &'m NodeProto)> {
        match self.readers.get(name)?.as_slice() {
            &[one] if !self.outputs.contains(name) => Some((one, &self.graph.node[one])),
            _ => None,
        }
    }

    /// The weight of a payload; `None` if the model has no int8 copy that is read in the way of an export.
    fn weight(&self, name: &str, payload: &TensorProto) -> Result<Option<Found>, Fault> {
        let Some((first, node)) = self.only_reader(name) else {
            return Ok(None);
        };
        let Some(int8) = self.tensor(name)?.filter(|t| t.dtype() == DType::I8) else {
            return Ok(None);
        };
        let mut inner = Vec::new();
        let (scale, mut result) = match op(node) {
            "DequantizeLinear" if node.input.first().is_some_and(|x| x == name) => {
                if !self.zero_point_is_zero(node)? {
                    return Err(bad("its int8 copy has a zero point"));
                }
                (node.input.get(1), first)
            }
            "Cast" if int(node, "to") == Some(data_type::FLOAT.into()) => {
                let cast = node.output.first().map_or("", String::as_str);
                let Some((at, mul)) = self.only_reader(cast).filter(|(_, n)| op(n) == "Mul") else {
                    return Ok(None);
                };
                inner.push(first);
                (mul.input.iter().find(|n| *n != cast), at)
            }
            _ => return Ok(None),
        };
        let Some(scale) = scale.map(|s| self.tensor(s)).transpose()?.flatten() else {
            return Ok(None);
        };
        let stored = unpack(&to_tensor(payload.clone(), self.external)?, int8.len())?;
        let mut shape = int8.shape().to_vec();
        let output = self.graph.node[result].output.first().map_or("", String::as_str);
        if stored.geometry().shape != shape
            && let Some((at, reshape)) = self.only_reader(output)
            && op(reshape) == "Reshape"
            && let Some(target) = reshape
                .input
                .get(1)
                .map(|t| self.tensor(t))
                .transpose()?
                .flatten()
            && target.to_i64_vec() == Some(stored.geometry().shape.iter().map(|&d| d as i64).collect())
        {
            inner.push(result);
            result = at;
            shape.clone_from(&stored.geometry().shape);
        }
        if stored.geometry().shape != shape {
            return Err(bad(format!(
                "its payload has shape {:?}, its int8 copy {:?}",
                stored.geometry().shape,
                int8.shape()
            )));
        }
        let (rebuilt, scales) = stored.rebuild().map_err(|e| bad(e.to_string()))?;
        if rebuilt.bytes() != int8.bytes() {
            let at = rebuilt
                .bytes()
                .iter()
                .zip(int8.bytes().iter())
                .position(|(a, b)| a != b);
            let text = format!(
                "its payload does not rebuild to its int8 copy: they differ from element {} on",
                at.unwrap_or(0)
            );
            return Err(bad(text));
        }
        self.compare_scales(node, &int8, &scale, stored.geometry(), &scales)?;
        Ok(Some(Found {
            stored,
            result,
            inner,
        }))
    }

    fn zero_point_is_zero(&self, node: &NodeProto) -> Result<bool, Fault> {
        let Some(name) = node.input.get(2).filter(|n| !n.is_empty()) else {
            return Ok(true);
        };
        let zero = self.tensor(name)?;
        Ok(zero.is_some_and(|z| z.bytes().iter().all(|&b| b == 0)))
    }

    /// Holds the scale of each element, as the nodes have it, against that of its filter.
    fn compare_scales(
        &self,
        node: &NodeProto,
        int8: &Tensor,
        scale: &Tensor,
        geometry: &Geometry,
        scales: &[f32],
    ) -> Result<(), Fault> {
        let given = scale
            .elements::<f32>()
            .map_err(|e| bad(format!("its scales: {e}")))?;
        // As a tensor that broadcasts against the int8 copy.
        let mut shape = scale.shape().to_vec();
        if op(node) == "DequantizeLinear" && given.len() > 1 {
            let rank = int8.shape().len() as i64;
            let axis = int(node, "axis").unwrap_or(1);
            let axis = if axis < 0 { axis + rank } else { axis };
            if !(0..rank).contains(&axis) || shape.len() != 1 {
                return Err(bad("the scales of its int8 copy do not fit it"));
            }
            shape = vec![1; rank as usize];
            shape[axis as usize] = given.len();
        }
        // The int8 copy may be flat: then its filters are those of the payload, flattened.
        let geometry = relabel::reshaped(geometry, int8.shape());
        let geometry = geometry.ok_or_else(|| bad("the shape of its int8 copy cuts filters"))?;
        shape.splice(..0, vec![1; int8.shape().len().saturating_sub(shape.len())]);
        let fits = shape.len() == int8.shape().len()
            && shape.iter().zip(int8.shape()).all(|(&s, &d)| s == 1 || s == d);
        let along_filters = shape
            .iter()
            .enumerate()
            .all(|(d, &s)| s == 1 || geometry.filter_dims.contains(&d));
        if !(fits && along_filters) {
            return Err(bad("the scales of its int8 copy do not fit it"));
        }
        let strides = sdc_ir::tensor::row_major_strides(&shape);
        for (filter, own) in scales.iter().enumerate() {
            let mut rest = filter;
            let mut at = 0;
            for &d in geometry.filter_dims.iter().rev() {
                let index = rest % geometry.shape[d];
                rest /= geometry.shape[d];
                at += if shape[d] == 1 { 0 } else { index * strides[d] };
            }
            if given[at].to_bits() != own.to_bits() {
                let text = format!(
                    "filter {filter}: its payload has scale {own:e}, its int8 copy {:e}",
                    given[at]
                );
                return Err(bad(text));
            }
        }
        Ok(())
    }
}

/// The packed weight of a payload that is to have this many elements: known beforehand, so that a small file cannot ask for much.
fn unpack(payload: &Tensor, elements: usize) -> Result<Stored, Fault> {
    if payload.dtype() != DType::U8 {
        return Err(bad(format!("its payload is {}, not u8", payload.dtype())));
    }
    let stored = Stored::unpack(payload.bytes()).map_err(|e| bad(e.to_string()))?;
    let shape = &stored.geometry().shape;
    if shape.iter().product::<usize>() != elements {
        let text = format!("its payload has shape {shape:?}, its int8 copy {elements} elements");
        return Err(bad(text));
    }
    Ok(stored)
}

/// The operator, if it is of the default domain.
fn op(node: &NodeProto) -> &str {
    let name = node.op_type.as_deref().unwrap_or("");
    if is_default_domain(node.domain.as_deref().unwrap_or("")) {
        name
    } else {
        ""
    }
}

fn int(node: &NodeProto, name: &str) -> Option<i64> {
    let attribute = node.attribute.iter().find(|a| a.name.as_deref() == Some(name));
    attribute.and_then(|a| a.i)
}
