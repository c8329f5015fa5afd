//! Writing a network with compressed weights back into the ONNX model it came from.
//!
//! The result is standard ONNX: each compressed weight is an int8 initialiser with a scale per filter, behind DequantizeLinear (or Cast
//! and Mul where the operator set has no per-axis form). Nodes keep their names; what fusion folded into a weight (batch norm, scales,
//! biases) is gone from the model; everything else stays. The packed form travels beside the int8 copy as a UINT8 initialiser that no
//! node reads, `sdc.sd/` and the weight's name, so that an import gets the very same codes back (`crate::sd`).
//!
//! Not here: how weights are compressed, and any change of the network beyond what fusion did.

mod constant;
mod net;
mod prune;
mod site;
mod write;

use crate::proto::{LOCATION_EXTERNAL, ModelProto};
use crate::tensor::to_tensor;
use crate::{ExternalData, ImportErrors, Remark};
use net::Net;
use prost::Message;
use sdc_ir::Tensor;
use sdc_ir::graph::op::Transpose;
use sdc_ir::graph::{Graph, NodeData, Op, Origin};
use sdc_ir::sd::{SdError, Stored, relabel};
use site::Site;

/// Key of the metadata that says which form of payloads a model carries, and its only value so far.
pub const VERSION_KEY: &str = "sdc.sd.version";
/// See [`VERSION_KEY`].
pub const VERSION: &str = "1";
/// Prefix of the names of payloads; the name of the int8 initialiser follows.
pub const PAYLOAD_PREFIX: &str = "sdc.sd/";

/// What a protobuf message can hold.
const MAX_MODEL_BYTES: usize = (1 << 31) - 1;

/// A model as the bytes of a file; `None` if they are more than a protobuf message can be.
pub fn encode(model: &ModelProto) -> Option<Vec<u8>> {
    (model.encoded_len() <= MAX_MODEL_BYTES).then(|| model.encode_to_vec())
}

/// Takes the initialisers of the main graph that lie in files of their own into the model, which can then be written anywhere.
///
/// # Errors
/// Data that cannot be read, or that does not fit its tensor.
pub fn embed_external(model: &mut ModelProto, external: &dyn ExternalData) -> Result<(), ImportErrors> {
    let mut errors = Vec::new();
    let initializers = model.graph.iter_mut().flat_map(|g| &mut g.initializer);
    for (index, tensor) in initializers.enumerate() {
        if tensor.data_location != Some(LOCATION_EXTERNAL) {
            continue;
        }
        match to_tensor(tensor.clone(), Some(external)) {
            Ok(read) => {
                tensor.raw_data = Some(read.bytes().clone());
                tensor.data_location = None;
                tensor.external_data.clear();
            }
            Err(fault) => errors.push(fault.at(Some(Origin {
                name: tensor.name.clone().unwrap_or_default(),
                op: "Initializer".into(),
                index: index as u32,
            }))),
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ImportErrors(errors))
    }
}

/// Why a network could not be written into a model.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ExportError {
    /// The model has no graph: not the one the network came from.
    #[error("the model has no graph")]
    NoGraph,
    /// A layer that has no place in the model; see [`obstacles`].
    #[error("{}: {reason}", crate::export::origin_text(.origins))]
    Site {
        /// The user's nodes.
        origins: Vec<Origin>,
        /// Why.
        reason: String,
    },
    /// A constant of the network is no packed weight.
    #[error("{}: {error}", crate::export::origin_text(.origins))]
    Packed {
        /// The user's nodes.
        origins: Vec<Origin>,
        /// What is wrong with it.
        error: Box<SdError>,
    },
}

fn origin_text(origins: &[Origin]) -> String {
    let names: Vec<String> = origins.iter().take(8).map(ToString::to_string).collect();
    names.join(" + ")
}

/// The layers with constant (or compressed) weights that could not be exchanged in the model, and why: the remark's node is the first
/// origin of the layer. `graph` is the model after fusion.
pub fn obstacles(model: &ModelProto, graph: &Graph) -> Vec<(sdc_ir::graph::Node, Remark)> {
    let Some(proto) = &model.graph else {
        return Vec::new();
    };
    let net = Net::new(proto);
    let mut found = Vec::new();
    for (id, node) in graph.nodes().iter() {
        let Some(&weight) = linear_weight(node) else {
            continue;
        };
        if graph.constant(weight).is_none() && packed(graph, node).is_none() {
            continue;
        }
        if let Err(message) = place(&net, graph, node) {
            let node = node.origins.first().cloned();
            found.push((id, Remark { node, message }));
        }
    }
    found
}

/// The weight operand of a linear operator.
fn linear_weight(node: &NodeData) -> Option<&sdc_ir::graph::Value> {
    matches!(
        node.op,
        Op::Conv(_) | Op::ConvTranspose(_) | Op::MatMul(_) | Op::Recurrent(_)
    )
    .then(|| node.inputs.get(1))
    .flatten()
}

/// The packed bytes of the weight of a linear operator, if it is compressed.
fn packed<'g>(graph: &'g Graph, node: &NodeData) -> Option<&'g [u8]> {
    let rebuild = &graph.nodes()[graph.def_node(*linear_weight(node)?)?];
    match rebuild.op {
        Op::Rebuild(_) => Some(graph.constant(rebuild.inputs[0])?.bytes()),
        _ => None,
    }
}

/// The site of a linear node, if its weight and bias can be exchanged there.
fn place(net: &Net<'_>, graph: &Graph, node: &NodeData) -> Result<Site, String> {
    let site = Site::find(net, graph, node)?;
    let (bias, residual) = match &node.op {
        Op::Conv(c) => (c.bias, c.residual),
        Op::MatMul(m) => (m.bias, m.residual),
        Op::ConvTranspose(c) => (c.bias, false),
        Op::Recurrent(_) => (false, false),
        _ => return Err("it is no linear operator".into()),
    };
    let constant_residual = residual && node.inputs.last().is_some_and(|&r| graph.constant(r).is_some());
    if constant_residual {
        return Err("it adds a constant tensor".into());
    }
    let onnx = &net.graph.node[site.node];
    if net::is_op(onnx, "Gemm") && !bias && onnx.input.get(2).is_some_and(|c| !c.is_empty()) {
        return Err("it adds a matrix".into());
    }
    if bias && !site.folded.is_empty() && graph.constant(node.inputs[2]).is_none() {
        return Err("its bias is computed".into());
    }
    // The weight must fit the operand's shape with whole dimensions; a change of order is known from the operator.
    let ty = graph.ty(node.inputs[1]);
    let rank_fits = |shape: &Vec<usize>| {
        let mut own = ty.sizes().to_vec();
        if site.transposed {
            own.reverse();
        }
        let units = |s: &[usize]| -> Vec<usize> { s.iter().copied().filter(|&d| d != 1).collect() };
        units(&own) == units(shape)
    };
    if !site.shape.as_ref().is_none_or(rank_fits) {
        return Err("its weight has another shape in the model".into());
    }
    Ok(site)
}

/// A weight as it is to be written, in the shape of the ONNX operand.
enum Weight {
    Stored(Box<Stored>),
    /// As it was: one direction of a recurrent layer, another of which is compressed.
    Float(Tensor),
}

/// A weight to be written.
struct Edit {
    site: Site,
    weight: Weight,
    /// The new bias; `None` leaves the operand as it is.
    bias: Option<Vec<f32>>,
    origins: Vec<Origin>,
}

/// Writes the compressed weights of a network (constants under [`sdc_ir::graph::op::Rebuild`]), and the biases of their layers, into the
/// model it was imported from. `graph` is the model after fusion and compression. `metadata` is added to the model's properties, an
/// entry of the same key being replaced. Without compressed weights only the metadata changes. The same in gives the same out.
///
/// # Errors
/// [`ExportError`]; [`obstacles`] names the layers with which that can happen beforehand.
pub fn export(
    model: ModelProto,
    graph: &Graph,
    metadata: &[(String, String)],
) -> Result<ModelProto, ExportError> {
    let mut model = model;
    let proto = model.graph.take().ok_or(ExportError::NoGraph)?;
    let mut edits = Vec::new();
    {
        let net = Net::new(&proto);
        for node in graph.nodes().values() {
            if let Some(bytes) = packed(graph, node) {
                edits.push(edit(&net, graph, node, bytes)?);
            }
        }
        let more = other_directions(&net, graph, &edits)?;
        edits.extend(more);
    }
    let opset = crate::inline::default_opset(&model.opset_import).unwrap_or(crate::ops::NEWEST_OPSET);
    let done = !edits.is_empty();
    model.graph = Some(write::write(proto, edits, opset)?);
    if done {
        // Older versions demand that every initialiser is an input too.
        model.ir_version = model.ir_version.map(|v| v.max(4));
        write::set_metadata(&mut model, VERSION_KEY, VERSION);
    }
    for (key, value) in metadata {
        write::set_metadata(&mut model, key, value);
    }
    Ok(model)
}

fn edit(net: &Net<'_>, graph: &Graph, node: &NodeData, bytes: &[u8]) -> Result<Edit, ExportError> {
    let fail = |reason: String| ExportError::Site {
        origins: node.origins.clone(),
        reason,
    };
    let site = place(net, graph, node).map_err(fail)?;
    let stored = Stored::unpack(bytes).map_err(|error| ExportError::Packed {
        origins: node.origins.clone(),
        error: Box::new(error),
    })?;
    let mut geometry = stored.geometry().clone();
    if site.transposed {
        geometry = relabel::transposed(&geometry, &[1, 0]);
    }
    if let Some(shape) = &site.shape {
        geometry = relabel::reshaped(&geometry, shape)
            .ok_or_else(|| fail("its weight has another shape in the model".into()))?;
    }
    let has_bias = match &node.op {
        Op::Conv(c) => c.bias,
        Op::ConvTranspose(c) => c.bias,
        Op::MatMul(m) => m.bias,
        _ => false,
    };
    // That of a recurrent layer is part of a larger tensor, and nobody's to change.
    let bias = (has_bias && !site.recurrent)
        .then(|| graph.constant(node.inputs[2]))
        .flatten();
    let bias = bias
        .map(|b| b.elements::<f32>().map(std::borrow::Cow::into_owned))
        .transpose()
        .map_err(|e| fail(e.to_string()))?;
    Ok(Edit {
        site,
        weight: Weight::Stored(Box::new(relabel::with_geometry(stored, geometry))),
        bias,
        origins: node.origins.clone(),
    })
}

/// The directions that stay as they are, of recurrent layers of which another is exchanged.
fn other_directions(net: &Net<'_>, graph: &Graph, edits: &[Edit]) -> Result<Vec<Edit>, ExportError> {
    let exchanged = |site: &Site| {
        let same = |e: &&Edit| (e.site.node, e.site.operand) == (site.node, site.operand);
        site.direction.1 > 1 && edits.iter().any(|e| same(&e))
    };
    let mut more = Vec::new();
    for node in graph.nodes().values().filter(|n| packed(graph, n).is_none()) {
        let Some(tensor) = linear_weight(node).and_then(|&w| graph.constant(w)) else {
            continue;
        };
        let Some(site) = place(net, graph, node).ok().filter(exchanged) else {
            continue;
        };
        let transposed = sdc_interp::eval_op(&Transpose { perm: vec![1, 0] }.into(), &[tensor]);
        let shape = site.shape.clone().unwrap_or_default();
        let weight = transposed
            .map_err(|e| e.to_string())
            .and_then(|t| t[0].reshaped(shape).map_err(|e| e.to_string()));
        more.push(Edit {
            weight: Weight::Float(weight.map_err(|reason| ExportError::Site {
                origins: node.origins.clone(),
                reason,
            })?),
            site,
            bias: None,
            origins: node.origins.clone(),
        });
    }
    Ok(more)
}
