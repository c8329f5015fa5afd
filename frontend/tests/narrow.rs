//! Element types of fewer than eight bits, and floats of eight: conversions held against every element of the type.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use sdc_frontend::proto::*;
use sdc_frontend::{Code, ImportErrors, read_tensor_pb};
use sdc_ir::{DType, Tensor};

fn typed(name: &str, onnx: i32, len: usize) -> ValueInfoProto {
    let mut info = info(name, DType::U8, &[len as i64]);
    if let Some(TypeValue::Tensor(t)) = info.r#type.as_mut().and_then(|t| t.value.as_mut()) {
        t.elem_type = Some(onnx);
    }
    info
}

/// The result of nodes on one input of an ONNX type.
fn run_typed(nodes: Vec<NodeProto>, onnx: i32, x: &Tensor) -> Result<Tensor, ImportErrors> {
    let g = graph(nodes, vec![typed("x", onnx, x.len())], vec![], "y");
    let imported = import(model(25, g))?;
    Ok(sdc_interp::run_graph(&imported.graph, std::slice::from_ref(x))
        .unwrap()
        .remove(0))
}

fn cast(from: &str, to: &str, onnx: i32, saturate: i64) -> NodeProto {
    let attributes = vec![("to", A::Int(onnx.into())), ("saturate", A::Int(saturate))];
    node("Cast", from, to, attributes)
}

/// The small floats, with the code of their largest value.
const FLOATS: [(i32, usize); 5] = [
    (data_type::FLOAT8E4M3FN, 0x7e),
    (data_type::FLOAT8E4M3FNUZ, 0x7f),
    (data_type::FLOAT8E5M2, 0x7b),
    (data_type::FLOAT8E5M2FNUZ, 0x7f),
    (data_type::FLOAT4E2M1, 0x7),
];

fn values(onnx: i32) -> Vec<f32> {
    let count = if onnx == data_type::FLOAT4E2M1 { 16 } else { 256 };
    let codes = Tensor::from_elements(vec![count], (0..count).map(|c| c as u8).collect()).unwrap();
    let wide = run_typed(vec![cast("x", "y", data_type::FLOAT, 1)], onnx, &codes).unwrap();
    wide.elements::<f32>().unwrap().into_owned()
}

fn codes(onnx: i32, saturate: i64, x: &[f32]) -> Vec<u8> {
    let y = run_typed(
        vec![cast("x", "y", onnx, saturate)],
        data_type::FLOAT,
        &f32s(&[x.len()], x),
    );
    y.unwrap().elements::<u8>().unwrap().into_owned()
}

#[test]
fn every_small_float_survives_a_round_trip() {
    for (onnx, _) in FLOATS {
        let values = values(onnx);
        for (code, back) in codes(onnx, 0, &values).into_iter().enumerate() {
            let value = values[code];
            assert!(
                back == code as u8 || value.is_nan() && values[back as usize].is_nan(),
                "{onnx}: {code} -> {value} -> {back}"
            );
        }
    }
}

/// Halves between neighbours, and just beside them: the nearest element, of two the one with an even code.
#[test]
fn conversion_to_small_floats_rounds_to_nearest_even() {
    for (onnx, max) in FLOATS {
        let values = values(onnx);
        for code in 0..max {
            let (low, high) = (values[code], values[code + 1]);
            let middle = (low + high) / 2.0;
            let even = code + code % 2;
            let x = [middle, middle.next_down(), middle.next_up(), -middle];
            let got = codes(onnx, 1, &x);
            assert_eq!(values[got[0] as usize], values[even], "{onnx}: {middle}");
            assert_eq!(
                (got[1] as usize, got[2] as usize),
                (code, code + 1),
                "{onnx}: {middle}"
            );
            assert_eq!(values[got[3] as usize], -values[even], "{onnx}: -{middle}");
        }
        let beyond = codes(onnx, 1, &[1e30, f32::INFINITY, -1e30]);
        assert_eq!(
            beyond.iter().map(|&c| values[c as usize]).collect::<Vec<_>>(),
            [values[max], values[max], -values[max]]
        );
        if onnx != data_type::FLOAT4E2M1 {
            let lost = values[codes(onnx, 0, &[1e30])[0] as usize];
            assert!(!lost.is_finite(), "{onnx}: {lost}");
            assert!(values[codes(onnx, 1, &[f32::NAN])[0] as usize].is_nan());
        }
    }
}

#[test]
fn scales_are_rounded_as_asked() {
    let x = f32s(&[6], &[1.0, 1.1, 1.5, 1.9, f32::from_bits(0x0040_0000), -1.0]);
    for (mode, wanted) in [
        ("up", [127, 128, 128, 128, 0, 255]),
        ("down", [127, 127, 127, 127, 0, 255]),
        ("nearest", [127, 127, 128, 128, 0, 255]),
    ] {
        let attributes = vec![
            ("to", A::Int(data_type::FLOAT8E8M0.into())),
            ("round_mode", A::Text(mode)),
        ];
        let y = run_typed(vec![node("Cast", "x", "y", attributes)], data_type::FLOAT, &x).unwrap();
        assert_eq!(y.elements::<u8>().unwrap()[..], wanted, "{mode}");
    }
}

#[test]
fn narrow_integers_wrap_in_casts_and_saturate_in_quantisation() {
    let x = f32s(&[5], &[-9.0, -8.0, 7.0, 8.0, 100.0]);
    let y = run_typed(vec![cast("x", "y", data_type::INT4, 1)], data_type::FLOAT, &x).unwrap();
    assert_eq!(y.elements::<i8>().unwrap()[..], [7, -8, 7, -8, 4]);
    let quantize = node(
        "QuantizeLinear",
        "x s",
        "y",
        vec![("output_dtype", A::Int(data_type::INT4.into()))],
    );
    let mut g = graph(
        vec![quantize],
        vec![typed("x", data_type::FLOAT, 5)],
        vec![("s", Tensor::scalar(1f32))],
        "y",
    );
    g.name = Some("q".into());
    let imported = import(model(21, g)).unwrap();
    let y = sdc_interp::run_graph(&imported.graph, &[x]).unwrap().remove(0);
    assert_eq!(y.elements::<i8>().unwrap()[..], [-8, -8, 7, 7, 7]);
}

/// Moved they may be, also as constants; anything else would compute with codes.
#[test]
fn narrow_elements_are_moved_and_nothing_else() {
    let x = Tensor::from_elements(vec![4], vec![0x38u8, 0x40, 0x7f, 0]).unwrap();
    let moved = vec![
        node("Concat", "x x", "c", vec![("axis", A::Int(0))]),
        node("Slice", "c from to", "s", vec![]),
        cast("s", "y", data_type::FLOAT, 1),
    ];
    let weights = vec![("from", i64s(&[3])), ("to", i64s(&[6]))];
    let g = graph(moved, vec![typed("x", data_type::FLOAT8E4M3FN, 4)], weights, "y");
    let imported = import(model(25, g)).unwrap();
    assert!(
        imported
            .remarks
            .iter()
            .any(|r| r.message.contains("FLOAT8E4M3FN")),
        "{:?}",
        imported.remarks
    );
    let y = sdc_interp::run_graph(&imported.graph, std::slice::from_ref(&x))
        .unwrap()
        .remove(0);
    assert_eq!(y.elements::<f32>().unwrap()[..], [0.0, 1.0, 2.0]);
    for op in ["Relu", "Neg", "Softmax", "Exp", "ReduceSum", "Erf"] {
        let errors = run_typed(vec![node(op, "x", "y", vec![])], data_type::FLOAT8E4M3FN, &x).unwrap_err();
        assert_eq!(errors.0[0].code, Code::ElementType, "{op}: {errors}");
    }
    for op in ["Add", "Mul", "Max", "Equal", "MatMul"] {
        let errors = run_typed(vec![node(op, "x x", "y", vec![])], data_type::INT4, &x).unwrap_err();
        assert_eq!(errors.0[0].code, Code::ElementType, "{op}: {errors}");
    }
}

#[test]
fn packed_tensors_are_read_and_must_fit() {
    let tensor = |bytes: Vec<u8>| {
        let t = TensorProto {
            data_type: Some(data_type::INT4),
            dims: vec![3],
            raw_data: Some(bytes.into()),
            ..Default::default()
        };
        read_tensor_pb(prost::Message::encode_to_vec(&t).into())
    };
    assert_eq!(
        tensor(vec![0x8f, 0x07]).unwrap().1.elements::<i8>().unwrap()[..],
        [-1, -8, 7]
    );
    assert_eq!(tensor(vec![0x8f]).unwrap_err().0[0].code, Code::BadTensor);
}
