//! The bytes of the file, in the order that [`super::plan`] decided.

use super::PAGE;
use super::layout::{Class, Layout};
use super::plan::{ENDIAN, Names, Placed, Plan, Segment, reserve};
use crate::ObjectError;
use crate::reloc::ElfObject;
use object::write::elf::{FileHeader, Rel, SectionHeader, Writer};
use object::{Endianness, Object, ObjectSection, elf};

/// Writes the whole file, relocations not yet applied.
pub(super) fn write(
    file: &ElfObject<'_>,
    layout: &Layout,
    names: &Names,
) -> Result<(Vec<u8>, Placed), ObjectError> {
    let mut image = Vec::new();
    let mut w = Writer::new(ENDIAN, true, &mut image);
    let plan = reserve(&mut w, layout, names)?;
    write_headers(&mut w, &plan)?;
    write_loaded(&mut w, file, layout, names, &plan)?;
    write_tables(&mut w, layout, names, &plan);
    Ok((image, plan.placed))
}

fn write_headers(w: &mut Writer<'_>, plan: &Plan) -> Result<(), ObjectError> {
    w.write_file_header(&FileHeader {
        os_abi: elf::ELFOSABI_NONE,
        abi_version: 0,
        e_type: elf::ET_DYN,
        e_machine: elf::EM_X86_64,
        e_entry: 0,
        e_flags: 0,
    })?;
    w.write_align_program_headers();
    w.write_program_header(&plan.read.header(elf::PT_LOAD, elf::PF_R, PAGE));
    if let Some(text) = plan.text {
        w.write_program_header(&text.header(elf::PT_LOAD, elf::PF_R | elf::PF_X, PAGE));
    }
    w.write_program_header(&plan.writable.header(elf::PT_LOAD, elf::PF_R | elf::PF_W, PAGE));
    let end = plan.relro.file_end;
    let dynamic = Segment {
        start: plan.dynamic,
        file_end: end,
        memory_end: end,
    };
    w.write_program_header(&dynamic.header(elf::PT_DYNAMIC, elf::PF_R | elf::PF_W, 8));
    w.write_program_header(&plan.relro.header(elf::PT_GNU_RELRO, elf::PF_R, 1));
    let stack = Segment {
        start: 0,
        file_end: 0,
        memory_end: 0,
    };
    w.write_program_header(&stack.header(elf::PT_GNU_STACK, elf::PF_R | elf::PF_W, 16));
    Ok(())
}

/// All that is loaded.
fn write_loaded(
    w: &mut Writer<'_>,
    file: &ElfObject<'_>,
    layout: &Layout,
    names: &Names,
    plan: &Plan,
) -> Result<(), ObjectError> {
    w.write_hash(plan.buckets, plan.buckets + 1, |i| {
        Some(elf::hash(&names.exported.get((i as usize).checked_sub(1)?)?.name))
    });
    w.write_null_dynamic_symbol();
    for (named, name) in names.exported.iter().zip(&plan.exported) {
        w.write_dynamic_symbol(&named.symbol(*name, elf::STB_GLOBAL, layout, plan));
    }
    w.write_dynstr();
    w.write_align_relocation();
    for _ in 0..layout.absolute {
        w.write_relocation(
            true,
            &Rel {
                r_offset: 0,
                r_sym: 0,
                r_type: elf::R_X86_64_NONE,
                r_addend: 0,
            },
        );
    }
    let class = |w: &mut Writer<'_>, class: Class| -> Result<(), ObjectError> {
        for part in layout.parts.iter().filter(|p| p.class == class) {
            w.pad_until(plan.placed.address(part) as usize);
            w.write(file.section_by_index(part.index)?.data()?);
        }
        Ok(())
    };
    class(w, Class::Rodata)?;
    w.write(&names.record);
    class(w, Class::Text)?;
    w.pad_until(plan.relro.start as usize);
    class(w, Class::Relro)?;
    w.write_align_dynamic();
    w.write_dynamic_string(elf::DT_SONAME, plan.soname)?;
    let mut entries = vec![
        (elf::DT_HASH, plan.hash),
        (elf::DT_STRTAB, plan.dynstr),
        (elf::DT_SYMTAB, plan.dynsym),
        (elf::DT_STRSZ, plan.dynstr_size),
        (elf::DT_SYMENT, size_of::<elf::Sym64<Endianness>>() as u64),
    ];
    if layout.absolute > 0 {
        let entry = size_of::<elf::Rela64<Endianness>>() as u64;
        let count = layout.absolute as u64;
        entries.extend([
            (elf::DT_RELA, plan.placed.rela),
            (elf::DT_RELASZ, entry * count),
            (elf::DT_RELAENT, entry),
            (elf::DT_RELACOUNT, count),
        ]);
    }
    entries.push((elf::DT_NULL, 0));
    for (tag, value) in entries {
        w.write_dynamic(tag, value)?;
    }
    class(w, Class::Data)?;
    w.pad_until(plan.writable.file_end as usize);
    Ok(())
}

/// Symbol table, names and section headers: nothing of it is loaded, tools read it.
fn write_tables(w: &mut Writer<'_>, layout: &Layout, names: &Names, plan: &Plan) {
    w.write_null_symbol();
    let bindings = names.code.iter().map(|n| (n, elf::STB_LOCAL));
    let bindings = bindings.chain(names.exported.iter().map(|n| (n, elf::STB_GLOBAL)));
    for ((named, binding), name) in bindings.zip(&plan.symtab) {
        w.write_symbol(&named.symbol(*name, binding, layout, plan));
    }
    w.write_strtab();
    w.write_shstrtab();

    w.write_null_section_header();
    w.write_hash_section_header(plan.hash);
    w.write_dynsym_section_header(plan.dynsym, 1);
    w.write_dynstr_section_header(plan.dynstr);
    if let Some(name) = plan.rela {
        let entry = size_of::<elf::Rela64<Endianness>>() as u64;
        let link = w.dynsym_index().0;
        w.write_section_header(&SectionHeader {
            name: Some(name),
            sh_type: elf::SHT_RELA,
            sh_flags: elf::SHF_ALLOC.into(),
            sh_addr: plan.placed.rela,
            sh_offset: plan.placed.rela,
            sh_size: entry * layout.absolute as u64,
            sh_link: link,
            sh_info: 0,
            sh_addralign: 8,
            sh_entsize: entry,
        });
    }
    if let Some(name) = plan.record_name {
        w.write_section_header(&SectionHeader {
            name: Some(name),
            sh_type: elf::SHT_PROGBITS,
            sh_flags: elf::SHF_ALLOC.into(),
            sh_addr: plan.record,
            sh_offset: plan.record,
            sh_size: names.record.len() as u64,
            sh_link: 0,
            sh_info: 0,
            sh_addralign: 1,
            sh_entsize: 0,
        });
    }
    for class in Class::ALL {
        let Some((_, name)) = plan.sections[class as usize] else {
            continue;
        };
        let flags = match class {
            Class::Rodata => elf::SHF_ALLOC,
            Class::Text => elf::SHF_ALLOC | elf::SHF_EXECINSTR,
            Class::Relro | Class::Data | Class::Bss => elf::SHF_ALLOC | elf::SHF_WRITE,
        };
        let address = plan.placed.classes[class as usize];
        w.write_section_header(&SectionHeader {
            name: Some(name),
            sh_type: if class == Class::Bss {
                elf::SHT_NOBITS
            } else {
                elf::SHT_PROGBITS
            },
            sh_flags: flags.into(),
            sh_addr: address,
            sh_offset: address,
            sh_size: layout.sizes[class as usize],
            sh_link: 0,
            sh_info: 0,
            sh_addralign: layout.aligns[class as usize],
            sh_entsize: 0,
        });
    }
    w.write_dynamic_section_header(plan.dynamic);
    w.write_symtab_section_header(u32::try_from(names.code.len() + 1).unwrap_or(u32::MAX));
    w.write_strtab_section_header();
    w.write_shstrtab_section_header();
}
