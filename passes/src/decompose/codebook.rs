//! All rows a basis can make, and the search for the nearest of them.

use pulp::Arch;
use sdc_ir::sd::{Format, rebuild_row};

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

    /// Rebuilt rows under a real basis `[r, s]`.
    pub fn table(&self, basis: &[f64]) -> Table {
        Table::of(self.words(), self.s, |word, out| {
            for (value, row) in self.values(word).zip(basis.chunks_exact(self.s)) {
                for (x, b) in out.iter_mut().zip(row) {
                    *x += value * b;
                }
            }
        })
    }

    /// Rebuilt rows under a stored basis: the normative integers.
    pub fn integer_table(&self, basis: &[i8], shift: u8) -> Table {
        let mut row = [0i8; 8];
        Table::of(self.words(), self.s, |word, out| {
            let row = &mut row[..self.s];
            rebuild_row(&self.alphabet, self.codes(word), basis, shift, row);
            for (x, &w) in out.iter_mut().zip(row.iter()) {
                *x = f64::from(w);
            }
        })
    }
}

/// Words compared at a time; the compiler turns lanes into vector instructions.
const LANES: usize = 32;

/// A row of reals for each word, by planes so that words are compared side by side.
#[derive(Clone, Debug)]
pub struct Table {
    arch: Arch,
    s: usize,
    /// Words, rounded up to whole lanes.
    padded: usize,
    /// `[s, padded]`.
    planes: Vec<f32>,
    /// Half the squared length of each row; infinite for padding.
    half_norms: Vec<f32>,
}

impl Table {
    fn of(words: usize, s: usize, mut row: impl FnMut(u32, &mut [f64])) -> Self {
        let padded = words.next_multiple_of(LANES);
        let mut planes = vec![0f32; s * padded];
        let mut out = [0f64; 8];
        for word in 0..words {
            out[..s].fill(0.0);
            row(word as u32, &mut out[..s]);
            for (j, &x) in out[..s].iter().enumerate() {
                planes[j * padded + word] = x as f32;
            }
        }
        let mut table = Self {
            arch: Arch::new(),
            s,
            padded,
            planes,
            half_norms: vec![f32::INFINITY; padded],
        };
        table.set_norms(words);
        table
    }

    fn set_norms(&mut self, words: usize) {
        for word in 0..words {
            let squares = (0..self.s).map(|j| self.planes[j * self.padded + word].powi(2));
            self.half_norms[word] = 0.5 * squares.sum::<f32>();
        }
    }

    /// The row of a word.
    pub fn row(&self, word: u32) -> impl Iterator<Item = f64> {
        (0..self.s).map(move |j| f64::from(self.planes[j * self.padded + word as usize]))
    }

    /// The table with each row multiplied by a matrix `[s, s]` (row-major).
    pub fn times(&self, matrix: &[f64]) -> Table {
        let s = self.s;
        let mut planes = vec![0f32; self.planes.len()];
        for j in 0..s {
            for i in 0..s {
                let factor = matrix[i * s + j] as f32;
                if factor != 0.0 {
                    let from = &self.planes[i * self.padded..][..self.padded];
                    for (x, y) in planes[j * self.padded..][..self.padded].iter_mut().zip(from) {
                        *x += factor * y;
                    }
                }
            }
        }
        let mut table = Table {
            arch: self.arch,
            s,
            padded: self.padded,
            planes,
            half_norms: self.half_norms.clone(),
        };
        table.set_norms(self.half_norms.iter().filter(|n| n.is_finite()).count());
        table
    }

    /// The word whose row is nearest to `x`; the first of several.
    pub fn nearest(&self, x: &[f64]) -> u32 {
        // Products and sums stay separate operations, so that every machine finds the same word.
        self.arch.dispatch(
            #[inline(always)]
            || match self.s {
                1 => self.search::<1>(x),
                2 => self.search::<2>(x),
                3 => self.search::<3>(x),
                4 => self.search::<4>(x),
                5 => self.search::<5>(x),
                6 => self.search::<6>(x),
                7 => self.search::<7>(x),
                _ => self.search::<8>(x),
            },
        )
    }

    #[inline(always)]
    fn search<const S: usize>(&self, x: &[f64]) -> u32 {
        let x: [f32; S] = std::array::from_fn(|j| x[j] as f32);
        let planes: [&[f32]; S] = std::array::from_fn(|j| &self.planes[j * self.padded..][..self.padded]);
        let (mut best, mut at) = ([f32::INFINITY; LANES], [0u32; LANES]);
        for (i, norms) in self.half_norms.chunks_exact(LANES).enumerate() {
            let mut score: [f32; LANES] = std::array::from_fn(|l| norms[l]);
            for j in 0..S {
                let plane = &planes[j][i * LANES..][..LANES];
                for l in 0..LANES {
                    score[l] -= x[j] * plane[l];
                }
            }
            for l in 0..LANES {
                let better = score[l] < best[l];
                best[l] = if better { score[l] } else { best[l] };
                at[l] = if better { i as u32 } else { at[l] };
            }
        }
        let words = (0..LANES).map(|l| (best[l], at[l] * LANES as u32 + l as u32));
        let first = words.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        first.map_or(0, |(_, word)| word)
    }
}
