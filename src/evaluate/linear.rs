//! Linear algebra of baselines: eigenvectors of small matrices, leading components of sparse ones.

use faer::{MatRef, Side};
use rayon::prelude::*;

use crate::csr::Csr;
use crate::error::Result;
use crate::ops::matmul::{View, product, product_into};
use crate::progress::Progress;
use crate::rng::Rng;
use crate::simd::{axpy, gather_sum};

/// Columns of a product that a thread sums.
const PANEL: usize = 16;
/// Directions beyond those asked for.
const MORE: usize = 14;
/// Rounds of subspace iteration.
const ROUNDS: usize = 7;
/// Stream of random numbers that it starts from.
const START: u64 = 0x6C69_6E65;

/// Eigenvalues, falling, and eigenvectors, a row each, of a symmetric matrix `[n, n]`. Where no decomposition is found
/// (numbers that are not finite), the diagonal and unit vectors.
pub fn eigen(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut values, mut vectors) = (Vec::with_capacity(n), Vec::with_capacity(n * n));
    match MatRef::from_row_major_slice(matrix, n, n).self_adjoint_eigen(Side::Lower) {
        Ok(found) => {
            for k in (0..n).rev() {
                values.push(found.S()[k]);
                vectors.extend((0..n).map(|i| found.U()[(i, k)]));
            }
        }
        Err(_) => {
            values.extend((0..n).map(|i| matrix[i * n + i]));
            vectors.extend((0..n * n).map(|at| f64::from(u8::from(at / n == at % n))));
        }
    }
    (values, vectors)
}

/// A sparse matrix less a row: X = D − 1 μᵀ.
pub(super) struct Sparse {
    /// D.
    pub rows: Csr<f32>,
    /// Columns of it.
    pub columns: usize,
    /// `[columns]` μ; empty for 0.
    pub shift: Vec<f64>,
}

impl Sparse {
    /// X m, `[rows, w]`, for m `[columns, w]`.
    pub fn times(&self, m: &[f64], w: usize) -> Vec<f64> {
        let mut out = vec![0.0; self.rows.rows() * w];
        let mut less = vec![0.0; w];
        m.chunks_exact(w).zip(&self.shift).for_each(|(row, &s)| axpy(&mut less, s, row));
        out.par_chunks_exact_mut(w).enumerate().for_each_init(Vec::new, |values: &mut Vec<f64>, (i, out)| {
            let (index, x) = self.rows.row(i);
            values.clear();
            values.extend(x.iter().map(|&x| f64::from(x)));
            out.iter_mut().zip(&less).for_each(|(o, l)| *o = -l);
            gather_sum(out, values, m, w, index);
        });
        out
    }

    /// Xᵀ m, `[columns, w]`, for m `[rows, w]`.
    pub fn transposed_times(&self, m: &[f64], w: usize) -> Vec<f64> {
        let mut total = vec![0.0; w];
        m.chunks_exact(w).for_each(|row| axpy(&mut total, 1.0, row));
        // Each thread has columns of m of its own, so that the order of sums is that of the rows.
        let panels: Vec<(usize, usize, Vec<f64>)> = (0..w)
            .into_par_iter()
            .step_by(PANEL)
            .map(|from| {
                let width = PANEL.min(w - from);
                let mut out = vec![0.0; self.columns * width];
                for i in 0..self.rows.rows() {
                    let row = &m[i * w + from..][..width];
                    let (index, x) = self.rows.row(i);
                    for (&c, &x) in index.iter().zip(x) {
                        let out = &mut out[c as usize * width..][..width];
                        out.iter_mut().zip(row).for_each(|(o, r)| *o += f64::from(x) * r);
                    }
                }
                for (out, &s) in out.chunks_exact_mut(width).zip(&self.shift) {
                    axpy(out, -s, &total[from..from + width]);
                }
                (from, width, out)
            })
            .collect();
        let mut out = vec![0.0; self.columns * w];
        for (from, width, panel) in panels {
            for (row, some) in out.chunks_exact_mut(w).zip(panel.chunks_exact(width)) {
                row[from..from + width].copy_from_slice(some);
            }
        }
        out
    }
}

/// aᵀ b of a `[n, v]` and b `[n, w]`: `[v, w]`.
pub(super) fn inner(a: &[f64], v: usize, b: &[f64], w: usize) -> Vec<f64> {
    let n = a.len() / v.max(1);
    let mut out = vec![0.0; v * w];
    product_into(&mut out, w, View::new(a, n, v).t(), View::new(b, n, w), false);
    out
}

/// The columns of `m` `[n, w]` turned and scaled so that they are orthonormal; those of no length become 0.
fn orthonormal(m: Vec<f64>, w: usize) -> Vec<f64> {
    let mut m = m;
    // A second time for what the first leaves of rounding.
    for _ in 0..2 {
        let (values, vectors) = eigen(&inner(&m, w, &m, w), w);
        let least = 1e-13 * values.first().copied().unwrap_or(0.0);
        let scale: Vec<f64> = values.iter().map(|&v| if v > least { 1.0 / v.sqrt() } else { 0.0 }).collect();
        let scaled: Vec<f64> = (0..w * w).map(|at| vectors[at] * scale[at / w]).collect();
        let mut out = vec![0.0; m.len()];
        product(&mut out, View::new(&m, m.len() / w, w), View::new(&scaled, w, w).t(), false);
        m = out;
    }
    m
}

/// Leading right singular vectors.
pub(super) struct Leading {
    /// Singular values, falling; none that is 0.
    pub values: Vec<f64>,
    /// `[columns, values]`.
    pub right: Vec<f64>,
}

/// At most `k` leading right singular vectors of `m`, by subspace iteration from random directions.
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub(super) fn leading(m: &Sparse, k: usize, seed: u64, progress: &dyn Progress) -> Result<Leading> {
    let n = m.rows.rows();
    let w = (k + MORE).next_multiple_of(PANEL).min(n).min(m.columns);
    if w == 0 || k == 0 {
        return Ok(Leading { values: Vec::new(), right: Vec::new() });
    }
    let mut rng = Rng::new(seed, START);
    let mut q = orthonormal((0..n * w).map(|_| rng.normal()).collect(), w);
    for _ in 0..ROUNDS {
        progress.check("nothing was written")?;
        q = orthonormal(m.times(&m.transposed_times(&q, w), w), w);
    }
    let b = m.transposed_times(&q, w);
    let (squares, vectors) = eigen(&inner(&b, w, &b, w), w);
    let least = 1e-12 * squares[0].max(0.0);
    let values: Vec<f64> = squares.iter().take(k).take_while(|&&s| s > least).map(|s| s.sqrt()).collect();
    let kept = values.len();
    let turn: Vec<f64> = (0..kept * w).map(|at| vectors[at] / values[at / w]).collect();
    let mut right = vec![0.0; m.columns * kept];
    product(&mut right, View::new(&b, m.columns, w), View::new(&turn, kept, w).t(), false);
    Ok(Leading { values, right })
}

/// f(m) of a symmetric matrix `[n, n]`: f of its eigenvalues.
pub(super) fn function(m: &[f64], n: usize, f: impl Fn(f64) -> f64) -> Vec<f64> {
    let (values, vectors) = eigen(m, n);
    let scaled: Vec<f64> = (0..n * n).map(|at| vectors[at] * f(values[at / n])).collect();
    inner(&vectors, n, &scaled, n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_rebuild_their_matrix() {
        let m = [4.0, 1.0, 0.5, 1.0, 3.0, -0.2, 0.5, -0.2, 1.0];
        let (values, vectors) = eigen(&m, 3);
        assert!(values.is_sorted_by(|a, b| a >= b));
        for i in 0..3 {
            for j in 0..3 {
                let back: f64 = (0..3).map(|k| values[k] * vectors[k * 3 + i] * vectors[k * 3 + j]).sum();
                assert!((back - m[i * 3 + j]).abs() < 1e-12);
            }
        }
    }

    fn random(rng: &mut Rng, n: usize, columns: usize) -> (Sparse, Vec<f64>) {
        let mut rows = Csr::new();
        let mut dense = vec![0.0; n * columns];
        let shift: Vec<f64> = (0..columns).map(|_| rng.normal()).collect();
        for i in 0..n {
            let some: Vec<u32> = (0..columns as u32).filter(|_| rng.below(3) == 0).collect();
            let of: Vec<(u32, f32)> = some.into_iter().map(|c| (c, rng.normal() as f32)).collect();
            of.iter().for_each(|&(c, x)| dense[i * columns + c as usize] = f64::from(x));
            rows.push_row(of);
        }
        dense.chunks_exact_mut(columns).for_each(|r| r.iter_mut().zip(&shift).for_each(|(x, s)| *x -= s));
        (Sparse { rows, columns, shift }, dense)
    }

    #[test]
    fn products_equal_dense_ones() {
        let mut rng = Rng::new(1, 1);
        let (n, columns, w) = (30, 40, 19);
        let (m, dense) = random(&mut rng, n, columns);
        let x: Vec<f64> = (0..columns * w).map(|_| rng.normal()).collect();
        for (at, got) in m.times(&x, w).iter().enumerate() {
            let want: f64 = (0..columns).map(|c| dense[at / w * columns + c] * x[c * w + at % w]).sum();
            assert!((got - want).abs() < 1e-10);
        }
        for (at, got) in m.transposed_times(&x[..n * w], w).iter().enumerate() {
            let want: f64 = (0..n).map(|i| dense[i * columns + at / w] * x[i * w + at % w]).sum();
            assert!((got - want).abs() < 1e-10);
        }
    }

    /// Against faer's decomposition of the dense matrix.
    #[test]
    fn leading_vectors_are_those_of_the_dense_matrix() {
        let mut rng = Rng::new(1, 2);
        let (n, columns, k) = (120, 90, 6);
        let (mut m, mut dense) = random(&mut rng, n, columns);
        // A few strong directions.
        for i in 0..n {
            for c in 0..columns {
                if let Ok(at) = m.rows.row(i).0.binary_search(&(c as u32)) {
                    let more = 4.0 * ((i % 5 + c % 7) as f32 % 3.0);
                    m.rows.values[m.rows.indptr[i] + at] += more;
                    dense[i * columns + c] += f64::from(more);
                }
            }
        }
        let found = leading(&m, k, 906, &()).unwrap();
        let svd = MatRef::from_row_major_slice(&dense, n, columns).thin_svd().unwrap();
        assert_eq!(found.values.len(), k);
        for j in 0..k {
            let want = svd.S()[j];
            assert!((found.values[j] / want - 1.0).abs() < 1e-3, "{j}: {} {want}", found.values[j]);
        }
        // The plane of the first two.
        let overlap: f64 = (0..4)
            .map(|at| (0..columns).map(|c| found.right[c * k + at / 2] * svd.V()[(c, at % 2)]).sum::<f64>().powi(2))
            .sum();
        assert!((overlap - 2.0).abs() < 1e-3, "{overlap}");
        // A matrix of rank one has one.
        let mut rows = Csr::new();
        (1..9).for_each(|i| rows.push_row([(0, i as f32), (2, 2.0 * i as f32)]));
        let one = leading(&Sparse { rows, columns: 3, shift: Vec::new() }, 3, 906, &()).unwrap();
        assert_eq!(one.values.len(), 1);
        assert!((one.values[0] - (204.0f64 * 5.0).sqrt()).abs() < 1e-9);
    }

    #[test]
    fn functions_of_matrices() {
        let m = [4.0, 1.0, 0.5, 1.0, 3.0, -0.2, 0.5, -0.2, 1.0];
        let back = inner(&m, 3, &function(&m, 3, |x| 1.0 / x), 3);
        (0..9).for_each(|at| assert!((back[at] - f64::from(u8::from(at / 3 == at % 3))).abs() < 1e-12));
    }
}
