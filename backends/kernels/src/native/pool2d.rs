//! Largest elements and means of windows of channels-last f32; the contract is that of the registry's `pool2d_f32`.

use super::params::Pool2dParams;
use super::simd::V;

/// Vectors of channels computed together.
const WIDE: usize = 4;

/// Windows of pixels side by side: the part that lies inside the input, and how it is read.
struct Windows {
    /// Channel 0 of the first one's first tap.
    first: *const f32,
    rows: i64,
    columns: i64,
    row_step: isize,
    column_step: isize,
    /// What sums are divided by.
    count: f32,
    y: *mut f32,
}

/// The kernel `pool2d_f32`; operands x, y; the range is output rows.
///
/// # Safety
/// The operands must be valid for all elements that the [`Pool2dParams`] at `params` say are touched.
pub unsafe fn pool2d_f32(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: the contract gives two operands and the parameters, and their elements; taps are inside the input.
    unsafe {
        let p = &*params.cast::<Pool2dParams>();
        let x = (*operands).cast_const().cast::<f32>();
        let y = (*operands.add(1)).cast::<f32>();
        let channels = p.channels.max(0) as usize;
        let inner = inner(p);
        // Many channels are work enough for a pixel.
        let together = if channels < WIDE * V::LANES {
            WIDE as i64
        } else {
            i64::MAX
        };
        for oy in begin..end {
            let row = oy * p.sh - p.pt;
            let (first_row, end_row) = taps(row, p.dh, p.kh, 0, p.in_h);
            let (first_counted, end_counted) = taps(row, p.dh, p.kh, -p.ct, p.in_h + p.cb);
            let counted_rows = (end_counted - first_counted) as f32;
            let mut ox = 0;
            while ox < p.out_w {
                let column = ox * p.sw - p.pl;
                let several = inner.0 <= ox && together <= inner.1 - ox;
                let (first_column, end_column) = match several {
                    true => (0, p.kw),
                    false => taps(column, p.dw, p.kw, 0, p.in_w),
                };
                let mut windows = Windows {
                    first: x,
                    rows: end_row - first_row,
                    columns: end_column - first_column,
                    row_step: (p.dh * p.xs_h) as isize,
                    column_step: (p.dw * p.xs_w) as isize,
                    count: 0.0,
                    y: y.offset(((oy - p.y_row0) * p.ys_h + ox * p.ys_w) as isize),
                };
                if windows.rows > 0 && windows.columns > 0 {
                    let (iy, ix) = (row + first_row * p.dh, column + first_column * p.dw);
                    windows.first = x.offset(((iy - p.x_row0) * p.xs_h + ix * p.xs_w) as isize);
                } else {
                    (windows.rows, windows.columns) = (0, 0);
                }
                if p.mean != 0 {
                    let (first, end) = taps(column, p.dw, p.kw, -p.cl, p.in_w + p.cr);
                    windows.count = counted_rows * (end - first) as f32;
                }
                let pixels = ((p.sw * p.xs_w) as isize, p.ys_w as isize);
                match (p.mean != 0, several) {
                    (true, true) => windows.pixels::<true>(channels, pixels),
                    (true, false) => windows.pixel::<true>(channels),
                    (false, true) => windows.pixels::<false>(channels, pixels),
                    (false, false) => windows.pixel::<false>(channels),
                }
                ox += if several { WIDE as i64 } else { 1 };
            }
        }
    }
}

/// The output columns whose windows have all of their columns inside the input: the first, and one after the last.
fn inner(p: &Pool2dParams) -> (i64, i64) {
    // Unsigned and visibly not zero, so that dividing cannot panic.
    let stride = p.sw.max(1) as u64;
    let last = p.in_w - 1 - (p.kw - 1) * p.dw + p.pl;
    match last < 0 {
        true => (0, 0),
        false => {
            let end = (last as u64 / stride) as i64 + 1;
            ((p.pl.max(0) as u64).div_ceil(stride) as i64, end.min(p.out_w))
        }
    }
}

/// The taps of a window that begins at `start` which lie in `lo..hi`: the first, and one after the last.
#[inline(always)]
fn taps(start: i64, dilation: i64, window: i64, lo: i64, hi: i64) -> (i64, i64) {
    let steps = |distance: i64| {
        if dilation == 1 || distance <= 0 {
            return distance;
        }
        // Unsigned and visibly not zero, so that dividing cannot panic.
        (distance as u64).div_ceil((dilation as u64).max(1)) as i64
    };
    let first = steps(lo - start).max(0).min(window);
    (first, steps(hi - start).max(first).min(window))
}

impl Windows {
    /// One window.
    #[inline(always)]
    unsafe fn pixel<const MEAN: bool>(&self, channels: usize) {
        let (lanes, wide) = (V::LANES, WIDE * V::LANES);
        let side_by_side = (lanes as isize, lanes as isize);
        let mut c = 0;
        // SAFETY: forwarded; `channels` elements follow each tap.
        unsafe {
            while c + wide <= channels {
                self.vectors::<MEAN, WIDE, true>(c, side_by_side, lanes);
                c += wide;
            }
            while c + lanes <= channels {
                self.vectors::<MEAN, 1, true>(c, side_by_side, lanes);
                c += lanes;
            }
            if c < channels {
                self.vectors::<MEAN, 1, false>(c, side_by_side, channels - c);
            }
        }
    }

    /// `WIDE` windows, of which all columns are inside.
    #[inline(always)]
    unsafe fn pixels<const MEAN: bool>(&self, channels: usize, apart: (isize, isize)) {
        let mut c = 0;
        // SAFETY: forwarded; `channels` elements follow each tap.
        unsafe {
            while c + V::LANES <= channels {
                self.vectors::<MEAN, WIDE, true>(c, apart, V::LANES);
                c += V::LANES;
            }
            if c < channels {
                self.vectors::<MEAN, WIDE, false>(c, apart, channels - c);
            }
        }
    }

    /// `N` vectors, these elements of input and output `apart`, from channel `c` of the first window on; if they are not `FULL`, of
    /// `lanes` elements.
    #[inline(always)]
    unsafe fn vectors<const MEAN: bool, const N: usize, const FULL: bool>(
        &self,
        c: usize,
        apart: (isize, isize),
        lanes: usize,
    ) {
        // SAFETY: forwarded.
        unsafe {
            let zero = V::splat(0.0);
            let mut all = [if MEAN { zero } else { V::splat(f32::NEG_INFINITY) }; N];
            for r in 0..self.rows as isize {
                let start = self.first.offset(r * self.row_step).add(c);
                let mut row = if MEAN { [zero; N] } else { all };
                for k in 0..self.columns as isize {
                    let at = start.offset(k * self.column_step);
                    for i in 0..N {
                        let at = at.offset(i as isize * apart.0);
                        let x = if FULL { V::load(at) } else { V::load_n(at, lanes) };
                        row[i] = if MEAN {
                            row[i].add(x)
                        } else {
                            row[i].if_nan_or(row[i].max(x))
                        };
                    }
                }
                for i in 0..N {
                    all[i] = if MEAN { all[i].add(row[i]) } else { row[i] };
                }
            }
            let y = self.y.add(c);
            for i in 0..N {
                let value = if MEAN {
                    all[i].div(V::splat(self.count))
                } else {
                    all[i]
                };
                let y = y.offset(i as isize * apart.1);
                if FULL {
                    value.store(y);
                } else {
                    value.store_n(y, lanes);
                }
            }
        }
    }
}
