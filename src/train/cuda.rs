//! A training step on a device: batches fed ahead, records of losses settled later.

use std::collections::VecDeque;
use std::time::Instant;

use super::config::{OnNan, TrainConfig};
use super::state::{Moments, Position};
use super::steps::{Batches, Losses, Steps};
use crate::dataset::{DataSet, SampleSet};
use crate::device::BatchSizes;
use crate::device::workspace::SLOTS;
use crate::engine::cuda::feed::Feed;
use crate::engine::{Device, Engine};
use crate::error::{Error, Result};
use crate::model::{Model, ModelConfig};

/// The settings must be what the device does: their precision, which is part of what a run is, and their options.
pub(crate) fn check_device(device: &Device, config: &TrainConfig) -> Result<()> {
    if device.cuda().is_some() {
        config.check_for_cuda()?;
    }
    let has = device.precision();
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
struct BatchRoom {
    /// Of train and val: sums of the genes, and of the peaks, of the largest samples.
    parts: [[Vec<usize>; 2]; 2],
    /// Distinct accessibilities, 0 where they are many.
    values: usize,
}

impl BatchRoom {
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
        BatchRoom { parts, values: data.accessibilities().unwrap_or(0) }
    }

    /// BatchRoom for every batch of `train` training samples and of `val` validation samples.
    fn of(&self, config: &ModelConfig, train: usize, val: usize) -> Result<BatchSizes> {
        let mut room = BatchSizes::default();
        for ([genes, peaks], size) in self.parts.iter().zip([train, val]) {
            let n = size.min(genes.len());
            if n > 0 {
                let of = BatchSizes::bound_by_totals(config, n, genes[n - 1], peaks[n - 1], self.values)?;
                room = room.max(&of);
            }
        }
        Ok(room)
    }
}

/// The engine of a device with the model and the state of its optimiser, its memory planned for all batches of the run.
pub(crate) fn engine(
    device: &Device,
    data: &DataSet,
    set: &SampleSet,
    config: &TrainConfig,
    model: &Model<f32>,
    moments: &Moments,
    place: &Position,
) -> Result<Option<Box<Engine>>> {
    let Some(cuda) = device.cuda() else { return Ok(None) };
    let mut engine = cuda.engine(model)?;
    engine.set_adam(config.adam);
    engine.set_rates(config.rates(set.train.len()));
    engine.set_moments(&moments.m, &moments.v, place.updates, config.on_nan != OnNan::Skip)?;
    let room = BatchRoom::new(data, set);
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

/// Brings parameters and moments back from a device.
pub(crate) fn fetch(engine: &Engine, model: &mut Model<f32>, moments: &mut Moments) -> Result<()> {
    model.params.as_mut_slice().copy_from_slice(&engine.params()?);
    (moments.m, moments.v) = engine.moments()?;
    Ok(())
}

/// What a run on a device says before it starts.
pub(crate) fn device_line(engine: &Engine) -> String {
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
pub(crate) struct OnDevice<'a, 'n> {
    pub engine: &'a mut Engine,
    pub feed: &'a mut Feed,
    pub flights: VecDeque<&'n [u32]>,
    pub from: usize,
    pub began: Instant,
}

impl<'n> OnDevice<'_, 'n> {
    /// Gives a step to the device; takes the record of the one before. False: asked to stop.
    pub(crate) fn step(&mut self, steps: &mut Steps<'_>, source: &impl Batches, numbers: &'n [u32]) -> Result<bool> {
        self.engine.submit(self.feed.next()?, steps.config.seed)?;
        self.flights.push_back(numbers);
        if self.engine.under_way() < SLOTS { Ok(true) } else { self.settle(steps, source) }
    }

    /// Takes all records. False: asked to stop.
    pub(crate) fn drain(&mut self, steps: &mut Steps<'_>, source: &impl Batches) -> Result<bool> {
        let mut go = true;
        while !self.flights.is_empty() {
            go &= self.settle(steps, source)?;
        }
        Ok(go)
    }

    fn settle(&mut self, steps: &mut Steps<'_>, source: &impl Batches) -> Result<bool> {
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
        fetch(self.engine, &mut steps.model, &mut steps.moments)?;
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
