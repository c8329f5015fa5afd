//! A case with compressed weights: the graph, the weights' own text, and that all of it compiles.

use crate::native;
use sdc_ir::graph::{Graph, Op};
use sdc_ir::sd::{Stored, text};
use sdc_passes::decompose::{Options, Wish, install, run};
use sdc_passes::pipeline::{TO_FUSED, run_passes};
use std::fmt::Write;

/// Near what is possible: something gets each form.
const WISH: Wish = Wish::Ratio(3.4);

/// Compresses after fusion, on one thread and on three. The result is compiled and held against the interpreter.
pub fn text(name: &str, graph: &Graph) -> Result<String, String> {
    let fused = run_passes(graph, &TO_FUSED, None, &mut ()).map_err(|e| e.to_string())?;
    let shown = compressed(&fused.graph, 1)?;
    if compressed(&fused.graph, 3)?.to_string() != shown.to_string() {
        return Err("the number of threads changes the compressed weights".to_owned());
    }
    native::check(name, &shown)?;
    let mut out = shown.to_string();
    for data in shown.nodes().values() {
        let (Op::Rebuild(_), Some(packed)) = (&data.op, data.inputs.first().and_then(|&v| shown.constant(v)))
        else {
            continue;
        };
        let _ = writeln!(out, "\n// {}", data.outputs[0]);
        match Stored::unpack(packed.bytes()).map_err(|e| e.to_string())? {
            Stored::Sd(weight) => {
                let printed = text::print(&weight).map_err(|e| e.to_string())?;
                if text::parse(&printed).map_err(|e| e.to_string())? != weight {
                    return Err(format!(
                        "the text of {} parses to something else",
                        data.outputs[0]
                    ));
                }
                out += &printed;
            }
            Stored::Int8(weight) => {
                let _ = writeln!(
                    out,
                    "int8 {:?}, {} scales",
                    weight.geometry.shape,
                    weight.scales.len()
                );
            }
        }
    }
    Ok(out)
}

fn compressed(fused: &Graph, threads: usize) -> Result<Graph, String> {
    let options = Options {
        wish: WISH,
        samples: 8,
        threads,
        ..Options::default()
    };
    let plan = run(fused, &options, &mut |_| true).map_err(|e| e.to_string())?;
    install(fused, &plan).map_err(|e| e.to_string())
}
