//! Effects: what a pair shows in each replicate, and in all of them together.

use rayon::prelude::*;

use super::draws::{Draws, Strata};
use super::profiles::{Profiles, dot, profile, weights};
use super::tables::Counts;

/// Cells of a kind that a replicate needs for the kind to count in it.
const CELLS_OF_KIND: u32 = 5;
/// Added to counts in a replicate, at least.
const LEAST_PSEUDO: f64 = 0.1;

/// What a pair shows over replicates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effect {
    /// Natural log of the gene's expression a standard deviation of the peak's log accessibility between kinds; combined over
    /// replicates (random effects) where there are two or more.
    pub value: f64,
    /// Its standard error: by jackknife over replicates from three on, else from pairs that are no links.
    pub error: f64,
    /// Replicates that can tell.
    pub replicates: u16,
    /// Of these, those whose effect has the sign of the combined one.
    pub agree: u16,
    /// I²: share of the spread between replicates that their errors do not explain; NaN below two.
    pub heterogeneity: f64,
}

/// Effects of pairs by replicate.
#[derive(Debug, Clone, PartialEq)]
pub struct Effects {
    /// Of each pair.
    pub combined: Vec<Effect>,
    /// `[pairs, R]` effect in each replicate; NaN where it cannot tell.
    pub of_replicate: Vec<f32>,
}

/// What effects are gathered from.
pub(super) struct Source<'a> {
    pub profiles: &'a Profiles,
    pub pairs: &'a [(u32, u32)],
    pub draws: &'a Draws,
    pub strata: &'a Strata,
}

/// Root mean square, by stratum, of `of(gene, drawn peak)`, which is NaN where there is nothing to tell.
fn null_spread(s: &Source<'_>, of: impl Fn(u32, u32) -> f64 + Sync) -> Vec<f64> {
    let zero = || vec![[0.0f64; 2]; s.strata.len()];
    let numbers: Vec<usize> = (0..s.pairs.len()).collect();
    let sums = numbers.par_chunks(4096).map(|pairs| {
        let mut sums = zero();
        for &i in pairs {
            let g = s.pairs[i].0;
            for &p in s.draws.of(i) {
                let x = of(g, p);
                if x.is_finite() {
                    let sum = &mut sums[s.strata.of(g, p)];
                    *sum = [sum[0] + x * x, sum[1] + 1.0];
                }
            }
        }
        sums
    });
    let sums = sums.collect::<Vec<_>>().into_iter().fold(zero(), |mut a, b| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a = [a[0] + b[0], a[1] + b[1]]);
        a
    });
    let all = sums.iter().fold([0.0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]);
    let root = |[square, n]: [f64; 2]| if n > 0.0 { (square / n).sqrt() } else { f64::NAN };
    sums.into_iter().map(|s| root(if s[1] > 0.0 { s } else { all })).collect()
}

impl Source<'_> {
    /// Standard deviation between kinds that the peak's profile is taken to have.
    fn spread(&self, peak: u32) -> f64 {
        let side = &self.profiles.peaks;
        side.signal[peak as usize].max(0.1 * side.length[peak as usize]).max(1e-6)
    }

    /// Effects over all cells, without replicates.
    fn pooled(&self) -> Vec<(f64, f64)> {
        let (k, genes, peaks) = (self.profiles.kinds, &self.profiles.genes, &self.profiles.peaks);
        let product = |g: u32, p: u32| dot(&genes.raw[g as usize * k..][..k], &peaks.shrunk[p as usize * k..][..k]);
        let length = |g: u32| genes.length[g as usize];
        let spread = null_spread(self, |g, p| product(g, p) / (length(g) * self.spread(p)));
        let of = |&(g, p): &(u32, u32)| (product(g, p) / self.spread(p), spread[self.strata.of(g, p)] * length(g));
        self.pairs.par_iter().map(of).collect()
    }

    /// Effects and their errors in one replicate; NaN where it cannot tell.
    fn in_replicate(&self, counts: &Counts, share: f64) -> Vec<(f32, f32)> {
        let k = self.profiles.kinds;
        let cells: Vec<u32> = counts.cells.iter().map(|&n| if n >= CELLS_OF_KIND { n } else { 0 }).collect();
        if cells.iter().filter(|n| **n > 0).count() < 2 {
            return vec![(f32::NAN, f32::NAN); self.pairs.len()];
        }
        let weights = weights(&cells);
        let pseudo = (2.0 * share).max(LEAST_PSEUDO);
        let sides = [&counts.genes, &counts.peaks].map(|c| profile(c, &weights, pseudo));
        let row = |side: usize, i: u32| &sides[side][i as usize * k..][..k];
        let length = |side: usize, i: u32| dot(row(side, i), row(side, i)).sqrt();
        let spread = null_spread(self, |g, p| dot(row(0, g), row(1, p)) / (length(0, g) * length(1, p)));
        let of = |&(g, p): &(u32, u32)| {
            let lengths = length(0, g) * length(1, p);
            if lengths <= 0.0 {
                return (f32::NAN, f32::NAN);
            }
            let error = spread[self.strata.of(g, p)] * lengths / self.spread(p);
            ((dot(row(0, g), row(1, p)) / self.spread(p)) as f32, error as f32)
        };
        self.pairs.par_iter().map(of).collect()
    }

    /// Effects of all pairs, over the counts of `replicates`, if there are any.
    pub fn effects(&self, replicates: &[Counts]) -> Effects {
        let total = replicates.iter().flat_map(|c| &c.cells).map(|&n| f64::from(n)).sum::<f64>().max(1.0);
        let share = |c: &Counts| c.cells.iter().map(|&n| f64::from(n)).sum::<f64>() / total;
        let each: Vec<Vec<(f32, f32)>> = replicates.iter().map(|c| self.in_replicate(c, share(c))).collect();
        let combined = self.pooled().into_par_iter().enumerate().map(|(i, (value, error))| {
            let seen: Vec<(f64, f64)> = each.iter().map(|r| (f64::from(r[i].0), f64::from(r[i].1))).collect();
            let seen: Vec<(f64, f64)> = seen.into_iter().filter(|(b, e)| b.is_finite() && *e > 0.0).collect();
            combine(&seen, Effect { value, error, replicates: seen.len() as u16, agree: 0, heterogeneity: f64::NAN })
        });
        let of_replicate = (0..self.pairs.len()).flat_map(|i| each.iter().map(move |r| r[i].0)).collect();
        Effects { combined: combined.collect(), of_replicate }
    }
}

/// Random effects (DerSimonian and Laird) over (effect, error) of replicates; `alone` below two.
fn combine(seen: &[(f64, f64)], alone: Effect) -> Effect {
    let agree = |value: f64| seen.iter().filter(|(b, _)| b * value > 0.0).count() as u16;
    if seen.len() < 2 {
        return Effect { agree: agree(alone.value), ..alone };
    }
    let n = seen.len() as f64;
    let fixed: Vec<f64> = seen.iter().map(|(_, e)| 1.0 / (e * e)).collect();
    let (sum, square) = (fixed.iter().sum::<f64>(), fixed.iter().map(|w| w * w).sum::<f64>());
    let mean = seen.iter().zip(&fixed).map(|(s, w)| s.0 * w).sum::<f64>() / sum;
    let q: f64 = seen.iter().zip(&fixed).map(|(s, w)| w * (s.0 - mean).powi(2)).sum();
    let between = ((q - (n - 1.0)) / (sum - square / sum)).max(0.0);
    let weights: Vec<f64> = seen.iter().map(|(_, e)| 1.0 / (e * e + between)).collect();
    let total: f64 = weights.iter().sum();
    let pull: f64 = seen.iter().zip(&weights).map(|(s, w)| s.0 * w).sum();
    let value = pull / total;
    let error = if seen.len() >= 3 {
        let without: Vec<f64> = seen.iter().zip(&weights).map(|(s, w)| (pull - s.0 * w) / (total - w)).collect();
        let mean = without.iter().sum::<f64>() / n;
        ((n - 1.0) / n * without.iter().map(|x| (x - mean).powi(2)).sum::<f64>()).sqrt()
    } else {
        (1.0 / total).sqrt()
    };
    let heterogeneity = if q > 0.0 { ((q - (n - 1.0)) / q).max(0.0) } else { 0.0 };
    Effect { value, error, replicates: seen.len() as u16, agree: agree(value), heterogeneity }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Effects that agree: their weighted mean, no heterogeneity beyond chance, and a jackknife error of the size of the
    /// standard error. Effects that do not: heterogeneity and a wide error.
    #[test]
    fn replicates_are_combined() {
        let mut rng = Rng::new(9, 9);
        let alone = Effect { value: 0.4, error: 1.0, replicates: 0, agree: 0, heterogeneity: f64::NAN };
        let (mut errors, mut heterogeneity, mut off) = (0.0, 0.0, 0.0);
        for _ in 0..500 {
            let seen: Vec<(f64, f64)> = (0..8).map(|_| (0.5 + 0.2 * rng.normal(), 0.2)).collect();
            let e = combine(&seen, alone);
            errors += e.error / 500.0;
            heterogeneity += e.heterogeneity / 500.0;
            off += (e.value - 0.5).abs() / 500.0;
            assert_eq!(e.replicates, 8);
        }
        assert!(
            (errors - 0.0707).abs() < 0.015 && heterogeneity < 0.25 && off < 0.08,
            "{errors} {heterogeneity} {off}"
        );
        let torn = combine(&[(1.0, 0.1), (-1.0, 0.1), (1.1, 0.1), (-0.9, 0.1)], Effect { replicates: 4, ..alone });
        assert!(torn.heterogeneity > 0.9 && torn.error > 0.4 && torn.agree == 2, "{torn:?}");
        let one = combine(&[(0.3, 0.1)], alone);
        assert_eq!((one.value, one.error, one.agree), (0.4, 1.0, 1));
    }
}
