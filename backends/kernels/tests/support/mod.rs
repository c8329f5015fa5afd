//! Loads an embedded object into this process: the very bytes that artifacts link, through the C compiler that cargo
//! links with anyway.
#![allow(unsafe_code, reason = "dlopen and calls of kernels")]
#![allow(dead_code, reason = "each user needs a part")]
#![allow(clippy::unwrap_used, reason = "test support")]

pub mod body;
pub mod case;
pub mod clock;
pub mod memory;
pub mod rows;

use std::ffi::{CString, c_char, c_int, c_void};
use std::process::Command;

use proptest::prelude::ProptestConfig;
use sdc_kernels::Instance;

pub type KernelFn = unsafe extern "C" fn(*const *mut u8, *const i64, i64, i64);
pub type PrepareFn = unsafe extern "C" fn(*const u8, *const u8, u64) -> i32;

unsafe extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// So many random cases; three under Miri, which takes minutes for them:
/// `MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test -p sdc-kernels --test kernels`. How to have AddressSanitizer watch the linked
/// instance is in `.ci/run`.
pub fn cases(cases: u32) -> ProptestConfig {
    match cfg!(miri) {
        true => ProptestConfig {
            cases: 3,
            failure_persistence: None,
            ..ProptestConfig::default()
        },
        false => ProptestConfig::with_cases(cases),
    }
}

/// A loaded instance; never unloaded.
pub struct Loaded {
    pub instance: Instance,
    handle: *mut c_void,
}

impl Loaded {
    pub fn new(instance: Instance) -> Loaded {
        let dir = tempfile::tempdir().unwrap();
        let (object, library) = (dir.path().join("k.o"), dir.path().join("k.so"));
        std::fs::write(&object, instance.object).unwrap();
        let status = Command::new("cc")
            .arg("-shared")
            .arg("-o")
            .args([&library, &object])
            .status();
        assert!(status.expect("the linker that built this test").success());
        let name = CString::new(library.to_str().unwrap()).unwrap();
        // SAFETY: a valid name; the library has no initialisers. 2 is RTLD_NOW.
        let handle = unsafe { dlopen(name.as_ptr(), 2) };
        assert!(!handle.is_null());
        Loaded { instance, handle }
    }

    /// All instances that this machine can run; none under Miri, which interprets the linked one alone.
    pub fn all() -> Vec<Loaded> {
        sdc_kernels::instances()
            .iter()
            .filter(|i| !cfg!(miri) && i.runs_here())
            .map(|&i| Loaded::new(i))
            .collect()
    }

    fn address(&self, symbol: &str) -> *mut c_void {
        let name = CString::new(symbol).unwrap();
        // SAFETY: a valid handle and name.
        let address = unsafe { dlsym(self.handle, name.as_ptr()) };
        assert!(!address.is_null(), "{name:?}");
        address
    }

    pub fn kernel(&self, kernel: &str) -> KernelFn {
        self.symbol(&self.instance.symbol(kernel).unwrap())
    }

    /// The kernel of this name in the object: a variant, perhaps.
    pub fn symbol(&self, symbol: &str) -> KernelFn {
        // SAFETY: every kernel has this type.
        unsafe { std::mem::transmute::<*mut c_void, KernelFn>(self.address(symbol)) }
    }

    pub fn prepare(&self) -> PrepareFn {
        // SAFETY: this one has that type.
        unsafe {
            std::mem::transmute::<*mut c_void, PrepareFn>(
                self.address(&self.instance.symbol("prepare").unwrap()),
            )
        }
    }
}

/// Packs `[K][n]` weights (element `(k, c)` given by `at`) into blocks of `nr` columns, the last one rounded up to
/// whole vectors and padded with zeros.
pub fn pack(k: usize, n: usize, nr: usize, lanes: usize, at: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let mut out = Vec::new();
    for first in (0..n).step_by(nr) {
        let width = (n - first).min(nr).next_multiple_of(lanes);
        for row in 0..k {
            out.extend((first..first + width).map(|c| if c < n { at(row, c) } else { 0.0 }));
        }
    }
    out
}
