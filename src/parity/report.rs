//! How much a check tries, and what came of it.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use serde::Serialize;

use crate::device::sink::Row;
use crate::model::Precision;

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cases {
    /// Small cases that look for trouble: seconds, even on a host.
    Quick,
    /// Those, and batches of NeurIPS-2021 shape. For GPUs.
    Full,
}

/// What came of a check.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
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

impl CheckReport {
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
