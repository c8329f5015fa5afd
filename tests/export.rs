//! Compressed weights written into ONNX models and read back: the same codes, the same results, and no trust in damaged files.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::onnx;
use common::stored::{compress, expected, inputs};
use prost::Message;
use sdc_frontend::export::{export, obstacles};
use sdc_frontend::proto::ModelProto;
use sdc_frontend::{ImportErrors, ImportOptions, Imported, import_model};
use sdc_interp::compare::{Class, compare};
use sdc_interp::run_graph;
use sdc_ir::graph::{Graph, Op};
use sdc_passes::pipeline::{TO_FUSED, run_passes};

fn decode(bytes: &[u8]) -> ModelProto {
    ModelProto::decode(bytes).unwrap()
}

fn import(model: ModelProto) -> Result<Imported, ImportErrors> {
    import_model(model, &ImportOptions::default())
}

fn fused(model: ModelProto) -> Graph {
    let graph = import(model).unwrap().graph;
    run_passes(&graph, &TO_FUSED, None, &mut ()).unwrap().graph
}

/// The packed weights of a graph, in the order of their readers.
fn packed(graph: &Graph) -> Vec<Vec<u8>> {
    let nodes = graph.nodes().values();
    nodes
        .filter(|n| matches!(n.op, Op::Rebuild(_)))
        .map(|n| graph.constant(n.inputs[0]).unwrap().bytes().to_vec())
        .collect()
}

/// Compresses, exports, imports: the codes must be the same and the results within rounding. The exported model.
fn round_trip(bytes: &[u8], opset: i64) -> ModelProto {
    round_trip_but(bytes, opset, None)
}

/// The same, one layer left as it is.
fn round_trip_but(bytes: &[u8], opset: i64, but: Option<usize>) -> ModelProto {
    let mut model = decode(bytes);
    model.opset_import[0].version = Some(opset);
    let graph = fused(model.clone());
    assert!(
        obstacles(&model, &graph).is_empty(),
        "{:?}",
        obstacles(&model, &graph)
    );
    let graph = compress(&graph, 7, but);
    assert!(!packed(&graph).is_empty());
    let out = export(model.clone(), &graph, &[("note".into(), "1".into())]).unwrap();
    assert_eq!(
        out,
        export(model, &graph, &[("note".into(), "1".into())]).unwrap()
    );
    // As a file: what protobuf keeps.
    let out = decode(&out.encode_to_vec());
    let again = fused(out.clone());
    let (mut a, mut b) = (packed(&graph), packed(&again));
    a.sort();
    b.sort();
    assert_eq!(a, b);
    let inputs = inputs(&graph, 3);
    let (want, got) = (
        run_graph(&graph, &inputs).unwrap(),
        run_graph(&again, &inputs).unwrap(),
    );
    for (want, got) in want.iter().zip(&got) {
        let report = compare(got, want, Class::ROUNDING);
        assert!(report.passed(), "{report}");
    }
    out
}

fn names(model: &ModelProto) -> Vec<String> {
    let graph = model.graph.as_ref().unwrap();
    graph
        .node
        .iter()
        .map(|n| format!("{} {}", n.op_type.clone().unwrap(), n.name.clone().unwrap()))
        .collect()
}

#[test]
fn a_classifier_round_trips_at_every_operator_set() {
    for opset in [11, 12, 13, 17, 21] {
        let out = round_trip(&onnx::classifier(), opset);
        let all = names(&out);
        for kept in ["Conv c1_node", "Conv c2_node", "Gemm g_node", "Relu r1_node"] {
            assert!(all.iter().any(|n| n == kept), "{all:?}");
        }
        let form = if opset < 13 {
            "Mul w1/dequantised"
        } else {
            "DequantizeLinear w1/dequantised"
        };
        assert!(all.iter().any(|n| n == form), "{all:?}");
    }
}

#[test]
fn recurrent_layers_round_trip() {
    for op in ["LSTM", "GRU", "RNN"] {
        for opset in [11, 14] {
            let out = round_trip(&onnx::recurrent(op, 1), opset);
            let all = names(&out);
            for part in ["w", "r", "m"] {
                assert!(
                    all.iter().any(|n| n.ends_with(&format!(" {part}/dequantised"))),
                    "{all:?}"
                );
            }
        }
    }
}

#[test]
fn two_directions_are_compressed_apart() {
    for op in ["LSTM", "GRU", "RNN"] {
        for opset in [11, 14] {
            // All, then all but one of the gates' four weights.
            for but in [None, Some(0), Some(1), Some(2), Some(3)] {
                let all = names(&round_trip_but(&onnx::recurrent(op, 2), opset, but));
                let joined = all.iter().filter(|n| n.starts_with("Concat"));
                assert_eq!(joined.count(), 2, "{all:?}");
            }
        }
    }
}

#[test]
fn batch_norm_and_scales_disappear_into_the_weights() {
    let out = round_trip(&onnx::folding(), 13);
    let all = names(&out);
    for gone in ["BatchNormalization", "Mul", "Identity"] {
        assert!(!all.iter().any(|n| n.starts_with(gone)), "{all:?}");
    }
    // The Add of a MatMul keeps its name; nothing is left of what was folded.
    assert!(all.iter().any(|n| n == "Add biased_node"), "{all:?}");
    let graph = out.graph.as_ref().unwrap();
    for name in ["gamma", "beta", "mean", "var", "factor"] {
        assert!(
            graph.initializer.iter().all(|t| t.name.as_deref() != Some(name)),
            "{name}"
        );
        assert!(
            graph.input.iter().all(|i| i.name.as_deref() != Some(name)),
            "{name}"
        );
    }
    assert!(
        graph
            .initializer
            .iter()
            .any(|t| t.name.as_deref() == Some("unused"))
    );
}

#[test]
fn compressing_again_replaces_what_was_there() {
    let first = round_trip(&onnx::classifier(), 13);
    let graph = fused(first.clone());
    let same = export(first.clone(), &graph, &[]).unwrap();
    assert_eq!(packed(&fused(same.clone())), packed(&graph));
    let count = |m: &ModelProto| m.graph.as_ref().unwrap().initializer.len();
    assert_eq!(count(&same), count(&first));
    assert_eq!(names(&same), names(&first));
}

#[test]
fn a_payload_that_does_not_match_is_refused_by_name() {
    let good = round_trip(&onnx::classifier(), 13);
    let change = |name: &str, at: usize| {
        let mut model = good.clone();
        let graph = model.graph.as_mut().unwrap();
        let tensor = graph
            .initializer
            .iter_mut()
            .find(|t| t.name.as_deref() == Some(name))
            .unwrap();
        let mut raw = tensor.raw_data.clone().unwrap().to_vec();
        raw[at] ^= 1;
        tensor.raw_data = Some(raw.into());
        import(model).unwrap_err()
    };
    for (name, at) in [("w1", 5), ("w1/scale", 3), ("sdc.sd/w1", 0), ("sdc.sd/w1", 40)] {
        let errors = change(name, at);
        assert_eq!(errors.class().exit_code(), 3, "{errors}");
        assert!(errors.to_string().contains("w1 (Initializer #"), "{errors}");
    }
    let mut model = good.clone();
    model.metadata_props[0].value = Some("2".into());
    assert_eq!(import(model).unwrap_err().class().exit_code(), 4);
}

#[test]
fn damaged_payloads_are_refused_or_verified() {
    let good = round_trip(&onnx::classifier(), 13);
    let want = expected(&good);
    let mut rng = fastrand::Rng::with_seed(11);
    let (mut refused, mut loaded) = (0, 0);
    for _ in 0..6000 {
        let mut model = good.clone();
        let initializers = &mut model.graph.as_mut().unwrap().initializer;
        let payloads: Vec<usize> = (0..initializers.len())
            .filter(|&i| initializers[i].name.as_deref().unwrap().starts_with("sdc.sd/"))
            .collect();
        let tensor = &mut initializers[payloads[rng.usize(..payloads.len())]];
        let mut raw = tensor.raw_data.clone().unwrap().to_vec();
        match rng.u8(..6) {
            0 => {
                let at = rng.usize(..raw.len());
                raw[at] ^= 1 << rng.u8(..8);
            }
            1 => {
                // Most laws are about the header.
                let at = rng.usize(..raw.len().min(24));
                raw[at] = rng.u8(..);
            }
            2 => raw.truncate(rng.usize(..raw.len())),
            3 => raw.extend((0..rng.usize(1..64)).map(|_| rng.u8(..))),
            4 => {
                let at = rng.usize(..raw.len());
                let end = raw.len().min(at + rng.usize(1..16));
                raw[at..end].iter_mut().for_each(|b| *b = rng.u8(..));
            }
            _ => {
                let (at, to) = (rng.usize(..raw.len()), rng.usize(..raw.len()));
                raw.swap(at, to);
            }
        }
        if rng.u8(..4) > 0 {
            tensor.dims = vec![raw.len() as i64];
        }
        tensor.raw_data = Some(raw.into());
        match import(model) {
            Err(errors) => {
                assert_eq!(errors.class().exit_code(), 3, "{errors}");
                refused += 1;
            }
            Ok(imported) => {
                // Another packing of the same weight is possible; another weight is not.
                assert_eq!(common::stored::dense(&imported.graph), want);
                loaded += 1;
            }
        }
    }
    assert!(refused > 5000 && loaded > 0, "{refused} refused, {loaded} loaded");
}

#[test]
fn layers_that_cannot_be_exchanged_are_named() {
    let bytes = onnx::twins();
    let graph = fused(decode(&bytes));
    let found = obstacles(&decode(&bytes), &graph);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0]
            .1
            .to_string()
            .contains("another node of the model does the same"),
        "{found:?}"
    );
    let error = export(decode(&bytes), &compress(&graph, 1, None), &[]).unwrap_err();
    assert!(error.to_string().contains("does the same"), "{error}");
}
