//! Reading and writing whole files; a file that is written is there completely or not at all.

use crate::error::{Error, Result};
use bytes::Bytes;
use std::fs::{self, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::NamedTempFile;

/// A whole file, mapped.
///
/// # Errors
/// Those of opening and mapping it.
pub fn map(path: &Path) -> Result<Bytes> {
    sdc_artifact::load::map_file(path).map_err(|e| Error::io(path, e))
}

/// A whole text file.
///
/// # Errors
/// As for [`map`]; text that is not UTF-8.
pub fn text(path: &Path) -> Result<String> {
    let bytes = map(path)?;
    String::from_utf8(bytes.into())
        .map_err(|e| Error::malformed(format!("{}: not UTF-8: {e}", path.display())))
}

/// Writes a file under a temporary name beside it, then renames it.
///
/// # Errors
/// Those of writing, of `fill` too; nothing is left behind then.
pub fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let attempt = || -> io::Result<()> {
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        // As any program would create it: the umask decides.
        let mut builder = tempfile::Builder::new();
        builder.prefix(".sdc-").permissions(Permissions::from_mode(0o666));
        let mut out: BufWriter<NamedTempFile> = BufWriter::new(builder.tempfile_in(dir)?);
        fill(&mut out)?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.persist(path)?;
        Ok(())
    };
    attempt().map_err(|e| Error::io(path, e))
}

/// Creates a directory and those above it.
///
/// # Errors
/// Those of the file system.
pub fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| Error::io(path, e))
}

/// A temporary directory that goes away with the value.
pub(crate) fn temp_dir() -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("sdc-")
        .tempdir()
        .map_err(|e| Error::usage(format!("cannot create a temporary directory: {e}")))
}
