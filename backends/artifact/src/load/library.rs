//! The shared library: its functions, called with pointers that have been checked.
#![allow(unsafe_code, reason = "the functions are found by name in a file")]

use super::transient::Guide;
use super::{LoadError, Loaded, Memory};
use crate::interface::Interface;
use crate::pool::ParallelFor;
use std::ffi::{c_int, c_void};
use std::fs::File;

type Prepare = unsafe extern "C" fn(*const c_void, *mut c_void) -> c_int;
type Run = unsafe extern "C" fn(
    *const *const c_void,
    *const *mut c_void,
    *mut c_void,
    *const c_void,
    *const c_void,
    *const ParallelFor,
) -> c_int;
type Size = unsafe extern "C" fn() -> usize;

/// A loaded shared library. The fields drop in this order.
#[derive(Debug)]
pub(super) struct Library {
    prepare: Prepare,
    run: Run,
    /// The embedded weights image, if the interface says that there is one.
    weights: Option<*const c_void>,
    /// Keeps the code and `weights` in memory.
    _library: libloading::Library,
    /// Keeps the number in the library's name (see [`Library::open`]) from being used for another file.
    _file: File,
}

// SAFETY: the only field that is not Send and Sync by itself is `weights`, which points to constants.
unsafe impl Send for Library {}
// SAFETY: as above; the functions keep no state of their own (no writable data: checked when the object was made).
unsafe impl Sync for Library {}

impl Library {
    /// Loads the already checked `file`, a sealed one in memory, and looks up the model's functions.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    pub fn open(file: File, interface: &Interface) -> Result<Self, LoadError> {
        use libloading::os::unix;
        use std::os::fd::AsRawFd;

        // The file in memory has no other name.
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        // SAFETY: the library has no initialisers and no imports; its digest is that of the manifest, and it is sealed.
        let library = unsafe { unix::Library::open(Some(&name), unix::RTLD_NOW | unix::RTLD_LOCAL) };
        let library = libloading::Library::from(library.map_err(LoadError::Library)?);
        let symbol = |what: &str| format!("{}_{what}", interface.name);
        // SAFETY: the types are those of the ABI that every artifact of this manifest format has.
        let (prepare, run) = unsafe {
            let prepare = library
                .get::<Prepare>(&*symbol("prepare"))
                .map_err(LoadError::Library)?;
            let run = library.get::<Run>(&*symbol("run")).map_err(LoadError::Library)?;
            (*prepare, *run)
        };
        let sizes = [
            ("arena_size", interface.arena_size),
            ("weights_size", interface.weights_size),
            ("prepared_size", interface.prepared_size),
        ];
        for (what, expected) in sizes {
            // SAFETY: as above; these functions return a constant.
            let actual = unsafe { library.get::<Size>(&*symbol(what)).map_err(LoadError::Library)?() };
            if actual != expected {
                return Err(LoadError::Disagreement {
                    what,
                    expected,
                    actual,
                });
            }
        }
        let weights = if interface.weights_embedded {
            // SAFETY: only the address is taken.
            let address = unsafe {
                library
                    .get::<*const c_void>(&*symbol("weights"))
                    .map_err(LoadError::Library)?
            };
            Some(*address)
        } else {
            None
        };
        Ok(Self {
            prepare,
            run,
            weights,
            _library: library,
            _file: file,
        })
    }

    /// Refuses: the code is for another kind of host.
    #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
    pub fn open(_file: File, _interface: &Interface) -> Result<Self, LoadError> {
        Err(LoadError::Host)
    }
}

impl Loaded {
    fn weights(&self) -> *const c_void {
        let mapped = || {
            self.weights
                .as_ref()
                .map_or(std::ptr::null(), |map| map.as_ptr().cast())
        };
        self.library.weights.unwrap_or_else(mapped)
    }

    /// Calls `NAME_prepare`.
    pub(super) fn prepare(&mut self) -> Result<(), LoadError> {
        let weights = self.weights();
        // SAFETY: the weights image has the size the code expects, as its header and the manifest say; the prepared memory
        // has the size the library itself gave, and is aligned to a page.
        let code = unsafe { (self.library.prepare)(weights, self.prepared.as_mut_ptr().cast()) };
        if code == 0 {
            Ok(())
        } else {
            Err(LoadError::Failed {
                function: "prepare",
                code,
            })
        }
    }

    /// Calls `NAME_run` on tensors whose sizes the caller has checked against the interface.
    pub(super) fn run(
        &self,
        inputs: &[*const c_void],
        outputs: &[*mut c_void],
        arena: &mut Memory,
        parallel_for: *const ParallelFor,
    ) -> Result<(), LoadError> {
        let guide = match &self.weights {
            Some(weights) if !self.transient.is_empty() => {
                Some(Guide::new(weights, &self.transient, parallel_for))
            }
            _ => None,
        };
        let parallel_for = guide.as_ref().map_or(parallel_for, Guide::parallel_for);
        // SAFETY: sizes and alignments of all arrays have been checked; the arena has (more than) the size the library
        // gave and is borrowed exclusively; weights and prepared memory live as long as `self`.
        let code = unsafe {
            (self.library.run)(
                inputs.as_ptr(),
                outputs.as_ptr(),
                arena.as_mut_ptr().cast(),
                self.weights(),
                self.prepared.as_ptr().cast(),
                parallel_for,
            )
        };
        guide.iter().for_each(Guide::finish);
        if code == 0 {
            Ok(())
        } else {
            Err(LoadError::Failed {
                function: "run",
                code,
            })
        }
    }
}
