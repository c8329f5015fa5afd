//! Any bytes as the manifest of a directory that holds nothing else: it is read, and then a file is missing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sdc_artifact::load::Artifact;
use sdc_artifact::manifest::{FILE_NAME, Manifest};

fuzz_target!(|data: &[u8]| {
    let _ = Manifest::parse(data);
    if let Ok(dir) = tempfile::tempdir()
        && std::fs::write(dir.path().join(FILE_NAME), data).is_ok()
    {
        assert!(Artifact::open(dir.path()).is_err());
    }
});
