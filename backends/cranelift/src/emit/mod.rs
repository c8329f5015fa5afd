//! Tile instructions as Cranelift instructions.
//!
//! Values of the tile IR are Cranelift values of [`crate::types::value`]'s type; half floats are bits. What the CPU has no
//! instruction for is done lane by lane or by arithmetic, never by a call.

mod arith;
mod convert;
mod lanes;
mod memory;
mod round;
mod select;

use crate::link::{Linker, signature};
use crate::types;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32, F64, I64};
use cranelift_codegen::ir::{
    self, Block, BlockArg, FuncRef, Function, GlobalValue, InstBuilder, MemFlagsData, StackSlot,
    StackSlotData, StackSlotKind,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataId, Module as _};
use sdc_ir::tile::{Arith1, Arith2, CompareOp, FoldOp, Func, KernelCall, Module, Ty};
use sdc_lower::generator::{Linkage, Signature};
use sdc_lower::{Address, Arch, Emitter, Frame, FuncError, LoopHead, LowerError, Options, Placement, Root};
use std::collections::BTreeMap;

type Value = ir::Value;
type Emitted = Result<Value, FuncError>;

/// What the emitter must know of the target.
pub struct Target {
    /// Rounding instructions, and most vector instructions on integers.
    sse41: bool,
    /// Fused multiply-add.
    fma: bool,
    kernels: BTreeMap<String, String>,
}

impl Target {
    /// With Cranelift's settings for the CPU.
    pub fn new(options: &Options, flags: Vec<&'static str>) -> Self {
        // Everything but x86-64 has these from the beginning.
        let has = |flag| options.cpu.arch != Arch::X86_64 || flags.contains(&flag);
        Self {
            sse41: has("has_sse41"),
            fma: has("has_fma"),
            kernels: options.kernels.clone(),
        }
    }
}

/// Builds `fn(frame, index)` for one tile function into `code`.
pub fn function(
    module: &Module,
    func: &Func,
    placement: &Placement,
    target: &Target,
    linker: &mut Linker,
    code: &mut Function,
    context: &mut FunctionBuilderContext,
) -> Result<(), FuncError> {
    let mut b = FunctionBuilder::new(code, context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let (frame, index) = (b.block_params(entry)[0], b.block_params(entry)[1]);
    let slots = sdc_lower::operand_slots(func) as u32;
    let pointers = (slots > 0)
        .then(|| b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, 8 * slots, 3)));
    let mut body = Body {
        b,
        target,
        linker,
        frame,
        pointers,
        loops: Vec::new(),
        conditions: BTreeMap::new(),
        splats: BTreeMap::new(),
        bytes: BTreeMap::new(),
        kernels: BTreeMap::new(),
        tables: BTreeMap::new(),
    };
    let result = sdc_lower::lower(module, func, placement, index, &mut body);
    if let Err(error) = result {
        // The context is used again, so it must not keep a half-built function.
        drop(body);
        *context = FunctionBuilderContext::new();
        return Err(error);
    }
    body.b.ins().return_(&[]);
    body.b.seal_all_blocks();
    let config = body.linker.module.target_config();
    body.b.finalize(config);
    Ok(())
}

struct Body<'a> {
    b: FunctionBuilder<'a>,
    target: &'a Target,
    linker: &'a mut Linker,
    frame: Value,
    /// Room for the pointer array of one kernel call.
    pointers: Option<StackSlot>,
    loops: Vec<OpenLoop>,
    /// For each scalar mask, the condition it was made of.
    conditions: BTreeMap<Value, Value>,
    /// For each vector made of one scalar, the scalar.
    splats: BTreeMap<Value, Value>,
    /// For each constant of four bytes, the byte.
    bytes: BTreeMap<Value, u8>,
    kernels: BTreeMap<String, FuncRef>,
    tables: BTreeMap<DataId, GlobalValue>,
}

struct OpenLoop {
    head: Block,
    exit: Block,
    var: Value,
    hi: Value,
    step: i64,
}

fn unsupported<T>(what: impl Into<String>) -> Result<T, FuncError> {
    Err(FuncError::Unsupported { what: what.into() })
}

impl Emitter for Body<'_> {
    type Value = Value;
    type Error = FuncError;

    fn root(&mut self, root: Root) -> Emitted {
        let field = match root {
            Root::Arena => Frame::Arena,
            Root::Weights => Frame::Weights,
            Root::Prepared => Frame::Prepared,
            Root::Input(_) => Frame::Inputs,
            Root::Output(_) => Frame::Outputs,
        };
        // Neither the frame nor the caller's arrays of pointers change while the model runs.
        let flags = MemFlagsData::trusted().with_readonly().with_can_move();
        let pointer = self.b.ins().load(I64, flags, self.frame, field as i32);
        let (Root::Input(position) | Root::Output(position)) = root else {
            return Ok(pointer);
        };
        match i32::try_from(position).ok().and_then(|p| p.checked_mul(8)) {
            Some(offset) => Ok(self.b.ins().load(I64, flags, pointer, offset)),
            None => unsupported(format!("input or output number {position}")),
        }
    }

    fn int(&mut self, x: i64) -> Value {
        self.b.ins().iconst(I64, x)
    }
    fn int_add(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().iadd(a, b)
    }
    fn int_scale(&mut self, a: Value, factor: i64) -> Value {
        // A shift can become part of an address.
        if factor > 0 && (factor as u64).is_power_of_two() {
            let count = self.int(factor.trailing_zeros().into());
            return self.b.ins().ishl(a, count);
        }
        let factor = self.int(factor);
        self.b.ins().imul(a, factor)
    }
    fn int_min(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().smin(a, b)
    }
    fn int_max(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().smax(a, b)
    }

    /// The condition is tested at the end of each iteration; before the first one only if it may fail there.
    fn open_loop(&mut self, loop_: LoopHead<Value>, init: &[Value]) -> (Value, Vec<Value>) {
        let (head, exit) = (self.b.create_block(), self.b.create_block());
        let var = self.b.append_block_param(head, I64);
        let mut carried = Vec::with_capacity(init.len());
        for &value in init {
            let ty = self.b.func.dfg.value_type(value);
            carried.push(self.b.append_block_param(head, ty));
            self.b.append_block_param(exit, ty);
        }
        let exit_args: Vec<BlockArg> = init.iter().copied().map(BlockArg::Value).collect();
        let mut head_args = vec![BlockArg::Value(loop_.lo)];
        head_args.extend(&exit_args);
        if loop_.runs {
            self.b.ins().jump(head, &head_args);
        } else {
            let runs = self.b.ins().icmp(IntCC::SignedLessThan, loop_.lo, loop_.hi);
            self.b.ins().brif(runs, head, &head_args, exit, &exit_args);
        }
        self.b.switch_to_block(head);
        self.loops.push(OpenLoop {
            head,
            exit,
            var,
            hi: loop_.hi,
            step: loop_.step,
        });
        (var, carried)
    }

    fn close_loop(&mut self, next: &[Value]) -> Vec<Value> {
        let open = self.loops.pop().expect("the walk closes what it has opened");
        let step = self.int(open.step);
        let var = self.b.ins().iadd(open.var, step);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, var, open.hi);
        let exit_args: Vec<BlockArg> = next.iter().copied().map(BlockArg::Value).collect();
        let mut head_args = vec![BlockArg::Value(var)];
        head_args.extend(&exit_args);
        self.b
            .ins()
            .brif(more, open.head, &head_args, open.exit, &exit_args);
        self.b.switch_to_block(open.exit);
        self.b.block_params(open.exit).to_vec()
    }

    fn load(&mut self, ty: Ty, at: Address<Value>) -> Emitted {
        self.load_value(ty, at)
    }
    fn load_splat(&mut self, ty: Ty, at: Address<Value>) -> Emitted {
        let x = self.load_value(Ty::scalar(ty.dtype), at)?;
        self.splat(ty, x)
    }
    fn store(&mut self, ty: Ty, at: Address<Value>, value: Value) -> Result<(), FuncError> {
        self.store_value(ty, at, value)
    }

    fn constant(&mut self, ty: Ty, bits: u64) -> Emitted {
        let element = types::element(ty.dtype);
        if ty.lanes == 1 {
            return Ok(match element {
                F32 => self
                    .b
                    .ins()
                    .f32const(ir::immediates::Ieee32::with_bits(bits as u32)),
                F64 => self.b.ins().f64const(ir::immediates::Ieee64::with_bits(bits)),
                _ => {
                    let mask = u64::MAX >> (64 - element.bits());
                    self.b.ins().iconst(element, (bits & mask) as i64)
                }
            });
        }
        let vector = types::value(ty)?;
        if types::is_bytes(ty) {
            let byte = bits as u8;
            let value = self
                .b
                .ins()
                .iconst(vector, i64::from(u32::from_le_bytes([byte; 4])));
            self.bytes.insert(value, byte);
            return Ok(value);
        }
        let bytes = bits.to_le_bytes()[..ty.dtype.size()].repeat(ty.lanes.into());
        let constant = self.b.func.dfg.constants.insert(bytes.into());
        let value = self.b.ins().vconst(vector, constant);
        if element.is_int() {
            // Shifts want their count as a scalar; where nothing does, this costs nothing.
            let mask = u64::MAX >> (64 - element.bits());
            let scalar = self.b.ins().iconst(element, (bits & mask) as i64);
            self.splats.insert(value, scalar);
        }
        Ok(value)
    }

    fn splat(&mut self, ty: Ty, x: Value) -> Emitted {
        if ty.lanes == 1 {
            return Ok(x);
        }
        let vector = types::value(ty)?;
        if types::is_bytes(ty) {
            let x = self.b.ins().uextend(vector, x);
            let copies = self.b.ins().iconst(vector, 0x0101_0101);
            return Ok(self.b.ins().imul(x, copies));
        }
        let value = self.b.ins().splat(vector, x);
        self.splats.insert(value, x);
        Ok(value)
    }

    fn arith1(&mut self, op: Arith1, ty: Ty, x: Value) -> Emitted {
        self.unary(op, ty, x)
    }
    fn arith2(&mut self, op: Arith2, ty: Ty, a: Value, b: Value) -> Emitted {
        self.binary(op, ty, a, b)
    }
    fn fma(&mut self, ty: Ty, a: Value, b: Value, c: Value) -> Emitted {
        self.multiply_add(ty, a, b, c)
    }
    fn compare(&mut self, op: CompareOp, ty: Ty, a: Value, b: Value) -> Emitted {
        self.mask(op, ty, a, b)
    }
    fn select(&mut self, ty: Ty, mask: Value, a: Value, b: Value) -> Emitted {
        self.choose(ty, mask, a, b)
    }
    fn convert(&mut self, from: Ty, to: Ty, x: Value) -> Emitted {
        self.convert_value(from, to, x)
    }

    fn bitcast(&mut self, _from: Ty, to: Ty, x: Value) -> Emitted {
        let to = types::value(to)?;
        Ok(self.reinterpret(to, x))
    }

    fn fold(&mut self, op: FoldOp, ty: Ty, x: Value) -> Emitted {
        let op = match op {
            FoldOp::Add => Arith2::Add,
            FoldOp::Max => Arith2::Max,
            FoldOp::Min => Arith2::Min,
        };
        self.fold_lanes(op, ty, x)
    }

    fn lane(&mut self, ty: Ty, x: Value, lane: u8) -> Emitted {
        if lane >= ty.lanes {
            return unsupported(format!("lane {lane} of {ty}"));
        }
        Ok(self.extract(ty, x, lane))
    }

    fn kernel(
        &mut self,
        call: &KernelCall,
        operands: &[Option<Address<Value>>],
        begin: Value,
        end: Value,
    ) -> Result<(), FuncError> {
        let kernel = match self.kernels.get(&call.kernel) {
            Some(&kernel) => kernel,
            None => {
                let unknown = || LowerError::UnknownKernel(call.kernel.clone());
                let symbol = self.target.kernels.get(&call.kernel).ok_or_else(unknown)?;
                let id = self.linker.declare(symbol, Linkage::Kernel, Signature::Kernel)?;
                let kernel = self.linker.import(id, signature(Signature::Kernel), self.b.func);
                self.kernels.insert(call.kernel.clone(), kernel);
                kernel
            }
        };
        let table: Vec<u8> = call.params.iter().flat_map(|p| p.to_le_bytes()).collect();
        let params = self.table(&table)?;
        let pointers = match self.pointers {
            Some(slot) => self.b.ins().stack_addr(I64, slot, 0),
            None => self.int(0),
        };
        for (at, operand) in operands.iter().enumerate() {
            let pointer = match operand {
                Some(address) => self.pointer(*address),
                None => self.int(0),
            };
            self.b
                .ins()
                .store(MemFlagsData::trusted(), pointer, pointers, 8 * at as i32);
        }
        self.b.ins().call(kernel, &[pointers, params, begin, end]);
        Ok(())
    }
}

impl Body<'_> {
    /// The address of a constant table; none is needed for no bytes.
    fn table(&mut self, bytes: &[u8]) -> Emitted {
        if bytes.is_empty() {
            return Ok(self.int(0));
        }
        let id = self.linker.table(bytes)?;
        let global = match self.tables.get(&id) {
            Some(&global) => global,
            None => {
                let global = self.linker.import_table(id, self.b.func);
                self.tables.insert(id, global);
                global
            }
        };
        Ok(self.b.ins().symbol_value(I64, global))
    }

    /// The same bits under another type of the same width.
    fn reinterpret(&mut self, to: ir::Type, x: Value) -> Value {
        if self.b.func.dfg.value_type(x) == to {
            return x;
        }
        let flags = MemFlagsData::new().with_endianness(ir::Endianness::Little);
        self.b.ins().bitcast(to, flags, x)
    }
}
