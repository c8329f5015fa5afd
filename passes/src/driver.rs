//! Runs passes: times them, verifies what they leave, hands it to an observer, and holds it against the interpreter.

use crate::pass::{Class, Ctx, Pass, PassError, Remark};
use sdc_interp::compare::{self, compare};
use sdc_interp::{EvalError, run_graph};
use sdc_ir::graph::{Graph, verify::verify};
use sdc_ir::schedule::Schedule;
use sdc_ir::{DType, Tensor, tile};
use serde::Serialize;
use std::fmt;
use std::time::{Duration, Instant};

/// Watches a compilation: for dumps, snapshots and progress.
pub trait Observer {
    /// A pass is about to run.
    fn started(&mut self, pass: &'static str) {
        let _ = pass;
    }
    /// A graph pass left this graph (`import`: the graph as given).
    fn graph(&mut self, pass: &'static str, graph: &Graph) {
        let _ = (pass, graph);
    }
    /// The schedule pass left this, for this graph.
    fn scheduled(&mut self, graph: &Graph, schedule: &Schedule) {
        let _ = (graph, schedule);
    }
    /// The tile pass left this.
    fn lowered(&mut self, lowered: &crate::tile::Lowered) {
        let _ = lowered;
    }
    /// The plan of a module.
    fn planned(&mut self, module: &tile::Module, plan: &crate::plan::Plan) {
        let _ = (module, plan);
    }
}

/// An observer that looks away.
impl Observer for () {}

/// Time a pass took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Timing {
    /// Pass.
    pub pass: &'static str,
    /// Wall-clock time, verification and checks not counted.
    pub time: Duration,
}

/// With what the interpreter checks each pass.
#[derive(Clone, Debug)]
pub enum CheckInputs {
    /// These, in the graph's order.
    Given(Vec<Tensor>),
    /// Made up from a seed: floats between -1 and 1, integers 0 to 3.
    Seeded(u64),
}

impl CheckInputs {
    /// The inputs for this graph.
    pub fn tensors(&self, graph: &Graph) -> Result<Vec<Tensor>, DriverError> {
        let seed = match self {
            CheckInputs::Given(tensors) => return Ok(tensors.clone()),
            CheckInputs::Seeded(seed) => *seed,
        };
        let mut state = seed;
        let ports = graph.inputs.iter();
        ports
            .map(|port| {
                let ty = graph.ty(port.value);
                random_tensor(ty.dtype, ty.sizes(), &mut state)
                    .ok_or_else(|| DriverError::NoInput(port.name.clone()))
            })
            .collect()
    }
}

/// splitmix64, which any seed suits.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn random_tensor(dtype: DType, shape: &[usize], state: &mut u64) -> Option<Tensor> {
    use sdc_ir::tensor::element_count;
    let n = element_count(shape)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(n.checked_mul(dtype.size())?).ok()?;
    for _ in 0..n {
        let bits = next(state);
        // 24 bits are exact in f32; the others round.
        let real = (bits >> 40) as f64 / (1u64 << 23) as f64 - 1.0;
        let small = bits >> 62;
        match dtype {
            DType::F64 => bytes.extend(real.to_le_bytes()),
            DType::F32 => bytes.extend((real as f32).to_le_bytes()),
            DType::F16 => bytes.extend(half::f16::from_f64(real).to_le_bytes()),
            DType::BF16 => bytes.extend(half::bf16::from_f64(real).to_le_bytes()),
            DType::Bool => bytes.push((small & 1) as u8),
            _ => bytes.extend(&small.to_le_bytes()[..dtype.size()]),
        }
    }
    Tensor::new(dtype, shape.to_vec(), bytes.into()).ok()
}

/// Why passes did not come to their end.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The graph given is malformed.
    #[error("the graph is malformed: {}", .0.join("; "))]
    Malformed(Vec<String>),
    /// A pass gave up.
    #[error("pass {pass}: {error}")]
    Pass {
        /// Pass.
        pass: &'static str,
        /// Why.
        error: PassError,
    },
    /// A pass left an IR that does not verify: a bug in it.
    #[error("pass {pass} left a malformed program: {}", faults.join("; "))]
    Unverified {
        /// Pass.
        pass: &'static str,
        /// The verifier's list.
        faults: Vec<String>,
    },
    /// A pass changed results beyond its class: a bug in it.
    #[error("pass {pass} ({class}) breaks its class at output `{output}`: {report}")]
    BrokenClass {
        /// Pass.
        pass: &'static str,
        /// Its class.
        class: Class,
        /// The worst output.
        output: String,
        /// How it differs.
        report: Box<compare::Report>,
    },
    /// The interpreter could not run the program as it is after a pass (`import`: as given).
    #[error("the interpreter fails after {pass}: {error}")]
    Eval {
        /// Pass.
        pass: &'static str,
        /// Why.
        error: Box<EvalError>,
    },
    /// An input is too large to be made up.
    #[error("input `{0}` is too large to make up values for")]
    NoInput(String),
}

impl DriverError {
    /// True if the fault is sdc's, not the caller's.
    pub fn is_bug(&self) -> bool {
        match self {
            DriverError::Unverified { .. } | DriverError::BrokenClass { .. } => true,
            DriverError::Pass { error, .. } => {
                !matches!(error, PassError::AfterLayout(_) | PassError::Unsupported { .. })
            }
            DriverError::Malformed(_) | DriverError::Eval { .. } | DriverError::NoInput(_) => false,
        }
    }
}

/// The driver's state across passes.
pub struct Driver<'o> {
    observer: &'o mut dyn Observer,
    check: Option<Check>,
    /// Remarks of all passes.
    pub remarks: Vec<Remark>,
    /// Times of all passes.
    pub timings: Vec<Timing>,
}

/// Inputs, and the outputs before the next pass.
struct Check {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

impl fmt::Debug for Driver<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("timings", &self.timings)
            .finish_non_exhaustive()
    }
}

impl<'o> Driver<'o> {
    /// A driver for this graph, which is verified, shown to the observer as `import`, and run once if each pass is to be
    /// checked.
    ///
    /// # Errors
    /// A malformed graph, or one that the interpreter cannot run on these inputs.
    pub fn new(
        graph: &Graph,
        check: Option<&CheckInputs>,
        observer: &'o mut dyn Observer,
    ) -> Result<Self, DriverError> {
        let faults = faults(graph);
        if !faults.is_empty() {
            return Err(DriverError::Malformed(faults));
        }
        observer.graph("import", graph);
        let check = match check {
            None => None,
            Some(inputs) => {
                let inputs = inputs.tensors(graph)?;
                let outputs = run_graph(graph, &inputs).map_err(|error| DriverError::Eval {
                    pass: "import",
                    error: Box::new(error),
                })?;
                Some(Check { inputs, outputs })
            }
        };
        Ok(Self {
            observer,
            check,
            remarks: Vec::new(),
            timings: Vec::new(),
        })
    }

    /// Runs a graph pass, with everything a driver owes it.
    ///
    /// # Errors
    /// The pass gave up, left a malformed graph, or broke its class.
    pub fn run(&mut self, pass: &dyn Pass, graph: &Graph) -> Result<Graph, DriverError> {
        let name = pass.name();
        let mut ctx = Ctx::new(name);
        let result = self.timed(name, || pass.run(graph, &mut ctx));
        let result = result
            .map_err(|error| DriverError::Pass { pass: name, error })?
            .compact();
        self.remarks.extend(ctx.into_remarks());
        let faults = faults(&result);
        if !faults.is_empty() {
            return Err(DriverError::Unverified { pass: name, faults });
        }
        if let Some(check) = &self.check {
            let outputs = run_graph(&result, &check.inputs).map_err(|error| DriverError::Eval {
                pass: name,
                error: Box::new(error),
            })?;
            self.compare(name, pass.class(), &result, outputs)?;
        }
        self.observer.graph(name, &result);
        Ok(result)
    }

    /// Runs a step that is not a graph pass, timed.
    pub fn timed<T>(&mut self, pass: &'static str, step: impl FnOnce() -> T) -> T {
        self.observer.started(pass);
        let start = Instant::now();
        let result = step();
        self.timings.push(Timing {
            pass,
            time: start.elapsed(),
        });
        result
    }

    /// The observer.
    pub fn observer(&mut self) -> &mut dyn Observer {
        self.observer
    }

    /// The inputs to check with, if each pass is to be checked.
    pub fn check_inputs(&self) -> Option<&[Tensor]> {
        self.check.as_ref().map(|c| c.inputs.as_slice())
    }

    /// Holds outputs against those before the pass, and keeps them for the next one. The graph gives names.
    ///
    /// # Errors
    /// [`DriverError::BrokenClass`] for the worst output.
    pub fn compare(
        &mut self,
        pass: &'static str,
        class: Class,
        graph: &Graph,
        outputs: Vec<Tensor>,
    ) -> Result<(), DriverError> {
        let Some(check) = &mut self.check else {
            return Ok(());
        };
        let allowed = match class {
            Class::Exact => compare::Class::Exact,
            Class::Rounding => compare::Class::ROUNDING,
            Class::Approximating { budget } => compare::Class::Rounding { rel: budget },
        };
        let mut worst: Option<(String, compare::Report)> = None;
        for (i, (actual, expected)) in outputs.iter().zip(&check.outputs).enumerate() {
            let report = compare(actual, expected, allowed);
            let off = |r: &compare::Report| r.max_abs / r.scale.max(f64::MIN_POSITIVE);
            if !report.passed() && worst.as_ref().is_none_or(|(_, w)| off(&report) > off(w)) {
                let name = graph
                    .outputs
                    .get(i)
                    .map_or_else(|| i.to_string(), |p| p.name.clone());
                worst = Some((name, report));
            }
        }
        if let Some((output, report)) = worst {
            let report = Box::new(report);
            return Err(DriverError::BrokenClass {
                pass,
                class,
                output,
                report,
            });
        }
        check.outputs = outputs;
        Ok(())
    }
}

fn faults(graph: &Graph) -> Vec<String> {
    verify(graph).iter().map(ToString::to_string).collect()
}
