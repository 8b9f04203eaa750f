//! Depth and programmes taken out of genes and peaks.

use rayon::prelude::*;

use super::cells::{Cells, plus};
use crate::dataset::Cell;
use crate::error::Result;
use crate::rng::Rng;
use crate::simd::axpy;
use crate::vocabulary::Vocabulary;

/// Rounds of subspace iteration.
const ROUNDS: usize = 8;
/// Stream of random numbers that the iteration starts from.
const START: u64 = 0xE51D_0000;

/// Makes the columns of `m` `[rows, width]` orthonormal, from the left, twice over; one that depends on those before it
/// becomes 0.
pub(crate) fn orthonormalise(m: &mut [f64], width: usize) {
    for k in 0..width {
        let before: f64 = m.chunks_exact(width).map(|r| r[k] * r[k]).sum();
        for _ in 0..2 {
            for j in 0..k {
                let dot: f64 = m.chunks_exact(width).map(|r| r[j] * r[k]).sum();
                m.chunks_exact_mut(width).for_each(|r| r[k] -= dot * r[j]);
            }
        }
        let after: f64 = m.chunks_exact(width).map(|r| r[k] * r[k]).sum();
        let scale = if after > 1e-20 * before { 1.0 / after.sqrt() } else { 0.0 };
        m.chunks_exact_mut(width).for_each(|r| r[k] *= scale);
    }
}

/// Sums over cells of each gene and each peak.
struct Sums {
    /// `[G]` and `[P]`.
    sum: [Vec<f64>; 2],
    square: [Vec<f64>; 2],
    cube: [Vec<f64>; 2],
}

impl Sums {
    /// Skewness over `n` cells of gene or peak `i`; 0 of a constant.
    fn skewness(&self, side: usize, i: usize, n: f64) -> f64 {
        let [mean, square, cube] = [&self.sum, &self.square, &self.cube].map(|x| x[side][i] / n);
        let variance = square - mean * mean;
        if variance <= 1e-9 * square {
            return 0.0;
        }
        (cube - 3.0 * mean * square + 2.0 * mean.powi(3)) / variance.powf(1.5)
    }
}

fn sums(v: &Vocabulary, cells: Cells<'_>) -> Result<Sums> {
    let zero = || {
        let of = || [vec![0.0; v.genes.len()], vec![0.0; v.peaks.len()]];
        Sums { sum: of(), square: of(), cube: of() }
    };
    let add = |s: &mut Sums, _: usize, cell: &Cell| {
        let mut one = |side: usize, i: u32, x: f32| {
            let (i, x) = (i as usize, f64::from(x));
            s.sum[side][i] += x;
            s.square[side][i] += x * x;
            s.cube[side][i] += x * x * x;
        };
        cell.rna().for_each(|(g, x)| one(0, g, x));
        cell.atac().for_each(|(p, x)| one(1, p, x));
    };
    cells.sum(zero, add, |a, b| {
        for side in 0..2 {
            plus(&mut a.sum[side], &b.sum[side]);
            plus(&mut a.square[side], &b.square[side]);
            plus(&mut a.cube[side], &b.cube[side]);
        }
    })
}

/// The leading components of standardised expression: `[cells, width]`, orthonormal, span of the leading subspace.
fn components(v: &Vocabulary, cells: Cells<'_>, s: &Sums, width: usize, seed: u64) -> Result<Vec<f64>> {
    let (n, genes) = (cells.numbers.len(), v.genes.len());
    let mean: Vec<f64> = s.sum[0].iter().map(|x| x / n as f64).collect();
    let scale: Vec<f64> = (mean.iter().zip(&s.square[0]))
        .map(|(m, q)| Some(q / n as f64 - m * m).filter(|v| *v > 1e-12 * q / n as f64).map_or(0.0, |v| 1.0 / v.sqrt()))
        .collect();
    let mut rng = Rng::new(seed, START);
    let mut loading: Vec<f64> = (0..genes * width).map(|_| rng.normal()).collect();
    let mut scores = vec![0.0; n * width];
    for round in 0..ROUNDS {
        // Of each gene its loading over its spread, and what the means add to every cell.
        loading.chunks_exact_mut(width).zip(&scale).for_each(|(l, s)| l.iter_mut().for_each(|l| *l *= s));
        let mut shift = vec![0.0; width];
        loading.chunks_exact(width).zip(&mean).for_each(|(l, &m)| axpy(&mut shift, m, l));
        scores.par_chunks_mut(width).zip(cells.numbers).for_each_init(Cell::default, |cell, (out, &c)| {
            (cells.read)(c, cell);
            out.iter_mut().zip(&shift).for_each(|(o, s)| *o = -s);
            cell.rna().for_each(|(g, x)| axpy(out, f64::from(x), &loading[g as usize * width..][..width]));
        });
        cells.go_on()?;
        orthonormalise(&mut scores, width);
        if round + 1 == ROUNDS {
            break;
        }
        let mut back = cells.sum(
            || vec![0.0; genes * width],
            |sum, at, cell| {
                let of_cell = &scores[at * width..][..width];
                cell.rna().for_each(|(g, x)| axpy(&mut sum[g as usize * width..][..width], f64::from(x), of_cell));
            },
            |a, b| plus(a, &b),
        )?;
        let mut total = vec![0.0; width];
        scores.chunks_exact(width).for_each(|row| plus(&mut total, row));
        for ((l, &m), &s) in back.chunks_exact_mut(width).zip(&mean).zip(&scale) {
            axpy(l, -m, &total);
            l.iter_mut().for_each(|l| *l *= s);
        }
        orthonormalise(&mut back, width);
        loading = back;
    }
    Ok(scores)
}

/// How a gene and a peak go together over cells once covariates are taken out: docs/model.md, eq. 71.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Association {
    /// Partial correlation; 0 where nothing is left of either.
    pub partial: f64,
    /// β: what one unit of accessibility adds to expression, over the gene's mean expression.
    pub effect: f64,
    /// σ, its standard error, widened where few cells decide; infinite where nothing is left of either.
    pub error: f64,
}

/// The number of standard deviations of a normal law whose upper tail is that of `z` standard deviations under a Pearson
/// type III (gamma) law of this skewness; `z` itself where that is no less.
///
/// Of shape k = 4 / skewness². For k ≥ 1 by Wilson and Hilferty's cube root; else by `Q(k, x) ≈ k xᵏ e⁻ˣ ln (1 + 1/x)`, which
/// is within a fifth of the tail where it is small. So no count of cells with both is more surprising than under a
/// Poisson law of that many expected.
pub fn tempered(z: f64, skewness: f64) -> f64 {
    if z <= 0.0 || skewness <= 0.0 {
        return z;
    }
    if skewness <= 2.0 {
        let cube_root = (1.0 + skewness * z / 2.0).cbrt() - 1.0;
        return (6.0 / skewness * cube_root + skewness / 6.0).min(z);
    }
    let shape = 4.0 / (skewness * skewness);
    let x = shape + 2.0 * z / skewness;
    // −ln of the tail.
    let tail = x - shape.ln() - shape * x.ln() - (1.0 / x).ln_1p().ln();
    if tail < 1.0 {
        return z;
    }
    let mut normal = (2.0 * tail).sqrt();
    for _ in 0..4 {
        // Mills' ratio: the tail is φ(t) / (t + 1/t), nearly.
        let near = tail - 0.5 * std::f64::consts::TAU.ln() - (normal + 1.0 / normal).ln();
        normal = (2.0 * near.max(0.1)).sqrt();
    }
    normal.min(z)
}

/// Genes and peaks, with what covariates explain taken out.
#[derive(Debug, Clone)]
pub struct Adjusted {
    n: f64,
    width: usize,
    /// `[G, width]` and `[P, width]` projections on the covariates.
    on: [Vec<f64>; 2],
    /// `[G]` and `[P]` sums of squares left.
    rest: [Vec<f64>; 2],
    /// `[G]` and `[P]` skewness over cells.
    skewness: [Vec<f64>; 2],
    /// `[G]` mean expression.
    mean: Vec<f64>,
}

impl Adjusted {
    /// Over `cells`: the constant, the logs of the numbers of genes and peaks of a cell, and the leading
    /// `most` components of RNA are taken out (fewer than `most` where cells are few). Passes over the cells: 18.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`].
    pub fn new(v: &Vocabulary, cells: Cells<'_>, most: usize, seed: u64) -> Result<Self> {
        let n = cells.numbers.len();
        let s = sums(v, cells)?;
        let leading = most.min(n / 10).min(v.genes.len());
        let found = if leading > 0 { components(v, cells, &s, leading, seed)? } else { Vec::new() };
        let width = 3 + leading;
        let mut q = vec![0.0; n * width];
        q.par_chunks_mut(width).zip(cells.numbers).enumerate().for_each_init(Cell::default, |cell, (i, (q, &c))| {
            (cells.read)(c, cell);
            q[0] = 1.0;
            q[1] = (1.0 + cell.genes.len() as f64).ln();
            q[2] = (1.0 + cell.peaks.len() as f64).ln();
            q[3..].copy_from_slice(&found[i * leading..][..leading]);
        });
        orthonormalise(&mut q, width);
        let zero = || [vec![0.0; v.genes.len() * width], vec![0.0; v.peaks.len() * width]];
        let add = |on: &mut [Vec<f64>; 2], at: usize, cell: &Cell| {
            let q = &q[at * width..][..width];
            cell.rna().for_each(|(g, x)| axpy(&mut on[0][g as usize * width..][..width], f64::from(x), q));
            cell.atac().for_each(|(p, x)| axpy(&mut on[1][p as usize * width..][..width], f64::from(x), q));
        };
        let on = cells.sum(zero, add, |a, b| (0..2).for_each(|side| plus(&mut a[side], &b[side])))?;
        let rest = [0, 1].map(|side| {
            let squares = on[side].chunks_exact(width).map(|p| p.iter().map(|x| x * x).sum::<f64>());
            // What rounding leaves of something that the covariates explain wholly counts as nothing.
            let left = squares.zip(&s.square[side]).map(|(p, &q)| if q - p > 1e-9 * q { q - p } else { 0.0 });
            left.collect::<Vec<f64>>()
        });
        let mean = s.sum[0].iter().map(|x| x / n as f64).collect();
        let n = n as f64;
        let skewness = [0, 1].map(|side| (0..s.sum[side].len()).map(|i| s.skewness(side, i, n)).collect());
        Ok(Adjusted { n, width, on, rest, skewness, mean })
    }

    /// Of a gene and a peak whose products over cells sum to `product`.
    pub fn association(&self, gene: u32, peak: u32, product: f64) -> Association {
        let (g, p, w) = (gene as usize, peak as usize, self.width);
        let (a, b, mean) = (self.rest[0][g], self.rest[1][p], self.mean[g]);
        if a == 0.0 || b == 0.0 || mean <= 0.0 {
            return Association { partial: 0.0, effect: 0.0, error: f64::INFINITY };
        }
        let explained: f64 = self.on[0][g * w..][..w].iter().zip(&self.on[1][p * w..][..w]).map(|(x, y)| x * y).sum();
        let left = product - explained;
        let partial = left / (a * b).sqrt();
        let z = partial * self.n.sqrt();
        // The third cumulant of a sum over cells that are matched at random is the product of both sides'.
        let believed = tempered(z, self.skewness[0][g] * self.skewness[1][p] / self.n.sqrt());
        let error = (a / b / self.n).sqrt() / mean;
        Association { partial, effect: left / b / mean, error: if believed < z { error * z / believed } else { error } }
    }
}
