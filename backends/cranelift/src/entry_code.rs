//! The operations of entry points as Cranelift instructions.

use crate::link::{Linker, signature};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{
    self, BlockArg, Function, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, UserFuncName,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataId, FuncId, Module as _};
use sdc_lower::generator::{Code, Signature};

type Value = ir::Value;

/// The body of an entry point under construction.
pub struct EntryCode<'a> {
    b: FunctionBuilder<'a>,
    linker: &'a mut Linker,
}

/// Builds a function; `body` gets its arguments.
pub fn build(
    id: FuncId,
    of: Signature,
    linker: &mut Linker,
    builder: &mut FunctionBuilderContext,
    body: impl FnOnce(&mut EntryCode<'_>, &[Value]),
) -> Function {
    let mut function = Function::with_name_signature(UserFuncName::user(0, id.as_u32()), signature(of));
    let config = linker.module.target_config();
    let mut b = FunctionBuilder::new(&mut function, builder);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let args = b.block_params(entry).to_vec();
    let mut code = EntryCode { b, linker };
    body(&mut code, &args);
    code.b.seal_all_blocks();
    code.b.finalize(config);
    function
}

impl EntryCode<'_> {
    fn call_instruction(&mut self, func: FuncId, of: Signature, args: &[Value]) -> ir::Inst {
        let func = self.linker.import(func, signature(of), self.b.func);
        self.b.ins().call(func, args)
    }
}

impl Code for EntryCode<'_> {
    type Value = Value;
    type Func = FuncId;
    type Table = DataId;

    fn int(&mut self, x: u64) -> Value {
        self.b.ins().iconst(I64, x as i64)
    }
    fn status(&mut self, x: u32) -> Value {
        self.b.ins().iconst(I32, i64::from(x))
    }
    fn null(&mut self) -> Value {
        self.int(0)
    }
    fn stack(&mut self, size: u32) -> Value {
        let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, size, 3);
        let slot = self.b.create_sized_stack_slot(slot);
        self.b.ins().stack_addr(I64, slot, 0)
    }
    fn store(&mut self, base: Value, displacement: i32, value: Value) {
        self.b
            .ins()
            .store(MemFlagsData::trusted(), value, base, displacement);
    }
    fn load(&mut self, base: Value, displacement: i32) -> Value {
        self.b
            .ins()
            .load(I64, MemFlagsData::trusted(), base, displacement)
    }
    fn xor(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().bxor(a, b)
    }
    fn or(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().bor(a, b)
    }
    fn is_not_zero(&mut self, x: Value) -> Value {
        let condition = self.b.ins().icmp_imm_u(IntCC::NotEqual, x, 0);
        self.b.ins().uextend(I32, condition)
    }
    fn address(&mut self, func: FuncId) -> Value {
        // The type of what only has its address taken does not matter.
        let func = self.linker.import(func, signature(Signature::Task), self.b.func);
        self.b.ins().func_addr(I64, func)
    }
    fn table(&mut self, table: DataId) -> Value {
        let table = self.linker.import_table(table, self.b.func);
        self.b.ins().symbol_value(I64, table)
    }

    fn load_or(&mut self, place: Value, otherwise: Value) -> Value {
        let (given, join) = (self.b.create_block(), self.b.create_block());
        let result = self.b.append_block_param(join, I64);
        self.b
            .ins()
            .brif(place, given, &[], join, &[BlockArg::Value(otherwise)]);
        self.b.switch_to_block(given);
        let found = self.load(place, 0);
        self.b.ins().jump(join, &[BlockArg::Value(found)]);
        self.b.switch_to_block(join);
        result
    }

    fn call(&mut self, func: FuncId, signature: Signature, args: &[Value]) {
        self.call_instruction(func, signature, args);
    }
    fn call_for(&mut self, func: FuncId, signature: Signature, args: &[Value]) -> Value {
        let call = self.call_instruction(func, signature, args);
        self.b.inst_results(call)[0]
    }
    fn call_at(&mut self, func: Value, of: Signature, args: &[Value]) {
        let of = self.b.import_signature(signature(of));
        self.b.ins().call_indirect(of, func, args);
    }

    fn times(&mut self, count: Value, body: impl FnOnce(&mut Self, Value)) {
        let (head, inside, exit) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let index = self.b.append_block_param(head, I64);
        let zero = self.int(0);
        self.b.ins().jump(head, &[BlockArg::Value(zero)]);
        self.b.switch_to_block(head);
        let more = self.b.ins().icmp(IntCC::UnsignedLessThan, index, count);
        self.b.ins().brif(more, inside, &[], exit, &[]);
        self.b.switch_to_block(inside);
        body(self, index);
        let one = self.int(1);
        let next = self.b.ins().iadd(index, one);
        self.b.ins().jump(head, &[BlockArg::Value(next)]);
        self.b.switch_to_block(exit);
    }

    fn return_unless_zero(&mut self, status: Value) {
        let (start, refuse) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(status, refuse, &[], start, &[]);
        self.b.switch_to_block(refuse);
        self.b.ins().return_(&[status]);
        self.b.switch_to_block(start);
    }
    fn return_(&mut self, value: Option<Value>) {
        self.b.ins().return_(value.as_slice());
    }
}
