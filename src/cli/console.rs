//! A training followed on the terminal.

use indicatif::ProgressBar;

use super::context::{Context, Following};
use crate::progress::Progress;
use crate::train::{EpochRecord, Observer, TrainingPlan, TrainingStep};

fn number(x: Option<f64>) -> String {
    x.map_or("–".into(), |x| format!("{x:.4}"))
}

pub(crate) fn scores(r: &EpochRecord) -> String {
    // With validation pairs and no accuracy, there were no negatives.
    let accuracy = match (r.val_accuracy, r.val_loss) {
        (None, Some(_)) => "–, no negatives".into(),
        (accuracy, _) => number(accuracy),
    };
    format!("accuracy {accuracy}, MAE {}, RMSE {}", number(r.val_mae), number(r.val_rmse))
}

/// A run on the terminal.
pub struct Console<'a> {
    ctx: &'a Context,
    /// What comes before the steps of the model.
    before: Following<'a>,
    bar: Option<ProgressBar>,
    plan: Option<TrainingPlan>,
}

impl<'a> Console<'a> {
    /// One that reports as `ctx` says.
    pub fn new(ctx: &'a Context) -> Self {
        Console { ctx, before: ctx.follow(), bar: None, plan: None }
    }

    /// Takes the progress bar away.
    pub fn close(&mut self) {
        self.before.clear();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) if !bar.is_hidden() => bar.suspend(|| self.ctx.say(line)),
            _ => self.before.note(line),
        }
    }
}

impl Progress for Console<'_> {
    fn note(&self, line: &str) {
        self.say(line);
    }

    fn at(&self, stage: &'static str, done: u64, of: u64) {
        self.before.at(stage, done, of);
    }

    fn stop(&self) -> Option<i32> {
        self.before.stop()
    }
}

impl Observer for Console<'_> {
    fn start(&mut self, plan: &TrainingPlan) {
        self.before.clear();
        self.ctx.say(&format!(
            "{} training and {} validation pairs, {} steps an epoch, {} epochs{}, {} parameters",
            plan.samples[0],
            plan.samples[1],
            plan.steps,
            plan.epochs,
            if plan.epochs_done > 0 { format!(" ({} done)", plan.epochs_done) } else { String::new() },
            plan.parameters,
        ));
        self.ctx.say(&plan.memory.line());
        if let Some(free) = crate::memory::available()
            && plan.memory.total() > free
        {
            self.ctx.say(&format!(
                "warning: only {} MiB of memory are available; a smaller --batch-size takes less",
                free >> 20
            ));
        }
        self.plan = Some(plan.clone());
    }

    fn step(&mut self, step: &TrainingStep) {
        let Some(plan) = &self.plan else { return };
        let samples = plan.samples[0];
        if self.bar.is_none() {
            self.before.clear();
        }
        if let Some(caller) = &self.ctx.caller {
            let (done, of) = ((step.epoch as usize - 1) * samples + step.position, plan.epochs as usize * samples);
            return caller.at("train", done as u64, of as u64);
        }
        let bar = self
            .bar
            .get_or_insert_with(|| self.ctx.progress(samples as u64, &format!("epoch {}/{}", step.epoch, plan.epochs)));
        bar.set_position(step.position as u64);
        let left =
            (samples - step.position.min(samples)) + (plan.epochs - step.epoch.min(plan.epochs)) as usize * samples;
        let eta = if step.samples_per_second > 0.0 { left as f64 / step.samples_per_second } else { 0.0 };
        bar.set_message(format!(
            "loss {:.4} {:.1} pairs/s, all epochs in {}",
            step.mean_loss,
            step.samples_per_second,
            indicatif::HumanDuration(std::time::Duration::from_secs_f64(eta.min(1e9))),
        ));
    }

    fn epoch(&mut self, r: &EpochRecord) {
        self.close();
        self.ctx.say(&format!(
            "epoch {:>3}  loss {}  val {}  {:.1} pairs/s{}",
            r.epoch,
            number(r.loss),
            scores(r),
            r.samples_per_second,
            if r.best { "  best" } else { "" },
        ));
    }

    fn validation(&mut self, done: usize, of: usize) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.before.at("validate", done as u64, of as u64);
    }
}
