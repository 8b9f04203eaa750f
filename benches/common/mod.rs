//! The shape all benches share: NeurIPS-2021 Multiome, 13,431 genes, 116,490 peaks, 23 chromosomes, 256 bases a peak,
//! binary ATAC; gene and peak frequencies log-normal, so that a batch's distinct columns are as skewed as real ones.
#![allow(dead_code)]

use std::sync::Arc;

use sccrossrec::model::{Batch, Features, Init, Model, ModelConfig};
use sccrossrec::rng::Rng;

pub const GENES: usize = 13_431;
pub const PEAKS: usize = 116_490;
pub const CHROMOSOMES: usize = 23;

pub fn model() -> Model<f32> {
    let mut r = Rng::new(906, 0);
    let features = Features {
        gene_chrom: (0..GENES).map(|_| r.below(CHROMOSOMES) as u32).collect(),
        peak_chrom: (0..PEAKS).map(|i| (i * CHROMOSOMES / PEAKS) as u32).collect(),
        chromosomes: CHROMOSOMES,
        unknown: None,
        gene_extra: Vec::new(),
        peak_dna: (0..PEAKS * 256).map(|_| 1 + r.below(4) as u8).collect(),
    };
    let config =
        ModelConfig { genes: GENES, peaks: PEAKS, chromosomes: CHROMOSOMES, dna_length: 256, ..ModelConfig::default() };
    Model::new(config, Arc::new(features), Init::PyTorch { embedding_std: 1.0 }, 906).unwrap()
}

/// Draws cells with about `genes` and `peaks` nodes each.
pub struct Cells {
    gene_frequency: Vec<f64>,
    peak_frequency: Vec<f64>,
}

impl Cells {
    pub fn new() -> Self {
        let mut r = Rng::new(906, 1);
        let mut frequency = |n: usize, sigma: f64| (0..n).map(|_| (sigma * r.normal()).exp()).collect::<Vec<f64>>();
        Cells { gene_frequency: frequency(GENES, 1.2), peak_frequency: frequency(PEAKS, 1.2) }
    }

    fn draw(f: &[f64], n: usize, r: &mut Rng) -> Vec<u32> {
        // Each is present with probability 1 − exp(−rate f); the rate that gives n nodes, by bisection.
        let expected = |rate: f64| f.iter().map(|f| 1.0 - (-rate * f).exp()).sum::<f64>();
        let (mut low, mut high) = (0.0, 100.0);
        for _ in 0..40 {
            let mid = 0.5 * (low + high);
            if expected(mid) < n as f64 { low = mid } else { high = mid }
        }
        (0u32..).zip(f).filter(|x| r.uniform() < 1.0 - (-low * x.1).exp()).map(|x| x.0).collect()
    }

    /// A batch of `n` samples, every other one a positive (or all, or none).
    pub fn batch(&self, model: &Model<f32>, n: usize, label: impl Fn(usize) -> u8) -> Batch<f32> {
        let mut batch = Batch::new();
        for i in 0..n {
            let mut r = Rng::new(17, i as u64);
            let f = &model.features;
            let mut genes = Self::draw(&self.gene_frequency, 1000, &mut r);
            let mut peaks = Self::draw(&self.peak_frequency, 4000, &mut r);
            genes.sort_by_key(|&g| (f.gene_chrom[g as usize], g));
            peaks.sort_by_key(|&p| (f.peak_chrom[p as usize], p));
            let genes: Vec<(u32, f32)> = genes.into_iter().map(|g| (g, 0.3 + 2.0 * r.uniform() as f32)).collect();
            batch.push(label(i), i as u64, genes, peaks.into_iter().map(|p| (p, 1.0)));
        }
        batch
    }
}
