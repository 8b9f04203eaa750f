//! One epoch of training at NeurIPS-2021 shape, on data made in memory, as one JSON document:
//! `cargo bench --bench epoch -- --device cuda --batch 256 --precision bf16`.
//!
//! 2,048 distinct cells are drawn, and 110,798 samples (the training part of the published protocol), half of them
//! positives, from those. Everything a training does but reading files and validation is in the time.

mod common;

use std::time::Instant;

use clap::Parser;
use common::{Cell, quantile};
use rayon::prelude::*;
use sccrossrec::device::{BatchSizes, host, image};
use sccrossrec::engine::{Device, Engine};
use sccrossrec::model::{Batch, Dropout, Model, Precision};
use sccrossrec::ops::adam;
use sccrossrec::ops::adam::AdamConfig;
use sccrossrec::rng::Rng;
use serde_json::{Value, json};

/// Samples of a NeurIPS-2021 epoch.
const EPOCH: usize = 110_798;

#[derive(Parser)]
struct Options {
    /// auto, cpu or cuda[:N]
    #[arg(long, default_value = "auto")]
    device: String,
    /// Samples a step
    #[arg(long, default_value_t = 256)]
    batch: usize,
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    precision: Precision,
    /// Samples in all [default: 110798; fewer in a rehearsal]
    #[arg(long)]
    samples: Option<usize>,
    /// Distinct cells
    #[arg(long)]
    cells: Option<usize>,
    /// Threads that pack [default: all cores]
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Stop after this time; figures are then of the steps taken so far
    #[arg(long)]
    seconds: Option<f64>,
    /// Launch kernel by kernel
    #[arg(long)]
    no_graphs: bool,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// (RNA cell, ATAC cell, label) of each sample, shuffled: half of them positives.
fn draw(samples: usize, cells: usize) -> Vec<(u32, u32, u8)> {
    let mut r = Rng::new(906, 2);
    let mut list: Vec<(u32, u32, u8)> = (0..samples)
        .map(|i| {
            let rna = r.below(cells);
            let other = (rna + 1 + r.below(cells - 1)) % cells;
            if i % 2 == 0 { (rna as u32, rna as u32, 1) } else { (rna as u32, other as u32, 0) }
        })
        .collect();
    r.shuffle(&mut list);
    list
}

struct Data {
    cells: Vec<Cell>,
    samples: Vec<(u32, u32, u8)>,
    size: usize,
}

impl Data {
    /// Batch number `i`.
    fn batch(&self, i: usize) -> Batch<f32> {
        let mut batch = Batch::new();
        let range = i * self.size..((i + 1) * self.size).min(self.samples.len());
        for (n, &(rna, atac, label)) in range.clone().zip(&self.samples[range]) {
            let (genes, peaks) = (&self.cells[rna as usize].0, &self.cells[atac as usize].1);
            batch.push(label, n as u64, genes.iter().copied(), peaks.iter().copied());
        }
        batch
    }

    fn batches(&self) -> usize {
        self.samples.len().div_ceil(self.size)
    }
}

/// Losses and the moment each step was over.
struct Trace {
    losses: Vec<f32>,
    at: Vec<f64>,
    finite: bool,
}

fn on_cpu(model: &mut Model<f32>, data: &Data, seconds: f64) -> Trace {
    let n = model.params.layout().len();
    let (mut grads, mut m, mut v) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
    let mut trace = Trace { losses: Vec::new(), at: Vec::new(), finite: true };
    let began = Instant::now();
    for i in 0..data.batches() {
        let dropout = Dropout { seed: 906, step: i as u64 };
        let out = model.train_step(&data.batch(i), Some(dropout), &mut grads).unwrap();
        adam::step(model.params.as_mut_slice(), &mut grads, &mut m, &mut v, &AdamConfig::default(), i as u64 + 1);
        trace.losses.push(out.loss);
        trace.finite &= out.loss.is_finite();
        trace.at.push(began.elapsed().as_secs_f64());
        if began.elapsed().as_secs_f64() > seconds {
            break;
        }
    }
    trace
}

fn on_device(engine: &mut Engine, data: &Data, seconds: f64) -> Trace {
    let mut trace = Trace { losses: Vec::new(), at: Vec::new(), finite: true };
    let began = Instant::now();
    let told = |_: usize, record: &sccrossrec::device::abi::StepRecord| {
        trace.losses.push(record.loss);
        trace.finite &= record.applied == 1;
        trace.at.push(began.elapsed().as_secs_f64());
        began.elapsed().as_secs_f64() <= seconds
    };
    engine.train_batches(data.batches(), |i| data.batch(i), Dropout { seed: 906, step: 0 }, told).unwrap();
    trace
}

/// What the whole epoch took, and the steps.
fn figures(trace: &Trace, data: &Data) -> Value {
    let total = trace.at.last().copied().unwrap_or(f64::NAN);
    let steps: Vec<f64> = trace.at.windows(2).map(|w| w[1] - w[0]).collect();
    let steps = if steps.is_empty() { vec![total] } else { steps };
    let mean = |x: &[f32]| x.iter().map(|&x| f64::from(x)).sum::<f64>() / x.len().max(1) as f64;
    let few = trace.losses.len().div_ceil(10).min(10);
    let (first, last) = (&trace.losses[..few], &trace.losses[trace.losses.len() - few..]);
    let steps_taken = trace.at.len();
    let samples = (steps_taken * data.size).min(data.samples.len());
    let rate = samples as f64 / total;
    json!({
        "samples": samples,
        "steps": steps_taken,
        "complete": steps_taken == data.batches(),
        "seconds": total,
        "samples_per_second": rate,
        "seconds_an_epoch": EPOCH as f64 / rate,
        "step_seconds": { "median": quantile(&steps, 0.5), "p10": quantile(&steps, 0.1), "p90": quantile(&steps, 0.9) },
        "loss": { "first": trace.losses.first(), "last": trace.losses.last(), "mean_of_first": mean(first),
                  "mean_of_last": mean(last), "in_those": few, "all_finite": trace.finite },
    })
}

/// One step measured part by part, and its flops by count, with the parameters as they are after the epoch.
fn profile(engine: &mut Engine, model: &mut Model<f32>, batch: &Batch<f32>) -> Value {
    model.params.as_mut_slice().copy_from_slice(&engine.params().unwrap());
    let flops = model.flops(batch).unwrap();
    let dropout = Dropout { seed: 906, step: 0 };
    let p = engine.profile(batch, Some(dropout), 5).unwrap();
    let ops: Vec<Value> = p
        .ops
        .iter()
        .map(|o| {
            let launches: Vec<Value> = o.launches.iter().map(|(n, s)| json!({ "kernel": n, "seconds": s })).collect();
            let pass = format!("{:?}", o.pass).to_lowercase();
            json!({ "op": o.op, "pass": pass, "seconds": o.seconds, "launches": launches })
        })
        .collect();
    let by = |op: &str, pass: &str| {
        ops.iter()
            .filter(|o| o["op"] == op && (pass.is_empty() || o["pass"] == pass))
            .map(|o| o["seconds"].as_f64())
            .sum::<Option<f64>>()
    };
    let rate = |flops: f64, seconds: Option<f64>| seconds.filter(|s| *s > 0.0).map(|s| flops / s * 1e-12);
    json!({
        "samples": batch.len(),
        "pack_seconds": p.pack,
        "upload_seconds": p.upload,
        "upload_bytes": p.upload_bytes,
        "upload_gb_per_second": p.upload_bytes as f64 / p.upload * 1e-9,
        "launched_seconds": p.launched,
        "replayed_seconds": p.replayed,
        "flops": flops.total(),
        "tflop_per_second": {
            "step": flops.total() / p.replayed * 1e-12,
            "project": rate(flops.project, by("project", "")),
            "attend": rate(flops.attend, by("attend", "")),
            "pool": rate(flops.pool, by("pool", "")),
            "translate_forward": rate(flops.translate, by("translate", "forward")),
            "translate_backward": rate(flops.translate_backward, by("translate", "backward")),
        },
        "ops": ops,
    })
}

fn main() {
    let options = Options::parse();
    if options.threads > 0 {
        rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global().unwrap();
    }
    if common::rehearsing() {
        host::install(&image::cache_dir().join("host")).unwrap();
    }
    let device = Device::choose(&options.device, options.precision, &[]).unwrap_or_else(|e| {
        eprintln!("{e}");
        std::process::exit(2);
    });
    let shape = common::shape();
    let samples = options.samples.unwrap_or(if common::rehearsing() { 96 } else { EPOCH }).max(1);
    let cells = options.cells.unwrap_or(if common::rehearsing() { 64 } else { 2048 }).max(2);
    let began = Instant::now();
    let (source, mut model) = (common::Cells::new(&shape), common::model(&shape));
    let data = Data {
        cells: (0..cells as u64).into_par_iter().map(|i| source.cell(&model, i)).collect(),
        samples: draw(samples, cells),
        size: options.batch.clamp(1, samples),
    };
    eprintln!("{}: data made in {:.1} s", device.name(), began.elapsed().as_secs_f64());
    let mut document = json!({
        "device": device.name(),
        "precision": options.precision.name(),
        "batch": data.size,
        "shape": { "name": shape.name, "genes": shape.genes, "peaks": shape.peaks, "cells": cells },
        "threads": rayon::current_num_threads(),
    });
    let seconds = options.seconds.unwrap_or(f64::INFINITY);
    let mut add = |name: &str, value: Value| document[name] = value;
    match &device {
        Device::Cpu => add("epoch", figures(&on_cpu(&mut model, &data, seconds), &data)),
        Device::Cuda(cuda) => {
            let mut engine = cuda.engine(&model).unwrap();
            engine.set_graphs(!options.no_graphs);
            let most = |f: fn(&Cell) -> usize| data.cells.iter().map(f).max().unwrap_or(0);
            let room =
                BatchSizes::bound(model.config(), data.size, most(|c| c.0.len()), most(|c| c.1.len()), 1).unwrap();
            let reserved = engine.reserve(&room, |_, _| None);
            if let Err(e) = reserved {
                eprintln!("{e}");
                std::process::exit(3);
            }
            let trace = on_device(&mut engine, &data, seconds);
            add("epoch", figures(&trace, &data));
            let spent = engine.spent();
            add(
                "host_seconds",
                json!({ "packing_summed_over_threads": spent.pack, "waiting_for_batches": spent.wait_batch,
                        "submitting": spent.submit, "waiting_for_the_device": spent.wait_device }),
            );
            let (parts, total) = engine.memory_plan();
            let parts: Vec<Value> = parts.iter().take(12).map(|(n, b)| json!({ "name": n, "bytes": b })).collect();
            let (free, all) = cuda.gpu.memory().unwrap();
            add("memory", json!({ "planned_bytes": total, "largest": parts, "free_bytes": free, "device_bytes": all }));
            add("profile", profile(&mut engine, &mut model, &data.batch(0)));
        }
    }
    println!("{}", serde_json::to_string_pretty(&document).unwrap());
}
