//! Merges kernels into an object under construction: a partial link of just what is called.
//!
//! Deliberately absent: weak or common symbols, thread-local storage, section groups, unwind tables. Kernels are built
//! without them, and anything met is an error rather than a guess.

use crate::ObjectError;
use crate::reloc::{self, ElfObject, Reloc};
use object::write::{self, Relocation, SectionId, SymbolId, SymbolSection};
use object::{
    Object, ObjectSection, ObjectSymbol, RelocationFlags, SectionFlags, SectionIndex, SectionKind,
    SymbolFlags, SymbolIndex, SymbolKind, SymbolScope, elf,
};
use std::collections::BTreeMap;

/// Resolves every undefined symbol of `object` from `kernels`, relocatable x86-64 ELF objects that are searched in order.
///
/// Of each kernel object only the sections reachable from the wanted symbols, through relocations, are taken; their
/// symbols become local. Returns the names resolved, in the order of the object's symbol table.
///
/// # Errors
/// A wanted symbol that no kernel object defines; a kernel that itself needs an undefined symbol; writable data, or a
/// section, symbol or relocation of a kind that position-independent code without a runtime does not need.
pub fn kernels(object: &mut write::Object<'_>, kernels: &[&[u8]]) -> Result<Vec<String>, ObjectError> {
    let wanted = undefined(object)?;
    if wanted.is_empty() {
        return Ok(wanted);
    }
    let mut files = Vec::with_capacity(kernels.len());
    for bytes in kernels {
        files.push((reloc::parse(bytes)?, Vec::new()));
    }
    for name in &wanted {
        let found = files
            .iter_mut()
            .find_map(|(file, roots)| defined_global(file, name).map(|index| (roots, index)));
        let Some((roots, index)) = found else {
            return Err(ObjectError::MissingKernel { symbol: name.clone() });
        };
        let id = object
            .symbol_id(name.as_bytes())
            .ok_or_else(|| ObjectError::UnsupportedSymbol {
                symbol: name.clone(),
                what: "neither code nor data",
            })?;
        roots.push((index, id));
    }
    for (file, roots) in &files {
        Merge {
            object: &mut *object,
            file,
            sections: BTreeMap::new(),
            symbols: BTreeMap::new(),
        }
        .run(roots)?;
    }
    Ok(wanted)
}

/// The undefined symbols of an object under construction. `write::Object` does not list its symbols, so it is written
/// and read again; it holds code and small tables here, never weights.
fn undefined(object: &write::Object<'_>) -> Result<Vec<String>, ObjectError> {
    let bytes = object.write()?;
    crate::symbols::undefined(&reloc::parse_any(&bytes)?)
}

fn defined_global(file: &ElfObject<'_>, name: &str) -> Option<SymbolIndex> {
    file.symbols()
        .find(|s| s.is_global() && s.section_index().is_some() && s.name_bytes() == Ok(name.as_bytes()))
        .map(|s| s.index())
}

struct Merge<'m, 'o, 'k> {
    object: &'m mut write::Object<'o>,
    file: &'m ElfObject<'k>,
    /// Sections taken so far, by index in `file`, with their relocations (already free of the global offset table).
    sections: BTreeMap<usize, (SectionId, Vec<Reloc>)>,
    /// Symbols of `file`, by index, that have one in `object`.
    symbols: BTreeMap<usize, SymbolId>,
}

impl Merge<'_, '_, '_> {
    fn run(mut self, roots: &[(SymbolIndex, SymbolId)]) -> Result<(), ObjectError> {
        let mut queue: Vec<SectionIndex> = Vec::new();
        for &(index, id) in roots {
            queue.push(reloc::home(self.file, index, "the caller")?);
            self.symbols.insert(index.0, id);
        }
        // Order of discovery, so that callees follow their callers; the same for the same input.
        queue.reverse();
        while let Some(section) = queue.pop() {
            if !self.sections.contains_key(&section.0) {
                self.take(section, &mut queue)?;
            }
        }
        for &(index, id) in roots {
            self.define(index, id)?;
        }
        let taken = std::mem::take(&mut self.sections);
        self.name_functions(&taken)?;
        for (section, relocs) in taken.values() {
            for reloc in relocs {
                let (symbol, addend) = self.target(&taken, *reloc)?;
                let flags = RelocationFlags::Elf { r_type: reloc.r_type };
                self.object.add_relocation(
                    *section,
                    Relocation {
                        offset: reloc.offset,
                        symbol,
                        addend,
                        flags,
                    },
                )?;
            }
        }
        Ok(())
    }

    /// Copies one section and queues the sections it refers to.
    fn take(&mut self, index: SectionIndex, queue: &mut Vec<SectionIndex>) -> Result<(), ObjectError> {
        let section = self.file.section_by_index(index)?;
        let name = reloc::section_name(&section);
        let kind = kind(&section, &name)?;
        let mut data = section.data()?.to_vec();
        let align = section.align().max(1);
        if !align.is_power_of_two() {
            return Err(ObjectError::Malformed {
                section: name,
                what: "an alignment that is no power of two",
            });
        }
        let mut relocs = reloc::relocations(&section)?;
        for reloc in &mut relocs {
            let target = reloc::home(self.file, reloc.symbol, &name)?;
            queue.push(target);
            if reloc::is_got(reloc.r_type)
                && let Some(direct) = reloc::relax_got(&mut data, *reloc)
            {
                *reloc = direct;
            }
            let width = reloc.width().ok_or_else(|| ObjectError::UnsupportedRelocation {
                section: name.clone(),
                offset: reloc.offset,
                r_type: reloc.r_type,
                symbol: reloc::symbol_name(self.file, reloc.symbol),
            })?;
            if reloc
                .offset
                .checked_add(width)
                .is_none_or(|end| end > data.len() as u64)
            {
                return Err(ObjectError::Malformed {
                    section: name,
                    what: "a relocation outside its data",
                });
            }
        }
        let id = self.object.add_section(Vec::new(), name.into_bytes(), kind);
        self.object.set_section_data(id, data, align);
        self.sections.insert(index.0, (id, relocs));
        Ok(())
    }

    /// Defines the object's symbol `id` as what `index` is in the kernel file, as a local symbol.
    fn define(&mut self, index: SymbolIndex, id: SymbolId) -> Result<(), ObjectError> {
        let source = self.file.symbol_by_index(index)?;
        let section = reloc::home(self.file, index, "the caller")?;
        let place = self.sections.get(&section.0).map(|(id, _)| *id);
        let symbol = self.object.symbol_mut(id);
        symbol.value = source.address();
        symbol.size = source.size();
        symbol.kind = source.kind();
        symbol.scope = SymbolScope::Compilation;
        symbol.weak = false;
        symbol.flags = SymbolFlags::None;
        symbol.section = SymbolSection::Section(place.expect("the sections of all roots have been taken"));
        Ok(())
    }

    /// Gives every function in the sections taken a local symbol, for profilers and debuggers.
    fn name_functions(
        &mut self,
        taken: &BTreeMap<usize, (SectionId, Vec<Reloc>)>,
    ) -> Result<(), ObjectError> {
        for source in self.file.symbols().filter(|s| s.kind() == SymbolKind::Text) {
            let place = source.section_index().and_then(|section| taken.get(&section.0));
            let (Some((place, _)), false) = (place, self.symbols.contains_key(&source.index().0)) else {
                continue;
            };
            let id = self.object.add_symbol(write::Symbol {
                name: source.name_bytes()?.to_vec(),
                value: source.address(),
                size: source.size(),
                kind: SymbolKind::Text,
                scope: SymbolScope::Compilation,
                weak: false,
                section: SymbolSection::Section(*place),
                flags: SymbolFlags::None,
            });
            self.symbols.insert(source.index().0, id);
        }
        Ok(())
    }

    /// The symbol and addend that stand for the target of `reloc` in the object: a function's own symbol, or that of the
    /// section for data.
    fn target(
        &mut self,
        taken: &BTreeMap<usize, (SectionId, Vec<Reloc>)>,
        reloc: Reloc,
    ) -> Result<(SymbolId, i64), ObjectError> {
        if let Some(&id) = self.symbols.get(&reloc.symbol.0) {
            return Ok((id, reloc.addend));
        }
        let source = self.file.symbol_by_index(reloc.symbol)?;
        let section = reloc::home(self.file, reloc.symbol, "a kernel")?;
        let (place, _) = taken
            .get(&section.0)
            .expect("the sections of all targets have been taken");
        let addend = i64::try_from(source.address())
            .ok()
            .and_then(|value| value.checked_add(reloc.addend));
        let addend = addend.ok_or_else(|| ObjectError::Malformed {
            section: self.object.section(*place).name().unwrap_or_default().to_owned(),
            what: "a symbol value beyond all sizes",
        })?;
        Ok((self.object.section_symbol(*place), addend))
    }
}

/// The kind the section gets in the object: code, constants, or constants that hold addresses.
fn kind<'a>(section: &impl ObjectSection<'a>, name: &str) -> Result<SectionKind, ObjectError> {
    let SectionFlags::Elf { sh_flags } = section.flags() else {
        return Err(ObjectError::NotRelocatable);
    };
    let has = |flag: u32| sh_flags & u64::from(flag) != 0;
    let refuse = |what| {
        Err(ObjectError::UnsupportedSection {
            section: name.to_owned(),
            what,
        })
    };
    if !has(elf::SHF_ALLOC) {
        return refuse("not part of the program");
    }
    if has(elf::SHF_TLS) {
        return refuse("thread-local");
    }
    match (has(elf::SHF_EXECINSTR), has(elf::SHF_WRITE)) {
        (true, false) => Ok(SectionKind::Text),
        (false, false) => Ok(SectionKind::ReadOnlyData),
        (false, true) if crate::symbols::is_relro(name) => Ok(SectionKind::ReadOnlyDataWithRel),
        (false, true) => Err(ObjectError::WritableData {
            section: name.to_owned(),
        }),
        (true, true) => refuse("both writable and executable"),
    }
}
