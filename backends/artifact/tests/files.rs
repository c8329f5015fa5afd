//! Manifests, and the all-or-nothing writing of files.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use proptest::prelude::*;
use sdc_artifact::emit::{EmitError, Package, emit};
use sdc_artifact::load::map_file;
use sdc_artifact::manifest::{Kind, Manifest, ManifestError, Origin, Plan};
use sdc_ir::Digest;
use std::collections::BTreeSet;
use std::sync::OnceLock;
use support::*;

/// A manifest as it is written.
fn manifest() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let interface = interface("toy", false);
        let object = finished(&interface, false);
        let weights = weights();
        let tensors: &[&[u8]] = &[&weights];
        let mut origin = Origin {
            model: Some(Digest::of(&[b"model"])),
            plan: Some(Plan {
                peak: 160,
                lower_bound: 160,
                buffers: 1,
            }),
            ..Origin::default()
        };
        origin.options.insert("dim".to_owned(), "N=1".to_owned());
        let package = Package {
            interface: &interface,
            object: &object,
            weights: tensors,
            origin,
            transient: None,
        };
        emit(dir.path(), &package, &BTreeSet::from(Kind::ALL)).unwrap();
        std::fs::read_to_string(dir.path().join("manifest.json")).unwrap()
    })
}

#[test]
fn manifests_round_trip() {
    let manifest_text = manifest();
    let parsed = Manifest::parse(manifest_text.as_bytes()).unwrap();
    assert_eq!(parsed.to_text().unwrap(), manifest_text);
    assert_eq!(parsed.interface, interface("toy", false));
    assert_eq!(parsed.origin.model, Some(Digest::of(&[b"model"])));
    let kinds: Vec<_> = parsed.files.keys().copied().collect();
    assert_eq!(
        kinds,
        [
            Kind::Object,
            Kind::Archive,
            Kind::SharedLibrary,
            Kind::Header,
            Kind::CargoToml,
            Kind::BuildScript,
            Kind::RustSource,
            Kind::Weights
        ]
    );
}

#[test]
fn every_truncation_is_refused() {
    let text = manifest().trim_end().as_bytes();
    for len in 0..text.len() {
        assert!(Manifest::parse(&text[..len]).is_err(), "{len}");
    }
}

#[test]
fn lying_manifests_are_refused() {
    let replaced = |from: &str, to: &str| {
        let text = manifest();
        assert!(text.contains(from), "{from} in {text}");
        Manifest::parse(text.replacen(from, to, 1).as_bytes())
    };
    assert!(matches!(
        replaced("\"format\": 2", "\"format\": 3"),
        Err(ManifestError::Format(3))
    ));
    assert!(matches!(
        replaced("\"libtoy.so\"", "\"../libtoy.so\""),
        Err(ManifestError::FileName { .. })
    ));
    assert!(matches!(
        replaced("\"name\": \"toy\"", "\"name\": \"to y\""),
        Err(ManifestError::Interface(_))
    ));
    assert!(matches!(
        replaced("\"arena_align\": 64", "\"arena_align\": 65"),
        Err(ManifestError::Interface(_))
    ));
    let huge = format!("\"arena_size\": {}", u64::MAX);
    assert!(matches!(
        replaced("\"arena_size\": 160", &huge),
        Err(ManifestError::Interface(_))
    ));
    let huge = format!("[\n          {},\n          {},", 1u64 << 40, 1u64 << 40);
    assert!(matches!(
        replaced("[\n          1,\n          4,", &huge),
        Err(ManifestError::Interface(_))
    ));
    assert!(matches!(
        replaced("\"f32\"", "\"f33\""),
        Err(ManifestError::Json(_))
    ));
    assert!(matches!(
        replaced("\"weights_size\": 256", "\"weights_size\": 320"),
        Err(ManifestError::WeightsSize { .. })
    ));
    assert!(matches!(
        replaced("\"interface\"", "\"surprise\": 1,\n  \"interface\""),
        Err(ManifestError::Json(_))
    ));
    let transient = |first: u64, offset: u64, bytes: u64| {
        let part = |first: u64, offset: u64, bytes: u64| {
            format!("{{\"first_call\": {first}, \"last_call\": 3, \"offset\": {offset}, \"bytes\": {bytes}}}")
        };
        let parts = format!("[{}, {}]", part(0, 64, 64), part(first, offset, bytes));
        let transient = format!("\"transient\": {{\"always\": true, \"parts\": {parts}}},\n  \"files\"");
        replaced("\"files\"", &transient)
    };
    let right = transient(3, 128, 128).unwrap();
    assert_eq!(
        right,
        Manifest::parse(right.to_text().unwrap().as_bytes()).unwrap()
    );
    for (first, offset, bytes) in [(4, 128, 128), (3, 128, 129), (3, u64::MAX, 2), (3, 127, 1)] {
        let result = transient(first, offset, bytes);
        assert!(matches!(result, Err(ManifestError::Part(_))), "{result:?}");
    }
    let deep = format!("{{\"format\": {}1", "[".repeat(100_000));
    assert!(Manifest::parse(deep.as_bytes()).is_err());
}

proptest! {
    #[test]
    fn damaged_manifests_do_not_panic(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut text = manifest().as_bytes().to_vec();
        for (at, value) in flips {
            *at.get_mut(&mut text) = value;
        }
        // What is accepted is valid, so the header it would give can be written and all sizes allocated.
        if let Ok(manifest) = Manifest::parse(&text) {
            prop_assert!(manifest.interface.validate().is_ok());
            sdc_artifact::header::text(&manifest.interface);
        }
    }
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let interface = interface("toy", false);
    let object = finished(&interface, false);
    let entries = || std::fs::read_dir(dir.path()).unwrap().count();
    let attempt = |tensors: &[&[u8]], object: &[u8], kinds: &[Kind]| {
        let package = Package {
            interface: &interface,
            object,
            weights: tensors,
            origin: Origin::default(),
            transient: None,
        };
        emit(dir.path(), &package, &kinds.iter().copied().collect())
    };
    let weights = weights();
    // Other values than the digest promises: noticed only when all has been streamed.
    let other = vec![3u8; weights.len()];
    assert!(matches!(
        attempt(&[&other], &object, &Kind::ALL),
        Err(EmitError::Io { .. })
    ));
    assert_eq!(entries(), 0);
    assert!(matches!(
        attempt(&[&weights[..4]], &object, &Kind::ALL),
        Err(EmitError::WeightsSize { .. })
    ));
    assert!(matches!(
        attempt(&[&weights], &object[..100], &Kind::ALL),
        Err(EmitError::Object(_))
    ));
    assert_eq!(entries(), 0);
    // A directory in the place of the last file.
    std::fs::create_dir(dir.path().join("manifest.json")).unwrap();
    assert!(matches!(
        attempt(&[&weights], &object, &[Kind::Manifest]),
        Err(EmitError::Io { .. })
    ));
    assert_eq!(entries(), 1);
    std::fs::remove_dir(dir.path().join("manifest.json")).unwrap();
    // Only what is asked for.
    attempt(&[&weights], &object, &[Kind::Header]).unwrap();
    assert_eq!(entries(), 1);
    let file = dir.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let package = Package {
        interface: &interface,
        object: &object,
        weights: &[],
        origin: Origin::default(),
        transient: None,
    };
    assert!(matches!(
        emit(&file, &package, &BTreeSet::new()),
        Err(EmitError::Io { .. })
    ));
}

#[test]
fn files_are_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    std::fs::write(&path, "").unwrap();
    assert!(map_file(&path).unwrap().is_empty());
    std::fs::write(&path, "content").unwrap();
    assert_eq!(&map_file(&path).unwrap()[..], b"content");
    assert!(map_file(dir.path()).is_err());
    assert!(map_file(&dir.path().join("absent")).is_err());
    if std::path::Path::new("/dev/zero").exists() {
        assert!(map_file(std::path::Path::new("/dev/zero")).is_err());
    }
}

#[cfg(unix)]
#[test]
fn folders_hold_what_is_in_them() {
    use sdc_artifact::load::{Folder, map_within};
    use std::os::unix::fs::symlink;
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let write = |dir: &std::path::Path| std::fs::write(dir.join("data"), b"content").unwrap();
    write(outside.path());
    std::fs::create_dir(dir.path().join("below")).unwrap();
    write(&dir.path().join("below"));
    symlink(outside.path(), dir.path().join("linked")).unwrap();
    symlink(outside.path().join("data"), dir.path().join("link")).unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    assert_eq!(
        &map_within(&folder, "below/data".as_ref()).unwrap()[..],
        b"content"
    );
    assert!(map_within(&folder, "./below/data".as_ref()).is_ok());
    let absolute = outside.path().join("data");
    for path in [
        "linked/data",
        "link",
        "below/../below/data",
        "../data",
        "below",
        "",
        "absent",
    ] {
        assert!(map_within(&folder, path.as_ref()).is_err(), "{path}");
    }
    assert!(map_within(&folder, &absolute).is_err());
    // The directory is the one that was opened, whatever now has its name.
    let moved = outside.path().join("moved");
    std::fs::rename(dir.path(), &moved).unwrap();
    std::fs::create_dir(dir.path()).unwrap();
    assert!(map_within(&folder, "below/data".as_ref()).is_ok());
}

/// A directory in the place of one file: the others are what they were, and nothing is left.
#[test]
fn a_failure_amid_the_renames_is_undone() {
    let dir = tempfile::tempdir().unwrap();
    let (interface, weights) = (interface("toy", false), weights());
    let object = finished(&interface, false);
    let emit = |options: &[(&str, &str)]| {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let package = Package {
            interface: &interface,
            object: &object,
            weights: &[&weights],
            origin: Origin {
                options: options.collect(),
                ..Origin::default()
            },
            transient: None,
        };
        emit(dir.path(), &package, &BTreeSet::from(Kind::ALL))
    };
    let entries = || {
        let names = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
        let read = |path: std::path::PathBuf| (path.clone(), std::fs::read(path).ok());
        names.map(read).collect::<std::collections::BTreeMap<_, _>>()
    };
    let header = dir.path().join("toy.h");
    std::fs::create_dir(&header).unwrap();
    let before = entries();
    assert!(emit(&[]).is_err());
    assert_eq!(entries(), before, "nothing was there");
    std::fs::remove_dir(&header).unwrap();
    emit(&[]).unwrap();
    let manifest = dir.path().join("manifest.json");
    std::fs::remove_file(&manifest).unwrap();
    std::fs::create_dir(&manifest).unwrap();
    let before = entries();
    assert!(emit(&[("cpu", "another")]).is_err());
    assert_eq!(entries(), before, "all was there");
    std::fs::remove_dir(&manifest).unwrap();
    emit(&[("cpu", "another")]).unwrap();
    assert_eq!(entries().len(), Kind::ALL.len());
}
