//! The model's entry points, for every code generator.
//!
//! `NAME_run` builds a [`Frame`] on its stack and calls the tile functions in order. A function with tasks is handed to the
//! caller's `parallel_for`, or, if that is null, to a loop of our own with the same signature. `NAME_prepare` checks header and CPU and
//! then calls the functions that prepare, whose tasks run one after another.

use crate::generator::{Code, Failure, Generator, Linkage, Signature};
use crate::{FuncError, Options, Placement};
use sdc_ir::tile::{BufferKind, Module};

/// What tile functions get: the arguments of `NAME_run` except `parallel_for`, in this order. The number is the field's offset in bytes.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub enum Frame {
    /// Array of pointers to the inputs.
    Inputs = 0,
    /// Array of pointers to the outputs.
    Outputs = 8,
    /// The arena.
    Arena = 16,
    /// The weights image.
    Weights = 24,
    /// The prepared memory.
    Prepared = 32,
}

const FRAME_SIZE: u32 = 40;

/// Which functions an entry point hands to `parallel_for`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dispatch {
    /// Those with several tasks.
    Tasks,
    /// All of them.
    Everything,
}

impl Dispatch {
    /// The number of tasks that `parallel_for` is called with for a function with so many of them; none if it is not called.
    pub fn call(self, tasks: Option<u64>) -> Option<u64> {
        match self {
            Dispatch::Tasks => tasks.filter(|&n| n > 1),
            Dispatch::Everything => Some(tasks.unwrap_or(1)),
        }
    }
}

/// Functions with their numbers of tasks.
type Steps<'a, F> = (&'a [(F, Option<u64>)], Dispatch);

fn anonymous(source: FuncError) -> Failure {
    Failure {
        position: None,
        source,
    }
}

/// Defines the functions that surround the tile functions `prepare_steps` and `steps`.
pub(crate) fn define<G: Generator>(
    placement: &Placement,
    options: &Options,
    module: &Module,
    prepare_steps: Steps<'_, G::Func>,
    steps: Steps<'_, G::Func>,
    generator: &mut G,
) -> Result<(), Failure> {
    let name = &options.name;
    let declare = |generator: &mut G, what: &str, linkage, signature| {
        let declared = generator.declare(&format!("{name}_{what}"), linkage, signature);
        declared.map_err(anonymous)
    };
    let serial = declare(generator, "_serial_for", Linkage::Local, Signature::ParallelFor)?;
    let run = declare(generator, "run", Linkage::Global, Signature::Run)?;
    let prepare = declare(generator, "prepare", Linkage::Global, Signature::Prepare)?;
    generator.entry(serial, Signature::ParallelFor, |code, args| {
        let (count, task, frame) = (args[1], args[2], args[3]);
        code.times(count, |code, index| {
            code.call_at(task, Signature::Task, &[frame, index]);
        });
        code.return_(None);
    })?;
    generator.entry(run, Signature::Run, |code, args| {
        let fields = [
            Frame::Inputs,
            Frame::Outputs,
            Frame::Arena,
            Frame::Weights,
            Frame::Prepared,
        ];
        let frame = frame(code, &fields, args);
        let parallel_for = args[5];
        let serial = code.address(serial);
        let spread = code.load_or(parallel_for, serial);
        call_steps(steps, [parallel_for, spread, frame], code);
        let fine = code.status(0);
        code.return_(Some(fine));
    })?;
    define_prepare((prepare, serial), prepare_steps, options, generator)?;

    let (mut inputs, mut outputs) = (0, 0);
    for buffer in module.buffers.values() {
        match buffer.kind {
            BufferKind::Input(position) => inputs = inputs.max(position as u64 + 1),
            BufferKind::Output(position) => outputs = outputs.max(position as u64 + 1),
            BufferKind::Const(_) | BufferKind::Temp | BufferKind::Prepared => {}
        }
    }
    for (what, value) in [
        ("arena_size", placement.arena_size),
        ("arena_align", placement.arena_align),
        ("weights_size", placement.weights_size),
        ("prepared_size", placement.prepared_size),
        ("input_count", inputs),
        ("output_count", outputs),
    ] {
        let func = declare(generator, what, Linkage::Global, Signature::Size)?;
        generator.entry(func, Signature::Size, |code, _| {
            let value = code.int(value);
            code.return_(Some(value));
        })?;
    }
    Ok(())
}

fn define_prepare<G: Generator>(
    (prepare, serial): (G::Func, G::Func),
    steps: Steps<'_, G::Func>,
    options: &Options,
    generator: &mut G,
) -> Result<(), Failure> {
    let mut declare = |symbol: &String| generator.declare(symbol, Linkage::Kernel, Signature::Check);
    let kernel = options.prepare.as_ref().map(&mut declare);
    let kernel = kernel.transpose().map_err(anonymous)?;
    let header = generator.table(&options.weights_header).map_err(anonymous)?;
    generator.entry(prepare, Signature::Prepare, |code, args| {
        let header = code.table(header);
        let result = match kernel {
            Some(kernel) => {
                let features = code.int(options.required_features);
                code.call_for(kernel, Signature::Check, &[args[0], header, features])
            }
            None => differ(code, args[0], header, options.weights_header.len()),
        };
        if !steps.0.is_empty() {
            code.return_unless_zero(result);
            let frame = frame(code, &[Frame::Weights, Frame::Prepared], args);
            let serial = code.address(serial);
            let nobody = code.null();
            call_steps(steps, [nobody, serial, frame], code);
        }
        code.return_(Some(result));
    })
}

/// A frame on the stack with these fields.
fn frame<C: Code>(code: &mut C, fields: &[Frame], args: &[C::Value]) -> C::Value {
    let frame = code.stack(FRAME_SIZE);
    for (&field, &arg) in fields.iter().zip(args) {
        code.store(frame, field as i32, arg);
    }
    frame
}

/// Calls tile functions in order; those with tasks through `spread`, whose first argument is `parallel_for`.
fn call_steps<C: Code>(
    (steps, dispatch): Steps<'_, C::Func>,
    [parallel_for, spread, frame]: [C::Value; 3],
    code: &mut C,
) {
    for &(step, tasks) in steps {
        match dispatch.call(tasks) {
            None if tasks == Some(0) => {}
            None => {
                let zero = code.int(0);
                code.call(step, Signature::Task, &[frame, zero]);
            }
            Some(count) => {
                let step = code.address(step);
                let count = code.int(count);
                code.call_at(
                    spread,
                    Signature::ParallelFor,
                    &[parallel_for, count, step, frame],
                );
            }
        }
    }
}

/// 1 if `len` bytes, a multiple of 8, at two places differ, else 0.
fn differ<C: Code>(code: &mut C, left: C::Value, right: C::Value, len: usize) -> C::Value {
    let mut differing = code.int(0);
    for at in (0..len as i32).step_by(8) {
        let (x, y) = (code.load(left, at), code.load(right, at));
        let bits = code.xor(x, y);
        differing = code.or(differing, bits);
    }
    code.is_not_zero(differing)
}
