//! Files opened once and safely: what is checked is the open file, and only regular files are opened, so that nothing waits for a pipe's
//! other end and no device is touched beyond that.

use rustix::fs::{CWD, Mode, OFlags, openat};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

/// Opens a regular file to read it.
///
/// # Errors
/// Those of opening it; `InvalidInput` for anything but a regular file.
pub fn regular(path: &Path) -> io::Result<File> {
    checked(openat(CWD, path, FILE, Mode::empty())?)
}

// Opening a pipe would wait for a writer, a terminal could become this process's own.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn checked(file: OwnedFd) -> io::Result<File> {
    let file = File::from(file);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// An open directory. Files in it are found whatever becomes of its name, and none outside it: symbolic links are not followed.
#[derive(Debug)]
pub struct Folder(OwnedFd);

impl Folder {
    /// Opens a directory; an empty path is the current one.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        Ok(Self(openat(CWD, path, FOLDER, Mode::empty())?))
    }

    /// Opens a regular file in it, or in directories below it.
    ///
    /// # Errors
    /// Those of opening; `InvalidInput` for symbolic links, for paths that lead out, and for anything but a regular file.
    pub fn regular(&self, path: &Path) -> io::Result<File> {
        let mut above: Option<OwnedFd> = None;
        let components = path.components().filter(|c| *c != Component::CurDir);
        let mut components = components.peekable();
        while let Some(component) = components.next() {
            let Component::Normal(name) = component else {
                break;
            };
            let folder = above.as_ref().map_or(self.0.as_fd(), AsFd::as_fd);
            let flags = if components.peek().is_some() { FOLDER } else { FILE };
            let opened = openat(folder, name, flags | OFlags::NOFOLLOW, Mode::empty());
            let opened = opened.map_err(|error| match error {
                rustix::io::Errno::LOOP => invalid("a symbolic link, which is not followed"),
                // What a directory is expected of, a link to one is not.
                rustix::io::Errno::NOTDIR => invalid("not a directory, or a symbolic link to one"),
                error => error.into(),
            })?;
            if components.peek().is_none() {
                return checked(opened);
            }
            above = Some(opened);
        }
        Err(invalid("not a path within the folder"))
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
