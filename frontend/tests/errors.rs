//! What is refused, with which code, and that everything wrong with a model is said at once.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says why it was skipped"
)]

mod common;

use common::*;
use sdc_frontend::proto::*;
use sdc_frontend::{Class, Code, ImportErrors, ImportOptions, Limits, import_model};
use sdc_ir::{DType, Tensor};

fn codes(errors: &ImportErrors) -> Vec<Code> {
    errors.0.iter().map(|e| e.code).collect()
}

fn x() -> ValueInfoProto {
    info("x", DType::F32, &[2, 3])
}

/// The errors of a model with one input `x: f32[2,3]`.
fn refused(nodes: Vec<NodeProto>, outputs: &str) -> ImportErrors {
    import(model(13, graph(nodes, vec![x()], vec![], outputs))).unwrap_err()
}

#[test]
fn everything_is_said_at_once() {
    let mut foreign = node("FusedConv", "x", "b", vec![]);
    foreign.domain = Some("com.example".into());
    let nodes = vec![
        node("TfIdfVectorizer", "x", "a", vec![]),
        foreign,
        node("Relu", "a", "silent", vec![]),
        node("Unique", "a", "not_silent", vec![]),
        node(
            "LeakyRelu",
            "x",
            "c",
            vec![("alpha", A::Float(0.1)), ("colour", A::Int(1))],
        ),
        node("Reshape", "x x", "d", vec![]),
        node("MatMul", "x x", "e", vec![]),
        node("Relu", "x", "fine", vec![]),
        node("Add", "fine nowhere", "f", vec![]),
    ];
    let errors = refused(nodes, "silent f");
    use Code::*;
    assert_eq!(
        codes(&errors),
        [
            Operator,
            Domain,
            DataDependent,
            Attribute,
            DataDependent,
            BadOperands,
            UndefinedValue
        ]
    );
    assert_eq!(errors.class(), Class::Malformed);
    assert_eq!(errors.class().exit_code(), 3);
    let text = errors.to_string();
    for part in [
        "E0201: TfIdfVectorizer_0 (TfIdfVectorizer #0): operator TfIdfVectorizer is not supported; operands: x: f32[2,3]",
        "FusedConv of domain `com.example`",
        "attribute `colour` is not supported",
        "operand 1 (shape) must be known at compile time",
        "E0108: MatMul_6 (MatMul #6): inner dimensions 3 and 2 differ; operands: x: f32[2,3], x: f32[2,3]",
        "value `nowhere` is not defined",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

/// What would remove a problem is said where something would.
#[test]
fn remedies() {
    let sizes = info("sizes", DType::I64, &[2]);
    let inputs = vec![x(), sizes, info("image", DType::F32, &[1, 512, 512])];
    let weights = vec![("k", f32s(&[2], &[1.0, 2.0]))];
    let nodes = vec![
        node("Add", "sizes sizes", "twice", vec![]),
        node("Reshape", "x twice", "a", vec![]),
        node("Cast", "image", "integers", vec![("to", A::Int(7))]),
        node("Reshape", "x integers", "b", vec![]),
        node("TfIdfVectorizer", "k", "c", vec![]),
        node("NonZero", "sizes", "d", vec![]),
        node("NonMaxSuppression", "x x", "e", vec![]),
    ];
    let errors = import(model(13, graph(nodes, inputs, weights, "a b c d e"))).unwrap_err();
    let help: Vec<&str> = errors
        .0
        .iter()
        .map(|e| e.help.as_deref().unwrap_or("-"))
        .collect();
    assert!(help[0].contains("--fix sizes=FILE"), "{help:?}");
    // Nobody fixes an image.
    assert_eq!(help[1], "export the model with fixed shapes");
    assert!(help[2].contains("folding"), "{help:?}");
    assert!(help[3].contains("--fix sizes=FILE"), "{help:?}");
    assert_eq!(help[4], "-");
    assert_eq!(errors.0[4].code, Code::DataDependent);
    assert!(
        errors.0[4].message.contains("max_output_boxes_per_class"),
        "{errors}"
    );
}

#[test]
fn attributes_are_checked() {
    let cases: Vec<(Vec<(&str, A)>, Code)> = vec![
        (vec![("axis", A::Float(1.0))], Code::BadAttribute),
        (vec![("axis", A::Int(2))], Code::BadAttribute),
        (vec![("axis", A::Int(1)), ("axis", A::Int(1))], Code::BadAttribute),
        (vec![("axes", A::Ints(&[1]))], Code::Attribute),
    ];
    for (attributes, code) in cases {
        let errors = refused(vec![node("Softmax", "x", "y", attributes)], "y");
        assert_eq!(codes(&errors), [code], "{errors}");
    }
    // An exporter that leaves attribute types out is understood.
    let mut untyped = node("Softmax", "x", "y", vec![("axis", A::Int(1))]);
    untyped.attribute[0].r#type = None;
    import(model(13, graph(vec![untyped], vec![x()], vec![], "y"))).unwrap();
}

#[test]
fn operator_sets() {
    let m = |opset, op: &str| {
        model(
            opset,
            graph(vec![node(op, "x", "y", vec![])], vec![x()], vec![], "y"),
        )
    };
    assert_eq!(codes(&import(m(0, "Relu")).unwrap_err()), [Code::Opset]);
    assert_eq!(codes(&import(m(13, "Gelu")).unwrap_err()), [Code::NotInOpset]);
    assert!(import(m(28, "Gelu")).unwrap().remarks.is_empty());
    assert_eq!(import(m(99, "Gelu")).unwrap().remarks.len(), 1);
    let mut without = m(13, "Relu");
    without.opset_import.clear();
    assert_eq!(codes(&import(without).unwrap_err()), [Code::Missing]);
}

#[test]
fn names_and_circles() {
    let twice = vec![node("Relu", "x", "y", vec![]), node("Abs", "x", "y", vec![])];
    assert_eq!(codes(&refused(twice, "y")), [Code::DuplicateName]);
    let circle = vec![node("Add", "x b", "a", vec![]), node("Relu", "a", "b", vec![])];
    let errors = refused(circle, "b");
    assert_eq!(
        (codes(&errors), errors.class()),
        (vec![Code::Cycle], Class::Malformed),
        "{errors}"
    );
    assert_eq!(codes(&refused(vec![], "y")), [Code::UndefinedValue]);
    assert_eq!(codes(&refused(vec![], "")), [Code::Missing]);
    // A list in the wrong order is only a remark.
    let unsorted = vec![node("Relu", "a", "y", vec![]), node("Abs", "x", "a", vec![])];
    let imported = import(model(13, graph(unsorted, vec![x()], vec![], "y"))).unwrap();
    assert_eq!(imported.remarks.len(), 1);
}

#[test]
fn symbolic_dimensions() {
    let nodes = || vec![node("Relu", "in", "y", vec![])];
    let m = model(
        13,
        graph(nodes(), vec![info("in", DType::F32, &[-1, 3, -2])], vec![], "y"),
    );
    let errors = import(m.clone()).unwrap_err();
    assert_eq!(
        (codes(&errors), errors.class().exit_code()),
        (vec![Code::UnpinnedDim], 4)
    );
    let text = errors.to_string();
    assert!(text.contains("--dim N=N --dim in.2=N"), "{text}");
    let mut options = ImportOptions {
        dims: [("N".to_owned(), 2), ("in.2".to_owned(), 5)].into(),
        ..Default::default()
    };
    let imported = import_model(m.clone(), &options).unwrap();
    assert_eq!(
        imported.graph.ty(imported.graph.inputs[0].value).sizes(),
        [2, 3, 5]
    );
    options.dims.insert("M".into(), 1);
    let errors = import_model(m.clone(), &options).unwrap_err();
    assert_eq!(
        (codes(&errors), errors.class().exit_code()),
        (vec![Code::BadPin], 2)
    );
    assert!(
        errors
            .to_string()
            .contains("the model has `N` (in[0]), `in.2` (in[2])"),
        "{errors}"
    );
    options.dims.remove("M");
    options.dims.insert("N".into(), 0);
    assert_eq!(codes(&import_model(m, &options).unwrap_err()), [Code::BadPin]);
    // Unsupported operators are still named while dimensions are open.
    let open = vec![node("TfIdfVectorizer", "in", "y", vec![])];
    let m = model(13, graph(open, vec![info("in", DType::F32, &[-1])], vec![], "y"));
    assert_eq!(
        codes(&import(m).unwrap_err()),
        [Code::UnpinnedDim, Code::Operator]
    );
}

#[test]
fn inputs_and_element_types() {
    let m = |input: ValueInfoProto| {
        model(
            13,
            graph(vec![node("Identity", "x", "y", vec![])], vec![input], vec![], "y"),
        )
    };
    let mut shapeless = x();
    if let Some(TypeValue::Tensor(t)) = &mut shapeless.r#type.as_mut().unwrap().value {
        t.shape = None;
    }
    assert_eq!(codes(&import(m(shapeless)).unwrap_err()), [Code::NotATensor]);
    let mut text = x();
    if let Some(TypeValue::Tensor(t)) = &mut text.r#type.as_mut().unwrap().value {
        t.elem_type = Some(data_type::STRING);
    }
    let errors = import(m(text)).unwrap_err();
    assert!(errors.to_string().contains("STRING"), "{errors}");
    assert_eq!(codes(&errors), [Code::ElementType]);
    assert_eq!(codes(&import(m(output("x"))).unwrap_err()), [Code::BadInput]);
}

#[test]
fn unused_initialisers_of_unknown_types_do_not_matter() {
    let strange = TensorProto {
        name: Some("s".into()),
        data_type: Some(17),
        dims: vec![1],
        raw_data: Some(vec![0].into()),
        ..Default::default()
    };
    let m = |operands: &str| {
        let mut g = graph(vec![node("Add", operands, "y", vec![])], vec![x()], vec![], "y");
        g.initializer.push(strange.clone());
        model(13, g)
    };
    import(m("x x")).unwrap();
    let errors = import(m("x s")).unwrap_err();
    assert!(errors.to_string().contains("FLOAT8E4M3FN"), "{errors}");
}

fn with_weight(weight: TensorProto) -> ModelProto {
    let mut g = graph(vec![node("Add", "x w", "y", vec![])], vec![x()], vec![], "y");
    g.initializer.push(weight);
    model(13, g)
}

#[test]
fn tensors_must_fit_their_shape() {
    let weight = |dims: Vec<i64>, bytes: usize| TensorProto {
        name: Some("w".into()),
        data_type: Some(data_type::FLOAT),
        dims,
        raw_data: Some(vec![0; bytes].into()),
        ..Default::default()
    };
    import(with_weight(weight(vec![3], 12))).unwrap();
    for (dims, code) in [
        (vec![4], Code::BadTensor),
        (vec![-3], Code::BadTensor),
        (vec![1 << 40], Code::BadTensor),
        (vec![1 << 40, 1 << 40], Code::TooLarge),
        (vec![i64::MAX, i64::MAX, 0], Code::TooLarge),
    ] {
        let errors = import(with_weight(weight(dims.clone(), 12))).unwrap_err();
        assert_eq!(codes(&errors), [code], "{dims:?} {errors}");
    }
    let mut short = weight(vec![3], 0);
    short.raw_data = None;
    short.float_data = vec![1.0; 2];
    assert_eq!(codes(&import(with_weight(short)).unwrap_err()), [Code::BadTensor]);
}

#[test]
fn external_data_stays_in_its_folder() {
    let weight = |location: &str, offset: &str, length: &str| {
        let entry = |k: &str, v: &str| StringStringEntryProto {
            key: Some(k.into()),
            value: Some(v.into()),
        };
        with_weight(TensorProto {
            name: Some("w".into()),
            data_type: Some(data_type::FLOAT),
            dims: vec![3],
            data_location: Some(LOCATION_EXTERNAL),
            external_data: vec![
                entry("location", location),
                entry("offset", offset),
                entry("length", length),
            ],
            ..Default::default()
        })
    };
    let loader = |location: &str| match location {
        "weights/w.bin" => Ok(bytes::Bytes::from((0..20u8).collect::<Vec<_>>())),
        _ => Err("no such file".to_owned()),
    };
    let options = ImportOptions {
        external: Some(&loader),
        ..Default::default()
    };
    let run = |location, offset, length| import_model(weight(location, offset, length), &options);
    let imported = run("weights/w.bin", "8", "12").unwrap();
    let (_, _, tensor) = imported.graph.weights.iter().next().unwrap();
    assert_eq!(tensor.bytes()[..], (8..20u8).collect::<Vec<_>>()[..]);
    for (location, offset, length, code) in [
        ("weights/w.bin", "9", "12", Code::BadExternalData),
        ("weights/w.bin", "8", "11", Code::BadExternalData),
        (
            "weights/w.bin",
            "18446744073709551615",
            "12",
            Code::BadExternalData,
        ),
        ("weights/w.bin", "-1", "12", Code::BadExternalData),
        ("/etc/passwd", "0", "12", Code::BadExternalData),
        ("../w.bin", "0", "12", Code::BadExternalData),
        ("a/../../w.bin", "0", "12", Code::BadExternalData),
        ("a\\..\\w.bin", "0", "12", Code::BadExternalData),
        ("C:w.bin", "0", "12", Code::BadExternalData),
        ("", "0", "12", Code::BadExternalData),
        ("absent.bin", "0", "12", Code::ExternalUnreadable),
    ] {
        let errors = run(location, offset, length).unwrap_err();
        assert_eq!(codes(&errors), [code], "{location} {errors}");
    }
    let errors = import(weight("weights/w.bin", "0", "12")).unwrap_err();
    assert_eq!(errors.class(), Class::Usage);
}

#[test]
fn limits() {
    let grow = |op: &str, operand: Tensor, extra: &str| {
        let nodes = vec![node(op, &format!("{extra} s"), "y", vec![])];
        import(model(13, graph(nodes, vec![x()], vec![("s", operand)], "y"))).unwrap_err()
    };
    for errors in [
        grow("ConstantOfShape", i64s(&[1 << 20, 1 << 20]), ""),
        grow("ConstantOfShape", i64s(&[i64::MAX, i64::MAX]), ""),
        grow("Expand", i64s(&[1 << 40, 2, 3]), "x"),
        grow("Tile", i64s(&[1 << 30, 1 << 30]), "x"),
        grow("Pad", i64s(&[0, 0, 0, 1 << 40]), "x"),
    ] {
        assert_eq!(
            (codes(&errors), errors.class().exit_code()),
            (vec![Code::TooLarge], 5),
            "{errors}"
        );
    }
    let range = vec![node("Range", "a b c", "y", vec![])];
    let weights = vec![
        ("a", Tensor::scalar(0i64)),
        ("b", Tensor::scalar(i64::MAX)),
        ("c", Tensor::scalar(1i64)),
    ];
    let errors = import(model(13, graph(range, vec![], weights, "y"))).unwrap_err();
    assert_eq!(codes(&errors), [Code::FoldLimit]);
    let nodes: Vec<NodeProto> = (0..20)
        .map(|i| node("Relu", "x", &format!("y{i}"), vec![]))
        .collect();
    let options = ImportOptions {
        limits: Limits {
            max_nodes: 10,
            ..Default::default()
        },
        ..Default::default()
    };
    let errors = import_model(model(13, graph(nodes, vec![x()], vec![], "y0")), &options).unwrap_err();
    assert_eq!(codes(&errors), [Code::TooManyNodes]);
}

#[test]
fn floods_end() {
    // Models of millions of empty nodes, or of thousands of bad ones, end early.
    let mut flood = vec![0x3a, 0x84, 0x80, 0x80, 0x04];
    flood.extend(std::iter::repeat_n([0x0a, 0], (4 << 20) + 2).flatten());
    let errors = sdc_frontend::import(flood.into(), &ImportOptions::default()).unwrap_err();
    assert_eq!(errors.class(), Class::Limit, "{errors}");
    let bad: Vec<NodeProto> = (0..5000)
        .map(|i| node("TfIdfVectorizer", "x", &format!("e{i}"), vec![]))
        .collect();
    assert_eq!(refused(bad, "e0 e4999").0.len(), 1000);
}

#[test]
fn codes_are_distinct_and_grouped() {
    let mut texts: Vec<&str> = Code::ALL.iter().map(|c| c.text()).collect();
    for code in Code::ALL {
        let group = match code.class() {
            Class::Malformed => "E01",
            Class::Unsupported => "E02",
            Class::Limit => "E03",
            Class::Usage => "E04",
        };
        assert!(code.text().starts_with(group), "{}", code.text());
    }
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), Code::ALL.len());
}
