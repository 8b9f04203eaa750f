//! The shape all benches share: NeurIPS-2021 Multiome, 13,431 genes, 116,490 peaks, 23 chromosomes, 256 bases a peak,
//! binary ATAC; gene and peak frequencies log-normal, so that a batch's distinct columns are as skewed as real ones.
//! And the GPU that benches and tests run on, or the stand-in for a rehearsal.
#![allow(dead_code)] // each program uses its own part

use std::sync::Arc;

use sccrossrec::device::gpu::{Kernels, driver_present};
use sccrossrec::device::{Gpu, host, image};
use sccrossrec::model::{Batch, Features, Init, Model, ModelConfig};
use sccrossrec::ops::registry;
use sccrossrec::rng::Rng;

/// Sizes of a data set and of its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub name: &'static str,
    pub genes: usize,
    pub peaks: usize,
    pub chromosomes: usize,
    pub bases: usize,
    pub dim: usize,
    pub hidden: usize,
    /// Genes and peaks a cell, about.
    pub cell: [usize; 2],
}

pub const NEURIPS: Shape = Shape {
    name: "NeurIPS-2021",
    genes: 13_431,
    peaks: 116_490,
    chromosomes: 23,
    bases: 256,
    dim: 256,
    hidden: 128,
    cell: [1000, 4000],
};

/// What kernels run on the CPU get through in seconds.
pub const REHEARSAL: Shape = Shape {
    name: "rehearsal",
    genes: 180,
    peaks: 700,
    chromosomes: 4,
    bases: 20,
    dim: 32,
    hidden: 32,
    cell: [40, 120],
};

/// `SCCROSSREC_GPU_REHEARSAL=1`: all that needs a GPU runs on the stand-in driver, at a small shape.
pub fn rehearsing() -> bool {
    std::env::var_os("SCCROSSREC_GPU_REHEARSAL").is_some_and(|v| v == "1")
}

/// The shape for a GPU: NeurIPS-2021, or the small one in a rehearsal.
pub fn shape() -> Shape {
    if rehearsing() { REHEARSAL } else { NEURIPS }
}

/// The first GPU and its kernels; in a rehearsal the stand-in. Without one, why there is none.
pub fn device() -> Result<(Arc<Gpu>, Kernels), String> {
    if rehearsing() {
        host::install(&image::cache_dir().join("host")).map_err(|e| e.to_string())?;
    }
    if !driver_present() {
        return Err("no driver".into());
    }
    let gpu = Gpu::open(0).map_err(|e| e.to_string())?;
    if gpu.is_host() && !rehearsing() {
        return Err("only the stand-in driver".into());
    }
    // A GPU without kernels is no reason to skip.
    let kernels = registry::load(&gpu).unwrap_or_else(|e| panic!("{}: {e}", gpu.name()));
    Ok((gpu, kernels))
}

/// A model of random features and parameters.
pub fn model(shape: &Shape) -> Model<f32> {
    let (genes, peaks, chromosomes) = (shape.genes, shape.peaks, shape.chromosomes);
    let mut r = Rng::new(906, 0);
    let features = Features {
        gene_chrom: (0..genes).map(|_| r.below(chromosomes) as u32).collect(),
        peak_chrom: (0..peaks).map(|i| (i * chromosomes / peaks) as u32).collect(),
        chromosomes,
        unknown: None,
        gene_extra: Vec::new(),
        peak_dna: (0..peaks * shape.bases).map(|_| 1 + r.below(4) as u8).collect(),
    };
    let config = ModelConfig {
        genes,
        peaks,
        chromosomes,
        dna_length: shape.bases,
        embedding_dim: shape.dim,
        hidden: shape.hidden,
        ..ModelConfig::default()
    };
    Model::new(config, Arc::new(features), Init::PyTorch { embedding_std: 1.0 }, 906).unwrap()
}

/// Genes with their values, peaks with theirs, sorted by (chromosome, index).
pub type Cell = (Vec<(u32, f32)>, Vec<(u32, f32)>);

/// Draws cells with about as many genes and peaks as the shape says.
pub struct Cells {
    /// Each gene, and each peak, is present with this probability.
    gene: Vec<f64>,
    peak: Vec<f64>,
}

impl Cells {
    pub fn new(shape: &Shape) -> Self {
        let mut r = Rng::new(906, 1);
        let mut frequency = |n: usize| (0..n).map(|_| (1.2 * r.normal()).exp()).collect::<Vec<f64>>();
        let (genes, peaks) = (frequency(shape.genes), frequency(shape.peaks));
        Cells { gene: probability(&genes, shape.cell[0]), peak: probability(&peaks, shape.cell[1]) }
    }

    /// Cell number `i`.
    pub fn cell(&self, model: &Model<f32>, i: u64) -> Cell {
        let mut r = Rng::new(17, i);
        let f = model.features();
        let mut draw = |p: &[f64]| -> Vec<u32> {
            let mut found: Vec<u32> = (0u32..).zip(p).filter(|x| r.uniform() < *x.1).map(|x| x.0).collect();
            if found.is_empty() {
                found.push(r.below(p.len()) as u32);
            }
            found
        };
        let (mut genes, mut peaks) = (draw(&self.gene), draw(&self.peak));
        genes.sort_by_key(|&g| (f.gene_chrom[g as usize], g));
        peaks.sort_by_key(|&p| (f.peak_chrom[p as usize], p));
        let genes = genes.into_iter().map(|g| (g, 0.3 + 2.0 * r.uniform() as f32)).collect();
        (genes, peaks.into_iter().map(|p| (p, 1.0)).collect())
    }

    /// A batch of `n` samples with these labels. A negative's peaks are another cell's only by name: what a step computes
    /// does not depend on it.
    pub fn batch(&self, model: &Model<f32>, n: usize, label: impl Fn(usize) -> u8) -> Batch<f32> {
        let mut batch = Batch::new();
        for i in 0..n {
            let (genes, peaks) = self.cell(model, i as u64);
            batch.push(label(i), i as u64, genes, peaks);
        }
        batch
    }
}

/// Each is present with probability 1 − exp(−rate f); the rate that gives n nodes, by bisection.
fn probability(f: &[f64], n: usize) -> Vec<f64> {
    let expected = |rate: f64| f.iter().map(|f| 1.0 - (-rate * f).exp()).sum::<f64>();
    let (mut low, mut high) = (0.0, 100.0);
    for _ in 0..40 {
        let mid = 0.5 * (low + high);
        if expected(mid) < n as f64 { low = mid } else { high = mid }
    }
    f.iter().map(|f| 1.0 - (-low * f).exp()).collect()
}

/// `x` sorted, at the share `at` of its length.
pub fn quantile(x: &[f64], at: f64) -> f64 {
    let mut x = x.to_vec();
    x.sort_by(f64::total_cmp);
    x.get(((x.len() as f64 - 1.0) * at).round() as usize).copied().unwrap_or(f64::NAN)
}
