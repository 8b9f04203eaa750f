//! Pairs by peak, and what is summed over cells for them.

use rayon::prelude::*;

use super::cells::{Cells, plus};
use super::readings::Readings;
use crate::error::Result;

/// Pairs by peak, `ptr` `[P + 1]`, genes ascending.
pub(super) struct PairList {
    ptr: Vec<usize>,
    gene: Vec<u32>,
}

/// Sums over cells, in the order of a [`PairList`].
pub(super) struct Products {
    /// Level of the gene where the peak is open.
    pub sum: Vec<f64>,
    /// Cells with both.
    pub both: Vec<u32>,
}

impl PairList {
    /// Of pairs (peak, gene); doubles are one.
    pub fn new(mut pairs: Vec<(u32, u32)>, peaks: usize) -> Self {
        pairs.par_sort_unstable();
        pairs.dedup();
        let ptr = (0..=peaks as u32).map(|p| pairs.partition_point(|x| x.0 < p)).collect();
        PairList { ptr, gene: pairs.into_iter().map(|x| x.1).collect() }
    }

    /// Place of a pair.
    pub fn find(&self, gene: u32, peak: u32) -> Option<usize> {
        let range = self.ptr[peak as usize]..self.ptr[peak as usize + 1];
        self.gene[range.clone()].binary_search(&gene).ok().map(|at| range.start + at)
    }

    /// Sums over cells. Bytes: 12 a pair and portion of the cells.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`].
    pub fn products(&self, readings: &Readings, cells: Cells<'_>) -> Result<Products> {
        struct Sums {
            sum: Vec<f64>,
            both: Vec<u32>,
            expr: Vec<f64>,
            levels: Vec<f32>,
        }
        let zero = || Sums {
            sum: vec![0.0; self.gene.len()],
            both: vec![0; self.gene.len()],
            expr: vec![0.0; readings.genes.len()],
            levels: Vec::new(),
        };
        let sums = cells.sum(
            zero,
            |s, _, cell| {
                readings.levels(cell, &mut s.levels);
                cell.genes.iter().zip(&s.levels).for_each(|(&g, &x)| s.expr[g as usize] = f64::from(x));
                for (p, _) in cell.atac().filter(|(_, a)| *a > 0.0) {
                    for e in self.ptr[p as usize]..self.ptr[p as usize + 1] {
                        let x = s.expr[self.gene[e] as usize];
                        s.sum[e] += x;
                        s.both[e] += u32::from(x != 0.0);
                    }
                }
                cell.genes.iter().for_each(|&g| s.expr[g as usize] = 0.0);
            },
            |a, b| {
                plus(&mut a.sum, &b.sum);
                a.both.iter_mut().zip(b.both).for_each(|(a, b)| *a += b);
            },
        )?;
        Ok(Products { sum: sums.sum, both: sums.both })
    }
}
