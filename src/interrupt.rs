//! Ctrl-C and SIGTERM: the first asks long work to save and stop, the second leaves at once. The first is acknowledged
//! on a terminal only, so that elsewhere the error is the one line.
//!
//! For the program alone: the library asks the [`Progress`](crate::progress::Progress) that it is given.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// The exit code of the signal that came, 0 while none has.
static CODE: AtomicI32 = AtomicI32::new(0);

/// Installs the handler; call once, from the program (never from the library).
pub fn install() {
    use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
    // A file beyond the limit of sizes is then an error of writing, as a full disk is, and not the end. Whether it is set is
    // of no interest.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) else {
        return; // Without a handler the system's own applies: the program ends, and files are whole by renaming.
    };
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if CODE.swap(128 + signal, Ordering::SeqCst) != 0 {
                // At once: what runs at an ordinary exit (HDF5 closes its files then) is in use by other threads.
                signal_hook::low_level::exit(128 + signal);
            }
            let mut out = std::io::stderr();
            if out.is_terminal() {
                // a terminal that has gone is nobody's loss
                let _ = writeln!(out, "\ninterrupted: finishing the current step (again to leave at once)");
            }
        }
    });
}

/// Has the user asked to stop? Long loops ask this once a step.
pub fn requested() -> bool {
    CODE.load(Ordering::Relaxed) != 0
}

/// The exit code to leave with: 130 after SIGINT, 143 after SIGTERM; 130 where none came.
pub fn code() -> i32 {
    match CODE.load(Ordering::Relaxed) {
        0 => 130,
        code => code,
    }
}
