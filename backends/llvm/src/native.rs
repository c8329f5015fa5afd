//! LLVM as a code generator.

use crate::entry_code::{self, EntryCode};
use crate::unit::{Unit, Value};
use crate::{emit, machine, object};
use inkwell::context::Context;
use inkwell::targets::TargetMachine;
use inkwell::values::{FunctionValue, GlobalValue};
use sdc_ir::Digest;
use sdc_ir::tile::{Func, Module};
use sdc_lower::generator::{Failure, Finish, Finished, Generator, Linkage, Signature};
use sdc_lower::{CompiledObject, Error, FuncError, Options, Placement};

/// Compiles a module whose buffers lie as `placement` says.
///
/// # Errors
/// A module the tile verifier refuses, a placement that does not fit it, a construct the target lacks; each with the function and the user's nodes it comes from.
pub fn compile(module: &Module, placement: &Placement, options: &Options) -> Result<CompiledObject, Error> {
    sdc_lower::check(module, options)?;
    let machine = machine::machine(&options.cpu)?;
    let context = Context::create();
    let native = Native {
        unit: Unit::new(&context, options, &machine),
        machine,
    };
    sdc_lower::compile(module, placement, options, native)
}

/// A tile function as the text that LLVM's passes start from, its kernel calls expanded but for those of `options`.
///
/// # Errors
/// A placement that does not fit the module; a construct the target lacks.
pub fn text(module: &Module, func: &Func, placement: &Placement, options: &Options) -> Result<String, Error> {
    let machine = machine::machine(&options.cpu)?;
    let context = Context::create();
    let mut unit = Unit::new(&context, options, &machine);
    let expanded = sdc_lower::expand(func, |kernel| options.kernels.contains_key(kernel));
    let function = emit::function(module, &expanded, placement, &mut unit).map_err(Error::Entry)?;
    Ok(printed(function))
}

fn printed(function: FunctionValue<'_>) -> String {
    inkwell::values::AnyValue::print_to_string(&function).to_string()
}

/// An object under construction.
struct Native<'c> {
    unit: Unit<'c>,
    machine: TargetMachine,
}

impl<'c> Generator for Native<'c> {
    type Func = FunctionValue<'c>;
    type Table = GlobalValue<'c>;
    type Body = FunctionValue<'c>;
    type Value = Value<'c>;
    type Code<'a>
        = EntryCode<'a, 'c>
    where
        Self: 'a;

    fn build(
        &mut self,
        module: &Module,
        func: &Func,
        placement: &Placement,
    ) -> Result<(FunctionValue<'c>, Digest), FuncError> {
        let function = emit::function(module, func, placement, &mut self.unit)?;
        Ok((function, Digest::of(&[printed(function).as_bytes()])))
    }

    fn define(
        &mut self,
        symbol: &str,
        body: FunctionValue<'c>,
        _position: usize,
    ) -> Result<FunctionValue<'c>, Failure> {
        body.as_global_value().set_name(symbol);
        Ok(body)
    }

    #[allow(unsafe_code, reason = "a function that is used must not be deleted")]
    fn discard(&mut self, body: FunctionValue<'c>) {
        // SAFETY: it has just been built, and nothing refers to it.
        unsafe { body.delete() }
    }

    fn declare(
        &mut self,
        symbol: &str,
        linkage: Linkage,
        signature: Signature,
    ) -> Result<FunctionValue<'c>, FuncError> {
        Ok(self.unit.declare(symbol, linkage, signature))
    }

    fn table(&mut self, bytes: &[u8]) -> Result<GlobalValue<'c>, FuncError> {
        Ok(self.unit.table(bytes))
    }

    fn entry(
        &mut self,
        func: FunctionValue<'c>,
        _signature: Signature,
        body: impl FnOnce(&mut EntryCode<'_, 'c>, &[Value<'c>]),
    ) -> Result<(), Failure> {
        entry_code::build(&self.unit, func, body);
        Ok(())
    }

    fn finish(self, funcs: &[FunctionValue<'c>]) -> Result<Finished, Finish> {
        // Passes may remove a function that has nothing to do, so names are taken before.
        let name = |f: &FunctionValue<'c>| f.get_name().to_string_lossy().into_owned();
        let names: Vec<String> = funcs.iter().map(name).collect();
        let bytes = machine::object(&self.unit.module, &self.machine).map_err(Finish::Other)?;
        let read = object::read(&bytes).map_err(Finish::Other)?;
        let foreign = read
            .undefined
            .iter()
            .find(|s| self.unit.module.get_function(s).is_none());
        if let Some(symbol) = foreign {
            return Err(Finish::Func(Failure {
                position: None,
                source: FuncError::LibCall(symbol.clone()),
            }));
        }
        Ok(Finished {
            object: read.object,
            kernels: read.undefined,
            sizes: names
                .iter()
                .map(|name| read.sizes.get(name).copied().unwrap_or(0))
                .collect(),
        })
    }
}
