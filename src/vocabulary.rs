//! Genes, peaks, chromosomes and cell types of a data set: their names and places.

/// |TSS − peak midpoint| in bases, halves included; `None` where either is unknown.
pub fn distance(v: &Vocabulary, gene: u32, peak: u32) -> Option<f64> {
    let (g, p) = (v.genes.get(gene as usize)?, v.peaks.get(peak as usize)?);
    let tss = g.tss?;
    (p.start >= 0 && p.end >= 0).then(|| (tss as f64 - (p.start as f64 + p.end as f64) / 2.0).abs())
}

/// Peak midpoint − TSS in bases, halves included: above 0 where the peak lies at larger coordinates, whatever the strand;
/// `None` where either is unknown.
pub fn signed_distance(v: &Vocabulary, gene: u32, peak: u32) -> Option<f64> {
    let p = v.peaks.get(peak as usize)?;
    let right = (p.start as f64 + p.end as f64) / 2.0 >= v.genes.get(gene as usize)?.tss? as f64;
    distance(v, gene, peak).map(|d| if right { d } else { -d })
}

/// A gene of the vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Gene {
    /// Name, as in `var_names` of the RNA file.
    pub name: String,
    /// Index into [`Vocabulary::chromosomes`].
    pub chrom: u32,
    /// Transcription start, 0-based, where known.
    pub tss: Option<i64>,
}

/// A peak of the vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Peak {
    /// Name, as in `var_names` of the ATAC file.
    pub name: String,
    /// Index into [`Vocabulary::chromosomes`].
    pub chrom: u32,
    /// Start, 0-based; -1 where unknown.
    pub start: i64,
    /// End, exclusive; -1 where unknown.
    pub end: i64,
}

/// Names of everything, in the order of the data set (which is the order of the id tables).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Vocabulary {
    /// Chromosomes, in order of first appearance over genes, then peaks.
    pub chromosomes: Vec<String>,
    /// Which of them is `chrUnknown`, if it occurs.
    pub unknown: Option<u32>,
    /// Genes, G of them.
    pub genes: Vec<Gene>,
    /// Peaks, P of them.
    pub peaks: Vec<Peak>,
    /// Barcodes, N of them.
    pub cells: Vec<String>,
    /// Names of cell types; empty where the data have none.
    pub cell_types: Vec<String>,
    /// `[N]` index into `cell_types`; empty where the data have none.
    pub cell_type: Vec<u32>,
    /// Other columns that describe cells (batch, donor, site, …), those of few distinct values.
    pub obs: Vec<ObsColumn>,
}

/// A column of `obs` that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObsColumn {
    /// Its name.
    pub name: String,
    /// Distinct values, sorted; fewer than 2^16.
    pub categories: Vec<String>,
    /// `[N]` index into `categories`, or [`ObsColumn::MISSING`].
    pub codes: Vec<u32>,
}

impl ObsColumn {
    /// Code of a cell without a value.
    pub const MISSING: u32 = u32::MAX;

    /// Value of a cell, if it has one.
    pub fn value(&self, cell: usize) -> Option<&str> {
        self.categories.get(*self.codes.get(cell)? as usize).map(String::as_str)
    }
}

/// Name of the chromosome of genes and peaks that have none; it matches nothing, itself included.
pub const UNKNOWN: &str = "chrUnknown";

/// Names of columns that tell replicates (donors, batches), in the order in which they are taken; case is ignored.
pub(crate) const REPLICATE_COLUMNS: [&str; 14] = [
    "batch",
    "replicate",
    "sample",
    "sample_id",
    "sampleid",
    "library",
    "library_id",
    "donor",
    "donor_id",
    "donorid",
    "individual",
    "patient",
    "orig.ident",
    "site",
];
