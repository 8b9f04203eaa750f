//! What the model is: sizes and constants. All of them are inputs; none is compiled in.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What the cis term predicts of each gene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CisTarget {
    /// Whether it is detected: binary cross-entropy of a logit.
    #[default]
    Detection,
    /// Its expression as stored: half of the squared error.
    Level,
}

/// The cis term: what of a cell's open peaks near a gene says of that gene, beside depth and the cell as a whole.
///
/// `y_cg = b_g + v_g · [cell (R) | depth of RNA | depth of ATAC] + Σ_j w_gj` over the cell's open peaks j near g, with
/// `w_gj = exp(decay of the distance bin) q_g · k_j / √H` of the attention's own queries and keys.
/// See docs/model.md, section 4.7, section 5.3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CisConfig {
    /// Weight of its loss, a sum over genes and a mean over the batch.
    pub weight: f64,
    /// Bases on either side of a TSS within which a peak is near.
    pub window: i64,
    /// R, numbers that stand for the cell as a whole.
    pub components: usize,
    /// What is predicted.
    pub target: CisTarget,
    /// Weight of the mean absolute w of a batch's edges.
    pub sparsity: f64,
    /// Mean and standard deviation of the log number of genes, and of peaks, of a training cell.
    pub depth: [[f64; 2]; 2],
}

impl Default for CisConfig {
    /// One of no weight, which is none, at the usual settings.
    fn default() -> Self {
        CisConfig {
            weight: 0.0,
            window: 500_000,
            components: 16,
            target: CisTarget::Detection,
            sparsity: 0.0,
            depth: [[0.0, 1.0]; 2],
        }
    }
}

impl CisConfig {
    /// Depths of a cell as covariates: standardised log numbers of its genes and peaks.
    /// See docs/model.md, eq. 27.
    pub fn depths(&self, genes: usize, peaks: usize) -> [f64; 2] {
        let of = |n: usize, [mean, sd]: [f64; 2]| ((1.0 + n as f64).ln() - mean) / sd;
        [of(genes, self.depth[0]), of(peaks, self.depth[1])]
    }
}

/// Sizes and constants of a model (docs/model.md, section 1). Serialised into every checkpoint.
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
    /// Weight of the translation loss; at 0 training leaves it out.
    pub alpha: f64,
    /// The cis term; `None`: as published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cis: Option<CisConfig>,
    /// Weight of the contrastive loss: in a batch, RNA and ATAC of each positive against those of all others, by the dot
    /// product of what each modality says alone; 0: as published.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub contrast: f64,
    /// Weight of the matching loss.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub match_weight: f64,
}

fn one() -> f64 {
    1.0
}

fn is_one(x: &f64) -> bool {
    *x == 1.0
}

fn is_zero(x: &f64) -> bool {
    *x == 0.0
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
            cis: None,
            contrast: 0.0,
            match_weight: 1.0,
        }
    }
}

impl ModelConfig {
    /// F_g, width of the constant gene features.
    pub fn gene_features(&self) -> usize {
        self.chromosomes + self.gene_extra
    }

    /// Is the translation of this model that of its cis term: a gene where detection is rather likely than not, told from
    /// ATAC alone? Else it is the published one.
    pub fn translates_by_cis(&self) -> bool {
        self.cis.as_ref().is_some_and(|c| c.target == CisTarget::Detection)
    }

    /// Is the published translation part of the loss?
    pub fn trains_translation(&self) -> bool {
        self.alpha != 0.0
    }

    /// Is the contrastive term part of the loss?
    pub fn contrasts(&self) -> bool {
        self.contrast > 0.0
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
        if let Some(c) = &self.cis {
            let numbers = [c.weight, c.sparsity, c.depth[0][0], c.depth[1][0]];
            if numbers.iter().any(|x| !x.is_finite())
                || c.window < 0
                || c.depth.iter().any(|d| d[1].is_nan() || d[1] <= 0.0)
            {
                return bad("`cis` holds a number that is none, a window below 0 or a depth without spread".into());
            }
        }
        if !(self.match_weight.is_finite() && self.match_weight >= 0.0) {
            return bad(format!("`match_weight` is {}; it must be 0 or more", self.match_weight));
        }
        if !(self.contrast.is_finite() && self.contrast >= 0.0) {
            return bad(format!("`contrast` is {}; it must be 0 or more", self.contrast));
        }
        if !self.alpha.is_finite() {
            return bad(format!("`alpha` is {}; it must be a number", self.alpha));
        }
        Ok(())
    }
}
