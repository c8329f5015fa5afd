//! What a model's prepare function asks before anything else: are these its weights, and can this CPU run it?

use super::features;

/// Bytes of a weights file compared: magic, version, payload length and digest.
pub const HEADER: usize = 48;

/// 0 if the first [`HEADER`] bytes of `weights` are those at `expected` and the CPU has all of `required`
/// (bits as in [`features::NAMES`]); 1 if the weights differ; 2 if a feature is lacking.
///
/// # Safety
/// Both pointers must be valid for [`HEADER`] bytes.
#[inline(always)]
pub unsafe fn prepare(weights: *const u8, expected: *const u8, required: u64) -> i32 {
    let mut differing = 0;
    for i in 0..HEADER {
        // SAFETY: the caller vouches for HEADER bytes.
        differing |= unsafe { *weights.add(i) ^ *expected.add(i) };
    }
    if differing != 0 {
        1
    } else if required & !features::host() != 0 {
        2
    } else {
        0
    }
}
