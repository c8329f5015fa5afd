//! The model's entry points.
//!
//! `NAME_run` builds a [`Frame`] on its stack and calls the tile functions in order. A function with tasks is handed to the
//! caller's `parallel_for`, or, if that is null, to a loop of our own with the same signature. `NAME_prepare` checks header and CPU and
//! then calls the functions that prepare, whose tasks run one after another.

use crate::Options;
use crate::error::Error;
use crate::link::{Linker, signature, task_signature};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{
    BlockArg, Function, InstBuilder, MemFlagsData, Signature, StackSlotData, StackSlotKind, UserFuncName,
    Value,
};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{FuncId, Module as _};
use sdc_ir::tile::{BufferKind, Module};
use sdc_lower::Placement;

/// What tile functions get: the arguments of `NAME_run` except `parallel_for`, in this order.
#[derive(Clone, Copy)]
#[repr(i32)]
pub enum Frame {
    Inputs = 0,
    Outputs = 8,
    Arena = 16,
    Weights = 24,
    Prepared = 32,
}

const FRAME_SIZE: u32 = 40;

/// Which functions an entry point hands to `parallel_for`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dispatch {
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
type Steps<'a> = (&'a [(FuncId, Option<u64>)], Dispatch);

/// The functions that surround the tile functions `prepare_steps` and `steps`, to be compiled as they are.
pub fn functions(
    placement: &Placement,
    options: &Options,
    module: &Module,
    prepare_steps: Steps<'_>,
    steps: Steps<'_>,
    linker: &mut Linker,
    builder: &mut FunctionBuilderContext,
) -> Result<Vec<(FuncId, Function)>, Error> {
    let name = &options.name;
    let config = linker.module.target_config();
    let serial = linker.declare(&format!("{name}__serial_for"), false, &parallel_for_signature())?;
    let run = linker.declare(&format!("{name}_run"), true, &signature(&[I64; 6], &[I32]))?;
    let prepare = linker.declare(&format!("{name}_prepare"), true, &signature(&[I64; 2], &[I32]))?;
    let mut functions = vec![
        (serial, serial_for(serial, config, builder)),
        (run, run_function(run, serial, steps, linker, builder)),
        (
            prepare,
            prepare_function(prepare, serial, prepare_steps, options, linker, builder)?,
        ),
    ];
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
        let id = linker.declare(&format!("{name}_{what}"), true, &signature(&[], &[I64]))?;
        let function = define(id, signature(&[], &[I64]), config, builder, |b, _| {
            let value = b.ins().iconst(I64, value as i64);
            b.ins().return_(&[value]);
        });
        functions.push((id, function));
    }
    Ok(functions)
}

/// `fn(self, count, task, frame)`, as in `struct sdc_parallel_for`.
fn parallel_for_signature() -> Signature {
    signature(&[I64; 4], &[])
}

fn define(
    id: FuncId,
    signature: Signature,
    config: TargetFrontendConfig,
    builder: &mut FunctionBuilderContext,
    body: impl FnOnce(&mut FunctionBuilder<'_>, &[cranelift_codegen::ir::Value]),
) -> Function {
    let mut function = Function::with_name_signature(UserFuncName::user(0, id.as_u32()), signature);
    let mut b = FunctionBuilder::new(&mut function, builder);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let args = b.block_params(entry).to_vec();
    body(&mut b, &args);
    b.seal_all_blocks();
    b.finalize(config);
    function
}

fn serial_for(id: FuncId, config: TargetFrontendConfig, builder: &mut FunctionBuilderContext) -> Function {
    define(id, parallel_for_signature(), config, builder, |b, args| {
        let (count, task, frame) = (args[1], args[2], args[3]);
        let task_type = b.import_signature(task_signature());
        let (head, body, exit) = (b.create_block(), b.create_block(), b.create_block());
        let index = b.append_block_param(head, I64);
        let zero = b.ins().iconst(I64, 0);
        b.ins().jump(head, &[BlockArg::Value(zero)]);
        b.switch_to_block(head);
        let more = b.ins().icmp(IntCC::UnsignedLessThan, index, count);
        b.ins().brif(more, body, &[], exit, &[]);
        b.switch_to_block(body);
        b.ins().call_indirect(task_type, task, &[frame, index]);
        let one = b.ins().iconst(I64, 1);
        let next = b.ins().iadd(index, one);
        b.ins().jump(head, &[BlockArg::Value(next)]);
        b.switch_to_block(exit);
        b.ins().return_(&[]);
    })
}

fn run_function(
    id: FuncId,
    serial: FuncId,
    steps: Steps<'_>,
    linker: &mut Linker,
    builder: &mut FunctionBuilderContext,
) -> Function {
    let config = linker.module.target_config();
    define(id, signature(&[I64; 6], &[I32]), config, builder, |b, args| {
        let slot = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, FRAME_SIZE, 3));
        let frame = b.ins().stack_addr(I64, slot, 0);
        let fields = [
            Frame::Inputs,
            Frame::Outputs,
            Frame::Arena,
            Frame::Weights,
            Frame::Prepared,
        ];
        for (field, &arg) in fields.into_iter().zip(args) {
            b.ins().store(MemFlagsData::trusted(), arg, frame, field as i32);
        }

        let parallel_for = args[5];
        let serial = linker.import(serial, parallel_for_signature(), b.func);
        let serial = b.ins().func_addr(I64, serial);
        let (given, start) = (b.create_block(), b.create_block());
        let spread = b.append_block_param(start, I64);
        b.ins()
            .brif(parallel_for, given, &[], start, &[BlockArg::Value(serial)]);
        b.switch_to_block(given);
        let call = b.ins().load(I64, MemFlagsData::trusted(), parallel_for, 0);
        b.ins().jump(start, &[BlockArg::Value(call)]);
        b.switch_to_block(start);

        call_steps(steps, [parallel_for, spread, frame], linker, b);
        let zero = b.ins().iconst(I32, 0);
        b.ins().return_(&[zero]);
    })
}

/// Calls tile functions in order; those with tasks through `spread`, whose first argument is `parallel_for`.
fn call_steps(
    (steps, dispatch): Steps<'_>,
    [parallel_for, spread, frame]: [Value; 3],
    linker: &mut Linker,
    b: &mut FunctionBuilder<'_>,
) {
    let spread_type = b.import_signature(parallel_for_signature());
    for &(step, tasks) in steps {
        let step = linker.import(step, task_signature(), b.func);
        match dispatch.call(tasks) {
            None if tasks == Some(0) => {}
            None => {
                let zero = b.ins().iconst(I64, 0);
                b.ins().call(step, &[frame, zero]);
            }
            Some(count) => {
                let step = b.ins().func_addr(I64, step);
                let count = b.ins().iconst(I64, count as i64);
                b.ins()
                    .call_indirect(spread_type, spread, &[parallel_for, count, step, frame]);
            }
        }
    }
}

fn prepare_function(
    id: FuncId,
    serial: FuncId,
    steps: Steps<'_>,
    options: &Options,
    linker: &mut Linker,
    builder: &mut FunctionBuilderContext,
) -> Result<Function, Error> {
    let kernel_type = signature(&[I64; 3], &[I32]);
    let kernel = match &options.prepare {
        Some(symbol) => Some(linker.kernel(symbol, &kernel_type)?),
        None => None,
    };
    let header = linker.table(&options.weights_header)?;
    let config = linker.module.target_config();
    Ok(define(
        id,
        signature(&[I64; 2], &[I32]),
        config,
        builder,
        |b, args| {
            let header = linker.import_table(header, b.func);
            let header = b.ins().symbol_value(I64, header);
            let result = match kernel {
                Some(kernel) => {
                    let kernel = linker.import(kernel, kernel_type, b.func);
                    let features = b.ins().iconst(I64, options.required_features as i64);
                    let call = b.ins().call(kernel, &[args[0], header, features]);
                    b.inst_results(call)[0]
                }
                None => differ(b, args[0], header, options.weights_header.len()),
            };
            if !steps.0.is_empty() {
                let (start, refuse) = (b.create_block(), b.create_block());
                b.ins().brif(result, refuse, &[], start, &[]);
                b.switch_to_block(refuse);
                b.ins().return_(&[result]);
                b.switch_to_block(start);
                let slot =
                    b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, FRAME_SIZE, 3));
                let frame = b.ins().stack_addr(I64, slot, 0);
                for (field, &arg) in [Frame::Weights, Frame::Prepared].into_iter().zip(args) {
                    b.ins().store(MemFlagsData::trusted(), arg, frame, field as i32);
                }
                let serial = linker.import(serial, parallel_for_signature(), b.func);
                let serial = b.ins().func_addr(I64, serial);
                let nobody = b.ins().iconst(I64, 0);
                call_steps(steps, [nobody, serial, frame], linker, b);
            }
            b.ins().return_(&[result]);
        },
    ))
}

/// 1 if `len` bytes, a multiple of 8, at two places differ, else 0.
fn differ(
    b: &mut FunctionBuilder<'_>,
    left: cranelift_codegen::ir::Value,
    right: cranelift_codegen::ir::Value,
    len: usize,
) -> cranelift_codegen::ir::Value {
    let mut differing = b.ins().iconst(I64, 0);
    for at in (0..len as i32).step_by(8) {
        let [x, y] = [left, right].map(|place| b.ins().load(I64, MemFlagsData::trusted(), place, at));
        let bits = b.ins().bxor(x, y);
        differing = b.ins().bor(differing, bits);
    }
    let differ = b.ins().icmp_imm_u(IntCC::NotEqual, differing, 0);
    b.ins().uextend(I32, differ)
}
