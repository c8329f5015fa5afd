//! Reading a kernel call: parameters by name, operands as views.

use super::Kernel;
use crate::tile::{Affine, Arith2, Buffer, FuncBuilder, KernelCall, Ty, Val, View};

/// Activation of a sum, as the parameters `act act_a act_b` say.
///
/// The minimum and maximum have the value as their second operand, so that a NaN stays.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Activation {
    /// `x`
    None,
    /// `max(lo, x)`
    Relu,
    /// `min(hi, max(lo, x))`
    Clip(f32, f32),
    /// `x` where positive, `slope * x` elsewhere.
    LeakyRelu(f32),
}

impl Activation {
    /// Emits the activation of `x`.
    pub(super) fn apply(self, b: &mut FuncBuilder, x: Val) -> Val {
        let lanes = b.ty(x).lanes;
        let bound = |b: &mut FuncBuilder, op, value, x| {
            let value = b.f32(lanes, value);
            b.arith2(op, value, x)
        };
        match self {
            Activation::None => x,
            Activation::Relu => bound(b, Arith2::Max, 0.0, x),
            Activation::Clip(lo, hi) => {
                let x = bound(b, Arith2::Max, lo, x);
                bound(b, Arith2::Min, hi, x)
            }
            Activation::LeakyRelu(slope) => {
                // One of the two parts is zero, so the sum is exact.
                let positive = bound(b, Arith2::Max, 0.0, x);
                let negative = bound(b, Arith2::Min, 0.0, x);
                let slope = b.f32(lanes, slope);
                b.fma(slope, negative, positive)
            }
        }
    }
}

/// The parameters of a call, by name.
pub(super) struct Params<'a> {
    names: &'static [&'static str],
    call: &'a KernelCall,
}

impl<'a> Params<'a> {
    /// Of a call of `kernel`.
    pub(super) fn of(kernel: &Kernel, call: &'a KernelCall) -> Self {
        let names = kernel.params;
        Self { names, call }
    }

    /// The parameter `name`; zero if the call is too short, which the verifier rejects.
    pub(super) fn get(&self, name: &str) -> i64 {
        let at = self.names.iter().position(|&n| n == name);
        at.and_then(|at| self.call.params.get(at)).copied().unwrap_or(0)
    }

    pub(super) fn activation(&self) -> Activation {
        let f32 = |name| f32::from_bits(self.get(name) as u32);
        match self.get("act") {
            1 => Activation::Relu,
            2 => Activation::Clip(f32("act_a"), f32("act_b")),
            3 => Activation::LeakyRelu(f32("act_a")),
            _ => Activation::None,
        }
    }

    /// The operand, unless it is absent or the parameter `flag` says so.
    pub(super) fn optional(&self, operand: usize, flag: &str) -> Option<View> {
        let present = self.get(flag) != 0;
        self.call
            .operands
            .get(operand)
            .and_then(Clone::clone)
            .filter(|_| present)
    }
}

/// Rows and columns of pixels in a buffer.
#[derive(Clone, Debug)]
pub(super) struct Plane {
    pub(super) view: View,
    pub(super) row: i64,
    column: i64,
}

impl Plane {
    /// `view` points at row `row0`.
    pub(super) fn new(view: &View, row: i64, column: i64, row0: i64) -> Self {
        let offset = view.offset.clone() - row.wrapping_mul(row0);
        Self {
            view: View {
                buffer: view.buffer,
                offset,
            },
            row,
            column,
        }
    }

    /// Pixels from (`row`, `column`) on, `step` columns apart.
    pub(super) fn lane(&self, row: &Affine, column: &Affine, step: i64, channel: &Affine) -> Lane {
        let at = row.clone() * self.row + column.clone() * self.column + channel.clone();
        Lane::new(&self.view, at, step * self.column)
    }

    /// Whether rows of `columns` pixels follow each other without a gap.
    pub(super) fn is_flat(&self, columns: i64) -> bool {
        self.row == columns * self.column
    }
}

/// Elements that start at `at` and repeat every `step` per pixel.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) buffer: Buffer,
    pub(super) at: Affine,
    pub(super) step: i64,
}

impl Lane {
    pub(super) fn new(view: &View, at: Affine, step: i64) -> Self {
        Self {
            buffer: view.buffer,
            at: view.offset.clone() + at,
            step,
        }
    }

    /// Index `extra` elements after the first of pixel `pixel`.
    fn index(&self, pixel: usize, extra: usize) -> Affine {
        self.at.clone() + (pixel as i64 * self.step + extra as i64)
    }

    pub(super) fn load(&self, b: &mut FuncBuilder, ty: Ty, pixel: usize, extra: usize) -> Val {
        b.load(ty, self.buffer, self.index(pixel, extra))
    }

    pub(super) fn load_splat(&self, b: &mut FuncBuilder, ty: Ty, pixel: usize) -> Val {
        b.load_splat(ty, self.buffer, self.index(pixel, 0))
    }

    pub(super) fn store(&self, b: &mut FuncBuilder, pixel: usize, extra: usize, value: Val) {
        b.store(self.buffer, self.index(pixel, extra), value);
    }
}

/// A register tile: some pixels by some vectors of channels, and where its sums come from and go to.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    pub(super) pixels: usize,
    pub(super) vectors: usize,
    pub(super) ty: Ty,
    pub(super) bias: Option<Lane>,
    pub(super) residual: Option<Lane>,
    pub(super) y: Lane,
    pub(super) activation: Activation,
}

impl Tile {
    /// Emits the sums, pixel by pixel: bias plus residual first, then what `reduce` adds, then the activation.
    pub(super) fn emit(
        &self,
        b: &mut FuncBuilder,
        reduce: impl FnOnce(&mut FuncBuilder, Vec<Val>) -> Vec<Val>,
    ) {
        let lanes = usize::from(self.ty.lanes);
        let base: Vec<Val> = (0..self.vectors)
            .map(|v| match &self.bias {
                Some(bias) => bias.load(b, self.ty, 0, v * lanes),
                None => b.f32(self.ty.lanes, 0.0),
            })
            .collect();
        let mut sums = Vec::with_capacity(self.pixels * self.vectors);
        for p in 0..self.pixels {
            for (v, &base) in base.iter().enumerate() {
                sums.push(match &self.residual {
                    Some(residual) => {
                        let start = residual.load(b, self.ty, p, v * lanes);
                        b.add(base, start)
                    }
                    None => base,
                });
            }
        }
        let sums = reduce(b, sums);
        for (i, &sum) in sums.iter().enumerate() {
            let out = self.activation.apply(b, sum);
            self.y.store(b, i / self.vectors, i % self.vectors * lanes, out);
        }
    }
}
