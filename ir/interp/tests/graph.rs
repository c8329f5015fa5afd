//! Whole graphs.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use common::{f32s, t, ti};
use sdc_interp::{EvalError, run_graph, run_graph_values};
use sdc_ir::DType;
use sdc_ir::graph::op::*;
use sdc_ir::graph::{BinaryOp, Graph, Op, Origin, TensorType, UnaryOp};

fn origin(name: &str) -> Vec<Origin> {
    vec![Origin {
        name: name.into(),
        op: "Op".into(),
        index: 3,
    }]
}

/// `y = relu(x + w)`, `z = x` as a second output, and a node that nothing needs.
fn graph() -> Graph {
    let mut g = Graph::new("g");
    let x = g.add_input("x", TensorType::new(DType::F32, [2]));
    let w = g.add_constant(t(&[2], &[10.0, -10.0]), origin("w"));
    let sum = g.add1(Op::Binary(BinaryOp::Add), &[x, w], origin("sum")).unwrap();
    g.add1(Op::Unary(UnaryOp::Exp), &[sum], origin("dead")).unwrap();
    let y = g.add1(Op::Unary(UnaryOp::Relu), &[sum], origin("relu")).unwrap();
    g.add_output("y", y);
    g.add_output("z", x);
    g.add_output("y again", y);
    g
}

#[test]
fn outputs_come_in_order() {
    let out = run_graph(&graph(), &[t(&[2], &[1.0, 2.0])]).unwrap();
    let out: Vec<Vec<f32>> = out.iter().map(f32s).collect();
    assert_eq!(out, [vec![11.0, 0.0], vec![1.0, 2.0], vec![11.0, 0.0]]);
}

#[test]
fn every_needed_value_is_visited() {
    let g = graph();
    let mut seen = Vec::new();
    run_graph_values(&g, &[t(&[2], &[1.0, 2.0])], |v, x| {
        assert_eq!(g.ty(v).sizes(), x.shape());
        seen.push(v.to_string());
    })
    .unwrap();
    // %3 is the dead one.
    assert_eq!(seen, ["%0", "%1", "%2", "%4"]);
}

#[test]
fn inputs_are_checked() {
    let g = graph();
    assert!(matches!(
        run_graph(&g, &[]),
        Err(EvalError::InputCount {
            expected: 1,
            actual: 0
        })
    ));
    for x in [t(&[3], &[0.0; 3]), ti(&[2], &[0; 2])] {
        let error = run_graph(&g, &[x]).unwrap_err();
        assert!(
            matches!(&error, EvalError::InputType { name, .. } if name == "x"),
            "{error}"
        );
    }
}

#[test]
fn errors_name_the_node() {
    let mut g = Graph::new("g");
    let x = g.add_input("x", TensorType::new(DType::I64, [1, 1]));
    let op = MatMul {
        bias: false,
        residual: false,
        act: Activation::Relu,
    };
    let y = g.push_node(op.into(), vec![x, x], vec![g.ty(x).clone()], origin("product"))[0];
    g.add_output("y", y);
    let error = run_graph(&g, &[ti(&[1, 1], &[2])]).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("n0") && text.contains("MatMul") && text.contains("product"),
        "{text}"
    );
    assert!(
        matches!(error, EvalError::Node { source, .. } if matches!(*source, EvalError::Unsupported { .. }))
    );
}

#[test]
fn declared_types_must_be_the_operators() {
    let mut g = Graph::new("g");
    let x = g.add_input("x", TensorType::new(DType::F32, [2]));
    let y = g.push_node(
        Op::Unary(UnaryOp::Relu),
        vec![x],
        vec![TensorType::new(DType::F32, [3])],
        origin("relu"),
    )[0];
    g.add_output("y", y);
    let error = run_graph(&g, &[t(&[2], &[0.0; 2])]).unwrap_err();
    assert!(error.to_string().contains("declares %1 to be f32[3]"), "{error}");
}

#[test]
fn a_value_used_before_its_definition_is_an_error() {
    let mut g = Graph::new("g");
    let ty = TensorType::new(DType::F32, [1]);
    let x = g.add_input("x", ty.clone());
    // The second node is the operand of the first.
    let first = g.push_node(
        Op::Unary(UnaryOp::Relu),
        vec![sdc_ir::entity::EntityId::new(2)],
        vec![ty],
        origin("a"),
    )[0];
    g.add1(Op::Unary(UnaryOp::Neg), &[x], origin("b")).unwrap();
    g.add_output("y", first);
    let error = run_graph(&g, &[t(&[1], &[0.0])]).unwrap_err();
    assert!(error.to_string().contains("%2 has no definition"), "{error}");
}
