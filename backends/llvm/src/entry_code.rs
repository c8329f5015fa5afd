//! The operations of entry points as LLVM's instructions.

use crate::unit::{Unit, Value, built};
use inkwell::IntPredicate;
use inkwell::basic_block::BasicBlock;
use inkwell::values::{
    BasicMetadataValueEnum, BasicValue, CallSiteValue, FunctionValue, GlobalValue, InstructionOpcode,
    PointerValue,
};
use sdc_lower::generator::{Code, Signature};

/// The body of an entry point under construction.
pub struct EntryCode<'a, 'c> {
    unit: &'a Unit<'c>,
    function: FunctionValue<'c>,
}

/// Builds a declared function; `body` gets its arguments.
pub fn build<'c>(
    unit: &Unit<'c>,
    function: FunctionValue<'c>,
    body: impl FnOnce(&mut EntryCode<'_, 'c>, &[Value<'c>]),
) {
    let mut code = EntryCode { unit, function };
    let entry = code.block();
    unit.builder.position_at_end(entry);
    body(&mut code, &function.get_params());
}

impl<'c> EntryCode<'_, 'c> {
    fn block(&self) -> BasicBlock<'c> {
        self.unit.context.append_basic_block(self.function, "")
    }
    fn current(&self) -> BasicBlock<'c> {
        let block = self.unit.builder.get_insert_block();
        block.expect("an entry point is built in a block")
    }
    fn at(&self, base: Value<'c>, displacement: i32) -> PointerValue<'c> {
        let displacement = self.unit.int(displacement.into());
        self.unit.offset(base.into_pointer_value(), displacement)
    }
    fn jump(&self, to: BasicBlock<'c>) {
        built(self.unit.builder.build_unconditional_branch(to));
    }
    fn branch(&self, condition: Value<'c>, yes: BasicBlock<'c>, no: BasicBlock<'c>) {
        let condition = condition.into_int_value();
        built(self.unit.builder.build_conditional_branch(condition, yes, no));
    }
    fn instruction(&self, func: FunctionValue<'c>, args: &[Value<'c>]) -> CallSiteValue<'c> {
        let args: Vec<BasicMetadataValueEnum<'c>> = args.iter().map(|&x| x.into()).collect();
        built(self.unit.builder.build_call(func, &args, ""))
    }
}

impl<'c> Code for EntryCode<'_, 'c> {
    type Value = Value<'c>;
    type Func = FunctionValue<'c>;
    type Table = GlobalValue<'c>;

    fn int(&mut self, x: u64) -> Value<'c> {
        self.unit.int(x as i64).into()
    }
    fn status(&mut self, x: u32) -> Value<'c> {
        self.unit.context.i32_type().const_int(x.into(), false).into()
    }
    fn null(&mut self) -> Value<'c> {
        self.unit.pointer_type().const_null().into()
    }
    fn stack(&mut self, size: u32) -> Value<'c> {
        let words = self.unit.context.i64_type().array_type(size.div_ceil(8));
        built(self.unit.builder.build_alloca(words, "")).into()
    }
    fn store(&mut self, base: Value<'c>, displacement: i32, value: Value<'c>) {
        let at = self.at(base, displacement);
        built(self.unit.builder.build_store(at, value));
    }
    fn load(&mut self, base: Value<'c>, displacement: i32) -> Value<'c> {
        let at = self.at(base, displacement);
        self.unit.load(self.unit.context.i64_type().into(), at, 8, false)
    }
    fn xor(&mut self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.unit.binary(InstructionOpcode::Xor, a, b)
    }
    fn or(&mut self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.unit.binary(InstructionOpcode::Or, a, b)
    }
    fn is_not_zero(&mut self, x: Value<'c>) -> Value<'c> {
        let zero = self.unit.int(0).into();
        let condition = self.unit.compare_ints(IntPredicate::NE, x, zero);
        let status = self.unit.context.i32_type().into();
        self.unit.cast(InstructionOpcode::ZExt, condition, status)
    }
    fn address(&mut self, func: FunctionValue<'c>) -> Value<'c> {
        func.as_global_value().as_pointer_value().into()
    }
    fn table(&mut self, table: GlobalValue<'c>) -> Value<'c> {
        table.as_pointer_value().into()
    }

    fn load_or(&mut self, place: Value<'c>, otherwise: Value<'c>) -> Value<'c> {
        let (given, join) = (self.block(), self.block());
        let before = self.current();
        let is_null = built(self.unit.builder.build_is_null(place.into_pointer_value(), ""));
        self.branch(is_null.into(), join, given);
        self.unit.builder.position_at_end(given);
        let pointer = self.unit.pointer_type();
        let found = self
            .unit
            .load(pointer.into(), place.into_pointer_value(), 8, false);
        self.jump(join);
        self.unit.builder.position_at_end(join);
        let result = built(self.unit.builder.build_phi(pointer, ""));
        result.add_incoming(&[(&otherwise, before), (&found, given)]);
        result.as_basic_value()
    }

    fn call(&mut self, func: FunctionValue<'c>, _signature: Signature, args: &[Value<'c>]) {
        self.instruction(func, args);
    }
    fn call_for(&mut self, func: FunctionValue<'c>, _signature: Signature, args: &[Value<'c>]) -> Value<'c> {
        let call = self.instruction(func, args).try_as_basic_value();
        call.basic().expect("this function gives a value")
    }
    fn call_at(&mut self, func: Value<'c>, signature: Signature, args: &[Value<'c>]) {
        let args: Vec<BasicMetadataValueEnum<'c>> = args.iter().map(|&x| x.into()).collect();
        let (of, func) = (self.unit.signature(signature), func.into_pointer_value());
        built(self.unit.builder.build_indirect_call(of, func, &args, ""));
    }

    fn times(&mut self, count: Value<'c>, body: impl FnOnce(&mut Self, Value<'c>)) {
        let (head, inside, exit) = (self.block(), self.block(), self.block());
        let (before, zero) = (self.current(), self.int(0));
        self.jump(head);
        self.unit.builder.position_at_end(head);
        let index = built(self.unit.builder.build_phi(self.unit.context.i64_type(), ""));
        let more = self
            .unit
            .compare_ints(IntPredicate::ULT, index.as_basic_value(), count);
        self.branch(more, inside, exit);
        self.unit.builder.position_at_end(inside);
        body(self, index.as_basic_value());
        let one = self.int(1);
        let next = self
            .unit
            .binary(InstructionOpcode::Add, index.as_basic_value(), one);
        index.add_incoming(&[(&zero, before), (&next, self.current())]);
        self.jump(head);
        self.unit.builder.position_at_end(exit);
    }

    fn return_unless_zero(&mut self, status: Value<'c>) {
        let (start, refuse) = (self.block(), self.block());
        let zero = self.status(0);
        let refused = self.unit.compare_ints(IntPredicate::NE, status, zero);
        self.branch(refused, refuse, start);
        self.unit.builder.position_at_end(refuse);
        self.return_(Some(status));
        self.unit.builder.position_at_end(start);
    }
    fn return_(&mut self, value: Option<Value<'c>>) {
        let value = value.as_ref().map(|v| v as &dyn BasicValue<'c>);
        built(self.unit.builder.build_return(value));
    }
}
