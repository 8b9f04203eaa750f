//! The model: configuration, parameters, and its forward and backward passes over a batch.

pub mod cis;
pub mod config;
pub mod genes;
pub mod input;
pub mod memory;
pub mod nodes;
pub mod output;
pub mod params;
pub mod precision;
pub mod terms;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::real::Real;

pub use cis::{BINS, CisGraph};
pub use config::{CisConfig, CisTarget, ModelConfig};
pub use genes::sample_genes;
pub use input::{Batch, Features};
pub use memory::MemoryPlan;
pub use output::Decisions;
pub use params::{Entry, Init, Layout, PREFIX, Params};
pub use precision::Precision;

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
}
