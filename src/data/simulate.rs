//! A simulated multiome data set with planted gene–peak regulation, for the demo and for tests of link recovery.
//!
//! What is planted:
//! * *Cell types* of geometric sizes. Each raises its own marker genes, and each peak may have a programme of its own
//!   that opens it in some types.
//! * *Links.* A share of the genes have one to three linked peaks on their own chromosome: most within 100 kb of the
//!   TSS (log-uniform), a minority out to 500 kb. Whether a peak is open in a cell is drawn cell by cell (its chance
//!   depends on the cell type); an open linked peak multiplies the expression of its gene. Links are therefore visible
//!   between cells of one type, not only between types; unlinked peaks with programmes of their own are the confounders.
//! * *Depth.* Log-normal per cell and modality, correlated between the two as in real data. Expression counts are
//!   gamma–Poisson; peak openness is skewed between peaks, and few of the open peaks are caught, so that ATAC is sparse
//!   and near binary.
//!
//! Gene density (one in 150 kb) and peak density (one in 30 kb) are those of the human genome, so that distance is as
//! good a predictor here as the distances planted make it, no better.
//!
//! Everything is a function of the configuration: cells are drawn from random streams of their own, in parallel.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::anndata::{AnnDataWriter, Column, Frame};
use crate::error::{Error, Result};
use crate::model::Csr;
use crate::rng::Rng;

/// Bases of chromosome a gene.
const GENE_SPACING: f64 = 150_000.0;
/// Bases kept free at both ends of a chromosome; no link is longer.
const MARGIN: i64 = 600_000;
/// Cells drawn and written at a time.
const BLOCK: usize = 512;

/// Random streams of the seed.
const GENES: u64 = 0x5100_0000;
const PEAKS: u64 = 0x5200_0000;
const TYPES: u64 = 0x5300_0000;
const CELLS: u64 = 0x54_0000_0000;

/// What to simulate. The defaults are those of the demo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulateConfig {
    /// N, cells.
    pub cells: usize,
    /// G, genes.
    pub genes: usize,
    /// P, peaks.
    pub peaks: usize,
    /// Chromosomes; genes are spread over them evenly.
    pub chromosomes: usize,
    /// Cell types; each is 0.8 times as frequent as the one before it.
    pub cell_types: usize,
    /// Seed of everything.
    pub seed: u64,
    /// Share of the genes that have linked peaks.
    pub linked_genes: f64,
    /// Share of the links farther than 100 kb from the TSS.
    pub far_links: f64,
    /// Smallest and largest effect of a link: log fold change of expression when its peak opens.
    pub effect: [f64; 2],
    /// Median RNA counts a cell. Cells are normalised to this depth before the logarithm.
    pub rna_depth: f64,
    /// Standard deviation of log depth between cells, RNA and ATAC (0.60 to 0.72 in two published data sets).
    pub depth_sd: f64,
    /// Correlation of the log depths of RNA and ATAC between cells (0.25 and 0.53 there).
    pub depth_correlation: f64,
    /// Median number of fragments that an open peak yields in a cell.
    pub atac_rate: f64,
    /// The same for a closed peak.
    pub atac_noise: f64,
}

impl Default for SimulateConfig {
    fn default() -> Self {
        SimulateConfig {
            cells: 1_500,
            genes: 500,
            peaks: 2_500,
            chromosomes: 8,
            cell_types: 6,
            seed: 906,
            linked_genes: 0.6,
            far_links: 0.2,
            effect: [0.5, 1.5],
            rna_depth: 250.0,
            depth_sd: 0.6,
            depth_correlation: 0.4,
            atac_rate: 0.5,
            atac_noise: 0.01,
        }
    }
}

impl SimulateConfig {
    /// Checks the numbers; the message names the field.
    pub fn validate(&self) -> Result<()> {
        let bad = |m: String| Err(Error::usage(format!("simulation: {m}")));
        for (name, n) in [
            ("cells", self.cells),
            ("genes", self.genes),
            ("peaks", self.peaks),
            ("chromosomes", self.chromosomes),
            ("cell_types", self.cell_types),
        ] {
            if n == 0 {
                return bad(format!("`{name}` is 0; it must be at least 1"));
            }
            if i32::try_from(n).is_err() {
                return bad(format!("`{name}` is {n}; at most {}", i32::MAX));
            }
        }
        for (name, n) in [("genes", self.genes), ("peaks", self.peaks)] {
            if n < self.chromosomes {
                return bad(format!(
                    "`{name}` is {n} for {} `chromosomes`; at least one each is needed",
                    self.chromosomes
                ));
            }
        }
        if self.cells < self.cell_types {
            return bad(format!("`cells` is {} for {} `cell_types`; give more cells", self.cells, self.cell_types));
        }
        for (name, x) in [
            ("linked_genes", self.linked_genes),
            ("far_links", self.far_links),
            ("depth_correlation", self.depth_correlation),
        ] {
            if !(0.0..=1.0).contains(&x) {
                return bad(format!("`{name}` is {x}; it must lie in [0, 1]"));
            }
        }
        for (name, x, most) in [
            ("effect[0]", self.effect[0], 5.0),
            ("effect[1]", self.effect[1], 5.0),
            ("rna_depth", self.rna_depth, 1e6),
            ("depth_sd", self.depth_sd, 2.0),
            ("atac_rate", self.atac_rate, 1e3),
            ("atac_noise", self.atac_noise, 1e3),
        ] {
            if !(0.0..=most).contains(&x) {
                return bad(format!("`{name}` is {x}; it must lie in [0, {most}]"));
            }
        }
        if self.effect[1] < self.effect[0] || self.rna_depth == 0.0 {
            return bad("`effect` must be [smallest, largest] and `rna_depth` above 0".into());
        }
        Ok(())
    }
}

/// A simulated gene.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedGene {
    /// Name.
    pub name: String,
    /// Chromosome number, from 0.
    pub chrom: usize,
    /// Transcription start, 0-based.
    pub tss: i64,
    /// Length of the gene body in bases.
    pub length: i64,
    /// On the forward strand?
    pub forward: bool,
    /// `[cell_types]` share of the cell's expression, before links.
    level: Vec<f64>,
}

impl SimulatedGene {
    /// Start (0-based) and end (exclusive) of the gene body; its TSS is the first base, or the last on the reverse
    /// strand.
    pub fn body(&self) -> [i64; 2] {
        if self.forward { [self.tss, self.tss + self.length] } else { [self.tss + 1 - self.length, self.tss + 1] }
    }
}

/// A simulated peak.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedPeak {
    /// `chrN-start-end`.
    pub name: String,
    /// Chromosome number, from 0.
    pub chrom: usize,
    /// Start, 0-based.
    pub start: i64,
    /// End, exclusive.
    pub end: i64,
    /// `[cell_types]` chance to be open.
    open: Vec<f64>,
}

/// A planted link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlantedLink {
    /// Index of the gene.
    pub gene: usize,
    /// Index of the peak.
    pub peak: usize,
    /// Log fold change of the gene when the peak is open.
    pub effect: f64,
}

/// Counts of one cell, columns ascending.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SimulatedCell {
    /// Cell type, from 0.
    pub cell_type: usize,
    /// Genes and their counts, all above 0.
    pub rna: Vec<(u32, u32)>,
    /// Peaks and their counts, all above 0.
    pub atac: Vec<(u32, u32)>,
}

/// The plan of a simulation: genes, peaks and links. Cells are drawn from it one by one.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    config: SimulateConfig,
    genes: Vec<SimulatedGene>,
    peaks: Vec<SimulatedPeak>,
    links: Vec<PlantedLink>,
    /// Cumulative shares of the cell types.
    types: Vec<f64>,
    /// `[G]` where the links of a gene start in `links`, and one more.
    link_start: Vec<usize>,
    /// What a link multiplies its gene by while its peak is [closed, open]; 1 on average over cell types.
    link_factor: Vec<[f64; 2]>,
}

/// What [`write`] made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Simulated {
    /// The RNA file.
    pub rna: PathBuf,
    /// The ATAC file.
    pub atac: PathBuf,
    /// The planted links.
    pub truth: PathBuf,
    /// Planted links.
    pub links: usize,
    /// Non-zero entries of the RNA matrix.
    pub rna_entries: u64,
    /// Non-zero entries of the ATAC matrix.
    pub atac_entries: u64,
}

/// A peak before its place is final: chromosome, start, width, and the gene and effect of its link.
type Draft = (usize, i64, i64, Option<(usize, f64)>);

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Gamma with this shape and mean `mean` (Marsaglia and Tsang's method; the shape must be at least 1).
fn gamma(rng: &mut Rng, shape: f64, mean: f64) -> f64 {
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = rng.normal();
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - rng.uniform()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return mean * d * v / shape;
        }
    }
}

/// Poisson with this mean (products of uniforms, in portions of at most 16).
fn poisson(rng: &mut Rng, mean: f64) -> u32 {
    let (mut left, mut n) = (mean.clamp(0.0, 1e7), 0u32);
    while left > 0.0 {
        let part = left.min(16.0);
        let (bound, mut product) = ((-part).exp(), 1.0 - rng.uniform());
        while product > bound {
            n += 1;
            product *= 1.0 - rng.uniform();
        }
        left -= part;
    }
    n
}

impl Simulation {
    /// Draws genes, peaks and links.
    pub fn new(config: SimulateConfig) -> Result<Self> {
        config.validate()?;
        let c = &config;
        let shares: Vec<f64> = (0..c.cell_types).map(|t| 0.8f64.powi(t as i32)).collect();
        let total: f64 = shares.iter().sum();
        let types = shares
            .iter()
            .scan(0.0, |sum, s| {
                *sum += s / total;
                Some(*sum)
            })
            .collect();

        // Genes, sorted by chromosome and TSS.
        let mut rng = Rng::new(c.seed, GENES);
        let of_chrom = |n: usize, k: usize| n * (k + 1) / c.chromosomes - n * k / c.chromosomes;
        let length = |k: usize| 2 * MARGIN + (of_chrom(c.genes, k) as f64 * GENE_SPACING) as i64;
        let between =
            |rng: &mut Rng, k: usize| MARGIN + (rng.uniform() * (length(k) - 2 * MARGIN).max(1) as f64) as i64;
        let mut genes = Vec::with_capacity(c.genes);
        for k in 0..c.chromosomes {
            let mut tss: Vec<i64> = (0..of_chrom(c.genes, k)).map(|_| between(&mut rng, k)).collect();
            tss.sort_unstable();
            for tss in tss {
                let forward = rng.below(2) == 1;
                let length = (20_000.0 * (1.2 * rng.normal()).exp()).clamp(500.0, 5e5) as i64;
                let base = 1.2 * rng.normal();
                let marker_of = if rng.uniform() < 0.4 { Some(rng.below(c.cell_types)) } else { None };
                let raised = 1.0 + rng.uniform();
                let level =
                    (0..c.cell_types).map(|t| (base + if marker_of == Some(t) { raised } else { 0.0 }).exp()).collect();
                let name = format!("SIM{:05}", genes.len() + 1);
                genes.push(SimulatedGene { name, chrom: k, tss, length, forward, level });
            }
        }
        // Levels become shares of the cell: each type's sum to 1, so that `rna_depth` is the depth.
        for t in 0..c.cell_types {
            let sum: f64 = genes.iter().map(|g| g.level[t]).sum();
            genes.iter_mut().for_each(|g| g.level[t] /= sum);
        }

        // Peaks: those of the links first, then others, until each chromosome has its share; at most half are linked.
        let mut rng = Rng::new(c.seed, PEAKS);
        let mut order: Vec<usize> = (0..c.genes).collect();
        rng.shuffle(&mut order);
        order.truncate((c.linked_genes * c.genes as f64).round() as usize);
        let mut left: Vec<usize> = (0..c.chromosomes).map(|k| of_chrom(c.peaks, k)).collect();
        let mut spare: Vec<usize> = left.iter().map(|n| n / 2).collect();
        let mut drafts: Vec<Draft> = Vec::with_capacity(c.peaks);
        let mut draft = |rng: &mut Rng, k: usize, middle: i64, link| {
            let width = 400 + rng.below(601) as i64;
            drafts.push((k, middle - width / 2, width, link));
        };
        for &g in &order {
            let k = genes[g].chrom;
            let wanted = (1 + rng.below(3)).min(spare[k]);
            spare[k] -= wanted;
            left[k] -= wanted;
            for _ in 0..wanted {
                let far = rng.uniform() < c.far_links;
                let (low, high) = if far { (1e5f64, 5e5f64) } else { (2e2f64, 1e5f64) };
                let distance = (low.ln() + rng.uniform() * (high / low).ln()).exp() as i64;
                let middle = genes[g].tss + if rng.below(2) == 1 { distance } else { -distance };
                let effect = c.effect[0] + rng.uniform() * (c.effect[1] - c.effect[0]);
                draft(&mut rng, k, middle, Some((g, effect)));
            }
        }
        for (k, &n) in left.iter().enumerate() {
            for _ in 0..n {
                let middle = between(&mut rng, k);
                draft(&mut rng, k, middle, None);
            }
        }
        // By position; of two that overlap, the right one moves right.
        drafts.sort_by_key(|a| (a.0, a.1, a.2));
        let mut peaks: Vec<SimulatedPeak> = Vec::with_capacity(c.peaks);
        let mut links = Vec::new();
        let mut free = (0, 0);
        let mut rng = Rng::new(c.seed, TYPES);
        for (i, &(chrom, start, width, link)) in drafts.iter().enumerate() {
            let start = if free.0 == chrom { start.max(free.1) } else { start };
            let end = start + width;
            free = (chrom, end + 1);
            let base = -2.2 + 1.5 * rng.normal();
            let programme = rng.uniform() < 0.5;
            let open = (0..c.cell_types)
                .map(|_| {
                    let shift = rng.normal();
                    sigmoid(base + if programme { 1.2 * shift } else { 0.0 })
                })
                .collect();
            let name = format!("chr{}-{start}-{end}", chrom + 1);
            peaks.push(SimulatedPeak { name, chrom, start, end, open });
            if let Some((gene, effect)) = link {
                links.push(PlantedLink { gene, peak: i, effect });
            }
        }
        links.sort_by_key(|l| (l.gene, l.peak));
        let link_start = (0..=c.genes).map(|g| links.partition_point(|l| l.gene < g)).collect();
        let link_factor = links
            .iter()
            .map(|l: &PlantedLink| {
                let open = &peaks[l.peak].open;
                let (fold, often) = (l.effect.exp(), open.iter().sum::<f64>() / open.len() as f64);
                let mean = 1.0 + often * (fold - 1.0);
                [1.0 / mean, fold / mean]
            })
            .collect();
        Ok(Simulation { config, genes, peaks, links, types, link_start, link_factor })
    }

    /// The configuration.
    pub fn config(&self) -> &SimulateConfig {
        &self.config
    }

    /// Genes, sorted by chromosome and TSS.
    pub fn genes(&self) -> &[SimulatedGene] {
        &self.genes
    }

    /// Peaks, sorted by chromosome and start; they do not overlap.
    pub fn peaks(&self) -> &[SimulatedPeak] {
        &self.peaks
    }

    /// Planted links, sorted by gene and peak.
    pub fn links(&self) -> &[PlantedLink] {
        &self.links
    }

    /// The first cells are one of each type, so that no type is empty.
    fn draw_type(&self, i: usize, u: f64) -> usize {
        let t = if i < self.types.len() { i } else { self.types.partition_point(|&s| s <= u) };
        t.min(self.types.len() - 1)
    }

    /// Draws cell `i`: a pure function of the configuration and `i`.
    pub fn cell(&self, i: usize) -> SimulatedCell {
        let c = &self.config;
        let mut rng = Rng::new(c.seed, CELLS + i as u64);
        let cell_type = self.draw_type(i, rng.uniform());
        let (x, y, rho) = (rng.normal(), rng.normal(), c.depth_correlation);
        let rna_depth = c.rna_depth * (c.depth_sd * x).exp();
        let atac_depth = (c.depth_sd * (rho * x + (1.0 - rho * rho).sqrt() * y)).exp();
        let mut atac = Vec::new();
        let mut open = vec![false; self.peaks.len()];
        for (j, peak) in self.peaks.iter().enumerate() {
            open[j] = rng.uniform() < peak.open[cell_type];
            let count = poisson(&mut rng, atac_depth * if open[j] { c.atac_rate } else { c.atac_noise });
            if count > 0 {
                atac.push((j as u32, count));
            }
        }
        let mut rna = Vec::new();
        for (g, gene) in self.genes.iter().enumerate() {
            let links = self.link_start[g]..self.link_start[g + 1];
            let factor: f64 = links.map(|l| self.link_factor[l][usize::from(open[self.links[l].peak])]).product();
            let mean = gamma(&mut rng, 4.0, rna_depth * gene.level[cell_type] * factor);
            let count = poisson(&mut rng, mean);
            if count > 0 {
                rna.push((g as u32, count));
            }
        }
        SimulatedCell { cell_type, rna, atac }
    }

    fn frames(&self, cell_type: &[usize]) -> [Frame; 3] {
        let strings = |f: &mut dyn Iterator<Item = String>| Column::Strings(f.collect());
        let chrom = |k: usize| format!("chr{}", k + 1);
        let obs = Frame {
            index: (0..self.config.cells).map(|i| format!("cell{:06}", i + 1)).collect(),
            columns: vec![(
                "cell_type".into(),
                Column::Categorical {
                    codes: cell_type.iter().map(|&t| t as i32).collect(),
                    categories: (0..self.config.cell_types).map(|t| format!("type{}", t + 1)).collect(),
                },
            )],
        };
        let g = &self.genes;
        let rna = Frame {
            index: g.iter().map(|g| g.name.clone()).collect(),
            columns: vec![
                ("chrom".into(), strings(&mut g.iter().map(|g| chrom(g.chrom)))),
                ("strand".into(), strings(&mut g.iter().map(|g| if g.forward { "+" } else { "-" }.to_string()))),
                ("chromStart".into(), Column::Ints(g.iter().map(|g| g.body()[0]).collect())),
                ("chromEnd".into(), Column::Ints(g.iter().map(|g| g.body()[1]).collect())),
                ("tss".into(), Column::Ints(g.iter().map(|g| g.tss).collect())),
            ],
        };
        let p = &self.peaks;
        let atac = Frame {
            index: p.iter().map(|p| p.name.clone()).collect(),
            columns: vec![
                ("chrom".into(), strings(&mut p.iter().map(|p| chrom(p.chrom)))),
                ("chromStart".into(), Column::Ints(p.iter().map(|p| p.start).collect())),
                ("chromEnd".into(), Column::Ints(p.iter().map(|p| p.end).collect())),
            ],
        };
        [obs, rna, atac]
    }

    /// The planted links as a table: gene, peak, chrom, start, end, tss, distance (|TSS − peak midpoint|), effect.
    pub fn truth_tsv(&self) -> String {
        let mut out = String::from("gene\tpeak\tchrom\tstart\tend\ttss\tdistance\teffect\n");
        for l in &self.links {
            let (g, p) = (&self.genes[l.gene], &self.peaks[l.peak]);
            let distance = (g.tss - (p.start + p.end) / 2).abs();
            out.push_str(&format!(
                "{}\t{}\tchr{}\t{}\t{}\t{}\t{distance}\t{:.6}\n",
                g.name,
                p.name,
                p.chrom + 1,
                p.start,
                p.end,
                g.tss,
                l.effect
            ));
        }
        out
    }

    /// Writes `rna.h5ad`, `atac.h5ad` and `truth.tsv` into the folder `out`, which must exist; `progress` is told the
    /// cells done. RNA: X = ln(1 + count × depth / total), with depth the configured median; ATAC: X = 1 where there
    /// are fragments. Counts are in `layers/counts` of both. Memory: a block of cells.
    pub fn write(&self, out: &Path, progress: &(dyn Fn(u64) + Sync)) -> Result<Simulated> {
        let n = self.config.cells;
        let draw = |from: usize| -> Vec<SimulatedCell> {
            (from..(from + BLOCK).min(n)).into_par_iter().map(|i| self.cell(i)).collect()
        };
        // The first number of each cell's stream, as in `cell`: the files begin with the labels.
        let label = |i: usize| self.draw_type(i, Rng::new(self.config.seed, CELLS + i as u64).uniform());
        let types: Vec<usize> = (0..n).map(label).collect();
        let [obs, rna_var, atac_var] = self.frames(&types);
        let mut made = Simulated {
            rna: out.join("rna.h5ad"),
            atac: out.join("atac.h5ad"),
            truth: out.join("truth.tsv"),
            links: self.links.len(),
            rna_entries: 0,
            atac_entries: 0,
        };
        let (genes, peaks) = (self.genes.len(), self.peaks.len());
        let mut rna = AnnDataWriter::create(&made.rna, &obs, &rna_var)?;
        let mut atac = AnnDataWriter::create(&made.atac, &obs, &atac_var)?;
        let mut sinks = [
            rna.csr("X", genes)?,
            rna.csr("layers/counts", genes)?,
            atac.csr("X", peaks)?,
            atac.csr("layers/counts", peaks)?,
        ];
        for from in (0..n).step_by(BLOCK) {
            crate::interrupt::check("nothing was written")?;
            let mut blocks: [Csr<f32>; 4] = [Csr::new(), Csr::new(), Csr::new(), Csr::new()];
            for cell in draw(from) {
                let total: f64 = cell.rna.iter().map(|&(_, k)| f64::from(k)).sum();
                let log = |k: u32| (f64::from(k) * self.config.rna_depth / total).ln_1p() as f32;
                blocks[0].push_row(cell.rna.iter().map(|&(g, k)| (g, log(k))));
                blocks[1].push_row(cell.rna.iter().map(|&(g, k)| (g, k as f32)));
                blocks[2].push_row(cell.atac.iter().map(|&(p, _)| (p, 1.0)));
                blocks[3].push_row(cell.atac.iter().map(|&(p, k)| (p, k as f32)));
                made.rna_entries += cell.rna.len() as u64;
                made.atac_entries += cell.atac.len() as u64;
            }
            for (sink, block) in sinks.iter_mut().zip(&blocks) {
                sink.append(block)?;
            }
            progress((from + BLOCK).min(n) as u64);
        }
        for sink in sinks {
            sink.finish()?;
        }
        rna.finish()?;
        atac.finish()?;
        crate::train::files::write_text(&made.truth, &self.truth_tsv())?;
        Ok(made)
    }
}
