//! Damaged models: whatever the bytes are, import returns, without a panic and without asking for much memory.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says why it was skipped"
)]

mod common;

use bytes::Bytes;
use common::*;
use prost::Message;
use sdc_frontend::proto::{ModelProto, NodeProto};
use sdc_frontend::{ImportOptions, import as import_bytes};
use sdc_ir::{DType, Tensor};

/// xorshift64*: the same damage in every run.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// A convolutional network with a shape computation, a resize and a branch.
fn network() -> ModelProto {
    let branch = graph(vec![node("Relu", "gemm", "r", vec![])], vec![], vec![], "r");
    let nodes = vec![
        node(
            "Conv",
            "x w b",
            "c",
            vec![("pads", A::Ints(&[1, 1, 1, 1])), ("strides", A::Ints(&[2, 1]))],
        ),
        node(
            "MaxPool",
            "c",
            "p",
            vec![("kernel_shape", A::Ints(&[2, 2])), ("ceil_mode", A::Int(1))],
        ),
        node("Resize", "p _ scales", "u", vec![("mode", A::Text("linear"))]),
        node("Pad", "u pads", "q", vec![("mode", A::Text("reflect"))]),
        node("Shape", "q", "s", vec![]),
        node("Slice", "s zero one", "batch", vec![]),
        node("Concat", "batch minus", "target", vec![("axis", A::Int(0))]),
        node("Reshape", "q target", "flat", vec![]),
        node(
            "Gemm",
            "flat g",
            "gemm",
            vec![("transB", A::Int(1)), ("alpha", A::Float(0.5))],
        ),
        node("If", "cond", "picked", vec![("then_branch", A::Graph(branch))]),
        node("ReduceSum", "picked axes", "sum", vec![("keepdims", A::Int(0))]),
        node("Tile", "sum repeats", "t", vec![]),
        node("Split", "t", "y z", vec![("axis", A::Int(0))]),
    ];
    let cond = Tensor::new(DType::Bool, vec![], vec![1].into()).unwrap();
    let weights = vec![
        ("w", f32s(&[2, 3, 3, 3], &[0.5; 54])),
        ("b", f32s(&[2], &[1.0, 2.0])),
        ("scales", f32s(&[4], &[1.0, 1.0, 2.0, 1.5])),
        ("pads", i64s(&[0, 0, 1, 1, 0, 0, 0, 1])),
        ("zero", i64s(&[0])),
        ("one", i64s(&[1])),
        ("minus", i64s(&[-1])),
        ("g", f32s(&[4, 126], &[0.1; 504])),
        ("cond", cond),
        ("axes", i64s(&[1])),
        ("repeats", i64s(&[4])),
    ];
    model(
        18,
        graph(nodes, vec![info("x", DType::F32, &[2, 3, 8, 6])], weights, "y z"),
    )
}

#[test]
fn the_undamaged_network_imports() {
    let imported = import(network());
    imported.unwrap_or_else(|e| panic!("{e}"));
}

/// Damages bytes: flips, overwrites, insertions, deletions, truncation, repetition.
fn damage(rng: &mut Rng, original: &[u8]) -> Vec<u8> {
    const WORDS: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x08, 0x0a, 0x12];
    let mut bytes = original.to_vec();
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len());
        match rng.below(7) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = WORDS[rng.below(WORDS.len())],
            2 => bytes[at] = rng.next() as u8,
            3 => bytes.insert(at, WORDS[rng.below(WORDS.len())]),
            4 => {
                bytes.remove(at);
            }
            5 => {
                let end = (at + rng.below(40)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = rng.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            _ if rng.below(4) == 0 => bytes.truncate(at),
            _ => bytes[at] = bytes[at].wrapping_add(1),
        }
        if bytes.is_empty() {
            return bytes;
        }
    }
    bytes
}

#[test]
fn damaged_bytes() {
    let original = network().encode_to_vec();
    let mut rng = Rng(0x5eed);
    let (mut fine, mut refused) = (0, 0);
    for _ in 0..4000 {
        match import_bytes(
            Bytes::from(damage(&mut rng, &original)),
            &ImportOptions::default(),
        ) {
            Ok(_) => fine += 1,
            Err(e) => {
                assert!(!e.0.is_empty() && !e.to_string().is_empty());
                refused += 1;
            }
        }
    }
    // Damage must reach both ends for the test to mean something.
    assert!(fine > 100 && refused > 1000, "{fine} {refused}");
}

const NUMBERS: [i64; 16] = [
    0,
    1,
    2,
    3,
    7,
    -1,
    -2,
    -9,
    1000,
    65_536,
    1 << 31,
    1 << 40,
    i64::MAX,
    i64::MIN,
    i64::MAX - 1,
    i64::MIN + 1,
];

/// Damages a decoded model, which reaches deeper than bytes do: numbers, names, operators.
fn damage_parts(rng: &mut Rng, m: &mut ModelProto) {
    let number = NUMBERS[rng.below(NUMBERS.len())];
    let g = m.graph.as_mut().unwrap();
    let nodes = g.node.len();
    let pick = rng.below(nodes);
    match rng.below(9) {
        0 => {
            let t = rng.below(g.initializer.len());
            let t = &mut g.initializer[t];
            if t.data_type == Some(sdc_frontend::proto::data_type::INT64) {
                let n = t.raw_data.as_ref().map_or(0, Bytes::len) / 8;
                let mut data = t.raw_data.take().unwrap_or_default().to_vec();
                let at = 8 * rng.below(n);
                data[at..at + 8].copy_from_slice(&number.to_le_bytes());
                t.raw_data = Some(data.into());
            } else if let Some(d) = t.dims.first_mut() {
                *d = number;
            }
        }
        1 | 2 => {
            let NodeProto { attribute, .. } = &mut g.node[pick];
            let at = rng.below(attribute.len());
            if let Some(a) = attribute.get_mut(at) {
                match a.ints.is_empty() {
                    true => a.i = Some(number),
                    false => {
                        let k = rng.below(a.ints.len());
                        a.ints[k] = number;
                    }
                }
            }
        }
        3 => {
            let from = rng.below(nodes);
            let name = g.node[from].output[0].clone();
            let inputs = &mut g.node[pick].input;
            let k = rng.below(inputs.len());
            if let Some(slot) = inputs.get_mut(k) {
                *slot = name;
            }
        }
        4 | 5 => {
            let all: Vec<&str> = sdc_frontend::supported_operators().collect();
            g.node[pick].op_type = Some(all[rng.below(all.len())].to_owned());
        }
        6 => {
            let other = rng.below(nodes);
            g.node.swap(pick, other);
        }
        7 => {
            let t = rng.below(g.initializer.len());
            let name = g.initializer[t].name.clone().unwrap_or_default();
            let inputs = &mut g.node[pick].input;
            if rng.below(2) == 0 {
                inputs.push(name);
            } else {
                let k = rng.below(inputs.len());
                inputs[k] = name;
            }
        }
        _ => m.opset_import[0].version = Some(7 + rng.below(25) as i64),
    }
}

#[test]
fn damaged_parts() {
    let original = network();
    let mut rng = Rng(0xbad);
    let (mut fine, mut refused) = (0, 0);
    for _ in 0..3000 {
        let mut m = original.clone();
        for _ in 0..=rng.below(3) {
            damage_parts(&mut rng, &mut m);
        }
        match import(m) {
            Ok(_) => fine += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(fine > 500 && refused > 1000, "{fine} {refused}");
}

/// Every operator with operands and attributes that were not made for it.
#[test]
fn operators_on_arbitrary_operands() {
    let mut rng = Rng(0xface);
    let all: Vec<(&str, &str)> = sdc_frontend::operators().collect();
    let words = [
        "axis",
        "axes",
        "pads",
        "strides",
        "dilations",
        "kernel_shape",
        "group",
        "split",
        "num_outputs",
        "perm",
        "blocksize",
        "size",
        "output_padding",
        "output_shape",
        "starts",
        "ends",
        "to",
        "auto_pad",
        "ceil_mode",
        "mode",
        "num_groups",
        "start",
        "end",
        "scales",
        "keepdims",
        "noop_with_empty_axes",
        "value_ints",
        "allowzero",
        "antialias",
        "coordinate_transformation_mode",
        "storage_order",
        "hidden_size",
        "clip",
        "activations",
        "output_height",
        "sampling_ratio",
        "offset_group",
        "K",
        "N",
        "bits",
        "block_size",
        "training_mode",
    ];
    let mut fine = 0;
    for _ in 0..9000 {
        let dims = |rng: &mut Rng| -> Vec<i64> {
            (0..rng.below(5))
                .map(|_| [0, 1, 2, 3, 4, 6, 1 << 33][rng.below(7)])
                .collect()
        };
        let dtypes = [
            DType::F32,
            DType::F32,
            DType::I64,
            DType::I32,
            DType::U8,
            DType::Bool,
            DType::F64,
            DType::F16,
        ];
        // Half of the time the operands are alike, or next to nothing would import.
        let (common, dtype) = (dims(&mut rng), dtypes[rng.below(dtypes.len())]);
        let inputs: Vec<_> = (0..3)
            .map(|i| match rng.below(2) {
                0 => info(&format!("x{i}"), dtype, &common),
                _ => info(&format!("x{i}"), dtypes[rng.below(dtypes.len())], &dims(&mut rng)),
            })
            .collect();
        let lists: Vec<(String, Tensor)> = (0..3)
            .map(|i| {
                let values: Vec<i64> = (0..rng.below(5))
                    .map(|_| NUMBERS[rng.below(NUMBERS.len())])
                    .collect();
                let scalar = rng.below(4) == 0;
                let t = if scalar {
                    Tensor::scalar(values.first().copied().unwrap_or(3))
                } else {
                    i64s(&values)
                };
                (format!("k{i}"), t)
            })
            .collect();
        let names = ["x0", "x1", "x2", "k0", "k1", "k2", "_"];
        let operands: Vec<&str> = (0..rng.below(5)).map(|_| names[rng.below(names.len())]).collect();
        let values: Vec<i64> = (0..rng.below(5))
            .map(|_| NUMBERS[rng.below(NUMBERS.len())])
            .collect();
        let mut attributes = Vec::new();
        for _ in 0..rng.below(3) {
            let name = words[rng.below(words.len())];
            let value = match rng.below(4) {
                0 => A::Int(NUMBERS[rng.below(NUMBERS.len())]),
                1 => A::Ints(&values),
                2 => A::Text(
                    [
                        "SAME_UPPER",
                        "linear",
                        "CRD",
                        "reflect",
                        "?",
                        "tf_crop_and_resize",
                    ][rng.below(6)],
                ),
                _ => A::Float([0.0, -1.5, f32::NAN, f32::INFINITY, 1e30][rng.below(5)]),
            };
            attributes.push((name, value));
        }
        let outputs = ["y", "y z"][rng.below(2)];
        let (domain, op) = all[rng.below(all.len())];
        let mut n = node(op, &operands.join(" "), outputs, attributes);
        n.domain = Some(domain.to_owned());
        let weights = lists.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
        let m = model(
            [7, 9, 10, 11, 13, 18, 24, 28][rng.below(8)],
            graph(vec![n], inputs, weights, outputs),
        );
        fine += usize::from(import(m).is_ok());
    }
    assert!(fine > 20, "{fine}");
}

#[test]
fn deep_nesting_is_refused() {
    // Graphs within attributes within nodes, far deeper than any model.
    let mut g = graph(vec![node("Relu", "x", "y", vec![])], vec![], vec![], "y");
    for _ in 0..60 {
        g = graph(
            vec![node("If", "c", "y", vec![("then_branch", A::Graph(g))])],
            vec![],
            vec![],
            "y",
        );
    }
    let bytes = model(13, g).encode_to_vec();
    assert!(import_bytes(bytes.into(), &ImportOptions::default()).is_err());
}
