//! Functions, data and symbols of the object under construction.

use cranelift_codegen::ir::UserExternalName;
use cranelift_codegen::ir::{
    AbiParam, ExtFuncData, ExternalName, FuncRef, Function, GlobalValue, Signature, types,
};
use cranelift_codegen::isa::{CallConv, OwnedTargetIsa};
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module, ModuleError};
use cranelift_object::{ObjectBuilder, ObjectModule};
use std::collections::BTreeMap;

/// An object under construction.
pub struct Linker {
    pub module: ObjectModule,
    /// Symbols of kernels called so far.
    kernels: BTreeMap<String, FuncId>,
    /// Constant tables, one per content.
    tables: BTreeMap<Vec<u8>, DataId>,
}

impl Linker {
    pub fn new(isa: OwnedTargetIsa, name: &str) -> Result<Self, Box<ModuleError>> {
        // Code that needs a library function is refused before its name could matter.
        let builder = ObjectBuilder::new(isa, name, Box::new(|call| call.to_string()))?;
        Ok(Self {
            module: ObjectModule::new(builder),
            kernels: BTreeMap::new(),
            tables: BTreeMap::new(),
        })
    }

    /// Declares a function that this object will define.
    pub fn declare(
        &mut self,
        symbol: &str,
        global: bool,
        signature: &Signature,
    ) -> Result<FuncId, Box<ModuleError>> {
        let linkage = if global { Linkage::Export } else { Linkage::Local };
        Ok(self.module.declare_function(symbol, linkage, signature)?)
    }

    /// A kernel, by symbol.
    pub fn kernel(&mut self, symbol: &str, signature: &Signature) -> Result<FuncId, Box<ModuleError>> {
        if let Some(&id) = self.kernels.get(symbol) {
            return Ok(id);
        }
        let id = self.module.declare_function(symbol, Linkage::Import, signature)?;
        self.kernels.insert(symbol.to_owned(), id);
        Ok(id)
    }

    /// Symbols of the kernels called, sorted.
    pub fn kernels(&self) -> Vec<String> {
        self.kernels.keys().cloned().collect()
    }

    /// Read-only bytes, aligned for `i64`.
    pub fn table(&mut self, bytes: &[u8]) -> Result<DataId, Box<ModuleError>> {
        if let Some(&id) = self.tables.get(bytes) {
            return Ok(id);
        }
        let id = self.module.declare_anonymous_data(false, false)?;
        let mut data = DataDescription::new();
        data.define(bytes.into());
        data.set_align(8);
        self.module.define_data(id, &data)?;
        self.tables.insert(bytes.to_vec(), id);
        Ok(id)
    }

    /// The function as seen from another. All calls are direct: kernels end up in this object too.
    pub fn import(&mut self, id: FuncId, signature: Signature, into: &mut Function) -> FuncRef {
        let name = into.declare_imported_user_function(UserExternalName {
            namespace: 0,
            index: id.as_u32(),
        });
        let signature = into.import_signature(signature);
        into.import_function(ExtFuncData {
            name: ExternalName::user(name),
            signature,
            colocated: true,
            patchable: false,
        })
    }

    /// The table as seen from a function.
    pub fn import_table(&mut self, id: DataId, into: &mut Function) -> GlobalValue {
        self.module.declare_data_in_func(id, into)
    }
}

/// A C signature.
pub fn signature(params: &[types::Type], returns: &[types::Type]) -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params.extend(params.iter().copied().map(AbiParam::new));
    signature
        .returns
        .extend(returns.iter().copied().map(AbiParam::new));
    signature
}

/// `fn(frame, index)`, which is both a tile function's signature and a task's of `parallel_for`.
pub fn task_signature() -> Signature {
    signature(&[types::I64, types::I64], &[])
}

/// `fn(operands, params, begin, end)`.
pub fn kernel_signature() -> Signature {
    signature(&[types::I64; 4], &[])
}
