//! What the model is: sizes and constants. All of them are inputs; none is compiled in.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Sizes and constants of a model (SPEC section 3). Serialised into every checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// G, genes of the data set.
    pub genes: usize,
    /// P, peaks of the data set.
    pub peaks: usize,
    /// C, chromosomes in the vocabulary (the unknown one included where it occurs).
    pub chromosomes: usize,
    /// Gene features after the chromosome one-hot.
    pub gene_extra: usize,
    /// Bases of DNA a peak after the chromosome one-hot (0 without sequences, 256 with).
    pub dna_length: usize,
    /// d, size of the id embeddings.
    pub embedding_dim: usize,
    /// H, hidden size.
    pub hidden: usize,
    /// h, attention heads; divides `hidden`.
    pub heads: usize,
    /// Peaks a gene attends to.
    pub top_k: usize,
    /// Scores above this count; in [0.5, 1).
    pub tau: f64,
    /// A gene is predicted expressed when more than this many peaks score above `tau`.
    pub min_peaks: usize,
    /// Dropout probability of the matching head, in [0, 1).
    pub dropout: f64,
    /// Weight of the translation loss.
    pub alpha: f64,
}

impl Default for ModelConfig {
    /// The published constants; the sizes of the data set are 0 and must be filled in.
    fn default() -> Self {
        ModelConfig {
            genes: 0,
            peaks: 0,
            chromosomes: 0,
            gene_extra: 0,
            dna_length: 0,
            embedding_dim: 256,
            hidden: 128,
            heads: 1,
            top_k: 10,
            tau: 0.8,
            min_peaks: 9,
            dropout: 0.1,
            alpha: 1.0,
        }
    }
}

impl ModelConfig {
    /// F_g, width of the constant gene features.
    pub fn gene_features(&self) -> usize {
        self.chromosomes + self.gene_extra
    }

    /// F_p, width of the constant peak features.
    pub fn peak_features(&self) -> usize {
        self.chromosomes + self.dna_length
    }

    /// Checks what the mathematics needs. The message names the field.
    pub fn validate(&self) -> Result<()> {
        let bad = |m: String| Err(Error::usage(format!("model configuration: {m}")));
        for (name, n) in [
            ("genes", self.genes),
            ("peaks", self.peaks),
            ("chromosomes", self.chromosomes),
            ("embedding_dim", self.embedding_dim),
            ("hidden", self.hidden),
            ("heads", self.heads),
            ("top_k", self.top_k),
        ] {
            if n == 0 {
                return bad(format!("`{name}` is 0; it must be at least 1"));
            }
        }
        if !self.hidden.is_multiple_of(self.heads) || !self.hidden.is_multiple_of(2) {
            return bad(format!(
                "`hidden` is {}; it must be even and divisible by `heads` ({})",
                self.hidden, self.heads
            ));
        }
        if self.heads > 256 {
            return bad(format!("`heads` is {}; it must be at most 256", self.heads));
        }
        if !(0.5..1.0).contains(&self.tau) {
            return bad(format!("`tau` is {}; it must lie in [0.5, 1), as masked pairs score 0.5", self.tau));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return bad(format!("`dropout` is {}; it must lie in [0, 1)", self.dropout));
        }
        if !self.alpha.is_finite() {
            return bad(format!("`alpha` is {}; it must be a number", self.alpha));
        }
        Ok(())
    }
}
