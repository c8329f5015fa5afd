//! Printing graphs.

use super::quote::{Quoted, WordOrQuoted};
use super::{VERSION, weights};
use crate::graph::{Attr, Graph, NodeData, Origin};
use std::fmt::{self, Display, Formatter};

impl Display for Graph {
    /// The graph's text form, one node per line, values in order of definition; see `docs/ir.md`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "sdir {VERSION} graph")?;
        block(self, f)?;
        weights::print(&self.weights, f)
    }
}

/// The `graph` block.
pub(super) fn block(graph: &Graph, f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(f, "graph {} {{", Quoted(&graph.name))?;
    let mut inputs = graph.inputs.iter().peekable();
    for node in graph.nodes().values() {
        // Inputs may be added between nodes; they keep their place, and so their numbers.
        let last = node.inputs.iter().chain(&node.outputs).max();
        while let Some(port) = inputs.next_if(|p| Some(&p.value) <= last) {
            input(graph, port, f)?;
        }
        self::node(graph, node, f)?;
    }
    inputs.try_for_each(|port| input(graph, port, f))?;
    for port in &graph.outputs {
        writeln!(f, "  output {} = {}", Quoted(&port.name), port.value)?;
    }
    writeln!(f, "}}")
}

fn input(graph: &Graph, port: &crate::graph::Port, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "  {} = input {} : ", port.value, Quoted(&port.name))?;
    ty(graph, port.value, f)?;
    writeln!(f)
}

fn node(graph: &Graph, node: &NodeData, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str("  ")?;
    separated(&node.outputs, f, |v, f| v.fmt(f))?;
    write!(f, " = {}", node.op.name())?;
    if !node.inputs.is_empty() {
        f.write_str("(")?;
        separated(&node.inputs, f, |v, f| v.fmt(f))?;
        f.write_str(")")?;
    }
    let attrs = node.op.attrs();
    if !attrs.is_empty() {
        f.write_str(" {")?;
        separated(&attrs, f, |(name, value), f| {
            write!(f, "{name}=")?;
            attr(value, f)
        })?;
        f.write_str("}")?;
    }
    if !node.outputs.is_empty() {
        f.write_str(" : ")?;
        separated(&node.outputs, f, |&v, f| ty(graph, v, f))?;
    }
    origins(&node.origins, f)?;
    writeln!(f)
}

/// A value's type; `?` if the value does not exist, since printing broken graphs is how they are debugged.
fn ty(graph: &Graph, value: crate::graph::Value, f: &mut Formatter<'_>) -> fmt::Result {
    match graph.values().get(value) {
        Some(data) => data.ty.fmt(f),
        None => f.write_str("?"),
    }
}

fn attr(attr: &Attr, f: &mut Formatter<'_>) -> fmt::Result {
    match attr {
        Attr::Int(i) => i.fmt(f),
        Attr::Ints(list) => {
            f.write_str("[")?;
            joined(list, ",", f, |i, f| i.fmt(f))?;
            f.write_str("]")
        }
        Attr::Float(x) => float(*x, f),
        Attr::Floats(list) => {
            f.write_str("[")?;
            joined(list, ",", f, |x, f| float(*x, f))?;
            f.write_str("]")
        }
        Attr::Word(word) => f.write_str(word),
        Attr::Call(word, args) => {
            write!(f, "{word}(")?;
            joined(args, ",", f, |x, f| float(*x, f))?;
            f.write_str(")")
        }
        Attr::Weight(w) => w.fmt(f),
    }
}

/// The shortest decimal that reads back as the same float, never mistakable for an integer.
fn float(x: f32, f: &mut Formatter<'_>) -> fmt::Result {
    if x.is_nan() {
        return f.write_str("nan");
    }
    write!(f, "{x:?}")
}

/// ` from "conv1" Conv #0, "relu1" Relu #1`, or nothing.
pub(super) fn origins(origins: &[Origin], f: &mut Formatter<'_>) -> fmt::Result {
    if origins.is_empty() {
        return Ok(());
    }
    f.write_str(" from ")?;
    separated(origins, f, |o, f| {
        write!(f, "{} {} #{}", Quoted(&o.name), WordOrQuoted(&o.op), o.index)
    })
}

/// Items with `, ` between them.
pub(super) fn separated<T>(
    items: &[T],
    f: &mut Formatter<'_>,
    item: impl FnMut(&T, &mut Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    joined(items, ", ", f, item)
}

fn joined<T>(
    items: &[T],
    separator: &str,
    f: &mut Formatter<'_>,
    mut item: impl FnMut(&T, &mut Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    for (i, x) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(separator)?;
        }
        item(x, f)?;
    }
    Ok(())
}
