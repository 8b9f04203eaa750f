//! The model: configuration, parameters, and its forward and backward passes over a batch.

pub(crate) mod cis;
pub(crate) mod config;
pub(crate) mod genes;
pub(crate) mod input;
pub(crate) mod memory;
pub mod nodes;
pub mod output;
pub(crate) mod params;
pub(crate) mod precision;
pub(crate) mod terms;
pub mod towers;
pub(crate) mod want;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::real::Real;

pub use cis::{BINS, CisGraph};
pub use config::{CisConfig, CisTarget, ModelConfig};
pub use genes::sample_genes;
pub use input::{Batch, Features};
pub use memory::MemoryPlan;
pub use output::Decisions;
pub use params::{Entry, Init, PREFIX, ParamLayout, Params};
pub use precision::Precision;
pub use towers::{Calibration, TowerConfig, Towers};

/// A model: what it is, what it knows of genes and peaks, and its parameters. The three fit each other: a model can only be
/// made of what does, and but for the numbers of its parameters nothing of it changes.
#[derive(Debug, Clone)]
pub struct Model<T> {
    /// To read only; as are `features` and `cis`.
    pub(crate) config: ModelConfig,
    pub(crate) features: Arc<Features<T>>,
    /// Parameters.
    pub params: Params<T>,
    /// With [`ModelConfig::cis`], and only then.
    pub(crate) cis: Option<Arc<CisGraph>>,
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
    /// A model without cis term, with seeded parameters.
    ///
    /// # Errors
    /// A configuration that can't work, or that has a cis term (see [`Model::with_cis`]); features that are not of its
    /// sizes.
    pub fn new(config: ModelConfig, features: Arc<Features<T>>, init: Init, seed: u64) -> Result<Self> {
        check(&config, &features, None)?;
        let params = Params::init(Arc::new(ParamLayout::new(&config)), init, seed);
        Ok(Model { config, features, params, cis: None })
    }

    /// A model with the cis term of its configuration, over this graph, with seeded parameters.
    ///
    /// # Errors
    /// As [`Model::new`]; a configuration without cis term; a graph of other genes or peaks.
    pub fn with_cis(
        config: ModelConfig,
        features: Arc<Features<T>>,
        graph: Arc<CisGraph>,
        init: Init,
        seed: u64,
    ) -> Result<Self> {
        check(&config, &features, Some(&graph))?;
        let params = Params::init(Arc::new(ParamLayout::new(&config)), init, seed);
        Ok(Model { config, features, params, cis: Some(graph) })
    }

    /// A model of parameters that are there: those of a checkpoint.
    ///
    /// # Errors
    /// A configuration that can't work; features, a graph or parameters that are not of its sizes; a cis term without a
    /// graph, or the other way round.
    pub fn of_params(
        config: ModelConfig,
        features: Arc<Features<T>>,
        cis: Option<Arc<CisGraph>>,
        params: Params<T>,
    ) -> Result<Self> {
        check(&config, &features, cis.as_deref())?;
        if **params.layout() != ParamLayout::new(&config) {
            return Err(Error::usage("model configuration: the parameters are those of a model of other sizes"));
        }
        Ok(Model { config, features, params, cis })
    }

    /// The same model with other constants: a tau, a dropout, weights of terms. Sizes stay.
    ///
    /// # Errors
    /// As [`Model::of_params`].
    pub fn with_config(self, config: ModelConfig) -> Result<Self> {
        Self::of_params(config, self.features, self.cis, self.params)
    }

    /// Sizes and constants.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Constant features of genes and peaks.
    pub fn features(&self) -> &Arc<Features<T>> {
        &self.features
    }

    /// The cis term, and which peaks are near which genes, where there is one.
    pub fn cis_term(&self) -> Option<(&CisConfig, &CisGraph)> {
        self.config.cis.as_ref().zip(self.cis.as_deref())
    }
}

/// Can there be such a model?
fn check<T: Real>(config: &ModelConfig, features: &Features<T>, cis: Option<&CisGraph>) -> Result<()> {
    config.validate()?;
    features.check(config)?;
    match (&config.cis, cis) {
        (Some(_), None) => {
            return Err(Error::usage("model configuration: `cis` is there, and no cis graph for it"));
        }
        (None, Some(_)) => return Err(Error::usage("model configuration: a cis graph is there, and no `cis`")),
        (Some(_), Some(graph)) if (graph.genes(), graph.peaks()) != (config.genes, config.peaks) => {
            return Err(Error::usage(format!(
                "model configuration: the cis graph is of {} genes and {} peaks, the model of {} and {}",
                graph.genes(),
                graph.peaks(),
                config.genes,
                config.peaks
            )));
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cis term has its graph, of the model's own sizes, or there is no model.
    #[test]
    fn a_configuration_that_cannot_work_is_no_model() {
        let features = Arc::new(Features::<f32> {
            gene_chrom: vec![0, 0],
            peak_chrom: vec![0; 3],
            chromosomes: 1,
            unknown: None,
            gene_extra: vec![],
            peak_dna: vec![],
        });
        let depth = [[0.0, 1.0]; 2];
        let target = CisTarget::Detection;
        let term = CisConfig { weight: 1.0, window: 10, components: 1, target, sparsity: 0.0, depth };
        let sizes =
            ModelConfig { genes: 2, peaks: 3, chromosomes: 1, embedding_dim: 4, hidden: 4, ..Default::default() };
        let with = ModelConfig { cis: Some(term), ..sizes.clone() };
        let graph = |genes: usize, peaks: usize| {
            let (whole, peak_ptr) = (vec![false; genes], vec![0; peaks + 1]);
            Arc::new(CisGraph { window: 10, peak_ptr, gene: vec![], bin: vec![], whole })
        };
        let init = Init::PyTorch { embedding_std: 1.0 };
        let params = |c: &ModelConfig| Params::<f32>::zeros(Arc::new(ParamLayout::new(c)));
        assert!(Model::new(sizes.clone(), features.clone(), init, 1).is_ok());
        assert!(Model::with_cis(with.clone(), features.clone(), graph(2, 3), init, 1).unwrap().cis_term().is_some());
        let wrong = [
            Model::new(with.clone(), features.clone(), init, 1),
            Model::with_cis(sizes.clone(), features.clone(), graph(2, 3), init, 1),
            Model::with_cis(with.clone(), features.clone(), graph(3, 3), init, 1),
            Model::with_cis(with.clone(), features.clone(), graph(2, 2), init, 1),
            Model::of_params(with.clone(), features.clone(), None, params(&with)),
            Model::of_params(with, features.clone(), Some(graph(2, 3)), params(&sizes)),
            Model::new(ModelConfig { tau: 1.5, ..sizes.clone() }, features.clone(), init, 1),
            Model::new(ModelConfig { genes: 3, ..sizes }, features, init, 1),
        ];
        for (i, model) in wrong.into_iter().enumerate() {
            assert!(matches!(model, Err(Error::Usage(_))), "{i}");
        }
    }
}
