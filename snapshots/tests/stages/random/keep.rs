//! A network with inputs and the interpreter's outputs, in the layout of ONNX's test cases.

use super::net::Net;
use crate::stages;
use prost::Message;
use sdc_frontend::{ImportOptions, import, write_tensor_pb};
use std::fs;
use std::path::Path;

/// Writes `model.onnx` and `test_data_set_0`; without the latter where the model does not import.
pub fn write(network: &Net, dir: &Path) -> Result<(), String> {
    let data = dir.join("test_data_set_0");
    fs::create_dir_all(&data).map_err(|e| e.to_string())?;
    let model = network.model().encode_to_vec();
    fs::write(dir.join("model.onnx"), &model).map_err(|e| e.to_string())?;
    let Ok(imported) = import(model.into(), &ImportOptions::default()) else {
        return Ok(());
    };
    let graph = imported.graph;
    let Ok((inputs, outputs)) = stages::oracle(&graph) else {
        return Ok(());
    };
    let ports = [
        ("input", &graph.inputs, inputs),
        ("output", &graph.outputs, outputs),
    ];
    for (what, ports, tensors) in ports {
        for (i, (port, tensor)) in ports.iter().zip(&tensors).enumerate() {
            let bytes = write_tensor_pb(&port.name, tensor);
            fs::write(data.join(format!("{what}_{i}.pb")), bytes).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}
