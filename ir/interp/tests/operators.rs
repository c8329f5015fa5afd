//! Operators on small cases worked by hand: what ONNX leaves open, element types its runtimes lack, fused forms, errors.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use common::{eval, f32s, t, ti};
use half::{bf16, f16};
use sdc_interp::{EvalError, eval_op};
use sdc_ir::graph::op::*;
use sdc_ir::graph::{BinaryOp, Op, UnaryOp};
use sdc_ir::tensor::Element;
use sdc_ir::{DType, Tensor};

fn of<T: Element>(data: &[T]) -> Tensor {
    Tensor::from_elements(vec![data.len()], data.to_vec()).unwrap()
}

fn list<T: Element>(x: &Tensor) -> Vec<T> {
    x.elements::<T>().unwrap().into_owned()
}

#[test]
fn nan_propagates() {
    let x = t(&[2], &[f32::NAN, -1.0]);
    for op in [
        Op::Unary(UnaryOp::Relu),
        Clip { min: 0.0, max: 6.0 }.into(),
        Op::Unary(UnaryOp::Sign),
    ] {
        let y = f32s(&eval(op, &[&x]));
        assert!(y[0].is_nan() && !y[1].is_nan(), "{y:?}");
    }
    let pool = MaxPool {
        kernel: vec![2],
        strides: vec![1],
        pads: vec![0, 0],
        dilations: vec![1],
    };
    let y = f32s(&eval(pool, &[&t(&[1, 1, 4], &[f32::NAN, 1.0, 2.0, 3.0])]));
    assert!(y[0].is_nan());
    assert_eq!(y[1..], [2.0, 3.0]);
    for kind in [ReduceKind::Max, ReduceKind::Min, ReduceKind::Sum] {
        let y = eval(
            Reduce {
                kind,
                axes: vec![0],
                keepdims: false,
            },
            &[&x],
        );
        assert!(f32s(&y)[0].is_nan());
    }
}

#[test]
fn integers_divide_wrap_and_raise() {
    let div = |a: i32, b: i32| list::<i32>(&eval(Op::Binary(BinaryOp::Div), &[&of(&[a]), &of(&[b])]))[0];
    assert_eq!(
        [div(7, -2), div(-7, 2), div(5, 0), div(i32::MIN, -1)],
        [-3, -3, 0, i32::MIN]
    );
    let pow = |a: i64, b: i64| list::<i64>(&eval(Op::Binary(BinaryOp::Pow), &[&of(&[a]), &of(&[b])]))[0];
    assert_eq!(
        [pow(3, 4), pow(-2, 63), pow(2, 64), pow(7, 0), pow(0, 0)],
        [81, i64::MIN, 0, 1, 1]
    );
    assert_eq!(
        [pow(1, -5), pow(-1, -5), pow(-1, -4), pow(2, -1), pow(0, -1)],
        [1, -1, 1, 0, 0]
    );
    let add = eval(Op::Binary(BinaryOp::Add), &[&of(&[250u8]), &of(&[10u8])]);
    assert_eq!(list::<u8>(&add), [4]);
    let mul = eval(Op::Binary(BinaryOp::Mul), &[&of(&[u64::MAX]), &of(&[u64::MAX])]);
    assert_eq!(list::<u64>(&mul), [1]);
    assert_eq!(
        list::<i8>(&eval(Op::Unary(UnaryOp::Abs), &[&of(&[i8::MIN])])),
        [i8::MIN]
    );
}

#[test]
fn half_precision_rounds_once_from_f32() {
    let a = of(&[2048.0, 1.0, 65504.0].map(f16::from_f32));
    let b = of(&[1.0, 0.0001, 65504.0].map(f16::from_f32));
    let y = eval(Op::Binary(BinaryOp::Add), &[&a, &b]);
    // 2049 lies between 2048 and 2050 and goes to the even one; the last sum is beyond the largest number.
    assert_eq!(list::<f16>(&y), [2048.0, 1.0, f32::INFINITY].map(f16::from_f32));
    let y = eval(
        Op::Binary(BinaryOp::Mul),
        &[&of(&[bf16::from_f32(3.0)]), &of(&[bf16::from_f32(1.0078125)])],
    );
    // 3.0234375 lies halfway between 3.015625 and 3.03125, whose last bit is even.
    assert_eq!(list::<bf16>(&y), [bf16::from_f32(3.03125)]);
}

#[test]
fn casts_out_of_range_saturate_from_floats_and_wrap_from_integers() {
    let x = t(&[4], &[300.0, -300.0, f32::NAN, f32::INFINITY]);
    assert_eq!(
        list::<i8>(&eval(Cast { to: DType::I8 }, &[&x])),
        [127, -128, 0, 127]
    );
    assert_eq!(list::<u8>(&eval(Cast { to: DType::U8 }, &[&x])), [255, 0, 0, 255]);
    assert_eq!(list::<u8>(&eval(Cast { to: DType::Bool }, &[&x])), [1, 1, 1, 1]);
    assert_eq!(
        list::<i8>(&eval(Cast { to: DType::I8 }, &[&of(&[300i32, -129])])),
        [44, 127]
    );
    // By way of f64 the first would round twice, to 2^60.
    let x = of(&[(1i64 << 60) + (1 << 36) + 1]);
    assert_eq!(
        f32s(&eval(Cast { to: DType::F32 }, &[&x])),
        [((1u64 << 60) + (1 << 37)) as f32]
    );
    // A NaN's bits survive a cast that is none.
    let x = Tensor::new(DType::F32, vec![1], vec![1, 0, 0xA0, 0x7F].into()).unwrap();
    assert_eq!(eval(Cast { to: DType::F32 }, &[&x]), x);
}

#[test]
fn fused_convolution_adds_bias_and_residual_before_the_activation() {
    let conv = |act| Conv {
        strides: vec![1],
        pads: vec![1, 1],
        dilations: vec![1],
        group: 1,
        bias: true,
        residual: true,
        act,
    };
    let x = t(&[1, 1, 3], &[1.0, 2.0, 3.0]);
    let w = t(&[1, 1, 3], &[1.0, 0.0, -1.0]);
    let residual = t(&[1, 1, 3], &[0.5, 0.0, -4.0]);
    let run = |act| f32s(&eval(conv(act), &[&x, &w, &t(&[1], &[1.0]), &residual]));
    // The convolution alone is [-2, -2, 2].
    assert_eq!(run(Activation::None), [-0.5, -1.0, -1.0]);
    assert_eq!(run(Activation::Relu), [0.0, 0.0, 0.0]);
    assert_eq!(run(Activation::LeakyRelu { alpha: 0.5 }), [-0.25, -0.5, -0.5]);
    assert_eq!(
        run(Activation::Clip {
            min: -0.75,
            max: -0.5
        }),
        [-0.5, -0.75, -0.75]
    );
}

#[test]
fn fused_matmul_adds_bias_to_rows() {
    let op = MatMul {
        bias: true,
        residual: true,
        act: Activation::Relu,
    };
    let (a, b) = (t(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), t(&[2, 1], &[1.0, -1.0]));
    let y = eval(op, &[&a, &b, &t(&[1], &[0.25]), &t(&[2, 1], &[2.0, 0.0])]);
    assert_eq!(f32s(&y), [1.25, 0.0]);
    let op = MatMul {
        bias: false,
        residual: false,
        act: Activation::None,
    };
    let y = eval(op.clone(), &[&ti(&[1, 2], &[i64::MAX, 1]), &ti(&[2, 1], &[2, 5])]);
    assert_eq!(list::<i64>(&y), [3]);
    // An inner dimension of zero sums nothing.
    let y = eval(op, &[&t(&[2, 0], &[]), &t(&[0, 1], &[])]);
    assert_eq!(f32s(&y), [0.0, 0.0]);
}

#[test]
fn negative_pads_extend_a_transposed_convolution() {
    let op = ConvTranspose {
        strides: vec![2],
        pads: vec![-1, 1],
        dilations: vec![1],
        output_padding: vec![0],
        group: 1,
        bias: false,
        act: Activation::None,
    };
    // Uncropped: [1, 10, 2, 20].
    let y = eval(op, &[&t(&[1, 1, 2], &[1.0, 2.0]), &t(&[1, 1, 2], &[1.0, 10.0])]);
    assert_eq!(f32s(&y), [0.0, 1.0, 10.0, 2.0]);
}

#[test]
fn averages_divide_by_what_counts() {
    let pool = |counted: [usize; 2]| AveragePool {
        kernel: vec![3],
        strides: vec![1],
        pads: vec![1, 2],
        counted: counted.to_vec(),
        dilations: vec![1],
    };
    let x = t(&[1, 1, 2], &[6.0, 12.0]);
    assert_eq!(f32s(&eval(pool([0, 0]), &[&x])), [9.0, 9.0, 12.0]);
    assert_eq!(f32s(&eval(pool([1, 0]), &[&x])), [6.0, 9.0, 12.0]);
    assert_eq!(f32s(&eval(pool([1, 2]), &[&x])), [6.0, 6.0, 4.0]);
}

#[test]
fn reductions_of_nothing() {
    let x = t(&[2, 0], &[]);
    let reduce = |kind| {
        f32s(&eval(
            Reduce {
                kind,
                axes: vec![1],
                keepdims: false,
            },
            &[&x],
        ))
    };
    assert_eq!(reduce(ReduceKind::Sum), [0.0, 0.0]);
    assert!(reduce(ReduceKind::Sum)[0].is_sign_positive());
    assert_eq!(reduce(ReduceKind::Prod), [1.0, 1.0]);
    assert!(reduce(ReduceKind::Mean)[0].is_nan());
    let max = Reduce {
        kind: ReduceKind::Max,
        axes: vec![1],
        keepdims: false,
    };
    assert!(matches!(eval_op(&max.into(), &[&x]), Err(EvalError::Infer(_))));
}

#[test]
fn reductions_of_integers_and_bools() {
    let mean = Reduce {
        kind: ReduceKind::Mean,
        axes: vec![0],
        keepdims: false,
    };
    assert_eq!(list::<i32>(&eval(mean, &[&of(&[-3i32, -4])])), [-3]);
    let x = Tensor::new(DType::Bool, vec![2, 2], vec![0, 1, 0, 0].into()).unwrap();
    let any = Reduce {
        kind: ReduceKind::Max,
        axes: vec![1],
        keepdims: false,
    };
    assert_eq!(list::<u8>(&eval(any, &[&x])), [1, 0]);
}

#[test]
fn gather_clamps_indices() {
    let x = t(&[3], &[10.0, 20.0, 30.0]);
    let y = eval(Gather { axis: 0 }, &[&x, &ti(&[5], &[-1, -3, -9, 9, i64::MIN])]);
    assert_eq!(f32s(&y), [30.0, 10.0, 10.0, 30.0, 10.0]);
}

#[test]
fn scalars_pass_through() {
    let x = Tensor::scalar(2.0f32);
    assert_eq!(f32s(&eval(Op::Unary(UnaryOp::Neg), &[&x])), [-2.0]);
    assert_eq!(eval(Transpose { perm: vec![] }, &[&x]), x);
    assert_eq!(eval(Relayout {}, &[&x]), x);
    let y = eval(Expand { shape: vec![2, 1] }, &[&x]);
    assert_eq!((y.shape(), f32s(&y)), (&[2, 1][..], vec![2.0, 2.0]));
}

#[test]
fn softmax_of_large_elements_is_finite() {
    let y = f32s(&eval(Softmax { axis: 0, log: false }, &[&t(&[2], &[1e30, 1e30])]));
    assert_eq!(y, [0.5, 0.5]);
    let y = f32s(&eval(
        Softmax { axis: 0, log: true },
        &[&t(&[2], &[0.0, -1000.0])],
    ));
    assert_eq!(y, [0.0, -1000.0]);
}

#[test]
fn ill_typed_operands_are_errors() {
    let x = t(&[2, 3], &[0.0; 6]);
    let cases: Vec<(Op, Vec<&Tensor>)> = vec![
        (Op::Unary(UnaryOp::Not), vec![&x]),
        (Op::Binary(BinaryOp::Add), vec![&x]),
        (Transpose { perm: vec![0, 0] }.into(), vec![&x]),
        (Reshape { shape: vec![7] }.into(), vec![&x]),
        (
            Expand {
                shape: vec![usize::MAX, 2, 3],
            }
            .into(),
            vec![&x],
        ),
        (Concat { axis: 0 }.into(), vec![]),
        (Softmax { axis: 2, log: false }.into(), vec![&x]),
        (
            Slice {
                starts: vec![0, 2],
                sizes: vec![2, 2],
                steps: vec![1, 1],
            }
            .into(),
            vec![&x],
        ),
    ];
    for (op, inputs) in cases {
        let error = eval_op(&op, &inputs).unwrap_err();
        assert!(matches!(error, EvalError::Infer(_)), "{op:?}: {error}");
        assert!(error.to_string().contains(op.name()), "{error}");
    }
}

#[test]
fn what_cannot_be_computed_is_an_error() {
    let op = MatMul {
        bias: false,
        residual: false,
        act: Activation::Relu,
    };
    let a = ti(&[1, 1], &[1]);
    let error = eval_op(&op.into(), &[&a, &a]).unwrap_err();
    assert!(matches!(error, EvalError::Unsupported { .. }), "{error}");
    // 2^58 elements fit an address space, not a memory.
    let error = eval_op(&Expand { shape: vec![1 << 58] }.into(), &[&Tensor::scalar(0u8)]).unwrap_err();
    assert!(matches!(error, EvalError::OutOfMemory(_)), "{error}");
}
