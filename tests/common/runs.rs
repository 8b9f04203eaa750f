//! Small training runs, stopped and gone on with, and what of them must be equal.

use std::collections::BTreeMap;
use std::path::Path;

use sccrossrec::dataset::DataSet;
use sccrossrec::engine::Device;
use sccrossrec::model::ModelConfig;
use sccrossrec::progress::Progress;
use sccrossrec::train::{Observer, TrainConfig, TrainingStep};
use sccrossrec::{Error, train};

/// Settings of a run of seconds.
pub fn config() -> TrainConfig {
    let recipe = train::recipe("large-batch").unwrap();
    let model = ModelConfig { hidden: 16, embedding_dim: 12, heads: 2, ..recipe.model };
    TrainConfig { epochs: 3, batch_size: 8, model, checkpoint_minutes: None, ..recipe }
}

/// Asks to stop after this many of its steps.
pub struct StopAfter(pub u64);

impl Observer for StopAfter {
    fn step(&mut self, _: &TrainingStep) {
        self.0 = self.0.saturating_sub(1);
    }
}

impl Progress for StopAfter {
    fn stop(&self) -> Option<i32> {
        (self.0 == 0).then_some(130)
    }
}

/// Trains into `out`, stopped after so many steps, and after so many of each resumption; then goes on to the end.
pub fn stopped_and_resumed(device: &Device, data: &DataSet, config: &TrainConfig, out: &Path, stops: &[u64]) {
    let set = data.samples("default").unwrap();
    for (i, &n) in stops.iter().enumerate() {
        let mut observer = StopAfter(n);
        let result = if i == 0 {
            train::train_on(device, data, &set, config, out, &mut observer)
        } else {
            train::resume_on(device, data, &set, config, out, &mut observer)
        };
        match result {
            Err(Error::Interrupted { code: 130, saved }) => assert!(saved.contains("--resume"), "{saved}"),
            other => panic!("stop {i} of {stops:?}: {other:?}"),
        }
    }
    train::resume_on(device, data, &set, config, out, &mut ()).unwrap();
}

/// Everything of a run that must be equal: all files, the log without the times, `run.json` without nothing. Not the state
/// before the last: it is that of an earlier save, of which a run that was stopped has more.
pub fn contents(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for f in ["genes.txt", "peaks.txt", "run.json"] {
        files.insert(f.to_string(), std::fs::read(run.join(f)).unwrap());
    }
    for entry in std::fs::read_dir(run.join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name != "before.safetensors" {
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
    let log = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
    for (i, line) in log.lines().enumerate() {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        for time in ["seconds", "samples_per_second"] {
            assert!(record.as_object_mut().unwrap().remove(time).is_some());
        }
        files.insert(format!("log {i}"), record.to_string().into_bytes());
    }
    files
}

pub fn assert_same(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>, what: &str) {
    assert!(a.keys().eq(b.keys()), "{what}: {:?} against {:?}", a.keys(), b.keys());
    for (name, bytes) in a {
        assert!(bytes == &b[name], "{what}: {name} differs");
    }
}
