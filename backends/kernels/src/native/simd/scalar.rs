//! Plain arrays: what the rlib falls back to on other architectures and under Miri.

#[derive(Clone, Copy)]
pub struct V([f32; 4]);

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

    /// A byte per lane as numbers.
    #[inline(always)]
    pub unsafe fn bytes<const SIGNED: bool>(p: *const u8) -> V {
        let x = unsafe { p.cast::<[u8; 4]>().read_unaligned() };
        V(x.map(|x| if SIGNED { f32::from(x as i8) } else { f32::from(x) }))
    }

    /// The low bytes of the nearest integers, halves to even, plus `zero`; lanes are below 2^21 in magnitude.
    #[inline(always)]
    pub unsafe fn store_bytes(self, zero: i32, p: *mut u8) {
        // Where the last place counts ones, addition rounds.
        const ONES: f32 = 12_582_912.0;
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

    #[inline(always)]
    fn zip(self, b: V, f: impl Fn(f32, f32) -> f32) -> V {
        V(core::array::from_fn(|i| f(self.0[i], b.0[i])))
    }
}
