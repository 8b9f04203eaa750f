//! What the model reads: the constant features of genes and peaks, and batches of samples.
//!
//! See docs/model.md, section 2.2, section 3.1.

use super::config::ModelConfig;
use crate::csr::Csr;
use crate::error::{Error, Result};
use crate::real::Real;

/// Constant features of genes and peaks, the same for every cell.
///
/// F_g = [one-hot chromosome | `gene_extra`], F_p = [one-hot chromosome | `peak_dna` × 0.25].
#[derive(Debug, Clone, PartialEq)]
pub struct Features<T> {
    /// `[G]` chromosome of each gene, in `0..chromosomes`.
    pub gene_chrom: Vec<u32>,
    /// `[P]` chromosome of each peak.
    pub peak_chrom: Vec<u32>,
    /// Number of chromosomes.
    pub chromosomes: usize,
    /// The chromosome that matches nothing, itself included (`chrUnknown`).
    pub unknown: Option<u32>,
    /// `[G, gene_extra]` gene features after the one-hot, row-major.
    pub gene_extra: Vec<T>,
    /// `[P, dna_length]` base codes: A 1, T 2, G 3, C 4, anything else 0. The feature is the code × 0.25.
    pub peak_dna: Vec<u8>,
}

impl<T: Real> Features<T> {
    /// Number of genes.
    pub fn genes(&self) -> usize {
        self.gene_chrom.len()
    }
    /// Number of peaks.
    pub fn peaks(&self) -> usize {
        self.peak_chrom.len()
    }
    /// Gene features after the one-hot.
    pub fn extra(&self) -> usize {
        if self.genes() == 0 { 0 } else { self.gene_extra.len() / self.genes() }
    }
    /// Bases a peak.
    pub fn dna_length(&self) -> usize {
        if self.peaks() == 0 { 0 } else { self.peak_dna.len() / self.peaks() }
    }

    /// Are they those of a model of this configuration?
    pub(crate) fn check(&self, config: &ModelConfig) -> Result<()> {
        let found = [
            ("genes", self.genes(), config.genes),
            ("peaks", self.peaks(), config.peaks),
            ("chromosomes", self.chromosomes, config.chromosomes),
            ("gene_extra", self.extra(), config.gene_extra),
            ("dna_length", self.dna_length(), config.dna_length),
        ];
        for (name, data, model) in found {
            if data != model {
                return Err(Error::usage(format!("model configuration: `{name}` is {model}, the data have {data}")));
            }
        }
        let beyond = |c: &[u32]| c.iter().any(|&c| c as usize >= config.chromosomes);
        if beyond(&self.gene_chrom) || beyond(&self.peak_chrom) {
            return Err(Error::usage("features: a chromosome number lies beyond the vocabulary"));
        }
        if let Some(i) = self.peak_dna.iter().position(|&b| b > 4) {
            let (code, peak) = (self.peak_dna[i], i / config.dna_length.max(1));
            return Err(Error::usage(format!("features: base code {code} of peak {peak}; codes are 0 to 4")));
        }
        Ok(())
    }
}

/// B samples, each an RNA and an ATAC cell (the same cell in a positive).
///
/// Within a row, entries are sorted by (chromosome, index): the shards store them so, and the ops rely on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch<T> {
    /// `[B]` 1 where RNA and ATAC come from one cell, else 0.
    pub label: Vec<u8>,
    /// `[B]` number of the sample in its sample set: the key of its dropout.
    pub sample: Vec<u64>,
    /// `[B, G]` gene nodes and their values e.
    pub rna: Csr<T>,
    /// `[B, P]` peak nodes and their values a.
    pub atac: Csr<T>,
}

impl<T: Real> Batch<T> {
    /// An empty batch.
    pub fn new() -> Self {
        Batch { label: Vec::new(), sample: Vec::new(), rna: Csr::new(), atac: Csr::new() }
    }

    /// Appends a sample. `genes` and `peaks` must be sorted by (chromosome, index), as a shard's rows are.
    pub fn push(
        &mut self,
        label: u8,
        sample: u64,
        genes: impl IntoIterator<Item = (u32, T)>,
        peaks: impl IntoIterator<Item = (u32, T)>,
    ) {
        self.label.push(label);
        self.sample.push(sample);
        self.rna.push_row(genes);
        self.atac.push_row(peaks);
    }

    /// Samples in the batch.
    pub fn len(&self) -> usize {
        self.label.len()
    }

    /// No samples?
    pub fn is_empty(&self) -> bool {
        self.label.is_empty()
    }

    /// Checks indices, order and that no sample is without genes or peaks.
    pub fn validate(&self, f: &Features<T>) -> Result<()> {
        for (what, csr, chrom) in [("gene", &self.rna, &f.gene_chrom), ("peak", &self.atac, &f.peak_chrom)] {
            if csr.rows() != self.len() {
                return Err(Error::usage(format!("batch: {} rows of {what}s for {} samples", csr.rows(), self.len())));
            }
            for i in 0..csr.rows() {
                let (index, _) = csr.row(i);
                if index.is_empty() {
                    return Err(Error::usage(format!(
                        "batch: sample {i} has no {what}; cells without any are to be dropped"
                    )));
                }
                if let Some(&k) = index.iter().find(|&&k| k as usize >= chrom.len()) {
                    return Err(Error::usage(format!("batch: sample {i} names {what} {k} of {}", chrom.len())));
                }
                let key = |k: u32| (chrom[k as usize], k);
                if !index.is_sorted_by(|a, b| key(*a) < key(*b)) {
                    return Err(Error::usage(format!(
                        "batch: the {what}s of sample {i} are not sorted by (chromosome, index)"
                    )));
                }
            }
        }
        Ok(())
    }
}

impl<T: Real> Default for Batch<T> {
    fn default() -> Self {
        Self::new()
    }
}
