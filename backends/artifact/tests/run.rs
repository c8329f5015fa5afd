//! From an object under construction to a running model.
#![allow(clippy::unwrap_used, reason = "tests")]
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod support;

use sdc_artifact::emit::{Package, emit};
use sdc_artifact::load::{Artifact, LoadError};
use sdc_artifact::manifest::{Kind, Manifest, Origin, Plan, Transient};
use sdc_artifact::pool::Pool;
use sdc_ir::{DType, Digest};
use std::collections::BTreeSet;
use std::path::Path;
use support::*;

fn compile(dir: &Path, name: &str, embedded: bool, got: bool) {
    let interface = interface(name, embedded);
    let object = finished(&interface, got);
    let weights = weights();
    let tensors: &[&[u8]] = if embedded { &[] } else { &[&weights] };
    let mut origin = Origin {
        plan: Some(Plan {
            peak: 160,
            lower_bound: 160,
            buffers: 1,
        }),
        ..Origin::default()
    };
    origin.options.insert("cpu".to_owned(), "x86-64".to_owned());
    let package = Package {
        interface: &interface,
        object: &object,
        weights: tensors,
        origin,
        transient: None,
    };
    let mut kinds = BTreeSet::from(Kind::ALL);
    if embedded {
        kinds.remove(&Kind::Weights);
    }
    let written = emit(dir, &package, &kinds).unwrap();
    assert_eq!(written.iter().map(|w| w.kind).collect::<BTreeSet<_>>(), kinds);
    for file in written {
        assert_eq!(std::fs::metadata(&file.path).unwrap().len(), file.size);
    }
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), kinds.len());
}

#[test]
fn merge_link_load_run() {
    check_layout();
    for (embedded, got) in [(false, false), (false, true), (true, true)] {
        let dir = tempfile::tempdir().unwrap();
        compile(dir.path(), "toy", embedded, got);
        let artifact = Artifact::open(dir.path()).unwrap();
        let mut instance = artifact.instance().unwrap();
        let mut outputs = artifact.outputs().unwrap();
        let input = input();
        for threads in [None, Some(1), Some(3)] {
            let pool = threads.map(|n| Pool::new(n).unwrap());
            outputs[0].fill(0xaa);
            instance
                .run(&[&input], &mut [&mut outputs[0]], pool.as_ref())
                .unwrap();
            assert_eq!(floats(&outputs[0]), expected(), "{embedded} {got} {threads:?}");
        }
        let used = instance.measure(&[&input], None).unwrap();
        assert!(used.outputs_agree);
        assert_eq!(used.highest, ELEMENTS * 4);
        assert_eq!(used.written, ELEMENTS * 4);
    }
}

#[test]
fn writing_past_the_arena_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut interface = interface("toy", false);
    // The code writes 160 bytes all the same.
    interface.arena_size = 80;
    let (object, weights) = (finished(&interface, false), weights());
    let tensors: &[&[u8]] = &[&weights];
    let package = Package {
        interface: &interface,
        object: &object,
        weights: tensors,
        origin: Origin::default(),
        transient: None,
    };
    emit(dir.path(), &package, &BTreeSet::from(Kind::ALL)).unwrap();
    let mut instance = Artifact::open(dir.path()).unwrap().instance().unwrap();
    assert_eq!(instance.measure(&[&input()], None).unwrap().highest, 160);
}

#[test]
fn two_compilations_are_equal() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for dir in &dirs {
        compile(dir.path(), "toy", false, false);
    }
    for kind in Kind::ALL {
        let [a, b] = dirs
            .each_ref()
            .map(|d| std::fs::read(d.path().join(kind.file_name("toy"))).unwrap());
        assert!(a == b, "{kind:?}");
    }
}

#[test]
fn recompiling_in_place_takes_effect() {
    let dir = tempfile::tempdir().unwrap();
    compile(dir.path(), "toy", false, false);
    let first = Artifact::open(dir.path()).unwrap();
    // Another library under the same path, while the first is loaded.
    compile(dir.path(), "toy", false, true);
    let second = Artifact::open(dir.path()).unwrap();
    for artifact in [first, second] {
        let mut outputs = artifact.outputs().unwrap();
        artifact
            .instance()
            .unwrap()
            .run(&[&input()], &mut [&mut outputs[0]], None)
            .unwrap();
        assert_eq!(floats(&outputs[0]), expected());
    }
}

#[test]
fn wrong_tensors_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    compile(dir.path(), "toy", false, false);
    let artifact = Artifact::open(dir.path()).unwrap();
    let mut instance = artifact.instance().unwrap();
    let mut output = artifact.outputs().unwrap().remove(0);
    let input = input();
    assert!(matches!(
        instance.run(&[], &mut [&mut output], None),
        Err(LoadError::Count { .. })
    ));
    assert!(matches!(
        instance.run(&[&input], &mut [], None),
        Err(LoadError::Count { .. })
    ));
    let short = &input[..input.len() - 4];
    assert!(matches!(
        instance.run(&[short], &mut [&mut output], None),
        Err(LoadError::TensorSize { .. })
    ));
    let mut shifted = vec![0u8; input.len() + 8];
    let at = (1..=4).find(|n| shifted[*n..].as_ptr().addr() % 4 == 1).unwrap();
    let odd = &shifted[at..at + input.len()];
    assert!(matches!(
        instance.run(&[odd], &mut [&mut output], None),
        Err(LoadError::Alignment { .. })
    ));
    let odd = &mut shifted[at..at + input.len()];
    assert!(matches!(
        instance.run(&[&input], &mut [odd], None),
        Err(LoadError::Alignment { .. })
    ));
}

#[test]
fn damage_is_noticed_before_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = |kind: Kind| dir.path().join(kind.file_name("toy"));
    compile(dir.path(), "toy", false, false);
    for kind in [Kind::SharedLibrary, Kind::Weights] {
        let good = std::fs::read(path(kind)).unwrap();
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        std::fs::write(path(kind), &bad).unwrap();
        assert!(
            matches!(Artifact::open(dir.path()), Err(LoadError::Digest { .. })),
            "{kind:?}"
        );
        std::fs::write(path(kind), &good[1..]).unwrap();
        assert!(
            matches!(Artifact::open(dir.path()), Err(LoadError::Size { .. })),
            "{kind:?}"
        );
        std::fs::remove_file(path(kind)).unwrap();
        assert!(
            matches!(Artifact::open(dir.path()), Err(LoadError::Io { .. })),
            "{kind:?}"
        );
        std::fs::write(path(kind), &good).unwrap();
    }
    assert!(Artifact::open(dir.path()).is_ok());

    // Manifests that lie.
    let text = std::fs::read(path(Kind::Manifest)).unwrap();
    let good = Manifest::parse(&text).unwrap();
    let open = |manifest: &Manifest| {
        std::fs::write(path(Kind::Manifest), manifest.to_text().unwrap()).unwrap();
        Artifact::open(dir.path())
    };
    let mut bad = good.clone();
    bad.files.remove(&Kind::SharedLibrary);
    assert!(matches!(
        open(&bad),
        Err(LoadError::MissingFile {
            kind: Kind::SharedLibrary
        })
    ));
    assert!(open(&good).is_ok());
}

/// Whatever a manifest says of its model, the library knows better.
#[test]
fn manifests_that_lie_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    compile(dir.path(), "toy", false, false);
    let path = dir.path().join("manifest.json");
    let good = Manifest::parse(&std::fs::read(&path).unwrap()).unwrap();
    type Lie = fn(&mut Manifest);
    let lies: [(&str, Lie); 9] = [
        ("arena", |m| m.interface.arena_size = 8),
        ("prepared memory", |m| m.interface.prepared_size = 64),
        ("features", |m| m.interface.features.clear()),
        ("more features", |m| {
            m.interface.features.push("avx1024".to_owned())
        }),
        ("no outputs", |m| m.interface.outputs.clear()),
        ("smaller input", |m| m.interface.inputs[0].shape = vec![1]),
        ("element type", |m| m.interface.inputs[0].dtype = DType::I8),
        ("weights", |m| m.interface.weights_digest.0[0] ^= 1),
        ("parts to give back", |m| {
            m.transient = Some(Transient {
                always: true,
                parts: Vec::new(),
            });
        }),
    ];
    for (what, lie) in lies {
        let mut bad = good.clone();
        lie(&mut bad);
        std::fs::write(&path, bad.to_text().unwrap()).unwrap();
        for result in [
            Artifact::open(dir.path()).err(),
            sdc_artifact::load::verify(dir.path()).err(),
        ] {
            assert!(
                matches!(result, Some(LoadError::Unlike { .. })),
                "{what}: {result:?}"
            );
        }
    }
    // Weights and their entry, changed together.
    let mut bad = good.clone();
    let weights = dir.path().join("toy.weights");
    let mut bytes = std::fs::read(&weights).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&weights, &bytes).unwrap();
    bad.files.get_mut(&Kind::Weights).unwrap().sha256 = Digest::of(&[&bytes]);
    std::fs::write(&path, bad.to_text().unwrap()).unwrap();
    assert!(matches!(
        Artifact::open(dir.path()),
        Err(LoadError::Unlike { .. })
    ));
    // A library that does not say what it is.
    let library = dir.path().join("libtoy.so");
    let bytes =
        sdc_artifact::sharedlib::link(&finished(&interface("toy", false), false), "libtoy.so", &[]).unwrap();
    std::fs::write(&library, &bytes).unwrap();
    let entry = bad.files.get_mut(&Kind::SharedLibrary).unwrap();
    (entry.sha256, entry.size) = (Digest::of(&[&bytes]), bytes.len() as u64);
    std::fs::write(&path, bad.to_text().unwrap()).unwrap();
    assert!(matches!(
        Artifact::open(dir.path()),
        Err(LoadError::Record { .. })
    ));
}

/// The library, and weights of this size, are copies: what happens to their files afterwards changes nothing.
#[test]
fn files_changed_in_place_change_nothing() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    compile(dir.path(), "toy", false, false);
    sdc_artifact::load::verify(dir.path()).unwrap();
    let artifact = Artifact::open(dir.path()).unwrap();
    let mut instance = artifact.instance().unwrap();
    let mut outputs = artifact.outputs().unwrap();
    for name in ["libtoy.so", "toy.weights"] {
        let path = dir.path().join(name);
        let size = std::fs::metadata(&path).unwrap().len();
        let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all(&vec![0xa5; size as usize]).unwrap();
        file.set_len(1).unwrap();
        outputs[0].fill(0);
        instance.run(&[&input()], &mut [&mut outputs[0]], None).unwrap();
        assert_eq!(floats(&outputs[0]), expected(), "{name}");
    }
    assert!(Artifact::open(dir.path()).is_err());
}

/// Pipes, links and directories in the place of each file: an error at once.
#[test]
fn only_regular_files_of_the_directory_are_opened() {
    let dir = tempfile::tempdir().unwrap();
    compile(dir.path(), "toy", false, false);
    for name in ["libtoy.so", "toy.weights", "manifest.json"] {
        let (path, aside) = (dir.path().join(name), dir.path().join("aside"));
        std::fs::rename(&path, &aside).unwrap();
        let refused = |what: &str| {
            let error = Artifact::open(dir.path()).unwrap_err();
            assert!(matches!(error, LoadError::Io { .. }), "{name}, {what}: {error}");
        };
        std::os::unix::fs::symlink("aside", &path).unwrap();
        refused("link");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        refused("directory");
        std::fs::remove_dir(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        if made.is_ok_and(|status| status.success()) {
            refused("pipe");
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::rename(&aside, &path).unwrap();
    }
    Artifact::open(dir.path()).unwrap();
}

#[test]
fn weights_of_another_model_are_refused_by_the_code() {
    let dir = tempfile::tempdir().unwrap();
    let mut interface = interface("toy", false);
    let object = finished(&interface, false);
    // Same size, other values; the manifest agrees with the file, the code does not.
    let other = vec![1u8; ELEMENTS * 4];
    let tensors: &[&[u8]] = &[&other];
    interface.weights_digest = sdc_artifact::weights::Header::of(tensors).digest;
    let package = Package {
        interface: &interface,
        object: &object,
        weights: tensors,
        origin: Origin::default(),
        transient: None,
    };
    emit(dir.path(), &package, &BTreeSet::from(Kind::ALL)).unwrap();
    let result = Artifact::open(dir.path());
    assert!(
        matches!(
            result,
            Err(LoadError::Failed {
                function: "prepare",
                code: 1
            })
        ),
        "{result:?}"
    );
}
