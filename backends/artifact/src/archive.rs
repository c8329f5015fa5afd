//! Static libraries: one object in a GNU `ar` archive with symbol index.

use crate::ObjectError;
use ar_archive_writer::{ArchiveKind, DEFAULT_OBJECT_READER, NewArchiveMember, write_archive_to_stream};
use std::io::Cursor;

/// Archives `object` as the only member, called `member` (such as `NAME.o`). Deterministic: times, owner and group are 0.
///
/// # Errors
/// [`ObjectError::Archive`] when the object's symbols cannot be read for the index.
pub fn archive(member: &str, object: &[u8]) -> Result<Vec<u8>, ObjectError> {
    let members = [NewArchiveMember::new(
        object,
        &DEFAULT_OBJECT_READER,
        member.to_owned(),
    )];
    let mut out = Cursor::new(Vec::with_capacity(object.len() + 4096));
    write_archive_to_stream(&mut out, &members, ArchiveKind::Gnu, false, None)
        .map_err(ObjectError::Archive)?;
    Ok(out.into_inner())
}
