//! What the line files hold: a strip's weights, rebuilt where they are codes.

use super::Stop;
use super::conv::Strip;
use crate::memory::Memory;
use sdc_accel_isa::{Config, Fmt};
use sdc_ir::sd::rebuild_row;

/// The weights of up to `slices` filters, and which rows of them are stored.
#[derive(Default)]
pub(crate) struct Weights {
    key: Option<Key>,
    /// `[m][c][kh][kw]`
    pub values: Vec<i16>,
    /// Weights of a filter.
    pub per_filter: usize,
    /// For each index group the rows that are stored; one group with all rows where there is no index.
    pub kept: Vec<Vec<bool>>,
    /// Filters of an index group.
    pub group: usize,
    /// Entries of a row; 1 for plain weights.
    pub s: usize,
}

/// What decides the weights; all that must be as in the strip before where a strip reuses them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    fmt: Fmt,
    shape: [u32; 5],
    order: bool,
    places: [u32; 5],
}

impl Weights {
    /// Makes the weights those of a strip, unless it reuses what is there.
    pub fn prepare(&mut self, strip: &Strip, memory: &Memory, config: &Config) -> Result<(), Stop> {
        let key = Key::of(strip);
        if strip.reuse && self.key == Some(key) {
            return Ok(());
        }
        self.key = None;
        self.per_filter = strip.per_filter();
        self.values.clear();
        self.values.resize(strip.m * self.per_filter, 0);
        let length = if strip.fmt.sd {
            self.rebuild(strip, memory)?
        } else {
            self.plain(strip, memory)?
        };
        same_copies(strip, memory, config, &length)?;
        if strip.geom.order && strip.geom.kh * strip.geom.kw > 1 {
            self.transpose(strip);
        }
        self.key = Some(key);
        Ok(())
    }

    /// Takes bytes as they are; the bytes of each filter.
    fn plain(&mut self, strip: &Strip, memory: &Memory) -> Result<Vec<usize>, Stop> {
        let n = self.per_filter;
        for (k, values) in self.values.chunks_exact_mut(n).enumerate() {
            let bytes = memory.weights(k, strip.wbank, strip.waddr).ok_or(Stop::Outside)?;
            let bytes = bytes.get(..n).ok_or(Stop::Outside)?;
            values
                .iter_mut()
                .zip(bytes)
                .for_each(|(v, &b)| *v = i16::from(b as i8));
        }
        self.kept = vec![vec![true; n]];
        (self.group, self.s) = (strip.m, 1);
        Ok(vec![n; strip.m])
    }

    /// Rebuilds codes; the bytes of each filter's stream.
    fn rebuild(&mut self, strip: &Strip, memory: &Memory) -> Result<Vec<usize>, Stop> {
        let fmt = &strip.fmt;
        let (s, g) = (fmt.s as usize, fmt.g as usize);
        let rows = self.per_filter.div_ceil(s);
        self.s = s;
        self.group = if g == 0 { strip.m } else { g };
        self.kept = if g == 0 {
            vec![vec![true; rows]]
        } else {
            let groups = 0..strip.m.div_ceil(g);
            groups
                .map(|j| index(strip, memory, j, rows).ok_or(Stop::Outside))
                .collect::<Result<_, _>>()?
        };
        let bits = fmt.row_bits() as usize;
        let alphabet = fmt.alphabet();
        let mut lengths = Vec::with_capacity(strip.m);
        for (k, values) in self.values.chunks_exact_mut(self.per_filter).enumerate() {
            let kept = &self.kept[k / self.group];
            let stream = memory.weights(k, strip.wbank, strip.waddr).ok_or(Stop::Outside)?;
            let bases = memory.weights(k, strip.wbank, strip.baddr).ok_or(Stop::Outside)?;
            let mut at = 0;
            for (q, out) in values.chunks_mut(s).enumerate() {
                if !kept[q] {
                    continue;
                }
                let word = take(stream, at, bits).ok_or(Stop::Outside)?;
                at += bits;
                let mut codes = [0i8; 8];
                decode(fmt, word, &mut codes).ok_or_else(|| meaningless(k, q, word))?;
                rebuild_one(strip, &alphabet, &codes, bases, q, out)?;
            }
            lengths.push(at.div_ceil(8));
        }
        Ok(lengths)
    }

    /// From `(c, x, y)` to `(c, y, x)`.
    fn transpose(&mut self, strip: &Strip) {
        let (kh, kw) = (strip.geom.kh as usize, strip.geom.kw as usize);
        let mut turned = vec![0; kh * kw];
        for kernel in self.values.chunks_exact_mut(kh * kw) {
            for (i, &w) in kernel.iter().enumerate() {
                turned[i % kh * kw + i / kh] = w;
            }
            kernel.copy_from_slice(&turned);
        }
    }
}

impl Key {
    fn of(strip: &Strip) -> Self {
        let g = &strip.geom;
        Self {
            fmt: strip.fmt,
            shape: [strip.m as u32, strip.c as u32, g.kh, g.kw, g.row0],
            order: g.order,
            places: [strip.wbank, strip.waddr, strip.baddr, strip.xbank, strip.xaddr],
        }
    }
}

fn meaningless(filter: usize, row: usize, word: u64) -> Stop {
    Stop::Code(format!(
        "stored row {row} of filter {filter} holds {word:#x}, which is no row of codes"
    ))
}

fn rebuild_one(
    strip: &Strip,
    alphabet: &[u8],
    codes: &[i8; 8],
    bases: &[u8],
    row: usize,
    out: &mut [i16],
) -> Result<(), Stop> {
    let (s, r) = (strip.fmt.s as usize, strip.fmt.r as usize);
    let slice = (strip.geom.row0 as usize + row) / (strip.fmt.slice as usize).max(1);
    let basis = bases
        .get(slice * (r * s + 1)..(slice + 1) * (r * s + 1))
        .ok_or(Stop::Outside)?;
    let mut signed = [0i8; 64];
    signed
        .iter_mut()
        .zip(&basis[..r * s])
        .for_each(|(b, &u)| *b = u as i8);
    let shift = basis[r * s];
    if shift > 15 {
        return Err(Stop::Code(format!(
            "the shift of basis {slice} is {shift}, more than 15"
        )));
    }
    let mut weights = [0i8; 8];
    rebuild_row(alphabet, &codes[..r], &signed[..r * s], shift, &mut weights[..s]);
    // The last row may be longer than what is left of the filter.
    out.iter_mut().zip(&weights).for_each(|(o, &w)| *o = i16::from(w));
    Ok(())
}

/// The index bits of a group.
fn index(strip: &Strip, memory: &Memory, group: usize, rows: usize) -> Option<Vec<bool>> {
    let bank = memory.xb.len() / 2;
    let at = strip.xbank as usize * bank + strip.xaddr as usize + group * rows.div_ceil(8);
    let bytes = memory.xb.get(at..at + rows.div_ceil(8))?;
    Some((0..rows).map(|q| bytes[q / 8] >> (q % 8) & 1 == 1).collect())
}

/// `bits` bits from bit `at` on; at most 33.
fn take(stream: &[u8], at: usize, bits: usize) -> Option<u64> {
    let end = (at + bits).div_ceil(8);
    let bytes = stream.get(at / 8..end)?;
    let word = bytes.iter().rev().fold(0u64, |w, &b| w << 8 | u64::from(b));
    Some(word >> (at % 8) & ((1 << bits) - 1))
}

/// The codes of a stored row; `None` for minus zero, a code beyond the alphabet, or too large a word.
fn decode(fmt: &Fmt, mut word: u64, codes: &mut [i8; 8]) -> Option<()> {
    let (n, r) = (i64::from(fmt.n), fmt.r as usize);
    if fmt.row {
        let levels = 2 * u64::from(fmt.n) + 1;
        for code in codes[..r].iter_mut().rev() {
            *code = ((word % levels) as i64 - n) as i8;
            word /= levels;
        }
        return (word == 0).then_some(());
    }
    for (i, code) in codes[..r].iter_mut().enumerate() {
        let nibble = (word >> (4 * i) & 15) as i64;
        let magnitude = nibble & 7;
        if nibble == 8 || magnitude > n {
            return None;
        }
        *code = if nibble & 8 == 0 { magnitude } else { -magnitude } as i8;
    }
    Some(())
}

/// With `fold` the same filter is in several slices; they must agree.
fn same_copies(strip: &Strip, memory: &Memory, config: &Config, lengths: &[usize]) -> Result<(), Stop> {
    let copies = 1usize << strip.geom.fold;
    let apart = config.slices as usize >> strip.geom.fold;
    for (k, &length) in lengths.iter().enumerate() {
        let bytes = |copy: usize| {
            memory
                .weights(k + copy * apart, strip.wbank, strip.waddr)?
                .get(..length)
        };
        if (1..copies).any(|copy| bytes(copy) != bytes(0)) {
            let message = format!("slices that share the pixels of filter {k} hold different weights");
            return Err(Stop::Code(message));
        }
    }
    Ok(())
}
