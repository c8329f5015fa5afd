//! Operators, one at a time: imported and run in the interpreter, against recorded results of ONNX Runtime and against
//! formulas written out here.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says why it was skipped"
)]

mod common;

use bytes::Bytes;
use common::*;
use sdc_frontend::{ImportOptions, read_tensor_pb, supported_operators};
use sdc_ir::graph::Op;
use sdc_ir::{DType, Tensor};
use std::collections::BTreeSet;

struct Case {
    description: String,
    model: Bytes,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

/// Reads the file that `onnx/make.py` writes.
fn recorded() -> Vec<Case> {
    let mut rest = Bytes::from_static(include_bytes!("onnx/cases.bin"));
    let mut cases = Vec::new();
    let number = |rest: &mut Bytes| u32::from_le_bytes(rest.split_to(4)[..].try_into().unwrap()) as usize;
    while !rest.is_empty() {
        let count = number(&mut rest);
        let parts: Vec<Bytes> = (0..count)
            .map(|_| {
                let len = number(&mut rest);
                rest.split_to(len)
            })
            .collect();
        let inputs = usize::from(parts[2][0]);
        let tensors: Vec<Tensor> = parts[3..]
            .iter()
            .map(|p| read_tensor_pb(p.clone()).unwrap().1)
            .collect();
        cases.push(Case {
            description: String::from_utf8(parts[0].to_vec()).unwrap(),
            model: parts[1].clone(),
            inputs: tensors[..inputs].to_vec(),
            outputs: tensors[inputs..].to_vec(),
        });
    }
    cases
}

/// Largest difference, relative where values exceed 1; infinite if shape, type or a NaN differ.
fn difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    if (ours.shape(), ours.dtype()) != (theirs.shape(), theirs.dtype()) {
        return f64::INFINITY;
    }
    let pairs = ours.to_f64_vec().into_iter().zip(theirs.to_f64_vec());
    pairs.fold(0.0, |worst: f64, (a, b)| {
        let d = match (a.is_nan(), b.is_nan()) {
            (true, true) => 0.0,
            (false, false) if a == b => 0.0,
            (false, false) => (a - b).abs() / b.abs().max(1.0),
            _ => f64::INFINITY,
        };
        worst.max(d)
    })
}

#[test]
fn recorded_results_of_onnx_runtime() {
    let cases = recorded();
    assert!(cases.len() > 400);
    let mut wrong = Vec::new();
    for case in &cases {
        let text = &case.description;
        let imported = match sdc_frontend::import(case.model.clone(), &ImportOptions::default()) {
            Ok(imported) => imported,
            Err(e) => {
                wrong.push(format!("{text}: {e}"));
                continue;
            }
        };
        let outputs = match sdc_interp::run_graph(&imported.graph, &case.inputs) {
            Ok(outputs) => outputs,
            Err(e) => {
                wrong.push(format!("{text}: {e}"));
                continue;
            }
        };
        assert_eq!(outputs.len(), case.outputs.len(), "{text}");
        for (ours, theirs) in outputs.iter().zip(&case.outputs) {
            let d = difference(ours, theirs);
            let allowed = sdc_interp::compare::granted(ours.dtype()).max(2e-5);
            if d > allowed {
                wrong.push(format!(
                    "{text}: {d:e}, {:?} for {:?}",
                    ours.shape(),
                    theirs.shape()
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

const XS: [f32; 8] = [-2.5, -1.0, -0.5, 0.0, 0.25, 0.75, 1.5, 3.0];

type Function = fn(f64) -> f64;

#[test]
fn element_wise_functions() {
    let x = f32s(&[2, 4], &XS);
    let cases: [(&str, i64, Function); 14] = [
        ("Abs", 13, f64::abs),
        ("Neg", 13, |x| -x),
        ("Exp", 13, f64::exp),
        ("Log", 13, f64::ln),
        ("Sqrt", 13, f64::sqrt),
        ("Floor", 13, f64::floor),
        ("Ceil", 13, f64::ceil),
        ("Tanh", 13, f64::tanh),
        ("Sigmoid", 13, |x| 1.0 / (1.0 + (-x).exp())),
        ("Relu", 13, |x| x.max(0.0)),
        ("Sin", 7, f64::sin),
        ("Cos", 7, f64::cos),
        ("Identity", 13, |x| x),
        ("Swish", 24, |x| x / (1.0 + (-x).exp())),
    ];
    for (op, opset, f) in cases {
        let y = run(opset, op, vec![], std::slice::from_ref(&x)).unwrap();
        let wanted: Vec<f32> = XS.iter().map(|&x| f(f64::from(x)) as f32).collect();
        assert!(difference(&y, &f32s(&[2, 4], &wanted)) < 1e-6, "{op}");
    }
}

fn bools(values: &[bool]) -> Tensor {
    let bytes: Vec<u8> = values.iter().map(|&b| u8::from(b)).collect();
    Tensor::new(DType::Bool, vec![values.len()], bytes.into()).unwrap()
}

#[test]
fn two_operands_and_selection() {
    let (a, b) = (f32s(&[3], &[1.0, 2.0, 3.0]), f32s(&[3], &[3.0, 2.0, 1.0]));
    let pair = [a.clone(), b.clone()];
    for (op, wanted) in [
        ("Add", [4.0, 4.0, 4.0]),
        ("Sub", [-2.0, 0.0, 2.0]),
        ("Mul", [3.0, 4.0, 3.0]),
        ("Div", [1.0 / 3.0, 1.0, 3.0]),
        ("Max", [3.0, 2.0, 3.0]),
        ("Min", [1.0, 2.0, 1.0]),
    ] {
        assert!(
            difference(&run(13, op, vec![], &pair).unwrap(), &f32s(&[3], &wanted)) < 1e-6,
            "{op}"
        );
    }
    for (op, wanted) in [
        ("Equal", [false, true, false]),
        ("Less", [true, false, false]),
        ("LessOrEqual", [true, true, false]),
        ("Greater", [false, false, true]),
        ("GreaterOrEqual", [false, true, true]),
    ] {
        assert_eq!(run(16, op, vec![], &pair).unwrap(), bools(&wanted), "{op}");
    }
    let (t, f) = (bools(&[true, true, false]), bools(&[true, false, false]));
    for (op, wanted) in [
        ("And", [true, false, false]),
        ("Or", [true, true, false]),
        ("Xor", [false, true, false]),
    ] {
        assert_eq!(
            run(13, op, vec![], &[t.clone(), f.clone()]).unwrap(),
            bools(&wanted),
            "{op}"
        );
    }
    assert_eq!(
        run(13, "Not", vec![], std::slice::from_ref(&t)).unwrap(),
        bools(&[false, false, true])
    );
    assert_eq!(
        run(13, "Where", vec![], &[t, a.clone(), b]).unwrap(),
        f32s(&[3], &[1.0, 2.0, 1.0])
    );
    let gated = run(28, "SwiGLU", vec![("alpha", A::Float(2.0))], &[a.clone(), a]).unwrap();
    let swiglu = |x: f32| x / (1.0 + (-2.0 * x).exp()) * x;
    assert!(difference(&gated, &f32s(&[3], &[swiglu(1.0), swiglu(2.0), swiglu(3.0)])) < 1e-6);
}

#[test]
fn conversion_and_infinities() {
    let x = f32s(&[4], &[-1.7, 2.6, f32::INFINITY, f32::NEG_INFINITY]);
    let small = f32s(&[2], &[-1.7, 2.6]);
    let cast = run(13, "Cast", vec![("to", A::Int(7))], std::slice::from_ref(&small)).unwrap();
    assert_eq!(cast, i64s(&[-1, 2]));
    assert_eq!(run(15, "CastLike", vec![], &[small, i64s(&[0])]).unwrap(), cast);
    let only = |positive, negative| {
        let attributes = vec![
            ("detect_positive", A::Int(positive)),
            ("detect_negative", A::Int(negative)),
        ];
        run(10, "IsInf", attributes, std::slice::from_ref(&x)).unwrap()
    };
    assert_eq!(only(1, 1), bools(&[false, false, true, true]));
    assert_eq!(only(1, 0), bools(&[false, false, true, false]));
    assert_eq!(only(0, 1), bools(&[false, false, false, true]));
    assert_eq!(only(0, 0), bools(&[false; 4]));
}

#[test]
fn normalisations_by_formula() {
    let x = f32s(&[1, 2, 2], &[1.0, 3.0, -2.0, 6.0]);
    let y = run(
        13,
        "MeanVarianceNormalization",
        vec![("axes", A::Ints(&[2]))],
        std::slice::from_ref(&x),
    )
    .unwrap();
    assert!(difference(&y, &f32s(&[1, 2, 2], &[-1.0, 1.0, -1.0, 1.0])) < 1e-6);
    let rms = run(
        23,
        "RMSNormalization",
        vec![("epsilon", A::Float(0.0))],
        &[x, f32s(&[2], &[1.0, 10.0])],
    )
    .unwrap();
    let (r1, r2) = (5.0f32.sqrt(), 20.0f32.sqrt());
    assert!(
        difference(
            &rms,
            &f32s(&[1, 2, 2], &[1.0 / r1, 30.0 / r1, -2.0 / r2, 60.0 / r2])
        ) < 1e-6
    );
}

#[test]
fn extrema_of_nothing() {
    let empty = f32s(&[2, 0], &[]);
    let y = run(
        20,
        "ReduceMax",
        vec![("keepdims", A::Int(0))],
        std::slice::from_ref(&empty),
    )
    .unwrap();
    assert_eq!(y, f32s(&[], &[f32::NEG_INFINITY]));
    let y = run(13, "ReduceMin", vec![("axes", A::Ints(&[1]))], &[empty]).unwrap();
    assert_eq!(y, f32s(&[2, 1], &[f32::INFINITY; 2]));
}

/// What a model computes without inputs.
fn computed(opset: i64, nodes: Vec<sdc_frontend::proto::NodeProto>, weights: Vec<(&str, Tensor)>) -> Tensor {
    let imported = import(model(opset, graph(nodes, vec![], weights, "y"))).unwrap();
    let output = imported.graph.outputs[0].value;
    imported.graph.constant(output).expect("folded away").clone()
}

#[test]
fn constants_in_every_spelling() {
    let constant = |name, value| computed(13, vec![node("Constant", "", "y", vec![(name, value)])], vec![]);
    assert_eq!(constant("value", A::Tensor(i64s(&[4, 5]))), i64s(&[4, 5]));
    assert_eq!(constant("value_float", A::Float(2.5)), f32s(&[], &[2.5]));
    assert_eq!(
        constant("value_floats", A::Floats(&[1.0, 2.0])),
        f32s(&[2], &[1.0, 2.0])
    );
    assert_eq!(constant("value_int", A::Int(7)), Tensor::scalar(7i64));
    assert_eq!(constant("value_ints", A::Ints(&[7, 8])), i64s(&[7, 8]));
    let fill = vec![("value", A::Tensor(i64s(&[3])))];
    let shape = vec![("s", i64s(&[2, 2]))];
    let filled = computed(13, vec![node("ConstantOfShape", "s", "y", fill)], shape);
    assert_eq!(filled, Tensor::from_elements(vec![2, 2], vec![3i64; 4]).unwrap());
}

/// The computation that PyTorch exports for `x.view(x.size(0), -1)`, and its kin: nothing of it may remain.
#[test]
fn shape_computations_vanish() {
    let nodes = vec![
        node("Shape", "x", "s", vec![]),
        node("Gather", "s zero", "n", vec![]),
        node("Unsqueeze", "n axes", "n1", vec![]),
        node("Concat", "n1 minus", "target", vec![("axis", A::Int(0))]),
        node("Reshape", "x target", "flat", vec![]),
        node("Size", "x", "size", vec![]),
        node("Shape", "flat", "y", vec![("start", A::Int(-1))]),
        node("Cast", "size", "z", vec![("to", A::Int(1))]),
    ];
    let weights = vec![
        ("zero", Tensor::scalar(0i64)),
        ("axes", i64s(&[0])),
        ("minus", i64s(&[-1])),
    ];
    let x = info("x", DType::F32, &[2, 3, 4]);
    let imported = import(model(15, graph(nodes, vec![x], weights, "flat y z"))).unwrap();
    let g = &imported.graph;
    let computing: Vec<&str> = g
        .nodes()
        .values()
        .map(|n| n.op.name())
        .filter(|n| *n != "Constant")
        .collect();
    assert_eq!(computing, ["Reshape"]);
    assert_eq!(g.ty(g.outputs[0].value).sizes(), [2, 12]);
    assert_eq!(g.constant(g.outputs[1].value), Some(&i64s(&[12])));
    assert_eq!(g.constant(g.outputs[2].value), Some(&f32s(&[], &[24.0])));
}

#[test]
fn a_known_branch_is_inlined() {
    let branch = |op: &str| {
        let mut g = graph(
            vec![node(op, "x k", "r", vec![])],
            vec![],
            vec![("k", f32s(&[], &[3.0]))],
            "r",
        );
        g.name = Some(op.into());
        g
    };
    let attributes = || {
        vec![
            ("then_branch", A::Graph(branch("Add"))),
            ("else_branch", A::Graph(branch("Mul"))),
        ]
    };
    let x = info("x", DType::F32, &[2]);
    for (condition, wanted) in [(true, [4.0, 5.0]), (false, [3.0, 6.0])] {
        let c = bools(&[condition]).reshaped(vec![]).unwrap();
        let nodes = vec![node("If", "c", "y", attributes())];
        let imported = import(model(13, graph(nodes, vec![x.clone()], vec![("c", c)], "y"))).unwrap();
        let y = sdc_interp::run_graph(&imported.graph, &[f32s(&[2], &[1.0, 2.0])]).unwrap();
        assert_eq!(y[0], f32s(&[2], &wanted));
        let names: Vec<&str> = imported
            .graph
            .nodes()
            .values()
            .map(|n| n.origins[0].name.as_str())
            .collect();
        assert!(names.iter().any(|n| n.starts_with("If_0/")), "{names:?}");
    }
}

#[test]
fn functions_are_inlined() {
    use sdc_frontend::proto::*;
    let mut leaky = node("LeakyRelu", "a", "b", vec![]);
    leaky.attribute.push(AttributeProto {
        name: Some("alpha".into()),
        ref_attr_name: Some("slope".into()),
        r#type: Some(attribute_type::FLOAT),
        ..Default::default()
    });
    let function = FunctionProto {
        name: Some("Twice".into()),
        domain: Some("mine".into()),
        input: vec!["a".into()],
        output: vec!["c".into()],
        attribute: vec!["slope".into()],
        node: vec![leaky, node("Add", "b b", "c", vec![])],
        opset_import: vec![OperatorSetIdProto {
            domain: None,
            version: Some(16),
        }],
        ..Default::default()
    };
    let mut call = node("Twice", "x", "y", vec![("slope", A::Float(0.5))]);
    call.domain = Some("mine".into());
    let mut m = model(
        13,
        graph(vec![call], vec![info("x", DType::F32, &[2])], vec![], "y"),
    );
    m.functions.push(function);
    let imported = import(m.clone()).unwrap();
    let y = sdc_interp::run_graph(&imported.graph, &[f32s(&[2], &[-1.0, 2.0])]).unwrap();
    assert_eq!(y[0], f32s(&[2], &[-1.0, 4.0]));
    // A function that calls itself ends in a limit, not in a stack overflow.
    let mut own = node("Twice", "b", "c", vec![]);
    own.domain = Some("mine".into());
    m.functions[0].node[1] = own;
    let errors = import(m).unwrap_err();
    assert_eq!(errors.class(), sdc_frontend::Class::Limit, "{errors}");
}

#[test]
fn gemm_takes_its_bias_into_the_product() {
    let weights = vec![("w", f32s(&[2, 3], &[1.0; 6])), ("b", f32s(&[1, 2], &[1.0, 2.0]))];
    let nodes = vec![node("Gemm", "x w b", "y", vec![("transB", A::Int(1))])];
    let imported = import(model(
        13,
        graph(nodes, vec![info("x", DType::F32, &[4, 3])], weights, "y"),
    ))
    .unwrap();
    let product = imported
        .graph
        .nodes()
        .values()
        .find(|n| matches!(n.op, Op::MatMul(_)))
        .unwrap();
    assert!(matches!(&product.op, Op::MatMul(m) if m.bias));
    assert!(
        !imported
            .graph
            .nodes()
            .values()
            .any(|n| matches!(n.op, Op::Transpose(_)))
    );
}

/// However far its neighbourhood reaches, LRN takes no longer than its channels ask for.
#[test]
fn lrn_ends_with_the_channels() {
    let x: Vec<f32> = vec![1.0, -2.0, 3.0];
    let size = i64::from(i32::MAX);
    let attributes = vec![("size", A::Int(size)), ("alpha", A::Float(1e9))];
    let y = run(13, "LRN", attributes, &[f32s(&[1, 3, 1], &x)]).unwrap();
    let base = 1.0 + 1e9 / size as f64 * 14.0;
    let expected: Vec<f32> = x
        .iter()
        .map(|&x| (f64::from(x) / base.powf(0.75)) as f32)
        .collect();
    assert!(difference(&y, &f32s(&[1, 3, 1], &expected)) < 1e-5, "{y:?}");
}

/// Every operator of the table occurs in this file, in those of loops and sequences, or in the recorded cases.
#[test]
fn every_operator_is_tested() {
    let source = [
        include_str!("operators.rs"),
        include_str!("control.rs"),
        include_str!("sequences.rs"),
    ]
    .concat();
    let recorded: BTreeSet<String> = recorded()
        .iter()
        .map(|c| c.description.split('-').next().unwrap_or_default().to_owned())
        .collect();
    let missing: Vec<&str> = supported_operators()
        .filter(|op| !recorded.contains(*op) && !source.contains(&format!("\"{op}\"")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
