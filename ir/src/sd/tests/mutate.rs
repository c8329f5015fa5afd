//! Damaged bytes: a clear error, or a value that verifies and packs to the very same bytes.

use super::*;
use proptest::sample::Index as Pick;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;

type Edit = (Pick, u8, u8);

fn damaged(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for &(at, value, kind) in edits {
        let at = at.index(bytes.len());
        match kind {
            0 => bytes[at] = value,
            1 => bytes[at] ^= 1 << (value % 8),
            2 => bytes.insert(at, value),
            _ => {
                bytes.remove(at);
            }
        }
    }
    bytes
}

/// Unpacks 6,000 damaged payloads.
fn unpack_damaged(values: impl Strategy<Value = Stored>) {
    let edits = || vec((any::<Pick>(), any::<u8>(), 0..4u8), 1..4);
    let strategy = (values, vec(edits(), 10));
    let config = Config {
        cases: 600,
        failure_persistence: None,
        ..Config::default()
    };
    let (loaded, refused) = (Cell::new(0), Cell::new(0));
    let run = TestRunner::new(config).run(&strategy, |(value, mutations)| {
        let bytes = value.pack().unwrap();
        for edits in mutations {
            let bytes = damaged(bytes.clone(), &edits);
            match Stored::unpack(&bytes) {
                Ok(value) => {
                    loaded.set(loaded.get() + 1);
                    prop_assert_eq!(value.verify(), []);
                    prop_assert_eq!(value.pack().unwrap(), bytes);
                    prop_assert!(value.rebuild().is_ok());
                }
                Err(error) => {
                    refused.set(refused.get() + 1);
                    prop_assert!(!error.to_string().is_empty());
                }
            }
        }
        Ok(())
    });
    run.unwrap();
    let (loaded, refused) = (loaded.get(), refused.get());
    assert_eq!(loaded + refused, 6000);
    // Both ways out are taken, or this would show little.
    assert!(
        loaded > 300 && refused > 300,
        "{loaded} loaded, {refused} refused"
    );
}

#[test]
fn mutated_payloads() {
    unpack_damaged(any_decomposed().prop_map(Stored::Sd));
}

#[test]
fn mutated_int8_payloads() {
    unpack_damaged(super::stored::any_int8().prop_map(Stored::Int8));
}

#[test]
fn mutated_texts() {
    let edits = || vec((any::<Pick>(), any::<u8>(), 0..4u8), 1..4);
    let strategy = (any_decomposed(), vec(edits(), 10));
    let config = Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    };
    let run = TestRunner::new(config).run(&strategy, |(d, mutations)| {
        let text = text::print(&d).unwrap();
        for edits in mutations {
            // Characters that the text is made of do more harm than others.
            let letters = text.as_bytes();
            let edits: Vec<_> = edits
                .iter()
                .map(|&(at, value, kind)| (at, letters[usize::from(value) % letters.len()], kind))
                .collect();
            let bytes = damaged(letters.to_vec(), &edits);
            match text::parse(&String::from_utf8_lossy(&bytes)) {
                Ok(d) => prop_assert_eq!(verify(&d), []),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
        Ok(())
    });
    run.unwrap();
}
