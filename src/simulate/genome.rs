//! Chromosomes of a simulation, motifs, and the sequences of its peaks.

use serde::{Deserialize, Serialize};

use super::{MARGIN, SEQUENCES, SimulateConfig, Simulation};
use crate::rng::Rng;

/// Bases of chromosome a gene, where chromosomes are even.
const GENE_SPACING: f64 = 150_000.0;
/// Motifs lie within the bases that the model reads.
const READ: usize = 256;
/// Bases of a motif.
const MOTIF: usize = 12;
/// Share of the peaks of a motif's own type that carry it, and of the others that carry any.
const PLANTED: [f64; 2] = [0.7, 0.05];
/// Chance of each base of a planted motif to be another.
const MUTATED: f64 = 0.05;

/// Chromosomes 1 to 22 and X of GRCh38, in megabases.
pub(super) const HUMAN: [i64; 23] =
    [249, 242, 198, 190, 182, 171, 159, 145, 138, 134, 135, 133, 114, 107, 102, 90, 83, 80, 59, 64, 47, 51, 156];

/// How the chromosomes of a simulation are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Genome {
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

impl Genome {
    /// The chromosomes of a simulation.
    pub(super) fn chromosomes(self, c: &SimulateConfig) -> Vec<Chromosome> {
        let sizes = match self {
            Genome::Even => vec![1; c.chromosomes],
            Genome::Human => HUMAN.to_vec(),
        };
        let total: i64 = sizes.iter().sum();
        let share = |n: usize, upto: i64| (n as i64 * upto / total) as usize;
        let mut done = 0;
        sizes
            .iter()
            .enumerate()
            .map(|(k, &size)| {
                let of = |n: usize| share(n, done + size) - share(n, done);
                let (genes, peaks) = (of(c.genes), of(c.peaks));
                done += size;
                let (name, length) = match self {
                    Genome::Even => (format!("chr{}", k + 1), 2 * MARGIN + (genes as f64 * GENE_SPACING) as i64),
                    Genome::Human if k == 22 => ("chrX".into(), size * 1_000_000),
                    Genome::Human => (format!("chr{}", k + 1), size * 1_000_000),
                };
                Chromosome { name, length, genes, peaks }
            })
            .collect()
    }
}

/// Draws `n` motifs.
pub(super) fn motifs(n: usize, rng: &mut Rng) -> Vec<String> {
    (0..n).map(|_| (0..MOTIF).map(|_| ['A', 'C', 'G', 'T'][rng.below(4)]).collect()).collect()
}

/// A motif planted into the sequence of a peak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MotifSite {
    /// Cell type whose motif it is.
    pub cell_type: usize,
    /// First base within the peak, from 0.
    pub at: usize,
    /// Bases.
    pub length: usize,
    /// On the forward strand?
    pub forward: bool,
}

impl Simulation {
    /// The sequence of a peak, and the motif planted into it, if any: a pure function of the configuration and `peak`.
    pub fn sequence(&self, peak: usize) -> (Vec<u8>, Option<MotifSite>) {
        let p = &self.peaks[peak];
        let mut rng = Rng::new(self.config.seed, SEQUENCES + peak as u64);
        let gc = (0.47 + 0.08 * rng.normal()).clamp(0.2, 0.8);
        let mut bases: Vec<u8> = (0..(p.end - p.start).max(0) as usize)
            .map(|_| {
                let u = rng.uniform();
                match u < gc {
                    true => b"CG"[usize::from(u < gc / 2.0)],
                    false => b"AT"[usize::from(u - gc < (1.0 - gc) / 2.0)],
                }
            })
            .collect();
        let (own, other) = (rng.uniform() < PLANTED[0], rng.uniform() < PLANTED[1]);
        let any = rng.below(self.motifs.len());
        let cell_type = match p.opened_by {
            Some(t) if own => t,
            _ if other => any,
            _ => return (bases, None),
        };
        let motif = self.motifs[cell_type].as_bytes();
        let Some(room) = bases.len().min(READ).checked_sub(motif.len()) else { return (bases, None) };
        let site = MotifSite { cell_type, at: rng.below(room + 1), length: motif.len(), forward: rng.below(2) == 1 };
        for (i, &base) in motif.iter().enumerate() {
            let base = if rng.uniform() < MUTATED { b"ACGT"[rng.below(4)] } else { base };
            let (to, base) = match site.forward {
                true => (i, base),
                false => (motif.len() - 1 - i, complement(base)),
            };
            bases[site.at + to] = base;
        }
        (bases, Some(site))
    }
}

fn complement(base: u8) -> u8 {
    match base {
        b'A' => b'T',
        b'C' => b'G',
        b'G' => b'C',
        _ => b'A',
    }
}
