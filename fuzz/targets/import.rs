//! Any bytes as a model: an import that succeeds gives a graph that verifies.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sdc_frontend::{ImportOptions, import};

fuzz_target!(|data: &[u8]| {
    if let Ok(imported) = import(Bytes::copy_from_slice(data), &ImportOptions::default()) {
        assert!(sdc_ir::graph::verify::verify(&imported.graph).is_empty());
    }
});
