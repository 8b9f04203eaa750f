//! Options of training: learning rates by batch size and step, batch sizes that are chosen.

#[path = "common/tiny.rs"]
mod tiny;

use std::collections::BTreeMap;
use std::f64::consts::PI;
use std::path::Path;
use std::process::{Command, Output};

use sccrossrec::Error;
use sccrossrec::graph::DataSet;
use sccrossrec::ops::adam::{Decay, Rates};
use sccrossrec::train::{
    self, AUTO_BATCH, AUTO_STEPS, EpochRecord, Observer, Run, Scaling, Schedule, Step, TrainConfig, auto_batch,
};

fn config() -> TrainConfig {
    TrainConfig {
        epochs: 3,
        batch_size: 8,
        hidden: 16,
        embedding_dim: 12,
        heads: 2,
        checkpoint_minutes: None,
        ..train::recipe("default").unwrap()
    }
}

/// Rates and losses of every step; asks to stop after this many (0: never).
#[derive(Default)]
struct Seen {
    rates: Vec<f64>,
    losses: Vec<f64>,
    stop: usize,
}

impl Observer for Seen {
    fn step(&mut self, s: &Step) {
        self.rates.push(s.lr);
        self.losses.push(s.loss);
    }
    fn stop(&mut self) -> bool {
        self.stop > 0 && self.rates.len() >= self.stop
    }
}

/// All checkpoints of a run, and its log without the times.
fn contents(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    files.insert("run.json".to_string(), std::fs::read(run.join("run.json")).unwrap());
    for entry in std::fs::read_dir(run.join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        files.insert(path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap());
    }
    for (i, line) in std::fs::read_to_string(run.join("log.jsonl")).unwrap().lines().enumerate() {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        for time in ["seconds", "samples_per_second"] {
            assert!(record.as_object_mut().unwrap().remove(time).is_some());
        }
        files.insert(format!("log {i}"), record.to_string().into_bytes());
    }
    files
}

fn assert_same(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>, what: &str) {
    assert!(a.keys().eq(b.keys()), "{what}: {:?} against {:?}", a.keys(), b.keys());
    for (name, bytes) in a {
        assert!(bytes == &b[name], "{what}: {name} differs");
    }
}

/// Never stopped, and stopped at these steps and resumed: the same bits.
fn resumes_bit_for_bit(data: &DataSet, dir: &Path, config: &TrainConfig, stops: &[usize]) {
    let set = data.samples("default").unwrap();
    train::train(data, &set, config, &dir.join("straight"), &mut ()).unwrap();
    let out = dir.join("stopped");
    for (i, &stop) in stops.iter().enumerate() {
        let mut observer = Seen { stop, ..Seen::default() };
        let result = match i {
            0 => train::train(data, &set, config, &out, &mut observer),
            _ => train::resume(data, &set, config, &out, &mut observer),
        };
        assert!(matches!(result, Err(Error::Interrupted { .. })), "{result:?}");
    }
    train::resume(data, &set, config, &out, &mut ()).unwrap();
    assert_same(&contents(&dir.join("straight")), &contents(&out), &format!("{stops:?}"));
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
    assert_eq!(train::recipe("default").unwrap().schedule, Schedule { base_batch: 64, ..Schedule::default() });
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
    assert!(settings.remove("schedule").is_some());
    std::fs::write(out.join("run.json"), run.to_string()).unwrap();
    let log = std::fs::read_to_string(out.join("log.jsonl")).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&log).unwrap();
    assert!(record.as_object_mut().unwrap().remove("lr").is_some());
    std::fs::write(out.join("log.jsonl"), record.to_string() + "\n").unwrap();
    let old = Run::open(&out).unwrap().config;
    assert_eq!(old.schedule, Schedule::default());
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
    ] {
        refused(d, &[&train[..], &flags].concat(), &parts);
    }
    assert!(!d.join("other").exists());
    let table = program(d, &["recipes"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("schedule"));
}
