//! Pairs that are no links: a pair's gene with peaks of other chromosomes that are open as often.

use rayon::prelude::*;

use super::law::{quantile_classes, upper_quantile};
use crate::rng::philox;
use crate::vocabulary::Vocabulary;

/// Draws of all pairs together, about.
const DRAWS: usize = 3_000_000;
/// Fewest and most draws a pair.
const PER_PAIR: (usize, usize) = (4, 40);
/// Stream of the draws.
const STREAM: u32 = 0x7472_616e;
/// Classes of accessibility and of genes.
const MOST_CLASSES: (usize, usize) = (20, 5);
/// Draws that a stratum holds at least, about.
const STRATUM: usize = 1000;
/// Share of the null beyond which its law is exponential.
const TAIL: f64 = 0.02;

/// Peaks drawn for pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct Draws {
    /// `[pairs + 1]` where the draws of a pair start.
    pub start: Vec<usize>,
    /// Peaks.
    pub peaks: Vec<u32>,
}

/// Classes of what is open about as often.
pub(super) struct Strata {
    /// `[P]` class of accessibility.
    pub peak: Vec<u16>,
    /// `[G]` class of the gene.
    pub gene: Vec<u16>,
    /// Classes of genes.
    genes: usize,
}

impl Strata {
    /// As many classes as `draws` fill: of peaks by how often they are open, of genes by `signal`.
    pub fn new(open: &[f64], signal: &[f64], draws: usize) -> Self {
        let peaks = (draws / (2 * STRATUM)).clamp(1, MOST_CLASSES.0);
        let genes = (draws / (peaks * STRATUM)).clamp(1, MOST_CLASSES.1);
        Strata { peak: quantile_classes(open, peaks), gene: quantile_classes(signal, genes), genes }
    }

    /// Stratum of a pair.
    pub fn of(&self, gene: u32, peak: u32) -> usize {
        usize::from(self.peak[peak as usize]) * self.genes + usize::from(self.gene[gene as usize])
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.peak.iter().max().map_or(0, |m| m + 1)) * self.genes
    }
}

impl Draws {
    /// For `pairs` (gene, peak): peaks of the same class of `MOST_CLASSES.0` by how often they are `open`, on another
    /// chromosome; where a class has none there, any peak of another chromosome that is open. `None` where genes and peaks lie
    /// on one chromosome only.
    pub fn new(v: &Vocabulary, pairs: &[(u32, u32)], open: &[f64], seed: u64) -> Option<Draws> {
        let there: Vec<u32> = (0u32..).zip(open).filter(|(_, o)| **o > 0.0).map(|x| x.0).collect();
        let chrom = |p: u32| v.peaks[p as usize].chrom;
        let first = chrom(*there.first()?);
        if pairs.is_empty() || there.iter().all(|&p| chrom(p) == first) {
            return None;
        }
        let of_open: Vec<f64> = there.iter().map(|&p| open[p as usize]).collect();
        let class = quantile_classes(&of_open, MOST_CLASSES.0);
        let mut members = vec![Vec::new(); MOST_CLASSES.0];
        let mut class_of = vec![0u16; open.len()];
        for (&p, &c) in there.iter().zip(&class) {
            members[usize::from(c)].push(p);
            class_of[p as usize] = c;
        }
        let per = (DRAWS / pairs.len()).clamp(PER_PAIR.0, PER_PAIR.1);
        let key = [seed as u32, (seed >> 32) as u32];
        let draw = |(gene, peak): (u32, u32), i: usize| {
            let own = v.genes[gene as usize].chrom;
            let pick = |from: &[u32], round: u32| {
                let r = philox([gene, peak, i as u32, STREAM ^ round], key)[0];
                from[((u64::from(r) * from.len() as u64) >> 32) as usize]
            };
            let alike = &members[usize::from(class_of[peak as usize])];
            let alike = (0..40).map(|round| pick(alike, round)).find(|&p| chrom(p) != own);
            alike.or_else(|| (40..400).map(|round| pick(&there, round)).find(|&p| chrom(p) != own))
        };
        let drawn: Vec<Option<u32>> =
            pairs.par_iter().flat_map_iter(|&pair| (0..per).map(move |i| draw(pair, i))).collect();
        let start = (0..=pairs.len()).map(|i| i * per).collect();
        Some(Draws { start, peaks: drawn.into_iter().collect::<Option<Vec<u32>>>()? })
    }

    /// Draws of a pair.
    pub fn of(&self, pair: usize) -> &[u32] {
        &self.peaks[self.start[pair]..self.start[pair + 1]]
    }

    /// (gene, drawn peak) of all draws, pair by pair.
    pub fn null(&self, pairs: &[(u32, u32)]) -> Vec<(u32, u32)> {
        pairs.iter().enumerate().flat_map(|(i, &(g, _))| self.of(i).iter().map(move |&p| (g, p))).collect()
    }

    /// `[draws]` weight of each, so that all of a pair together weigh 1.
    pub fn weights(&self) -> Vec<f32> {
        let of = |w: &[usize]| std::iter::repeat_n(1.0 / (w[1] - w[0]).max(1) as f32, w[1] - w[0]);
        self.start.windows(2).flat_map(of).collect()
    }

    /// Only the draws that `keep` says, by their place. Pairs are tested where enough cells have both: draws are to be no
    /// different.
    pub fn kept(&self, keep: impl Fn(usize) -> bool) -> Draws {
        let (mut start, mut peaks) = (vec![0], Vec::with_capacity(self.peaks.len()));
        for of in self.start.windows(2) {
            peaks.extend((of[0]..of[1]).filter(|&i| keep(i)).map(|i| self.peaks[i]));
            start.push(peaks.len());
        }
        Draws { start, peaks }
    }
}

/// Part of one draw, down to which the chance of a score is told.
const BEYOND: f64 = 1e-4;
/// Draws that a stratum needs to count by itself.
const FEW: usize = 20;

/// The law of a statistic among pairs that are no links, by stratum.
pub(super) struct NullLaw {
    strata: Vec<Stratum>,
    /// That of all strata, for those with few draws.
    all: Option<Stratum>,
}

struct Stratum {
    sorted: Vec<f64>,
    /// `[n + 1]` weight before each.
    before: Vec<f64>,
    /// Where the upper and the lower (turned round) tail begin, and their mean excess.
    tails: [(f64, f64); 2],
}

impl Stratum {
    /// Of values and their weights, which are scaled to be 1 on average.
    fn new(mut values: Vec<(f64, f64)>) -> Self {
        values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let n = values.len() as f64;
        let scale = n / values.iter().map(|x| x.1).sum::<f64>().max(1e-300);
        values.iter_mut().for_each(|x| x.1 *= scale);
        let tail = |x: &mut dyn Iterator<Item = (f64, f64)>| {
            let (mut left, mut from, mut beyond, mut sum) = (TAIL * n, f64::INFINITY, 0.0, 0.0);
            for (x, w) in x {
                from = x;
                if left <= 0.0 {
                    break;
                }
                let w = w.min(left);
                (left, beyond, sum) = (left - w, beyond + w, sum + w * x);
            }
            (from, if beyond > 0.0 { sum / beyond - from } else { 0.0 })
        };
        let tails = [tail(&mut values.iter().rev().copied()), tail(&mut values.iter().map(|&(x, w)| (-x, w)))];
        let mut before = vec![0.0];
        values.iter().for_each(|x| before.push(before[before.len() - 1] + x.1));
        Stratum { sorted: values.into_iter().map(|x| x.0).collect(), before, tails }
    }

    fn z(&self, x: f64) -> f64 {
        let n = self.sorted.len() as f64;
        let below = self.before[self.sorted.partition_point(|&s| s < x)];
        let upto = self.before[self.sorted.partition_point(|&s| s <= x)];
        let survival = (n - 0.5 * (below + upto) + 0.5) / (n + 1.0);
        // Beyond the outer share the law is taken to fall off exponentially: ties at the end of the null, or its being
        // finite, would else bound what a pair can show. Far beyond what so many draws can tell, it only orders pairs.
        let tail = |x: f64, (from, mean): (f64, f64), survival: f64| {
            if mean <= 0.0 || x <= from {
                return upper_quantile(survival);
            }
            let (log, least) = (TAIL.ln() - (x - from) / mean, (BEYOND / (n + 1.0)).ln());
            upper_quantile(log.max(least).exp()) + 0.05 * (least - log).max(0.0).ln_1p()
        };
        if survival < 0.5 { tail(x, self.tails[0], survival) } else { -tail(-x, self.tails[1], 1.0 - survival) }
    }
}

impl NullLaw {
    /// Of null pairs (stratum, value, weight).
    pub fn new(strata: usize, null: impl Iterator<Item = (usize, f64, f64)>) -> Self {
        let mut values = vec![Vec::new(); strata.max(1)];
        null.for_each(|(s, x, w)| values[s].push((x, w)));
        let few = values.iter().any(|v| v.len() < FEW);
        let all = few.then(|| Stratum::new(values.concat()));
        NullLaw { strata: values.into_par_iter().map(Stratum::new).collect(), all }
    }

    /// Normal score of a value among the null pairs of a stratum; 0 where there is none at all.
    pub fn z(&self, stratum: usize, x: f64) -> f64 {
        let own = &self.strata[stratum];
        let s = self.all.as_ref().filter(|_| own.sorted.len() < FEW).unwrap_or(own);
        if s.sorted.is_empty() { 0.0 } else { s.z(x) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn null_values_become_normal() {
        let mut rng = Rng::new(2, 9);
        let values: Vec<f64> = (0..20_000).map(|_| rng.normal().exp()).collect();
        let law = NullLaw::new(1, values.iter().map(|&x| (0, x, 3.0)));
        let z: Vec<f64> = values.iter().map(|&x| law.z(0, x)).collect();
        let mean = z.iter().sum::<f64>() / 2e4;
        let variance = z.iter().map(|z| z * z).sum::<f64>() / 2e4;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        assert!(law.z(0, 1e3) > 5.0 && law.z(0, f64::MIN_POSITIVE) < -3.0);
        let rising: Vec<f64> = (0..400).map(|i| law.z(0, f64::from(i) * 0.1)).collect();
        assert!(rising.is_sorted());
        // Ties share a score.
        let tied = NullLaw::new(1, (0..1000).map(|i| (0, f64::from(i % 2), 1.0)));
        assert!((tied.z(0, 1.0) + tied.z(0, 0.0)).abs() < 0.01);
    }
}
