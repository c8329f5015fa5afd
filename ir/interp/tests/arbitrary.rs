//! Arbitrary operators on arbitrary operands: never a panic, and results of the inferred types.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use common::{config, quarters};
use proptest::prelude::*;
use sdc_interp::eval_op;
use sdc_ir::graph::infer::infer;
use sdc_ir::graph::op::*;
use sdc_ir::graph::{BinaryOp, Op, TensorType, UnaryOp};
use sdc_ir::{DType, Tensor};

/// Any operator but those with windows, with small but otherwise arbitrary attributes.
fn any_op() -> impl Strategy<Value = Op> {
    let list = || prop::collection::vec(0usize..5, 0..5);
    let steps = || prop::collection::vec(prop_oneof![3 => Just(1i64), 1 => -2i64..4], 0..5);
    prop_oneof![
        prop::sample::select(UnaryOp::ALL).prop_map(Op::Unary),
        prop::sample::select(BinaryOp::ALL).prop_map(Op::Binary),
        activation().prop_map(|act| MatMul {
            bias: false,
            residual: false,
            act
        }
        .into()),
        Just(BatchNormalization { epsilon: 0.1 }.into()),
        (0usize..4).prop_map(|axis| LayerNormalization { axis, epsilon: 0.1 }.into()),
        Just(Clip { min: -1.0, max: 1.0 }.into()),
        Just(LeakyRelu { alpha: 0.1 }.into()),
        Just(Elu { alpha: 0.1 }.into()),
        Just(
            HardSigmoid {
                alpha: 0.1,
                beta: 0.5
            }
            .into()
        ),
        Just(Where {}.into()),
        prop::sample::select(&DType::ALL[..]).prop_map(|to| Cast { to }.into()),
        (
            prop::sample::select(ReduceKind::ALL),
            prop::sample::subsequence(vec![0, 1, 2, 3], 0..4),
            any::<bool>()
        )
            .prop_map(|(kind, axes, keepdims)| Reduce { kind, axes, keepdims }.into()),
        (0usize..4, any::<bool>()).prop_map(|(axis, log)| Softmax { axis, log }.into()),
        (0usize..5)
            .prop_flat_map(|n| Just((0..n).collect::<Vec<usize>>()).prop_shuffle())
            .prop_map(|perm| Transpose { perm }.into()),
        list().prop_map(|shape| Reshape { shape }.into()),
        list().prop_map(|shape| Expand { shape }.into()),
        (0usize..4).prop_map(|axis| Concat { axis }.into()),
        (list(), list(), steps()).prop_map(|(starts, sizes, steps)| Slice { starts, sizes, steps }.into()),
        (
            prop::sample::select(PadMode::ALL),
            0usize..5,
            0usize..3,
            0usize..3
        )
            .prop_map(|(mode, n, b, a)| {
                Pad {
                    mode,
                    before: vec![b; n],
                    after: vec![a; n],
                    value: 1.0,
                }
                .into()
            }),
        (0usize..4).prop_map(|axis| Gather { axis }.into()),
        (
            list(),
            prop::sample::select(ResizeMode::ALL),
            prop::sample::select(CoordinateMode::ALL),
            prop::sample::select(NearestMode::ALL),
            any::<bool>(),
            prop::sample::select(&[1.0f32, 0.3, 7.0, 1e-38, 1e38][..])
        )
            .prop_map(|(sizes, mode, coordinates, nearest, exclude_outside, scale)| {
                let scales = vec![scale; sizes.len()];
                Resize {
                    sizes,
                    scales,
                    mode,
                    coordinates,
                    nearest,
                    cubic_coeff_a: -0.75,
                    exclude_outside,
                }
                .into()
            }),
    ]
}

fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::None),
        Just(Activation::Relu),
        Just(Activation::Clip { min: 0.0, max: 1.0 }),
        Just(Activation::LeakyRelu { alpha: 0.5 })
    ]
}

/// Operators with windows, with operands whose ranks and channels fit; sizes may not, and may be zero.
fn window_case() -> impl Strategy<Value = (Op, Vec<Tensor>)> {
    let geometry = (1usize..4).prop_flat_map(|d| {
        let list = move |from: usize, to: usize, len: usize| prop::collection::vec(from..to, len);
        (
            list(0, 6, d),
            list(1, 4, d),
            list(1, 4, d),
            list(0, 4, 2 * d),
            list(1, 3, d),
            list(0, 4, 2 * d),
        )
    });
    let channels = (0usize..3, 1usize..3, 0usize..3, 0usize..3);
    (geometry, channels, activation(), any::<[bool; 3]>(), any::<u64>()).prop_map(
        |(
            (input, kernel, strides, pads, dilations, extra),
            (n, group, channels, filters),
            act,
            flags,
            seed,
        )| {
            let [bias, transposed, pool] = flags;
            let tensor = |head: [usize; 2], tail: &[usize]| quarters(&[&head[..], tail].concat(), seed);
            let x = tensor([n, group * channels], &input);
            if pool {
                let counted = extra.iter().zip(&pads).map(|(c, p)| *c.min(p)).collect();
                return if transposed {
                    (
                        MaxPool {
                            kernel,
                            strides,
                            pads,
                            dilations,
                        }
                        .into(),
                        vec![x],
                    )
                } else {
                    (
                        AveragePool {
                            kernel,
                            strides,
                            pads,
                            counted,
                            dilations,
                        }
                        .into(),
                        vec![x],
                    )
                };
            }
            let (op, w) = if transposed {
                let pads = pads
                    .iter()
                    .zip(&extra)
                    .map(|(&p, &e)| p as i64 - e as i64)
                    .collect();
                let output_padding = strides.iter().map(|s| s - 1).collect();
                let op = ConvTranspose {
                    strides,
                    pads,
                    dilations,
                    output_padding,
                    group,
                    bias,
                    act,
                };
                (op.into(), tensor([group * channels, filters], &kernel))
            } else {
                let op = Conv {
                    strides,
                    pads,
                    dilations,
                    group,
                    bias,
                    residual: false,
                    act,
                };
                (op.into(), tensor([group * filters, channels], &kernel))
            };
            let mut inputs = vec![x, w];
            if bias {
                inputs.push(quarters(&[group * filters], seed));
            }
            (op, inputs)
        },
    )
}

fn any_case() -> impl Strategy<Value = (Op, Vec<Tensor>)> {
    // Operands alike, so that operators with several accept them, or not.
    let alike = (any_tensor(), 1usize..4).prop_map(|(x, n)| vec![x; n]);
    let inputs = prop_oneof![alike, prop::collection::vec(any_tensor(), 0..4)];
    prop_oneof![3 => (any_op(), inputs), 1 => window_case()]
}

fn any_tensor() -> impl Strategy<Value = Tensor> {
    let shapes = prop::collection::vec(prop_oneof![6 => 1usize..4, 1 => Just(0)], 0..5);
    (
        shapes,
        prop_oneof![prop::sample::select(&DType::ALL[..]), Just(DType::F32)],
        any::<u64>(),
    )
        .prop_map(|(shape, dtype, seed)| {
            let n: usize = shape.iter().product::<usize>() * dtype.size();
            // Any bytes will do, except for bool.
            let byte = |i: usize| (seed.wrapping_mul(2 * i as u64 + 1) >> 29) as u8;
            let data: Vec<u8> = (0..n)
                .map(|i| {
                    if dtype == DType::Bool {
                        byte(i) & 1
                    } else {
                        byte(i)
                    }
                })
                .collect();
            Tensor::new(dtype, shape, data.into()).unwrap()
        })
}

proptest! {
    #![proptest_config(config(5_000))]

    #[test]
    fn evaluation_gives_what_inference_says_or_an_error((op, inputs) in any_case()) {
        if let Ok(results) = eval_op(&op, &inputs.iter().collect::<Vec<_>>()) {
            let types: Vec<TensorType> =
                inputs.iter().map(|x| TensorType::new(x.dtype(), x.shape())).collect();
            let inferred = infer(&op, &types.iter().collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(results.len(), inferred.len());
            for (x, ty) in results.iter().zip(&inferred) {
                prop_assert_eq!((x.dtype(), x.shape()), (ty.dtype, ty.sizes()));
            }
        }
    }
}
