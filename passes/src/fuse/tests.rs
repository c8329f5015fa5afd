use super::Fuse;
use crate::testing::{Net, acted, conv3, ops, reason, run};
use sdc_ir::Tensor;
use sdc_ir::graph::op::*;
use sdc_ir::graph::{BinaryOp, Graph, Op, UnaryOp, Value};

const RELU: Op = Op::Unary(UnaryOp::Relu);
const ADD: Op = Op::Binary(BinaryOp::Add);
const MUL: Op = Op::Binary(BinaryOp::Mul);

fn batch_norm(n: &mut Net, x: Value) -> Value {
    let c = n.0.ty(x).sizes()[1];
    let (scale, bias, mean) = (n.weights(&[c]), n.weights(&[c]), n.weights(&[c]));
    let var = (0..c).map(|i| 0.3 + i as f32 * 0.2).collect();
    let var = n.constant(Tensor::from_elements(vec![c], var).unwrap());
    n.node(BatchNormalization { epsilon: 1e-3 }, &[x, scale, bias, mean, var])
}

fn fused(build: impl FnOnce(&mut Net) -> Value) -> (Graph, Vec<crate::pass::Remark>) {
    let mut net = Net::new();
    let y = build(&mut net);
    net.output(y);
    run(&Fuse, &net)
}

fn last(g: &Graph) -> &sdc_ir::graph::NodeData {
    g.nodes().values().last().unwrap()
}

fn conv_of(g: &Graph) -> &Conv {
    match &last(g).op {
        Op::Conv(c) => c,
        other => panic!("{other:?}"),
    }
}

#[test]
fn everything_at_once() {
    let (g, remarks) = fused(|n| {
        let x = n.input(&[2, 3, 5, 6]);
        let shortcut = n.input(&[2, 4, 5, 6]);
        let y = n.conv(x, 4);
        let y = batch_norm(n, y);
        let c = n.weights(&[4, 1, 1]);
        let y = n.node(MUL, &[y, c]);
        let c = n.weights(&[1, 4, 1, 1]);
        let y = n.node(ADD, &[c, y]);
        let y = n.node(ADD, &[shortcut, y]);
        n.node(Clip { min: 0.0, max: 6.0 }, &[y])
    });
    assert_eq!(ops(&g), ["Conv"], "{remarks:#?}");
    let conv = conv_of(&g);
    assert!(conv.bias && conv.residual);
    assert_eq!(conv.act, Activation::Clip { min: 0.0, max: 6.0 });
    let origins: Vec<&str> = last(&g).origins.iter().map(|o| o.op.as_str()).collect();
    assert_eq!(
        origins,
        ["Conv", "BatchNormalization", "Mul", "Add", "Add", "Clip"]
    );
}

#[test]
fn grouped_and_depthwise_convolutions() {
    for (channels, filters, group) in [(4, 6, 2), (4, 4, 4), (3, 6, 3)] {
        let (g, _) = fused(|n| {
            let x = n.input(&[1, channels, 5, 5]);
            let w = n.weights(&[filters, channels / group, 3, 3]);
            let y = n.node(Conv { group, ..conv3() }, &[x, w]);
            let y = batch_norm(n, y);
            n.node(RELU, &[y])
        });
        assert_eq!(ops(&g), ["Conv"]);
    }
}

#[test]
fn transposed_convolutions() {
    for (channels, per_group, group) in [(4, 3, 1), (4, 3, 2), (4, 1, 4)] {
        let (g, _) = fused(|n| {
            let x = n.input(&[1, channels, 4, 4]);
            let (w, b) = (
                n.weights(&[channels, per_group, 3, 2]),
                n.weights(&[per_group * group]),
            );
            let op = ConvTranspose {
                strides: vec![2, 2],
                pads: vec![1, 0, 1, 0],
                dilations: vec![1, 1],
                output_padding: vec![1, 0],
                group,
                bias: true,
                act: Activation::None,
            };
            let y = n.node(op, &[x, w, b]);
            let y = batch_norm(n, y);
            n.node(LeakyRelu { alpha: 0.1 }, &[y])
        });
        assert_eq!(ops(&g), ["ConvTranspose"]);
    }
}

fn mat_mul() -> MatMul {
    MatMul {
        bias: false,
        residual: false,
        act: Activation::None,
    }
}

#[test]
fn matrix_products() {
    let (g, _) = fused(|n| {
        let (x, r) = (n.input(&[3, 4]), n.input(&[3, 5]));
        let w = n.weights(&[4, 5]);
        let y = n.node(mat_mul(), &[x, w]);
        let b = n.weights(&[5]);
        let y = n.node(ADD, &[y, b]);
        let y = batch_norm(n, y);
        let c = n.weights(&[5]);
        let y = n.node(Op::Binary(BinaryOp::Div), &[y, c]);
        let c = n.weights(&[]);
        let y = n.node(Op::Binary(BinaryOp::Sub), &[y, c]);
        let y = n.node(ADD, &[y, r]);
        n.node(RELU, &[y])
    });
    assert_eq!(ops(&g), ["MatMul"]);
    assert_eq!(
        last(&g).op,
        MatMul {
            bias: true,
            residual: true,
            act: Activation::Relu
        }
        .into()
    );
}

#[test]
fn batch_norm_of_a_batched_product_is_not_per_filter() {
    let (g, remarks) = fused(|n| {
        let (x, w) = (n.input(&[2, 3, 4]), n.weights(&[4, 3]));
        let y = n.node(mat_mul(), &[x, w]);
        batch_norm(n, y)
    });
    assert_eq!(ops(&g), ["MatMul", "Mul", "Add"]);
    assert!(reason(&remarks, "batch_norm_into_linear").contains("dimension 1"));
}

#[test]
fn batch_norm_alone_becomes_scale_and_shift() {
    let (g, remarks) = fused(|n| {
        let x = n.input(&[2, 3, 4, 4]);
        batch_norm(n, x)
    });
    assert_eq!(ops(&g), ["Mul", "Add"]);
    assert!(acted(&remarks, "batch_norm_to_scale"));
}

#[test]
fn a_second_reader_forbids_fusion() {
    let mut n = Net::new();
    let x = n.input(&[1, 3, 5, 5]);
    let y = n.conv(x, 3);
    let b = batch_norm(&mut n, y);
    let z = n.node(ADD, &[b, y]);
    n.output(z);
    let (g, remarks) = run(&Fuse, &n);
    assert_eq!(ops(&g), ["Conv", "Mul", "Add", "Add"]);
    assert!(
        reason(&remarks, "batch_norm_into_linear").contains("another reader"),
        "{remarks:#?}"
    );

    // A graph output is a reader too.
    let mut n = Net::new();
    let x = n.input(&[1, 3, 5, 5]);
    let y = n.conv(x, 3);
    let z = n.node(RELU, &[y]);
    n.output(y);
    n.output(z);
    let (g, remarks) = run(&Fuse, &n);
    assert_eq!(ops(&g), ["Conv", "Relu"]);
    assert!(reason(&remarks, "activation_into_linear").contains("another reader"));

    // x + x reads twice.
    let (g, _) = fused(|n| {
        let x = n.input(&[1, 3, 5, 5]);
        let y = n.conv(x, 3);
        n.node(ADD, &[y, y])
    });
    assert_eq!(ops(&g), ["Conv", "Add"]);
}

#[test]
fn shared_weights_are_not_copied() {
    let (g, remarks) = fused(|n| {
        let x = n.input(&[1, 3, 5, 5]);
        let w = n.weights(&[3, 3, 3, 3]);
        let y = n.node(conv3(), &[x, w]);
        let y = batch_norm(n, y);
        n.node(conv3(), &[y, w])
    });
    assert_eq!(ops(&g), ["Conv", "Mul", "Add", "Conv"]);
    assert!(reason(&remarks, "batch_norm_into_linear").contains("shared"));
}

#[test]
fn nothing_but_an_activation_follows_a_residual_and_nothing_an_activation() {
    let (g, remarks) = fused(|n| {
        let (x, r) = (n.input(&[1, 3, 5, 5]), n.input(&[1, 3, 5, 5]));
        let y = n.conv(x, 3);
        let y = n.node(RELU, &[y]);
        n.node(ADD, &[y, r])
    });
    assert_eq!(ops(&g), ["Conv", "Add"]);
    assert!(reason(&remarks, "residual_into_linear").contains("already ends in an activation"));

    let (g, remarks) = fused(|n| {
        let (x, r) = (n.input(&[1, 3, 5, 5]), n.input(&[1, 3, 5, 5]));
        let y = n.conv(x, 3);
        let y = n.node(ADD, &[y, r]);
        let c = n.weights(&[3, 1, 1]);
        n.node(MUL, &[y, c])
    });
    assert_eq!(ops(&g), ["Conv", "Mul"]);
    assert!(reason(&remarks, "scale_into_linear").contains("residual"));

    let (g, _) = fused(|n| {
        let x = n.input(&[1, 3, 5, 5]);
        let y = n.conv(x, 3);
        let y = n.node(RELU, &[y]);
        n.node(LeakyRelu { alpha: 0.5 }, &[y])
    });
    assert_eq!(ops(&g), ["Conv", "LeakyRelu"]);
}

#[test]
fn the_later_of_two_convolutions_takes_the_residual() {
    let (g, _) = fused(|n| {
        let x = n.input(&[1, 3, 5, 5]);
        let a = n.conv(x, 3);
        let b = n.conv(x, 3);
        let y = n.node(ADD, &[b, a]);
        n.node(RELU, &[y])
    });
    assert_eq!(ops(&g), ["Conv", "Conv"]);
    let origins: Vec<u32> = last(&g).origins.iter().map(|o| o.index).collect();
    // Nodes 0 and 2 are weights: the second convolution is node 3.
    assert_eq!(origins, [3, 4, 5]);

    // If the later one cannot, the earlier one does, after it.
    let (g, _) = fused(|n| {
        let x = n.input(&[1, 3, 5, 5]);
        let a = n.conv(x, 3);
        let b = n.conv(x, 3);
        let b = n.node(RELU, &[b]);
        n.node(ADD, &[a, b])
    });
    assert_eq!(ops(&g), ["Conv", "Conv"]);
    assert!(conv_of(&g).residual);
}

#[test]
fn a_residual_has_the_shape_of_the_result() {
    let (g, remarks) = fused(|n| {
        let (x, r) = (n.input(&[2, 3, 5, 5]), n.input(&[1, 3, 5, 5]));
        let y = n.conv(x, 3);
        n.node(ADD, &[y, r])
    });
    assert_eq!(ops(&g), ["Conv", "Add"]);
    assert!(reason(&remarks, "residual_into_linear").contains("shape"));
}

#[test]
fn weights_that_are_not_constant() {
    let (g, remarks) = fused(|n| {
        let (x, w) = (n.input(&[1, 3, 5, 5]), n.input(&[4, 3, 3, 3]));
        let y = n.node(conv3(), &[x, w]);
        let c = n.weights(&[4, 1, 1]);
        let y = n.node(ADD, &[y, c]);
        let c = n.weights(&[4, 1, 1]);
        n.node(MUL, &[y, c])
    });
    assert_eq!(ops(&g), ["Conv", "Mul"]);
    assert!(reason(&remarks, "scale_into_linear").contains("not constant"));
    assert!(conv_of_first(&g).bias);
}

fn conv_of_first(g: &Graph) -> &Conv {
    g.nodes()
        .values()
        .find_map(|n| match &n.op {
            Op::Conv(c) => Some(c),
            _ => None,
        })
        .unwrap()
}

#[test]
fn factors_that_are_not_finite_are_left_alone() {
    let (g, remarks) = fused(|n| {
        let x = n.input(&[1, 3, 5, 5]);
        let y = n.conv(x, 2);
        let c = n.full(&[2, 1, 1], 0.0);
        n.node(Op::Binary(BinaryOp::Div), &[y, c])
    });
    assert_eq!(ops(&g), ["Conv", "Div"]);
    assert!(reason(&remarks, "scale_into_linear").contains("not finite"));
}

#[test]
fn constants_along_another_dimension_are_not_biases() {
    let (g, _) = fused(|n| {
        let x = n.input(&[1, 3, 5, 5]);
        let y = n.conv(x, 5);
        let c = n.weights(&[5]);
        n.node(ADD, &[y, c])
    });
    assert_eq!(ops(&g), ["Conv", "Add"]);
}

/// Each factor costs a copy of the weights: a long chain must not take memory without bounds.
#[test]
fn long_chains_of_factors_stop_fusing() {
    let (g, remarks) = fused(|n| {
        let (x, w) = (n.input(&[1, 512]), n.weights(&[512, 512]));
        let mut y = n.node(mat_mul(), &[x, w]);
        for i in 0..40 {
            let c = n.full(&[], if i % 2 == 0 { 3.0 } else { 0.25 });
            y = n.node(MUL, &[y, c]);
        }
        y
    });
    let left = ops(&g).len();
    assert!((2..40).contains(&left), "{left}");
    assert!(reason(&remarks, "scale_into_linear").contains("too much work"));
}
