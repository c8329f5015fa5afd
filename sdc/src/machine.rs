//! Compiled code that shows what representative inputs make of every value of a network.

use crate::artifact::{Directory, Program, input_bytes};
use crate::compile::Options;
use crate::error::{Error, Kind, Result};
use crate::model::Model;
use crate::observe::Observer;
use crate::target::{DEFAULT_CPU, Target};
use sdc_artifact::load::{Instance, Memory, missing_cpu_features};
use sdc_ir::Tensor;
use sdc_ir::graph::{Graph, TensorType};
use sdc_passes::integer;
use sdc_passes::pipeline::PipelineOptions;
use std::sync::{Mutex, PoisonError};

/// Bytes of all values of a network, above which they are left to the interpreter, which has few of them in memory at a time.
const MOST: usize = 1 << 30;

/// The first pass: the graph is fused as far as it may be.
const FIRST_PASS: &str = "quantise";

/// A network compiled with all its values as outputs. It is compiled for one CPU wherever it runs: what it computes, and so the integer
/// network, depends on the instruction set in its last bits.
pub struct Machine {
    program: Program,
    /// Arenas and outputs that no thread uses.
    idle: Mutex<Vec<(Instance, Vec<Memory>)>>,
}

impl Machine {
    /// Compiles the network that [`integer::observed`] gives; `None` where that cannot be or cannot run: on another host, for operators
    /// without lowering, with more values than fit in a gibibyte.
    ///
    /// # Errors
    /// As for [`compile`](crate::compile()), except what makes this `None`.
    pub fn of(observed: Graph, observer: &dyn Observer) -> Result<Option<Self>> {
        let bytes = |ty: &TensorType| ty.bytes().unwrap_or(usize::MAX);
        let all = observed.outputs.iter().map(|p| bytes(observed.ty(p.value)));
        if all.fold(0, usize::saturating_add) > MOST {
            return Ok(None);
        }
        let Ok(target) = Target::new(DEFAULT_CPU, true) else {
            return Ok(None);
        };
        let needed: Vec<String> = sdc_kernels::features::names(target.features())
            .map(str::to_owned)
            .collect();
        if !missing_cpu_features(&needed).is_empty() {
            return Ok(None);
        }
        let target = Target {
            winograd: false,
            ..target
        };
        let options = Options {
            passes: PipelineOptions {
                start_from: Some(FIRST_PASS.to_owned()),
                ..PipelineOptions::default()
            },
            ..Options::new(target)
        };
        let model = Model::of_graph("observed", observed);
        match Directory::compile(model, &options, observer) {
            Ok(directory) => Ok(Some(Self {
                program: directory.load()?,
                idle: Mutex::default(),
            })),
            Err(error) if error.kind() == Kind::Unsupported => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn shown(&self, inputs: &[Tensor], show: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let specs = &self.program.interface().inputs;
        let inputs = specs.iter().zip(inputs).map(|(spec, x)| input_bytes(spec, x));
        let inputs = inputs.collect::<Result<Vec<Memory>>>()?;
        let inputs: Vec<&[u8]> = inputs.iter().map(|m| &m[..]).collect();
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let found = idle().pop();
        let (mut instance, mut outputs) = match found {
            Some(found) => found,
            None => (self.program.instance()?, self.program.outputs()?),
        };
        let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(|m| &mut m[..]).collect();
        instance.run(&inputs, &mut slices, None)?;
        for (at, output) in outputs.iter().enumerate() {
            show(at, output);
        }
        idle().push((instance, outputs));
        Ok(())
    }
}

impl integer::Machine for Machine {
    fn run(&self, inputs: &[Tensor], show: &mut dyn FnMut(usize, &[u8])) -> Result<(), String> {
        self.shown(inputs, show).map_err(|e: Error| e.to_string())
    }
}
