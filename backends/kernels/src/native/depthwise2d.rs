//! Depthwise convolution, channels innermost: the lanes of a vector are channels.
//!
//! A tile is `T` neighbouring output columns by `CV` channel vectors. The taps of a tile are a table of (input offset,
//! weight offset); columns whose window lies inside the input share one table per output row, the others get their
//! own, without the taps that fall outside. Windows with more taps than a table holds are summed in several passes,
//! through the output.

use core::mem::MaybeUninit;

use super::arith::div_ceil;
use super::conv2d::Operands;
use super::epilogue::Epilogue;
use super::params::Depthwise2dParams;
use super::simd::{LANES, V};

/// Taps per pass.
const TAPS: usize = 64;

/// Column tiles: most columns at once that the instruction set has registers for, twice that reuse of each weight.
const WIDE: usize = 8;
const NARROW: usize = 4;

#[derive(Clone, Copy)]
struct Tap {
    input: isize,
    weight: usize,
}

/// Part of the window of one column, or of every inner column of a row.
struct Window {
    taps: [MaybeUninit<Tap>; TAPS],
    len: usize,
    /// Whether bias and residual are still to be added, and whether the sum is then complete.
    first: bool,
    last: bool,
}

struct Row<'a> {
    p: &'a Depthwise2dParams,
    operands: &'a Operands,
    epilogue: Epilogue,
    row: isize,
}

/// The kernel `depthwise2d_f32`; operands x, w, bias, residual, y; the range is output rows.
///
/// # Safety
/// The operands must be valid for all elements that the [`Depthwise2dParams`] at `params` say are touched.
#[inline(always)]
pub unsafe fn depthwise2d_f32(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: forwarded.
    unsafe {
        let p = &*params.cast::<Depthwise2dParams>();
        let operands = &Operands::read(operands, p.has_bias != 0, p.has_residual != 0);
        let epilogue = Epilogue::new(p.act, p.act_a, p.act_b);
        for row in begin..end {
            Row {
                p,
                operands,
                epilogue,
                row: row as isize,
            }
            .run();
        }
    }
}

impl Row<'_> {
    #[inline(always)]
    unsafe fn run(&self) {
        let p = self.p;
        // Columns whose window lies inside the input: inner.0 .. inner.1.
        let reach = (p.kw - 1) * p.dw;
        let begin = div_ceil(p.pl, p.sw).min(p.out_w);
        let end = div_ceil(p.in_w + p.pl - reach, p.sw).min(p.out_w).max(begin);
        // SAFETY: forwarded.
        unsafe {
            for column in 0..begin {
                self.columns(column, column + 1);
            }
            if begin < end {
                self.columns(begin, end);
            }
            for column in end..p.out_w {
                self.columns(column, column + 1);
            }
        }
    }

    /// Columns that share one window.
    #[inline(never)]
    unsafe fn columns(&self, begin: i64, end: i64) {
        let p = self.p;
        let taps = [const { MaybeUninit::uninit() }; TAPS];
        let mut window = Window {
            taps,
            len: 0,
            first: true,
            last: false,
        };
        let (mut ky, mut kx) = (0, 0);
        while !window.last {
            window.len = 0;
            while ky < p.kh && window.len < TAPS {
                let y = self.row as i64 * p.sh - p.pt + ky * p.dh;
                let x = begin * p.sw - p.pl + kx * p.dw;
                if y >= 0 && y < p.in_h && x >= 0 && x < p.in_w {
                    let input = (y - p.x_row0) * p.xs_h + kx * p.dw * p.xs_w;
                    let tap = Tap {
                        input: input as isize,
                        weight: ((ky * p.kw + kx) * p.channels) as usize,
                    };
                    window.taps[window.len].write(tap);
                    window.len += 1;
                }
                kx += 1;
                if kx == p.kw {
                    kx = 0;
                    ky += 1;
                }
            }
            window.last = ky == p.kh;
            // SAFETY: forwarded.
            unsafe {
                let mut column = begin;
                while column + WIDE as i64 <= end {
                    self.channels::<WIDE, 1>(column, &window);
                    column += WIDE as i64;
                }
                while column + NARROW as i64 <= end {
                    self.channels::<NARROW, 2>(column, &window);
                    column += NARROW as i64;
                }
                while column < end {
                    self.channels::<1, 4>(column, &window);
                    column += 1;
                }
            }
            window.first = false;
        }
    }

    /// All channels of `T` columns.
    #[inline(always)]
    unsafe fn channels<const T: usize, const CV: usize>(&self, column: i64, window: &Window) {
        let channels = self.p.channels.max(0) as usize;
        // SAFETY: forwarded.
        unsafe {
            let mut c = 0;
            while c + CV * LANES <= channels {
                self.tile::<T, CV>(column, c, LANES, window);
                c += CV * LANES;
            }
            while c < channels {
                self.tile::<T, 1>(column, c, (channels - c).min(LANES), window);
                c += LANES;
            }
        }
    }

    /// `T` columns by `CV` vectors of channels from `c` on, `n` channels in the last vector.
    #[inline(always)]
    unsafe fn tile<const T: usize, const CV: usize>(&self, column: i64, c: usize, n: usize, window: &Window) {
        let (p, operands) = (self.p, self.operands);
        let row = self.row as i64;
        let y = operands
            .y
            .wrapping_offset(((row - p.y_row0) * p.ys_h + column * p.ys_w) as isize)
            .wrapping_add(c);
        // SAFETY: the caller vouches for the elements; taps outside the input are not in the table.
        unsafe {
            let mut acc = [[V::splat(0.0); CV]; T];
            if window.first {
                if !operands.bias.is_null() {
                    acc = [load(operands.bias.add(c), n); T];
                }
                if !operands.residual.is_null() {
                    let at = (row - p.r_row0) * p.rs_h + column * p.rs_w;
                    let r = operands.residual.wrapping_offset(at as isize).wrapping_add(c);
                    for t in 0..T {
                        let start: [V; CV] = load(r.wrapping_offset(t as isize * p.rs_w as isize), n);
                        for v in 0..CV {
                            acc[t][v] = acc[t][v].add(start[v]);
                        }
                    }
                }
            } else {
                for t in 0..T {
                    acc[t] = load(y.wrapping_offset(t as isize * p.ys_w as isize), n);
                }
            }

            let x = operands
                .x
                .wrapping_offset(((column * p.sw - p.pl) * p.xs_w) as isize)
                .wrapping_add(c);
            let mut xs = [x; T];
            for t in 0..T {
                xs[t] = x.wrapping_offset(t as isize * (p.sw * p.xs_w) as isize);
            }
            let taps = window.taps.as_ptr().cast::<Tap>();
            for i in 0..window.len {
                let tap = *taps.add(i);
                let w: [V; CV] = load(operands.weights.add(tap.weight + c), n);
                for t in 0..T {
                    let pixel: [V; CV] = load(xs[t].wrapping_offset(tap.input), n);
                    for v in 0..CV {
                        acc[t][v] = pixel[v].mul_add(w[v], acc[t][v]);
                    }
                }
            }

            for t in 0..T {
                let y = y.wrapping_offset(t as isize * p.ys_w as isize);
                for v in 0..CV {
                    let out = if window.last {
                        self.epilogue.apply(acc[t][v])
                    } else {
                        acc[t][v]
                    };
                    if v + 1 == CV && n < LANES {
                        out.store_n(y.add(v * LANES), n);
                    } else {
                        out.store(y.add(v * LANES));
                    }
                }
            }
        }
    }
}

/// `CV` vectors, of which the last has `n` (1 to `LANES`) elements.
#[inline(always)]
unsafe fn load<const CV: usize>(p: *const f32, n: usize) -> [V; CV] {
    // SAFETY: the caller vouches for (CV - 1) * LANES + n elements.
    unsafe {
        let mut out = [V::splat(0.0); CV];
        for v in 0..CV {
            out[v] = if v + 1 == CV && n < LANES {
                V::load_n(p.add(v * LANES), n)
            } else {
                V::load(p.add(v * LANES))
            };
        }
        out
    }
}
