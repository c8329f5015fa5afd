//! The examples of `docs/ir.md` are what the printers print.

use sdc_ir::graph::{Weights, verify as graph_verify};
use sdc_ir::schedule::verify as schedule_verify;
use sdc_ir::text::{Level, Scheduled, level, parse_graph, parse_module, parse_schedule};
use sdc_ir::tile::verify as tile_verify;

#[test]
fn examples_are_canonical_and_sound() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ir.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut examples = 0;
    for block in text.split("```sdir\n").skip(1) {
        let example = block.split("```").next().unwrap();
        examples += 1;
        let none = Weights::new();
        let printed = match level(example).unwrap() {
            Level::Graph => {
                let graph = parse_graph(example, &none).unwrap();
                assert_eq!(graph_verify::verify(&graph), []);
                graph.to_string()
            }
            Level::Schedule => {
                let (graph, schedule) = parse_schedule(example, &none).unwrap();
                assert_eq!(graph_verify::verify(&graph), []);
                assert_eq!(schedule_verify::verify(&graph, &schedule), []);
                let (graph, schedule) = (&graph, &schedule);
                Scheduled { graph, schedule }.to_string()
            }
            Level::Tile => {
                let module = parse_module(example, &none).unwrap();
                assert_eq!(tile_verify::verify(&module), []);
                assert_eq!(tile_verify::unproven(&module), []);
                module.to_string()
            }
        };
        assert_eq!(printed, example);
    }
    assert_eq!(examples, 3);
}
