//! Programs of the accelerator from files: containers, texts, and artifacts.

use crate::accel::AccelProgram;
use crate::{Error, Result, files};
use sdc_accel_isa::{Program, text};
use std::path::Path;

/// Bytes of a program's text.
const MAX_TEXT: usize = 1 << 30;

/// Reads a program: a container, a text, or that of an artifact's directory. It is not verified.
///
/// # Errors
/// Files that cannot be read, and all faults of the program's form.
pub fn read_program(path: &Path) -> Result<Program> {
    if path.is_dir() {
        return AccelProgram::read(path);
    }
    let bytes = files::map(path)?;
    if path.extension().is_some_and(|e| e == "sdas") {
        return parse_program(path);
    }
    Ok(Program::from_container(&bytes)?)
}

/// Reads a program's text.
///
/// # Errors
/// Files that cannot be read, and all faults of the text.
pub fn parse_program(path: &Path) -> Result<Program> {
    let bytes = files::map(path)?;
    if bytes.len() > MAX_TEXT {
        return Err(Error::limit(format!(
            "{}: more than {MAX_TEXT} bytes",
            path.display()
        )));
    }
    let read = std::str::from_utf8(&bytes);
    let read = read.map_err(|e| Error::malformed(format!("{}: not a text: {e}", path.display())))?;
    Ok(text::parse(read)?)
}
