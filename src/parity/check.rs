//! The check: a training step of each case, pass by pass, twice.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::cases::cases;
use super::report::{Cases, CheckReport};
use crate::device::gpu::Kernels;
use crate::device::op::Turn;
use crate::device::program::Pass;
use crate::device::sink::{Row, Sink};
use crate::device::view::{Area, Case, Found, Image, Moment, View};
use crate::device::{Gpu, host};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::model::Precision;
use crate::ops;
use crate::ops::adam::Rates;
use crate::ops::adam::check::RATE;
use crate::ops::registry;
use crate::progress::Progress;
use crate::rng::Rng;

/// Checks the kernels of `op` against the op on the CPU.
///
/// # Errors
/// No op of that name; no memory. A kernel that fails is no error but a row of the report. After a launch that failed the
/// device cannot be used again by this process.
pub fn check(
    gpu: &Arc<Gpu>,
    kernels: &Kernels,
    op: &str,
    precision: Precision,
    cases: Cases,
    progress: &dyn Progress,
) -> Result<CheckReport> {
    check_ops(gpu, kernels, &[op], precision, cases, progress)
}

/// [`check`] of several ops in one go.
pub fn check_ops(
    gpu: &Arc<Gpu>,
    kernels: &Kernels,
    ops: &[&str],
    precision: Precision,
    which: Cases,
    progress: &dyn Progress,
) -> Result<CheckReport> {
    if let Some(op) = ops.iter().find(|op| ops::find(op).is_none()) {
        return Err(Error::usage(format!("{op:?} is no op; there are {}", registry::names().join(", "))));
    }
    let report = CheckReport {
        ops: ops.iter().map(|o| o.to_string()).collect(),
        precision,
        device: gpu.name().to_string(),
        cases: which,
        launched: BTreeSet::new(),
        deterministic: true,
        rows: Vec::new(),
    };
    let mut checking = Checking { gpu, kernels, ops, report };
    for (i, case) in cases(which)?.iter().enumerate() {
        progress.check("nothing was written")?;
        let mut hashes = Hashes::default();
        for again in [false, true] {
            if again && !checking.report.rows.iter().all(|r| r.ok) {
                continue;
            }
            let shuffled = again && gpu.is_host() && host::configure("SCX_HOST_SEED", Some("906"));
            let ran = checking.case(case, i == 0 && !again, again, &mut hashes);
            if shuffled {
                host::configure("SCX_HOST_SEED", None);
            }
            match ran {
                Ok(()) => {}
                Err(Error::Device { doing, name, text, .. }) => {
                    let note = host::last_failure().unwrap_or(format!("{name} ({text})"));
                    checking.report.rows.push(Row {
                        case: case.name.into(),
                        op: ops.join(", "),
                        output: "run".into(),
                        error: None,
                        tolerance: 0.0,
                        differing: 0,
                        ok: false,
                        note: format!("failed to {doing}: {}", note.lines().collect::<Vec<_>>().join(" ")),
                    });
                    return Ok(checking.report);
                }
                Err(e) => return Err(e),
            }
        }
    }
    Ok(checking.report)
}

/// What every region looked like behind every pass: of which turn, in which step.
type Hashes = HashMap<(u32, usize, Pass, &'static str), u64>;

/// A check under way.
struct Checking<'a> {
    gpu: &'a Arc<Gpu>,
    kernels: &'a Kernels,
    /// The ops that are asked for.
    ops: &'a [&'a str],
    report: CheckReport,
}

/// Where a turn's pass comes in a step.
fn when(pass: Pass, place: u32) -> (Pass, u32) {
    (pass, if pass == Pass::Backward { u32::MAX - place } else { place })
}

impl Checking<'_> {
    fn asks(&self, op: &str) -> bool {
        self.ops.contains(&op)
    }

    /// Is an op asked for that this turn belongs to, or that sums up for it?
    fn concerns(&self, op: &str, turn: &Turn, pass: Pass) -> bool {
        self.asks(op) || (pass == Pass::Backward && turn.sums_by.iter().any(|by| self.asks(by)))
    }

    /// The last pass of a step that has to run.
    fn last(&self) -> Option<(Pass, u32)> {
        let turns = ops::ALL.iter().flat_map(|op| op.turns.iter().map(|t| (op.name, t)));
        let concerned = turns.filter(|(op, t)| self.concerns(op, t, t.last));
        concerned.map(|(_, t)| when(t.last, t.place)).max()
    }

    /// Runs one case. The second time (`again`), numbers are compared with the CPU's only where bits differ from the first.
    fn case(&mut self, case: &Case, first: bool, again: bool, hashes: &mut Hashes) -> Result<()> {
        let mut engine = Engine::new(self.gpu.clone(), self.kernels.clone(), &case.model, self.report.precision)?;
        engine.set_rates(Rates::constant(RATE));
        let last = self.last();
        let n = case.model.params.layout().len();
        let mut rng = Rng::new(906, 8000);
        let mut random =
            |scale: f64| (0..n).map(|_| (scale * (2.0 * rng.uniform() - 1.0)) as f32).collect::<Vec<f32>>();
        engine.set_grads(&random(1e-3))?;
        let (m, v) = (random(1e-2), random(1e-4).iter().map(|v| v.abs()).collect::<Vec<f32>>());
        engine.set_moments(&m, &v, 3, true)?;
        // A second and third step on the same engine: a gradient that is no number, and what comes after.
        let steps: &[Option<f32>] = if first && self.asks("adam") { &[None, Some(f32::NAN), None] } else { &[None] };
        for (number, poison) in steps.iter().enumerate() {
            let name = match number {
                0 => case.name.to_string(),
                1 => format!("{}; a gradient that is no number", case.name),
                _ => format!("{}; behind it", case.name),
            };
            let mut before: Option<Image> = None;
            engine.probe(&case.batch, case.dropout, case.roomy, true, |probe, moment| {
                let Some(turn) = ops::find(moment.op).and_then(|op| op.turn(moment.turn)) else { return Ok(true) };
                if !self.concerns(moment.op, turn, moment.pass) || (number > 0 && moment.op != "adam") {
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
                    self.report.launched.extend(names);
                    before = Some(probe.image()?);
                    return Ok(true);
                }
                let Some(before) = before.take() else { return Ok(true) };
                let after = probe.image()?;
                let areas = probe.areas()?;
                if !self.same(&moment, number, again, (&areas, &after), hashes) {
                    let extent = probe.extent();
                    let found = Found {
                        areas: &areas,
                        starts: probe.starts(),
                        extent: &extent,
                        lengths: &extent.lengths(&ops::regions())?,
                        positives: &probe.arranged.positives,
                        before: &before,
                        after: &after,
                        precision: self.report.precision,
                    };
                    let mut sink = Sink::new(&name, self.ops, moment.op);
                    verify(turn, moment.pass, &View::new(case, found), &mut sink);
                    // Once more in another order of threads: only what fails is news.
                    let rows = sink.rows.into_iter().filter(|r| !again || !r.ok);
                    self.report.rows.extend(rows.map(|r| if again { r.shuffled() } else { r }));
                }
                // What comes behind the last pass of these ops need not run.
                Ok(Some(when(moment.pass, moment.turn)) < last)
            })?;
        }
        Ok(())
    }

    /// Are all bits behind the pass those of the first run? Of a first run, none are.
    fn same(
        &mut self,
        m: &Moment<'_>,
        number: usize,
        again: bool,
        (areas, after): (&[Area], &Image),
        hashes: &mut Hashes,
    ) -> bool {
        let mut same = again;
        for area in areas {
            let key = (m.turn, number, m.pass, area.name);
            let hash = xxh3_64(after.bytes(area));
            match hashes.insert(key, hash) {
                Some(old) if old != hash => same = false,
                _ => {}
            }
        }
        if again {
            self.report.deterministic &= same;
        }
        same
    }
}

/// Compares all that a pass has written.
fn verify(turn: &Turn, pass: Pass, view: &View<'_>, out: &mut Sink<'_>) {
    if out.whole {
        let mut writes = view.writes();
        (turn.writes)(&mut writes, pass);
        let wrong = view.outside(&writes);
        out.exact(if pass == Pass::Forward { "all other memory" } else { "all other memory, backward" }, wrong);
    }
    (turn.check)(view, pass, out);
}
