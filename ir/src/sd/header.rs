//! The header of a packed weight: geometry and format in a few tens of bytes. Layout in `docs/sd-format.md`.

use super::{Format, Geometry, Index, Packing, SdError, faults_of_format};
use crate::DType;

const MAGIC: &[u8; 3] = b"SDP";
const VERSION: u8 = 1;

/// The header of a geometry and a format without faults.
pub(super) fn header_bytes(geometry: &Geometry, format: &Format) -> Vec<u8> {
    let mut out = Vec::with_capacity(48);
    out.extend(MAGIC);
    out.push(VERSION);
    let row_packing = u8::from(format.packing == Packing::Row);
    let six_bits = u8::from(format.basis_bits == 6);
    out.push((format.s as u8 - 1) | (format.r as u8 - 1) << 3 | row_packing << 6 | six_bits << 7);
    let half = u8::from(format.scale == DType::F16);
    let indexed = u8::from(format.index != Index::None);
    let (magnitudes, rank) = (format.alphabet.len() as u8, geometry.shape.len() as u8);
    out.push(half | indexed << 1 | (magnitudes - 1) << 2 | (rank - 1) << 5);
    out.extend(&format.alphabet);
    out.push(geometry.filter_dims.len() as u8);
    out.extend(
        geometry
            .filter_dims
            .iter()
            .chain(&geometry.vector_dims)
            .map(|&d| d as u8),
    );
    for &d in &geometry.shape {
        put_number(&mut out, d);
    }
    put_number(&mut out, format.slice_rows);
    put_number(&mut out, format.basis_filters);
    if let Index::Rows(filters) = format.index {
        put_number(&mut out, filters);
    }
    out
}

/// Reads and verifies only the header: what the tensor is, how it is stored, and the header's length in bytes. Cheap, and allocates
/// nothing of the tensor's size, so a caller can compare the shape with what it expects before [`super::unpack`].
///
/// # Errors
/// Any [`SdError`] about the header; [`SdError::Invalid`] if geometry or format break a law.
pub fn read_header(bytes: &[u8]) -> Result<(Geometry, Format, usize), SdError> {
    if !MAGIC.iter().eq(bytes.iter().take(MAGIC.len())) {
        return Err(SdError::Magic);
    }
    let mut at = Cursor {
        bytes,
        next: MAGIC.len(),
    };
    match at.byte()? {
        VERSION => {}
        other => return Err(SdError::Version(other)),
    }
    let (rows, more) = (at.byte()?, at.byte()?);
    let alphabet = at.bytes(usize::from(more >> 2 & 7) + 1)?.to_vec();
    let rank = usize::from(more >> 5) + 1;
    let filters = at.byte()?;
    let dims: Vec<usize> = at.bytes(rank)?.iter().map(|&d| d.into()).collect();
    let Some((filter_dims, vector_dims)) = dims.split_at_checked(filters.into()) else {
        return Err(SdError::FilterDims { filters, rank });
    };
    let shape = (0..rank).map(|_| at.number()).collect::<Result<_, _>>()?;
    let geometry = Geometry {
        shape,
        filter_dims: filter_dims.to_vec(),
        vector_dims: vector_dims.to_vec(),
    };
    let format = Format {
        s: usize::from(rows & 7) + 1,
        r: usize::from(rows >> 3 & 7) + 1,
        packing: if rows >> 6 & 1 == 1 {
            Packing::Row
        } else {
            Packing::Nibble
        },
        basis_bits: if rows >> 7 == 1 { 6 } else { 8 },
        scale: if more & 1 == 1 { DType::F16 } else { DType::F32 },
        alphabet,
        slice_rows: at.number()?,
        basis_filters: at.number()?,
        index: if more >> 1 & 1 == 1 {
            Index::Rows(at.number()?)
        } else {
            Index::None
        },
    };
    let faults = faults_of_format(&geometry, &format);
    if faults.is_empty() {
        Ok((geometry, format, at.next))
    } else {
        Err(SdError::Invalid(faults))
    }
}

/// Little-endian groups of seven bits, the top bit set in all but the last byte.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads a header.
pub(super) struct Cursor<'a> {
    pub bytes: &'a [u8],
    pub next: usize,
}

impl<'a> Cursor<'a> {
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], SdError> {
        let rest = &self.bytes[self.next..];
        let (taken, _) = rest.split_at_checked(count).ok_or(SdError::Truncated)?;
        self.next += count;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Result<u8, SdError> {
        Ok(self.bytes(1)?[0])
    }

    /// See [`put_number`]; at most nine bytes, so below 2^63.
    pub fn number(&mut self) -> Result<usize, SdError> {
        let start = self.next;
        let mut number = 0u64;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                // A zero at the end would be a second way to write the same number.
                let shortest = byte != 0 || shift == 0;
                let number = usize::try_from(number).ok().filter(|_| shortest);
                return number.ok_or(SdError::Number(start));
            }
        }
        Err(SdError::Number(start))
    }
}
