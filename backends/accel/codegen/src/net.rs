//! A network as the machine sees it: maps, and layers that read and write them.

use crate::weights::Weights;
use sdc_accel_isa::Quant;
use sdc_ir::analysis::Window;
use std::ops::Range;

/// Number of a map.
pub type MapId = usize;

/// Bytes `[C,H,W]`.
#[derive(Clone, Debug, Default)]
pub struct Map {
    /// Channels.
    pub c: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// It has to lie in DRAM, since the host or another part of the program reads or writes it.
    pub dram: bool,
    /// It is the bytes of another map under another shape.
    pub alias: Option<MapId>,
    /// Its bytes, if they are known.
    pub constant: Option<Vec<u8>>,
}

impl Map {
    /// Bytes.
    pub fn bytes(&self) -> usize {
        self.c * self.h * self.w
    }
}

/// A tensor as an operator reads it: part of a map, strided, repeated or extended.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// The map.
    pub map: MapId,
    /// Shape of the tensor.
    pub shape: [usize; 3],
    /// Channel of the map that is the tensor's channel 0; channels outside `limit` read `fill`.
    pub coff: i32,
    /// Channels of the map that exist for it.
    pub limit: Range<usize>,
    /// Row and column of the map that are the tensor's first.
    pub start: [usize; 2],
    /// Steps of rows and columns; 0 repeats the first.
    pub step: [usize; 2],
    /// What is read outside.
    pub fill: u8,
}

impl Operand {
    /// A whole map.
    pub fn whole(map: MapId, m: &Map) -> Self {
        Self {
            map,
            shape: [m.c, m.h, m.w],
            coff: 0,
            limit: 0..m.c,
            start: [0, 0],
            step: [1, 1],
            fill: 0,
        }
    }

    /// True if it is consecutive channels of the map and nothing else, so that windows may slide over it.
    pub fn is_plain(&self, map: &Map) -> bool {
        let inside = self.coff >= 0 && self.coff as usize + self.shape[0] <= self.limit.end;
        inside && self.start == [0, 0] && self.step == [1, 1] && self.shape[1..] == [map.h, map.w]
    }

    /// Rows of the map that rows `out` of the tensor are.
    pub fn rows(&self, out: Range<usize>) -> Range<usize> {
        let at = |y: usize| self.start[0] + y * self.step[0];
        at(out.start)..at(out.end - 1) + 1
    }
}

/// Where results go: consecutive channels of a map, strided.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The map.
    pub map: MapId,
    /// First channel.
    pub coff: usize,
    /// First row and column.
    pub start: [usize; 2],
    /// Steps of rows and columns.
    pub step: [usize; 2],
}

/// A table of VE.
pub type Table = [u8; 256];

/// What VE computes of each element.
#[derive(Clone, Debug, PartialEq)]
pub enum Pointwise {
    /// `rq(sum of (x_i - z_i)*M_i)`; the second register is that of a second operand.
    Add(Quant, Option<Quant>),
    /// `rq((a - z_a)*(b - z_b)*M)`.
    Mul(Quant, Quant),
    /// A table.
    Lut(Box<Table>),
    /// A copy.
    Copy,
}

/// A window in two dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window2 {
    /// Rows.
    pub y: Window,
    /// Columns.
    pub x: Window,
}

/// A pooling.
#[derive(Clone, Debug, PartialEq)]
pub struct Pooling {
    /// Average instead of maximum.
    pub average: bool,
    /// Padding counts for the divisor.
    pub counted: bool,
    /// Its window.
    pub window: Window2,
    /// Numbers of the average; type of the elements.
    pub quant: Quant,
}

/// The part of a convolution's result that lies on a grid of its own, and the taps that give it. An ordinary convolution has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// Of rows and columns: every how many taps one is executed.
    pub tap_step: [usize; 2],
    /// The first one executed.
    pub tap_first: [usize; 2],
    /// Padding before, as the formula of `conv` has it.
    pub before: [i64; 2],
    /// Rows and columns of this part.
    pub size: [usize; 2],
    /// Its first row and column in the whole.
    pub start: [usize; 2],
}

/// A convolution.
#[derive(Clone, Debug)]
pub struct Convolution {
    /// Its input; windows slide over it.
    pub x: Operand,
    /// `[M, C/group, kh, kw]`.
    pub weights: Weights,
    /// Biases.
    pub bias: Vec<i32>,
    /// Multipliers.
    pub multiplier: Vec<i32>,
    /// Kernel.
    pub kernel: [usize; 2],
    /// Steps.
    pub strides: [usize; 2],
    /// Distances of taps.
    pub dilations: [usize; 2],
    /// Groups.
    pub group: usize,
    /// Every filter has one channel, its own.
    pub depthwise: bool,
    /// Steps between the results of a phase, in the whole.
    pub phase_step: [usize; 2],
    /// Parts of the result.
    pub phases: Vec<Phase>,
    /// Zero points, limits, shift, types.
    pub quant: Quant,
}

impl Convolution {
    /// Rows of the input that result rows `out` of a phase need.
    pub fn demand(&self, phase: &Phase, out: Range<usize>, size: usize) -> Range<usize> {
        let taps = (self.kernel[0] - phase.tap_first[0].min(self.kernel[0])).div_ceil(phase.tap_step[0]);
        let reach = taps.saturating_sub(1) as i64 * self.dilations[0] as i64;
        let at = |y: usize| y as i64 * self.strides[0] as i64 - phase.before[0];
        let clip = |v: i64| v.clamp(0, size as i64) as usize;
        let rows = clip(at(out.start))..clip(at(out.end - 1) + reach + 1);
        if rows.is_empty() {
            // All in the padding: any row will do, so that there is a view.
            let row = rows.start.min(size - 1);
            return row..row + 1;
        }
        rows
    }
}

/// What a layer computes before the slot goes on.
#[derive(Clone, Debug)]
pub enum Body {
    /// A convolution or matrix product.
    Conv(Box<Convolution>),
    /// An operator of VE on each element, of one or two operands.
    Pointwise(Pointwise, Vec<Operand>),
    /// A pooling.
    Pool(Pooling, Operand),
}

/// An operator of VE that follows in the slot, with a second operand perhaps.
#[derive(Clone, Debug)]
pub struct Link {
    /// What it computes, of the slot first.
    pub op: Pointwise,
    /// The second operand.
    pub other: Option<Operand>,
}

/// Some nodes of the graph, executed together.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The user's node.
    pub origin: String,
    /// Name of the operator in reports.
    pub op: &'static str,
    /// Number of the part of the program.
    pub part: u32,
    /// Shape of the result.
    pub shape: [usize; 3],
    /// What is computed first.
    pub body: Body,
    /// What follows in the slot.
    pub chain: Vec<Link>,
    /// Where the result goes.
    pub target: Target,
}

impl Layer {
    /// Everything read: the body's operands, then the chain's.
    pub fn operands(&self) -> Vec<&Operand> {
        let mut all: Vec<&Operand> = match &self.body {
            Body::Conv(c) => vec![&c.x],
            Body::Pointwise(_, operands) => operands.iter().collect(),
            Body::Pool(_, x) => vec![x],
        };
        all.extend(self.chain.iter().filter_map(|l| l.other.as_ref()));
        all
    }

    /// Products of the layer: by definition, border included.
    pub fn macs(&self) -> u64 {
        match &self.body {
            Body::Conv(c) => c.macs(self.shape[0]),
            _ => 0,
        }
    }
}

impl Convolution {
    /// Products, border included, of `m` filters.
    pub fn macs(&self, m: usize) -> u64 {
        let channels = if self.depthwise {
            1
        } else {
            self.x.shape[0] / self.group
        };
        let of = |p: &Phase| {
            let taps =
                |d: usize| (self.kernel[d] - p.tap_first[d].min(self.kernel[d])).div_ceil(p.tap_step[d]);
            (p.size[0] * p.size[1] * taps(0) * taps(1)) as u64
        };
        (m * channels) as u64 * self.phases.iter().map(of).sum::<u64>()
    }
}

/// The machine's share of a network.
#[derive(Clone, Debug, Default)]
pub struct Net {
    /// Maps.
    pub maps: Vec<Map>,
    /// Layers, in the order of execution.
    pub layers: Vec<Layer>,
}

impl Net {
    /// The map that holds the bytes of this one.
    pub fn root(&self, map: MapId) -> MapId {
        self.maps[map].alias.map_or(map, |of| self.root(of))
    }
}
