//! Progress and times while a model is compiled.

use crate::error::Result;
use crate::observe::{self, Observer};
use crate::stages::Dump;
use sdc_ir::graph::Graph;
use sdc_ir::schedule::Schedule;
use sdc_ir::tile::Module;
use sdc_passes::driver;
use sdc_passes::plan::Plan;
use sdc_passes::tile::Lowered;
use std::time::{Duration, Instant};

/// Tells of the passes, and passes everything on to a dump.
pub struct Watch<'a> {
    pub observer: &'a dyn Observer,
    pub dump: Option<&'a mut Dump>,
}

impl driver::Observer for Watch<'_> {
    fn started(&mut self, pass: &'static str) {
        self.observer.step(pass);
    }
    fn graph(&mut self, pass: &'static str, graph: &Graph) {
        if let Some(dump) = &mut self.dump {
            dump.graph(pass, graph);
        }
    }
    fn scheduled(&mut self, graph: &Graph, schedule: &Schedule) {
        if let Some(dump) = &mut self.dump {
            dump.scheduled(graph, schedule);
        }
    }
    fn lowered(&mut self, lowered: &Lowered) {
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
    pub observer: &'a dyn Observer,
    pub timings: &'a mut Vec<(&'static str, Duration)>,
}

impl Timed<'_> {
    /// Does one step, unless the observer wants to stop.
    pub fn run<T>(&mut self, step: &'static str, work: impl FnOnce() -> T) -> Result<T> {
        observe::step(self.observer, step)?;
        let start = Instant::now();
        let result = work();
        self.timings.push((step, start.elapsed()));
        Ok(result)
    }
}
