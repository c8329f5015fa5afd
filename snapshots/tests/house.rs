//! The rules of the house: who may depend on whom, and what every file must be. They are read from the manifests and sources
//! of the workspace, so that a rule cannot be broken without a test that fails.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Which of our crates each crate may use (design.md, section 2). `sdc`, the library, may use all below it.
const MAY_USE: &[(&str, &[&str])] = &[
    ("sdc-ir", &[]),
    ("sdc-interp", &["sdc-ir"]),
    ("sdc-frontend", &["sdc-ir", "sdc-interp"]),
    ("sdc-passes", &["sdc-ir", "sdc-interp"]),
    ("sdc-kernels", &[]),
    ("sdc-lower", &["sdc-ir"]),
    ("sdc-cranelift", &["sdc-ir", "sdc-lower"]),
    ("sdc-llvm", &["sdc-ir", "sdc-lower"]),
    ("sdc-artifact", &["sdc-ir"]),
    ("sdc-accel-isa", &["sdc-ir"]),
    ("sdc-accel", &["sdc-accel-isa", "sdc-ir"]),
    ("sdc-accel-sim", &["sdc-accel-isa", "sdc-interp", "sdc-ir"]),
    (
        "sdc",
        &[
            "sdc-accel",
            "sdc-accel-isa",
            "sdc-accel-sim",
            "sdc-artifact",
            "sdc-cranelift",
            "sdc-frontend",
            "sdc-interp",
            "sdc-ir",
            "sdc-kernels",
            "sdc-llvm",
            "sdc-lower",
            "sdc-passes",
        ],
    ),
    (
        "sdc-cli",
        &[
            "sdc",
            "sdc-accel",
            "sdc-accel-isa",
            "sdc-accel-sim",
            "sdc-artifact",
            "sdc-ir",
            "sdc-lower",
            "sdc-passes",
        ],
    ),
    ("sdc-python", &["sdc", "sdc-artifact", "sdc-ir", "sdc-passes"]),
    ("sdc-snapshots", &[]),
];

/// What belongs to one place: crates (by prefix) that only these of ours may use, build scripts and tests excepted.
const CONFINED: &[(&str, &[&str])] = &[
    ("prost", &["sdc-frontend"]),
    ("cranelift-", &["sdc-cranelift"]),
    ("inkwell", &["sdc-llvm"]),
    ("object", &["sdc-lower", "sdc-artifact"]),
    ("libloading", &["sdc-artifact"]),
    ("clap", &["sdc-cli"]),
    ("indicatif", &["sdc-cli"]),
    ("miette", &["sdc-cli"]),
    ("numpy", &["sdc-python"]),
    ("pyo3", &["sdc-python"]),
    ("signal-hook", &["sdc-cli"]),
];

/// Lines a file of any kind may have, unless a program wrote it.
const LONGEST: usize = 1000;
/// Lines a Rust file may have.
const LONGEST_RUST: usize = 600;

/// How far above an unsafe block the comment that gives its reason may be.
const REASON_ABOVE: usize = 8;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

struct Crate {
    name: String,
    /// Folder, relative to the workspace.
    path: String,
    manifest: Table,
}

impl Crate {
    fn read(path: &str) -> Self {
        let file = root().join(path).join("Cargo.toml");
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let manifest: Table = text.parse().unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let name = manifest["package"]["name"].as_str().unwrap().to_owned();
        Self {
            name,
            path: path.to_owned(),
            manifest,
        }
    }

    /// Packages in the tables of this kind, those of particular targets included.
    fn dependencies(&self, kind: &str) -> BTreeSet<String> {
        let targets = self.manifest.get("target").and_then(Value::as_table);
        let targets = targets
            .into_iter()
            .flat_map(Table::values)
            .filter_map(Value::as_table);
        let tables = std::iter::once(&self.manifest)
            .chain(targets)
            .filter_map(|t| t.get(kind)?.as_table());
        let package = |(key, value): (&String, &Value)| {
            value
                .get("package")
                .and_then(Value::as_str)
                .unwrap_or(key)
                .to_owned()
        };
        tables.flatten().map(package).collect()
    }

    /// What the crate itself is built with.
    fn used(&self) -> BTreeSet<String> {
        &self.dependencies("dependencies") | &self.dependencies("build-dependencies")
    }
}

fn workspace() -> Vec<Crate> {
    let root = Crate::read(".");
    let members = root.manifest["workspace"]["members"].as_array().unwrap();
    let crates: Vec<Crate> = members.iter().map(|m| Crate::read(m.as_str().unwrap())).collect();
    assert!(crates.iter().any(|c| c.name == root.name));
    crates
}

fn is_ours(package: &str) -> bool {
    package == "sdc" || package.starts_with("sdc-")
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn crates_use_only_what_they_may() {
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let crates = workspace();
    let mut faults = Vec::new();
    for c in &crates {
        let Some(allowed) = rules.get(c.name.as_str()) else {
            faults.push(format!("{}: say in MAY_USE what it may use", c.name));
            continue;
        };
        let wrong = c
            .used()
            .into_iter()
            .filter(|d| is_ours(d) && !allowed.contains(&d.as_str()));
        faults.extend(wrong.map(|d| format!("{} must not use {d}", c.name)));
    }
    let gone = rules.keys().filter(|r| !crates.iter().any(|c| c.name == **r));
    faults.extend(gone.map(|r| format!("MAY_USE: there is no {r}")));
    report(&faults);
}

#[test]
fn nobody_uses_the_snapshots_or_the_binary() {
    let mut faults = Vec::new();
    for c in workspace() {
        let all = &c.used() | &c.dependencies("dev-dependencies");
        for d in ["sdc-snapshots", "sdc-cli", "sdc-python"] {
            if all.contains(d) {
                faults.push(format!("{} must not use {d}, not even in tests", c.name));
            }
        }
    }
    report(&faults);
}

#[test]
fn kernels_use_nothing() {
    let kernels = workspace().into_iter().find(|c| c.name == "sdc-kernels").unwrap();
    assert_eq!(kernels.dependencies("dependencies"), BTreeSet::new());
}

#[test]
fn protobuf_code_generators_and_terminals_stay_in_their_crates() {
    let mut faults = Vec::new();
    for c in workspace() {
        for package in c.dependencies("dependencies") {
            let owners = CONFINED.iter().find(|(prefix, _)| {
                package == *prefix
                    || (package.starts_with(prefix)
                        && (prefix.ends_with('-') || package[prefix.len()..].starts_with('-')))
            });
            if let Some((_, owners)) = owners.filter(|(_, owners)| !owners.contains(&c.name.as_str())) {
                faults.push(format!(
                    "{} must not use {package}, which belongs to {}",
                    c.name,
                    owners.join(", ")
                ));
            }
        }
    }
    report(&faults);
}

#[test]
fn every_crate_has_the_lints_and_versions_of_the_workspace() {
    let mut faults = Vec::new();
    let inherited =
        |value: Option<&Value>| value.and_then(|v| v.get("workspace")).and_then(Value::as_bool) == Some(true);
    for c in workspace() {
        if !inherited(c.manifest.get("lints")) {
            faults.push(format!("{}: no `[lints] workspace = true`", c.name));
        }
        for key in ["version", "edition", "rust-version", "license"] {
            if !inherited(c.manifest["package"].get(key)) {
                faults.push(format!("{}: no `{key}.workspace = true`", c.name));
            }
        }
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(table) = c.manifest.get(kind).and_then(Value::as_table) else {
                continue;
            };
            let own = table.iter().filter(|(_, value)| !inherited(Some(value)));
            faults.extend(own.map(|(key, _)| format!("{}: {key} has a version of its own", c.name)));
        }
    }
    report(&faults);
}

/// The files of the workspace, relative to it, without what builds and tools leave.
fn files() -> Vec<PathBuf> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_str().unwrap();
            if entry.file_type().unwrap().is_dir() {
                // Build output (wherever it is, cargo marks it), repositories and caches.
                let foreign = (name.starts_with('.') && name != ".ci")
                    || name == "__pycache__"
                    || path.join("CACHEDIR.TAG").exists()
                    || name == "target";
                if !foreign {
                    walk(&path, root, found);
                }
            } else {
                found.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    let root = root();
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    found.sort();
    assert!(found.iter().any(|f| f.ends_with("snapshots/tests/house.rs")));
    found
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension()
        .and_then(|e| e.to_str())
        .is_some_and(|e| extensions.contains(&e))
}

/// The text of a file; the walk meets files that others remove meanwhile.
fn text(path: &Path) -> Option<String> {
    let bytes = fs::read(root().join(path)).ok()?;
    Some(String::from_utf8(bytes).unwrap_or_else(|_| panic!("{} is not text", path.display())))
}

#[test]
fn files_are_short() {
    const TEXT: &[&str] = &["rs", "md", "toml", "py", "c", "h", "txt", "sh", "snap", "json"];
    let mut faults = Vec::new();
    for path in files().iter().filter(|p| has_extension(p, TEXT)) {
        let lines = text(path).map_or(0, |t| t.lines().count());
        let most = if has_extension(path, &["rs"]) {
            LONGEST_RUST
        } else {
            LONGEST
        };
        if lines > most {
            faults.push(format!("{} has {lines} lines, more than {most}", path.display()));
        }
    }
    report(&faults);
}

/// The lint denies `unsafe` too; but an `allow` would lift it anywhere.
#[test]
fn unsafe_code_is_in_backends_only_and_has_its_reason() {
    let mut faults = Vec::new();
    for path in files().iter().filter(|p| has_extension(p, &["rs"])) {
        // This file speaks of it.
        if path.ends_with("snapshots/tests/house.rs") {
            continue;
        }
        let Some(text) = text(path) else { continue };
        let in_tests = path.components().any(|c| c.as_os_str() == "tests");
        let reason_for_all = text.contains("// SAFETY (all");
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap();
            if !code
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|w| w == "unsafe")
            {
                continue;
            }
            let place = format!("{}:{}", path.display(), at + 1);
            let reason = || {
                lines[at.saturating_sub(REASON_ABOVE)..at]
                    .iter()
                    .any(|l| l.contains("// SAFETY"))
            };
            if !path.starts_with("backends") {
                faults.push(format!("{place}: `unsafe` outside the backends"));
            } else if code.contains("unsafe {") && !in_tests && !reason_for_all && !reason() {
                faults.push(format!("{place}: no `// SAFETY:` above it"));
            }
        }
    }
    report(&faults);
}

#[test]
fn nothing_pending_is_left_behind() {
    let pending = files().into_iter().filter(|p| {
        p.to_str()
            .is_some_and(|p| p.ends_with(".snap.new") || p.contains(".pending-snap"))
    });
    report(
        &pending
            .map(|p| format!("{}: accept or remove it", p.display()))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn the_map_names_every_crate() {
    let Ok(map) = fs::read_to_string(root().join("ARCHITECTURE.md")) else {
        return;
    };
    let words: BTreeSet<&str> = map
        .split(|c: char| !c.is_alphanumeric() && !"-_/".contains(c))
        .map(|w| w.trim_matches('/'))
        .collect();
    let missing = workspace().into_iter().filter(|c| {
        let folder = if c.path == "." { "cli" } else { &c.path };
        !words.contains(c.name.as_str()) && !words.contains(folder)
    });
    report(
        &missing
            .map(|c| format!("ARCHITECTURE.md does not mention {}", c.name))
            .collect::<Vec<_>>(),
    );
}
