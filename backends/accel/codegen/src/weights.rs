//! Weights as the machine loads them: streams of filters, bases, index bits; and how a filter that is too long is cut.

use sdc_accel_isa::{Config, Fmt};
use sdc_ir::sd::{Decomposed, Index, Packing, pack_index, pack_rows};
use std::ops::Range;

/// Weights of a convolution, `[M, C/group, kh, kw]`.
#[derive(Clone, Debug)]
pub enum Weights {
    /// Plain integers.
    Plain(Vec<i8>),
    /// Codes and bases; true if a filter's vector runs down columns first.
    Sd(Box<Decomposed>, bool),
}

/// The size of a filter: channels, rows, columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Channels.
    pub c: usize,
    /// Rows.
    pub kh: usize,
    /// Columns.
    pub kw: usize,
}

/// A part of a filter that one instruction multiplies: some channels, and some taps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Channels.
    pub c: Range<usize>,
    /// Kernel rows.
    pub rows: Range<usize>,
    /// Kernel columns.
    pub columns: Range<usize>,
}

impl Piece {
    /// Weights of a filter in it.
    pub fn len(&self) -> usize {
        self.c.len() * self.taps()
    }

    /// Taps in it.
    pub fn taps(&self) -> usize {
        self.rows.len() * self.columns.len()
    }
}

/// What is loaded for some filters and a piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `[m, bytes]`: streams, all as long as the longest.
    pub stream: Vec<u8>,
    /// Bytes of a stream.
    pub bytes: usize,
    /// The bases, of one filter or of each.
    pub bases: Vec<u8>,
    /// Bytes of the bases of a filter.
    pub base_bytes: usize,
    /// All filters have the same bases.
    pub shared: bool,
    /// Index bits of each group.
    pub index: Vec<u8>,
    /// Filters of a group; 0 without an index.
    pub g: u32,
    /// Row of the stream's first basis slice that its first row is.
    pub row0: u32,
}

impl Image {
    /// Bytes of WB that a slice needs.
    pub fn room(&self) -> usize {
        self.bytes + self.base_bytes
    }
}

impl Weights {
    /// How `conv` reads them.
    pub fn fmt(&self, g: u32) -> Fmt {
        match self {
            Weights::Plain(_) => Fmt {
                s: 1,
                r: 1,
                n: 1,
                ..Fmt::default()
            },
            Weights::Sd(d, _) => Fmt {
                sd: true,
                s: d.format.s as u32,
                r: d.format.r as u32,
                row: d.format.packing == Packing::Row,
                slice: d.format.slice_rows as u32,
                g,
                ..Fmt::default()
            }
            .with_magnitudes(&d.format.alphabet),
        }
    }

    /// True if a filter's vector runs down columns first.
    pub fn order(&self) -> bool {
        matches!(self, Weights::Sd(_, true))
    }

    /// The same with every row stored: what reads one channel a filter has no index.
    #[must_use]
    pub fn without_index(mut self) -> Self {
        if let Weights::Sd(d, _) = &mut self {
            d.format.index = Index::None;
            d.kept = vec![true; d.geometry.filters() * d.rows()];
        }
        self
    }

    /// The same as plain integers, `[M, C/group, kh, kw]`.
    pub fn plain(&self) -> Vec<i8> {
        match self {
            Weights::Plain(all) => all.clone(),
            Weights::Sd(d, _) => {
                let rebuilt = sdc_ir::sd::rebuild(d).expect("unpacked weights obey their laws");
                rebuilt
                    .0
                    .elements::<i8>()
                    .expect("rebuilt weights are i8")
                    .to_vec()
            }
        }
    }

    /// What `conv` loads for some filters and a piece.
    pub fn image(&self, filter: Filter, filters: Range<usize>, piece: &Piece) -> Image {
        match self {
            Weights::Plain(all) => plain_image(all, filter, filters, piece),
            Weights::Sd(d, _) => sd_image(d, filters, piece),
        }
    }

    /// The pieces of a filter: one if all of it fits. `None` if compressed weights have no cut that fits; plain ones always have.
    pub fn pieces(&self, filter: Filter, filters: &[Range<usize>], config: &Config) -> Option<Vec<Piece>> {
        let whole = Piece {
            c: 0..filter.c,
            rows: 0..filter.kh,
            columns: 0..filter.kw,
        };
        let file = config.line_file as usize;
        let room = |piece: &Piece| {
            let rooms = filters.iter().map(|f| self.room(f.clone(), piece));
            rooms.max().unwrap_or(0)
        };
        let bank = config.wb_bank as usize;
        // One instruction takes both banks; bases have to lie in the first of them.
        if whole.taps() <= file && room(&whole) <= 2 * bank && self.base_room(&whole) <= bank / 2 {
            return Some(vec![whole]);
        }
        match self {
            Weights::Plain(_) => Some(plain_pieces(filter, bank, file)),
            Weights::Sd(d, _) => {
                if whole.taps() > file {
                    return None;
                }
                let step = channel_step(d.format.s, whole.taps());
                let piece = |from: usize, step: usize| Piece {
                    c: from..(from + step).min(filter.c),
                    ..whole.clone()
                };
                // The longest pieces of equal length that fit a bank.
                let fits = |n: &usize| (0..filter.c).step_by(*n).all(|c| room(&piece(c, *n)) <= bank);
                let lines = config.lines as usize;
                let even = step.next_multiple_of(lines.min(step * lines));
                let unit = [even, step].into_iter().find(|n| n % step == 0 && fits(n))?;
                let longest = (1..=filter.c.div_ceil(unit))
                    .map(|k| k * unit)
                    .filter(fits)
                    .max()?;
                Some(
                    (0..filter.c)
                        .step_by(longest)
                        .map(|c| piece(c, longest))
                        .collect(),
                )
            }
        }
    }

    fn room(&self, filters: Range<usize>, piece: &Piece) -> usize {
        match self {
            Weights::Plain(_) => piece.len(),
            Weights::Sd(d, _) => {
                let rows = sd_rows(d, piece);
                let kept = |f: usize| rows.clone().filter(|&q| d.is_kept(f, q)).count();
                let longest = filters.map(kept).max().unwrap_or(0);
                (longest * d.format.row_bits()).div_ceil(8) + self.base_room(piece)
            }
        }
    }

    fn base_room(&self, piece: &Piece) -> usize {
        match self {
            Weights::Plain(_) => 0,
            Weights::Sd(d, _) => slices(d, &sd_rows(d, piece)).len() * (d.format.r * d.format.s + 1),
        }
    }
}

/// Fewest channels after which a row ends where a kernel does.
fn channel_step(s: usize, taps: usize) -> usize {
    (1..=s).find(|c| (c * taps).is_multiple_of(s)).unwrap_or(s)
}

/// Cuts of plain weights: bands of kernel rows that a line file holds, then channels that a bank holds.
fn plain_pieces(filter: Filter, bank: usize, file: usize) -> Vec<Piece> {
    let columns = filter.kw.min(file);
    let rows = (file / columns).min(filter.kh).max(1);
    let mut pieces = Vec::new();
    for r in (0..filter.kh).step_by(rows) {
        for t in (0..filter.kw).step_by(columns) {
            let rows = r..(r + rows).min(filter.kh);
            let columns = t..(t + columns).min(filter.kw);
            let channels = (bank / (rows.len() * columns.len())).max(1);
            let channels = if channels >= 16 {
                channels / 16 * 16
            } else {
                channels
            };
            for c in (0..filter.c).step_by(channels) {
                pieces.push(Piece {
                    c: c..(c + channels).min(filter.c),
                    rows: rows.clone(),
                    columns: columns.clone(),
                });
            }
        }
    }
    pieces
}

fn plain_image(all: &[i8], filter: Filter, filters: Range<usize>, piece: &Piece) -> Image {
    let mut stream = Vec::with_capacity(filters.len() * piece.len());
    for f in filters {
        for c in piece.c.clone() {
            for r in piece.rows.clone() {
                let from = ((f * filter.c + c) * filter.kh + r) * filter.kw;
                stream.extend(
                    all[from + piece.columns.start..from + piece.columns.end]
                        .iter()
                        .map(|&w| w as u8),
                );
            }
        }
    }
    Image {
        stream,
        bytes: piece.len(),
        ..Image::default()
    }
}

/// The stored rows of a piece: it is whole kernels of some channels, and begins where a row does.
fn sd_rows(d: &Decomposed, piece: &Piece) -> Range<usize> {
    let (s, taps) = (d.format.s, piece.taps());
    piece.c.start * taps / s..(piece.c.end * taps).div_ceil(s)
}

/// The basis slices of some rows.
fn slices(d: &Decomposed, rows: &Range<usize>) -> Range<usize> {
    rows.start / d.format.slice_rows..(rows.end - 1) / d.format.slice_rows + 1
}

fn sd_image(d: &Decomposed, filters: Range<usize>, piece: &Piece) -> Image {
    let rows = sd_rows(d, piece);
    let streams: Vec<Vec<u8>> = filters.clone().map(|f| pack_rows(d, f, rows.clone())).collect();
    // A stream without any row is a byte that nobody reads.
    let bytes = streams.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let mut stream = Vec::with_capacity(bytes * streams.len());
    for one in streams {
        let end = stream.len() + bytes;
        stream.extend(one);
        stream.resize(end, 0);
    }
    let of = |f: usize| -> Vec<u8> {
        let parts = slices(d, &rows).flat_map(|t| {
            let (basis, shift) = d.basis(f, t * d.format.slice_rows);
            basis.iter().map(|&b| b as u8).chain([shift]).collect::<Vec<u8>>()
        });
        parts.collect()
    };
    let first = of(filters.start);
    let shared = filters.start / d.format.basis_filters == (filters.end - 1) / d.format.basis_filters;
    let (index, g) = index(d, filters.clone(), &rows);
    Image {
        stream,
        bytes,
        base_bytes: first.len(),
        bases: if shared {
            first
        } else {
            filters.flat_map(of).collect()
        },
        shared,
        index,
        g,
        row0: (rows.start % d.format.slice_rows) as u32,
    }
}

/// Index bits of a tile's groups. Groups that do not begin with the tile are cut into smaller ones, whose bits are the same.
fn index(d: &Decomposed, filters: Range<usize>, rows: &Range<usize>) -> (Vec<u8>, u32) {
    let Index::Rows(shared) = d.format.index else {
        return (Vec::new(), 0);
    };
    let g = gcd(
        gcd(shared, 64),
        if filters.start == 0 { 64 } else { filters.start },
    );
    let groups = filters.step_by(g);
    (
        groups.flat_map(|f| pack_index(d, f, rows.clone())).collect(),
        g as u32,
    )
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
