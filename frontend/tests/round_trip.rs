//! Models and tensors survive being written and read again.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says why it was skipped"
)]

mod common;

use bytes::Bytes;
use common::*;
use proptest::prelude::*;
use prost::Message;
use sdc_frontend::proto::*;
use sdc_frontend::{decode, read_tensor_pb, write_tensor_pb};
use sdc_ir::{DType, Tensor};

#[test]
fn models_decode_to_what_was_encoded() {
    let mut weight = sdc_frontend::tensor::to_proto("w", &f32s(&[3], &[1.0, 2.0, 3.0]));
    weight.doc_string = Some("notes".into());
    let mut inner = graph(
        vec![node("Relu", "x", "r", vec![("axes", A::Ints(&[1, -2]))])],
        vec![],
        vec![],
        "r",
    );
    inner.sparse_initializer.push(SparseTensorProto {
        values: Some(weight.clone()),
        indices: None,
        dims: vec![9],
    });
    inner.initializer.push(weight);
    let mut m = model(
        13,
        graph(
            vec![node("If", "c", "y", vec![("then_branch", A::Graph(inner))])],
            vec![],
            vec![],
            "y",
        ),
    );
    m.metadata_props.push(StringStringEntryProto {
        key: Some("k".into()),
        value: Some(String::new()),
    });
    m.training_info.push(TrainingInfoProto::default());
    m.functions.push(FunctionProto {
        name: Some("f".into()),
        overload: Some("o".into()),
        ..Default::default()
    });
    let bytes = Bytes::from(m.encode_to_vec());
    let back = decode(bytes.clone()).unwrap();
    assert_eq!(back, m);
    assert_eq!(back.encode_to_vec(), bytes);
}

#[test]
fn real_models_encode_to_the_bytes_they_came_from() {
    let dir = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/models"));
    if !dir.is_dir() {
        println!("skipped: no {}", dir.display());
        return;
    }
    for model in [
        "mlperftiny_ic_resnet8",
        "ultraface_rfb320",
        "tract_byte_sb_bidi_lstm",
        "basic_pitch",
    ] {
        let bytes = std::fs::read(dir.join(model).join("model.onnx")).unwrap();
        let decoded = decode(Bytes::from(bytes.clone())).unwrap();
        let again = decoded.encode_to_vec();
        // Exporters may order fields differently; the content and its length may not change.
        assert_eq!(again.len(), bytes.len(), "{model}");
        assert_eq!(decode(again.into()).unwrap(), decoded, "{model}");
    }
}

#[test]
fn large_data_is_shared_not_copied() {
    let bytes = Bytes::from(write_tensor_pb("w", &f32s(&[1024], &[1.0; 1024])));
    let (_, tensor) = read_tensor_pb(bytes.clone()).unwrap();
    let range = bytes.as_ptr_range();
    assert!(range.contains(&tensor.bytes().as_ptr()));
}

#[test]
fn typed_lists_read_as_raw_data_does() {
    let read = |pb: TensorProto| read_tensor_pb(pb.encode_to_vec().into()).unwrap().1;
    let pb = |data_type| TensorProto {
        dims: vec![2],
        data_type: Some(data_type),
        ..Default::default()
    };
    let ints = |data_type, int32_data| {
        read(TensorProto {
            int32_data,
            ..pb(data_type)
        })
    };
    assert_eq!(
        ints(data_type::INT8, vec![-1, 127]).to_i64_vec(),
        Some(vec![-1, 127])
    );
    assert_eq!(
        ints(data_type::UINT8, vec![255, 1]).to_i64_vec(),
        Some(vec![255, 1])
    );
    assert_eq!(
        ints(data_type::INT16, vec![-300, 300]).to_i64_vec(),
        Some(vec![-300, 300])
    );
    assert_eq!(ints(data_type::BOOL, vec![1, 0]).dtype(), DType::Bool);
    assert_eq!(
        ints(data_type::FLOAT16, vec![0x3c00, 0xc000]).to_f64_vec(),
        [1.0, -2.0]
    );
    assert_eq!(
        ints(data_type::BFLOAT16, vec![0x3f80, 0xc000]).to_f64_vec(),
        [1.0, -2.0]
    );
    let unsigned = TensorProto {
        uint64_data: vec![7, u64::from(u32::MAX)],
        ..pb(data_type::UINT32)
    };
    assert_eq!(read(unsigned).to_i64_vec(), Some(vec![7, i64::from(u32::MAX)]));
    let doubles = TensorProto {
        double_data: vec![0.5, 2.0],
        ..pb(data_type::DOUBLE)
    };
    assert_eq!(read(doubles).to_f64_vec(), [0.5, 2.0]);
    let out_of_range = TensorProto {
        int32_data: vec![256, 0],
        ..pb(data_type::UINT8)
    };
    assert!(read_tensor_pb(out_of_range.encode_to_vec().into()).is_err());
}

proptest! {
    #[test]
    fn tensors(dtype in prop::sample::select(DType::ALL.to_vec()), shape in prop::collection::vec(0usize..5, 0..4), seed: u8) {
        let n: usize = shape.iter().product::<usize>() * dtype.size();
        let byte = |i: usize| if dtype == DType::Bool { (i % 2) as u8 } else { seed.wrapping_mul(31).wrapping_add(i as u8) };
        let tensor = Tensor::new(dtype, shape, (0..n).map(byte).collect::<Vec<u8>>().into()).unwrap();
        let (name, back) = read_tensor_pb(write_tensor_pb("t", &tensor).into()).unwrap();
        prop_assert_eq!(name, "t");
        prop_assert_eq!(back, tensor);
    }
}
