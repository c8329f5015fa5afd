//! Tile instructions as LLVM's instructions.
//!
//! Values of the tile IR are values of [`Unit::ty`]'s type, addresses are pointers; half floats are bits. Vectors may have any
//! number of lanes: LLVM splits what is wider than a register.

mod arith;
mod convert;

use crate::unit::{Unit, Value, built, unsupported};
use inkwell::IntPredicate;
use inkwell::basic_block::BasicBlock;
use inkwell::types::VectorType;
use inkwell::values::{BasicMetadataValueEnum, FunctionValue, InstructionOpcode, PhiValue, PointerValue};
use sdc_ir::tile::{Arith1, Arith2, CompareOp, FoldOp, Func, KernelCall, Module, Ty};
use sdc_lower::generator::{Linkage, Signature};
use sdc_lower::{Address, Emitter, Frame, FuncError, LoopHead, LowerError, Placement, Root};

type Emitted<'c> = Result<Value<'c>, FuncError>;

/// Builds `fn(frame, index)` for one tile function, which has no symbol yet.
pub fn function<'c>(
    module: &Module,
    func: &Func,
    placement: &Placement,
    unit: &mut Unit<'c>,
) -> Result<FunctionValue<'c>, FuncError> {
    let function = unit.unnamed();
    let entry = unit.context.append_basic_block(function, "");
    unit.builder.position_at_end(entry);
    let params = function.get_params();
    let (frame, index) = (params[0].into_pointer_value(), params[1]);
    let slots = sdc_lower::operand_slots(func) as u32;
    let pointers = (slots > 0).then(|| {
        let array = unit.pointer_type().array_type(slots);
        built(unit.builder.build_alloca(array, ""))
    });
    let mut body = Body {
        unit,
        function,
        frame,
        pointers,
        loops: Vec::new(),
    };
    sdc_lower::lower(module, func, placement, index, &mut body)?;
    built(body.unit.builder.build_return(None));
    Ok(function)
}

struct Body<'a, 'c> {
    unit: &'a mut Unit<'c>,
    function: FunctionValue<'c>,
    frame: PointerValue<'c>,
    /// Room for the pointer array of one kernel call.
    pointers: Option<PointerValue<'c>>,
    loops: Vec<OpenLoop<'c>>,
}

struct OpenLoop<'c> {
    /// Where the loop is entered from.
    before: BasicBlock<'c>,
    head: BasicBlock<'c>,
    exit: BasicBlock<'c>,
    var: PhiValue<'c>,
    carried: Vec<PhiValue<'c>>,
    init: Vec<Value<'c>>,
    hi: Value<'c>,
    step: i64,
    runs: bool,
}

impl<'c> Body<'_, 'c> {
    fn block(&self) -> BasicBlock<'c> {
        self.unit.context.append_basic_block(self.function, "")
    }

    fn current(&self) -> BasicBlock<'c> {
        let block = self.unit.builder.get_insert_block();
        block.expect("a function is built in a block")
    }

    fn pointer(&self, at: Address<Value<'c>>) -> PointerValue<'c> {
        let base = at.base.into_pointer_value();
        if at.displacement == 0 {
            return base;
        }
        self.unit.offset(base, self.unit.int(at.displacement.into()))
    }

    /// One lane of a vector, or the scalar itself.
    fn extract(&self, x: Value<'c>, lane: u8) -> Value<'c> {
        match x {
            Value::VectorValue(x) => {
                let lane = self.unit.int(lane.into());
                built(self.unit.builder.build_extract_element(x, lane, ""))
            }
            x => x,
        }
    }
}

impl<'c> Emitter for Body<'_, 'c> {
    type Value = Value<'c>;
    type Error = FuncError;

    fn root(&mut self, root: Root) -> Emitted<'c> {
        let field = match root {
            Root::Arena => Frame::Arena,
            Root::Weights => Frame::Weights,
            Root::Prepared => Frame::Prepared,
            Root::Input(_) => Frame::Inputs,
            Root::Output(_) => Frame::Outputs,
        };
        let ty = self.unit.pointer_type().into();
        let place = self.unit.offset(self.frame, self.unit.int(field as i64));
        let pointer = self.unit.load(ty, place, 8, false);
        let (Root::Input(position) | Root::Output(position)) = root else {
            return Ok(pointer);
        };
        let Some(offset) = i64::try_from(position).ok().and_then(|p| p.checked_mul(8)) else {
            return unsupported(format!("input or output number {position}"));
        };
        let offset = self.unit.int(offset);
        let place = self.unit.offset(pointer.into_pointer_value(), offset);
        Ok(self.unit.load(ty, place, 8, false))
    }

    fn int(&mut self, x: i64) -> Value<'c> {
        self.unit.int(x).into()
    }
    fn int_add(&mut self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        match a {
            Value::PointerValue(base) => self.unit.offset(base, b.into_int_value()).into(),
            a => self.unit.binary(InstructionOpcode::Add, a, b),
        }
    }
    fn int_scale(&mut self, a: Value<'c>, factor: i64) -> Value<'c> {
        let factor = self.int(factor);
        self.unit.binary(InstructionOpcode::Mul, a, factor)
    }
    fn int_min(&mut self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        let less = self.unit.compare_ints(IntPredicate::SLT, a, b);
        self.unit.choose(less, a, b)
    }
    fn int_max(&mut self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        let more = self.unit.compare_ints(IntPredicate::SGT, a, b);
        self.unit.choose(more, a, b)
    }

    fn open_loop(&mut self, loop_: LoopHead<Value<'c>>, init: &[Value<'c>]) -> (Value<'c>, Vec<Value<'c>>) {
        let (before, head, exit) = (self.current(), self.block(), self.block());
        if loop_.runs {
            built(self.unit.builder.build_unconditional_branch(head));
        } else {
            let runs = self.unit.compare_ints(IntPredicate::SLT, loop_.lo, loop_.hi);
            let runs = runs.into_int_value();
            built(self.unit.builder.build_conditional_branch(runs, head, exit));
        }
        self.unit.builder.position_at_end(head);
        let phi = |first: Value<'c>| {
            let phi = built(self.unit.builder.build_phi(first.get_type(), ""));
            phi.add_incoming(&[(&first, before)]);
            phi
        };
        let var = phi(loop_.lo);
        let carried: Vec<PhiValue<'c>> = init.iter().map(|&x| phi(x)).collect();
        let values = carried.iter().map(|p| p.as_basic_value()).collect();
        self.loops.push(OpenLoop {
            before,
            head,
            exit,
            var,
            carried,
            init: init.to_vec(),
            hi: loop_.hi,
            step: loop_.step,
            runs: loop_.runs,
        });
        (var.as_basic_value(), values)
    }

    fn close_loop(&mut self, next: &[Value<'c>]) -> Vec<Value<'c>> {
        let open = self.loops.pop().expect("the walk closes what it has opened");
        let last = self.current();
        let step = self.int(open.step);
        let var = self
            .unit
            .binary(InstructionOpcode::Add, open.var.as_basic_value(), step);
        let more = self.unit.compare_ints(IntPredicate::SLT, var, open.hi);
        let more = more.into_int_value();
        built(
            self.unit
                .builder
                .build_conditional_branch(more, open.head, open.exit),
        );
        open.var.add_incoming(&[(&var, last)]);
        self.unit.builder.position_at_end(open.exit);
        let mut results = Vec::with_capacity(next.len());
        for ((phi, init), value) in open.carried.iter().zip(&open.init).zip(next) {
            phi.add_incoming(&[(value, last)]);
            let result = built(self.unit.builder.build_phi(value.get_type(), ""));
            result.add_incoming(&[(value, last)]);
            if !open.runs {
                result.add_incoming(&[(init, open.before)]);
            }
            results.push(result.as_basic_value());
        }
        results
    }

    fn load(&mut self, ty: Ty, at: Address<Value<'c>>) -> Emitted<'c> {
        let place = self.pointer(at);
        let value = self.unit.ty(ty);
        Ok(self.unit.load(value, place, ty.dtype.size(), at.readonly))
    }
    fn load_splat(&mut self, ty: Ty, at: Address<Value<'c>>) -> Emitted<'c> {
        let x = self.load(Ty::scalar(ty.dtype), at)?;
        self.splat(ty, x)
    }
    fn store(&mut self, ty: Ty, at: Address<Value<'c>>, value: Value<'c>) -> Result<(), FuncError> {
        let place = self.pointer(at);
        let store = built(self.unit.builder.build_store(place, value));
        store
            .set_alignment(ty.dtype.size() as u32)
            .expect("elements have sizes that are powers of two");
        Ok(())
    }

    fn constant(&mut self, ty: Ty, bits: u64) -> Emitted<'c> {
        Ok(self.unit.constant(ty, bits))
    }

    fn splat(&mut self, ty: Ty, x: Value<'c>) -> Emitted<'c> {
        let inkwell::types::BasicTypeEnum::VectorType(vector) = self.unit.ty(ty) else {
            return Ok(x);
        };
        let (nothing, zero) = (vector.get_poison(), self.unit.int(0));
        let first = built(self.unit.builder.build_insert_element(nothing, x, zero, ""));
        let mask = self
            .unit
            .context
            .i32_type()
            .vec_type(ty.lanes.into())
            .const_zero();
        let all = self.unit.builder.build_shuffle_vector(first, nothing, mask, "");
        Ok(built(all).into())
    }

    fn arith1(&mut self, op: Arith1, ty: Ty, x: Value<'c>) -> Emitted<'c> {
        self.unary(op, ty, x)
    }
    fn arith2(&mut self, op: Arith2, ty: Ty, a: Value<'c>, b: Value<'c>) -> Emitted<'c> {
        self.binary(op, ty, a, b)
    }
    fn fma(&mut self, ty: Ty, a: Value<'c>, b: Value<'c>, c: Value<'c>) -> Emitted<'c> {
        self.multiply_add(ty, a, b, c)
    }
    fn compare(&mut self, op: CompareOp, ty: Ty, a: Value<'c>, b: Value<'c>) -> Emitted<'c> {
        let bits = self.condition(op, ty, a, b)?;
        let mask = self.unit.ty(sdc_ir::tile::build::mask_type(ty));
        Ok(self.unit.cast(InstructionOpcode::SExt, bits, mask))
    }
    fn select(&mut self, ty: Ty, mask: Value<'c>, a: Value<'c>, b: Value<'c>) -> Emitted<'c> {
        let zero = self.unit.constant(sdc_ir::tile::build::mask_type(ty), 0);
        let bits = self.unit.compare_ints(IntPredicate::NE, mask, zero);
        Ok(self.unit.choose(bits, a, b))
    }
    fn convert(&mut self, from: Ty, to: Ty, x: Value<'c>) -> Emitted<'c> {
        self.convert_value(from, to, x)
    }
    fn bitcast(&mut self, _from: Ty, to: Ty, x: Value<'c>) -> Emitted<'c> {
        let to = self.unit.ty(to);
        Ok(if x.get_type() == to {
            x
        } else {
            self.unit.cast(InstructionOpcode::BitCast, x, to)
        })
    }

    /// Halves until one lane is left.
    fn fold(&mut self, op: FoldOp, ty: Ty, x: Value<'c>) -> Emitted<'c> {
        let op = match op {
            FoldOp::Add => Arith2::Add,
            FoldOp::Max => Arith2::Max,
            FoldOp::Min => Arith2::Min,
        };
        let (mut ty, mut x) = (ty, x);
        while let (Value::VectorValue(vector), 0) = (x, ty.lanes % 2) {
            let lanes = ty.lanes / 2;
            let half = |from: u8| {
                let index = |lane| self.unit.context.i32_type().const_int(lane, false);
                let mask: Vec<_> = (from..from + lanes).map(|lane| index(lane.into())).collect();
                let mask = VectorType::const_vector(&mask);
                let half = self.unit.builder.build_shuffle_vector(vector, vector, mask, "");
                Value::from(built(half))
            };
            let (low, high) = (half(0), half(lanes));
            ty.lanes = lanes;
            // One lane is a scalar in tile IR.
            let (low, high) = if lanes == 1 {
                (self.extract(low, 0), self.extract(high, 0))
            } else {
                (low, high)
            };
            x = self.binary(op, ty, low, high)?;
        }
        if ty.lanes == 1 {
            Ok(x)
        } else {
            unsupported(format!("a sum over the lanes of {ty}"))
        }
    }

    fn lane(&mut self, ty: Ty, x: Value<'c>, lane: u8) -> Emitted<'c> {
        if lane >= ty.lanes {
            return unsupported(format!("lane {lane} of {ty}"));
        }
        Ok(self.extract(x, lane))
    }

    fn kernel(
        &mut self,
        call: &KernelCall,
        operands: &[Option<Address<Value<'c>>>],
        begin: Value<'c>,
        end: Value<'c>,
    ) -> Result<(), FuncError> {
        let unknown = || LowerError::UnknownKernel(call.kernel.clone());
        let symbol = self.unit.kernels.get(&call.kernel).ok_or_else(unknown)?;
        let kernel = self.unit.declare(symbol, Linkage::Kernel, Signature::Kernel);
        let null = self.unit.pointer_type().const_null();
        let table: Vec<u8> = call.params.iter().flat_map(|p| p.to_le_bytes()).collect();
        let params = if table.is_empty() {
            null
        } else {
            self.unit.table(&table).as_pointer_value()
        };
        let pointers = self.pointers.unwrap_or(null);
        for (at, operand) in operands.iter().enumerate() {
            let pointer = operand.map_or(null, |address| self.pointer(address));
            let slot = self.unit.offset(pointers, self.unit.int(8 * at as i64));
            built(self.unit.builder.build_store(slot, pointer));
        }
        let args: [BasicMetadataValueEnum<'c>; 4] =
            [pointers.into(), params.into(), begin.into(), end.into()];
        built(self.unit.builder.build_call(kernel, &args, ""));
        Ok(())
    }
}
