//! Bodies: If, Loop and Scan, against what their iterations amount to.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use sdc_frontend::proto::{GraphProto, NodeProto, ValueInfoProto};
use sdc_frontend::{Class, Imported};
use sdc_ir::{DType, Tensor};

fn body(
    nodes: Vec<NodeProto>,
    inputs: &[ValueInfoProto],
    weights: Vec<(&str, Tensor)>,
    outputs: &str,
) -> GraphProto {
    graph(nodes, inputs.to_vec(), weights, outputs)
}

fn scalar(name: &str, dtype: DType) -> ValueInfoProto {
    info(name, dtype, &[])
}

fn run_model(imported: &Imported, inputs: &[Tensor]) -> Vec<Tensor> {
    sdc_interp::run_graph(&imported.graph, inputs).unwrap()
}

/// `s' = s + x_t`, and every `s' * 2`.
fn sums() -> GraphProto {
    let inputs = [info("s", DType::F32, &[2]), info("e", DType::F32, &[2])];
    let nodes = vec![node("Add", "s e", "t", vec![]), node("Mul", "t two", "d", vec![])];
    body(nodes, &inputs, vec![("two", f32s(&[], &[2.0]))], "t d")
}

#[test]
fn scan_is_unrolled() {
    let inputs = || vec![info("s0", DType::F32, &[2]), info("x", DType::F32, &[3, 2])];
    let run = |attributes: Vec<(&str, A)>| {
        let mut all = vec![("body", A::Graph(sums())), ("num_scan_inputs", A::Int(1))];
        all.extend(attributes);
        let m = model(
            9,
            graph(
                vec![node("Scan", "s0 x", "last y", all)],
                inputs(),
                vec![],
                "last y",
            ),
        );
        let given = [
            f32s(&[2], &[10.0, 20.0]),
            f32s(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ];
        run_model(&import(m).unwrap(), &given)
    };
    let plain = run(vec![]);
    assert_eq!(plain[0], f32s(&[2], &[19.0, 32.0]));
    assert_eq!(plain[1], f32s(&[3, 2], &[22.0, 44.0, 28.0, 52.0, 38.0, 64.0]));
    let turned = run(vec![
        ("scan_input_directions", A::Ints(&[1])),
        ("scan_output_directions", A::Ints(&[1])),
        ("scan_output_axes", A::Ints(&[-1])),
    ]);
    assert_eq!(turned[0], plain[0]);
    // The last element comes first, and its result is put last; steps are columns.
    assert_eq!(turned[1], f32s(&[2, 3], &[38.0, 36.0, 30.0, 64.0, 60.0, 52.0]));
}

/// Version 8 has a batch, and an operand for lengths that may be left out.
#[test]
fn scan_8_has_a_batch() {
    let inputs = vec![info("s0", DType::F32, &[2, 2]), info("x", DType::F32, &[2, 1, 2])];
    let attributes = vec![("body", A::Graph(sums())), ("num_scan_inputs", A::Int(1))];
    let m = model(
        8,
        graph(
            vec![node("Scan", "_ s0 x", "last y", attributes)],
            inputs,
            vec![],
            "last y",
        ),
    );
    let given = [
        f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]),
        f32s(&[2, 1, 2], &[10.0, 20.0, 30.0, 40.0]),
    ];
    let results = run_model(&import(m).unwrap(), &given);
    assert_eq!(results[0], f32s(&[2, 2], &[11.0, 22.0, 33.0, 44.0]));
    assert_eq!(results[1], f32s(&[2, 1, 2], &[22.0, 44.0, 66.0, 88.0]));
}

/// A loop that doubles its state while it is below a bound; `count` bounds its trips.
fn doubling(count: Option<i64>, bound_is_input: bool, scan: bool) -> sdc_frontend::proto::ModelProto {
    let inputs = [
        scalar("i", DType::I64),
        scalar("go", DType::Bool),
        info("s", DType::F32, &[1]),
    ];
    let nodes = vec![
        node("Add", "s s", "t", vec![]),
        node("ReduceSum", "t", "r", vec![("keepdims", A::Int(0))]),
        node("Less", "r bound", "on", vec![]),
    ];
    let b = body(nodes, &inputs, vec![], if scan { "on t t" } else { "on t" });
    let mut weights = vec![(
        "true",
        Tensor::new(DType::Bool, vec![], vec![1u8].into()).unwrap(),
    )];
    let mut ports = vec![info("x", DType::F32, &[1])];
    if let Some(n) = count {
        weights.push(("n", Tensor::scalar(n)));
    }
    if bound_is_input {
        ports.push(scalar("bound", DType::F32));
    } else {
        weights.push(("bound", f32s(&[], &[5.0])));
    }
    let names = if scan { "y all" } else { "y" };
    let operands = if count.is_some() { "n true x" } else { "_ true x" };
    let nodes = vec![node("Loop", operands, names, vec![("body", A::Graph(b))])];
    model(13, graph(nodes, ports, weights, names))
}

#[test]
fn loops_end_by_count_or_by_condition() {
    // The condition is known at run time only: further trips change nothing.
    let imported = import(doubling(Some(6), true, false)).unwrap();
    for (x, bound, wanted) in [(1.0, 5.0, 8.0), (1.0, 1000.0, 64.0), (7.0, 5.0, 14.0)] {
        let y = run_model(&imported, &[f32s(&[1], &[x]), f32s(&[], &[bound])]);
        assert_eq!(y[0], f32s(&[1], &[wanted]), "{x} {bound}");
    }
    // Nothing bounds the trips, or the length of what they collect.
    for (m, what) in [
        (doubling(None, true, false), "no count"),
        (doubling(Some(6), true, true), "collects"),
    ] {
        let errors = import(m).unwrap_err();
        assert_eq!(errors.class(), Class::Unsupported, "{what}: {errors}");
        assert!(errors.to_string().contains("E0206"), "{errors}");
    }
    let errors = import(doubling(Some(1 << 40), true, false)).unwrap_err();
    assert_eq!(errors.class(), Class::Limit, "{errors}");
}

#[test]
fn a_loop_of_constants_vanishes() {
    let inputs = [
        scalar("i", DType::I64),
        scalar("go", DType::Bool),
        info("s", DType::F32, &[]),
    ];
    let nodes = vec![
        node("Cast", "i", "f", vec![("to", A::Int(1))]),
        node("Add", "s f", "t", vec![]),
        node("Less", "t ten", "on", vec![]),
    ];
    let b = body(nodes, &inputs, vec![("ten", f32s(&[], &[10.0]))], "on t t");
    let weights = vec![("s0", f32s(&[], &[0.0]))];
    let nodes = vec![node("Loop", "_ _ s0", "y all", vec![("body", A::Graph(b))])];
    let imported = import(model(13, graph(nodes, vec![], weights, "y all"))).unwrap();
    let constant = |k: usize| {
        imported
            .graph
            .constant(imported.graph.outputs[k].value)
            .unwrap()
            .clone()
    };
    assert_eq!(constant(0), f32s(&[], &[10.0]));
    assert_eq!(constant(1), f32s(&[5], &[0.0, 1.0, 3.0, 6.0, 10.0]));
}

#[test]
fn an_if_at_run_time_computes_both_branches() {
    let branch = |op: &str, shape: &[i64]| {
        let k = f32s(
            &shape.iter().map(|&d| d as usize).collect::<Vec<_>>(),
            &[3.0; 4][..shape.iter().product::<i64>() as usize],
        );
        body(vec![node(op, "x k", "r", vec![])], &[], vec![("k", k)], "r")
    };
    let m = |other: &[i64]| {
        let attributes = vec![
            ("then_branch", A::Graph(branch("Add", &[2]))),
            ("else_branch", A::Graph(branch("Mul", other))),
        ];
        let inputs = vec![scalar("c", DType::Bool), info("x", DType::F32, &[2])];
        model(
            13,
            graph(vec![node("If", "c", "y", attributes)], inputs, vec![], "y"),
        )
    };
    let imported = import(m(&[2])).unwrap();
    for (condition, wanted) in [(1u8, [4.0, 5.0]), (0, [3.0, 6.0])] {
        let c = Tensor::new(DType::Bool, vec![], vec![condition].into()).unwrap();
        assert_eq!(
            run_model(&imported, &[c, f32s(&[2], &[1.0, 2.0])])[0],
            f32s(&[2], &wanted)
        );
    }
    let errors = import(m(&[2, 1])).unwrap_err().to_string();
    assert!(
        errors.contains("E0206") && errors.contains("f32[2,2]"),
        "{errors}"
    );
}
