//! A network under construction, as ONNX has it, with the type of every value.

use sdc_frontend::proto::*;
use std::collections::BTreeMap;

/// The operator set of the networks.
const OPSET: i64 = 20;

/// Type of a value, and what a generator must know of its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// ONNX's number of the element type.
    pub dtype: i32,
    pub shape: Vec<usize>,
    /// No number is larger, at least roughly.
    pub bound: f64,
    /// Computed without rounding, so that a comparison or a rounding has one right result.
    pub exact: bool,
}

impl Known {
    pub fn new(dtype: i32, shape: &[usize], bound: f64, exact: bool) -> Self {
        let shape = shape.to_vec();
        Self {
            dtype,
            shape,
            bound,
            exact,
        }
    }

    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Nodes in order; every value has a name of its own.
#[derive(Clone, Default)]
pub struct Net {
    pub inputs: Vec<String>,
    pub constants: Vec<TensorProto>,
    pub nodes: Vec<NodeProto>,
    pub outputs: Vec<String>,
    pub known: BTreeMap<String, Known>,
}

impl Net {
    /// The encodable model. Of several values with one name there is only one.
    pub fn model(&self) -> ModelProto {
        let info = |name: &String, typed: bool| {
            let known = &self.known[name];
            let dim = |&n: &usize| Dimension {
                value: Some(DimensionValue::DimValue(n as i64)),
                ..Default::default()
            };
            let shape = typed.then(|| TensorShapeProto {
                dim: known.shape.iter().map(dim).collect(),
            });
            ValueInfoProto {
                name: Some(name.clone()),
                r#type: Some(TypeProto {
                    value: Some(TypeValue::Tensor(TypeTensor {
                        elem_type: Some(known.dtype),
                        shape,
                    })),
                    ..Default::default()
                }),
                ..Default::default()
            }
        };
        let read = |name: &str| {
            let by_node = self.nodes.iter().any(|n| n.input.iter().any(|i| i == name));
            by_node || self.outputs.iter().any(|o| o == name)
        };
        let named = |t: &&TensorProto| t.name.as_deref().is_some_and(read);
        let mut names: Vec<&str> = self.nodes.iter().filter_map(|n| n.domain.as_deref()).collect();
        names.push("");
        names.sort_unstable();
        names.dedup();
        let domains = names.into_iter().map(|domain| OperatorSetIdProto {
            domain: Some(domain.to_owned()),
            version: Some(if domain.is_empty() { OPSET } else { 1 }),
        });
        ModelProto {
            ir_version: Some(9),
            opset_import: domains.collect(),
            graph: Some(GraphProto {
                name: Some("random".to_owned()),
                node: self.nodes.clone(),
                initializer: self.constants.iter().filter(named).cloned().collect(),
                input: self
                    .inputs
                    .iter()
                    .filter(|i| read(i))
                    .map(|i| info(i, true))
                    .collect(),
                output: self.outputs.iter().map(|o| info(o, false)).collect(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Drops the nodes that no output needs.
    pub fn prune(&mut self) {
        let mut needed = self.outputs.clone();
        let mut kept = Vec::new();
        for node in self.nodes.iter().rev() {
            if node.output.iter().any(|o| needed.contains(o)) {
                needed.extend(node.input.iter().cloned());
                kept.push(node.clone());
            }
        }
        kept.reverse();
        self.nodes = kept;
        self.inputs.retain(|i| needed.contains(i));
    }

    /// One line per node, for people.
    pub fn listing(&self) -> String {
        let typed = |name: &String| match self.known.get(name) {
            Some(k) => format!("{name}:{}{:?}", data_type::name(k.dtype).to_lowercase(), k.shape),
            None => name.clone(),
        };
        let list = |names: &[String]| names.iter().map(typed).collect::<Vec<_>>().join(", ");
        let mut lines = vec![format!("inputs {}", list(&self.inputs))];
        for node in &self.nodes {
            let attributes: Vec<String> = node.attribute.iter().map(attribute_text).collect();
            lines.push(format!(
                "{} = {} <{}> ({})",
                list(&node.output),
                node.op_type.as_deref().unwrap_or_default(),
                attributes.join(", "),
                list(&node.input)
            ));
        }
        lines.push(format!("outputs {}", list(&self.outputs)));
        lines.join("\n")
    }
}

fn attribute_text(a: &AttributeProto) -> String {
    let value = match a.r#type {
        Some(attribute_type::INT) => format!("{:?}", a.i.unwrap_or_default()),
        Some(attribute_type::FLOAT) => format!("{:?}", a.f.unwrap_or_default()),
        Some(attribute_type::STRING) => {
            String::from_utf8_lossy(a.s.as_deref().unwrap_or_default()).into_owned()
        }
        _ => format!("{:?}", a.ints),
    };
    format!("{} = {value}", a.name.as_deref().unwrap_or_default())
}

pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(attribute_type::INT),
        i: Some(i),
        ..Default::default()
    }
}

pub fn ints(name: &str, all: &[usize]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(attribute_type::INTS),
        ints: all.iter().map(|&i| i as i64).collect(),
        ..Default::default()
    }
}

pub fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(attribute_type::FLOAT),
        f: Some(f),
        ..Default::default()
    }
}

pub fn word(name: &str, s: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(attribute_type::STRING),
        s: Some(s.as_bytes().to_vec().into()),
        ..Default::default()
    }
}
