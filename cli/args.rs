//! Options that several commands share, and what they say in the library's terms.

use crate::exit::Failure;
use crate::units::parse_size;
use clap::{Args, ValueEnum};
use sdc::{
    Backend, Layout, Limits, LoadOptions, Model, ModelOptions, Options, Preprocessing, Source, Target,
    read_tensor,
};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A model and the values of its symbolic dimensions.
#[derive(Args, Debug, Clone)]
pub struct ModelArgs {
    /// ONNX model (or a graph in text form, .sdir)
    #[arg(value_name = "MODEL.onnx")]
    pub model: PathBuf,
    #[command(flatten)]
    pub dims: DimArgs,
}

#[derive(Args, Debug, Clone, Default)]
pub struct DimArgs {
    /// Fix a symbolic dimension, such as `--dim batch=1`; may be repeated
    #[arg(long = "dim", value_name = "NAME=N", value_parser = parse_dim)]
    dims: Vec<(String, usize)>,
    /// Fix an input to the tensor of a .npy or .pb file, as shapes may depend on it; it is no input any more. May be repeated
    #[arg(long = "fix", value_name = "INPUT=FILE", value_parser = parse_fix)]
    fixed: Vec<(String, PathBuf)>,
    /// Let the model ask for more, or less, than usual: elements, rank, nodes, inlined, trips, folded-elements or folded-bytes
    /// (docs/limits.md); may be repeated
    #[arg(long = "limit", value_name = "NAME=N", value_parser = parse_limit)]
    limits: Vec<(String, usize)>,
}

impl ModelArgs {
    /// Reads and imports the model.
    pub fn import(&self) -> Result<Model, Failure> {
        Ok(Model::read(&self.model, &self.dims.options()?)?)
    }
}

impl DimArgs {
    /// The same, with the tensors read.
    pub fn options(&self) -> Result<ModelOptions, Failure> {
        let mut dims = BTreeMap::new();
        for (name, value) in &self.dims {
            if dims
                .insert(name.clone(), *value)
                .is_some_and(|before| before != *value)
            {
                return Err(Failure::usage(format!("--dim gives `{name}` two values")));
            }
        }
        let read = |(name, path): &(String, PathBuf)| Ok((name.clone(), read_tensor(path)?));
        let fixed = self.fixed.iter().map(read).collect::<Result<_, Failure>>()?;
        let mut limits = Limits::default();
        for (name, value) in &self.limits {
            let mut named = limits.named().into_iter();
            if let Some((_, limit)) = named.find(|(n, _)| n == name) {
                *limit = *value;
            }
        }
        Ok(ModelOptions { dims, fixed, limits })
    }
    /// True if none was given.
    pub fn is_empty(&self) -> bool {
        self.dims.is_empty() && self.fixed.is_empty() && self.limits.is_empty()
    }
}

fn parse_dim(text: &str) -> Result<(String, usize), String> {
    // The last `=`, for names may hold one.
    let (name, value) = text.rsplit_once('=').ok_or("expected NAME=N")?;
    let value = value.parse().map_err(|_| format!("`{value}` is not a size"))?;
    Ok((name.to_owned(), value))
}

fn parse_limit(text: &str) -> Result<(String, usize), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=N")?;
    let mut limits = Limits::default();
    let names = limits.named().map(|(name, _)| name);
    if !names.contains(&name) {
        return Err(format!("the limits are {}", names.join(", ")));
    }
    Ok((name.to_owned(), parse_size(value)?))
}

fn parse_fix(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("expected INPUT=FILE")?;
    Ok((name.to_owned(), file.into()))
}

/// What a model is compiled to, and by whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum AnyBackend {
    /// native code; no system package needed
    Cranelift,
    /// native code, in an sdc built with the cargo feature `llvm`
    Llvm,
    /// a program for the SmartDeal accelerator, in integers
    Accel,
}

impl AnyBackend {
    /// The generator of native code; none for the accelerator.
    pub fn native(self) -> Option<Backend> {
        match self {
            Self::Cranelift => Some(Backend::Cranelift),
            Self::Llvm => Some(Backend::Llvm),
            Self::Accel => None,
        }
    }
}

/// Who compiles a model that runs here.
#[derive(Args, Debug, Clone, Copy)]
pub struct BackendArgs {
    /// Code generator
    #[arg(long, value_enum, default_value = "cranelift")]
    backend: NativeBackend,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum NativeBackend {
    /// no system package needed
    Cranelift,
    /// in an sdc built with the cargo feature `llvm`
    Llvm,
}

impl BackendArgs {
    pub fn get(self) -> Backend {
        match self.backend {
            NativeBackend::Cranelift => Backend::Cranelift,
            NativeBackend::Llvm => Backend::Llvm,
        }
    }
}

/// Where the compiled model is to run: here.
#[derive(Args, Debug, Clone, Default)]
pub struct HereArgs {
    /// CPU to compile for: x86-64, x86-64-v2, x86-64-v3, x86-64-v4 or native
    #[arg(long, value_name = "NAME")]
    cpu: Option<String>,
    /// Compile the plain bodies of all kernels instead of using the embedded ones
    #[arg(long)]
    no_kernels: bool,
    /// Sum all convolutions directly: never use Winograd's filtering, which rounds otherwise
    #[arg(long)]
    no_winograd: bool,
    #[command(flatten)]
    residency: ResidencyArgs,
}

/// How much of the weights may be in memory at a time.
#[derive(Args, Debug, Clone, Copy, Default)]
pub struct ResidencyArgs {
    /// Give weights back to the system while a run is past them, so that at most this much of them is in memory at a time, or what
    /// single layers need (suffixes K, M, G); by default 128M, where that takes no time, and else all stay
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub resident_weights: Option<usize>,
}

impl HereArgs {
    /// The target; this machine's CPU unless another was asked for.
    pub fn target(&self) -> Result<Target, Failure> {
        let target = Target::new(self.cpu.as_deref().unwrap_or("native"), !self.no_kernels)?;
        Ok(Target {
            winograd: !self.no_winograd,
            resident_weights: self.residency.resident_weights,
            ..target
        })
    }
    /// True if nothing was asked for.
    pub fn is_empty(&self) -> bool {
        let resident = self.residency.resident_weights;
        self.cpu.is_none() && !self.no_kernels && !self.no_winograd && resident.is_none()
    }
}

#[derive(Args, Debug, Clone)]
pub struct SessionArgs {
    /// ONNX model, or a directory that `sdc compile` wrote
    #[arg(value_name = "MODEL.onnx|DIR")]
    pub path: PathBuf,
    #[command(flatten)]
    dims: DimArgs,
    #[command(flatten)]
    here: HereArgs,
    /// Copy the weights into memory even if they are more than 128 MiB, so that nothing done to their file meanwhile changes results
    #[arg(long)]
    copy: bool,
}

impl SessionArgs {
    /// What the model is, fixed as the options say, and how it is compiled. An artifact is compiled already.
    pub fn options(&self, backend: Backend) -> Result<(ModelOptions, Options), Failure> {
        let usual = self.dims.is_empty() && self.here.is_empty() && backend == Backend::default();
        if self.path.is_dir() && !usual {
            let message = format!(
                "{} is compiled already; --dim, --fix, --backend, --cpu, --no-kernels, --no-winograd and --resident-weights come too late",
                self.path.display()
            );
            return Err(Failure::usage(message));
        }
        let options = Options {
            load: LoadOptions { copy: self.copy },
            ..Options::new(self.here.target()?.with_backend(backend)?)
        };
        Ok((self.dims.options()?, options))
    }

    /// Refuses what is of native code only.
    pub fn refuse_native(&self, with: &str) -> Result<(), Failure> {
        if self.here.is_empty() && !self.copy {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "--cpu, --no-kernels, --no-winograd, --resident-weights and --copy are of native code: not with {with}"
        )))
    }

    /// Looks at the path; an ONNX file is decoded.
    pub fn open(&self, backend: Backend) -> Result<(Source, Options), Failure> {
        let (fixed, options) = self.options(backend)?;
        Ok((Source::open(self.path.clone(), &fixed)?, options))
    }
}

#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Image preprocessing")]
pub struct ImageArgs {
    /// Pixels are multiplied by this first; 0.00392156862745098 maps 0..255 to 0..1
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    scale: f32,
    /// Subtracted from the scaled pixels: one number, or one per channel in the model's order
    #[arg(
        long,
        value_name = "X,..",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    mean: Vec<f32>,
    /// What the scaled pixels, less the mean, are divided by: one number, or one per channel
    #[arg(long, value_name = "X,..", value_delimiter = ',')]
    std: Vec<f32>,
    /// Order of the model's input dimensions; by default found out from its shape and the images'
    #[arg(long, value_enum)]
    layout: Option<Order>,
    /// Order of the channels that the model wants; images hold red, green, blue
    #[arg(long, value_enum, default_value = "rgb")]
    channels: Channels,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    /// batch, channels, rows, columns
    #[value(name = "NCHW", alias = "nchw")]
    Nchw,
    /// batch, rows, columns, channels
    #[value(name = "NHWC", alias = "nhwc")]
    Nhwc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Channels {
    /// red, green, blue
    Rgb,
    /// blue, green, red
    Bgr,
}

impl ImageArgs {
    /// The same in the library's terms.
    pub fn preprocessing(&self) -> Preprocessing {
        Preprocessing {
            scale: self.scale,
            mean: self.mean.clone(),
            std: self.std.clone(),
            layout: self.layout.map(|order| match order {
                Order::Nchw => Layout::Nchw,
                Order::Nhwc => Layout::Nhwc,
            }),
            reverse_channels: self.channels == Channels::Bgr,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_are_split_at_the_last_equals_sign() {
        assert_eq!(parse_dim("a=b=3"), Ok(("a=b".to_owned(), 3)));
        assert!(parse_dim("a").is_err());
        assert!(parse_dim("a=-1").is_err());
        assert!(parse_dim("a=x").is_err());
    }
}
