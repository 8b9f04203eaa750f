//! Threads do not survive a fork: work of many threads is refused in a process that was forked after it had been used.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use crate::error::usage;

/// The process that first worked, 0 before.
static FIRST: AtomicU32 = AtomicU32::new(0);

/// Call it before any work of many threads.
pub fn check() -> PyResult<()> {
    let own = std::process::id();
    match FIRST.compare_exchange(0, own, Ordering::SeqCst, Ordering::SeqCst) {
        Err(first) if first != own => Err(usage(
            "this process was forked after sccrossrec had worked in its parent, and its threads are gone; start it by \
             multiprocessing.get_context(\"spawn\"), or fork before",
        )),
        _ => Ok(()),
    }
}
