//! Progress and times while a model is built.

use crate::progress::Progress;
use crate::sdir::Dump;
use sdc_ir::graph::Graph;
use sdc_ir::tile::Module;
use sdc_passes::driver::Observer;
use sdc_passes::plan::Plan;
use std::time::{Duration, Instant};

/// Shows progress, and passes everything on to a dump.
pub struct Watch<'a> {
    pub progress: &'a Progress,
    pub dump: Option<&'a mut Dump>,
}

impl Observer for Watch<'_> {
    fn started(&mut self, pass: &'static str) {
        self.progress.say(pass);
    }
    fn graph(&mut self, pass: &'static str, graph: &Graph) {
        if let Some(dump) = &mut self.dump {
            dump.graph(pass, graph);
        }
    }
    fn lowered(&mut self, lowered: &sdc_passes::tile::Lowered) {
        if let Some(dump) = &mut self.dump {
            dump.lowered(lowered);
        }
    }
    fn planned(&mut self, module: &Module, plan: &Plan) {
        if let Some(dump) = &mut self.dump {
            dump.planned(module, plan);
        }
    }
}

/// Times the steps after the passes.
pub struct Timed<'a> {
    pub progress: &'a Progress,
    pub timings: &'a mut Vec<(&'static str, Duration)>,
}

impl Timed<'_> {
    /// Does one step.
    pub fn run<T>(&mut self, step: &'static str, work: impl FnOnce() -> T) -> T {
        self.progress.say(step);
        let start = Instant::now();
        let result = work();
        self.timings.push((step, start.elapsed()));
        result
    }
}
