//! The CPU to compile for, and which embedded kernels suit it.

use crate::error::{Error, Result};
use sdc_ir::graph::{Graph, Op};
use sdc_kernels::{Instance, features, instances};
use sdc_lower::{Arch, CpuSpec};
use sdc_passes::schedule::ScheduleOptions;

/// The CPU that artifacts are compiled for unless another is asked for.
pub const DEFAULT_CPU: &str = "x86-64-v3";

/// Who makes machine code of tile IR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Backend {
    /// Cranelift, which needs no system package.
    #[default]
    Cranelift,
    /// LLVM, in an sdc that was built with the cargo feature `llvm`.
    Llvm,
}

impl Backend {
    /// Its name on the command line and in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cranelift => "cranelift",
            Self::Llvm => "llvm",
        }
    }
}

/// What is compiled for, and by whom.
#[derive(Debug, Clone)]
pub struct Target {
    /// The code generator.
    pub backend: Backend,
    /// The CPU.
    pub cpu: CpuSpec,
    /// The kernels to use, if any.
    pub kernels: Option<&'static Instance>,
    /// The instance that holds `prepare`, on x86-64.
    pub base: Option<&'static Instance>,
    /// Compressed weights are rebuilt tile by tile while the model runs.
    pub streamed: bool,
    /// Convolutions may be computed by Winograd's filtering, where there is a kernel for it.
    pub winograd: bool,
    /// Bytes of weights that may be in memory at a time, if the user says.
    pub resident_weights: Option<usize>,
}

impl Target {
    /// The CPU with this name (`x86-64`, `x86-64-v3`, ..., or `native` for this machine's), and the best kernels it can run, or none.
    ///
    /// # Errors
    /// No such CPU; an sdc without kernels, as it was built on another platform.
    pub fn new(cpu: &str, kernels: bool) -> Result<Self> {
        let cpu = sdc_lower::cpu::find(cpu).map_err(Error::usage)?;
        let base = instances()
            .iter()
            .find(|i| i.symbol("prepare").is_some())
            .ok_or_else(|| {
                Error::unsupported(
                    "this sdc was built where no kernels can be built, so it cannot compile for x86-64",
                )
            })?;
        let available = bits(&cpu);
        let kernels = kernels
            .then(|| instances().iter().find(|i| i.features & !available == 0))
            .flatten();
        Ok(Self {
            backend: Backend::default(),
            cpu,
            kernels,
            base: Some(base),
            streamed: false,
            winograd: true,
            resident_weights: None,
        })
    }

    /// Another instruction set than x86-64: the bodies of all kernels are compiled.
    ///
    /// # Errors
    /// A CPU other than the generic one of the instruction set.
    pub fn other(arch: Arch, cpu: Option<&str>) -> Result<Self> {
        let generic = sdc_lower::cpu::generic(arch)
            .ok_or_else(|| Error::bug(format!("{} is not another target", arch.triple())))?;
        if let Some(name) = cpu.filter(|&name| name != generic.name) {
            let message = format!("unknown CPU `{name}` of {}", arch.triple());
            return Err(Error::usage(message).help(format!("there is `{}`", generic.name)));
        }
        Ok(Self {
            backend: Backend::default(),
            cpu: generic,
            kernels: None,
            base: None,
            streamed: false,
            winograd: true,
            resident_weights: None,
        })
    }

    /// The same, compiled by this code generator.
    ///
    /// # Errors
    /// LLVM, where sdc was built without it, or for another instruction set than x86-64.
    pub fn with_backend(self, backend: Backend) -> Result<Self> {
        if backend == Backend::Llvm {
            if cfg!(not(feature = "llvm")) {
                let message = "this sdc was built without LLVM";
                let help = "build it with the cargo feature `llvm`: `cargo build --release --features llvm`";
                return Err(Error::unsupported(message).help(help));
            }
            if self.cpu.arch != Arch::X86_64 {
                let message = format!("LLVM for {} is not supported yet", self.cpu.arch.triple());
                return Err(Error::unsupported(message).help("--backend cranelift compiles for it"));
            }
        }
        Ok(Self { backend, ..self })
    }

    /// The same, with compressed weights rebuilt tile by tile if that is asked for.
    ///
    /// # Errors
    /// A network without compressed weights: there is nothing to rebuild.
    pub fn with_streamed(self, streamed: bool, graph: &Graph) -> Result<Self> {
        if streamed && !graph.nodes().values().any(|n| matches!(n.op, Op::Rebuild(_))) {
            let message = "--weights streamed is about compressed weights, and the model has none";
            return Err(Error::usage(message).help("compress them first: `sdc compress`, or --sd"));
        }
        Ok(Self { streamed, ..self })
    }

    /// What the tile pass must know.
    pub fn tile(&self) -> ScheduleOptions {
        let mut options = ScheduleOptions {
            lanes: self.cpu.f32_lanes,
            streamed: self.streamed,
            ..ScheduleOptions::default()
        };
        if let Some(instance) = self.kernels {
            options.block = instance.nr;
            options.kernel_lanes = instance.lanes;
            options.winograd = self.winograd;
            options.sparse = true;
        }
        options
    }

    /// Bits of the CPU features the code needs.
    pub fn features(&self) -> u64 {
        bits(&self.cpu) | self.kernels.map_or(0, |i| i.features)
    }
}

/// A CPU's features in the kernels' numbering. One without a number there is one that no kernel needs.
fn bits(cpu: &CpuSpec) -> u64 {
    let bit = |name: &&str| features::NAMES.iter().position(|n| n == name);
    cpu.features
        .iter()
        .filter_map(bit)
        .fold(0, |bits, bit| bits | 1 << bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_the_backend_knows_has_a_number() {
        for cpu in sdc_lower::cpu::supported() {
            assert_eq!(
                bits(&cpu).count_ones() as usize,
                cpu.features.len(),
                "{}",
                cpu.name
            );
        }
    }

    #[test]
    #[cfg(not(feature = "llvm"))]
    fn without_llvm_the_error_names_the_feature() {
        let target = Target::new(DEFAULT_CPU, true).unwrap();
        let error = target.with_backend(Backend::Llvm).unwrap_err();
        assert_eq!(error.kind(), crate::Kind::Unsupported);
        assert!(format!("{:?}", error.problems()).contains("--features llvm"));
    }

    #[test]
    fn kernels_never_need_more_than_the_cpu_has() {
        for cpu in sdc_lower::cpu::supported() {
            let target = Target::new(cpu.name, true).unwrap();
            assert_eq!(target.features(), bits(&cpu));
            assert!(target.kernels.is_some());
            assert!(Target::new(cpu.name, false).unwrap().kernels.is_none());
        }
        assert_eq!(
            Target::new("x86-64-v3", true).unwrap().kernels.unwrap().name,
            "v3"
        );
    }
}
