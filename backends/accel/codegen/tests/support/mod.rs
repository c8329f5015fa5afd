//! Random layers for tests.
#![allow(dead_code, reason = "each test uses some")]

use fastrand::Rng;
use sdc_ir::graph::op::{QLinearAdd, QLinearConv, QLinearMul, Rebuild};
use sdc_ir::graph::{Graph, Origin, TensorType, Value};
use sdc_ir::sd::{Axis, Decomposed, Format, Geometry, Index, Packing};
use sdc_ir::{DType, Tensor};

pub fn origin(name: &str) -> Vec<Origin> {
    vec![Origin {
        name: name.to_owned(),
        op: "Node".to_owned(),
        index: 0,
    }]
}

pub fn constant<T: sdc_ir::tensor::Element>(g: &mut Graph, shape: Vec<usize>, all: Vec<T>) -> Value {
    let tensor = Tensor::from_elements(shape, all).unwrap();
    g.add_constant(tensor, origin("constant"))
}

/// A zero point and an integer type.
fn grid(rng: &mut Rng) -> (DType, i64) {
    if rng.bool() {
        (DType::U8, rng.i64(0..256))
    } else {
        (DType::I8, rng.i64(-128..128))
    }
}

fn bounds(rng: &mut Rng, ty: DType) -> (i64, i64) {
    let (low, high) = if ty == DType::U8 { (0, 255) } else { (-128, 127) };
    if rng.u8(0..3) == 0 {
        (low + 20, high - 30)
    } else {
        (low, high)
    }
}

/// Compressed weights in any form.
fn decomposed(rng: &mut Rng, shape: &[usize]) -> Decomposed {
    let axis = if rng.bool() { Axis::X } else { Axis::Y };
    let geometry = Geometry::conv(shape, axis);
    let nibble = rng.bool();
    let all: Vec<u8> = (1..=255u8).filter(|m| m.count_ones() <= 2).collect();
    let n = rng.usize(1..=if nibble { 7 } else { 8 });
    let mut alphabet = rng.choose_multiple(all.into_iter(), n);
    alphabet.sort_unstable();
    let s = rng.usize(1..=8);
    let format = Format {
        s,
        r: rng.usize(1..=8),
        slice_rows: rng.usize(1..=64 * s),
        alphabet,
        packing: if nibble { Packing::Nibble } else { Packing::Row },
        basis_bits: if rng.bool() { 6 } else { 8 },
        basis_filters: *rng.choice(&[1, 3, shape[0]]).unwrap(),
        scale: DType::F32,
        index: if rng.bool() {
            Index::None
        } else {
            Index::Rows(*rng.choice(&[1, 3, 4, 32, 48, 64, 1000]).unwrap())
        },
    };
    let (filters, rows) = (geometry.filters(), geometry.rows(s));
    let bases = geometry.basis_groups(&format) * geometry.slices(&format);
    let indexed = format.index != Index::None;
    let kept: Vec<bool> = (0..geometry.index_groups(&format) * rows)
        .map(|_| !indexed || rng.u8(0..3) > 0)
        .collect();
    let (top, limit) = (format.alphabet.len() as i8, 1i16 << (format.basis_bits - 1));
    let shared = format.index_filters();
    let mut codes = Vec::new();
    for f in 0..filters {
        for q in 0..rows {
            let live = kept[f / shared * rows + q];
            codes.extend((0..format.r).map(|_| if live { rng.i8(-top..=top) } else { 0 }));
        }
    }
    Decomposed {
        codes,
        kept,
        bases: (0..bases * format.r * s)
            .map(|_| rng.i16(-limit..limit) as i8)
            .collect(),
        shifts: (0..bases).map(|_| rng.u8(0..=10)).collect(),
        scales: vec![1.0; filters],
        geometry,
        format,
    }
}

/// What a random convolution may be.
pub struct Limits {
    pub channels: usize,
    pub kernel: usize,
    pub size: usize,
}

/// Appends a random convolution of `x`, which has this zero point.
pub fn convolution(g: &mut Graph, rng: &mut Rng, x: Value, zero: i64, limits: &Limits) -> (Value, i64) {
    let xs = g.ty(x).sizes().to_vec();
    let (c, size) = (xs[1], [xs[2], xs[3]]);
    let group = match rng.u8(0..6) {
        0 => c,
        1 => (1..=c)
            .filter(|k| c.is_multiple_of(*k))
            .nth(rng.usize(0..3))
            .unwrap_or(1),
        _ => 1,
    };
    let m = if group == 1 {
        rng.usize(1..=limits.channels)
    } else {
        group * rng.usize(1..=2)
    };
    let mut kernel = [rng.usize(1..=limits.kernel), rng.usize(1..=limits.kernel)];
    let dilations = [rng.usize(1..=2), rng.usize(1..=2)];
    let strides = [rng.usize(1..=4), rng.usize(1..=4)];
    let mut pads = vec![0; 4];
    for d in 0..2 {
        pads[d] = rng.usize(0..=3);
        pads[d + 2] = rng.usize(0..=3);
        let room = size[d] + pads[d] + pads[d + 2];
        kernel[d] = kernel[d].min((room - 1) / dilations[d] + 1);
    }
    let shape = vec![m, c / group, kernel[0], kernel[1]];
    let n: usize = shape[1..].iter().product();
    let w = if rng.bool() {
        let d = decomposed(rng, &shape);
        let packed = sdc_ir::sd::pack(&d).unwrap();
        let packed = constant(g, vec![packed.len()], packed);
        let op = Rebuild {
            shape: shape.clone(),
            to: DType::I8,
        };
        g.add1(op, &[packed], origin("w")).unwrap()
    } else {
        let all: Vec<i8> = (0..m * n).map(|_| rng.i8(..)).collect();
        constant(g, shape, all)
    };
    let bias = constant(g, vec![m], (0..m).map(|_| rng.i32(-20000..20000)).collect());
    let multiplier = constant(g, vec![m], (0..m).map(|_| rng.i32(1 << 29..=i32::MAX)).collect());
    let (to, y_zero) = grid(rng);
    let (min, max) = bounds(rng, to);
    let spread = (n as f64).sqrt() * 5000.0;
    let op = QLinearConv {
        strides: strides.to_vec(),
        pads,
        dilations: dilations.to_vec(),
        group,
        x_zero: zero,
        y_zero,
        min,
        max,
        to,
        shift: 30 + (spread / 60.0).log2().round() as usize,
    };
    let y = g.add1(op, &[x, w, bias, multiplier], origin("conv")).unwrap();
    (y, y_zero)
}

/// A graph with an input of random shape and type.
pub fn input(rng: &mut Rng, limits: &Limits) -> (Graph, Value, i64) {
    let mut g = Graph::new("random");
    let (ty, zero) = grid(rng);
    let shape = vec![
        1,
        rng.usize(1..=limits.channels),
        rng.usize(1..=limits.size),
        rng.usize(1..=limits.size),
    ];
    let x = g.add_input("x", TensorType::new(ty, shape));
    (g, x, zero)
}

/// A random layer: a convolution, and perhaps what may follow it.
pub fn layer(seed: u64) -> Graph {
    let mut rng = Rng::with_seed(seed);
    let size = *rng.choice(&[6, 12, 24, 40]).unwrap();
    let channels = *rng.choice(&[4, 20, 70, 300]).unwrap();
    let limits = Limits {
        channels: if size > 24 { channels.min(70) } else { channels },
        kernel: *rng.choice(&[1, 3, 5, 11]).unwrap(),
        size,
    };
    let (mut g, x, zero) = input(&mut rng, &limits);
    let (mut y, mut y_zero) = convolution(&mut g, &mut rng, x, zero, &limits);
    if rng.bool() {
        (y, y_zero) = follow(&mut g, &mut rng, y, y_zero);
    }
    let _ = y_zero;
    g.add_output("y", y);
    g
}

/// A sum, a product or a table after a value.
pub fn follow(g: &mut Graph, rng: &mut Rng, x: Value, zero: i64) -> (Value, i64) {
    let shape = g.ty(x).sizes().to_vec();
    let (to, y_zero) = grid(rng);
    let (min, max) = bounds(rng, to);
    let other = |g: &mut Graph, rng: &mut Rng, shape: Vec<usize>| {
        let n = shape.iter().product();
        constant(g, shape, (0..n).map(|_| rng.i8(..)).collect::<Vec<i8>>())
    };
    let y = match rng.u8(0..4) {
        0 => {
            let b = other(g, rng, shape);
            let op = QLinearAdd {
                zeros: vec![zero, rng.i64(-128..128)],
                multipliers: vec![rng.i64(1 << 28..1 << 31), -rng.i64(1 << 28..1 << 31)],
                shift: 31,
                y_zero,
                min,
                max,
                to,
            };
            g.add1(op, &[x, b], origin("add"))
        }
        1 => {
            let op = QLinearAdd {
                zeros: vec![zero],
                multipliers: vec![rng.i64(1 << 28..1 << 31)],
                shift: 30,
                y_zero,
                min,
                max,
                to,
            };
            g.add1(op, &[x], origin("scale"))
        }
        2 => {
            let b = other(g, rng, vec![1, shape[1], 1, 1]);
            let op = QLinearMul {
                zeros: vec![zero, rng.i64(-128..128)],
                multiplier: rng.i64(1 << 28..1 << 31),
                shift: 37,
                y_zero,
                min,
                max,
                to,
            };
            g.add1(op, &[x, b], origin("mul"))
        }
        _ => {
            let all: Vec<u8> = (0..256).map(|_| rng.u8(..)).collect();
            let table = constant(g, vec![256], all);
            return (
                g.add1(sdc_ir::graph::op::Lookup {}, &[x, table], origin("lookup"))
                    .unwrap(),
                0,
            );
        }
    };
    (y.unwrap(), y_zero)
}

/// Random elements for the inputs of a graph.
pub fn inputs(g: &Graph, seed: u64) -> Vec<Tensor> {
    let mut rng = Rng::with_seed(seed);
    let of = |p: &sdc_ir::graph::Port, rng: &mut Rng| {
        let ty = g.ty(p.value);
        let bytes: Vec<u8> = (0..ty.elements().unwrap()).map(|_| rng.u8(..)).collect();
        Tensor::new(ty.dtype, ty.sizes().to_vec(), bytes.into()).unwrap()
    };
    g.inputs.iter().map(|p| of(p, &mut rng)).collect()
}

/// A random network: layers after each other, some joined again, with what is only a view between them.
pub fn network(seed: u64) -> Graph {
    let mut rng = Rng::with_seed(seed);
    let limits = Limits {
        channels: *rng.choice(&[5, 24, 90]).unwrap(),
        kernel: *rng.choice(&[1, 3, 5]).unwrap(),
        size: *rng.choice(&[8, 20, 60]).unwrap(),
    };
    let (mut g, x, zero) = input(&mut rng, &limits);
    let mut values = vec![(x, zero)];
    for _ in 0..rng.usize(2..9) {
        let (x, zero) = values[rng.usize(values.len().saturating_sub(3)..values.len())];
        let next = match rng.u8(0..8) {
            0 | 1 | 2 => convolution(&mut g, &mut rng, x, zero, &limits),
            3 => follow(&mut g, &mut rng, x, zero),
            4 => (pooled(&mut g, &mut rng, x, zero), zero),
            5 => (moved(&mut g, &mut rng, x), zero),
            6 => joined(&mut g, &mut rng, &values, x, zero),
            _ => summed(&mut g, &mut rng, &values, x, zero),
        };
        values.push(next);
    }
    // What nobody reads is an output, and sometimes something else too.
    let uses = g.uses();
    for (i, &(v, _)) in values.iter().enumerate().skip(1) {
        let unread = uses[sdc_ir::entity::EntityId::index(v)].is_empty();
        if unread || rng.u8(0..8) == 0 {
            g.add_output(format!("y{i}"), v);
        }
    }
    g
}

fn pooled(g: &mut Graph, rng: &mut Rng, x: Value, zero: i64) -> Value {
    use sdc_ir::graph::op::{MaxPool, QLinearAveragePool};
    let ty = g.ty(x).clone();
    let size = [ty.sizes()[2], ty.sizes()[3]];
    let kernel: Vec<usize> = size.iter().map(|&n| rng.usize(1..=n.min(4))).collect();
    let strides = vec![rng.usize(1..=3), rng.usize(1..=3)];
    let pads: Vec<usize> = (0..4).map(|d| rng.usize(0..kernel[d % 2])).collect();
    let op: sdc_ir::graph::Op = if rng.bool() {
        MaxPool {
            kernel,
            strides,
            pads,
            dilations: vec![1, 1],
        }
        .into()
    } else {
        let counted = if rng.bool() { pads.clone() } else { vec![0; 4] };
        QLinearAveragePool {
            kernel,
            strides,
            pads,
            counted,
            dilations: vec![1, 1],
            x_zero: zero,
            multiplier: 1 << 30,
            shift: 30,
            y_zero: zero,
            to: ty.dtype,
        }
        .into()
    };
    g.add1(op, &[x], origin("pool")).unwrap_or(x)
}

fn moved(g: &mut Graph, rng: &mut Rng, x: Value) -> Value {
    use sdc_ir::graph::op::*;
    let shape = g.ty(x).sizes().to_vec();
    let op: sdc_ir::graph::Op = match rng.u8(0..4) {
        0 => {
            let starts: Vec<usize> = shape.iter().map(|&n| rng.usize(0..n)).collect();
            let steps = [1, 1, rng.i64(1..=2), rng.i64(1..=3)];
            let sizes = (0..4)
                .map(|d| (shape[d] - starts[d] - 1) / steps[d] as usize + 1)
                .collect();
            Slice {
                starts,
                sizes,
                steps: steps.to_vec(),
            }
            .into()
        }
        1 => {
            let mut side =
                |spatial: bool| vec![0, rng.usize(0..9), usize::from(spatial), usize::from(spatial) * 2];
            Pad {
                mode: PadMode::Constant,
                before: side(seed_bit(&shape)),
                after: side(seed_bit(&shape)),
                value: 7.0,
            }
            .into()
        }
        2 => Resize {
            sizes: vec![1, shape[1], shape[2] * 2, shape[3] * 3],
            scales: vec![1.0, 1.0, 2.0, 3.0],
            mode: ResizeMode::Nearest,
            coordinates: CoordinateMode::Asymmetric,
            nearest: NearestMode::Floor,
            cubic_coeff_a: -0.75,
            exclude_outside: false,
        }
        .into(),
        _ => Reshape {
            shape: vec![1, shape.iter().product(), 1, 1],
        }
        .into(),
    };
    g.add1(op, &[x], origin("move")).unwrap()
}

fn seed_bit(shape: &[usize]) -> bool {
    shape.iter().sum::<usize>().is_multiple_of(2)
}

fn like(g: &Graph, values: &[(Value, i64)], x: Value, rng: &mut Rng, from: usize) -> Option<(Value, i64)> {
    let ty = g.ty(x);
    let fits = |v: &&(Value, i64)| {
        let other = g.ty(v.0);
        other.sizes()[from..] == ty.sizes()[from..] && other.rank() == ty.rank()
    };
    let fitting: Vec<_> = values.iter().filter(fits).copied().collect();
    (!fitting.is_empty()).then(|| fitting[rng.usize(0..fitting.len())])
}

fn joined(g: &mut Graph, rng: &mut Rng, values: &[(Value, i64)], x: Value, zero: i64) -> (Value, i64) {
    let mut parts = vec![x];
    for _ in 0..rng.usize(1..=3) {
        if let Some((v, _)) = like(g, values, x, rng, 2)
            && g.ty(v).dtype == g.ty(x).dtype
        {
            parts.insert(rng.usize(0..=parts.len()), v);
        }
    }
    let op = sdc_ir::graph::op::Concat { axis: 1 };
    (g.add1(op, &parts, origin("join")).unwrap(), zero)
}

fn summed(g: &mut Graph, rng: &mut Rng, values: &[(Value, i64)], x: Value, zero: i64) -> (Value, i64) {
    let Some((b, other)) = like(g, values, x, rng, 1) else {
        return (x, zero);
    };
    let (to, y_zero) = grid(rng);
    let op = QLinearAdd {
        zeros: vec![zero, other],
        multipliers: vec![rng.i64(1 << 28..1 << 31), rng.i64(1 << 28..1 << 31)],
        shift: 31,
        y_zero,
        min: if to == DType::U8 { 0 } else { -128 },
        max: if to == DType::U8 { 255 } else { 127 },
        to,
    };
    (g.add1(op, &[x, b], origin("sum")).unwrap(), y_zero)
}
