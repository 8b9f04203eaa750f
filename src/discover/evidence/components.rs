//! Leading components of expression.

use rayon::prelude::*;

use super::cells::{Cells, plus};
use super::readings::Readings;
use crate::dataset::Cell;
use crate::error::Result;
use crate::evaluate::linear::eigen;
use crate::rng::Rng;
use crate::simd::axpy;

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

/// Scores of the cells on the leading components of standardised expression, by falling variance: `[cells, width]`.
///
/// By subspace iteration: 15 passes over the cells.
pub(super) fn components(cells: Cells<'_>, readings: &Readings, width: usize, seed: u64) -> Result<Vec<f64>> {
    let (n, genes) = (cells.numbers.len(), readings.sum.len());
    let mean: Vec<f64> = readings.sum.iter().map(|x| x / n as f64).collect();
    let variance = |(m, q): (&f64, &f64)| Some(q / n as f64 - m * m).filter(|v| *v > 1e-12 * q / n as f64);
    let scale: Vec<f64> =
        mean.iter().zip(&readings.square).map(|x| variance(x).map_or(0.0, |v| 1.0 / v.sqrt())).collect();
    let mut rng = Rng::new(seed, START);
    let mut loading: Vec<f64> = (0..genes * width).map(|_| rng.normal()).collect();
    let mut scores = vec![0.0; n * width];
    for round in 0..ROUNDS {
        orthonormalise(&mut loading, width);
        // Of each gene its loading over its spread, and what the means add to every cell.
        loading.chunks_exact_mut(width).zip(&scale).for_each(|(l, s)| l.iter_mut().for_each(|l| *l *= s));
        let mut shift = vec![0.0; width];
        loading.chunks_exact(width).zip(&mean).for_each(|(l, &m)| axpy(&mut shift, m, l));
        let buffers = || (Cell::default(), Vec::new());
        scores.par_chunks_mut(width).zip(cells.numbers).for_each_init(buffers, |(cell, levels), (out, &c)| {
            (cells.read)(c, cell);
            readings.levels(cell, levels);
            out.iter_mut().zip(&shift).for_each(|(o, s)| *o = -s);
            for (&g, &x) in cell.genes.iter().zip(levels.iter()) {
                axpy(out, f64::from(x), &loading[g as usize * width..][..width]);
            }
        });
        cells.go_on()?;
        if round + 1 == ROUNDS {
            break;
        }
        let (mut back, _) = cells.sum(
            || (vec![0.0; genes * width], Vec::new()),
            |(sum, levels), at, cell| {
                let of_cell = &scores[at * width..][..width];
                readings.levels(cell, levels);
                for (&g, &x) in cell.genes.iter().zip(levels.iter()) {
                    axpy(&mut sum[g as usize * width..][..width], f64::from(x), of_cell);
                }
            },
            |a, b| plus(&mut a.0, &b.0),
        )?;
        let mut total = vec![0.0; width];
        scores.chunks_exact(width).for_each(|row| plus(&mut total, row));
        for ((l, &m), &s) in back.chunks_exact_mut(width).zip(&mean).zip(&scale) {
            axpy(l, -m, &total);
            l.iter_mut().for_each(|l| *l *= s);
        }
        loading = back;
    }
    Ok(rotated(scores, width))
}

/// The same points along their principal axes, by falling variance.
fn rotated(scores: Vec<f64>, width: usize) -> Vec<f64> {
    let mut products = vec![0.0; width * width];
    for row in scores.chunks_exact(width) {
        row.iter().enumerate().for_each(|(i, &x)| axpy(&mut products[i * width..][..width], x, row));
    }
    let (_, axes) = eigen(&products, width);
    let along = |row: &[f64], axis: &[f64]| row.iter().zip(axis).map(|(x, a)| x * a).sum::<f64>();
    scores.chunks_exact(width).flat_map(|row| axes.chunks_exact(width).map(move |axis| along(row, axis))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_orthonormal() {
        let mut rng = Rng::new(1, 1);
        let (rows, width) = (50, 5);
        let mut m: Vec<f64> = (0..rows * width).map(|_| rng.normal()).collect();
        // The fourth depends on the first two.
        m.chunks_exact_mut(width).for_each(|r| r[3] = 2.0 * r[0] - r[1]);
        let first = m[0];
        orthonormalise(&mut m, width);
        assert!(first * m[0] > 0.0);
        for i in 0..width {
            for j in 0..width {
                let dot: f64 = m.chunks_exact(width).map(|r| r[i] * r[j]).sum();
                let want = f64::from(u8::from(i == j && i != 3));
                assert!((dot - want).abs() < 1e-12, "{i} {j}: {dot}");
            }
        }
    }

    #[test]
    fn axes_come_by_falling_variance() {
        let mut rng = Rng::new(1, 2);
        let points: Vec<f64> = (0..500).flat_map(|_| [rng.normal(), 5.0 * rng.normal(), 2.0 * rng.normal()]).collect();
        let turned = rotated(points.clone(), 3);
        let variance = |m: &[f64], k: usize| m.chunks_exact(3).map(|r| r[k] * r[k]).sum::<f64>();
        assert!(variance(&turned, 0) > variance(&turned, 1) && variance(&turned, 1) > variance(&turned, 2));
        let all = |m: &[f64]| m.iter().map(|x| x * x).sum::<f64>();
        assert!((all(&points) / all(&turned) - 1.0).abs() < 1e-12);
    }
}
