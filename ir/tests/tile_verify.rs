//! The tile verifier reports each law when it is broken, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sdc_ir::graph::{Weight, Weights};
use sdc_ir::text::parse_module;
use sdc_ir::tile::verify::{unproven, verify};
use sdc_ir::tile::{BufferKind, FuncBuilder, Module};
use sdc_ir::{DType, Tensor, entity::EntityId};

/// A module with an input `$0`, a constant `$1`, a temporary `$2` and an output `$3`, each of 16 `f32`, and `$4`, a
/// temporary of 16 `i32`.
fn module(funcs: &str) -> Module {
    let mut weights = Weights::new();
    weights.add(Tensor::from_elements(vec![16], vec![0f32; 16]).unwrap());
    let digest = weights.digest(Weight::new(0));
    let text = format!(
        "sdir 1 tile\nmodule \"m\" {{\n$0 = input 0 f32[16] \"x\"\n$1 = const @w0 f32[16] \"w\"\n\
         $2 = temp f32[16] \"t\"\n$3 = output 0 f32[16] \"y\"\n$4 = temp i32[16] \"i\"\n{funcs}\n}}\n\
         weights {{\n@w0 f32[16] sha256:{digest}\n}}"
    );
    parse_module(&text, &weights).unwrap()
}

/// Faults of a function with this body, as `law: message`.
fn faults(body: &str) -> Vec<String> {
    let module = module(&format!("func \"f\" from \"conv\" Conv #0 {{\n{body}\n}}"));
    listed(&module)
}

fn listed(module: &Module) -> Vec<String> {
    let faults = verify(module);
    for f in &faults {
        let text = f.to_string();
        assert!(
            f.func.is_none() || f.origins.is_empty() || text.ends_with(", from conv (Conv #0)"),
            "{text}"
        );
    }
    faults
        .iter()
        .map(|f| format!("{:?}: {}", f.law, f.message))
        .collect()
}

const NONE: [&str; 0] = [];

#[test]
fn a_sound_module_has_no_faults() {
    let body = "for i0 in 0..4 parallel {
          v0: f32x4 = const 0.0
          v5: f32x4 = for i1 in max(0, 1 - i0)..min(3, 5 - i0) carry (v1: f32x4 = v0) {
            v2: f32x4 = load $0[4*i0]
            v3: f32x4 = load_splat $1[i0 + i1 - 1]
            v4: f32x4 = fma v2, v3, v1
            next v4
          }
          v6: i32x4 = compare gt v5, v0
          v7: f32x4 = select v6, v5, v0
          store $2[4*i0], v7
          v8: i32x4 = convert v7
          v9: f32x4 = bitcast v8
          v10: f32 = fold add v9
          v11: f32 = lane v9, 3
          v12: f32x4 = splat v11
          v13: i64 = affine i0 + 1
          v14: f32 = load $2[0 + v13]
        }";
    assert_eq!(faults(body), NONE);
}

#[test]
fn buffers() {
    let mut m = module("");
    let push = |m: &mut Module, kind, dtype, len| {
        let data = sdc_ir::tile::BufferData {
            dtype,
            len,
            kind,
            name: String::new(),
        };
        m.buffers.push(data);
    };
    push(&mut m, BufferKind::Input(0), DType::F32, 1);
    push(&mut m, BufferKind::Output(0), DType::F32, 1);
    push(&mut m, BufferKind::Const(Weight::new(0)), DType::F32, 15);
    push(&mut m, BufferKind::Const(Weight::new(0)), DType::I32, 16);
    push(&mut m, BufferKind::Const(Weight::new(1)), DType::F32, 16);
    push(&mut m, BufferKind::Temp, DType::F32, usize::MAX / 2);
    assert_eq!(
        listed(&m),
        [
            "Buffer: $5 is a second buffer for input 0",
            "Buffer: $6 is a second buffer for output 0",
            "Buffer: $7 is f32[15], its weight @w0 f32[16]",
            "Buffer: $8 is i32[16], its weight @w0 f32[16]",
            "Buffer: $9: @w1 does not exist",
            "Buffer: $10 has too many elements",
        ]
    );
}

#[test]
fn buffers_exist() {
    let mut m = module("func \"f\" from \"conv\" Conv #0 { v0: f32 = load $2[0]\nstore $2[0], v0 }");
    m.buffers = m.buffers.values().take(2).cloned().collect();
    assert_eq!(
        listed(&m),
        [
            "Buffer: v0, $2 does not exist",
            "Buffer: store v0, $2 does not exist"
        ]
    );
}

#[test]
fn functions_have_names_and_origins() {
    let m = module("func \"\" from \"conv\" Conv #0 {}\nfunc \"a\" {}\nfunc \"a\" from \"conv\" Conv #0 {}");
    assert_eq!(
        listed(&m),
        [
            "Name: the name is empty",
            "Origin: no origin",
            "Name: another function has this name"
        ]
    );
    assert_eq!(verify(&m)[1].func.as_deref(), Some("a"));
}

#[test]
fn scopes() {
    assert_eq!(
        faults("for i0 in 0..4 {\n v0: f32 = load $0[i0] }\nstore $3[0], v0"),
        ["Scope: store v0: v0 is out of scope"]
    );
    assert_eq!(
        faults("for i0 in 0..4 {\n v0: f32 = load $0[i0] }\nv1: f32 = load $0[i0]"),
        ["Scope: v1, $0: i0 is not in scope"]
    );
    assert_eq!(
        faults("for i0 in 0..4 {\n}\nfor i1 in i0..4 {\n}"),
        ["Scope: for i1: i0 is not in scope"]
    );
    assert_eq!(
        faults(
            "v0: f32 = const 0.0\nv2: f32 = for i0 in 0..4 carry (v1: f32 = v0) {\nnext v1\n}\nv3: f32 = neg v1"
        ),
        ["Scope: v3: v1 is out of scope"]
    );
    // What no text can say: ids used before their definition, defined twice, or not of this function.
    let ty = sdc_ir::tile::Ty::scalar(DType::F32);
    let mut m = module("");
    let mut b = FuncBuilder::new();
    let (x, y) = (b.fresh_val(ty), b.fresh_val(ty));
    let neg = |x| sdc_ir::tile::Inst::Arith1(sdc_ir::tile::Arith1::Neg, x);
    b.push(sdc_ir::tile::Stmt::Let(x, neg(y)));
    b.push(sdc_ir::tile::Stmt::Let(y, neg(x)));
    b.push(sdc_ir::tile::Stmt::Let(y, neg(sdc_ir::tile::Val::new(7))));
    b.push(sdc_ir::tile::Stmt::Let(sdc_ir::tile::Val::new(8), neg(x)));
    m.funcs.push(b.finish("f", Vec::new()));
    assert_eq!(
        listed(&m),
        [
            "Origin: no origin",
            "Scope: v0: v1 is not yet defined",
            "Scope: v1: v7 does not exist",
            "Scope: v1 is defined twice",
            "Scope: v8 does not exist",
        ]
    );
}

#[test]
fn types() {
    let with = |inst: &str| {
        faults(&format!(
            "v0: f32x4 = const 0.0\nv1: i32x4 = const 0\nv2: i64 = const 0\nv3: bool = const 1\n{inst}"
        ))
    };
    for sound in [
        "v4: i32x4 = shl v1, v1",
        "v4: bool = and v3, v3",
        "v4: f32x4 = select v1, v0, v0",
    ] {
        assert_eq!(with(sound), NONE);
    }
    for (inst, reason) in [
        (
            "v4: f32x4 = add v0, v1",
            "f32x4: the types differ; operands: f32x4, i32x4",
        ),
        ("v4: f32x0 = const 0.0", "has no lanes"),
        (
            "v4: f32 = const 0x100000000",
            "f32: the constant has more bits than the type; operands: ",
        ),
        ("v4: bool = const 2", "bool: a bool is 0 or 1; operands: "),
        ("v4: i32 = affine 3", "i32: an affine value is an i64; operands: "),
        (
            "v4: f32x4 = splat v0",
            "f32x4: splat takes a scalar of the result's element type; operands: f32x4",
        ),
        ("v4: bool = neg v3", "bool: not defined on bool; operands: bool"),
        (
            "v4: i32x4 = sqrt v1",
            "i32x4: defined on floats only; operands: i32x4",
        ),
        (
            "v4: f32x4 = not v0",
            "f32x4: not defined on floats; operands: f32x4",
        ),
        (
            "v4: bool = add v3, v3",
            "bool: not defined on bool; operands: bool, bool",
        ),
        (
            "v4: f32x4 = xor v0, v0",
            "f32x4: not defined on floats; operands: f32x4, f32x4",
        ),
        (
            "v4: f32x4 = shr v0, v0",
            "f32x4: defined on integers only; operands: f32x4, f32x4",
        ),
        (
            "v4: bool = fma v3, v3, v3",
            "bool: not defined on bool; operands: bool, bool, bool",
        ),
        (
            "v4: i32x4 = compare eq v0, v1",
            "i32x4: the operands' types differ; operands: f32x4, i32x4",
        ),
        (
            "v4: bool = compare eq v2, v2",
            "bool: a comparison gives the mask type of its operands; operands: i64, i64",
        ),
        (
            "v4: f32x4 = select v0, v0, v0",
            "f32x4: the mask has another type than the result's mask type; operands: f32x4, f32x4, f32x4",
        ),
        (
            "v4: f32x4 = select v1, v0, v1",
            "f32x4: the types differ; operands: i32x4, f32x4, i32x4",
        ),
        (
            "v4: f64 = convert v0",
            "f64: the numbers of lanes differ; operands: f32x4",
        ),
        (
            "v4: f64x4 = bitcast v0",
            "f64x4: the widths differ; operands: f32x4",
        ),
        (
            "v4: f32x4 = fold add v0",
            "f32x4: the result is a scalar of the operand's element type; operands: f32x4",
        ),
        (
            "v4: f32 = lane v0, 4",
            "f32: there is no such lane; operands: f32x4",
        ),
        ("v4: i32x4 = load $2[0]", ", $2 holds f32, accessed as i32x4"),
        (
            "v4: f32x4 = load $2[0 + v3]",
            ", $2: the offset v3 is bool, should be i64",
        ),
    ] {
        let fault = match reason.split_once(':') {
            Some((ty, _)) if !ty.contains([' ', ',']) => format!("Type: v4: {reason}"),
            _ if reason.starts_with(',') => format!("Type: v4{reason}"),
            _ => format!("Type: v4 {reason}"),
        };
        assert_eq!(with(inst), [fault], "{inst}");
    }
    assert_eq!(
        with("store $4[0], v0"),
        ["Type: store v0, $4 holds i32, accessed as f32x4"]
    );
    assert_eq!(
        with("v5: f32x4 = for i0 in 0..4 carry (v4: f32x4 = v0) {\nnext v1\n}"),
        ["Type: for i0: v5, v4, v0 and v1 differ in type"]
    );
}

#[test]
fn inputs_and_constants_are_read_only() {
    assert_eq!(
        faults("v0: f32 = const 0.0\nstore $0[0], v0\nstore $1[0], v0"),
        [
            "Write: store v0: $0 is read only",
            "Write: store v0: $1 is read only"
        ]
    );
}

#[test]
fn loops() {
    assert_eq!(
        faults("for i0 in 0..4 step 0 {\n}\nfor i1 in 0..4 step -1 {\n}"),
        ["Loop: for i0: the step is 0", "Loop: for i1: the step is -1"]
    );
    assert_eq!(
        faults("for i0 in 0..4 parallel {\n}\nfor i1 in 0..4 {\nfor i2 in 0..4 parallel {\n}\n}"),
        [
            "Loop: for i0 is parallel, but not the whole body of its function",
            "Loop: for i2 is parallel, but not the whole body of its function",
        ]
    );
    let mut m = module("func \"f\" from \"conv\" Conv #0 { for i0 in 0..4 {\n} }");
    let ty = sdc_ir::tile::Ty::scalar(DType::F32);
    let v = [(); 4].map(|()| m.funcs[0].vals.push(ty));
    let sdc_ir::tile::Stmt::For(l) = &mut m.funcs[0].body[0] else {
        panic!("not a loop");
    };
    l.parallel = true;
    l.carried.push(sdc_ir::tile::Carried {
        result: v[0],
        arg: v[1],
        init: v[2],
        next: v[1],
    });
    assert_eq!(
        listed(&m),
        [
            "Loop: for i0 is parallel and carries values",
            "Scope: for i0: v2 is not yet defined"
        ]
    );
}

#[test]
fn kernels() {
    let kernel = *sdc_ir::registry::find("conv2d_f32").unwrap();
    let required = |o: &sdc_ir::registry::Operand| o.role != sdc_ir::registry::Role::ReadOptional;
    let write = |o: &sdc_ir::registry::Operand| o.role == sdc_ir::registry::Role::Write;
    let call = |operand: &dyn Fn(&sdc_ir::registry::Operand) -> String, params: usize| {
        let operands: Vec<String> = kernel.operands.iter().map(operand).collect();
        // No optional operand is promised.
        let value = |name: &&str| if name.starts_with("has_") { "0" } else { "1" };
        let params: Vec<&str> = kernel.params.iter().take(params).map(value).collect();
        let (name, params) = (kernel.name, params.join(", "));
        faults(&format!(
            "kernel {name}({}) range 0..1 {{{params}}}",
            operands.join(", ")
        ))
    };
    let n = kernel.params.len();
    let sound = |o: &sdc_ir::registry::Operand| if required(o) { "$2[0]" } else { "none" }.to_owned();
    assert_eq!(call(&sound, n), NONE);
    assert_eq!(
        call(&sound, n - 1),
        [format!(
            "Kernel: kernel {}: has {} parameters, needs {n}",
            kernel.name,
            n - 1
        )]
    );
    for (name, value, why) in [
        ("sh", 0, "range"),
        ("dw", -1, "range"),
        ("nr", 1 << 40, "range"),
        ("lanes", 2, "multiple"),
    ] {
        let mut params = vec![1; n];
        params[kernel.params.iter().position(|&p| p == name).unwrap()] = value;
        let wrong = kernel.bad_params(&params).unwrap_or_default();
        assert!(wrong.contains(name) && wrong.contains(why), "{wrong}");
    }
    let ones = vec!["1"; n].join(", ");
    let operands: Vec<String> = kernel.operands.iter().map(sound).collect();
    assert_eq!(
        faults(&format!(
            "kernel {}({}) range 0..1 {{{ones}}}",
            kernel.name,
            operands.join(", ")
        )),
        ["Kernel: kernel conv2d_f32 has no bias, which its parameters promise"]
    );
    let missing = call(&|o| if write(o) { "none".into() } else { sound(o) }, n);
    assert!(
        missing[0].starts_with("Kernel: ") && missing[0].ends_with(" is required"),
        "{missing:?}"
    );
    let constant = call(&|o| if write(o) { "$1[0]".into() } else { sound(o) }, n);
    assert!(
        constant[0].starts_with("Write: ") && constant[0].ends_with("$1 is read only"),
        "{constant:?}"
    );
    let outside = call(&|o| if write(o) { "$2[17]".into() } else { sound(o) }, n);
    assert!(
        outside[0].starts_with("Bounds: ") && outside.len() == 1,
        "{outside:?}"
    );
    assert_eq!(
        faults(&format!(
            "kernel {}() range 0..1 {{{}}}",
            kernel.name,
            vec!["1"; n].join(",")
        )),
        [format!(
            "Kernel: kernel {} has 0 operands, should have {}",
            kernel.name,
            kernel.operands.len()
        )]
    );
    assert_eq!(
        faults("kernel nonsense() range 0..1"),
        ["Kernel: kernel nonsense is not in the registry"]
    );
}

/// What is known of a load in loops: `inside`, `outside` or `unknown`.
fn bounds(loops: &[&str], load: &str) -> &'static str {
    let open: String = loops.iter().map(|l| format!("for {l} {{\n")).collect();
    let body = format!("{open}v0: {load}\n{}", "}\n".repeat(loops.len()));
    let module = module(&format!("func \"f\" from \"conv\" Conv #0 {{\n{body}}}"));
    match (verify(&module).as_slice(), unproven(&module).as_slice()) {
        ([], []) => "inside",
        ([fault], []) if fault.law == sdc_ir::tile::verify::Law::Bounds => "outside",
        ([], [_]) => "unknown",
        other => panic!("{other:?}"),
    }
}

#[test]
fn bounds_of_constant_loops_are_exact() {
    assert_eq!(bounds(&[], "f32 = load $2[15]"), "inside");
    assert_eq!(bounds(&[], "f32 = load $2[16]"), "outside");
    assert_eq!(bounds(&[], "f32 = load $2[-1]"), "outside");
    assert_eq!(bounds(&[], "f32x4 = load $2[12]"), "inside");
    assert_eq!(bounds(&[], "f32x4 = load $2[13]"), "outside");
    assert_eq!(bounds(&[], "f32x4 = load_splat $2[15]"), "inside");
    assert_eq!(bounds(&["i0 in 0..16"], "f32 = load $2[i0]"), "inside");
    assert_eq!(bounds(&["i0 in 0..16"], "f32 = load $2[i0 + 1]"), "outside");
    assert_eq!(bounds(&["i0 in 0..16"], "f32 = load $2[15 - i0]"), "inside");
    assert_eq!(bounds(&["i0 in 0..16"], "f32 = load $2[14 - i0]"), "outside");
    assert_eq!(bounds(&["i0 in 0..16 step 4"], "f32x4 = load $2[i0]"), "inside");
    assert_eq!(
        bounds(
            &["i0 in max(1, 0)..min(17, 99) step 4"],
            "f32x4 = load $2[i0 - 1]"
        ),
        "inside"
    );
    assert_eq!(bounds(&["i0 in 1..17 step 4"], "f32x4 = load $2[i0]"), "outside");
    assert_eq!(
        bounds(&["i0 in 0..4", "i1 in 0..4"], "f32 = load $2[4*i0 + i1]"),
        "inside"
    );
    assert_eq!(
        bounds(&["i0 in 0..4", "i1 in 0..5"], "f32 = load $2[4*i0 + i1]"),
        "outside"
    );
    // Never runs.
    assert_eq!(bounds(&["i0 in 4..4"], "f32 = load $2[99]"), "inside");
}

#[test]
fn bounds_follow_border_expressions() {
    let rows = ["i0 in 0..16", "i1 in max(0, 1 - i0)..min(3, 17 - i0)"];
    assert_eq!(bounds(&rows, "f32 = load $2[i0 + i1 - 1]"), "inside");
    assert_eq!(bounds(&rows, "f32 = load $2[i0 + i1 + 3]"), "unknown");
    assert_eq!(bounds(&rows, "f32 = load $2[i0 + i1 + 15]"), "outside");
    // Tiles: the inner loop's variable is a multiple of 4 only because the outer one's is.
    let tiles = ["i0 in 0..16 step 8", "i1 in i0..min(16, i0 + 8) step 4"];
    assert_eq!(bounds(&tiles, "f32x4 = load $2[i1]"), "inside");
    assert_eq!(bounds(&tiles, "f32x4 = load $2[i1 + 1]"), "unknown");
    let tiles = ["i0 in 0..9 step 3", "i1 in i0..i0 + 8 step 4"];
    assert_eq!(bounds(&tiles, "f32x4 = load $2[i1]"), "inside");
    // Overflow is not proof.
    let huge = ["i0 in 0..9223372036854775807", "i1 in 0..i0"];
    assert_eq!(bounds(&huge, "f32 = load $2[9223372036854775807*i1]"), "unknown");
}

#[test]
fn run_time_offsets_are_not_proved() {
    let body = "v0: i64 = const 3\nv1: f32 = load $2[4 + v0]";
    assert_eq!(faults(body), NONE);
    let m = module(&format!("func \"f\" from \"conv\" Conv #0 {{\n{body}\n}}"));
    let texts: Vec<String> = unproven(&m).iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        ["func \"f\": v1, $2: [4] has a run-time offset, from conv (Conv #0)"]
    );
}
