//! What happens to a sum before it is stored.
//!
//! `act` is 0 (none), 1 (relu), 2 (clip to `act_a ..= act_b`) or 3 (leaky relu with slope `act_a`). The first three
//! are one computation, `min(hi, max(lo, x))` with suitable bounds, so they need no branch. NaN in gives NaN out in
//! every case, as ONNX has it; clip with `act_a > act_b` gives `act_b`, also as ONNX has it.

use super::simd::V;

/// Activation ready for use in a loop.
#[derive(Clone, Copy)]
pub struct Epilogue {
    lo: f32,
    hi: f32,
    slope: f32,
    leaky: bool,
}

impl Epilogue {
    /// From the three parameters as they lie in a record.
    #[inline(always)]
    pub fn new(act: i64, act_a: i64, act_b: i64) -> Epilogue {
        let (a, b) = (f32::from_bits(act_a as u32), f32::from_bits(act_b as u32));
        let none = Epilogue {
            lo: f32::NEG_INFINITY,
            hi: f32::INFINITY,
            slope: 0.0,
            leaky: false,
        };
        if act == 1 {
            Epilogue { lo: 0.0, ..none }
        } else if act == 2 {
            Epilogue { lo: a, hi: b, ..none }
        } else if act == 3 {
            Epilogue {
                slope: a,
                leaky: true,
                ..none
            }
        } else {
            none
        }
    }

    #[inline(always)]
    pub fn apply(self, x: V) -> V {
        // SAFETY: arithmetic only; see `simd` for why the instructions exist.
        unsafe {
            if self.leaky {
                // One of the two terms is a zero, so this is exactly x or slope * x.
                let zero = V::splat(0.0);
                V::splat(self.slope).mul_add(zero.min(x), zero.max(x))
            } else {
                V::splat(self.hi).min(V::splat(self.lo).max(x))
            }
        }
    }
}
