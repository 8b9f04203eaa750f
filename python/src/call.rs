//! A verb called inside the process. It works on a thread of its own, without the interpreter; the calling thread wakes twenty
//! times a second, hands news and progress to Python, and looks for Ctrl-C.

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use sccrossrec::cli;

use crate::error::raised;
use crate::fork;
use crate::held::Held;

/// How often the calling thread wakes.
const TURN: Duration = Duration::from_millis(50);

/// The memory of the working thread's stack, as the main thread of a program has it.
const STACK: usize = 8 << 20;

/// What came of the verb since Python was last told.
#[derive(Debug, Default)]
struct Heard {
    said: Vec<String>,
    at: Option<(String, u64, u64)>,
    result: Option<String>,
}

#[derive(Debug, Default)]
struct Follower {
    heard: Mutex<Heard>,
    stop: AtomicBool,
}

impl Follower {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl cli::Caller for Follower {
    fn say(&self, line: &str) {
        self.heard().said.push(line.to_string());
    }

    fn at(&self, stage: &str, done: u64, of: u64) {
        self.heard().at = Some((stage.to_string(), done, of));
    }

    fn result(&self, result: &serde_json::Value) {
        self.heard().result = Some(result.to_string());
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Whom Python has named to be told.
struct Told {
    say: Option<Py<PyAny>>,
    progress: Option<Py<PyAny>>,
}

impl Told {
    /// Hands on what was heard; an exception of a callback, or a signal's.
    fn turn(&self, py: Python<'_>, follower: &Follower) -> PyResult<()> {
        let (said, at) = {
            let mut heard = follower.heard();
            (std::mem::take(&mut heard.said), heard.at.take())
        };
        if let Some(say) = &self.say {
            for line in said {
                say.call1(py, (line,))?;
            }
        }
        if let (Some(progress), Some(at)) = (&self.progress, at) {
            progress.call1(py, at)?;
        }
        py.check_signals()
    }
}

/// Runs a verb: `words` as behind the name of the program, the names of `held` in the place of paths. Its result as JSON.
///
/// `on_say(line)` takes news, `on_progress(stage, done, of)` progress. On Ctrl-C the work ends where it can be gone on from, and
/// then the exception is raised. Anything that goes wrong is an `Error`.
#[pyfunction]
#[pyo3(signature = (words, on_say=None, on_progress=None, held=None))]
pub fn call(
    py: Python<'_>,
    words: Vec<OsString>,
    on_say: Option<Py<PyAny>>,
    on_progress: Option<Py<PyAny>>,
    held: Option<Vec<Py<Held>>>,
) -> PyResult<Option<String>> {
    fork::check()?;
    let follower = Arc::new(Follower::default());
    let told = Told { say: on_say, progress: on_progress };
    let held: Vec<_> = held.into_iter().flatten().map(|h| h.get().0.clone()).collect();
    let (ended, exception) = py.detach(|| work(&words, &follower, &told, held));
    let exception = exception.or_else(|| told.turn(py, &follower).err());
    let saved = match (&ended, &exception) {
        (Err(e), _) => e.to_string(),
        (Ok(()), Some(_)) => "interrupted; the work had ended".to_string(),
        (Ok(()), None) => return Ok(follower.heard().result.take()),
    };
    match (exception, ended) {
        (Some(e), _) if e.is_instance_of::<PyKeyboardInterrupt>(py) => Err(PyKeyboardInterrupt::new_err(saved)),
        (Some(e), _) => {
            // Python 3.10 has no notes.
            let _ = e.value(py).call_method1("add_note", (saved,));
            Err(e)
        }
        (None, Err(sccrossrec::Error::Interrupted { .. })) => Err(PyKeyboardInterrupt::new_err(saved)),
        (None, Err(e)) => Err(raised(&e)),
        (None, Ok(())) => Ok(None),
    }
}

/// The work and the wait for it: how it ended, and the exception that stopped it.
fn work(
    words: &[OsString],
    follower: &Arc<Follower>,
    told: &Told,
    held: Vec<sccrossrec::data::source::Held>,
) -> (sccrossrec::Result<()>, Option<PyErr>) {
    std::thread::scope(|scope| {
        let (send, done) = channel::<()>();
        let caller: Arc<dyn cli::Caller> = follower.clone();
        let task = move || {
            // Dropped at the end, also that of a panic.
            let _send = send;
            cli::call(words, caller, held)
        };
        let thread = std::thread::Builder::new().name("sccrossrec".into()).stack_size(STACK);
        let thread = match thread.spawn_scoped(scope, task) {
            Ok(thread) => thread,
            Err(e) => return (Err(sccrossrec::Error::usage(format!("the system starts no thread ({e})"))), None),
        };
        let mut exception = None;
        while done.recv_timeout(TURN) == Err(RecvTimeoutError::Timeout) {
            if exception.is_none() {
                exception = Python::attach(|py| told.turn(py, follower)).err();
                follower.stop.store(exception.is_some(), Ordering::Relaxed);
            }
        }
        let ended = thread.join().unwrap_or_else(|_| Err(sccrossrec::Error::Internal("the work panicked".into())));
        (ended, exception)
    })
}
