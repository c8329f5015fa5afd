//! Removing what nothing reads any more, and only that: what was unused before stays.

use super::PAYLOAD_PREFIX;
use crate::order::reads;
use crate::proto::{GraphProto, NodeProto};
use std::collections::{BTreeMap, BTreeSet};

/// How often each name is read, by nodes and as a result.
pub(super) fn count_reads(graph: &GraphProto) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for node in &graph.node {
        reads(node, &mut |name| *counts.entry(name.to_owned()).or_default() += 1);
    }
    for output in graph.output.iter().filter_map(|o| o.name.as_deref()) {
        *counts.entry(output.to_owned()).or_default() += 1;
    }
    counts
}

/// Positions of the nodes that stay: those given, but for the ones that were read `before` and are not any more.
pub(super) fn living(
    nodes: &[NodeProto],
    given: BTreeSet<usize>,
    before: &BTreeMap<String, usize>,
    outputs: &BTreeSet<String>,
) -> BTreeSet<usize> {
    let mut now: BTreeMap<&str, usize> = outputs.iter().map(|o| (o.as_str(), 1)).collect();
    for &i in &given {
        reads(&nodes[i], &mut |name| *now.entry(name).or_default() += 1);
    }
    let mut producer = BTreeMap::new();
    for &i in &given {
        producer.extend(nodes[i].output.iter().map(|name| (name.as_str(), i)));
    }
    let was_read = |i: usize| nodes[i].output.iter().any(|name| before.contains_key(name));
    let is_read = |i: usize, now: &BTreeMap<&str, usize>| {
        let count = |name: &String| now.get(name.as_str()).copied().unwrap_or(0);
        nodes[i].output.iter().any(|name| count(name) > 0)
    };
    let mut living = given.clone();
    let mut pending: Vec<usize> = given.into_iter().filter(|&i| was_read(i)).collect();
    while let Some(i) = pending.pop() {
        if is_read(i, &now) || !living.remove(&i) {
            continue;
        }
        reads(&nodes[i], &mut |name| {
            if let Some(count) = now.get_mut(name) {
                *count -= 1;
            }
            pending.extend(producer.get(name).copied());
        });
    }
    living
}

/// Drops initialisers that were read `before` and are not any more, their payloads, and whatever declares or annotates names that no
/// longer exist.
pub(super) fn drop_unread(graph: &mut GraphProto, before: &BTreeMap<String, usize>) {
    let now = count_reads(graph);
    let gone: BTreeSet<String> = graph
        .initializer
        .iter()
        .filter_map(|t| t.name.clone())
        .chain(
            graph
                .sparse_initializer
                .iter()
                .filter_map(|t| t.values.as_ref()?.name.clone()),
        )
        .filter(|name| before.contains_key(name) && !now.contains_key(name))
        .collect();
    let is_gone = |name: &Option<String>| {
        let name = name.as_deref().unwrap_or("");
        gone.contains(name)
            || name
                .strip_prefix(PAYLOAD_PREFIX)
                .is_some_and(|weight| gone.contains(weight))
    };
    graph.initializer.retain(|t| !is_gone(&t.name));
    graph
        .sparse_initializer
        .retain(|t| t.values.as_ref().is_none_or(|v| !is_gone(&v.name)));
    graph.input.retain(|i| !is_gone(&i.name));

    let mut known: BTreeSet<&str> = graph.input.iter().filter_map(|i| i.name.as_deref()).collect();
    known.extend(graph.initializer.iter().filter_map(|t| t.name.as_deref()));
    known.extend(graph.node.iter().flat_map(|n| &n.output).map(String::as_str));
    let exists = |name: &Option<String>| name.as_deref().is_some_and(|name| known.contains(name));
    graph.value_info.retain(|v| exists(&v.name));
    graph.quantization_annotation.retain(|a| exists(&a.tensor_name));
}
