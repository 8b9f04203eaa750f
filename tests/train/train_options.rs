//! Options of training: learning rates by batch size and step, batch sizes that are chosen, genes drawn for the translation
//! loss, rows of the id tables stepped lazily or later.

use std::f64::consts::PI;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use crate::common::runs::{assert_same, config, contents, stopped_and_resumed};
use crate::common::tiny;
use sccrossrec::dataset::DataSet;
use sccrossrec::engine::Device;
use sccrossrec::evaluate::{Part, evaluate};
use sccrossrec::model::{Batch, Dropout, Features, Init, Model, ModelConfig, sample_genes};
use sccrossrec::ops::adam;
use sccrossrec::ops::adam::{AdamConfig, Decay, Others, Rates, RowAdam, Stepped};
use sccrossrec::progress::Progress;
use sccrossrec::rng::Rng;
use sccrossrec::train;
use sccrossrec::train::{
    AUTO_BATCH, AUTO_STEPS, Checkpoint, EpochRecord, Observer, Run, Scaling, Schedule, TrainConfig, TrainingStep,
    auto_batch,
};

/// Rates and losses of every step.
#[derive(Default)]
struct Seen {
    rates: Vec<f64>,
    losses: Vec<f64>,
}

impl Progress for Seen {}

impl Observer for Seen {
    fn step(&mut self, s: &TrainingStep) {
        self.rates.push(s.lr);
        self.losses.push(s.loss);
    }
}

/// Never stopped, and stopped at these steps and resumed: the same bits.
fn resumes_bit_for_bit(data: &DataSet, dir: &Path, config: &TrainConfig, stops: &[u64]) {
    let set = data.samples("default").unwrap();
    train::train(data, &set, config, &dir.join("straight"), &mut ()).unwrap();
    stopped_and_resumed(&Device::Cpu, data, config, &dir.join("stopped"), stops);
    assert_same(&contents(&dir.join("straight")), &contents(&dir.join("stopped")), &format!("{stops:?}"));
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-14 * b.abs().max(1e-6)
}

#[test]
fn rates_in_closed_form() {
    // 10 steps of warm-up, 90 that fall
    let schedule = |decay| Schedule { warmup_steps: 10, decay, final_fraction: 0.1, ..Schedule::default() };
    for (decay, falling) in [
        (Decay::None, (|_| 1.0) as fn(f64) -> f64),
        (Decay::Linear, |x| 0.1 + 0.9 * (1.0 - x)),
        (Decay::Cosine, |x| 0.1 + 0.9 * (1.0 + (PI * x).cos()) / 2.0),
    ] {
        let rates = schedule(decay).rates(2e-3, 64, 25, 4);
        assert_eq!((rates.warmup, rates.steps), (10, 100));
        for done in 0..100 {
            let n = (done + 1) as f64;
            let want = if n <= 10.0 { 2e-3 * n / 10.0 } else { 2e-3 * falling((n - 10.0) / 90.0) };
            assert!(near(rates.at(done), want), "{decay:?}, step {n}: {} where {want} is due", rates.at(done));
        }
        assert_eq!(rates.at(9), 2e-3);
        let floor = if decay == Decay::None { 2e-3 } else { 2e-4 };
        for late in [99, 100, 10_000, u64::MAX] {
            assert!(near(rates.at(late), floor), "{decay:?}: {}", rates.at(late));
        }
    }
    // without a warm-up, the first step has all of it and the last one the floor
    let fall = Schedule { decay: Decay::Linear, ..Schedule::default() }.rates(1.0, 1, 5, 1);
    assert_eq!([0, 1, 2, 3, 4].map(|i| fall.at(i)), [1.0, 0.75, 0.5, 0.25, 0.0]);
    // a training as long as its warm-up, one shorter than it, and one of a single step
    let warm =
        |steps| Schedule { warmup_steps: 4, decay: Decay::Cosine, ..Schedule::default() }.rates(1.0, 1, steps, 1);
    assert_eq!([0, 1, 2, 3].map(|i| warm(4).at(i)), [0.25, 0.5, 0.75, 1.0]);
    assert_eq!([0, 1].map(|i| warm(2).at(i)), [0.25, 0.5]);
    assert_eq!(Schedule { decay: Decay::Cosine, ..Schedule::default() }.rates(1.0, 1, 1, 1).at(0), 1.0);
    // of the two lengths the longer counts; part of an epoch is rounded up
    let both = Schedule { warmup_steps: 7, warmup_epochs: 0.3, ..Schedule::default() };
    assert_eq!([20, 24, 100].map(|steps| both.rates(1.0, 1, steps, 9).warmup), [7, 8, 30]);
    // nothing asked for: the very rate, bit for bit
    for done in [0, 1, 1000, u64::MAX] {
        assert_eq!(Schedule::default().rates(0.1, 640, 7, 3).at(done).to_bits(), 0.1f64.to_bits());
        assert_eq!(Rates::constant(0.1).at(done).to_bits(), 0.1f64.to_bits());
    }
}

#[test]
fn rates_by_batch_size() {
    let at = |scaling, batch| Schedule { scaling, base_batch: 64, ..Schedule::default() }.scaled(1e-3, batch);
    for batch in [1, 64, 100, 1024] {
        assert_eq!(at(Scaling::None, batch), 1e-3);
        assert!(near(at(Scaling::Linear, batch), 1e-3 * batch as f64 / 64.0));
        assert!(near(at(Scaling::Sqrt, batch), 1e-3 * (batch as f64 / 64.0).sqrt()));
    }
    assert_eq!((at(Scaling::Sqrt, 256), at(Scaling::Linear, 256)), (2e-3, 4e-3));
    // the recipes name the batch size their rate was found at
    let root = Schedule { scaling: Scaling::Sqrt, base_batch: 64, ..Schedule::default() };
    assert_eq!(train::recipe("large-batch").unwrap().schedule, root);
    assert_eq!(train::recipe("published").unwrap().schedule, Schedule::default());
}

/// The steps take the rates they should, by what they tell and by what they do.
#[test]
fn training_follows_the_schedule() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let schedule = Schedule {
        scaling: Scaling::Sqrt,
        base_batch: 2,
        warmup_steps: 3,
        warmup_epochs: 0.5,
        decay: Decay::Cosine,
        final_fraction: 0.05,
    };
    let config = TrainConfig { schedule: schedule.clone(), ..config() };
    let steps = set.train.len().div_ceil(8) as u64;
    let rates = schedule.rates(config.adam.lr, 8, steps, 3);
    assert_eq!((rates.rate, rates.warmup), (2.0 * config.adam.lr, steps.div_ceil(2)));
    assert_eq!(config.rates(set.train.len()), rates);
    let mut seen = Seen::default();
    let out = dir.path().join("run");
    train::train(&data, &set, &config, &out, &mut seen).unwrap();
    assert_eq!(seen.rates, (0..3 * steps).map(|i| rates.at(i)).collect::<Vec<_>>());
    // the log has that of each epoch's last step, in both forms
    let log = std::fs::read_to_string(out.join("log.jsonl")).unwrap();
    let records: Vec<EpochRecord> = log.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let table = std::fs::read_to_string(out.join("log.csv")).unwrap();
    let mut rows = table.lines().map(|l| l.split(',').collect::<Vec<_>>());
    let at = rows.next().unwrap().iter().position(|&k| k == "lr").unwrap();
    for (epoch, (record, row)) in records.iter().zip(rows).enumerate() {
        let want = rates.at((epoch as u64 + 1) * steps - 1);
        assert_eq!(record.lr, Some(want));
        assert_eq!(row[at].parse::<f64>().unwrap(), want);
    }
    assert_eq!(records.len(), 3);
    // A constant rate of the first step's makes the same first step and another second one.
    let flat = TrainConfig { schedule: Schedule::default(), ..config };
    let mut flat = TrainConfig { epochs: 1, ..flat };
    flat.adam.lr = rates.at(0);
    let mut other = Seen::default();
    train::train(&data, &set, &flat, &dir.path().join("flat"), &mut other).unwrap();
    assert_eq!(other.losses[..2], seen.losses[..2]);
    assert_ne!(other.losses[2], seen.losses[2]);
}

#[test]
fn schedules_resume_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let schedule = Schedule { warmup_steps: 6, decay: Decay::Linear, final_fraction: 0.1, ..Schedule::default() };
    let config = TrainConfig { schedule, ..config() };
    resumes_bit_for_bit(&data, dir.path(), &config, &[3, 2, 4, 7]);
}

/// A rate that falls over all epochs is not stretched by --resume --epochs; one that only warms up may go on.
#[test]
fn more_epochs_on_resume() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let warm = Schedule { warmup_epochs: 1.5, ..Schedule::default() };
    let long = TrainConfig { schedule: warm.clone(), ..config() };
    train::train(&data, &set, &long, &dir.path().join("long"), &mut ()).unwrap();
    let out = dir.path().join("extended");
    train::train(&data, &set, &TrainConfig { epochs: 1, ..long.clone() }, &out, &mut ()).unwrap();
    train::resume(&data, &set, &long, &out, &mut ()).unwrap();
    assert_same(&contents(&dir.path().join("long")), &contents(&out), "1 + 2 epochs");

    let falling = TrainConfig { schedule: Schedule { decay: Decay::Cosine, ..warm }, ..config() };
    let out = dir.path().join("falling");
    train::train(&data, &set, &falling, &out, &mut ()).unwrap();
    let before = contents(&out);
    let e = train::resume(&data, &set, &TrainConfig { epochs: 5, ..falling }, &out, &mut ()).unwrap_err();
    let text = e.to_string();
    assert!(e.exit_code() == 2 && text.contains("--epochs 5") && text.contains("3 epochs"), "{text}");
    assert_same(&before, &contents(&out), "refused");
}

#[test]
fn chosen_batch_sizes() {
    let steps = |n: usize| n.div_ceil(auto_batch(n));
    for n in [1, 100, 6_367, 6_368, 6_369, 12_736, 12_737, 16_000, 110_798, 203_776, 203_777, 1 << 30] {
        let b = auto_batch(n);
        assert!(b.is_power_of_two() && (32..=1024).contains(&b), "{n}: {b}");
        assert!(b == 32 || steps(n) >= AUTO_STEPS, "{n}: {b}, {} steps", steps(n));
        assert!(b == 1024 || n.div_ceil(2 * b) < AUTO_STEPS, "{n}: {b} where twice as many would do");
    }
    assert_eq!([16_000, 110_798].map(auto_batch), [64, 512]);

    // Runs record the number, and go on with it.
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let auto = TrainConfig { batch_size: AUTO_BATCH, epochs: 1, ..config() };
    let out = dir.path().join("run");
    train::train(&data, &set, &auto, &out, &mut ()).unwrap();
    assert_eq!(Run::open(&out).unwrap().config.batch_size, 32);
    let number = TrainConfig { batch_size: 32, ..auto.clone() };
    train::train(&data, &set, &number, &dir.path().join("number"), &mut ()).unwrap();
    assert_same(&contents(&dir.path().join("number")), &contents(&out), "auto and 32");
    train::resume(&data, &set, &TrainConfig { epochs: 2, ..auto }, &out, &mut ()).unwrap();
    // In files it is a word.
    let text = serde_json::to_string(&TrainConfig { batch_size: AUTO_BATCH, ..config() }).unwrap();
    assert!(text.contains("\"batch_size\":\"auto\""), "{text}");
    assert_eq!(serde_json::from_str::<TrainConfig>(&text).unwrap().batch_size, AUTO_BATCH);
    assert!(serde_json::from_str::<TrainConfig>(&text.replace("\"auto\"", "0")).is_err());
}

/// A run.json and a log written before there were these settings open and resume.
#[test]
fn older_runs_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let plain = TrainConfig { schedule: Schedule::default(), ..config() };
    train::train(&data, &set, &plain, &dir.path().join("straight"), &mut ()).unwrap();
    let out = dir.path().join("old");
    train::train(&data, &set, &TrainConfig { epochs: 1, ..plain }, &out, &mut ()).unwrap();
    let mut run: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("run.json")).unwrap()).unwrap();
    let settings = run["config"].as_object_mut().unwrap();
    for new in ["schedule", "translate_genes", "lazy_adam"] {
        assert!(settings.remove(new).is_some(), "{new}");
    }
    std::fs::write(out.join("run.json"), run.to_string()).unwrap();
    let log = std::fs::read_to_string(out.join("log.jsonl")).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&log).unwrap();
    assert!(record.as_object_mut().unwrap().remove("lr").is_some());
    std::fs::write(out.join("log.jsonl"), record.to_string() + "\n").unwrap();
    let old = Run::open(&out).unwrap().config;
    assert_eq!((&old.schedule, old.translate_genes, old.lazy_adam), (&Schedule::default(), None, false));
    train::resume(&data, &set, &TrainConfig { epochs: 3, ..old }, &out, &mut ()).unwrap();
    let (a, b) = (contents(&dir.path().join("straight")), contents(&out));
    for file in ["best.safetensors", "last.safetensors", "state.safetensors", "run.json", "log 1", "log 2"] {
        assert!(a[file] == b[file], "{file} differs");
    }
}

fn program(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sccrossrec")).current_dir(dir).args(args).output().unwrap()
}

fn refused(dir: &Path, args: &[&str], parts: &[&str]) {
    let out = program(dir, args);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{args:?}: {text}");
    assert!(text.starts_with("error: "), "{args:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{args:?}: no {part:?} in {text}");
    }
}

#[test]
fn flags_files_and_what_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", tiny::Order::Plain);
    let toml = "[train]\ndata = \"data\"\nout = \"run\"\nepochs = 2\nhidden = 16\nembedding-dim = 12\n\
                batch-size = \"auto\"\nlr-scaling = \"sqrt\"\nlr-base-batch = 8\nwarmup-steps = 2\nwarmup-epochs = 0.5\n\
                lr-decay = \"cosine\"\nlr-final-fraction = 0.25\n";
    std::fs::write(d.join("c.toml"), toml).unwrap();
    let out = program(d, &["train", "--config", "c.toml", "--device", "cpu"]);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{text}");
    assert!(text.contains("learning rate 2.000e-3 at batch size 32"), "{text}");
    let run: serde_json::Value = serde_json::from_slice(&std::fs::read(d.join("run/run.json")).unwrap()).unwrap();
    assert_eq!(run["config"]["batch_size"], 32);
    let want = serde_json::json!({
        "scaling": "sqrt", "base_batch": 8, "warmup_steps": 2, "warmup_epochs": 0.5, "decay": "cosine",
        "final_fraction": 0.25,
    });
    assert_eq!(run["config"]["schedule"], want);
    refused(d, &["train", "--resume", "--out", "run", "--epochs", "3"], &["--epochs 3", "2 epochs"]);
    refused(d, &["train", "--resume", "--out", "run", "--warmup-steps", "3"], &["other settings"]);

    let train = ["train", "--data", "data", "--out", "other", "--device", "cpu"];
    for (flags, parts) in [
        (["--batch-size", "0"], ["--batch-size", "at least 1"]),
        (["--batch-size", "many"], ["--batch-size", "auto"]),
        (["--lr-scaling", "cubic"], ["--lr-scaling", "sqrt"]),
        (["--lr-decay", "step"], ["--lr-decay", "cosine"]),
        (["--lr-base-batch", "0"], ["--lr-base-batch 0", "at least 1"]),
        (["--warmup-epochs", "-1"], ["--warmup-epochs -1", "0 to"]),
        (["--warmup-epochs", "inf"], ["--warmup-epochs inf", "0 to"]),
        (["--warmup-steps", "-1"], ["--warmup-steps", "-1"]),
        (["--warmup-steps", "18446744073709551615"], ["--warmup-steps", "at most"]),
        (["--lr-final-fraction", "1.5"], ["--lr-final-fraction 1.5", "0 to 1"]),
        (["--lr-final-fraction", "NaN"], ["--lr-final-fraction NaN", "0 to 1"]),
        (["--translate-genes", "0"], ["--translate-genes 0", "number of genes"]),
        (["--translate-genes", "-0.5"], ["--translate-genes -0.5", "number of genes"]),
        (["--translate-genes", "1.5"], ["--translate-genes 1.5", "number of genes"]),
        (["--translate-genes", "NaN"], ["--translate-genes NaN", "number of genes"]),
    ] {
        refused(d, &[&train[..], &flags].concat(), &parts);
    }
    let cuda = ["train", "--data", "data", "--out", "other", "--device", "cuda", "--recipe", "large-batch"];
    refused(d, &[&cuda[..], &["--translate-genes", "0.1"]].concat(), &["--translate-genes", "--device cpu"]);
    refused(d, &[&cuda[..], &["--lazy-adam"]].concat(), &["--lazy-adam", "--device cpu"]);
    for (flag, value) in
        [("--cis-weight", "-1"), ("--contrast", "nan"), ("--match-weight", "-0.1"), ("--cis-sparsity", "inf")]
    {
        refused(d, &["train", "--data", "data", "--out", "other", flag, value], &[flag]);
    }
    assert!(!d.join("other").exists());
    let small =
        ["train", "--data", "data", "--out", "sparse", "--epochs", "1", "--hidden", "16", "--embedding-dim", "12"];
    let out = program(d, &[&small[..], &["--translate-genes", "0.5", "--lazy-adam"]].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let run: serde_json::Value = serde_json::from_slice(&std::fs::read(d.join("sparse/run.json")).unwrap()).unwrap();
    assert_eq!((&run["config"]["translate_genes"], &run["config"]["lazy_adam"]), (&0.5.into(), &true.into()));
    let table = program(d, &["recipes"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("schedule"));
}

/// A model of `genes` genes and some peaks, and a batch of three samples, two of them positive.
fn problem(genes: usize, heads: usize) -> (Model<f64>, Batch<f64>) {
    let (peaks, chromosomes) = (40, 3);
    let mut r = Rng::new(5, 0);
    let features = Features {
        gene_chrom: (0..genes).map(|_| r.below(chromosomes) as u32).collect(),
        peak_chrom: (0..peaks).map(|_| r.below(chromosomes) as u32).collect(),
        chromosomes,
        unknown: None,
        gene_extra: (0..2 * genes).map(|_| r.uniform()).collect(),
        peak_dna: (0..6 * peaks).map(|_| r.below(5) as u8).collect(),
    };
    let config = ModelConfig {
        genes,
        peaks,
        chromosomes,
        gene_extra: 2,
        dna_length: 6,
        embedding_dim: 8,
        hidden: 8,
        heads,
        alpha: 3.0,
        ..ModelConfig::default()
    };
    let model = Model::new(config, Arc::new(features), Init::PyTorch { embedding_std: 1.0 }, 1).unwrap();
    let mut batch = Batch::new();
    for (i, label) in [1, 0, 1].into_iter().enumerate() {
        let f = model.features();
        let mut draw = |chrom: &[u32], p: f64| {
            let mut found: Vec<u32> = (0..chrom.len() as u32).filter(|_| r.uniform() < p).collect();
            found.push(i as u32);
            found.sort_by_key(|&k| (chrom[k as usize], k));
            found.dedup();
            found.into_iter().map(|k| (k, 0.5 + k as f64 / 7.0)).collect::<Vec<_>>()
        };
        let (genes, peaks) = (draw(&f.gene_chrom, 0.4), draw(&f.peak_chrom, 0.6));
        batch.push(label, i as u64, genes, peaks);
    }
    (model, batch)
}

/// Loss, its translation part, and the gradient.
fn gradient(model: &Model<f64>, batch: &Batch<f64>, genes: Option<&[u32]>) -> (f64, f64, Vec<f64>) {
    let mut grads = vec![0.0; model.params.layout().len()];
    let run = sccrossrec::engine::PassOptions { grads: Some(&mut grads), genes, ..Default::default() };
    let out = model.run(batch, run).unwrap();
    (out.loss, out.translation_loss, grads)
}

fn far(a: &[f64], b: &[f64]) -> f64 {
    let top = b.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / top
}

/// The loss of a random subset has the expectation of the full one, and so has its gradient: the mean over all subsets of a
/// size, each as likely as any other, is exactly that. Draws from them come near it as their number says.
#[test]
fn sampled_genes_estimate_the_loss() {
    const G: usize = 7;
    for heads in [1, 2] {
        let (model, batch) = problem(G, heads);
        let full = gradient(&model, &batch, None);
        assert!(full.1 > 0.0);
        let all: Vec<u32> = (0..G as u32).collect();
        let same = gradient(&model, &batch, Some(&all));
        assert!((same.0 - full.0).abs() < 1e-14 && far(&same.2, &full.2) < 1e-14);
        for n in [1, 3, 6] {
            let subsets = (0u32..1 << G).filter(|s| s.count_ones() == n);
            let mut count = 0.0;
            let mut mean = (0.0, 0.0, vec![0.0; full.2.len()]);
            for s in subsets {
                let some: Vec<u32> = (0..G as u32).filter(|g| s >> g & 1 == 1).collect();
                let one = gradient(&model, &batch, Some(&some));
                count += 1.0;
                mean.0 += one.0;
                mean.1 += one.1;
                mean.2.iter_mut().zip(&one.2).for_each(|(m, g)| *m += g);
            }
            mean.2.iter_mut().for_each(|m| *m /= count);
            assert!((mean.0 / count - full.0).abs() < 1e-12 * full.0, "{n} genes: {} {}", mean.0 / count, full.0);
            assert!((mean.1 / count - full.1).abs() < 1e-12 * full.1);
            assert!(far(&mean.2, &full.2) < 1e-12, "{n} genes: gradients {:e} apart", far(&mean.2, &full.2));
        }
        // Draws: the mean of their losses within five standard errors.
        let (mut sum, mut squares) = (0.0, 0.0);
        const DRAWS: u64 = 2000;
        for step in 0..DRAWS {
            let loss = gradient(&model, &batch, Some(&sample_genes(G, 3, 906, step))).1;
            sum += loss;
            squares += loss * loss;
        }
        let mean = sum / DRAWS as f64;
        let error = ((squares / DRAWS as f64 - mean * mean) / DRAWS as f64).sqrt();
        assert!(error > 0.0 && (mean - full.1).abs() < 5.0 * error, "{mean} ± {error}, should be {}", full.1);
    }
    let (model, batch) = problem(G, 1);
    for wrong in [&[][..], &[3, 2], &[2, 2], &[G as u32]] {
        let run = sccrossrec::engine::PassOptions { genes: Some(wrong), ..Default::default() };
        assert!(model.run(&batch, run).is_err(), "{wrong:?}");
    }
}

/// Every gene, and every pair of them, as often as any other, within five standard deviations.
#[test]
fn draws_of_genes_are_uniform() {
    const DRAWS: u64 = 20_000;
    let (mut one, mut two) = ([0f64; 7], [[0f64; 7]; 7]);
    for step in 0..DRAWS {
        let some = sample_genes(7, 3, 906, step);
        assert!(some.len() == 3 && some.is_sorted_by(|a, b| a < b) && some[2] < 7, "{some:?}");
        for &a in &some {
            one[a as usize] += 1.0;
            some.iter().filter(|&&b| b > a).for_each(|&b| two[a as usize][b as usize] += 1.0);
        }
    }
    let fits = |count: f64, p: f64| (count - p * DRAWS as f64).abs() < 5.0 * (DRAWS as f64 * p * (1.0 - p)).sqrt();
    for (a, (one, two)) in one.iter().zip(&two).enumerate() {
        assert!(fits(*one, 3.0 / 7.0), "gene {a}: {one} times");
        for (b, two) in two.iter().enumerate().skip(a + 1) {
            assert!(fits(*two, 1.0 / 7.0), "genes {a} and {b}: {two} times");
        }
    }
    assert_eq!(sample_genes(1000, 50, 1, 9), sample_genes(1000, 50, 1, 9));
    assert_ne!(sample_genes(1000, 50, 1, 9), sample_genes(1000, 50, 1, 10));
    assert_ne!(sample_genes(1000, 50, 1, 9), sample_genes(1000, 50, 2, 9));
    assert_eq!(sample_genes(4, 9, 1, 1), [0, 1, 2, 3]);
    let config = |n| TrainConfig { translate_genes: n, ..config() };
    let count = |n| config(n).genes_of_step(200, 3).map(|g| g.len());
    assert_eq!(
        [None, Some(0.1), Some(0.001), Some(1.0), Some(150.0), Some(200.0)].map(count),
        [None, Some(20), Some(1), Some(1), Some(150), None]
    );
}

/// The translation costs in proportion, by counted work.
#[test]
fn sampled_genes_cost_less() {
    let (model, batch) = problem(400, 1);
    let full = model.flops(&batch).unwrap();
    assert_eq!(model.flops_of(&batch, None).unwrap(), full);
    let some = sample_genes(400, 40, 1, 0);
    let part = model.flops_of(&batch, Some(&some)).unwrap();
    assert_eq!(part.translate, 0.1 * full.translate);
    assert!(part.translate_backward < 0.15 * full.translate_backward, "{part:?} of {full:?}");
    assert!(part.project < full.project);
    assert_eq!((part.attend, part.pool), (full.attend, full.pool));
}

#[test]
fn training_on_sampled_genes() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let some = TrainConfig { translate_genes: Some(0.3), epochs: 2, ..config() };
    resumes_bit_for_bit(&data, dir.path(), &some, &[3, 4, 6]);
    let all = TrainConfig { translate_genes: None, ..some.clone() };
    let run = |name: &str, config: &TrainConfig| {
        let out = dir.path().join(name);
        train::train(&data, &set, config, &out, &mut ()).unwrap();
        contents(&out)
    };
    let straight = contents(&dir.path().join("straight"));
    let full = run("all", &all);
    assert!(full["last.safetensors"] != straight["last.safetensors"]);
    // as many as there are: all of them, bit for bit
    let most = run("most", &TrainConfig { translate_genes: Some(tiny::GENES as f64), ..all });
    assert!(full["state.safetensors"] == most["state.safetensors"]);
    // validation is of all genes
    let model = Run::open(&dir.path().join("straight")).unwrap().model(&data, Checkpoint::Last).unwrap();
    let found = evaluate(&model, &data, &set, Part::Val, 64, &()).unwrap();
    let log: EpochRecord = serde_json::from_slice(&{
        let mut record: serde_json::Value = serde_json::from_slice(&straight["log 1"]).unwrap();
        record["seconds"] = 0.0.into();
        record["samples_per_second"] = 0.0.into();
        record.to_string().into_bytes()
    })
    .unwrap();
    assert!((log.val_mae.unwrap() - found.translation.unwrap().model.mae.unwrap()).abs() < 1e-12);
}

/// Parameters, gradients and moments of an arena: 50 rows of 24, 31 numbers behind them.
struct Arena {
    p: Vec<f32>,
    g: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
}

const TABLE: [usize; 2] = [50, 24];
const NUMBERS: usize = TABLE[0] * TABLE[1] + 31;

impl Arena {
    fn new() -> Self {
        let mut r = Rng::new(3, 3);
        let mut p: Vec<f32> = (0..NUMBERS).map(|_| r.normal() as f32).collect();
        let mut m = vec![0.0; NUMBERS];
        // zeros of both signs, and a number that decays away
        (p[5], p[6], p[30], m[6], m[7], p[48]) = (0.0, -0.0, -0.0, -0.0, -0.0, 1e-39);
        Arena { p, g: vec![0.0; NUMBERS], m, v: vec![0.0; NUMBERS] }
    }

    /// A gradient in the named rows and behind the tables.
    fn draw(&mut self, named: &[u32], r: &mut Rng) {
        let rows = named.iter().flat_map(|&row| row as usize * TABLE[1]..(row as usize + 1) * TABLE[1]);
        for i in rows.chain(TABLE[0] * TABLE[1]..NUMBERS) {
            self.g[i] = if r.uniform() < 0.2 { 0.0 } else { (0.01 * r.normal()) as f32 };
        }
    }

    fn bits(&self) -> Vec<u32> {
        [&self.p, &self.g, &self.m, &self.v].into_iter().flatten().map(|x| x.to_bits()).collect()
    }
}

fn named(r: &mut Rng, share: f64) -> Vec<u32> {
    (0..TABLE[0] as u32).filter(|_| r.uniform() < share).collect()
}

/// Rows that make up later for the steps they missed end up with the bits that stepping all of them each time gives: over
/// two hundred steps of random rows and rates, with checkpoints on the way, and steps that name most rows.
#[test]
fn rows_stepped_later_have_the_same_bits() {
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut r = Rng::new(11, threads as u64);
            let (mut dense, mut later) = (Arena::new(), Arena::new());
            let mut optimiser = RowAdam::new(TABLE[0], TABLE[1], Others::Later);
            for t in 1..=200 {
                let share = [0.0, 0.02, 0.1, 0.1, 0.3, 0.9, 1.0][if t % 70 < 60 { r.below(5) } else { r.below(7) }];
                let rows = named(&mut r, share);
                let a = &mut later;
                optimiser.catch_up(&mut a.p, &mut a.m, &mut a.v, &rows);
                for &row in &rows {
                    let at = row as usize * TABLE[1]..(row as usize + 1) * TABLE[1];
                    let bits = |x: &[f32]| x[at.clone()].iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&a.p), bits(&dense.p), "step {t}, row {row}: what the step reads");
                }
                dense.draw(&rows, &mut r);
                a.g.copy_from_slice(&dense.g);
                let c = AdamConfig { lr: 1e-3 * r.uniform(), ..AdamConfig::default() };
                let d = &mut dense;
                adam::step(&mut d.p, &mut d.g, &mut d.m, &mut d.v, &c, t);
                optimiser.step(Stepped { p: &mut a.p, g: &mut a.g, m: &mut a.m, v: &mut a.v }, &c, t, &rows);
                if [1, 40, 41, 150, 200].contains(&t) {
                    optimiser.flush(&mut a.p, &mut a.m, &mut a.v);
                    assert!(a.bits() == dense.bits(), "step {t}: other bits");
                }
            }
        });
    }
}

/// The same of the model's own steps, one sample each.
#[test]
fn batches_of_one_have_the_bits_of_dense_adam() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let config = config();
    let make = || Model::new(config.model_for(&data), data.features(), config.init(), 4).unwrap();
    let (mut a, mut b) = (make(), make());
    let n = a.params.layout().len();
    let [mut ga, mut ma, mut va, mut gb, mut mb, mut vb] = std::array::from_fn(|_| vec![0f32; n]);
    let mut optimiser = RowAdam::new(a.config().genes + a.config().peaks, a.config().embedding_dim, Others::Later);
    let mut few = 0;
    for (i, &sample) in set.train.iter().cycle().take(150).enumerate() {
        let batch = data.batch(&set, &[sample]);
        let (step, t) = (Dropout { seed: 1, step: i as u64 }, i as u64 + 1);
        let rows = a.table_rows(&batch, None);
        assert!(rows.is_sorted_by(|a, b| a < b));
        few += usize::from(2 * rows.len() < a.config().genes + a.config().peaks);
        optimiser.catch_up(a.params.as_mut_slice(), &mut ma, &mut va, &rows);
        let x = a.train_step(&batch, Some(step), &mut ga).unwrap();
        let y = b.train_step(&batch, Some(step), &mut gb).unwrap();
        assert_eq!(x.loss.to_bits(), y.loss.to_bits(), "step {t}");
        // a step has a gradient in the rows it names, and in no others
        let d = a.config().embedding_dim;
        let tables = (a.config().genes + a.config().peaks) * d;
        for (row, g) in ga[..tables].chunks_exact(d).enumerate() {
            assert!(rows.binary_search(&(row as u32)).is_ok() || g.iter().all(|&g| g == 0.0), "row {row}");
        }
        let c = AdamConfig { lr: 1e-2, ..AdamConfig::default() };
        let of = Stepped { p: a.params.as_mut_slice(), g: &mut ga, m: &mut ma, v: &mut va };
        optimiser.step(of, &c, t, &rows);
        adam::step(b.params.as_mut_slice(), &mut gb, &mut mb, &mut vb, &c, t);
    }
    assert!((60..=120).contains(&few), "{few} steps by rows");
    optimiser.flush(a.params.as_mut_slice(), &mut ma, &mut va);
    assert!(a.params.as_slice() == b.params.as_slice() && ma == mb && va == vb && ga == gb);
}

/// Rows that a lazy step does not name keep every bit; the others, and what is behind the tables, have a first step like
/// that of dense Adam.
#[test]
fn lazy_steps_leave_rows_alone() {
    let mut r = Rng::new(8, 8);
    let (mut dense, mut lazy) = (Arena::new(), Arena::new());
    let mut optimiser = RowAdam::new(TABLE[0], TABLE[1], Others::Left);
    let c = AdamConfig::default();
    for t in 1..=3 {
        let rows = named(&mut r, 0.6);
        lazy.draw(&rows, &mut r);
        dense.g.copy_from_slice(&lazy.g);
        let before = Arena { p: lazy.p.clone(), g: vec![0.0; NUMBERS], m: lazy.m.clone(), v: lazy.v.clone() };
        let a = &mut lazy;
        optimiser.catch_up(&mut a.p, &mut a.m, &mut a.v, &rows);
        optimiser.step(Stepped { p: &mut a.p, g: &mut a.g, m: &mut a.m, v: &mut a.v }, &c, t, &rows);
        let d = &mut dense;
        adam::step(&mut d.p, &mut d.g, &mut d.m, &mut d.v, &c, t);
        for (i, (got, (old, full))) in lazy.bits().iter().zip(before.bits().iter().zip(&dense.bits())).enumerate() {
            let row = (i % NUMBERS / TABLE[1]) as u32;
            if row < TABLE[0] as u32 && !rows.contains(&row) {
                assert_eq!(got, old, "step {t}: number {i} of row {row}, which is not named");
            } else if t == 1 {
                assert_eq!(got, full, "number {i}");
            }
        }
        optimiser.flush(&mut lazy.p, &mut lazy.m, &mut lazy.v); // nothing is owed
    }
}

#[test]
fn lazy_training_resumes_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let lazy = TrainConfig { lazy_adam: true, translate_genes: Some(4.0), batch_size: 1, epochs: 2, ..config() };
    resumes_bit_for_bit(&data, dir.path(), &lazy, &[3, 40, 70]);
    let dense = TrainConfig { lazy_adam: false, ..lazy };
    let out = dir.path().join("dense");
    train::train(&data, &set, &dense, &out, &mut ()).unwrap();
    assert!(contents(&out)["last.safetensors"] != contents(&dir.path().join("straight"))["last.safetensors"]);
    // so does the exact one, whose rows are behind when it is stopped
    let later = tempfile::tempdir().unwrap();
    resumes_bit_for_bit(&data, later.path(), &dense, &[3, 40, 70]);
}
