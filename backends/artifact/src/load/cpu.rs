//! Which CPU features this host has.

/// The names of x86-64 features that code may need and a host may lack, as in Rust's `target_feature`.
macro_rules! features {
    ($name:expr; $($feature:tt)*) => {
        match $name {
            $($feature => std::arch::is_x86_feature_detected!($feature),)*
            _ => false,
        }
    };
}

/// Those of `needed` that this CPU (or the operating system, for the wide registers) lacks; names unknown to this version
/// count as lacking.
pub fn missing(needed: &[String]) -> Vec<String> {
    needed.iter().filter(|name| !has(name)).cloned().collect()
}

#[cfg(target_arch = "x86_64")]
fn has(name: &str) -> bool {
    // std does not detect LAHF in 64-bit mode; every CPU with SSE4.2 has it.
    let name = if name == "lahfsahf" { "sse4.2" } else { name };
    features!(name;
        "sse" "sse2" "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "cmpxchg16b" "avx" "avx2" "bmi1" "bmi2" "f16c" "fma" "lzcnt"
        "movbe" "avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl" "avx512vnni" "avx512vbmi" "avx512vbmi2"
        "avx512bitalg" "avx512vpopcntdq" "avx512ifma" "avx512bf16" "avx512fp16" "avxvnni" "gfni" "aes" "vaes" "pclmulqdq"
        "vpclmulqdq")
}

#[cfg(not(target_arch = "x86_64"))]
fn has(_name: &str) -> bool {
    false
}
