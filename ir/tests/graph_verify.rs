//! The graph verifier reports each law when it is broken, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sdc_ir::entity::EntityId;
use sdc_ir::graph::op::{Constant, Relayout};
use sdc_ir::graph::verify::{Law, verify};
use sdc_ir::graph::{BinaryOp, Dim, Graph, Layout, Op, Origin, Shape, TensorType, UnaryOp, Value, Weight};
use sdc_ir::{DType, Tensor};

const RELU: Op = Op::Unary(UnaryOp::Relu);

fn origin() -> Vec<Origin> {
    vec![Origin {
        name: "layer".into(),
        op: "Relu".into(),
        index: 3,
    }]
}

fn ty() -> TensorType {
    TensorType::new(DType::F32, [1, 4, 2, 2])
}

/// `%0` an input, `%1` a constant, `%2` their sum.
fn sound() -> Graph {
    let mut g = Graph::new("g");
    let x = g.add_input("x", ty());
    let c = g.add_constant(Tensor::scalar(1f32), origin());
    let y = g.add1(Op::Binary(BinaryOp::Add), &[x, c], origin()).unwrap();
    g.add_output("y", y);
    g
}

/// Breaks the sound graph and lists what is found, as `law: fault`.
fn faults(broken: impl FnOnce(&mut Graph)) -> Vec<String> {
    let mut g = sound();
    broken(&mut g);
    let faults = verify(&g);
    faults.iter().map(|f| format!("{:?}: {f}", f.law)).collect()
}

#[test]
fn a_sound_graph_has_no_faults() {
    assert_eq!(faults(|_| {}), [""; 0]);
    let layouts = |g: &mut Graph| {
        let cl = ty().with_layout(Layout::channels_last(4));
        let x = g.push_node(Relayout {}.into(), vec![Value::new(2)], vec![cl], origin())[0];
        g.add_output("also y", x);
        g.add_output("x again", Value::new(0));
    };
    assert_eq!(faults(layouts), [""; 0]);
}

#[test]
fn symbols_have_no_size() {
    let open = |dim: &str| {
        let dims = [
            Dim::Symbol(dim.into()),
            Dim::Constant(4),
            Dim::Symbol("x.2".into()),
        ];
        TensorType::new(DType::F32, dims.into_iter().collect::<Shape>())
    };
    let used = |g: &mut Graph| {
        let z = g.add_input("z", open("n"));
        assert!(g.add1(RELU, &[z], origin()).is_err());
        g.push_node(RELU, vec![z], vec![open("n")], origin());
    };
    let found = |v: &str| {
        let fault = |d: usize, name: &str| {
            format!("Symbol: {v}: dimension {d} is the symbol {name}, which must be given a size first")
        };
        [fault(0, "n"), fault(2, "\"x.2\"")]
    };
    assert_eq!(faults(used), [found("%3"), found("%4")].concat());
    // A result cannot be a symbol where operands say what it is.
    let made = |g: &mut Graph| drop(g.push_node(RELU, vec![Value::new(2)], vec![open("n")], origin()));
    let all = faults(made);
    assert!(all[0].contains("should be f32[1,4,2,2]"), "{all:?}");
    assert_eq!(all[1..], found("%3"));
}

#[test]
fn ids_exist() {
    let operand = |g: &mut Graph| drop(g.push_node(RELU, vec![Value::new(9)], vec![ty()], origin()));
    assert_eq!(
        faults(operand),
        ["Id: n2: Relu: %9 does not exist, from layer (Relu #3)"]
    );
    let weight = |g: &mut Graph| {
        let op = Constant {
            weight: Weight::new(1),
        };
        g.push_node(op.into(), vec![], vec![ty()], origin());
    };
    assert_eq!(
        faults(weight),
        ["Id: n2: Constant: @w1 does not exist, from layer (Relu #3)"]
    );
    let output = |g: &mut Graph| g.add_output("z", Value::new(7));
    assert_eq!(faults(output), ["Id: output 1 (\"z\"): %7 does not exist"]);
}

#[test]
fn values_are_what_defines_them() {
    let swapped = |g: &mut Graph| g.inputs[0].value = Value::new(1);
    assert_eq!(
        faults(swapped),
        [
            "Definition: input 0 (\"x\"): %1 is not defined as it",
            "Definition: %0 is not what its definition Input(0) defines",
        ]
    );
}

#[test]
fn operands_come_first() {
    let later = |g: &mut Graph| {
        g.push_node(RELU, vec![Value::new(4)], vec![ty()], origin());
        g.push_node(RELU, vec![Value::new(4)], vec![ty()], origin());
    };
    assert_eq!(
        faults(later),
        [
            "Order: n2: Relu uses %4, which is defined later, from layer (Relu #3)",
            "Order: n3: Relu uses %4, which is defined later, from layer (Relu #3)",
        ]
    );
}

#[test]
fn types_are_the_inferred_ones() {
    let push = |op: Op, inputs: Vec<Value>, types: Vec<TensorType>| {
        faults(|g| {
            g.push_node(op, inputs, types, origin());
        })
    };
    let x = Value::new(0);
    assert_eq!(
        push(RELU, vec![x], vec![TensorType::new(DType::F32, [1, 4])]),
        ["Type: n2: Relu: %3 is f32[1,4], should be f32[1,4,2,2], from layer (Relu #3)"]
    );
    assert_eq!(
        push(RELU, vec![x], vec![]),
        ["Type: n2: Relu has 0 results, should have 1, from layer (Relu #3)"]
    );
    let two = push(RELU, vec![x, x], vec![ty()]);
    assert!(
        two[0].starts_with("Type: n2: Relu: ") && two.len() == 1,
        "{two:?}"
    );
    let constant = Constant {
        weight: Weight::new(0),
    };
    assert_eq!(
        push(constant.into(), vec![], vec![ty()]),
        ["Type: n2: Constant: %3 is f32[1,4,2,2], should be f32[], from layer (Relu #3)"]
    );
    let huge = |g: &mut Graph| {
        g.add_input("z", TensorType::new(DType::I8, [0, 1 << 40, 1 << 40]));
    };
    assert_eq!(
        faults(huge),
        ["Type: input 1 (\"z\"): type i8[0,1099511627776,1099511627776] has too many elements"]
    );
}

#[test]
fn layouts_fit_their_rank() {
    let wrong = |g: &mut Graph| g.set_layout(Value::new(2), Layout::from_order(vec![1, 0]).unwrap());
    assert_eq!(
        faults(wrong),
        ["Layout: %2: f32[1,4,2,2]{1,0} has a layout of 2 dimensions"]
    );
}

#[test]
fn nodes_have_origins() {
    let none = |g: &mut Graph| drop(g.push_node(RELU, vec![Value::new(0)], vec![ty()], vec![]));
    assert_eq!(faults(none), ["Origin: n2: Relu has no origin"]);
}

#[test]
fn port_names_differ() {
    let twice = |g: &mut Graph| {
        g.add_input("x", ty());
        g.add_output("y", Value::new(0));
    };
    assert_eq!(
        faults(twice),
        [
            "Name: two inputs are called \"x\"",
            "Name: two outputs are called \"y\""
        ]
    );
}

#[test]
fn every_fault_is_listed() {
    let mut g = sound();
    g.push_node(RELU, vec![Value::new(9)], vec![ty()], vec![]);
    g.push_node(RELU, vec![Value::new(0)], vec![], vec![]);
    let laws: Vec<Law> = verify(&g).iter().map(|f| f.law).collect();
    assert_eq!(laws, [Law::Origin, Law::Id, Law::Origin, Law::Type]);
}
