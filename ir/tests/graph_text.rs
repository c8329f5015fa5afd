//! The graph level's text form: exact, readable, and safe against anything.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use proptest::prelude::*;
use proptest::sample::Index as Pick;
use sdc_ir::graph::op::{Activation, Clip, Conv};
use sdc_ir::graph::{Graph, Layout, Op, Origin, Shape, TensorType, UnaryOp, Weights};
use sdc_ir::text::{Level, TextError, level, parse_graph};
use sdc_ir::{DType, Digest, Tensor};

fn origin(name: &str, op: &str, index: u32) -> Vec<Origin> {
    vec![Origin {
        name: name.into(),
        op: op.into(),
        index,
    }]
}

fn small() -> Graph {
    let mut g = Graph::new("small \"net\"");
    let x = g.add_input("input", TensorType::new(DType::F32, [1, 3, 8, 8]));
    let tensor = Tensor::from_elements(vec![4, 3, 1, 1], vec![0.5f32; 12]).unwrap();
    let w = g.add_constant(tensor, origin("conv1.weight", "Initializer", 0));
    let conv = Conv {
        strides: vec![1, 1],
        pads: vec![0, 0, 0, 0],
        dilations: vec![1, 1],
        group: 1,
        bias: false,
        residual: false,
        act: Activation::Clip { min: 0.0, max: 6.0 },
    };
    let ty = TensorType::new(DType::F32, [1, 4, 8, 8]).with_layout(Layout::channels_last(4));
    let mut origins = origin("/conv1/Conv", "Conv", 0);
    origins.extend(origin("/clip", "Clip", 1));
    let y = g.push_node(conv.into(), vec![x, w], vec![ty.clone()], origins)[0];
    let z = g.push_node(
        Op::Unary(UnaryOp::Sigmoid),
        vec![y],
        vec![ty],
        origin("s", "com.x.Sigmoid", 2),
    )[0];
    g.add_output("logits", z);
    g
}

const SMALL: &str = r#"sdir 1 graph
graph "small \"net\"" {
  %0 = input "input" : f32[1,3,8,8]
  %1 = Constant {weight=@w0} : f32[4,3,1,1] from "conv1.weight" Initializer #0
  %2 = Conv(%0, %1) {strides=[1,1], pads=[0,0,0,0], dilations=[1,1], group=1, bias=false, residual=false, act=clip(0.0,6.0)} : f32[1,4,8,8]{0,2,3,1} from "/conv1/Conv" Conv #0, "/clip" Clip #1
  %3 = Sigmoid(%2) : f32[1,4,8,8]{0,2,3,1} from "s" "com.x.Sigmoid" #2
  output "logits" = %3
}
weights {
  @w0 f32[4,3,1,1] sha256:DIGEST
}
"#;

fn small_text() -> String {
    let digest = small().weights.iter().next().unwrap().1;
    SMALL.replace("DIGEST", &digest.to_string())
}

#[test]
fn prints_as_specified() {
    assert_eq!(small().to_string(), small_text());
    assert_eq!(level(&small_text()), Ok(Level::Graph));
}

#[test]
fn numbers_in_the_text_are_free() {
    let text = small_text()
        .replace("%1", "%70")
        .replace("@w0", "@w4294967295")
        .replace("  %0", "  // a comment\r\n\t%0");
    assert_eq!(parse_graph(&text, &small().weights).unwrap(), small());
}

#[test]
fn floats_keep_their_value() {
    let mut g = Graph::new("");
    let x = g.add_input("x", TensorType::new(DType::F32, []));
    let op = Clip {
        min: f32::NAN,
        max: 1e-45,
    };
    g.push_node(op.into(), vec![x], vec![], vec![]);
    let text = g.to_string();
    assert!(text.contains("{min=nan, max=1e-45}"), "{text}");
    let back = parse_graph(&text, &Weights::new()).unwrap();
    assert_eq!(back.to_string(), text);
}

#[test]
fn dimensions_may_be_symbols() {
    let text = "sdir 1 graph\ngraph \"\" {\n  %0 = input \"x\" : f32[batch,3,\"x.2\",batch]{0,2,3,1}\n}\n";
    let g = parse_graph(text, &Weights::new()).unwrap();
    assert_eq!(g.to_string(), text);
    let shape = &g.ty(g.inputs[0].value).shape;
    assert_eq!(
        shape.symbols().collect::<Vec<_>>(),
        [(0, "batch"), (2, "x.2"), (3, "batch")]
    );
    assert_eq!((shape.rank(), shape.constant()), (4, None));
    let known = shape.dims().into_iter().filter(|d| d.constant().is_some());
    assert_eq!(Shape::from_iter(known).sizes(), [3]);
}

/// What is said about the small graph's text with one thing replaced.
fn errors(from: &str, to: &str) -> String {
    let text = small_text();
    assert!(text.contains(from), "{from}");
    match parse_graph(&text.replacen(from, to, 1), &small().weights) {
        Err(TextError::Parse(errors)) => errors.to_string(),
        other => panic!("expected syntax errors, got {other:?}"),
    }
}

#[test]
fn errors_have_places_and_expectations() {
    let check = |from: &str, to: &str, expected: &str| assert_eq!(errors(from, to), expected);
    check(
        "sdir 1",
        "sdir 2",
        "1:6: version 2 is not supported; this is version 1",
    );
    check("1 graph", "1 tile", "1:1: this is a tile text, not a graph text");
    check("f32[1,3,8,8]", "f31[1,3,8,8]", "3:24: unknown element type `f31`");
    check("= input", "- input", "3:6: expected `,` or `=`, found `-`");
    check("(%0, %1)", "(%0, %9)", "5:17: `%9` is not defined here");
    check(
        "  %3 =",
        "  %0 =",
        "6:3: `%0` is defined twice\n7:21: `%3` is not defined here",
    );
    check(
        "group=1",
        "group=1.0",
        "5:8: Conv: attribute `group` has a bad value",
    );
    check(
        "group=1",
        "group=99999999999999999999",
        "5:76: `99999999999999999999` is too large",
    );
    check(
        "group=1",
        "group=1, group=1",
        "5:79: attribute `group` is given twice",
    );
    check("group=1, ", "", "5:8: Conv: attribute `group` is missing");
    check("Sigmoid(", "Sigmid(", "6:8: unknown operator `Sigmid`");
    check("weight=@w0", "weight=@w1", "4:25: `@w1` is not defined here");
    check("{0,2,3,1}", "{0,2,3,3}", "5:140: the layout is not a permutation");
    check("{0,2,3,1}", "{0,1}", "5:140: the layout needs 4 positions");
    check(
        "[1,3,8,8]",
        "[0,4294967296,4294967296]",
        "3:27: the shape has too many elements",
    );
    check(
        "[1,3,8,8]",
        "[n,0,4294967296,4294967296]",
        "3:27: the shape has too many elements",
    );
    check("[1,3,8,8]", "[1,-3]", "3:30: expected a dimension, found `-`");
    check(
        "\"input\"",
        "\"in\\qput\"",
        "3:14: unknown escape; known are \\n \\r \\t \\\" \\\\ \\u{..}",
    );
    check(
        "\"input\"",
        "\"input",
        "3:14: expected a string, found `\"input : f32[1,3,8,8]`",
    );
    check("sha256:", "sha256-", "10:26: expected `:`, found `-`");
    check(
        "sha256:",
        "sha256:x ",
        "10:27: expected 64 hexadecimal digits, found `x`",
    );
    check(
        "}\nweights",
        "weights",
        "8:1: expected a value such as `%0`, `output` or `}`, found `weights`\n11:1: expected `}`, found the end of the text",
    );
}

#[test]
fn several_errors_at_once_without_echoes() {
    let text = small_text()
        .replace("f32[1,3,8,8]", "f32[1,3,,8]")
        .replace("Sigmoid(%2)", "Sigmoid(%2");
    let Err(TextError::Parse(errors)) = parse_graph(&text, &small().weights) else {
        panic!("accepted");
    };
    let lines: Vec<usize> = errors.0.iter().map(|e| e.line).collect();
    assert_eq!(lines, [3, 6], "{errors}");
}

#[test]
fn missing_weights_are_listed() {
    let digest = small().weights.iter().next().unwrap().1;
    let missing = Err(TextError::MissingWeights(vec![digest]));
    assert_eq!(parse_graph(&small_text(), &Weights::new()), missing);
    // A digest covers the shape, so the same digest with another shape names nothing.
    let other_shape = small_text().replace("@w0 f32[4,3,1,1]", "@w0 f32[12]");
    assert_eq!(parse_graph(&other_shape, &small().weights), missing);
    let unknown = Digest([7; 32]);
    assert_eq!(
        parse_graph(
            &small_text().replace(&digest.to_string(), &unknown.to_string()),
            &small().weights
        ),
        Err(TextError::MissingWeights(vec![unknown]))
    );
}

#[test]
fn errors_are_bounded() {
    let many = "%1, ".repeat(200_000);
    let text = format!("sdir 1 graph\ngraph \"\" {{\n  %0 = Relu({many}%2) : f32[]\n}}");
    let start = std::time::Instant::now();
    let Err(TextError::Parse(errors)) = parse_graph(&text, &Weights::new()) else {
        panic!("accepted");
    };
    assert!(errors.0.len() < 40, "{}", errors.0.len());
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn round_trip(g in common::graph()) {
        let text = g.to_string();
        let back = parse_graph(&text, &g.weights).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(&back, &g);
        prop_assert_eq!(back.to_string(), text);
    }

    /// Damaged text never panics, and what is accepted round-trips.
    #[test]
    fn mutations(g in common::graph(), edits in proptest::collection::vec((any::<Pick>(), any::<Pick>(), 0..4u8), 1..4)) {
        let text = common::mutate(&g.to_string(), &edits);
        if let Ok(read) = parse_graph(&text, &g.weights) {
            prop_assert_eq!(parse_graph(&read.to_string(), &g.weights).unwrap().to_string(), read.to_string());
        }
    }

    #[test]
    fn any_text(text in any::<String>()) {
        prop_assert!(parse_graph(&text, &Weights::new()).is_err());
    }
}
