//! What an annotation found, counted.

use std::path::PathBuf;

use serde::Serialize;

/// What was found, and what was not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnnotateReport {
    /// Genes.
    pub genes: GeneCounts,
    /// Peaks.
    pub peaks: PeakCounts,
    /// Sequences of the peaks, where a genome or a FASTA was given.
    pub sequences: Option<SequenceCounts>,
    /// Variable genes, where they were computed.
    pub variable_genes: Option<VariableCounts>,
    /// Why they were not.
    pub no_variable_genes: Option<String>,
    /// The RNA file.
    pub rna: Written,
    /// The ATAC file.
    pub atac: Written,
    /// The FASTA of the peaks.
    pub peaks_fasta: Option<PathBuf>,
}

/// Genes by how they were located.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GeneCounts {
    /// All.
    pub all: usize,
    /// In the GTF by id.
    pub by_id: usize,
    /// In the GTF by name.
    pub by_name: usize,
    /// Not in the GTF (0 without one).
    pub not_in_gtf: usize,
    /// Up to three names of these.
    pub not_in_gtf_names: Vec<String>,
    /// Had a chromosome in the file.
    pub had_chromosome: usize,
    /// In the file on another chromosome than in the GTF; the file's is kept.
    pub other_chromosome: usize,
    /// Without a chromosome in the end.
    pub unknown: usize,
}

/// Peaks by where their places are from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PeakCounts {
    /// All.
    pub all: usize,
    /// From columns of the file.
    pub from_columns: usize,
    /// From the names of the peaks.
    pub from_names: usize,
    /// Without a place: no columns, and a name of another form.
    pub not_parsed: usize,
    /// Up to three names of these.
    pub not_parsed_names: Vec<String>,
    /// Without a chromosome.
    pub unknown: usize,
}

/// Peaks by what is known of their sequences.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SequenceCounts {
    /// From the FASTA of the peaks.
    pub from_fasta: usize,
    /// Were the records of the FASTA matched by header (not by position)?
    pub fasta_by_header: Option<bool>,
    /// From the genome, within their chromosome.
    pub whole: usize,
    /// From the genome, reaching beyond the end of their chromosome: padded with `N`.
    pub beyond: usize,
    /// On a chromosome that the genome lacks: all `N`.
    pub no_chromosome: usize,
    /// These chromosomes.
    pub lacking: Vec<String>,
    /// Without a place: all `N`.
    pub no_place: usize,
    /// In no record of the FASTA, and no genome given: all `N`.
    pub not_in_fasta: usize,
    /// Bases a peak.
    pub length: usize,
}

/// Variable genes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VariableCounts {
    /// Where the counts are: `X` or `layers/NAME`.
    pub counts: String,
    /// Genes that vary.
    pub varying: usize,
    /// The most variable, as many as wanted and there.
    pub top: usize,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Its path.
    pub path: PathBuf,
    /// Columns of `var` that are new or were filled.
    pub columns: Vec<String>,
    /// Columns of `var` that were complete and stayed as they were.
    pub kept: Vec<String>,
    /// A copy of the input with these columns (else written anew: names, columns, matrices).
    pub copied: bool,
}
