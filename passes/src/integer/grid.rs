//! How values are distributed, and the integers that suit them best.

use sdc_ir::DType;

/// Bins of a histogram, half of them on each side of zero.
const BINS: usize = 2048;
/// Values looked at side by side for the extremes.
const LANES: usize = 16;
/// Tables that are counted in by turns.
const TABLES: usize = 4;
/// Values counted at a time: no counter of 32 bits overflows.
const PIECE: usize = 1 << 30;

/// Counts of values in equal bins over a range that doubles as needed: constant memory, and the same counts in whatever order values
/// come.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// The bins cover `-reach..reach`, a power of two.
    reach: f64,
    counts: Vec<u64>,
    min: f64,
    max: f64,
    /// Some value was infinite or no number.
    unbounded: bool,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            reach: f64::from(f32::MIN_POSITIVE),
            counts: vec![0; BINS],
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            unbounded: false,
        }
    }
}

impl Histogram {
    /// Counts values.
    pub fn add(&mut self, values: &[f32]) {
        values.chunks(PIECE).for_each(|piece| self.add_piece(piece));
    }

    fn add_piece(&mut self, values: &[f32]) {
        // As many extremes side by side as a vector has lanes.
        let (mut least, mut greatest, mut no_numbers) =
            ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES], false);
        for chunk in values.chunks(LANES) {
            for ((&x, least), greatest) in chunk.iter().zip(&mut least).zip(&mut greatest) {
                *least = if x < *least { x } else { *least };
                *greatest = if x > *greatest { x } else { *greatest };
                no_numbers |= x.is_nan();
            }
        }
        let least = least.into_iter().fold(f32::INFINITY, f32::min);
        let greatest = greatest.into_iter().fold(f32::NEG_INFINITY, f32::max);
        self.min = self.min.min(least.into());
        self.max = self.max.max(greatest.into());
        self.unbounded |= no_numbers || !(self.min.is_finite() && self.max.is_finite());
        if self.unbounded {
            return;
        }
        let largest = greatest.max(-least);
        self.widen(largest.into());
        let scale = BINS as f64 / 2.0 / self.reach;
        // Equal values often follow one another, and a counter that was just written is not to be read again so soon.
        let mut counts = [[0u32; BINS]; TABLES];
        for chunk in values.chunks(TABLES) {
            for (&x, counts) in chunk.iter().zip(&mut counts) {
                let x = f64::from(x) * scale;
                // The integer below: `floor` would be a call of the C library on CPUs without SSE4.1.
                let towards_zero = x as i32;
                let bin = towards_zero - i32::from(f64::from(towards_zero) > x) + BINS as i32 / 2;
                counts[bin.clamp(0, BINS as i32 - 1) as usize] += 1;
            }
        }
        for counts in &counts {
            let pairs = self.counts.iter_mut().zip(counts);
            pairs.for_each(|(all, &count)| *all += u64::from(count));
        }
    }

    /// Doubles the range until it holds a value of this magnitude.
    fn widen(&mut self, largest: f64) {
        while self.reach < largest {
            self.reach *= 2.0;
            let mut counts = vec![0; BINS];
            for (i, pair) in self.counts.chunks_exact(2).enumerate() {
                counts[BINS / 4 + i] = pair[0] + pair[1];
            }
            self.counts = counts;
        }
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        self.unbounded |= other.unbounded;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        let mut other = other.clone();
        self.widen(other.reach);
        other.widen(self.reach);
        self.counts
            .iter_mut()
            .zip(&other.counts)
            .for_each(|(a, b)| *a += b);
    }

    /// Least and greatest value; `None` if there was none, or one that is not finite.
    pub fn range(&self) -> Option<(f64, f64)> {
        (!self.unbounded && self.min <= self.max).then_some((self.min, self.max))
    }

    /// Mean squared error of rounding to steps of `step` within `low..=high` and clipping what is outside.
    fn error(&self, step: f64, (low, high): (f64, f64)) -> f64 {
        let width = 2.0 * self.reach / BINS as f64;
        let (mut sum, mut all) = (0.0, 0u64);
        for (i, &count) in self.counts.iter().enumerate().filter(|c| *c.1 > 0) {
            all += count;
            let x = (-self.reach + (i as f64 + 0.5) * width).clamp(self.min, self.max);
            let outside = (low - x).max(x - high).max(0.0);
            // Bins narrower than a step are rounded as one value would be on average.
            let error = if outside > 0.0 {
                outside * outside
            } else {
                step * step / 12.0
            };
            sum += error * count as f64;
        }
        sum / all.max(1) as f64
    }
}

/// A real number is `(integer - zero) * scale`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Grid {
    /// Distance of neighbours, a positive normal `f32`.
    pub scale: f32,
    /// The integer that stands for zero, 0 wherever that costs little.
    pub zero: i64,
    /// `u8`, `i8`; `i16` for constants.
    pub dtype: DType,
}

/// Shares of a range that are tried as the range of a grid.
const SHARES: usize = 64;
/// A zero point other than 0 has to bring the squared error below this share.
const WORTH_A_ZERO_POINT: f64 = 0.7;

impl Grid {
    /// The grid of eight bits with the least squared error; `None` if the values have no finite range.
    pub fn best(histogram: &Histogram) -> Option<Self> {
        let (min, max) = histogram.range()?;
        let (min, max) = (min.min(0.0), max.max(0.0));
        let shares = (SHARES / 4..=SHARES).map(|i| i as f64 / SHARES as f64);
        // The least error of grids whose range is a share of this one; of equal ones the widest.
        let best = |low: f64, high: f64, steps: f64| -> (f64, f64) {
            let tried = shares.clone().map(|share| {
                let step = (high - low) * share / steps;
                (histogram.error(step, (low * share, high * share)), share)
            });
            tried.fold(
                (f64::INFINITY, 1.0),
                |best, one| if one.0 <= best.0 { one } else { best },
            )
        };
        if min == 0.0 {
            let (_, share) = best(0.0, max, 255.0);
            return Some(Self::new(max * share / 255.0, 0, DType::U8));
        }
        let bound = max.max(-min);
        let (symmetric, share) = best(-bound, bound, 254.0);
        let plain = Self::new(bound * share / 127.0, 0, DType::I8);
        let (shifted, share) = best(min, max, 255.0);
        if shifted < symmetric * WORTH_A_ZERO_POINT {
            let step = (max - min) * share / 255.0;
            let zero = (-128.0 - min * share / step).round_ties_even();
            return Some(Self::new(step, zero.clamp(-128.0, 127.0) as i64, DType::I8));
        }
        Some(plain)
    }

    /// The grid for known values, with no value outside.
    pub fn covering(values: &[f32], dtype: DType) -> Option<Self> {
        let most = match dtype {
            DType::I16 => 32767.0,
            _ => 127.0,
        };
        let finite = values.iter().all(|x| x.is_finite());
        let bound = values.iter().fold(0f32, |m, x| m.max(x.abs()));
        finite.then(|| Self::new(f64::from(bound) / most, 0, dtype))
    }

    /// The grid of results of QLinearSoftmax.
    pub const SHARES: Self = Self {
        scale: 1.0 / (1 << 24) as f32,
        zero: 0,
        dtype: DType::I32,
    };

    /// Whether integers have eight bits.
    pub fn is_byte(&self) -> bool {
        self.dtype.size() == 1
    }

    fn new(scale: f64, zero: i64, dtype: DType) -> Self {
        let scale = scale as f32;
        // Values that are all zero, or nearly, have a step that nobody needs.
        let scale = if scale > 1e-30 { scale } else { 1.0 };
        Self { scale, zero, dtype }
    }

    /// Least and greatest integer.
    pub fn range(&self) -> (i64, i64) {
        let (low, high) = crate::tile::quantised_range(self.dtype);
        (low.into(), high.into())
    }

    /// The integer nearest to a real number, halves to even; for NaN the zero point.
    pub fn quantise(&self, x: f64) -> i64 {
        let (low, high) = self.range();
        let steps = (x / f64::from(self.scale)).round_ties_even();
        // Conversions saturate, and turn NaN to 0.
        (steps as i64).saturating_add(self.zero).clamp(low, high)
    }

    /// The real number of an integer.
    pub fn real(&self, integer: i64) -> f64 {
        (integer - self.zero) as f64 * f64::from(self.scale)
    }
}
