//! Programs of element-wise operators; the contract is that of the registry's `map_f32`.
//!
//! A row is worked on in strips: each step goes over a strip of its sources in vectors and leaves its result in a strip of its
//! own on the stack, in the first-level cache, the last step in the result. So choosing what a step does costs a few
//! comparisons per strip, and every operator exists once in the code.

use core::mem::MaybeUninit;

use super::math;
use super::params::MapParams;
use super::simd::{LANES, V};

/// Elements of a strip.
const STRIP: usize = 256;

/// Most steps.
const STEPS: usize = 16;

/// Operands besides the result.
const OPERANDS: usize = 3;

/// A strip on the stack.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Strip([f32; STRIP]);

/// Where a step reads: elements `step` (0 or 1) apart.
#[derive(Clone, Copy)]
struct Source {
    p: *const f32,
    step: usize,
}

impl Source {
    /// The elements from `i` on: all lanes of a vector, or the first `n`.
    #[inline(always)]
    unsafe fn load(self, i: usize, n: usize) -> V {
        // SAFETY: a source has the elements of its strip; a constant has a vector.
        unsafe {
            let p = self.p.add(i * self.step);
            if n == LANES { V::load(p) } else { V::load_n(p, n) }
        }
    }
}

/// `y[i] = f(a[i], b[i])` for `n` elements.
#[inline(always)]
unsafe fn each(a: Source, b: Source, y: *mut f32, n: usize, f: impl Fn(V, V) -> V) {
    let mut i = 0;
    while i < n {
        let count = if n - i < LANES { n - i } else { LANES };
        // SAFETY: all have `n` elements, by contract.
        unsafe {
            let result = f(a.load(i, count), b.load(i, count));
            if count == LANES {
                result.store(y.add(i));
            } else {
                result.store_n(y.add(i), count);
            }
        }
        i += LANES;
    }
}

/// As [`each`] of one source.
#[inline(always)]
unsafe fn each1(a: Source, y: *mut f32, n: usize, f: impl Fn(V) -> V) {
    // SAFETY: the caller's; the unused loads are dropped by the compiler.
    unsafe { each(a, a, y, n, |x, _| f(x)) }
}

/// One step over a strip; the operators by their number in the registry.
#[inline(always)]
unsafe fn step(op: u8, a: Source, b: Source, y: *mut f32, n: usize) {
    // SAFETY: the sources and the result have `n` elements, by contract.
    unsafe {
        match op {
            1 => each(a, b, y, n, |x, y| x.add(y)),
            2 => each(a, b, y, n, |x, y| x.sub(y)),
            3 => each(a, b, y, n, |x, y| x.mul(y)),
            4 => each(a, b, y, n, |x, y| x.div(y)),
            5 => each(a, b, y, n, |x, y| x.pick(x.is_nan(), x.max(y))),
            6 => each(a, b, y, n, |x, y| x.pick(x.is_nan(), x.min(y))),
            7 => each(a, b, y, n, |x, y| y.pick(x.less(V::splat(0.0)), x)),
            8 => each1(a, y, n, |x| x.neg()),
            9 => each1(a, y, n, |x| x.abs()),
            10 => each1(a, y, n, |x| x.sqrt()),
            11 => each1(a, y, n, |x| math::exp(x)),
            12 => each1(a, y, n, |x| math::log(x)),
            13 => each1(a, y, n, |x| math::tanh(x)),
            14 => each1(a, y, n, |x| math::sigmoid(x)),
            15 => each1(a, y, n, |x| math::erf(x)),
            _ => each1(a, y, n, |x| math::softplus(x)),
        }
    }
}

/// The kernel `map_f32`; operands a, b, c, y; the range is rows.
///
/// # Safety
/// The operands must be valid for all elements that the [`MapParams`] at `params` say are touched, and its steps as the registry
/// demands: each reads operands that are there and results of earlier ones.
pub unsafe fn map_f32(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    let mut strips = [const { MaybeUninit::<Strip>::uninit() }; STEPS];
    // SAFETY: the contract gives four operands and the parameters, and their elements. A strip is written before it is read.
    unsafe {
        let p = &*params.cast::<MapParams>();
        let strides = [p.as_r, p.bs_r, p.cs_r];
        let steps = [
            p.step_0, p.step_1, p.step_2, p.step_3, p.step_4, p.step_5, p.step_6, p.step_7, p.step_8,
            p.step_9, p.step_10, p.step_11, p.step_12, p.step_13, p.step_14, p.step_15,
        ];
        let count = p.steps.clamp(0, STEPS as i64) as usize;
        let columns = p.columns.max(0) as usize;
        let y: *mut f32 = (*operands.add(OPERANDS)).cast();
        for row in begin..end {
            let mut at = 0;
            while at < columns {
                let n = if columns - at < STRIP { columns - at } else { STRIP };
                for k in 0..count {
                    let code = steps[k];
                    let constant = [f32::from_bits(code as u32); LANES];
                    let source = |number: u8| {
                        let number = usize::from(number);
                        if number < OPERANDS {
                            let operand: *const f32 = (*operands.add(number)).cast();
                            let p = operand.wrapping_offset((row * strides[number]) as isize + at as isize);
                            Source { p, step: 1 }
                        } else if number < OPERANDS + k {
                            let p = strips.as_ptr().add(number - OPERANDS).cast();
                            Source { p, step: 1 }
                        } else {
                            let p = constant.as_ptr();
                            Source { p, step: 0 }
                        }
                    };
                    let (a, b) = (source((code >> 40) as u8), source((code >> 32) as u8));
                    let to = if k + 1 == count {
                        y.wrapping_offset((row * p.ys_r) as isize + at as isize)
                    } else {
                        strips.as_mut_ptr().add(k).cast()
                    };
                    step((code >> 48) as u8, a, b, to, n);
                }
                at += n;
            }
        }
    }
}
