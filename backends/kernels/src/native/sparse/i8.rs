//! The kernel `sparse2d_i8`: units are four bytes, those of a pixel's channels or of pixels one after another, which a row of weights meets.
//!
//! Products are of unsigned inputs, as in `conv2d_i8`: the sign bits of signed ones are flipped in the copy, and their zero point with them.

use super::super::lanes_i8::{self, Best, Output};
use super::super::params::Sparse2dI8Params;
use super::{BLOCK, Plan, Sums, Tile, steps};

/// The sums of a block.
#[derive(Clone, Copy)]
struct Block<S>(S);

impl<S: lanes_i8::Sums> Sums for Block<S> {
    type Weights = S::Weights;
    const MOST: usize = match S::PIXELS[1] {
        12.. => 16,
        most => most,
    };

    #[inline(always)]
    unsafe fn weights(from: *const u32) -> S::Weights {
        // SAFETY: sixteen times four weights, by contract.
        unsafe { S::weights(from.cast()) }
    }

    #[inline(always)]
    unsafe fn add(self, weights: S::Weights, unit: *const u32) -> Self {
        // SAFETY: the unit exists, by contract.
        unsafe { Self(self.0.dot(weights, S::inputs::<false>(unit.cast()))) }
    }
}

struct Conv<'a, S> {
    p: &'a Sparse2dI8Params,
    x: *const u8,
    bias: *const i32,
    wsum: *const i32,
    scale: *const f32,
    scratch: *mut u32,
    y: *mut u8,
    /// Zero point of the unsigned inputs, what flips inputs, and a unit of padding.
    zero: i32,
    flip: u32,
    padding: u32,
    out: Output,
    sums: core::marker::PhantomData<S>,
}

/// The kernel; operands x, w, places, starts, bias, wsum, scale, scratch, y; the range is output rows.
///
/// # Safety
/// The operands must be valid for all elements that the [`Sparse2dI8Params`] at `params` and the tables say are touched, and the CPU must
/// have what `S` needs.
#[inline(always)]
pub unsafe fn sparse2d_i8<S: lanes_i8::Sums>(
    operands: *const *mut u8,
    params: *const i64,
    begin: i64,
    end: i64,
) {
    // SAFETY: the contract gives nine operands and the parameters.
    unsafe {
        let p = &*params.cast::<Sparse2dI8Params>();
        let at = |i: usize| operands.add(i).read();
        let flip = if p.x_signed != 0 { 0x8080_8080 } else { 0 };
        let layer = Conv::<S> {
            p,
            x: at(0),
            bias: at(4).cast(),
            wsum: at(5).cast(),
            scale: at(6).cast(),
            scratch: at(7).cast(),
            y: at(8),
            zero: p.x_zero as i32 + if p.x_signed != 0 { 128 } else { 0 },
            flip,
            padding: (u32::from(p.x_zero as u8) * 0x0101_0101) ^ flip,
            out: Output::new(p.y_zero, p.y_min, p.y_max, p.y_shift),
            sums: core::marker::PhantomData,
        };
        let plan = Plan {
            out_w: p.out_w as usize,
            blocks: (p.out_c as usize).div_ceil(BLOCK),
            sh: p.sh as usize,
            band: p.band as usize,
            copied: p.copied as usize,
            pitch: (p.phases * p.width) as usize,
            copy: at(7).cast_const().cast(),
            weights: at(1).cast_const().cast(),
            places: at(2).cast_const().cast(),
            starts: at(3).cast_const().cast(),
        };
        super::run(
            &plan,
            (begin, end),
            |row, rows| layer.copy(row, rows),
            |tile, sums| layer.start(tile, sums),
            |tile, sums| layer.finish(tile, sums),
        );
    }
}

/// The kernel with the best sums for the level this is compiled for.
///
/// # Safety
/// As [`sparse2d_i8`].
pub unsafe fn portable(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: forwarded.
    unsafe { sparse2d_i8::<Best>(operands, params, begin, end) }
}

impl<S> Conv<'_, S> {
    /// Units `first` to `first + 16` of a pixel by way of a copy, in which what does not exist is padding.
    #[inline(never)]
    unsafe fn edge(&self, row: i64, column: i64, first: i64, to: *mut u32) {
        let p = self.p;
        let mut copy = [p.x_zero as u8; 4 * BLOCK];
        let (pixels, width) = if p.jc != 0 {
            (1, 4 * BLOCK)
        } else {
            (p.bytes, BLOCK)
        };
        let count = ((p.in_c - first * p.jump) as usize).min(width);
        for j in 0..pixels {
            let (row, column) = (row + j * p.jh, column + j * p.jw);
            if (0..p.in_h).contains(&row) && (0..p.in_w).contains(&column) {
                let at = (row - p.x_row0) * p.xs_h + column * p.xs_w + first * p.jump;
                let to = copy.as_mut_ptr().wrapping_add(j as usize * BLOCK);
                // SAFETY: the channels of a pixel inside the input; a copy has `pixels * width` bytes at most.
                unsafe {
                    let from = self.x.offset(at as isize);
                    let whole = count / 16 * 16;
                    for c in (0..whole).step_by(16) {
                        let some = from.add(c).cast::<[u8; 16]>().read_unaligned();
                        to.add(c).cast::<[u8; 16]>().write_unaligned(some);
                    }
                    for c in whole..count {
                        *to.add(c) = *from.add(c);
                    }
                }
            }
        }
        // SAFETY: sixteen units of the copy, the pixels of which lie side by side; a line of scratch memory.
        unsafe { Units::new(p, self.flip, BLOCK as isize).copy(copy.as_ptr(), to) };
    }
}

/// How units are made of bytes that can all be read, four from the first of each on.
#[derive(Clone, Copy)]
struct Units {
    flip: u32,
    jump: usize,
    /// Distances to the pixels of the second to fourth byte, zeros where the bytes are channels.
    pixels: [isize; 3],
}

impl Units {
    /// With pixels `next` apart.
    #[inline(always)]
    fn new(p: &Sparse2dI8Params, flip: u32, next: isize) -> Self {
        let last = p.bytes as isize - 1;
        let next = if p.jc != 0 { 0 } else { next };
        Self {
            flip,
            jump: if p.jc != 0 { p.jump as usize } else { 0 },
            pixels: [1.min(last), 2.min(last), 3.min(last)].map(|j: isize| j * next),
        }
    }

    /// Sixteen units.
    #[inline(always)]
    unsafe fn copy(self, from: *const u8, to: *mut u32) {
        // SAFETY: forwarded.
        unsafe {
            match self.jump {
                0 => {
                    let [b, c, d] = self.pixels.map(|at| from.offset(at));
                    let mut units = [0; BLOCK];
                    for l in 0..BLOCK {
                        let [a, b, c, d] = [from, b, c, d].map(|pixel| u32::from(*pixel.add(l)));
                        units[l] = (a | b << 8 | c << 16 | d << 24) ^ self.flip;
                    }
                    to.cast::<[u32; BLOCK]>().write_unaligned(units);
                }
                3 => threes(from, self.flip, to),
                jump => {
                    for l in 0..BLOCK {
                        *to.add(l) = from.add(l * jump).cast::<u32>().read_unaligned() ^ self.flip;
                    }
                }
            }
        }
    }
}

/// Sixteen units of three bytes that follow one another, each with the byte after it.
#[inline(always)]
unsafe fn threes(from: *const u8, flip: u32, to: *mut u32) {
    #[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
    // SAFETY: 49 bytes are there, of which the last sixteen are read from a byte early; AVX2 is enabled here.
    unsafe {
        use core::arch::x86_64::*;
        let flip = _mm_set1_epi32(flip as i32);
        let order = _mm_setr_epi8(0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9, 10, 11, 12);
        let shifted = _mm_setr_epi8(3, 4, 5, 6, 6, 7, 8, 9, 9, 10, 11, 12, 12, 13, 14, 15);
        for k in 0..3 {
            let four = _mm_shuffle_epi8(_mm_loadu_si128(from.add(12 * k).cast()), order);
            _mm_storeu_si128(to.add(4 * k).cast(), _mm_xor_si128(four, flip));
        }
        let four = _mm_shuffle_epi8(_mm_loadu_si128(from.add(33).cast()), shifted);
        _mm_storeu_si128(to.add(12).cast(), _mm_xor_si128(four, flip));
    }
    #[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
    for l in 0..BLOCK {
        // SAFETY: four bytes from the unit's first are there, by contract.
        unsafe { *to.add(l) = from.add(3 * l).cast::<u32>().read_unaligned() ^ flip };
    }
}

impl<S: lanes_i8::Sums> Conv<'_, S> {
    #[inline(never)]
    unsafe fn copy(&self, row: i64, rows: usize) {
        // A copy that nothing written can change.
        let p = *self.p;
        let units = Units::new(&p, self.flip, (p.jh * p.xs_h + p.jw * p.xs_w) as isize);
        let (mut first, mut plane) = (0, self.scratch);
        let (reach_h, reach_w) = ((p.bytes - 1) * p.jh, (p.bytes - 1) * p.jw);
        let width = p.width as usize;
        // SAFETY: pixels of the input are looked at where they exist; the scratch operand has room.
        unsafe {
            while first < p.units {
                // Channels from the first, of which some may be read that do not count.
                let channels = (BLOCK as i64 - 1) * p.jump + if p.jc != 0 { 4 } else { 1 };
                let whole = first * p.jump + channels <= p.in_c;
                let mut to = plane;
                for r in 0..rows as i64 {
                    let input = row * p.sh - p.pt + r;
                    let exists = whole && input >= 0 && input + reach_h < p.in_h;
                    let from = (input - p.x_row0) * p.xs_h + first * p.jump;
                    for phase in 0..p.phases {
                        let start = phase - p.pl;
                        let before = steps(-start, p.sw).min(if exists { width } else { 0 });
                        let end = steps(p.in_w - reach_w - start, p.sw);
                        let end = end.min(if exists { width } else { 0 }).max(before);
                        let column = |i: usize| start + i as i64 * p.sw;
                        for i in (0..before).chain(end..width) {
                            self.edge(input, column(i), first, to.add(i * BLOCK));
                        }
                        let mut pixel = self.x.wrapping_offset((from + column(before) * p.xs_w) as isize);
                        let step = (p.sw * p.xs_w) as isize;
                        for i in before..end {
                            units.copy(pixel, to.add(i * BLOCK));
                            pixel = pixel.wrapping_offset(step);
                        }
                        to = to.add(width * BLOCK);
                    }
                }
                first += BLOCK as i64;
                plane = plane.wrapping_add((p.copied * p.phases * p.width) as usize * BLOCK);
            }
        }
    }

    #[inline(never)]
    unsafe fn start(&self, tile: Tile, sums: *mut Block<S>) {
        let at = tile.block * BLOCK;
        // SAFETY: the vectors of numbers have whole blocks; there are sums for all pixels.
        unsafe {
            let start = S::load(self.bias.add(at)).minus(self.zero, self.wsum.add(at));
            for i in 0..tile.rows * tile.columns {
                sums.add(i).write(Block(start));
            }
        }
    }

    #[inline(never)]
    unsafe fn finish(&self, tile: Tile, sums: *const Block<S>) {
        let (p, out, at) = (self.p, self.out, tile.block * BLOCK);
        let (row, step) = (p.ys_h as isize, p.ys_w as isize);
        let pixel = (tile.row - p.y_row0) * p.ys_h + tile.column * p.ys_w;
        let count = (p.out_c as usize - at).min(BLOCK);
        let mut sums = sums;
        // SAFETY: the elements that exist of the result.
        unsafe {
            let scale = self.scale.add(at);
            let mut line = self.y.offset(pixel as isize + at as isize);
            for _ in 0..tile.rows {
                let mut to = line;
                for _ in 0..tile.columns {
                    sums.read().0.store(scale, &out, to, count);
                    sums = sums.add(1);
                    to = to.wrapping_offset(step);
                }
                line = line.wrapping_offset(row);
            }
        }
    }
}
