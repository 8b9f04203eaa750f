//! What Python imports as `sccrossrec._native`: the program, its verbs called inside the process, data in memory, prepared cells
//! and two ops, all on numpy. What people use is the package around it (`sccrossrec/`).

mod call;
mod cells;
mod error;
mod fork;
mod held;
mod ops;
mod run;

use std::ffi::OsString;

use pyo3::prelude::*;

/// The program, as typed in a shell; its exit code. Once a process: it takes signals and the threads of the process.
#[pyfunction]
fn main(py: Python<'_>, argv: Vec<OsString>) -> i32 {
    py.detach(|| sccrossrec::cli::main(argv))
}

/// The flags of a verb as JSON, or `None` where there is no such verb.
#[pyfunction]
fn flags(verb: &str) -> Option<String> {
    serde_json::to_string(&sccrossrec::cli::flags(verb)?).ok()
}

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::call::call;
    #[pymodule_export]
    use super::cells::Cells;
    #[pymodule_export]
    use super::error::Error;
    #[pymodule_export]
    use super::flags;
    #[pymodule_export]
    use super::held::Held;
    #[pymodule_export]
    use super::main;
    #[pymodule_export]
    use super::ops::{attend, translate};
    #[pymodule_export]
    use super::run::attention;

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
