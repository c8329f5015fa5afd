//! sdc's ONNX frontend: protobuf types, import into graph IR, one module per operator family.
