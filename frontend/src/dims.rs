//! Shapes of graph inputs: open dimensions are pinned by the caller, or symbols.

use crate::error::{Code, Fault};
use crate::proto::{Dimension, DimensionValue};
use sdc_ir::graph::{Dim, Graph, Shape};
use std::collections::BTreeMap;

/// Symbolic dimensions met so far, and their values.
pub(crate) struct Dims<'a> {
    pins: &'a BTreeMap<String, usize>,
    /// Name to the places it occurs at, as `input[0]`.
    met: BTreeMap<String, Vec<String>>,
}

impl<'a> Dims<'a> {
    pub fn new(pins: &'a BTreeMap<String, usize>) -> Self {
        Self {
            pins,
            met: BTreeMap::new(),
        }
    }

    /// The shape of an input: open dimensions that are not pinned become symbols. Dimensions without name or with a
    /// negative value (which some exporters write for "unknown") are called `INPUT.K`.
    pub fn shape(&mut self, input: &str, dims: &[Dimension]) -> Shape {
        let dims = dims.iter().enumerate();
        dims.map(|(k, dim)| {
            let name = match &dim.value {
                Some(DimensionValue::DimValue(v)) if *v >= 0 => return Dim::Constant(*v as usize),
                Some(DimensionValue::DimParam(p)) if !p.is_empty() => p.clone(),
                _ => format!("{input}.{k}"),
            };
            let places = self.met.entry(name.clone()).or_default();
            places.push(format!("{input}[{k}]"));
            match self.pins.get(&name) {
                Some(&size) => Dim::Constant(size),
                None => Dim::Symbol(name),
            }
        })
        .collect()
    }

    /// All that stands in the way of constant sizes: inputs of a graph with symbols left, and pins that no dimension takes.
    pub fn faults(&self, graph: &Graph) -> Vec<Fault> {
        let mut faults = Vec::from_iter(open(graph));
        let known: Vec<String> = self.met.iter().map(place_text).collect();
        let known = if known.is_empty() {
            "the model has no symbolic dimension".to_owned()
        } else {
            format!("the model has {}", known.join(", "))
        };
        for (name, &value) in self.pins {
            if !self.met.contains_key(name) {
                let text = format!("--dim {name}={value}: no such dimension");
                faults.push(Fault::new(Code::BadPin, text).help(known.clone()));
            } else if value == 0 {
                let text = format!("--dim {name}=0: a dimension must be positive");
                faults.push(Fault::new(Code::BadPin, text));
            }
        }
        faults
    }
}

/// A name and where it occurs: `N` (x[0], y[0]).
fn place_text((name, places): (&String, &Vec<String>)) -> String {
    format!("`{name}` ({})", places.join(", "))
}

/// The dimensions of a graph's inputs that are symbols, which nothing after import works with.
fn open(graph: &Graph) -> Option<Fault> {
    let mut open: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for port in &graph.inputs {
        for (d, symbol) in graph.ty(port.value).shape.symbols() {
            let places = open.entry(symbol.to_owned()).or_default();
            places.push(format!("{}[{d}]", port.name));
        }
    }
    if open.is_empty() {
        return None;
    }
    let places: Vec<String> = open.iter().map(place_text).collect();
    let pins: Vec<String> = open.keys().map(|name| format!("--dim {name}=N")).collect();
    let text = format!("symbolic dimensions have no value: {}", places.join(", "));
    Some(Fault::new(Code::UnpinnedDim, text).help(format!("give them with {}", pins.join(" "))))
}
