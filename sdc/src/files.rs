//! Reading and writing whole files; a file that is written is there completely or not at all.

use crate::error::{Error, Result};
use bytes::Bytes;
use sdc_artifact::temporary::{self, Temporary, TemporaryDir};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Bytes of a text: of an IR, of names. Weights are never in one.
const MAX_TEXT: usize = 256 << 20;

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
/// As for [`map`]; text that is not UTF-8, or of more than 256 MiB.
pub fn text(path: &Path) -> Result<String> {
    let bytes = map(path)?;
    if bytes.len() > MAX_TEXT {
        let text = format!("{}: a text of more than {MAX_TEXT} bytes", path.display());
        return Err(Error::limit(text));
    }
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
        temporary::clear(dir);
        // As any program would create it: the umask decides.
        let mut out = BufWriter::new(Temporary::create(dir, 0o666)?);
        fill(&mut out)?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        let _naming = temporary::naming(dir);
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
pub(crate) fn temp_dir() -> Result<TemporaryDir> {
    TemporaryDir::create().map_err(|e| Error::usage(format!("cannot create a temporary directory: {e}")))
}

/// Removes the temporary files of this process, for one that is about to be ended by a signal; see [`sdc_artifact::temporary`].
pub use sdc_artifact::temporary::abandon;
