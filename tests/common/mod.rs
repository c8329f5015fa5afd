//! What the tests of the binary share: running it, and tiny models.
#![allow(dead_code, reason = "no test file uses everything")]
#![allow(clippy::print_stderr, reason = "what is skipped is said")]

pub mod onnx;
pub mod stored;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A command of the binary under test.
pub fn sdc() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sdc"))
}

/// What a run came to.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("results are UTF-8"),
            err: String::from_utf8(output.stderr).expect("messages are UTF-8"),
        }
    }
}

/// Runs the binary.
pub fn run<I: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = I>) -> Ran {
    sdc().args(args).output().unwrap().into()
}

/// Runs the binary; panics unless it succeeds, and silently.
pub fn ok<I: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = I>) -> String {
    let ran = run(args);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.err, "");
    ran.out
}

/// Runs the binary; panics unless it fails with this code. What it says.
pub fn fails<I: AsRef<std::ffi::OsStr>>(code: i32, args: impl IntoIterator<Item = I>) -> String {
    let ran = run(args);
    assert_eq!(ran.code, Some(code), "{ran:?}");
    ran.err
}

/// A file of the committed example.
pub fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/shapes")
        .join(name);
    assert!(path.exists(), "{}", path.display());
    path.to_str().unwrap().to_owned()
}

/// A directory for one test, gone afterwards.
pub struct Dir(tempfile::TempDir);

impl Dir {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    /// The path of a file in it, which need not exist.
    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
    /// Writes a file in it.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// Files of a directory with their contents, by name.
pub fn files(dir: impl AsRef<Path>) -> Vec<(String, Vec<u8>)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let named = |p: PathBuf| {
        (
            p.file_name().unwrap().to_str().unwrap().to_owned(),
            fs::read(&p).unwrap(),
        )
    };
    paths.into_iter().map(named).collect()
}

/// A `.npy` file of little-endian elements.
pub fn npy(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let dims: String = shape.iter().map(|d| format!("{d},")).collect();
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims})}}\n");
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.bytes());
    out.extend(data);
    out
}

/// A `.npy` file of f32.
pub fn npy_f32(shape: &[usize], data: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    npy("<f4", shape, &bytes)
}

/// Says on the test's output that something could not be tested here.
pub fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

/// Whether a program is there.
pub fn has(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|o| o.status.success())
}
