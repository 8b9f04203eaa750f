//! Settings of a simulation: sizes, difficulty, seed, and the shapes of published data sets.

use serde::{Deserialize, Serialize};

use super::genome::{GenomeShape, HUMAN};
use super::settings::Tissue;
use crate::error::{Error, Result};
use crate::prepare::presets::Preset;

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
    /// As tissue is: lineages and types, regulators that peaks and genes share, promoter peaks, links that act in some
    /// types and get rarer with distance, counts as sparse as in real cells.
    Tissue,
}

impl Difficulty {
    /// `config` with these links and confounders.
    pub fn apply(self, config: SimulateConfig) -> SimulateConfig {
        if self == Difficulty::Tissue {
            return tissue_config(config);
        }
        let c = SimulateConfig { uniform_links: self != Difficulty::Distance, tissue: None, ..config };
        match self {
            Difficulty::Independent => SimulateConfig { programmes: 0.0, modules: 0, ..c },
            Difficulty::Programs | Difficulty::Distance | Difficulty::Tissue => {
                SimulateConfig { programmes: 0.5, modules: 10, ..c }
            }
        }
    }
}

/// `config` as tissue. Depth and sparsity are those of SNARE-seq mouse cortex, counts a gene and cell and a peak and cell,
/// unless `config` has others than the demo's: those of a data set stay.
fn tissue_config(config: SimulateConfig) -> SimulateConfig {
    let demo = SimulateConfig::default();
    let sparsity = |c: &SimulateConfig| (c.rna_depth, c.gene_sd, c.openness, c.atac_rate, c.atac_noise);
    let c =
        SimulateConfig { programmes: 0.8, modules: 0, uniform_links: false, tissue: Some(Tissue::default()), ..config };
    if sparsity(&c) != sparsity(&demo) {
        return c;
    }
    SimulateConfig {
        rna_depth: COUNTS_A_GENE * c.genes as f64,
        gene_sd: 1.7,
        openness: [-3.0, 2.2],
        depth_correlation: 0.5,
        atac_rate: 0.016,
        atac_noise: 1e-4,
        ..c
    }
}

/// RNA counts a gene in a cell of median depth, in SNARE-seq mouse cortex: 247 of 1,677 genes.
const COUNTS_A_GENE: f64 = 0.147;

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
    pub genome: GenomeShape,
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
    /// Genes, peaks and links as in tissue, made as this says; `far_links`, `uniform_links`, `modules` and `module_effect` are then without
    /// effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tissue: Option<Tissue>,
}

impl Default for SimulateConfig {
    fn default() -> Self {
        SimulateConfig {
            cells: 4_000,
            genes: 500,
            peaks: 2_500,
            chromosomes: 8,
            genome: GenomeShape::Even,
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
            tissue: None,
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
            genome: GenomeShape::Human,
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
    ///
    /// # Errors
    /// [`Error::Usage`].
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
        if self.genome == GenomeShape::Human && self.chromosomes != HUMAN.len() {
            return bad(format!("`chromosomes` is {}; the human genome has {}", self.chromosomes, HUMAN.len()));
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
        self.tissue.as_ref().map_or(Ok(()), Tissue::validate)
    }
}
