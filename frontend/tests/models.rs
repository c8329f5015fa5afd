//! Real networks: every float feed-forward model imports, the others are refused by operator name, and the small ones
//! compute their golden outputs in the interpreter.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says why it was skipped"
)]

use bytes::Bytes;
use sdc_frontend::{Class, Code, ImportErrors, ImportOptions, Imported, import, read_tensor_pb};
use sdc_ir::Tensor;
use std::path::{Path, PathBuf};

/// The models beside the repository, or where `SDC_MODELS` says.
fn models() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/models");
    let dir = PathBuf::from(std::env::var("SDC_MODELS").unwrap_or(beside.into()));
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: no {}", dir.display());
    None
}

fn import_file(path: &Path, dims: &[(&str, usize)]) -> Result<Imported, ImportErrors> {
    let bytes = Bytes::from(std::fs::read(path).unwrap());
    let options = ImportOptions {
        dims: dims.iter().map(|&(n, d)| (n.to_owned(), d)).collect(),
        ..Default::default()
    };
    import(bytes, &options)
}

/// Values of symbolic dimensions.
type Pins = &'static [(&'static str, usize)];

const FLOAT_MODELS: [(&str, Pins); 14] = [
    ("basic_pitch/model.onnx", &[("unk__749", 1)]),
    ("cifar10_resnet20/model.onnx", &[]),
    ("cifar10_resnet20/model_bnfolded.onnx", &[]),
    ("cifar10_resnet20/model_dynbatch.onnx", &[("N", 3)]),
    ("fast_style_transfer/model_starry-night.onnx", &[]),
    ("fast_style_transfer/model_wheatfield_with_crows.onnx", &[]),
    ("mlperftiny_ad_autoencoder/model.onnx", &[]),
    ("mlperftiny_ic_resnet8/model.onnx", &[]),
    ("mlperftiny_vww_mobilenetv1/model.onnx", &[]),
    ("mnist_lenet_webnn/model.onnx", &[]),
    ("mobilenetv1_025_imagenet/model.onnx", &[]),
    ("mobilenetv2_imagenet/model.onnx", &[]),
    ("squeezenet1_1_imagenet/model.onnx", &[]),
    ("ultraface_rfb320/model.onnx", &[]),
];

#[test]
fn float_models_import() {
    let Some(dir) = models() else { return };
    for (model, dims) in FLOAT_MODELS {
        let imported = import_file(&dir.join(model), dims).unwrap_or_else(|e| panic!("{model}:\n{e}"));
        println!(
            "{model}: {} nodes, {:?}",
            imported.graph.nodes().len(),
            imported.remarks
        );
        assert!(!imported.graph.outputs.is_empty());
    }
}

#[test]
fn quantised_and_recurrent_models_import() {
    let Some(dir) = models() else { return };
    let cases: [(&str, Pins); 3] = [
        ("cifar10_resnet20/model_qdq.onnx", &[]),
        ("rnnoise_gru/model.onnx", &[]),
        (
            "tract_byte_sb_bidi_lstm/model.onnx",
            &[("batch", 1), ("length", 5)],
        ),
    ];
    for (model, dims) in cases {
        let imported = import_file(&dir.join(model), dims);
        assert!(imported.is_ok(), "{model}: {}", imported.unwrap_err());
    }
}

#[test]
fn unpinned_dimensions_are_named() {
    let Some(dir) = models() else { return };
    let path = dir.join("cifar10_resnet20/model_dynbatch.onnx");
    let errors = import_file(&path, &[]).unwrap_err();
    let [error] = &errors.0[..] else {
        panic!("{errors}")
    };
    assert_eq!(
        (error.code, error.class()),
        (Code::UnpinnedDim, Class::Unsupported)
    );
    assert!(error.to_string().contains("--dim N=N"), "{error}");
    let errors = import_file(&path, &[("N", 1), ("M", 1)]).unwrap_err();
    assert_eq!(errors.class(), Class::Usage);
    assert!(errors.to_string().contains("`N` (input[0])"), "{errors}");
}

fn tensors(dir: &Path, kind: &str) -> Vec<Tensor> {
    (0..)
        .map_while(|i| std::fs::read(dir.join(format!("{kind}_{i}.pb"))).ok())
        .map(|bytes| read_tensor_pb(bytes.into()).unwrap().1)
        .collect()
}

#[test]
fn small_models_compute_their_goldens() {
    let Some(dir) = models() else { return };
    let small = [
        "cifar10_resnet20/model",
        "cifar10_resnet20/model_bnfolded",
        "mlperftiny_ad_autoencoder/model",
        "mlperftiny_ic_resnet8/model",
        "mnist_lenet_webnn/model",
    ];
    for model in small {
        let imported = import_file(&dir.join(format!("{model}.onnx")), &[]).unwrap();
        let data = dir.join(format!("{model}_io/test_data_set_0"));
        let inputs = tensors(&data, "input");
        let outputs = sdc_interp::run_graph(&imported.graph, &inputs).unwrap();
        let goldens = tensors(&data, "output");
        assert_eq!(outputs.len(), goldens.len());
        for (ours, golden) in outputs.iter().zip(&goldens) {
            assert_eq!((ours.shape(), ours.dtype()), (golden.shape(), golden.dtype()));
            let (ours, golden) = (ours.to_f64_vec(), golden.to_f64_vec());
            let scale = golden.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            let worst = ours
                .iter()
                .zip(&golden)
                .fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
            println!("{model}: largest difference {worst:e} of {scale}");
            assert!(worst <= 1e-4 * scale, "{model}: {worst} of {scale}");
        }
    }
}
