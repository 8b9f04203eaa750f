//! Settings of `prepare`.

use std::path::PathBuf;

use crate::data::anndata::{MatrixKind, Streaming};
use crate::data::cells::Strip;
use crate::data::source::{Held, Select};
use crate::dataset::{Access, SampleConfig};
use crate::error::{Error, Result};

/// How cells of the two files are brought together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// By their names.
    ByBarcode,
    /// By their place in the file; the names are those of the RNA file.
    ByPosition,
}

/// Which gene features go beside the chromosome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GeneFeatures {
    /// None, as published for NeurIPS 2021.
    None,
    /// Those of means, variances_norm, strand, highly_variable that the file (for strand also the GTF) has.
    Present,
    /// These, which must be there; always in the order means, variances_norm, strand, highly_variable.
    Named(Vec<String>),
}

pub(crate) const FEATURE_NAMES: [&str; 4] = ["means", "variances_norm", "strand", "highly_variable"];

impl std::str::FromStr for GeneFeatures {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<Self, String> {
        match s {
            "none" => Ok(GeneFeatures::None),
            "present" => Ok(GeneFeatures::Present),
            _ => {
                let names: Vec<String> = s.split(',').map(|n| n.trim().to_string()).collect();
                match names.iter().find(|n| !FEATURE_NAMES.contains(&n.as_str())) {
                    Some(n) => Err(format!("no gene feature is named {n:?}; there are {}", FEATURE_NAMES.join(", "))),
                    None => Ok(GeneFeatures::Named(names)),
                }
            }
        }
    }
}

/// What `prepare` is to do.
#[derive(Debug, Clone)]
pub struct PrepareConfig {
    /// RNA, in any form that `prepare` reads; `None` only with `like`, for prediction.
    pub rna: Option<PathBuf>,
    /// ATAC, perhaps in the same file; `None` only with `like`, for prediction.
    pub atac: Option<PathBuf>,
    /// Data in memory, in the place of the files that are named as they are.
    pub held: Vec<Held>,
    /// A data set whose genes, peaks and features are taken over, so that a model trained on it meets these cells.
    /// Features are matched by name (peaks also by place); those it lacks are dropped, both with a count.
    pub like: Option<PathBuf>,
    /// How the data set of `like` is read.
    pub access: Access,
    /// Name of the published data set this is, for the record.
    pub dataset: Option<String>,
    /// Gene annotation.
    pub gtf: Option<PathBuf>,
    /// Take an annotation in which few of the genes are found.
    pub force_annotation: bool,
    /// Further names of chromosomes: see [`Aliases::read`](crate::data::chromosomes::Aliases::read).
    pub aliases: Option<PathBuf>,
    /// One sequence a peak.
    pub fasta: Option<PathBuf>,
    /// A table of cells (barcodes first, with a header): its columns come before those of the files.
    pub obs: Option<PathBuf>,
    /// What of the RNA file: layer, modality, genome.
    pub rna_select: Select,
    /// What of the ATAC file.
    pub atac_select: Select,
    /// What the RNA values must be; anything where `None`.
    pub rna_kind: Option<MatrixKind>,
    /// What the ATAC values must be.
    pub atac_kind: Option<MatrixKind>,
    /// Column of `obs` with the cell types; `None` takes `cell_type` if it is there.
    pub cell_type_column: Option<String>,
    /// Gene features beside the chromosome.
    pub gene_features: GeneFeatures,
    /// Smallest acceptable share of the cells of the smaller file that are in both.
    pub min_common: f64,
    /// How cells are brought together.
    pub pairing: Pairing,
    /// Whether barcodes are compared without what stands before and behind them.
    pub barcodes: Strip,
    /// Replace an existing data set.
    pub force: bool,
    /// How `samples/default` is drawn; without cell types it holds positives only.
    pub samples: SampleConfig,
    /// Bases of DNA kept a peak.
    pub dna_length: usize,
    /// Cells a shard.
    pub shard_cells: usize,
    /// Sizes of the blocks in memory.
    pub streaming: Streaming,
}

impl PrepareConfig {
    /// These two files (or twice one that holds both modalities), everything else as usual.
    pub fn new(rna: impl Into<PathBuf>, atac: impl Into<PathBuf>) -> Self {
        PrepareConfig {
            rna: Some(rna.into()),
            atac: Some(atac.into()),
            held: Vec::new(),
            like: None,
            access: Access::default(),
            dataset: None,
            gtf: None,
            force_annotation: false,
            aliases: None,
            fasta: None,
            obs: None,
            rna_select: Select::default(),
            atac_select: Select::default(),
            rna_kind: None,
            atac_kind: None,
            cell_type_column: None,
            gene_features: GeneFeatures::None,
            min_common: 0.5,
            pairing: Pairing::ByBarcode,
            barcodes: Strip::Auto,
            force: false,
            samples: SampleConfig::default(),
            dna_length: 256,
            shard_cells: 8192,
            streaming: Streaming::default(),
        }
    }
}

pub(crate) fn check_config(config: &PrepareConfig) -> Result<()> {
    if !(0.0..=1.0).contains(&config.min_common) {
        return Err(Error::usage(format!("--min-common is {}; it must lie in 0 to 1", config.min_common)));
    }
    if config.shard_cells == 0 || config.dna_length == 0 {
        return Err(Error::usage("a shard needs at least one cell and a peak at least one base"));
    }
    if config.like.is_some() {
        let taken = [
            (config.gtf.is_some(), "--gtf"),
            (config.fasta.is_some(), "--fasta"),
            (config.gene_features != GeneFeatures::None, "--gene-features"),
        ];
        if let Some((_, flag)) = taken.iter().find(|t| t.0) {
            return Err(Error::usage(format!("{flag} cannot go with --like, which brings annotation and features")));
        }
    }
    Ok(())
}
