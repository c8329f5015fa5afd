//! Algebra that operators must satisfy whatever the shapes. Elements are small multiples of 1/4, so that sums of
//! products are exact and equality means equality.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use common::{eval, f32s, quarters, t, ti};
use proptest::prelude::*;
use sdc_ir::graph::op::*;
use sdc_ir::graph::{BinaryOp, Op, UnaryOp};
use sdc_ir::tensor::row_major_strides;
use sdc_ir::{DType, Tensor};

fn shape(rank: std::ops::Range<usize>) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..5, rank)
}

fn shape_and_perm() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    shape(1..5).prop_flat_map(|s| {
        let perm: Vec<usize> = (0..s.len()).collect();
        (Just(s), Just(perm).prop_shuffle())
    })
}

/// Geometry of a convolution with two spatial dimensions.
#[derive(Debug, Clone)]
struct Geometry {
    input: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
    pads: [usize; 4],
    dilations: [usize; 2],
    /// Groups, channels per group, filters per group.
    channels: [usize; 3],
}

impl Geometry {
    fn output(&self) -> Option<[usize; 2]> {
        let size = |d: usize| {
            let extent = (self.kernel[d] - 1) * self.dilations[d] + 1;
            let padded = self.input[d] + self.pads[d] + self.pads[2 + d];
            Some(padded.checked_sub(extent)? / self.strides[d] + 1)
        };
        Some([size(0)?, size(1)?])
    }

    fn conv(&self) -> Conv {
        Conv {
            strides: self.strides.to_vec(),
            pads: self.pads.to_vec(),
            dilations: self.dilations.to_vec(),
            group: self.channels[0],
            bias: false,
            residual: false,
            act: Activation::None,
        }
    }
}

prop_compose! {
    fn geometry()(
        input in prop::array::uniform2(1usize..7),
        kernel in prop::array::uniform2(1usize..4),
        strides in prop::array::uniform2(1usize..4),
        pads in prop::array::uniform4(0usize..4),
        dilations in prop::array::uniform2(1usize..3),
        channels in prop::array::uniform3(1usize..3),
    ) -> Geometry {
        Geometry { input, kernel, strides, pads, dilations, channels }
    }
}

fn geometry_that_fits() -> impl Strategy<Value = Geometry> {
    geometry().prop_filter("the window fits", |g| g.output().is_some())
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    a.to_f64_vec()
        .iter()
        .zip(b.to_f64_vec())
        .map(|(a, b)| a * b)
        .sum()
}

proptest! {
    #![proptest_config(common::config(200))]

    #[test]
    fn transposing_back_is_the_identity((s, perm) in shape_and_perm(), seed: u64) {
        let x = quarters(&s, seed);
        let mut inverse = vec![0; perm.len()];
        perm.iter().enumerate().for_each(|(i, &p)| inverse[p] = i);
        let y = eval(Transpose { perm: perm.clone() }, &[&x]);
        for (d, &p) in perm.iter().enumerate() {
            prop_assert_eq!(y.shape()[d], s[p]);
        }
        prop_assert_eq!(eval(Transpose { perm: inverse }, &[&y]), x);
    }

    #[test]
    fn transpose_moves_each_element((s, perm) in shape_and_perm()) {
        // Elements that tell their own index.
        let n: usize = s.iter().product();
        let x = ti(&s, &(0..n as i64).collect::<Vec<_>>());
        let y = eval(Transpose { perm: perm.clone() }, &[&x]);
        let (from, to) = (row_major_strides(&s), row_major_strides(y.shape()));
        for (at, &flat) in y.elements::<i64>().unwrap().iter().enumerate() {
            for d in 0..s.len() {
                let index = at / to[d] % y.shape()[d];
                prop_assert_eq!(flat as usize / from[perm[d]] % s[perm[d]], index);
            }
        }
    }

    #[test]
    fn concatenated_slices_are_the_whole(s in shape(1..4), axis in 0usize..4, cut in 0usize..5, seed: u64) {
        let axis = axis % s.len();
        let cut = cut.min(s[axis]);
        let x = quarters(&s, seed);
        let part = |start: usize, size: usize| {
            let (mut starts, mut sizes) = (vec![0; s.len()], s.clone());
            (starts[axis], sizes[axis]) = (start, size);
            eval(Slice { starts, sizes, steps: vec![1; s.len()] }, &[&x])
        };
        let (a, b) = (part(0, cut), part(cut, s[axis] - cut));
        prop_assert_eq!(eval(Concat { axis }, &[&a, &b]), x);
    }

    #[test]
    fn reversing_twice_is_the_identity_and_is_a_gather(s in shape(1..4), seed: u64) {
        let x = quarters(&s, seed);
        let back = Slice { starts: s.iter().map(|d| d - 1).collect(), sizes: s.clone(), steps: vec![-1; s.len()] };
        let reversed = eval(back.clone(), &[&x]);
        let gathered = (0..s.len()).fold(x.clone(), |x, axis| {
            let indices: Vec<i64> = (1..=s[axis] as i64).map(|i| -i).collect();
            eval(Gather { axis }, &[&x, &ti(&[s[axis]], &indices)])
        });
        prop_assert_eq!(&gathered, &reversed);
        prop_assert_eq!(eval(back, &[&reversed]), x);
    }

    #[test]
    fn a_slice_undoes_a_pad(s in shape(1..4), before in 0usize..3, after in 0usize..3, seed: u64) {
        let x = quarters(&s, seed);
        for mode in [PadMode::Constant, PadMode::Edge, PadMode::Wrap] {
            let pad = Pad { mode, before: vec![before; s.len()], after: vec![after; s.len()], value: 9.0 };
            let y = eval(pad, &[&x]);
            let cut = Slice { starts: vec![before; s.len()], sizes: s.clone(), steps: vec![1; s.len()] };
            prop_assert_eq!(&eval(cut, &[&y]), &x);
        }
    }

    #[test]
    fn broadcasting_is_expanding(s in shape(1..4), ones in prop::collection::vec(any::<bool>(), 4), seed: u64) {
        let thin: Vec<usize> = s.iter().zip(&ones).map(|(&d, &one)| if one { 1 } else { d }).collect();
        let (a, b) = (quarters(&thin, seed), quarters(&s, seed ^ 1));
        let wide = eval(Expand { shape: s.clone() }, &[&a]);
        for op in [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Max, BinaryOp::Less] {
            prop_assert_eq!(eval(Op::Binary(op), &[&a, &b]), eval(Op::Binary(op), &[&wide, &b]));
            prop_assert_eq!(eval(Op::Binary(op), &[&b, &a]), eval(Op::Binary(op), &[&b, &wide]));
        }
    }

    #[test]
    fn reductions_compose(s in shape(2..5), seed: u64) {
        let x = quarters(&s, seed);
        for kind in [ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min] {
            let reduce = |axes: Vec<usize>, x: &Tensor| eval(Reduce { kind, axes, keepdims: true }, &[x]);
            let all = reduce((0..s.len()).collect(), &x);
            let one_by_one = (0..s.len()).rev().fold(x.clone(), |x, d| reduce(vec![d], &x));
            prop_assert_eq!(&one_by_one, &all);
            let flat = Reduce { kind, axes: (0..s.len()).collect(), keepdims: false };
            prop_assert_eq!(f32s(&eval(flat, &[&x])), f32s(&all));
        }
    }

    #[test]
    fn a_matrix_product_is_a_sum_of_products(m in 1usize..5, k in 1usize..5, n in 1usize..5, batch in 1usize..3, seed: u64) {
        let (a, b) = (quarters(&[batch, m, k], seed), quarters(&[1, k, n], seed ^ 1));
        let y = eval(MatMul { bias: false, residual: false, act: Activation::None }, &[&a, &b]);
        // Broadcast to [batch, m, k, n], multiply, sum over k.
        let a4 = eval(Reshape { shape: vec![batch, m, k, 1] }, &[&a]);
        let b4 = eval(Reshape { shape: vec![1, 1, k, n] }, &[&b]);
        let products = eval(Op::Binary(BinaryOp::Mul), &[&a4, &b4]);
        let sum = eval(Reduce { kind: ReduceKind::Sum, axes: vec![2], keepdims: false }, &[&products]);
        prop_assert_eq!(sum, y);
    }

    #[test]
    fn a_convolution_is_a_matrix_product_on_patches(g in geometry_that_fits(), seed: u64) {
        let [groups, channels, filters] = g.channels;
        let x = quarters(&[2, groups * channels, g.input[0], g.input[1]], seed);
        let w = quarters(&[groups * filters, channels, g.kernel[0], g.kernel[1]], seed ^ 1);
        let y = eval(g.conv(), &[&x, &w]);
        let [oh, ow] = g.output().unwrap();
        prop_assert_eq!(y.shape(), &[2, groups * filters, oh, ow][..]);

        // Pad, gather each kernel element's rows and columns, and multiply with that element's matrix.
        let pad = Pad {
            mode: PadMode::Constant,
            before: vec![0, 0, g.pads[0], g.pads[1]],
            after: vec![0, 0, g.pads[2], g.pads[3]],
            value: 0.0,
        };
        let x = eval(pad, &[&x]);
        let mut parts = Vec::new();
        for group in 0..groups {
            let mut sum = t(&[1], &[0.0]);
            for tap in 0..g.kernel[0] * g.kernel[1] {
                let k = [tap / g.kernel[1], tap % g.kernel[1]];
                let patch = Slice {
                    starts: vec![0, group * channels, k[0] * g.dilations[0], k[1] * g.dilations[1]],
                    sizes: vec![2, channels, oh, ow],
                    steps: vec![1, 1, g.strides[0] as i64, g.strides[1] as i64],
                };
                let patch = eval(Reshape { shape: vec![2, channels, oh * ow] }, &[&eval(patch, &[&x])]);
                let matrix = Slice {
                    starts: vec![group * filters, 0, k[0], k[1]],
                    sizes: vec![filters, channels, 1, 1],
                    steps: vec![1; 4],
                };
                let matrix = eval(Reshape { shape: vec![filters, channels] }, &[&eval(matrix, &[&w])]);
                let product =
                    eval(MatMul { bias: false, residual: false, act: Activation::None }, &[&matrix, &patch]);
                sum = eval(Op::Binary(BinaryOp::Add), &[&sum, &product]);
            }
            parts.push(sum);
        }
        let whole = eval(Concat { axis: 1 }, &parts.iter().collect::<Vec<_>>());
        prop_assert_eq!(eval(Reshape { shape: y.shape().to_vec() }, &[&whole]), y);
    }

    #[test]
    fn transposed_convolution_is_the_adjoint(g in geometry_that_fits(), seed: u64) {
        // <conv(x, w), y> = <x, conv_transpose(y, w)>, the latter of the size of x.
        let [groups, channels, filters] = g.channels;
        let [oh, ow] = g.output().unwrap();
        let x = quarters(&[1, groups * channels, g.input[0], g.input[1]], seed);
        let w = quarters(&[groups * filters, channels, g.kernel[0], g.kernel[1]], seed ^ 1);
        let y = quarters(&[1, groups * filters, oh, ow], seed ^ 2);
        // The end is cropped, or extended, so that the sizes match.
        let end = |d: usize, out: usize| {
            let full = g.strides[d] * (out - 1) + (g.kernel[d] - 1) * g.dilations[d] + 1;
            full as i64 - g.pads[d] as i64 - g.input[d] as i64
        };
        let adjoint = ConvTranspose {
            strides: g.strides.to_vec(),
            pads: vec![g.pads[0] as i64, g.pads[1] as i64, end(0, oh), end(1, ow)],
            dilations: g.dilations.to_vec(),
            output_padding: vec![0, 0],
            group: groups,
            bias: false,
            act: Activation::None,
        };
        let back = eval(adjoint, &[&y, &w]);
        prop_assert_eq!(back.shape(), x.shape());
        prop_assert_eq!(dot(&eval(g.conv(), &[&x, &w]), &y), dot(&x, &back));
    }

    #[test]
    fn pooling_windows_agree_with_reductions(s in prop::array::uniform2(1usize..6), seed: u64) {
        // One window over everything.
        let x = quarters(&[2, 3, s[0], s[1]], seed);
        let max = MaxPool { kernel: s.to_vec(), strides: vec![1, 1], pads: vec![0; 4], dilations: vec![1, 1] };
        let reduce = |kind| eval(Reduce { kind, axes: vec![2, 3], keepdims: true }, &[&x]);
        prop_assert_eq!(eval(max, &[&x]), reduce(ReduceKind::Max));
        let mean = AveragePool {
            kernel: s.to_vec(),
            strides: vec![1, 1],
            pads: vec![0; 4],
            counted: vec![0; 4],
            dilations: vec![1, 1],
        };
        prop_assert_eq!(eval(mean, &[&x]), reduce(ReduceKind::Mean));
    }

    #[test]
    fn resizing_to_the_same_size_is_the_identity(s in shape(1..5), seed: u64) {
        let x = quarters(&s, seed);
        for &mode in ResizeMode::ALL {
            for &coordinates in CoordinateMode::ALL {
                // Where the mode reads coordinate 0 for a dimension of 1, that is the coordinate.
                for exclude_outside in [false, true] {
                    let op = Resize {
                        sizes: s.clone(),
                        scales: vec![1.0; s.len()],
                        mode,
                        coordinates,
                        nearest: NearestMode::RoundPreferFloor,
                        cubic_coeff_a: -0.75,
                        exclude_outside,
                    };
                    prop_assert_eq!(&eval(op, &[&x]), &x);
                }
            }
        }
    }

    #[test]
    fn interpolation_keeps_constants(from in 1usize..6, to in 1usize..9, seed: u64) {
        // Weights sum to one, so a constant stays; linear interpolation stays within the range.
        let x = t(&[from], &vec![3.0; from]);
        let varied = quarters(&[from], seed);
        for &mode in ResizeMode::ALL {
            for &coordinates in CoordinateMode::ALL {
                let op = Resize {
                    sizes: vec![to],
                    scales: vec![to as f32 / from as f32],
                    mode,
                    coordinates,
                    nearest: NearestMode::Floor,
                    cubic_coeff_a: -0.5,
                    exclude_outside: seed % 2 == 0,
                };
                for y in f32s(&eval(op.clone(), &[&x])) {
                    prop_assert!((y - 3.0).abs() < 1e-5, "{:?} gives {}", op, y);
                }
                let (low, high) = f32s(&varied).iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
                if mode != ResizeMode::Cubic {
                    for y in f32s(&eval(op, &[&varied])) {
                        prop_assert!((low..=high).contains(&y));
                    }
                }
            }
        }
    }

    #[test]
    fn softmax_sums_to_one_and_ignores_shifts(s in shape(1..4), axis in 0usize..3, seed: u64) {
        let axis = axis % s.len();
        let x = quarters(&s, seed);
        let y = eval(Softmax { axis, log: false }, &[&x]);
        let sum = eval(Reduce { kind: ReduceKind::Sum, axes: vec![axis], keepdims: true }, &[&y]);
        prop_assert!(f32s(&sum).iter().all(|s| (s - 1.0).abs() < 1e-5));
        let shifted = eval(Op::Binary(BinaryOp::Add), &[&x, &Tensor::scalar(100.0f32)]);
        prop_assert_eq!(&eval(Softmax { axis, log: false }, &[&shifted]), &y);
        let log = eval(Softmax { axis, log: true }, &[&x]);
        let exp = eval(Op::Unary(UnaryOp::Exp), &[&log]);
        prop_assert!(f32s(&exp).iter().zip(f32s(&y)).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn integer_arithmetic_is_that_of_the_type(a: i8, b: i8, c: u64, d: u64) {
        let one = |op, a: i8, b: i8| eval(Op::Binary(op), &[&Tensor::scalar(a), &Tensor::scalar(b)]);
        let get = |x: Tensor| x.elements::<i8>().unwrap()[0];
        prop_assert_eq!(get(one(BinaryOp::Add, a, b)), a.wrapping_add(b));
        prop_assert_eq!(get(one(BinaryOp::Sub, a, b)), a.wrapping_sub(b));
        prop_assert_eq!(get(one(BinaryOp::Mul, a, b)), a.wrapping_mul(b));
        prop_assert_eq!(get(one(BinaryOp::Div, a, b)), if b == 0 { 0 } else { a.wrapping_div(b) });
        let wide = |op| eval(Op::Binary(op), &[&Tensor::scalar(c), &Tensor::scalar(d)]);
        prop_assert_eq!(wide(BinaryOp::Mul).elements::<u64>().unwrap()[0], c.wrapping_mul(d));
        prop_assert_eq!(wide(BinaryOp::Max).elements::<u64>().unwrap()[0], c.max(d));
    }

    #[test]
    fn casts_to_wider_types_and_back_are_the_identity(data in prop::collection::vec(any::<i16>(), 1..20)) {
        let x = Tensor::from_elements(vec![data.len()], data).unwrap();
        for to in [DType::I32, DType::I64, DType::F32, DType::F64] {
            let y = eval(Cast { to }, &[&x]);
            prop_assert_eq!(&eval(Cast { to: DType::I16 }, &[&y]), &x);
        }
    }
}
