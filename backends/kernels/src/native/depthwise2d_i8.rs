//! Integer depthwise convolution on channels-last bytes; the contract is that of the registry's `depthwise2d_i8`.

use super::lanes_i8::{Output, requantise};
use super::params::Depthwise2dI8Params;

/// Channels summed at a time.
const WIDE: usize = 32;

struct Call<'a> {
    p: &'a Depthwise2dI8Params,
    x: *const u8,
    w: *const i16,
    bias: *const i32,
    scale: *const f32,
    out: Output,
}

/// The kernel `depthwise2d_i8`; operands x, w, bias, scale, y; the range is output rows.
///
/// # Safety
/// The operands must be valid for all elements that the [`Depthwise2dI8Params`] at `params` say are touched.
#[inline(always)]
pub unsafe fn depthwise2d_i8(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: the contract gives five operands and the parameters, and their elements.
    unsafe {
        let p = &*params.cast::<Depthwise2dI8Params>();
        let call = Call {
            p,
            x: (*operands).cast_const(),
            w: (*operands.add(1)).cast_const().cast(),
            bias: (*operands.add(2)).cast_const().cast(),
            scale: (*operands.add(3)).cast_const().cast(),
            out: Output::new(p.y_zero, p.y_min, p.y_max, p.y_shift),
        };
        let y = *operands.add(4);
        for oy in begin..end {
            for ox in 0..p.out_w {
                let to = y.offset(((oy - p.y_row0) * p.ys_h + ox * p.ys_w) as isize);
                let (mut c, channels) = (0, p.channels.max(0) as usize);
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

impl Call<'_> {
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
