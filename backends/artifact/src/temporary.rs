//! Files and directories under temporary names, which nobody finds afterwards however the process ends.
//!
//! A value removes its file when it goes. When a signal ends the process, [`abandon`] removes all there are. What a process that was killed
//! outright left is removed by the next one that writes there ([`clear`]): the living hold a lock on theirs.

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::{NamedTempFile, TempDir};

/// What all temporary names begin with; letters and digits follow.
const PREFIX: &str = ".sdc-";
const RANDOM: usize = 6;

/// What there is at the moment, to be removed when a signal comes.
static LIVE: Mutex<BTreeMap<PathBuf, Kind>> = Mutex::new(BTreeMap::new());
/// Held while files get their names.
static NAMING: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy)]
enum Kind {
    File,
    /// With what is in it.
    Tree,
    /// Only if nothing is in it.
    Empty,
}

/// A name in the list while the value lives.
#[derive(Debug)]
struct Listed(PathBuf);

impl Listed {
    fn new(path: &Path, kind: Kind) -> Self {
        // A relative name means another file once somebody changes the directory.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        lock(&LIVE).insert(path.clone(), kind);
        Self(path)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&LIVE).remove(&self.0);
    }
}

/// A panic elsewhere leaves both in order.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that is gone with the value unless it gets a name.
#[derive(Debug)]
pub struct Temporary {
    // Fields go in this order: first the file, then its entry in the list.
    file: NamedTempFile,
    _listed: Listed,
}

impl Temporary {
    /// Creates one in a directory, with the permissions that the umask leaves of `mode`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(dir: &Path, mode: u32) -> io::Result<Self> {
        loop {
            let mut builder = tempfile::Builder::new();
            builder
                .prefix(PREFIX)
                .rand_bytes(RANDOM)
                .permissions(Permissions::from_mode(mode));
            let file = builder.tempfile_in(dir)?;
            let listed = Listed::new(file.path(), Kind::File);
            // File systems without locks keep what killed processes leave.
            let _ = flock(file.as_file(), FlockOperation::LockExclusive);
            // Somebody may have taken it for abandoned before it was locked.
            if file.as_file().metadata()?.nlink() > 0 {
                return Ok(Self {
                    file,
                    _listed: listed,
                });
            }
        }
    }

    /// Its present name.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Gives it a name, in place of what had it before.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn persist(self, path: &Path) -> io::Result<()> {
        self.file.persist(path).map_err(|e| e.error)?;
        Ok(())
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A directory that is gone with the value, and all that is in it.
#[derive(Debug)]
pub struct TemporaryDir {
    dir: TempDir,
    _lock: Option<File>,
    _listed: Listed,
}

impl TemporaryDir {
    /// Creates one where the system keeps such.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create() -> io::Result<Self> {
        clear(&std::env::temp_dir());
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .rand_bytes(RANDOM)
            .tempdir()?;
        let listed = Listed::new(dir.path(), Kind::Tree);
        Ok(Self {
            _lock: locked(dir.path()),
            dir,
            _listed: listed,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// A directory for results, which goes again if it is empty when the value goes.
#[derive(Debug)]
pub struct Created {
    _listed: Listed,
}

impl Created {
    /// Creates a directory and those above it; none if it is there already.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(dir: &Path) -> io::Result<Option<Self>> {
        if dir.is_dir() {
            return Ok(None);
        }
        fs::create_dir_all(dir)?;
        Ok(Some(Self {
            _listed: Listed::new(dir, Kind::Empty),
        }))
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        // Fails, as it should, where something is in it.
        let _ = fs::remove_dir(&self._listed.0);
    }
}

/// A file or directory, opened and locked; none if somebody else has the lock.
fn locked(path: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty()).ok()?);
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

/// Removes what killed processes left in a directory.
pub fn clear(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !is_ours(&entry.file_name()) {
            continue;
        }
        let (path, kind) = (entry.path(), entry.file_type());
        let Some(_lock) = locked(&path) else {
            continue;
        };
        // What cannot be removed stays, as it did before.
        let _ = match kind {
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
            Ok(kind) if kind.is_file() => fs::remove_file(&path),
            _ => Ok(()),
        };
    }
}

fn is_ours(name: &OsStr) -> bool {
    let random = name.to_str().and_then(|n| n.strip_prefix(PREFIX));
    random.is_some_and(|r| r.len() == RANDOM && r.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// While it lives, files of a directory get their names: no other process names any there, and no signal comes between.
#[derive(Debug)]
pub struct Naming {
    _here: MutexGuard<'static, ()>,
    _there: Option<File>,
}

/// Waits until nobody else names files in the directory.
pub fn naming(dir: &Path) -> Naming {
    // A temporary directory is locked for as long as it is, and nobody else writes there.
    let own = lock(&LIVE)
        .iter()
        .any(|(path, kind)| matches!(kind, Kind::Tree) && path == dir);
    let there = if own { None } else { File::open(dir).ok() };
    if let Some(there) = &there {
        // Where there are no locks, writers must not meet.
        let _ = flock(there, FlockOperation::LockExclusive);
    }
    Naming {
        _here: lock(&NAMING),
        _there: there,
    }
}

/// Removes all temporary files and directories of the process, once no files are being named. For a process that ends at once: whoever
/// creates or names files afterwards waits for ever.
pub fn abandon() {
    let naming = lock(&NAMING);
    let live = lock(&LIVE);
    // What lies in a directory comes after it.
    for (path, kind) in live.iter().rev() {
        let _ = match kind {
            Kind::File => fs::remove_file(path),
            Kind::Tree => fs::remove_dir_all(path),
            Kind::Empty => fs::remove_dir(path),
        };
    }
    std::mem::forget((naming, live));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_what_is_abandoned_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let living = Temporary::create(dir.path(), 0o600).unwrap();
        for name in [".sdc-abc123", ".sdc-notes", "sdc-abc123", ".sdc-abc1234"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join(".sdc-dir123")).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join(".sdc-link12")).unwrap();
        clear(dir.path());
        let mut left = names(dir.path());
        left.retain(|n| *n != living.path().file_name().unwrap().to_string_lossy());
        assert_eq!(left, [".sdc-abc1234", ".sdc-link12", ".sdc-notes", "sdc-abc123"]);
        assert!(living.path().exists());
        drop(living);
        clear(dir.path());
        assert_eq!(names(dir.path()).len(), 4);
    }

    #[test]
    fn files_of_a_temporary_directory_get_names() {
        let dir = TemporaryDir::create().unwrap();
        let naming = naming(dir.path());
        assert!(naming._there.is_none());
    }

    #[test]
    fn a_directory_stays_if_something_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        drop(Created::new(&path).unwrap());
        assert!(!path.exists());
        let created = Created::new(&path).unwrap();
        assert!(created.is_some() && Created::new(&path).unwrap().is_none());
        Temporary::create(&path, 0o600)
            .unwrap()
            .persist(&path.join("x"))
            .unwrap();
        drop(created);
        assert!(path.join("x").exists());
    }
}
