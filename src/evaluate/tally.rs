//! Translation of a model and of the baselines, collected cell by cell.

use super::translation::{BitRows, Translation, TranslationMetrics, TranslationReport, foscttm};
use crate::dataset::means::GeneMeans;
use crate::error::Result;

/// The heads of a model and the baselines over the same cells.
pub(super) struct TranslationTally {
    genes: usize,
    of_head: Vec<Translation>,
    zeros: Translation,
    by_rate: Translation,
    by_mean: Translation,
    by_majority: Translation,
    truth_bits: BitRows,
    head_bits: Vec<BitRows>,
}

impl TranslationTally {
    /// No cells yet.
    pub fn new(genes: usize, heads: usize) -> Self {
        let [zeros, by_rate, by_mean, by_majority] = [(); 4].map(|()| Translation::new(genes));
        TranslationTally {
            genes,
            of_head: vec![Translation::new(genes); heads],
            zeros,
            by_rate,
            by_mean,
            by_majority,
            truth_bits: BitRows::new(genes),
            head_bits: vec![BitRows::new(genes); heads],
        }
    }

    /// Numbers predicted of a cell: genes of all heads.
    pub fn numbers(&self) -> usize {
        self.of_head.len() * self.genes
    }

    /// Cells so far.
    pub fn cells(&self) -> usize {
        self.truth_bits.rows()
    }

    /// Adds a cell: what the heads predict, `[heads, G]`, and its expression, `[G]`.
    ///
    /// # Errors
    /// Those of [`BitRows::push`].
    pub fn add(&mut self, predicted: &[u8], expression: &[f32], means: &GeneMeans) -> Result<()> {
        let (rate, mean) = (&means.rate, &means.mean);
        self.truth_bits.push((0..self.genes).filter(|&g| expression[g] > 0.0))?;
        for (h, p) in predicted.chunks(self.genes).enumerate() {
            self.of_head[h].add_dense(|g| f64::from(p[g]), expression);
            self.head_bits[h].push((0..self.genes).filter(|&g| p[g] != 0))?;
        }
        self.zeros.add_dense(|_| 0.0, expression);
        self.by_rate.add_dense(|g| rate[g], expression);
        self.by_mean.add_dense(|g| mean[g], expression);
        self.by_majority.add_dense(|g| f64::from(u8::from(rate[g] > 0.5)), expression);
        Ok(())
    }

    /// The metrics; `None` without a cell. Behind the baselines are `training_cells`.
    pub fn finish(&self, training_cells: u64) -> Option<TranslationReport> {
        if self.cells() == 0 {
            return None;
        }
        let with_foscttm = |(t, bits): (&Translation, &BitRows)| {
            let (closer, tied) = foscttm(bits, &self.truth_bits).unzip();
            TranslationMetrics { foscttm: closer, foscttm_ties: tied, ..t.finish() }
        };
        let heads: Vec<TranslationMetrics> = self.of_head.iter().zip(&self.head_bits).map(with_foscttm).collect();
        let m = self.by_mean.finish();
        let gene_mean = TranslationMetrics {
            rmse_expression: m.rmse_expression,
            mae_expression: m.mae_expression,
            pearson_expression: m.pearson_expression,
            pearson_expression_undefined: m.pearson_expression_undefined,
            ..self.by_rate.finish()
        };
        Some(TranslationReport {
            model: TranslationMetrics::mean(&heads),
            heads,
            all_zeros: self.zeros.finish(),
            gene_mean: (training_cells > 0).then_some(gene_mean),
            gene_majority: (training_cells > 0).then(|| self.by_majority.finish()),
            training_cells,
        })
    }
}
