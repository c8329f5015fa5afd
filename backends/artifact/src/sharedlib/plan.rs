//! Every place in the file, decided before the first byte is written: `object`'s ELF writer works in these two steps.

use super::PAGE;
use super::layout::{Class, Layout, Part};
use crate::ObjectError;
use crate::reloc::{self, ElfObject};
use object::write::StringId;
use object::write::elf::{ProgramHeader, SectionIndex, Sym, Writer};
use object::{Endianness, I64, Object, ObjectSymbol, SymbolFlags, U64, elf};

pub(super) const ENDIAN: Endianness = Endianness::Little;

/// A symbol of the library.
#[derive(Debug)]
pub(super) struct Named {
    pub name: Vec<u8>,
    pub section: object::SectionIndex,
    pub value: u64,
    pub size: u64,
    /// `STT_FUNC`, `STT_OBJECT` or `STT_NOTYPE`.
    pub kind: u8,
}

impl Named {
    fn part<'l>(&self, layout: &'l Layout) -> Option<&'l Part> {
        layout.find(self.section)
    }

    pub fn symbol(&self, name: StringId, binding: u8, layout: &Layout, plan: &Plan) -> Sym {
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
    pub soname: Vec<u8>,
    /// The dynamic symbol table, sorted by name.
    pub exported: Vec<Named>,
    /// All code symbols, for debuggers and profilers.
    pub code: Vec<Named>,
    /// What the library says of itself; not a name, but as foreign to the object.
    pub record: Vec<u8>,
}

impl Names {
    pub fn collect(
        file: &ElfObject<'_>,
        layout: &Layout,
        soname: &str,
        record: &[u8],
    ) -> Result<Self, ObjectError> {
        let mut names = Names {
            soname: soname.as_bytes().to_vec(),
            exported: Vec::new(),
            code: Vec::new(),
            record: record.to_vec(),
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
    pub classes: [u64; 5],
    /// The table of relocations left to the dynamic linker.
    pub rela: u64,
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
pub(super) struct Segment {
    pub start: u64,
    pub file_end: u64,
    pub memory_end: u64,
}

impl Segment {
    pub fn header(self, p_type: u32, p_flags: u32, p_align: u64) -> ProgramHeader {
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
pub(super) struct Plan {
    pub placed: Placed,
    pub hash: u64,
    pub buckets: u32,
    pub dynsym: u64,
    pub dynstr: u64,
    pub dynstr_size: u64,
    pub dynamic: u64,
    pub read: Segment,
    pub text: Option<Segment>,
    pub writable: Segment,
    pub relro: Segment,
    pub soname: StringId,
    pub exported: Vec<StringId>,
    /// Names in `.symtab`: first `names.code`, then `names.exported`.
    pub symtab: Vec<StringId>,
    /// Index and name of each output section that exists.
    pub sections: [Option<(SectionIndex, StringId)>; 5],
    pub rela: Option<StringId>,
    /// Where the record begins.
    pub record: u64,
    pub record_name: Option<StringId>,
}

/// Decides all places; the order of the calls is the order in the file.
pub(super) fn reserve<'n>(
    w: &mut Writer<'n>,
    layout: &Layout,
    names: &'n Names,
) -> Result<Plan, ObjectError> {
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
    let record = w.reserve(names.record.len(), 1) as u64;
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
    let record_name = (!names.record.is_empty()).then(|| {
        w.reserve_section_index();
        w.add_section_name(crate::record::SECTION.as_bytes())
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
        record,
        record_name,
    })
}

/// Number of entries of the dynamic section; [`super::write`] writes as many.
fn dynamic_entries(layout: &Layout) -> usize {
    if layout.absolute > 0 { 11 } else { 7 }
}
