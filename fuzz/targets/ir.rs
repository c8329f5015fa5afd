//! Any text as either level of the IR: what parses can be verified, and prints as a text that parses to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sdc_ir::graph::Weights;
use sdc_ir::text::{parse_graph, parse_module};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // No weights are at hand: texts that use them are refused, after they were parsed.
    let store = Weights::new();
    if let Ok(graph) = parse_graph(text, &store) {
        let _ = sdc_ir::graph::verify::verify(&graph);
        let printed = graph.to_string();
        assert_eq!(parse_graph(&printed, &store).map(|g| g.to_string()).ok(), Some(printed));
    }
    if let Ok(module) = parse_module(text, &store) {
        let _ = sdc_ir::tile::verify::verify(&module);
        let printed = module.to_string();
        assert_eq!(parse_module(&printed, &store).map(|m| m.to_string()).ok(), Some(printed));
    }
});
