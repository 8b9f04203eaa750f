//! Dense products over row-major slices: `faer` underneath, cut into fixed blocks, so that the result is the same for
//! any number of threads.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use crate::real::Real;

/// A row-major (or, with `t`, transposed) view of a matrix.
#[derive(Debug, Clone, Copy)]
pub struct View<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    stride: usize,
    transposed: bool,
}

impl<'a, T: Real> View<'a, T> {
    /// `[rows, cols]`, contiguous.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// `[rows, cols]` with `stride` numbers from row to row.
    pub fn strided(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(cols <= stride && (rows == 0 || (rows - 1) * stride + cols <= data.len()), "view outside its data");
        View { data, rows, cols, stride, transposed: false }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        View { transposed: !self.transposed, ..self }
    }

    fn faer(&self) -> MatRef<'a, T> {
        let m = if self.rows == 0 || self.cols == 0 {
            MatRef::from_row_major_slice(&self.data[..0], self.rows, self.cols)
        } else {
            MatRef::from_row_major_slice_with_stride(
                &self.data[..(self.rows - 1) * self.stride + self.cols],
                self.rows,
                self.cols,
                self.stride,
            )
        };
        if self.transposed { m.transpose() } else { m }
    }

    fn shape(&self) -> (usize, usize) {
        if self.transposed { (self.cols, self.rows) } else { (self.rows, self.cols) }
    }

    fn row_block(&self, start: usize, len: usize) -> Self {
        debug_assert!(!self.transposed);
        View { data: &self.data[start * self.stride..], rows: len, ..*self }
    }
}

/// `out (+)= a · b` on the calling thread; `out` is row-major with `stride`.
pub fn product_into<T: Real>(out: &mut [T], stride: usize, a: View<'_, T>, b: View<'_, T>, add: bool) {
    let ((m, k), (k2, n)) = (a.shape(), b.shape());
    assert_eq!(k, k2, "inner sizes");
    if m == 0 || n == 0 {
        return;
    }
    // faer 0.24's own row-major constructor swaps the strides, so: the transpose of a column-major view.
    let out = &mut out[..(m - 1) * stride + n];
    let out = MatMut::from_column_major_slice_with_stride_mut(out, n, m, stride).transpose_mut();
    let accum = if add { Accum::Add } else { Accum::Replace };
    matmul(out, accum, a.faer(), b.faer(), T::of(1.0), Par::Seq);
}

/// `out (+)= a · b`, `out` `[m, n]` contiguous, rows of `a` in parallel blocks.
pub fn product<T: Real>(out: &mut [T], a: View<'_, T>, b: View<'_, T>, add: bool) {
    const ROWS: usize = 256;
    let n = b.shape().1;
    if a.transposed || a.rows <= ROWS {
        return product_into(out, n, a, b, add);
    }
    out.par_chunks_mut(ROWS * n).enumerate().for_each(|(i, out)| {
        product_into(out, n, a.row_block(i * ROWS, out.len() / n), b, add);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All shapes and layouts against a plain loop; numbers around the output must stay as they were.
    fn check<T: Real>(tolerance: f64) {
        let mut rng = crate::rng::Rng::new(1, 2);
        for case in 0..3000 {
            let (m, n, k) = (1 + rng.below(40), 1 + rng.below(40), 1 + rng.below(40));
            let (sa, sb, so) = (rng.below(5), rng.below(5), rng.below(5));
            let (ta, tb, add) = (rng.below(2) == 1, rng.below(2) == 1, rng.below(2) == 1);
            let mut random = |n: usize| (0..n).map(|_| T::of(rng.normal())).collect::<Vec<T>>();
            let (ra, ca) = if ta { (k, m) } else { (m, k) };
            let (rb, cb) = if tb { (n, k) } else { (k, n) };
            let a = random((ra - 1) * (ca + sa) + ca);
            let b = random((rb - 1) * (cb + sb) + cb);
            const PAD: usize = 64;
            let size = (m - 1) * (n + so) + n;
            let before = random(size + 2 * PAD);
            let mut got = before.clone();
            let (mut va, mut vb) = (View::strided(&a, ra, ca, ca + sa), View::strided(&b, rb, cb, cb + sb));
            if ta {
                va = va.t();
            }
            if tb {
                vb = vb.t();
            }
            product_into(&mut got[PAD..PAD + size], n + so, va, vb, add);
            let at = |v: &View<T>, i: usize, j: usize| {
                let (i, j) = if v.transposed { (j, i) } else { (i, j) };
                v.data[i * v.stride + j].f64()
            };
            let mut want: Vec<f64> = before.iter().map(|x| x.f64()).collect();
            for i in 0..m {
                for j in 0..n {
                    let sum: f64 = (0..k).map(|t| at(&va, i, t) * at(&vb, t, j)).sum();
                    let w = &mut want[PAD + i * (n + so) + j];
                    *w = if add { *w + sum } else { sum };
                }
            }
            for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                assert!(
                    (g.f64() - w).abs() <= tolerance * w.abs().max(1.0),
                    "case {case} ({m} {n} {k} {ta} {tb}): {i}: {g} {w}"
                );
            }
        }
    }

    #[test]
    fn equals_a_plain_loop() {
        check::<f64>(1e-12);
        check::<f32>(1e-4);
    }
}
