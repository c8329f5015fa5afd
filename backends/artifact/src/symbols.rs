//! What a finished object promises about its symbols and data.

use crate::ObjectError;
use crate::reloc::{self, ElfObject};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, SymbolKind, elf};

/// Checks that `object` (a finished relocatable object) needs nothing and disturbs nothing: no undefined symbol, no global
/// symbol that does not start with `NAME_`, no writable data. Returns the global symbols, sorted.
///
/// # Errors
/// The first promise broken, with every symbol that breaks it.
pub fn check(object: &[u8], name: &str) -> Result<Vec<String>, ObjectError> {
    let file = reloc::parse_any(object)?;
    let undefined = undefined(&file)?;
    if !undefined.is_empty() {
        return Err(ObjectError::UndefinedSymbols(undefined));
    }
    let mut globals = Vec::new();
    for symbol in file.symbols().filter(|s| s.is_global()) {
        globals.push(String::from_utf8_lossy(symbol.name_bytes()?).into_owned());
    }
    globals.sort();
    let prefix = format!("{name}_");
    let symbols: Vec<_> = globals
        .iter()
        .filter(|g| !g.starts_with(&prefix))
        .cloned()
        .collect();
    if !symbols.is_empty() {
        return Err(ObjectError::ForeignGlobals { prefix, symbols });
    }
    for section in file.sections() {
        let section_name = reloc::section_name(&section);
        if section.size() > 0 && is_writable(section.flags()) && !is_relro(&section_name) {
            return Err(ObjectError::WritableData {
                section: section_name,
            });
        }
    }
    Ok(globals)
}

/// Names of the undefined symbols that something could bind to, in symbol table order.
pub(crate) fn undefined(file: &ElfObject<'_>) -> Result<Vec<String>, ObjectError> {
    let mut names = Vec::new();
    for symbol in file
        .symbols()
        .filter(|s| s.is_undefined() && s.kind() != SymbolKind::File)
    {
        names.push(String::from_utf8_lossy(symbol.name_bytes()?).into_owned());
    }
    Ok(names)
}

/// Data that only the dynamic linker writes, when it fills in addresses.
pub(crate) fn is_relro(section: &str) -> bool {
    section == ".data.rel.ro" || section.starts_with(".data.rel.ro.")
}

fn is_writable(flags: SectionFlags) -> bool {
    let both = u64::from(elf::SHF_ALLOC | elf::SHF_WRITE);
    matches!(flags, SectionFlags::Elf { sh_flags } if sh_flags & both == both)
}
