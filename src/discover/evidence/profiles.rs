//! Profiles of genes and peaks over kinds of cells, and what of them is more than noise.
//!
//! See docs/model.md, eq. 71 to 73.

use rayon::prelude::*;

use super::law::quantile_classes;
use super::tables::Counts;
use crate::evaluate::linear::eigen;

/// Added to counts, and to what is expected of them, before logarithms; of half of the cells, half of it.
const PSEUDO: f64 = 2.0;
/// Classes of genes and of peaks, by counts, in which profiles are shrunk.
const CLASSES: [usize; 2] = [10, 20];

/// Genes or peaks over K kinds.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// `[n]` counts.
    pub total: Vec<f64>,
    /// `[n, K]` profile u: centred log ratio to what is expected, times the root of the kind's weight.
    pub raw: Vec<f32>,
    /// `[n, K]` û: what of it both halves of the cells would say.
    pub shrunk: Vec<f32>,
    /// `[n]` ‖û‖.
    pub signal: Vec<f64>,
    /// `[n]` ‖u‖.
    pub length: Vec<f64>,
}

/// Genes and peaks over kinds of cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Profiles {
    /// K.
    pub kinds: usize,
    /// `[K]` weights, which add up to 1.
    pub weights: Vec<f64>,
    /// Genes.
    pub genes: Side,
    /// Peaks.
    pub peaks: Side,
}

/// Weights of kinds of so many cells: by the root.
pub(super) fn weights(cells: &[u32]) -> Vec<f64> {
    let total: f64 = cells.iter().map(|&n| f64::from(n).sqrt()).sum();
    cells.iter().map(|&n| f64::from(n).sqrt() / total.max(1e-300)).collect()
}

/// `[n]` sums over kinds.
fn totals(counts: &[u32], k: usize) -> Vec<f64> {
    counts.chunks_exact(k).map(|row| row.iter().map(|&c| f64::from(c)).sum()).collect()
}

/// `[K]` share of all counts that each kind has.
pub(super) fn shares(counts: &[u32], k: usize) -> Vec<f64> {
    let mut sums = vec![0.0; k];
    counts.chunks_exact(k).for_each(|row| sums.iter_mut().zip(row).for_each(|(s, &c)| *s += f64::from(c)));
    let all: f64 = sums.iter().sum();
    sums.iter().map(|s| s / all.max(1.0)).collect()
}

/// `[n, K]` profiles of counts.
pub(super) fn profile(counts: &[u32], weights: &[f64], pseudo: f64) -> Vec<f32> {
    let k = weights.len();
    let shares = shares(counts, k);
    let mut out = vec![0.0f32; counts.len()];
    out.par_chunks_exact_mut(k).zip(counts.par_chunks_exact(k)).for_each(|(out, row)| {
        let total: f64 = row.iter().map(|&c| f64::from(c)).sum();
        let log = |(&c, e): (&u32, &f64)| ((f64::from(c) + pseudo) / (total * e + pseudo)).ln();
        let logs: Vec<f64> = row.iter().zip(&shares).map(log).collect();
        let mean: f64 = logs.iter().zip(weights).map(|(l, w)| l * w).sum();
        out.iter_mut().zip(logs.iter().zip(weights)).for_each(|(o, (l, w))| *o = ((l - mean) * w.sqrt()) as f32);
    });
    out
}

/// Mean over `rows` of a rowᵀ b row, symmetrised: `[K, K]`.
fn mean_product(a: &[f32], b: &[f32], rows: &[u32], k: usize) -> Vec<f64> {
    let mut sum = vec![0.0; k * k];
    for &r in rows {
        let (x, y) = (&a[r as usize * k..][..k], &b[r as usize * k..][..k]);
        for i in 0..k {
            for j in 0..k {
                sum[i * k + j] += f64::from(x[i]) * f64::from(y[j]);
            }
        }
    }
    let n = 2.0 * rows.len().max(1) as f64;
    (0..k * k).map(|at| (sum[at] + sum[at % k * k + at / k]) / n).collect()
}

fn product(a: &[f64], b: &[f64], k: usize) -> Vec<f64> {
    let cell = |at: usize| (0..k).map(|l| a[at / k * k + l] * b[l * k + at % k]).sum();
    (0..k * k).map(cell).collect()
}

/// A symmetric matrix with another function of its eigenvalues.
fn with_eigenvalues(m: &[f64], k: usize, of: impl Fn(f64) -> f64) -> Vec<f64> {
    let (values, vectors) = eigen(m, k);
    let scaled: Vec<f64> = (0..k * k).map(|at| of(values[at / k]) * vectors[at]).collect();
    let transposed: Vec<f64> = (0..k * k).map(|at| vectors[at % k * k + at / k]).collect();
    product(&transposed, &scaled, k)
}

impl Side {
    /// Of counts of both halves of the cells; `classes` by counts.
    fn new(halves: [&[u32]; 2], weights: &[f64], classes: usize) -> Self {
        let k = weights.len();
        let all: Vec<u32> = halves[0].iter().zip(halves[1]).map(|(a, b)| a.saturating_add(*b)).collect();
        let total = totals(&all, k);
        let raw = profile(&all, weights, PSEUDO);
        let of_half = halves.map(|h| profile(h, weights, PSEUDO / 2.0));
        let class = quantile_classes(&total, classes);
        let members = |c: usize| -> Vec<u32> {
            (0u32..)
                .zip(&class)
                .filter(|(i, k)| usize::from(**k) == c && total[*i as usize] > 0.0)
                .map(|x| x.0)
                .collect()
        };
        // What is seen, T, and what both halves say, V: û = V T⁻¹ u is nearest to what is there.
        let filters: Vec<Vec<f64>> = (0..classes)
            .into_par_iter()
            .map(|c| {
                let rows = members(c);
                let seen = mean_product(&raw, &raw, &rows, k);
                let both = mean_product(&of_half[0], &of_half[1], &rows, k);
                let trace: f64 = (0..k).map(|i| seen[i * k + i]).sum();
                let ridge = 1e-3 * trace / k as f64 + 1e-9;
                let true_part = with_eigenvalues(&both, k, |x| x.max(0.0));
                product(&true_part, &with_eigenvalues(&seen, k, |x| 1.0 / (x.max(0.0) + ridge)), k)
            })
            .collect();
        let mut shrunk = vec![0.0f32; raw.len()];
        shrunk.par_chunks_exact_mut(k).zip(raw.par_chunks_exact(k)).enumerate().for_each(|(i, (out, u))| {
            if total[i] > 0.0 {
                let filter = &filters[usize::from(class[i])];
                for (row, o) in filter.chunks_exact(k).zip(out) {
                    *o = row.iter().zip(u).map(|(f, x)| f * f64::from(*x)).sum::<f64>() as f32;
                }
            }
        });
        let norms = |m: &[f32]| m.chunks_exact(k).map(|row| dot(row, row).sqrt()).collect::<Vec<f64>>();
        Side { total, signal: norms(&shrunk), length: norms(&raw), raw, shrunk }
    }
}

/// Product of two rows.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

impl Profiles {
    /// Of counts of both halves of the cells.
    pub fn new(halves: &[Counts; 2]) -> Self {
        let cells: Vec<u32> = halves[0].cells.iter().zip(&halves[1].cells).map(|(a, b)| a + b).collect();
        let weights = weights(&cells);
        let [a, b] = halves;
        Profiles {
            kinds: weights.len(),
            genes: Side::new([&a.genes, &b.genes], &weights, CLASSES[0]),
            peaks: Side::new([&a.peaks, &b.peaks], &weights, CLASSES[1]),
            weights,
        }
    }

    /// û of a gene and a peak.
    pub fn shrunk(&self, gene: u32, peak: u32) -> (&[f32], &[f32]) {
        let k = self.kinds;
        (&self.genes.shrunk[gene as usize * k..][..k], &self.peaks.shrunk[peak as usize * k..][..k])
    }

    /// Covariance of the shrunk profiles of a gene and a peak, and correlation of the profiles as they are seen.
    pub fn together(&self, gene: u32, peak: u32) -> (f64, f64) {
        let (k, g, p) = (self.kinds, gene as usize, peak as usize);
        let (a, b) = self.shrunk(gene, peak);
        let lengths = self.genes.length[g] * self.peaks.length[p];
        let seen = dot(&self.genes.raw[g * k..][..k], &self.peaks.raw[p * k..][..k]);
        (dot(a, b), if lengths > 0.0 { seen / lengths } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Counts of a profile plus noise: the shrunk profiles lie nearer to the truth than the seen ones, and of items without
    /// a profile little is left.
    #[test]
    fn shrinking_comes_nearer() {
        let mut rng = Rng::new(5, 1);
        let (n, k) = (600, 6);
        let truth: Vec<f64> = (0..n)
            .flat_map(|i| {
                let x = if i % 2 == 0 { 0.0 } else { rng.normal() };
                (0..k).map(move |j| if j < 3 { x } else { -x } * 0.5)
            })
            .collect();
        let mut draw = |mean: f64| (0..400).filter(|_| rng.uniform() < mean / 400.0).count() as u32;
        let half: [Vec<u32>; 2] = [0, 1].map(|_| truth.iter().map(|x| draw(4.0 * x.exp())).collect());
        let side = Side::new([&half[0], &half[1]], &[1.0 / 6.0; 6], 1);
        let root = (1.0f64 / 6.0).sqrt();
        let error = |m: &[f32]| m.iter().zip(&truth).map(|(x, t)| (f64::from(*x) - t * root).powi(2)).sum::<f64>();
        assert!(error(&side.shrunk) < 0.5 * error(&side.raw), "{} {}", error(&side.shrunk), error(&side.raw));
        let signal = |odd: usize| (0..n).filter(|i| i % 2 == odd).map(|i| side.signal[i]).sum::<f64>();
        assert!(signal(0) < 0.6 * signal(1));
    }
}
