//! Small models for tests, built from the proto structs.
#![allow(dead_code, reason = "each test file uses a part of it")]

use sdc_frontend::proto::*;
use sdc_frontend::tensor::{onnx_type, to_proto};
use sdc_frontend::{ImportErrors, ImportOptions, Imported, import_model};
use sdc_ir::{DType, Tensor};

pub enum A<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Float(f32),
    Floats(&'a [f32]),
    Text(&'a str),
    Tensor(Tensor),
    Graph(GraphProto),
}

pub fn attribute(name: &str, value: A) -> AttributeProto {
    let mut a = AttributeProto {
        name: Some(name.to_owned()),
        ..Default::default()
    };
    a.r#type = Some(match value {
        A::Int(i) => {
            a.i = Some(i);
            attribute_type::INT
        }
        A::Ints(v) => {
            a.ints = v.to_vec();
            attribute_type::INTS
        }
        A::Float(f) => {
            a.f = Some(f);
            attribute_type::FLOAT
        }
        A::Floats(v) => {
            a.floats = v.to_vec();
            attribute_type::FLOATS
        }
        A::Text(s) => {
            a.s = Some(s.as_bytes().to_vec().into());
            attribute_type::STRING
        }
        A::Tensor(t) => {
            a.t = Some(Box::new(to_proto("", &t)));
            attribute_type::TENSOR
        }
        A::Graph(g) => {
            a.g = Some(Box::new(g));
            attribute_type::GRAPH
        }
    });
    a
}

/// A node; operands and results as words.
pub fn node(op: &str, inputs: &str, outputs: &str, attributes: Vec<(&str, A)>) -> NodeProto {
    let words = |s: &str| {
        s.split_whitespace()
            .map(|w| if w == "_" { "" } else { w }.to_owned())
            .collect()
    };
    NodeProto {
        op_type: Some(op.to_owned()),
        input: words(inputs),
        output: words(outputs),
        attribute: attributes.into_iter().map(|(n, v)| attribute(n, v)).collect(),
        ..Default::default()
    }
}

pub fn info(name: &str, dtype: DType, dims: &[i64]) -> ValueInfoProto {
    let value = |&d: &i64| match d {
        // Tests write -1 for a dimension `N` and -2 for one without name.
        -1 => Some(DimensionValue::DimParam("N".into())),
        -2 => None,
        _ => Some(DimensionValue::DimValue(d)),
    };
    let dim = dims.iter().map(|d| Dimension {
        value: value(d),
        denotation: None,
    });
    let tensor = TypeTensor {
        elem_type: Some(onnx_type(dtype)),
        shape: Some(TensorShapeProto { dim: dim.collect() }),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(TypeValue::Tensor(tensor)),
            denotation: None,
        }),
        ..Default::default()
    }
}

pub fn output(name: &str) -> ValueInfoProto {
    ValueInfoProto {
        name: Some(name.to_owned()),
        ..Default::default()
    }
}

pub fn graph(
    nodes: Vec<NodeProto>,
    inputs: Vec<ValueInfoProto>,
    weights: Vec<(&str, Tensor)>,
    outputs: &str,
) -> GraphProto {
    GraphProto {
        name: Some("test".into()),
        node: nodes,
        input: inputs,
        initializer: weights.iter().map(|(n, t)| to_proto(n, t)).collect(),
        output: outputs.split_whitespace().map(output).collect(),
        ..Default::default()
    }
}

pub fn model(opset: i64, graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto {
            domain: None,
            version: Some(opset),
        }],
        graph: Some(graph),
        ..Default::default()
    }
}

pub fn import(model: ModelProto) -> Result<Imported, ImportErrors> {
    import_model(model, &ImportOptions::default())
}

pub fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_elements(shape.to_vec(), values.to_vec()).unwrap()
}

pub fn i64s(values: &[i64]) -> Tensor {
    Tensor::from_elements(vec![values.len()], values.to_vec()).unwrap()
}

/// Runs one node on tensors given as graph inputs.
pub fn run(opset: i64, op: &str, attributes: Vec<(&str, A)>, inputs: &[Tensor]) -> Result<Tensor, String> {
    let names: Vec<String> = (0..inputs.len()).map(|i| format!("x{i}")).collect();
    let infos = names.iter().zip(inputs).map(|(n, t)| {
        let dims: Vec<i64> = t.shape().iter().map(|&d| d as i64).collect();
        info(n, t.dtype(), &dims)
    });
    let nodes = vec![node(op, &names.join(" "), "y", attributes)];
    let m = model(opset, graph(nodes, infos.collect(), vec![], "y"));
    let imported = import(m).map_err(|e| e.to_string())?;
    let outputs = sdc_interp::run_graph(&imported.graph, inputs).map_err(|e| e.to_string())?;
    Ok(outputs[0].clone())
}
