//! Every command on small models: what it prints, what it writes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use serde_json::Value;
use std::fs;
use std::process::Stdio;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let commands = [
        "compile", "compress", "run", "check", "eval", "bench", "verify", "inspect", "plan", "dump", "opt",
    ];
    let top = ok(["--help"]);
    for command in commands {
        assert!(top.contains(command), "{command}");
        let help = ok([command, "--help"]);
        assert!(
            help.contains("Examples:") && help.contains(&format!("sdc {command} ")),
            "{help}"
        );
    }
    assert!(!top.contains("bench-child"));
}

#[test]
fn compile_writes_an_artifact_that_runs_like_the_model() {
    let dir = Dir::new();
    let artifact = dir.path("out");
    let summary = ok(["compile", &example("shapes.onnx"), "-o", &artifact]);
    for line in ["arena_bytes: ", "weights_bytes: ", "code_bytes: ", "remarks: "] {
        assert!(summary.lines().any(|l| l.starts_with(line)), "{summary}");
    }
    let names: Vec<String> = files(&artifact).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "libshapes.a",
        "libshapes.so",
        "manifest.json",
        "shapes.h",
        "shapes.o",
        "shapes.weights",
    ];
    assert_eq!(names, expected);

    let input = format!("image={}", example("image.npy"));
    for (model, out) in [(&example("shapes.onnx"), "a"), (&artifact, "b")] {
        let (model, out) = (model.as_str(), dir.path(out));
        ok(["run", model, "--input", &input, "--output-dir", &out]);
    }
    // The default CPUs differ, so the bits may; the sizes may not.
    let (a, b) = (files(dir.path("a")), files(dir.path("b")));
    assert_eq!(
        a.iter().map(|f| &f.0).collect::<Vec<_>>(),
        ["names.json", "output_0.npy"]
    );
    assert_eq!(json(std::str::from_utf8(&a[0].1).unwrap()), json("[\"logits\"]"));
    assert_eq!(a[1].1.len(), b[1].1.len());
}

#[test]
fn embedded_weights_give_the_same_results() {
    let dir = Dir::new();
    let input = format!("image={}", example("image.npy"));
    let mut outputs = Vec::new();
    for (name, extra) in [("apart", None), ("inside", Some("--embed-weights"))] {
        let artifact = dir.path(name);
        let mut args = vec![
            "compile".to_owned(),
            example("shapes.onnx"),
            "-o".to_owned(),
            artifact.clone(),
        ];
        args.extend(extra.map(str::to_owned));
        ok(args);
        let out = dir.path(&format!("{name}_out"));
        ok(["run", &artifact, "--input", &input, "--output-dir", &out]);
        outputs.push(files(out));
        let has_weights = files(&artifact).iter().any(|(name, _)| name == "shapes.weights");
        assert_eq!(has_weights, extra.is_none());
    }
    assert_eq!(outputs[0], outputs[1]);
}

#[test]
fn compile_reports_as_json() {
    let dir = Dir::new();
    let report = dir.path("report.json");
    let artifact = dir.path("out");
    let out = ok([
        "compile",
        &example("shapes.onnx"),
        "-o",
        &artifact,
        "--json",
        "--report",
        &report,
    ]);
    let summary = json(&out);
    let peak = summary["arena_bytes"].as_u64().unwrap();
    assert!(peak >= summary["lower_bound_bytes"].as_u64().unwrap() && peak > 0);
    let report = json(&fs::read_to_string(report).unwrap());
    assert_eq!(report["plan"]["arena_bytes"].as_u64(), Some(peak));
    assert!(report["remarks"].as_array().is_some_and(|r| !r.is_empty()));
    assert!(report["kernels"].as_array().is_some_and(|r| !r.is_empty()));
    // What was reported is what is there.
    for file in summary["files"].as_array().unwrap() {
        let size = fs::metadata(file["path"].as_str().unwrap()).unwrap().len();
        assert_eq!(file["bytes"].as_u64(), Some(size));
    }
}

#[test]
fn without_kernels_none_is_linked_and_results_agree() {
    let dir = Dir::new();
    let (report, artifact) = (dir.path("report.json"), dir.path("out"));
    ok([
        "compile",
        &example("shapes.onnx"),
        "-o",
        &artifact,
        "--no-kernels",
        "--report",
        &report,
    ]);
    let report = json(&fs::read_to_string(report).unwrap());
    let kernels: Vec<&str> = report["kernels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|k| k.as_str().unwrap())
        .collect();
    assert!(kernels.iter().all(|k| k.ends_with("prepare")), "{kernels:?}");
    ok(["check", &example("shapes.onnx"), "--no-kernels"]);
}

#[test]
fn every_cpu_level_passes_the_check() {
    for cpu in ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"] {
        let ran = run(["check", &example("shapes.onnx"), "--cpu", cpu]);
        match ran.code {
            Some(4) if ran.err.contains("this CPU lacks") => skip(&format!("this machine cannot run {cpu}")),
            code => assert_eq!(code, Some(0), "{cpu}: {ran:?}"),
        }
    }
}

#[test]
fn run_binds_inputs_by_the_longest_name() {
    let dir = Dir::new();
    let model = dir.write("sum.onnx", onnx::sum());
    let a = dir.write("a.npy", npy_f32(&[3], &[1.0, 2.0, 3.0]));
    let b = dir.write("b.npy", npy_f32(&[3], &[10.0, 20.0, 30.0]));
    let out = ok([
        "run",
        &model,
        "--input",
        &format!("a={a}"),
        "--input",
        &format!("a=b={b}"),
    ]);
    assert_eq!(out, "y: f32[3] = [11, 22, 33]; min 11, max 33 at 2\n");
    let archive = dir.path("out.npz");
    let inputs = [format!("a={a}"), format!("a=b={b}")];
    ok([
        "run", &model, "--input", &inputs[0], "--input", &inputs[1], "--output", &archive,
    ]);
    assert!(fs::read(archive).unwrap().starts_with(b"PK"));
    let missing = fails(2, ["run", &model, "--input", &inputs[0]]);
    assert!(
        missing.contains("a=b=FILE.npy") && missing.contains("f32[3]"),
        "{missing}"
    );
    let twice = fails(2, ["run", &model, "--input", &inputs[0], "--input", &inputs[0]]);
    assert!(twice.contains("twice"), "{twice}");
    let unknown = fails(2, ["run", &model, "--input", "z=f.npy"]);
    assert!(unknown.contains("`a=b`"), "{unknown}");
    let wide = dir.write("wide.npy", npy("<f8", &[3], &[0; 24]));
    let wrong = fails(
        2,
        [
            "run",
            &model,
            "--input",
            &format!("a={wide}"),
            "--input",
            &inputs[1],
        ],
    );
    assert!(wrong.contains("f64[3]") && wrong.contains("astype"), "{wrong}");
}

#[test]
fn symbolic_dimensions_are_pinned_or_follow_from_the_data() {
    let dir = Dir::new();
    let model = dir.write("symbolic.onnx", onnx::symbolic());
    let error = fails(4, ["compile", &model, "-o", &dir.path("out")]);
    assert!(error.contains("--dim batch=N"), "{error}");
    ok(["compile", &model, "-o", &dir.path("out"), "--dim", "batch=3"]);
    fails(
        2,
        [
            "compile",
            &model,
            "-o",
            &dir.path("out"),
            "--dim",
            "batch=3",
            "--dim",
            "other=3",
        ],
    );
    let x = dir.write("x.npy", npy_f32(&[2, 2], &[-1.0, 2.0, -3.0, 4.0]));
    let out = ok(["run", &model, "--input", &format!("x={x}")]);
    assert!(out.starts_with("y: f32[2,2] = [0, 2, 0, 4]"), "{out}");
}

#[test]
fn eval_counts_as_the_example_promises() {
    let (images, labels) = (example("test_x.npy"), example("test_y.npy"));
    let scale = ["--scale", "0.00392156862745098"];
    let model = example("shapes.onnx");
    let args = ["eval", &model, "--images", &images, "--labels", &labels];
    let out = ok(args.iter().chain(&scale));
    assert!(out.starts_with("top1: 294/300\ntop5: "), "{out}");
    for threads in ["1", "3"] {
        assert_eq!(ok(args.iter().chain(&scale).chain(&["--threads", threads])), out);
    }
    let counts = json(&ok(args.iter().chain(&scale).chain(&["--json"])));
    assert_eq!(
        (counts["top1"].as_u64(), counts["classes"].as_u64()),
        (Some(294), Some(10))
    );
    let shifted = fails(2, args.iter().chain(&["--label-offset", "1"]));
    assert!(shifted.contains("--label-offset"), "{shifted}");
    fails(2, args.iter().chain(&["--output", "nothing"]));
    fails(2, args.iter().chain(&["--mean", "0.1,0.2"]));
}

#[test]
fn bench_prints_the_lines_that_scripts_read() {
    let out = ok([
        "bench",
        &example("shapes.onnx"),
        "--seconds",
        "0.01",
        "--threads",
        "2",
    ]);
    for key in ["latency_us: ", "rss_kib: "] {
        let line = out.lines().find_map(|l| l.strip_prefix(key)).unwrap();
        assert!(line.parse::<f64>().unwrap() > 0.0, "{out}");
    }
    let dir = Dir::new();
    ok(["compile", &example("shapes.onnx"), "-o", &dir.path("out")]);
    let measured = json(&ok(["bench", &dir.path("out"), "--seconds", "0", "--json"]));
    assert!(measured["runs"].as_u64().unwrap() >= 3);
    let late = fails(2, ["bench", &dir.path("out"), "--cpu", "native"]);
    assert!(late.contains("compiled already"), "{late}");
}

/// The process that is measured has no compiler in its memory; where its program is missing, `sdc` stands in.
#[test]
fn bench_measures_a_small_process_or_itself() {
    let dir = Dir::new();
    ok(["compile", &example("shapes.onnx"), "-o", &dir.path("out")]);
    let args = ["bench", &dir.path("out"), "--seconds", "0", "--json"];
    let alone = dir.path("sdc");
    let binary = env!("CARGO_BIN_EXE_sdc");
    std::fs::hard_link(binary, &alone)
        .or_else(|_| std::fs::copy(binary, &alone).map(drop))
        .unwrap();
    let output = std::process::Command::new(&alone).args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let kib = |measured: serde_json::Value| measured["rss_kib"].as_u64().unwrap();
    let (small, large) = (
        kib(json(&ok(args))),
        kib(json(&String::from_utf8(output.stdout).unwrap())),
    );
    assert!(small < large, "{small} {large}");
    // Both say what is wrong, with the same exit code.
    std::fs::write(dir.path("out/manifest.json"), "{}").unwrap();
    let said = fails(3, args);
    let output = std::process::Command::new(&alone).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(said.contains("manifest.json"), "{said}");
}

#[test]
fn bench_profiles_layers() {
    let (dir, model) = (Dir::new(), example("shapes.onnx"));
    let trace = dir.path("trace.json");
    let args = [
        "bench",
        &model,
        "--seconds",
        "0",
        "--threads",
        "2",
        "--trace",
        &trace,
    ];
    let measured = json(&ok(args.iter().chain(&["--json"])));
    let layers = measured["layers"].as_array().unwrap();
    let share: f64 = layers.iter().map(|l| l["share"].as_f64().unwrap()).sum();
    assert!((share - 1.0).abs() < 1e-6, "{measured}");
    let kernels: Vec<_> = layers.iter().filter_map(|l| l["kernel"].as_str()).collect();
    assert!(kernels.contains(&"conv2d_f32"), "{kernels:?}");
    for layer in layers.iter().filter(|l| l["kernel"] == "conv2d_f32") {
        assert!(layer["macs"].as_u64().unwrap() > 0, "{layer}");
        assert!(!layer["nodes"].as_array().unwrap().is_empty(), "{layer}");
    }
    let events = json(&std::fs::read_to_string(&trace).unwrap());
    assert_eq!(events["traceEvents"].as_array().unwrap().len(), layers.len());
    let table = ok(["bench", &model, "--seconds", "0", "--profile"]);
    assert!(table.contains("GFLOP/s"), "{table}");
    ok(["compile", &model, "-o", &dir.path("out")]);
    fails(2, ["bench", &dir.path("out"), "--profile"]);
}

#[test]
fn inspect_lists_what_is_there() {
    let out = ok(["inspect", &example("shapes.onnx")]);
    for expected in [
        "input: image f32[1,1,24,24]",
        "output: logits f32[1,10]",
        "macs: 1239360",
        "BatchNormalization",
    ] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
    let all = json(&ok(["inspect", &example("shapes.onnx"), "--json"]));
    assert_eq!(all["operators"]["Conv"].as_u64(), Some(8));
    assert_eq!(all["supported"], Value::Bool(true));
    assert_eq!(all["opsets"]["ai.onnx"].as_u64(), Some(17));
}

#[test]
fn inspect_lists_everything_unsupported_at_once() {
    let dir = Dir::new();
    let model = dir.write("unsupported.onnx", onnx::unsupported());
    let ran = run(["inspect", &model, "--json"]);
    assert_eq!(ran.code, Some(4));
    let all = json(&ran.out);
    assert_eq!(all["problems"].as_array().unwrap().len(), 2);
    for expected in [
        "u_node (NoSuchOperator #0)",
        "v_node (AnotherOne #1)",
        "f32[2]",
        "supported in no operator set",
        "2 problems",
    ] {
        assert!(ran.err.contains(expected), "{expected}: {}", ran.err);
    }
    let first = &all["problems"][0]["nodes"];
    assert_eq!(first["operator"], "NoSuchOperator");
    assert_eq!(
        (&first["count"], &first["names"][0]),
        (&1.into(), &"u_node".into())
    );
    assert_eq!(
        (&first["operands"][0], &first["supported_since"]),
        (&"x: f32[2]".into(), &Value::Null)
    );
}

/// A graph as text may hold what the importer writes otherwise: each node that has no code is named.
#[test]
fn what_has_no_lowering_is_listed() {
    let dir = Dir::new();
    let resize = |at: usize, size: usize, scale: &str, name: &str| {
        format!(
            "  %{at} = Resize(%0) {{sizes=[1,1,{size},{size}], scales=[1.0,1.0,{scale},{scale}], mode=linear, coordinates=half_pixel, \
             nearest=floor, cubic_coeff_a=-0.75, exclude_outside=false}} : u8[1,1,{size},{size}] from \"{name}\" Resize #{at}\n"
        )
    };
    let text = format!(
        "sdir 1 graph\ngraph \"blurred\" {{\n  %0 = input \"x\" : u8[1,1,4,4]\n{}{}  output \"y\" = %1\n  output \"z\" = %2\n}}\n",
        resize(1, 8, "2.0", "once"),
        resize(2, 12, "3.0", "again")
    );
    let model = dir.write("blurred.sdir", text);
    let said = fails(4, ["compile", &model, "-o", &dir.path("out")]);
    assert!(
        said.contains("E0212") && said.contains("once") && said.contains("again"),
        "{said}"
    );
}

/// Equal nodes are counted, and their nearest operator set is named.
#[test]
fn inspect_counts_equal_problems() {
    let dir = Dir::new();
    let mut net = onnx::Net::new().input("x", &[2]);
    for k in 0..12 {
        net = net.node("NoSuchOperator", &["x"], &format!("u{k}"), &[]);
    }
    // Operator set 17 has no Gelu yet.
    net = net.node("Gelu", &["x"], "g", &[]).output("g");
    let model = dir.write("many.onnx", net.output("u11").bytes());
    let ran = run(["inspect", &model]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.err.contains("12 nodes, also u1_node, u2_node") && ran.err.contains("and 3 more"),
        "{}",
        ran.err
    );
    assert!(
        ran.err.contains("nearest supported operator set: 20"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("2 problems"), "{}", ran.err);
    let lines: Vec<Vec<&str>> = ran.out.lines().map(|l| l.split_whitespace().collect()).collect();
    assert!(
        lines.contains(&vec!["NoSuchOperator", "E0201", "u0_node", "12", "none"]),
        "{}",
        ran.out
    );
    assert!(
        lines.contains(&vec!["Gelu", "E0111", "g_node", "1", "20"]),
        "{}",
        ran.out
    );
}

#[test]
fn plan_as_table_json_and_picture() {
    let dir = Dir::new();
    let picture = dir.path("plan.svg");
    let table = ok(["plan", &example("shapes.onnx"), "--svg", &picture]);
    let plan = json(&ok(["plan", &example("shapes.onnx"), "--json"]));
    let (peak, bound) = (
        plan["arena_bytes"].as_u64().unwrap(),
        plan["lower_bound_bytes"].as_u64().unwrap(),
    );
    assert!(
        table.contains(&format!("arena_bytes: {peak}")) && table.contains("stem/conv"),
        "{table}"
    );
    assert!(
        bound > 0 && bound <= peak && peak * 100 <= bound * 105,
        "{peak} {bound}"
    );
    assert!(fs::read_to_string(picture).unwrap().contains("<svg"));
    ok(["plan", &example("shapes.onnx"), "--ram", "1M"]);
    let error = fails(5, ["plan", &example("shapes.onnx"), "--ram", "16K"]);
    assert!(
        error.contains("might help") && error.contains("stem/pool"),
        "{error}"
    );
}

#[test]
fn a_reader_that_stops_is_no_error() {
    let mut child = sdc()
        .args(["dump", &example("shapes.onnx"), "--after", "tile"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

#[test]
fn one_output_goes_into_an_npy_file() {
    let dir = Dir::new();
    let input = format!("image={}", example("image.npy"));
    let (one, all) = (dir.path("o.npy"), dir.path("all"));
    let model = example("shapes.onnx");
    ok(["run", &model, "--input", &input, "--output", &one]);
    ok(["run", &model, "--input", &input, "--output-dir", &all]);
    let written = fs::read(&one).unwrap();
    assert!(written.starts_with(b"\x93NUMPY"));
    assert_eq!(written, fs::read(dir.path("all/output_0.npy")).unwrap());
}

#[test]
fn what_cannot_be_done_is_said_in_our_words() {
    let dir = Dir::new();
    let (model, out) = (example("shapes.onnx"), dir.path("out"));
    let text = fails(2, ["compile", &model, "-o", &out, "--weights", "streamed"]);
    assert!(
        text.contains("the model has none") && text.contains("sdc compress"),
        "{text}"
    );
    assert!(!fs::exists(&out).unwrap());
    ok(["compile", &model, "-o", &out]);
    let text = fails(2, ["check", &out]);
    assert!(
        text.contains("no recorded inputs") && text.contains("--data DIR"),
        "{text}"
    );
    let small = dir.path("small.onnx");
    let text = fails(2, ["compress", &model, "-o", &small, "--ratio", "0"]);
    assert!(text.contains("ratio 0 cannot be met"), "{text}");
}
