//! Programs for the accelerator: compiling models to them, and running them on the simulator as native artifacts are run.

use crate::artifact::{self, type_text};
use crate::error::{Error, Kind, Problem, Result};
use crate::files;
use crate::model::Model;
use crate::observe::Observer;
use crate::stages::Dump;
use sdc_accel::{AccelError, Compiled};
use sdc_accel_isa::{Class, Config, Faults, Port, Program};
use sdc_accel_sim::{Options as SimOptions, SimError, Simulator};
use sdc_artifact::interface::{TensorSpec, sanitise};
use sdc_ir::graph::Graph;
use sdc_ir::{Digest, Tensor};
use sdc_passes::pass::Remark;
use sdc_passes::pipeline::{PipelineError, PipelineOptions, run_pipeline};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The last pass before code generation.
const LAST: &str = "quantise";
/// The manifest's file name, as of every artifact.
const MANIFEST: &str = "manifest.json";
/// Version of the manifest's format.
const FORMAT: u32 = 1;

/// What to make of a model.
#[derive(Debug, Clone, Default)]
pub struct AccelOptions {
    /// The model's name; by default the model file's.
    pub name: Option<String>,
    /// The machine.
    pub config: Config,
    /// What the manifest says of how the model was compiled.
    pub recorded: BTreeMap<String, String>,
    /// Options of the passes.
    pub passes: PipelineOptions,
    /// Also write the program as text.
    pub assembly: bool,
}

/// A file that was written.
#[derive(Debug, Clone, Serialize)]
pub struct AccelFile {
    /// Its path.
    pub path: PathBuf,
    /// Bytes.
    pub bytes: u64,
    /// Digest of its contents.
    pub sha256: String,
}

/// A compiled model: files in a directory, and all there is to say of them.
#[derive(Debug)]
pub struct AccelArtifact {
    /// Its name.
    pub name: String,
    /// The files.
    pub files: Vec<AccelFile>,
    /// The program, with its layers in numbers.
    pub compiled: Compiled,
    /// What passes did and left undone.
    pub remarks: Vec<Remark>,
}

/// `manifest.json` of a program.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    sdc: String,
    backend: String,
    name: String,
    arch: String,
    hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    options: BTreeMap<String, String>,
    program: File,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    size: u64,
    sha256: String,
}

impl From<Vec<AccelError>> for Error {
    fn from(errors: Vec<AccelError>) -> Self {
        let kind = if errors.iter().all(AccelError::is_limit) {
            Kind::Limit
        } else {
            Kind::Unsupported
        };
        Self::Several(kind, errors.iter().map(Problem::plain).collect())
    }
}

impl From<Faults> for Error {
    fn from(faults: Faults) -> Self {
        let problem = |fault: &sdc_accel_isa::Fault| Problem {
            code: Some(fault.code.to_string()),
            ..Problem::plain(fault)
        };
        let kind = match faults.class() {
            Class::Malformed => Kind::Malformed,
            Class::Unsupported => Kind::Unsupported,
            Class::Limit => Kind::Limit,
        };
        let more = (faults.more() > 0).then(|| Problem::plain(format!("and {} more faults", faults.more())));
        Self::Several(kind, faults.list().iter().map(problem).chain(more).collect())
    }
}

impl From<SimError> for Error {
    fn from(error: SimError) -> Self {
        match error {
            SimError::Faults(faults) => faults.into(),
            SimError::Input(_) | SimError::Inputs { .. } => Self::usage(error),
            SimError::Host { .. } => Self::unsupported(error),
        }
    }
}

/// The graph that programs are made of: the passes up to the one that makes integer operators.
///
/// # Errors
/// As for the passes.
pub fn integer_graph(
    graph: &Graph,
    passes: &PipelineOptions,
    dump: Option<&mut Dump>,
) -> Result<(Graph, Vec<Remark>)> {
    let options = PipelineOptions {
        stop_after: Some(LAST.to_owned()),
        ..passes.clone()
    };
    let done = match dump {
        Some(dump) => run_pipeline(graph, &options, dump),
        None => run_pipeline(graph, &options, &mut ()),
    }?;
    Ok((done.graph, done.remarks))
}

/// A program, and the graph it was made of.
pub(crate) struct Translated {
    pub graph: Graph,
    pub compiled: Compiled,
    pub remarks: Vec<Remark>,
}

/// The program of a model of integers. If passes are checked, so is the program: it has to give the graph's results, bit for bit.
pub(crate) fn translate(
    model: &Model,
    options: &AccelOptions,
    observer: &dyn Observer,
    dump: Option<&mut Dump>,
) -> Result<Translated> {
    let (graph, remarks) = integer_graph(&model.graph, &options.passes, dump)?;
    crate::observe::step(observer, "generate code")?;
    let compiled = sdc_accel::compile(&graph, &options.config)?;
    if let Some(inputs) = &options.passes.check_each_pass {
        crate::observe::step(observer, "check the program")?;
        let inputs = inputs.tensors(&graph).map_err(PipelineError::from)?;
        let found = AccelProgram::new(compiled.program.clone())?.run(&inputs)?;
        let pairs = artifact::interpret(&graph, &inputs)?.into_iter().zip(found);
        let wrong = graph.outputs.iter().zip(pairs).find(|(_, (a, b))| a != b);
        if let Some((port, _)) = wrong {
            let message = format!("the program's output `{}` is not that of its graph", port.name);
            return Err(Error::bug(message));
        }
    }
    Ok(Translated {
        graph,
        compiled,
        remarks,
    })
}

/// Compiles a model of integers for the accelerator, and writes `NAME.sdap` and `manifest.json` into a directory.
///
/// # Errors
/// Everything that neither machine nor host can do; a tile that does not fit; files that cannot be written.
pub fn compile_accel(
    model: &Model,
    options: &AccelOptions,
    dir: &Path,
    observer: &dyn Observer,
    dump: Option<&mut Dump>,
) -> Result<AccelArtifact> {
    let name = sanitise(options.name.as_deref().unwrap_or(&model.name));
    let Translated {
        compiled, remarks, ..
    } = translate(model, options, observer, dump)?;
    let container = compiled.program.to_container()?;
    let mut batch = files::Batch::default();
    batch.create_dir(dir)?;
    let mut written = Vec::new();
    let mut write = |file: String, bytes: &[u8]| -> Result<()> {
        let path = dir.join(file);
        batch.add(&path, |out| out.write_all(bytes))?;
        written.push(AccelFile {
            path,
            bytes: bytes.len() as u64,
            sha256: Digest::of(&[bytes]).to_string(),
        });
        Ok(())
    };
    if options.assembly {
        write(format!("{name}.sdas"), compiled.program.to_string().as_bytes())?;
    }
    let program = format!("{name}.sdap");
    write(program.clone(), &container)?;
    let manifest = Manifest {
        format: FORMAT,
        sdc: env!("CARGO_PKG_VERSION").to_owned(),
        backend: "accel".to_owned(),
        name: name.clone(),
        arch: options.config.name.clone(),
        hash: options.config.hash().to_string(),
        model: Some(model.digest.to_string()),
        options: options.recorded.clone(),
        program: File {
            name: program,
            size: container.len() as u64,
            sha256: Digest::of(&[&container[..]]).to_string(),
        },
    };
    let mut text = serde_json::to_string_pretty(&manifest).map_err(Error::bug)?;
    text.push('\n');
    write(MANIFEST.to_owned(), text.as_bytes())?;
    batch.commit()?;
    Ok(AccelArtifact {
        name,
        files: written,
        compiled,
        remarks,
    })
}

/// A program of the accelerator, ready to run.
pub struct AccelProgram {
    simulator: Simulator,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
}

impl AccelProgram {
    /// True if a directory is an artifact of the accelerator.
    pub fn is_in(dir: &Path) -> bool {
        Self::manifest(dir).is_ok()
    }

    fn manifest(dir: &Path) -> Result<Manifest> {
        let path = dir.join(MANIFEST);
        let text = files::text(&path)?;
        let manifest: Manifest =
            serde_json::from_str(&text).map_err(|e| Error::malformed(format!("{}: {e}", path.display())))?;
        let plain = Path::new(&manifest.program.name)
            .file_name()
            .is_some_and(|n| *n == *manifest.program.name);
        if manifest.backend != "accel" || manifest.format != FORMAT || !plain {
            return Err(Error::malformed(format!(
                "{}: not the manifest of a program",
                path.display()
            )));
        }
        Ok(manifest)
    }

    /// Opens an artifact of the accelerator.
    ///
    /// # Errors
    /// Files that are missing, damaged or malformed; faults of the program.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::new(Self::read(dir)?)
    }

    /// The program of an artifact, as it was written; it is not verified.
    ///
    /// # Errors
    /// Files that are missing, damaged or malformed.
    pub fn read(dir: &Path) -> Result<Program> {
        Ok(Self::described(dir)?.1)
    }

    /// Holds an artifact's program to its manifest, and proves it; nothing runs. The program's file name and its digest.
    ///
    /// # Errors
    /// Files that are missing, damaged or malformed; faults of the program.
    pub fn verify(dir: &Path) -> Result<(String, String)> {
        let (manifest, program) = Self::described(dir)?;
        Self::new(program)?;
        Ok((manifest.program.name, manifest.program.sha256))
    }

    fn described(dir: &Path) -> Result<(Manifest, Program)> {
        let manifest = Self::manifest(dir)?;
        let path = dir.join(&manifest.program.name);
        let bytes = files::map(&path)?;
        if Digest::of(&[&bytes]).to_string() != manifest.program.sha256 {
            return Err(Error::malformed(format!(
                "{}: its digest is not the manifest's",
                path.display()
            )));
        }
        let program = Program::from_container(&bytes)?;
        let machine = program.config.hash().to_string();
        if (manifest.program.size, &manifest.hash) != (bytes.len() as u64, &machine) {
            return Err(Error::malformed(format!(
                "{}: size and configuration are not the manifest's {} bytes and {}",
                path.display(),
                manifest.program.size,
                manifest.hash
            )));
        }
        Ok((manifest, program))
    }

    /// A program on the machine it was made for.
    ///
    /// # Errors
    /// Faults of the program.
    pub fn new(program: Program) -> Result<Self> {
        let specs = |ports: &[Port]| {
            let spec = |p: &Port| {
                let dtype = if p.grid.is_some() {
                    sdc_ir::DType::F32
                } else {
                    p.dtype
                };
                (p.name.clone(), dtype, p.shape.clone())
            };
            TensorSpec::list(ports.iter().map(spec))
        };
        let (inputs, outputs) = (specs(&program.inputs), specs(&program.outputs));
        let config = program.config.clone();
        Ok(Self {
            simulator: Simulator::new(program, config)?,
            inputs,
            outputs,
        })
    }

    /// Its inputs.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// Its outputs.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// Runs it once; inputs and outputs are in the program's order.
    ///
    /// # Errors
    /// Inputs of other types or shapes; faults that only running shows.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        for (spec, tensor) in self.inputs.iter().zip(inputs) {
            artifact::fits(spec, tensor)?;
        }
        Ok(self.simulator.run(inputs, &SimOptions::default())?.outputs)
    }
}

impl std::fmt::Debug for AccelProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inputs: Vec<String> = self.inputs.iter().map(type_text).collect();
        f.debug_struct("AccelProgram")
            .field("inputs", &inputs)
            .finish_non_exhaustive()
    }
}

/// Anything that runs: native code, or a program of the accelerator on the simulator.
pub enum Loaded {
    /// Native code.
    Native(Box<artifact::Program>),
    /// A program of the accelerator.
    Accel(Box<AccelProgram>),
}

impl Loaded {
    /// The inputs.
    pub fn inputs(&self) -> &[TensorSpec] {
        match self {
            Self::Native(program) => &program.interface().inputs,
            Self::Accel(program) => program.inputs(),
        }
    }

    /// The outputs.
    pub fn outputs(&self) -> &[TensorSpec] {
        match self {
            Self::Native(program) => &program.interface().outputs,
            Self::Accel(program) => program.outputs(),
        }
    }

    /// Runs it once.
    ///
    /// # Errors
    /// As for [`artifact::run`] and [`AccelProgram::run`].
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        match self {
            Self::Native(program) => artifact::run(program, inputs),
            Self::Accel(program) => program.run(inputs),
        }
    }
}
