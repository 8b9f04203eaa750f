//! The plan of a simulation, drawn: chromosomes, genes, peaks, links, motifs, batches, modules.

use super::config::SimulateConfig;
use super::genome::Chromosome;
use super::plan::{Placed, PlantedLink, SimulatedGene, SimulatedPeak, settle, sigmoid};
use super::streams::{BATCHES, GENES, MODULES, MOTIFS, PEAKS, TYPES};
use super::tissue::{self, TissuePlan};
use crate::error::Result;
use crate::rng::Rng;

/// The plan of a simulation: genes, peaks and links. Cells are drawn from it one by one.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    pub(super) config: SimulateConfig,
    chromosomes: Vec<Chromosome>,
    pub(super) genes: Vec<SimulatedGene>,
    pub(super) peaks: Vec<SimulatedPeak>,
    pub(super) links: Vec<PlantedLink>,
    /// The motif of each cell type.
    pub(super) motifs: Vec<String>,
    /// Cumulative shares of the cell types.
    pub(super) types: Vec<f64>,
    /// `[cell_types][G]` share of a cell's expression, before links.
    pub(super) level: Vec<Vec<f64>>,
    /// `[cell_types][P]` chance to be open.
    pub(super) open: Vec<Vec<f32>>,
    /// `[G]` and `[P]` module of each gene and peak; [`NO_MODULE`]; empty without modules.
    pub(super) modules: [Vec<u32>; 2],
    /// `[batches]` factors of the RNA and ATAC depths, and of each gene's level.
    pub(super) batches: Vec<BatchEffect>,
    /// `[G]` where the links of a gene start in `links`, and one more.
    pub(super) link_start: Vec<usize>,
    /// What a link multiplies its gene by while its peak is [closed, open]; 1 on average over cell types.
    pub(super) link_factor: Vec<[f64; 2]>,
    /// Of tissue only.
    pub(super) tissue: Option<TissuePlan>,
}

/// In no module.
const NO_MODULE: u32 = u32::MAX;

/// Bases of a motif.
const MOTIF: usize = 12;

/// A peak before its place is final: chromosome, start, width, and the gene and effect of its link.
type Draft = (usize, i64, i64, Option<(usize, f64)>);

/// Cumulative shares of the cell types, `[cell_types]`: each 0.8 times as frequent as the one before.
fn cell_type_shares(cell_types: usize) -> Vec<f64> {
    let shares: Vec<f64> = (0..cell_types).map(|t| 0.8f64.powi(t as i32)).collect();
    let total: f64 = shares.iter().sum();
    shares
        .iter()
        .scan(0.0, |sum, s| {
            *sum += s / total;
            Some(*sum)
        })
        .collect()
}

/// Genes, sorted by chromosome and TSS, and their levels, `[cell_types][G]`.
fn draw_genes(c: &SimulateConfig, chromosomes: &[Chromosome]) -> (Vec<SimulatedGene>, Vec<Vec<f64>>) {
    let mut rng = Rng::new(c.seed, GENES);
    let mut genes: Vec<SimulatedGene> = Vec::with_capacity(c.genes);
    let mut level = vec![Vec::with_capacity(c.genes); c.cell_types];
    for (k, chromosome) in chromosomes.iter().enumerate() {
        let mut tss: Vec<i64> = (0..chromosome.genes).map(|_| chromosome.place(&mut rng)).collect();
        tss.sort_unstable();
        for tss in tss {
            let forward = rng.below(2) == 1;
            let length = (20_000.0 * (1.2 * rng.normal()).exp()).clamp(500.0, 5e5) as i64;
            let base = c.gene_sd * rng.normal();
            let marker_of = if rng.uniform() < 0.4 { Some(rng.below(c.cell_types)) } else { None };
            let raised = 1.0 + rng.uniform();
            for (t, level) in level.iter_mut().enumerate() {
                level.push((base + if marker_of == Some(t) { raised } else { 0.0 }).exp());
            }
            let name = format!("SIM{:05}", genes.len() + 1);
            genes.push(SimulatedGene { name, chrom: k, tss, length, forward });
        }
    }
    // Levels become shares of the cell: each type's sum to 1, so that `rna_depth` is the depth.
    for level in &mut level {
        let sum: f64 = level.iter().sum();
        level.iter_mut().for_each(|x| *x /= sum);
    }
    (genes, level)
}

/// Peaks by position: those of the links first, then others, until each chromosome has its share; at most half are linked.
fn draft_peaks(c: &SimulateConfig, chromosomes: &[Chromosome], genes: &[SimulatedGene]) -> Vec<Draft> {
    let mut rng = Rng::new(c.seed, PEAKS);
    let mut order: Vec<usize> = (0..c.genes).collect();
    rng.shuffle(&mut order);
    order.truncate((c.linked_genes * c.genes as f64).round() as usize);
    let mut left: Vec<usize> = chromosomes.iter().map(|k| k.peaks).collect();
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
            let u = rng.uniform();
            let distance = if c.uniform_links {
                (2e2 + u * (5e5 - 2e2)) as i64
            } else {
                (low.ln() + u * (high / low).ln()).exp() as i64
            };
            let middle = genes[g].tss + if rng.below(2) == 1 { distance } else { -distance };
            let effect = c.effect[0] + rng.uniform() * (c.effect[1] - c.effect[0]);
            draft(&mut rng, k, middle, Some((g, effect)));
        }
    }
    for (k, &n) in left.iter().enumerate() {
        for _ in 0..n {
            let middle = chromosomes[k].place(&mut rng);
            draft(&mut rng, k, middle, None);
        }
    }
    drafts.sort_by_key(|a| (a.0, a.1, a.2));
    drafts
}

/// Places peaks, and says which cell types open them.
fn place_peaks(c: &SimulateConfig, chromosomes: &[Chromosome], drafts: &[Draft]) -> Placed {
    let mut peaks = settle(chromosomes, drafts.iter().map(|d| (d.0, d.1, d.2)));
    let mut open = vec![Vec::with_capacity(c.peaks); c.cell_types];
    let mut links = Vec::new();
    let mut rng = Rng::new(c.seed, TYPES);
    for (i, (&(.., link), peak)) in drafts.iter().zip(&mut peaks).enumerate() {
        let base = c.openness[0] + c.openness[1] * rng.normal();
        let programme = rng.uniform() < c.programmes;
        let mut most = (f64::NEG_INFINITY, 0);
        for (t, open) in open.iter_mut().enumerate() {
            let shift = rng.normal();
            if shift > most.0 {
                most = (shift, t);
            }
            open.push(sigmoid(base + if programme { 1.2 * shift } else { 0.0 }) as f32);
        }
        peak.opened_by = programme.then_some(most.1);
        if let Some((gene, effect)) = link {
            links.push(PlantedLink { gene, peak: i, effect });
        }
    }
    links.sort_by_key(|l| (l.gene, l.peak));
    Placed { peaks, open, links }
}

/// What a link multiplies its gene by while its peak is [closed, open].
fn link_factor(link: &PlantedLink, open: &[Vec<f32>]) -> [f64; 2] {
    let often = open.iter().map(|o| f64::from(o[link.peak])).sum::<f64>() / open.len() as f64;
    let fold = link.effect.exp();
    let mean = 1.0 + often * (fold - 1.0);
    [1.0 / mean, fold / mean]
}

/// The module of each gene and of each peak.
fn draw_modules(c: &SimulateConfig) -> [Vec<u32>; 2] {
    let mut rng = Rng::new(c.seed, MODULES);
    [(c.genes, 0.4), (c.peaks, 0.5)].map(|(n, share)| {
        let n = if c.modules == 0 { 0 } else { n };
        (0..n).map(|_| if rng.uniform() < share { rng.below(c.modules) as u32 } else { NO_MODULE }).collect()
    })
}

/// Draws `n` motifs.
fn draw_motifs(n: usize, rng: &mut Rng) -> Vec<String> {
    (0..n).map(|_| (0..MOTIF).map(|_| ['A', 'C', 'G', 'T'][rng.below(4)]).collect()).collect()
}

/// What a batch multiplies by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BatchEffect {
    pub depth: [f64; 2],
    /// Of each gene; none where there is one batch.
    genes: Vec<f32>,
}

impl BatchEffect {
    /// The batches of a simulation; of a single one the factors are 1.
    pub(super) fn draw(c: &SimulateConfig) -> Vec<Self> {
        if c.batches == 1 {
            return vec![BatchEffect { depth: [1.0; 2], genes: Vec::new() }];
        }
        (0..c.batches)
            .map(|b| {
                let mut rng = Rng::new(c.seed, BATCHES + b as u64);
                let mut factor = || (c.batch_sd * rng.normal()).exp();
                let depth = [factor(), factor()];
                BatchEffect { depth, genes: (0..c.genes).map(|_| factor() as f32).collect() }
            })
            .collect()
    }

    /// Of a gene.
    pub(super) fn gene(&self, g: usize) -> f64 {
        self.genes.get(g).map_or(1.0, |&x| f64::from(x))
    }
}

impl Simulation {
    /// Draws genes, peaks and links.
    ///
    /// # Errors
    /// As [`SimulateConfig::validate`].
    pub fn new(config: SimulateConfig) -> Result<Self> {
        config.validate()?;
        let c = &config;
        let chromosomes = c.genome.chromosomes(c.chromosomes, c.genes, c.peaks);
        let (genes, level) = draw_genes(c, &chromosomes);
        let (Placed { peaks, open, links }, level, link_factor, tissue) = match &c.tissue {
            Some(t) => {
                let made = tissue::draw(c, t, &chromosomes, &genes);
                (made.placed, made.level, made.link_factor, Some(made.plan))
            }
            None => {
                let placed = place_peaks(c, &chromosomes, &draft_peaks(c, &chromosomes, &genes));
                let factor = placed.links.iter().map(|l| link_factor(l, &placed.open)).collect();
                (placed, level, factor, None)
            }
        };
        let link_start = (0..=c.genes).map(|g| links.partition_point(|l| l.gene < g)).collect();
        let motifs = draw_motifs(c.cell_types, &mut Rng::new(c.seed, MOTIFS));
        let batches = BatchEffect::draw(c);
        let (types, modules) = (cell_type_shares(c.cell_types), draw_modules(c));
        Ok(Simulation {
            config,
            chromosomes,
            genes,
            peaks,
            links,
            modules,
            motifs,
            types,
            level,
            open,
            batches,
            link_start,
            link_factor,
            tissue,
        })
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

    /// The motif of each cell type.
    pub fn motifs(&self) -> &[String] {
        &self.motifs
    }

    /// The name of a chromosome.
    pub fn chromosome(&self, k: usize) -> &str {
        &self.chromosomes[k].name
    }

    /// Chance of a peak to be open in a cell of this type.
    pub fn chance_open(&self, cell_type: usize, peak: usize) -> f64 {
        f64::from(self.open[cell_type][peak])
    }

    /// Does link `link` raise its gene in cells of this type? Only tissue has links that act in some types alone.
    pub fn acts_in(&self, link: usize, cell_type: usize) -> bool {
        self.tissue.as_ref().is_none_or(|t| t.acts[link][cell_type])
    }

    /// The gene whose promoter a peak is; of tissue only.
    pub fn promoter_of(&self, peak: usize) -> Option<usize> {
        self.tissue.as_ref().and_then(|t| t.promoter_of[peak])
    }

    /// The lineage of a cell type, from 0; of tissue only.
    pub fn lineage(&self, cell_type: usize) -> Option<usize> {
        self.tissue.as_ref().map(|t| t.lineage[cell_type])
    }
}
