//! Programs of the accelerator: from files, and on the simulator.

use crate::{Error, Kind, Problem, Result, files};
use sdc_accel_isa::{Class, Faults, Program, text};
use sdc_accel_sim::SimError;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Ending of a program's container.
pub const CONTAINER: &str = "sdap";
/// Bytes of a text: a container's contents are about twice as long as text.
const MAX_TEXT: usize = 1 << 30;

/// Reads a program: a container, a text, or the one container in a directory.
///
/// # Errors
/// Files that cannot be read, and all faults of the program's form. It is not verified.
pub fn read(path: &Path) -> Result<Program> {
    let file = if path.is_dir() {
        container_in(path)?
    } else {
        path.to_owned()
    };
    let bytes = files::map(&file)?;
    if bytes.starts_with(b"SDAP") || file.extension() == Some(OsStr::new(CONTAINER)) {
        return Ok(Program::from_container(&bytes)?);
    }
    parse(&file)
}

/// Reads a program's text.
///
/// # Errors
/// Files that cannot be read, and all faults of the text.
pub fn parse(path: &Path) -> Result<Program> {
    let bytes = files::map(path)?;
    if bytes.len() > MAX_TEXT {
        return Err(Error::limit(format!(
            "{}: more than {MAX_TEXT} bytes",
            path.display()
        )));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|e| Error::malformed(format!("{}: not a text: {e}", path.display())))?;
    Ok(text::parse(text)?)
}

/// True if a directory holds a program.
pub fn is_artifact(path: &Path) -> bool {
    path.is_dir() && container_in(path).is_ok()
}

fn container_in(dir: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension() == Some(OsStr::new(CONTAINER)))
        .collect();
    found.sort();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::usage(format!(
            "{} holds no .{CONTAINER} file",
            dir.display()
        ))),
        many => Err(Error::usage(format!(
            "{} holds {} .{CONTAINER} files; name one of them",
            dir.display(),
            many.len()
        ))),
    }
}

impl From<SimError> for Error {
    fn from(error: SimError) -> Self {
        match error {
            SimError::Faults(faults) => faults.into(),
            SimError::Input(_) | SimError::Inputs { .. } => Self::usage(error),
            SimError::Host { .. } => Self::malformed(error),
        }
    }
}

pub(crate) fn kind(faults: &Faults) -> Kind {
    match faults.class() {
        Class::Malformed => Kind::Malformed,
        Class::Unsupported => Kind::Unsupported,
        Class::Limit => Kind::Limit,
    }
}

/// A problem for each fault.
pub(crate) fn problems(faults: &Faults) -> Vec<Problem> {
    let list = faults.list().iter().map(|fault| Problem {
        code: Some(fault.code.to_string()),
        ..Problem::plain(fault)
    });
    let more = (faults.more() > 0).then(|| Problem::plain(format!("and {} more faults", faults.more())));
    list.chain(more).collect()
}
