//! Integer arithmetic that cannot panic.

/// `a / b`, and `a` for a `b` of zero (which only an empty reduction has): a plain division could panic.
#[inline(always)]
pub fn div(a: usize, b: usize) -> usize {
    match core::num::NonZero::new(b) {
        Some(b) => a / b,
        None => a,
    }
}

/// `a / b` rounded up; zero for a negative `a`.
#[inline(always)]
pub fn div_ceil(a: i64, b: i64) -> i64 {
    if a > 0 {
        div((a + b - 1) as usize, b as usize) as i64
    } else {
        0
    }
}
