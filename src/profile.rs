//! Where the time of CPU steps goes: spans around ops, with the flops and bytes that they must take, against ceilings that
//! are measured on the spot. `train --profile` prints [`Profile::table`] and writes [`Profile::trace`].
//!
//! This is a recorder as a logger is one: there is one for the process, the ops of every thread tell it, and it is off unless
//! somebody starts it. [`start`] gives the [`Recording`], whose [`Recording::finish`] gives what was recorded; dropped, it
//! ends, too. While it is off a [`span`] costs a load of a flag. No result of a computation depends on it.
//!
//! Spans of one thread nest; the time of a span in the table is its own, without that of the spans inside it.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

/// Events the trace keeps at most; sums go on being kept.
const EVENTS: usize = 200_000;

static ON: AtomicBool = AtomicBool::new(false);
static THREADS: AtomicU32 = AtomicU32::new(0);
/// Where spans are told: the recording that was started last, while it lasts.
static RECORDER: Mutex<Option<Arc<Mutex<Recorder>>>> = Mutex::new(None);

thread_local! {
    static THREAD: u32 = THREADS.fetch_add(1, Ordering::Relaxed);
    static OPEN: RefCell<Vec<Open>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
struct Recorder {
    began: Instant,
    ceiling: Ceiling,
    rows: Vec<Row>,
    events: Vec<Event>,
    left_out: u64,
}

/// A span that has begun.
struct Open {
    name: &'static str,
    pass: &'static str,
    began: Instant,
    inner: f64,
    flops: f64,
    bytes: f64,
}

/// What the machine can do, measured with all threads of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ceiling {
    /// Flops a second of the library's f32 matrix product, 2048 × 2048 × 512.
    pub flops: f64,
    /// Bytes a second of `a[i] += b[i]` over arrays larger than any cache: two reads and a write a number.
    pub bytes: f64,
}

/// The sums of one op and pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The op.
    pub op: &'static str,
    /// `forward`, `backward`, or nothing where an op has no passes.
    pub pass: &'static str,
    /// Within a step? Validation runs the same ops.
    pub in_step: bool,
    /// Thread that it ran on: 0 for the first that recorded.
    pub thread: u32,
    /// Spans.
    pub calls: u64,
    /// Seconds, without those of spans inside.
    pub seconds: f64,
    /// Floating-point operations by count (multiply and add are two).
    pub flops: f64,
    /// Bytes that must be read and written at least, each once.
    pub bytes: f64,
}

/// A span in the trace.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Event {
    name: &'static str,
    pass: &'static str,
    thread: u32,
    /// Seconds since the start.
    at: f64,
    seconds: f64,
    flops: f64,
    bytes: f64,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Measures the ceilings (about half a second) and begins to record, in all threads of the process. Spans are told to the
/// recording that was started last.
pub fn start() -> Recording {
    let ceiling = Ceiling::measure();
    let new = Recorder { began: Instant::now(), ceiling, rows: Vec::new(), events: Vec::new(), left_out: 0 };
    let recorder = Arc::new(Mutex::new(new));
    *lock(&RECORDER) = Some(recorder.clone());
    ON.store(true, Ordering::Release);
    Recording { recorder }
}

/// A recording under way. It ends with [`Recording::finish`], or when it is dropped.
#[derive(Debug)]
#[must_use = "a recording lasts until it is dropped"]
pub struct Recording {
    recorder: Arc<Mutex<Recorder>>,
}

impl Recording {
    /// Ends the recording and gives what was recorded.
    pub fn finish(self) -> Profile {
        self.end();
        let mut r = lock(&self.recorder);
        Profile {
            seconds: r.began.elapsed().as_secs_f64(),
            ceiling: r.ceiling,
            rows: std::mem::take(&mut r.rows),
            events: std::mem::take(&mut r.events),
            left_out: r.left_out,
        }
    }

    /// Nothing more is told, unless to another recording that was started since.
    fn end(&self) {
        let mut told = lock(&RECORDER);
        if told.as_ref().is_some_and(|r| Arc::ptr_eq(r, &self.recorder)) {
            *told = None;
            ON.store(false, Ordering::Release);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.end();
    }
}

/// Is a recording under way?
pub fn is_on() -> bool {
    ON.load(Ordering::Acquire)
}

/// Begins a span of this thread; it ends when the guard is dropped.
pub fn span(name: &'static str, pass: &'static str) -> Span {
    let on = is_on();
    if on {
        OPEN.with_borrow_mut(|open| {
            open.push(Open { name, pass, began: Instant::now(), inner: 0.0, flops: 0.0, bytes: 0.0 });
        });
    }
    Span { on }
}

/// Adds work to the innermost span of this thread: flops, and bytes read and written at least. Counted only while a
/// recording is under way.
pub fn work(count: impl FnOnce() -> (f64, f64)) {
    if is_on() {
        let (flops, bytes) = count();
        OPEN.with_borrow_mut(|open| {
            if let Some(last) = open.last_mut() {
                last.flops += flops;
                last.bytes += bytes;
            }
        });
    }
}

/// A span under way.
#[derive(Debug)]
#[must_use = "a span lasts until it is dropped"]
pub struct Span {
    on: bool,
}

impl Drop for Span {
    fn drop(&mut self) {
        if !self.on {
            return;
        }
        let ended = Instant::now();
        let Some((open, in_step)) = OPEN.with_borrow_mut(|open| {
            let own = open.pop()?;
            if let Some(outer) = open.last_mut() {
                outer.inner += (ended - own.began).as_secs_f64();
            }
            let in_step = own.name == STEP || open.iter().any(|o| o.name == STEP);
            Some((own, in_step))
        }) else {
            return;
        };
        let thread = THREAD.with(|t| *t);
        let seconds = (ended - open.began).as_secs_f64();
        let told = lock(&RECORDER).clone();
        if let Some(r) = told {
            let r = &mut *lock(&r);
            let own = (seconds - open.inner).max(0.0);
            let key = (open.name, open.pass, in_step, thread);
            let row = match r.rows.iter_mut().find(|x| (x.op, x.pass, x.in_step, x.thread) == key) {
                Some(row) => row,
                None => {
                    let (op, pass) = (open.name, open.pass);
                    r.rows.push(Row { op, pass, in_step, thread, calls: 0, seconds: 0.0, flops: 0.0, bytes: 0.0 });
                    let last = r.rows.len() - 1;
                    &mut r.rows[last]
                }
            };
            row.calls += 1;
            row.seconds += own;
            row.flops += open.flops;
            row.bytes += open.bytes;
            if r.events.len() < EVENTS {
                let at = open.began.saturating_duration_since(r.began).as_secs_f64();
                let (name, pass) = (open.name, open.pass);
                r.events.push(Event { name, pass, thread, at, seconds, flops: open.flops, bytes: open.bytes });
            } else {
                r.left_out += 1;
            }
        }
    }
}

impl Ceiling {
    /// The best of several short runs each.
    fn measure() -> Self {
        use faer::linalg::matmul::matmul;
        use faer::{Accum, Mat, Par};
        use rayon::prelude::*;
        let (m, k) = (2048, 512);
        let a = Mat::<f32>::from_fn(m, k, |i, j| (i * 7 + j) as f32 % 13.0);
        let b = Mat::<f32>::from_fn(k, m, |i, j| (i + j) as f32 % 7.0);
        let mut c = Mat::<f32>::zeros(m, m);
        let best = |times: usize, run: &mut dyn FnMut()| {
            (0..times)
                .map(|_| {
                    let began = Instant::now();
                    run();
                    began.elapsed().as_secs_f64()
                })
                .fold(f64::INFINITY, f64::min)
        };
        let product = best(6, &mut || matmul(&mut c, Accum::Replace, &a, &b, 1.0, Par::rayon(0)));
        let n = 1 << 24;
        let (mut x, y) = (vec![0f32; n], vec![1f32; n]);
        let sum = best(5, &mut || {
            x.par_chunks_mut(1 << 16).zip(y.par_chunks(1 << 16)).for_each(|(x, y)| crate::simd::axpy(x, 1.0, y));
        });
        Ceiling { flops: 2.0 * (m * m * k) as f64 / product, bytes: 12.0 * n as f64 / sum }
    }

    /// Seconds that work takes at least.
    fn least(&self, flops: f64, bytes: f64) -> f64 {
        (flops / self.flops).max(bytes / self.bytes)
    }
}

/// Name of the trace in the folder of a run.
pub const TRACE: &str = "trace.json";
/// The span that holds a whole step.
pub const STEP: &str = "step";
/// The span in which the training thread waits for a batch.
pub const WAIT: &str = "wait for batch";
/// The span in which a batch is read, on a thread of its own.
pub const READ: &str = "read batch";

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// Seconds recorded.
    pub seconds: f64,
    /// What the machine can do.
    pub ceiling: Ceiling,
    /// Sums by op, pass and thread, in the order in which they first ended.
    pub rows: Vec<Row>,
    #[serde(skip)]
    events: Vec<Event>,
    /// Events that the trace has no room for.
    pub left_out: u64,
}

impl Profile {
    /// Steps recorded.
    pub fn steps(&self) -> u64 {
        self.rows.iter().filter(|r| r.op == STEP).map(|r| r.calls).sum()
    }

    /// Seconds of all spans of a name, without those inside them.
    pub fn seconds_of(&self, op: &str) -> f64 {
        self.rows.iter().filter(|r| r.op == op).map(|r| r.seconds).sum()
    }

    /// Share of the training thread's time that it spends waiting for batches; and reading time, on the reader's own
    /// thread, as a share of the same.
    pub fn loader(&self) -> (f64, f64) {
        let total = self.in_steps() + self.seconds_of(WAIT);
        let share = |s: f64| if total > 0.0 { s / total } else { 0.0 };
        (share(self.seconds_of(WAIT)), share(self.seconds_of(READ)))
    }

    /// Seconds in steps: of the steps themselves and of all that ran inside them.
    fn in_steps(&self) -> f64 {
        self.rows.iter().filter(|r| r.in_step).map(|r| r.seconds).sum()
    }

    /// Milliseconds a step, flops, bytes and share of the ceiling, by op; the costliest first. What is in brackets ran
    /// outside the steps, in validation.
    pub fn table(&self) -> String {
        let steps = self.steps().max(1) as f64;
        let total = self.in_steps() + self.seconds_of(WAIT);
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let mut out = format!(
            "{} steps; ceilings here: {:.0} GFLOP/s (f32 product), {:.1} GB/s (memory)\n{:<18} {:>9} {:>9} {:>7} {:>9} {:>9} {:>9} {:>8} {:>9}\n",
            self.steps(),
            self.ceiling.flops * 1e-9,
            self.ceiling.bytes * 1e-9,
            "op",
            "pass",
            "ms/step",
            "share",
            "GFLOP",
            "GFLOP/s",
            "MB",
            "GB/s",
            "% ceiling"
        );
        for r in rows {
            let outside = !r.in_step && r.op != WAIT;
            let name = match r.op {
                STEP => "rest of the step".to_string(),
                op if outside && !r.pass.is_empty() => format!("({op})"),
                op => op.to_string(),
            };
            let share = if outside { "-".into() } else { format!("{:.1} %", 100.0 * r.seconds / total.max(1e-12)) };
            let known = r.flops > 0.0 || r.bytes > 0.0;
            let or_dash = |x: f64, known: bool| if known { format!("{x:.1}") } else { "-".into() };
            out += &format!(
                "{:<18} {:>9} {:>9.3} {:>7} {:>9} {:>9} {:>9} {:>8} {:>9}\n",
                name,
                r.pass,
                1e3 * r.seconds / steps,
                share,
                if r.flops > 0.0 { format!("{:.3}", r.flops / steps * 1e-9) } else { "-".into() },
                or_dash(r.flops / r.seconds * 1e-9, r.flops > 0.0),
                or_dash(r.bytes / steps * 1e-6, r.bytes > 0.0),
                or_dash(r.bytes / r.seconds * 1e-9, r.bytes > 0.0),
                or_dash(100.0 * self.ceiling.least(r.flops, r.bytes) / r.seconds, known),
            );
        }
        let (wait, read) = self.loader();
        out += &format!(
            "a step {:.3} ms; waiting for the loader {:.2} % of it; the loader, on a thread of its own, works {:.2} % of the time",
            1e3 * total / steps,
            100.0 * wait,
            100.0 * read
        );
        if self.left_out > 0 {
            out += &format!("\nthe trace holds the first {EVENTS} spans, {} later ones are not in it", self.left_out);
        }
        out
    }

    /// The spans as a Chrome trace: complete events (`"ph": "X"`), microseconds; opens in Perfetto and chrome://tracing.
    pub fn trace(&self) -> serde_json::Value {
        let event = |e: &Event| {
            let name = if e.pass.is_empty() { e.name.to_string() } else { format!("{} {}", e.name, e.pass) };
            serde_json::json!({
                "name": name, "cat": "op", "ph": "X", "pid": 1, "tid": e.thread,
                "ts": e.at * 1e6, "dur": e.seconds * 1e6,
                "args": { "gflop": e.flops * 1e-9, "megabytes": e.bytes * 1e-6 },
            })
        };
        serde_json::json!({ "displayTimeUnit": "ms", "traceEvents": self.events.iter().map(event).collect::<Vec<_>>() })
    }
}
