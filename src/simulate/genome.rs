//! Chromosomes of a simulation: how many, how long, and how many genes and peaks each has.

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// Bases kept free at both ends of a chromosome; no link is longer.
pub(super) const MARGIN: i64 = 600_000;
/// Bases of chromosome a gene, where chromosomes are even.
const GENE_SPACING: f64 = 150_000.0;

/// Chromosomes 1 to 22 and X of GRCh38, in megabases.
pub(super) const HUMAN: [i64; 23] =
    [249, 242, 198, 190, 182, 171, 159, 145, 138, 134, 135, 133, 114, 107, 102, 90, 83, 80, 59, 64, 47, 51, 156];

/// How the chromosomes of a simulation are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GenomeShape {
    /// All of a length, as many as are asked for: a gene in 150 kb.
    #[default]
    Even,
    /// The 23 of the human genome without Y, as long as those of GRCh38; genes and peaks in proportion.
    Human,
}

/// A chromosome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chromosome {
    pub name: String,
    /// In bases.
    pub length: i64,
    /// Genes on it.
    pub genes: usize,
    /// Peaks on it.
    pub peaks: usize,
}

impl Chromosome {
    /// A place on it, away from its ends.
    pub(super) fn place(&self, rng: &mut Rng) -> i64 {
        MARGIN + (rng.uniform() * (self.length - 2 * MARGIN).max(1) as f64) as i64
    }
}

impl GenomeShape {
    /// So many chromosomes, with as many genes and peaks in all.
    pub(super) fn chromosomes(self, chromosomes: usize, genes: usize, peaks: usize) -> Vec<Chromosome> {
        let sizes = match self {
            GenomeShape::Even => vec![1; chromosomes],
            GenomeShape::Human => HUMAN.to_vec(),
        };
        let total: i64 = sizes.iter().sum();
        let share = |n: usize, upto: i64| (n as i64 * upto / total) as usize;
        let mut done = 0;
        sizes
            .iter()
            .enumerate()
            .map(|(k, &size)| {
                let of = |n: usize| share(n, done + size) - share(n, done);
                let (genes, peaks) = (of(genes), of(peaks));
                done += size;
                let (name, length) = match self {
                    GenomeShape::Even => (format!("chr{}", k + 1), 2 * MARGIN + (genes as f64 * GENE_SPACING) as i64),
                    GenomeShape::Human if k == 22 => ("chrX".into(), size * 1_000_000),
                    GenomeShape::Human => (format!("chr{}", k + 1), size * 1_000_000),
                };
                Chromosome { name, length, genes, peaks }
            })
            .collect()
    }
}
