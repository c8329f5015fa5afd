//! What LLVM wrote, as an object under construction, so that kernels can be merged into it.

use sdc_lower::Error;
use sdc_lower::object::read::elf::ElfFile64;
use sdc_lower::object::write::{
    Object, Relocation, SectionId, StandardSection, Symbol, SymbolId, SymbolSection,
};
use sdc_lower::object::{
    self, BinaryFormat, Endianness, Object as _, ObjectSection, ObjectSymbol, RelocationFlags,
    RelocationTarget, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};
use std::collections::BTreeMap;

/// An object read back.
pub struct Read {
    pub object: Object<'static>,
    /// Undefined symbols, sorted.
    pub undefined: Vec<String>,
    /// Bytes of code of each function.
    pub sizes: BTreeMap<String, usize>,
}

/// Copies code, constants, their symbols and relocations; all else (notes, the compiler's name) is left behind.
pub fn read(bytes: &[u8]) -> Result<Read, Error> {
    let broken = |e: object::Error| Error::Object(e.to_string());
    let file = ElfFile64::<Endianness>::parse(bytes).map_err(broken)?;
    let mut object = Object::new(BinaryFormat::Elf, file.architecture(), object::Endianness::Little);
    let sections = sections(&file, &mut object)?;
    let (mut undefined, mut sizes) = (Vec::new(), BTreeMap::new());
    let mut symbols: BTreeMap<usize, SymbolId> = BTreeMap::new();
    for symbol in file.symbols() {
        let section = match symbol.section_index() {
            Some(index) => match sections.get(&index.0) {
                Some(&id) => SymbolSection::Section(id),
                None => continue,
            },
            None if symbol.is_undefined() => SymbolSection::Undefined,
            None => continue,
        };
        if let (SymbolKind::Section, SymbolSection::Section(id)) = (symbol.kind(), section) {
            symbols.insert(symbol.index().0, object.section_symbol(id));
            continue;
        }
        let name = symbol.name().map_err(broken)?;
        let scope = if symbol.is_undefined() {
            undefined.push(name.to_owned());
            SymbolScope::Unknown
        } else if symbol.is_global() {
            SymbolScope::Dynamic
        } else {
            SymbolScope::Compilation
        };
        if symbol.kind() == SymbolKind::Text {
            sizes.insert(name.to_owned(), symbol.size() as usize);
        }
        let id = object.add_symbol(Symbol {
            name: name.into(),
            value: symbol.address(),
            size: symbol.size(),
            kind: SymbolKind::Text,
            scope,
            weak: false,
            section,
            flags: SymbolFlags::None,
        });
        symbols.insert(symbol.index().0, id);
    }
    for section in file.sections() {
        let Some(&id) = sections.get(&section.index().0) else {
            continue;
        };
        for (offset, relocation) in section.relocations() {
            let (RelocationFlags::Elf { .. }, RelocationTarget::Symbol(target)) =
                (relocation.flags(), relocation.target())
            else {
                return Err(unusual("a relocation without a symbol"));
            };
            let symbol = *symbols
                .get(&target.0)
                .ok_or_else(|| unusual("a relocation to nothing"))?;
            let relocation = Relocation {
                offset,
                symbol,
                addend: relocation.addend(),
                flags: relocation.flags(),
            };
            object
                .add_relocation(id, relocation)
                .map_err(|e| Error::Object(e.to_string()))?;
        }
    }
    undefined.sort_unstable();
    Ok(Read {
        object,
        undefined,
        sizes,
    })
}

/// The sections that are part of the program, by their numbers in the file.
fn sections(
    file: &ElfFile64<'_, Endianness>,
    object: &mut Object<'static>,
) -> Result<BTreeMap<usize, SectionId>, Error> {
    let broken = |e: object::Error| Error::Object(e.to_string());
    let mut sections = BTreeMap::new();
    for section in file.sections() {
        let kind = match section.kind() {
            SectionKind::Text => SectionKind::Text,
            SectionKind::ReadOnlyData | SectionKind::ReadOnlyString => SectionKind::ReadOnlyData,
            SectionKind::ReadOnlyDataWithRel => SectionKind::ReadOnlyDataWithRel,
            SectionKind::Data | SectionKind::UninitializedData | SectionKind::Tls if section.size() > 0 => {
                return Err(unusual("writable data"));
            }
            _ => continue,
        };
        let name = section.name_bytes().map_err(broken)?;
        let id = if name == b".text" {
            object.section_id(StandardSection::Text)
        } else {
            object.add_section(Vec::new(), name.to_vec(), kind)
        };
        let data = section.data().map_err(broken)?.to_vec();
        object.set_section_data(id, data, section.align().max(1));
        sections.insert(section.index().0, id);
    }
    Ok(sections)
}

fn unusual(what: &str) -> Error {
    Error::Object(format!("LLVM wrote {what}"))
}
