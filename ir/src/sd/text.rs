//! Text form of decomposed weights, for dumps and snapshots. Grammar in `docs/sd-format.md`.
//!
//! ```text
//! sd shape=2x1x3x3 filter_dims=0 vector_dims=1,2,3 s=3 r=3 slice_rows=192 alphabet=1,2,4 packing=nibble basis_bits=8 basis_filters=1 scale=f16 index=2
//! scales 0.5 0.0625
//! slice 0 filters 0..1 shift 6 basis 100 -20 3 | 5 90 -7 | 0 1 -128
//! filter 0
//!   +4 0 -1
//!   .
//!   +2 -4 0
//! ```
//!
//! Line breaks are for the reader: to the parser they are blanks. `//` starts a comment.

use super::rebuild::check;
use super::{Decomposed, Format, Geometry, Index, Packing, SdError, faults_of_format};
use crate::DType;
use std::fmt::{self, Write as _};
use std::str::FromStr;

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shape, filter, vector) = (&self.shape, &self.filter_dims, &self.vector_dims);
        let (shape, filter, vector) = (join(shape, "x"), join(filter, ","), join(vector, ","));
        write!(f, "shape={shape} filter_dims={filter} vector_dims={vector}")
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Format { s, r, slice_rows, .. } = self;
        let alphabet = join(&self.alphabet, ",");
        let packing = match self.packing {
            Packing::Nibble => "nibble",
            Packing::Row => "row",
        };
        let (bits, shared, scale) = (self.basis_bits, self.basis_filters, self.scale);
        write!(
            f,
            "s={s} r={r} slice_rows={slice_rows} alphabet={alphabet} packing={packing} "
        )?;
        write!(f, "basis_bits={bits} basis_filters={shared} scale={scale} index=")?;
        match self.index {
            Index::None => f.write_str("none"),
            Index::Rows(filters) => write!(f, "{filters}"),
        }
    }
}

fn join<T: ToString>(items: &[T], separator: &str) -> String {
    let items: Vec<_> = items.iter().map(T::to_string).collect();
    items.join(separator)
}

/// The text of a decomposed weight; [`parse`] is its inverse.
///
/// # Errors
/// [`SdError::Invalid`] if the value breaks a law.
pub fn print(d: &Decomposed) -> Result<String, SdError> {
    check(d)?;
    let mut out = String::new();
    write(d, &mut out).expect("writing to a string does not fail");
    Ok(out)
}

fn write(d: &Decomposed, out: &mut String) -> fmt::Result {
    let (geometry, format) = (&d.geometry, &d.format);
    writeln!(out, "sd {geometry} {format}")?;
    for (i, scales) in d.scales.chunks(8).enumerate() {
        out.push_str(if i == 0 { "scales" } else { "  " });
        scales.iter().try_for_each(|x| write!(out, " {x:?}"))?;
        out.push('\n');
    }
    for Slice { slice, filters, rows } in slices(geometry, format) {
        let (basis, shift) = d.basis(filters.start, rows.start);
        let basis: Vec<_> = basis.chunks(format.s).map(|row| join(row, " ")).collect();
        let basis = basis.join(" | ");
        writeln!(
            out,
            "slice {slice} filters {filters:?} shift {shift} basis {basis}"
        )?;
        for filter in filters {
            writeln!(out, "filter {filter}")?;
            for row in rows.clone() {
                out.push(' ');
                if d.is_kept(filter, row) {
                    let mut codes = d.row_codes(filter, row).iter();
                    codes.try_for_each(|&code| match format.value(code) {
                        0 => write!(out, " 0"),
                        level => write!(out, " {level:+}"),
                    })?;
                } else {
                    out.push_str(" .");
                }
                out.push('\n');
            }
        }
    }
    Ok(())
}

/// A basis and where it is used.
struct Slice {
    /// Position among the slices of a filter.
    slice: usize,
    filters: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
}

/// All slices in the order of their bases.
fn slices(geometry: &Geometry, format: &Format) -> impl Iterator<Item = Slice> {
    let (filters, shared) = (geometry.filters(), format.basis_filters);
    let (rows, step) = (geometry.rows(format.s), format.slice_rows);
    (0..filters).step_by(shared).flat_map(move |first| {
        (0..rows)
            .step_by(step)
            .enumerate()
            .map(move |(slice, row)| Slice {
                slice,
                filters: first..filters.min(first.saturating_add(shared)),
                rows: row..rows.min(row + step),
            })
    })
}

/// Reads the text form; the result is free of faults. Memory is bounded by a small multiple of the text's length.
///
/// # Errors
/// [`SdError::Text`] at the first word that is not as expected; [`SdError::Invalid`] if the value breaks a law.
pub fn parse(text: &str) -> Result<Decomposed, SdError> {
    let mut words = Words::new(text);
    words.expect("sd")?;
    let geometry = words.geometry()?;
    let format = words.format()?;
    let faults = faults_of_format(&geometry, &format);
    if !faults.is_empty() {
        return Err(SdError::Invalid(faults));
    }
    let (filters, rows) = (geometry.filters(), geometry.rows(format.s));
    if filters * rows > text.len() {
        return Err(words.error(format!(
            "the text is too short for {filters} filters of {rows} rows"
        )));
    }
    words.expect("scales")?;
    let mut d = Decomposed {
        codes: vec![0; filters * rows * format.r],
        kept: vec![true; geometry.index_groups(&format) * rows],
        bases: Vec::new(),
        shifts: Vec::new(),
        scales: (0..filters)
            .map(|_| words.number("a scale"))
            .collect::<Result<_, _>>()?,
        geometry: geometry.clone(),
        format: format.clone(),
    };
    for slice in slices(&geometry, &format) {
        words.slice(&slice, &mut d)?;
    }
    if let Some(word) = words.next() {
        return Err(words.error(format!("`{word}` behind the last row")));
    }
    check(&d)?;
    Ok(d)
}

/// The words of a text, and the line of the last one.
struct Words<'a> {
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
    words: std::str::SplitWhitespace<'a>,
    line: usize,
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            lines: text.lines().enumerate(),
            words: "".split_whitespace(),
            line: 1,
        }
    }

    fn next(&mut self) -> Option<&'a str> {
        loop {
            if let Some(word) = self.words.next() {
                return Some(word);
            }
            let (i, line) = self.lines.next()?;
            self.line = i + 1;
            self.words = line.split("//").next().unwrap_or("").split_whitespace();
        }
    }

    fn error(&self, reason: impl Into<String>) -> SdError {
        SdError::Text {
            line: self.line,
            reason: reason.into(),
        }
    }

    fn word(&mut self, expected: &str) -> Result<&'a str, SdError> {
        let word = self.next();
        word.ok_or_else(|| self.error(format!("expected {expected}, found the end")))
    }

    fn expect(&mut self, expected: &str) -> Result<(), SdError> {
        let word = self.word(&format!("`{expected}`"))?;
        if word == expected {
            Ok(())
        } else {
            Err(self.error(format!("expected `{expected}`, found `{word}`")))
        }
    }

    fn read<T: FromStr>(&self, word: &str, expected: &str) -> Result<T, SdError> {
        let value = word.parse();
        value.map_err(|_| self.error(format!("expected {expected}, found `{word}`")))
    }

    fn number<T: FromStr>(&mut self, expected: &str) -> Result<T, SdError> {
        let word = self.word(expected)?;
        self.read(word, expected)
    }

    /// The value of the next `key=value`.
    fn field(&mut self, key: &str) -> Result<&'a str, SdError> {
        let word = self.word(&format!("`{key}=`"))?;
        let value = word.strip_prefix(key).and_then(|rest| rest.strip_prefix('='));
        value.ok_or_else(|| self.error(format!("expected `{key}=`, found `{word}`")))
    }

    fn list<T: FromStr>(&mut self, key: &str, separator: char) -> Result<Vec<T>, SdError> {
        let list = self.field(key)?;
        if list.is_empty() {
            return Ok(Vec::new());
        }
        list.split(separator)
            .map(|item| self.read(item, "a number"))
            .collect()
    }

    fn parameter<T: FromStr>(&mut self, key: &str) -> Result<T, SdError> {
        let value = self.field(key)?;
        self.read(value, key)
    }

    fn geometry(&mut self) -> Result<Geometry, SdError> {
        Ok(Geometry {
            shape: self.list("shape", 'x')?,
            filter_dims: self.list("filter_dims", ',')?,
            vector_dims: self.list("vector_dims", ',')?,
        })
    }

    fn format(&mut self) -> Result<Format, SdError> {
        Ok(Format {
            s: self.parameter("s")?,
            r: self.parameter("r")?,
            slice_rows: self.parameter("slice_rows")?,
            alphabet: self.list("alphabet", ',')?,
            packing: match self.field("packing")? {
                "nibble" => Packing::Nibble,
                "row" => Packing::Row,
                other => return Err(self.error(format!("expected `nibble` or `row`, found `{other}`"))),
            },
            basis_bits: self.parameter("basis_bits")?,
            basis_filters: self.parameter("basis_filters")?,
            scale: self.parameter::<DType>("scale")?,
            index: match self.field("index")? {
                "none" => Index::None,
                filters => Index::Rows(self.read(filters, "`none` or a number")?),
            },
        })
    }

    /// A slice with its basis and the rows of its filters.
    fn slice(&mut self, at: &Slice, d: &mut Decomposed) -> Result<(), SdError> {
        self.expect("slice")?;
        self.expect(&at.slice.to_string())?;
        self.expect("filters")?;
        self.expect(&format!("{:?}", at.filters))?;
        self.expect("shift")?;
        d.shifts.push(self.number("a shift")?);
        self.expect("basis")?;
        for k in 0..d.format.r {
            if k > 0 {
                self.expect("|")?;
            }
            for _ in 0..d.format.s {
                d.bases.push(self.number("a basis entry")?);
            }
        }
        let (shared, pitch, r) = (d.format.index_filters(), d.rows(), d.format.r);
        for filter in at.filters.clone() {
            self.expect("filter")?;
            self.expect(&filter.to_string())?;
            for row in at.rows.clone() {
                let codes = &mut d.codes[(filter * pitch + row) * r..][..r];
                let kept = self.row(&d.format.alphabet, codes)?;
                let bit = &mut d.kept[filter / shared * pitch + row];
                if filter % shared == 0 {
                    *bit = kept;
                } else if *bit != kept {
                    return Err(self.error(format!(
                        "row {row} is not kept alike in the filters that share its bit"
                    )));
                }
            }
        }
        Ok(())
    }

    /// The codes of a row; false if it is dropped.
    fn row(&mut self, alphabet: &[u8], codes: &mut [i8]) -> Result<bool, SdError> {
        for (k, code) in codes.iter_mut().enumerate() {
            let word = self.word("a code")?;
            let magnitude = |digits: &str| {
                // No second sign and no leading zero.
                let plain = digits.starts_with(|c| matches!(c, '1'..='9'));
                let magnitude: u8 = digits.parse().ok().filter(|_| plain)?;
                Some(alphabet.binary_search(&magnitude).ok()? as i8 + 1)
            };
            *code = match word.split_at_checked(1) {
                Some((".", "")) if k == 0 => return Ok(false),
                Some(("0", "")) => Some(0),
                Some(("+", digits)) => magnitude(digits),
                Some(("-", digits)) => magnitude(digits).map(|k| -k),
                _ => None,
            }
            .ok_or_else(|| self.error(format!("`{word}` is no signed magnitude of the alphabet")))?;
        }
        Ok(true)
    }
}
