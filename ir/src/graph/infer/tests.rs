use super::infer;
use crate::DType::{self, *};
use crate::graph::op::*;
use crate::graph::{BinaryOp, Op, TensorType, UnaryOp};

fn run(op: impl Into<Op>, operands: &[(DType, &[usize])]) -> Result<String, String> {
    let types: Vec<TensorType> = operands.iter().map(|&(d, s)| TensorType::new(d, s)).collect();
    infer(&op.into(), &types.iter().collect::<Vec<_>>())
        .map(|t| t[0].to_string())
        .map_err(|e| e.reason)
}

fn conv(pads: Vec<usize>, strides: Vec<usize>, group: usize) -> Conv {
    Conv {
        dilations: vec![1; strides.len()],
        strides,
        pads,
        group,
        bias: true,
        residual: false,
        act: Activation::None,
    }
}

#[test]
fn convolutions() {
    let x: (DType, &[usize]) = (F32, &[2, 6, 9, 7]);
    let ok = run(
        conv(vec![1; 4], vec![2, 1], 3),
        &[x, (F32, &[12, 2, 3, 3]), (F32, &[12])],
    );
    assert_eq!(ok.unwrap(), "f32[2,12,5,7]");
    let cases: [(Conv, &[usize], &[usize], &str); 5] = [
        (conv(vec![0; 4], vec![1, 1], 4), &[12, 2, 3, 3], &[12], "group 4"),
        (conv(vec![0; 4], vec![1, 1], 0), &[12, 6, 3, 3], &[12], "group 0"),
        (
            conv(vec![0; 4], vec![1, 1], 1),
            &[12, 6, 3, 9],
            &[12],
            "window spans 9",
        ),
        (
            conv(vec![0; 2], vec![1, 1], 1),
            &[12, 6, 3, 3],
            &[12],
            "`pads` has 2",
        ),
        (
            conv(vec![usize::MAX; 4], vec![1, 1], 1),
            &[12, 6, 3, 3],
            &[12],
            "exceeds the limit",
        ),
    ];
    for (op, w, b, reason) in cases {
        let got = run(op, &[x, (F32, w), (F32, b)]).unwrap_err();
        assert!(got.contains(reason), "{got}");
    }
    let transposed = ConvTranspose {
        strides: vec![2, 2],
        pads: vec![1, 0, 1, -1],
        dilations: vec![1, 1],
        output_padding: vec![1, 0],
        group: 2,
        bias: false,
        act: Activation::Relu,
    };
    let got = run(transposed, &[(F32, &[1, 4, 5, 5]), (F32, &[4, 3, 3, 3])]);
    assert_eq!(got.unwrap(), "f32[1,6,10,12]");
}

#[test]
fn pooling_windows() {
    let pool = |pads: [usize; 2]| MaxPool {
        kernel: vec![3],
        strides: vec![2],
        pads: pads.to_vec(),
        dilations: vec![1],
    };
    assert_eq!(run(pool([1, 2]), &[(F32, &[1, 1, 6])]).unwrap(), "f32[1,1,4]");
    assert!(
        run(pool([3, 0]), &[(F32, &[1, 1, 6])])
            .unwrap_err()
            .contains("wholly in the padding")
    );
    assert!(
        run(pool([0, 4]), &[(F32, &[1, 1, 6])])
            .unwrap_err()
            .contains("wholly in the padding")
    );
}

#[test]
fn products_broadcast_batches() {
    let op = MatMul {
        bias: false,
        residual: false,
        act: Activation::None,
    };
    let got = run(op.clone(), &[(F32, &[5, 1, 2, 3]), (F32, &[4, 3, 7])]);
    assert_eq!(got.unwrap(), "f32[5,4,2,7]");
    assert!(run(op.clone(), &[(F32, &[3]), (F32, &[3, 7])]).is_err());
    assert!(
        run(op, &[(F32, &[2, 3]), (F64, &[3, 7])])
            .unwrap_err()
            .contains("element types")
    );
}

#[test]
fn element_types() {
    assert_eq!(
        run(BinaryOp::Less, &[(I64, &[3, 1]), (I64, &[4])]).unwrap(),
        "bool[3,4]"
    );
    assert!(run(BinaryOp::Add, &[(Bool, &[1]), (Bool, &[1])]).is_err());
    assert!(run(BinaryOp::And, &[(F32, &[1]), (F32, &[1])]).is_err());
    assert!(run(UnaryOp::Exp, &[(I32, &[1])]).is_err());
    assert!(run(UnaryOp::Neg, &[(U8, &[1])]).is_err());
    assert_eq!(
        run(Where {}, &[(Bool, &[2, 1]), (F32, &[]), (F32, &[3])]).unwrap(),
        "f32[2,3]"
    );
    assert_eq!(run(Cast { to: U8 }, &[(F32, &[2])]).unwrap(), "u8[2]");
}

#[test]
fn data_movement_stays_in_range() {
    let slice = |start, size, step| Slice {
        starts: vec![start],
        sizes: vec![size],
        steps: vec![step],
    };
    assert_eq!(run(slice(8, 3, -4), &[(F32, &[9])]).unwrap(), "f32[3]");
    for (start, size, step) in [(9, 1, 1), (0, 2, i64::MIN), (0, usize::MAX, i64::MAX), (1, 1, 0)] {
        assert!(run(slice(start, size, step), &[(F32, &[9])]).is_err());
    }
    let pad = |mode, n| Pad {
        mode,
        before: vec![n],
        after: vec![0],
        value: 0.0,
    };
    assert!(run(pad(PadMode::Reflect, 9), &[(F32, &[9])]).is_err());
    assert_eq!(run(pad(PadMode::Reflect, 8), &[(F32, &[9])]).unwrap(), "f32[17]");
    assert!(run(pad(PadMode::Constant, usize::MAX), &[(F32, &[9])]).is_err());
    let gather = Gather { axis: 1 };
    assert_eq!(
        run(gather.clone(), &[(F32, &[2, 3, 4]), (I64, &[])]).unwrap(),
        "f32[2,4]"
    );
    assert!(run(gather, &[(F32, &[2, 0]), (I64, &[1])]).is_err());
    assert_eq!(
        run(Concat { axis: 1 }, &[(F32, &[2, 3]), (F32, &[2, 0])]).unwrap(),
        "f32[2,3]"
    );
    assert!(run(Concat { axis: 1 }, &[(F32, &[1, usize::MAX]), (F32, &[1, 1])]).is_err());
    assert!(run(Transpose { perm: vec![0, 0] }, &[(F32, &[2, 3])]).is_err());
    assert!(run(Reshape { shape: vec![5] }, &[(F32, &[2, 3])]).is_err());
}

#[test]
fn empty_tensors_with_huge_dimensions_are_refused() {
    let expand = Expand {
        shape: vec![0, usize::MAX, usize::MAX],
    };
    assert!(run(expand, &[(F32, &[])]).unwrap_err().contains("too large"));
}

#[test]
fn reductions() {
    let reduce = |kind, axes: Vec<usize>, keepdims| Reduce { kind, axes, keepdims };
    let x: &[(DType, &[usize])] = &[(F32, &[2, 3, 4])];
    assert_eq!(
        run(reduce(ReduceKind::Mean, vec![0, 2], true), x).unwrap(),
        "f32[1,3,1]"
    );
    assert_eq!(
        run(reduce(ReduceKind::Sum, vec![0, 2], false), x).unwrap(),
        "f32[3]"
    );
    assert!(run(reduce(ReduceKind::Sum, vec![2, 0], false), x).is_err());
    assert!(run(reduce(ReduceKind::Sum, vec![3], false), x).is_err());
    assert!(run(reduce(ReduceKind::Max, vec![0], false), &[(F32, &[0])]).is_err());
}
