//! The tile level's text form: exact, readable, and safe against anything.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use proptest::prelude::*;
use proptest::sample::Index as Pick;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::{Origin, Weight, Weights};
use sdc_ir::text::{Level, TextError, level, parse_module};
use sdc_ir::tile::{
    Affine, Bound, Buffer, BufferData, BufferKind, CompareOp, FoldOp, FuncBuilder, KernelCall, Module, Ty,
    View,
};
use sdc_ir::{DType, Tensor};

fn small() -> Module {
    let mut m = Module {
        name: "small".into(),
        ..Module::default()
    };
    m.weights
        .add(Tensor::from_elements(vec![16], vec![0.25f32; 16]).unwrap());
    for (kind, name) in [
        (BufferKind::Input(0), "x"),
        (BufferKind::Const(Weight::new(0)), "conv1.weight"),
        (BufferKind::Temp, "%3"),
        (BufferKind::Output(0), "y"),
    ] {
        m.buffers.push(BufferData {
            dtype: DType::F32,
            len: 16,
            kind,
            name: name.into(),
        });
    }
    let [x, w, t, y] = [0, 1, 2, 3].map(Buffer::new);
    let origins = vec![Origin {
        name: "conv1".into(),
        op: "Conv".into(),
        index: 0,
    }];

    let mut b = FuncBuilder::new();
    b.parallel_for(4, |b, i| {
        let zero = b.f32(4, 0.0);
        let lo = Bound::of(vec![Affine::constant(0), Affine::constant(1) - i.clone()]);
        let hi = Bound::of(vec![Affine::constant(3), Affine::constant(4) - i.clone()]);
        let sum = b.for_carried(lo, hi, 1, &[zero], |b, j, acc| {
            let v = b.load(Ty::vector(DType::F32, 4), x, i.clone() * 4);
            let k = b.load_splat(Ty::vector(DType::F32, 4), w, i.clone() + j - 1);
            vec![b.fma(v, k, acc[0])]
        })[0];
        let mask = b.compare(CompareOp::Gt, sum, zero);
        let sum = b.select(mask, sum, zero);
        b.store(t, i * 4, sum);
    });
    m.funcs.push(b.finish("conv", origins.clone()));

    let mut b = FuncBuilder::new();
    b.kernel(KernelCall {
        kernel: "no_such_kernel".into(),
        params: vec![28, -1],
        operands: vec![
            Some(View {
                buffer: t,
                offset: Affine::constant(4),
            }),
            None,
        ],
        begin: 0.into(),
        end: 24.into(),
    });
    b.for_range(0, 16, 4, |b, i| {
        let at = b.affine(i.clone() * 2 + 1);
        let v = b.load_at(Ty::scalar(DType::F32), t, 0, at);
        let v = b.splat(4, v);
        let v = b.fold(FoldOp::Add, v);
        b.store(y, i, v);
    });
    m.funcs.push(b.finish("tail", origins));
    m
}

const SMALL: &str = r#"sdir 1 tile
module "small" {
  $0 = input 0 f32[16] "x"
  $1 = const @w0 f32[16] "conv1.weight"
  $2 = temp f32[16] "%3"
  $3 = output 0 f32[16] "y"
  func "conv" from "conv1" Conv #0 {
    for i0 in 0..4 parallel {
      v0: f32x4 = const 0.0
      v5: f32x4 = for i1 in max(0, -i0 + 1)..min(3, -i0 + 4) carry (v1: f32x4 = v0) {
        v2: f32x4 = load $0[4*i0]
        v3: f32x4 = load_splat $1[i0 + i1 - 1]
        v4: f32x4 = fma v2, v3, v1
        next v4
      }
      v6: i32x4 = compare gt v5, v0
      v7: f32x4 = select v6, v5, v0
      store $2[4*i0], v7
    }
  }
  func "tail" from "conv1" Conv #0 {
    kernel no_such_kernel($2[4], none) range 0..24 {28, -1}
    for i0 in 0..16 step 4 {
      v0: i64 = affine 2*i0 + 1
      v1: f32 = load $2[0 + v0]
      v2: f32x4 = splat v1
      v3: f32 = fold add v2
      store $3[i0], v3
    }
  }
}
weights {
  @w0 f32[16] sha256:DIGEST
}
"#;

fn small_text() -> String {
    SMALL.replace("DIGEST", &small().weights.digest(Weight::new(0)).to_string())
}

#[test]
fn prints_as_specified() {
    assert_eq!(small().to_string(), small_text());
    assert_eq!(small().renumbered(), small());
    assert_eq!(parse_module(&small_text(), &small().weights).unwrap(), small());
    assert_eq!(level(&small_text()), Ok(Level::Tile));
}

#[test]
fn numbers_in_the_text_are_free() {
    let text = small_text()
        .replace("v5", "v900")
        .replace("i1", "i0815")
        .replace("$2", "$4294967295");
    assert_eq!(parse_module(&text, &small().weights).unwrap(), small());
}

#[test]
fn constants_read_as_numbers_of_their_type() {
    for (ty, bits, text) in [
        ("f32", 0x8000_0000, "-0.0"),
        ("f32", 0x7f80_0000, "inf"),
        ("f32", 0x7fc0_0001, "0x7fc00001"),
        ("f32", 1 << 40, "0x10000000000"),
        ("f64", 0.1f64.to_bits(), "0.1"),
        ("f16", 0x3c00, "0x3c00"),
        ("i8x16", 0xff, "-1"),
        ("i8", 0x1ff, "0x1ff"),
        ("i64", i64::MIN as u64, "-9223372036854775808"),
        ("u64", u64::MAX, "18446744073709551615"),
        ("bool", 1, "1"),
    ] {
        let module =
            format!("sdir 1 tile\nmodule \"\" {{\n  func \"\" {{\n    v0: {ty} = const {text}\n  }}\n}}\n");
        let read = parse_module(&module, &Weights::new()).unwrap();
        let sdc_ir::tile::Stmt::Let(_, inst) = &read.funcs[0].body[0] else {
            panic!("not an instruction");
        };
        assert_eq!(*inst, sdc_ir::tile::Inst::Const(bits), "{text}");
        assert_eq!(read.to_string(), module);
    }
}

/// What is said about the small module's text with one thing replaced.
fn errors(from: &str, to: &str) -> String {
    let text = small_text();
    assert!(text.contains(from), "{from}");
    match parse_module(&text.replacen(from, to, 1), &small().weights) {
        Err(TextError::Parse(errors)) => errors.to_string(),
        other => panic!("expected syntax errors, got {other:?}"),
    }
}

#[test]
fn errors_have_places_and_expectations() {
    let check = |from: &str, to: &str, expected: &str| assert_eq!(errors(from, to), expected);
    check(
        "$2 = temp",
        "$2 = tmp",
        "5:8: expected `input`, `output`, `const`, `temp` or `prepared`",
    );
    check("f32[16] \"x\"", "f32[4,4] \"x\"", "3:19: a buffer has one length");
    check(
        "f32x4 = const 0.0",
        "f32x999 = const 0.0",
        "9:11: `f32x999` is not a type",
    );
    check(
        "const 0.0",
        "const 0",
        "9:25: expected a float such as `1.0`, `1e-5`, `inf` or `nan`, found `0`",
    );
    check("const 0.0", "const 1e99", "9:25: `1e99` is too large");
    check("fma v2, v3, v1", "fma v2, v3", "13:25: expected 3 operands");
    check(
        "fma v2, v3, v1",
        "fma v2, v3, v5",
        "13:33: `v5` is not defined here",
    );
    check("compare gt", "compare gr", "16:27: unknown comparison `gr`");
    check(
        "        next v4\n",
        "",
        "10:23: a loop's body ends in `next` with one value per carried value",
    );
    check(
        "next v4",
        "next v4, v4",
        "14:9: a loop's body ends in `next` with one value per carried value",
    );
    check(
        "carry (v1: f32x4 = v0) ",
        "",
        "10:23: a loop has one result per carried value",
    );
    check(
        "affine 2*i0",
        "affine 9223372036854775807*i0 + i0",
        "24:24: `9223372036854775808` does not fit 64 bits",
    );
    check(
        "affine 2*i0",
        "affine v0",
        "24:24: expected an integer or a loop variable such as `i0`, found `v0`",
    );
    check(
        "[0 + v0]",
        "[v0 + v0]",
        "25:30: an index has at most one run-time offset, added",
    );
    check(
        "($2[4], none)",
        "(x=$2[4], none)",
        "22:27: the registry has no `x` here",
    );
    check(
        "max(0, -i0 + 1)",
        "max()",
        "10:33: a bound has at least one expression",
    );
    check(
        "max(0, -i0 + 1)",
        "min(0, -i0 + 1)",
        "10:29: expected an integer or a loop variable such as `i0`, found `min`",
    );
    check("range 0..24", "range 0,24", "22:47: expected `..`, found `,`");
    check(
        "v7: f32x4 = select",
        "v7: f32x4, v8: f32 = select",
        "17:7: an instruction has one result",
    );
}

#[test]
fn several_errors_at_once_without_echoes() {
    let text = small_text()
        .replace("load $0[4*i0]", "lod $0[4*i0]")
        .replace("for i0 in 0..16", "for i0 in 0..")
        .replace("\"%3\"", "\"%3");
    let Err(TextError::Parse(errors)) = parse_module(&text, &small().weights) else {
        panic!("accepted");
    };
    let lines: Vec<usize> = errors.0.iter().map(|e| e.line).collect();
    assert_eq!(lines, [5, 11, 23], "{errors}");
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let loops: String = (0..depth).map(|i| format!("for i{i} in 0..1 {{\n")).collect();
        let text = format!(
            "sdir 1 tile\nmodule \"\" {{ func \"\" {{\n{loops}{} }} }}",
            "}".repeat(depth)
        );
        parse_module(&text, &Weights::new())
    };
    assert!(nested(64).is_ok());
    let error = nested(65).unwrap_err().to_string();
    assert_eq!(error, "67:5: loops are nested deeper than 64");
    assert!(nested(100_000).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn round_trip(m in common::module()) {
        let text = m.to_string();
        let back = parse_module(&text, &m.weights).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(&back, &m);
        prop_assert_eq!(&back.renumbered(), &back);
        prop_assert_eq!(back.to_string(), text);
    }

    /// Damaged text never panics, and what is accepted round-trips.
    #[test]
    fn mutations(m in common::module(), edits in proptest::collection::vec((any::<Pick>(), any::<Pick>(), 0..4u8), 1..4)) {
        let text = common::mutate(&m.to_string(), &edits);
        if let Ok(read) = parse_module(&text, &m.weights) {
            prop_assert_eq!(&parse_module(&read.to_string(), &m.weights).unwrap(), &read);
        }
    }
}
