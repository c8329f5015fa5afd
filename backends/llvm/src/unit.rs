//! The LLVM module under construction, and the instructions that are built in it.

use inkwell::attributes::{Attribute, AttributeLoc};
use inkwell::builder::{Builder, BuilderError};
use inkwell::context::Context;
use inkwell::intrinsics::Intrinsic;
use inkwell::module::{Linkage, Module};
use inkwell::targets::TargetMachine;
use inkwell::types::{BasicMetadataTypeEnum, BasicType, BasicTypeEnum, FunctionType, VectorType};
use inkwell::values::{
    BasicMetadataValueEnum, BasicValue, BasicValueEnum, FunctionValue, GlobalValue, InstructionOpcode,
    IntValue, PointerValue,
};
use inkwell::{AddressSpace, FloatPredicate, GlobalVisibility, IntPredicate};
use sdc_ir::DType;
use sdc_ir::tile::Ty;
use sdc_lower::generator::{self, Kind, Signature};
use sdc_lower::{Arch, FuncError, Options};
use std::collections::BTreeMap;

pub type Value<'c> = BasicValueEnum<'c>;

/// What a function under construction is called until it has a symbol, so that equal ones print alike.
const UNNAMED: &str = "body";

/// The module of one model.
pub struct Unit<'c> {
    pub context: &'c Context,
    pub module: Module<'c>,
    pub builder: Builder<'c>,
    /// Fused multiply-add is an instruction.
    pub fma: bool,
    /// Rounding to integers is one.
    pub rounds: bool,
    /// Symbols of the kernels that remain calls, by registry name.
    pub kernels: BTreeMap<String, String>,
    tables: BTreeMap<Vec<u8>, GlobalValue<'c>>,
}

/// A builder's result. It fails only on a fault of this crate: no block to build in, operands of other types than the
/// instruction's.
pub fn built<T>(result: Result<T, BuilderError>) -> T {
    result.expect("instructions are built in a block, on operands of their types")
}

impl<'c> Unit<'c> {
    pub fn new(context: &'c Context, options: &Options, machine: &TargetMachine) -> Self {
        let module = context.create_module(&options.name);
        module.set_triple(&machine.get_triple());
        module.set_data_layout(&machine.get_target_data().get_data_layout());
        // Everything but x86-64 has these from the beginning.
        let has = |feature| options.cpu.arch != Arch::X86_64 || options.cpu.features.contains(&feature);
        Self {
            context,
            module,
            builder: context.create_builder(),
            fma: has("fma"),
            rounds: has("sse4.1"),
            kernels: options.kernels.clone(),
            tables: BTreeMap::new(),
        }
    }

    /// The type of one element. Half floats are bits in integers, `bool` is a byte.
    pub fn element(&self, dtype: DType) -> BasicTypeEnum<'c> {
        match dtype {
            DType::F64 => self.context.f64_type().into(),
            DType::F32 => self.context.f32_type().into(),
            _ => self.integer(dtype.size()).into(),
        }
    }

    fn integer(&self, bytes: usize) -> inkwell::types::IntType<'c> {
        match bytes {
            1 => self.context.i8_type(),
            2 => self.context.i16_type(),
            4 => self.context.i32_type(),
            _ => self.context.i64_type(),
        }
    }

    /// The type of a value.
    pub fn ty(&self, ty: Ty) -> BasicTypeEnum<'c> {
        let element = self.element(ty.dtype);
        if ty.lanes == 1 {
            element
        } else {
            vector_of(element, ty.lanes.into()).into()
        }
    }

    pub fn pointer_type(&self) -> inkwell::types::PointerType<'c> {
        self.context.ptr_type(AddressSpace::default())
    }

    pub fn int(&self, x: i64) -> IntValue<'c> {
        self.context.i64_type().const_int(x as u64, false)
    }

    /// One element's bits in every lane.
    pub fn constant(&self, ty: Ty, bits: u64) -> Value<'c> {
        let int = self.integer(ty.dtype.size()).const_int(bits, false);
        let scalar: Value<'c> = match self.element(ty.dtype) {
            // A bit cast of a constant is a constant.
            BasicTypeEnum::FloatType(float) => {
                self.cast(InstructionOpcode::BitCast, int.into(), float.into())
            }
            _ => int.into(),
        };
        if ty.lanes == 1 {
            scalar
        } else {
            VectorType::const_vector(&vec![scalar; ty.lanes.into()]).into()
        }
    }

    pub fn binary(&self, op: InstructionOpcode, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        built(self.builder.build_binop(op, a, b, ""))
    }

    pub fn cast(&self, op: InstructionOpcode, x: Value<'c>, to: BasicTypeEnum<'c>) -> Value<'c> {
        built(self.builder.build_cast(op, x, to, ""))
    }

    /// One bit per lane.
    pub fn compare_ints(&self, op: IntPredicate, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        match (a, b) {
            (Value::VectorValue(a), Value::VectorValue(b)) => {
                built(self.builder.build_int_compare(op, a, b, "")).into()
            }
            (a, b) => {
                let (a, b) = (a.into_int_value(), b.into_int_value());
                built(self.builder.build_int_compare(op, a, b, "")).into()
            }
        }
    }

    /// One bit per lane.
    pub fn compare_floats(&self, op: FloatPredicate, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        match (a, b) {
            (Value::VectorValue(a), Value::VectorValue(b)) => {
                built(self.builder.build_float_compare(op, a, b, "")).into()
            }
            (a, b) => {
                let (a, b) = (a.into_float_value(), b.into_float_value());
                built(self.builder.build_float_compare(op, a, b, "")).into()
            }
        }
    }

    /// By one bit per lane, or one for all.
    pub fn choose(&self, bits: Value<'c>, yes: Value<'c>, no: Value<'c>) -> Value<'c> {
        built(match bits {
            Value::VectorValue(bits) => self.builder.build_select(bits, yes, no, ""),
            bits => self.builder.build_select(bits.into_int_value(), yes, no, ""),
        })
    }

    /// A call of one of LLVM's own functions that is an instruction, or a few.
    pub fn intrinsic(&self, name: &str, types: &[BasicTypeEnum<'c>], args: &[Value<'c>]) -> Value<'c> {
        let function = Intrinsic::find(name).and_then(|i| i.get_declaration(&self.module, types));
        let function = function.expect("LLVM has this intrinsic for these types");
        let args: Vec<BasicMetadataValueEnum<'c>> = args.iter().map(|&x| x.into()).collect();
        let call = built(self.builder.build_call(function, &args, ""));
        call.try_as_basic_value().basic().expect("it gives a value")
    }

    /// A place so many bytes on.
    #[allow(
        unsafe_code,
        reason = "an index of the wrong type would be undefined behaviour in LLVM"
    )]
    pub fn offset(&self, base: PointerValue<'c>, bytes: IntValue<'c>) -> PointerValue<'c> {
        let byte = self.context.i8_type();
        // SAFETY: the element is a byte, which every integer indexes.
        built(unsafe { self.builder.build_gep(byte, base, &[bytes], "") })
    }

    pub fn signature(&self, of: Signature) -> FunctionType<'c> {
        let params: Vec<BasicMetadataTypeEnum<'c>> =
            of.params().iter().map(|&k| self.kind(k).into()).collect();
        match of.result() {
            Some(result) => self.kind(result).fn_type(&params, false),
            None => self.context.void_type().fn_type(&params, false),
        }
    }

    fn kind(&self, kind: Kind) -> BasicTypeEnum<'c> {
        match kind {
            Kind::Pointer => self.pointer_type().into(),
            Kind::Int => self.context.i64_type().into(),
            Kind::Status => self.context.i32_type().into(),
        }
    }

    /// A function that this object defines or calls; the same for the same symbol.
    pub fn declare(&self, symbol: &str, linkage: generator::Linkage, of: Signature) -> FunctionValue<'c> {
        if let Some(function) = self.module.get_function(symbol) {
            return function;
        }
        let how = match linkage {
            generator::Linkage::Local => Linkage::Internal,
            generator::Linkage::Global | generator::Linkage::Kernel => Linkage::External,
        };
        let function = self.module.add_function(symbol, self.signature(of), Some(how));
        if linkage == generator::Linkage::Kernel {
            // It will be merged into this object, so calls go there directly.
            function
                .as_global_value()
                .set_visibility(GlobalVisibility::Hidden);
        }
        // Without unwinding there are no tables for it; without known library functions no loop becomes a call of one; and what
        // reads the frame must not be mixed with what writes it.
        for name in ["nounwind", "noinline"] {
            let kind = Attribute::get_named_enum_kind_id(name);
            let attribute = self.context.create_enum_attribute(kind, 0);
            function.add_attribute(AttributeLoc::Function, attribute);
        }
        let attribute = self.context.create_string_attribute("no-builtins", "");
        function.add_attribute(AttributeLoc::Function, attribute);
        function
    }

    /// A tile function that has no symbol yet.
    pub fn unnamed(&self) -> FunctionValue<'c> {
        self.declare(UNNAMED, generator::Linkage::Local, Signature::Task)
    }

    /// Read-only bytes, aligned for `i64`.
    pub fn table(&mut self, bytes: &[u8]) -> GlobalValue<'c> {
        if let Some(&table) = self.tables.get(bytes) {
            return table;
        }
        let content = self.context.const_string(bytes, false);
        let name = format!("table.{}", self.tables.len());
        let table = self.module.add_global(content.get_type(), None, &name);
        table.set_initializer(&content);
        table.set_constant(true);
        table.set_linkage(Linkage::Private);
        table.set_alignment(8);
        self.tables.insert(bytes.to_vec(), table);
        table
    }

    /// Reads a value at a place.
    pub fn load(
        &self,
        ty: BasicTypeEnum<'c>,
        at: PointerValue<'c>,
        align: usize,
        constant: bool,
    ) -> Value<'c> {
        let value = built(self.builder.build_load(ty, at, ""));
        let instruction = value.as_instruction_value().expect("a load is an instruction");
        instruction
            .set_alignment(align as u32)
            .expect("elements have sizes that are powers of two");
        if constant {
            let kind = self.context.get_kind_id("invariant.load");
            let nothing = self.context.metadata_node(&[]);
            instruction.set_metadata(nothing, kind).expect("a node is given");
        }
        value
    }
}

/// A vector type.
pub fn vector_of(element: BasicTypeEnum<'_>, lanes: u32) -> VectorType<'_> {
    match element {
        BasicTypeEnum::FloatType(float) => float.vec_type(lanes),
        element => element.into_int_type().vec_type(lanes),
    }
}

/// What a construct that LLVM cannot do is reported as.
pub fn unsupported<T>(what: impl Into<String>) -> Result<T, FuncError> {
    Err(FuncError::Unsupported { what: what.into() })
}
