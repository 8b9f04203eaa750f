//! Interrupted and resumed training gives, bit for bit, what never stopping gives; so does any number of threads.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::runs::{assert_same, config, contents, stopped_and_resumed};
use crate::common::tiny;
use sccrossrec::dataset::DataSet;
use sccrossrec::engine::Device;
use sccrossrec::evaluate::{Part, evaluate};
use sccrossrec::model::ModelConfig;
use sccrossrec::train;
use sccrossrec::train::{Checkpoint, OnNan, Run, TrainConfig};

fn straight(data: &DataSet, out: &Path, config: &TrainConfig) -> BTreeMap<String, Vec<u8>> {
    let set = data.samples("default").unwrap();
    train::train(data, &set, config, out, &mut ()).unwrap();
    contents(out)
}

/// With the terms of the default recipe.
fn all_terms() -> TrainConfig {
    let recipe = train::recipe("default").unwrap();
    let config = config();
    let m = recipe.model;
    let model = ModelConfig { alpha: m.alpha, contrast: m.contrast, cis: m.cis, ..config.model };
    TrainConfig { model, ..config }
}

#[test]
fn resumed_equals_uninterrupted() {
    resumed(config());
}

#[test]
fn resumed_equals_uninterrupted_with_all_terms() {
    resumed(all_terms());
}

fn resumed(config: TrainConfig) {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let steps_an_epoch = set.train.len().div_ceil(config.batch_size) as u64;
    assert!(steps_an_epoch >= 8, "too small a data set for stops within an epoch");
    let want = straight(&data, &dir.path().join("straight"), &config);
    assert!(want.contains_key("log 2") && want.contains_key("best.safetensors"));

    // Stops in the middle of an epoch, at its very end, in the next one; each resumption is stopped again.
    for stops in [vec![10], vec![3, 1, 5], vec![steps_an_epoch], vec![steps_an_epoch + 2, 3]] {
        let out = dir.path().join(format!("{stops:?}"));
        stopped_and_resumed(&Device::Cpu, &data, &config, &out, &stops);
        assert_same(&want, &contents(&out), &format!("stops {stops:?}"));
    }
}

#[test]
fn more_epochs_on_resume() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let want = straight(&data, &dir.path().join("straight"), &config());
    let out = dir.path().join("extended");
    let short = TrainConfig { epochs: 1, ..config() };
    train::train(&data, &set, &short, &out, &mut ()).unwrap();
    // left by a program that was killed while it wrote; goes
    let left = out.join("checkpoints/.state.safetensors.4711.tmp");
    std::fs::write(&left, b"half").unwrap();
    let outcome = train::resume(&data, &set, &config(), &out, &mut ()).unwrap();
    assert_eq!(outcome.epochs, 3);
    assert!(!left.exists());
    assert_same(&want, &contents(&out), "1 + 2 epochs");
    // nothing left to do: nothing changes
    train::resume(&data, &set, &config(), &out, &mut ()).unwrap();
    assert_same(&want, &contents(&out), "0 more epochs");
}

#[test]
fn threads_do_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let mut runs = Vec::new();
    let mut first = None;
    for threads in [1, 2, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let out = dir.path().join(format!("t{threads}"));
        runs.push((threads, pool.install(|| straight(&data, &out, &config()))));
        let out = dir.path().join(format!("all-terms-{threads}"));
        let terms = pool.install(|| straight(&data, &out, &all_terms()));
        match &first {
            None => first = Some(terms),
            Some(first) => assert_same(first, &terms, &format!("all terms, {threads} threads")),
        }
    }
    for (threads, run) in &runs[1..] {
        assert_same(&runs[0].1, run, &format!("{threads} threads"));
    }
}

#[test]
fn seeds_do_matter() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let one = TrainConfig { epochs: 1, ..config() };
    let a = straight(&data, &dir.path().join("a"), &one);
    let b = straight(&data, &dir.path().join("b"), &TrainConfig { seed: 7, ..one });
    assert!(a["last.safetensors"] != b["last.safetensors"]);
}

#[test]
fn only_what_keeps_the_steps_may_change() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let out = dir.path().join("run");
    train::train(&data, &set, &TrainConfig { epochs: 1, ..config() }, &out, &mut ()).unwrap();
    let other = TrainConfig { batch_size: 4, ..config() };
    let e = train::resume(&data, &set, &other, &out, &mut ()).unwrap_err();
    assert!(e.exit_code() == 2 && e.to_string().contains("other settings"), "{e}");
    let mut set = set;
    let run = Run::open(&out).unwrap();
    assert_eq!(run.trained_on(&data, &set), Some(true));
    set.train.swap(0, 1);
    assert_eq!(run.trained_on(&data, &set), Some(false));
    let e = train::resume(&data, &set, &config(), &out, &mut ()).unwrap_err();
    assert!(e.exit_code() == 2 && e.to_string().contains("pairs"), "{e}");
}

#[test]
fn sample_sets_made_by_hand_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let good = data.samples("default").unwrap();
    let model = sccrossrec::model::Model::new(config().model_for(&data), data.features(), config().init(), 1).unwrap();
    let n = good.samples.len() as u32;
    for (part, change) in [
        ("a cell beyond", (|s| s.samples[3].atac = tiny::CELLS as u32) as fn(&mut sccrossrec::dataset::SampleSet)),
        ("has label 2", |s| s.samples[3].label = 2),
        ("names pair", |s| s.val[0] = u32::MAX),
    ] {
        let mut set = good.clone();
        change(&mut set);
        let out = dir.path().join("run");
        let errors = [
            train::train(&data, &set, &config(), &out, &mut ()).unwrap_err(),
            evaluate(&model, &data, &set, Part::All, 8, &()).unwrap_err(),
        ];
        for e in errors {
            assert!(e.exit_code() == 2 && e.to_string().contains(part), "{part}: {e}");
        }
        assert!(!out.exists(), "nothing is written for a set of {n} samples that cannot be used");
    }
}

#[test]
fn not_finite_stops_and_can_be_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    // The first step overflows the parameters; the next loss or gradient is not finite.
    let mut wild = TrainConfig { epochs: 1, ..config() };
    wild.adam.lr = 1e38;
    let out = dir.path().join("wild");
    let e = train::train(&data, &set, &wild, &out, &mut ()).unwrap_err();
    let text = e.to_string();
    assert!(e.exit_code() == 2 && text.contains("step 2") && text.contains("RNA of cell"), "{text}");
    let skip = TrainConfig { on_nan: OnNan::Skip, ..wild };
    let outcome = train::resume(&data, &set, &skip, &out, &mut ()).unwrap();
    let last = outcome.last.unwrap();
    assert_eq!(last.samples, 8);
    assert_eq!(last.samples + last.skipped, set.train.len() as u64);
}

#[test]
fn checkpoints_that_do_not_fit_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let one = TrainConfig { epochs: 1, ..config() };
    let narrow = TrainConfig { model: ModelConfig { hidden: 8, ..one.model.clone() }, ..one.clone() };
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    train::train(&data, &set, &one, &a, &mut ()).unwrap();
    train::train(&data, &set, &narrow, &b, &mut ()).unwrap();
    let best = a.join("checkpoints/best.safetensors");
    let good = std::fs::read(&best).unwrap();
    let open = || Run::open(&a).unwrap().model(&data, Checkpoint::Best);
    open().unwrap();

    // of other sizes
    std::fs::copy(b.join("checkpoints/best.safetensors"), &best).unwrap();
    let e = open().unwrap_err();
    let text = e.to_string();
    assert_eq!(e.exit_code(), 2);
    assert!(text.contains("best.safetensors") && text.contains("rna_query.weight"), "{text}");
    assert!(text.contains("[8, 16]") && text.contains("[16, 16]"), "{text}");

    // cut short anywhere, or with a header that lies
    for n in [0, 7, 8, 100, good.len() / 2, good.len() - 1] {
        std::fs::write(&best, &good[..n]).unwrap();
        let e = open().unwrap_err();
        assert!(e.exit_code() == 2 && e.to_string().contains("not a safetensors file"), "{n} bytes: {e}");
    }
    let mut lying = good.clone();
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&best, &lying).unwrap();
    assert_eq!(open().unwrap_err().exit_code(), 2);

    // a state of other sizes
    std::fs::copy(b.join("checkpoints/state.safetensors"), a.join("checkpoints/state.safetensors")).unwrap();
    let more = TrainConfig { epochs: 2, ..one };
    let e = train::resume(&data, &set, &more, &a, &mut ()).unwrap_err();
    assert!(e.exit_code() == 2 && e.to_string().contains("state.safetensors"), "{e}");

    // none
    std::fs::remove_file(&best).unwrap();
    let e = open().unwrap_err();
    assert!(e.exit_code() == 2 && e.to_string().contains("--checkpoint last"), "{e}");
}

/// The log's validation figures are those that `evaluate` finds for the same parameters.
#[test]
fn validation_is_what_evaluation_finds() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let out = dir.path().join("run");
    let config = TrainConfig { epochs: 2, eval_batch_size: 5, ..config() };
    let record = train::train(&data, &set, &config, &out, &mut ()).unwrap().last.unwrap();
    let model = Run::open(&out).unwrap().model(&data, Checkpoint::Last).unwrap();
    let found = evaluate(&model, &data, &set, Part::Val, 64, &()).unwrap();
    let near = |a: Option<f64>, b: Option<f64>, what: &str| {
        assert!((a.unwrap() - b.unwrap()).abs() < 1e-12, "{what}: {a:?} against {b:?}");
    };
    let translation = found.translation.unwrap().model;
    near(record.val_accuracy, found.matching.model.accuracy, "accuracy");
    near(record.val_mae, translation.mae, "MAE");
    near(record.val_rmse, translation.rmse, "RMSE");
    near(record.score, Some(record.val_accuracy.unwrap() - record.val_mae.unwrap()), "score");
    assert!(record.val_mae.unwrap() > 0.0 && record.val_mae.unwrap() < 1.0);
}

/// Early stopping is off unless asked for, never before `min_epochs`, and stays stopped.
#[test]
fn early_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    // Steps too small to change a prediction: the first epoch stays the best.
    let mut still = TrainConfig { epochs: 6, ..config() };
    still.adam.lr = 1e-30;
    still.adam.weight_decay = 0.0;
    let epochs = |name: &str, patience, min_epochs| {
        let out = dir.path().join(name);
        let config = TrainConfig { patience, min_epochs, ..still.clone() };
        let outcome = train::train(&data, &set, &config, &out, &mut ()).unwrap();
        assert_eq!(outcome.best.as_ref().unwrap().epoch, 1);
        let again = train::resume(&data, &set, &config, &out, &mut ()).unwrap();
        assert_eq!((again.epochs, again.early), (outcome.epochs, outcome.early));
        (outcome.epochs, outcome.early)
    };
    assert_eq!(epochs("never", None, 0), (6, false));
    assert_eq!(epochs("two", Some(2), 0), (3, true));
    assert_eq!(epochs("later", Some(2), 5), (5, true));
}
