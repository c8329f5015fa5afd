//! From a graph to an artifact by way of the library, as the command line makes one, and its results against the interpreter.

use crate::stages;
use sdc::{Artifact, Backend, Model, Options, Target, compile};
use sdc_artifact::load::{Memory, missing_cpu_features};
use sdc_artifact::manifest::Kind;
use sdc_artifact::pool::Pool;
use sdc_ir::graph::Graph;
use sdc_kernels::features;
use sdc_passes::schedule::ScheduleOptions;
use std::path::Path;
use std::process::Command;

/// What the snapshots show, whatever the host is.
const SHOWN_CPU: &str = "x86-64-v3";

/// The compiler that built the kernels whose objects the snapshots name by their digests.
pub const COMPILER: &str = "rustc 1.95.0";

/// The SHA-256 of the object for each level of x86-64, and for plain bodies in place of kernels. `None` where another compiler than
/// [`COMPILER`] builds the kernels, which are part of it, or none are built.
pub fn objects(name: &str, graph: &Graph) -> Result<Option<String>, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output();
    let version = version.map_err(|e| e.to_string())?.stdout;
    if sdc_kernels::instances().is_empty() || !version.starts_with(COMPILER.as_bytes()) {
        return Ok(None);
    }
    let mut text = String::new();
    for (cpu, kernels) in [
        ("x86-64", true),
        ("x86-64-v3", true),
        ("x86-64-v4", true),
        ("x86-64-v3", false),
    ] {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let artifact = build(name, graph, &target(cpu, kernels)?, &[Kind::Object], dir.path())?;
        let bodies = if kernels { "" } else { " --no-kernels" };
        for file in &artifact.files {
            text += &format!("{cpu}{bodies}: {}\n", file.sha256);
        }
    }
    Ok(Some(text))
}

/// How the snapshots are lowered.
pub fn shown() -> Result<ScheduleOptions, String> {
    Ok(target(SHOWN_CPU, true)?.tile())
}

/// The C header for [`SHOWN_CPU`].
pub fn header(name: &str, graph: &Graph) -> Result<String, String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let artifact = build(
        name,
        graph,
        &target(SHOWN_CPU, true)?,
        &[Kind::Header],
        dir.path(),
    )?;
    Ok(sdc_artifact::header::text(&artifact.interface))
}

fn target(cpu: &str, kernels: bool) -> Result<Target, String> {
    Target::new(cpu, kernels).map_err(|e| e.to_string())
}

/// The code generator under test.
const BACKEND: Backend = if cfg!(feature = "llvm") {
    Backend::Llvm
} else {
    Backend::Cranelift
};

/// A target of the code generator under test; what snapshots show is always Cranelift's.
fn tested(cpu: &str, kernels: bool) -> Result<Target, String> {
    target(cpu, kernels)?
        .with_backend(BACKEND)
        .map_err(|e| e.to_string())
}

/// Compiles for this host, with its best kernels and with none, and for the oldest CPU; runs what this host can run, in both
/// ways of giving it threads; and compiles once more, which must give the same files.
pub fn check(name: &str, graph: &Graph) -> Result<(), String> {
    if sdc_kernels::instances().is_empty() {
        return Ok(());
    }
    for (cpu, kernels) in [("native", true), ("native", false), ("x86-64", true)] {
        let target = tested(cpu, kernels)?;
        let [first, second] = [folder()?, folder()?];
        let digests =
            |artifact: &Artifact| -> Vec<_> { artifact.files.iter().map(|f| (f.kind, f.sha256)).collect() };
        let artifact = build(name, graph, &target, &Kind::ALL, first.path())?;
        if digests(&artifact) != digests(&build(name, graph, &target, &Kind::ALL, second.path())?) {
            return Err("two compilations give different files".to_owned());
        }
        check_artifact(graph, &artifact).map_err(|e| format!("{}: {e}", described(&target)))?;
    }
    Ok(())
}

/// Compiles once for a CPU, with kernels or without, and runs it if this host can.
pub fn check_on(graph: &Graph, (cpu, kernels): (&str, bool), streamed: bool) -> Result<(), String> {
    let mut target = tested(cpu, kernels)?;
    target.streamed = streamed;
    let needed: Vec<String> = features::names(target.features()).map(str::to_owned).collect();
    if sdc_kernels::instances().is_empty() || !missing_cpu_features(&needed).is_empty() {
        return Ok(());
    }
    let kinds = [Kind::SharedLibrary, Kind::Weights, Kind::Manifest];
    let dir = folder()?;
    let artifact = build("random", graph, &target, &kinds, dir.path());
    artifact
        .and_then(|artifact| check_artifact(graph, &artifact))
        .map_err(|e| format!("{}: {e}", described(&target)))
}

fn folder() -> Result<tempfile::TempDir, String> {
    tempfile::tempdir().map_err(|e| e.to_string())
}

fn described(target: &Target) -> String {
    format!(
        "{}, {}, kernels {}",
        target.backend.name(),
        target.cpu.name,
        target.kernels.map_or("none", |k| k.name)
    )
}

fn check_artifact(graph: &Graph, artifact: &Artifact) -> Result<(), String> {
    let (inputs, expected) = stages::oracle(graph)?;
    // Reading or writing beyond a tensor ends the process.
    let guarded = |bytes: &[u8]| {
        let mut memory = Memory::guarded(bytes.len()).map_err(|e| e.to_string())?;
        memory.copy_from_slice(bytes);
        Ok::<_, String>(memory)
    };
    let inputs: Vec<Memory> = inputs
        .iter()
        .map(|t| guarded(t.bytes()))
        .collect::<Result<_, _>>()?;
    let inputs: Vec<&[u8]> = inputs.iter().map(|m| &**m).collect();
    let program = artifact.load().map_err(|e| e.to_string())?;
    let mut instance = program.instance().map_err(|e| e.to_string())?;
    let pool = Pool::new(3).map_err(|e| e.to_string())?;
    let mut serial = None;
    for pool in [None, Some(&pool)] {
        let outputs = expected.iter().map(|t| Memory::guarded(t.bytes().len()));
        let mut outputs: Vec<Memory> = outputs.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
        // NaN in every type of floats, so that what is read before it is written shows.
        instance.fill_arena(0xff);
        let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(|o| &mut **o).collect();
        instance
            .run(&inputs, &mut slices, pool)
            .map_err(|e| e.to_string())?;
        let found: Vec<Vec<u8>> = outputs.iter().map(|o| o.to_vec()).collect();
        if *serial.get_or_insert_with(|| found.clone()) != found {
            return Err("the result depends on the number of threads".to_owned());
        }
    }
    stages::check_outputs("native", graph, serial.unwrap_or_default(), &expected)?;
    let used = instance.measure(&inputs, None).map_err(|e| e.to_string())?;
    if !used.outputs_agree || used.highest > artifact.plan.arena_bytes {
        return Err(format!(
            "an arena of {} bytes, but {used:?}",
            artifact.plan.arena_bytes
        ));
    }
    Ok(())
}

fn build(name: &str, graph: &Graph, target: &Target, kinds: &[Kind], dir: &Path) -> Result<Artifact, String> {
    let options = Options {
        kinds: kinds.iter().copied().collect(),
        ..Options::new(target.clone())
    };
    compile(Model::of_graph(name, graph.clone()), &options, dir).map_err(|e| e.to_string())
}
