//! Functions, data and symbols of the object under construction.

use cranelift_codegen::ir::UserExternalName;
use cranelift_codegen::ir::{
    AbiParam, ExtFuncData, ExternalName, FuncRef, Function, GlobalValue, Signature, types,
};
use cranelift_codegen::isa::{CallConv, OwnedTargetIsa};
use cranelift_module::{DataDescription, DataId, FuncId, Module, ModuleError};
use cranelift_object::{ObjectBuilder, ObjectModule};
use sdc_lower::FuncError;
use sdc_lower::generator::{self, Kind, Linkage};
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

    /// Declares a function that this object will define, or one of a kernel.
    pub fn declare(
        &mut self,
        symbol: &str,
        linkage: Linkage,
        of: generator::Signature,
    ) -> Result<FuncId, FuncError> {
        if linkage == Linkage::Kernel
            && let Some(&id) = self.kernels.get(symbol)
        {
            return Ok(id);
        }
        let here = match linkage {
            Linkage::Local => cranelift_module::Linkage::Local,
            Linkage::Global => cranelift_module::Linkage::Export,
            Linkage::Kernel => cranelift_module::Linkage::Import,
        };
        let declared = self.module.declare_function(symbol, here, &signature(of));
        let id = declared.map_err(|e| written(&e))?;
        if linkage == Linkage::Kernel {
            self.kernels.insert(symbol.to_owned(), id);
        }
        Ok(id)
    }

    /// Symbols of the kernels called, sorted.
    pub fn kernels(&self) -> Vec<String> {
        self.kernels.keys().cloned().collect()
    }

    /// Read-only bytes, aligned for `i64`.
    pub fn table(&mut self, bytes: &[u8]) -> Result<DataId, FuncError> {
        if let Some(&id) = self.tables.get(bytes) {
            return Ok(id);
        }
        let declared = self.module.declare_anonymous_data(false, false);
        let id = declared.map_err(|e| written(&e))?;
        let mut data = DataDescription::new();
        data.define(bytes.into());
        data.set_align(8);
        self.module.define_data(id, &data).map_err(|e| written(&e))?;
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

/// What Cranelift says of an object that it cannot write.
pub fn written(error: &ModuleError) -> FuncError {
    FuncError::Object(error.to_string())
}

/// Cranelift's form of a signature.
pub fn signature(of: generator::Signature) -> Signature {
    let param = |kind: &Kind| {
        AbiParam::new(match kind {
            Kind::Pointer | Kind::Int => types::I64,
            Kind::Status => types::I32,
        })
    };
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params.extend(of.params().iter().map(param));
    signature.returns.extend(of.result().iter().map(param));
    signature
}
