//! `TensorProto` to [`Tensor`] and back.

use crate::error::{Code, Fault, ImportErrors};
use crate::narrow::Narrow;
use crate::options::ExternalData;
use crate::proto::{self, StringStringEntryProto, TensorProto, data_type};
use bytes::Bytes;
use prost::Message;
use sdc_ir::tensor::{Element, element_count};
use sdc_ir::{DType, Tensor};

/// Reads a serialised `TensorProto`, such as `input_0.pb` of a test data set: its name (empty if it has none) and data. Elements of
/// narrow types come one per byte: integers of fewer than eight bits as `i8` or `u8`, floats of at most eight as their codes.
///
/// # Errors
/// Not a tensor, an element type sdc does not have, data that does not fit the shape, or data in another file.
pub fn read_tensor_pb(bytes: Bytes) -> Result<(String, Tensor), ImportErrors> {
    let single = |fault: Fault| ImportErrors(vec![fault.at(None)]);
    let mut pb = TensorProto::decode(bytes)
        .map_err(|e| single(Fault::new(Code::Undecodable, format!("not a tensor file: {e}"))))?;
    let name = pb.name.take().unwrap_or_default();
    let (tensor, _) = to_carrier(pb, None).map_err(single)?;
    Ok((name, tensor))
}

/// A tensor as a serialised `TensorProto` with raw data.
pub fn write_tensor_pb(name: &str, tensor: &Tensor) -> Vec<u8> {
    to_proto(name, tensor).encode_to_vec()
}

/// A tensor as a `TensorProto` with raw data.
pub fn to_proto(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        data_type: Some(onnx_type(tensor.dtype())),
        name: Some(name.to_owned()),
        raw_data: Some(tensor.bytes().clone()),
        ..Default::default()
    }
}

/// ONNX's number of an element type.
pub fn onnx_type(dtype: DType) -> i32 {
    match dtype {
        DType::F64 => data_type::DOUBLE,
        DType::F32 => data_type::FLOAT,
        DType::F16 => data_type::FLOAT16,
        DType::BF16 => data_type::BFLOAT16,
        DType::I64 => data_type::INT64,
        DType::I32 => data_type::INT32,
        DType::I16 => data_type::INT16,
        DType::I8 => data_type::INT8,
        DType::U64 => data_type::UINT64,
        DType::U32 => data_type::UINT32,
        DType::U16 => data_type::UINT16,
        DType::U8 => data_type::UINT8,
        DType::Bool => data_type::BOOL,
    }
}

/// Element type with ONNX's number.
pub(crate) fn dtype_of(onnx: i32) -> Result<DType, Fault> {
    let found = DType::ALL.into_iter().find(|&d| onnx_type(d) == onnx);
    found.ok_or_else(|| {
        let name = data_type::name(onnx);
        Fault::new(Code::ElementType, format!("element type {name} is not supported"))
    })
}

/// Dimensions as sizes.
pub(crate) fn shape_of(dims: &[i64]) -> Result<Vec<usize>, Fault> {
    let shape: Option<Vec<usize>> = dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let bad = || Fault::new(Code::BadTensor, format!("a dimension of {dims:?} is negative"));
    let shape = shape.ok_or_else(bad)?;
    if sdc_ir::graph::infer::addressable(&sdc_ir::graph::TensorType::new(DType::F64, &shape[..])) {
        Ok(shape)
    } else {
        Err(Fault::new(
            Code::TooLarge,
            format!("a tensor of shape {dims:?} is too large"),
        ))
    }
}

/// The tensor of a message, of any element type; with its type if that is a narrow one, which the tensor then carries.
pub(crate) fn to_carrier(
    pb: TensorProto,
    external: Option<&dyn ExternalData>,
) -> Result<(Tensor, Option<Narrow>), Fault> {
    let Some(narrow) = Narrow::of(pb.data_type.unwrap_or(0)) else {
        return Ok((to_tensor(pb, external)?, None));
    };
    let shape = shape_of(&pb.dims)?;
    if pb.segment.is_some() {
        return Err(Fault::new(Code::Form, "tensors in segments are not supported"));
    }
    let bad = |text: String| Fault::new(Code::BadTensor, text);
    let count = element_count(&shape).ok_or_else(|| bad("a tensor is too large".to_owned()))?;
    let bytes = count.div_ceil((8 / narrow.bits()) as usize);
    let packed = if pb.data_location == Some(proto::LOCATION_EXTERNAL) {
        external_bytes(&pb.external_data, Some(bytes), external)?
    } else if let Some(raw) = pb.raw_data {
        raw
    } else {
        let all: Result<Vec<u8>, _> = pb.int32_data.iter().map(|&x| u8::try_from(x)).collect();
        all.map_err(|_| bad("an element of packed data is not a byte".to_owned()))?
            .into()
    };
    let unpacked = narrow.unpack(&packed, count).ok_or_else(|| {
        let name = narrow.name();
        bad(format!(
            "a {name} tensor of shape {shape:?} needs {bytes} bytes, got {}",
            packed.len()
        ))
    })?;
    let tensor = Tensor::new(narrow.carrier(), shape, unpacked.into());
    Ok((tensor.map_err(|e| bad(e.to_string()))?, Some(narrow)))
}

/// The tensor of a message. The shape is held against the length of the data before anything is allocated by it.
pub(crate) fn to_tensor(pb: TensorProto, external: Option<&dyn ExternalData>) -> Result<Tensor, Fault> {
    let dtype = dtype_of(pb.data_type.unwrap_or(0))?;
    let shape = shape_of(&pb.dims)?;
    if pb.segment.is_some() {
        return Err(Fault::new(Code::Form, "tensors in segments are not supported"));
    }
    let data = if pb.data_location == Some(proto::LOCATION_EXTERNAL) {
        {
            let wanted = element_count(&shape).and_then(|n| n.checked_mul(dtype.size()));
            external_bytes(&pb.external_data, wanted, external)?
        }
    } else if let Some(raw) = pb.raw_data {
        raw
    } else {
        typed_bytes(&pb, dtype, &shape)?
    };
    if dtype == DType::Bool && data.iter().any(|&b| b > 1) {
        return Err(Fault::new(Code::BadTensor, "a bool element is neither 0 nor 1"));
    }
    Tensor::new(dtype, shape, data).map_err(|e| Fault::new(Code::BadTensor, e.to_string()))
}

/// Little-endian bytes from the typed lists of a message.
fn typed_bytes(pb: &TensorProto, dtype: DType, shape: &[usize]) -> Result<Bytes, Fault> {
    let expected = element_count(shape).unwrap_or(usize::MAX);
    let given = match dtype {
        DType::F32 => pb.float_data.len(),
        DType::F64 => pb.double_data.len(),
        DType::I64 => pb.int64_data.len(),
        DType::U64 | DType::U32 => pb.uint64_data.len(),
        _ => pb.int32_data.len(),
    };
    if given != expected {
        let text = format!("a {dtype} tensor of shape {shape:?} needs {expected} elements, got {given}");
        return Err(Fault::new(Code::BadTensor, text));
    }
    fn narrow<S: Copy, T: Element + TryFrom<S>>(from: &[S]) -> Result<Bytes, Fault> {
        let all: Result<Vec<T>, _> = from.iter().map(|&x| T::try_from(x)).collect();
        all.map(|v| bytes_of(&v))
            .map_err(|_| Fault::new(Code::BadTensor, format!("an element does not fit {}", T::DTYPE)))
    }
    fn bytes_of<T: Element>(from: &[T]) -> Bytes {
        Bytes::from(bytemuck::allocation::pod_collect_to_vec::<T, u8>(from))
    }
    match dtype {
        DType::F32 => Ok(bytes_of(&pb.float_data)),
        DType::F64 => Ok(bytes_of(&pb.double_data)),
        DType::I64 => Ok(bytes_of(&pb.int64_data)),
        DType::U64 => Ok(bytes_of(&pb.uint64_data)),
        DType::U32 => narrow::<u64, u32>(&pb.uint64_data),
        DType::I32 => Ok(bytes_of(&pb.int32_data)),
        DType::I16 => narrow::<i32, i16>(&pb.int32_data),
        DType::I8 => narrow::<i32, i8>(&pb.int32_data),
        // Half-precision elements travel as their bit patterns.
        DType::U16 | DType::F16 | DType::BF16 => narrow::<i32, u16>(&pb.int32_data),
        DType::U8 | DType::Bool => narrow::<i32, u8>(&pb.int32_data),
    }
}

/// The part of an external file that holds a tensor of so many bytes.
fn external_bytes(
    entries: &[StringStringEntryProto],
    wanted: Option<usize>,
    external: Option<&dyn ExternalData>,
) -> Result<Bytes, Fault> {
    let bad = |text: String| Fault::new(Code::BadExternalData, text);
    let entry = |key: &str| {
        let found = entries.iter().find(|e| e.key.as_deref() == Some(key));
        found.and_then(|e| e.value.as_deref())
    };
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => text
            .parse::<usize>()
            .map(Some)
            .map_err(|_| bad(format!("external data: `{key}` is `{text}`, not a number"))),
    };
    let location = entry("location").ok_or_else(|| bad("external data has no location".into()))?;
    check_location(location)?;
    let wanted = wanted.ok_or_else(|| bad("external data is too large".into()))?;
    let offset = number("offset")?.unwrap_or(0);
    let length = number("length")?.unwrap_or(wanted);
    if length != wanted {
        return Err(bad(format!(
            "external data has {length} bytes, the tensor needs {wanted}"
        )));
    }
    let loader = external.ok_or_else(|| {
        Fault::new(
            Code::ExternalUnreadable,
            format!("data in `{location}`, but no external files are available"),
        )
    })?;
    let file = loader
        .load(location)
        .map_err(|e| Fault::new(Code::ExternalUnreadable, format!("cannot read `{location}`: {e}")))?;
    match offset.checked_add(length) {
        Some(end) if end <= file.len() => Ok(file.slice(offset..end)),
        _ => Err(bad(format!(
            "external data: {length} bytes at {offset} lie outside `{location}` of {} bytes",
            file.len()
        ))),
    }
}

/// Refuses locations that could leave the model's folder, on any operating system.
fn check_location(location: &str) -> Result<(), Fault> {
    let outside = location.is_empty()
        || location.starts_with(['/', '\\'])
        || location.contains([':', '\0'])
        || location.split(['/', '\\']).any(|part| part == "..");
    if outside {
        let text = format!("external data location `{location}` is not inside the model's folder");
        return Err(Fault::new(Code::BadExternalData, text));
    }
    Ok(())
}
