//! The edits themselves.

use super::constant::{self, Names};
use super::net::is_op;
use super::prune::{count_reads, drop_unread, living};
use super::site::Site;
use super::{Edit, ExportError, PAYLOAD_PREFIX, Weight};
use crate::proto::{GraphProto, ModelProto, NodeProto, StringStringEntryProto};
use crate::tensor::to_proto;
use sdc_ir::sd::SdError;
use std::collections::{BTreeMap, BTreeSet};

/// Ending of a weight's name after its dequantisation.
const RESULT: &str = "/dequantised";
/// Ending of the name of a weight put together from its directions.
const BOTH: &str = "/both";

/// Nodes that come before and after a node of the model.
#[derive(Default)]
struct Around {
    before: Vec<NodeProto>,
    after: Vec<NodeProto>,
}

/// The graph with the weights exchanged.
pub(super) fn write(graph: GraphProto, edits: Vec<Edit>, opset: i64) -> Result<GraphProto, ExportError> {
    let mut graph = graph;
    let reads_before = count_reads(&graph);
    let bases: Vec<String> = edits.iter().map(|e| base_name(&graph, e)).collect();
    let mut stay: BTreeSet<usize> = (0..graph.node.len()).collect();
    let mut sums = Vec::new();
    for edit in &edits {
        // Renamed for good below: nothing reads the old operands here any more.
        sums.push(rewire(&mut graph, edit, &mut stay));
    }
    let outputs = graph.output.iter().filter_map(|o| o.name.clone()).collect();
    let stay = living(&graph.node, stay, &reads_before, &outputs);
    let mut kept: Vec<(usize, NodeProto)> = Vec::new();
    for (i, node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
        if stay.contains(&i) {
            kept.push((i, node));
        }
    }
    let (positions, nodes): (Vec<usize>, Vec<NodeProto>) = kept.into_iter().unzip();
    graph.node = nodes;
    drop_unread(&mut graph, &reads_before);

    let mut names = Fresh::of(&graph);
    let mut around: BTreeMap<usize, Around> = BTreeMap::new();
    // Layers of the same weight share it.
    let mut written: Vec<(String, Vec<u8>, String)> = Vec::new();
    // Results by direction, of recurrent nodes with several.
    let mut directions: BTreeMap<(usize, usize), BTreeMap<usize, String>> = BTreeMap::new();
    for ((edit, base), sum) in edits.iter().zip(bases).zip(sums) {
        let packed = |error: SdError| ExportError::Packed {
            origins: edit.origins.clone(),
            error: Box::new(error),
        };
        let position = positions.binary_search(&edit.site.node).ok();
        let Some(node) = position.and_then(|p| graph.node.get_mut(p)) else {
            return Err(ExportError::Site {
                origins: edit.origins.clone(),
                reason: "nothing reads its result".into(),
            });
        };
        let place = around.entry(edit.site.node).or_default();
        let weight = match &edit.weight {
            Weight::Float(tensor) => {
                let name = names.take(&base);
                graph.initializer.push(to_proto(&name, tensor));
                name
            }
            Weight::Stored(stored) => {
                let payload = stored.pack().map_err(packed)?;
                let shared = written.iter().find(|(b, p, _)| *b == base && *p == payload);
                if let Some((_, _, result)) = shared {
                    result.clone()
                } else {
                    let weight = names.take(&base);
                    let result = names.take(&format!("{weight}{RESULT}"));
                    let (int8, scales) = stored.rebuild().map_err(packed)?;
                    let own = Names {
                        weight: &weight,
                        result: &result,
                    };
                    let parts = constant::constant(&own, stored.geometry(), &int8, &scales, opset);
                    graph.initializer.extend(parts.initializers);
                    let name = format!("{PAYLOAD_PREFIX}{weight}");
                    graph.initializer.push(constant::bytes(&name, payload.clone()));
                    place.before.extend(parts.nodes);
                    written.push((base.clone(), payload, result.clone()));
                    result
                }
            }
        };
        let Site {
            operand,
            direction: (direction, all),
            ..
        } = edit.site;
        if all == 1 {
            node.input[operand] = weight;
        } else {
            let parts = directions.entry((edit.site.node, operand)).or_default();
            parts.insert(direction, weight);
            if parts.len() == all {
                let both = names.take(&format!("{base}{BOTH}"));
                let parts: Vec<&str> = parts.values().map(String::as_str).collect();
                place.before.push(constant::concat(&parts, &both));
                node.input[operand] = both;
            }
        }
        if let Some(bias) = &edit.bias {
            let bias_name = names.take(&sum.bias);
            graph
                .initializer
                .push(constant::floats(&bias_name, vec![bias.len()], bias.clone()));
            match sum.add {
                None => {
                    node.input.resize(node.input.len().max(3), String::new());
                    node.input[2] = bias_name;
                }
                Some(name) => {
                    let product = names.take(&format!("{}/product", node.output[0]));
                    let output = std::mem::replace(&mut node.output[0], product.clone());
                    let mut add = constant::node("Add", &[&product, &bias_name], &output);
                    add.name = Some(name.unwrap_or_else(|| names.take(&format!("{output}/bias"))));
                    place.after.push(add);
                }
            }
        }
    }
    for edit in &edits {
        let site = &edit.site;
        let parts = directions.get(&(site.node, site.operand));
        if parts.is_some_and(|parts| parts.len() < site.direction.1) {
            return Err(ExportError::Site {
                origins: edit.origins.clone(),
                reason: "its other direction cannot be exchanged".into(),
            });
        }
    }
    let mut all = Vec::with_capacity(graph.node.len() + edits.len());
    for (i, node) in positions.into_iter().zip(std::mem::take(&mut graph.node)) {
        let Around { before, after } = around.remove(&i).unwrap_or_default();
        all.extend(before);
        all.push(node);
        all.extend(after);
    }
    graph.node = all;
    Ok(graph)
}

/// The weight's name in the model, whatever an earlier export put around it.
fn base_name(graph: &GraphProto, edit: &Edit) -> String {
    let name = &graph.node[edit.site.node].input[edit.site.operand];
    name.strip_suffix(RESULT).unwrap_or(name).to_owned()
}

/// How the bias of a layer is to be written.
struct Sum {
    /// Name wanted for the bias.
    bias: String,
    /// The operator takes no bias: an Add of this name (if one was there) follows it.
    add: Option<Option<String>>,
}

/// Takes the folded nodes out, and cuts the operands that will be exchanged.
fn rewire(graph: &mut GraphProto, edit: &Edit, stay: &mut BTreeSet<usize>) -> Sum {
    let (at, folded) = (edit.site.node, &edit.site.folded);
    let of_add = folded.iter().find(|&&i| is_op(&graph.node[i], "Add"));
    let add_name = of_add
        .and_then(|&i| graph.node[i].name.clone())
        .filter(|n| !n.is_empty());
    if let Some(&last) = folded.last() {
        graph.node[at].output[0] = graph.node[last].output[0].clone();
        stay.retain(|i| !folded.contains(i));
    }
    let takes_bias = !is_op(&graph.node[at], "MatMul");
    let node = &mut graph.node[at];
    node.input[edit.site.operand].clear();
    let is_gemm = is_op(node, "Gemm");
    if is_gemm {
        // It is in the weights now.
        node.attribute.retain(|a| a.name.as_deref() != Some("alpha"));
    }
    let old_bias = node.input.get(2).filter(|n| !n.is_empty()).cloned();
    if edit.bias.is_some() {
        if is_gemm {
            node.attribute.retain(|a| a.name.as_deref() != Some("beta"));
        }
        if let Some(operand) = node.input.get_mut(2) {
            operand.clear();
        }
    }
    let bias = old_bias.unwrap_or_else(|| format!("{}/bias", node.output[0]));
    Sum {
        bias,
        add: (!takes_bias).then_some(add_name),
    }
}

/// Names that nothing bears yet.
struct Fresh(BTreeSet<String>);

impl Fresh {
    fn of(graph: &GraphProto) -> Self {
        let mut taken: BTreeSet<String> = graph.input.iter().filter_map(|i| i.name.clone()).collect();
        taken.extend(graph.initializer.iter().filter_map(|t| t.name.clone()));
        for tensor in &graph.sparse_initializer {
            taken.extend(tensor.values.as_ref().and_then(|v| v.name.clone()));
        }
        for node in &graph.node {
            taken.extend(node.output.iter().cloned());
            taken.extend(node.name.clone());
            crate::order::reads(node, &mut |name| {
                taken.insert(name.to_owned());
            });
            for attribute in &node.attribute {
                let inner = attribute.g.as_deref().into_iter().chain(&attribute.graphs);
                // Names inside subgraphs must not be shadowed either.
                taken.extend(inner.flat_map(|g| Fresh::of(g).0));
            }
        }
        Self(taken)
    }

    /// The name, or the name with a number behind it. The names of a constant's parts, made from it, are then free too.
    fn take(&mut self, wanted: &str) -> String {
        let is_free = |name: &String| {
            let mut parts = constant::PARTS.iter().map(|part| format!("{name}{part}"));
            let payload = format!("{PAYLOAD_PREFIX}{name}");
            ![name, &payload].iter().any(|n| self.0.contains(*n)) && !parts.any(|n| self.0.contains(&n))
        };
        let mut name = wanted.to_owned();
        let mut count = 1;
        while !is_free(&name) {
            count += 1;
            name = format!("{wanted}.{count}");
        }
        self.0
            .extend(constant::PARTS.iter().map(|part| format!("{name}{part}")));
        self.0.insert(name.clone());
        name
    }
}

/// Sets a property of the model.
pub(super) fn set_metadata(model: &mut ModelProto, key: &str, value: &str) {
    let value = Some(value.to_owned());
    let found = model
        .metadata_props
        .iter_mut()
        .find(|e| e.key.as_deref() == Some(key));
    match found {
        Some(entry) => entry.value = value,
        None => model.metadata_props.push(StringStringEntryProto {
            key: Some(key.to_owned()),
            value,
        }),
    }
}
