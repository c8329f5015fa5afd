//! Shared libraries without a linker: an `ET_DYN` x86-64 file from one finished relocatable object.
//!
//! Three loadable segments, each in pages of its own: read-only (tables of the dynamic linker, constants), executable,
//! and writable (addresses that the dynamic linker fills in, then protects). File offsets equal virtual addresses.
//!
//! Deliberately absent: imports, lazy binding, thread-local storage, unwind tables, symbol versions; the object needs
//! nothing from outside, so there is nothing to bind.

mod layout;
mod plan;
mod write;

use crate::ObjectError;
use crate::reloc::{self, ElfObject, Reloc};
use layout::Layout;
use object::{Object, ObjectSection, ObjectSymbol, elf};

/// Size and alignment of a page; every segment starts on one.
const PAGE: u64 = 4096;

/// Links `object` (a finished relocatable object: see [`crate::symbols::check`]) into a shared library with the given
/// `DT_SONAME`. Its global symbols with default visibility are exported, sorted by name. `record` becomes the section
/// [`crate::record::SECTION`], among the constants; there is none if it is empty.
///
/// # Errors
/// Undefined symbols, sections or relocations of a kind listed as absent above, absolute addresses in code, or more than
/// 2 GiB between a reference and its target.
pub fn link(object: &[u8], soname: &str, record: &[u8]) -> Result<Vec<u8>, ObjectError> {
    let file = reloc::parse(object)?;
    let layout = Layout::new(&file)?;
    let names = plan::Names::collect(&file, &layout, soname, record)?;
    let (mut image, placed) = write::write(&file, &layout, &names)?;
    let relative = patch(&file, &layout, &placed, &mut image)?;
    placed.fill_relative(&mut image, &relative);
    Ok(image)
}

/// Applies all relocations to the image. Returns (address, value) of the fields that hold absolute addresses, for the
/// dynamic linker to finish.
fn patch(
    file: &ElfObject<'_>,
    layout: &Layout,
    placed: &plan::Placed,
    image: &mut [u8],
) -> Result<Vec<(u64, u64)>, ObjectError> {
    let mut relative = Vec::new();
    for part in &layout.parts {
        let section = file.section_by_index(part.index)?;
        let name = reloc::section_name(&section);
        let start = placed.address(part);
        for reloc in reloc::relocations(&section)? {
            let target = symbol_address(file, layout, placed, reloc, &name)?;
            let symbol = || reloc::symbol_name(file, reloc.symbol);
            let data = usize::try_from(start)
                .ok()
                .and_then(|from| {
                    image.get_mut(from..from.checked_add(usize::try_from(section.size()).ok()?)?)
                })
                .ok_or_else(|| malformed(&name, "relocations in a section without data"))?;
            let direct = if reloc::is_got(reloc.r_type) {
                reloc::relax_got(data, reloc)
            } else {
                Some(reloc)
            };
            let (Some(reloc), Some(width)) = (direct, direct.and_then(|r| r.width())) else {
                let (offset, r_type) = (reloc.offset, reloc.r_type);
                return Err(ObjectError::UnsupportedRelocation {
                    section: name,
                    offset,
                    r_type,
                    symbol: symbol(),
                });
            };
            let field = usize::try_from(reloc.offset)
                .ok()
                .and_then(|at| data.get_mut(at..at.checked_add(width as usize)?))
                .ok_or_else(|| malformed(&name, "a relocation outside its data"))?;
            let at = start + reloc.offset;
            let value = target.wrapping_add_signed(reloc.addend);
            match reloc.r_type {
                elf::R_X86_64_64 => {
                    if !part.class.is_writable() {
                        return Err(ObjectError::TextRelocation {
                            section: name,
                            symbol: symbol(),
                        });
                    }
                    relative.push((at, value));
                }
                elf::R_X86_64_PC64 => field.copy_from_slice(&value.wrapping_sub(at).to_le_bytes()),
                _ => {
                    let distance = i32::try_from(value.wrapping_sub(at).cast_signed()).map_err(|_| {
                        ObjectError::OutOfReach {
                            section: name.clone(),
                            offset: reloc.offset,
                            symbol: symbol(),
                        }
                    })?;
                    field.copy_from_slice(&distance.to_le_bytes());
                }
            }
        }
    }
    Ok(relative)
}

fn symbol_address(
    file: &ElfObject<'_>,
    layout: &Layout,
    placed: &plan::Placed,
    reloc: Reloc,
    from: &str,
) -> Result<u64, ObjectError> {
    let home = reloc::home(file, reloc.symbol, from)?;
    let part = layout.find(home).ok_or_else(|| ObjectError::UnsupportedSymbol {
        symbol: reloc::symbol_name(file, reloc.symbol),
        what: "in a section that is not loaded",
    })?;
    Ok(placed
        .address(part)
        .wrapping_add(file.symbol_by_index(reloc.symbol)?.address()))
}

fn malformed(section: &str, what: &'static str) -> ObjectError {
    ObjectError::Malformed {
        section: section.to_owned(),
        what,
    }
}
