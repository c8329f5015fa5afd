//! From codes and bases to weights: the normative arithmetic.

use super::format::value;
use super::{Decomposed, Format, SdError, verify};
use crate::Tensor;

// The sum of a row fits 32 bits whatever the codes: no verifier has to look at it.
const _: () = assert!(8 * 255 * 128 + (1 << 14) <= i32::MAX as i64);

/// Rebuilds one row: `out[j] = saturate_i8((sum over k of value(codes[k]) * basis[k][j] + rounding) >> shift)` with an
/// arithmetic shift and `rounding = 2^(shift-1)`, or 0 if `shift` is 0.
///
/// `codes` is `[r]`, `basis` `[r, S]`, `out` `[S]`; `shift` is at most 15.
///
/// # Panics
/// If a code is not in the alphabet, or `out` is empty.
pub fn rebuild_row(alphabet: &[u8], codes: &[i8], basis: &[i8], shift: u8, out: &mut [i8]) {
    // Half of the last unit kept; 0 for a shift of 0.
    let mut sums = [(1i32 << shift) >> 1; 8];
    for (&code, row) in codes.iter().zip(basis.chunks_exact(out.len())) {
        let value = value(alphabet, code);
        for (sum, &b) in sums.iter_mut().zip(row) {
            *sum += value * i32::from(b);
        }
    }
    for (w, sum) in out.iter_mut().zip(sums) {
        *w = (sum >> shift).clamp(-128, 127) as i8;
    }
}

/// The `i8` weights in the shape of the dense tensor, and the scale of each filter, `[M]`.
///
/// # Errors
/// [`SdError::Invalid`] if the value breaks a law.
pub fn rebuild(d: &Decomposed) -> Result<(Tensor, Vec<f32>), SdError> {
    check(d)?;
    let dense = d.geometry.scatter(&rows(d), d.format.s);
    Ok((tensor(d, dense), d.scales.clone()))
}

/// The real weights: each rebuilt `i8` as `f32`, times the scale of its filter (one `f32` product).
///
/// # Errors
/// [`SdError::Invalid`] if the value breaks a law.
pub fn dequantised(d: &Decomposed) -> Result<Tensor, SdError> {
    check(d)?;
    let (s, rows) = (d.format.s, rows(d));
    let filters = rows.chunks(d.rows() * s).zip(&d.scales);
    let scaled: Vec<f32> = filters
        .flat_map(|(filter, &scale)| filter.iter().map(move |&w| f32::from(w) * scale))
        .collect();
    Ok(tensor(d, d.geometry.scatter(&scaled, s)))
}

pub(super) fn check(d: &Decomposed) -> Result<(), SdError> {
    let faults = verify(d);
    if faults.is_empty() {
        Ok(())
    } else {
        Err(SdError::Invalid(faults))
    }
}

fn tensor<T: crate::tensor::Element>(d: &Decomposed, dense: Vec<T>) -> Tensor {
    Tensor::from_elements(d.geometry.shape.clone(), dense).expect("scatter fills the shape")
}

/// All rebuilt rows, `[M, Q, S]`.
fn rows(d: &Decomposed) -> Vec<i8> {
    let Format { s, r, slice_rows, .. } = d.format;
    let count = d.rows();
    let mut out = vec![0; d.geometry.filters() * count * s];
    let filters = out
        .chunks_exact_mut(count * s)
        .zip(d.codes.chunks_exact(count * r));
    for (filter, (out, codes)) in filters.enumerate() {
        let slices = out.chunks_mut(slice_rows * s).zip(codes.chunks(slice_rows * r));
        for (slice, (out, codes)) in slices.enumerate() {
            let (basis, shift) = d.basis(filter, slice * slice_rows);
            for (w, codes) in out.chunks_exact_mut(s).zip(codes.chunks_exact(r)) {
                rebuild_row(&d.format.alphabet, codes, basis, shift, w);
            }
        }
    }
    out
}
