#![allow(clippy::unwrap_used, clippy::print_stdout)]
#[path = "../tests/support/mod.rs"]
mod support;
use sdc_accel::compile;
use sdc_accel_isa::{Config, Place, encode};
use std::fmt::Write;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (from, to): (u64, u64) = (a[1].parse().unwrap(), a[2].parse().unwrap());
    let mut config = Config::default();
    for s in &a[4..] {
        config.set(s).unwrap();
    }
    for seed in from..to {
        let g = support::layer(seed);
        let inputs = support::inputs(&g, seed);
        let want = sdc_interp::run_graph(&g, &inputs).unwrap();
        let c = match compile(&g, &config) {
            Ok(c) => c,
            Err(e) => {
                println!("seed {seed}: {}", e[0]);
                continue;
            }
        };
        let mut hex = String::new();
        for i in &c.program.code {
            match encode(i) {
                Ok(w) => writeln!(hex, "{w:032x}").unwrap(),
                Err(e) => {
                    println!("seed {seed}: {i:?} {e}");
                }
            }
        }
        let mut image = vec![0u8; c.program.dram as usize];
        for d in &c.program.data {
            image[d.addr as usize..][..d.bytes.len()].copy_from_slice(&d.bytes);
        }
        let Place::Dram(x) = c.program.inputs[0].place else {
            println!("seed {seed} host in");
            continue;
        };
        let Place::Dram(y) = c.program.outputs[0].place else {
            println!("seed {seed} host out {:?}", c.host);
            continue;
        };
        image[x as usize..][..inputs[0].bytes().len()].copy_from_slice(inputs[0].bytes());
        let out = format!("{}/{seed}", a[3]);
        std::fs::write(format!("{out}.hex"), hex).unwrap();
        std::fs::write(format!("{out}.sdir"), g.to_string()).unwrap();
        std::fs::write(format!("{out}.img"), image).unwrap();
        std::fs::write(format!("{out}.want"), want[0].bytes()).unwrap();
        std::fs::write(format!("{out}.at"), y.to_string()).unwrap();
    }
}
