//! Sequences whose length is known at compile time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{A, f32s, graph, i64s, import, info, model, node};
use sdc_frontend::proto::NodeProto;
use sdc_ir::{DType, Tensor};

/// The result `y` of nodes on `x`, which is `[2,4]` with the elements 0, 1, ..
fn result(nodes: Vec<NodeProto>, weights: Vec<(&str, Tensor)>) -> Result<Vec<f64>, String> {
    let m = model(
        17,
        graph(nodes, vec![info("x", DType::F32, &[2, 4])], weights, "y"),
    );
    let imported = import(m).map_err(|e| e.to_string())?;
    let x: Vec<f32> = (0..8).map(|i| i as f32).collect();
    let outputs = sdc_interp::run_graph(&imported.graph, &[f32s(&[2, 4], &x)]).map_err(|e| e.to_string())?;
    Ok(outputs[0].to_f64_vec())
}

fn split(attributes: Vec<(&str, A)>, operands: &str) -> NodeProto {
    node("SplitToSequence", operands, "s", attributes)
}

#[test]
fn a_piece_is_taken_from_either_end() {
    for (at, expected) in [(1, [1.0, 5.0]), (-1, [3.0, 7.0])] {
        let nodes = vec![
            split(vec![("axis", A::Int(1)), ("keepdims", A::Int(0))], "x"),
            node("SequenceAt", "s at", "y", vec![]),
        ];
        assert_eq!(result(nodes, vec![("at", i64s(&[at]))]).unwrap(), expected);
    }
}

#[test]
fn pieces_move_and_come_together() {
    let nodes = vec![
        split(vec![("axis", A::Int(1))], "x sizes"),
        node("SequenceAt", "s zero", "first", vec![]),
        node("SequenceErase", "s zero", "rest", vec![]),
        node("SequenceInsert", "rest first", "turned", vec![]),
        node("ConcatFromSequence", "turned", "y", vec![("axis", A::Int(1))]),
    ];
    let weights = vec![("sizes", i64s(&[1, 3])), ("zero", i64s(&[0]))];
    assert_eq!(result(nodes, weights).unwrap(), [1., 2., 3., 0., 5., 6., 7., 4.]);
}

#[test]
fn made_of_tensors_and_stacked() {
    let nodes = vec![
        node("SequenceEmpty", "", "none", vec![("dtype", A::Int(1))]),
        node("SequenceInsert", "none x", "one", vec![]),
        node("SequenceLength", "one", "length", vec![]),
        node("SequenceConstruct", "x x", "two", vec![]),
        node("SequenceAt", "two length", "last", vec![]),
        node("SequenceInsert", "one last", "both", vec![]),
        node(
            "ConcatFromSequence",
            "both",
            "y",
            vec![("axis", A::Int(0)), ("new_axis", A::Int(1))],
        ),
    ];
    let x: Vec<f64> = (0..8).map(f64::from).collect();
    assert_eq!(result(nodes, vec![]).unwrap(), [x.clone(), x].concat());
}

#[test]
fn what_is_no_sequence_or_beyond_it_is_said() {
    let of_tensor = vec![node("SequenceAt", "x at", "y", vec![])];
    let beyond = vec![split(vec![], "x"), node("SequenceAt", "s at", "y", vec![])];
    let as_tensor = vec![split(vec![], "x"), node("Relu", "s", "y", vec![])];
    let short = vec![split(vec![], "x sizes"), node("SequenceAt", "s at", "y", vec![])];
    for (nodes, reason) in [
        (of_tensor, "`x` is a tensor, not a sequence"),
        (beyond, "position 2 of a sequence of 2 tensors"),
        (as_tensor, "`s` is a sequence, where a tensor is needed"),
        (short, "the pieces do not add up to the 2 elements"),
    ] {
        let weights = vec![("at", i64s(&[2])), ("sizes", i64s(&[1, 3]))];
        let error = result(nodes, weights).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}
