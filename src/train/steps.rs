//! Steps on the CPU: losses, guards against what is no number, the optimiser.

use std::path::Path;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::config::{OnNan, TrainConfig};
use super::observe::{Observer, TrainingStep};
use super::run::Checkpoint;
use super::schedule::Scaling;
use super::state::{Moments, Position};
use super::{state, tensors};
use crate::dataset::{DataSet, SampleSet};
use crate::error::{Error, Result};
use crate::model::output::Want;
use crate::model::{Batch, Dropout, Model, ModelConfig};
use crate::ops::adam::{AdamConfig, Decay, Others, Rates, RowAdam, Stepped};
use crate::profile::{span, work};
use crate::{engine, tape};

/// Times that a checkpoint is gone back to, at most, with `--on-nan rollback`.
const ROLLBACKS: u32 = 3;

/// Where batches come from.
pub(crate) trait Batches: Sync {
    fn batch(&self, numbers: &[u32]) -> Batch<f32>;
    /// The sample's name for an error message.
    fn name(&self, number: u32) -> String;
    /// Training samples.
    fn train(&self) -> usize;
    /// Could all that was read be read?
    fn check(&self) -> Result<()>;
}

pub(crate) struct Prepared<'a> {
    pub data: &'a DataSet,
    pub set: &'a SampleSet,
}

impl Batches for Prepared<'_> {
    fn batch(&self, numbers: &[u32]) -> Batch<f32> {
        self.data.batch(self.set, numbers)
    }

    fn name(&self, number: u32) -> String {
        let cells = &self.data.vocabulary().cells;
        let cell = |i: u32| cells.get(i as usize).map_or("?", String::as_str);
        match self.set.samples.get(number as usize) {
            Some(s) => format!("{number} (RNA of {}, ATAC of {})", cell(s.rna), cell(s.atac)),
            None => number.to_string(),
        }
    }

    fn train(&self) -> usize {
        self.set.train.len()
    }

    fn check(&self) -> Result<()> {
        self.data.check()
    }
}

/// Are all squares of a gradient finite? Where the optimiser goes by the named rows of its tables, only these are looked at,
/// as the others are 0, and all that is behind the tables.
fn finite(grads: &[f32], named: &[u32], adam: &RowAdam<f32>) -> bool {
    let _span = span("finite", "");
    let (tables, width) = adam.tables();
    let (rows, rest) = grads.split_at(tables);
    let row = |&r: &u32| squares_finite(&rows[r as usize * width..][..width]);
    let by_rows = adam.by_rows(named.len());
    work(|| {
        let looked_at = (rest.len() + if by_rows { named.len() * width } else { tables }) as f64;
        (2.0 * looked_at, 4.0 * looked_at)
    });
    let rows =
        if by_rows { named.par_iter().with_min_len(64).all(row) } else { rows.par_chunks(1 << 14).all(squares_finite) };
    rows && rest.par_chunks(1 << 14).all(squares_finite)
}

/// By eight sums side by side, so that the compiler can use its vectors: a square times 0 is 0, or no number.
fn squares_finite(x: &[f32]) -> bool {
    let mut sums = [0f32; 8];
    let chunks = x.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().map(|x| x * x * 0.0).sum();
    for c in chunks {
        for (s, x) in sums.iter_mut().zip(c) {
            *s += x * x * 0.0;
        }
    }
    sums.iter().sum::<f32>() + rest == 0.0
}

/// The optimiser of the settings.
pub(crate) fn optimiser(config: &TrainConfig, model: &ModelConfig) -> RowAdam<f32> {
    let others = if config.lazy_adam { Others::Left } else { Others::Later };
    RowAdam::new(model.genes + model.peaks, model.embedding_dim, others)
}

/// The state first: it alone is what a resumption reads.
pub(crate) fn save(out: &Path, model: &Model<f32>, moments: &Moments, place: &Position) -> Result<()> {
    let _span = span("save", "");
    let dir = out.join("checkpoints");
    state::save(&dir, &model.config, &model.params, moments, place)?;
    tensors::save(&dir.join(Checkpoint::Last.file_name()), &model.params, &model.config)
}

/// A run between two steps: all that a step reads and changes, apart from the source that the reader shares.
pub(crate) struct Steps<'a> {
    pub config: &'a TrainConfig,
    pub rates: Rates,
    pub out: &'a Path,
    pub model: Model<f32>,
    pub moments: Moments,
    /// The optimiser on the CPU; behind only between steps.
    pub adam: RowAdam<f32>,
    pub place: Position,
    /// Times that the last checkpoint was gone back to.
    pub rollbacks: u32,
    pub observer: &'a mut dyn Observer,
}

impl Steps<'_> {
    /// Brings parameters and moments up to date.
    pub(crate) fn flush(&mut self) {
        self.adam.flush(self.model.params.as_mut_slice(), &mut self.moments.m, &mut self.moments.v);
    }

    pub(crate) fn save(&mut self) -> Result<()> {
        self.flush();
        self.rollbacks = 0;
        save(self.out, &self.model, &self.moments, &self.place)
    }

    /// Is a checkpoint due after this step, the last one having been written then?
    pub(crate) fn checkpoint_due(&self, step: u64, saved: Instant) -> bool {
        let minutes = self.config.checkpoint_minutes.map(|m| Duration::from_secs_f64(m * 60.0));
        self.config.checkpoint_steps.is_some_and(|n| step.is_multiple_of(n))
            || minutes.is_some_and(|m| saved.elapsed() >= m)
    }

    /// False: asked to stop.
    pub(crate) fn step(
        &mut self,
        source: &impl Batches,
        numbers: &[u32],
        batch: &Batch<f32>,
        grads: &mut [f32],
        from: usize,
        began: Instant,
    ) -> Result<bool> {
        let p = &self.place;
        let dropout = Dropout { seed: self.config.seed, step: p.step };
        let genes = self.config.genes_of_step(self.model.config.genes, p.step);
        let rows = self.model.table_rows(batch, genes.as_deref());
        let Moments { m, v } = &mut self.moments;
        self.adam.catch_up(self.model.params.as_mut_slice(), m, v, &rows);
        let want = Want::default();
        let run = engine::PassOptions {
            dropout: Some(dropout),
            grads: Some(grads),
            want,
            given: None,
            genes: genes.as_deref(),
        };
        let output = self.model.run(batch, run)?;
        let losses = Losses {
            loss: output.loss,
            matching: output.match_loss,
            translation: output.translation_loss,
            cis: output.cis_loss,
            contrast: output.contrast_loss,
        };
        if output.loss.is_finite() && finite(grads, &rows, &self.adam) {
            let constants = AdamConfig { lr: self.rates.at(p.step), ..self.config.adam };
            let of = Stepped { p: self.model.params.as_mut_slice(), g: grads, m, v };
            self.adam.step(of, &constants, p.updates + 1, &rows);
            return self.took(numbers, losses, from, began);
        }
        let what = if output.loss.is_finite() {
            let layout = self.model.params.layout();
            let tensor = layout.entries().iter().find(|e| !squares_finite(&grads[e.range.clone()]));
            format!("the gradient of {} is not finite", tensor.map_or("the parameters", |e| &e.name))
        } else {
            format!("the loss is {}", output.loss)
        };
        let (what, numbers_of) = self.narrow(source, numbers, what, grads);
        let line = self.complaint(source, &numbers_of, numbers.len(), &what);
        grads.fill(0.0);
        match self.config.on_nan {
            OnNan::Stop => {
                self.save()?;
                Err(self.not_finite(line))
            }
            OnNan::Skip => self.left_out(numbers, &line, "left out", losses, from, began),
            OnNan::Rollback => {
                let done = self.roll_back(&line)?;
                self.left_out(numbers, &line, &done, losses, from, began)
            }
        }
    }

    /// Where it comes from that the step on these samples was not finite, `what`: the op, and the fewest of them that show it,
    /// found by halving.
    pub(crate) fn narrow(
        &self,
        source: &impl Batches,
        numbers: &[u32],
        what: String,
        grads: &mut [f32],
    ) -> (String, Vec<u32>) {
        let step = self.place.step;
        let genes = self.config.genes_of_step(self.model.config.genes, step);
        let mut pass = |numbers: &[u32]| {
            grads.fill(0.0);
            let dropout = Some(Dropout { seed: self.config.seed, step });
            let run = engine::PassOptions {
                dropout,
                grads: Some(&mut *grads),
                want: Want::default(),
                given: None,
                genes: genes.as_deref(),
            };
            let batch = source.batch(numbers);
            tape::watch(|| self.model.run(&batch, run).is_ok())
        };
        let mut of = numbers.to_vec();
        let mut found = None;
        loop {
            let (_, here) = pass(&of);
            found = here.or(found);
            if here.is_none() || of.len() == 1 {
                break;
            }
            let (first, second) = of.split_at(of.len() / 2);
            let Some(half) = [first, second].into_iter().find(|half| pass(half).1.is_some()) else {
                break; // only together
            };
            of = half.to_vec();
        }
        match found {
            Some(f) if f.backward => (format!("{what}: first in the gradients of op `{}`", f.op), of),
            Some(f) => (format!("{what}: first in the values of op `{}`", f.op), of),
            None => (what, of),
        }
    }

    /// Brings back the parameters and moments of the last checkpoint; what was done, in words.
    pub(crate) fn roll_back(&mut self, line: &str) -> Result<String> {
        self.rollbacks += 1;
        self.flush();
        let mut damaged = String::new();
        let dir = self.out.join("checkpoints");
        let mut skipped = |line: String| damaged = line;
        let (moments, place) = state::load(&dir, &self.model.config, &mut self.model.params, &mut skipped)?;
        if !damaged.is_empty() {
            self.observer.note(&damaged);
        }
        self.moments = moments;
        self.place.updates = place.updates;
        if self.rollbacks > ROLLBACKS {
            let fix = "resume with --on-nan skip, or train again with a smaller --lr";
            let found = format!("{line}; went back {ROLLBACKS} times to the checkpoint of step {} already", place.step);
            return Err(Error::input(self.out, found, fix));
        }
        Ok(format!("left out, and parameters and moments are those of the checkpoint of step {} again", place.step))
    }

    /// A step was taken. False: asked to stop.
    pub(crate) fn took(&mut self, numbers: &[u32], losses: Losses, from: usize, began: Instant) -> Result<bool> {
        let p = &mut self.place;
        let n = numbers.len() as f64;
        p.updates += 1;
        p.loss.add(f64::from(losses.loss) * n);
        p.match_loss.add(f64::from(losses.matching) * n);
        p.translation_loss.add(f64::from(losses.translation) * n);
        p.cis_loss.add(f64::from(losses.cis) * n);
        p.contrast_loss.add(f64::from(losses.contrast) * n);
        p.counted += numbers.len() as u64;
        self.passed(numbers, losses, from, began)
    }

    /// A step was left out, as it was not finite. False: asked to stop.
    pub(crate) fn left_out(
        &mut self,
        numbers: &[u32],
        line: &str,
        done: &str,
        losses: Losses,
        from: usize,
        began: Instant,
    ) -> Result<bool> {
        self.place.skipped += numbers.len() as u64;
        self.observer.note(&format!("warning: {line}; {done}"));
        self.passed(numbers, losses, from, began)
    }

    fn passed(&mut self, numbers: &[u32], losses: Losses, from: usize, began: Instant) -> Result<bool> {
        let p = &mut self.place;
        p.step += 1;
        p.position += numbers.len();
        let seconds = began.elapsed().as_secs_f64();
        self.observer.step(&TrainingStep {
            epoch: p.epoch + 1,
            position: p.position,
            step: p.step,
            loss: f64::from(losses.loss),
            mean_loss: if p.counted > 0 { p.loss.get() / p.counted as f64 } else { f64::NAN },
            lr: self.rates.at(p.step - 1),
            samples_per_second: if seconds > 0.0 { (p.position - from) as f64 / seconds } else { 0.0 },
        });
        Ok(self.observer.stop().is_none())
    }

    /// What was not finite, at which step, with which samples of a batch of so many.
    pub(crate) fn complaint(&self, source: &impl Batches, numbers: &[u32], batch: usize, what: &str) -> String {
        let mut names: Vec<_> = numbers.iter().take(4).map(|&i| source.name(i)).collect();
        if numbers.len() > names.len() {
            names.push(format!("… {} in all", numbers.len()));
        }
        let s = if numbers.len() == 1 { "" } else { "s" };
        let of = if numbers.len() < batch { format!(" of a batch of {batch}") } else { String::new() };
        format!("step {}: {what}; pair{s} {}{of}", self.place.step + 1, names.join(", "))
    }

    pub(crate) fn not_finite(&self, line: String) -> Error {
        let fix = "saved before that step: resume with --on-nan skip, or train again with a smaller --lr";
        Error::input(self.out, line, fix)
    }
}

/// Losses of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Losses {
    pub loss: f32,
    pub matching: f32,
    pub translation: f32,
    pub cis: f32,
    pub contrast: f32,
}

/// What a run says of its learning rate, where that is not the one given all the time.
pub(crate) fn rate_line(config: &TrainConfig, rates: &Rates) -> Option<String> {
    let schedule = &config.schedule;
    if schedule.scaling == Scaling::None && rates.warmup < 2 && rates.decay == Decay::None {
        return None;
    }
    Some(format!("learning rate {:.3e} at batch size {} ({})", rates.rate, config.batch_size, schedule.words()))
}
