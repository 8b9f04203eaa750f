//! The loop: shuffled batches, read ahead on another thread, steps, validation, checkpoints.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::checkpoint;
use super::config::{OnNan, TrainConfig};
use super::files::{read_text, remove_leftovers, write_text};
use super::observe::{EpochRecord, MemoryPlan, Observer, Plan, Step};
use super::run::{Checkpoint, Run, new_run_file, write_run, write_run_file};
use super::state::{self, Bits, Moments, Place};
use crate::error::{Error, Result};
use crate::graph::{DataSet, SampleSet};
use crate::model::{Batch, Dropout, Model, Output, Want};
use crate::ops::adam;
use crate::rng::Rng;

/// Streams of the shuffle: this plus the epoch.
const SHUFFLE: u64 = 0x5348_5546_0000_0000;

/// What became of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Epochs done in all.
    pub epochs: u32,
    /// Steps done in all.
    pub steps: u64,
    /// The record of the epoch whose parameters are `best.safetensors`.
    pub best: Option<EpochRecord>,
    /// The last record.
    pub last: Option<EpochRecord>,
    /// Stopped early, for lack of progress?
    pub early: bool,
}

/// Where batches come from.
trait Source: Sync {
    fn batch(&self, numbers: &[u32]) -> Batch<f32>;
    /// The sample's name for an error message.
    fn name(&self, number: u32) -> String;
}

struct Prepared<'a> {
    data: &'a DataSet,
    set: &'a SampleSet,
}

impl Source for Prepared<'_> {
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
}

/// Trains a new run in the folder `out`, which is made if need be (a run in it is replaced).
///
/// The result is a function of the data, the sample set and `config` alone: not of the number of threads, and not of
/// how often the run was interrupted and taken up again by [`resume`].
///
/// ```no_run
/// use sccrossrec::graph::DataSet;
/// use sccrossrec::train::{TrainConfig, recipe, train};
///
/// let data = DataSet::open("DATA".as_ref())?;
/// let set = data.samples("default")?;
/// let config = TrainConfig { epochs: 5, ..recipe("default")? };
/// let outcome = train(&data, &set, &config, "RUN".as_ref(), &mut ())?;
/// println!("best: {:?}", outcome.best.map(|r| (r.epoch, r.val_accuracy)));
/// # Ok::<(), sccrossrec::Error>(())
/// ```
///
/// # Errors
/// Settings that do not fit the data; a loss or gradient that is not finite (see [`OnNan`]); files that cannot be
/// written; [`Error::Interrupted`], once all is saved, when the observer says stop.
pub fn train(
    data: &DataSet,
    set: &SampleSet,
    config: &TrainConfig,
    out: &Path,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    config.validate()?;
    check_samples(data, set)?;
    let model = Model::new(config.model(data), data.features(), config.init(), config.seed)?;
    let mut file = new_run_file(data, config, &model.config)?;
    file.sample_counts = [set.train.len(), set.val.len(), set.test.len()];
    file.samples_hash = hash(set);
    let checkpoints = out.join("checkpoints");
    std::fs::create_dir_all(&checkpoints).map_err(|e| Error::io(&checkpoints, "create", e))?;
    for old in ["best.safetensors", "last.safetensors", "state.safetensors"].map(|f| checkpoints.join(f)) {
        if old.exists() {
            std::fs::remove_file(&old).map_err(|e| Error::io(&old, "remove", e))?;
        }
    }
    clean(out)?;
    write_run(out, &file, data.vocabulary())?;
    let moments = Moments { m: vec![0.0; file.parameters], v: vec![0.0; file.parameters] };
    let mut fit = Fit {
        source: Prepared { data, set },
        config,
        out,
        model,
        moments,
        place: Place::default(),
        log: Vec::new(),
        observer,
        resume_hint: format!("go on with: sccrossrec train --resume --out {}", out.display()),
    };
    fit.write_log()?;
    fit.save()?;
    fit.run(&set.train, &set.val)
}

/// Takes up the run in `out` where it was last saved. `config` is the run's own, or one that differs in what leaves the
/// steps as they are: more epochs, early stopping, checkpoint cadence, what to do at a step that is not finite.
pub fn resume(
    data: &DataSet,
    set: &SampleSet,
    config: &TrainConfig,
    out: &Path,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    config.validate()?;
    check_samples(data, set)?;
    let run = Run::open(out)?;
    if run.file.origin != "trained" {
        return Err(Error::input(
            out,
            "holds imported weights, which have no training state",
            "train without --resume",
        ));
    }
    let as_before = TrainConfig {
        epochs: run.config.epochs,
        min_epochs: run.config.min_epochs,
        patience: run.config.patience,
        checkpoint_steps: run.config.checkpoint_steps,
        checkpoint_minutes: run.config.checkpoint_minutes,
        on_nan: run.config.on_nan,
        ..config.clone()
    };
    if as_before != run.config {
        return Err(Error::input(
            out,
            "was trained with other settings than these",
            "resume with the settings of its run.json; only --epochs, --min-epochs, --patience, --checkpoint-steps, \
             --checkpoint-minutes and --on-nan may change",
        ));
    }
    if run.data_hash() != data.hash() {
        return Err(Error::input(
            data.dir(),
            format!("has hash {} where the run was trained on {}", data.hash(), run.data_hash()),
            "resume with the data set it was trained on, or train a new run",
        ));
    }
    if run.file.samples_hash != hash(set) {
        return Err(Error::input(
            data.dir(),
            format!("sample set `{}` is not the one that the run was trained on", config.samples),
            "restore it, or train a new run",
        ));
    }
    let mut model = Model::new(config.model(data), data.features(), config.init(), config.seed)?;
    let (moments, place) = state::load(&out.join("checkpoints/state.safetensors"), &run.sizes, &mut model.params)?;
    if place.position > set.train.len() {
        return Err(Error::input(
            out.join("checkpoints/state.safetensors"),
            format!("is at sample {} of {}", place.position, set.train.len()),
            "train again, to another --out",
        ));
    }
    clean(out)?;
    let log = read_log(&out.join("log.jsonl"), place.logged)?;
    let file = super::run::RunFile {
        config: config.clone(),
        program: env!("CARGO_PKG_VERSION").into(),
        data: super::run::data_ref(data)?,
        ..run.file
    };
    write_run_file(out, &file)?;
    let mut fit = Fit {
        source: Prepared { data, set },
        config,
        out,
        model,
        moments,
        place,
        log,
        observer,
        resume_hint: format!("go on with: sccrossrec train --resume --out {}", out.display()),
    };
    fit.write_log()?;
    fit.run(&set.train, &set.val)
}

/// Removes temporary files of a run that was killed while it wrote.
fn clean(out: &Path) -> Result<()> {
    for file in ["run.json", "genes.txt", "peaks.txt", "log.jsonl", "log.csv"] {
        remove_leftovers(&out.join(file))?;
    }
    for file in ["best.safetensors", "last.safetensors", "state.safetensors"] {
        remove_leftovers(&out.join("checkpoints").join(file))?;
    }
    Ok(())
}

fn check_samples(data: &DataSet, set: &SampleSet) -> Result<()> {
    if set.train.is_empty() {
        return Err(Error::input(
            data.dir(),
            "the sample set has no training samples",
            "draw another with `sccrossrec samples`",
        ));
    }
    set.check(data)
}

/// Hash of a sample set: of its samples and parts, in their order.
pub(crate) fn hash(set: &SampleSet) -> String {
    let mut h = xxhash_rust::xxh3::Xxh3::new();
    for s in &set.samples {
        h.update(&s.rna.to_le_bytes());
        h.update(&s.atac.to_le_bytes());
        h.update(&[s.label]);
    }
    for part in [&set.train, &set.val, &set.test] {
        h.update(&(part.len() as u64).to_le_bytes());
        part.iter().for_each(|n| h.update(&n.to_le_bytes()));
    }
    format!("{:016x}", h.digest())
}

fn read_log(path: &Path, records: usize) -> Result<Vec<EpochRecord>> {
    let text = if records == 0 && !path.exists() { String::new() } else { read_text(path)? };
    let bad = |found: String| Error::input(path, found, "restore the file or train again");
    let mut log = Vec::new();
    for (i, line) in text.lines().take(records).enumerate() {
        log.push(serde_json::from_str(line).map_err(|e| bad(format!("line {} is not a record ({e})", i + 1)))?);
    }
    if log.len() < records {
        return Err(bad(format!("has {} records where the training state has {records}", log.len())));
    }
    Ok(log)
}

/// The root of the sum of squares, the same for any number of threads.
fn norm(x: &[f32]) -> f64 {
    let parts: Vec<f64> = x
        .par_chunks(1 << 14)
        .map(|c| {
            // Eight sums side by side, so that the compiler can use its vectors.
            let mut sums = [0f32; 8];
            let chunks = c.chunks_exact(8);
            let rest: f32 = chunks.remainder().iter().map(|x| x * x).sum();
            for c in chunks {
                for (s, x) in sums.iter_mut().zip(c) {
                    *s += x * x;
                }
            }
            sums.iter().map(|&s| f64::from(s)).sum::<f64>() + f64::from(rest)
        })
        .collect();
    parts.iter().sum::<f64>().sqrt()
}

struct Fit<'a, S> {
    source: S,
    config: &'a TrainConfig,
    out: &'a Path,
    model: Model<f32>,
    moments: Moments,
    place: Place,
    log: Vec<EpochRecord>,
    observer: &'a mut dyn Observer,
    resume_hint: String,
}

/// Sums of a validation pass.
#[derive(Default)]
struct Validation {
    samples: usize,
    loss: f64,
    match_loss: f64,
    correct: usize,
    positives: usize,
    /// Wrong 0/1 predictions of each head: absolute and squared errors are both 1.
    wrong: Vec<u64>,
}

impl Validation {
    fn add(&mut self, batch: &Batch<f32>, output: &Output<f32>, genes: usize) {
        self.samples += batch.len();
        self.loss += f64::from(output.loss) * batch.len() as f64;
        self.match_loss += f64::from(output.match_loss) * batch.len() as f64;
        for (i, (&label, l)) in batch.label.iter().zip(output.logits.chunks_exact(2)).enumerate() {
            // argmax; equal logits: the first; what is no number decides nothing
            self.correct += usize::from(u8::from(l[1] > l[0]) == label && !l.iter().any(|x| x.is_nan()));
            if label != 1 {
                continue;
            }
            self.positives += 1;
            let (index, values) = batch.rna.row(i);
            let heads = &output.translation[i];
            self.wrong.resize(heads.len() / genes, 0);
            for (head, wrong) in heads.chunks_exact(genes).zip(&mut self.wrong) {
                // What is predicted but not there, and what is there but not predicted.
                let predicted = head.iter().filter(|&&p| p == 1).count();
                let (mut truth, mut both) = (0, 0);
                for (&g, &v) in index.iter().zip(values) {
                    truth += usize::from(v > 0.0);
                    both += usize::from(v > 0.0 && head[g as usize] == 1);
                }
                *wrong += (predicted + truth - 2 * both) as u64;
            }
        }
    }

    /// Mean over heads of a function of the share of wrong predictions; None without positives.
    fn over_heads(&self, genes: usize, f: impl Fn(f64) -> f64) -> Option<f64> {
        let cells = self.positives as f64 * genes as f64;
        let sum: f64 = self.wrong.iter().map(|&w| f(w as f64 / cells)).sum();
        ratio(sum, self.wrong.len())
    }
}

fn ratio(a: f64, n: usize) -> Option<f64> {
    (n > 0).then(|| a / n as f64).filter(|x| x.is_finite())
}

enum Stopped {
    Done { early: bool },
    Asked,
}

impl<S: Source> Fit<'_, S> {
    fn run(&mut self, train: &[u32], val: &[u32]) -> Result<Outcome> {
        let size = self.config.batch_size.min(train.len());
        let first = self.source.batch(&train[..size]);
        first.validate(&self.model.features)?;
        let parameters = self.model.params.layout().len();
        self.observer.start(&Plan {
            samples: [train.len(), val.len()],
            steps: train.len().div_ceil(self.config.batch_size) as u64,
            epochs: self.config.epochs,
            epochs_done: self.place.epoch,
            parameters,
            memory: MemoryPlan::new(&self.model.config, parameters, &first),
        });
        drop(first);
        let mut grads = vec![0f32; parameters];
        let stopped = self.epochs(train, val, &mut grads)?;
        if let Stopped::Asked = stopped {
            self.save()?;
            return Err(Error::Interrupted {
                code: crate::interrupt::code(),
                saved: format!(
                    "saved after step {} (epoch {}); {}",
                    self.place.step,
                    self.place.epoch + 1,
                    self.resume_hint
                ),
            });
        }
        Ok(Outcome {
            epochs: self.place.epoch,
            steps: self.place.step,
            best: self.place.best.and_then(|(_, e)| self.log.iter().find(|r| r.epoch == e)).cloned(),
            last: self.log.last().cloned(),
            early: matches!(stopped, Stopped::Done { early: true }),
        })
    }

    fn epochs(&mut self, train: &[u32], val: &[u32], grads: &mut [f32]) -> Result<Stopped> {
        let mut saved = Instant::now();
        while self.place.epoch < self.config.epochs {
            if self.exhausted() {
                return Ok(Stopped::Done { early: true });
            }
            let mut order = train.to_vec();
            Rng::new(self.config.seed, SHUFFLE | u64::from(self.place.epoch)).shuffle(&mut order);
            let began = Instant::now();
            let from = self.place.position;
            if !self.epoch(&order, grads, began, &mut saved)? {
                return Ok(Stopped::Asked);
            }
            let seconds = began.elapsed().as_secs_f64();
            let Some(sums) = self.validate(val)? else { return Ok(Stopped::Asked) };
            let speed = if seconds > 0.0 { (order.len() - from) as f64 / seconds } else { 0.0 };
            self.close_epoch(&sums, seconds, speed)?;
            saved = Instant::now();
        }
        Ok(Stopped::Done { early: false })
    }

    /// Is there no progress left by the rule of early stopping?
    fn exhausted(&self) -> bool {
        match (self.config.patience, self.place.best) {
            (Some(patience), Some((_, best))) => {
                self.place.position == 0
                    && self.place.epoch >= self.config.min_epochs
                    && self.place.epoch.saturating_sub(best) >= patience
            }
            _ => false,
        }
    }

    /// The steps of one epoch, from the place on. False: asked to stop.
    fn epoch(&mut self, order: &[u32], grads: &mut [f32], began: Instant, saved: &mut Instant) -> Result<bool> {
        let from = self.place.position;
        let size = self.config.batch_size;
        let minutes = self.config.checkpoint_minutes.map(|m| Duration::from_secs_f64(m * 60.0));
        // The reader shares the source with this thread, which keeps the rest to itself.
        let Fit { source, config, out, model, moments, place, observer, .. } = self;
        let source = &*source;
        let mut steps = Steps { config, out, model, moments, place, observer: &mut **observer };
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel::<Batch<f32>>(1);
            let reader = scope.spawn(move || {
                for numbers in order[from..].chunks(size) {
                    if send.send(source.batch(numbers)).is_err() {
                        return; // the loop has stopped
                    }
                }
            });
            let mut result = Ok(true);
            for numbers in order[from..].chunks(size) {
                let Ok(batch) = receive.recv() else {
                    result = Err(Error::Internal("the thread that reads batches has stopped".into()));
                    break;
                };
                result = steps.step(source, numbers, &batch, grads, from, began);
                if !matches!(result, Ok(true)) {
                    break;
                }
                let due = steps.config.checkpoint_steps.is_some_and(|n| steps.place.step.is_multiple_of(n))
                    || minutes.is_some_and(|m| saved.elapsed() >= m);
                if due && steps.place.position < order.len() {
                    if let Err(e) = steps.save() {
                        result = Err(e);
                        break;
                    }
                    *saved = Instant::now();
                }
            }
            drop(receive);
            match reader.join() {
                Ok(()) => result,
                Err(_) => Err(Error::Internal("reading a batch failed; check the data with `inspect`".into())),
            }
        })
    }

    /// None: asked to stop.
    fn validate(&mut self, val: &[u32]) -> Result<Option<Validation>> {
        let mut sums = Validation::default();
        let want = Want { translation: true, ..Want::default() };
        for numbers in val.chunks(self.config.eval_batch_size) {
            let batch = self.source.batch(numbers);
            let output = self.model.forward(&batch, want)?;
            sums.add(&batch, &output, self.model.config.genes);
            self.observer.validation(sums.samples, val.len());
            if self.observer.stop() {
                return Ok(None);
            }
        }
        Ok(Some(sums))
    }

    fn close_epoch(&mut self, v: &Validation, seconds: f64, samples_per_second: f64) -> Result<()> {
        let p = &mut self.place;
        let n = p.counted as usize;
        let genes = self.model.config.genes;
        let accuracy = ratio(v.correct as f64, v.samples);
        let mae = v.over_heads(genes, |x| x);
        let score = accuracy.map(|a| a - mae.unwrap_or(0.0));
        let best = match (score, p.best) {
            (Some(s), Some((best, _))) => s > best.get(),
            _ => true, // the first, or nothing to choose by: the latest
        };
        p.epoch += 1;
        let record = EpochRecord {
            epoch: p.epoch,
            step: p.step,
            samples: p.counted,
            skipped: p.skipped,
            loss: ratio(p.loss.get(), n),
            match_loss: ratio(p.match_loss.get(), n),
            translation_loss: ratio(p.translation_loss.get(), n),
            val_loss: ratio(v.loss, v.samples),
            val_match_loss: ratio(v.match_loss, v.samples),
            val_accuracy: accuracy,
            val_mae: mae,
            val_rmse: v.over_heads(genes, f64::sqrt),
            score,
            best,
            seconds,
            samples_per_second,
        };
        if best {
            p.best = Some((Bits::of(score.unwrap_or(f64::NEG_INFINITY)), p.epoch));
        }
        *p = Place {
            epoch: p.epoch,
            step: p.step,
            updates: p.updates,
            best: p.best,
            logged: p.logged + 1,
            ..Place::default()
        };
        self.log.push(record);
        // In this order: a crash in between repeats the epoch, and writes the same again.
        if best {
            let path = self.out.join("checkpoints").join(Checkpoint::Best.file_name());
            checkpoint::save(&path, &self.model.params, &self.model.config)?;
        }
        self.write_log()?;
        self.save()?;
        if let Some(record) = self.log.last() {
            self.observer.epoch(record);
        }
        Ok(())
    }

    fn write_log(&self) -> Result<()> {
        let internal = |e: serde_json::Error| Error::Internal(format!("log: {e}"));
        let mut lines = String::new();
        let mut table = String::new();
        for (i, record) in self.log.iter().enumerate() {
            lines += &(serde_json::to_string(record).map_err(internal)? + "\n");
            let serde_json::Value::Object(fields) = serde_json::to_value(record).map_err(internal)? else { continue };
            // The order of the struct, which a JSON object here does not keep.
            let keys = [
                "epoch",
                "step",
                "samples",
                "skipped",
                "loss",
                "match_loss",
                "translation_loss",
                "val_loss",
                "val_match_loss",
                "val_accuracy",
                "val_mae",
                "val_rmse",
                "score",
                "best",
                "seconds",
                "samples_per_second",
            ];
            if i == 0 {
                table += &(keys.join(",") + "\n");
            }
            let cells = keys.map(|k| match fields.get(k) {
                None | Some(serde_json::Value::Null) => String::new(),
                Some(v) => v.to_string(),
            });
            table += &(cells.join(",") + "\n");
        }
        write_text(&self.out.join("log.jsonl"), &lines)?;
        write_text(&self.out.join("log.csv"), &table)
    }

    fn save(&self) -> Result<()> {
        save(self.out, &self.model, &self.moments, &self.place)
    }
}

/// The state first: it alone is what a resumption reads.
fn save(out: &Path, model: &Model<f32>, moments: &Moments, place: &Place) -> Result<()> {
    let dir = out.join("checkpoints");
    state::save(&dir.join("state.safetensors"), &model.config, &model.params, moments, place)?;
    checkpoint::save(&dir.join(Checkpoint::Last.file_name()), &model.params, &model.config)
}

/// What a step changes, apart from the source that the reader shares.
struct Steps<'a> {
    config: &'a TrainConfig,
    out: &'a Path,
    model: &'a mut Model<f32>,
    moments: &'a mut Moments,
    place: &'a mut Place,
    observer: &'a mut dyn Observer,
}

impl Steps<'_> {
    fn save(&self) -> Result<()> {
        save(self.out, self.model, self.moments, self.place)
    }

    /// False: asked to stop.
    fn step(
        &mut self,
        source: &impl Source,
        numbers: &[u32],
        batch: &Batch<f32>,
        grads: &mut [f32],
        from: usize,
        began: Instant,
    ) -> Result<bool> {
        let p = &mut *self.place;
        let dropout = Dropout { seed: self.config.seed, step: p.step };
        let output = self.model.train_step(batch, Some(dropout), grads)?;
        let n = batch.len() as f64;
        if output.loss.is_finite() && norm(grads).is_finite() {
            let Moments { m, v } = self.moments;
            adam::step(self.model.params.as_mut_slice(), grads, m, v, &self.config.adam, p.updates + 1);
            p.updates += 1;
            p.loss.add(f64::from(output.loss) * n);
            p.match_loss.add(f64::from(output.match_loss) * n);
            p.translation_loss.add(f64::from(output.translation_loss) * n);
            p.counted += batch.len() as u64;
        } else {
            let what = if output.loss.is_finite() {
                let layout = self.model.params.layout();
                let tensor = layout.entries().iter().find(|e| !norm(&grads[e.range.clone()]).is_finite());
                format!("the gradient of {} is not finite", tensor.map_or("the parameters", |e| &e.name))
            } else {
                format!("the loss is {}", output.loss)
            };
            let mut names: Vec<_> = numbers.iter().take(4).map(|&i| source.name(i)).collect();
            if numbers.len() > names.len() {
                names.push(format!("… {} in all", numbers.len()));
            }
            let line = format!("step {}: {what}; samples {}", p.step + 1, names.join(", "));
            match self.config.on_nan {
                OnNan::Stop => {
                    self.save()?;
                    return Err(Error::input(
                        self.out,
                        line,
                        "saved before that step: resume with --on-nan skip, or train again with a smaller --lr",
                    ));
                }
                OnNan::Skip => {
                    grads.fill(0.0);
                    p.skipped += batch.len() as u64;
                    self.observer.note(&format!("warning: {line}; left out"));
                }
            }
        }
        let p = &mut *self.place;
        p.step += 1;
        p.position += numbers.len();
        let seconds = began.elapsed().as_secs_f64();
        self.observer.step(&Step {
            epoch: p.epoch + 1,
            position: p.position,
            step: p.step,
            loss: f64::from(output.loss),
            mean_loss: if p.counted > 0 { p.loss.get() / p.counted as f64 } else { f64::NAN },
            samples_per_second: if seconds > 0.0 { (p.position - from) as f64 / seconds } else { 0.0 },
        });
        Ok(!self.observer.stop())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_that_are_no_numbers_are_never_right() {
        let mut batch = Batch::new();
        for (i, label) in [0, 0, 0].into_iter().enumerate() {
            batch.push(label, i as u64, [(0, 1.0)], [(0, 1.0)]);
        }
        let output = Output {
            loss: f32::NAN,
            match_loss: f32::NAN,
            translation_loss: 0.0,
            logits: vec![f32::NAN, f32::NAN, 0.0, f32::NAN, 1.0, 0.0],
            embedding: vec![],
            attention: vec![],
            translation: vec![vec![]; 3],
            counts: vec![],
            nodes: vec![],
            decisions: None,
        };
        let mut sums = Validation::default();
        sums.add(&batch, &output, 1);
        assert_eq!((sums.samples, sums.correct), (3, 1));
    }
}
