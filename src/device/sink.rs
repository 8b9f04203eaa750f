//! Differences between a device and the CPU, collected.

use serde::Serialize;

use crate::csr::Csr;
use crate::tape::{Grads, Tape, Var};

/// What came of one output of one case.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The case.
    pub case: String,
    /// The op.
    pub op: String,
    /// What was compared.
    pub output: String,
    /// The largest error, relative to the largest magnitude; `None` for what must be equal.
    pub error: Option<f64>,
    /// The largest that is allowed.
    pub tolerance: f64,
    /// Choices that differ from the CPU's, all of them within rounding where `ok`.
    pub differing: usize,
    /// Is it as it should be?
    pub ok: bool,
    /// What is wrong, in words.
    pub note: String,
}

impl Row {
    /// One line that says what is wrong.
    pub fn line(&self) -> String {
        let error = match self.error {
            Some(e) if e.is_nan() || e > self.tolerance => {
                format!(" has error {e:.1e}, allowed {:.1e}", self.tolerance)
            }
            _ => String::new(),
        };
        let note = if self.note.is_empty() { String::new() } else { format!(": {}", self.note) };
        format!("{} {}{error}{note} (case: {})", self.op, self.output, self.case)
    }

    /// The same, of a second run.
    pub(crate) fn shuffled(mut self) -> Self {
        self.case += "; run again";
        self
    }
}

/// Collects rows of one pass.
pub(crate) struct Sink<'a> {
    case: &'a str,
    op: &'a str,
    /// Is the op itself asked for, or only what it launches of `head`?
    pub whole: bool,
    pub rows: Vec<Row>,
}

impl<'a> Sink<'a> {
    pub fn new(case: &'a str, ops: &[&str], op: &'a str) -> Self {
        Sink { case, op, whole: ops.contains(&op), rows: Vec::new() }
    }

    fn push(&mut self, output: &str, error: Option<f64>, tolerance: f64, differing: usize, wrong: Option<String>) {
        if !self.whole && !output.starts_with("d_u") {
            return;
        }
        let ok = wrong.is_none() && error.is_none_or(|e| e <= tolerance);
        self.rows.push(Row {
            case: self.case.into(),
            op: if self.whole { self.op.into() } else { "head".into() },
            output: output.into(),
            error,
            tolerance,
            differing,
            ok,
            note: wrong.unwrap_or_default(),
        });
    }

    /// What must be equal: `wrong` says what is not.
    pub(crate) fn exact(&mut self, output: &str, wrong: Option<String>) {
        self.push(output, None, 0.0, 0, wrong);
    }

    /// Choices: how many differ, and which one should not.
    pub(crate) fn choices(&mut self, output: &str, differing: usize, wrong: Option<String>) {
        self.push(output, None, 0.0, differing, wrong);
    }

    /// A tensor that was written.
    pub(crate) fn tensor(&mut self, output: &str, got: &[f64], want: &[f64], tolerance: f64) {
        let (error, note) = error_of(got, want, |_| 0.0);
        self.push(output, Some(error), tolerance, 0, note.filter(|_| error > tolerance));
    }

    /// A tensor that was added to: `got` and `before` hold it, `more` is what was to be added.
    pub(crate) fn added(&mut self, output: &str, before: &[f64], got: &[f64], more: &[f64], tolerance: f64) {
        let delta: Vec<f64> = got.iter().zip(before).map(|(g, b)| g - b).collect();
        let ulp = |i: usize| before[i].abs() * f64::from(f32::EPSILON) * 2.0;
        let (error, mut note) = error_of(&delta, more, ulp);
        let missed = (0..got.len()).find(|&i| got[i] == before[i] && more[i].abs() > 4.0 * ulp(i) + 1e-30);
        note = note.filter(|_| error > tolerance);
        if let (None, Some(i)) = (&note, missed) {
            note = Some(format!("nothing was added to number {i}, which gets {:.3e}", more[i]));
        }
        self.push(output, Some(error), tolerance, 0, note);
    }
}

/// Largest error relative to the largest magnitude, less a `slack` for each number; and what is wrong beyond numbers.
pub(crate) fn error_of(got: &[f64], want: &[f64], slack: impl Fn(usize) -> f64) -> (f64, Option<String>) {
    if got.len() != want.len() {
        return (f64::INFINITY, Some(format!("{} numbers instead of {}", got.len(), want.len())));
    }
    let scale = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let scale = if scale > 0.0 { scale } else { 1.0 };
    let mut worst = 0.0f64;
    let mut at = 0;
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        if !g.is_finite() {
            let place = format!("number {i} of {} is {g}, should be {w:.6e}", got.len());
            return (f64::INFINITY, Some(format!("{place} (regions are NaN before they are written)")));
        }
        let e = ((g - w).abs() - slack(i)).max(0.0) / scale;
        if e > worst {
            (worst, at) = (e, i);
        }
    }
    let far = worst > 0.1;
    (worst, far.then(|| format!("number {at} of {} is {:.6e}, should be {:.6e}", got.len(), got[at], want[at])))
}

fn round(x: f64) -> f64 {
    half::bf16::from_f32(x as f32).to_f64()
}

pub(crate) fn rounded(x: &[f64]) -> Vec<f64> {
    x.iter().map(|&x| round(x)).collect()
}

pub(crate) fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

pub(crate) fn wide(csr: &Csr<f32>) -> Csr<f64> {
    Csr { indptr: csr.indptr.clone(), indices: csr.indices.clone(), values: widen(&csr.values) }
}

/// `[a, b, width]` as `[b, a, width]`.
pub(crate) fn swap(x: &[f64], a: usize, b: usize, width: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(x.len());
    for j in 0..b {
        for i in 0..a {
            out.extend_from_slice(&x[(i * b + j) * width..][..width]);
        }
    }
    out
}

/// A value whose gradient is `seeds`, for a backward pass from several values.
pub(crate) fn seed(tape: &mut Tape<'_, f64>, seeds: Vec<(Var, Vec<f64>)>) -> Var {
    let root = tape.value(vec![0.0], [1, 1]);
    tape.record("seed", &[root], move |s| {
        for (v, g) in &seeds {
            let mut d = s.take(*v);
            d.iter_mut().zip(g).for_each(|(d, g)| *d += g);
            s.put(*v, d);
        }
    });
    root
}

/// Runs backward from `root`; the gradients of parameters of these lengths.
pub(crate) fn backward(tape: Tape<'_, f64>, root: Var, lengths: &[usize]) -> Vec<Vec<f64>> {
    let mut out: Vec<Vec<f64>> = lengths.iter().map(|&n| vec![0.0; n]).collect();
    let ran = tape.backward(root, &[1.0], Grads::new(out.iter_mut().map(Vec::as_mut_slice).collect()));
    if ran.is_err() {
        out.iter_mut().for_each(|x| x.fill(f64::NAN));
    }
    out
}
