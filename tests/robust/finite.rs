//! Numbers that are not finite never get into the weights: the step is named with its op, sample and cell; training stops,
//! leaves it out, or goes back to the last checkpoint.

use std::path::Path;
use std::sync::Mutex;

use crate::common::runs;
use crate::common::tiny::{self, Order};
use sccrossrec::dataset::DataSet;
use sccrossrec::model::ModelConfig;
use sccrossrec::prepare::{PrepareConfig, prepare};
use sccrossrec::progress::Progress;
use sccrossrec::train;
use sccrossrec::train::tensors::TensorFile;
use sccrossrec::train::{Observer, OnNan, TrainConfig};

/// The cell whose expression is beyond what a product of two f32 can hold.
const BAD: usize = 7;

/// The tiny data set, with such a cell.
fn data(dir: &Path) -> DataSet {
    let (rna, atac, out) = (dir.join("rna.h5ad"), dir.join("atac.h5ad"), dir.join("data"));
    let value = |cell: usize, _: usize, x: f32| if cell == BAD { 3e38 } else { x };
    tiny::matrix_with(&rna, "gene", tiny::GENES, 1000, Order::Plain, value);
    tiny::matrix(&atac, "peak", tiny::PEAKS, 2000, Order::Plain);
    prepare(&PrepareConfig::new(rna, atac), &out, &()).unwrap();
    DataSet::open(&out).unwrap()
}

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn note(&self, line: &str) {
        self.0.lock().unwrap().push(line.into());
    }
}

impl Observer for Notes {}

fn all_finite(run: &Path) {
    for file in ["state", "last", "best", "before"] {
        let path = run.join(format!("checkpoints/{file}.safetensors"));
        for (name, tensor) in TensorFile::read(&path).unwrap().tensors {
            assert!(tensor.values.iter().all(|x| x.is_finite()), "{file}: {name}");
        }
    }
}

/// Steps are of one sample each here, so that exactly those of the bad cell are not finite.
fn one_by_one(on_nan: OnNan) -> TrainConfig {
    TrainConfig { batch_size: 1, epochs: 2, on_nan, checkpoint_steps: Some(5), ..runs::config() }
}

#[test]
fn a_bad_cell_is_named_and_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path());
    let set = data.samples("default").unwrap();
    let bad = |n: &&u32| set.samples[**n as usize].rna == BAD as u32;
    let bad = set.train.iter().filter(bad).count() as u64;
    assert!(bad > 0, "the bad cell is in no training sample; choose another");

    let out = dir.path().join("stop");
    let e = train::train(&data, &set, &one_by_one(OnNan::Stop), &out, &mut ()).unwrap_err();
    let text = e.to_string();
    assert!(e.exit_code() == 2 && text.contains("op `") && text.contains("RNA of cell7,"), "{text}");
    assert!(text.contains("--on-nan skip"), "{text}");
    all_finite_state(&out);

    for on_nan in [OnNan::Skip, OnNan::Rollback] {
        let out = dir.path().join(format!("{on_nan:?}"));
        let mut notes = Notes::default();
        let outcome = train::train(&data, &set, &one_by_one(on_nan), &out, &mut notes).unwrap();
        let last = outcome.last.unwrap();
        assert_eq!((last.skipped, last.samples), (bad, set.train.len() as u64 - bad), "{on_nan:?}");
        assert!(last.loss.unwrap().is_finite());
        let notes = notes.0.into_inner().unwrap();
        let said: Vec<_> = notes.iter().filter(|n| n.contains("warning")).collect();
        assert_eq!(said.len() as u64, 2 * bad, "{said:?}");
        for line in said {
            assert!(line.contains("op `") && line.contains("RNA of cell7,") && line.contains("left out"), "{line}");
            assert_eq!(line.contains("of the checkpoint of step"), on_nan == OnNan::Rollback, "{line}");
        }
        all_finite(&out);
    }
    // To go back is not to leave out: steps since the checkpoint are undone.
    let weights = |name: &str| std::fs::read(dir.path().join(name).join("checkpoints/last.safetensors")).unwrap();
    assert!(weights("Skip") != weights("Rollback"));
}

fn all_finite_state(run: &Path) {
    for tensor in TensorFile::read(&run.join("checkpoints/state.safetensors")).unwrap().tensors.values() {
        assert!(tensor.values.iter().all(|x| x.is_finite()));
    }
}

/// In a batch of many the sample is found.
#[test]
fn the_sample_is_found_in_its_batch() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path());
    let set = data.samples("default").unwrap();
    let config = TrainConfig { batch_size: set.train.len(), ..one_by_one(OnNan::Stop) };
    for alpha in [config.model.alpha, 0.0] {
        let out = dir.path().join(format!("run-{alpha}"));
        let model = ModelConfig { alpha, ..config.model.clone() };
        let config = TrainConfig { model, ..config.clone() };
        let text = train::train(&data, &set, &config, &out, &mut ()).unwrap_err().to_string();
        let of = format!("of a batch of {}", set.train.len());
        assert!(text.contains("; pair ") && text.contains("RNA of cell7,") && text.contains(&of), "{text}");
        assert!(text.contains("step 1: ") && text.contains("first in the values of op `"), "{alpha}: {text}");
    }
}

/// Rollbacks that lead to nothing end, with the checkpoint as it was.
#[test]
fn rollbacks_end() {
    let dir = tempfile::tempdir().unwrap();
    let data = tiny::data(dir.path());
    let set = data.samples("default").unwrap();
    let mut wild = TrainConfig { epochs: 1, on_nan: OnNan::Rollback, ..runs::config() };
    wild.adam.lr = 1e38; // each step from the checkpoint overflows the weights, the one after it is not finite
    let out = dir.path().join("wild");
    let mut notes = Notes::default();
    let e = train::train(&data, &set, &wild, &out, &mut notes).unwrap_err();
    let text = e.to_string();
    assert!(e.exit_code() == 2 && text.contains("went back 3 times to the checkpoint of step 0"), "{text}");
    assert!(text.contains("step 8: ") && text.contains("smaller --lr"), "{text}");
    let notes = notes.0.into_inner().unwrap();
    assert_eq!(notes.iter().filter(|n| n.contains("of the checkpoint of step 0 again")).count(), 3, "{notes:?}");
    all_finite_state(&out);
}
