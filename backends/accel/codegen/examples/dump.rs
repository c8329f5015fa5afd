#![allow(clippy::unwrap_used, clippy::print_stdout)]
use sdc_accel::compile;
use sdc_accel_isa::{Config, Place, encode};
use sdc_ir::text::{parse_graph, weights_file};
use std::fmt::Write;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let text = std::fs::read_to_string(format!("{}/ir/3_quantise.sdir", a[1])).unwrap();
    let weights =
        weights_file::read(std::fs::read(format!("{}/ir/weights.sdw", a[1])).unwrap().into()).unwrap();
    let graph = parse_graph(&text, &weights).unwrap();
    let mut config = Config::default();
    for s in &a[3..] {
        config.set(s).unwrap();
    }
    let t = std::time::Instant::now();
    let c = match compile(&graph, &config) {
        Ok(c) => c,
        Err(e) => {
            for e in e {
                println!("{e}");
            }
            std::process::exit(1)
        }
    };
    println!(
        "compiled in {:?}: {} instructions, {} host, maps {:?}",
        t.elapsed(),
        c.program.code.len(),
        c.host.len(),
        c.maps
    );
    let (mut r, mut w) = (0, 0);
    for l in &c.layers {
        let t = l.traffic;
        r += t.stream + t.basis + t.index + t.parameters + t.table + t.read;
        w += t.written;
        if !l.stays || t.read > 0 {
            println!(
                "  {} {} stays {} read {} written {}",
                l.origin, l.op, l.stays, t.read, t.written
            );
        }
        for x in &l.remarks {
            println!("   remark {x}");
        }
    }
    println!(
        "dram read {r} written {w} total {} macs {}",
        r + w,
        c.layers.iter().map(|l| l.macs).sum::<u64>()
    );
    let mut hex = String::new();
    for i in &c.program.code {
        writeln!(hex, "{:032x}", encode(i).unwrap()).unwrap();
    }
    std::fs::write(format!("{}.hex", a[2]), hex).unwrap();
    std::fs::write(format!("{}.sdas", a[2]), c.program.to_string()).unwrap();
    let mut image = vec![0u8; c.program.dram as usize];
    for d in &c.program.data {
        image[d.addr as usize..][..d.bytes.len()].copy_from_slice(&d.bytes);
    }
    std::fs::write(format!("{}.img", a[2]), image).unwrap();
    let mut io = String::new();
    for h in &c.program.host {
        let g = h.graph().unwrap();
        for (p, place) in g.inputs.iter().zip(&h.inputs) {
            if let Place::Dram(at) = place {
                writeln!(io, "in {} {} {at}", h.part, p.name).unwrap();
            }
        }
        for (p, place) in g.outputs.iter().zip(&h.outputs) {
            if let Place::Dram(at) = place {
                writeln!(io, "out {} {} {at}", h.part, p.name).unwrap();
            }
        }
    }
    std::fs::write(format!("{}.io", a[2]), io).unwrap();
}
