//! The functions of the object: equal ones are compiled once, and no more than some hundreds wait in Cranelift's form.

use crate::codegen;
use crate::link::{Linker, written};
use cranelift_codegen::ir::Function;
use cranelift_codegen::isa::TargetIsa;
use cranelift_module::{FuncId, Module as _};
use sdc_ir::Digest;
use sdc_lower::generator::Failure;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// Functions that wait: enough for all cores, few enough for memory.
const WAITING: usize = 512;

/// Functions on their way into the object.
pub struct Bodies<'a> {
    isa: &'a dyn TargetIsa,
    waiting: Vec<(FuncId, Function)>,
    /// Where errors of those belong: what [`Bodies::add`] was given.
    positions: Vec<Option<usize>>,
    /// Sizes of what was compiled.
    sizes: BTreeMap<FuncId, usize>,
}

impl<'a> Bodies<'a> {
    pub fn new(isa: &'a dyn TargetIsa) -> Self {
        Self {
            isa,
            waiting: Vec::new(),
            positions: Vec::new(),
            sizes: BTreeMap::new(),
        }
    }

    /// Takes a function that is declared.
    pub fn add(
        &mut self,
        id: FuncId,
        function: Function,
        position: Option<usize>,
        linker: &mut Linker,
    ) -> Result<(), Failure> {
        self.waiting.push((id, function));
        self.positions.push(position);
        if self.waiting.len() < WAITING {
            return Ok(());
        }
        self.flush(linker)
    }

    /// Compiles what waits.
    fn flush(&mut self, linker: &mut Linker) -> Result<(), Failure> {
        let waiting = std::mem::take(&mut self.waiting);
        let ids: Vec<FuncId> = waiting.iter().map(|(id, _)| *id).collect();
        let positions = std::mem::take(&mut self.positions);
        let compiled = codegen::all(waiting, self.isa);
        for ((id, position), code) in ids.into_iter().zip(positions).zip(compiled) {
            let failed = |source| Failure { position, source };
            let code = code.map_err(failed)?;
            let defined = linker
                .module
                .define_function_bytes(id, code.align, &code.bytes, &code.relocs);
            defined.map_err(|e| failed(written(&e)))?;
            self.sizes.insert(id, code.bytes.len());
        }
        Ok(())
    }

    /// Compiles the rest. The bytes of code of every function.
    pub fn finish(mut self, linker: &mut Linker) -> Result<BTreeMap<FuncId, usize>, Failure> {
        self.flush(linker)?;
        Ok(self.sizes)
    }
}

/// Equal for functions whose machine code is equal, whatever they are called.
pub fn digest(function: &Function) -> Digest {
    let mut bytes = Bytes(Vec::new());
    function.stencil.hash(&mut bytes);
    for (reference, name) in function.params.user_named_funcs().iter() {
        (reference, name).hash(&mut bytes);
    }
    Digest::of(&[&bytes.0])
}

/// Keeps what is hashed.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn finish(&self) -> u64 {
        0
    }
}
