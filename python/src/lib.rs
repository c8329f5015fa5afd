//! The package `sdc` for Python, as far as it is native: the library's calls on numpy arrays. What people import is `python/sdc`, which
//! stands on this module and gives it its shape.
//!
//! Long work is done on a thread of its own without the interpreter's lock, so that other threads of Python go on and Ctrl-C is heard.

mod arrays;
mod errors;
mod model;
mod program;
mod tools;
mod watch;

use pyo3::prelude::*;

/// What the package `sdc` stands on; not for use by others.
#[pymodule]
fn _sdc(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<program::Program>()?;
    module.add_function(wrap_pyfunction!(tools::declared, module)?)?;
    module.add_function(wrap_pyfunction!(tools::inspect, module)?)?;
    module.add_function(wrap_pyfunction!(tools::interpret, module)?)?;
    module.add_function(wrap_pyfunction!(tools::compare, module)?)?;
    module.add_function(wrap_pyfunction!(tools::compress, module)?)?;
    module.add_function(wrap_pyfunction!(tools::evaluate, module)?)
}
