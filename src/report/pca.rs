//! The first two principal components.

use rayon::prelude::*;

/// A projection to two components.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    /// Place of each row.
    pub points: Vec<(f64, f64)>,
    /// Share of the variance along each component.
    pub share: [f64; 2],
}

/// Rows summed at a time; the order of sums does not depend on the number of threads.
const BLOCK: usize = 1024;
/// Directions iterated; more than two, so that the second converges quickly.
const DIRECTIONS: usize = 6;

/// Projects `rows`, `[N, width]`, on the two directions of most variance (the largest coordinate of each is positive).
/// Rows that are not finite are left out of the variance, and land at NaN. By orthogonal iteration on the covariance.
pub fn pca(rows: &[f32], width: usize) -> Pca {
    let finite = |row: &[f32]| row.iter().all(|x| x.is_finite());
    let none = Pca { points: vec![(f64::NAN, f64::NAN); rows.len().checked_div(width).unwrap_or(0)], share: [0.0; 2] };
    let n = rows.chunks_exact(width.max(1)).filter(|r| finite(r)).count();
    if width < 2 || n < 2 {
        return none;
    }
    let sums = |zero: usize, add: &(dyn Fn(&[f32], &mut [f64]) + Sync)| {
        let parts: Vec<Vec<f64>> = rows
            .par_chunks(BLOCK * width)
            .map(|block| {
                let mut sum = vec![0.0; zero];
                block.chunks_exact(width).filter(|r| finite(r)).for_each(|r| add(r, &mut sum));
                sum
            })
            .collect();
        parts.into_iter().fold(vec![0.0; zero], |mut a, b| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        })
    };
    let mut mean = sums(width, &|r, s| s.iter_mut().zip(r).for_each(|(s, x)| *s += f64::from(*x)));
    mean.iter_mut().for_each(|m| *m /= n as f64);
    let centre = &mean;
    let mut covariance = sums(width * width, &|r, s| {
        let d: Vec<f64> = r.iter().zip(centre).map(|(x, m)| f64::from(*x) - m).collect();
        for (i, row) in s.chunks_exact_mut(width).enumerate() {
            let x = d[i];
            row.iter_mut().zip(&d).for_each(|(s, y)| *s += x * y);
        }
    });
    covariance.iter_mut().for_each(|c| *c /= n as f64);
    let total: f64 = (0..width).map(|i| covariance[i * width + i]).sum();
    if total <= 0.0 {
        return Pca { points: vec![(0.0, 0.0); none.points.len()], share: [0.0; 2] };
    }
    let axes = directions(&covariance, width);
    let along =
        |axis: &[f64], r: &[f32]| r.iter().zip(&mean).zip(axis).map(|((x, m), a)| (f64::from(*x) - m) * a).sum();
    let points: Vec<(f64, f64)> =
        rows.par_chunks_exact(width).map(|r| (along(&axes[0], r), along(&axes[1], r))).collect();
    let variance =
        |f: fn(&(f64, f64)) -> f64| points.iter().map(f).filter(|x| x.is_finite()).map(|x| x * x).sum::<f64>();
    let share = [variance(|p| p.0), variance(|p| p.1)].map(|v| v / n as f64 / total);
    Pca { points, share }
}

/// The two leading eigenvectors of a symmetric matrix.
fn directions(matrix: &[f64], n: usize) -> [Vec<f64>; 2] {
    let mut rng = crate::rng::Rng::new(906, 0x0070_6361);
    let mut basis: Vec<Vec<f64>> = (0..DIRECTIONS.min(n)).map(|_| (0..n).map(|_| rng.normal()).collect()).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let orthonormal = |basis: &mut Vec<Vec<f64>>| {
        for i in 0..basis.len() {
            let (done, rest) = basis.split_at_mut(i);
            let v = &mut rest[0];
            for _ in 0..2 {
                for d in done.iter() {
                    let p = dot(d, v);
                    v.iter_mut().zip(d).for_each(|(v, d)| *v -= p * d);
                }
            }
            let norm = dot(v, v).sqrt();
            if norm > 1e-300 {
                v.iter_mut().for_each(|x| *x /= norm);
            }
        }
    };
    orthonormal(&mut basis);
    for _ in 0..500 {
        let next: Vec<Vec<f64>> =
            basis.par_iter().map(|v| matrix.chunks_exact(n).map(|row| dot(row, v)).collect()).collect();
        let before = basis[..2].to_vec();
        basis = next;
        orthonormal(&mut basis);
        if before.iter().zip(&basis).all(|(a, b)| 1.0 - dot(a, b).abs() < 1e-13) {
            break;
        }
    }
    let mut first = basis.into_iter().map(|mut v| {
        let largest = v.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0);
        if largest < 0.0 {
            v.iter_mut().for_each(|x| *x = -*x);
        }
        v
    });
    [first.next().unwrap_or_default(), first.next().unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn planted_directions_are_found() {
        let (n, width) = (3000, 7);
        let mut rng = Rng::new(3, 0);
        let (u, v) = ([0.6, 0.8, 0.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        let mut rows = Vec::new();
        let mut planted = Vec::new();
        for _ in 0..n {
            let (a, b) = (5.0 * rng.normal(), 2.0 * rng.normal());
            planted.push((a, b));
            rows.extend((0..width).map(|k| (3.0 + a * u[k] + b * v[k] + 0.1 * rng.normal()) as f32));
        }
        rows[..width].fill(f32::NAN);
        let p = pca(&rows, width);
        assert!(p.points[0].0.is_nan());
        for (got, want) in p.points.iter().zip(&planted).skip(1) {
            assert!((got.0 - want.0).abs() < 1.0 && (got.1 - want.1).abs() < 1.0, "{got:?} {want:?}");
        }
        assert!((p.share[0] - 25.0 / 29.0).abs() < 0.03 && (p.share[1] - 4.0 / 29.0).abs() < 0.03, "{:?}", p.share);
        assert_eq!(pca(&[1.0; 12], 3).points, [(0.0, 0.0); 4]);
        assert_eq!(pca(&[], 3).points.len(), 0);
    }
}
