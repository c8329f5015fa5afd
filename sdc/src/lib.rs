//! The compiler as a library: what the command line, the tests and other programs stand on.
//!
//! A [`Model`] is read from a file or from memory, its symbolic dimensions fixed by [`ModelOptions`]. [`compile`] makes of it an
//! [`Artifact`], the files that are shipped, as [`Options`] say; loaded, it is a [`Program`] that [`run`] runs. Between model and artifact
//! weights can be compressed ([`compress`]) and arithmetic be turned into integers ([`to_integers`]). [`check`], [`eval`] and
//! [`inspect`](mod@inspect) say what a model is worth.
//!
//! Everything fails with an [`Error`], whose [`Kind`] says whose fault it is and whose [`Problem`]s say all that is wrong. Nothing here
//! prints or ends the process; an [`Observer`] hears how far long work is, and can stop it.
//!
//! ```
//! use sdc::{Model, ModelOptions, Options, Target, Tensor};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/shapes/shapes.onnx");
//! let model = Model::read(path.as_ref(), &ModelOptions::default())?;
//! let options = Options::new(Target::new("native", true)?);
//! let dir = tempfile::tempdir()?;
//! let artifact = sdc::compile(model, &options, dir.path())?;
//! let program = artifact.load()?;
//! // One grey image of 24 times 24 pixels: `f32[1,1,24,24]`, every element between 0 and 1.
//! let image = Tensor::from_elements(vec![1, 1, 24, 24], vec![0.5f32; 576])?;
//! let scores = sdc::run(&program, &[image])?;
//! assert_eq!(scores[0].shape(), program.interface().outputs[0].shape);
//! # Ok(())
//! # }
//! ```
//!
//! [`compile_accel`] makes a program for the accelerator instead, an [`AccelProgram`] runs it on the simulator, and [`Loaded`] is either.
//!
//! Deliberately absent: flags, tables, progress bars, exit codes. Those are the command line's.
#![deny(missing_docs)]

mod accel;
mod artifact;
mod calibration;
pub mod check;
mod compile;
pub mod compress;
mod dataset;
mod declared;
mod error;
pub mod eval;
pub mod files;
mod images;
pub mod inspect;
mod integer;
mod machine;
mod model;
pub mod npy;
mod observe;
mod program;
mod source;
pub mod stages;
mod target;

pub use accel::{AccelArtifact, AccelFile, AccelOptions, AccelProgram, Loaded, compile_accel, integer_graph};
pub use artifact::{Directory, Program, input_bytes, interpret, run, type_text};
pub use calibration::Calibration;
pub use compile::{Artifact, Function, Options, compile, compile_watched};
pub use dataset::{DataSet, read_tensor};
pub use declared::{Declared, Extent};
pub use error::{Error, Kind, Nodes, Problem, Result};
pub use images::{Images, Layout, Preprocessing};
pub use integer::{IntegerReport, Left, computes_in_integers, to_integers};
pub use model::{Folder, Model, ModelFile, ModelOptions};
pub use observe::Observer;
pub use program::{parse_program, read_program};
pub use sdc_artifact::load::{LoadOptions, Verified, verify};
pub use sdc_frontend::Limits;
pub use sdc_ir::Tensor;
pub use source::Source;
pub use target::{Backend, DEFAULT_CPU, Target};
