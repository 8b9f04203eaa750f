//! `adam` against the CPU.

use crate::device::abi::{Control, StepRecord};
use crate::device::sink::Sink;
use crate::device::view::{F32, View};
use crate::ops::adam;

/// The learning rate of the steps that are checked: not the usual one, which a kernel might have built in.
pub(crate) const RATE: f64 = 7e-4;

impl<'a> View<'a> {
    pub(crate) fn adam(&self, out: &mut Sink<'_>) {
        let Some(g) = self.regions.get("g") else { return };
        let len = g.bytes / 4;
        let read = |name: &str| self.numbers(self.before, name, len);
        let (mut p, mut g, mut m, mut v) = (read("p"), read("g"), read("m"), read("v"));
        let states = (
            self.plain::<StepRecord>(self.before, "record"),
            self.plain::<StepRecord>(self.after, "record"),
            self.plain::<Control>(self.before, "control"),
            self.plain::<Control>(self.after, "control"),
        );
        let (Some(r0), Some(r1), Some(c0), Some(c1)) = states else { return };
        let norm = g.iter().map(|x| x * x).sum::<f64>().sqrt();
        let finite = norm.is_finite() && r0.loss.is_finite();
        let halted = c0.halted == 1 || (!finite && c0.stop_on_nan == 1);
        let apply = finite && !halted;
        let updates = c0.updates + u32::from(apply);
        let before = p.clone();
        if apply {
            let constants = adam::AdamConfig { lr: RATE, ..adam::AdamConfig::default() };
            adam::step(&mut p, &mut g, &mut m, &mut v, &constants, u64::from(updates));
        }
        let more: Vec<f64> = p.iter().zip(&before).map(|(a, b)| a - b).collect();
        out.added("p", &before, &self.get("p", len), &more, F32);
        if !apply {
            let bits = |name: &str| self.words(self.before, name, len) == self.words(self.after, name, len);
            let wrong = ["p", "m", "v"].into_iter().find(|name| !bits(name));
            out.exact("nothing applied", wrong.map(|name| format!("`{name}` was changed by a step that is not taken")));
        }
        out.tensor("m", &self.get("m", len), &m, F32);
        out.tensor("v", &self.get("v", len), &v, F32);
        let left = self.get("g", len).iter().position(|&g| g != 0.0);
        out.exact("g = 0", left.map(|i| format!("gradient {i} was not set to 0")));
        if finite {
            out.tensor("norm", &[f64::from(r1.norm)], &[norm], F32);
        }
        let said = [r1.finite, r1.applied, r1.updates, c1.updates, c1.halted, c1.stop_on_nan];
        let want = [u32::from(finite), u32::from(apply), updates, updates, u32::from(halted), c0.stop_on_nan];
        let names = "finite, applied, updates of the record; updates, halted, stop_on_nan of the control";
        out.exact("record and control", (said != want).then(|| format!("{names}: {said:?}, should be {want:?}")));
    }
}
