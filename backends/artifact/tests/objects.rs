//! Merging, checking and linking of objects, and what they refuse.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::write::{Object as Building, StandardSection};
use object::{Endianness, Object, ObjectSection, ObjectSymbol, SymbolKind, SymbolScope, elf};
use proptest::prelude::*;
use sdc_artifact::{ObjectError, archive, merge, sharedlib, symbols};
use support::*;

/// An object with one global function `m_run` that calls `callee`.
fn caller(callee: &str) -> Building<'static> {
    let mut building = object();
    let symbol = extern_symbol(&mut building, callee);
    function(
        &mut building,
        "m_run",
        &[0xe8, 0, 0, 0, 0, 0xc3],
        &[(1, elf::R_X86_64_PLT32, symbol)],
    );
    building
}

#[test]
fn only_what_is_reachable_is_merged() {
    let bytes = finished(&interface("m", false), false);
    let file = ElfFile64::<Endianness>::parse(&*bytes).unwrap();
    let names: Vec<_> = file.symbols().map(|s| s.name().unwrap().to_owned()).collect();
    let has = |part: &str| names.iter().any(|n| n.contains(part));
    assert!(
        has("sdc_k_test_parallel") && has("sdc_k_test_double") && has("negate"),
        "{names:?}"
    );
    assert!(!has("unused") && !has("needy") && !has("stateful"), "{names:?}");
    assert!(
        file.symbols()
            .filter(|s| s.name().unwrap().starts_with("sdc_k_"))
            .all(|s| s.is_local())
    );
    assert!(file.section_by_name(".eh_frame").is_none());
    let globals = symbols::check(&bytes, "m").unwrap();
    assert_eq!(
        globals,
        [
            "m_arena_size",
            "m_prepare",
            "m_prepared_size",
            "m_run",
            "m_weights_size"
        ]
    );
}

#[test]
fn kernels_are_searched_in_order() {
    let empty = object().write().unwrap();
    let mut building = caller("sdc_k_test_unused");
    assert_eq!(
        merge::kernels(&mut building, &[&empty, kernels(), kernels()]).unwrap(),
        ["sdc_k_test_unused"]
    );
    let bytes = building.write().unwrap();
    symbols::check(&bytes, "m").unwrap();
    // Nothing left to do.
    assert!(merge::kernels(&mut building, &[]).unwrap().is_empty());
    assert_eq!(building.write().unwrap(), bytes);
}

#[test]
fn merging_refuses() {
    let merge = |callee: &str| merge::kernels(&mut caller(callee), &[kernels()]).unwrap_err();
    assert!(
        matches!(merge("sdc_k_test_missing"), ObjectError::MissingKernel { symbol } if symbol == "sdc_k_test_missing")
    );
    assert!(
        matches!(merge("sdc_k_test_needy"), ObjectError::Undefined { symbol, .. } if symbol == "not_there")
    );
    assert!(matches!(
        merge("sdc_k_test_stateful"),
        ObjectError::WritableData { .. }
    ));
    let not_elf = merge::kernels(&mut caller("x"), &[b"not an object"]);
    assert!(matches!(not_elf, Err(ObjectError::Read(_))));
    let linked = sharedlib::link(&finished(&interface("m", false), false), "libm.so", &[]).unwrap();
    assert!(matches!(
        merge::kernels(&mut caller("x"), &[&linked]),
        Err(ObjectError::NotRelocatable)
    ));
}

#[test]
fn checking_refuses() {
    let undefined = caller("elsewhere").write().unwrap();
    assert!(
        matches!(symbols::check(&undefined, "m"), Err(ObjectError::UndefinedSymbols(n)) if n == ["elsewhere"])
    );
    let fine = finished(&interface("m", false), false);
    assert!(
        matches!(symbols::check(&fine, "n"), Err(ObjectError::ForeignGlobals { symbols, .. }) if symbols.len() == 5)
    );
    let mut building = object();
    function(&mut building, "m_run", &[0xc3], &[]);
    let data = building.section_id(StandardSection::Data);
    let symbol = define(&mut building, "state", SymbolKind::Data, SymbolScope::Compilation);
    building.add_symbol_data(symbol, data, &[1], 1);
    assert!(matches!(
        symbols::check(&building.write().unwrap(), "m"),
        Err(ObjectError::WritableData { section }) if section == ".data"
    ));
}

#[test]
fn linking_refuses() {
    let link =
        |building: &Building<'_>| sharedlib::link(&building.write().unwrap(), "libm.so", &[]).unwrap_err();
    assert!(
        matches!(link(&caller("elsewhere")), ObjectError::Undefined { symbol, .. } if symbol == "elsewhere")
    );
    assert!(matches!(link(&object()), ObjectError::NoExports));
    // The absolute address of a function in code; an instruction through the offset table that cannot be made direct; a
    // 32-bit absolute address.
    for (r_type, code) in [
        (elf::R_X86_64_64, [0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0]),
        (elf::R_X86_64_GOTPCREL, [0x48, 0x03, 0x05, 0, 0, 0, 0, 0xc3, 0, 0]),
        (elf::R_X86_64_32, [0xb8, 0, 0, 0, 0, 0xc3, 0, 0, 0, 0]),
    ] {
        let mut building = object();
        let symbol = define(&mut building, "m_run", SymbolKind::Text, SymbolScope::Dynamic);
        let text = building.section_id(StandardSection::Text);
        building.add_symbol_data(symbol, text, &code, 16);
        function(&mut building, "m_other", &code, &[(2, r_type, symbol)]);
        let error = link(&building);
        let expected = match r_type {
            elf::R_X86_64_64 => {
                matches!(&error, ObjectError::TextRelocation { symbol, .. } if symbol == "m_run")
            }
            _ => matches!(&error, ObjectError::UnsupportedRelocation { symbol, .. } if symbol == "m_run"),
        };
        assert!(expected, "{error}");
    }
}

#[test]
fn shared_libraries_are_well_formed() {
    let mut building = unmerged(&interface("m", false), true);
    merge::kernels(&mut building, &[kernels()]).unwrap();
    // Data and zeroed data too, which models do not have but the linker handles.
    for (section, name) in [
        (StandardSection::Data, "data"),
        (StandardSection::UninitializedData, "zeroed"),
    ] {
        let section = building.section_id(section);
        let symbol = define(&mut building, name, SymbolKind::Data, SymbolScope::Compilation);
        match name {
            "data" => building.add_symbol_data(symbol, section, &[1, 2, 3], 32),
            _ => building.add_symbol_bss(symbol, section, 10_000, 64),
        };
    }
    let bytes = sharedlib::link(&building.write().unwrap(), "libm.so", &[]).unwrap();
    let file = ElfFile64::<Endianness>::parse(&*bytes).unwrap();
    assert_eq!(file.kind(), object::ObjectKind::Dynamic);

    let endian = Endianness::Little;
    let headers = file.elf_program_headers();
    let of = |kind: u32| headers.iter().filter(move |h| h.p_type(endian) == kind);
    let loads: Vec<_> = of(elf::PT_LOAD).collect();
    let flags: Vec<_> = loads.iter().map(|h| h.p_flags(endian)).collect();
    assert_eq!(flags, [elf::PF_R, elf::PF_R | elf::PF_X, elf::PF_R | elf::PF_W]);
    let mut end = 0;
    for load in &loads {
        let (start, size) = (load.p_vaddr(endian), load.p_memsz(endian));
        assert!(start % 4096 == 0 && load.p_offset(endian) == start && load.p_align(endian) == 4096);
        assert!(start >= end && load.p_filesz(endian) <= size);
        assert!(load.p_offset(endian) + load.p_filesz(endian) <= bytes.len() as u64);
        end = start + size;
    }
    let stack = of(elf::PT_GNU_STACK).next().unwrap();
    assert_eq!(stack.p_flags(endian) & elf::PF_X, 0);
    let relro = of(elf::PT_GNU_RELRO).next().unwrap();
    assert_eq!((relro.p_vaddr(endian) + relro.p_memsz(endian)) % 4096, 0);

    // Every section lies in a segment that allows what it needs, at an address of its alignment.
    let mut seen = Vec::new();
    for section in file.sections().filter(|s| s.address() != 0) {
        let object::SectionFlags::Elf { sh_flags } = section.flags() else {
            panic!()
        };
        let home = loads.iter().find(|h| {
            let start = h.p_vaddr(endian);
            start <= section.address() && section.address() + section.size() <= start + h.p_memsz(endian)
        });
        let allowed = home.unwrap().p_flags(endian);
        let needs = |flag: u32, permission: u32| sh_flags & u64::from(flag) == 0 || allowed & permission != 0;
        assert!(needs(elf::SHF_WRITE, elf::PF_W) && needs(elf::SHF_EXECINSTR, elf::PF_X));
        assert_eq!(section.address() % section.align(), 0);
        seen.push(section.name().unwrap().to_owned());
        // What is protected after loading must not cover what stays writable.
        if [".data", ".bss"].contains(&section.name().unwrap()) {
            assert!(section.address() >= relro.p_vaddr(endian) + relro.p_memsz(endian));
        }
    }
    let expected = [
        ".hash",
        ".dynsym",
        ".dynstr",
        ".rela.dyn",
        ".rodata",
        ".text",
        ".data.rel.ro",
        ".data",
        ".bss",
        ".dynamic",
    ];
    assert_eq!(seen, expected);

    let exported: Vec<_> = file.dynamic_symbols().map(|s| s.name().unwrap()).collect();
    assert_eq!(
        exported,
        [
            "m_arena_size",
            "m_prepare",
            "m_prepared_size",
            "m_run",
            "m_weights_size"
        ]
    );
    assert!(file.dynamic_symbols().all(|s| s.is_global() && !s.is_undefined()));
    for symbol in file.symbols() {
        let section = file.section_by_index(symbol.section_index().unwrap()).unwrap();
        let range = section.address()..section.address() + section.size();
        assert!(range.contains(&symbol.address()), "{symbol:?}");
    }
    let names: Vec<_> = file.symbols().map(|s| s.name().unwrap()).collect();
    assert!(names.contains(&"sdc_k_test_parallel"));
    let relocations: Vec<_> = file.dynamic_relocations().unwrap().collect();
    assert_eq!(relocations.len(), 2);
    for (at, relocation) in relocations {
        assert_eq!(
            relocation.flags(),
            object::RelocationFlags::Elf {
                r_type: elf::R_X86_64_RELATIVE
            }
        );
        let table = file.section_by_name(".data.rel.ro").unwrap();
        assert!((table.address()..table.address() + table.size()).contains(&at));
        let text = file.section_by_name(".text").unwrap();
        assert!((text.address()..text.address() + text.size()).contains(&(relocation.addend() as u64)));
    }
    let soname = file.elf_dynamic_table_soname();
    assert_eq!(soname.as_deref(), Some("libm.so"));
}

/// `DT_SONAME`, read by hand from the dynamic section.
trait Soname {
    fn elf_dynamic_table_soname(&self) -> Option<String>;
}

impl Soname for ElfFile64<'_, Endianness> {
    fn elf_dynamic_table_soname(&self) -> Option<String> {
        let dynamic = self.section_by_name(".dynamic")?.data().ok()?;
        let word = |b: &[u8]| u64::from_le_bytes(b.try_into().unwrap());
        let entry = dynamic
            .chunks_exact(16)
            .find(|e| word(&e[..8]) == elf::DT_SONAME as u64)?;
        let strings = self.section_by_name(".dynstr")?.data().ok()?;
        let text = strings.get(word(&entry[8..]) as usize..)?;
        Some(String::from_utf8_lossy(&text[..text.iter().position(|b| *b == 0)?]).into_owned())
    }
}

#[test]
fn archives_have_an_index_and_no_time() {
    let bytes = finished(&interface("m", false), false);
    let archive = archive::archive("m.o", &bytes).unwrap();
    assert!(archive.starts_with(b"!<arch>\n/ "));
    let found = archive.windows(bytes.len()).position(|w| w == bytes).unwrap();
    let index = &archive[..found];
    assert!(index.windows(6).any(|w| w == b"m_run\0"));
    // The member's header: name, then time, owner, group.
    let header = String::from_utf8_lossy(&archive[found - 60..found]).into_owned();
    assert_eq!(
        header.split_whitespace().collect::<Vec<_>>()[..4],
        ["m.o/", "0", "0", "0"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Damaged objects give an error or a library, never a panic.
    #[test]
    fn damaged_objects_do_not_panic(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = finished(&interface("m", false), true);
        let mut kernels = kernels().to_vec();
        for (at, value) in flips {
            *at.get_mut(&mut bytes) = value;
            *at.get_mut(&mut kernels) = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = symbols::check(&bytes, "m");
        let _ = sharedlib::link(&bytes, "libm.so", &[]);
        let _ = merge::kernels(&mut caller("sdc_k_test_parallel"), &[&kernels]);
    }
}
