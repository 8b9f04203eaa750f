//! What a region is made of.

use serde::{Deserialize, Serialize};

use crate::data::exons::GeneModel;

/// A region of the genome, as it is drawn. Places are 0-based and half-open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Chromosome.
    pub chrom: String,
    /// First base.
    pub start: i64,
    /// One past the last base.
    pub end: i64,
    /// The gene it is about; `None` where a region was asked for.
    pub gene: Option<Focus>,
    /// Peaks in it, by start.
    pub peaks: Vec<[i64; 2]>,
    /// What a height counts, in words.
    pub unit: String,
    /// Bases a step of the heights; `None` where there is a height for each peak.
    pub step: Option<i64>,
    /// A row for each cell type.
    pub types: Vec<Row>,
    /// Genes in it, by start.
    pub genes: Vec<GeneModel>,
    /// What is known of them.
    pub known: Known,
    /// Links, where there is a discovery.
    pub links: Option<Links>,
    /// What the expression is, in words.
    pub expression: String,
}

/// The gene that a region is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Focus {
    /// Name.
    pub name: String,
    /// Transcription start, where known.
    pub tss: Option<i64>,
}

/// A cell type in a region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its cells.
    pub cells: usize,
    /// Coverage, of each peak or of each step: per 1,000 bases.
    pub heights: Vec<f32>,
    /// Share of its cells that have the gene; `None` where the region is about no gene of the data.
    pub share: Option<f32>,
    /// Mean expression of the gene.
    pub mean: Option<f32>,
}

/// What is known of the genes of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Known {
    /// Exons.
    Exons,
    /// Where they begin and end.
    Spans,
    /// Transcription starts of the genes of the data.
    Starts,
}

/// Links of a region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Links {
    /// By falling probability.
    pub shown: Vec<RegionLink>,
    /// Those there are of the gene, or within the region.
    pub of: usize,
    /// Which count, in words.
    pub which: String,
    /// The greatest probability of a pair, whether it counts or not; `None` where no pair was tested.
    pub best: Option<f64>,
}

/// A link between a gene and a peak.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegionLink {
    /// Gene.
    pub gene: String,
    /// Its transcription start.
    pub tss: i64,
    /// The peak.
    pub peak: [i64; 2],
    /// 0 to 1.
    pub probability: f64,
    /// False discovery rate of links like it or better.
    pub qvalue: f64,
}

/// What of a region is wanted.
#[derive(Debug, Clone, Default)]
pub struct RegionOptions {
    /// Bases either side of the TSS of a gene, or beyond the ends of a region; `None`: of a gene as many as its links need.
    pub around: Option<i64>,
    /// Only these cell types, in this order; all where empty.
    pub cell_types: Vec<String>,
    /// Largest q of links; `None`: that of the discovery, or any where only a probability is asked for.
    pub max_q: Option<f64>,
    /// Least probability of links; `None`: that of the discovery.
    pub min_probability: Option<f64>,
    /// Links at most, the best first.
    pub top: Option<usize>,
}
