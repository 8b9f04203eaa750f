//! The model: configuration, parameters, and its forward and backward passes over a batch.

mod batch;
mod config;
mod params;

use std::sync::Arc;

pub use batch::{Batch, Csr, Features};
pub use config::ModelConfig;
pub use params::{Entry, Init, Layout, PREFIX, Params};

use crate::error::Result;
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
    /// match_loss + alpha × translation_loss.
    pub loss: T,
    /// Mean cross-entropy.
    pub match_loss: T,
    /// Sum over positives of the mean squared error, divided by B.
    pub translation_loss: T,
    /// `[B, 2]`.
    pub logits: Vec<T>,
    /// `[B, 2H]`, z.
    pub embedding: Vec<T>,
    /// `[B]`, with `Want::attention`.
    pub attention: Vec<Attention<T>>,
    /// `[B]`, with `Want::translation`: `[heads, G]` of 0/1 for positives, empty for negatives.
    pub translation: Vec<Vec<u8>>,
    /// `[B]`, with `Want::counts`: `[heads, G]` for positives, empty for negatives.
    pub counts: Vec<Vec<u32>>,
    /// `[B]`, with `Want::nodes`.
    pub nodes: Vec<Nodes<T>>,
}

impl<T: Real> Model<T> {
    /// A model with seeded parameters. Fails where `config` and `features` disagree.
    pub fn new(config: ModelConfig, features: Arc<Features<T>>, init: Init, seed: u64) -> Result<Self> {
        config.validate()?;
        let params = Params::init(Arc::new(Layout::new(&config)), init, seed);
        Ok(Model { config, features, params })
    }

    /// Forward pass. Dropout is off.
    pub fn forward(&self, _batch: &Batch<T>, _want: Want) -> Result<Output<T>> {
        todo!()
    }

    /// Forward and backward pass; gradients are added to `grads` (`[layout.len()]`).
    pub fn train_step(&self, _batch: &Batch<T>, _dropout: Option<Dropout>, _grads: &mut [T]) -> Result<Output<T>> {
        todo!()
    }
}
