//! CPU features: our own numbering, and what this CPU and its operating system offer.

/// Names of the feature bits, bit 0 first, spelt as rustc spells them.
pub const NAMES: &[&str] = &[
    "cmpxchg16b",
    "lahfsahf",
    "popcnt",
    "sse3",
    "ssse3",
    "sse4.1",
    "sse4.2",
    "avx",
    "avx2",
    "bmi1",
    "bmi2",
    "f16c",
    "fma",
    "lzcnt",
    "movbe",
    "avx512f",
    "avx512bw",
    "avx512cd",
    "avx512dq",
    "avx512vl",
    "avx512vnni",
    "avxvnni",
];

/// What x86-64-v2 adds to the baseline: bits 0 to 6.
pub const V2: u64 = 0x7f;
/// x86-64-v3: bits 0 to 14.
pub const V3: u64 = 0x7fff;
/// x86-64-v4: bits 0 to 19.
pub const V4: u64 = 0xf_ffff;

/// Bits of the features that the CPU has and the operating system has enabled.
///
/// Vector features count only if the operating system saves their registers.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
#[allow(unused_unsafe, reason = "cpuid is a safe function in newer compilers")]
pub fn host() -> u64 {
    use core::arch::x86_64::{__cpuid, __cpuid_count};

    /// # Safety
    /// The CPU must have XGETBV.
    #[target_feature(enable = "xsave")]
    unsafe fn saved_state() -> u64 {
        // SAFETY: the feature is enabled for this function.
        unsafe { core::arch::x86_64::_xgetbv(0) }
    }

    // SAFETY: every x86-64 has CPUID; XGETBV is run only where CPUID reports OSXSAVE.
    unsafe {
        let highest = __cpuid(0).eax;
        let one = __cpuid(1);
        let (mut seven, mut seven_one) = (__cpuid(0), __cpuid(0));
        (seven.ebx, seven.ecx, seven_one.eax) = (0, 0, 0);
        if highest >= 7 {
            seven = __cpuid_count(7, 0);
            if seven.eax >= 1 {
                seven_one = __cpuid_count(7, 1);
            }
        }
        let extended = if __cpuid(0x8000_0000).eax > 0x8000_0000 {
            __cpuid(0x8000_0001).ecx
        } else {
            0
        };
        let saved = if one.ecx >> 27 & 1 == 1 { saved_state() } else { 0 };
        // XMM and YMM; then also mask registers and both halves of ZMM.
        let ymm = saved & 0x06 == 0x06;
        let zmm = saved & 0xe6 == 0xe6;

        let mut bits = 0;
        let mut next = 0;
        let mut push = |register: u32, bit: u32, usable: bool| {
            bits |= (u64::from(register >> bit & 1) & u64::from(usable)) << next;
            next += 1;
        };
        push(one.ecx, 13, true);
        push(extended, 0, true);
        push(one.ecx, 23, true);
        push(one.ecx, 0, true);
        push(one.ecx, 9, true);
        push(one.ecx, 19, true);
        push(one.ecx, 20, true);
        push(one.ecx, 28, ymm);
        push(seven.ebx, 5, ymm);
        push(seven.ebx, 3, true);
        push(seven.ebx, 8, true);
        push(one.ecx, 29, ymm);
        push(one.ecx, 12, ymm);
        push(extended, 5, true);
        push(one.ecx, 22, true);
        push(seven.ebx, 16, zmm);
        push(seven.ebx, 30, zmm);
        push(seven.ebx, 28, zmm);
        push(seven.ebx, 17, zmm);
        push(seven.ebx, 31, zmm);
        push(seven.ecx, 11, zmm);
        push(seven_one.eax, 4, ymm);
        bits
    }
}

/// No features of x86-64 elsewhere.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
pub fn host() -> u64 {
    0
}
