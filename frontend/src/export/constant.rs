//! How a compressed weight looks in ONNX: an int8 tensor, its scales, and the nodes that multiply them.

use crate::proto::{AttributeProto, NodeProto, TensorProto, attribute_type, data_type};
use crate::tensor::to_proto;
use sdc_ir::Tensor;
use sdc_ir::sd::Geometry;

/// First operator set whose DequantizeLinear has an axis.
const PER_AXIS: i64 = 13;

/// What is appended to a weight's name for the other parts of its constant.
pub(super) const PARTS: [&str; 4] = [SCALE, FLAT, SHAPE, CAST];
const SCALE: &str = "/scale";
const FLAT: &str = "/flat";
const SHAPE: &str = "/shape";
const CAST: &str = "/cast";

/// Names the constant's parts may take.
pub(super) struct Names<'a> {
    /// The int8 tensor.
    pub weight: &'a str,
    /// The `f32` weight: the last node's result.
    pub result: &'a str,
}

/// Initialisers and nodes of a constant.
pub(super) struct Parts {
    pub initializers: Vec<TensorProto>,
    pub nodes: Vec<NodeProto>,
}

/// A weight as int8 and scales: `int8` in the geometry's shape, one scale per filter.
pub(super) fn constant(
    names: &Names<'_>,
    geometry: &Geometry,
    int8: &Tensor,
    scales: &[f32],
    opset: i64,
) -> Parts {
    let shape = &geometry.shape;
    let part = |part: &str| format!("{}{part}", names.weight);
    let scale = part(SCALE);
    let counted: Vec<usize> = geometry
        .filter_dims
        .iter()
        .copied()
        .filter(|&d| shape[d] != 1)
        .collect();
    let leading = geometry
        .filter_dims
        .iter()
        .copied()
        .eq(0..geometry.filter_dims.len());
    // Scaled along `axis` as a tensor of dimensions `stored`, then given its own shape.
    let dims = |shape: &[usize]| shape.iter().map(|&d| d as i64).collect::<Vec<i64>>();
    let reshaped = |stored: Vec<i64>, axis: usize| {
        let (flat, target) = (part(FLAT), part(SHAPE));
        let mut matrix = to_proto(names.weight, int8);
        matrix.dims = stored;
        Parts {
            initializers: vec![
                matrix,
                floats(&scale, vec![scales.len()], scales.to_vec()),
                integers(&target, dims(shape)),
            ],
            nodes: vec![
                dequantize([names.weight, &scale], &flat, axis),
                node("Reshape", &[&flat, &target], names.result),
            ],
        }
    };
    match counted.as_slice() {
        _ if opset < PER_AXIS => by_product(names, geometry, int8, scales),
        // A matrix goes through a Reshape to its own shape: from a MatMul or Gemm right behind DequantizeLinear, ONNX Runtime
        // makes a product that rounds its other operand to eight bits (MatMulNBits), and results were no longer ours.
        _ if shape.len() == 2 && geometry.filter_dims.len() == 1 => {
            reshaped(dims(shape), geometry.filter_dims[0])
        }
        &[axis] => Parts {
            initializers: vec![
                to_proto(names.weight, int8),
                floats(&scale, vec![scales.len()], scales.to_vec()),
            ],
            nodes: vec![dequantize([names.weight, &scale], names.result, axis)],
        },
        // One filter.
        [] => Parts {
            initializers: vec![
                to_proto(names.weight, int8),
                floats(&scale, Vec::new(), scales.to_vec()),
            ],
            nodes: vec![dequantize([names.weight, &scale], names.result, 0)],
        },
        _ if leading => reshaped(vec![geometry.filters() as i64, geometry.vector_len() as i64], 0),
        _ => by_product(names, geometry, int8, scales),
    }
}

/// Cast, then Mul by scales that broadcast over the filters.
fn by_product(names: &Names<'_>, geometry: &Geometry, int8: &Tensor, scales: &[f32]) -> Parts {
    let Geometry {
        shape, filter_dims, ..
    } = geometry;
    let part = |part: &str| format!("{}{part}", names.weight);
    let (scale, cast) = (part(SCALE), part(CAST));
    let broadcast: Vec<usize> = (0..shape.len())
        .map(|d| if filter_dims.contains(&d) { shape[d] } else { 1 })
        .collect();
    // A filter's number counts over `filter_dims` in their order, its place in the tensor over the dimensions in theirs.
    let places = Geometry {
        shape: broadcast.clone(),
        filter_dims: filter_dims.clone(),
        vector_dims: geometry.vector_dims.clone(),
    };
    let mut to_float = node("Cast", &[names.weight], &cast);
    to_float
        .attribute
        .push(int_attribute("to", data_type::FLOAT.into()));
    Parts {
        initializers: vec![
            to_proto(names.weight, int8),
            floats(&scale, broadcast, places.scatter(scales, 1)),
        ],
        nodes: vec![to_float, node("Mul", &[&cast, &scale], names.result)],
    }
}

fn dequantize(inputs: [&str; 2], output: &str, axis: usize) -> NodeProto {
    let mut dequantize = node("DequantizeLinear", &inputs, output);
    dequantize.attribute.push(int_attribute("axis", axis as i64));
    dequantize
}

/// Tensors one after another along the first dimension.
pub(super) fn concat(parts: &[&str], output: &str) -> NodeProto {
    let mut concat = node("Concat", parts, output);
    concat.attribute.push(int_attribute("axis", 0));
    concat
}

/// A node named after its result.
pub(super) fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        name: Some(output.to_owned()),
        op_type: Some(op.to_owned()),
        input: inputs.iter().map(|&s| s.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(attribute_type::INT),
        i: Some(value),
        ..AttributeProto::default()
    }
}

/// An initialiser of floats.
pub(super) fn floats(name: &str, shape: Vec<usize>, values: Vec<f32>) -> TensorProto {
    raw(
        name,
        data_type::FLOAT,
        shape,
        values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    )
}

fn integers(name: &str, values: Vec<i64>) -> TensorProto {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    raw(name, data_type::INT64, vec![values.len()], bytes)
}

/// An initialiser of bytes.
pub(super) fn bytes(name: &str, bytes: Vec<u8>) -> TensorProto {
    raw(name, data_type::UINT8, vec![bytes.len()], bytes)
}

fn raw(name: &str, ty: i32, shape: Vec<usize>, bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: shape.iter().map(|&d| d as i64).collect(),
        data_type: Some(ty),
        name: Some(name.to_owned()),
        raw_data: Some(bytes.into()),
        ..TensorProto::default()
    }
}
