//! One arena, and runs in it.

use super::{LoadError, Loaded, Memory};
use crate::interface::TensorSpec;
use crate::pool::{ParallelFor, Pool};
use crate::probe::Probe;
use std::ffi::c_void;
use std::sync::Arc;

/// Bytes after the arena that no run may touch; [`Instance::measure`] watches them.
const GUARD: usize = 4096;

/// A model that can run: the shared, prepared artifact and an arena of its own.
#[derive(Debug)]
pub struct Instance {
    loaded: Arc<Loaded>,
    arena: Memory,
}

/// What a run did to its arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArenaUse {
    /// One past the highest byte written; more than the arena's size would be a bug of the compiler.
    pub highest: usize,
    /// Number of bytes written.
    pub written: usize,
    /// Whether the outputs were the same whatever the arena held before; if not, the code reads what it never wrote.
    pub outputs_agree: bool,
}

impl Instance {
    pub(super) fn new(loaded: Arc<Loaded>) -> Result<Self, LoadError> {
        let arena = Memory::new("arena", loaded.manifest.interface.arena_size + GUARD)?;
        Ok(Self { loaded, arena })
    }

    /// Runs the model once. Inputs and outputs are in the interface's order, each the dense bytes of its tensor. `pool` gives
    /// threads; without it all happens on the calling thread. The result is the same either way.
    ///
    /// # Errors
    /// A number, size or alignment of tensors other than the interface's; a failure the model reports.
    pub fn run(
        &mut self,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        pool: Option<&Pool>,
    ) -> Result<(), LoadError> {
        self.run_with(inputs, outputs, pool.map_or(std::ptr::null(), Pool::parallel_for))
    }

    /// As [`Instance::run`], on the probe's pool and with its notes.
    ///
    /// # Errors
    /// As [`Instance::run`].
    pub fn run_probed(
        &mut self,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        probe: &Probe<'_>,
    ) -> Result<(), LoadError> {
        self.run_with(inputs, outputs, probe.parallel_for())
    }

    /// `parallel_for` must be null or stay valid during the call.
    fn run_with(
        &mut self,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        parallel_for: *const ParallelFor,
    ) -> Result<(), LoadError> {
        let interface = &self.loaded.manifest.interface;
        count("inputs", &interface.inputs, inputs.len())?;
        count("outputs", &interface.outputs, outputs.len())?;
        let mut input_pointers: Vec<*const c_void> = Vec::with_capacity(inputs.len());
        for (spec, bytes) in interface.inputs.iter().zip(inputs) {
            check("input", spec, bytes)?;
            input_pointers.push(bytes.as_ptr().cast());
        }
        let mut output_pointers: Vec<*mut c_void> = Vec::with_capacity(outputs.len());
        for (spec, bytes) in interface.outputs.iter().zip(outputs) {
            check("output", spec, bytes)?;
            output_pointers.push(bytes.as_mut_ptr().cast());
        }
        self.loaded
            .run(&input_pointers, &output_pointers, &mut self.arena, parallel_for)
    }

    /// Fills the arena with a byte; a correct model gives the same outputs whatever it holds.
    pub fn fill_arena(&mut self, byte: u8) {
        self.arena.fill(byte);
    }

    /// Runs the model twice, on an arena of zeros and on one of ones, and reports which bytes it wrote: those that kept
    /// their value neither time hold something else at least once.
    ///
    /// # Errors
    /// As [`Instance::run`], and too little memory for two sets of outputs and a copy of the arena.
    pub fn measure(&mut self, inputs: &[&[u8]], pool: Option<&Pool>) -> Result<ArenaUse, LoadError> {
        let (zeros, first) = self.run_on(0x00, inputs, pool)?;
        let (ones, second) = self.run_on(0xff, inputs, pool)?;
        let written = |(_, (z, o)): &(usize, (&u8, &u8))| **z != 0x00 || **o != 0xff;
        let touched = || zeros.iter().zip(ones.iter()).enumerate().filter(written);
        Ok(ArenaUse {
            highest: touched().next_back().map_or(0, |(at, _)| at + 1),
            written: touched().count(),
            outputs_agree: first == second,
        })
    }

    /// The arena and the outputs after a run that began with an arena full of `byte`.
    fn run_on(
        &mut self,
        byte: u8,
        inputs: &[&[u8]],
        pool: Option<&Pool>,
    ) -> Result<(Vec<u8>, Vec<Vec<u8>>), LoadError> {
        self.fill_arena(byte);
        let specs = &self.loaded.manifest.interface.outputs;
        let mut outputs = specs
            .iter()
            .map(|t| Memory::new("outputs", t.bytes().unwrap_or(usize::MAX)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(|m| &mut **m).collect();
        self.run(inputs, &mut slices, pool)?;
        Ok((self.arena.to_vec(), outputs.iter().map(|m| m.to_vec()).collect()))
    }
}

fn count(what: &'static str, specs: &[TensorSpec], actual: usize) -> Result<(), LoadError> {
    if actual == specs.len() {
        Ok(())
    } else {
        Err(LoadError::Count {
            what,
            expected: specs.len(),
            actual,
        })
    }
}

fn check(what: &'static str, spec: &TensorSpec, bytes: &[u8]) -> Result<(), LoadError> {
    let expected = spec.bytes().unwrap_or(usize::MAX);
    if bytes.len() != expected {
        let (name, actual) = (spec.name.clone(), bytes.len());
        return Err(LoadError::TensorSize {
            what,
            name,
            expected,
            actual,
        });
    }
    if !bytes.as_ptr().addr().is_multiple_of(spec.dtype.size()) {
        return Err(LoadError::Alignment {
            what,
            name: spec.name.clone(),
        });
    }
    Ok(())
}
