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
//! * *Sequences.* A motif for each cell type, planted into the first 256 bases of most peaks that the type opens, and into
//!   few of the others.
//! * *Batches*, where there are several: each has a depth of its own and shifts every gene a little.
//! * *Modules*, where there are any: states of a cell (cell cycle, stress, activation) that open half of the peaks and raise
//!   two fifths of the genes, each in one module. They go on within cell types, and correlate peaks and genes that have
//!   nothing to do with each other.
//!
//! [`Difficulty`] names three settings of links and confounders. [`SimulateConfig::neurips2021`] has the shape, sparsity
//! and skew of NeurIPS-2021 Multiome, on chromosomes as long as those of the human genome.
//!
//! Everything is a function of the configuration: cells are drawn from random streams of their own, in parallel.

pub mod cells;
pub mod files;
pub mod genome;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::prepare::presets::Preset;
use crate::rng::Rng;
use genome::Chromosome;

pub use cells::SimulatedCell;
pub use files::{Names, Simulated};
pub use genome::{Genome, MotifSite};

/// Bases kept free at both ends of a chromosome; no link is longer.
const MARGIN: i64 = 600_000;

/// Random streams of the seed.
const GENES: u64 = 0x5100_0000;
const PEAKS: u64 = 0x5200_0000;
const TYPES: u64 = 0x5300_0000;
const BATCHES: u64 = 0x5500_0000;
const MOTIFS: u64 = 0x5600_0000;
const CELLS: u64 = 0x54_0000_0000;
const OPEN: u64 = 0x55_0000_0000;
const SEQUENCES: u64 = 0x56_0000_0000;
const MODULES: u64 = 0x57_0000_0000;

/// How hard it is to tell links from other pairs near a gene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Difficulty {
    /// Peaks open independently of each other and of the cell type; links lie anywhere within 500 kb.
    Independent,
    /// Peaks open with cell types and in modules, as genes are expressed; links lie anywhere within 500 kb.
    Programs,
    /// As programs, with most links within 100 kb: distance says much, and evidence adds to it.
    Distance,
}

impl Difficulty {
    /// `config` with these links and confounders.
    pub fn apply(self, config: SimulateConfig) -> SimulateConfig {
        let c = SimulateConfig { uniform_links: self != Difficulty::Distance, ..config };
        match self {
            Difficulty::Independent => SimulateConfig { programmes: 0.0, modules: 0, ..c },
            Difficulty::Programs | Difficulty::Distance => SimulateConfig { programmes: 0.5, modules: 10, ..c },
        }
    }
}

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
    /// Chromosomes.
    pub chromosomes: usize,
    /// How long they are, and how many of the genes and peaks each has.
    pub genome: Genome,
    /// Cell types; each is 0.8 times as frequent as the one before it.
    pub cell_types: usize,
    /// Batches, all of a size; with one, `obs` says nothing of batches.
    pub batches: usize,
    /// Standard deviation between batches of the log depth of a modality, and of the log level of each gene.
    pub batch_sd: f64,
    /// Seed of everything.
    pub seed: u64,
    /// Share of the genes that have linked peaks.
    pub linked_genes: f64,
    /// Share of the links farther than 100 kb from the TSS.
    pub far_links: f64,
    /// Links lie anywhere within 500 kb of the TSS; `far_links` is then without effect.
    pub uniform_links: bool,
    /// Share of the peaks that some cell types open more than others.
    pub programmes: f64,
    /// Modules; 0: none.
    pub modules: usize,
    /// What one standard deviation of its module adds to the logit of a peak's chance to be open, and to a gene's log level.
    pub module_effect: [f64; 2],
    /// Smallest and largest effect of a link: log fold change of expression when its peak opens.
    pub effect: [f64; 2],
    /// Standard deviation of the log level between genes.
    pub gene_sd: f64,
    /// Mean and standard deviation between peaks of the logit of the chance to be open.
    pub openness: [f64; 2],
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
            cells: 4_000,
            genes: 500,
            peaks: 2_500,
            chromosomes: 8,
            genome: Genome::Even,
            cell_types: 6,
            batches: 1,
            batch_sd: 0.15,
            seed: 906,
            linked_genes: 0.6,
            far_links: 0.2,
            uniform_links: false,
            programmes: 0.5,
            modules: 0,
            module_effect: [1.0, 0.5],
            effect: [0.5, 1.5],
            gene_sd: 1.2,
            openness: [-2.2, 1.5],
            rna_depth: 250.0,
            depth_sd: 0.6,
            depth_correlation: 0.4,
            atac_rate: 0.5,
            atac_noise: 0.01,
        }
    }
}

impl SimulateConfig {
    /// The shape of NeurIPS-2021 Multiome: 69,249 cells × 13,431 genes × 116,490 peaks, 22 cell types in 24 batches,
    /// 23 chromosomes; near 1,000 genes and 4,000 peaks a cell.
    pub fn neurips2021() -> Self {
        SimulateConfig {
            cells: 69_249,
            genes: 13_431,
            peaks: 116_490,
            chromosomes: 23,
            genome: Genome::Human,
            cell_types: 22,
            batches: 24,
            gene_sd: 1.5,
            openness: [-3.73, 1.6],
            rna_depth: 1_150.0,
            atac_noise: 0.004,
            ..SimulateConfig::default()
        }
    }

    /// The shape of a published data set, where there is one for it.
    pub fn of_dataset(preset: &Preset) -> Option<Self> {
        (preset.name == "neurips2021").then(SimulateConfig::neurips2021)
    }

    /// Checks the numbers; the message names the field.
    pub fn validate(&self) -> Result<()> {
        let bad = |m: String| Err(Error::usage(format!("simulation: {m}")));
        for (name, n) in [
            ("cells", self.cells),
            ("genes", self.genes),
            ("peaks", self.peaks),
            ("chromosomes", self.chromosomes),
            ("cell_types", self.cell_types),
            ("batches", self.batches),
        ] {
            if n == 0 {
                return bad(format!("`{name}` is 0; it must be at least 1"));
            }
            if i32::try_from(n).is_err() {
                return bad(format!("`{name}` is {n}; at most {}", i32::MAX));
            }
        }
        if self.genome == Genome::Human && self.chromosomes != genome::HUMAN.len() {
            return bad(format!("`chromosomes` is {}; the human genome has {}", self.chromosomes, genome::HUMAN.len()));
        }
        for (name, n) in [("genes", self.genes), ("peaks", self.peaks)] {
            if n < self.chromosomes {
                return bad(format!(
                    "`{name}` is {n} for {} `chromosomes`; at least one each is needed",
                    self.chromosomes
                ));
            }
        }
        if self.cells < self.batches {
            return bad(format!("`cells` is {} for {} `batches`; give more cells", self.cells, self.batches));
        }
        if self.cells < self.cell_types {
            return bad(format!("`cells` is {} for {} `cell_types`; give more cells", self.cells, self.cell_types));
        }
        for (name, x) in [
            ("linked_genes", self.linked_genes),
            ("far_links", self.far_links),
            ("programmes", self.programmes),
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
            ("batch_sd", self.batch_sd, 2.0),
            ("gene_sd", self.gene_sd, 4.0),
            ("module_effect[0]", self.module_effect[0], 5.0),
            ("module_effect[1]", self.module_effect[1], 5.0),
            ("openness[1]", self.openness[1], 10.0),
            ("atac_rate", self.atac_rate, 1e3),
            ("atac_noise", self.atac_noise, 1e3),
        ] {
            if !(0.0..=most).contains(&x) {
                return bad(format!("`{name}` is {x}; it must lie in [0, {most}]"));
            }
        }
        if !(-20.0..=20.0).contains(&self.openness[0]) {
            return bad(format!("`openness[0]` is {}; it must lie in [-20, 20]", self.openness[0]));
        }
        if self.modules > 10_000 {
            return bad(format!("`modules` is {}; at most 10000", self.modules));
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
    /// The cell type whose chance to be open is raised most, where the peak has a programme.
    pub opened_by: Option<usize>,
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

/// The plan of a simulation: genes, peaks and links. Cells are drawn from it one by one.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    config: SimulateConfig,
    chromosomes: Vec<Chromosome>,
    genes: Vec<SimulatedGene>,
    peaks: Vec<SimulatedPeak>,
    links: Vec<PlantedLink>,
    /// The motif of each cell type.
    motifs: Vec<String>,
    /// Cumulative shares of the cell types.
    types: Vec<f64>,
    /// `[cell_types][G]` share of a cell's expression, before links.
    level: Vec<Vec<f64>>,
    /// `[cell_types][P]` chance to be open.
    open: Vec<Vec<f32>>,
    /// `[G]` and `[P]` module of each gene and peak; [`NO_MODULE`]; empty without modules.
    modules: [Vec<u32>; 2],
    /// `[batches]` factors of the RNA and ATAC depths, and of each gene's level.
    batches: Vec<cells::BatchEffect>,
    /// `[G]` where the links of a gene start in `links`, and one more.
    link_start: Vec<usize>,
    /// What a link multiplies its gene by while its peak is [closed, open]; 1 on average over cell types.
    link_factor: Vec<[f64; 2]>,
}

/// In no module.
const NO_MODULE: u32 = u32::MAX;

/// A peak before its place is final: chromosome, start, width, and the gene and effect of its link.
type Draft = (usize, i64, i64, Option<(usize, f64)>);

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
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
        let chromosomes = c.genome.chromosomes(c);
        let between = |rng: &mut Rng, k: usize| {
            MARGIN + (rng.uniform() * (chromosomes[k].length - 2 * MARGIN).max(1) as f64) as i64
        };
        let mut genes: Vec<SimulatedGene> = Vec::with_capacity(c.genes);
        let mut level = vec![Vec::with_capacity(c.genes); c.cell_types];
        for (k, chromosome) in chromosomes.iter().enumerate() {
            let mut tss: Vec<i64> = (0..chromosome.genes).map(|_| between(&mut rng, k)).collect();
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

        // Peaks: those of the links first, then others, until each chromosome has its share; at most half are linked.
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
                let middle = between(&mut rng, k);
                draft(&mut rng, k, middle, None);
            }
        }
        // By position; of two that overlap, the right one moves right.
        drafts.sort_by_key(|a| (a.0, a.1, a.2));
        let mut peaks: Vec<SimulatedPeak> = Vec::with_capacity(c.peaks);
        let mut open = vec![Vec::with_capacity(c.peaks); c.cell_types];
        let mut links = Vec::new();
        let mut free = (0, 0);
        let mut rng = Rng::new(c.seed, TYPES);
        for (i, &(chrom, start, width, link)) in drafts.iter().enumerate() {
            let start = if free.0 == chrom { start.max(free.1) } else { start };
            let end = start + width;
            free = (chrom, end + 1);
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
            let name = format!("{}-{start}-{end}", chromosomes[chrom].name);
            peaks.push(SimulatedPeak { name, chrom, start, end, opened_by: programme.then_some(most.1) });
            if let Some((gene, effect)) = link {
                links.push(PlantedLink { gene, peak: i, effect });
            }
        }
        links.sort_by_key(|l| (l.gene, l.peak));
        let link_start = (0..=c.genes).map(|g| links.partition_point(|l| l.gene < g)).collect();
        let link_factor = links
            .iter()
            .map(|l: &PlantedLink| {
                let often = open.iter().map(|o| f64::from(o[l.peak])).sum::<f64>() / open.len() as f64;
                let fold = l.effect.exp();
                let mean = 1.0 + often * (fold - 1.0);
                [1.0 / mean, fold / mean]
            })
            .collect();
        let motifs = genome::motifs(c.cell_types, &mut Rng::new(c.seed, MOTIFS));
        let batches = cells::BatchEffect::draw(c);
        let mut rng = Rng::new(c.seed, MODULES);
        let modules = [(c.genes, 0.4), (c.peaks, 0.5)].map(|(n, share)| {
            let n = if c.modules == 0 { 0 } else { n };
            (0..n).map(|_| if rng.uniform() < share { rng.below(c.modules) as u32 } else { NO_MODULE }).collect()
        });
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
}
