use super::Simplify;
use crate::testing::{Net, acted, conv3, ops, reason, run};
use sdc_ir::graph::op::*;
use sdc_ir::graph::{BinaryOp, Op, UnaryOp, Value};
use sdc_ir::{DType, Tensor};

const RELU: Op = Op::Unary(UnaryOp::Relu);
const NEG: Op = Op::Unary(UnaryOp::Neg);

fn binary(op: BinaryOp) -> Op {
    Op::Binary(op)
}

/// Builds a net of one output, simplifies it, and expects these operators by this rule.
fn expect(rule: &str, operators: &[&str], build: impl FnOnce(&mut Net) -> Value) -> sdc_ir::graph::Graph {
    let mut net = Net::new();
    let y = build(&mut net);
    net.output(y);
    let (graph, remarks) = run(&Simplify, &net);
    assert_eq!(ops(&graph), operators, "{remarks:#?}");
    assert!(acted(&remarks, rule), "{rule} did nothing: {remarks:#?}");
    graph
}

fn reshape(shape: &[usize]) -> Reshape {
    Reshape {
        shape: shape.to_vec(),
    }
}
fn transpose(perm: &[usize]) -> Transpose {
    Transpose { perm: perm.to_vec() }
}
fn slice(starts: &[usize], sizes: &[usize], steps: &[i64]) -> Slice {
    Slice {
        starts: starts.to_vec(),
        sizes: sizes.to_vec(),
        steps: steps.to_vec(),
    }
}
fn pad(before: &[usize], after: &[usize], value: f32) -> Pad {
    Pad {
        mode: PadMode::Constant,
        before: before.to_vec(),
        after: after.to_vec(),
        value,
    }
}
fn max_pool(pads: &[usize]) -> MaxPool {
    MaxPool {
        kernel: vec![3, 3],
        strides: vec![2, 2],
        pads: pads.to_vec(),
        dilations: vec![1, 1],
    }
}

#[test]
fn constants_fold() {
    let g = expect("fold", &["Mul"], |n| {
        let (a, b) = (n.weights(&[4, 1]), n.weights(&[4]));
        let c = n.node(binary(BinaryOp::Sub), &[a, b]);
        let c = n.node(NEG, &[c]);
        let x = n.input(&[4, 4]);
        n.node(binary(BinaryOp::Mul), &[x, c])
    });
    assert_eq!(g.weights.len(), 1);
    let constant = g.nodes().values().find(|n| n.op.name() == "Constant").unwrap();
    assert_eq!(constant.origins.len(), 4, "{:?}", constant.origins);
}

#[test]
fn large_results_are_not_folded() {
    let mut n = Net::new();
    let c = n.full(&[1], 2.0);
    let y = n.node(Expand { shape: vec![1 << 20] }, &[c]);
    n.output(y);
    let (graph, remarks) = run(&Simplify, &n);
    assert_eq!(ops(&graph), ["Expand"]);
    assert!(reason(&remarks, "fold").contains("larger than its parts"));
}

#[test]
fn dead_nodes_go() {
    let mut n = Net::new();
    let x = n.input(&[2]);
    let y = n.node(NEG, &[x]);
    n.node(RELU, &[y]);
    n.output(y);
    assert_eq!(ops(&run(&Simplify, &n).0), ["Neg"]);
}

#[test]
fn identities_go() {
    let identities: Vec<Op> = vec![
        reshape(&[2, 3]).into(),
        Expand { shape: vec![2, 3] }.into(),
        Cast { to: DType::F32 }.into(),
        transpose(&[0, 1]).into(),
        slice(&[0, 0], &[2, 3], &[1, 1]).into(),
        pad(&[0, 0], &[0, 0], 1.0).into(),
        Concat { axis: 1 }.into(),
    ];
    for op in identities {
        expect("identity_movement", &["Neg"], |n| {
            let x = n.input(&[2, 3]);
            let y = n.node(op, &[x]);
            n.node(NEG, &[y])
        });
    }
    // A reversal has the same shape too.
    let mut n = Net::new();
    let x = n.input(&[4]);
    let y = n.node(slice(&[3], &[4], &[-1]), &[x]);
    n.output(y);
    assert_eq!(ops(&run(&Simplify, &n).0), ["Slice"]);
}

#[test]
fn an_output_may_become_an_input() {
    let g = expect("identity_movement", &[], |n| {
        let x = n.input(&[2, 3]);
        n.node(reshape(&[2, 3]), &[x])
    });
    assert_eq!(g.outputs[0].value, g.inputs[0].value);
}

#[test]
fn windows_of_one_element_go() {
    expect("identity_window", &["Neg"], |n| {
        let x = n.input(&[1, 2, 3, 3]);
        let one = MaxPool {
            kernel: vec![1, 1],
            strides: vec![1, 1],
            pads: vec![0; 4],
            dilations: vec![1, 1],
        };
        let y = n.node(one, &[x]);
        n.node(NEG, &[y])
    });
}

#[test]
fn reductions_of_unit_dimensions_are_reshapes() {
    expect("unit_reduce", &["Reshape"], |n| {
        let x = n.input(&[2, 1, 3, 1]);
        n.node(
            Reduce {
                kind: ReduceKind::Mean,
                axes: vec![1, 3],
                keepdims: false,
            },
            &[x],
        )
    });
}

#[test]
fn neutral_constants_go() {
    use BinaryOp::*;
    for (op, c) in [(Add, 0.0), (Sub, 0.0), (Mul, 1.0), (Div, 1.0), (Pow, 1.0)] {
        expect("neutral_constant", &["Neg"], |n| {
            let (x, c) = (n.input(&[2, 3]), n.full(&[3], c));
            let y = n.node(binary(op), &[x, c]);
            n.node(NEG, &[y])
        });
    }
    // 0 - x and 1 / x are something else, and so is what enlarges x.
    for (op, c) in [(Sub, 0.0), (Div, 1.0)] {
        let mut n = Net::new();
        let (x, c) = (n.input(&[3]), n.full(&[3], c));
        let y = n.node(binary(op), &[c, x]);
        n.output(y);
        assert_eq!(ops(&run(&Simplify, &n).0), [op.name()]);
    }
    let mut n = Net::new();
    let (x, c) = (n.input(&[3]), n.full(&[2, 3], 0.0));
    let y = n.node(binary(Add), &[x, c]);
    n.output(y);
    assert_eq!(ops(&run(&Simplify, &n).0), ["Add"]);
}

#[test]
fn constants_go_right() {
    let g = expect("constant_right", &["Add"], |n| {
        let (c, x) = (n.weights(&[3]), n.input(&[3]));
        n.node(binary(BinaryOp::Add), &[c, x])
    });
    let add = g.nodes().values().last().unwrap();
    assert!(g.constant(add.inputs[1]).is_some());
}

#[test]
fn subtractions_and_divisions_of_constants() {
    expect("subtract_constant", &["Add"], |n| {
        let (x, c) = (n.input(&[3]), n.weights(&[3]));
        n.node(binary(BinaryOp::Sub), &[x, c])
    });
    expect("divide_by_power_of_two", &["Mul"], |n| {
        let (x, c) = (n.input(&[3]), n.full(&[3], 0.25));
        n.node(binary(BinaryOp::Div), &[x, c])
    });
    let mut n = Net::new();
    let (x, c) = (n.input(&[3]), n.full(&[3], 3.0));
    let y = n.node(binary(BinaryOp::Div), &[x, c]);
    n.output(y);
    assert_eq!(ops(&run(&Simplify, &n).0), ["Div"]);
}

#[test]
fn known_conditions_choose() {
    expect("constant_condition", &["Expand"], |n| {
        let bytes = bytes::Bytes::from_static(&[1, 1]);
        let cond = n.constant(Tensor::new(DType::Bool, vec![2, 1], bytes).unwrap());
        let (a, b) = (n.input(&[3]), n.input(&[3]));
        n.node(Where {}, &[cond, a, b])
    });
}

#[test]
fn operators_that_broadcast_need_no_expand() {
    expect("expand_of_operand", &["Mul"], |n| {
        let (x, y) = (n.input(&[2, 3]), n.input(&[3]));
        let y = n.node(Expand { shape: vec![2, 3] }, &[y]);
        n.node(binary(BinaryOp::Mul), &[x, y])
    });
    // Here it gives the result its shape.
    let mut n = Net::new();
    let (x, y) = (n.input(&[3]), n.input(&[3]));
    let y = n.node(Expand { shape: vec![2, 3] }, &[y]);
    let z = n.node(binary(BinaryOp::Mul), &[x, y]);
    n.output(z);
    assert_eq!(ops(&run(&Simplify, &n).0), ["Expand", "Mul"]);
}

#[test]
fn bounds_become_clips() {
    let g = expect("bounds_to_clip", &["Clip"], |n| {
        let (x, lo, hi) = (n.input(&[50]), n.full(&[], -0.5), n.full(&[1], 0.25));
        let y = n.node(binary(BinaryOp::Max), &[lo, x]);
        n.node(binary(BinaryOp::Min), &[y, hi])
    });
    let clip = &g.nodes().values().last().unwrap().op;
    assert_eq!(*clip, Clip { min: -0.5, max: 0.25 }.into());
    expect("clip_to_relu", &["Relu"], |n| {
        let (x, lo) = (n.input(&[50]), n.full(&[], 0.0));
        n.node(binary(BinaryOp::Max), &[x, lo])
    });
}

/// All orders of bounds, overlapping, nested and disjoint, in both orders.
#[test]
fn clips_merge() {
    let inf = f32::INFINITY;
    let ranges = [
        (-0.5, 0.5),
        (0.0, inf),
        (0.2, 0.8),
        (-0.9, -0.3),
        (-inf, 0.1),
        (0.6, 0.7),
        (0.4, -0.4),
    ];
    for a in ranges {
        for b in ranges {
            let mut n = Net::new();
            let x = n.input(&[200]);
            let y = n.node(Clip { min: a.0, max: a.1 }, &[x]);
            let z = n.node(Clip { min: b.0, max: b.1 }, &[y]);
            n.output(z);
            let (g, remarks) = run(&Simplify, &n);
            assert_eq!(ops(&g).len(), 1, "{a:?} {b:?}: {remarks:#?}");
        }
    }
    expect("merge_clips", &["Relu"], |n| {
        let x = n.input(&[20]);
        let y = n.node(RELU, &[x]);
        n.node(RELU, &[y])
    });
    expect("merge_clips", &["Relu"], |n| {
        let x = n.input_of(DType::I32, &[20]);
        let y = n.node(RELU, &[x]);
        n.node(RELU, &[y])
    });
}

#[test]
fn movements_merge() {
    expect("unit_transpose", &["Reshape"], |n| {
        let x = n.input(&[1, 3, 1, 4]);
        n.node(transpose(&[1, 0, 3, 2]), &[x])
    });
    expect("merge_transposes", &["Transpose"], |n| {
        let x = n.input(&[2, 3, 4]);
        let y = n.node(transpose(&[1, 2, 0]), &[x]);
        n.node(transpose(&[0, 2, 1]), &[y])
    });
    expect("merge_transposes", &["Neg"], |n| {
        let x = n.input(&[2, 3, 4]);
        let y = n.node(transpose(&[1, 2, 0]), &[x]);
        let y = n.node(transpose(&[2, 0, 1]), &[y]);
        n.node(NEG, &[y])
    });
    expect("merge_reshapes", &["Reshape"], |n| {
        let x = n.input(&[2, 3, 4]);
        let y = n.node(reshape(&[6, 4]), &[x]);
        n.node(reshape(&[24]), &[y])
    });
    expect("merge_slices", &["Slice"], |n| {
        let x = n.input(&[20, 20]);
        let y = n.node(slice(&[18, 3], &[9, 8], &[-2, 2]), &[x]);
        n.node(slice(&[7, 1], &[3, 2], &[-2, 3]), &[y])
    });
}

#[test]
fn slices_of_concats() {
    expect("slice_of_concat", &["Slice"], |n| {
        let (a, b) = (n.input(&[2, 3]), n.input(&[2, 5]));
        let y = n.node(Concat { axis: 1 }, &[a, b]);
        n.node(slice(&[0, 6], &[2, 3], &[1, -1]), &[y])
    });
    let mut n = Net::new();
    let (a, b) = (n.input(&[2, 3]), n.input(&[2, 5]));
    let y = n.node(Concat { axis: 1 }, &[a, b]);
    let z = n.node(slice(&[0, 2], &[2, 3], &[1, 1]), &[y]);
    n.output(z);
    assert_eq!(ops(&run(&Simplify, &n).0), ["Concat", "Slice"]);
}

#[test]
fn concats_merge() {
    let g = expect("merge_concats", &["Concat"], |n| {
        let (a, b, c) = (n.input(&[2, 3]), n.input(&[2, 5]), n.input(&[2, 0]));
        let y = n.node(Concat { axis: 1 }, &[a, b]);
        n.node(Concat { axis: 1 }, &[b, c, y])
    });
    assert_eq!(g.nodes().values().last().unwrap().inputs.len(), 3);
    // Read elsewhere, the inner one is needed anyway.
    let mut n = Net::new();
    let (a, b) = (n.input(&[2, 3]), n.input(&[2, 5]));
    let y = n.node(Concat { axis: 1 }, &[a, b]);
    let z = n.node(Concat { axis: 1 }, &[a, y]);
    n.output(y);
    n.output(z);
    assert_eq!(ops(&run(&Simplify, &n).0), ["Concat", "Concat"]);
}

#[test]
fn equal_nodes_merge() {
    let g = expect("merge_equal", &["Neg", "Mul"], |n| {
        let x = n.input(&[3]);
        let (a, b) = (n.node(NEG, &[x]), n.node(NEG, &[x]));
        n.node(binary(BinaryOp::Mul), &[a, b])
    });
    let mul = g.nodes().values().last().unwrap();
    assert_eq!(mul.inputs[0], mul.inputs[1]);
    // Equal constants are one operand, so that their readers can be equal.
    expect("merge_equal", &["Mul", "Add"], |n| {
        let (x, c, d) = (n.input(&[3]), n.full(&[3], 2.0), n.full(&[3], 2.0));
        let a = n.node(binary(BinaryOp::Mul), &[x, c]);
        let b = n.node(binary(BinaryOp::Mul), &[x, d]);
        n.node(binary(BinaryOp::Add), &[a, b])
    });
}

#[test]
fn pads_go_into_convolutions() {
    let g = expect("pad_into_conv", &["Conv"], |n| {
        let x = n.input(&[1, 2, 5, 6]);
        let y = n.node(pad(&[0, 0, 1, 0], &[0, 0, 0, 2], 0.0), &[x]);
        let y = n.node(pad(&[0, 0, 0, 1], &[0, 0, 0, 0], 0.0), &[y]);
        n.conv(y, 3)
    });
    let Op::Conv(conv) = &g.nodes().values().last().unwrap().op else {
        panic!()
    };
    assert_eq!(conv.pads, [2, 2, 1, 3]);
    assert_eq!(g.nodes().values().last().unwrap().origins.len(), 3);

    let declined = |op: Pad, why: &str| {
        let mut n = Net::new();
        let x = n.input(&[1, 2, 5, 6]);
        let y = n.node(op, &[x]);
        let y = n.conv(y, 3);
        n.output(y);
        let (g, remarks) = run(&Simplify, &n);
        assert_eq!(ops(&g), ["Pad", "Conv"]);
        assert!(reason(&remarks, "pad_into_conv").contains(why), "{remarks:#?}");
    };
    declined(pad(&[0, 0, 1, 1], &[0, 0, 1, 1], 1.0), "constant 1");
    let reflect = Pad {
        mode: PadMode::Reflect,
        ..pad(&[0, 0, 1, 1], &[0, 0, 1, 1], 0.0)
    };
    declined(reflect, "reflect");
}

#[test]
fn channel_pads_stay() {
    let mut n = Net::new();
    let x = n.input(&[1, 2, 5, 6]);
    let y = n.node(pad(&[0, 1, 0, 0], &[0, 0, 0, 0], 0.0), &[x]);
    let w = n.weights(&[2, 3, 3, 3]);
    let y = n.node(conv3(), &[y, w]);
    n.output(y);
    assert_eq!(ops(&run(&Simplify, &n).0), ["Pad", "Conv"]);
}

#[test]
fn pads_go_into_averages() {
    let g = expect("pad_into_average_pool", &["AveragePool"], |n| {
        let x = n.input(&[1, 2, 6, 6]);
        let y = n.node(pad(&[0, 0, 1, 1], &[0, 0, 1, 0], 0.0), &[x]);
        let pool = AveragePool {
            kernel: vec![3, 3],
            strides: vec![2, 2],
            pads: vec![0, 0, 1, 1],
            counted: vec![0, 0, 1, 0],
            dilations: vec![1, 1],
        };
        n.node(pool, &[y])
    });
    let Op::AveragePool(pool) = &g.nodes().values().last().unwrap().op else {
        panic!()
    };
    assert_eq!(
        (&pool.pads[..], &pool.counted[..]),
        (&[1, 1, 2, 1][..], &[1, 1, 2, 0][..])
    );
}

#[test]
fn pads_that_never_win_go_into_maxima() {
    expect("pad_into_max_pool", &["MaxPool"], |n| {
        let x = n.input(&[1, 2, 6, 6]);
        let y = n.node(pad(&[0, 0, 1, 1], &[0, 0, 1, 1], f32::NEG_INFINITY), &[x]);
        n.node(max_pool(&[0; 4]), &[y])
    });
    expect("pad_into_max_pool", &["Relu", "MaxPool"], |n| {
        let x = n.input(&[1, 2, 6, 6]);
        let y = n.node(RELU, &[x]);
        let y = n.node(pad(&[0, 0, 1, 1], &[0, 0, 1, 1], 0.0), &[y]);
        n.node(max_pool(&[0; 4]), &[y])
    });
    // Zeros win over negative numbers.
    let mut n = Net::new();
    let x = n.input(&[1, 2, 6, 6]);
    let y = n.node(pad(&[0, 0, 1, 1], &[0, 0, 1, 1], 0.0), &[x]);
    let y = n.node(max_pool(&[0; 4]), &[y]);
    n.output(y);
    let (g, remarks) = run(&Simplify, &n);
    assert_eq!(ops(&g), ["Pad", "MaxPool"]);
    assert!(reason(&remarks, "pad_into_max_pool").contains("may win"));
    // A window wholly in the border is nobody's maximum.
    let mut n = Net::new();
    let x = n.input(&[1, 2, 6, 6]);
    let y = n.node(pad(&[0, 0, 3, 1], &[0, 0, 1, 1], f32::NEG_INFINITY), &[x]);
    let y = n.node(max_pool(&[0; 4]), &[y]);
    n.output(y);
    assert_eq!(ops(&run(&Simplify, &n).0), ["Pad", "MaxPool"]);
}

#[test]
fn graphs_with_layouts_are_refused() {
    let mut n = Net::new();
    let x = n.input(&[1, 2, 3, 3]);
    let y = n.node(NEG, &[x]);
    n.output(y);
    n.0.set_layout(y, sdc_ir::graph::Layout::channels_last(4));
    let error = crate::pass::Pass::run(&Simplify, &n.0, &mut crate::pass::Ctx::new("simplify")).unwrap_err();
    assert!(matches!(error, crate::pass::PassError::AfterLayout(_)), "{error}");
}
