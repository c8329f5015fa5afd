//! Which input section goes into which output section, and where in it.

use super::{PAGE, malformed};
use crate::ObjectError;
use crate::reloc::{self, ElfObject};
use object::{Object, ObjectSection, SectionFlags, SectionIndex, SectionKind, elf};
use std::collections::BTreeMap;

/// Output sections, in the order of their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Constants.
    Rodata,
    /// Code.
    Text,
    /// Constants that hold addresses: written by the dynamic linker only.
    Relro,
    /// Initialised data.
    Data,
    /// Zeroed data, without bytes in the file.
    Bss,
}

impl Class {
    pub const ALL: [Class; 5] = [Class::Rodata, Class::Text, Class::Relro, Class::Data, Class::Bss];

    pub fn name(self) -> &'static str {
        match self {
            Class::Rodata => ".rodata",
            Class::Text => ".text",
            Class::Relro => ".data.rel.ro",
            Class::Data => ".data",
            Class::Bss => ".bss",
        }
    }

    pub fn is_writable(self) -> bool {
        self >= Class::Relro
    }
}

/// One input section within its output section.
#[derive(Debug)]
pub(super) struct Part {
    pub index: SectionIndex,
    pub class: Class,
    /// Offset within the output section.
    pub offset: u64,
}

/// All loaded input sections, and the sizes they add up to.
#[derive(Debug)]
pub(super) struct Layout {
    /// Sorted by class, then by input index.
    pub parts: Vec<Part>,
    /// Bytes per class.
    pub sizes: [u64; 5],
    /// Largest alignment per class, at most a page.
    pub aligns: [u64; 5],
    /// Number of absolute 64-bit addresses, each of which becomes one entry for the dynamic linker.
    pub absolute: usize,
    /// From input section index to the place in `parts`.
    slots: BTreeMap<usize, usize>,
}

impl Layout {
    pub fn new(file: &ElfObject<'_>) -> Result<Self, ObjectError> {
        let mut layout = Layout {
            parts: Vec::new(),
            sizes: [0; 5],
            aligns: [1; 5],
            absolute: 0,
            slots: BTreeMap::new(),
        };
        for section in file.sections() {
            let absolute = reloc::relocations(&section)?
                .iter()
                .filter(|r| r.r_type == elf::R_X86_64_64)
                .count();
            let Some(class) = classify(&section, absolute > 0)? else {
                continue;
            };
            let name = reloc::section_name(&section);
            let align = section.align().max(1);
            if !align.is_power_of_two() || align > PAGE {
                return Err(malformed(
                    &name,
                    "an alignment that is no power of two or above a page",
                ));
            }
            // Reading the data checks the size the header claims against the file.
            section.data()?;
            let slot = class as usize;
            let offset = layout.sizes[slot].next_multiple_of(align);
            let end = offset
                .checked_add(section.size())
                .filter(|end| *end < u64::MAX / 16);
            layout.sizes[slot] = end.ok_or_else(|| malformed(&name, "an absurd size"))?;
            layout.aligns[slot] = layout.aligns[slot].max(align);
            layout.parts.push(Part {
                index: section.index(),
                class,
                offset,
            });
            layout.absolute += absolute;
        }
        layout.parts.sort_by_key(|p| (p.class, p.index.0));
        layout.slots = layout
            .parts
            .iter()
            .enumerate()
            .map(|(slot, p)| (p.index.0, slot))
            .collect();
        Ok(layout)
    }

    pub fn find(&self, index: SectionIndex) -> Option<&Part> {
        self.slots.get(&index.0).map(|slot| &self.parts[*slot])
    }
}

/// The output section for an input section; `None` when it is not loaded (symbol tables, notes for the linker, unwind
/// tables, which nothing here needs).
fn classify<'a>(section: &impl ObjectSection<'a>, absolute: bool) -> Result<Option<Class>, ObjectError> {
    let SectionFlags::Elf { sh_flags } = section.flags() else {
        return Err(ObjectError::NotRelocatable);
    };
    let has = |flag: u32| sh_flags & u64::from(flag) != 0;
    let name = reloc::section_name(section);
    if !has(elf::SHF_ALLOC) || name == ".eh_frame" || section.kind() == SectionKind::Note {
        return Ok(None);
    }
    if has(elf::SHF_TLS) {
        return Err(ObjectError::UnsupportedSection {
            section: name,
            what: "thread-local",
        });
    }
    let zeroed = section.kind().is_bss();
    Ok(Some(match (has(elf::SHF_EXECINSTR), has(elf::SHF_WRITE)) {
        (true, true) => {
            return Err(ObjectError::UnsupportedSection {
                section: name,
                what: "both writable and executable",
            });
        }
        (true, false) => Class::Text,
        (false, true) if zeroed => Class::Bss,
        (false, true) if !crate::symbols::is_relro(&name) => Class::Data,
        (false, true) => Class::Relro,
        (false, false) if zeroed => {
            return Err(ObjectError::UnsupportedSection {
                section: name,
                what: "zeroed constants",
            });
        }
        (false, false) if absolute => Class::Relro,
        (false, false) => Class::Rodata,
    }))
}
