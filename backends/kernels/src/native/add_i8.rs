//! Sums and products of integer tensors; the contracts are those of the registry's `add_i8` and `mul_i8`.
//!
//! Rows that follow one another without a gap are one long row. A last part that is no whole vector goes through a copy.

use super::params::{AddI8Params, MulI8Params};
use super::simd::V;

/// Elements at a time.
const WIDE: usize = 32;

/// Where the results of integer scales come from: `clamp(zero + ((product + 2^(shift-1)) >> shift))`.
#[derive(Clone, Copy)]
struct Shifted {
    zero: i64,
    min: i64,
    max: i64,
    shift: u32,
}

impl Shifted {
    #[inline(always)]
    fn apply(self, product: i64) -> u8 {
        let y = ((product + (1 << (self.shift - 1))) >> self.shift) + self.zero;
        let y = if y > self.min { y } else { self.min };
        let y = if y < self.max { y } else { self.max };
        y as u8
    }
}

/// A number that divides vectors of numbers.
#[derive(Clone, Copy)]
struct Divisor {
    divisor: V,
    minus: V,
    reciprocal: V,
}

impl Divisor {
    #[inline(always)]
    unsafe fn new(divisor: f32) -> Self {
        // SAFETY: arithmetic.
        unsafe {
            Self {
                divisor: V::splat(divisor),
                minus: V::splat(-divisor),
                reciprocal: V::splat(1.0).div(V::splat(divisor)),
            }
        }
    }

    /// `x / divisor`, correctly rounded: exact remainders correct the product with the rounded reciprocal, first to
    /// less than a unit in the last place, then to the nearest number. Nothing here is so large or small that it would
    /// overflow or lose digits: the registry bounds the scales.
    #[inline(always)]
    unsafe fn divide(self, x: V) -> V {
        // SAFETY: arithmetic.
        unsafe {
            if !V::FUSED {
                return x.div(self.divisor);
            }
            let q = x.mul(self.reciprocal);
            let q = q.mul_add(self.minus, x).mul_add(self.reciprocal, q);
            q.mul_add(self.minus, x).mul_add(self.reciprocal, q)
        }
    }
}

/// Real arithmetic of a sum.
#[derive(Clone, Copy)]
struct Real {
    a_zero: V,
    a_scale: V,
    b_zero: V,
    b_scale: V,
    divisor: Divisor,
    /// Bounds less the zero point: integers, so that clamping and rounding commute.
    low: V,
    high: V,
    zero: i32,
}

impl Real {
    #[inline(always)]
    unsafe fn new(p: &AddI8Params) -> Self {
        let f32 = |bits: i64| f32::from_bits(bits as u32);
        // SAFETY: arithmetic.
        unsafe {
            Self {
                a_zero: V::splat(p.a_zero as f32),
                a_scale: V::splat(f32(p.a_scale)),
                b_zero: V::splat(p.b_zero as f32),
                b_scale: V::splat(f32(p.b_scale)),
                divisor: Divisor::new(f32(p.y_scale)),
                low: V::splat((p.y_min - p.y_zero) as f32),
                high: V::splat((p.y_max - p.y_zero) as f32),
                zero: p.y_zero as i32,
            }
        }
    }

    /// A vector of results; `b` may be null.
    #[inline(always)]
    unsafe fn vector<const A: bool, const B: bool>(&self, a: *const u8, b: *const u8, y: *mut u8) {
        // SAFETY: a vector of elements each, by contract.
        unsafe {
            let mut sum = V::bytes::<A>(a).sub(self.a_zero).mul(self.a_scale);
            if !b.is_null() {
                sum = sum.add(V::bytes::<B>(b).sub(self.b_zero).mul(self.b_scale));
            }
            let y_f = self.divisor.divide(sum).max(self.low).min(self.high);
            y_f.store_bytes(self.zero, y);
        }
    }

    #[inline(always)]
    unsafe fn row<const A: bool, const B: bool>(&self, a: *const u8, b: *const u8, y: *mut u8, n: usize) {
        // SAFETY: `n` elements each, by contract; the copies have a vector.
        unsafe {
            let second = |i: usize| if b.is_null() { b } else { b.add(i) };
            let mut i = 0;
            while i + V::LANES <= n {
                self.vector::<A, B>(a.add(i), second(i), y.add(i));
                i += V::LANES;
            }
            if i == n {
                return;
            }
            let (left, mut bytes) = (n - i, [[0u8; V::LANES]; 3]);
            let [first, other, result] = &mut bytes;
            copy(first.as_mut_ptr(), a.add(i), left);
            if !b.is_null() {
                copy(other.as_mut_ptr(), b.add(i), left);
            }
            let from = if b.is_null() { b } else { other.as_ptr() };
            self.vector::<A, B>(first.as_ptr(), from, result.as_mut_ptr());
            copy(y.add(i), result.as_ptr(), left);
        }
    }
}

/// Copies some bytes, fewer than a vector.
#[inline(always)]
unsafe fn copy(to: *mut u8, from: *const u8, n: usize) {
    for j in 0..n.min(V::LANES) {
        // SAFETY: `n` elements, by contract.
        unsafe { *to.add(j) = *from.add(j) };
    }
}

/// An operand's elements as integers less its zero point.
#[derive(Clone, Copy)]
struct Integer {
    from: *const u8,
    /// 128 where the elements are signed: what turns the sign bit makes them unsigned, and 128 too large.
    flip: u8,
    zero: i32,
    scale: i32,
}

impl Integer {
    #[inline(always)]
    fn new(from: *const u8, signed: i64, zero: i64, scale: i64) -> Self {
        let flip = if signed != 0 { 128 } else { 0 };
        Self {
            from,
            flip,
            zero: zero as i32 + i32::from(flip),
            scale: scale as i32,
        }
    }

    #[inline(always)]
    unsafe fn at(self, i: usize) -> i32 {
        // SAFETY: the element exists, by contract.
        i32::from(unsafe { *self.from.add(i) } ^ self.flip) - self.zero
    }
}

/// Stores `n` results, `WIDE` at a time, from what `product` says of an element.
#[inline(always)]
unsafe fn integers(y: *mut u8, n: usize, shifted: Shifted, product: impl Fn(usize) -> i64) {
    let mut i = 0;
    // SAFETY: `n` elements, by contract.
    unsafe {
        while i + WIDE <= n {
            let mut results = [0; WIDE];
            for l in 0..WIDE {
                results[l] = shifted.apply(product(i + l));
            }
            y.add(i).cast::<[u8; WIDE]>().write_unaligned(results);
            i += WIDE;
        }
        while i < n {
            *y.add(i) = shifted.apply(product(i));
            i += 1;
        }
    }
}

/// Runs `row(a, b, y, n)` for the rows `begin..end`, or once if they follow one another; the strides are those of a, b and y.
#[inline(always)]
unsafe fn rows(
    pointers: [*mut u8; 3],
    strides: [i64; 3],
    columns: i64,
    (begin, end): (i64, i64),
    row: impl Fn(*const u8, *const u8, *mut u8, usize),
) {
    let dense =
        strides[0] == columns && strides[2] == columns && (pointers[1].is_null() || strides[1] == columns);
    let (count, n) = if dense {
        (1, columns * (end - begin))
    } else {
        (end - begin, columns)
    };
    for r in 0..count {
        // SAFETY: the rows exist, by contract.
        let at = |i: usize| unsafe { pointers[i].offset(((begin + r) * strides[i]) as isize) };
        let b = if pointers[1].is_null() { pointers[1] } else { at(1) };
        row(at(0), b, at(2), n.max(0) as usize);
    }
}

/// The kernel `add_i8`; operands a, b (null if absent), y; the range is rows.
///
/// # Safety
/// The operands must be valid for all elements that the [`AddI8Params`] at `params` say are touched.
pub unsafe fn add_i8(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: the contract gives three operands and the parameters, and their elements.
    unsafe {
        let p = &*params.cast::<AddI8Params>();
        let b = if p.has_b != 0 {
            *operands.add(1)
        } else {
            core::ptr::null_mut()
        };
        let pointers = [*operands, b, *operands.add(2)];
        let (strides, range) = ([p.as_r, p.bs_r, p.ys_r], (begin, end));
        if p.y_shift == 0 {
            let real = Real::new(p);
            match (p.a_signed != 0, p.b_signed != 0) {
                (false, false) => rows(pointers, strides, p.columns, range, |a, b, y, n| {
                    real.row::<false, false>(a, b, y, n)
                }),
                (false, true) => rows(pointers, strides, p.columns, range, |a, b, y, n| {
                    real.row::<false, true>(a, b, y, n)
                }),
                (true, false) => rows(pointers, strides, p.columns, range, |a, b, y, n| {
                    real.row::<true, false>(a, b, y, n)
                }),
                (true, true) => rows(pointers, strides, p.columns, range, |a, b, y, n| {
                    real.row::<true, true>(a, b, y, n)
                }),
            }
            return;
        }
        let shifted = Shifted {
            zero: p.y_zero,
            min: p.y_min,
            max: p.y_max,
            shift: p.y_shift as u32 & 63,
        };
        rows(pointers, strides, p.columns, range, |a, b, y, n| {
            let a = Integer::new(a, p.a_signed, p.a_zero, p.a_scale);
            let first = |i: usize| i64::from(a.at(i)) * i64::from(a.scale);
            if b.is_null() {
                return integers(y, n, shifted, first);
            }
            let b = Integer::new(b, p.b_signed, p.b_zero, p.b_scale);
            integers(y, n, shifted, |i| {
                first(i) + i64::from(b.at(i)) * i64::from(b.scale)
            });
        });
    }
}

/// The kernel `mul_i8`; operands a, b, y; the range is rows.
///
/// # Safety
/// The operands must be valid for all elements that the [`MulI8Params`] at `params` say are touched.
pub unsafe fn mul_i8(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: as in `add_i8`.
    unsafe {
        let p = &*params.cast::<MulI8Params>();
        let pointers = [*operands, *operands.add(1), *operands.add(2)];
        let shifted = Shifted {
            zero: p.y_zero,
            min: p.y_min,
            max: p.y_max,
            shift: p.y_shift.max(1) as u32 & 63,
        };
        let scale = p.scale as i32;
        rows(
            pointers,
            [p.as_r, p.bs_r, p.ys_r],
            p.columns,
            (begin, end),
            |a, b, y, n| {
                let a = Integer::new(a, p.a_signed, p.a_zero, 1);
                let b = Integer::new(b, p.b_signed, p.b_zero, 1);
                integers(y, n, shifted, |i| i64::from(a.at(i) * b.at(i)) * i64::from(scale));
            },
        );
    }
}
