//! NumPy's `.npy` and `.npz` files to and from tensors.

use crate::error::{Error, Result};
use crate::files;
use bytes::Bytes;
use half::f16;
use npyz::{DType as NpyType, Endianness, NpyHeader, Order, TypeChar, WriterBuilder};
use sdc_ir::tensor::{Element, element_count, row_major_strides};
use sdc_ir::{DType, Tensor};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

/// Reads an `.npy` file. Row-major little-endian data stays where it is: the tensor shares the mapped file.
///
/// # Errors
/// Files that cannot be read; element types that have none here; sizes that do not agree.
pub fn read(path: &Path) -> Result<Tensor> {
    let file = files::map(path)?;
    parse(&file).map_err(|what| Error::usage(format!("{}: {what}", path.display())))
}

fn parse(file: &Bytes) -> Result<Tensor, String> {
    let mut rest: &[u8] = file;
    let header = NpyHeader::from_reader(&mut rest).map_err(|e| format!("not an .npy file: {e}"))?;
    let (dtype, big_endian) = element_type(&header.dtype())?;
    let shape: Option<Vec<usize>> = header.shape().iter().map(|&d| usize::try_from(d).ok()).collect();
    let shape = shape
        .filter(|s| element_count(s).is_some())
        .ok_or("its shape is beyond all memory")?;
    // Sizes are compared before anything is allocated by them.
    let needed = element_count(&shape).unwrap_or(0) * dtype.size();
    if rest.len() != needed {
        return Err(format!(
            "{} bytes of data, the shape {shape:?} of {dtype} needs {needed}",
            rest.len()
        ));
    }
    let mut data = file.slice(file.len() - rest.len()..);
    if big_endian {
        data = data
            .chunks_exact(dtype.size())
            .flat_map(|e| e.iter().rev().copied())
            .collect();
    }
    if header.order() == Order::Fortran {
        data = row_major(&data, &shape, dtype.size());
    }
    Tensor::new(dtype, shape, data).map_err(|e| e.to_string())
}

/// The element type, and whether its bytes are swapped.
fn element_type(npy: &NpyType) -> Result<(DType, bool), String> {
    let unsupported = || format!("elements of type {} are not supported", npy.descr());
    let NpyType::Plain(ty) = npy else {
        return Err(unsupported());
    };
    let dtype = match (ty.type_char(), ty.size_field()) {
        (TypeChar::Bool, 1) => DType::Bool,
        (TypeChar::Float, 8) => DType::F64,
        (TypeChar::Float, 4) => DType::F32,
        (TypeChar::Float, 2) => DType::F16,
        (TypeChar::Int, 8) => DType::I64,
        (TypeChar::Int, 4) => DType::I32,
        (TypeChar::Int, 2) => DType::I16,
        (TypeChar::Int, 1) => DType::I8,
        (TypeChar::Uint, 8) => DType::U64,
        (TypeChar::Uint, 4) => DType::U32,
        (TypeChar::Uint, 2) => DType::U16,
        (TypeChar::Uint, 1) => DType::U8,
        _ => return Err(unsupported()),
    };
    Ok((dtype, ty.endianness() == Endianness::Big))
}

/// Column-major elements of `size` bytes in row-major order.
fn row_major(data: &[u8], shape: &[usize], size: usize) -> Bytes {
    let strides = row_major_strides(shape);
    let mut out = vec![0; data.len()];
    let mut index = vec![0; shape.len()];
    for element in data.chunks_exact(size) {
        let at: usize = index.iter().zip(&strides).map(|(i, s)| i * s).sum::<usize>() * size;
        out[at..at + size].copy_from_slice(element);
        for (i, &extent) in index.iter_mut().zip(shape) {
            *i += 1;
            if *i < extent {
                break;
            }
            *i = 0;
        }
    }
    out.into()
}

/// Writes a tensor in the `.npy` format, row-major. NumPy has no bfloat16: it is written as float32, which holds it exactly.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, tensor: &Tensor) -> io::Result<()> {
    match tensor.dtype() {
        DType::F64 => elements::<f64>(out, tensor),
        DType::F32 => elements::<f32>(out, tensor),
        DType::F16 => elements::<f16>(out, tensor),
        DType::BF16 => push(
            out,
            tensor.shape(),
            tensor.to_f64_vec().into_iter().map(|x| x as f32),
        ),
        DType::I64 => elements::<i64>(out, tensor),
        DType::I32 => elements::<i32>(out, tensor),
        DType::I16 => elements::<i16>(out, tensor),
        DType::I8 => elements::<i8>(out, tensor),
        DType::U64 => elements::<u64>(out, tensor),
        DType::U32 => elements::<u32>(out, tensor),
        DType::U16 => elements::<u16>(out, tensor),
        DType::U8 => elements::<u8>(out, tensor),
        DType::Bool => push(out, tensor.shape(), tensor.bytes().iter().map(|&b| b != 0)),
    }
}

fn elements<T: Element + npyz::AutoSerialize>(out: &mut dyn Write, tensor: &Tensor) -> io::Result<()> {
    let elements = tensor.elements::<T>().map_err(io::Error::other)?;
    push(out, tensor.shape(), elements.iter().copied())
}

fn push<T: npyz::AutoSerialize>(
    out: &mut dyn Write,
    shape: &[usize],
    items: impl Iterator<Item = T>,
) -> io::Result<()> {
    let shape: Vec<u64> = shape.iter().map(|&d| d as u64).collect();
    let mut writer = npyz::WriteOptions::new()
        .default_dtype()
        .shape(&shape)
        .writer(out)
        .begin_nd()?;
    writer.extend(items)?;
    writer.finish()
}

/// Reads all arrays of an `.npz` archive. Only archives without compression (`numpy.savez`).
///
/// # Errors
/// As for [`read`]; compressed archives.
pub fn read_npz(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let bad = |what: String| Error::usage(format!("{}: {what}", path.display()));
    let file = files::map(path)?;
    let mut archive = zip::ZipArchive::new(io::Cursor::new(file.clone())).map_err(|e| bad(e.to_string()))?;
    let mut arrays = BTreeMap::new();
    for i in 0..archive.len() {
        let entry = archive.by_index(i).map_err(|e| bad(e.to_string()))?;
        let name = entry.name().map_err(|e| bad(e.to_string()))?;
        let name = name.trim_end_matches(".npy").to_owned();
        if entry.compression() != CompressionMethod::Stored {
            return Err(bad(format!("`{name}` is compressed")).help("write it with numpy.savez"));
        }
        let start = entry.data_start().unwrap_or(u64::MAX);
        let end = start
            .checked_add(entry.size())
            .filter(|&end| end <= file.len() as u64);
        let end = end.ok_or_else(|| bad(format!("`{name}` lies outside the file")))?;
        let array =
            parse(&file.slice(start as usize..end as usize)).map_err(|e| bad(format!("`{name}`: {e}")))?;
        arrays.insert(name, array);
    }
    Ok(arrays)
}

/// Writes named tensors as an `.npz` archive, uncompressed, without times: the same tensors give the same bytes.
///
/// # Errors
/// Those of `out`.
pub fn write_npz(out: &mut dyn Write, tensors: &[(String, Tensor)]) -> io::Result<()> {
    let mut archive = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default())
        .large_file(
            tensors
                .iter()
                .any(|(_, t)| t.bytes().len() as u64 > u64::from(u32::MAX) / 2),
        );
    for (name, tensor) in tensors {
        archive.start_file(npyz::npz::file_name_from_array_name(name), options)?;
        write(&mut archive, tensor)?;
    }
    out.write_all(archive.finish()?.get_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(tensor: &Tensor) -> Bytes {
        let mut out = Vec::new();
        write(&mut out, tensor).unwrap();
        out.into()
    }

    fn npy(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Bytes {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}}}\n");
        let mut out = b"\x93NUMPY\x01\x00".to_vec();
        out.extend((header.len() as u16).to_le_bytes());
        out.extend(header.bytes());
        out.extend(data);
        out.into()
    }

    #[test]
    fn round_trip_of_every_element_type() {
        for dtype in DType::ALL {
            let data: Vec<u8> = (0..6 * dtype.size()).map(|i| (i % 2) as u8).collect();
            let tensor = Tensor::new(dtype, vec![2, 3], data.into()).unwrap();
            let back = parse(&bytes(&tensor)).unwrap();
            if dtype == DType::BF16 {
                assert_eq!(back.to_f64_vec(), tensor.to_f64_vec());
            } else {
                assert_eq!(back, tensor);
            }
        }
        let scalar = Tensor::scalar(2.5f32);
        assert_eq!(parse(&bytes(&scalar)).unwrap(), scalar);
    }

    #[test]
    fn column_major_and_big_endian_are_converted() {
        let column_major = npy("|u1", "True", "(2, 3)", &[1, 4, 2, 5, 3, 6]);
        assert_eq!(&parse(&column_major).unwrap().bytes()[..], [1, 2, 3, 4, 5, 6]);
        let swapped = npy(">i2", "False", "(2,)", &[1, 0, 2, 0]);
        assert_eq!(parse(&swapped).unwrap().to_i64_vec().unwrap(), [256, 512]);
    }

    #[test]
    fn wrong_sizes_are_refused_before_anything_is_allocated() {
        for shape in [
            "(3,)",
            "(1,)",
            "(4294967295, 4294967295)",
            "(18446744073709551615,)",
        ] {
            assert!(parse(&npy("<f4", "False", shape, &[0; 8])).is_err(), "{shape}");
        }
        assert!(parse(&npy("<c8", "False", "(1,)", &[0; 8])).is_err());
        assert!(parse(&Bytes::from_static(b"\x93NUMPY")).is_err());
        assert!(parse(&Bytes::new()).is_err());
    }

    #[test]
    fn archives_hold_one_file_per_tensor() {
        let tensors = [
            ("a".to_owned(), Tensor::scalar(1i64)),
            ("b/c".to_owned(), Tensor::scalar(2u8)),
        ];
        let mut out = Vec::new();
        write_npz(&mut out, &tensors).unwrap();
        let mut archive = zip::ZipArchive::new(io::Cursor::new(out)).unwrap();
        let names: Vec<String> = archive.file_names().map(|n| n.unwrap().into_owned()).collect();
        assert_eq!(names, ["a.npy", "b/c.npy"]);
        let mut file = Vec::new();
        io::copy(&mut archive.by_index(0).unwrap(), &mut file).unwrap();
        assert_eq!(parse(&file.into()).unwrap(), tensors[0].1);
    }
}
