//! Cells drawn from the plan of a simulation. Work goes with the number of genes and peaks, one comparison each for
//! those that are not there.

use super::simulation::Simulation;
use super::streams::{CELLS, MODULES, OPEN};
use crate::rng::Rng;

/// Shape of the gamma that the rate of a gene has between cells.
const SHAPE: f64 = 4.0;
/// Means up to here are drawn by adding up probabilities.
const SMALL: f64 = 32.0;

/// Counts of one cell, columns ascending.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SimulatedCell {
    /// Cell type, from 0.
    pub cell_type: usize,
    /// Batch, from 0.
    pub batch: usize,
    /// Genes and their counts, all above 0.
    pub rna: Vec<(u32, u32)>,
    /// Peaks and their counts, all above 0.
    pub atac: Vec<(u32, u32)>,
}

/// Gamma with this shape and mean `mean` (Marsaglia and Tsang's method; the shape must be at least 1).
fn gamma(rng: &mut Rng, shape: f64, mean: f64) -> f64 {
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = rng.normal();
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - rng.uniform()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return mean * d * v / shape;
        }
    }
}

/// Poisson with this mean (products of uniforms, in portions of at most 16).
fn poisson(rng: &mut Rng, mean: f64) -> u32 {
    let (mut left, mut n) = (mean.clamp(0.0, 1e7), 0u32);
    while left > 0.0 {
        let part = left.min(16.0);
        let (bound, mut product) = ((-part).exp(), 1.0 - rng.uniform());
        while product > bound {
            n += 1;
            product *= 1.0 - rng.uniform();
        }
        left -= part;
    }
    n
}

/// The least k with u < p(0) + … + p(k), where p(k + 1) = p(k) × ratio(k); the sum ends where no more is added.
fn invert(u: f64, first: (u32, f64), ratio: impl Fn(f64) -> f64) -> u32 {
    let (mut k, mut p) = first;
    let mut sum = p;
    while u >= sum {
        p *= ratio(f64::from(k));
        if sum + p == sum {
            break;
        }
        k += 1;
        sum += p;
    }
    k
}

/// Poisson with this mean, given that it is not 0.
fn poisson_above_zero(rng: &mut Rng, mean: f64) -> u32 {
    if mean > SMALL {
        return poisson(rng, mean).max(1);
    }
    let p = mean * (-mean).exp() / -(-mean).exp_m1();
    invert(rng.uniform(), (1, p), |k| mean / (k + 1.0))
}

/// Gamma–Poisson with this mean.
fn gamma_poisson(rng: &mut Rng, mean: f64) -> u32 {
    if mean > SMALL {
        let rate = gamma(rng, SHAPE, mean);
        return poisson(rng, rate);
    }
    let none = (SHAPE / (SHAPE + mean)).powi(SHAPE as i32);
    let u = rng.uniform();
    if u < none {
        return 0;
    }
    let q = mean / (SHAPE + mean);
    invert(u, (0, none), |k| (k + SHAPE) / (k + 1.0) * q)
}

impl Simulation {
    /// The first cells are one of each type, so that no type is empty.
    fn draw_type(&self, i: usize, u: f64) -> usize {
        let t = if i < self.types.len() { i } else { self.types.partition_point(|&s| s <= u) };
        t.min(self.types.len() - 1)
    }

    /// Cell type and batch of cell `i`: what its stream begins with.
    pub fn label(&self, i: usize) -> (usize, usize) {
        let u = Rng::new(self.config.seed, CELLS + i as u64).uniform();
        (self.draw_type(i, u), i * self.config.batches / self.config.cells)
    }

    /// Draws cell `i`: a pure function of the configuration and `i`.
    pub fn cell(&self, i: usize) -> SimulatedCell {
        let c = &self.config;
        let mut rng = Rng::new(c.seed, CELLS + i as u64);
        rng.uniform();
        let (cell_type, batch) = self.label(i);
        let (x, y, rho) = (rng.normal(), rng.normal(), c.depth_correlation);
        let effect = &self.batches[batch];
        let rna_depth = c.rna_depth * (c.depth_sd * x).exp() * effect.depth[0];
        let atac_depth = (c.depth_sd * (rho * x + (1.0 - rho * rho).sqrt() * y)).exp() * effect.depth[1];

        // What the cell's modules multiply the odds of their peaks and the levels of their genes by.
        let mut states = Rng::new(c.seed, MODULES + 1 + i as u64);
        let states: Vec<f64> = (0..c.modules).map(|_| states.normal()).collect();
        let factors = c.module_effect.map(|e| states.iter().map(|x| (e * x).exp()).collect::<Vec<f64>>());
        let [gene_module, peak_module] = &self.modules;
        let factor = |k: Option<&u32>, all: &[f64]| k.and_then(|&k| all.get(k as usize)).copied();
        // Of tissue, the same of its regulators.
        let regulated = self.tissue.as_ref().map(|t| (t, t.activities(c.seed, i)));
        let peak_factor = |j: usize| match &regulated {
            Some((t, states)) => t.peaks.factor(j, states),
            None => factor(peak_module.get(j), &factors[0]),
        };
        let gene_factor = |g: usize| match &regulated {
            Some((t, states)) => t.genes.factor(g, states),
            None => factor(gene_module.get(g), &factors[1]),
        };

        // Of one number a peak: open and caught, open, closed and caught, or nothing.
        let means = [atac_depth * c.atac_noise, atac_depth * c.atac_rate];
        let caught = means.map(|m| -(-m).exp_m1() as f32);
        let mut numbers = Rng::new(c.seed, OPEN + i as u64);
        let mut is_open = vec![false; self.peaks.len()];
        let mut atac = Vec::new();
        for (j, (&chance, is_open)) in self.open[cell_type].iter().zip(&mut is_open).enumerate() {
            let chance = match peak_factor(j) {
                Some(f) => (f64::from(chance) * f / (1.0 + f64::from(chance) * (f - 1.0))) as f32,
                None => chance,
            };
            let u = numbers.next_u32() as f32 * (1.0 / (1u64 << 32) as f32);
            *is_open = u < chance;
            let below = if *is_open { chance * caught[1] } else { chance + (1.0 - chance) * caught[0] };
            if u < below {
                atac.push((j as u32, poisson_above_zero(&mut rng, means[usize::from(*is_open)])));
            }
        }
        let mut rna = Vec::new();
        for (g, &level) in self.level[cell_type].iter().enumerate() {
            let links = self.link_start[g]..self.link_start[g + 1];
            let acts = |l: usize| is_open[self.links[l].peak] && self.acts_in(l, cell_type);
            let linked: f64 = links.map(|l| self.link_factor[l][usize::from(acts(l))]).product();
            let state = gene_factor(g).unwrap_or(1.0);
            let count = gamma_poisson(&mut rng, rna_depth * level * effect.gene(g) * state * linked);
            if count > 0 {
                rna.push((g as u32, count));
            }
        }
        SimulatedCell { cell_type, batch, rna, atac }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean, variance and share of zeros of both ways to draw, on both sides of the border between them.
    #[test]
    fn counts_have_their_moments() {
        let mut rng = Rng::new(906, 7);
        let n = 40_000;
        for mean in [0.02, 0.7, 9.0, 31.0, 33.0, 90.0] {
            let draws: Vec<f64> = (0..n).map(|_| f64::from(gamma_poisson(&mut rng, mean))).collect();
            let m = draws.iter().sum::<f64>() / n as f64;
            let v = draws.iter().map(|x| (x - m).powi(2)).sum::<f64>() / n as f64;
            let variance = mean + mean * mean / SHAPE;
            let error = (variance / n as f64).sqrt();
            assert!((m - mean).abs() < 4.0 * error, "mean {m}, not {mean}");
            assert!((v / variance - 1.0).abs() < 0.15, "variance {v}, not {variance}");

            let above: Vec<f64> = (0..n).map(|_| f64::from(poisson_above_zero(&mut rng, mean))).collect();
            assert!(above.iter().all(|&x| x >= 1.0));
            let (m, wanted) = (above.iter().sum::<f64>() / n as f64, mean / -(-mean).exp_m1());
            assert!((m - wanted).abs() < 4.0 * (mean / n as f64).sqrt(), "above zero: mean {m}, not {wanted}");
        }
        assert_eq!(gamma_poisson(&mut rng, 0.0), 0);
    }
}
