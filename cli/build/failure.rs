//! What the passes, Cranelift and the linker report, as failures of a command.

use crate::exit::{Exit, Failure, Nodes, Problem, merged};
use sdc_artifact::ObjectError;
use sdc_frontend::{Code, supported_since};
use sdc_passes::driver::DriverError;
use sdc_passes::pass::PassError;
use sdc_passes::pipeline::PipelineError;

impl From<PipelineError> for Failure {
    fn from(error: PipelineError) -> Self {
        use PipelineError as E;
        match &error {
            _ if error.is_bug() => Self::bug(error),
            E::UnknownPass { .. } => Self::usage(error),
            E::Plan(_) => Self::limit(error),
            E::Tile(errors) => Self {
                exit: Exit::Unsupported,
                problems: merged(errors.iter().map(|e| {
                    let key = format!("{:?}", (e.op, &e.reason));
                    (Some(key), tile_problem(e))
                })),
            },
            E::Driver(DriverError::Malformed(faults)) => Self {
                exit: Exit::Malformed,
                problems: faults
                    .iter()
                    .map(|f| Problem {
                        message: f.clone(),
                        ..Problem::default()
                    })
                    .collect(),
            },
            E::Driver(DriverError::Pass {
                error: PassError::AfterLayout(_),
                ..
            }) => Self::usage(error),
            E::Driver(DriverError::NoInput(_)) => Self::limit(error),
            _ => Self::unsupported(error),
        }
    }
}

fn tile_problem(error: &sdc_passes::tile::TileError) -> Problem {
    Problem {
        message: format!(
            "{}: {}: {}",
            sdc_passes::pass::origin_text(&error.origins),
            error.op,
            error.reason
        ),
        code: Some(Code::Lowering.text().to_owned()),
        notes: vec![format!("operands: {}", error.operands.join(", "))],
        at: Some(Nodes {
            operator: error.origins.first().map_or(error.op, |o| &o.op).to_owned(),
            count: 1,
            names: error
                .origins
                .first()
                .map(|o| o.name.clone())
                .into_iter()
                .collect(),
            operands: vec![error.operands.join(", ")],
            supported_since: error.origins.first().and_then(|o| supported_since(&o.op)),
        }),
        ..Problem::default()
    }
}

impl From<sdc_cranelift::Error> for Failure {
    fn from(error: sdc_cranelift::Error) -> Self {
        use sdc_cranelift::{Error, FuncError};
        match &error {
            Error::UnknownCpu { .. } | Error::Name(_) => Self::usage(error),
            Error::Func {
                source: FuncError::Unsupported { .. },
                ..
            } => Self::unsupported(error),
            _ => Self::bug(error),
        }
    }
}

impl From<ObjectError> for Failure {
    fn from(error: ObjectError) -> Self {
        match &error {
            ObjectError::OutOfReach { .. } => {
                Self::limit(error).help("leave the weights out of the object (no --embed-weights)")
            }
            _ => Self::bug(error),
        }
    }
}
