//! The embedded objects as an artifact sees them.
#![allow(unsafe_code, reason = "calls of kernels")]

mod support;

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind};
use sdc_kernels::{features, host_features, instances, portable};
use support::Loaded;

#[test]
fn there_are_three_on_x86_64_linux() {
    let names: Vec<&str> = instances().iter().map(|i| i.name).collect();
    let here = cfg!(all(target_arch = "x86_64", target_os = "linux"));
    assert_eq!(names, if here { vec!["v4", "v3", "v1"] } else { vec![] });
}

#[test]
fn symbols_are_exactly_the_kernels() {
    for instance in instances() {
        let file = object::File::parse(instance.object).unwrap();
        let mut global: Vec<String> = file
            .symbols()
            .filter(|s| s.is_global())
            .map(|s| s.name().unwrap().to_owned())
            .collect();
        global.sort();
        assert_eq!(global, instance.symbols());
        assert_eq!(instance.symbol("prepare").is_some(), instance.name == "v1");
        assert_eq!(instance.symbol("conv3d_f32"), None);
    }
}

/// What lets a merger get by with text and read-only data and two kinds of relocation.
#[test]
fn sections_need_no_linker() {
    for instance in instances() {
        let file = object::File::parse(instance.object).unwrap();
        assert!(
            file.symbols().skip(1).all(|s| !s.is_undefined()),
            "{}",
            instance.name
        );
        for section in file.sections() {
            let name = section.name().unwrap();
            match section.kind() {
                SectionKind::Text => {
                    for (_, relocation) in section.relocations() {
                        assert_eq!(
                            (relocation.size(), relocation.has_implicit_addend()),
                            (32, false),
                            "{name}"
                        );
                        assert!(
                            matches!(relocation.target(), RelocationTarget::Symbol(_)),
                            "{name}"
                        );
                    }
                }
                SectionKind::ReadOnlyData => {
                    assert!(
                        name == ".eh_frame" || section.relocations().next().is_none(),
                        "{name}"
                    );
                }
                kind => assert!(section.size() == 0 || !is_loaded(kind), "{name} is {kind:?}"),
            }
        }
    }
}

fn is_loaded(kind: SectionKind) -> bool {
    !matches!(
        kind,
        SectionKind::Metadata
            | SectionKind::Note
            | SectionKind::OtherString
            | SectionKind::Other
            | SectionKind::Elf(_)
    )
}

/// Paths or other traces of the build would make two builds differ.
#[test]
fn objects_do_not_name_the_build_directory() {
    for instance in instances() {
        let here = env!("CARGO_MANIFEST_DIR").as_bytes();
        assert!(
            !instance.object.windows(here.len()).any(|w| w == here),
            "{}",
            instance.name
        );
    }
}

#[test]
fn feature_bits_have_the_levels_of_x86_64() {
    assert!(features::NAMES.len() <= 64);
    let set = |bits| features::names(bits).collect::<Vec<_>>();
    assert_eq!(
        set(features::V3 & !features::V2),
        ["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe"]
    );
    assert_eq!(
        set(features::V4 & !features::V3),
        ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]
    );
}

#[cfg(target_arch = "x86_64")]
#[test]
fn host_features_agree_with_the_standard_library() {
    let bits = host_features();
    let has = |name: &str| features::names(bits).any(|n| n == name);
    macro_rules! same {
        ($($name:tt),*) => { $(assert_eq!(has($name), is_x86_feature_detected!($name), $name);)* };
    }
    same!(
        "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt",
        "movbe"
    );
    same!(
        "avx512f",
        "avx512bw",
        "avx512cd",
        "avx512dq",
        "avx512vl",
        "avx512vnni",
        "avxvnni"
    );
}

#[test]
fn prepare_tells_wrong_weights_from_a_lesser_cpu() {
    let host = host_features();
    let absent = 1 << 63;
    let expected: Vec<u8> = (0..portable::HEADER as u8).collect();
    let check = |prepare: &dyn Fn(&[u8], u64) -> i32| {
        assert_eq!(prepare(&expected, 0), 0);
        assert_eq!(prepare(&expected, host), 0);
        assert_eq!(prepare(&expected, host | absent), 2);
        for i in 0..portable::HEADER {
            let mut weights = expected.clone();
            weights[i] ^= 0x40;
            assert_eq!(prepare(&weights, host | absent), 1, "byte {i}");
        }
    };
    // SAFETY: both have HEADER bytes.
    check(&|weights, required| unsafe { portable::prepare(weights.as_ptr(), expected.as_ptr(), required) });
    for loaded in Loaded::all().iter().filter(|l| l.instance.name == "v1") {
        let prepare = loaded.prepare();
        // SAFETY: as above.
        check(&|weights, required| unsafe { prepare(weights.as_ptr(), expected.as_ptr(), required) });
    }
}
