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

    /// The shape of an input: open dimensions that are not pinned, by their name or as `INPUT.K`, become symbols.
    pub fn shape(&mut self, input: &str, dims: &[Dimension]) -> Shape {
        let dims = dims.iter().enumerate();
        dims.map(|(k, dim)| {
            let Some(name) = symbol(input, k, dim) else {
                let size = match dim.value {
                    Some(DimensionValue::DimValue(v)) => usize::try_from(v).unwrap_or(0),
                    _ => 0,
                };
                return Dim::Constant(size);
            };
            let places = self.met.entry(name.clone()).or_default();
            places.push(format!("{input}[{k}]"));
            let position = format!("{input}.{k}");
            let own = self.pins.get(&position);
            if own.is_some() {
                self.met.entry(position).or_default();
            }
            match own.or(self.pins.get(&name)) {
                Some(&size) => Dim::Constant(size),
                None => Dim::Symbol(name),
            }
        })
        .collect()
    }

    /// All that stands in the way of constant sizes: inputs of a graph with symbols left, and pins that no dimension takes.
    pub fn faults(&self, graph: &Graph) -> Vec<Fault> {
        let mut faults = Vec::from_iter(open(graph));
        let named = self.met.iter().filter(|(_, places)| !places.is_empty());
        let known: Vec<String> = named.map(place_text).collect();
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

/// The name by which dimension `k` of an input can be given a size: its own, or `INPUT.K` if it has none that means anything (some
/// exporters write `?` or a negative number for "unknown"). `None` if the model states its size.
pub fn symbol(input: &str, k: usize, dim: &Dimension) -> Option<String> {
    match &dim.value {
        Some(DimensionValue::DimValue(v)) if *v >= 0 => None,
        Some(DimensionValue::DimParam(name)) if name.chars().any(char::is_alphanumeric) => Some(name.clone()),
        _ => Some(format!("{input}.{k}")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_means_nothing_is_the_place() {
        let named = |value| {
            symbol(
                "x",
                2,
                &Dimension {
                    value,
                    ..Dimension::default()
                },
            )
        };
        let param = |name: &str| Some(DimensionValue::DimParam(name.to_owned()));
        assert_eq!(named(param("batch")).as_deref(), Some("batch"));
        for nothing in [param("?"), param(""), Some(DimensionValue::DimValue(-1)), None] {
            assert_eq!(named(nothing).as_deref(), Some("x.2"));
        }
        assert_eq!(named(Some(DimensionValue::DimValue(7))), None);
    }

    #[test]
    fn a_dimension_is_given_by_its_place_too() {
        let pins = BTreeMap::from([("y.0".to_owned(), 3), ("n".to_owned(), 5)]);
        let mut dims = Dims::new(&pins);
        let n = Dimension {
            value: Some(DimensionValue::DimParam("n".to_owned())),
            ..Dimension::default()
        };
        assert_eq!(
            dims.shape("x", std::slice::from_ref(&n)).constant(),
            Some(&[5][..])
        );
        assert_eq!(
            dims.shape("y", std::slice::from_ref(&n)).constant(),
            Some(&[3][..])
        );
        assert!(dims.faults(&Graph::default()).is_empty());
    }
}
