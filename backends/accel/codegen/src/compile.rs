//! The whole way from a graph to a program.

use crate::columns;
use crate::emit::{Emitter, Traffic};
use crate::error::AccelError;
use crate::net::{Body, Net};
use crate::plan::{Plan, plan};
use crate::residency::Residency;
use crate::schedule::schedule;
use crate::select::classify::{Who, origin};
use crate::select::{Selection, select};
use crate::weights::Image;
use sdc_accel_isa::{Builder, Config, Layer, Port, Program};
use sdc_ir::analysis::macs;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::Graph;

/// A program, and what is to be said about it.
#[derive(Debug)]
pub struct Compiled {
    /// The program.
    pub program: Program,
    /// The machine's layers.
    pub layers: Vec<LayerSummary>,
    /// What the host computes: operator, node, why, products.
    pub host: Vec<HostNode>,
    /// Maps that stay in the input buffer, and those that do not.
    pub maps: (usize, usize),
}

/// A node that the host computes.
#[derive(Clone, Debug, serde::Serialize)]
pub struct HostNode {
    /// Operator.
    pub op: String,
    /// The user's node.
    pub origin: String,
    /// Why it is not the machine's.
    pub reason: String,
    /// Products.
    pub macs: u64,
    /// Bytes of its results.
    pub bytes: usize,
}

/// A layer in numbers.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LayerSummary {
    /// The user's node.
    pub origin: String,
    /// Operator.
    pub op: &'static str,
    /// Products.
    pub macs: u64,
    /// Bytes between DRAM and the machine.
    pub traffic: Traffic,
    /// Its result stays in the input buffer.
    pub stays: bool,
    /// Of a convolution: filters of its largest tile.
    pub filters: usize,
    /// Of a convolution: bytes of a slice's weight buffer that its largest tile takes.
    pub weight_bytes: usize,
    /// Of a convolution: what keeps its tiles from being larger.
    pub limit: &'static str,
    /// What was not done for want of room.
    pub remarks: Vec<String>,
}

/// Compiles an integer graph for a machine.
///
/// # Errors
/// Everything that is not supported, or what does not fit.
pub fn compile(graph: &Graph, config: &Config) -> Result<Compiled, Vec<AccelError>> {
    let mut selection = select(graph, config)?;
    let (residency, plans) = cut(&mut selection.net, config)?;
    let net = &selection.net;
    let mut builder = Builder::new(config.clone());
    let addresses = addresses(net, &residency, &mut builder).map_err(|e| vec![e])?;
    let ids: Vec<u32> = net
        .layers
        .iter()
        .zip(&plans)
        .map(|(l, p)| builder.layer(named(net, l, p)))
        .collect();
    let mut emitter = Emitter::new(net, &plans, &addresses, &ids, builder);
    for part in 0..selection.parts {
        let first = net.layers.partition_point(|l| l.part < part);
        let last = net.layers.partition_point(|l| l.part <= part);
        let written: Vec<bool> = residency.lives.iter().map(|l| !l.writers.is_empty()).collect();
        let work = schedule(net, first..last, &plans, config, &written);
        emitter.part(&work).map_err(|e| vec![e])?;
    }
    let traffic = std::mem::take(&mut emitter.traffic);
    let mut builder = emitter.finish();
    ports(graph, &selection, &addresses, &mut builder)?;
    for step in selection.steps(graph, &addresses) {
        builder.host(step);
    }
    let program = builder.finish().map_err(|e| vec![internal(&e)])?;
    let layers = net.layers.iter().zip(&plans).zip(traffic);
    let stays = residency.bands.iter().filter(|b| b.is_some()).count();
    Ok(Compiled {
        program,
        layers: layers
            .map(|((l, p), traffic)| LayerSummary {
                origin: l.origin.clone(),
                op: l.op,
                macs: l.macs(),
                traffic,
                stays: p.result.is_some(),
                filters: p.tiles.iter().map(|t| t.filters.len()).max().unwrap_or(0),
                weight_bytes: p
                    .tiles
                    .iter()
                    .flat_map(|t| &t.images)
                    .map(Image::room)
                    .max()
                    .unwrap_or(0),
                limit: limit(p),
                remarks: p.remarks.clone(),
            })
            .collect(),
        host: left(graph, &selection),
        maps: (stays, net.maps.len() - stays),
    })
}

/// What keeps a layer's tiles from being larger.
fn limit(plan: &Plan) -> &'static str {
    match (&plan.tiles[..], plan.pieces.len()) {
        (_, 0) | ([_], 1) => "nothing",
        (_, 1) => "slices",
        _ => "weight buffer",
    }
}

/// A field that no instruction holds: the plan should not have come to it.
fn internal(error: &dyn std::fmt::Display) -> AccelError {
    AccelError::Unsupported {
        layer: "program".to_owned(),
        reason: error.to_string(),
    }
}

/// Which maps stay, and the layers' plans; or what does not fit.
type Planned<E> = Result<(Residency, Vec<Plan>), Vec<E>>;

/// Plans all layers, and cuts those by columns that do not fit otherwise.
fn cut(net: &mut Net, config: &Config) -> Planned<AccelError> {
    loop {
        let errors = match plans(net, config) {
            Ok(done) => return Ok(done),
            Err(errors) => errors,
        };
        let mut cut = true;
        // From behind, since the numbers of the layers after a cut change.
        for (layer, error) in errors.iter().rev() {
            let width = net.layers[*layer].shape[2];
            // A quarter of a bank leaves room for two buffers in either half, beside what stays.
            let columns = match error {
                AccelError::TooLarge { need, .. } => width * (config.ib_bank as usize / 4) / need,
                _ => 0,
            };
            let lanes = config.lanes as usize;
            let columns = columns.next_multiple_of(lanes).min(width.div_ceil(2));
            cut &= matches!(error, AccelError::TooLarge { .. }) && columns::cut(net, *layer, columns);
        }
        if !cut {
            return Err(errors.into_iter().map(|(_, error)| error).collect());
        }
    }
}

/// Plans all layers; where one has no room, a map is spilled, and all are planned again.
fn plans(net: &Net, config: &Config) -> Planned<(usize, AccelError)> {
    let mut spilled = Vec::new();
    loop {
        let residency = Residency::new(net, config, &spilled);
        let (mut plans, mut errors, before) = (Vec::new(), Vec::new(), spilled.len());
        for layer in 0..net.layers.len() {
            match plan(net, layer, &residency, config) {
                Ok(plan) => plans.push(plan),
                Err(error) => match residency.cheapest(net, layer) {
                    Some(map) if !spilled.contains(&map) => spilled.push(map),
                    Some(_) => {}
                    None => errors.push((layer, error)),
                },
            }
        }
        if spilled.len() == before {
            return if errors.is_empty() {
                Ok((residency, plans))
            } else {
                Err(errors)
            };
        }
    }
}

/// Places in DRAM for what does not stay.
fn addresses(
    net: &Net,
    residency: &Residency,
    builder: &mut Builder,
) -> Result<Vec<Option<u32>>, AccelError> {
    let mut addresses = vec![None; net.maps.len()];
    for (m, map) in net.maps.iter().enumerate() {
        if map.alias.is_some() || (residency.bands[m].is_some() && !map.dram) {
            continue;
        }
        let granule = builder.config().dram_granule;
        let address = match &map.constant {
            Some(bytes) => builder.data(bytes.clone(), granule),
            None => builder.reserve(map.bytes(), granule),
        };
        addresses[m] = Some(address.ok_or(AccelError::Dram)?);
    }
    Ok(addresses)
}

/// The layer for reports.
fn named(net: &Net, l: &crate::net::Layer, plan: &Plan) -> Layer {
    let mut shape: Vec<(&str, i64)> = Vec::new();
    let x = l.operands()[0];
    let [m, e, f] = l.shape;
    let dims = match &l.body {
        Body::Conv(_) => [x.shape[0], net.maps[x.map].h, net.maps[x.map].w],
        _ => x.shape,
    };
    shape.extend(["c", "h", "w"].into_iter().zip(dims.map(|n| n as i64)));
    shape.extend([("m", m as i64), ("e", e as i64), ("f", f as i64)]);
    let window = match &l.body {
        Body::Conv(c) => Some((c.kernel, c.strides, c.dilations, c.phases[0].before)),
        Body::Pool(p, _) => {
            let (y, x) = (p.window.y, p.window.x);
            let before = [y.before as i64, x.before as i64];
            Some((
                [y.kernel, x.kernel],
                [y.stride, x.stride],
                [y.dilation, x.dilation],
                before,
            ))
        }
        Body::Pointwise(..) => None,
    };
    if let Some((kernel, strides, dilations, before)) = window {
        shape.extend([("kh", kernel[0] as i64), ("kw", kernel[1] as i64)]);
        shape.extend([("stride", strides[0] as i64), ("dilation", dilations[0] as i64)]);
        shape.extend([("pad_top", before[0]), ("pad_left", before[1])]);
    }
    if let Body::Conv(c) = &l.body {
        shape.push(("fold", 1 << plan.tiles.first().map_or(0, |t| t.fold)));
        if c.group > 1 {
            shape.push(("group", c.group as i64));
        }
    }
    Layer {
        op: l.op.to_owned(),
        origin: l.origin.clone(),
        shape: shape.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
    }
}

fn ports(
    graph: &Graph,
    selection: &Selection,
    addresses: &[Option<u32>],
    builder: &mut Builder,
) -> Result<(), Vec<AccelError>> {
    let port = |p: &sdc_ir::graph::Port| Port {
        name: p.name.clone(),
        place: selection.place(graph, p.value, addresses),
        dtype: graph.ty(p.value).dtype,
        shape: graph.ty(p.value).sizes().to_vec(),
        grid: None,
    };
    for p in &graph.inputs {
        builder.input(port(p));
    }
    let mut errors = Vec::new();
    for p in &graph.outputs {
        match graph.def_node(p.value).map(|n| &selection.who[n.index()]) {
            Some(Who::Machine | Who::Host(_)) => builder.output(port(p)),
            Some(Who::Constant) | None => errors.push(AccelError::Unsupported {
                layer: format!("output `{}`", p.name),
                reason: "it is an input or a constant, which no program computes".to_owned(),
            }),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn left(graph: &Graph, selection: &Selection) -> Vec<HostNode> {
    let nodes = graph.nodes().iter().filter_map(|(n, data)| {
        let Who::Host(reason) = &selection.who[n.index()] else {
            return None;
        };
        Some(HostNode {
            op: data.op.name().to_owned(),
            origin: origin(data),
            reason: reason.clone(),
            macs: macs::of(graph, data),
            bytes: data.outputs.iter().filter_map(|&v| graph.ty(v).bytes()).sum(),
        })
    });
    nodes.collect()
}
