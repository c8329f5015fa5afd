//! Recorded inputs and outputs, in ONNX's test format: `test_data_set_N/{input,output}_K.pb`.

use crate::error::{Error, Result};
use crate::files;
use crate::npy;
use sdc_ir::Tensor;
use std::path::{Path, PathBuf};

/// A directory of recorded tensors.
#[derive(Debug)]
pub struct DataSet {
    dir: PathBuf,
    inputs: usize,
    outputs: usize,
}

impl DataSet {
    /// The data sets in a directory, in the order of their numbers; or the directory itself if it holds tensors.
    ///
    /// # Errors
    /// A directory that cannot be read, or holds neither.
    pub fn all(dir: &Path) -> Result<Vec<Self>> {
        let read = |e: std::io::Error| Error::io(dir, e);
        let mut numbered = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(read)? {
            let path = entry.map_err(read)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if let Some(number) = name.strip_prefix("test_data_set_").filter(|_| path.is_dir()) {
                numbered.push((
                    number.parse::<u64>().unwrap_or(u64::MAX),
                    number.to_owned(),
                    path.clone(),
                ));
            }
        }
        numbered.sort();
        let mut dirs: Vec<PathBuf> = numbered.into_iter().map(|(.., path)| path).collect();
        if dirs.is_empty() && file(dir, "output", 0).is_file() {
            dirs.push(dir.to_owned());
        }
        if dirs.is_empty() {
            let failure = Error::usage(format!("{}: no test data", dir.display()));
            return Err(failure.help("expected test_data_set_N/input_K.pb and test_data_set_N/output_K.pb"));
        }
        Ok(dirs.into_iter().map(Self::new).collect())
    }

    fn new(dir: PathBuf) -> Self {
        let count = |kind: &str| (0..).take_while(|&k| file(&dir, kind, k).is_file()).count();
        Self {
            inputs: count("input"),
            outputs: count("output"),
            dir,
        }
    }

    /// Name of its directory.
    pub fn name(&self) -> String {
        self.dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Its inputs, in order.
    ///
    /// # Errors
    /// As for [`read_tensor`].
    pub fn inputs(&self) -> Result<Vec<Tensor>> {
        (0..self.inputs)
            .map(|k| read_tensor(&file(&self.dir, "input", k)))
            .collect()
    }

    /// Its outputs, in order.
    ///
    /// # Errors
    /// As for [`read_tensor`].
    pub fn outputs(&self) -> Result<Vec<Tensor>> {
        (0..self.outputs)
            .map(|k| read_tensor(&file(&self.dir, "output", k)))
            .collect()
    }
}

fn file(dir: &Path, kind: &str, k: usize) -> PathBuf {
    dir.join(format!("{kind}_{k}.pb"))
}

/// A tensor from a file: ONNX's protobuf form if the name ends in `.pb`, else NumPy's.
///
/// # Errors
/// Files that cannot be read or are malformed.
pub fn read_tensor(path: &Path) -> Result<Tensor> {
    if path.extension().is_none_or(|e| e != "pb") {
        return npy::read(path);
    }
    let (_, tensor) = sdc_frontend::read_tensor_pb(files::map(path)?)
        .map_err(|e| Error::usage(format!("{}: {e}", path.display())))?;
    Ok(tensor)
}
