//! Kinds, depth and programmes taken out of genes and peaks: what is left of a pair within kinds.

use rayon::prelude::*;

use super::cells::{Cells, plus};
use super::components::orthonormalise;
use super::kinds::{Kinds, NO_KIND};
use super::readings::Readings;
use crate::dataset::Cell;
use crate::error::Result;
use crate::simd::axpy;

/// Genes and peaks, with what covariates explain taken out: docs/model.md, eq. 71.
#[derive(Debug, Clone)]
pub struct Adjusted {
    /// Numbers of components that can be taken out, rising.
    pub candidates: Vec<usize>,
    width: usize,
    /// Covariates before the components.
    fixed: usize,
    /// `[G, width]` and `[P, width]` projections on the covariates.
    on: [Vec<f64>; 2],
    /// For each candidate `[G]` and `[P]` sums of squares left.
    rest: Vec<[Vec<f64>; 2]>,
}

impl Adjusted {
    /// Over `cells`: the constant, kinds, the logs of the numbers of genes and peaks of a cell, and as many of the columns of
    /// `components` `[cells, most]` as each candidate says are taken out. Two passes over the cells.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`].
    pub fn new(
        cells: Cells<'_>,
        readings: &Readings,
        kinds: Option<&Kinds>,
        components: &[f64],
        candidates: &[usize],
    ) -> Result<Self> {
        let n = cells.numbers.len();
        let most = components.len().checked_div(n).unwrap_or(0);
        let k = kinds.map_or(0, Kinds::len);
        let (fixed, width) = (3 + k, 3 + k + most);
        let mut q = vec![0.0; n * width];
        q.par_chunks_mut(width).zip(cells.numbers).enumerate().for_each_init(Cell::default, |cell, (i, (q, &c))| {
            (cells.read)(c, cell);
            q[0] = 1.0;
            q[1] = (1.0 + cell.genes.len() as f64).ln();
            q[2] = (1.0 + cell.peaks.len() as f64).ln();
            if let Some(kind) = kinds.map(|k| k.of[i]).filter(|&k| k != NO_KIND) {
                q[3 + usize::from(kind)] = 1.0;
            }
            q[fixed..].copy_from_slice(&components[i * most..][..most]);
        });
        orthonormalise(&mut q, width);
        let (genes, peaks) = (readings.genes.len(), readings.peaks.len());
        let (on, _) = cells.sum(
            || ([vec![0.0; genes * width], vec![0.0; peaks * width]], Vec::new()),
            |(on, levels), at, cell| {
                let q = &q[at * width..][..width];
                readings.levels(cell, levels);
                for (&g, &x) in cell.genes.iter().zip(levels.iter()) {
                    axpy(&mut on[0][g as usize * width..][..width], f64::from(x), q);
                }
                let open = cell.atac().filter(|(_, a)| *a > 0.0);
                open.for_each(|(p, _)| plus(&mut on[1][p as usize * width..][..width], q));
            },
            |a, b| (0..2).for_each(|side| plus(&mut a.0[side], &b.0[side])),
        )?;
        let squares = [readings.square.clone(), readings.peaks.iter().map(|&n| f64::from(n)).collect()];
        let left = |side: usize, taken: usize| -> Vec<f64> {
            let explained = on[side].chunks_exact(width).map(|p| p[..taken].iter().map(|x| x * x).sum::<f64>());
            // What rounding leaves of something that the covariates explain wholly counts as nothing.
            explained.zip(&squares[side]).map(|(p, &q)| if q - p > 1e-9 * q { q - p } else { 0.0 }).collect()
        };
        let candidates: Vec<usize> = candidates.iter().map(|&c| c.min(most)).collect();
        let rest = candidates.iter().map(|c| [0, 1].map(|side| left(side, fixed + c))).collect();
        Ok(Adjusted { candidates, width, fixed, on, rest })
    }

    /// Partial correlation of a gene and a peak whose products of level and openness sum to `product`, for each candidate,
    /// into `out`; 0 where nothing is left of either.
    pub fn partial(&self, gene: u32, peak: u32, product: f64, out: &mut [f32]) {
        let (g, p, w) = (gene as usize, peak as usize, self.width);
        let (a, b) = (&self.on[0][g * w..][..w], &self.on[1][p * w..][..w]);
        let mut left = product;
        let mut taken = 0;
        for ((&k, rest), out) in self.candidates.iter().zip(&self.rest).zip(out) {
            let upto = self.fixed + k;
            left -= a[taken..upto].iter().zip(&b[taken..upto]).map(|(x, y)| x * y).sum::<f64>();
            taken = upto;
            let both = rest[0][g] * rest[1][p];
            *out = if both > 0.0 { (left / both.sqrt()) as f32 } else { 0.0 };
        }
    }
}
