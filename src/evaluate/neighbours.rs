//! Nearest neighbours in an embedding, exact.

use rayon::prelude::*;

use crate::ops::matmul::{View, product_into};

/// Queries whose distances are held together.
const ROWS: usize = 32;
/// Candidates beyond those asked for: distances by products are rounded, and compared again as they are.
const MORE: usize = 8;

/// Rows of an embedding.
#[derive(Debug, Clone, Copy)]
pub struct Points<'a> {
    /// `[n, width]`, all finite.
    pub rows: &'a [f32],
    /// Numbers of a row.
    pub width: usize,
}

impl<'a> Points<'a> {
    /// n.
    pub fn len(&self) -> usize {
        self.rows.len().checked_div(self.width).unwrap_or(0)
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.rows[i * self.width..][..self.width]
    }

    /// These rows, one after the other.
    pub fn some(&self, numbers: &[u32]) -> Vec<f32> {
        numbers.iter().flat_map(|&i| self.row(i as usize)).copied().collect()
    }
}

/// Squared Euclidean distance.
pub(super) fn apart(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum()
}

/// Of each of `query` the `k` nearest of `reference` by Euclidean distance, nearest first, the lower number first where two
/// are as near: `[queries][k]`, fewer where there are fewer. With `themselves`, both are the same points, and none is its own
/// neighbour.
pub fn nearest(reference: Points<'_>, query: Points<'_>, k: usize, themselves: bool) -> Vec<Vec<u32>> {
    assert_eq!(reference.width, query.width, "points of one space");
    let (n, w) = (reference.len(), reference.width);
    // About the middle, where products lose least.
    let mut middle = vec![0.0f64; w];
    reference.rows.chunks_exact(w.max(1)).for_each(|r| middle.iter_mut().zip(r).for_each(|(m, &x)| *m += f64::from(x)));
    middle.iter_mut().for_each(|m| *m /= n.max(1) as f64);
    let moved = |rows: &[f32]| -> Vec<f64> {
        rows.chunks_exact(w.max(1)).flat_map(|r| r.iter().zip(&middle).map(|(&x, m)| f64::from(x) - m)).collect()
    };
    let of = moved(reference.rows);
    let half: Vec<f64> = of.chunks_exact(w.max(1)).map(|r| r.iter().map(|x| x * x).sum::<f64>() / 2.0).collect();
    query
        .rows
        .par_chunks((ROWS * w).max(1))
        .enumerate()
        .flat_map_iter(|(block, rows)| {
            let asking = rows.len() / w;
            let mut dots = vec![0.0f64; asking * n];
            product_into(&mut dots, n, View::new(&moved(rows), asking, w), View::new(&of, n, w).t(), false);
            let found: Vec<Vec<u32>> = dots
                .chunks_exact(n.max(1))
                .enumerate()
                .map(|(i, dots)| {
                    let own = (themselves).then_some(block * ROWS + i);
                    choose(reference, &rows[i * w..][..w], k, |j| (Some(j) != own).then(|| half[j] - dots[j]))
                })
                .collect();
            found
        })
        .collect()
}

/// The `k` nearest to `point` of those that have a distance.
fn choose(reference: Points<'_>, point: &[f32], k: usize, distance: impl Fn(usize) -> Option<f64>) -> Vec<u32> {
    let mut all: Vec<(f64, u32)> = (0..reference.len()).filter_map(|j| Some((distance(j)?, j as u32))).collect();
    let order = |a: &(f64, u32), b: &(f64, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    if all.len() > k + MORE {
        all.select_nth_unstable_by(k + MORE, order);
        all.truncate(k + MORE);
    }
    all.iter_mut().for_each(|(d, j)| *d = apart(reference.row(*j as usize), point));
    all.sort_unstable_by(order);
    all.truncate(k);
    all.into_iter().map(|x| x.1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn by_hand() {
        let rows = [0.0, 1.0, 3.0, 10.0, 1.0f32];
        let p = Points { rows: &rows, width: 1 };
        assert_eq!(nearest(p, p, 2, true), [[1, 4], [4, 0], [1, 4], [2, 1], [1, 0]]);
        assert_eq!(nearest(p, Points { rows: &[9.0], width: 1 }, 9, false), [[3, 2, 1, 4, 0]]);
        assert!(nearest(p, Points { rows: &[], width: 1 }, 2, false).is_empty());
    }

    #[test]
    fn equals_all_distances() {
        let mut rng = Rng::new(9, 1);
        let (n, width) = (150, 5);
        // Far from the origin, on a grid: distances are often equal.
        let rows: Vec<f32> = (0..n * width).map(|_| 1000.0 + rng.below(4) as f32).collect();
        let p = Points { rows: &rows, width };
        let found = nearest(p, p, 7, true);
        for (i, found) in found.iter().enumerate() {
            let d = |j: usize| (0..width).map(|k| (p.row(i)[k] - p.row(j)[k]).powi(2)).sum::<f32>();
            let mut all: Vec<usize> = (0..n).filter(|&j| j != i).collect();
            all.sort_by(|&a, &b| d(a).total_cmp(&d(b)));
            let near = |x: usize| d(x);
            let (got, want): (Vec<f32>, Vec<f32>) =
                (found.iter().map(|&j| near(j as usize)).collect(), all[..7].iter().map(|&j| near(j)).collect());
            assert_eq!(got, want);
            assert!(!found.contains(&(i as u32)));
        }
    }
}
