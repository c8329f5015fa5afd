//! The library as a program uses it: nothing but its public items, on the committed example.
#![allow(clippy::unwrap_used, reason = "tests")]

use sdc::check::{Checker, Tolerance, Way};
use sdc::{
    DataSet, Error, Kind, Model, ModelOptions, Observer, Options, Target, Tensor, compile, compile_watched,
};
use std::path::PathBuf;
use std::sync::Mutex;

fn example(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/shapes")).join(name)
}

fn options() -> Options {
    Options::new(Target::new("native", true).unwrap())
}

/// Keeps the names of steps, and stops before one of them.
struct Stop(&'static str, Mutex<Vec<String>>);

impl Observer for Stop {
    fn step(&self, name: &str) {
        self.1.lock().unwrap().push(name.to_owned());
    }
    fn cancelled(&self) -> bool {
        self.1.lock().unwrap().last().is_some_and(|last| last == self.0)
    }
}

#[test]
fn a_model_in_memory_runs_as_the_interpreter_says() {
    let bytes = std::fs::read(example("shapes.onnx")).unwrap();
    let model = Model::from_bytes(bytes.into(), "shapes", &ModelOptions::default()).unwrap();
    let image =
        Tensor::from_elements(vec![1, 1, 24, 24], (0..576).map(|i| (i % 7) as f32).collect()).unwrap();
    let expected = sdc::interpret(&model.graph, std::slice::from_ref(&image)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let artifact = compile(model, &options(), dir.path()).unwrap();
    assert_eq!(artifact.interface.name, "shapes");
    let program = artifact.load().unwrap();
    let found = sdc::run(&program, &[image]).unwrap();
    for (found, expected) in found.iter().zip(&expected) {
        let pairs = found.to_f64_vec().into_iter().zip(expected.to_f64_vec());
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-3));
    }
    let wrong = Tensor::from_elements(vec![1], vec![0.0f32]).unwrap();
    assert_eq!(sdc::run(&program, &[wrong]).unwrap_err().kind(), Kind::Usage);
    assert_eq!(sdc::run(&program, &[]).unwrap_err().kind(), Kind::Usage);
}

#[test]
fn recorded_outputs_are_met() {
    let sets = DataSet::all(&example("shapes_io")).unwrap();
    let mut checker = Checker::new(
        example("shapes.onnx"),
        ModelOptions::default(),
        Way::Native(options()),
        &(),
    );
    let checker = checker.as_mut().unwrap();
    for set in &sets {
        let rows = checker.check(set, Tolerance::default()).unwrap();
        assert!(!rows.is_empty() && rows.iter().all(|row| row.passed));
        let strict = Tolerance {
            rtol: Some(0.0),
            atol: Some(-1.0),
        };
        assert!(checker.check(set, strict).unwrap().iter().all(|row| !row.passed));
    }
    let (used, size) = checker.arena(&sets[0]).unwrap().unwrap();
    assert!(used.outputs_agree && used.highest <= size);
}

#[test]
fn an_observer_stops_between_steps_and_nothing_is_written() {
    let model = Model::read(&example("shapes.onnx"), &ModelOptions::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let stop = Stop("hash weights", Mutex::default());
    let error = compile_watched(model, &options(), dir.path(), &stop, None).unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled);
    assert!(stop.1.lock().unwrap().iter().any(|step| step == "fuse"));
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn errors_say_whose_fault_they_are_and_what_would_help() {
    let of = |result: Result<Model, Error>| result.unwrap_err();
    let missing = of(Model::read("no such file".as_ref(), &ModelOptions::default()));
    assert_eq!(missing.kind(), Kind::Usage);
    let text = of(Model::read(&example("README.md"), &ModelOptions::default()));
    assert_eq!(text.kind(), Kind::Malformed);
    assert!(text.problems()[0].help.as_ref().unwrap().contains("README.md"));
    let fixed = ModelOptions {
        fixed: vec![("nobody".to_owned(), Tensor::scalar(1.0f32))],
        ..ModelOptions::default()
    };
    let unknown = of(Model::read(&example("shapes.onnx"), &fixed));
    assert_eq!(unknown.kind(), Kind::Usage);
    assert!(unknown.to_string().contains("`nobody`"));
}

#[test]
fn an_observer_stops_compression() {
    let model = Model::read(&example("shapes.onnx"), &ModelOptions::default()).unwrap();
    struct Tired(std::sync::atomic::AtomicUsize);
    impl sdc::Observer for Tired {
        fn at(&self, _: usize, _: usize, _: &str) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        fn cancelled(&self) -> bool {
            self.0.load(std::sync::atomic::Ordering::Relaxed) > 1
        }
    }
    let fused = sdc::compress::fuse(&model.graph).unwrap();
    let tired = Tired(0.into());
    let error = sdc::compress::compress(fused.clone(), &Default::default(), &tired).unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled);
    let sets = sdc::Calibration::of_sets(Vec::new(), &fused);
    assert_eq!(sets.map(|_| ()).unwrap_err().kind(), Kind::Usage);
}

#[test]
fn ranges_come_from_compiled_code_where_it_can_run() {
    let model = Model::read(&example("shapes.onnx"), &ModelOptions::default()).unwrap();
    let fused = sdc::compress::fuse(&model.graph).unwrap();
    let convert = || sdc::to_integers(&fused, None, &sdc::Preprocessing::default(), 6, &()).unwrap();
    let ((graph, report), (again, _)) = (convert(), convert());
    assert_eq!(report.interpreted, !runs_here(sdc::DEFAULT_CPU));
    assert_eq!((report.inputs, report.made_up), (6, true));
    assert_eq!(graph.to_string(), again.to_string());
}

/// Whether code for a CPU runs here: whether the loader takes it.
fn runs_here(cpu: &str) -> bool {
    let model = Model::read(&example("shapes.onnx"), &ModelOptions::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new(Target::new(cpu, true).unwrap());
    compile(model, &options, dir.path()).unwrap().load().is_ok()
}
