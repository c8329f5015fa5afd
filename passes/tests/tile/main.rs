//! Tile lowering against the graph interpreter: every operator, over random shapes and attributes; and any cut of the
//! rows of a spatial operator against the whole.

mod common;
mod double;
mod map;
mod quantised;
mod rebuild;
mod sparse;
mod winograd;

use common::{Lcg, check, check_cuts, check_demand, constant, input, one};
use proptest::prelude::*;
use sdc_ir::DType;
use sdc_ir::graph::op::*;
use sdc_ir::graph::{BinaryOp, Graph, Op, UnaryOp, Value};

fn conv(strides: [usize; 2], pads: [usize; 4], dilations: [usize; 2], group: usize) -> Conv {
    Conv {
        strides: strides.into(),
        pads: pads.into(),
        dilations: dilations.into(),
        group,
        bias: true,
        residual: false,
        act: Activation::None,
    }
}

prop_compose! {
    /// A convolution over a small image: groups 1, 2 or depthwise; dense input or a view of a graph input.
    fn any_conv()(
        kind in 0..3usize, per_group_in in 1..5usize, per_group_out in 1..10usize, kernel in [1..4usize, 1..4usize],
        strides in [1..3usize, 1..3usize], dilations in [1..3usize, 1..3usize], pads in [0..3usize, 0..3usize, 0..3usize, 0..3usize],
        extra in [0..6usize, 0..6usize], images in 1..3usize, through_relu: bool, act in 0..4usize, seed: u64,
    ) -> Graph {
        let mut rng = Lcg::new(seed);
        let group = match kind { 0 => 1, 1 => 2, _ => per_group_in * 3 };
        let (in_c, out_c, w_c) = match kind {
            2 => (group, group, 1),
            _ => (per_group_in * group, per_group_out * group, per_group_in),
        };
        let size = |d: usize| ((kernel[d] - 1) * dilations[d] + 1).saturating_sub(pads[d] + pads[d + 2]).max(1) + extra[d];
        let mut g = Graph::new("conv");
        let mut x = input(&mut g, "x", &[images, in_c, size(0), size(1)]);
        if through_relu {
            x = one(&mut g, Op::Unary(UnaryOp::Relu), &[x]);
            // A second convolution makes its operand channels-last.
            let w = constant(&mut g, &mut rng, &[in_c, in_c, 1, 1]);
            let b = constant(&mut g, &mut rng, &[in_c]);
            x = one(&mut g, conv([1, 1], [0; 4], [1, 1], 1).into(), &[x, w, b]);
        }
        let w = constant(&mut g, &mut rng, &[out_c, w_c, kernel[0], kernel[1]]);
        let b = constant(&mut g, &mut rng, &[out_c]);
        let mut op = conv(strides, pads, dilations, group);
        op.act = [Activation::None, Activation::Relu, Activation::Clip { min: -0.5, max: 1.0 }, Activation::LeakyRelu { alpha: 0.1 }][act];
        let y = one(&mut g, op.into(), &[x, w, b]);
        g.add_output("y", y);
        g
    }
}

prop_compose! {
    fn any_pool()(
        channels in 1..10usize, kernel in [1..4usize, 1..4usize], strides in [1..3usize, 1..3usize],
        dilations in [1..3usize, 1..3usize], extra in [0..6usize, 0..6usize], average: bool, counted: bool, channels_last: bool, seed: u64,
    ) -> Graph {
        let mut rng = Lcg::new(seed);
        let pads: Vec<usize> = (0..4).map(|i| rng.below(kernel[i % 2])).collect();
        let size = |d: usize| (kernel[d] - 1) * dilations[d] + 1 + extra[d];
        let mut g = Graph::new("pool");
        let mut x = input(&mut g, "x", &[2, channels, size(0), size(1)]);
        if channels_last {
            x = made_channels_last(&mut g, &mut rng, x);
        }
        let (kernel, strides, dilations) = (kernel.to_vec(), strides.to_vec(), dilations.to_vec());
        let op = if average {
            let counted = if counted { pads.clone() } else { vec![0; 4] };
            Op::from(AveragePool { kernel, strides, pads, counted, dilations })
        } else {
            MaxPool { kernel, strides, pads, dilations }.into()
        };
        let y = one(&mut g, op, &[x]);
        g.add_output("y", y);
        g
    }
}

prop_compose! {
    fn any_conv_transpose()(
        group in 1..3usize, in_c in 1..4usize, out_c in 1..6usize, kernel in [1..5usize, 1..5usize],
        strides in [1..4usize, 1..4usize], dilations in [1..3usize, 1..3usize], size in [1..5usize, 1..5usize], seed: u64,
    ) -> Graph {
        let mut rng = Lcg::new(seed);
        let full = |d: usize| strides[d] * (size[d] - 1) + (kernel[d] - 1) * dilations[d] + 1;
        let output_padding: Vec<usize> = (0..2).map(|d| rng.below(strides[d])).collect();
        let pads = (0..4).map(|i| rng.below(full(i % 2).div_ceil(2)).min(2) as i64).collect();
        let mut g = Graph::new("conv_transpose");
        let x = input(&mut g, "x", &[2, in_c * group, size[0], size[1]]);
        let w = constant(&mut g, &mut rng, &[in_c * group, out_c, kernel[0], kernel[1]]);
        let b = constant(&mut g, &mut rng, &[out_c * group]);
        let op = ConvTranspose {
            strides: strides.into(), pads, dilations: dilations.into(), output_padding, group, bias: true, act: Activation::Relu,
        };
        let y = one(&mut g, op.into(), &[x, w, b]);
        g.add_output("y", y);
        g
    }
}

prop_compose! {
    fn any_pad()(mode in 0..4usize, shape in [1..3usize, 1..6usize, 2..6usize, 2..6usize], channels_last: bool, seed: u64) -> Graph {
        let mut rng = Lcg::new(seed);
        let mode = PadMode::ALL[mode];
        let mut g = Graph::new("pad");
        let mut x = input(&mut g, "x", &shape);
        if channels_last {
            x = made_channels_last(&mut g, &mut rng, x);
        }
        let mut amounts = || shape.iter().map(|&n| if mode == PadMode::Reflect { rng.below(n) } else { rng.below(4) }).collect::<Vec<_>>();
        let (before, after) = (amounts(), amounts());
        let y = one(&mut g, Pad { mode, before, after, value: 1.5 }.into(), &[x]);
        g.add_output("y", y);
        g
    }
}

prop_compose! {
    fn any_resize()(
        mode in 0..3usize, coordinates in 0..4usize, nearest in 0..4usize, channels in 1..6usize,
        size in [1..6usize, 1..6usize], out in [1..9usize, 1..9usize], exclude_outside: bool, channels_last: bool, seed: u64,
    ) -> Graph {
        let mut rng = Lcg::new(seed);
        let mut g = Graph::new("resize");
        let mut x = input(&mut g, "x", &[1, channels, size[0], size[1]]);
        if channels_last {
            x = made_channels_last(&mut g, &mut rng, x);
        }
        let op = Resize {
            sizes: vec![1, channels, out[0], out[1]],
            scales: vec![1.0, 1.0, out[0] as f32 / size[0] as f32, out[1] as f32 / size[1] as f32],
            mode: ResizeMode::ALL[mode],
            coordinates: CoordinateMode::ALL[coordinates],
            nearest: NearestMode::ALL[nearest],
            cubic_coeff_a: -0.75,
            exclude_outside: exclude_outside && mode == 2,
        };
        let y = one(&mut g, op.into(), &[x]);
        g.add_output("y", y);
        g
    }
}

/// The value through a pointwise convolution, whose result is channels-last.
pub fn made_channels_last(g: &mut Graph, rng: &mut Lcg, x: Value) -> Value {
    let c = g.ty(x).sizes()[1];
    let w = constant(g, rng, &[c, c, 1, 1]);
    let b = constant(g, rng, &[c]);
    one(g, conv([1, 1], [0; 4], [1, 1], 1).into(), &[x, w, b])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn convolutions(g in any_conv(), seed: u64) { check(&g, seed); }
    #[test]
    fn convolutions_in_any_cut(g in any_conv(), seed: u64) { check_cuts(&g, seed); }
    #[test]
    fn convolutions_need_only_their_rows(g in any_conv(), seed: u64) { check_demand(&g, seed); }
    #[test]
    fn pools(g in any_pool(), seed: u64) { check(&g, seed); }
    #[test]
    fn pools_in_any_cut(g in any_pool(), seed: u64) { check_cuts(&g, seed); }
    #[test]
    fn pools_need_only_their_rows(g in any_pool(), seed: u64) { check_demand(&g, seed); }
    #[test]
    fn transposed_convolutions(g in any_conv_transpose(), seed: u64) { check(&g, seed); }
    #[test]
    fn transposed_convolutions_in_any_cut(g in any_conv_transpose(), seed: u64) { check_cuts(&g, seed); }
    #[test]
    fn transposed_convolutions_need_only_their_rows(g in any_conv_transpose(), seed: u64) { check_demand(&g, seed); }
    #[test]
    fn pads(g in any_pad(), seed: u64) { check(&g, seed); }
    #[test]
    fn pads_in_any_cut(g in any_pad(), seed: u64) { check_cuts(&g, seed); }
    #[test]
    fn pads_need_only_their_rows(g in any_pad(), seed: u64) { check_demand(&g, seed); }
    #[test]
    fn resizes(g in any_resize(), seed: u64) { check(&g, seed); }
    #[test]
    fn resizes_in_any_cut(g in any_resize(), seed: u64) { check_cuts(&g, seed); }
    #[test]
    fn resizes_need_only_their_rows(g in any_resize(), seed: u64) { check_demand(&g, seed); }

    #[test]
    fn matrix_products(m in 1..9usize, k in 1..9usize, n in 1..20usize, batch in 1..3usize, fixed: bool, act: bool, seed: u64) {
        let mut rng = Lcg::new(seed);
        let mut g = Graph::new("matmul");
        let a = input(&mut g, "a", &[batch, m, k]);
        let b = if fixed { constant(&mut g, &mut rng, &[k, n]) } else { input(&mut g, "b", &[batch, k, n]) };
        let bias = constant(&mut g, &mut rng, &[n]);
        let residual = input(&mut g, "r", &[batch, m, n]);
        let act = if act { Activation::Relu } else { Activation::None };
        let y = one(&mut g, MatMul { bias: true, residual: true, act }.into(), &[a, b, bias, residual]);
        g.add_output("y", y);
        check(&g, seed);
    }

    #[test]
    fn reductions(shape in [1..4usize, 1..6usize, 1..6usize, 1..6usize], mask in 1..16usize, kind in 0..5usize, keepdims: bool, channels_last: bool, seed: u64) {
        let mut rng = Lcg::new(seed);
        let mut g = Graph::new("reduce");
        let mut x = input(&mut g, "x", &shape);
        if channels_last {
            x = made_channels_last(&mut g, &mut rng, x);
        }
        let axes = (0..4).filter(|d| mask >> d & 1 == 1).collect();
        let y = one(&mut g, Reduce { kind: ReduceKind::ALL[kind], axes, keepdims }.into(), &[x]);
        g.add_output("y", y);
        check(&g, seed);
    }

    #[test]
    fn softmax_and_normalisations(shape in [1..3usize, 1..7usize, 1..6usize, 1..7usize], axis in 0..4usize, log: bool, channels_last: bool, seed: u64) {
        let mut rng = Lcg::new(seed);
        let mut g = Graph::new("normalise");
        let mut x = input(&mut g, "x", &shape);
        if channels_last {
            x = made_channels_last(&mut g, &mut rng, x);
        }
        let s = one(&mut g, Softmax { axis, log }.into(), &[x]);
        g.add_output("softmax", s);
        let (scale, bias) = (constant(&mut g, &mut rng, &shape[1..2]), constant(&mut g, &mut rng, &shape[1..2]));
        let i = one(&mut g, InstanceNormalization { epsilon: 1e-2 }.into(), &[x, scale, bias]);
        g.add_output("instance", i);
        let (scale, bias) = (constant(&mut g, &mut rng, &shape[axis..]), constant(&mut g, &mut rng, &shape[axis..]));
        let l = one(&mut g, LayerNormalization { axis, epsilon: 1e-2 }.into(), &[x, scale, bias]);
        g.add_output("layer", l);
        check(&g, seed);
    }

    #[test]
    fn movement(shape in [1..4usize, 1..5usize, 1..6usize], perm in Just(vec![0, 1, 2]).prop_shuffle(), axis in 0..3usize, seed: u64) {
        let mut rng = Lcg::new(seed);
        let mut g = Graph::new("movement");
        let x = input(&mut g, "x", &shape);
        let t = one(&mut g, Transpose { perm }.into(), &[x]);
        let relu = one(&mut g, Op::Unary(UnaryOp::Relu), &[t]);
        let joined = one(&mut g, Concat { axis }.into(), &[t, relu, t]);
        g.add_output("joined", joined);
        let size = g.ty(joined).sizes().to_vec();
        let starts: Vec<usize> = size.iter().map(|&n| rng.below(n)).collect();
        let steps: Vec<i64> = (0..3).map(|_| [1, 2, -1, -2][rng.below(4)]).collect();
        let sizes = (0..3).map(|d| 1 + rng.below(if steps[d] > 0 { (size[d] - starts[d]).div_ceil(steps[d] as usize) } else { starts[d] / steps[d].unsigned_abs() as usize + 1 })).collect();
        let part = one(&mut g, Slice { starts, sizes, steps }.into(), &[joined]);
        g.add_output("part", part);
        let flat = one(&mut g, Reshape { shape: vec![size.iter().product()] }.into(), &[joined]);
        g.add_output("flat", flat);
        let wide = [&[2], g.ty(t).sizes()].concat();
        let wide = one(&mut g, Expand { shape: wide }.into(), &[t]);
        g.add_output("wide", wide);
        check(&g, seed);
    }
}

#[test]
fn elementwise_trees_with_broadcasting() {
    let mut g = Graph::new("tree");
    let mut rng = Lcg::new(3);
    let x = input(&mut g, "x", &[2, 5, 3, 7]);
    let y = made_channels_last(&mut g, &mut rng, x);
    let scale = constant(&mut g, &mut rng, &[5, 1, 1]);
    let row = constant(&mut g, &mut rng, &[7]);
    let scaled = one(&mut g, Op::Binary(BinaryOp::Mul), &[y, scale]);
    let mut outputs = Vec::new();
    use UnaryOp::*;
    for f in [
        Abs, Neg, Exp, Sqrt, Floor, Ceil, Round, Sign, Tanh, Sigmoid, Erf, Relu, Softplus, Sin, Cos,
        Reciprocal,
    ] {
        let shifted = one(&mut g, Op::Binary(BinaryOp::Add), &[scaled, row]);
        let operand = if f == Sqrt {
            one(&mut g, Op::Unary(Abs), &[shifted])
        } else {
            shifted
        };
        let z = one(&mut g, Op::Unary(f), &[operand]);
        outputs.push((f.name(), one(&mut g, Op::Binary(BinaryOp::Sub), &[z, x])));
    }
    let clipped = one(&mut g, Clip { min: -0.25, max: 0.5 }.into(), &[scaled]);
    outputs.push(("clip", clipped));
    outputs.push(("leaky", one(&mut g, LeakyRelu { alpha: 0.1 }.into(), &[scaled])));
    outputs.push(("elu", one(&mut g, Elu { alpha: 0.7 }.into(), &[scaled])));
    outputs.push((
        "hard",
        one(
            &mut g,
            HardSigmoid {
                alpha: 0.2,
                beta: 0.5,
            }
            .into(),
            &[scaled],
        ),
    ));
    let less = one(&mut g, Op::Binary(BinaryOp::Less), &[scaled, row]);
    outputs.push(("less", less));
    outputs.push(("where", one(&mut g, Where {}.into(), &[less, scaled, row])));
    let ints = one(&mut g, Cast { to: DType::I32 }.into(), &[scaled]);
    outputs.push(("ints", one(&mut g, Op::Binary(BinaryOp::Mul), &[ints, ints])));
    outputs.push(("half", one(&mut g, Cast { to: DType::F16 }.into(), &[scaled])));
    let magnitude = one(&mut g, Op::Unary(Abs), &[scaled]);
    outputs.push(("pow", one(&mut g, Op::Binary(BinaryOp::Pow), &[magnitude, row])));
    outputs.push(("log", one(&mut g, Op::Unary(Log), &[magnitude])));
    for (name, v) in outputs {
        g.add_output(name, v);
    }
    check(&g, 11);
}

#[test]
fn an_output_that_is_an_input_or_a_constant_or_given_twice() {
    let mut g = Graph::new("pass-through");
    let mut rng = Lcg::new(5);
    let x = input(&mut g, "x", &[2, 3]);
    let c = constant(&mut g, &mut rng, &[4]);
    let flat = one(&mut g, Reshape { shape: vec![6] }.into(), &[x]);
    let y = one(&mut g, Op::Unary(UnaryOp::Relu), &[flat]);
    for (name, v) in [
        ("same", x),
        ("constant", c),
        ("flat", flat),
        ("y", y),
        ("again", y),
    ] {
        g.add_output(name, v);
    }
    check(&g, 1);
}

/// An input lies as its caller has it, which is not how the kernel's result lies.
#[test]
fn a_residual_may_be_an_input() {
    let mut g = Graph::new("residual");
    let mut rng = Lcg::new(9);
    let x = input(&mut g, "x", &[1, 5, 6, 7]);
    let w = constant(&mut g, &mut rng, &[5, 5, 3, 3]);
    let bias = constant(&mut g, &mut rng, &[5]);
    let op = Conv {
        residual: true,
        ..conv([1, 1], [1, 1, 1, 1], [1, 1], 1)
    };
    let y = one(&mut g, op.into(), &[x, w, bias, x]);
    g.add_output("y", y);
    check(&g, 4);
}

#[test]
fn gather_wraps_negative_indices() {
    let mut g = Graph::new("gather");
    let x = input(&mut g, "x", &[3, 4, 5]);
    let at = sdc_ir::Tensor::from_elements(vec![2, 2], vec![-1i64, 0, 2, -4]).unwrap();
    let at = g.add_constant(at, common::origin("at"));
    let y = one(&mut g, Gather { axis: 1 }.into(), &[x, at]);
    g.add_output("y", y);
    check(&g, 2);
}
