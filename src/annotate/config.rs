//! Settings of `annotate`.

use std::path::PathBuf;

use crate::data::anndata::Streaming;
use crate::data::source::Select;

/// What [`annotate`](super::annotate) is to do.
#[derive(Debug, Clone)]
pub struct AnnotateConfig {
    /// RNA, in any form that [`source::open`](crate::data::source::open) reads.
    pub rna: PathBuf,
    /// ATAC; may be the same file.
    pub atac: PathBuf,
    /// What of the RNA file.
    pub rna_select: Select,
    /// What of the ATAC file.
    pub atac_select: Select,
    /// Gene annotation.
    pub gtf: Option<PathBuf>,
    /// Take an annotation in which few of the genes are found.
    pub force_annotation: bool,
    /// Further names of chromosomes: see [`Aliases::read`](crate::data::chromosomes::Aliases::read).
    pub aliases: Option<PathBuf>,
    /// Genome to read the peaks from: see [`Genome::open`](crate::data::genome::Genome::open).
    pub genome: Option<PathBuf>,
    /// Sequences of the peaks that are there already; the genome fills in what is missing.
    pub fasta: Option<PathBuf>,
    /// Number of top genes; `None` leaves the columns of variable genes out.
    pub top_genes: Option<usize>,
    /// Layer with the counts; `X` if it holds counts, else the layer `counts`, where `None`.
    pub counts_layer: Option<String>,
    /// Replace values that are there by those of the GTF and of the counts.
    pub overwrite: bool,
    /// Bases of DNA a peak.
    pub dna_length: usize,
    /// Sizes of the blocks in memory.
    pub streaming: Streaming,
}

impl AnnotateConfig {
    /// These two files, everything else as usual.
    pub fn new(rna: impl Into<PathBuf>, atac: impl Into<PathBuf>) -> Self {
        AnnotateConfig {
            rna: rna.into(),
            atac: atac.into(),
            rna_select: Select::default(),
            atac_select: Select::default(),
            gtf: None,
            force_annotation: false,
            aliases: None,
            genome: None,
            fasta: None,
            top_genes: Some(2000),
            counts_layer: None,
            overwrite: false,
            dna_length: 256,
            streaming: Streaming::default(),
        }
    }
}
