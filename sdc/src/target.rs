//! The CPU to compile for, and which embedded kernels suit it.

use crate::error::{Error, Result};
use sdc_cranelift::{Arch, CpuSpec};
use sdc_ir::graph::{Graph, Op};
use sdc_kernels::{Instance, features, instances};
use sdc_passes::schedule::ScheduleOptions;

/// The CPU that artifacts are compiled for unless another is asked for.
pub const DEFAULT_CPU: &str = "x86-64-v3";

/// What is compiled for.
#[derive(Debug, Clone)]
pub struct Target {
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
        let cpu = sdc_cranelift::cpu::find(cpu).map_err(Error::usage)?;
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
        let generic = sdc_cranelift::cpu::generic(arch)
            .ok_or_else(|| Error::bug(format!("{} is not another target", arch.triple())))?;
        if let Some(name) = cpu.filter(|&name| name != generic.name) {
            let message = format!("unknown CPU `{name}` of {}", arch.triple());
            return Err(Error::usage(message).help(format!("there is `{}`", generic.name)));
        }
        Ok(Self {
            cpu: generic,
            kernels: None,
            base: None,
            streamed: false,
            winograd: true,
            resident_weights: None,
        })
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
        for cpu in sdc_cranelift::supported() {
            assert_eq!(
                bits(&cpu).count_ones() as usize,
                cpu.features.len(),
                "{}",
                cpu.name
            );
        }
    }

    #[test]
    fn kernels_never_need_more_than_the_cpu_has() {
        for cpu in sdc_cranelift::supported() {
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
