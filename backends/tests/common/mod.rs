//! Compiles a tile module, loads the object and runs it.
#![allow(unsafe_code, reason = "runs the code under test")]
#![allow(dead_code, reason = "no test file uses all of it")]
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use crate::backend::{Variant, compile};
use object::write::{Symbol, SymbolSection};
use object::{SymbolFlags, SymbolKind, SymbolScope};
use sdc_artifact::object;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::Origin;
use sdc_ir::tile::{Buffer, BufferData, BufferKind, Func, FuncBuilder, Module};
use sdc_ir::{DType, Tensor};
use sdc_lower::{CompiledObject, CpuSpec, Options, Placement};
use std::collections::BTreeMap;
use std::ffi::c_void;

/// CPUs this machine can run.
pub fn cpus() -> Vec<CpuSpec> {
    let all = sdc_lower::cpu::supported();
    let here = all.last().unwrap().features.clone();
    all.into_iter()
        .filter(|cpu| cpu.features.iter().all(|f| here.contains(f)))
        .collect()
}

pub fn options(cpu: &CpuSpec) -> Options {
    Options {
        name: "m".into(),
        cpu: cpu.clone(),
        required_features: 5,
        weights_header: std::array::from_fn(|i| i as u8),
        kernels: BTreeMap::new(),
        prepare: Some("sdc_k_v1_prepare".into()),
        profile: false,
    }
}

/// Temps and constants one after the other, each at a multiple of 64.
pub fn place(module: &Module) -> Placement {
    let mut p = Placement {
        arena_align: 64,
        weights_size: 64,
        ..Placement::default()
    };
    for (_, data) in module.buffers.iter() {
        let bytes = data.bytes().next_multiple_of(64) as u64;
        let (temp, constant) = match data.kind {
            BufferKind::Temp => (Some(p.arena_size), None),
            BufferKind::Const(_) => (None, Some(p.weights_size - 64)),
            _ => (None, None),
        };
        p.arena_size += temp.map_or(0, |_| bytes);
        p.weights_size += constant.map_or(0, |_| bytes);
        p.temps.push(temp);
        p.consts.push(constant);
    }
    p
}

/// Gives an undefined symbol a body that jumps to a function of this process.
pub fn define(object: &mut object::write::Object<'_>, name: &str, address: usize) {
    let text = object.section_id(object::write::StandardSection::Text);
    // mov rax, address; jmp rax
    let mut code = vec![0x48, 0xb8];
    code.extend((address as u64).to_le_bytes());
    code.extend([0xff, 0xe0]);
    let value = object.append_section_data(text, &code, 16);
    let symbol = Symbol {
        name: name.as_bytes().to_vec(),
        value,
        size: code.len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Compilation,
        weak: false,
        section: SymbolSection::Section(text),
        flags: SymbolFlags::None,
    };
    match object.symbol_id(name.as_bytes()) {
        Some(id) => *object.symbol_mut(id) = symbol,
        None => {
            object.add_symbol(symbol);
        }
    }
}

extern "C" fn prepare(_: *const u8, expected: *const u8, required: u64) -> i32 {
    // SAFETY: the code under test passes the 48 bytes of `Options::weights_header`.
    let header = unsafe { std::slice::from_raw_parts(expected, 48) };
    let right = header.iter().enumerate().all(|(i, &b)| usize::from(b) == i);
    if right { required as i32 } else { -1 }
}

/// A loaded model.
pub struct Native {
    library: libloading::Library,
    arena: usize,
    weights: Vec<u8>,
    outputs: Vec<usize>,
}

impl Native {
    pub fn new(module: &Module, options: &Options, variant: Variant) -> Self {
        let placement = place(module);
        let compiled = compile(module, &placement, options, variant).unwrap();
        Self::load(module, &placement, compiled)
    }

    pub fn load(module: &Module, placement: &Placement, mut compiled: CompiledObject) -> Self {
        define(
            &mut compiled.object,
            "sdc_k_v1_prepare",
            prepare as *const () as usize,
        );
        let object = compiled.object.write().unwrap();
        sdc_artifact::symbols::check(&object, "m").unwrap();
        let image = sdc_artifact::sharedlib::link(&object, "m.so", &[]).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), image).unwrap();
        // SAFETY: the library has no initialisers.
        let library = unsafe { libloading::Library::new(file.path()) }.unwrap();

        let mut weights = vec![0; placement.weights_size as usize];
        let mut outputs = BTreeMap::new();
        for (id, data) in module.buffers.iter() {
            match data.kind {
                BufferKind::Const(weight) => {
                    let at = 64 + placement.consts[id.index()].unwrap() as usize;
                    let bytes = module.weights[weight].bytes();
                    weights[at..at + bytes.len()].copy_from_slice(bytes);
                }
                BufferKind::Output(position) => {
                    outputs.insert(position, data.bytes());
                }
                _ => {}
            }
        }
        Self {
            library,
            arena: placement.arena_size as usize,
            weights,
            outputs: outputs.into_values().collect(),
        }
    }

    pub fn size(&self, what: &str) -> usize {
        // SAFETY: all functions of this kind have this type.
        unsafe {
            let f: libloading::Symbol<'_, extern "C" fn() -> usize> =
                self.library.get(format!("m_{what}").as_bytes()).unwrap();
            f()
        }
    }

    pub fn prepare(&self) -> i32 {
        // SAFETY: the type is `prepare`'s; the stub does not read the weights.
        unsafe {
            let f: libloading::Symbol<'_, extern "C" fn(*const u8, *mut u8) -> i32> =
                self.library.get(b"m_prepare").unwrap();
            f(self.weights.as_ptr(), std::ptr::null_mut())
        }
    }

    /// Runs the model; checks that nothing around its memory has been touched.
    pub fn run(&self, inputs: &[&[u8]], parallel_for: Option<&ParallelFor>) -> Vec<Vec<u8>> {
        type Run = unsafe extern "C" fn(
            *const *const u8,
            *const *mut u8,
            *mut u8,
            *const u8,
            *const c_void,
            *const ParallelFor,
        ) -> i32;
        let inputs: Vec<Aligned> = inputs.iter().map(|b| Aligned::new(b.len(), Some(b))).collect();
        let input_pointers: Vec<*const u8> = inputs.iter().map(|a| a.pointer().cast_const()).collect();
        let outputs: Vec<Aligned> = self.outputs.iter().map(|&n| Aligned::new(n, None)).collect();
        let output_pointers: Vec<*mut u8> = outputs.iter().map(Aligned::pointer).collect();
        let arena = Aligned::new(self.arena, None);
        let weights = Aligned::new(self.weights.len(), Some(&self.weights));
        // SAFETY: the pointers are what the ABI of `NAME_run` asks for, each with as much memory as the module says.
        let status = unsafe {
            let run: libloading::Symbol<'_, Run> = self.library.get(b"m_run").unwrap();
            run(
                input_pointers.as_ptr(),
                output_pointers.as_ptr(),
                arena.pointer(),
                weights.pointer(),
                std::ptr::null(),
                parallel_for.map_or(std::ptr::null(), std::ptr::from_ref),
            )
        };
        assert_eq!(status, 0);
        for area in inputs.iter().chain(&outputs).chain([&arena, &weights]) {
            area.check();
        }
        assert_eq!(weights.bytes(), self.weights, "the weights were written");
        outputs.iter().map(Aligned::bytes).collect()
    }
}

/// `struct sdc_parallel_for`.
#[repr(C)]
pub struct ParallelFor {
    pub call: extern "C" fn(*const ParallelFor, usize, extern "C" fn(*mut c_void, usize), *mut c_void),
}

/// Memory at a multiple of 64 between guard bytes, filled with ones as the interpreter's.
struct Aligned {
    memory: std::cell::UnsafeCell<Vec<u8>>,
    start: usize,
    len: usize,
}

const GUARD: usize = 64;

impl Aligned {
    fn new(len: usize, content: Option<&[u8]>) -> Self {
        let mut memory = vec![0xa5; len + 3 * GUARD];
        let start = GUARD + memory[GUARD..].as_ptr().align_offset(64);
        memory[start..start + len].fill(0xff);
        if let Some(content) = content {
            memory[start..start + len].copy_from_slice(content);
        }
        Self {
            memory: memory.into(),
            start,
            len,
        }
    }
    fn pointer(&self) -> *mut u8 {
        // SAFETY: the offset is inside; nothing else refers to the memory while the model runs.
        unsafe { (*self.memory.get()).as_mut_ptr().add(self.start) }
    }
    fn all(&self) -> &[u8] {
        // SAFETY: nobody writes any more.
        unsafe { &*self.memory.get() }
    }
    fn bytes(&self) -> Vec<u8> {
        self.all()[self.start..self.start + self.len].to_vec()
    }
    fn check(&self) {
        let all = self.all();
        let around = all[..self.start].iter().chain(&all[self.start + self.len..]);
        assert!(
            around.into_iter().all(|b| *b == 0xa5),
            "memory outside a buffer was written"
        );
    }
}

/// A module under construction.
#[derive(Default)]
pub struct Maker {
    pub module: Module,
    inputs: usize,
    outputs: usize,
}

impl Maker {
    fn buffer(&mut self, dtype: DType, len: usize, kind: BufferKind) -> Buffer {
        let name = format!("{kind:?}");
        self.module.buffers.push(BufferData {
            dtype,
            len,
            kind,
            name,
        })
    }
    pub fn input(&mut self, dtype: DType, len: usize) -> Buffer {
        self.inputs += 1;
        self.buffer(dtype, len, BufferKind::Input(self.inputs - 1))
    }
    pub fn output(&mut self, dtype: DType, len: usize) -> Buffer {
        self.outputs += 1;
        self.buffer(dtype, len, BufferKind::Output(self.outputs - 1))
    }
    pub fn temp(&mut self, dtype: DType, len: usize) -> Buffer {
        self.buffer(dtype, len, BufferKind::Temp)
    }
    pub fn constant(&mut self, dtype: DType, bytes: Vec<u8>) -> Buffer {
        let len = bytes.len() / dtype.size();
        let weight = self
            .module
            .weights
            .add(Tensor::new(dtype, vec![len], bytes.into()).unwrap());
        self.buffer(dtype, len, BufferKind::Const(weight))
    }
    pub fn func(&mut self, build: impl FnOnce(&mut FuncBuilder)) {
        let mut b = FuncBuilder::new();
        build(&mut b);
        let func = self.finish(b);
        self.module.funcs.push(func);
    }
    fn finish(&self, b: FuncBuilder) -> Func {
        let origin = Origin {
            name: "node".into(),
            op: "Op".into(),
            index: 0,
        };
        b.finish(format!("f{}", self.module.funcs.len()), vec![origin])
    }
}

/// A small generator: the tests' values must be the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Elements of a buffer as numbers, with every NaN made the same: which NaN an operation gives is not specified.
pub fn elements(dtype: DType, bytes: &[u8]) -> Vec<u64> {
    let element = |chunk: &[u8]| {
        let mut wide = [0; 8];
        wide[..chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_le_bytes(wide);
        let (exponent, magnitude) = match dtype {
            DType::F64 => (0x7ff << 52, u64::MAX >> 1),
            DType::F32 => (0xff << 23, 0x7fff_ffff),
            DType::F16 => (0x1f << 10, 0x7fff),
            DType::BF16 => (0xff << 7, 0x7fff),
            _ => return bits,
        };
        if bits & magnitude > exponent {
            u64::MAX
        } else {
            bits
        }
    };
    bytes.chunks_exact(dtype.size()).map(element).collect()
}

/// Compares all outputs of a module, run natively and by the interpreter.
pub fn assert_same(
    module: &Module,
    inputs: &[&[u8]],
    (options, variant): (&Options, Variant),
    what: &dyn Fn(usize) -> String,
) {
    let expected = sdc_interp::run_tile(module, inputs).unwrap();
    let actual = Native::new(module, options, variant).run(inputs, None);
    for data in module.buffers.values() {
        let BufferKind::Output(position) = data.kind else {
            continue;
        };
        let expected = elements(data.dtype, &expected[position]);
        let actual = elements(data.dtype, &actual[position]);
        let wrong = (0..expected.len()).find(|&i| expected[i] != actual[i]);
        if let Some(i) = wrong {
            panic!(
                "{} on {}: element {i} is {:#x}, should be {:#x}",
                what(position),
                options.cpu.name,
                actual[i],
                expected[i]
            );
        }
    }
}
