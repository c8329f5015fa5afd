//! The file itself, by way of `object`'s ELF writer.

use super::PAGE;
use super::layout::{Class, Layout, Part};
use crate::ObjectError;
use crate::reloc::{self, ElfObject};
use object::write::StringId;
use object::write::elf::{FileHeader, ProgramHeader, Rel, SectionHeader, SectionIndex, Sym, Writer};
use object::{Endianness, I64, Object, ObjectSection, ObjectSymbol, SymbolFlags, U64, elf};

const ENDIAN: Endianness = Endianness::Little;

/// A symbol of the library.
#[derive(Debug)]
struct Named {
    name: Vec<u8>,
    section: object::SectionIndex,
    value: u64,
    size: u64,
    /// `STT_FUNC`, `STT_OBJECT` or `STT_NOTYPE`.
    kind: u8,
}

impl Named {
    fn part<'l>(&self, layout: &'l Layout) -> Option<&'l Part> {
        layout.find(self.section)
    }

    fn symbol(&self, name: StringId, binding: u8, layout: &Layout, plan: &Plan) -> Sym {
        let part = self.part(layout);
        Sym {
            name: Some(name),
            section: part
                .and_then(|p| plan.sections[p.class as usize])
                .map(|(index, _)| index),
            st_info: (binding << 4) | self.kind,
            st_other: elf::STV_DEFAULT,
            st_shndx: elf::SHN_UNDEF,
            st_value: part
                .map_or(0, |p| plan.placed.address(p))
                .wrapping_add(self.value),
            st_size: self.size,
        }
    }
}

/// The names that go into the file.
#[derive(Debug)]
pub(super) struct Names {
    soname: Vec<u8>,
    /// The dynamic symbol table, sorted by name.
    exported: Vec<Named>,
    /// All code symbols, for debuggers and profilers.
    code: Vec<Named>,
}

impl Names {
    pub fn collect(file: &ElfObject<'_>, layout: &Layout, soname: &str) -> Result<Self, ObjectError> {
        let mut names = Names {
            soname: soname.as_bytes().to_vec(),
            exported: Vec::new(),
            code: Vec::new(),
        };
        for symbol in file.symbols() {
            let SymbolFlags::Elf { st_info, st_other } = symbol.flags() else {
                continue;
            };
            let named = |section| -> Result<Named, ObjectError> {
                let name = symbol.name_bytes()?.to_vec();
                Ok(Named {
                    name,
                    section,
                    value: symbol.address(),
                    size: symbol.size(),
                    kind: st_info & 0xf,
                })
            };
            if symbol.is_global() && matches!(st_other & 3, elf::STV_DEFAULT | elf::STV_PROTECTED) {
                let section = reloc::home(file, symbol.index(), "its symbol table")?;
                if layout.find(section).is_none() {
                    let symbol = reloc::symbol_name(file, symbol.index());
                    return Err(ObjectError::UnsupportedSymbol {
                        symbol,
                        what: "in a section that is not loaded",
                    });
                }
                names.exported.push(named(section)?);
            } else if let (elf::STT_FUNC, Some(section)) = (st_info & 0xf, symbol.section_index())
                && layout.find(section).is_some()
            {
                names.code.push(named(section)?);
            }
        }
        names.exported.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(names)
    }
}

/// Addresses, equal to file offsets, as far as relocation needs them.
#[derive(Debug)]
pub(super) struct Placed {
    /// Address of each output section.
    classes: [u64; 5],
    /// The table of relocations left to the dynamic linker.
    rela: u64,
}

impl Placed {
    pub fn address(&self, part: &Part) -> u64 {
        self.classes[part.class as usize] + part.offset
    }

    /// Fills in the table of relocations for the dynamic linker from (address, value) pairs.
    pub fn fill_relative(&self, image: &mut [u8], relative: &[(u64, u64)]) {
        let entries: Vec<elf::Rela64<Endianness>> = relative
            .iter()
            .map(|&(at, value)| elf::Rela64 {
                r_offset: U64::new(ENDIAN, at),
                r_info: elf::Rela64::r_info(ENDIAN, false, 0, elf::R_X86_64_RELATIVE),
                r_addend: I64::new(ENDIAN, value.cast_signed()),
            })
            .collect();
        let bytes = object::pod::bytes_of_slice(&entries);
        let from = self.rela as usize;
        image[from..from + bytes.len()].copy_from_slice(bytes);
    }
}

/// One loadable segment: where it starts, and where its bytes and its memory end.
#[derive(Debug, Clone, Copy)]
struct Segment {
    start: u64,
    file_end: u64,
    memory_end: u64,
}

impl Segment {
    fn header(self, p_type: u32, p_flags: u32, p_align: u64) -> ProgramHeader {
        ProgramHeader {
            p_type,
            p_flags,
            p_offset: self.start,
            p_vaddr: self.start,
            p_paddr: self.start,
            p_filesz: self.file_end - self.start,
            p_memsz: self.memory_end - self.start,
            p_align,
        }
    }
}

/// Everything decided before the first byte is written.
struct Plan {
    placed: Placed,
    hash: u64,
    buckets: u32,
    dynsym: u64,
    dynstr: u64,
    dynstr_size: u64,
    dynamic: u64,
    read: Segment,
    text: Option<Segment>,
    writable: Segment,
    relro: Segment,
    soname: StringId,
    exported: Vec<StringId>,
    /// Names in `.symtab`: first `names.code`, then `names.exported`.
    symtab: Vec<StringId>,
    /// Index and name of each output section that exists.
    sections: [Option<(SectionIndex, StringId)>; 5],
    rela: Option<StringId>,
}

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

/// Decides all places; the order of the calls is the order in the file.
fn reserve<'n>(w: &mut Writer<'n>, layout: &Layout, names: &'n Names) -> Result<Plan, ObjectError> {
    let size = |class: Class| layout.sizes[class as usize];
    let align = |class: Class| layout.aligns[class as usize] as usize;
    let present = |class: Class| layout.parts.iter().any(|p| p.class == class);
    let symbols = u32::try_from(names.exported.len())
        .ok()
        .filter(|n| *n > 0 && *n < u32::MAX);
    let symbols = symbols.ok_or(ObjectError::NoExports)?;
    let mut classes = [0; 5];

    w.reserve_file_header();
    w.reserve_program_headers(if size(Class::Text) > 0 { 6 } else { 5 });
    let soname = w.add_dynamic_string(&names.soname);
    let exported: Vec<_> = names
        .exported
        .iter()
        .map(|n| w.add_dynamic_string(&n.name))
        .collect();
    for _ in &names.exported {
        w.reserve_dynamic_symbol_index();
    }
    let hash = w.reserve_hash(symbols, symbols + 1) as u64;
    let dynsym = w.reserve_dynsym() as u64;
    let dynstr = w.reserve_dynstr() as u64;
    let dynstr_size = w.dynstr_len() as u64;
    let rela = w.reserve_relocations(layout.absolute, true) as u64;
    let mut place = |w: &mut Writer<'n>, class: Class| {
        classes[class as usize] = w.reserve(size(class) as usize, align(class)) as u64;
    };
    place(w, Class::Rodata);
    let read_end = w.reserved_len() as u64;
    let mut text = None;
    if size(Class::Text) > 0 {
        let start = w.reserve(0, PAGE as usize) as u64;
        place(w, Class::Text);
        let end = w.reserved_len() as u64;
        text = Some(Segment {
            start,
            file_end: end,
            memory_end: end,
        });
    }
    let start = w.reserve(0, PAGE as usize) as u64;
    place(w, Class::Relro);
    let dynamic = w.reserve_dynamic(dynamic_entries(layout)) as u64;
    let relro_end = w.reserved_len() as u64;
    // The dynamic linker protects whole pages, so nothing else may share the last one.
    let protected = relro_end.next_multiple_of(PAGE);
    let relro = Segment {
        start,
        file_end: relro_end,
        memory_end: protected,
    };
    let mut writable = relro;
    if present(Class::Data) || present(Class::Bss) {
        w.reserve(0, PAGE as usize);
        place(w, Class::Data);
        writable.file_end = w.reserved_len() as u64;
        let bss = writable
            .file_end
            .next_multiple_of(layout.aligns[Class::Bss as usize]);
        classes[Class::Bss as usize] = bss;
        writable.memory_end = (bss + size(Class::Bss)).max(protected);
    }

    w.reserve_hash_section_index();
    w.reserve_dynsym_section_index();
    w.reserve_dynstr_section_index();
    let rela_name = (layout.absolute > 0).then(|| {
        w.reserve_section_index();
        w.add_section_name(b".rela.dyn")
    });
    let mut sections = [None; 5];
    for class in Class::ALL.into_iter().filter(|c| present(*c)) {
        sections[class as usize] = Some((
            w.reserve_section_index(),
            w.add_section_name(class.name().as_bytes()),
        ));
    }
    w.reserve_dynamic_section_index();
    let mut symtab = Vec::with_capacity(names.code.len() + names.exported.len());
    for named in names.code.iter().chain(&names.exported) {
        let section = named.part(layout).and_then(|part| sections[part.class as usize]);
        w.reserve_symbol_index(section.map(|(index, _)| index));
        symtab.push(w.add_string(&named.name));
    }
    w.reserve_symtab_section_index();
    w.reserve_symtab();
    w.reserve_strtab_section_index();
    w.reserve_strtab();
    w.reserve_shstrtab_section_index();
    w.reserve_shstrtab();
    w.reserve_section_headers();
    let read = Segment {
        start: 0,
        file_end: read_end,
        memory_end: read_end,
    };
    let placed = Placed { classes, rela };
    Ok(Plan {
        placed,
        hash,
        buckets: symbols,
        dynsym,
        dynstr,
        dynstr_size,
        dynamic,
        read,
        text,
        writable,
        relro,
        soname,
        exported,
        symtab,
        sections,
        rela: rela_name,
    })
}

/// Number of entries of the dynamic section; [`write_loaded`] writes as many.
fn dynamic_entries(layout: &Layout) -> usize {
    if layout.absolute > 0 { 11 } else { 7 }
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
