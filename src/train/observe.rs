//! What a training run tells while it runs, and how it is asked to stop.

use serde::{Deserialize, Serialize};

use crate::model::{Batch, ModelConfig};

/// Memory that a run takes, in bytes, estimated before the first step from its sizes and its first batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// Parameters.
    pub parameters: u64,
    /// Gradients.
    pub gradients: u64,
    /// The optimiser's moments.
    pub moments: u64,
    /// Batches in flight: the one in work, the next, and the one being read.
    pub batches: u64,
    /// What the passes over a batch keep: projected rows, counts of the translation, and their gradients.
    pub passes: u64,
}

impl MemoryPlan {
    pub(crate) fn new(config: &ModelConfig, parameters: usize, batch: &Batch<f32>) -> Self {
        let arena = parameters as u64 * 4;
        let entries = (batch.rna.indices.len() + batch.atac.indices.len()) as u64;
        let distinct = |indices: &[u32]| {
            let mut i = indices.to_vec();
            i.sort_unstable();
            i.dedup();
            i.len() as u64
        };
        let positives = batch.label.iter().filter(|&&l| l == 1).count() as u64;
        let (genes, hidden, heads) = (config.genes as u64, config.hidden as u64, config.heads as u64);
        let rows = distinct(&batch.rna.indices) + distinct(&batch.atac.indices) + genes;
        // Of the cis term: what the cell says, what its peaks say, their sum and its gradient, of every gene.
        let cis = if config.cis.is_some() { 4 * positives * genes } else { 0 };
        MemoryPlan {
            parameters: arena,
            gradients: arena,
            moments: 2 * arena,
            batches: 3 * entries * 8,
            passes: 2 * 4 * (rows * hidden + positives * genes * heads + cis + entries * (1 + config.top_k as u64)),
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.parameters + self.gradients + self.moments + self.batches + self.passes
    }

    /// What needs how much.
    pub(crate) fn parts(&self) -> [(&'static str, u64); 5] {
        [
            ("parameters", self.parameters),
            ("gradients", self.gradients),
            ("moments", self.moments),
            ("batches", self.batches),
            ("passes", self.passes),
        ]
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let m = |b: u64| if b < 10 << 20 { format!("{:.1}", b as f64 / 1048576.0) } else { format!("{}", b >> 20) };
        format!(
            "memory: {} MiB (parameters {}, gradients {}, moments {}, batches {}, passes about {})",
            m(self.total()),
            m(self.parameters),
            m(self.gradients),
            m(self.moments),
            m(self.batches),
            m(self.passes)
        )
    }
}

/// What is known before the first step.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Samples in train and val.
    pub samples: [usize; 2],
    /// Steps an epoch.
    pub steps: u64,
    /// Epochs in all, at most.
    pub epochs: u32,
    /// Epochs done already, in a resumed run.
    pub epochs_done: u32,
    /// Parameters.
    pub parameters: usize,
    /// Memory.
    pub memory: MemoryPlan,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Its epoch, from 1.
    pub epoch: u32,
    /// Samples of the epoch done, this step's included.
    pub position: usize,
    /// Its number over the whole run, from 1.
    pub step: u64,
    /// Its loss.
    pub loss: f64,
    /// Mean loss of the epoch so far.
    pub mean_loss: f64,
    /// Its learning rate.
    pub lr: f64,
    /// Samples a second since this epoch (or the resumption in it) began.
    pub samples_per_second: f64,
}

/// One epoch: a line of `log.jsonl`. What is undefined (no validation samples, no positives) is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRecord {
    /// Number, from 1.
    pub epoch: u32,
    /// Steps done in all.
    pub step: u64,
    /// Training samples that counted.
    pub samples: u64,
    /// Training samples left out by `--on-nan skip`.
    pub skipped: u64,
    /// Mean training loss a sample, as it was at each step.
    pub loss: Option<f64>,
    /// Its cross-entropy part.
    pub match_loss: Option<f64>,
    /// Its translation part, before alpha.
    pub translation_loss: Option<f64>,
    /// Mean validation loss a sample.
    pub val_loss: Option<f64>,
    /// Its cross-entropy part.
    pub val_match_loss: Option<f64>,
    /// Matching accuracy in validation.
    pub val_accuracy: Option<f64>,
    /// Mean absolute error of predicted against true expression (0/1), over positives × genes, averaged over heads.
    pub val_mae: Option<f64>,
    /// Root mean squared error of the same, averaged over heads.
    pub val_rmse: Option<f64>,
    /// val_accuracy − val_mae: what the best model is chosen by.
    pub score: Option<f64>,
    /// Is this the best so far?
    pub best: bool,
    /// Training seconds of the epoch (since it was resumed, if it was).
    pub seconds: f64,
    /// Training samples a second.
    pub samples_per_second: f64,
    /// Learning rate of its last step; unknown in logs of older versions.
    #[serde(default)]
    pub lr: Option<f64>,
    /// Loss of the cis term a sample, a sum over genes, before its weight; none where the run has no such term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cis_loss: Option<f64>,
    /// Contrastive loss, before its weight; none where the run has no such term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrast_loss: Option<f64>,
    /// Loss of the cis term in validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_cis_loss: Option<f64>,
}

/// Follows a run. All methods do nothing unless written.
pub trait Observer {
    /// Before the first step.
    fn start(&mut self, _plan: &Plan) {}
    /// After every step.
    fn step(&mut self, _step: &Step) {}
    /// After every epoch, validation included.
    fn epoch(&mut self, _record: &EpochRecord) {}
    /// Validation has done this many of these many samples.
    fn validation(&mut self, _done: usize, _of: usize) {}
    /// Something to tell the user.
    fn note(&mut self, _line: &str) {}
    /// Stop now (state saved, error [`crate::Error::Interrupted`])? Asked after every step.
    fn stop(&mut self) -> bool {
        crate::interrupt::requested()
    }
}

/// Follows nothing.
impl Observer for () {}
