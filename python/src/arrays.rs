//! numpy's arrays as the bytes that programs read and write, and tensors from what `sdc._arrays.raw` makes of arrays.

use crate::errors::exception;
use bytes::Bytes;
use numpy::{PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyReadwriteArrayDyn, PyUntypedArrayMethods};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use sdc::{Error, Tensor};
use sdc_artifact::interface::TensorSpec;
use sdc_ir::DType;

/// The arrays of every element type. `bool` goes as bytes, for an array of numpy's may hold others than 0 and 1, and `bf16`, which numpy lacks, as
/// `u16`.
macro_rules! arrays {
    ($($name:ident: $element:ty = $($dtype:path)|+;)*) => {
        /// An array that a program reads.
        pub enum Input<'py> {
            $($name(PyReadonlyArrayDyn<'py, $element>),)*
        }

        /// A fresh array that a program fills.
        pub enum Output<'py> {
            $($name(PyReadwriteArrayDyn<'py, $element>),)*
        }

        impl<'py> Input<'py> {
            /// The array itself, if it is of the elements and shape wanted, without gaps, and nobody writes to it.
            fn borrowed(spec: &TensorSpec, value: &Bound<'py, PyAny>) -> Option<Self> {
                match spec.dtype {
                    $($($dtype)|+ => {
                        let array = value.cast::<PyArrayDyn<$element>>().ok()?;
                        let usable = array.is_c_contiguous() && array.is_aligned() && array.shape() == spec.shape;
                        Some(Self::$name(array.try_readonly().ok().filter(|_| usable)?))
                    })*
                }
            }

            /// Its bytes.
            pub fn bytes(&self) -> PyResult<&[u8]> {
                Ok(match self {
                    $(Self::$name(array) => bytemuck::cast_slice(array.as_slice()?),)*
                })
            }
        }

        impl<'py> Output<'py> {
            /// An array of zeros, and the same for Python.
            pub fn new(py: Python<'py>, spec: &TensorSpec) -> PyResult<(Self, Bound<'py, PyAny>)> {
                match spec.dtype {
                    $($($dtype)|+ => {
                        let array = PyArrayDyn::<$element>::zeros(py, &spec.shape[..], false);
                        Ok((Self::$name(array.try_readwrite()?), array.into_any()))
                    })*
                }
            }

            /// Its bytes.
            pub fn bytes(&mut self) -> PyResult<&mut [u8]> {
                Ok(match self {
                    $(Self::$name(array) => bytemuck::cast_slice_mut(array.as_slice_mut()?),)*
                })
            }
        }
    };
}

arrays! {
    F64: f64 = DType::F64;
    F32: f32 = DType::F32;
    F16: half::f16 = DType::F16;
    I64: i64 = DType::I64;
    I32: i32 = DType::I32;
    I16: i16 = DType::I16;
    I8: i8 = DType::I8;
    U64: u64 = DType::U64;
    U32: u32 = DType::U32;
    U16: u16 = DType::U16 | DType::BF16;
    U8: u8 = DType::U8 | DType::Bool;
}

impl<'py> Input<'py> {
    /// An array for an input: itself where it lies as programs read it, else a copy.
    ///
    /// # Errors
    /// Anything that is no array of the input's element type and shape.
    pub fn of(spec: &TensorSpec, value: &Bound<'py, PyAny>) -> PyResult<Self> {
        // An array of u8 is none of bool, although it looks the same here.
        if spec.dtype != DType::Bool
            && let Some(array) = Self::borrowed(spec, value)
        {
            return Ok(array);
        }
        let py = value.py();
        let arrays = py.import(intern!(py, "sdc._arrays"))?;
        let arguments = (&spec.name, spec.dtype.name(), &spec.shape, value);
        let copy = arrays.getattr(intern!(py, "fitting"))?.call1(arguments)?;
        Self::borrowed(spec, &copy).ok_or_else(|| {
            exception(Error::bug(format!(
                "input `{}`: a copy that does not fit",
                spec.name
            )))
        })
    }
}

/// An output as Python sees it.
pub fn shown<'py>(spec: &TensorSpec, array: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match spec.dtype {
        DType::Bool => array.call_method1(intern!(array.py(), "view"), (intern!(array.py(), "bool"),)),
        _ => Ok(array),
    }
}

/// An array as `sdc._arrays.raw` takes it apart: element type, shape, bytes.
pub type Raw = (String, Vec<usize>, PyBackedBytes);

/// The tensor of an array that was taken apart.
///
/// # Errors
/// A type that sdc does not have.
pub fn tensor((dtype, shape, bytes): Raw) -> sdc::Result<Tensor> {
    let dtype: DType = dtype.parse().map_err(Error::usage)?;
    Tensor::new(dtype, shape, Bytes::from_owner(bytes)).map_err(Error::usage)
}

/// A tensor taken apart, for `sdc._arrays.made`.
pub fn raw(tensor: &Tensor) -> (&'static str, &[usize], &[u8]) {
    (tensor.dtype().name(), tensor.shape(), tensor.bytes())
}
