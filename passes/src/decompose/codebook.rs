//! All rows a basis can make, and the search for the nearest of them.

use pulp::{Arch, Simd, WithSimd};
use sdc_ir::sd::Format;

/// Rows of codes an alphabet allows at most: larger books are not searched exactly.
pub const MAX_WORDS: usize = 1 << 14;

/// The rows of codes of a format, in a fixed order; word 0 is all zero.
#[derive(Clone, Debug)]
pub struct Codebook {
    /// Codes of a row.
    pub r: usize,
    /// Entries of a rebuilt row.
    pub s: usize,
    alphabet: Vec<u8>,
    /// `[words, r]`.
    codes: Vec<i8>,
}

impl Codebook {
    /// The book of a format, or `None` if it has more than [`MAX_WORDS`] rows.
    pub fn new(format: &Format) -> Option<Self> {
        let levels = format.levels();
        let words =
            (0..format.r).try_fold(1usize, |n, _| n.checked_mul(levels).filter(|&n| n <= MAX_WORDS))?;
        // Digit 0 is zero, then +1, -1, +2, -2...
        let code = |digit: usize| {
            let magnitude = digit.div_ceil(2) as i8;
            if digit % 2 == 1 { magnitude } else { -magnitude }
        };
        let codes = (0..words)
            .flat_map(|word| {
                (0..format.r).scan(word, move |rest, _| {
                    let digit = *rest % levels;
                    *rest /= levels;
                    Some(code(digit))
                })
            })
            .collect();
        Some(Self {
            r: format.r,
            s: format.s,
            alphabet: format.alphabet.clone(),
            codes,
        })
    }

    /// Number of words.
    pub fn words(&self) -> usize {
        self.codes.len() / self.r
    }
    /// The codes of a word, `[r]`.
    pub fn codes(&self, word: u32) -> &[i8] {
        &self.codes[word as usize * self.r..][..self.r]
    }
    /// The integers the codes of a word stand for.
    pub fn values(&self, word: u32) -> impl Iterator<Item = f64> {
        self.codes(word).iter().map(|&c| {
            if c == 0 {
                return 0.0;
            }
            f64::from(self.alphabet[usize::from(c.unsigned_abs()) - 1]) * f64::from(c.signum())
        })
    }

    /// The integer each digit of a word stands for.
    fn levels(&self) -> Vec<i32> {
        let positive = self.alphabet.iter().map(|&a| i32::from(a));
        std::iter::once(0).chain(positive.flat_map(|a| [a, -a])).collect()
    }

    /// Rebuilt rows under a real basis `[r, s]`.
    pub fn table(&self, basis: &[f64]) -> Table {
        let levels: Vec<f32> = self.levels().iter().map(|&x| x as f32).collect();
        let basis: Vec<f32> = basis.iter().map(|&b| b as f32).collect();
        let mut table = Table::empty(self.words(), self.s);
        let s = self.s;
        for (j, plane) in table.planes.chunks_exact_mut(table.padded).enumerate() {
            table.arch.dispatch(
                #[inline(always)]
                || grow(plane, &levels, basis[j..].iter().step_by(s).copied()),
            );
        }
        table
    }

    /// Rebuilt rows under a stored basis: the normative integers of [`sdc_ir::sd::rebuild_row`].
    pub fn integer_table(&self, basis: &[i8], shift: u8) -> Table {
        let levels = self.levels();
        let mut table = Table::empty(self.words(), self.s);
        let (s, words) = (self.s, self.words());
        let mut sums = vec![0i32; words];
        for (j, plane) in table.planes.chunks_exact_mut(table.padded).enumerate() {
            let column = basis[j..].iter().step_by(s).map(|&b| i32::from(b));
            table.arch.dispatch(
                #[inline(always)]
                || {
                    // Half of the last unit kept; 0 for a shift of 0.
                    sums[0] = (1 << shift) >> 1;
                    grow(&mut sums, &levels, column);
                    for (x, sum) in plane.iter_mut().zip(&sums) {
                        *x = (sum >> shift).clamp(-128, 127) as f32;
                    }
                },
            );
        }
        table
    }
}

/// From one sum to those of all words: each digit in turn adds its level times its entry of the basis to all sums made so far.
#[inline(always)]
fn grow<T: Copy + std::ops::Add<Output = T> + std::ops::Mul<Output = T>>(
    sums: &mut [T],
    levels: &[T],
    column: impl Iterator<Item = T>,
) {
    let mut size = 1;
    for b in column {
        let (done, rest) = sums.split_at_mut(size);
        for (next, &level) in rest.chunks_exact_mut(size).zip(&levels[1..]) {
            let more = level * b;
            for (x, &y) in next.iter_mut().zip(done.iter()) {
                *x = y + more;
            }
        }
        size *= levels.len();
    }
}

/// Comparisons under way at once.
const CHAINS: usize = 2;
/// Words come in multiples of it: the longest vectors' lanes, for each chain.
const LANES: usize = 16 * CHAINS;

/// A row of reals for each word, by planes so that words are compared side by side.
#[derive(Clone, Debug)]
pub struct Table {
    arch: Arch,
    s: usize,
    words: usize,
    /// Words, rounded up to whole lanes.
    padded: usize,
    /// `[s, padded]`.
    planes: Vec<f32>,
}

/// Half the squared length of each row of a [`Table`] in a metric; infinite for padding.
#[derive(Clone, Debug)]
pub struct Norms(Vec<f32>);

impl Table {
    fn empty(words: usize, s: usize) -> Self {
        let padded = words.next_multiple_of(LANES);
        Self {
            arch: Arch::new(),
            s,
            words,
            padded,
            planes: vec![0f32; s * padded],
        }
    }

    /// The row of a word.
    pub fn row(&self, word: u32) -> impl Iterator<Item = f64> {
        (0..self.s).map(move |j| f64::from(self.planes[j * self.padded + word as usize]))
    }

    /// What [`Table::nearest`] needs to know of a metric `[s, s]` (row-major, symmetric).
    pub fn norms(&self, metric: &[f64]) -> Norms {
        let s = self.s;
        let mut norms = vec![0f32; self.padded];
        self.arch.dispatch(
            #[inline(always)]
            || {
                for i in 0..s {
                    let own = &self.planes[i * self.padded..][..self.padded];
                    for j in 0..=i {
                        let half = if i == j { 0.5 } else { 1.0 } * metric[i * s + j] as f32;
                        if half != 0.0 {
                            let other = &self.planes[j * self.padded..][..self.padded];
                            for ((n, x), y) in norms.iter_mut().zip(own).zip(other) {
                                *n += half * x * y;
                            }
                        }
                    }
                }
            },
        );
        norms[self.words..].fill(f32::INFINITY);
        Norms(norms)
    }

    /// The word whose row is nearest to `x` in a metric, given `y = x * metric`; the first of several.
    pub fn nearest(&self, norms: &Norms, y: &[f64]) -> u32 {
        match self.s {
            1 => self.search::<1>(norms, y),
            2 => self.search::<2>(norms, y),
            3 => self.search::<3>(norms, y),
            4 => self.search::<4>(norms, y),
            5 => self.search::<5>(norms, y),
            6 => self.search::<6>(norms, y),
            7 => self.search::<7>(norms, y),
            _ => self.search::<8>(norms, y),
        }
    }

    fn search<const S: usize>(&self, norms: &Norms, y: &[f64]) -> u32 {
        let search = Search::<S> {
            y: std::array::from_fn(|j| y[j] as f32),
            planes: std::array::from_fn(|j| &self.planes[j * self.padded..][..self.padded]),
            norms: &norms.0,
        };
        self.arch.dispatch(search)
    }
}

/// Least of `norms - y * planes`, as fast as the machine compares. Each product is added in one rounding, in software where need be, and
/// the first of equals wins, so that every machine finds the same word.
struct Search<'a, const S: usize> {
    y: [f32; S],
    planes: [&'a [f32]; S],
    norms: &'a [f32],
}

impl<const S: usize> WithSimd for Search<'_, S> {
    type Output = u32;

    #[inline(always)]
    fn with_simd<V: Simd>(self, simd: V) -> u32 {
        let y = self.y.map(|y| simd.splat_f32s(y));
        let planes = self.planes.map(|plane| V::as_simd_f32s(plane).0);
        let norms = V::as_simd_f32s(self.norms).0;
        let mut best = [simd.splat_f32s(f32::INFINITY); CHAINS];
        let mut at = [simd.splat_u32s(0); CHAINS];
        // Lengths are multiples of all vectors' lanes times the chains, which do not wait for one another.
        for i in (0..norms.len()).step_by(CHAINS) {
            for chain in 0..CHAINS {
                let mut score = norms[i + chain];
                for j in 0..S {
                    score = simd.negate_mul_add_f32s(y[j], planes[j][i + chain], score);
                }
                let better = simd.less_than_f32s(score, best[chain]);
                best[chain] = simd.select_f32s(better, score, best[chain]);
                at[chain] = simd.select_u32s(better, simd.splat_u32s(i as u32), at[chain]);
            }
        }
        let lanes = V::F32_LANES;
        let mut least = (f32::INFINITY, 0);
        for (chain, (best, at)) in best.iter().zip(&at).enumerate() {
            let scores: &[f32] = bytemuck::cast_slice(std::slice::from_ref(best));
            let blocks: &[u32] = bytemuck::cast_slice(std::slice::from_ref(at));
            for (lane, (&score, &block)) in scores.iter().zip(blocks).enumerate() {
                let word = (block + chain as u32) * lanes as u32 + lane as u32;
                if score < least.0 || (score == least.0 && word < least.1) {
                    least = (score, word);
                }
            }
        }
        least.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdc_ir::DType;
    use sdc_ir::sd::{Index, Packing, rebuild_row};

    fn format(s: usize, r: usize, alphabet: &[u8]) -> Format {
        Format {
            s,
            r,
            slice_rows: 1,
            alphabet: alphabet.to_vec(),
            packing: Packing::Row,
            basis_bits: 8,
            basis_filters: 1,
            scale: DType::F32,
            index: Index::None,
        }
    }

    #[test]
    fn tables_are_what_rebuilding_makes_of_the_codes() {
        let mut random = fastrand::Rng::with_seed(11);
        for (s, r, alphabet) in [
            (3, 3, &[1, 2, 3, 10][..]),
            (2, 5, &[1]),
            (5, 2, &[4, 9]),
            (1, 1, &[255]),
        ] {
            let book = Codebook::new(&format(s, r, alphabet)).unwrap();
            let basis: Vec<i8> = (0..r * s).map(|_| random.i8(-128..=127)).collect();
            for shift in [0, 3, 9] {
                let table = book.integer_table(&basis, shift);
                let real: Vec<f64> = basis
                    .iter()
                    .map(|&b| f64::from(b) / f64::from(1u32 << shift))
                    .collect();
                let exact = book.table(&real);
                let mut row = vec![0i8; s];
                for word in 0..book.words() as u32 {
                    rebuild_row(alphabet, book.codes(word), &basis, shift, &mut row);
                    assert!(table.row(word).eq(row.iter().map(|&x| f64::from(x))), "{word}");
                    for (a, b) in exact.row(word).zip(table.row(word)) {
                        assert!((a.clamp(-128.0, 127.0) - b).abs() <= 0.5, "{word}: {a} {b}");
                    }
                }
            }
        }
    }

    #[test]
    fn nearest_is_nearest() {
        let mut random = fastrand::Rng::with_seed(12);
        let book = Codebook::new(&format(3, 3, &[1, 2])).unwrap();
        let basis: Vec<f64> = (0..9).map(|_| random.f64() - 0.5).collect();
        let table = book.table(&basis);
        let metric = [2.0, 0.5, 0.1, 0.5, 1.0, -0.2, 0.1, -0.2, 0.5];
        let norms = table.norms(&metric);
        let distance = |x: &[f64; 3], word: u32| -> f64 {
            let gap: Vec<f64> = x.iter().zip(table.row(word)).map(|(x, t)| x - t).collect();
            (0..9).map(|k| gap[k / 3] * metric[k] * gap[k % 3]).sum()
        };
        for _ in 0..200 {
            let x: [f64; 3] = std::array::from_fn(|_| 4.0 * random.f64() - 2.0);
            let y: Vec<f64> = (0..3)
                .map(|j| (0..3).map(|i| x[i] * metric[i * 3 + j]).sum())
                .collect();
            let found = distance(&x, table.nearest(&norms, &y));
            let least = (0..book.words() as u32)
                .map(|w| distance(&x, w))
                .fold(f64::INFINITY, f64::min);
            assert!(found <= least + 1e-5, "{found} {least}");
        }
    }
}
