//! The loop: shuffled batches, read ahead on another thread, steps, validation, checkpoints.
//!
//! See docs/model.md, section 5.8.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use super::config::TrainConfig;
use super::cuda::{OnDevice, check_device, device_line, engine, fetch};
use super::log::{EpochRecord, read_kept, write_log};
use super::memory::check_parameters;
use super::observe::{Observer, TrainingPlan};
use super::run::{CELLS, Checkpoint, Run, new_run_file, write_cells, write_run, write_run_file};
use super::samples::check_split;
use super::state::{Bits, Moments, Position};
use super::steps::{Batches, Prepared, Steps, optimiser, rate_line};
use super::validate::{Validation, ratio};
use super::{memory, state, tensors, towers};
use crate::data::anndata::MatrixKind;
use crate::dataset::samples::set_hash;
use crate::dataset::{DataSet, SampleSet};
use crate::engine::{Device, Engine};
use crate::error::{Error, Result, quoted};
use crate::files::atomic::{Lock, sweep};
use crate::model::output::Want;
use crate::model::{Batch, CisTarget, MemoryPlan, Model};
use crate::profile;
use crate::profile::span;
use crate::rng::Rng;

/// Streams of the shuffle: this plus the epoch.
const SHUFFLE: u64 = 0x5348_5546_0000_0000;

/// Files in the folder of the checkpoints.
const CHECKPOINTS: [&str; 6] =
    ["best.safetensors", "last.safetensors", state::STATE, state::BEFORE, towers::TOWERS, towers::TOWERS_STATE];

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

/// Trains a new run in the folder `out`, which is made if need be (a run in it is replaced).
///
/// The result is a function of the data, the sample set and `config` alone: not of the number of threads, and not of
/// how often the run was interrupted and taken up again by [`resume`].
///
/// ```no_run
/// use sccrossrec::{DataSet, TrainConfig, recipe, train};
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
/// Settings that do not fit the data; a sample set of another split than the recipe asks for (see `samples_for`); a
/// loss or gradient that is not finite (see [`OnNan`](super::config::OnNan)); files that cannot be written;
/// [`Error::Interrupted`], once all is saved, when the observer says stop.
pub fn train(
    data: &DataSet,
    set: &SampleSet,
    config: &TrainConfig,
    out: &Path,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    train_on(&Device::Cpu, data, set, config, out, observer)
}

/// [`train`], computing on `device`. On a GPU the settings' precision is the device's.
pub fn train_on(
    device: &Device,
    data: &DataSet,
    set: &SampleSet,
    config: &TrainConfig,
    out: &Path,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let config = &checked(device, data, set, config)?;
    check_split(set, config)?;
    check_parameters(data, config)?;
    let model = config.start(data, set)?;
    let mut file = new_run_file(data, config, &model.config)?;
    file.sample_counts = [set.train.len(), set.val.len(), set.test.len()];
    file.samples_hash = set_hash(set);
    let moments = Moments { m: vec![0.0; file.parameters], v: vec![0.0; file.parameters] };
    let place = Position::default();
    let memory = memory::plan(device, data, set, config, &model)?;
    let engine = engine(device, data, set, config, &model, &moments, &place)?;
    let checkpoints = out.join("checkpoints");
    std::fs::create_dir_all(&checkpoints).map_err(|e| Error::io(&checkpoints, "create", e))?;
    let _lock = Lock::take(out, "trains")?;
    let of_before = CHECKPOINTS.map(|f| checkpoints.join(f));
    for old in of_before.into_iter().chain([out.join(profile::TRACE), out.join(towers::TOWERS_LOG)]) {
        if old.exists() {
            std::fs::remove_file(&old).map_err(|e| Error::io(&old, "remove", e))?;
        }
    }
    clean(out)?;
    write_run(out, &file, data.vocabulary())?;
    write_cells(out, &data.vocabulary().cells, set)?;
    let begun = Begun { model, moments, place, log: Vec::new(), engine, memory };
    let mut fit = Fit::new(Prepared { data, set }, config, out, observer, begun);
    write_log(out, &fit.log)?;
    fit.steps.save()?;
    towers::fit(data, set, config, out, fit.steps.observer)?;
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
    resume_on(&Device::Cpu, data, set, config, out, observer)
}

/// [`resume`], computing on `device`, which need not be the one it was trained on so far.
pub fn resume_on(
    device: &Device,
    data: &DataSet,
    set: &SampleSet,
    config: &TrainConfig,
    out: &Path,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let config = &checked(device, data, set, config)?;
    let run = Run::open(out)?;
    if run.file.origin != "trained" {
        return Err(Error::input(
            out,
            "holds imported weights, which have no training state",
            "train without --resume",
        ));
    }
    config.check_resumes(&run.config, out)?;
    if run.data_hash() != data.hash() {
        return Err(Error::input(
            data.dir(),
            format!("has hash {} where the run was trained on {}", data.hash(), run.data_hash()),
            "resume with the data set it was trained on, or train a new run",
        ));
    }
    if run.file.samples_hash != set_hash(set) {
        return Err(Error::input(
            data.dir(),
            format!("the pairs `{}` are not those that the run was trained on", config.samples),
            "restore it, or train a new run",
        ));
    }
    let mut model = config.start(data, set)?;
    let memory = memory::plan(device, data, set, config, &model)?;
    let _lock = Lock::take(out, "trains")?;
    let mut skipped = |line: String| observer.note(&line);
    let (moments, place) = state::load(&out.join("checkpoints"), &run.sizes, &mut model.params, &mut skipped)?;
    if place.position > set.train.len() {
        return Err(Error::input(
            out.join("checkpoints/state.safetensors"),
            format!("is at pair {} of {}", place.position, set.train.len()),
            "train again, to another --out",
        ));
    }
    clean(out)?;
    let log = read_kept(&out.join("log.jsonl"), place.logged)?;
    let file = super::run::RunFile {
        config: config.clone(),
        program: env!("CARGO_PKG_VERSION").into(),
        data: super::run::data_ref(data)?,
        ..run.file
    };
    write_run_file(out, &file)?;
    let engine = engine(device, data, set, config, &model, &moments, &place)?;
    let begun = Begun { model, moments, place, log, engine, memory };
    let mut fit = Fit::new(Prepared { data, set }, config, out, observer, begun);
    write_log(out, &fit.log)?;
    // One that was killed after the state, and before these parameters, has those of an earlier checkpoint there.
    let model = &fit.steps.model;
    tensors::save(&out.join("checkpoints").join(Checkpoint::Last.file_name()), &model.params, &model.config)?;
    towers::fit(data, set, config, out, fit.steps.observer)?;
    fit.run(&set.train, &set.val)
}

/// Checks what a run is made of; the settings for so many samples.
fn checked(device: &Device, data: &DataSet, set: &SampleSet, config: &TrainConfig) -> Result<TrainConfig> {
    config.validate()?;
    check_device(device, config)?;
    data.need_both("training")?;
    let level = config.model.cis.as_ref().is_some_and(|c| c.weight > 0.0 && c.target == CisTarget::Level);
    if level && data.kinds().0 == Some(MatrixKind::Counts) {
        return Err(Error::usage(
            "--cis-target level: the RNA of the data are raw counts, which are no levels; prepare it from log-normalised values \
             (--rna-layer), or take --cis-target detection: the towers tell levels of counts",
        ));
    }
    check_samples(data, set)?;
    Ok(config.resolved(set.train.len()))
}

/// Removes temporary files of a run that was killed while it wrote.
fn clean(out: &Path) -> Result<()> {
    for file in
        ["run.json", "genes.txt", "peaks.txt", CELLS, "log.jsonl", "log.csv", towers::TOWERS_LOG, profile::TRACE]
    {
        sweep(&out.join(file))?;
    }
    CHECKPOINTS.iter().try_for_each(|file| sweep(&out.join("checkpoints").join(file)))
}

fn check_samples(data: &DataSet, set: &SampleSet) -> Result<()> {
    if set.train.is_empty() {
        return Err(Error::input(data.dir(), "there are no training pairs", "draw others with `sccrossrec pairs`"));
    }
    set.check(data.vocabulary())
}

/// Where a run begins, or goes on.
struct Begun {
    model: Model<f32>,
    moments: Moments,
    place: Position,
    log: Vec<EpochRecord>,
    engine: Option<Box<Engine>>,
    memory: MemoryPlan,
}

struct Fit<'a, S> {
    source: S,
    steps: Steps<'a>,
    /// Where the parameters and moments are while it computes; those of `steps` are then what was last fetched.
    engine: Option<Box<Engine>>,
    log: Vec<EpochRecord>,
    memory: MemoryPlan,
    resume_hint: String,
}

enum Stopped {
    Done { early: bool },
    Asked,
}

impl<'a, S: Batches> Fit<'a, S> {
    fn new(source: S, config: &'a TrainConfig, out: &'a Path, observer: &'a mut dyn Observer, begun: Begun) -> Self {
        let Begun { model, moments, place, log, engine, memory } = begun;
        let steps = Steps {
            config,
            rates: config.rates(source.train()),
            out,
            adam: optimiser(config, &model.config),
            model,
            moments,
            place,
            rollbacks: 0,
            observer,
        };
        let resume_hint = format!("go on with: sccrossrec train --resume --out {}", quoted(out));
        Fit { source, steps, engine, log, memory, resume_hint }
    }

    fn run(&mut self, train: &[u32], val: &[u32]) -> Result<Outcome> {
        let parameters = self.steps.model.params.layout().len();
        let mut memory = self.memory;
        if let Some(engine) = &self.engine {
            // The rest is on the device, which has a plan of its own.
            memory.batches += engine.pinned_bytes() as u64;
        }
        let config = self.steps.config;
        self.steps.observer.start(&TrainingPlan {
            samples: [train.len(), val.len()],
            steps: train.len().div_ceil(config.batch_size) as u64,
            epochs: config.epochs,
            epochs_done: self.steps.place.epoch,
            parameters,
            memory,
        });
        if let Some(engine) = &self.engine {
            self.steps.observer.note(&device_line(engine));
        }
        if let Some(line) = rate_line(config, &self.steps.rates) {
            self.steps.observer.note(&line);
        }
        let mut grads = vec![0f32; if self.engine.is_some() { 0 } else { parameters }];
        let stopped = self.epochs(train, val, &mut grads).map_err(|e| self.with_checkpoint(e))?;
        if let Stopped::Asked = stopped {
            self.steps.save()?;
            return Err(Error::Interrupted {
                code: self.steps.observer.stop().unwrap_or(130),
                saved: format!(
                    "saved after step {} (epoch {}); {}",
                    self.steps.place.step,
                    self.steps.place.epoch + 1,
                    self.resume_hint
                ),
            });
        }
        Ok(Outcome {
            epochs: self.steps.place.epoch,
            steps: self.steps.place.step,
            best: self.steps.place.best.and_then(|(_, e)| self.log.iter().find(|r| r.epoch == e)).cloned(),
            last: self.log.last().cloned(),
            early: matches!(stopped, Stopped::Done { early: true }),
        })
    }

    /// A device that has failed has lost what it held: the message names the checkpoint to go on from.
    fn with_checkpoint(&self, e: Error) -> Error {
        match e {
            Error::Device { doing, code, name, text, .. } => {
                let state = self.steps.out.join("checkpoints/state.safetensors");
                let saved = state::place(&state).map_or("no checkpoint was written".into(), |p| {
                    format!(
                        "the last checkpoint, {}, is of step {} (epoch {}); {}",
                        state.display(),
                        p.step,
                        p.epoch + 1,
                        self.resume_hint
                    )
                });
                Error::Device { doing, code, name, text, saved }
            }
            e => e,
        }
    }

    fn epochs(&mut self, train: &[u32], val: &[u32], grads: &mut [f32]) -> Result<Stopped> {
        let mut saved = Instant::now();
        while self.steps.place.epoch < self.steps.config.epochs {
            if self.exhausted() {
                return Ok(Stopped::Done { early: true });
            }
            let mut order = train.to_vec();
            Rng::new(self.steps.config.seed, SHUFFLE | u64::from(self.steps.place.epoch)).shuffle(&mut order);
            let began = Instant::now();
            let from = self.steps.place.position;
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
        match (self.steps.config.patience, self.steps.place.best) {
            (Some(patience), Some((_, best))) => {
                self.steps.place.position == 0
                    && self.steps.place.epoch >= self.steps.config.min_epochs
                    && self.steps.place.epoch.saturating_sub(best) >= patience
            }
            _ => false,
        }
    }

    /// The steps of one epoch, from the place on. False: asked to stop.
    fn epoch(&mut self, order: &[u32], grads: &mut [f32], began: Instant, saved: &mut Instant) -> Result<bool> {
        if let Some(mut engine) = self.engine.take() {
            let result = self.epoch_on(&mut engine, order, began, saved);
            // A device that failed cannot be asked for its parameters; what was fetched last is what is on disk.
            let Steps { model, moments, .. } = &mut self.steps;
            let fetched = if result.is_ok() { fetch(&engine, model, moments) } else { Ok(()) };
            self.engine = Some(engine);
            return result.and_then(|go| fetched.map(|()| go));
        }
        let from = self.steps.place.position;
        let size = self.steps.config.batch_size;
        // The reader shares the source with this thread, which keeps the rest to itself.
        let Fit { source, steps, .. } = self;
        let source = &*source;
        let result = std::thread::scope(|scope| {
            let (send, receive) = sync_channel::<Batch<f32>>(1);
            let reader = scope.spawn(move || {
                for numbers in order[from..].chunks(size) {
                    let span = span(profile::READ, "");
                    let batch = source.batch(numbers);
                    drop(span);
                    if send.send(batch).is_err() {
                        return; // the loop has stopped
                    }
                }
            });
            let mut result = Ok(true);
            for numbers in order[from..].chunks(size) {
                let wait = span(profile::WAIT, "");
                let next = receive.recv();
                drop(wait);
                let Ok(batch) = next else {
                    result = Err(Error::Internal("the thread that reads batches has stopped".into()));
                    break;
                };
                let step = span(profile::STEP, "");
                result = source.check().and_then(|()| steps.step(source, numbers, &batch, grads, from, began));
                drop(step);
                if !matches!(result, Ok(true)) {
                    break;
                }
                if steps.checkpoint_due(steps.place.step, *saved) && steps.place.position < order.len() {
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
        });
        steps.flush();
        result
    }

    /// The same on a device: batches are packed on another thread into pinned memory and uploaded while the one before is
    /// computed; the record of a step is read once the next one has been given to the device.
    fn epoch_on(&mut self, engine: &mut Engine, order: &[u32], began: Instant, saved: &mut Instant) -> Result<bool> {
        let from = self.steps.place.position;
        let size = self.steps.config.batch_size;
        let first_step = self.steps.place.step;
        let Fit { source, steps, .. } = self;
        let source = &*source;
        let chunks: Vec<&[u32]> = order[from..].chunks(size).collect();
        let make = |i: usize| source.batch(chunks[i]);
        engine.with_feed(chunks.len(), make, first_step, |engine, feed| {
            let mut device = OnDevice { engine, feed, flights: VecDeque::new(), from, began };
            for numbers in &chunks {
                source.check()?;
                if !device.step(steps, source, numbers)? {
                    return device.drain(steps, source).map(|_| false);
                }
                let ahead = steps.place.step + device.flights.len() as u64;
                if steps.checkpoint_due(ahead, *saved) {
                    if !device.drain(steps, source)? {
                        return Ok(false);
                    }
                    if steps.place.position < order.len() {
                        fetch(device.engine, &mut steps.model, &mut steps.moments)?;
                        steps.save()?;
                        *saved = Instant::now();
                    }
                }
            }
            device.drain(steps, source)
        })
    }

    /// None: asked to stop.
    fn validate(&mut self, val: &[u32]) -> Result<Option<Validation>> {
        let _span = span("validate", "");
        let mut sums = Validation::default();
        let want = Want { translation: true, cis: true, ..Want::default() };
        for numbers in val.chunks(self.steps.config.eval_batch_size) {
            let batch = self.source.batch(numbers);
            self.source.check()?;
            let output = match &mut self.engine {
                Some(engine) => engine.forward(&batch, want)?,
                None => self.steps.model.forward(&batch, want)?,
            };
            sums.add(&batch, &output, self.steps.model.config.genes);
            self.steps.observer.validation(sums.samples, val.len());
            if self.steps.observer.stop().is_some() {
                return Ok(None);
            }
        }
        Ok(Some(sums))
    }

    fn close_epoch(&mut self, v: &Validation, seconds: f64, samples_per_second: f64) -> Result<()> {
        let p = &mut self.steps.place;
        let n = p.counted as usize;
        let genes = self.steps.model.config.genes;
        // Of positives alone everything is right that always says so.
        let both = (1..v.samples).contains(&v.positives);
        let accuracy = ratio(v.correct as f64, v.samples).filter(|_| both);
        let mae = v.over_heads(genes, |x| x);
        let score = (v.samples > 0).then(|| accuracy.unwrap_or(0.0) - mae.unwrap_or(0.0));
        let best = match (score, p.best) {
            (Some(s), Some((best, _))) => s > best.get(),
            _ => true, // the first, or nothing to choose by: the latest
        };
        p.epoch += 1;
        let terms = self.steps.model.config.cis.is_some();
        let record = EpochRecord {
            epoch: p.epoch,
            step: p.step,
            samples: p.counted,
            skipped: p.skipped,
            loss: ratio(p.loss.get(), n),
            match_loss: ratio(p.match_loss.get(), n),
            translation_loss: ratio(p.translation_loss.get(), n),
            cis_loss: terms.then(|| ratio(p.cis_loss.get(), n)).flatten(),
            contrast_loss: self.steps.model.config.contrasts().then(|| ratio(p.contrast_loss.get(), n)).flatten(),
            val_cis_loss: terms.then(|| ratio(v.cis_loss, v.samples)).flatten(),
            val_loss: ratio(v.loss, v.samples),
            val_match_loss: ratio(v.match_loss, v.samples),
            val_accuracy: accuracy,
            val_mae: mae,
            val_rmse: v.over_heads(genes, f64::sqrt),
            score,
            best,
            seconds,
            samples_per_second,
            lr: p.step.checked_sub(1).map(|last| self.steps.rates.at(last)),
        };
        if best {
            p.best = Some((Bits::of(score.unwrap_or(f64::NEG_INFINITY)), p.epoch));
        }
        *p = Position {
            epoch: p.epoch,
            step: p.step,
            updates: p.updates,
            best: p.best,
            logged: p.logged + 1,
            ..Position::default()
        };
        self.log.push(record);
        // In this order: a crash in between repeats the epoch, and writes the same again.
        if best {
            let path = self.steps.out.join("checkpoints").join(Checkpoint::Best.file_name());
            tensors::save(&path, &self.steps.model.params, &self.steps.model.config)?;
        }
        write_log(self.steps.out, &self.log)?;
        self.steps.save()?;
        if let Some(record) = self.log.last() {
            self.steps.observer.epoch(record);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::output::Output;

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
            cis_loss: 0.0,
            contrast_loss: 0.0,
            cis: vec![],
            cis_blind: vec![],
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
