//! Packed decomposed weights: header, row index, codes, bases, shifts, scales. Layout in `docs/sd-format.md`.

use super::bits::{BitReader, BitWriter};
use super::header::{header_bytes, read_header};
use super::rebuild::check;
use super::verify::MAX_EXPANSION;
use super::{Decomposed, Fault, Format, Index, Packing, SdError, sizes};
use crate::DType;
use half::f16;
use std::ops::Range;

/// The packed bytes; [`super::sizes()`] tells their number beforehand. Equal values have equal bytes.
///
/// # Errors
/// [`SdError::Invalid`] if the value breaks a law.
pub fn pack(d: &Decomposed) -> Result<Vec<u8>, SdError> {
    check(d)?;
    let format = &d.format;
    let mut out = header_bytes(&d.geometry, format);
    let mut section = |write: &mut dyn FnMut(&mut BitWriter)| {
        let mut bits = BitWriter::default();
        write(&mut bits);
        out.extend(bits.finish());
    };
    if format.index != Index::None {
        section(&mut |bits| d.kept.iter().for_each(|&kept| bits.put(kept.into(), 1)));
    }
    let (rows, shared, width) = (d.rows(), format.index_filters(), format.row_bits());
    section(&mut |bits| {
        for (filter, codes) in d.codes.chunks_exact(rows * format.r).enumerate() {
            let kept = &d.kept[filter / shared * rows..][..rows];
            let stored = codes.chunks_exact(format.r).zip(kept).filter(|(_, kept)| **kept);
            stored.for_each(|(codes, _)| bits.put(word(format, codes), width));
        }
    });
    let width = usize::from(format.basis_bits);
    let mask = (1 << width) - 1;
    section(&mut |bits| d.bases.iter().for_each(|&b| bits.put(b as u64 & mask, width)));
    section(&mut |bits| d.shifts.iter().for_each(|&s| bits.put(s.into(), 4)));
    put_scales(&mut out, &d.scales, format.scale);
    Ok(out)
}

/// The stored ones of a filter's rows as in the section of codes, from a whole byte on.
///
/// # Panics
/// If there is no such filter or row.
pub fn pack_rows(d: &Decomposed, filter: usize, rows: Range<usize>) -> Vec<u8> {
    let mut bits = BitWriter::default();
    for row in rows.filter(|&row| d.is_kept(filter, row)) {
        bits.put(word(&d.format, d.row_codes(filter, row)), d.format.row_bits());
    }
    bits.finish()
}

/// Which of these rows of a filter are stored, a bit a row, from a whole byte on.
///
/// # Panics
/// If there is no such filter or row.
pub fn pack_index(d: &Decomposed, filter: usize, rows: Range<usize>) -> Vec<u8> {
    let mut bits = BitWriter::default();
    rows.for_each(|row| bits.put(d.is_kept(filter, row).into(), 1));
    bits.finish()
}

/// Appends scales in their stored type.
pub(super) fn put_scales(out: &mut Vec<u8>, scales: &[f32], stored: DType) {
    for &scale in scales {
        match stored {
            DType::F16 => out.extend(f16::from_f32(scale).to_le_bytes()),
            _ => out.extend(scale.to_le_bytes()),
        }
    }
}

/// The inverse of [`put_scales`].
pub(super) fn scales_of(bytes: &[u8], stored: DType) -> Vec<f32> {
    let half = |&b: &[u8; 2]| f16::from_le_bytes(b).to_f32();
    match stored {
        DType::F16 => bytes.as_chunks().0.iter().map(half).collect(),
        _ => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&b| f32::from_le_bytes(b))
            .collect(),
    }
}

/// The stored word of a row of codes.
fn word(format: &Format, codes: &[i8]) -> u64 {
    let top = format.alphabet.len() as i8;
    match format.packing {
        Packing::Nibble => codes.iter().rev().fold(0, |word, &code| {
            let sign = u64::from(code < 0) << 3;
            word << 4 | sign | u64::from(code.unsigned_abs())
        }),
        Packing::Row => {
            let levels = format.levels() as u64;
            // The digit of a code is its rank among the levels.
            let digits = codes.iter().map(|&code| (code + top) as u64);
            digits.fold(0, |word, digit| word * levels + digit)
        }
    }
}

/// The inverse of [`word`] into `codes`; false if the word stands for nothing. Nibbles outside a short alphabet pass: `verify` finds them.
fn codes_of(format: &Format, mut word: u64, codes: &mut [i8]) -> bool {
    match format.packing {
        Packing::Nibble => codes.iter_mut().all(|code| {
            let nibble = (word & 15) as i8;
            word >>= 4;
            *code = if nibble & 8 == 0 { nibble } else { -(nibble & 7) };
            nibble != 8
        }),
        Packing::Row => {
            let (levels, top) = (format.levels() as u64, format.alphabet.len() as i8);
            for code in codes.iter_mut().rev() {
                *code = (word % levels) as i8 - top;
                word /= levels;
            }
            word == 0
        }
    }
}

/// Reads packed bytes; the result is free of faults, and packing it gives the same bytes.
///
/// Safe against anything: memory is bounded by `MAX_EXPANSION` times the length, and time by the memory.
///
/// # Errors
/// Any [`SdError`].
pub fn unpack(bytes: &[u8]) -> Result<Decomposed, SdError> {
    let (geometry, format, _) = read_header(bytes)?;
    let (filters, rows) = (geometry.filters(), geometry.rows(format.s));
    let length = |expected| SdError::Length {
        expected,
        actual: bytes.len(),
    };
    // Index first: it says how many rows are stored. Without stored rows this is the least length.
    let all_rows = filters * rows;
    let least = sizes(
        &geometry,
        &format,
        if format.index == Index::None { all_rows } else { 0 },
    );
    if bytes.len() < least.total {
        return Err(length(least.total));
    }
    let elements = all_rows * format.r.max(format.s);
    if elements > bytes.len() * MAX_EXPANSION {
        let bytes = bytes.len();
        return Err(SdError::Invalid(vec![Fault::TooSparse { elements, bytes }]));
    }
    let groups = geometry.index_groups(&format);
    let kept = match format.index {
        Index::None => vec![true; groups * rows],
        Index::Rows(_) => section(
            &bytes[least.sections().index],
            1,
            groups * rows,
            "row index",
            |bit| bit != 0,
        )?,
    };
    let mut d = Decomposed {
        codes: vec![0; all_rows * format.r],
        kept,
        bases: Vec::new(),
        shifts: Vec::new(),
        scales: Vec::new(),
        geometry,
        format,
    };
    let sizes = sizes(&d.geometry, &d.format, super::stored_rows(&d));
    if bytes.len() != sizes.total {
        return Err(length(sizes.total));
    }
    let at = sizes.sections();
    read_codes(&mut d, &bytes[at.codes])?;

    let bases = d.geometry.basis_groups(&d.format) * d.geometry.slices(&d.format);
    let width = usize::from(d.format.basis_bits);
    // Two's complement: the sign bit moves to the top of a byte and back.
    let entry = |bits| ((bits << (8 - width)) as u8 as i8) >> (8 - width);
    d.bases = section(
        &bytes[at.bases],
        width,
        bases * d.format.r * d.format.s,
        "bases",
        entry,
    )?;
    d.shifts = section(&bytes[at.shifts], 4, bases, "shifts", |bits| bits as u8)?;
    d.scales = scales_of(&bytes[at.scales], d.format.scale);
    check(&d)?;
    Ok(d)
}

/// Decodes the rows that are kept into `d.codes`, which are zero.
fn read_codes(d: &mut Decomposed, bytes: &[u8]) -> Result<(), SdError> {
    let mut bits = BitReader::new(bytes);
    let Decomposed {
        format,
        codes,
        kept,
        geometry,
        ..
    } = d;
    let (rows, shared, width) = (geometry.rows(format.s), format.index_filters(), format.row_bits());
    let mut stored = 0;
    for (filter, codes) in codes.chunks_exact_mut(rows * format.r).enumerate() {
        let kept = &kept[filter / shared * rows..][..rows];
        for (codes, _) in codes
            .chunks_exact_mut(format.r)
            .zip(kept)
            .filter(|(_, kept)| **kept)
        {
            if !codes_of(format, bits.take(width), codes) {
                return Err(SdError::Code(stored));
            }
            stored += 1;
        }
    }
    if bits.rest_is_zero() {
        Ok(())
    } else {
        Err(SdError::Padding("codes"))
    }
}

/// All fields of a section.
fn section<T>(
    bytes: &[u8],
    width: usize,
    count: usize,
    name: &'static str,
    item: impl Fn(u64) -> T,
) -> Result<Vec<T>, SdError> {
    let mut bits = BitReader::new(bytes);
    let items = (0..count).map(|_| item(bits.take(width))).collect();
    if bits.rest_is_zero() {
        Ok(items)
    } else {
        Err(SdError::Padding(name))
    }
}
