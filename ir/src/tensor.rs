//! Host tensors: the data of weights, constants, inputs and outputs.

use crate::{DType, Digest};
use bytes::Bytes;
use half::{bf16, f16};
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A dense row-major tensor on the host, little-endian, cheap to clone.
///
/// The bytes may borrow from a mapped file, so they need not be aligned for the element type.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Bytes,
    /// Once it was asked for: weights are named by it wherever they go.
    digest: Arc<OnceLock<Digest>>,
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        (self.dtype, &self.shape, &self.data) == (other.dtype, &other.shape, &other.data)
    }
}

impl Eq for Tensor {}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            dtype, shape, data, ..
        } = self;
        f.debug_struct("Tensor")
            .field("dtype", dtype)
            .field("shape", shape)
            .field("data", data)
            .finish()
    }
}

/// Why a tensor could not be made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// Product of the dimensions exceeds what memory can address.
    #[error("shape {0:?} has too many elements")]
    TooLarge(Vec<usize>),
    /// Byte length does not match dtype and shape.
    #[error("a {dtype} tensor of shape {shape:?} needs {expected} bytes, got {actual}")]
    WrongLength {
        /// Element type.
        dtype: DType,
        /// Shape.
        shape: Vec<usize>,
        /// Bytes that dtype and shape ask for.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
    /// The elements are of another type than asked for.
    #[error("expected {expected} elements, found {actual}")]
    WrongType {
        /// Type asked for.
        expected: DType,
        /// Type found.
        actual: DType,
    },
}

/// Number of elements of a shape (1 for a scalar), or `None` on overflow of `isize`.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    // A zero anywhere makes the tensor empty, whatever the other dimensions say.
    if shape.contains(&0) {
        return Some(0);
    }
    let n = shape.iter().try_fold(1usize, |a, &d| a.checked_mul(d))?;
    (n <= isize::MAX as usize / 8).then_some(n)
}

/// True if strides and byte offsets of a tensor of this shape are far from overflow, even where a zero dimension makes
/// it empty.
pub fn is_addressable(shape: &[usize]) -> bool {
    let extents: Vec<usize> = shape.iter().map(|&d| d.max(1)).collect();
    element_count(&extents).is_some()
}

/// Row-major strides, in elements, of a dense tensor of this shape.
pub fn row_major_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * shape[i + 1].max(1);
    }
    strides
}

macro_rules! element {
    ($($t:ty => $d:ident),* $(,)?) => {$(
        impl Element for $t {
            const DTYPE: DType = DType::$d;
        }
    )*};
}

/// A Rust type that can be an element of a [`Tensor`] (`bool` is handled as `u8`).
pub trait Element: bytemuck::Pod + Send {
    /// The element type it stands for.
    const DTYPE: DType;
}
element!(f64 => F64, f32 => F32, f16 => F16, bf16 => BF16, i64 => I64, i32 => I32, i16 => I16, i8 => I8,
    u64 => U64, u32 => U32, u16 => U16, u8 => U8);

/// Elements that are the bytes of a tensor as they are: large weights are not copied.
struct Elements<T>(Box<[T]>);

impl<T: Element> AsRef<[u8]> for Elements<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl Tensor {
    /// A tensor over little-endian row-major bytes.
    ///
    /// # Errors
    /// [`TensorError::TooLarge`] or [`TensorError::WrongLength`] if the bytes do not fit the shape.
    pub fn new(dtype: DType, shape: Vec<usize>, data: Bytes) -> Result<Self, TensorError> {
        let Some(n) = element_count(&shape) else {
            return Err(TensorError::TooLarge(shape));
        };
        let expected = n * dtype.size();
        if data.len() != expected {
            return Err(TensorError::WrongLength {
                dtype,
                shape,
                expected,
                actual: data.len(),
            });
        }
        Ok(Self {
            dtype,
            shape,
            data,
            digest: Arc::default(),
        })
    }

    /// A tensor from elements in row-major order.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn from_elements<T: Element>(shape: Vec<usize>, elements: Vec<T>) -> Result<Self, TensorError> {
        let data = Bytes::from_owner(Elements(elements.into_boxed_slice()));
        Self::new(T::DTYPE, shape, data)
    }

    /// A rank-0 tensor.
    pub fn scalar<T: Element>(value: T) -> Self {
        Self {
            dtype: T::DTYPE,
            shape: Vec::new(),
            data: Bytes::copy_from_slice(bytemuck::bytes_of(&value)),
            digest: Arc::default(),
        }
    }

    /// A rank-0 tensor of any element type; integers truncate, booleans are whether the value is not zero.
    pub fn scalar_of(dtype: DType, value: f64) -> Self {
        match dtype {
            DType::F64 => Self::scalar(value),
            DType::F32 => Self::scalar(value as f32),
            DType::F16 => Self::scalar(f16::from_f64(value)),
            DType::BF16 => Self::scalar(bf16::from_f64(value)),
            DType::I64 => Self::scalar(value as i64),
            DType::I32 => Self::scalar(value as i32),
            DType::I16 => Self::scalar(value as i16),
            DType::I8 => Self::scalar(value as i8),
            DType::U64 => Self::scalar(value as u64),
            DType::U32 => Self::scalar(value as u32),
            DType::U16 => Self::scalar(value as u16),
            DType::U8 => Self::scalar(value as u8),
            DType::Bool => Self {
                dtype,
                ..Self::scalar(u8::from(value != 0.0))
            },
        }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
    /// Shape; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len() / self.dtype.size()
    }
    /// True if some dimension is zero.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
    /// Little-endian row-major bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.data
    }

    /// The elements; borrowed when the bytes happen to be aligned.
    ///
    /// # Errors
    /// [`TensorError::WrongType`] if the tensor's element type is not `T`'s (`bool` reads as `u8`).
    pub fn elements<T: Element>(&self) -> Result<Cow<'_, [T]>, TensorError> {
        let stored = if self.dtype == DType::Bool {
            DType::U8
        } else {
            self.dtype
        };
        if stored != T::DTYPE {
            return Err(TensorError::WrongType {
                expected: T::DTYPE,
                actual: self.dtype,
            });
        }
        Ok(match bytemuck::try_cast_slice(&self.data) {
            Ok(slice) => Cow::Borrowed(slice),
            Err(_) => Cow::Owned(bytemuck::allocation::pod_collect_to_vec(&self.data[..])),
        })
    }

    /// All elements converted to `f64` (integers above 2^53 lose low bits; `bool` is 0 or 1).
    pub fn to_f64_vec(&self) -> Vec<f64> {
        macro_rules! all {
            ($t:ty, $f:expr) => {
                bytemuck::allocation::pod_collect_to_vec::<u8, $t>(&self.data[..])
                    .into_iter()
                    .map($f)
                    .collect()
            };
        }
        match self.dtype {
            DType::F64 => all!(f64, |x| x),
            DType::F32 => all!(f32, f64::from),
            DType::F16 => all!(f16, f64::from),
            DType::BF16 => all!(bf16, f64::from),
            DType::I64 => all!(i64, |x| x as f64),
            DType::I32 => all!(i32, f64::from),
            DType::I16 => all!(i16, f64::from),
            DType::I8 => all!(i8, f64::from),
            DType::U64 => all!(u64, |x| x as f64),
            DType::U32 => all!(u32, f64::from),
            DType::U16 => all!(u16, f64::from),
            DType::U8 | DType::Bool => all!(u8, f64::from),
        }
    }

    /// All elements as `i64`, or `None` if the element type is not an integer or `bool` (`u64` wraps).
    pub fn to_i64_vec(&self) -> Option<Vec<i64>> {
        macro_rules! all {
            ($t:ty, $f:expr) => {
                bytemuck::allocation::pod_collect_to_vec::<u8, $t>(&self.data[..])
                    .into_iter()
                    .map($f)
                    .collect()
            };
        }
        Some(match self.dtype {
            DType::I64 => all!(i64, |x| x),
            DType::I32 => all!(i32, i64::from),
            DType::I16 => all!(i16, i64::from),
            DType::I8 => all!(i8, i64::from),
            DType::U64 => all!(u64, |x| x as i64),
            DType::U32 => all!(u32, i64::from),
            DType::U16 => all!(u16, i64::from),
            DType::U8 | DType::Bool => all!(u8, i64::from),
            DType::F64 | DType::F32 | DType::F16 | DType::BF16 => return None,
        })
    }

    /// The same elements under another shape of equal element count.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn reshaped(&self, shape: Vec<usize>) -> Result<Self, TensorError> {
        Self::new(self.dtype, shape, self.data.clone())
    }

    /// SHA-256 over element type, shape and bytes: equal digests mean equal tensors.
    pub fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| {
            let mut head = format!("{}[", self.dtype);
            for d in &self.shape {
                head.push_str(&format!("{d},"));
            }
            head.push(']');
            Digest::of(&[head.as_bytes(), &self.data])
        })
    }
}
