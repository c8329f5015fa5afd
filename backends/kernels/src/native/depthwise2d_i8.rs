//! Integer depthwise convolution on channels-last bytes; the contract is that of the registry's `depthwise2d_i8`.
//!
//! Windows of 3x3 slide along a row: a column of the window is widened and paired (first row with second, third with
//! nothing) once, and every output column that it belongs to multiplies the pairs. Padding reads as the zero point, whose
//! share of a sum is subtracted beforehand. Other windows are summed tap by tap.

use super::lanes_i8::{Output, requantise};
use super::pairs_i8::{BestPairs, Pairs};
use super::params::Depthwise2dI8Params;

/// Channels summed at a time, tap by tap.
const WIDE: usize = 32;

struct Call<'a> {
    p: &'a Depthwise2dI8Params,
    x: *const u8,
    w: *const i16,
    bias: *const i32,
    scale: *const f32,
    y: *mut u8,
    out: Output,
}

/// The kernel `depthwise2d_i8`; operands x, w, bias, scale, y; the range is output rows.
///
/// # Safety
/// The operands must be valid for all elements that the [`Depthwise2dI8Params`] at `params` say are touched, and the CPU
/// must have what `S` needs.
#[inline(always)]
pub unsafe fn depthwise2d_i8<S: Pairs>(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: the contract gives five operands and the parameters, and their elements.
    unsafe {
        let p = &*params.cast::<Depthwise2dI8Params>();
        let call = Call {
            p,
            x: (*operands).cast_const(),
            w: (*operands.add(1)).cast_const().cast(),
            bias: (*operands.add(2)).cast_const().cast(),
            scale: (*operands.add(3)).cast_const().cast(),
            y: *operands.add(4),
            out: Output::new(p.y_zero, p.y_min, p.y_max, p.y_shift),
        };
        let channels = p.channels.max(0) as usize;
        if S::CHANNELS > 0 && channels >= S::CHANNELS && p.kh == 3 && p.kw == 3 && p.dw == 1 {
            let mut c = 0;
            while c < channels {
                // Some channels twice, rather than the last ones one by one.
                let from = c.min(channels - S::CHANNELS);
                if p.x_signed != 0 {
                    call.slide::<S, true>(from, begin, end);
                } else {
                    call.slide::<S, false>(from, begin, end);
                }
                c += S::CHANNELS;
            }
            return;
        }
        for oy in begin..end {
            for ox in 0..p.out_w {
                let to = call.output(oy, ox);
                let mut c = 0;
                while c + WIDE <= channels {
                    call.channels::<WIDE>(oy, ox, c, to);
                    c += WIDE;
                }
                while c + 8 <= channels {
                    call.channels::<8>(oy, ox, c, to);
                    c += 8;
                }
                while c < channels {
                    call.channels::<1>(oy, ox, c, to);
                    c += 1;
                }
            }
        }
    }
}

/// The kernel with the best vectors for the level this is compiled for.
///
/// # Safety
/// As [`depthwise2d_i8`].
pub unsafe fn portable(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: forwarded.
    unsafe { depthwise2d_i8::<BestPairs>(operands, params, begin, end) }
}

/// Where the three rows of a window are read for the channels at hand: at column 0 of the input, or, if the row does not
/// exist, always at the padding.
struct Rows {
    at: [*const u8; 3],
    step: [i64; 3],
    padding: *const u8,
}

impl Call<'_> {
    #[inline(always)]
    unsafe fn output(&self, oy: i64, ox: i64) -> *mut u8 {
        let p = self.p;
        // SAFETY: the caller's row and column exist.
        unsafe { self.y.offset(((oy - p.y_row0) * p.ys_h + ox * p.ys_w) as isize) }
    }

    /// All pixels of `S::CHANNELS` channels from `c` on, with a 3x3 window.
    #[inline(always)]
    unsafe fn slide<S: Pairs, const SIGNED: bool>(&self, c: usize, begin: i64, end: i64) {
        let p = self.p;
        // SAFETY: the kernel's contract; rows and columns outside the input read the padding.
        unsafe {
            let padding = [p.x_zero as u8; 64];
            let tap = |i: usize| S::words(self.w.add(i * p.channels as usize + c));
            // Of each column, the pairs of its first two taps, and of its third and nothing.
            let mut weights = [[S::pair(tap(0), tap(3)), S::pair(tap(6), S::zero())]; 3];
            for kx in 1..3 {
                weights[kx] = [S::pair(tap(kx), tap(3 + kx)), S::pair(tap(6 + kx), S::zero())];
            }
            let mut start = S::sums(self.bias.add(c));
            let zeros = S::pair(S::splat(p.x_zero as i16), S::splat(p.x_zero as i16));
            for kx in 0..3 {
                for half in 0..2 {
                    start = S::subtract(start, zeros, weights[kx][half]);
                }
            }
            let scale = S::scales(self.scale.add(c));
            for oy in begin..end {
                let mut rows = Rows {
                    at: [padding.as_ptr(); 3],
                    step: [0; 3],
                    padding: padding.as_ptr(),
                };
                for ky in 0..3 {
                    let iy = oy * p.sh - p.pt + ky as i64 * p.dh;
                    if (0..p.in_h).contains(&iy) {
                        rows.at[ky] = self.x.offset(((iy - p.x_row0) * p.xs_h) as isize).add(c);
                        rows.step[ky] = p.xs_w;
                    }
                }
                let mut next = -p.pl;
                let mut columns = [self.column::<S, SIGNED>(&rows, next); 3];
                columns[1] = self.column::<S, SIGNED>(&rows, next + 1);
                columns[2] = self.column::<S, SIGNED>(&rows, next + 2);
                for ox in 0..p.out_w {
                    while next < ox * p.sw - p.pl {
                        next += 1;
                        columns = [columns[1], columns[2], self.column::<S, SIGNED>(&rows, next + 2)];
                    }
                    let mut sums = start;
                    for kx in 0..3 {
                        for half in 0..2 {
                            sums = S::add(sums, columns[kx][half], weights[kx][half]);
                        }
                    }
                    S::store(sums, scale, &self.out, self.output(oy, ox).add(c));
                }
            }
        }
    }

    /// The pairs of one column of the window.
    #[inline(always)]
    unsafe fn column<S: Pairs, const SIGNED: bool>(&self, rows: &Rows, column: i64) -> [S::Pair; 2] {
        // SAFETY: the row exists, and so does the column where it is read.
        unsafe {
            let exists = (0..self.p.in_w).contains(&column);
            let mut words = [S::zero(); 3];
            for ky in 0..3 {
                let from = if exists {
                    rows.at[ky].offset((column * rows.step[ky]) as isize)
                } else {
                    rows.padding
                };
                words[ky] = S::bytes::<SIGNED>(from);
            }
            [S::pair(words[0], words[1]), S::pair(words[2], S::zero())]
        }
    }

    /// One pixel of `N` channels from `c` on.
    #[inline(always)]
    unsafe fn channels<const N: usize>(&self, oy: i64, ox: i64, c: usize, to: *mut u8) {
        let p = self.p;
        // Signed inputs have their sign bit flipped, and their zero point with them.
        let (flip, zero) = if p.x_signed != 0 {
            (0x80, p.x_zero as i16 + 128)
        } else {
            (0, p.x_zero as i16)
        };
        // SAFETY: the kernel's contract; taps outside the input are not read.
        unsafe {
            let mut sums = [0i32; N];
            for l in 0..N {
                sums[l] = *self.bias.add(c + l);
            }
            for ky in 0..p.kh {
                let iy = oy * p.sh - p.pt + ky * p.dh;
                if !(0..p.in_h).contains(&iy) {
                    continue;
                }
                for kx in 0..p.kw {
                    let ix = ox * p.sw - p.pl + kx * p.dw;
                    if !(0..p.in_w).contains(&ix) {
                        continue;
                    }
                    let x = self
                        .x
                        .offset(((iy - p.x_row0) * p.xs_h + ix * p.xs_w) as isize)
                        .add(c);
                    let w = self.w.add((ky * p.kw + kx) as usize * p.channels as usize + c);
                    for l in 0..N {
                        let value = i16::from(*x.add(l) ^ flip) - zero;
                        sums[l] = sums[l].wrapping_add(i32::from(value) * i32::from(*w.add(l)));
                    }
                }
            }
            for l in 0..N {
                *to.add(c + l) = requantise(sums[l], *self.scale.add(c + l), &self.out);
            }
        }
    }
}
