//! Integer convolution on channels-last bytes; the contract is that of the registry's `conv2d_i8`.
//!
//! Products are of unsigned inputs, so signed ones have their sign bit flipped (128 is added) and their zero point with
//! them; the zero point's share of a sum is the zero point times the filter's sum of weights, subtracted beforehand. That
//! is right for padding too, which reads as the zero point, from a row of such bytes.

use super::lanes_i8::{Output, Plain, Sums};
use super::params::Conv2dI8Params;

/// Channels read at a time: the length of the row that padding reads.
const ROW: usize = 2048;
/// Filters of a full block.
const BLOCK: usize = 64;
/// Most pixels of a tile.
const MOST: usize = 12;

struct Call<'a> {
    p: &'a Conv2dI8Params,
    x: *const u8,
    w: *const i8,
    bias: *const i32,
    wsum: *const i32,
    scale: *const f32,
    y: *mut u8,
    padding: *const u8,
    /// Turns the sign bits of four inputs.
    flip: u32,
    /// Zero point of the unsigned inputs.
    zero: i32,
    out: Output,
    first_row: i64,
}

/// The kernel `conv2d_i8`; operands x, w, bias, wsum, scale, y; the range is output rows.
///
/// # Safety
/// The operands must be valid for all elements that the parameters say are touched, and the CPU must have what `S` needs.
#[inline(always)]
pub unsafe fn conv2d_i8<S: Sums>(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: the contract gives six operands and the parameters.
    unsafe {
        let p = &*params.cast::<Conv2dI8Params>();
        let mut padding = core::mem::MaybeUninit::<[u8; ROW]>::uninit();
        let row = padding.as_mut_ptr().cast::<u8>();
        for i in 0..ROW {
            row.add(i).write(p.x_zero as u8);
        }
        let signed = p.x_signed != 0;
        let call = Call {
            p,
            x: (*operands).cast_const(),
            w: (*operands.add(1)).cast_const().cast(),
            bias: (*operands.add(2)).cast_const().cast(),
            wsum: (*operands.add(3)).cast_const().cast(),
            scale: (*operands.add(4)).cast_const().cast(),
            y: *operands.add(5),
            padding: row,
            flip: if signed { 0x8080_8080 } else { 0 },
            zero: p.x_zero as i32 + if signed { 128 } else { 0 },
            out: Output::new(p.y_zero, p.y_min, p.y_max, p.y_shift),
            first_row: begin,
        };
        let pixels = (end - begin).max(0) * p.out_w;
        let filters = p.out_c.max(0) as usize;
        let mut first = 0;
        while first < filters {
            let left = filters - first;
            match left.min(BLOCK).div_ceil(16) {
                1 => call.block::<S, 1>(first, pixels),
                2 => call.block::<S, 2>(first, pixels),
                3 => call.block::<S, 3>(first, pixels),
                _ => call.block::<S, 4>(first, pixels),
            }
            first += BLOCK;
        }
    }
}

/// The kernel with sums in plain Rust.
///
/// # Safety
/// As [`conv2d_i8`].
pub unsafe fn portable(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: forwarded.
    unsafe { conv2d_i8::<Plain>(operands, params, begin, end) }
}

impl Call<'_> {
    /// All pixels of the filters from `first` on, `V` vectors of them.
    #[inline(always)]
    unsafe fn block<S: Sums, const V: usize>(&self, first: usize, pixels: i64) {
        let full = S::PIXELS[V] as i64;
        let mut at = 0;
        // SAFETY: forwarded.
        unsafe {
            while at + full <= pixels {
                match S::PIXELS[V] {
                    12 => self.tile::<S, 12, V>(first, at),
                    8 => self.tile::<S, 8, V>(first, at),
                    6 => self.tile::<S, 6, V>(first, at),
                    2 => self.tile::<S, 2, V>(first, at),
                    _ => self.tile::<S, 1, V>(first, at),
                }
                at += full;
            }
            while at + 4 <= pixels && full > 4 {
                self.tile::<S, 4, V>(first, at);
                at += 4;
            }
            while at < pixels {
                self.tile::<S, 1, V>(first, at);
                at += 1;
            }
        }
    }

    /// `P` pixels from number `at` on.
    #[inline(always)]
    unsafe fn tile<S: Sums, const P: usize, const V: usize>(&self, first: usize, at: i64) {
        let p = self.p;
        let (channels, width) = (p.in_c as usize, V * 16);
        let quads = channels.div_ceil(4);
        // Unsigned and visibly not zero, so that dividing cannot panic.
        let (pixel, row) = (at as u64, (p.out_w as u64).max(1));
        let (mut oy, mut ox) = (self.first_row + (pixel / row) as i64, (pixel % row) as i64);
        // Input position of the first tap, and output, of each pixel.
        let (mut ys, mut xs, mut to) = ([0i64; MOST], [0i64; MOST], [0i64; MOST]);
        for i in 0..P {
            ys[i] = oy * p.sh - p.pt;
            xs[i] = ox * p.sw - p.pl;
            to[i] = (oy - p.y_row0) * p.ys_h + ox * p.ys_w + first as i64;
            ox += 1;
            if ox == p.out_w {
                (ox, oy) = (0, oy + 1);
            }
        }
        // SAFETY: the kernel's contract; pointers stay inside their operands.
        unsafe {
            let mut sums = [[S::load(self.bias.add(first)); V]; P];
            for v in 0..V {
                let start =
                    S::load(self.bias.add(first + 16 * v)).minus(self.zero, self.wsum.add(first + 16 * v));
                for i in 0..P {
                    sums[i][v] = start;
                }
            }
            let taps = (p.planes * p.kh * p.kw) as usize;
            let mut w = self.w.add(first * taps * quads * 4);
            let (mut ky, mut kx) = (0, 0);
            for _ in 0..taps {
                let mut source = [core::ptr::null::<u8>(); MOST];
                for i in 0..P {
                    let (iy, ix) = (ys[i] + ky * p.dh, xs[i] + kx * p.dw);
                    if (0..p.in_h).contains(&iy) && (0..p.in_w).contains(&ix) {
                        source[i] = self.x.offset(((iy - p.x_row0) * p.xs_h + ix * p.xs_w) as isize);
                    }
                }
                let mut done = 0;
                while done < channels {
                    let n = (channels - done).min(ROW);
                    let mut from = [self.padding; MOST];
                    for i in 0..P {
                        if !source[i].is_null() {
                            from[i] = source[i].add(done);
                        }
                    }
                    for q in 0..n / 4 {
                        for i in 0..P {
                            let x = from[i].add(4 * q).cast::<u32>().read_unaligned() ^ self.flip;
                            for v in 0..V {
                                sums[i][v] = sums[i][v].dot(w.add(64 * v), x);
                            }
                        }
                        w = w.add(4 * width);
                    }
                    if n % 4 != 0 {
                        for i in 0..P {
                            // Byte by byte: there may be nothing after the last channel.
                            let mut x = 0;
                            for j in 0..n % 4 {
                                x |= u32::from(*from[i].add(n / 4 * 4 + j)) << (8 * j);
                            }
                            let x = x ^ self.flip;
                            for v in 0..V {
                                sums[i][v] = sums[i][v].dot(w.add(64 * v), x);
                            }
                        }
                        w = w.add(4 * width);
                    }
                    done += n;
                }
                kx += 1;
                if kx == p.kw {
                    (kx, ky) = (0, ky + 1);
                }
                if ky == p.kh {
                    ky = 0;
                }
            }
            let left = p.out_c as usize - first;
            for i in 0..P {
                for v in 0..V {
                    let y = self.y.offset(to[i] as isize + 16 * v as isize);
                    let count = left.saturating_sub(16 * v).min(16);
                    sums[i][v].store(self.scale.add(first + 16 * v), &self.out, y, count);
                }
            }
        }
    }
}
