//! Errors of the library as one Python exception of three arguments: kind, message, exit code.

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(
    sccrossrec._native,
    Error,
    PyException,
    "What the library ends with: kind, message, exit code. The package raises it as one of its own classes."
);

/// What mends it, in a word.
fn kind(e: &sccrossrec::Error) -> &'static str {
    use sccrossrec::Error as E;
    match e {
        E::Input { .. } => "input",
        E::Usage(_) => "usage",
        E::Io { .. } => "file",
        E::Kernel { .. } => "kernel",
        E::Interrupted { .. } => "interrupted",
        E::OutOfMemory { .. } => "memory",
        E::Device { .. } => "device",
        E::Internal(_) => "internal",
    }
}

/// As the package takes it.
pub fn raised(e: &sccrossrec::Error) -> PyErr {
    Error::new_err((kind(e), e.to_string(), e.exit_code()))
}

/// One of wrong words.
pub fn usage(message: impl Into<String>) -> PyErr {
    raised(&sccrossrec::Error::usage(message))
}
