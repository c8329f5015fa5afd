//! The weights file, and the same bytes when embedded in the object: one *image*.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 4 | magic `SDCW` |
//! | 4 | 4 | format version, currently 1 |
//! | 8 | 8 | length of the payload in bytes, a multiple of 64 |
//! | 16 | 32 | SHA-256 of the payload |
//! | 48 | 16 | zero |
//! | 64 | length | payload |
//!
//! Integers are little-endian. The payload holds the tensors in the order the compiler chose, each at a multiple of 64
//! bytes; the gaps, and the rest up to the payload's length, are zero. Nothing follows the payload. Names, types and shapes
//! of the tensors are not in the file: they are compiled into the code, which therefore accepts exactly one payload, the one
//! whose digest it holds. `NAME_prepare` compares the first 48 bytes with its own and leaves hashing to whoever loads the
//! file; [`verify`] does both.
//!
//! Deliberately absent: compression and encryption; the file is to be mapped and used in place.

use sdc_ir::Digest;
use sha2::{Digest as _, Sha256};
use std::io::{self, Write};

/// Size of the header with its padding: the offset of the payload.
pub const PAYLOAD: usize = 64;
/// Alignment of every tensor, within the image and (by its alignment) in memory.
pub const ALIGN: usize = 64;
/// Bytes of the header that are not always zero; what the code compares.
pub const HEADER: usize = 48;

/// The system's larger pages, and the blocks in which files are written: Linux then holds each block in one such page, and maps it as one.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

const MAGIC: [u8; 4] = *b"SDCW";
const VERSION: u32 = 1;

/// The image is not a weights image, or not the right one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are named by their messages")]
pub enum WeightsError {
    #[error("weights: {0} bytes are too few for a header")]
    Short(usize),
    #[error("weights: not an sdc weights file")]
    Magic,
    #[error("weights: format version {0}; this sdc reads version {VERSION}")]
    Version(u32),
    #[error("weights: malformed header")]
    Header,
    #[error("weights: the header promises {promised} bytes of payload, there are {actual}")]
    Length { promised: u64, actual: u64 },
    #[error(
        "weights: the payload's digest is {actual}, expected {expected}: the file is damaged or of another model"
    )]
    Digest { expected: Digest, actual: Digest },
}

/// Where the tensors lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Offset of each tensor from the start of the image, header included.
    pub offsets: Vec<u64>,
    /// Size of the payload.
    pub payload: u64,
}

/// The layout of tensors with the given sizes in bytes; `None` when the sum exceeds 2^62.
pub fn layout(sizes: impl IntoIterator<Item = usize>) -> Option<Layout> {
    let mut offsets = Vec::new();
    let mut payload = 0u64;
    for size in sizes {
        offsets.push(PAYLOAD as u64 + payload);
        let padded = (size as u64).checked_next_multiple_of(ALIGN as u64)?;
        payload = payload.checked_add(padded).filter(|n| *n <= 1 << 62)?;
    }
    Some(Layout { offsets, payload })
}

/// The header of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Size of the payload in bytes.
    pub payload: u64,
    /// SHA-256 of the payload.
    pub digest: Digest,
}

impl Header {
    /// The header for these tensors: hashes them all, as padded in the payload.
    pub fn of(tensors: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        let mut payload = 0;
        for part in parts(tensors) {
            hash.update(part);
            payload += part.len() as u64;
        }
        Header {
            payload,
            digest: Digest(hash.finalize().into()),
        }
    }

    /// The bytes that identify the image: what `NAME_prepare` compares.
    pub fn bytes(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..4].copy_from_slice(&MAGIC);
        out[4..8].copy_from_slice(&VERSION.to_le_bytes());
        out[8..16].copy_from_slice(&self.payload.to_le_bytes());
        out[16..].copy_from_slice(&self.digest.0);
        out
    }

    /// Size of the whole image in bytes.
    pub fn image(&self) -> u64 {
        PAYLOAD as u64 + self.payload
    }

    /// Reads the header of an image and checks it against the image's length; the payload is not hashed.
    ///
    /// # Errors
    /// Every deviation from the format described above.
    pub fn read(image: &[u8]) -> Result<Self, WeightsError> {
        let head = image.get(..PAYLOAD).ok_or(WeightsError::Short(image.len()))?;
        if head[..4] != MAGIC {
            return Err(WeightsError::Magic);
        }
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if word(4) != VERSION {
            return Err(WeightsError::Version(word(4)));
        }
        let payload = u64::from(word(8)) | u64::from(word(12)) << 32;
        if payload % ALIGN as u64 != 0 || head[HEADER..].iter().any(|b| *b != 0) {
            return Err(WeightsError::Header);
        }
        let actual = (image.len() - PAYLOAD) as u64;
        if payload != actual {
            return Err(WeightsError::Length {
                promised: payload,
                actual,
            });
        }
        let mut digest = Digest([0; 32]);
        digest.0.copy_from_slice(&head[16..HEADER]);
        Ok(Header { payload, digest })
    }
}

/// Reads the header and hashes the payload. Returns the header and the payload.
///
/// # Errors
/// As [`Header::read`], and when the digest differs.
pub fn verify(image: &[u8]) -> Result<(Header, &[u8]), WeightsError> {
    let header = Header::read(image)?;
    let payload = &image[PAYLOAD..];
    let actual = Digest::of(&[payload]);
    if actual != header.digest {
        return Err(WeightsError::Digest {
            expected: header.digest,
            actual,
        });
    }
    Ok((header, payload))
}

/// Streams the image of `tensors` (in layout order) to `out`, without a copy of the whole in memory.
///
/// # Errors
/// Those of `out`; and `InvalidData` when `header` is not that of these tensors, in which case what was written is worthless.
pub fn write(out: &mut impl Write, header: &Header, tensors: &[&[u8]]) -> io::Result<()> {
    let mut head = [0; PAYLOAD];
    head[..HEADER].copy_from_slice(&header.bytes());
    out.write_all(&head)?;
    let mut hash = Sha256::new();
    for part in parts(tensors) {
        // In pieces, so that each is still in the cache when it is written.
        for piece in part.chunks(1 << 16) {
            hash.update(piece);
            out.write_all(piece)?;
        }
    }
    let actual = Digest(hash.finalize().into());
    if actual != header.digest {
        let error = WeightsError::Digest {
            expected: header.digest,
            actual,
        };
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    Ok(())
}

/// The payload's pieces: each tensor, then its padding.
fn parts<'a>(tensors: &'a [&'a [u8]]) -> impl Iterator<Item = &'a [u8]> {
    const ZERO: [u8; ALIGN] = [0; ALIGN];
    tensors
        .iter()
        .flat_map(|t| [*t, &ZERO[..t.len().next_multiple_of(ALIGN) - t.len()]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn image(tensors: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, &Header::of(tensors), tensors).unwrap();
        out
    }

    proptest! {
        #[test]
        fn round_trip(tensors in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..5)) {
            let slices: Vec<&[u8]> = tensors.iter().map(Vec::as_slice).collect();
            let image = image(&slices);
            let (header, payload) = verify(&image).unwrap();
            let layout = layout(slices.iter().map(|t| t.len())).unwrap();
            prop_assert_eq!(header.payload, layout.payload);
            prop_assert_eq!(header.image(), image.len() as u64);
            prop_assert_eq!(payload.len() as u64, layout.payload);
            for (tensor, offset) in slices.iter().zip(layout.offsets) {
                prop_assert_eq!(offset % ALIGN as u64, 0);
                let offset = offset as usize;
                prop_assert_eq!(*tensor, &image[offset..offset + tensor.len()]);
            }
        }
    }

    #[test]
    fn every_truncation_and_flip_is_noticed() {
        let image = image(&[&[7; 100], &[], &[9; 64]]);
        assert!(verify(&image).is_ok());
        for len in 0..image.len() {
            assert!(verify(&image[..len]).is_err(), "{len}");
        }
        let mut longer = image.clone();
        longer.push(0);
        assert!(verify(&longer).is_err());
        for at in 0..image.len() {
            let mut damaged = image.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(verify(&damaged).is_err(), "{at}");
        }
    }

    #[test]
    fn absurd_lengths_do_not_overflow() {
        let mut image = image(&[]);
        assert_eq!(image.len(), PAYLOAD);
        image[8..16].copy_from_slice(&(u64::MAX - 63).to_le_bytes());
        assert!(matches!(verify(&image), Err(WeightsError::Length { .. })));
        assert_eq!(layout([usize::MAX, usize::MAX]), None);
    }

    #[test]
    fn a_foreign_header_is_refused() {
        let header = Header::of(&[&[1]]);
        assert!(write(&mut Vec::new(), &header, &[&[2]]).is_err());
    }
}
