//! From the passes' outcome to an artifact, and its results against the interpreter.
//!
//! The glue is what `sdc compile` does, without its options and reports. The binary's own is out of reach of a test, so
//! what is fixed here (how constants are laid out, which kernels suit a CPU) is fixed there too.

use crate::stages;
use sdc_artifact::emit::{Package, emit};
use sdc_artifact::interface::{Interface, TensorSpec, sanitise};
use sdc_artifact::load::Artifact;
use sdc_artifact::manifest::{Kind, Origin};
use sdc_artifact::merge;
use sdc_artifact::pool::Pool;
use sdc_artifact::weights::{self, Header};
use sdc_cranelift::CpuSpec;
use sdc_ir::graph::{Graph, Port, Weight};
use sdc_ir::tile::{BufferKind, Module};
use sdc_kernels::{Instance, KERNELS, features, instances};
use sdc_lower::Placement;
use sdc_passes::pipeline::{self, Compiled, PipelineOptions};
use sdc_passes::plan::{ALIGN, prepared};
use sdc_passes::tile::TileOptions;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What the snapshots show, whatever the host is: `--cpu x86-64-v3`.
pub const SHOWN: TileOptions = TileOptions {
    lanes: 4,
    block: 16,
    kernel_lanes: 8,
    streamed: false,
    winograd: true,
};
const SHOWN_CPU: &str = "x86-64-v3";

/// A CPU and the kernels to use on it.
struct Target {
    cpu: CpuSpec,
    kernels: Option<&'static Instance>,
}

impl Target {
    fn new(cpu: &str, kernels: bool) -> Result<Self, String> {
        let cpu = sdc_cranelift::cpu::find(cpu).map_err(|e| e.to_string())?;
        let available = bits(&cpu);
        let kernels = kernels
            .then(|| instances().iter().find(|i| i.features & !available == 0))
            .flatten();
        Ok(Self { cpu, kernels })
    }

    fn tile(&self) -> TileOptions {
        let options = TileOptions {
            lanes: self.cpu.f32_lanes,
            ..TileOptions::default()
        };
        match self.kernels {
            Some(kernels) => TileOptions {
                winograd: true,
                block: kernels.nr,
                kernel_lanes: kernels.lanes,
                ..options
            },
            None => options,
        }
    }

    fn features(&self) -> u64 {
        bits(&self.cpu) | self.kernels.map_or(0, |i| i.features)
    }
}

fn bits(cpu: &CpuSpec) -> u64 {
    let bit = |name: &&str| features::NAMES.iter().position(|n| n == name);
    cpu.features
        .iter()
        .filter_map(bit)
        .fold(0, |bits, bit| bits | 1 << bit)
}

/// Each constant once, in the order of the buffers.
fn constants(module: &Module) -> Vec<Weight> {
    let mut order = Vec::new();
    for buffer in module.buffers.values() {
        match buffer.kind {
            BufferKind::Const(weight) if !order.contains(&weight) => order.push(weight),
            _ => {}
        }
    }
    order
}

fn tensors<'m>(module: &'m Module, order: &[Weight]) -> Vec<&'m [u8]> {
    order.iter().map(|&w| &module.weights[w].bytes()[..]).collect()
}

fn interface(name: &str, compiled: &Compiled, header: &Header, cpu: &str, features: u64) -> Interface {
    let graph = &compiled.graph;
    let prepared = prepared(&compiled.lowered.module).unwrap_or_default();
    let list = |ports: &[Port]| {
        TensorSpec::list(ports.iter().map(|p| {
            let ty = graph.ty(p.value);
            (p.name.clone(), ty.dtype, ty.sizes().to_vec())
        }))
    };
    Interface {
        name: sanitise(name),
        inputs: list(&graph.inputs),
        outputs: list(&graph.outputs),
        arena_size: compiled.plan.arena_size,
        arena_align: ALIGN,
        weights_size: header.image() as usize,
        weights_align: weights::ALIGN,
        prepared_size: prepared.size,
        prepared_align: prepared.align(),
        weights_digest: header.digest,
        weights_embedded: false,
        cpu: cpu.to_owned(),
        features: features::names(features).map(str::to_owned).collect(),
    }
}

/// The C header of what was compiled for [`SHOWN`].
pub fn header(name: &str, compiled: &Compiled) -> String {
    let module = &compiled.lowered.module;
    let header = Header::of(&tensors(module, &constants(module)));
    sdc_artifact::header::text(&interface(name, compiled, &header, SHOWN_CPU, features::V3))
}

/// Compiles for this host, with its best kernels and with none, and for the oldest CPU; runs what this host can run, in both
/// ways of giving it threads; and compiles once more, which must give the same files.
pub fn check(name: &str, graph: &Graph) -> Result<(), String> {
    if instances().is_empty() {
        return Ok(());
    }
    for (cpu, kernels) in [("native", true), ("native", false), ("x86-64", true)] {
        let target = Target::new(cpu, kernels)?;
        let what = format!("{cpu}, kernels {}", target.kernels.map_or("none", |k| k.name));
        check_target(name, graph, &target).map_err(|e| format!("{what}: {e}"))?;
    }
    Ok(())
}

fn check_target(name: &str, graph: &Graph, target: &Target) -> Result<(), String> {
    let options = PipelineOptions {
        tile: target.tile(),
        ..PipelineOptions::default()
    };
    let compiled = pipeline::compile_pipeline(graph, &options, &mut ()).map_err(|e| e.to_string())?;
    let first = tempfile::tempdir().map_err(|e| e.to_string())?;
    let second = tempfile::tempdir().map_err(|e| e.to_string())?;
    let files = build(name, &compiled, target, first.path())?;
    if files != build(name, &compiled, target, second.path())? {
        return Err("two compilations give different files".to_owned());
    }
    let (inputs, expected) = stages::oracle(graph)?;
    let inputs = stages::bytes(&inputs);
    let artifact = Artifact::open(first.path()).map_err(|e| e.to_string())?;
    let mut instance = artifact.instance().map_err(|e| e.to_string())?;
    let pool = Pool::new(3).map_err(|e| e.to_string())?;
    let mut serial = None;
    for pool in [None, Some(&pool)] {
        let mut outputs = artifact.outputs().map_err(|e| e.to_string())?;
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
    if !used.outputs_agree || used.highest > compiled.plan.arena_size {
        return Err(format!(
            "an arena of {} bytes, but {used:?}",
            compiled.plan.arena_size
        ));
    }
    Ok(())
}

/// Writes the artifact; returns the name and digest of each file.
fn build(
    name: &str,
    compiled: &Compiled,
    target: &Target,
    dir: &Path,
) -> Result<Vec<(String, String)>, String> {
    let module = &compiled.lowered.module;
    let order = constants(module);
    let tensors = tensors(module, &order);
    let header = Header::of(&tensors);
    let interface = interface(name, compiled, &header, target.cpu.name, target.features());
    let layout = weights::layout(tensors.iter().map(|t| t.len())).ok_or("the weights are too large")?;
    let position = |weight| order.iter().position(|&w| w == weight);
    let prepared = prepared(module).unwrap_or_default();
    let placement = Placement {
        prepared: prepared.placed(),
        prepared_size: prepared.size as u64,
        temps: compiled
            .plan
            .offsets
            .values()
            .map(|o| o.map(|at| at as u64))
            .collect(),
        consts: module
            .buffers
            .values()
            .map(|b| match b.kind {
                BufferKind::Const(weight) => {
                    Some(layout.offsets[position(weight)?] - weights::PAYLOAD as u64)
                }
                _ => None,
            })
            .collect(),
        arena_size: compiled.plan.arena_size as u64,
        arena_align: ALIGN as u64,
        weights_size: header.image(),
    };
    let symbols = |instance: &Instance| -> BTreeMap<String, String> {
        KERNELS
            .iter()
            .filter_map(|k| Some((k.name.to_owned(), instance.symbol(k.name)?)))
            .collect()
    };
    let base = instances()
        .iter()
        .find(|i| i.symbol("prepare").is_some())
        .ok_or("no `prepare`")?;
    let options = sdc_cranelift::Options {
        name: interface.name.clone(),
        cpu: target.cpu.clone(),
        required_features: target.features(),
        weights_header: header.bytes(),
        kernels: target.kernels.map(symbols).unwrap_or_default(),
        prepare: Some(base.symbol("prepare").ok_or("no `prepare`")?),
        opt_level: Default::default(),
    };
    let mut code = sdc_cranelift::compile(module, &placement, &options).map_err(|e| e.to_string())?;
    let objects: Vec<&[u8]> = target
        .kernels
        .into_iter()
        .chain([base])
        .map(|i| i.object)
        .collect();
    merge::kernels(&mut code.object, &objects).map_err(|e| e.to_string())?;
    let object = code.object.write().map_err(|e| e.to_string())?;
    let package = Package {
        interface: &interface,
        object: &object,
        weights: &tensors,
        origin: Origin::default(),
        transient: None,
    };
    let written = emit(dir, &package, &BTreeSet::from(Kind::ALL)).map_err(|e| e.to_string())?;
    Ok(written
        .iter()
        .map(|w| (w.kind.file_name(name), w.sha256.to_string()))
        .collect())
}
