//! The side file of weights: exact, and safe against anything.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index as Pick;
use sdc_ir::Tensor;
use sdc_ir::graph::Weights;
use sdc_ir::text::weights_file::{WeightsFileError, read, write};

fn file(weights: &Weights) -> Vec<u8> {
    let mut out = Vec::new();
    write(weights, &mut out).unwrap();
    out
}

fn two() -> Vec<u8> {
    let mut weights = Weights::new();
    weights.add(Tensor::from_elements(vec![2, 2], vec![1.0f32, 2.0, 3.0, 4.0]).unwrap());
    weights.add(Tensor::scalar(7i64));
    file(&weights)
}

#[test]
fn layout_is_as_documented() {
    let bytes = two();
    assert_eq!(&bytes[..8], b"SDIRWTS1");
    // 16 bytes of head, entries of 40 bytes and 8 per dimension, then data at multiples of 64.
    assert_eq!(bytes[16 + 56 + 32..16 + 56 + 34], [4, 0]);
    assert_eq!(bytes[128..144], *bytemuck::bytes_of(&[1.0f32, 2.0, 3.0, 4.0]));
    assert_eq!(bytes[192..], 7i64.to_le_bytes());
    assert_eq!(read(Bytes::new()), Err(WeightsFileError::Magic));
}

#[test]
fn changed_data_are_refused() {
    let mut bytes = two();
    bytes[130] ^= 1;
    let error = read(bytes.into()).unwrap_err();
    assert!(
        matches!(error, WeightsFileError::Entry { entry: 0, .. }),
        "{error}"
    );
}

#[test]
fn absurd_sizes_are_refused() {
    for (at, value) in [
        (8, u64::MAX),
        (16 + 40, u64::MAX / 2),
        (16 + 40, 1 << 61),
        (16 + 48, 1 << 40),
    ] {
        let mut bytes = two();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        assert!(read(bytes.into()).is_err(), "{at} {value}");
    }
}

#[test]
fn wrong_lengths_are_refused() {
    let bytes = two();
    for n in 0..bytes.len() {
        assert!(read(Bytes::copy_from_slice(&bytes[..n])).is_err(), "{n}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(
        read(longer.into()),
        Err(WeightsFileError::Length {
            expected: Some(200),
            actual: 201
        })
    ));
}

proptest! {
    #[test]
    fn round_trip(weights in common::weights()) {
        prop_assert_eq!(read(file(&weights).into()), Ok(weights));
    }

    /// Damage is refused or harmless (padding is not looked at); it never panics.
    #[test]
    fn mutations(weights in common::weights(), edits in proptest::collection::vec((any::<Pick>(), any::<u8>()), 1..4)) {
        let mut bytes = file(&weights);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(read) = read(bytes.into()) {
            prop_assert_eq!(read, weights);
        }
    }
}
