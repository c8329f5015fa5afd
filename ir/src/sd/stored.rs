//! A compressed weight as it is stored: decomposed, or plain `i8` where that is smaller. One packed form for both, told apart by the
//! first bytes.

use super::header::{Cursor, put_number};
use super::verify::{fault_of_scales, faults_of_geometry};
use super::{
    Decomposed, Fault, Geometry, Items, SdError, dequantised, pack, rebuild, sizes, stored_rows, unpack,
};
use crate::{DType, Tensor};

const MAGIC: &[u8; 3] = b"SDQ";
const VERSION: u8 = 1;

/// Weights of eight bits with a scale per filter: weight = value * scale\[filter\], one `f32` product.
#[derive(Clone, PartialEq, Debug)]
pub struct Int8 {
    /// How the dense tensor is read.
    pub geometry: Geometry,
    /// `[M, V]`: filters in order, each its vector without padding ([`Geometry::gather`] with rows of one).
    pub values: Vec<i8>,
    /// Stored type of the scales: `f32` or `f16`.
    pub scale: DType,
    /// `[M]`: finite, not negative, exactly representable in `scale`.
    pub scales: Vec<f32>,
}

/// A compressed weight tensor.
#[derive(Clone, PartialEq, Debug)]
pub enum Stored {
    /// Codes and bases.
    Sd(Decomposed),
    /// Integers.
    Int8(Int8),
}

impl Stored {
    /// How the dense tensor is read.
    pub fn geometry(&self) -> &Geometry {
        match self {
            Stored::Sd(d) => &d.geometry,
            Stored::Int8(q) => &q.geometry,
        }
    }

    /// Every broken law; none means that the value can be rebuilt and packed.
    pub fn verify(&self) -> Vec<Fault> {
        match self {
            Stored::Sd(d) => super::verify(d),
            Stored::Int8(q) => q.verify(),
        }
    }

    /// Length of the packed form in bytes, for a value without faults.
    pub fn packed_len(&self) -> usize {
        match self {
            Stored::Sd(d) => sizes(&d.geometry, &d.format, stored_rows(d)).total,
            Stored::Int8(q) => q.header().len() + q.values.len() + q.scales.len() * q.scale.size(),
        }
    }

    /// The packed bytes. Equal values have equal bytes.
    ///
    /// # Errors
    /// [`SdError::Invalid`] if the value breaks a law.
    pub fn pack(&self) -> Result<Vec<u8>, SdError> {
        match self {
            Stored::Sd(d) => pack(d),
            Stored::Int8(q) => q.pack(),
        }
    }

    /// Reads packed bytes, of either kind; the result is free of faults, and packing it gives the same bytes. Safe against anything, as
    /// [`unpack`] is.
    ///
    /// # Errors
    /// Any [`SdError`].
    pub fn unpack(bytes: &[u8]) -> Result<Self, SdError> {
        if bytes.starts_with(MAGIC) {
            Int8::unpack(bytes).map(Stored::Int8)
        } else {
            unpack(bytes).map(Stored::Sd)
        }
    }

    /// The `i8` weights in the shape of the dense tensor, and the scale of each filter, `[M]`.
    ///
    /// # Errors
    /// [`SdError::Invalid`] if the value breaks a law.
    pub fn rebuild(&self) -> Result<(Tensor, Vec<f32>), SdError> {
        match self {
            Stored::Sd(d) => rebuild(d),
            Stored::Int8(q) => {
                q.check()?;
                Ok((q.tensor(&q.values), q.scales.clone()))
            }
        }
    }

    /// The real weights: each `i8` as `f32`, times the scale of its filter (one `f32` product).
    ///
    /// # Errors
    /// [`SdError::Invalid`] if the value breaks a law.
    pub fn dequantised(&self) -> Result<Tensor, SdError> {
        match self {
            Stored::Sd(d) => dequantised(d),
            Stored::Int8(q) => {
                q.check()?;
                let filters = q.values.chunks(q.geometry.vector_len()).zip(&q.scales);
                let scaled: Vec<f32> = filters
                    .flat_map(|(filter, &scale)| filter.iter().map(move |&w| f32::from(w) * scale))
                    .collect();
                Ok(q.tensor(&scaled))
            }
        }
    }
}

impl Int8 {
    /// Bytes of the packed form before the values; scales follow these.
    pub fn header_len(&self) -> usize {
        self.header().len()
    }

    fn header(&self) -> Vec<u8> {
        let Geometry {
            shape,
            filter_dims,
            vector_dims,
        } = &self.geometry;
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        let half = u8::from(self.scale == DType::F16);
        out.push(half | (shape.len() as u8).wrapping_sub(1) << 1);
        out.push(filter_dims.len() as u8);
        out.extend(filter_dims.iter().chain(vector_dims).map(|&d| d as u8));
        shape.iter().for_each(|&d| put_number(&mut out, d));
        out
    }

    fn verify(&self) -> Vec<Fault> {
        let mut faults = faults_of_geometry(&self.geometry);
        if !matches!(self.scale, DType::F32 | DType::F16) {
            faults.push(Fault::ScaleType(self.scale));
        }
        if !faults.is_empty() {
            return faults;
        }
        let filters = self.geometry.filters();
        let weights = filters * self.geometry.vector_len();
        for (items, expected, actual) in [
            (Items::Values, weights, self.values.len()),
            (Items::Scales, filters, self.scales.len()),
        ] {
            if expected != actual {
                faults.push(Fault::Length {
                    items,
                    expected,
                    actual,
                });
            }
        }
        faults.extend(fault_of_scales(&self.scales, self.scale));
        faults
    }

    fn check(&self) -> Result<(), SdError> {
        let faults = self.verify();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(SdError::Invalid(faults))
        }
    }

    fn tensor<T: crate::tensor::Element + Default>(&self, values: &[T]) -> Tensor {
        Tensor::from_elements(self.geometry.shape.clone(), self.geometry.scatter(values, 1))
            .expect("scatter fills the shape")
    }

    fn pack(&self) -> Result<Vec<u8>, SdError> {
        self.check()?;
        let mut out = self.header();
        out.extend(self.values.iter().map(|&v| v as u8));
        super::pack::put_scales(&mut out, &self.scales, self.scale);
        Ok(out)
    }

    fn unpack(bytes: &[u8]) -> Result<Self, SdError> {
        let mut at = Cursor {
            bytes,
            next: MAGIC.len(),
        };
        match at.byte()? {
            VERSION => {}
            other => return Err(SdError::Version(other)),
        }
        let flags = at.byte()?;
        let rank = usize::from(flags >> 1) + 1;
        let filters = at.byte()?;
        let dims: Vec<usize> = at.bytes(rank)?.iter().map(|&d| d.into()).collect();
        let Some((filter_dims, vector_dims)) = dims.split_at_checked(filters.into()) else {
            return Err(SdError::FilterDims { filters, rank });
        };
        let shape = (0..rank).map(|_| at.number()).collect::<Result<_, _>>()?;
        let mut q = Int8 {
            geometry: Geometry {
                shape,
                filter_dims: filter_dims.to_vec(),
                vector_dims: vector_dims.to_vec(),
            },
            values: Vec::new(),
            scale: if flags & 1 == 1 { DType::F16 } else { DType::F32 },
            scales: Vec::new(),
        };
        let faults = faults_of_geometry(&q.geometry);
        if !faults.is_empty() {
            return Err(SdError::Invalid(faults));
        }
        let filters = q.geometry.filters();
        let values = filters * q.geometry.vector_len();
        let expected = at.next + values + filters * q.scale.size();
        if bytes.len() != expected {
            return Err(SdError::Length {
                expected,
                actual: bytes.len(),
            });
        }
        q.values = at.bytes(values)?.iter().map(|&v| v as i8).collect();
        q.scales = super::pack::scales_of(&bytes[at.next..], q.scale);
        q.check()?;
        Ok(q)
    }
}

impl From<Decomposed> for Stored {
    fn from(d: Decomposed) -> Self {
        Stored::Sd(d)
    }
}

impl From<Int8> for Stored {
    fn from(q: Int8) -> Self {
        Stored::Int8(q)
    }
}
