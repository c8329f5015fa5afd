//! Reading and writing whole files; a file that is written is there completely or not at all.

use crate::error::{Error, Result};
use bytes::Bytes;
use sdc_artifact::temporary::{self, Created, Temporary, TemporaryDir};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

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
    let mut batch = Batch::default();
    batch.add(path, fill)?;
    batch.commit()
}

/// Files that belong together: none has its name before all are written.
#[derive(Debug, Default)]
pub struct Batch {
    // Files go before the directories that were made for them.
    files: Vec<(PathBuf, Temporary)>,
    dirs: Vec<Created>,
}

impl Batch {
    /// Writes a file under a temporary name beside its own.
    ///
    /// # Errors
    /// Those of writing, of `fill` too.
    pub fn add(&mut self, path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let attempt = || -> io::Result<Temporary> {
            if path.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let dir = directory(path);
            temporary::clear(dir);
            // As any program would create it: the umask decides.
            let mut out = BufWriter::new(Temporary::create(dir, 0o666)?);
            fill(&mut out)?;
            out.into_inner().map_err(io::IntoInnerError::into_error)
        };
        let file = attempt().map_err(|e| Error::io(path, e))?;
        self.files.push((path.to_owned(), file));
        Ok(())
    }

    /// Creates a directory, and those above it, which goes again unless the files come to be.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create_dir(&mut self, path: &Path) -> Result<()> {
        self.dirs
            .extend(Created::new(path).map_err(|e| Error::io(path, e))?);
        Ok(())
    }

    /// Gives all files their names.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn commit(self) -> Result<()> {
        for (path, file) in self.files {
            let _naming = temporary::naming(directory(&path));
            file.persist(&path).map_err(|e| Error::io(&path, e))?;
        }
        Ok(())
    }
}

/// The directory that a file is in.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
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
