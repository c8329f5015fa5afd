//! The library's errors as exceptions: `sdc._errors.build` makes them.

use pyo3::prelude::*;
use sdc::{Error, Kind};

/// The exception for an error; whatever keeps it from being made, if that fails.
pub fn exception(error: impl Into<Error>) -> PyErr {
    let error = error.into();
    let kind = match error.kind() {
        Kind::Usage => "usage",
        Kind::Malformed => "malformed",
        Kind::Unsupported => "unsupported",
        Kind::Limit => "limit",
        Kind::Cancelled => "cancelled",
        Kind::Bug => "bug",
    };
    Python::attach(|py| {
        let build = || -> PyResult<_> {
            let problems = json(py, &error.problems())?;
            py.import("sdc._errors")?
                .getattr("build")?
                .call1((kind, problems))
        };
        build().map_or_else(|failed| failed, PyErr::from_value)
    })
}

/// A value as Python's own dicts, lists, texts and numbers.
pub fn json<'py>(py: Python<'py>, value: &impl serde::Serialize) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value).map_err(|e| exception(Error::bug(e)))?;
    py.import("json")?.getattr("loads")?.call1((text,))
}
