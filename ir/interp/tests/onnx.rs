//! Single operators against results of ONNX Runtime, recorded by `onnx/make.py`.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use sdc_interp::compare::{Class, compare};
use sdc_interp::eval_op;
use sdc_ir::graph::{Attr, Op};
use sdc_ir::tensor::Element;
use sdc_ir::{DType, Tensor};
use serde_json::Value;

fn float(v: &Value) -> f64 {
    match v {
        Value::String(s) => s.parse().unwrap(),
        _ => v.as_f64().unwrap(),
    }
}

fn int(v: &Value) -> i128 {
    v.as_i64().map(i128::from).or(v.as_u64().map(i128::from)).unwrap()
}

fn elements<T: Element>(shape: Vec<usize>, data: &[Value], f: impl Fn(&Value) -> T) -> Tensor {
    Tensor::from_elements(shape, data.iter().map(f).collect()).unwrap()
}

fn tensor(v: &Value) -> Tensor {
    let dtype: DType = v["dtype"].as_str().unwrap().parse().unwrap();
    let shape: Vec<usize> = v["shape"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| int(d) as usize)
        .collect();
    let data = v["data"].as_array().unwrap();
    match dtype {
        DType::F64 => elements(shape, data, float),
        DType::F32 => elements(shape, data, |x| float(x) as f32),
        DType::F16 => elements(shape, data, |x| half::f16::from_f64(float(x))),
        DType::I64 => elements(shape, data, |x| int(x) as i64),
        DType::I32 => elements(shape, data, |x| int(x) as i32),
        DType::I16 => elements(shape, data, |x| int(x) as i16),
        DType::I8 => elements(shape, data, |x| int(x) as i8),
        DType::U64 => elements(shape, data, |x| int(x) as u64),
        DType::U32 => elements(shape, data, |x| int(x) as u32),
        DType::U16 => elements(shape, data, |x| int(x) as u16),
        DType::U8 => elements(shape, data, |x| int(x) as u8),
        DType::Bool => {
            let bytes: Vec<u8> = data.iter().map(|x| int(x) as u8).collect();
            Tensor::new(DType::Bool, shape, bytes.into()).unwrap()
        }
        DType::BF16 => panic!("numpy has no bf16"),
    }
}

fn attr(v: &Value) -> Attr {
    match v {
        Value::Bool(b) => Attr::Word(b.to_string()),
        Value::String(s) => Attr::Word(s.clone()),
        Value::Number(n) if n.is_f64() => Attr::Float(float(v) as f32),
        Value::Number(_) => Attr::Int(int(v) as i64),
        Value::Array(list) if list.iter().any(Value::is_f64) => {
            Attr::Floats(list.iter().map(|x| float(x) as f32).collect())
        }
        Value::Array(list) => Attr::Ints(list.iter().map(|x| int(x) as i64).collect()),
        _ => panic!("no attribute is like {v}"),
    }
}

/// Operators that only move or compare elements, or round in one step, must agree to the bit.
fn class(op: &str, dtype: DType) -> Class {
    let moves = [
        "Abs",
        "Neg",
        "Floor",
        "Ceil",
        "Round",
        "Sign",
        "Relu",
        "Max",
        "Min",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Sqrt",
        "Where",
        "Cast",
        "Clip",
        "Transpose",
        "Reshape",
        "Expand",
        "Concat",
        "Slice",
        "Gather",
        "Pad",
        "MaxPool",
    ];
    if moves.contains(&op) || !dtype.is_float() {
        Class::Exact
    } else {
        Class::Rounding { rel: 2e-6 }
    }
}

#[test]
fn operators_agree_with_onnx_runtime() {
    let cases: Value = serde_json::from_str(include_str!("onnx/cases.json")).unwrap();
    let cases = cases.as_array().unwrap();
    assert!(cases.len() > 250, "only {} cases", cases.len());
    let mut failures = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        let name = case["op"].as_str().unwrap();
        let attrs = case["attrs"].as_object().unwrap();
        let label = format!("case {i}: {name} {}", case["attrs"]);
        let op = Op::from_parts(name, attrs.iter().map(|(k, v)| (k.clone(), attr(v))).collect());
        let op = op.unwrap_or_else(|e| panic!("{label}: {e}"));
        let inputs: Vec<Tensor> = case["inputs"].as_array().unwrap().iter().map(tensor).collect();
        let expected = tensor(&case["output"]);
        match eval_op(&op, &inputs.iter().collect::<Vec<_>>()) {
            Ok(results) => {
                let report = compare(&results[0], &expected, class(name, expected.dtype()));
                if !report.passed() || results.len() != 1 {
                    failures.push(format!("{label}: {report}"));
                }
            }
            Err(e) => failures.push(format!("{label}: {e}")),
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures\n{}",
        failures.len(),
        failures.join("\n")
    );
}
