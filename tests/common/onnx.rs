//! Tiny ONNX models, made here.

use prost::Message;
use sdc_frontend::proto::*;

/// A model under construction.
pub struct Net {
    graph: GraphProto,
    /// Source of weights: the same for every net.
    seed: u64,
}

impl Net {
    pub fn new() -> Self {
        let name = Some("tiny".to_owned());
        Self {
            graph: GraphProto {
                name,
                ..Default::default()
            },
            seed: 1,
        }
    }

    /// An f32 input; a negative dimension is symbolic, called `batch`.
    pub fn input(mut self, name: &str, dims: &[i64]) -> Self {
        self.graph.input.push(value_info(name, dims));
        self
    }

    /// An i64 input.
    pub fn int_input(mut self, name: &str, dims: &[i64]) -> Self {
        let mut info = value_info(name, dims);
        if let Some(TypeValue::Tensor(tensor)) = info.r#type.as_mut().and_then(|t| t.value.as_mut()) {
            tensor.elem_type = Some(data_type::INT64);
        }
        self.graph.input.push(info);
        self
    }

    pub fn output(mut self, name: &str) -> Self {
        self.graph.output.push(value_info(name, &[]));
        self
    }

    /// f32 weights between -0.5 and 0.5.
    pub fn weights(mut self, name: &str, dims: &[i64]) -> Self {
        let count: i64 = dims.iter().product();
        let mut values = Vec::new();
        for _ in 0..count {
            self.seed = self
                .seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            values.extend(((self.seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5).to_le_bytes());
        }
        self.constant(name, data_type::FLOAT, dims, values)
    }

    /// As [`Self::weights`], plus one.
    pub fn positive(self, name: &str, dims: &[i64]) -> Self {
        let mut net = self.weights(name, dims);
        if let Some(raw) = net.graph.initializer.last_mut().and_then(|t| t.raw_data.as_mut()) {
            let add = |b: &[u8; 4]| (f32::from_le_bytes(*b) + 1.0).to_le_bytes();
            *raw = raw.as_chunks().0.iter().flat_map(add).collect();
        }
        net
    }

    /// i64 constants.
    pub fn ints(self, name: &str, values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, data_type::INT64, &[values.len() as i64], bytes)
    }

    fn constant(mut self, name: &str, data_type: i32, dims: &[i64], raw: Vec<u8>) -> Self {
        self.graph.initializer.push(TensorProto {
            name: Some(name.to_owned()),
            data_type: Some(data_type),
            dims: dims.to_vec(),
            raw_data: Some(raw.into()),
            ..Default::default()
        });
        self
    }

    /// A node with integer-list attributes; one-element lists named in `SCALARS` become plain integers.
    pub fn node(mut self, op: &str, inputs: &[&str], output: &str, attributes: &[(&str, &[i64])]) -> Self {
        const SCALARS: &[&str] = &[
            "axis",
            "group",
            "hidden_size",
            "keepdims",
            "largest",
            "size",
            "to",
            "transB",
        ];
        let attribute = |(name, values): &(&str, &[i64])| {
            let scalar = SCALARS.contains(name);
            AttributeProto {
                name: Some((*name).to_owned()),
                r#type: Some(if scalar { 2 } else { 7 }),
                i: scalar.then(|| values[0]),
                ints: if scalar { Vec::new() } else { values.to_vec() },
                ..Default::default()
            }
        };
        self.graph.node.push(NodeProto {
            name: Some(format!("{output}_node")),
            op_type: Some(op.to_owned()),
            input: inputs.iter().map(|s| (*s).to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute: attributes.iter().map(attribute).collect(),
            ..Default::default()
        });
        self
    }

    /// One more output of the last node.
    pub fn second_output(mut self, name: &str) -> Self {
        if let Some(node) = self.graph.node.last_mut() {
            node.output.push(name.to_owned());
        }
        self
    }

    /// A text attribute of the last node.
    pub fn text(mut self, name: &str, value: &str) -> Self {
        if let Some(node) = self.graph.node.last_mut() {
            node.attribute.push(AttributeProto {
                name: Some(name.to_owned()),
                r#type: Some(3),
                s: Some(value.as_bytes().to_vec().into()),
                ..Default::default()
            });
        }
        self
    }

    /// The model's file.
    pub fn bytes(self) -> Vec<u8> {
        let model = ModelProto {
            ir_version: Some(8),
            opset_import: vec![OperatorSetIdProto {
                domain: None,
                version: Some(17),
            }],
            graph: Some(self.graph),
            ..Default::default()
        };
        model.encode_to_vec()
    }
}

fn value_info(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&d: &i64| {
        let symbol = DimensionValue::DimParam("batch".to_owned());
        Dimension {
            value: Some(if d < 0 {
                symbol
            } else {
                DimensionValue::DimValue(d)
            }),
            ..Default::default()
        }
    };
    let shape = (!dims.is_empty()).then(|| TensorShapeProto {
        dim: dims.iter().map(dim).collect(),
    });
    let tensor = TypeTensor {
        elem_type: Some(data_type::FLOAT),
        shape,
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(TypeValue::Tensor(tensor)),
            denotation: None,
        }),
        ..Default::default()
    }
}

/// `y = a + b`, vectors of three.
pub fn sum() -> Vec<u8> {
    Net::new()
        .input("a", &[3])
        .input("a=b", &[3])
        .node("Add", &["a", "a=b"], "y", &[])
        .output("y")
        .bytes()
}

/// `y = relu(x)` with a symbolic first dimension.
pub fn symbolic() -> Vec<u8> {
    Net::new()
        .input("x", &[-1, 2])
        .node("Relu", &["x"], "y", &[])
        .output("y")
        .bytes()
}

/// `y = reshape(x, shape) + by`, where `shape` is an input.
pub fn shaped_by_input() -> Vec<u8> {
    Net::new()
        .input("x", &[6])
        .int_input("shape", &[2])
        .input("by", &[1])
        .node("Reshape", &["x", "shape"], "r", &[])
        .node("Add", &["r", "by"], "y", &[])
        .output("y")
        .bytes()
}

/// A convolutional classifier with a residual block, a few hundred weights.
pub fn classifier() -> Vec<u8> {
    Net::new()
        .input("x", &[1, 2, 8, 8])
        .weights("w1", &[4, 2, 3, 3])
        .weights("b1", &[4])
        .node("Conv", &["x", "w1", "b1"], "c1", &[("pads", &[1, 1, 1, 1])])
        .node("Relu", &["c1"], "r1", &[])
        .weights("w2", &[4, 1, 3, 3])
        .node(
            "Conv",
            &["r1", "w2"],
            "c2",
            &[("pads", &[1, 1, 1, 1]), ("group", &[4])],
        )
        .node("Add", &["c2", "r1"], "a2", &[])
        .node(
            "MaxPool",
            &["a2"],
            "p2",
            &[("kernel_shape", &[2, 2]), ("strides", &[2, 2])],
        )
        .node("Flatten", &["p2"], "f", &[("axis", &[1])])
        .weights("w3", &[5, 64])
        .weights("b3", &[5])
        .node("Gemm", &["f", "w3", "b3"], "g", &[("transB", &[1])])
        .node("Softmax", &["g"], "y", &[("axis", &[1])])
        .output("y")
        .bytes()
}

/// A recurrent layer (`LSTM`, `GRU`, `RNN`) of one or two directions and a matrix product.
pub fn recurrent(op: &str, directions: i64) -> Vec<u8> {
    let gates = match op {
        "LSTM" => 4,
        "GRU" => 3,
        _ => 1,
    };
    let hidden = 6;
    Net::new()
        .input("x", &[3, 1, 5])
        .weights("w", &[directions, gates * hidden, 5])
        .weights("r", &[directions, gates * hidden, hidden])
        .weights("b", &[directions, 2 * gates * hidden])
        .node(op, &["x", "w", "r", "b"], "h", &[("hidden_size", &[hidden])])
        .text(
            "direction",
            if directions == 2 {
                "bidirectional"
            } else {
                "forward"
            },
        )
        .ints("flat", &[3, directions * hidden])
        .node("Reshape", &["h", "flat"], "f", &[])
        .weights("m", &[directions * hidden, 4])
        .node("MatMul", &["f", "m"], "y", &[])
        .output("y")
        .bytes()
}

/// Movements of data whose shapes are computed by the model itself.
pub fn movements() -> Vec<u8> {
    Net::new()
        .input("x", &[1, 4, 6, 6])
        .node("Shape", &["x"], "s", &[])
        .ints("zero", &[0])
        .node("Gather", &["s", "zero"], "n", &[("axis", &[0])])
        .ints("rest", &[-1])
        .node("Concat", &["n", "rest"], "flat", &[("axis", &[0])])
        .node("Transpose", &["x"], "t", &[("perm", &[0, 2, 3, 1])])
        .ints("from", &[1, 0])
        .ints("to", &[5, 3])
        .ints("axes", &[1, 2])
        .node("Slice", &["t", "from", "to", "axes"], "cut", &[])
        .ints("pads", &[0, 1, 1, 0, 0, 1, 1, 0])
        .node("Pad", &["cut", "pads"], "p", &[])
        .node("ReduceMean", &["p"], "m", &[("axes", &[3]), ("keepdims", &[1])])
        .node("Mul", &["p", "m"], "q", &[])
        .node("Reshape", &["q", "flat"], "y", &[])
        .output("y")
        .bytes()
}

/// Two operators that do not exist, at named nodes.
pub fn unsupported() -> Vec<u8> {
    Net::new()
        .input("x", &[2])
        .node("NoSuchOperator", &["x"], "u", &[])
        .node("AnotherOne", &["x"], "v", &[])
        .node("Add", &["u", "v"], "y", &[])
        .output("y")
        .bytes()
}

/// What fusion folds into weights: batch norm, factors and addends, with do-nothing nodes between; all initialisers listed as
/// inputs too, as old models do.
pub fn folding() -> Vec<u8> {
    let mut net = Net::new()
        .input("x", &[2, 3, 6, 6])
        .weights("w1", &[6, 3, 3, 3])
        .node("Conv", &["x", "w1"], "c1", &[("pads", &[1, 1, 1, 1])])
        .node("Identity", &["c1"], "i1", &[])
        .weights("gamma", &[6])
        .weights("beta", &[6])
        .weights("mean", &[6])
        .positive("var", &[6])
        .node(
            "BatchNormalization",
            &["i1", "gamma", "beta", "mean", "var"],
            "n1",
            &[],
        )
        .node("Relu", &["n1"], "r1", &[])
        .weights("w2", &[6, 2, 3, 3])
        .weights("b2", &[4])
        .node(
            "ConvTranspose",
            &["r1", "w2", "b2"],
            "c2",
            &[("group", &[2]), ("strides", &[2, 2])],
        )
        .node("GlobalAveragePool", &["c2"], "p", &[])
        .node("Flatten", &["p"], "f", &[("axis", &[1])])
        .weights("w3", &[4, 9])
        .node("MatMul", &["f", "w3"], "m", &[])
        .weights("factor", &[9])
        .node("Mul", &["m", "factor"], "scaled", &[])
        .weights("addend", &[9])
        .node("Add", &["scaled", "addend"], "biased", &[])
        .weights("w4", &[9, 5])
        .node("Gemm", &["biased", "w4"], "y", &[])
        .weights("unused", &[3])
        .output("y");
    let declared: Vec<ValueInfoProto> = net
        .graph
        .initializer
        .iter()
        .map(|t| value_info(t.name.as_deref().unwrap_or(""), &t.dims))
        .collect();
    net.graph.input.extend(declared);
    net.bytes()
}

/// Two nodes that do the same, of which an import makes one.
pub fn twins() -> Vec<u8> {
    Net::new()
        .input("x", &[2, 24])
        .weights("w", &[24, 24])
        .node("MatMul", &["x", "w"], "a", &[])
        .node("MatMul", &["x", "w"], "b", &[])
        .node("Add", &["a", "b"], "y", &[])
        .output("y")
        .bytes()
}
