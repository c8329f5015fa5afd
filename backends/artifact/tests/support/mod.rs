//! A model object assembled by hand, with kernels compiled by rustc.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, reason = "each test binary uses its part")]

use object::write::{Object, Relocation, StandardSection, Symbol, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope, elf,
};
use sdc_artifact::interface::{Interface, TensorSpec};
use sdc_artifact::weights::{self, Header};
use sdc_ir::DType;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

pub const ELEMENTS: usize = 40;

/// The kernels' object file.
pub fn kernels() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("kernels.o");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/kernels.rs");
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        let status = Command::new(rustc)
            .args([
                "--edition=2024",
                "--emit=obj",
                "-Copt-level=3",
                "-Ccodegen-units=1",
                "-Cpanic=abort",
            ])
            .args([
                "-Crelocation-model=pic",
                "--target=x86_64-unknown-linux-gnu",
                "-o",
            ])
            .args([&out, &source])
            .status()
            .unwrap();
        assert!(status.success());
        std::fs::read(out).unwrap()
    })
}

pub fn weights() -> Vec<u8> {
    (0..ELEMENTS)
        .flat_map(|i| (i as f32 * 0.25 - 3.0).to_le_bytes())
        .collect()
}

pub fn input() -> Vec<u8> {
    (0..ELEMENTS)
        .flat_map(|i| (7.0 - i as f32 * 0.5).to_le_bytes())
        .collect()
}

/// What the model must compute, by the kernels' specification.
pub fn expected() -> Vec<f32> {
    let (input, weights) = (floats(&input()), floats(&weights()));
    let operate = |i: usize, x: f32| if i.is_multiple_of(2) { x + x } else { -x };
    (0..ELEMENTS)
        .map(|i| operate(i, input[i] * weights[i]) + (i % 8) as f32 + 0.5)
        .collect()
}

pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

pub fn interface(name: &str, embedded: bool) -> Interface {
    let weights = weights();
    let header = Header::of(&[&weights]);
    let tensor =
        |name: &str, shape: &[usize]| TensorSpec::list([(name.to_owned(), DType::F32, shape.to_vec())]);
    Interface {
        name: name.to_owned(),
        inputs: tensor("image:0 */ /*", &[1, 4, 10]),
        outputs: tensor("7", &[ELEMENTS]),
        arena_size: ELEMENTS * 4,
        arena_align: 64,
        weights_size: header.image() as usize,
        weights_align: 64,
        prepared_size: 0,
        prepared_align: 64,
        weights_digest: header.digest,
        weights_embedded: embedded,
        cpu: "x86-64".to_owned(),
        features: vec!["sse2".to_owned()],
    }
}

/// An empty object like the one a code generator starts from.
pub fn object() -> Object<'static> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    // Says that the stack need not be executable; linkers warn without it.
    object.add_section(Vec::new(), b".note.GNU-stack".to_vec(), SectionKind::Linker);
    object
}

pub fn extern_symbol(object: &mut Object<'_>, name: &str) -> SymbolId {
    object.add_symbol(Symbol {
        name: name.as_bytes().to_vec(),
        value: 0,
        size: 0,
        kind: SymbolKind::Text,
        scope: SymbolScope::Unknown,
        weak: false,
        section: SymbolSection::Undefined,
        flags: SymbolFlags::None,
    })
}

/// Appends code under a global name; `relocs` are (offset, type, symbol), with the addend -4 of a field that ends its
/// instruction.
pub fn function(object: &mut Object<'_>, name: &str, code: &[u8], relocs: &[(u64, u32, SymbolId)]) {
    let section = object.section_id(StandardSection::Text);
    let symbol = define(object, name, SymbolKind::Text, SymbolScope::Dynamic);
    let start = object.add_symbol_data(symbol, section, code, 16);
    for &(offset, r_type, symbol) in relocs {
        let flags = RelocationFlags::Elf { r_type };
        let reloc = Relocation {
            offset: start + offset,
            symbol,
            addend: -4,
            flags,
        };
        object.add_relocation(section, reloc).unwrap();
    }
}

pub fn define(object: &mut Object<'_>, name: &str, kind: SymbolKind, scope: SymbolScope) -> SymbolId {
    object.add_symbol(Symbol {
        name: name.as_bytes().to_vec(),
        value: 0,
        size: 0,
        kind,
        scope,
        weak: false,
        section: SymbolSection::Undefined,
        flags: SymbolFlags::None,
    })
}

/// The model's object before the kernels are merged in. `got`: call the kernel through the global offset table.
pub fn unmerged(interface: &Interface, got: bool) -> Object<'static> {
    let mut object = object();
    let name = &interface.name;
    let kernel = extern_symbol(&mut object, "sdc_k_test_parallel");
    let digest = define(&mut object, "digest", SymbolKind::Data, SymbolScope::Compilation);
    let rodata = object.section_id(StandardSection::ReadOnlyData);
    object.add_symbol_data(digest, rodata, &interface.weights_digest.0, 8);

    // prepare: compares the first eight bytes of the digest.
    let prepare = [
        0x48, 0x8b, 0x47, 0x10, // mov rax, [rdi + 16]
        0x48, 0x3b, 0x05, 0, 0, 0, 0, // cmp rax, [rip + digest]
        0x0f, 0x95, 0xc0, // setne al
        0x0f, 0xb6, 0xc0, // movzx eax, al
        0xc3,
    ];
    function(
        &mut object,
        &format!("{name}_prepare"),
        &prepare,
        &[(7, elf::R_X86_64_PC32, digest)],
    );

    // run: kernel({inputs[0], weights + 64, outputs[0], arena}, parallel_for, 0, ELEMENTS)
    let mut run = vec![
        0x48,
        0x83,
        0xec,
        0x28, // sub rsp, 40
        0x48,
        0x8b,
        0x07, // mov rax, [rdi]
        0x48,
        0x89,
        0x04,
        0x24, // mov [rsp], rax
        0x48,
        0x8d,
        0x81,
        0x40,
        0x00,
        0x00,
        0x00, // lea rax, [rcx + 64]
        0x48,
        0x89,
        0x44,
        0x24,
        0x08, // mov [rsp + 8], rax
        0x48,
        0x8b,
        0x06, // mov rax, [rsi]
        0x48,
        0x89,
        0x44,
        0x24,
        0x10, // mov [rsp + 16], rax
        0x48,
        0x89,
        0x54,
        0x24,
        0x18, // mov [rsp + 24], rdx
        0x48,
        0x89,
        0xe7, // mov rdi, rsp
        0x4c,
        0x89,
        0xce, // mov rsi, r9
        0x31,
        0xd2, // xor edx, edx
        0xb9,
        ELEMENTS as u8,
        0,
        0,
        0, // mov ecx, ELEMENTS
    ];
    let reloc = if got {
        run.extend([0x48, 0x8b, 0x05, 0, 0, 0, 0]); // mov rax, [rip + kernel@GOTPCREL]
        let at = run.len() as u64 - 4;
        run.extend([0xff, 0xd0]); // call rax
        (at, elf::R_X86_64_REX_GOTPCRELX, kernel)
    } else {
        run.extend([0xe8, 0, 0, 0, 0]); // call kernel
        (run.len() as u64 - 4, elf::R_X86_64_PLT32, kernel)
    };
    run.extend([0x31, 0xc0]); // xor eax, eax
    run.extend([0x48, 0x83, 0xc4, 0x28, 0xc3]); // add rsp, 40; ret
    function(&mut object, &format!("{name}_run"), &run, &[reloc]);

    let sizes = [
        ("arena", interface.arena_size),
        ("weights", interface.weights_size),
        ("prepared", interface.prepared_size),
    ];
    for (what, size) in sizes {
        let mut code = vec![0xb8]; // mov eax, size
        code.extend((size as u32).to_le_bytes());
        code.push(0xc3);
        function(&mut object, &format!("{name}_{what}_size"), &code, &[]);
    }
    object
}

/// The finished object of the test model.
pub fn finished(interface: &Interface, got: bool) -> Vec<u8> {
    let mut object = unmerged(interface, got);
    let merged = sdc_artifact::merge::kernels(&mut object, &[kernels()]).unwrap();
    assert_eq!(merged, ["sdc_k_test_parallel"]);
    if interface.weights_embedded {
        let weights = weights();
        let tensors: &[&[u8]] = &[&weights];
        sdc_artifact::emit::embed_weights(&mut object, &interface.name, &Header::of(tensors), tensors)
            .unwrap();
    }
    object.write().unwrap()
}

/// The layout's offset of the only tensor, which the hand-written code assumes.
pub fn check_layout() {
    assert_eq!(weights::layout([ELEMENTS * 4]).unwrap().offsets, [64]);
}
