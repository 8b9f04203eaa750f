//! Parity: the kernels of an op against the op on the CPU.
//!
//! A training step of small models runs pass by pass on the device ([`check`]). What a pass of the op has written is
//! compared with the CPU op in f64, computed from the very inputs that the pass has read, so that errors of other ops do
//! not matter. All memory is looked at: what a pass must not write must be as before, and what it must write is NaN
//! before. Everything runs twice, on a host with threads in another order, and must give the same bits.
//!
//! Errors are relative to the largest magnitude of a tensor. Choices (places of the attention, scores above the
//! threshold, genes predicted on) are the device's; they may differ from the CPU's only where the logits that decide are
//! nearer to each other, or to the threshold, than 1e-5 (`f32`) or 2⁻⁸ (`bf16`) of |q| |k|. In `bf16`,
//! a product may be wrong by 2 times (gradients 3 times) what comes of rounding its operands, or that share of 2⁻⁹; else by
//! 1e-4, and the gradients of the translation by 2⁻²³ |q| |k| where that is more.

#[forbid(unsafe_code)]
pub mod adam;
#[forbid(unsafe_code)]
pub mod attend;
pub mod bench;
#[forbid(unsafe_code)]
pub mod cases;
#[forbid(unsafe_code)]
pub mod head;
#[forbid(unsafe_code)]
pub mod pool;
#[forbid(unsafe_code)]
pub mod project;
#[forbid(unsafe_code)]
pub mod sink;
#[forbid(unsafe_code)]
pub mod terms;
#[forbid(unsafe_code)]
pub mod translate;
#[forbid(unsafe_code)]
pub mod trust;
#[forbid(unsafe_code)]
pub mod verify;
#[forbid(unsafe_code)]
pub mod view;

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::device::gpu::Kernels;
use crate::device::program::Pass;
use crate::device::registry::OPS;
use crate::device::{Gpu, host};
use crate::engine::Engine;
use crate::engine::cuda::probe::Image;
use crate::error::{Error, Result};
use crate::model::Precision;
use crate::ops::adam::Rates;
use crate::rng::Rng;
use sink::Sink;
use view::View;

pub(crate) use cases::Case;

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cases {
    /// Small cases that look for trouble: seconds, even on a host.
    Quick,
    /// Those, and batches of NeurIPS-2021 shape. For GPUs.
    Full,
}

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

/// What came of a check.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The ops that were checked.
    pub ops: Vec<String>,
    /// How matrices were multiplied.
    pub precision: Precision,
    /// The device.
    pub device: String,
    /// How much was tried.
    pub cases: Cases,
    /// Entry points that were launched in the passes of these ops.
    pub launched: BTreeSet<String>,
    /// Do two runs give the same bits? On a host, the second runs its threads in another order.
    pub deterministic: bool,
    /// All outputs of all cases.
    pub rows: Vec<Row>,
}

impl Report {
    /// Is everything as it should be?
    pub fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|r| r.ok)
    }

    /// The first output that is not.
    pub fn first_failure(&self) -> Option<&Row> {
        self.rows.iter().find(|r| !r.ok)
    }

    /// The error of an op that comes nearest to its tolerance, and that tolerance.
    pub fn worst(&self, op: &str) -> (f64, f64) {
        let own = self.rows.iter().filter(|r| r.op == op).filter_map(|r| Some((r.error?, r.tolerance)));
        own.fold((0.0, 1.0), |a, b| if b.0 / b.1 > a.0 / a.1 { b } else { a })
    }

    /// A table for reading: every output with its worst case, then all that failed.
    pub fn table(&self) -> String {
        let mut order: Vec<(&str, &str)> = Vec::new();
        let mut worst: HashMap<(&str, &str), (usize, &Row, usize, bool)> = HashMap::new();
        for r in &self.rows {
            let key = (r.op.as_str(), r.output.as_str());
            let share = |r: &Row| r.error.unwrap_or(0.0) / r.tolerance.max(f64::MIN_POSITIVE);
            let w = worst.entry(key).or_insert_with(|| {
                order.push(key);
                (0, r, 0, true)
            });
            w.0 += 1;
            if share(r) > share(w.1) {
                w.1 = r;
            }
            w.2 += r.differing;
            w.3 &= r.ok;
        }
        let mut text = format!(
            "{:<10} {:<34} {:>5} {:>9} {:>9} {:>9}  {:<6} worst case\n",
            "op", "output", "cases", "error", "allowed", "differing", ""
        );
        for key in order {
            let (cases, row, differing, ok) = worst[&key];
            let number = |x: f64| format!("{x:.1e}");
            let (error, allowed) = match row.error {
                Some(e) => (number(e), number(row.tolerance)),
                None => ("-".into(), "equal".into()),
            };
            let _ = writeln!(
                text,
                "{:<10} {:<34} {cases:>5} {error:>9} {allowed:>9} {differing:>9}  {:<6} {}",
                key.0,
                key.1,
                if ok { "ok" } else { "FAILED" },
                row.case
            );
        }
        for r in self.rows.iter().filter(|r| !r.ok) {
            let _ = writeln!(text, "FAILED {}", r.line());
        }
        let _ = writeln!(
            text,
            "{} on {} ({}): {}; deterministic: {}",
            self.ops.join(", "),
            self.device,
            self.precision.name(),
            if self.passed() { "passed" } else { "failed" },
            if self.deterministic { "yes" } else { "no" },
        );
        text
    }
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
}

/// Checks the kernels of `op` against the op on the CPU.
///
/// # Errors
/// No op of that name; no memory. A kernel that fails is no error but a row of the report. After a launch that failed the
/// device cannot be used again by this process.
pub fn check(gpu: &Arc<Gpu>, kernels: &Kernels, op: &str, precision: Precision, cases: Cases) -> Result<Report> {
    check_ops(gpu, kernels, &[op], precision, cases)
}

/// [`check`] of several ops in one go.
pub fn check_ops(
    gpu: &Arc<Gpu>,
    kernels: &Kernels,
    ops: &[&str],
    precision: Precision,
    cases: Cases,
) -> Result<Report> {
    if let Some(op) = ops.iter().find(|op| !OPS.contains(op)) {
        return Err(Error::usage(format!("{op:?} is no op; there are {}", OPS.join(", "))));
    }
    let mut report = Report {
        ops: ops.iter().map(|o| o.to_string()).collect(),
        precision,
        device: gpu.name().to_string(),
        cases,
        launched: BTreeSet::new(),
        deterministic: true,
        rows: Vec::new(),
    };
    for (i, case) in cases::cases(cases)?.iter().enumerate() {
        crate::interrupt::check("nothing was written")?;
        let mut hashes = Hashes::default();
        for again in [false, true] {
            if again && !report.rows.iter().all(|r| r.ok) {
                continue;
            }
            let shuffled = again && gpu.is_host() && host::configure("SCX_HOST_SEED", Some("906"));
            let ran = run(gpu, kernels, ops, case, i == 0 && !again, again, &mut hashes, &mut report);
            if shuffled {
                host::configure("SCX_HOST_SEED", None);
            }
            match ran {
                Ok(()) => {}
                Err(Error::Device { doing, name, text, .. }) => {
                    let note = host::last_failure().unwrap_or(format!("{name} ({text})"));
                    report.rows.push(Row {
                        case: case.name.into(),
                        op: ops.join(", "),
                        output: "run".into(),
                        error: None,
                        tolerance: 0.0,
                        differing: 0,
                        ok: false,
                        note: format!("failed to {doing}: {}", note.lines().collect::<Vec<_>>().join(" ")),
                    });
                    return Ok(report);
                }
                Err(e) => return Err(e),
            }
        }
    }
    Ok(report)
}

/// What every region looked like behind every pass.
type Hashes = HashMap<(String, Pass, &'static str), u64>;

/// Runs one case. The second time (`again`), numbers are compared with the CPU's only where bits differ from the first.
#[allow(clippy::too_many_arguments)]
fn run(
    gpu: &Arc<Gpu>,
    kernels: &Kernels,
    ops: &[&str],
    case: &Case,
    first: bool,
    again: bool,
    hashes: &mut Hashes,
    report: &mut Report,
) -> Result<()> {
    let mut engine = Engine::new(gpu.clone(), kernels.clone(), &case.model, report.precision)?;
    engine.set_rates(Rates::constant(view::RATE));
    // Passes go backward in this order; those of `cis` up to its tables, and so does `reduce_parts` of `head`.
    const ORDER: [&str; 8] = ["contrast", "head", "pool", "attend", "translate", "cis", "project", "adam"];
    let turn = |op: &str| ORDER.iter().position(|o| *o == op);
    let last = ops.iter().map(|op| turn(if *op == "head" { "cis" } else { op })).max().unwrap_or_default();
    let n = case.model.params.layout().len();
    let mut rng = Rng::new(906, 8000);
    let mut random = |scale: f64| (0..n).map(|_| (scale * (2.0 * rng.uniform() - 1.0)) as f32).collect::<Vec<f32>>();
    engine.set_grads(&random(1e-3))?;
    let (m, v) = (random(1e-2), random(1e-4).iter().map(|v| v.abs()).collect::<Vec<f32>>());
    engine.set_moments(&m, &v, 3, true)?;
    // A second and third step on the same engine: a gradient that is no number, and what comes after.
    let steps: &[Option<f32>] = if first && ops.contains(&"adam") { &[None, Some(f32::NAN), None] } else { &[None] };
    for (number, poison) in steps.iter().enumerate() {
        let name = match number {
            0 => case.name.to_string(),
            1 => format!("{}; a gradient that is no number", case.name),
            _ => format!("{}; behind it", case.name),
        };
        let mut before: Option<Image> = None;
        engine.probe(&case.batch, case.dropout, case.roomy, true, |probe, moment| {
            let asked = ops.contains(&moment.op) || (ops.contains(&"head") && head::uses_head(&moment));
            if !asked || (number > 0 && moment.op != "adam") {
                return Ok(true);
            }
            if !moment.after {
                if moment.op == "adam" {
                    // The last tensor ends before the arena does: the last number counts, too.
                    probe.write_gradient(probe.numbers() - 1, &[1e-3])?;
                    if let Some(x) = poison {
                        probe.write_gradient(1, &[*x])?;
                    }
                }
                let names = moment.steps.iter().flat_map(|s| &s.launches).map(|l| l.name().to_string());
                report.launched.extend(names);
                before = Some(probe.image()?);
                return Ok(true);
            }
            let Some(before) = before.take() else { return Ok(true) };
            let after = probe.image()?;
            let regions = probe.regions()?;
            let mut same = again;
            for r in &regions {
                let key = (format!("{} {number} {}", moment.op, view::is_first_of_cis(&moment)), moment.pass, r.name);
                let hash = xxh3_64(after.bytes(r));
                match hashes.insert(key, hash) {
                    Some(old) if old != hash => same = false,
                    _ => {}
                }
            }
            if again {
                report.deterministic &= same;
            }
            if !same {
                let view = View::new(case, probe, &regions, &before, &after, report.precision);
                let mut sink = Sink::new(&name, ops, &moment);
                view.verify(&moment, &mut sink);
                // Once more in another order of threads: only what fails is news.
                let rows = sink.rows.into_iter().filter(|r| !again || !r.ok);
                report.rows.extend(rows.map(|r| if again { r.shuffled() } else { r }));
            }
            // What comes behind the last pass of these ops need not run.
            Ok(moment.pass == Pass::Forward || view::is_first_of_cis(&moment) || turn(moment.op) < last)
        })?;
    }
    Ok(())
}

impl Row {
    fn shuffled(mut self) -> Self {
        self.case += "; run again";
        self
    }
}
