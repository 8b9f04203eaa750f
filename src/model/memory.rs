//! Memory that a training takes, planned before it starts.

use serde::Serialize;

use super::config::ModelConfig;
use super::input::Batch;

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
