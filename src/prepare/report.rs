//! What `prepare` made, counted.

use super::promoters::PromoterShare;
use crate::data::anndata::MatrixKind;

/// What `prepare` made.
#[derive(Debug, Clone, PartialEq)]
pub struct PrepareReport {
    /// N.
    pub cells: usize,
    /// G.
    pub genes: usize,
    /// P.
    pub peaks: usize,
    /// C, `chrUnknown` included where it occurs.
    pub chromosomes: usize,
    /// Gene entries of all cells.
    pub rna_entries: u64,
    /// Peak entries of all cells.
    pub atac_entries: u64,
    /// What the values are; `None` where there is no RNA.
    pub rna_kind: Option<MatrixKind>,
    /// What the values are; `None` where there is no ATAC.
    pub atac_kind: Option<MatrixKind>,
    /// With `like`: how the genes met those of the other data set.
    pub like_genes: Option<Met>,
    /// With `like`: how the peaks did.
    pub like_peaks: Option<Met>,
    /// Cells only in the RNA file, and only in the ATAC file.
    pub unmatched: (usize, usize),
    /// Cells dropped because they have no gene or no peak.
    pub empty: usize,
    /// Genes found in the GTF, where one was given.
    pub genes_in_gtf: Option<usize>,
    /// Shares of transcription starts with a peak near them; `None` where no gene has a start beside peaks.
    pub promoters: Option<PromoterShare>,
    /// Genes on `chrUnknown`.
    pub genes_unknown: usize,
    /// Peaks on `chrUnknown`.
    pub peaks_unknown: usize,
    /// Gene features beside the chromosome.
    pub gene_features: Vec<String>,
    /// Bases of DNA a peak; 0 without sequences.
    pub dna_length: usize,
    /// Cell types.
    pub cell_types: usize,
    /// Positives and negatives of `samples/default`.
    pub samples: (usize, usize),
    /// Training, validation, test samples.
    pub parts: (usize, usize, usize),
    /// Bytes on disk.
    pub bytes: u64,
    /// Hash of the data set.
    pub hash: String,
}

/// How features met those of another data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Met {
    /// In both.
    pub both: usize,
    /// Only in the other data set: no cell here has them.
    pub absent: usize,
    /// Only here: dropped.
    pub dropped: usize,
}
