//! Integer convolution on channels-last bytes; the contract is that of the registry's `conv2d_i8`.
//!
//! Products are of unsigned inputs, so signed ones have their sign bit flipped (128 is added) and their zero point with
//! them; the zero point's share of a sum is the zero point times the filter's sum of weights, subtracted beforehand. That
//! is right for padding too, which reads as the zero point, from a row of such bytes.
//!
//! Loops, outermost first: a block of filters, a tile of pixels, then runs of contiguous input that all the tile's pixels
//! have: the rows of a window, read in place or, where a window overhangs the input, from a copy; or a copy of the whole
//! window where channels do not come in fours; or, for many channels, one tap. Fewer than four channels are read with what
//! follows them, which meets weights of zero.

use super::lanes_i8::{Best, Output, Sums};
use super::params::Conv2dI8Params;

/// Channels read at a time: the length of the row that padding reads.
const ROW: usize = 2048;
/// Filters of a full block.
const BLOCK: usize = 64;
/// Most pixels of a tile.
const MOST: usize = 12;
/// Most bytes of a pixel's window that are copied at once.
const COPY: usize = 1024;

/// How windows are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Row by row of the window.
    Rows,
    /// From a copy in which every tap has a multiple of four channels.
    Copy,
    /// Tap by tap.
    Taps,
}

struct Call<'a> {
    p: &'a Conv2dI8Params,
    x: *const u8,
    w: *const i8,
    bias: *const i32,
    wsum: *const i32,
    scale: *const f32,
    y: *mut u8,
    padding: *const u8,
    /// `COPY` bytes for each pixel.
    copies: *mut u8,
    way: Way,
    /// Zero point of the unsigned inputs.
    zero: i32,
    out: Output,
    first_row: i64,
    /// Where the elements end that the call may read, as an offset from `x`.
    input_end: i64,
}

/// The pixels of a tile.
struct Pixels<const P: usize> {
    /// Input position of the first tap.
    rows: [i64; P],
    columns: [i64; P],
    /// Offset of the output.
    to: [i64; P],
}

/// Where a block's weights are.
#[derive(Clone, Copy)]
struct Block {
    /// The first filter, and its first weights.
    first: usize,
    w: *const i8,
    /// Bytes from the weights of four inputs to the next.
    step: usize,
}

/// The kernel `conv2d_i8`; operands x, w, bias, wsum, scale, y; the range is output rows.
///
/// # Safety
/// The operands must be valid for all elements that the parameters say are touched, and the CPU must have what `S` needs.
#[inline(always)]
pub unsafe fn conv2d_i8<S: Sums>(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: the contract gives six operands and the parameters.
    unsafe {
        let p = &*params.cast::<Conv2dI8Params>();
        let mut padding = core::mem::MaybeUninit::<[u8; ROW]>::uninit();
        let mut copies = core::mem::MaybeUninit::<[u8; MOST * COPY]>::uninit();
        let row = padding.as_mut_ptr().cast::<u8>();
        let (channels, taps) = (p.in_c as usize, (p.kh * p.kw) as usize);
        let quads = channels.div_ceil(4);
        let way = if (channels % 4 == 0 || channels < 4)
            && (p.kw == 1 || p.dw * p.xs_w == p.in_c)
            && p.kw as usize * channels <= COPY - 4
        {
            Way::Rows
        } else if channels % 4 != 0 && taps * quads * 4 <= COPY {
            Way::Copy
        } else {
            Way::Taps
        };
        let length = match way {
            Way::Taps => channels.min(ROW),
            _ => COPY,
        };
        for i in 0..length {
            row.add(i).write(p.x_zero as u8);
        }
        let signed = p.x_signed != 0;
        let last_row = (p.in_h - 1).min((end - 1) * p.sh - p.pt + (p.kh - 1) * p.dh);
        let call = Call {
            p,
            x: (*operands).cast_const(),
            w: (*operands.add(1)).cast_const().cast(),
            bias: (*operands.add(2)).cast_const().cast(),
            wsum: (*operands.add(3)).cast_const().cast(),
            scale: (*operands.add(4)).cast_const().cast(),
            y: *operands.add(5),
            padding: row,
            copies: copies.as_mut_ptr().cast(),
            way,
            zero: p.x_zero as i32 + if signed { 128 } else { 0 },
            out: Output::new(p.y_zero, p.y_min, p.y_max, p.y_shift),
            first_row: begin,
            input_end: (last_row - p.x_row0) * p.xs_h + (p.in_w - 1) * p.xs_w + p.in_c,
        };
        let pixels = (end - begin).max(0) * p.out_w;
        if signed {
            call.blocks::<S, true>(pixels);
        } else {
            call.blocks::<S, false>(pixels);
        }
    }
}

/// The kernel with the best sums for the level this is compiled for.
///
/// # Safety
/// As [`conv2d_i8`].
pub unsafe fn portable(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: forwarded.
    unsafe { conv2d_i8::<Best>(operands, params, begin, end) }
}

impl Call<'_> {
    #[inline(always)]
    unsafe fn blocks<S: Sums, const FLIP: bool>(&self, pixels: i64) {
        let p = self.p;
        let filters = p.out_c.max(0) as usize;
        let window = (p.planes * p.kh * p.kw) as usize * (p.in_c as usize).div_ceil(4) * 4;
        let mut first = 0;
        // SAFETY: forwarded; a block's weights follow those of full blocks.
        unsafe {
            while first < filters {
                let vectors = (filters - first).min(BLOCK).div_ceil(16);
                let mut done = 0;
                while done < vectors {
                    let block = Block {
                        first: first + 16 * done,
                        w: self.w.add(first * window + 64 * done),
                        step: 64 * vectors,
                    };
                    let now = (vectors - done).min(S::VECTORS);
                    match now {
                        4 if S::VECTORS >= 4 => self.block::<S, FLIP, 4>(block, pixels),
                        3 if S::VECTORS >= 3 => self.block::<S, FLIP, 3>(block, pixels),
                        2 if S::VECTORS >= 2 => self.block::<S, FLIP, 2>(block, pixels),
                        _ => self.block::<S, FLIP, 1>(block, pixels),
                    }
                    done += now;
                }
                first += BLOCK;
            }
        }
    }

    /// All pixels of `V` vectors of filters.
    #[inline(always)]
    unsafe fn block<S: Sums, const FLIP: bool, const V: usize>(&self, block: Block, pixels: i64) {
        let full = S::PIXELS[V] as i64;
        let mut at = 0;
        // SAFETY: forwarded.
        unsafe {
            while at + full <= pixels {
                match S::PIXELS[V] {
                    12 => self.tile::<S, FLIP, 12, V>(block, at),
                    8 => self.tile::<S, FLIP, 8, V>(block, at),
                    6 => self.tile::<S, FLIP, 6, V>(block, at),
                    4 => self.tile::<S, FLIP, 4, V>(block, at),
                    2 => self.tile::<S, FLIP, 2, V>(block, at),
                    _ => self.tile::<S, FLIP, 1, V>(block, at),
                }
                at += full;
            }
            while at + 4 <= pixels && full > 4 {
                self.tile::<S, FLIP, 4, V>(block, at);
                at += 4;
            }
            while at < pixels {
                self.tile::<S, FLIP, 1, V>(block, at);
                at += 1;
            }
        }
    }

    /// `P` pixels from number `at` on.
    #[inline(always)]
    unsafe fn tile<S: Sums, const FLIP: bool, const P: usize, const V: usize>(&self, block: Block, at: i64) {
        let p = self.p;
        // Unsigned and visibly not zero, so that dividing cannot panic.
        let (pixel, row) = (at as u64, (p.out_w as u64).max(1));
        let (mut oy, mut ox) = (self.first_row + (pixel / row) as i64, (pixel % row) as i64);
        let mut pixels = Pixels {
            rows: [0; P],
            columns: [0; P],
            to: [0; P],
        };
        for i in 0..P {
            pixels.rows[i] = oy * p.sh - p.pt;
            pixels.columns[i] = ox * p.sw - p.pl;
            pixels.to[i] = (oy - p.y_row0) * p.ys_h + ox * p.ys_w + block.first as i64;
            ox += 1;
            if ox == p.out_w {
                (ox, oy) = (0, oy + 1);
            }
        }
        // SAFETY: the kernel's contract; pointers stay inside their operands.
        unsafe {
            let mut sums = [[S::load(self.bias.add(block.first)); V]; P];
            for v in 0..V {
                let filter = block.first + 16 * v;
                let start = S::load(self.bias.add(filter)).minus(self.zero, self.wsum.add(filter));
                for i in 0..P {
                    sums[i][v] = start;
                }
            }
            let mut w = block.w;
            for plane in 0..p.planes {
                match self.way {
                    Way::Rows => {
                        let channels = p.in_c as usize;
                        for ky in 0..p.kh {
                            let from = self.row::<P>(&pixels, ky);
                            if channels < 4 {
                                let each = (p.kw as usize, channels);
                                run::<S, FLIP, P, V>(&mut sums, &from, each, &mut w, block.step);
                            } else {
                                let each = (p.kw as usize * channels / 4, 4);
                                run::<S, FLIP, P, V>(&mut sums, &from, each, &mut w, block.step);
                            }
                        }
                    }
                    Way::Copy => {
                        let quads = (p.kh * p.kw) as usize * (p.in_c as usize).div_ceil(4);
                        let mut from = [self.padding; P];
                        for i in 0..P {
                            let copy = self.copies.add(i * COPY);
                            if plane == 0 {
                                self.copy_window(pixels.rows[i], pixels.columns[i], copy);
                            }
                            from[i] = copy;
                        }
                        run::<S, FLIP, P, V>(&mut sums, &from, (quads, 4), &mut w, block.step);
                    }
                    Way::Taps => self.taps::<S, FLIP, P, V>(&pixels, &mut sums, &mut w, block.step),
                }
            }
            let left = p.out_c as usize - block.first;
            for i in 0..P {
                for v in 0..V {
                    let y = self.y.offset(pixels.to[i] as isize + 16 * v as isize);
                    let count = left.saturating_sub(16 * v).min(16);
                    sums[i][v].store(self.scale.add(block.first + 16 * v), &self.out, y, count);
                }
            }
        }
    }

    /// The input at a place inside it.
    #[inline(always)]
    unsafe fn input(&self, row: i64, column: i64) -> *const u8 {
        let p = self.p;
        // SAFETY: the caller says the place exists.
        unsafe {
            self.x
                .offset(((row - p.x_row0) * p.xs_h + column * p.xs_w) as isize)
        }
    }

    /// Row `ky` of each pixel's window.
    #[inline(always)]
    unsafe fn row<const P: usize>(&self, pixels: &Pixels<P>, ky: i64) -> [*const u8; P] {
        let p = self.p;
        let reach = (p.kw - 1) * p.dw;
        // Four bytes are read of a row's last channels, which at the end of the input can be more than there are.
        let last_read = match p.in_c {
            1..4 => self.input_end - 4 - reach * p.xs_w,
            _ => i64::MAX,
        };
        let mut from = [self.padding; P];
        for i in 0..P {
            let (row, column) = (pixels.rows[i] + ky * p.dh, pixels.columns[i]);
            if !(0..p.in_h).contains(&row) {
                continue;
            }
            let at = (row - p.x_row0) * p.xs_h + column * p.xs_w;
            // SAFETY: what is read exists.
            unsafe {
                from[i] = if column >= 0 && column + reach < p.in_w && at <= last_read {
                    self.x.offset(at as isize)
                } else {
                    let copy = self.copies.add(i * COPY);
                    self.copy_row(row, column, copy);
                    copy
                };
            }
        }
        from
    }

    /// Copies the row of a window, of which a part may lie outside the input; at most COPY bytes.
    #[inline(always)]
    unsafe fn copy_row(&self, row: i64, column: i64, to: *mut u8) {
        let (p, channels) = (self.p, self.p.in_c as usize);
        for kx in 0..p.kw as usize {
            let column = column + kx as i64 * p.dw;
            // SAFETY: a tap inside the input has its channels, and the padding as many as any.
            unsafe {
                let tap = if (0..p.in_w).contains(&column) {
                    self.input(row, column)
                } else {
                    self.padding
                };
                let to = to.add(kx * channels);
                if channels < 4 {
                    // What is written after the channels is overwritten by the next, or meets weights of zero.
                    to.cast::<u32>().write_unaligned(some(tap, channels));
                    continue;
                }
                for q in 0..channels / 4 {
                    let four = tap.cast::<u32>().add(q).read_unaligned();
                    to.cast::<u32>().add(q).write_unaligned(four);
                }
            }
        }
    }

    /// Copies the window that begins at a row and column, each tap's channels filled up to a multiple of four.
    #[inline(always)]
    unsafe fn copy_window(&self, row: i64, column: i64, to: *mut u8) {
        let p = self.p;
        let (channels, mut to) = (p.in_c as usize, to);
        for ky in 0..p.kh {
            let row = row + ky * p.dh;
            for kx in 0..p.kw {
                let column = column + kx * p.dw;
                // SAFETY: as in `row`; byte by byte where nothing need follow the last channel. What fills up is
                // multiplied by zero, whatever it is.
                unsafe {
                    let exists = (0..p.in_h).contains(&row) && (0..p.in_w).contains(&column);
                    let tap = if exists {
                        self.input(row, column)
                    } else {
                        self.padding
                    };
                    // Bytes from the tap on to the end of its row, or of the padding.
                    let left = if exists {
                        (p.in_w - 1 - column) * p.xs_w + p.in_c
                    } else {
                        COPY as i64
                    };
                    let mut c = 0;
                    while c < channels {
                        let four = if c as i64 + 4 <= left {
                            tap.add(c).cast::<u32>().read_unaligned()
                        } else {
                            some(tap.add(c), channels - c)
                        };
                        to.add(c).cast::<u32>().write_unaligned(four);
                        c += 4;
                    }
                    to = to.add(channels.div_ceil(4) * 4);
                }
            }
        }
    }

    /// The products of all taps of one plane, tap by tap.
    #[inline(always)]
    unsafe fn taps<S: Sums, const FLIP: bool, const P: usize, const V: usize>(
        &self,
        pixels: &Pixels<P>,
        sums: &mut [[S; V]; P],
        w: &mut *const i8,
        step: usize,
    ) {
        let (p, channels) = (self.p, self.p.in_c as usize);
        for ky in 0..p.kh {
            for kx in 0..p.kw {
                // SAFETY: as in `row`.
                unsafe {
                    let mut source = [core::ptr::null::<u8>(); P];
                    for i in 0..P {
                        let (row, column) = (pixels.rows[i] + ky * p.dh, pixels.columns[i] + kx * p.dw);
                        if (0..p.in_h).contains(&row) && (0..p.in_w).contains(&column) {
                            source[i] = self.input(row, column);
                        }
                    }
                    let mut done = 0;
                    while done < channels {
                        let n = (channels - done).min(ROW);
                        let mut from = [self.padding; P];
                        for i in 0..P {
                            if !source[i].is_null() {
                                from[i] = source[i].add(done);
                            }
                        }
                        run::<S, FLIP, P, V>(sums, &from, (n / 4, 4), w, step);
                        if n % 4 != 0 {
                            let mut last = [[0u8; 4]; P];
                            for i in 0..P {
                                last[i] = some(from[i].add(n / 4 * 4), n % 4).to_le_bytes();
                                from[i] = last[i].as_ptr();
                            }
                            run::<S, FLIP, P, V>(sums, &from, (1, 4), w, step);
                        }
                        done += n;
                    }
                }
            }
        }
    }
}

/// The first `n` of four bytes, the others zero.
#[inline(always)]
unsafe fn some(from: *const u8, n: usize) -> u32 {
    let mut x = 0;
    for j in 0..n {
        // SAFETY: `n` bytes, by contract.
        x |= u32::from(unsafe { *from.add(j) }) << (8 * j);
    }
    x
}

/// Products of `quads` times four inputs, each four `distance` bytes after the one before.
#[inline(always)]
unsafe fn run<S: Sums, const FLIP: bool, const P: usize, const V: usize>(
    sums: &mut [[S; V]; P],
    from: &[*const u8; P],
    (quads, distance): (usize, usize),
    w: &mut *const i8,
    step: usize,
) {
    let (mut all, mut at) = (*sums, *w);
    for q in 0..quads {
        // SAFETY: the caller vouches for the inputs and weights.
        unsafe {
            let mut weights = [S::weights(at); V];
            for v in 1..V {
                weights[v] = S::weights(at.add(64 * v));
            }
            for i in 0..P {
                let x = S::inputs::<FLIP>(from[i].add(distance * q));
                for v in 0..V {
                    all[i][v] = all[i][v].dot(weights[v], x);
                }
            }
            at = at.add(step);
        }
    }
    (*sums, *w) = (all, at);
}
