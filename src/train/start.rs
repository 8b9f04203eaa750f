//! The model that a run starts with.

use std::sync::Arc;

use super::config::TrainConfig;
use crate::dataset::means::{gene_means, training_cells};
use crate::dataset::{DataSet, SampleSet};
use crate::error::Result;
use crate::model::{CisGraph, CisTarget, Model, ModelConfig};

impl TrainConfig {
    /// The model that these settings make of a data set.
    pub fn model_for(&self, data: &DataSet) -> ModelConfig {
        let f = data.features();
        ModelConfig {
            genes: f.genes(),
            peaks: f.peaks(),
            chromosomes: f.chromosomes,
            gene_extra: f.extra(),
            dna_length: f.dna_length(),
            cis: self.model.cis.clone().filter(|c| c.weight > 0.0),
            ..self.model.clone()
        }
    }

    /// The model that these settings make of a data set for training on some samples: the depths of the cis term are those
    /// of the training cells, its genes start at their frequency (or mean level) there.
    pub fn start(&self, data: &DataSet, set: &SampleSet) -> Result<Model<f32>> {
        let mut config = self.model_for(data);
        let cells = training_cells(set);
        if let Some(cis) = &mut config.cis {
            let logs = |count: &dyn Fn((usize, usize)) -> usize| -> Vec<f64> {
                cells.iter().map(|&c| (1.0 + count(data.cell_sizes(c as usize)) as f64).ln()).collect()
            };
            cis.depth = [logs(&|s| s.0), logs(&|s| s.1)].map(|x| {
                let n = x.len().max(1) as f64;
                let mean = x.iter().sum::<f64>() / n;
                let sd = (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
                [mean, if sd > 1e-6 { sd } else { 1.0 }]
            });
        }
        let mut model = match cis_graph(&config, data) {
            Some(graph) => Model::with_cis(config, data.features(), graph, self.init(), self.seed)?,
            None => Model::new(config, data.features(), self.init(), self.seed)?,
        };
        if let (Some(cis), false) = (&model.config.cis, cells.is_empty()) {
            let (target, means) = (cis.target, gene_means(data, set, model.config.genes));
            if let Some(bias) = model.params.get_mut("cis.gene.bias") {
                for (g, b) in bias.iter_mut().enumerate() {
                    let seen: f64 = means.found.iter().map(|of_type| of_type[g]).sum();
                    *b = match target {
                        CisTarget::Detection => ((seen + 0.5) / (means.cells as f64 - seen + 0.5)).ln(),
                        CisTarget::Level => means.mean[g],
                    } as f32;
                }
            }
        }
        Ok(model)
    }
}

/// The cis graph of a data set, where the model has a cis term.
pub(crate) fn cis_graph(config: &ModelConfig, data: &DataSet) -> Option<Arc<CisGraph>> {
    config.cis.as_ref().map(|c| Arc::new(CisGraph::new(data.vocabulary(), c.window)))
}
