//! Motifs, and the sequences of peaks that they are planted into.

use super::simulation::Simulation;
use super::streams::SEQUENCES;
use crate::rng::Rng;

/// Motifs lie within the bases that the model reads.
const READ: usize = 256;
/// Share of the peaks of a motif's own type that carry it, and of the others that carry any.
const PLANTED: [f64; 2] = [0.7, 0.05];
/// Chance of each base of a planted motif to be another.
const MUTATED: f64 = 0.05;

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
