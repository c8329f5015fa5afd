//! The side file that holds the data of a text's weights (`FILE.sdw` beside `FILE.sdir`).
//!
//! All numbers are little-endian. Layout:
//! - 8 bytes `SDIRWTS1`, then the number of entries as `u64`;
//! - per entry 32 bytes of digest, one byte element type (position in [`DType::ALL`]), one byte rank, six zero bytes,
//!   then each dimension as `u64`;
//! - per entry its elements, row-major, each entry starting at a multiple of 64 bytes, zeros between.
//!
//! A reader trusts nothing: sizes are checked against the file's length before use, and every digest is recomputed.
//! This is the format of dumps, not of artifacts.

use crate::graph::{Weight, Weights};
use crate::tensor::{TensorError, is_addressable};
use crate::{DType, Digest, Tensor};
use bytes::Bytes;
use std::io;

const MAGIC: &[u8; 8] = b"SDIRWTS1";
const ALIGN: usize = 64;
/// Bytes of an entry before its dimensions.
const ENTRY: usize = 40;

/// Why a weights file could not be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WeightsFileError {
    /// It does not start with the magic bytes.
    #[error("not a weights file of this version")]
    Magic,
    /// It ends before what its entries ask for, or goes on after it.
    #[error("weights file is {actual} bytes, its entries need {}", needed(.expected))]
    Length {
        /// Bytes the entries need; `None` if that is more than can be addressed.
        expected: Option<usize>,
        /// Bytes there are.
        actual: usize,
    },
    /// An entry's head is malformed.
    #[error("weights file, entry {entry}: {reason}")]
    Entry {
        /// Position of the entry.
        entry: usize,
        /// What is wrong.
        reason: String,
    },
}

fn needed(expected: &Option<usize>) -> String {
    expected.map_or_else(|| "more than can be addressed".to_owned(), |n| n.to_string())
}

/// Writes all entries of a table.
///
/// # Errors
/// Those of the writer; `InvalidInput` for a tensor of more than 255 dimensions.
pub fn write(weights: &Weights, out: &mut impl io::Write) -> io::Result<()> {
    let mut head = MAGIC.to_vec();
    head.extend((weights.len() as u64).to_le_bytes());
    for (_, digest, tensor) in weights.iter() {
        let rank = u8::try_from(tensor.shape().len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a weight has too many dimensions"))?;
        head.extend(digest.0);
        head.extend([dtype_code(tensor.dtype()), rank, 0, 0, 0, 0, 0, 0]);
        for &d in tensor.shape() {
            head.extend((d as u64).to_le_bytes());
        }
    }
    out.write_all(&head)?;
    let mut at = head.len();
    for (_, _, tensor) in weights.iter() {
        let start = at.next_multiple_of(ALIGN);
        out.write_all(&[0; ALIGN][..start - at])?;
        out.write_all(tensor.bytes())?;
        at = start + tensor.bytes().len();
    }
    Ok(())
}

fn dtype_code(dtype: DType) -> u8 {
    let position = DType::ALL.iter().position(|&d| d == dtype);
    position.expect("ALL holds every element type") as u8
}

/// Reads a table. Tensors share `file`'s memory, which may be a mapping.
///
/// # Errors
/// The file is malformed, of the wrong length, or an entry's data do not have its digest.
pub fn read(file: Bytes) -> Result<Weights, WeightsFileError> {
    let heads = heads(&file)?;
    let mut at = heads.end;
    let mut weights = Weights::new();
    for (entry, head) in heads.entries.into_iter().enumerate() {
        let wrong = |reason: String| WeightsFileError::Entry { entry, reason };
        let length = |expected| WeightsFileError::Length {
            expected,
            actual: file.len(),
        };
        if !is_addressable(&head.shape) {
            return Err(wrong("too many elements".into()));
        }
        let bytes = head.shape.iter().product::<usize>() * head.dtype.size();
        let start = at.checked_next_multiple_of(ALIGN).ok_or_else(|| length(None))?;
        let end = start.checked_add(bytes).ok_or_else(|| length(None))?;
        if end > file.len() {
            return Err(length(Some(end)));
        }
        let tensor = Tensor::new(head.dtype, head.shape, file.slice(start..end))
            .map_err(|e: TensorError| wrong(e.to_string()))?;
        // `add` computes the digest of what is really there.
        let weight: Weight = weights.add(tensor);
        if weights.digest(weight) != head.digest {
            return Err(wrong(format!(
                "the data do not have the digest sha256:{}",
                head.digest
            )));
        }
        if weights.len() != entry + 1 {
            return Err(wrong("the same tensor occurs twice".into()));
        }
        at = end;
    }
    if at != file.len() {
        return Err(WeightsFileError::Length {
            expected: Some(at),
            actual: file.len(),
        });
    }
    Ok(weights)
}

struct Heads {
    entries: Vec<Head>,
    /// Bytes up to the end of the last head.
    end: usize,
}

struct Head {
    digest: Digest,
    dtype: DType,
    shape: Vec<usize>,
}

fn heads(file: &[u8]) -> Result<Heads, WeightsFileError> {
    let mut rest = file.strip_prefix(MAGIC).ok_or(WeightsFileError::Magic)?;
    // Every entry takes bytes of the file, so a false count runs into the end before it allocates anything.
    let count = u64::from_le_bytes(take(&mut rest, file)?);
    let mut entries = Vec::new();
    while (entries.len() as u64) < count {
        let wrong = |reason: &str| WeightsFileError::Entry {
            entry: entries.len(),
            reason: reason.to_owned(),
        };
        let head: [u8; ENTRY] = take(&mut rest, file)?;
        let mut digest = [0; 32];
        digest.copy_from_slice(&head[..32]);
        let &dtype = DType::ALL
            .get(usize::from(head[32]))
            .ok_or_else(|| wrong("unknown element type"))?;
        if head[34..] != [0; 6] {
            return Err(wrong("reserved bytes are not zero"));
        }
        let mut shape = Vec::new();
        for _ in 0..head[33] {
            let d = u64::from_le_bytes(take(&mut rest, file)?);
            shape.push(usize::try_from(d).map_err(|_| wrong("a dimension is too large"))?);
        }
        entries.push(Head {
            digest: Digest(digest),
            dtype,
            shape,
        });
    }
    Ok(Heads {
        entries,
        end: file.len() - rest.len(),
    })
}

/// The next `N` bytes.
fn take<const N: usize>(rest: &mut &[u8], file: &[u8]) -> Result<[u8; N], WeightsFileError> {
    let Some((head, tail)) = rest.split_first_chunk::<N>() else {
        return Err(WeightsFileError::Length {
            expected: Some(file.len() - rest.len() + N),
            actual: file.len(),
        });
    };
    *rest = tail;
    Ok(*head)
}
