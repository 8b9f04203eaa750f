//! The model: configuration, parameters, and its forward and backward passes over a batch.

mod batch;
mod config;
mod flops;
mod genes;
mod params;
mod pass;
pub mod reference;

use std::sync::Arc;

pub use batch::{Batch, Csr, Features};
pub use config::{CisConfig, CisTarget, ModelConfig};
pub use flops::Flops;
pub use genes::sample_genes;
pub use params::{Entry, Init, Layout, PREFIX, Params};
pub use pass::{Decisions, Run};
pub(crate) use pass::{sparse, spread};

use crate::error::{Error, Result};
use crate::graph::CisGraph;
use crate::real::Real;

/// A model: what it is, what it knows of genes and peaks, and its parameters.
#[derive(Debug, Clone)]
pub struct Model<T> {
    /// Sizes and constants.
    pub config: ModelConfig,
    /// Constant features of genes and peaks.
    pub features: Arc<Features<T>>,
    /// Parameters.
    pub params: Params<T>,
    /// With [`ModelConfig::cis`]: which peaks are near which genes.
    pub cis: Option<Arc<CisGraph>>,
}

/// Dropout of one training step: masks are a function of (seed, step, sample), nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropout {
    /// Seed of the run.
    pub seed: u64,
    /// Number of the optimiser step.
    pub step: u64,
}

/// What a forward pass should bring back besides loss, logits and embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Want {
    /// The sparse attention of every sample.
    pub attention: bool,
    /// Predicted expression of every positive sample (label 1).
    pub translation: bool,
    /// The counts n_i behind it (implies `translation`).
    pub counts: bool,
    /// Node outputs r_i and p_j.
    pub nodes: bool,
    /// The choices made (see [`Decisions`]).
    pub decisions: bool,
    /// What the cis term predicts of every positive sample.
    pub cis: bool,
}

/// Sparse attention of one sample: the pairs that pass the threshold, sorted by head, gene row, peak row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attention<T> {
    /// Head of each pair.
    pub head: Vec<u8>,
    /// Row of the gene within the sample's gene list.
    pub gene_row: Vec<u32>,
    /// Row of the peak within the sample's peak list.
    pub peak_row: Vec<u32>,
    /// A_ij, softmax weight over the gene's top peaks.
    pub weight: Vec<T>,
    /// s_ij = sigmoid(q·k), above tau.
    pub score: Vec<T>,
}

/// Node-level outputs of one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Nodes<T> {
    /// `[n_r, H]`, r_i in the order of the sample's gene list.
    pub gene: Vec<T>,
    /// `[n_a, H]`, p_j.
    pub peak: Vec<T>,
}

/// What a pass over a batch brings back.
#[derive(Debug, Clone)]
pub struct Output<T> {
    /// match_loss + alpha × translation_loss, and the cis and contrastive terms where there are any, by their weights.
    pub loss: T,
    /// Mean cross-entropy.
    pub match_loss: T,
    /// Sum over positives of the mean squared error, divided by B.
    pub translation_loss: T,
    /// Of the cis term: mean over positives of the sum over genes, before its weight; 0 where there is none.
    pub cis_loss: T,
    /// Of the contrastive term, before its weight; 0 where there is none.
    pub contrast_loss: T,
    /// `[B, 2]`.
    pub logits: Vec<T>,
    /// `[B, 2H]`, z.
    pub embedding: Vec<T>,
    /// `[B]`, with `Want::attention`.
    pub attention: Vec<Attention<T>>,
    /// `[B]`, with `Want::translation`: `[heads, G]` of 0/1 for positives, empty for negatives. Where [`Run::genes`] are
    /// named, of these alone. `[G]` of a model that translates by its cis term ([`ModelConfig::translates_by_cis`]).
    pub translation: Vec<Vec<u8>>,
    /// `[B]`, with `Want::counts`: as `translation`.
    pub counts: Vec<Vec<u32>>,
    /// `[B]`, with `Want::nodes`.
    pub nodes: Vec<Nodes<T>>,
    /// With `Want::decisions`.
    pub decisions: Option<Decisions<T>>,
    /// `[B]`, with `Want::cis`: `[G]` logits of detection, or levels, for positives; empty for negatives.
    pub cis: Vec<Vec<T>>,
    /// The same from the ATAC alone: at the mean depth of RNA.
    pub cis_blind: Vec<Vec<T>>,
}

impl<T: Real> Model<T> {
    /// A model with seeded parameters. Fails where `config` and `features` disagree.
    pub fn new(config: ModelConfig, features: Arc<Features<T>>, init: Init, seed: u64) -> Result<Self> {
        config.validate()?;
        let found = [
            ("genes", features.genes(), config.genes),
            ("peaks", features.peaks(), config.peaks),
            ("chromosomes", features.chromosomes, config.chromosomes),
            ("gene_extra", features.extra(), config.gene_extra),
            ("dna_length", features.dna_length(), config.dna_length),
        ];
        for (name, data, model) in found {
            if data != model {
                return Err(Error::usage(format!("model configuration: `{name}` is {model}, the data have {data}")));
            }
        }
        let beyond = |c: &[u32]| c.iter().any(|&c| c as usize >= config.chromosomes);
        if beyond(&features.gene_chrom) || beyond(&features.peak_chrom) {
            return Err(Error::usage("features: a chromosome number lies beyond the vocabulary"));
        }
        if let Some(i) = features.peak_dna.iter().position(|&b| b > 4) {
            let (code, peak) = (features.peak_dna[i], i / config.dna_length.max(1));
            return Err(Error::usage(format!("features: base code {code} of peak {peak}; codes are 0 to 4")));
        }
        let params = Params::init(Arc::new(Layout::new(&config)), init, seed);
        Ok(Model { config, features, params, cis: None })
    }

    /// With the graph that [`ModelConfig::cis`] needs.
    pub fn with_cis(self, graph: Arc<CisGraph>) -> Self {
        Model { cis: Some(graph), ..self }
    }

    /// Forward pass without dropout. The translation, and its loss, is computed only where `want` asks for
    /// `translation` or `counts`; else `translation_loss` is 0.
    pub fn forward(&self, batch: &Batch<T>, want: Want) -> Result<Output<T>> {
        self.run(batch, Run { want, ..Run::default() })
    }

    /// Forward and backward pass; gradients of the loss are added to `grads` (`[layout.len()]`).
    ///
    /// ```
    /// use std::sync::Arc;
    /// use sccrossrec::model::{Batch, Features, Init, Model, ModelConfig};
    /// # fn main() -> sccrossrec::Result<()> {
    /// // Two genes and three peaks on one chromosome.
    /// let features = Features::<f32> {
    ///     gene_chrom: vec![0, 0],
    ///     peak_chrom: vec![0, 0, 0],
    ///     chromosomes: 1,
    ///     unknown: None,
    ///     gene_extra: vec![],
    ///     peak_dna: vec![],
    /// };
    /// let config = ModelConfig { genes: 2, peaks: 3, chromosomes: 1, embedding_dim: 8, hidden: 8, ..Default::default() };
    /// let init = Init::PyTorch { embedding_std: 1.0 };
    /// let model = Model::new(config, Arc::new(features), init, 906)?;
    /// let mut batch = Batch::new();
    /// batch.push(1, 0, [(0, 1.5), (1, 0.7)], [(0, 1.0), (2, 1.0)]);
    /// let mut grads = vec![0.0; model.params.layout().len()];
    /// let out = model.train_step(&batch, None, &mut grads)?;
    /// assert!(out.loss > 0.0 && grads.iter().any(|&g| g != 0.0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn train_step(&self, batch: &Batch<T>, dropout: Option<Dropout>, grads: &mut [T]) -> Result<Output<T>> {
        self.run(batch, Run { dropout, grads: Some(grads), ..Run::default() })
    }
}
