//! One axis of a sliding window, and the loops over it.

use crate::tile::{Affine, Bound, FuncBuilder, Val};

/// One axis of a sliding window over `input` positions; positions outside read as zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) input: i64,
    pub(super) window: i64,
    pub(super) stride: i64,
    pub(super) dilation: i64,
    pub(super) pad: i64,
}

impl Axis {
    /// Input position of the first tap at output position `out`.
    pub(super) fn start(&self, out: &Affine) -> Affine {
        out.clone() * self.stride - self.pad
    }

    /// Output positions below `outputs` whose window lies inside the input: begin and end.
    pub(super) fn inner(&self, outputs: i64) -> (i64, i64) {
        let reach = (self.window - 1) * self.dilation;
        let begin = (self.pad + self.stride - 1)
            .div_euclid(self.stride)
            .clamp(0, outputs);
        let end = (self.input - 1 - reach + self.pad).div_euclid(self.stride) + 1;
        (begin, end.clamp(begin, outputs))
    }

    /// Emits the loop over the taps that exist at output position `out`; `body` gets the tap, its input position, and
    /// the carried values. With `inside`, the caller knows that all of them exist.
    pub(super) fn for_taps(
        &self,
        b: &mut FuncBuilder,
        out: &Affine,
        inside: bool,
        carried: Vec<Val>,
        body: impl FnOnce(&mut FuncBuilder, Affine, Affine, Vec<Val>) -> Vec<Val>,
    ) -> Vec<Val> {
        let start = self.start(out);
        if inside && self.window == 1 {
            return body(b, 0.into(), start, carried);
        }
        if inside {
            let dilation = self.dilation;
            return b.for_carried(0, self.window, 1, &carried, |b, tap, carried| {
                let at = start + tap.clone() * dilation;
                body(b, tap, at, carried.to_vec())
            });
        }
        if self.dilation == 1 {
            let lo = Bound::of(vec![0.into(), start.clone() * -1]);
            let hi = Bound::of(vec![self.window.into(), start.clone() * -1 + self.input]);
            return b.for_carried(lo, hi, 1, &carried, |b, tap, carried| {
                let at = start + tap.clone();
                body(b, tap, at, carried.to_vec())
            });
        }
        // The inner loop runs once for a tap that exists and not at all for others: a bound cannot divide.
        b.for_carried(0, self.window, 1, &carried, |b, tap, carried| {
            let at = start + tap.clone() * self.dilation;
            let lo = Bound::of(vec![0.into(), at.clone()]);
            let hi = Bound::of(vec![self.input.into(), at + 1]);
            b.for_carried(lo, hi, 1, carried, |b, at, carried| {
                body(b, tap, at, carried.to_vec())
            })
        })
    }
}
