//! The loop: shuffled batches, read ahead on another thread, steps, validation, checkpoints.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::checkpoint;
use super::config::{OnNan, TrainConfig};
use super::files::{Lock, read_text, sweep, write_text};
use super::observe::{EpochRecord, MemoryPlan, Observer, Plan, Step};
use super::run::{Checkpoint, Run, new_run_file, write_run, write_run_file};
use super::schedule::Scaling;
use super::state::{self, Bits, Moments, Place};
use crate::device::engine::{Engine, Feed, Precision};
use crate::device::workspace::SLOTS;
use crate::device::{Device, Sizes};
use crate::error::{Error, Result};
use crate::graph::{DataSet, SampleSet};
use crate::model::{self, Batch, Dropout, Model, ModelConfig, Output, Want};
use crate::ops::adam::{AdamConfig, Decay, Others, Rates, RowAdam};
use crate::profile::{self, span, work};
use crate::rng::Rng;
use crate::tape;

/// Times that a checkpoint is gone back to, at most, with `--on-nan rollback`.
const ROLLBACKS: u32 = 3;
/// Streams of the shuffle: this plus the epoch.
const SHUFFLE: u64 = 0x5348_5546_0000_0000;

/// Files in the folder of the checkpoints.
const CHECKPOINTS: [&str; 4] = ["best.safetensors", "last.safetensors", state::STATE, state::BEFORE];

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
    /// Could all that was read be read?
    fn check(&self) -> Result<()>;
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

    fn check(&self) -> Result<()> {
        self.data.check()
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
    config.validate()?;
    check_device(device, config)?;
    data.need_both("training")?;
    check_samples(data, set)?;
    let config = &config.resolved(set.train.len());
    let model = config.start(data, set)?;
    let mut file = new_run_file(data, config, &model.config)?;
    file.sample_counts = [set.train.len(), set.val.len(), set.test.len()];
    file.samples_hash = hash(set);
    let moments = Moments { m: vec![0.0; file.parameters], v: vec![0.0; file.parameters] };
    let place = Place::default();
    check_memory(device, data, set, config, &model)?;
    let engine = engine(device, data, set, config, &model, &moments, &place)?;
    let checkpoints = out.join("checkpoints");
    std::fs::create_dir_all(&checkpoints).map_err(|e| Error::io(&checkpoints, "create", e))?;
    let _lock = Lock::take(out, "trains")?;
    let of_before = CHECKPOINTS.map(|f| checkpoints.join(f));
    for old in of_before.into_iter().chain([out.join(profile::TRACE)]) {
        if old.exists() {
            std::fs::remove_file(&old).map_err(|e| Error::io(&old, "remove", e))?;
        }
    }
    clean(out)?;
    write_run(out, &file, data.vocabulary())?;
    let mut fit = Fit {
        source: Prepared { data, set },
        config,
        rates: config.rates(set.train.len()),
        out,
        adam: optimiser(config, &model.config),
        model,
        moments,
        engine,
        place,
        rollbacks: 0,
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
    config.validate()?;
    check_device(device, config)?;
    data.need_both("training")?;
    check_samples(data, set)?;
    let config = &config.resolved(set.train.len());
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
    if config.epochs != run.config.epochs && config.schedule.decay != Decay::None {
        return Err(Error::usage(format!(
            "--epochs {}: the learning rate falls over the {} epochs that the run was begun with, so their number cannot \
             change; resume without --epochs, or train a new run",
            config.epochs, run.config.epochs
        )));
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
    let mut model = config.start(data, set)?;
    check_memory(device, data, set, config, &model)?;
    let _lock = Lock::take(out, "trains")?;
    let mut skipped = |line: String| observer.note(&line);
    let (moments, place) = state::load(&out.join("checkpoints"), &run.sizes, &mut model.params, &mut skipped)?;
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
    let engine = engine(device, data, set, config, &model, &moments, &place)?;
    let mut fit = Fit {
        source: Prepared { data, set },
        config,
        rates: config.rates(set.train.len()),
        out,
        adam: optimiser(config, &model.config),
        model,
        moments,
        engine,
        place,
        rollbacks: 0,
        log,
        observer,
        resume_hint: format!("go on with: sccrossrec train --resume --out {}", out.display()),
    };
    fit.write_log()?;
    // One that was killed after the state, and before these parameters, has those of an earlier checkpoint there.
    checkpoint::save(
        &out.join("checkpoints").join(Checkpoint::Last.file_name()),
        &fit.model.params,
        &fit.model.config,
    )?;
    fit.run(&set.train, &set.val)
}

/// The settings must be what the device does: their precision, which is part of what a run is, and their options.
fn check_device(device: &Device, config: &TrainConfig) -> Result<()> {
    if let Device::Cuda(_) = device {
        config.check_for_cuda()?;
    }
    let has = match device {
        Device::Cpu => Precision::F32,
        Device::Cuda(d) => d.precision,
    };
    if has == config.precision {
        return Ok(());
    }
    Err(Error::usage(format!(
        "--precision {}: the {} computes in {} here; choose the same --precision, and --device cuda for bf16",
        config.precision.name(),
        device.name(),
        has.name()
    )))
}

/// Nodes of the samples of a part, the largest first, summed up: what the largest batches can have.
struct Room {
    /// Of train and val: sums of the genes, and of the peaks, of the largest samples.
    parts: [[Vec<usize>; 2]; 2],
    /// Distinct accessibilities, 0 where they are many.
    values: usize,
}

impl Room {
    fn new(data: &DataSet, set: &SampleSet) -> Self {
        let sums = |part: &[u32], count: &dyn Fn(u32) -> usize| {
            let mut n: Vec<usize> = part.iter().map(|&i| count(i)).collect();
            n.sort_unstable_by_key(|&n| std::cmp::Reverse(n));
            let mut sum = 0;
            for n in &mut n {
                sum += *n;
                *n = sum;
            }
            n
        };
        let genes = |i: u32| data.cell_sizes(set.samples[i as usize].rna as usize).0;
        let peaks = |i: u32| data.cell_sizes(set.samples[i as usize].atac as usize).1;
        let parts = [&set.train, &set.val].map(|part| [sums(part, &genes), sums(part, &peaks)]);
        Room { parts, values: data.accessibilities().unwrap_or(0) }
    }

    /// Room for every batch of `train` training samples and of `val` validation samples.
    fn of(&self, config: &ModelConfig, train: usize, val: usize) -> Result<Sizes> {
        let mut room = Sizes::default();
        for ([genes, peaks], size) in self.parts.iter().zip([train, val]) {
            let n = size.min(genes.len());
            if n > 0 {
                let of = Sizes::bound_by_totals(config, n, genes[n - 1], peaks[n - 1], self.values)?;
                room = room.max(&of);
            }
        }
        Ok(room)
    }
}

/// The engine of a device with the model and the state of its optimiser, its memory planned for all batches of the run.
fn engine(
    device: &Device,
    data: &DataSet,
    set: &SampleSet,
    config: &TrainConfig,
    model: &Model<f32>,
    moments: &Moments,
    place: &Place,
) -> Result<Option<Box<Engine>>> {
    let Device::Cuda(cuda) = device else { return Ok(None) };
    let mut engine = cuda.engine(model)?;
    engine.set_adam(config.adam);
    engine.set_rates(config.rates(set.train.len()));
    engine.set_moments(&moments.m, &moments.v, place.updates, config.on_nan != OnNan::Skip)?;
    let room = Room::new(data, set);
    let (train, val) = (config.batch_size, config.eval_batch_size);
    let fits = |e: &Engine, free: u64| {
        // Half of the larger, and half of that, until it fits.
        let halves = std::iter::successors(Some(train.max(val) / 2), |n| Some(n / 2)).take_while(|n| *n > 0);
        let bytes = |n| room.of(&model.config, train.min(n), val.min(n)).and_then(|r| e.workspace_bytes(&r));
        let n = halves.into_iter().find(|&n| bytes(n).is_ok_and(|b| b as u64 <= free))?;
        let flags = [("--batch-size", train), ("--eval-batch-size", val)];
        let smaller = flags.iter().filter(|f| f.1 > n).map(|f| format!("{} {n}", f.0));
        Some(smaller.collect::<Vec<_>>().join(" "))
    };
    engine.reserve(&room.of(&model.config, train, val)?, fits)?;
    engine.reserve_buffers()?;
    Ok(Some(Box::new(engine)))
}

/// Refuses a run that does not fit into memory, before anything is written. On a device gradients and passes are there.
fn check_memory(
    device: &Device,
    data: &DataSet,
    set: &SampleSet,
    config: &TrainConfig,
    model: &Model<f32>,
) -> Result<()> {
    let plan = |size: usize| {
        let size = size.min(set.train.len());
        let parameters = model.params.layout().len();
        let mut plan = MemoryPlan::new(&model.config, parameters, &data.batch(set, &set.train[..size]));
        if let Device::Cuda(_) = device {
            (plan.gradients, plan.passes) = (0, 0);
        }
        plan
    };
    let whole = plan(config.batch_size);
    data.check()?;
    crate::memory::check("training", &whole.parts(), |limit| {
        let halves = std::iter::successors(Some(config.batch_size / 2), |n| Some(n / 2)).take_while(|n| *n > 0);
        match halves.into_iter().find(|&n| plan(n).total() <= limit) {
            Some(n) => format!("--batch-size {n} takes less"),
            None => "a smaller --embedding-dim and --hidden take less".into(),
        }
    })
}

/// Removes temporary files of a run that was killed while it wrote.
fn clean(out: &Path) -> Result<()> {
    for file in ["run.json", "genes.txt", "peaks.txt", "log.jsonl", "log.csv", profile::TRACE] {
        sweep(&out.join(file))?;
    }
    CHECKPOINTS.iter().try_for_each(|file| sweep(&out.join("checkpoints").join(file)))
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
fn optimiser(config: &TrainConfig, model: &ModelConfig) -> RowAdam<f32> {
    let others = if config.lazy_adam { Others::Left } else { Others::Later };
    RowAdam::new(model.genes + model.peaks, model.embedding_dim, others)
}

struct Fit<'a, S> {
    source: S,
    config: &'a TrainConfig,
    rates: Rates,
    out: &'a Path,
    model: Model<f32>,
    moments: Moments,
    /// The optimiser on the CPU; behind only between steps.
    adam: RowAdam<f32>,
    /// Where the parameters and moments are while it computes; `model` and `moments` are then what was last fetched.
    engine: Option<Box<Engine>>,
    place: Place,
    /// Times that the last checkpoint was gone back to.
    rollbacks: u32,
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
    cis_loss: f64,
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
        self.cis_loss += f64::from(output.cis_loss) * batch.len() as f64;
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
        self.source.check()?;
        first.validate(&self.model.features)?;
        let parameters = self.model.params.layout().len();
        let mut memory = MemoryPlan::new(&self.model.config, parameters, &first);
        if let Some(engine) = &self.engine {
            // The rest is on the device, which has a plan of its own.
            (memory.gradients, memory.passes) = (0, 0);
            memory.batches += engine.pinned_bytes() as u64;
        }
        self.observer.start(&Plan {
            samples: [train.len(), val.len()],
            steps: train.len().div_ceil(self.config.batch_size) as u64,
            epochs: self.config.epochs,
            epochs_done: self.place.epoch,
            parameters,
            memory,
        });
        if let Some(engine) = &self.engine {
            self.observer.note(&device_line(engine));
        }
        if let Some(line) = rate_line(self.config, &self.rates) {
            self.observer.note(&line);
        }
        drop(first);
        let mut grads = vec![0f32; if self.engine.is_some() { 0 } else { parameters }];
        let stopped = self.epochs(train, val, &mut grads).map_err(|e| self.with_checkpoint(e))?;
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

    /// A device that has failed has lost what it held: the message names the checkpoint to go on from.
    fn with_checkpoint(&self, e: Error) -> Error {
        match e {
            Error::Device { doing, code, name, text, .. } => {
                let state = self.out.join("checkpoints/state.safetensors");
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
        if let Some(mut engine) = self.engine.take() {
            let result = self.epoch_on(&mut engine, order, began, saved);
            // A device that failed cannot be asked for its parameters; what was fetched last is what is on disk.
            let fetched = if result.is_ok() { self.fetch(&engine) } else { Ok(()) };
            self.engine = Some(engine);
            return result.and_then(|go| fetched.map(|()| go));
        }
        let from = self.place.position;
        let size = self.config.batch_size;
        let minutes = self.config.checkpoint_minutes.map(|m| Duration::from_secs_f64(m * 60.0));
        // The reader shares the source with this thread, which keeps the rest to itself.
        let Fit { source, config, rates, out, model, moments, adam, place, rollbacks, observer, .. } = self;
        let source = &*source;
        let observer = &mut **observer;
        let mut steps = Steps { config, rates, out, model, moments, adam, place, rollbacks, observer };
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
        });
        steps.flush();
        result
    }

    /// The same on a device: batches are packed on another thread into pinned memory and uploaded while the one before is
    /// computed; the record of a step is read once the next one has been given to the device.
    fn epoch_on(&mut self, engine: &mut Engine, order: &[u32], began: Instant, saved: &mut Instant) -> Result<bool> {
        let from = self.place.position;
        let size = self.config.batch_size;
        let first_step = self.place.step;
        let minutes = self.config.checkpoint_minutes.map(|m| Duration::from_secs_f64(m * 60.0));
        let Fit { source, config, rates, out, model, moments, adam, place, rollbacks, observer, .. } = self;
        let source = &*source;
        let observer = &mut **observer;
        let mut steps = Steps { config, rates, out, model, moments, adam, place, rollbacks, observer };
        let chunks: Vec<&[u32]> = order[from..].chunks(size).collect();
        let make = |i: usize| source.batch(chunks[i]);
        engine.with_feed(chunks.len(), make, first_step, |engine, feed| {
            let mut device = OnDevice { engine, feed, flights: VecDeque::new(), from, began };
            for numbers in &chunks {
                source.check()?;
                if !device.step(&mut steps, source, numbers)? {
                    return device.drain(&mut steps, source).map(|_| false);
                }
                let ahead = steps.place.step + device.flights.len() as u64;
                let due = steps.config.checkpoint_steps.is_some_and(|n| ahead.is_multiple_of(n))
                    || minutes.is_some_and(|m| saved.elapsed() >= m);
                if due {
                    if !device.drain(&mut steps, source)? {
                        return Ok(false);
                    }
                    if steps.place.position < order.len() {
                        fetch(device.engine, steps.model, steps.moments)?;
                        steps.save()?;
                        *saved = Instant::now();
                    }
                }
            }
            device.drain(&mut steps, source)
        })
    }

    /// Brings parameters and moments back from the device.
    fn fetch(&mut self, engine: &Engine) -> Result<()> {
        fetch(engine, &mut self.model, &mut self.moments)
    }

    /// None: asked to stop.
    fn validate(&mut self, val: &[u32]) -> Result<Option<Validation>> {
        let _span = span("validate", "");
        let mut sums = Validation::default();
        let want = Want { translation: true, cis: true, ..Want::default() };
        for numbers in val.chunks(self.config.eval_batch_size) {
            let batch = self.source.batch(numbers);
            self.source.check()?;
            let output = match &mut self.engine {
                Some(engine) => engine.forward(&batch, want)?,
                None => self.model.forward(&batch, want)?,
            };
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
        let terms = self.model.config.cis.is_some();
        let record = EpochRecord {
            epoch: p.epoch,
            step: p.step,
            samples: p.counted,
            skipped: p.skipped,
            loss: ratio(p.loss.get(), n),
            match_loss: ratio(p.match_loss.get(), n),
            translation_loss: ratio(p.translation_loss.get(), n),
            cis_loss: terms.then(|| ratio(p.cis_loss.get(), n)).flatten(),
            contrast_loss: (self.model.config.contrast > 0.0).then(|| ratio(p.contrast_loss.get(), n)).flatten(),
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
            lr: p.step.checked_sub(1).map(|last| self.rates.at(last)),
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
                "lr",
                "cis_loss",
                "contrast_loss",
                "val_cis_loss",
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

    fn save(&mut self) -> Result<()> {
        self.rollbacks = 0;
        save(self.out, &self.model, &self.moments, &self.place)
    }
}

/// The state first: it alone is what a resumption reads.
fn save(out: &Path, model: &Model<f32>, moments: &Moments, place: &Place) -> Result<()> {
    let _span = span("save", "");
    let dir = out.join("checkpoints");
    state::save(&dir, &model.config, &model.params, moments, place)?;
    checkpoint::save(&dir.join(Checkpoint::Last.file_name()), &model.params, &model.config)
}

/// What a step changes, apart from the source that the reader shares.
struct Steps<'a> {
    config: &'a TrainConfig,
    rates: &'a Rates,
    out: &'a Path,
    model: &'a mut Model<f32>,
    moments: &'a mut Moments,
    adam: &'a mut RowAdam<f32>,
    place: &'a mut Place,
    rollbacks: &'a mut u32,
    observer: &'a mut dyn Observer,
}

impl Steps<'_> {
    /// Brings parameters and moments up to date.
    fn flush(&mut self) {
        self.adam.flush(self.model.params.as_mut_slice(), &mut self.moments.m, &mut self.moments.v);
    }

    fn save(&mut self) -> Result<()> {
        self.flush();
        *self.rollbacks = 0;
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
        let genes = self.config.genes_of_step(self.model.config.genes, p.step);
        let rows = self.model.table_rows(batch, genes.as_deref());
        let Moments { m, v } = &mut *self.moments;
        self.adam.catch_up(self.model.params.as_mut_slice(), m, v, &rows);
        let want = Want::default();
        let run = model::Run { dropout: Some(dropout), grads: Some(grads), want, given: None, genes: genes.as_deref() };
        let output = self.model.run(batch, run)?;
        let losses = Losses {
            loss: output.loss,
            matching: output.match_loss,
            translation: output.translation_loss,
            cis: output.cis_loss,
            contrast: output.contrast_loss,
        };
        if output.loss.is_finite() && finite(grads, &rows, self.adam) {
            let constants = AdamConfig { lr: self.rates.at(p.step), ..self.config.adam };
            self.adam.step(self.model.params.as_mut_slice(), grads, m, v, &constants, p.updates + 1, &rows);
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
    fn narrow(&self, source: &impl Source, numbers: &[u32], what: String, grads: &mut [f32]) -> (String, Vec<u32>) {
        let step = self.place.step;
        let genes = self.config.genes_of_step(self.model.config.genes, step);
        let mut pass = |numbers: &[u32]| {
            grads.fill(0.0);
            let dropout = Some(Dropout { seed: self.config.seed, step });
            let run = model::Run {
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
    fn roll_back(&mut self, line: &str) -> Result<String> {
        *self.rollbacks += 1;
        self.flush();
        let mut damaged = String::new();
        let dir = self.out.join("checkpoints");
        let mut skipped = |line: String| damaged = line;
        let (moments, place) = state::load(&dir, &self.model.config, &mut self.model.params, &mut skipped)?;
        if !damaged.is_empty() {
            self.observer.note(&damaged);
        }
        *self.moments = moments;
        self.place.updates = place.updates;
        if *self.rollbacks > ROLLBACKS {
            let fix = "resume with --on-nan skip, or train again with a smaller --lr";
            let found = format!("{line}; went back {ROLLBACKS} times to the checkpoint of step {} already", place.step);
            return Err(Error::input(self.out, found, fix));
        }
        Ok(format!("left out, and parameters and moments are those of the checkpoint of step {} again", place.step))
    }

    /// A step was taken. False: asked to stop.
    fn took(&mut self, numbers: &[u32], losses: Losses, from: usize, began: Instant) -> Result<bool> {
        let p = &mut *self.place;
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
    fn left_out(
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
        let p = &mut *self.place;
        p.step += 1;
        p.position += numbers.len();
        let seconds = began.elapsed().as_secs_f64();
        self.observer.step(&Step {
            epoch: p.epoch + 1,
            position: p.position,
            step: p.step,
            loss: f64::from(losses.loss),
            mean_loss: if p.counted > 0 { p.loss.get() / p.counted as f64 } else { f64::NAN },
            lr: self.rates.at(p.step - 1),
            samples_per_second: if seconds > 0.0 { (p.position - from) as f64 / seconds } else { 0.0 },
        });
        Ok(!self.observer.stop())
    }

    /// What was not finite, at which step, with which samples of a batch of so many.
    fn complaint(&self, source: &impl Source, numbers: &[u32], batch: usize, what: &str) -> String {
        let mut names: Vec<_> = numbers.iter().take(4).map(|&i| source.name(i)).collect();
        if numbers.len() > names.len() {
            names.push(format!("… {} in all", numbers.len()));
        }
        let s = if numbers.len() == 1 { "" } else { "s" };
        let of = if numbers.len() < batch { format!(" of a batch of {batch}") } else { String::new() };
        format!("step {}: {what}; sample{s} {}{of}", self.place.step + 1, names.join(", "))
    }

    fn not_finite(&self, line: String) -> Error {
        let fix = "saved before that step: resume with --on-nan skip, or train again with a smaller --lr";
        Error::input(self.out, line, fix)
    }
}

/// Losses of a step.
#[derive(Debug, Clone, Copy)]
struct Losses {
    loss: f32,
    matching: f32,
    translation: f32,
    cis: f32,
    contrast: f32,
}

/// Brings parameters and moments back from a device.
fn fetch(engine: &Engine, model: &mut Model<f32>, moments: &mut Moments) -> Result<()> {
    model.params.as_mut_slice().copy_from_slice(&engine.params()?);
    (moments.m, moments.v) = engine.moments()?;
    Ok(())
}

/// What a run says of its learning rate, where that is not the one given all the time.
fn rate_line(config: &TrainConfig, rates: &Rates) -> Option<String> {
    let schedule = &config.schedule;
    if schedule.scaling == Scaling::None && rates.warmup < 2 && rates.decay == Decay::None {
        return None;
    }
    Some(format!("learning rate {:.3e} at batch size {} ({})", rates.rate, config.batch_size, schedule.words()))
}

/// What a run on a device says before it starts.
fn device_line(engine: &Engine) -> String {
    let (parts, total) = engine.memory_plan();
    let largest: Vec<String> = parts.iter().take(5).map(|(n, b)| format!("{n} {}", b >> 20)).collect();
    format!(
        "device: {}, {}; memory planned: {} MiB (largest: {})",
        engine.gpu().name(),
        engine.precision().name(),
        total >> 20,
        largest.join(", ")
    )
}

/// Steps under way on a device, and what they are of.
struct OnDevice<'a, 'n> {
    engine: &'a mut Engine,
    feed: &'a mut Feed,
    flights: VecDeque<&'n [u32]>,
    from: usize,
    began: Instant,
}

impl<'n> OnDevice<'_, 'n> {
    /// Gives a step to the device; takes the record of the one before. False: asked to stop.
    fn step(&mut self, steps: &mut Steps<'_>, source: &impl Source, numbers: &'n [u32]) -> Result<bool> {
        self.engine.submit(self.feed.next()?, steps.config.seed)?;
        self.flights.push_back(numbers);
        if self.engine.under_way() < SLOTS { Ok(true) } else { self.settle(steps, source) }
    }

    /// Takes all records. False: asked to stop.
    fn drain(&mut self, steps: &mut Steps<'_>, source: &impl Source) -> Result<bool> {
        let mut go = true;
        while !self.flights.is_empty() {
            go &= self.settle(steps, source)?;
        }
        Ok(go)
    }

    fn settle(&mut self, steps: &mut Steps<'_>, source: &impl Source) -> Result<bool> {
        let Some(numbers) = self.flights.pop_front() else { return Ok(true) };
        let (r, buffer) = self.engine.settle()?;
        self.feed.free(buffer);
        let losses = Losses {
            loss: r.loss,
            matching: r.match_loss,
            translation: r.translation_loss,
            cis: r.cis_loss,
            contrast: r.contrast_loss,
        };
        if r.applied == 1 {
            return steps.took(numbers, losses, self.from, self.began);
        }
        let what = if r.loss.is_finite() {
            format!("the norm of the gradient is {}", r.norm)
        } else {
            format!("the loss is {}", r.loss)
        };
        if steps.config.on_nan == OnNan::Skip {
            let line = steps.complaint(source, numbers, numbers.len(), &what);
            return steps.left_out(numbers, &line, "left out", losses, self.from, self.began);
        }
        // The steps behind it were not applied either: the guard holds until it is released.
        let mut behind = Vec::new();
        while let Some(numbers) = self.flights.pop_front() {
            self.feed.free(self.engine.settle()?.1);
            behind.push(numbers);
        }
        fetch(self.engine, steps.model, steps.moments)?;
        // What the device lacks, the CPU tells: which op, which sample.
        let mut grads = vec![0.0; steps.model.params.layout().len()];
        let (what, of) = steps.narrow(source, numbers, what, &mut grads);
        let line = steps.complaint(source, &of, numbers.len(), &what);
        if steps.config.on_nan == OnNan::Stop {
            self.engine.set_control(steps.place.updates, true)?;
            steps.save()?;
            return Err(steps.not_finite(line));
        }
        let done = steps.roll_back(&line)?;
        self.engine.set_params(steps.model.params.as_slice())?;
        self.engine.set_moments(&steps.moments.m, &steps.moments.v, steps.place.updates, true)?;
        let mut go = steps.left_out(numbers, &line, &done, losses, self.from, self.began)?;
        for numbers in behind {
            let line = format!("step {} was under way behind it", steps.place.step + 1);
            go &= steps.left_out(numbers, &line, "left out", losses, self.from, self.began)?;
        }
        Ok(go)
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
