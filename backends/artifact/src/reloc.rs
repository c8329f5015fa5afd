//! What `merge` and `sharedlib` share about x86-64 relocations (System V psABI, x86-64 supplement, 4.4 and B.2).

use crate::ObjectError;
use object::read::elf::ElfFile64;
use object::{
    Endianness, Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SectionIndex,
    SymbolFlags, SymbolIndex, elf,
};

/// A parsed relocatable object.
pub(crate) type ElfObject<'a> = ElfFile64<'a, Endianness>;

/// One relocation with explicit addend, as in ELF.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reloc {
    pub offset: u64,
    pub r_type: u32,
    pub symbol: SymbolIndex,
    pub addend: i64,
}

impl Reloc {
    /// Width in bytes of the field this relocation writes; `None` for unsupported types. Only types left after [`relax_got`].
    pub fn width(&self) -> Option<u64> {
        match self.r_type {
            elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => Some(4),
            elf::R_X86_64_64 | elf::R_X86_64_PC64 => Some(8),
            _ => None,
        }
    }
}

/// Parses a relocatable x86-64 ELF object.
pub(crate) fn parse(bytes: &[u8]) -> Result<ElfObject<'_>, ObjectError> {
    let file = parse_any(bytes)?;
    if file.architecture() != object::Architecture::X86_64 {
        return Err(ObjectError::NotRelocatable);
    }
    Ok(file)
}

/// Parses a relocatable little-endian ELF object of any instruction set.
pub(crate) fn parse_any(bytes: &[u8]) -> Result<ElfObject<'_>, ObjectError> {
    let file = ElfObject::parse(bytes)?;
    if file.kind() != object::ObjectKind::Relocatable || !file.is_little_endian() {
        return Err(ObjectError::NotRelocatable);
    }
    Ok(file)
}

/// The section in which `symbol` lies, if it is a plain definition: code, data or a section.
///
/// # Errors
/// Undefined (`from` names the section that refers to it), thread-local, indirect, absolute or common symbols.
pub(crate) fn home(
    file: &ElfObject<'_>,
    symbol: SymbolIndex,
    from: &str,
) -> Result<SectionIndex, ObjectError> {
    let source = file.symbol_by_index(symbol)?;
    let name = || symbol_name(file, symbol);
    if source.is_undefined() {
        return Err(ObjectError::Undefined {
            symbol: name(),
            section: from.to_owned(),
        });
    }
    let SymbolFlags::Elf { st_info, .. } = source.flags() else {
        return Err(ObjectError::NotRelocatable);
    };
    let what = match st_info & 0xf {
        elf::STT_NOTYPE | elf::STT_OBJECT | elf::STT_FUNC | elf::STT_SECTION => "in no section",
        elf::STT_TLS => {
            return Err(ObjectError::UnsupportedSymbol {
                symbol: name(),
                what: "thread-local",
            });
        }
        _ => {
            return Err(ObjectError::UnsupportedSymbol {
                symbol: name(),
                what: "an unusual type",
            });
        }
    };
    source
        .section_index()
        .ok_or_else(|| ObjectError::UnsupportedSymbol { symbol: name(), what })
}

/// The symbol's name, for messages.
pub(crate) fn symbol_name(file: &ElfObject<'_>, symbol: SymbolIndex) -> String {
    let name = file.symbol_by_index(symbol).and_then(|s| s.name_bytes());
    String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
}

/// The section's name, for messages and output.
pub(crate) fn section_name<'a>(section: &impl ObjectSection<'a>) -> String {
    String::from_utf8_lossy(section.name_bytes().unwrap_or_default()).into_owned()
}

/// The relocations of `section` in file order, `R_X86_64_NONE` left out, all with a symbol as target.
pub(crate) fn relocations<'a>(section: &impl ObjectSection<'a>) -> Result<Vec<Reloc>, ObjectError> {
    let mut out = Vec::new();
    for (offset, reloc) in section.relocations() {
        let RelocationFlags::Elf { r_type } = reloc.flags() else {
            return Err(ObjectError::NotRelocatable);
        };
        if r_type == elf::R_X86_64_NONE {
            continue;
        }
        let RelocationTarget::Symbol(symbol) = reloc.target() else {
            return Err(ObjectError::Malformed {
                section: section_name(section),
                what: "a relocation without symbol",
            });
        };
        out.push(Reloc {
            offset,
            r_type,
            symbol,
            addend: reloc.addend(),
        });
    }
    Ok(out)
}

/// Whether the type asks for an address out of the global offset table.
pub(crate) fn is_got(r_type: u32) -> bool {
    matches!(
        r_type,
        elf::R_X86_64_GOTPCREL | elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX
    )
}

/// Rewrites an instruction that goes through the global offset table into one that reaches its (defined) target directly:
/// `mov foo@GOTPCREL(%rip), r64` to `lea foo(%rip), r64`, and `call`/`jmp *foo@GOTPCREL(%rip)` to the direct forms. Returns
/// the PC-relative relocation that replaces `reloc`, or `None` (and `code` untouched) for any other instruction.
pub(crate) fn relax_got(code: &mut [u8], reloc: Reloc) -> Option<Reloc> {
    if reloc.addend != -4 {
        return None;
    }
    let at = usize::try_from(reloc.offset).ok()?;
    // The field, and the opcode and ModRM bytes before it.
    let bytes = code.get_mut(at.checked_sub(2)?..at.checked_add(4)?)?;
    let direct = Reloc {
        r_type: elf::R_X86_64_PC32,
        ..reloc
    };
    match (bytes[0], bytes[1]) {
        (0xff, 0x15) => {
            // `addr32 call`: the prefix keeps the length.
            bytes[0] = 0x67;
            bytes[1] = 0xe8;
            Some(direct)
        }
        (0xff, 0x25) => {
            // `jmp rel32; nop`: the field moves one byte forward.
            bytes[0] = 0xe9;
            bytes[5] = 0x90;
            Some(Reloc {
                offset: reloc.offset - 1,
                ..direct
            })
        }
        (0x8b, modrm) if modrm & 0xc7 == 0x05 => {
            // Without REX.W the move is of 32 bits, and lea would cut the address.
            let rex = *code.get(at.checked_sub(3)?)?;
            if rex & 0xf8 != 0x48 {
                return None;
            }
            code[at - 2] = 0x8d;
            Some(direct)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn got(offset: u64, addend: i64) -> Reloc {
        Reloc {
            offset,
            r_type: elf::R_X86_64_GOTPCREL,
            symbol: SymbolIndex(1),
            addend,
        }
    }

    #[test]
    fn known_forms_become_direct() {
        // mov r9, [rip+..]
        let mut code = [0x4c, 0x8b, 0x0d, 0, 0, 0, 0];
        let r = relax_got(&mut code, got(3, -4)).unwrap();
        assert_eq!((code[1], r.r_type, r.offset), (0x8d, elf::R_X86_64_PC32, 3));
        let mut code = [0xff, 0x15, 0, 0, 0, 0];
        assert_eq!(relax_got(&mut code, got(2, -4)).unwrap().offset, 2);
        assert_eq!(&code[..2], &[0x67, 0xe8]);
        let mut code = [0xff, 0x25, 0, 0, 0, 0];
        assert_eq!(relax_got(&mut code, got(2, -4)).unwrap().offset, 1);
        assert_eq!((code[0], code[5]), (0xe9, 0x90));
    }

    #[test]
    fn other_forms_are_left_alone() {
        // add rax, [rip+..]; mov eax, [rip+..] (32 bits); mov rax, [rcx+disp32]; a foreign addend; a field outside the code.
        for (code, addend) in [
            ([0x48, 0x03, 0x05, 0, 0, 0, 0], -4),
            ([0x90, 0x8b, 0x05, 0, 0, 0, 0], -4),
            ([0x48, 0x8b, 0x81, 0, 0, 0, 0], -4),
            ([0x48, 0x8b, 0x05, 0, 0, 0, 0], 4),
        ] {
            let mut copy = code;
            assert!(relax_got(&mut copy, got(3, addend)).is_none());
            assert_eq!(copy, code);
        }
        for offset in [0, 1, 4, 7, u64::MAX] {
            assert!(relax_got(&mut [0x48, 0x8b, 0x05, 0, 0, 0, 0], got(offset, -4)).is_none());
        }
    }
}
