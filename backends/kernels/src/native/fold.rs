//! Going over a row in vectors, and folding a row into one number.

use super::simd::{LANES, V};

/// Calls `f(first element, accumulator, elements)` for `n` elements, a vector at a time: the accumulators 0 to 3 in turns, so that
/// sums do not wait for each other; the last vector may have fewer elements.
#[inline(always)]
pub fn vectors(n: usize, mut f: impl FnMut(usize, usize, usize)) {
    let mut i = 0;
    while i + 4 * LANES <= n {
        for k in 0..4 {
            f(i + k * LANES, k, LANES);
        }
        i += 4 * LANES;
    }
    while i + LANES <= n {
        f(i, 0, LANES);
        i += LANES;
    }
    if i < n {
        f(i, 1, n - i);
    }
}

/// The first `n` elements at `p`, `fill` in the other lanes.
#[inline(always)]
pub unsafe fn load(p: *const f32, n: usize, fill: V) -> V {
    // SAFETY: the caller has the elements.
    unsafe {
        if n == LANES {
            V::load(p)
        } else {
            head(V::load_n(p, n), n, fill)
        }
    }
}

/// Writes the first `n` lanes.
#[inline(always)]
pub unsafe fn store(x: V, p: *mut f32, n: usize) {
    // SAFETY: the caller has the elements.
    unsafe {
        if n == LANES {
            x.store(p);
        } else {
            x.store_n(p, n);
        }
    }
}

/// The first `n` lanes of `x`, `fill` in the others.
#[inline(always)]
pub unsafe fn head(x: V, n: usize, fill: V) -> V {
    const NUMBERS: [f32; 16] = [
        0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.,
    ];
    if n == LANES {
        return x;
    }
    // SAFETY: there are as many numbers as lanes, at most.
    unsafe { x.pick(V::load(NUMBERS.as_ptr()).less(V::splat(n as f32)), fill) }
}

/// The sum of all lanes, in all lanes.
#[inline(always)]
pub unsafe fn sum(x: [V; 4]) -> V {
    // SAFETY: arithmetic of values only.
    unsafe { across(x[0].add(x[1]).add(x[2].add(x[3])), |a, b| a + b) }
}

/// The largest of all lanes, in all lanes.
#[inline(always)]
pub unsafe fn max(x: [V; 4]) -> V {
    // SAFETY: arithmetic of values only.
    unsafe {
        across(
            x[0].max(x[1]).max(x[2].max(x[3])),
            |a, b| if a > b { a } else { b },
        )
    }
}

/// Folds the lanes by halves.
#[inline(always)]
unsafe fn across(x: V, f: impl Fn(f32, f32) -> f32) -> V {
    let mut lanes = [0.0; LANES];
    // SAFETY: the array has the lanes.
    unsafe {
        x.store(lanes.as_mut_ptr());
        let mut half = LANES / 2;
        while half > 0 {
            for l in 0..half {
                lanes[l] = f(lanes[l], lanes[l + half]);
            }
            half /= 2;
        }
        V::splat(lanes[0])
    }
}
