//! Shapes of graph inputs, with symbolic dimensions pinned by the caller.

use crate::error::{Code, Fault};
use crate::proto::{Dimension, DimensionValue};
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

    /// The shape of an input, or `None` if one of its dimensions has no value. Dimensions without name or with a
    /// negative value (which some exporters write for "unknown") are called `INPUT.K`.
    pub fn shape(&mut self, input: &str, dims: &[Dimension]) -> Option<Vec<usize>> {
        let mut shape = Some(Vec::with_capacity(dims.len()));
        for (k, dim) in dims.iter().enumerate() {
            let name = match &dim.value {
                Some(DimensionValue::DimValue(v)) if *v >= 0 => {
                    if let (Some(s), Ok(d)) = (&mut shape, usize::try_from(*v)) {
                        s.push(d);
                    }
                    continue;
                }
                Some(DimensionValue::DimParam(p)) if !p.is_empty() => p.clone(),
                _ => format!("{input}.{k}"),
            };
            match (self.pins.get(&name), &mut shape) {
                (Some(&d), Some(s)) => s.push(d),
                (Some(_), None) => {}
                (None, _) => shape = None,
            }
            self.met.entry(name).or_default().push(format!("{input}[{k}]"));
        }
        shape
    }

    /// Dimensions without a value, and pins that no dimension takes.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let place = |(name, places): (&String, &Vec<String>)| format!("`{name}` ({})", places.join(", "));
        let open: Vec<&String> = self.met.keys().filter(|n| !self.pins.contains_key(*n)).collect();
        if !open.is_empty() {
            let places: Vec<String> = open.iter().map(|n| place((n, &self.met[*n]))).collect();
            let pins: Vec<String> = open.iter().map(|n| format!("--dim {n}=N")).collect();
            let text = format!("symbolic dimensions have no value: {}", places.join(", "));
            faults
                .push(Fault::new(Code::UnpinnedDim, text).help(format!("give them with {}", pins.join(" "))));
        }
        let known: Vec<String> = self.met.iter().map(place).collect();
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
