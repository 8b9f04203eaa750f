//! Ctrl-C and SIGTERM: the first asks long work to save and stop, the second leaves at once.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Installs the handler; call once, from the program (never from the library).
pub fn install() {
    // A second installation fails; the first stays in force, which is what is wanted.
    let _ = ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("\ninterrupted: finishing the current step and saving (again to leave at once)");
    });
}

/// Has the user asked to stop? Long loops ask this once a step.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// An error to leave with, where nothing needs saving: `saved` says what is on disk.
pub fn check(saved: &str) -> Result<()> {
    if requested() { Err(Error::Interrupted { code: 130, saved: saved.to_string() }) } else { Ok(()) }
}
