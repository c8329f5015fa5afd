//! Every file of `in/` through every stage: what each stage leaves is compared with `out/STAGE/CASE.snap`, and must satisfy
//! the checks of [`stages`] and [`native`].
//!
//! A change is accepted with `cargo insta review`, or by running the test with `INSTA_UPDATE=always` and reading the diff.

mod accel;
mod case;
mod decompose;
mod native;
mod onnx_text;
mod random;
mod stages;

use case::{Case, Stage};
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Ending of the inputs' names.
const INPUT: &str = ".onnx.txt";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    let mut cases = Vec::new();
    for path in files(&folder("in")) {
        let name = name(&path);
        let Some(name) = name.strip_suffix(INPUT).map(str::to_owned) else {
            trials.push(Trial::test(name, move || {
                Err(format!("{} is no input", path.display()).into())
            }));
            continue;
        };
        let text = fs::read_to_string(&path).map_err(|e| e.to_string());
        match text.and_then(|text| Case::parse(&name, &text)) {
            Ok(case) => {
                cases.push(case.clone());
                trials.push(Trial::test(name, move || run(&case).map_err(Failed::from)));
            }
            Err(message) => trials.push(Trial::test(name, move || Err(message.into()))),
        }
    }
    trials.push(Trial::test("no_stale_snapshots", move || {
        no_stale_snapshots(&cases).map_err(Failed::from)
    }));
    for &(name, shape, net) in accel::NETS {
        trials.push(Trial::test(format!("accel::{name}"), move || {
            let text = accel::text(shape, net)?;
            keep(name, "accel", &text, None);
            Ok(())
        }));
    }
    for &(name, test) in onnx_text::TESTS {
        trials.push(Trial::test(format!("onnx_text::{name}"), move || {
            test().map_err(Failed::from)
        }));
    }
    trials.push(Trial::test("random::every_operator_at_every_rank", || {
        random::walk().map_err(Failed::from)
    }));
    for part in 0..random::PARTS {
        trials.push(Trial::test(format!("random::part_{part}"), move || {
            random::run(part).map_err(Failed::from)
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run(case: &Case) -> Result<(), String> {
    if case.fails() {
        let reasons = stages::refusal(case)?;
        if stages::refusal(case)? != reasons {
            return Err("two imports give different reasons".to_owned());
        }
        snapshot(case, Stage::Errors, &reasons);
        return Ok(());
    }
    let graph = stages::start(case)?;
    let tile = native::shown()?;
    let mut texts = stages::compile(&graph, tile)?;
    let again = stages::start(case)?;
    if stages::compile(&again, tile)? != texts {
        return Err("two compilations give different texts".to_owned());
    }
    stages::check_telling(&graph)?;
    native::check(&case.name, &graph)?;
    texts.insert(Stage::Header, native::header(&case.name, &graph)?);
    if case.stages.contains(&Stage::Decompose) {
        texts.insert(Stage::Decompose, decompose::text(&case.name, &graph)?);
    }
    // Where there is no text, there is nothing to compare: objects that another compiler had a part in.
    texts.extend(native::objects(&case.name, &graph)?.map(|text| (Stage::Object, text)));
    // All stages, so that one run leaves everything there is to review.
    let differs = |s: &&Stage| {
        texts
            .get(*s)
            .is_some_and(|text| catch_unwind(|| snapshot(case, **s, text)).is_err())
    };
    let differ: Vec<&str> = case.stages.iter().filter(differs).map(|s| s.name()).collect();
    if differ.is_empty() {
        Ok(())
    } else {
        Err(format!("snapshots differ: {}", differ.join(", ")))
    }
}

fn snapshot(case: &Case, stage: Stage, text: &str) {
    let input = folder("in").join(format!("{}{INPUT}", case.name));
    keep(&case.name, stage.name(), text, Some(&input));
}

/// Compares with `out/STAGE/NAME.snap`, as a whole.
fn keep(name: &str, stage: &str, text: &str, input: Option<&Path>) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder("out").join(stage));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    if let Some(file) = input {
        settings.set_input_file(file);
    }
    settings.add_filter(r"\bsdc \d+\.\d+\.\d+\b", "sdc [version]");
    settings.add_filter(&regex_of(env!("CARGO_MANIFEST_DIR")), "[snapshots]");
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// A regular expression that matches just this path.
fn regex_of(path: &str) -> String {
    path.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '/' {
                c.to_string()
            } else {
                format!("\\{c}")
            }
        })
        .collect()
}

/// Every file below `out/` belongs to a case: one that was renamed or removed, or keeps fewer stages, leaves nothing behind.
/// Pending ones are left out: tests that run beside this one may be writing them.
fn no_stale_snapshots(cases: &[Case]) -> Result<(), String> {
    let expected: BTreeSet<PathBuf> = cases
        .iter()
        .flat_map(|case| {
            case.stages
                .iter()
                .map(|stage| Path::new(stage.name()).join(format!("{}.snap", case.name)))
        })
        .chain(
            accel::NETS
                .iter()
                .map(|net| Path::new("accel").join(format!("{}.snap", net.0))),
        )
        .collect();
    let mut stale = Vec::new();
    let out = folder("out");
    for stage in files(&out) {
        let found = if stage.is_dir() {
            files(&stage)
        } else {
            vec![stage]
        };
        let is_stale = |f: &PathBuf| f.strip_prefix(&out).is_ok_and(|f| !expected.contains(f));
        let is_pending = |f: &PathBuf| f.extension() == Some(OsStr::new("new"));
        stale.extend(found.into_iter().filter(|f| is_stale(f) && !is_pending(f)));
    }
    let stale: Vec<String> = stale.iter().map(|f| f.display().to_string()).collect();
    if stale.is_empty() {
        Ok(())
    } else {
        Err(format!("no case makes these; remove them:\n{}", stale.join("\n")))
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(OsStr::new(""))
        .to_string_lossy()
        .into_owned()
}

/// The entries of a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|e| e.expect("the folder stays as it is").path())
        .collect();
    paths.sort();
    paths
}
