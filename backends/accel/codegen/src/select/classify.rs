//! What the machine can do, and what the host does instead.

use super::spread::Spread;
use crate::error::AccelError;
use sdc_ir::DType;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::op::{CoordinateMode, NearestMode, PadMode, QLinearConv, Resize, ResizeMode};
use sdc_ir::graph::{Graph, Node, NodeData, Op, Value};
use std::collections::BTreeSet;

/// Who computes a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Who {
    /// Nobody: a constant.
    Constant,
    /// The machine, or a way to read what it computed.
    Machine,
    /// The host, and why.
    Host(String),
}

/// The name of a node for people.
pub fn origin(data: &NodeData) -> String {
    let names: Vec<&str> = data.origins.iter().map(|o| o.name.as_str()).collect();
    names.join(" + ")
}

/// A tensor as channels, rows and columns, if it is bytes of one image.
pub fn shape_of(graph: &Graph, v: Value) -> Option<[usize; 3]> {
    let ty = graph.ty(v);
    if !matches!(ty.dtype, DType::U8 | DType::I8) || ty.sizes().contains(&0) {
        return None;
    }
    match ty.sizes()[..] {
        [] => Some([1, 1, 1]),
        [c] => Some([c, 1, 1]),
        [1, c] => Some([c, 1, 1]),
        [1, c, w] => Some([c, 1, w]),
        [1, c, h, w] => Some([c, h, w]),
        _ => None,
    }
}

/// Who computes each node.
///
/// # Errors
/// Everything that neither can.
pub fn classify(graph: &Graph) -> Result<Vec<Who>, Vec<AccelError>> {
    let mut all: Vec<Who> = Vec::new();
    let mut errors = Vec::new();
    let spread: BTreeSet<Node> = graph
        .nodes()
        .ids()
        .filter_map(|n| Spread::of(graph, n))
        .flat_map(|s| s.nodes)
        .collect();
    for (n, data) in graph.nodes().iter() {
        let constant = |v: &Value| {
            graph
                .def_node(*v)
                .is_some_and(|n| all[n.index()] == Who::Constant)
        };
        let who = match &data.op {
            Op::Constant(_) => Who::Constant,
            _ if spread.contains(&n) => Who::Machine,
            Op::Rebuild(_) if data.inputs.iter().all(constant) => Who::Constant,
            _ => match able(graph, data) {
                Ok(()) => Who::Machine,
                Err(reason) => Who::Host(reason),
            },
        };
        if let Err(reason) = possible(graph, data) {
            errors.push(AccelError::Unsupported {
                layer: origin(data),
                reason,
            });
        }
        all.push(who);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    leave_to_host(graph, &mut all, &spread);
    Ok(all)
}

/// What has no place in any program.
fn possible(graph: &Graph, data: &NodeData) -> Result<(), String> {
    if let Op::QLinearConv(op) = &data.op {
        if op.shift == 0 {
            return Err(
                "QLinearConv has real multipliers, as imported quantised networks have; compile the float model with --activations int8"
                    .to_owned(),
            );
        }
        let batch = graph.ty(data.inputs[0]).sizes()[0];
        if batch != 1 {
            return Err(format!(
                "a batch of {batch}: programs compute one image; loop over them"
            ));
        }
    }
    Ok(())
}

/// Movements between operators of the host stay there.
fn leave_to_host(graph: &Graph, all: &mut [Who], spread: &BTreeSet<Node>) {
    let uses = graph.uses();
    let moves = |op: &Op| {
        matches!(
            op,
            Op::Reshape(_) | Op::Slice(_) | Op::Pad(_) | Op::Concat(_) | Op::Transpose(_) | Op::Resize(_)
        )
    };
    let on_machine =
        |all: &[Who], v: Value| graph.def_node(v).is_some_and(|n| all[n.index()] == Who::Machine);
    let nodes: Vec<_> = graph.nodes().iter().collect();
    let with_host = |all: &mut [Who], n: Node, data: &NodeData| {
        let reads = data.inputs.iter().any(|&v| on_machine(all, v));
        let read = uses[data.outputs[0].index()]
            .iter()
            .any(|u| all[u.index()] == Who::Machine);
        if all[n.index()] == Who::Machine && moves(&data.op) && !spread.contains(&n) && !(reads && read) {
            all[n.index()] = Who::Host("its neighbours are with the host".to_owned());
        }
    };
    // Forwards for those behind a step of the host, backwards for those before one.
    for &(n, data) in &nodes {
        with_host(all, n, data);
    }
    for &(n, data) in nodes.iter().rev() {
        with_host(all, n, data);
    }
}

/// Whether the machine can do it; if not, why.
fn able(graph: &Graph, data: &NodeData) -> Result<(), String> {
    let bytes = |v: &Value| shape_of(graph, *v).is_some();
    let known = matches!(
        data.op,
        Op::QLinearConv(_)
            | Op::QLinearAdd(_)
            | Op::QLinearMul(_)
            | Op::QLinearAveragePool(_)
            | Op::MaxPool(_)
            | Op::Lookup(_)
            | Op::Concat(_)
            | Op::Slice(_)
            | Op::Pad(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Resize(_)
    );
    if !known {
        return Err(format!("the machine has no {}", data.op.name()));
    }
    let operands = match data.op {
        Op::QLinearConv(_) | Op::Lookup(_) => &data.inputs[..1],
        _ => &data.inputs[..],
    };
    if !operands.iter().chain(&data.outputs).all(bytes) {
        return Err("its operands are not bytes of one image".to_owned());
    }
    let [c, h, w] = shape_of(graph, data.outputs[0]).unwrap_or_default();
    let inputs = operands.iter().filter_map(|v| shape_of(graph, *v));
    if inputs
        .chain([[c, h, w]])
        .any(|[c, h, w]| h > 4096 || w > 4096 || c > 8192 || h * w >= 1 << 24)
    {
        return Err("a map exceeds 4096 rows or columns, or 8192 channels".to_owned());
    }
    let fields = |ok: bool| {
        if ok {
            Ok(())
        } else {
            Err("its window exceeds what an instruction holds".to_owned())
        }
    };
    match &data.op {
        Op::QLinearConv(op) => convolution(graph, data, op),
        Op::QLinearAdd(op) if op.zeros.len() > 2 => Err("a sum of more than two tensors".to_owned()),
        Op::QLinearAdd(_) | Op::QLinearMul(_) => broadcast(graph, data),
        Op::MaxPool(p) => fields(window(&p.kernel, &p.strides, &p.dilations, &p.pads)),
        Op::QLinearAveragePool(p) => {
            if p.counted != p.pads && p.counted.iter().any(|&n| n > 0) {
                return Err("its padding counts in part".to_owned());
            }
            fields(window(&p.kernel, &p.strides, &p.dilations, &p.pads))
        }
        Op::Lookup(_) => match graph.constant(data.inputs[1]) {
            Some(_) => Ok(()),
            None => Err("its table is not constant".to_owned()),
        },
        Op::Concat(op) if op.axis != 1 => Err("only channels are joined".to_owned()),
        Op::Slice(op) => {
            let rank = op.steps.len();
            let ok = |d: usize| (1..=if d == 1 { 1 } else { 15 }).contains(&op.steps[d]) || op.sizes[d] == 1;
            if rank >= 2 && (0..rank).all(ok) {
                Ok(())
            } else {
                Err("it steps backwards, too far, or over channels".to_owned())
            }
        }
        Op::Pad(op) if op.mode != PadMode::Constant => Err("only constant borders are made".to_owned()),
        Op::Pad(op) if op.before.len() < 2 => Err("it has no channels".to_owned()),
        Op::Transpose(op) => {
            let shape = graph.ty(data.inputs[0]).sizes();
            let moved: Vec<usize> = op.perm.iter().copied().filter(|&d| shape[d] != 1).collect();
            if moved.is_sorted() {
                Ok(())
            } else {
                Err("it moves elements".to_owned())
            }
        }
        Op::Resize(op) => match enlarged(graph, data, op) {
            Some(_) => Ok(()),
            None => {
                Err("only repeating elements a whole number of times is a resize of the machine".to_owned())
            }
        },
        _ => Ok(()),
    }
}

fn window(kernel: &[usize], strides: &[usize], dilations: &[usize], pads: &[usize]) -> bool {
    let within = |all: &[usize], most: usize| all.iter().all(|&n| (1..=most).contains(&n));
    kernel.len() == 2
        && within(kernel, 64)
        && within(strides, 16)
        && within(dilations, 64)
        && pads.iter().all(|&p| p < 128)
}

fn convolution(graph: &Graph, data: &NodeData, op: &QLinearConv) -> Result<(), String> {
    let constant = |i: usize| graph.constant(data.inputs[i]).is_some();
    let weights = graph.def_node(data.inputs[1]).map(|n| &graph.nodes()[n]);
    let packed =
        weights.is_some_and(|n| matches!(n.op, Op::Rebuild(_)) && graph.constant(n.inputs[0]).is_some());
    if !(constant(1) || packed) || !constant(2) || !constant(3) {
        return Err("its weights are not constant".to_owned());
    }
    let ty = graph.ty(data.inputs[1]);
    if ty.dtype != DType::I8 {
        return Err("its weights have more than 8 bits".to_owned());
    }
    if !window(&ty.sizes()[2..], &op.strides, &op.dilations, &op.pads) {
        return Err("its window exceeds what an instruction holds".to_owned());
    }
    Ok(())
}

/// Rows and columns of an operand may be repeated, channels not.
fn broadcast(graph: &Graph, data: &NodeData) -> Result<(), String> {
    let whole = shape_of(graph, data.outputs[0]).unwrap_or_default();
    let rank = graph.ty(data.outputs[0]).rank();
    let shapes = data
        .inputs
        .iter()
        .map(|&v| (graph.ty(v).rank(), shape_of(graph, v).unwrap_or_default()));
    for (own, shape) in shapes {
        if own != rank && shape != [1, 1, 1] || shape[0] != whole[0] {
            return Err("an operand is repeated over channels".to_owned());
        }
    }
    Ok(())
}

/// How often a resize repeats rows and columns.
pub fn enlarged(graph: &Graph, data: &NodeData, op: &Resize) -> Option<[usize; 2]> {
    let (from, to) = (
        graph.ty(data.inputs[0]).sizes(),
        graph.ty(data.outputs[0]).sizes(),
    );
    if op.mode != ResizeMode::Nearest || from.len() != 4 || from[..2] != to[..2] {
        return None;
    }
    let mut times = [1, 1];
    for d in 2..4 {
        let k = to[d] / from[d];
        let scale = f64::from(op.scales[d]);
        let nearest = |i: usize| {
            let i = i as f64;
            let x = match op.coordinates {
                CoordinateMode::HalfPixel => (i + 0.5) / scale - 0.5,
                CoordinateMode::PytorchHalfPixel if to[d] == 1 => 0.0,
                CoordinateMode::PytorchHalfPixel => (i + 0.5) / scale - 0.5,
                CoordinateMode::AlignCorners => i * (from[d] as f64 - 1.0) / (to[d] as f64 - 1.0).max(1.0),
                CoordinateMode::Asymmetric => i / scale,
            };
            match op.nearest {
                NearestMode::RoundPreferFloor => (x - 0.5).ceil(),
                NearestMode::RoundPreferCeil => (x + 0.5).floor(),
                NearestMode::Floor => x.floor(),
                NearestMode::Ceil => x.ceil(),
            }
            .clamp(0.0, from[d] as f64 - 1.0) as usize
        };
        if k == 0
            || k > 15
            || to[d] != k * from[d]
            || scale != k as f64
            || (0..to[d]).any(|i| nearest(i) != i / k)
        {
            return None;
        }
        times[d - 2] = k;
    }
    Some(times)
}
