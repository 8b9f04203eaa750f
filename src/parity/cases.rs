//! Models and batches that kernels are checked with: small ones that look for trouble, and large ones.

use std::sync::Arc;

use super::report::Cases;
use crate::device::view::Case;
use crate::error::Result;
use crate::model::{Batch, CisConfig, CisGraph, CisTarget, Dropout, Features, Init, Model, ModelConfig};
use crate::rng::Rng;
use crate::vocabulary::{Gene, Peak, Vocabulary};

/// How a case is made. Cells are (label, gene nodes, peak nodes).
struct CasePlan<'a> {
    name: &'static str,
    genes: usize,
    peaks: usize,
    chromosomes: usize,
    /// Every gene, or every third, lies on the chromosome that matches nothing.
    unknown: Unknown,
    extra: usize,
    dna: usize,
    dim: usize,
    hidden: usize,
    heads: usize,
    top_k: usize,
    min_peaks: usize,
    std: f64,
    /// Accessibilities other than 1?
    open: bool,
    dropout: bool,
    roomy: bool,
    /// Weight of the published translation.
    alpha: f64,
    /// Weights of the contrastive loss and the matching.
    contrast: f64,
    match_weight: f64,
    cis: Option<Cis>,
    cells: &'a [(u8, usize, usize)],
}

/// The cis term of a case.
#[derive(Clone, Copy)]
struct Cis {
    components: usize,
    target: CisTarget,
    sparsity: f64,
    /// Which genes have no TSS, and so take their whole chromosome: every n-th; 0: none.
    placeless: usize,
    /// Bases over which genes and peaks are spread, a hundred to the window.
    spread: usize,
}

const CIS: Cis = Cis { components: 3, target: CisTarget::Detection, sparsity: 0.7, placeless: 4, spread: 3000 };

#[derive(PartialEq)]
enum Unknown {
    Nobody,
    Some,
    AllGenes,
}

const PLAIN: CasePlan<'static> = CasePlan {
    name: "",
    genes: 60,
    peaks: 130,
    chromosomes: 3,
    unknown: Unknown::Nobody,
    extra: 0,
    dna: 0,
    dim: 12,
    hidden: 32,
    heads: 1,
    top_k: 10,
    min_peaks: 9,
    std: 1.0,
    open: false,
    dropout: true,
    roomy: false,
    alpha: 1.0,
    contrast: 0.0,
    match_weight: 1.0,
    cis: None,
    cells: &[(1, 30, 70), (0, 25, 60)],
};

const SMALL: [CasePlan<'static>; 13] = [
    CasePlan {
        name: "two heads, gene features, DNA, room to spare",
        genes: 290,
        peaks: 170,
        unknown: Unknown::Some,
        extra: 4,
        dna: 24,
        dim: 20,
        hidden: 48,
        heads: 2,
        open: true,
        roomy: true,
        cells: &[(1, 80, 70), (0, 35, 90), (1, 20, 120), (0, 50, 11)],
        ..PLAIN
    },
    CasePlan {
        name: "one gene, one peak",
        genes: 1,
        peaks: 1,
        chromosomes: 1,
        hidden: 16,
        min_peaks: 0,
        cells: &[(1, 1, 1)],
        ..PLAIN
    },
    CasePlan {
        name: "one chromosome, width 40",
        chromosomes: 1,
        peaks: 300,
        hidden: 40,
        dna: 7,
        dim: 30,
        open: true,
        dropout: false,
        cells: &[(1, 40, 200), (0, 10, 129), (1, 60, 140)],
        ..PLAIN
    },
    CasePlan { name: "no pair on one chromosome", unknown: Unknown::AllGenes, ..PLAIN },
    CasePlan { name: "ties", roomy: true, cells: &[(1, 40, 90), (1, 30, 100), (0, 20, 60)], ..PLAIN },
    CasePlan { name: "saturated scores", std: 30.0, open: true, extra: 1, ..PLAIN },
    CasePlan {
        name: "four heads of 18, fewer peaks than places",
        hidden: 72,
        heads: 4,
        min_peaks: 1,
        top_k: 32,
        dna: 16,
        cells: &[(1, 30, 3), (0, 40, 1), (1, 12, 25), (1, 1, 40), (0, 60, 2)],
        ..PLAIN
    },
    CasePlan { name: "no positives", open: true, cells: &[(0, 30, 70), (0, 25, 60), (0, 9, 9)], ..PLAIN },
    CasePlan {
        name: "cells of more than 512 nodes",
        genes: 600,
        peaks: 1200,
        chromosomes: 4,
        dim: 16,
        dna: 5,
        open: true,
        cells: &[(1, 520, 1030), (0, 140, 300)],
        ..PLAIN
    },
    CasePlan {
        name: "cis and contrast: more positives than a warp has lanes, two heads, room to spare",
        unknown: Unknown::Some,
        dim: 20,
        hidden: 48,
        heads: 2,
        open: true,
        roomy: true,
        contrast: 0.6,
        match_weight: 1.4,
        cis: Some(CIS),
        cells: &POSITIVES,
        ..PLAIN
    },
    CasePlan {
        name: "cis: levels, every gene takes its chromosome, no numbers of the cell",
        hidden: 40,
        alpha: 0.0,
        cis: Some(Cis { components: 0, target: CisTarget::Level, sparsity: 0.0, placeless: 1, ..CIS }),
        cells: &[(1, 30, 70), (0, 25, 60), (1, 11, 20)],
        ..PLAIN
    },
    CasePlan {
        name: "cis: a hundred edges a gene, and contrast of one",
        alpha: 0.0,
        contrast: 1.0,
        cis: Some(Cis { sparsity: 0.0, placeless: 0, spread: 90, ..CIS }),
        chromosomes: 1,
        ..PLAIN
    },
    CasePlan {
        name: "no positives for cis and contrast",
        contrast: 1.0,
        cis: Some(CIS),
        cells: &[(0, 30, 70), (0, 25, 60)],
        ..PLAIN
    },
];

/// Two of three are positives.
const POSITIVES: [(u8, usize, usize); 60] = {
    let mut cells = [(1, 20, 40); 60];
    let mut i = 0;
    while i < cells.len() {
        cells[i] = ((i % 3 != 1) as u8, 5 + i % 17, 20 + i % 31);
        i += 1;
    }
    cells
};

const NEURIPS: CasePlan<'static> = CasePlan {
    name: "NeurIPS-2021",
    genes: 13_431,
    peaks: 116_490,
    chromosomes: 29,
    unknown: Unknown::Some,
    dna: 256,
    dim: 256,
    hidden: 128,
    cells: &[(1, 1000, 4000), (0, 900, 3500), (1, 1200, 4500), (0, 300, 800)],
    roomy: true,
    ..PLAIN
};

/// More than one partial gradient of everything.
const LARGE: [CasePlan<'static>; 3] = [
    NEURIPS,
    CasePlan {
        name: "NeurIPS-2021, default terms",
        alpha: 0.0,
        contrast: 1.0,
        cis: Some(Cis { components: 8, sparsity: 0.0, placeless: 50, ..CIS }),
        ..NEURIPS
    },
    CasePlan {
        name: "NeurIPS-2021, two heads, 20,000 columns",
        heads: 2,
        roomy: false,
        open: true,
        cells: &[(1, 2500, 12_000), (1, 700, 9000)],
        ..NEURIPS
    },
];

/// The cases of a check.
pub(super) fn cases(which: Cases) -> Result<Vec<Case>> {
    let large = if which == Cases::Full { &LARGE[..] } else { &[] };
    SMALL.iter().chain(large).enumerate().map(|(i, p)| p.make(i as u64)).collect()
}

/// A model and a batch of the shape that benches use: `samples` cells, half of them positives; with a cis and a contrastive
/// term where `terms`.
pub(crate) fn shape(
    genes: usize,
    peaks: usize,
    samples: usize,
    cell: (usize, usize),
    hidden: usize,
    terms: bool,
) -> Result<Case> {
    let cells: Vec<_> = (0..samples).map(|i| (u8::from(i % 2 == 0), cell.0, cell.1)).collect();
    let (dim, dna) = if hidden < 128 { (32, 16) } else { (256, 256) };
    let (cis, contrast) = if terms { (Some(Cis { components: 8, sparsity: 0.0, ..CIS }), 1.0) } else { (None, 0.0) };
    CasePlan { genes, peaks, cells: &cells, hidden, dim, dna, roomy: false, cis, contrast, ..NEURIPS }.make(99)
}

impl CasePlan<'_> {
    fn make(&self, number: u64) -> Result<Case> {
        let mut rng = Rng::new(906, 7000 + number);
        let unknown = (self.unknown != Unknown::Nobody).then_some(self.chromosomes as u32);
        let chromosomes = self.chromosomes + usize::from(unknown.is_some());
        let mut place = |genes: bool| match (&self.unknown, genes) {
            (Unknown::AllGenes, true) => self.chromosomes as u32,
            (Unknown::Some, _) => rng.below(chromosomes) as u32,
            _ => rng.below(self.chromosomes) as u32,
        };
        let gene_chrom: Vec<u32> = (0..self.genes).map(|_| place(true)).collect();
        let peak_chrom: Vec<u32> = (0..self.peaks).map(|_| place(false)).collect();
        let features = Features {
            gene_chrom,
            peak_chrom,
            chromosomes,
            unknown,
            gene_extra: (0..self.genes * self.extra).map(|_| rng.normal() as f32).collect(),
            peak_dna: (0..self.peaks * self.dna).map(|_| rng.below(5) as u8).collect(),
        };
        let config = ModelConfig {
            genes: self.genes,
            peaks: self.peaks,
            chromosomes,
            gene_extra: self.extra,
            dna_length: self.dna,
            embedding_dim: self.dim,
            hidden: self.hidden,
            heads: self.heads,
            top_k: self.top_k,
            min_peaks: self.min_peaks,
            dropout: if self.dropout { 0.1 } else { 0.0 },
            alpha: self.alpha,
            contrast: self.contrast,
            match_weight: self.match_weight,
            cis: self.cis.map(|c| CisConfig {
                weight: 0.3,
                window: WINDOW,
                components: c.components,
                target: c.target,
                sparsity: c.sparsity,
                depth: [[3.0, 0.5], [4.0, 0.4]],
            }),
            ..ModelConfig::default()
        };
        let mut batch = Batch::new();
        for (i, &(label, genes, peaks)) in self.cells.iter().enumerate() {
            let mut draw = |of: usize, n: usize, chrom: &[u32], open: bool| {
                let mut all: Vec<u32> = (0..of as u32).collect();
                rng.shuffle(&mut all);
                all.truncate(n);
                all.sort_unstable_by_key(|&x| (chrom[x as usize], x));
                let value = |_: &u32| if open { [0.5, 1.0, 2.0][rng.below(3)] } else { 1.0 };
                let values: Vec<f32> = all.iter().map(value).collect();
                all.into_iter().zip(values).collect::<Vec<_>>()
            };
            let genes = draw(self.genes, genes, &features.gene_chrom, true);
            let peaks = draw(self.peaks, peaks, &features.peak_chrom, self.open);
            batch.push(label, (1 << 33) + i as u64, genes, peaks);
        }
        let (init, seed) = (Init::PyTorch { embedding_std: self.std }, 17 + number);
        let mut model = match self.cis {
            Some(cis) => {
                let graph = graph_of(&features, cis, &mut rng);
                let mut model = Model::with_cis(config, Arc::new(features), Arc::new(graph), init, seed)?;
                move_cis(&mut model, &mut rng);
                model
            }
            None => Model::new(config, Arc::new(features), init, seed)?,
        };
        if self.name == "ties" {
            ties(&mut model);
        }
        let dropout = self.dropout.then_some(Dropout { seed: 0x1_0000_0906, step: 5 });
        Ok(Case { name: self.name, model, batch, dropout, roomy: self.roomy })
    }
}

/// Bases of a cis window.
const WINDOW: i64 = 100_000;

/// A cis graph over random places.
fn graph_of(f: &Features<f32>, cis: Cis, rng: &mut Rng) -> CisGraph {
    // Chromosomes as long as their peaks need, so that a gene has about as many edges at any size.
    let per = (f.peaks() / f.chromosomes).max(1);
    let length = (per * cis.spread).max(1);
    let place = |chrom: u32, rng: &mut Rng| (chrom, rng.below(length) as i64);
    let genes = (0..).zip(&f.gene_chrom).map(|(i, &c): (usize, _)| {
        let (chrom, at) = place(c, rng);
        Gene { name: String::new(), chrom, tss: (cis.placeless == 0 || i % cis.placeless != 0).then_some(at) }
    });
    let genes = genes.collect();
    let peaks = f.peak_chrom.iter().map(|&c| {
        let (chrom, start) = place(c, rng);
        Peak { name: String::new(), chrom, start, end: start + 500 }
    });
    let peaks = peaks.collect();
    let chromosomes = (0..f.chromosomes).map(|c| c.to_string()).collect();
    let v = Vocabulary { chromosomes, unknown: f.unknown, genes, peaks, ..Vocabulary::default() };
    CisGraph::new(&v, WINDOW)
}

/// Numbers where the parameters of the cis term start at 0.
fn move_cis(model: &mut Model<f32>, rng: &mut Rng) {
    let layout = model.params.layout().clone();
    for e in layout.entries().iter().filter(|e| e.name.starts_with("cis.")) {
        model.params.as_mut_slice()[e.range.clone()].iter_mut().for_each(|x| *x = 0.3 * rng.normal() as f32);
    }
}

/// Keys that depend on nothing but the embedding, and embeddings that are shared, or zero: equal logits everywhere, some
/// of them equal to those of masked pairs.
fn ties(model: &mut Model<f32>) {
    let d = model.config.embedding_dim;
    if let Some(bias) = model.params.get_mut("cross_attention_layer.atac_key.bias") {
        bias.fill(0.0);
    }
    let width = d + 1 + model.config.peak_features();
    if let Some(weight) = model.params.get_mut("cross_attention_layer.atac_key.weight") {
        weight.chunks_exact_mut(width).for_each(|row| row[d..].fill(0.0));
    }
    if let Some(table) = model.params.get_mut("atac_idembedding.weight") {
        for i in 0..table.len() / d {
            match i % 4 {
                0 => table[i * d..(i + 1) * d].fill(0.0),
                1 | 2 if i >= 20 => table.copy_within((i % 20) * d..(i % 20 + 1) * d, i * d),
                _ => {}
            }
        }
    }
}
