//! How long work tells where it is, and is asked whether to go on.

use crate::error::{Error, Result};

/// Follows long work. Every long call of the library takes one; `&()` follows nothing and never stops.
///
/// All methods may be called from several threads.
///
/// ```
/// use std::sync::Mutex;
///
/// use sccrossrec::Progress;
///
/// /// Keeps the lines of news.
/// struct Lines(Mutex<Vec<String>>);
///
/// impl Progress for Lines {
///     fn note(&self, line: &str) {
///         self.0.lock().expect("no thread has panicked").push(line.to_string());
///     }
/// }
///
/// let lines = Lines(Mutex::new(Vec::new()));
/// lines.note("a line");
/// lines.check("nothing was written")?; // it never stops
/// assert_eq!(*lines.0.lock().expect("no thread has panicked"), ["a line"]);
/// # Ok::<(), sccrossrec::Error>(())
/// ```
pub trait Progress: Sync {
    /// A line of news.
    fn note(&self, _line: &str) {}

    /// Of `of` units of a stage (cells, sequences, bytes) `done` are done; with `of` 0 nobody knows how many there are.
    fn at(&self, _stage: &'static str, _done: u64, _of: u64) {}

    /// A stage begins whose length nobody knows. It ends where another begins.
    fn begin(&self, stage: &'static str) {
        self.at(stage, 0, 0);
    }

    /// The exit code to leave with, where work is to stop: 130 after SIGINT, 143 after SIGTERM. Asked once a step.
    fn stop(&self) -> Option<i32> {
        None
    }

    /// Leaves where work is to stop. `saved` says what is on disk now.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    fn check(&self, saved: &str) -> Result<()> {
        match self.stop() {
            Some(code) => Err(Error::Interrupted { code, saved: saved.to_string() }),
            None => Ok(()),
        }
    }
}

/// Follows nothing.
impl Progress for () {}
