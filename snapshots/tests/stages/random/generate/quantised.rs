//! Values on a grid of eight bits.

use super::super::net::{Known, ints};
use super::{F32, I8, Maker, U8};

impl Maker<'_> {
    /// A scale that brings numbers up to `bound` into eight bits, and a zero point.
    fn grid(&mut self, bound: f64) -> (i32, String, String) {
        let dtype = self.one(&[U8, I8]);
        // A power of two, so that no number of the inputs' grid is near the middle of two steps by rounding alone.
        let scale = (2.0 * bound / 255.0) as f32 * 1.07;
        let scale = self.floats(F32, &[], scale, scale);
        let zero = match dtype {
            U8 => self.integers(U8, &[], 120, 136),
            _ => self.integers(I8, &[], -8, 8),
        };
        (dtype, scale, zero)
    }

    fn round_trip(&mut self, x: &str) -> Option<String> {
        let k = self.known(x);
        let (dtype, scale, zero) = self.grid(k.bound);
        let q = self.node(
            "QuantizeLinear",
            &[x, &scale, &zero],
            vec![],
            Known::new(dtype, &k.shape, 255.0, false),
        )?;
        self.node(
            "DequantizeLinear",
            &[&q, &scale, &zero],
            vec![],
            Known { exact: false, ..k },
        )
    }

    /// Of exact values only, for a rounded one may be on either side of the middle between two steps.
    pub(super) fn quantised(&mut self) -> Option<()> {
        let x = self.pick(|k| k.dtype == F32 && k.exact && k.bound < 8.0)?;
        let k = self.known(&x);
        let y = self.round_trip(&x)?;
        if k.rank() != 4 || self.chance(40) {
            return Some(());
        }
        // A convolution as quantisers leave it, without the rounding at its end.
        let channels = k.shape[1];
        let filters = self.random.usize(1..20);
        let scale = self.floats(F32, &[], 0.01, 0.02);
        let zero = self.integers(I8, &[], 0, 1);
        let window = self.one(&[1, 3]);
        let w = self.integers(I8, &[filters, channels, window, window], -20, 20);
        let w = self.node(
            "DequantizeLinear",
            &[&w, &scale, &zero],
            vec![],
            Known::new(F32, &[filters, channels, window, window], 0.4, false),
        )?;
        let bias = self.floats(F32, &[filters], -0.5, 0.5);
        let fan = (channels * window * window) as f64;
        let pads = [window / 2; 4];
        let shape = [k.shape[0], filters, k.shape[2], k.shape[3]];
        let known = Known::new(F32, &shape, k.bound * 0.4 * fan.sqrt() * 2.0 + 0.5, false);
        self.node("Conv", &[&y, &w, &bias], vec![ints("pads", &pads)], known)
            .map(drop)
    }
}
