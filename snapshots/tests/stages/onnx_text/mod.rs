//! Textual ONNX: the syntax of `onnx.parser`, as far as the inputs need it, to protobuf messages.
//!
//! ```text
//! <opset_import: ["": 17]>
//! name (float[1,8,4,4] x) => (float[1,8,4,4] y)
//! <float[8,8,3,3] w = random, float[8] b = {...}>
//! {
//!   [conv] c = Conv <pads = [1,1,1,1]> (x, w, b)
//!   y = Relu (c)
//! }
//! ```
//!
//! Differences: initialisers may be made up (`random`, or `random(low, high)`), with numbers that follow from the tensor's name;
//! attributes come before the operands and have no declared type; values have tensor types only.

mod data;
mod lexer;
mod parser;

use sdc_frontend::proto::ModelProto;

/// The model that a text describes.
///
/// # Errors
/// A message with the line.
pub fn parse(text: &str) -> Result<ModelProto, String> {
    parser::Parser::new(text)?.model()
}

/// A test's name and what it runs.
type Test = (&'static str, fn() -> Result<(), String>);

/// Tests of the reader itself; the harness runs them beside the cases.
pub const TESTS: &[Test] = &[
    ("every_construct_arrives", every_construct_arrives),
    ("mistakes_are_located", mistakes_are_located),
];

fn expect<T: PartialEq + std::fmt::Debug>(found: T, wanted: T) -> Result<(), String> {
    if found == wanted {
        Ok(())
    } else {
        Err(format!("found {found:?}, wanted {wanted:?}"))
    }
}

fn every_construct_arrives() -> Result<(), String> {
    use sdc_frontend::proto::{DimensionValue, TypeValue, attribute_type, data_type};
    let model = parse(
        r#"
        # A comment.
        <ir_version: 7, opset_import: ["": 13, "com.microsoft": 1], producer_name: "hand">
        g (float[N,?,3] x, bool flag, float[] any) => (float[2] y)
        <float[4] w = random(1.0, 2.0), int64[2] s = {-1, 4}, float one = {1}>
        {
          ["layer/1"] a, b = com.microsoft.Thing <i = -3, f = 1.5e-1, s = "hi", is = [1, 2], fs = [0.5],
                t = int64[1] {7}> (x, "", conv1.weight)
          y = If <then_branch = t () => (float[4] z) { z = Identity (w) }> (flag)
        }"#,
    )?;
    expect(model.ir_version, Some(7))?;
    let domains: Vec<_> = model
        .opset_import
        .iter()
        .map(|o| (o.domain.as_deref(), o.version))
        .collect();
    expect(
        domains,
        vec![(Some(""), Some(13)), (Some("com.microsoft"), Some(1))],
    )?;
    let graph = model.graph.ok_or("no graph")?;
    let dims = |i: usize| match graph.input[i].r#type.as_ref()?.value.as_ref()? {
        TypeValue::Tensor(t) => Some(
            t.shape
                .as_ref()?
                .dim
                .iter()
                .map(|d| d.value.clone())
                .collect::<Vec<_>>(),
        ),
        _ => None,
    };
    let symbolic = vec![
        Some(DimensionValue::DimParam("N".into())),
        None,
        Some(DimensionValue::DimValue(3)),
    ];
    expect(dims(0), Some(symbolic))?;
    expect(dims(1), Some(Vec::new()))?;
    expect(dims(2), None)?;
    let [w, s, one] = graph.initializer.as_slice() else {
        return Err("three initialisers".into());
    };
    expect(s.int64_data.clone(), vec![-1, 4])?;
    expect(
        (one.dims.clone(), one.float_data.clone()),
        (Vec::new(), vec![1.0]),
    )?;
    let raw = w.raw_data.as_deref().unwrap_or_default();
    let numbers: Vec<f32> = raw.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    expect(numbers.len(), 4)?;
    expect(numbers.iter().all(|x| (1.0..2.0).contains(x)), true)?;
    expect(numbers.iter().all(|x| *x == numbers[0]), false)?;
    let [thing, branch] = graph.node.as_slice() else {
        return Err("two nodes".into());
    };
    expect(
        (thing.name.as_deref(), thing.domain.as_deref()),
        (Some("layer/1"), Some("com.microsoft")),
    )?;
    expect(thing.output.clone(), vec!["a".to_owned(), "b".to_owned()])?;
    expect(
        thing.input.clone(),
        vec!["x".to_owned(), String::new(), "conv1.weight".to_owned()],
    )?;
    let kinds: Vec<_> = thing.attribute.iter().filter_map(|a| a.r#type).collect();
    use attribute_type::*;
    expect(kinds, vec![INT, FLOAT, STRING, INTS, FLOATS, TENSOR])?;
    let [i, f, s, is, fs, t] = thing.attribute.as_slice() else {
        return Err("six attributes".into());
    };
    expect(
        (i.i, f.f, s.s.as_deref()),
        (Some(-3), Some(0.15), Some(&b"hi"[..])),
    )?;
    expect((is.ints.clone(), fs.floats.clone()), (vec![1, 2], vec![0.5]))?;
    expect(
        t.t.as_ref().map(|t| (t.data_type, t.int64_data.clone())),
        Some((Some(data_type::INT64), vec![7])),
    )?;
    expect(branch.attribute[0].g.as_ref().map(|g| g.node.len()), Some(1))
}

fn mistakes_are_located() -> Result<(), String> {
    for (text, wanted) in [
        (
            "g () => () {\n y Relu (x) }",
            "line 2: expected `=`, found Word(\"Relu\")",
        ),
        (
            "g () => (flaot[1] y) {}",
            "line 1: `flaot` is not an element type",
        ),
        (
            "g () => ()\n<float[2] w = ones>\n{}",
            "line 2: `ones` is not tensor data",
        ),
        (
            "g () => () {\n\n y = Relu (\"x) }",
            "line 3: the string does not end",
        ),
        ("g () => () {", "line 1: expected a name, found End"),
        (
            "g () => () {} x",
            "line 1: Word(\"x\") after the end of the graph",
        ),
        ("g () => () { y = Relu (x%) }", "line 1: `%` means nothing here"),
    ] {
        expect(parse(text).err(), Some(wanted.to_owned()))?;
    }
    Ok(())
}
