//! Convolutions: a strip of results from a view and the line files.

use super::Stop;
use super::vector::requantise;
use super::weights::Weights;
use crate::memory::Memory;
use sdc_accel_isa::{Conv, Dwcv, Fmt, Geom, Quant, Registers, View};

/// Elements of the patches that are multiplied at once, so that they stay in the cache whatever the number of channels.
const PATCH: usize = 1 << 17;

/// One `conv` or `dwcv` with its registers.
#[derive(Clone, Copy)]
pub(crate) struct Strip {
    pub view: View,
    pub geom: Geom,
    pub fmt: Fmt,
    pub quant: Quant,
    /// Input channels that a filter reads: `geom.c`, or 1.
    pub c: usize,
    /// Channel of the view, `coff` included, that filter 0 reads first.
    pub c0: i64,
    pub m: usize,
    pub oy: u32,
    pub ox: u32,
    pub e: usize,
    pub f: usize,
    pub wbank: u32,
    pub waddr: u32,
    pub baddr: u32,
    pub xbank: u32,
    pub xaddr: u32,
    pub prm: u32,
    pub slot: u32,
    pub reuse: bool,
    pub accin: bool,
    pub keep: bool,
}

/// A tap of the kernel that is executed, and how far it lies from the first element of the window.
#[derive(Clone, Copy)]
pub(crate) struct Tap {
    pub r: usize,
    pub t: usize,
    pub dy: i64,
    pub dx: i64,
}

impl Strip {
    pub fn of_conv(i: &Conv, registers: &Registers) -> Option<Self> {
        let (view, geom) = (registers.view(i.view)?, registers.geom(i.geom)?);
        Some(Self {
            view,
            geom,
            fmt: registers.fmt(i.fmt)?,
            quant: registers.quant(i.quant)?,
            c: geom.c as usize,
            c0: i64::from(view.coff),
            m: i.m as usize,
            oy: i.oy,
            ox: i.ox,
            e: i.e as usize,
            f: i.f as usize,
            wbank: i.wbank,
            waddr: i.waddr,
            baddr: i.baddr,
            xbank: i.xbank,
            xaddr: i.xaddr,
            prm: i.prm,
            slot: i.slot,
            reuse: i.reuse,
            accin: i.accin,
            keep: i.keep,
        })
    }

    pub fn of_dwcv(i: &Dwcv, registers: &Registers) -> Option<Self> {
        let (view, geom) = (registers.view(i.view)?, registers.geom(i.geom)?);
        Some(Self {
            view,
            // Neither `fold` nor skipping applies to it.
            geom: Geom {
                fold: 0,
                wskip: false,
                askip: false,
                ..geom
            },
            fmt: registers.fmt(i.fmt)?,
            quant: registers.quant(i.quant)?,
            c: 1,
            c0: i64::from(i.c0) + i64::from(view.coff),
            m: i.m as usize,
            oy: i.oy,
            ox: i.ox,
            e: i.e as usize,
            f: i.f as usize,
            wbank: i.wbank,
            waddr: i.waddr,
            baddr: i.baddr,
            xbank: 0,
            xaddr: 0,
            prm: i.prm,
            slot: i.slot,
            reuse: i.reuse,
            accin: false,
            keep: false,
        })
    }

    /// Weights of a filter.
    pub fn per_filter(&self) -> usize {
        self.c * (self.geom.kh * self.geom.kw) as usize
    }

    /// Kernel rows that are executed, with their distances.
    pub fn rows(&self) -> impl Iterator<Item = (usize, i64)> + use<> {
        phase(
            self.geom.kh,
            self.geom.ty0,
            self.geom.ty,
            self.geom.dy,
            self.geom.flip,
        )
    }

    /// Kernel columns that are executed, with their distances.
    pub fn columns(&self) -> impl Iterator<Item = (usize, i64)> + use<> {
        phase(
            self.geom.kw,
            self.geom.tx0,
            self.geom.tx,
            self.geom.dx,
            self.geom.flip,
        )
    }

    /// The taps that are executed, row by row.
    pub fn taps(&self) -> Vec<Tap> {
        let columns: Vec<_> = self.columns().collect();
        let row = |(r, dy)| columns.iter().map(move |&(t, dx)| Tap { r, t, dy, dx });
        self.rows().flat_map(row).collect()
    }

    /// Row of the view under tap distance 0 of row `y` of the strip.
    pub fn row_of(&self, y: usize) -> i64 {
        (i64::from(self.oy) + y as i64) * i64::from(self.geom.uy) - i64::from(self.geom.pt)
    }

    /// Column of the view under tap distance 0 of column 0 of the strip.
    pub fn first_column(&self) -> i64 {
        i64::from(self.ox) * i64::from(self.geom.ux) - i64::from(self.geom.pl)
    }

    /// A byte of the view as a line sees it: 9 signed bits.
    pub fn operand(&self) -> impl Fn(u8) -> i16 + use<> {
        let (signed, z) = (self.quant.xi8, self.quant.z as i16);
        move |b| if signed { i16::from(b as i8) } else { i16::from(b) } - z
    }
}

fn phase(k: u32, first: u32, step: u32, dilation: u32, flip: bool) -> impl Iterator<Item = (usize, i64)> {
    let sign = if flip { -1 } else { 1 };
    let taps = (first..k).step_by(step as usize).enumerate();
    taps.map(move |(a, r)| (r as usize, sign * a as i64 * i64::from(dilation)))
}

/// Columns `x` of `0..f` for which `first + x*step` lies in `0..pitch`.
pub(crate) fn columns_inside(first: i64, step: usize, f: usize, pitch: usize) -> std::ops::Range<usize> {
    let step = step as i64;
    let low = if first < 0 { (-first + step - 1) / step } else { 0 };
    let high = if first < pitch as i64 {
        (pitch as i64 - 1 - first) / step + 1
    } else {
        0
    };
    let high = high.clamp(0, f as i64);
    low.min(high) as usize..high as usize
}

/// Memory that is kept between strips.
#[derive(Default)]
pub(crate) struct Scratch {
    patches: Vec<i16>,
    chosen: Vec<i16>,
    sums: Vec<i32>,
}

/// Executes a `conv`.
pub(super) fn run(
    s: &Strip,
    weights: &Weights,
    memory: &mut Memory,
    scratch: &mut Scratch,
) -> Result<(), Stop> {
    let taps = s.taps();
    let pixels = s.e * s.f;
    start(s, pixels, memory, &mut scratch.sums)?;
    let Scratch {
        patches,
        chosen,
        sums,
    } = scratch;
    let kernel = (s.geom.kh * s.geom.kw) as usize;
    // A phase without taps gives the bias.
    if !taps.is_empty() {
        let (values, per_filter) = if taps.len() == kernel {
            (&weights.values, weights.per_filter)
        } else {
            choose(s, &taps, weights, chosen);
            (&*chosen, s.c * taps.len())
        };
        let at_once = (PATCH / (pixels * taps.len())).max(1);
        for c in (0..s.c).step_by(at_once) {
            let channels = c..(c + at_once).min(s.c);
            let width = channels.len() * taps.len();
            gather(s, &taps, channels, memory, patches);
            let from = c * taps.len();
            let filters = values.chunks_exact(per_filter).map(|w| &w[from..from + width]);
            multiply(filters, patches, width, sums);
        }
    }
    finish(s, pixels, memory, sums)
}

/// The sums before anything is multiplied, `[m][e*f]`.
fn start(s: &Strip, pixels: usize, memory: &mut Memory, sums: &mut Vec<i32>) -> Result<(), Stop> {
    sums.clear();
    if s.accin {
        if memory.acc.len() != s.m * pixels {
            return Err(Stop::Outside);
        }
        sums.extend(&memory.acc);
        return Ok(());
    }
    for k in 0..s.m {
        let (bias, _) = memory.parameters(s.prm as usize + k).ok_or(Stop::Outside)?;
        sums.resize((k + 1) * pixels, bias);
    }
    Ok(())
}

/// The weights of the executed taps only.
fn choose(s: &Strip, taps: &[Tap], weights: &Weights, chosen: &mut Vec<i16>) {
    let (kh, kw) = (s.geom.kh as usize, s.geom.kw as usize);
    chosen.clear();
    for kernel in weights.values.chunks_exact(kh * kw) {
        chosen.extend(taps.iter().map(|tap| kernel[tap.r * kw + tap.t]));
    }
}

/// What the taps meet, `[e*f][channels][taps]`.
fn gather(
    s: &Strip,
    taps: &[Tap],
    channels: std::ops::Range<usize>,
    memory: &Memory,
    patches: &mut Vec<i16>,
) {
    let width = channels.len() * taps.len();
    patches.clear();
    patches.resize(s.e * s.f * width, 0);
    let (operand, step, first) = (s.operand(), s.geom.ux as usize, s.first_column());
    for y in 0..s.e {
        let patches = &mut patches[y * s.f * width..(y + 1) * s.f * width];
        for (i, tap) in taps.iter().enumerate() {
            let row = s.row_of(y) + tap.dy;
            let first = first + tap.dx;
            let inside = columns_inside(first, step, s.f, s.view.pitch as usize);
            if inside.is_empty() {
                continue;
            }
            let from = (first + (inside.start * step) as i64) as usize;
            for (k, c) in channels.clone().enumerate() {
                let Some(bytes) = memory.row(&s.view, s.c0 + c as i64, row) else {
                    continue;
                };
                let places = patches[inside.start * width + k * taps.len() + i..]
                    .iter_mut()
                    .step_by(width);
                let bytes = bytes[from..].iter().step_by(step);
                for (place, &byte) in places.zip(bytes).take(inside.len()) {
                    *place = operand(byte);
                }
            }
        }
    }
}

/// Adds the products of all filters and patches to the sums, with the widest instructions there are.
fn multiply<'w>(filters: impl Iterator<Item = &'w [i16]>, patches: &[i16], width: usize, sums: &mut [i32]) {
    let pixels = patches.len() / width;
    let filters: Vec<&[i16]> = filters.collect();
    pulp::Arch::new().dispatch(|| {
        let mut sums = sums.chunks_exact_mut(pixels);
        let mut blocks = filters.chunks_exact(4);
        for block in &mut blocks {
            let mut rows: Vec<&mut [i32]> = sums.by_ref().take(4).collect();
            for (p, patch) in patches.chunks_exact(width).enumerate() {
                let found = dot4([block[0], block[1], block[2], block[3]], patch);
                rows.iter_mut()
                    .zip(found)
                    .for_each(|(row, v)| row[p] = row[p].wrapping_add(v));
            }
        }
        for (filter, row) in blocks.remainder().iter().zip(sums) {
            for (sum, patch) in row.iter_mut().zip(patches.chunks_exact(width)) {
                *sum = sum.wrapping_add(dot(filter, patch));
            }
        }
    });
}

#[inline(always)]
fn dot(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).fold(0i32, |sum, (&a, &b)| {
        sum.wrapping_add(i32::from(a).wrapping_mul(i32::from(b)))
    })
}

#[inline(always)]
fn dot4(a: [&[i16]; 4], b: &[i16]) -> [i32; 4] {
    [dot(a[0], b), dot(a[1], b), dot(a[2], b), dot(a[3], b)]
}

/// Executes a `dwcv`.
pub(super) fn run_depthwise(
    s: &Strip,
    weights: &Weights,
    memory: &mut Memory,
    scratch: &mut Scratch,
) -> Result<(), Stop> {
    let taps = s.taps();
    let pixels = s.e * s.f;
    let sums = &mut scratch.sums;
    start(s, pixels, memory, sums)?;
    let (operand, step, kw) = (s.operand(), s.geom.ux as usize, s.geom.kw as usize);
    for (k, (sums, kernel)) in sums
        .chunks_exact_mut(pixels)
        .zip(weights.values.chunks_exact(weights.per_filter))
        .enumerate()
    {
        for (y, sums) in sums.chunks_exact_mut(s.f).enumerate() {
            for tap in &taps {
                let first = s.first_column() + tap.dx;
                let inside = columns_inside(first, step, s.f, s.view.pitch as usize);
                let row = memory.row(&s.view, s.c0 + k as i64, s.row_of(y) + tap.dy);
                let Some(bytes) = row.filter(|_| !inside.is_empty()) else {
                    continue;
                };
                let w = i32::from(kernel[tap.r * kw + tap.t]);
                let bytes = &bytes[(first + (inside.start * step) as i64) as usize..];
                let sums = &mut sums[inside];
                for (sum, &byte) in sums.iter_mut().zip(bytes.iter().step_by(step)) {
                    *sum = sum.wrapping_add(w.wrapping_mul(i32::from(operand(byte))));
                }
            }
        }
    }
    finish(s, pixels, memory, sums)
}

/// Keeps the sums, or writes the results to a slot.
fn finish(s: &Strip, pixels: usize, memory: &mut Memory, sums: &[i32]) -> Result<(), Stop> {
    if s.keep {
        memory.acc.clear();
        memory.acc.extend(sums);
        return Ok(());
    }
    let to = requantise(&s.quant);
    let factors: Option<Vec<i32>> = (0..s.m)
        .map(|k| memory.parameters(s.prm as usize + k).map(|(_, mul)| mul))
        .collect();
    let factors = factors.ok_or(Stop::Outside)?;
    let slot = memory.slot(s.slot, s.m * pixels).ok_or(Stop::Outside)?;
    let filters = slot.chunks_exact_mut(pixels).zip(sums.chunks_exact(pixels));
    for ((bytes, sums), mul) in filters.zip(factors) {
        for (byte, &sum) in bytes.iter_mut().zip(sums) {
            *byte = to.of(i64::from(sum) * i64::from(mul)) as u8;
        }
    }
    Ok(())
}
