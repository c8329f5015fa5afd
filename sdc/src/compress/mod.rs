//! Compression of a network's weights: the network with packed weights, the report on it, and the model as standard ONNX.

mod report;

pub use report::{
    CompressionReport, LAYERS_KEY, LayerRow, OutputRow, Piece, Wanted, density, form, solver_name,
};
pub use sdc_passes::decompose::{Options as CompressOptions, Solver, Wish};

use crate::error::{Error, Result};
use crate::model::Folder;
use crate::observe::Observer;
use sdc_frontend::export;
use sdc_frontend::proto::ModelProto;
use sdc_ir::graph::{Graph, Node};
use sdc_passes::decompose::{self, Plan};
use sdc_passes::pipeline::{TO_FUSED, run_passes};
use std::collections::BTreeMap;

/// A compressed network.
#[derive(Debug)]
pub struct Compressed {
    /// After fusion, weights as they were.
    pub before: Graph,
    /// The same with packed weights.
    pub graph: Graph,
    /// What was decided, layer by layer.
    pub plan: Plan,
}

/// Compresses a network after [`fuse`].
///
/// # Errors
/// A wish that cannot be fulfilled; inputs that cannot be read; weights that are not finite; a network without any to compress.
pub fn compress(fused: Graph, options: &CompressOptions<'_>, observer: &dyn Observer) -> Result<Compressed> {
    let plan = decompose::run(&fused, options, &mut |p| {
        observer.at(p.done, p.total, &format!("{}: {}", p.stage, p.layer));
        !observer.cancelled()
    })?;
    let graph = decompose::install(&fused, &plan)?;
    Ok(Compressed {
        before: fused,
        graph,
        plan,
    })
}

/// The passes before compression.
///
/// # Errors
/// A graph that is malformed.
pub fn fuse(graph: &Graph) -> Result<Graph> {
    Ok(run_passes(graph, &TO_FUSED, None, &mut ())?.graph)
}

/// Layers of a fused model that cannot be written back to ONNX with compressed weights, and why.
pub fn obstacles(model: &ModelProto, fused: &Graph) -> BTreeMap<Node, String> {
    let found = export::obstacles(model, fused).into_iter();
    found.map(|(node, remark)| (node, remark.message)).collect()
}

/// A model with a network's compressed weights, encoded: standard ONNX, data from outside included, and a record of the layers in its
/// metadata.
///
/// # Errors
/// Weights that have no place in the model; external data that cannot be read; more than the 2 GiB of a protobuf message.
pub fn export(
    model: ModelProto,
    external: Option<&Folder>,
    graph: &Graph,
    layers: &[LayerRow],
) -> Result<Vec<u8>> {
    let layers = serde_json::to_string(layers).map_err(Error::bug)?;
    let mut written =
        export::export(model, graph, &[(LAYERS_KEY.to_owned(), layers)]).map_err(Error::unsupported)?;
    if let Some(external) = external {
        export::embed_external(&mut written, external)?;
    }
    export::encode(&written)
        .ok_or_else(|| Error::limit("the compressed model exceeds the 2 GiB of a protobuf message"))
}
