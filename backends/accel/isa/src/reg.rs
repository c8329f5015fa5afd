//! The four register files. Each engine has sixteen of each, 96 bits, written by `cfg` in its own queue.

use crate::field::{Fields, fields};

fields! {
    /// A map in a half of the input buffer: element `(c, y, x)` is the byte at `base + ((c' div lines)*rows + y)*pitch + x` of bank `c' mod lines`,
    /// `c' = c + coff`. Reads outside give `fill`.
    View {
        /// Half of the buffer.
        half: u32, Unsigned 1;
        /// First byte in each bank.
        base: u32, Unsigned 20;
        /// Channels, counted without `coff`.
        chans: u32, MinusOne 16;
        /// Rows.
        rows: u32, MinusOne 12;
        /// Bytes from row to row, and columns of the map.
        pitch: u32, MinusOne 12;
        /// Added to a channel's number.
        coff: i32, Signed 14;
        /// What operands of VE and `sti` multiply rows by; 0 repeats one row.
        sy: u32, Unsigned 4;
        /// What they multiply columns by; 0 repeats one column.
        sx: u32, Unsigned 4;
        /// What is read outside.
        fill: u32, Unsigned 8;
    }
}

fields! {
    /// The geometry of a convolution or a pooling window.
    Geom {
        /// Rows of the kernel.
        kh: u32, MinusOne 6;
        /// Columns of the kernel.
        kw: u32, MinusOne 6;
        /// Stride over rows.
        uy: u32, MinusOne 4;
        /// Stride over columns.
        ux: u32, MinusOne 4;
        /// Dilation of rows.
        dy: u32, MinusOne 6;
        /// Dilation of columns.
        dx: u32, MinusOne 6;
        /// Rows of padding above.
        pt: i32, Signed 9;
        /// Columns of padding at the left.
        pl: i32, Signed 9;
        /// Input channels.
        c: u32, MinusOne 16;
        /// Weight number i is `(c*kw + x)*kh + y`; otherwise `(c*kh + y)*kw + x`.
        order: bool, Unsigned 1;
        /// First row of the stream within its basis slice.
        row0: u32, Unsigned 10;
        /// Skip steps whose row of weights is not stored.
        wskip: bool, Unsigned 1;
        /// Skip kernel rows whose activations are all zero.
        askip: bool, Unsigned 1;
        /// A step takes as many cycles as the activation has digits.
        bser: bool, Unsigned 1;
        /// Depthwise: the rows of a kernel go to separate lines.
        dwmap: bool, Unsigned 1;
        /// Pixel groups side by side, as a power of two.
        fold: u32, Unsigned 2;
        /// Every how many kernel rows one is executed.
        ty: u32, MinusOne 2;
        /// The first kernel row executed.
        ty0: u32, Unsigned 2;
        /// Every how many kernel columns one is executed.
        tx: u32, MinusOne 2;
        /// The first kernel column executed.
        tx0: u32, Unsigned 2;
        /// Places of taps are subtracted.
        flip: bool, Unsigned 1;
    }
}

fields! {
    /// How weights are stored. Without `sd` they are plain bytes and the other fields mean nothing.
    Fmt {
        /// Codes and bases (`docs/sd-format.md`).
        sd: bool, Unsigned 1;
        /// Entries of a row.
        s: u32, MinusOne 3;
        /// Codes of a row.
        r: u32, MinusOne 3;
        /// Rows are words of mixed radix; otherwise nibbles.
        row: bool, Unsigned 1;
        /// Magnitudes.
        n: u32, MinusOne 3;
        /// Rows of a basis slice.
        slice: u32, Unsigned 10;
        /// Filters that share index bits; 0: no index.
        g: u32, Unsigned 7;
        /// Magnitude 0.
        a0: u32, Unsigned 8;
        /// Magnitude 1.
        a1: u32, Unsigned 8;
        /// Magnitude 2.
        a2: u32, Unsigned 8;
        /// Magnitude 3.
        a3: u32, Unsigned 8;
        /// Magnitude 4.
        a4: u32, Unsigned 8;
        /// Magnitude 5.
        a5: u32, Unsigned 8;
        /// Magnitude 6.
        a6: u32, Unsigned 8;
        /// Magnitude 7.
        a7: u32, Unsigned 8;
    }
}

impl Fmt {
    /// The eight magnitudes; those beyond `n` are zero.
    pub fn magnitudes(&self) -> [u8; 8] {
        let all = [
            self.a0, self.a1, self.a2, self.a3, self.a4, self.a5, self.a6, self.a7,
        ];
        all.map(|a| a as u8)
    }

    /// The same with these magnitudes, at most eight, and `n` their number (1 if there are none).
    #[must_use]
    pub fn with_magnitudes(self, alphabet: &[u8]) -> Self {
        let at = |i: usize| alphabet.get(i).copied().map_or(0, u32::from);
        Self {
            n: alphabet.len().clamp(1, 8) as u32,
            a0: at(0),
            a1: at(1),
            a2: at(2),
            a3: at(3),
            a4: at(4),
            a5: at(5),
            a6: at(6),
            a7: at(7),
            ..self
        }
    }

    /// The magnitudes in use: none without `sd`.
    pub fn alphabet(&self) -> Vec<u8> {
        let used = if self.sd { self.n as usize } else { 0 };
        self.magnitudes()[..used].to_vec()
    }

    /// Bits of a stored row of codes.
    pub fn row_bits(&self) -> u32 {
        if !self.row {
            return 4 * self.r;
        }
        let words = u64::from(2 * self.n + 1).pow(self.r);
        u64::BITS - (words - 1).leading_zeros()
    }

    /// Bytes of a basis with its shift.
    pub fn basis_bytes(&self) -> u32 {
        self.r * self.s + 1
    }

    /// Cycles a code takes to rebuild: 2 if some magnitude is a sum of two powers of two.
    pub fn terms(&self) -> u32 {
        let two = self.alphabet().iter().any(|a| a.count_ones() > 1);
        if two { 2 } else { 1 }
    }
}

fields! {
    /// Zero points, multiplier, shift, bounds and types of a requantisation.
    Quant {
        /// Zero point of the input.
        z: i32, Signed 9;
        /// Multiplier of VE.
        mul: i32, Signed 32;
        /// Right shift, 1 to 62.
        shift: u32, Unsigned 6;
        /// Zero point of the result.
        yz: i32, Signed 9;
        /// Least result.
        lo: i32, Signed 9;
        /// Greatest result.
        hi: i32, Signed 9;
        /// Input bytes are signed.
        xi8: bool, Unsigned 1;
        /// Result bytes are signed.
        yi8: bool, Unsigned 1;
    }
}

/// A register file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum File {
    /// [`View`]
    View,
    /// [`Geom`]
    Geom,
    /// [`Fmt`]
    Fmt,
    /// [`Quant`]
    Quant,
}

impl File {
    /// All, in the order of their numbers.
    pub const ALL: [File; 4] = [File::View, File::Geom, File::Fmt, File::Quant];

    /// The name in texts.
    pub fn name(self) -> &'static str {
        ["view", "geom", "fmt", "quant"][self as usize]
    }
}

/// What a register holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// Of file 0.
    View(View),
    /// Of file 1.
    Geom(Geom),
    /// Of file 2.
    Fmt(Fmt),
    /// Of file 3.
    Quant(Quant),
}

impl Register {
    /// The file it belongs to.
    pub fn file(&self) -> File {
        match self {
            Self::View(_) => File::View,
            Self::Geom(_) => File::Geom,
            Self::Fmt(_) => File::Fmt,
            Self::Quant(_) => File::Quant,
        }
    }

    /// Passes each field's value on.
    pub fn each(&self, f: impl FnMut(&'static crate::Field, i64)) {
        match self {
            Self::View(v) => v.each(f),
            Self::Geom(v) => v.each(f),
            Self::Fmt(v) => v.each(f),
            Self::Quant(v) => v.each(f),
        }
    }

    /// Makes a register of a file of values asked for one by one.
    ///
    /// # Errors
    /// The first that `f` gives.
    pub fn make<E>(file: File, f: impl FnMut(&'static crate::Field) -> Result<i64, E>) -> Result<Self, E> {
        Ok(match file {
            File::View => Self::View(Fields::make(f)?),
            File::Geom => Self::Geom(Fields::make(f)?),
            File::Fmt => Self::Fmt(Fields::make(f)?),
            File::Quant => Self::Quant(Fields::make(f)?),
        })
    }
}
