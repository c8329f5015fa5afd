//! CPUs that can be compiled for.

use crate::Error;

/// An instruction set, on Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Arch {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::X86_64, Self::Aarch64, Self::Riscv64];

    /// The target triple, as Rust spells it.
    pub const fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
            Self::Riscv64 => "riscv64gc-unknown-linux-gnu",
        }
    }

    /// The one with this triple.
    pub fn find(triple: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.triple() == triple)
    }
}

/// A CPU: what a code generator may use, and what the kernels chosen for it may require.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuSpec {
    /// Its instruction set.
    pub arch: Arch,
    /// Name on the command line: `x86-64`, `x86-64-v2`, `x86-64-v3`, `x86-64-v4` or `native`.
    pub name: &'static str,
    /// Features beyond the baseline, spelt as rustc spells them.
    pub features: Vec<&'static str>,
    /// Lanes of the `f32` vectors that tile IR for it has.
    pub f32_lanes: u8,
}

struct Feature {
    name: &'static str,
    /// The lowest x86-64 level that includes it; `None` for those of no level.
    level: Option<u8>,
}

macro_rules! features {
    ($($name:tt $probe:tt $level:expr;)*) => {
        const FEATURES: &[Feature] = &[$(Feature { name: $name, level: $level }),*];

        #[cfg(target_arch = "x86_64")]
        fn detected() -> Vec<bool> {
            vec![$(is_x86_feature_detected!($probe)),*]
        }
    };
}

// Name, and the name std detects it by: it does not know LAHF, which every CPU with SSE4.2 has.
features! {
    "cmpxchg16b" "cmpxchg16b" Some(2);
    "lahfsahf" "sse4.2" Some(2);
    "popcnt" "popcnt" Some(2);
    "sse3" "sse3" Some(2);
    "ssse3" "ssse3" Some(2);
    "sse4.1" "sse4.1" Some(2);
    "sse4.2" "sse4.2" Some(2);
    "avx" "avx" Some(3);
    "avx2" "avx2" Some(3);
    "bmi1" "bmi1" Some(3);
    "bmi2" "bmi2" Some(3);
    "f16c" "f16c" Some(3);
    "fma" "fma" Some(3);
    "lzcnt" "lzcnt" Some(3);
    "movbe" "movbe" Some(3);
    "avx512f" "avx512f" Some(4);
    "avx512bw" "avx512bw" Some(4);
    "avx512cd" "avx512cd" Some(4);
    "avx512dq" "avx512dq" Some(4);
    "avx512vl" "avx512vl" Some(4);
    "avx512vnni" "avx512vnni" None;
    "avxvnni" "avxvnni" None;
}

/// Where there is no x86-64, `native` is the baseline.
#[cfg(not(target_arch = "x86_64"))]
fn detected() -> Vec<bool> {
    vec![false; FEATURES.len()]
}

const LEVELS: [(&str, u8); 4] = [
    ("x86-64", 1),
    ("x86-64-v2", 2),
    ("x86-64-v3", 3),
    ("x86-64-v4", 4),
];

/// Every CPU that can be asked for, `native` (the machine this runs on) last.
pub fn supported() -> Vec<CpuSpec> {
    let mut specs: Vec<CpuSpec> = LEVELS
        .iter()
        .map(|&(name, level)| spec(name, |_, f| f.level.is_some_and(|l| l <= level)))
        .collect();
    let here = detected();
    specs.push(spec("native", |i, _| here[i]));
    specs
}

/// The CPU that is compiled for on another instruction set than x86-64: any that has vectors of 128 bits, which for RISC-V is the
/// extension V.
pub fn generic(arch: Arch) -> Option<CpuSpec> {
    let name = match arch {
        Arch::X86_64 => return None,
        Arch::Aarch64 => "aarch64",
        Arch::Riscv64 => "rv64gcv",
    };
    Some(CpuSpec {
        arch,
        name,
        features: Vec::new(),
        f32_lanes: 4,
    })
}

/// The CPU with this name.
///
/// # Errors
/// A name that is not one of [`supported`].
pub fn find(name: &str) -> Result<CpuSpec, Error> {
    supported()
        .into_iter()
        .find(|cpu| cpu.name == name)
        .ok_or_else(|| Error::UnknownCpu {
            name: name.to_owned(),
            known: supported().iter().map(|cpu| cpu.name).collect(),
        })
}

fn spec(name: &'static str, has: impl Fn(usize, &Feature) -> bool) -> CpuSpec {
    let chosen = FEATURES.iter().enumerate().filter(|(i, f)| has(*i, f));
    CpuSpec {
        arch: Arch::X86_64,
        name,
        features: chosen.map(|(_, f)| f.name).collect(),
        f32_lanes: 4,
    }
}
