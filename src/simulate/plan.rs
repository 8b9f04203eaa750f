//! What a plan is of: genes, peaks in their places, links.

use super::genome::Chromosome;

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

pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Peaks in their places.
pub(super) struct Placed {
    pub peaks: Vec<SimulatedPeak>,
    /// `[cell_types][P]` chance to be open.
    pub open: Vec<Vec<f32>>,
    /// Sorted by gene and peak.
    pub links: Vec<PlantedLink>,
}

/// Peaks of chromosome, start and width, sorted; of two that overlap, the right one moves right.
pub(super) fn settle(
    chromosomes: &[Chromosome],
    drafts: impl Iterator<Item = (usize, i64, i64)>,
) -> Vec<SimulatedPeak> {
    let mut free = (0, 0);
    drafts
        .map(|(chrom, start, width)| {
            let start = if free.0 == chrom { start.max(free.1) } else { start };
            let end = start + width;
            free = (chrom, end + 1);
            let name = format!("{}-{start}-{end}", chromosomes[chrom].name);
            SimulatedPeak { name, chrom, start, end, opened_by: None }
        })
        .collect()
}
