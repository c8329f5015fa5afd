//! Plain arrays: what the rlib falls back to on other architectures and under Miri.

#[derive(Clone, Copy)]
pub struct V([f32; 4]);

const SIGN: u32 = 1 << 31;

/// Where the last place counts ones, so that addition rounds.
const ONES: f32 = 12_582_912.0;

/// A set of lanes.
#[derive(Clone, Copy)]
pub struct M([bool; 4]);

// SAFETY (all functions): the caller vouches for the pointers; nothing else here is unsafe, the markers only keep the
// signatures of the other instruction sets.
impl V {
    pub const LANES: usize = 4;
    /// Vector columns of a full weight block.
    pub const COLUMNS: usize = 2;

    #[inline(always)]
    pub unsafe fn load(p: *const f32) -> V {
        unsafe { V(p.cast::<[f32; 4]>().read_unaligned()) }
    }

    #[inline(always)]
    pub unsafe fn store(self, p: *mut f32) {
        unsafe { p.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    /// The first `n` (0 to 4) elements at `p`, zero in the other lanes; nothing beyond `n` is read.
    #[inline(always)]
    pub unsafe fn load_n(p: *const f32, n: usize) -> V {
        let mut out = [0.0; 4];
        for (i, lane) in out.iter_mut().enumerate().take(n) {
            *lane = unsafe { p.add(i).read() };
        }
        V(out)
    }

    /// Writes the first `n` (0 to 4) lanes and nothing else.
    #[inline(always)]
    pub unsafe fn store_n(self, p: *mut f32, n: usize) {
        for (i, lane) in self.0.iter().enumerate().take(n) {
            unsafe { p.add(i).write(*lane) };
        }
    }

    /// A hint that the line at `p`, which need not be a valid address, will be read.
    #[inline(always)]
    pub unsafe fn prefetch(p: *const f32) {
        let _ = p;
    }

    #[inline(always)]
    pub unsafe fn splat(x: f32) -> V {
        V([x; 4])
    }

    /// `self * b + c`, rounded twice.
    #[inline(always)]
    pub unsafe fn mul_add(self, b: V, c: V) -> V {
        self.zip(b, |a, b| a * b).zip(c, |p, c| p + c)
    }

    #[inline(always)]
    pub unsafe fn add(self, b: V) -> V {
        self.zip(b, |a, b| a + b)
    }

    /// Whether [`V::mul_add`] rounds once.
    pub const FUSED: bool = false;

    #[inline(always)]
    pub unsafe fn sub(self, b: V) -> V {
        self.zip(b, |a, b| a - b)
    }

    #[inline(always)]
    pub unsafe fn mul(self, b: V) -> V {
        self.zip(b, |a, b| a * b)
    }

    #[inline(always)]
    pub unsafe fn div(self, b: V) -> V {
        self.zip(b, |a, b| a / b)
    }

    /// `other` where this is NaN.
    #[inline(always)]
    pub unsafe fn or(self, other: V) -> V {
        self.zip(other, |a, b| if a.is_nan() { b } else { a })
    }

    /// This where it is NaN, else `other`.
    #[inline(always)]
    pub unsafe fn if_nan_or(self, other: V) -> V {
        self.zip(other, |a, b| if a.is_nan() { a } else { b })
    }

    /// A byte per lane as numbers.
    #[inline(always)]
    pub unsafe fn bytes<const SIGNED: bool>(p: *const u8) -> V {
        let x = unsafe { p.cast::<[u8; 4]>().read_unaligned() };
        V(x.map(|x| if SIGNED { f32::from(x as i8) } else { f32::from(x) }))
    }

    /// The low bytes of the nearest integers, halves to even, plus `zero`; lanes are below 2^21 in magnitude.
    #[inline(always)]
    pub unsafe fn store_bytes(self, zero: i32, p: *mut u8) {
        let bytes = self.0.map(|x| (((x + ONES) - ONES) as i32 + zero) as u8);
        unsafe { p.cast::<[u8; 4]>().write_unaligned(bytes) };
    }

    /// Larger of the two; `b` where either is NaN.
    #[inline(always)]
    pub unsafe fn max(self, b: V) -> V {
        self.zip(b, |a, b| if a > b { a } else { b })
    }

    /// Smaller of the two; `b` where either is NaN.
    #[inline(always)]
    pub unsafe fn min(self, b: V) -> V {
        self.zip(b, |a, b| if a < b { a } else { b })
    }

    /// Lanes where this is less than `b`; none where either is NaN.
    #[inline(always)]
    pub unsafe fn less(self, b: V) -> M {
        M(core::array::from_fn(|i| self.0[i] < b.0[i]))
    }

    /// Lanes that are NaN.
    #[inline(always)]
    pub unsafe fn is_nan(self) -> M {
        M(self.0.map(f32::is_nan))
    }

    /// `self` in the lanes of `at`, `other` elsewhere.
    #[inline(always)]
    pub unsafe fn pick(self, at: M, other: V) -> V {
        V(core::array::from_fn(
            |i| if at.0[i] { self.0[i] } else { other.0[i] },
        ))
    }

    /// Magnitude.
    #[inline(always)]
    pub unsafe fn abs(self) -> V {
        V(self.0.map(|x| f32::from_bits(x.to_bits() & !SIGN)))
    }

    /// The sign turned.
    #[inline(always)]
    pub unsafe fn neg(self) -> V {
        V(self.0.map(|x| -x))
    }

    /// This, which is not negative where `b` is not, with the signs of `b`.
    #[inline(always)]
    pub unsafe fn with_sign_of(self, b: V) -> V {
        self.zip(b, |x, sign| f32::from_bits(x.to_bits() | sign.to_bits() & SIGN))
    }

    /// Square root.
    #[inline(always)]
    pub unsafe fn sqrt(self) -> V {
        V(self.0.map(sqrt))
    }

    /// Nearest integer, halves to even, of magnitudes below 2^21.
    #[inline(always)]
    pub unsafe fn nearest(self) -> V {
        V(self.0.map(|x| (x + ONES) - ONES))
    }

    /// `self * 2^n`, rounded once, for integers `n` from -252 to 254.
    #[inline(always)]
    pub unsafe fn scale(self, n: V) -> V {
        let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
        // Two factors, so that neither overflows; the first product is exact.
        self.zip(n, |x, n| {
            let n = n as i32;
            x * power(n >> 1) * power(n.wrapping_sub(n >> 1))
        })
    }

    /// Mantissa from 1/2 to below 1 and exponent of positive normal numbers.
    #[inline(always)]
    pub unsafe fn split(self) -> (V, V) {
        let mantissa = self
            .0
            .map(|x| f32::from_bits(x.to_bits() & 0x007f_ffff | 0x3f00_0000));
        let exponent = self.0.map(|x| ((x.to_bits() >> 23) as i32 - 126) as f32);
        (V(mantissa), V(exponent))
    }

    #[inline(always)]
    fn zip(self, b: V, f: impl Fn(f32, f32) -> f32) -> V {
        V(core::array::from_fn(|i| f(self.0[i], b.0[i])))
    }
}

/// Square root, which `core` has not got: Newton's iteration in `f64`, rounded.
fn sqrt(x: f32) -> f32 {
    if x.is_nan() || x < 0.0 {
        return f32::NAN;
    }
    if x == 0.0 || x == f32::INFINITY {
        return x;
    }
    let wide = f64::from(x);
    // Half the exponent is a start that six iterations make exact to double precision.
    let mut root = f64::from_bits((wide.to_bits() >> 1) + (1023 << 51));
    for _ in 0..6 {
        root = 0.5 * (root + wide / root);
    }
    root as f32
}
