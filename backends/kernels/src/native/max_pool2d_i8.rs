//! Maximum pooling of channels-last bytes; the contract is that of the registry's `max_pool2d_i8`.

use super::params::MaxPool2dI8Params;

struct Call<'a> {
    p: &'a MaxPool2dI8Params,
    x: *const u8,
    y: *mut u8,
    /// 128 where bytes are signed: with their sign bit turned they compare as unsigned ones.
    flip: u8,
}

/// The kernel `max_pool2d_i8`; operands x, y; the range is output rows.
///
/// # Safety
/// The operands must be valid for all elements that the [`MaxPool2dI8Params`] at `params` say are touched.
pub unsafe fn max_pool2d_i8(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: the contract gives two operands and the parameters, and their elements.
    unsafe {
        let p = &*params.cast::<MaxPool2dI8Params>();
        let call = Call {
            p,
            x: (*operands).cast_const(),
            y: *operands.add(1),
            flip: if p.x_signed != 0 { 128 } else { 0 },
        };
        let channels = p.channels.max(0) as usize;
        for oy in begin..end {
            for ox in 0..p.out_w {
                let mut c = 0;
                while c + 64 <= channels {
                    call.channels::<64>(oy, ox, c);
                    c += 64;
                }
                while c + 16 <= channels {
                    call.channels::<16>(oy, ox, c);
                    c += 16;
                }
                if c < channels && channels >= 16 {
                    // Some channels twice, rather than the last ones one by one.
                    call.channels::<16>(oy, ox, channels - 16);
                    continue;
                }
                while c < channels {
                    call.channels::<1>(oy, ox, c);
                    c += 1;
                }
            }
        }
    }
}

impl Call<'_> {
    /// `N` channels of one window.
    #[inline(always)]
    unsafe fn channels<const N: usize>(&self, oy: i64, ox: i64, c: usize) {
        let p = self.p;
        let mut largest = [0u8; N];
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
                let at = (iy - p.x_row0) * p.xs_h + ix * p.xs_w + c as i64;
                // SAFETY: the place is inside the input, which has the channels.
                let x = unsafe { self.x.offset(at as isize).cast::<[u8; N]>().read_unaligned() };
                for l in 0..N {
                    let x = x[l] ^ self.flip;
                    largest[l] = if x > largest[l] { x } else { largest[l] };
                }
            }
        }
        for l in 0..N {
            largest[l] ^= self.flip;
        }
        let at = (oy - p.y_row0) * p.ys_h + ox * p.ys_w + c as i64;
        // SAFETY: as above, of the output.
        unsafe {
            self.y
                .offset(at as isize)
                .cast::<[u8; N]>()
                .write_unaligned(largest)
        };
    }
}
