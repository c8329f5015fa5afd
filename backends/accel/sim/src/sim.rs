//! A program from its inputs to its outputs.

use crate::account::Account;
use crate::exec::Machine;
use crate::ports::{from_port, read, to_port, write};
use crate::report::Report;
use crate::run::{in_time, in_turns};
use crate::time::clock::Span;
use fastrand::Rng;
use sdc_accel_isa::{Code, Config, Engine, Fault, Faults, Place, Program};
use sdc_interp::run_graph;
use sdc_ir::Tensor;
use sdc_ir::graph::Graph;
use std::collections::BTreeMap;

/// How a program is run.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Mode {
    /// Results only, engines taking turns.
    #[default]
    Func,
    /// Results and cycles.
    Cycle,
    /// Results only, engines taking turns at random: any legal order gives the same bits.
    Shuffle(u64),
}

/// What else is wanted of a run.
#[derive(Clone, Copy, Default, Debug)]
pub struct Options {
    /// How it is run.
    pub mode: Mode,
    /// Events of all instructions; with cycles only.
    pub trace: bool,
}

/// An instruction in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Its number.
    pub instr: usize,
    /// Where it ran.
    pub engine: Engine,
    /// The layer it belongs to.
    pub layer: Option<u32>,
    /// Its first cycle.
    pub start: u64,
    /// When its engine was free again.
    pub free: u64,
    /// When it was complete.
    pub end: u64,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The program's outputs, in their order.
    pub outputs: Vec<Tensor>,
    /// What it did.
    pub report: Report,
    /// Every instruction in time, if asked for.
    pub trace: Vec<Event>,
    /// Cycles; 0 without time.
    pub cycles: u64,
    /// DRAM at the end.
    pub dram: Vec<u8>,
}

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SimError {
    #[error("{0}")]
    Faults(#[from] Faults),
    #[error("input {0}")]
    Input(String),
    #[error("the program has {expected} inputs, {given} were given")]
    Inputs { expected: usize, given: usize },
    #[error("step {step} of the host: {message}")]
    Host { step: usize, message: String },
}

/// A program, ready to run any number of times.
pub struct Simulator {
    program: Program,
    config: Config,
    /// The graphs of the host's steps.
    graphs: Vec<Graph>,
}

impl Simulator {
    /// A program on its own machine, with the switches of `config`.
    ///
    /// # Errors
    /// A02 for graphs of host steps that are malformed; A03 if `config` is another machine.
    pub fn new(program: Program, config: Config) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        if program.config.hash() != config.hash() {
            let message = format!(
                "the program was made for {} ({}), the machine is {} ({})",
                program.config.name,
                program.config.hash(),
                config.name,
                config.hash()
            );
            faults.push(Fault::new(Code::A03, message));
        }
        let mut graphs = Vec::new();
        for (i, step) in program.host.iter().enumerate() {
            match step.graph() {
                Ok(graph) => graphs.push(graph),
                Err(message) => {
                    faults.push(Fault::new(Code::A02, format!("step {i} of the host: {message}")))
                }
            }
        }
        faults.or(Self {
            program,
            config,
            graphs,
        })
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The machine, with its switches.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The graphs of the host's steps.
    pub fn graphs(&self) -> &[Graph] {
        &self.graphs
    }

    /// Runs the program on inputs, in the order of its ports.
    ///
    /// # Errors
    /// Inputs that do not fit; faults that only running shows (A40); a host step that fails.
    pub fn run(&self, inputs: &[Tensor], options: &Options) -> Result<Outcome, SimError> {
        let program = &self.program;
        let mut machine = Machine::new(program, &self.config);
        let mut held = self.place_inputs(inputs, &mut machine)?;
        let mut account = Account::new(program);
        let (mut trace, mut rng) = (Vec::new(), None);
        if let Mode::Shuffle(seed) = options.mode {
            rng = Some(Rng::with_seed(seed));
        }
        let parts = program.parts();
        for (k, part) in parts.iter().enumerate() {
            self.host(|at| at as usize == k, &mut machine, &mut held)?;
            if options.mode != Mode::Cycle {
                in_turns(program, part.clone(), &mut machine, &mut account, rng.as_mut())
                    .map_err(Faults::from)?;
                continue;
            }
            let base = account.base;
            let see = |span: &Span, layer: Option<u32>| {
                if options.trace {
                    trace.push(event(span, layer, base));
                }
            };
            let end =
                in_time(program, part.clone(), &mut machine, &mut account, see).map_err(Faults::from)?;
            account.base += end;
        }
        self.host(|at| at as usize >= parts.len(), &mut machine, &mut held)?;
        account.settle();
        let cycles = account.base;
        let outputs = self.outputs(&machine, &held)?;
        Ok(Outcome {
            outputs,
            report: Report::new(program, &self.config, &self.graphs, &account, options.mode),
            trace,
            cycles,
            dram: machine.memory.dram,
        })
    }

    /// Puts inputs into DRAM; those of the host are the result.
    fn place_inputs(
        &self,
        inputs: &[Tensor],
        machine: &mut Machine,
    ) -> Result<BTreeMap<String, Tensor>, SimError> {
        let ports = &self.program.inputs;
        if inputs.len() != ports.len() {
            return Err(SimError::Inputs {
                expected: ports.len(),
                given: inputs.len(),
            });
        }
        let mut held = BTreeMap::new();
        for (port, tensor) in ports.iter().zip(inputs) {
            let tensor = to_port(port, tensor).map_err(SimError::Input)?;
            match &port.place {
                Place::Dram(at) => {
                    if !write(&mut machine.memory.dram, *at, &tensor) {
                        return Err(SimError::Input(format!("`{}` lies outside DRAM", port.name)));
                    }
                }
                Place::Host(name) => {
                    held.insert(name.clone(), tensor);
                }
            }
        }
        Ok(held)
    }

    /// Runs the host's steps that are due.
    fn host(
        &self,
        due: impl Fn(u32) -> bool,
        machine: &mut Machine,
        held: &mut BTreeMap<String, Tensor>,
    ) -> Result<(), SimError> {
        let steps = self.program.host.iter().zip(&self.graphs).enumerate();
        for (i, (step, graph)) in steps.filter(|(_, (step, _))| due(step.part)) {
            let fail = |message: String| SimError::Host { step: i, message };
            let mut inputs = Vec::new();
            for (place, port) in step.inputs.iter().zip(&graph.inputs) {
                let ty = graph.ty(port.value);
                let tensor = match place {
                    Place::Dram(at) => read(&machine.memory.dram, *at, ty.dtype, ty.sizes()),
                    Place::Host(name) => held.get(name).cloned(),
                };
                inputs.push(tensor.ok_or_else(|| fail(format!("there is no input `{}`", port.name)))?);
            }
            let outputs = run_graph(graph, &inputs).map_err(|e| fail(e.to_string()))?;
            for (place, tensor) in step.outputs.iter().zip(outputs) {
                match place {
                    Place::Dram(at) => {
                        if !write(&mut machine.memory.dram, *at, &tensor) {
                            return Err(fail("an output lies outside DRAM".to_owned()));
                        }
                    }
                    Place::Host(name) => {
                        held.insert(name.clone(), tensor);
                    }
                }
            }
        }
        Ok(())
    }

    fn outputs(&self, machine: &Machine, held: &BTreeMap<String, Tensor>) -> Result<Vec<Tensor>, SimError> {
        let ports = self.program.outputs.iter();
        ports
            .map(|port| {
                let stored = match &port.place {
                    Place::Dram(at) => read(&machine.memory.dram, *at, port.dtype, &port.shape),
                    Place::Host(name) => held.get(name).cloned(),
                };
                let fail = |message| SimError::Host {
                    step: self.graphs.len(),
                    message,
                };
                let stored =
                    stored.ok_or_else(|| fail(format!("nothing made the output `{}`", port.name)))?;
                from_port(port, stored).map_err(fail)
            })
            .collect()
    }
}

fn event(span: &Span, layer: Option<u32>, base: u64) -> Event {
    Event {
        instr: span.instr,
        engine: span.engine,
        layer,
        start: base + span.start,
        free: base + span.free,
        end: base + span.end,
    }
}
