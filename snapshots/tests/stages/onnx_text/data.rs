//! Tensor data: literals, and numbers made up from the tensor's name.

use bytes::Bytes;
use sdc_frontend::proto::{TensorProto, data_type};

/// Elements as they stand in the text, not yet of a type.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    Int(i64),
    Float(f32),
}

/// A tensor of the elements given, in the field that ONNX has for the type. Their count is not checked against the shape:
/// some inputs are malformed on purpose.
pub fn literal(elem_type: i32, dims: Vec<i64>, elements: &[Number]) -> Result<TensorProto, String> {
    let mut tensor = TensorProto {
        dims,
        data_type: Some(elem_type),
        ..TensorProto::default()
    };
    for &element in elements {
        match (elem_type, element) {
            (data_type::FLOAT, Number::Float(x)) => tensor.float_data.push(x),
            (data_type::FLOAT, Number::Int(x)) => tensor.float_data.push(x as f32),
            (data_type::INT64, Number::Int(x)) => tensor.int64_data.push(x),
            (data_type::INT32 | data_type::INT8 | data_type::UINT8 | data_type::BOOL, Number::Int(x)) => {
                tensor
                    .int32_data
                    .push(i32::try_from(x).map_err(|e| e.to_string())?);
            }
            (_, element) => {
                return Err(format!(
                    "no {element:?} in a tensor of {}",
                    data_type::name(elem_type)
                ));
            }
        }
    }
    Ok(tensor)
}

/// A float tensor of made-up numbers between `low` and `high`, in `raw_data`. They depend on the name and nothing else,
/// and are 64ths of the range, so that they are the same on every machine.
pub fn made_up(name: &str, dims: Vec<i64>, low: f32, high: f32) -> Result<TensorProto, String> {
    let count = dims
        .iter()
        .try_fold(1i64, |n, &d| n.checked_mul(d))
        .filter(|n| (0..1 << 20).contains(n));
    let count = count.ok_or_else(|| format!("`{name}` is too large for a snapshot"))?;
    // FNV-1a of the name starts a 64-bit linear congruential generator.
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut raw = Vec::new();
    for _ in 0..count {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let step = (state >> 58) as f32;
        raw.extend((low + (high - low) * step / 64.0).to_le_bytes());
    }
    Ok(TensorProto {
        dims,
        data_type: Some(data_type::FLOAT),
        raw_data: Some(Bytes::from(raw)),
        ..TensorProto::default()
    })
}
