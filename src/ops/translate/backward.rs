//! The way back through the translation: scores again, tile by tile, for the genes with a gradient.

use rayon::prelude::*;

use super::columns::PeakColumns;
use super::kernel::slope as vector_slope;
use crate::ops::matmul::{View, product_into};
use crate::profile::work;
use crate::real::{Real, sigmoid};
use crate::simd::sum_rows;

/// How the backward pass goes about its work, chosen by counted cost.
/// See docs/model.md, section 7.5, eq. 66.
#[derive(Debug, Clone, PartialEq)]
pub enum BackwardPlan {
    /// All genes with a gradient in any sample × the distinct columns of the batch.
    Distinct {
        /// Those genes, ascending.
        genes: Vec<u32>,
        /// Gene–column pairs.
        pairs: u64,
    },
    /// Each sample's own genes with a gradient × its own columns.
    CellByCell {
        /// Gene–column pairs.
        pairs: u64,
    },
}

impl BackwardPlan {
    /// `active` lists, for each sample, the genes whose gradient is not 0.
    pub fn new<T: Real>(genes: usize, cols: &PeakColumns<T>, active: &[Vec<u32>]) -> Self {
        let mut any = vec![false; genes];
        active.iter().flatten().for_each(|&i| any[i as usize] = true);
        let union: Vec<u32> = (0u32..).zip(&any).filter(|x| *x.1).map(|x| x.0).collect();
        let distinct = union.len() as u64 * cols.len() as u64;
        let own = |i: usize| active[i].len() as u64 * (cols.indptr[i + 1] - cols.indptr[i]) as u64;
        let compact = (0..active.len()).map(own).sum();
        if distinct <= compact {
            BackwardPlan::Distinct { genes: union, pairs: distinct }
        } else {
            BackwardPlan::CellByCell { pairs: compact }
        }
    }

    /// Gene–column pairs to recompute.
    pub fn pairs(&self) -> u64 {
        match self {
            BackwardPlan::Distinct { pairs, .. } | BackwardPlan::CellByCell { pairs } => *pairs,
        }
    }
}

/// The backward pass of one head.
pub(super) struct Backward<'a, T> {
    /// `[G, H]`.
    pub q: &'a [T],
    /// `[H]`.
    pub uq: &'a [T],
    /// Effective keys, `[U, H]`.
    pub ke: &'a [T],
    pub h: usize,
    pub head: usize,
    pub slice: usize,
}

/// What the backward pass adds to.
pub(super) struct Added<'a, T> {
    /// `[G, H]`.
    pub dq: &'a mut [T],
    /// `[H]`.
    pub duq: &'a mut [T],
    /// `[U, H]`.
    pub dke: &'a mut [T],
}

/// Tile of the backward pass, genes × columns.
const TILE: usize = 256;

impl<T: Real> Backward<'_, T> {
    /// Adds this head's gradients; `g(i)` is dL/dpred of sample i, `[G]`.
    pub fn run<'g>(&self, cols: &PeakColumns<T>, n: usize, g: impl Fn(usize) -> &'g [T] + Sync, add: &mut Added<'_, T>)
    where
        T: 'g,
    {
        let zero = T::of(0.0);
        let active: Vec<Vec<u32>> = (0..n)
            .into_par_iter()
            .map(|i| (0u32..).zip(g(i)).filter(|x| *x.1 != zero).map(|x| x.0).collect())
            .collect();
        let plan = BackwardPlan::new(self.q.len() / self.h, cols, &active);
        // Scores again, and a product each for genes and columns; the rows of both are read and added to.
        work(|| {
            let genes = active.iter().map(Vec::len).sum::<usize>().min(self.q.len() / self.h);
            let numbers = 3 * (genes + cols.len()) * self.slice;
            (6.0 * (self.slice as u64 * plan.pairs()) as f64, (numbers * size_of::<T>()) as f64)
        });
        match plan {
            BackwardPlan::Distinct { genes, .. } => {
                let all: Vec<u32> = (0..cols.len() as u32).collect();
                let samples = |c: u32| &cols.by_sample()[cols.by_ptr()[c as usize]..cols.by_ptr()[c as usize + 1]];
                self.block(&genes, &all, samples, &compact(&genes, n, &g), add);
            }
            BackwardPlan::CellByCell { .. } => {
                for (i, active) in active.iter().enumerate() {
                    let own = &cols.col[cols.indptr[i]..cols.indptr[i + 1]];
                    self.block(active, own, |_| &[0], &compact(active, 1, &|_| g(i)), add);
                }
            }
        }
    }

    /// Some genes × some columns. Column ranges of a fixed size run in parallel, each with its own partial of dq;
    /// partials are summed in order.
    fn block<'s>(
        &self,
        genes: &[u32],
        columns: &[u32],
        samples: impl Fn(u32) -> &'s [u32] + Sync,
        g: &[T],
        add: &mut Added<'_, T>,
    ) {
        if genes.is_empty() || columns.is_empty() {
            return;
        }
        let (h, slice, from) = (self.h, self.slice, self.head * self.slice);
        // Rows of this head only, contiguous: [genes, slice].
        let mut qe = Vec::with_capacity(genes.len() * slice);
        for &i in genes {
            let row = &self.q[i as usize * h + from..][..slice];
            qe.extend(row.iter().zip(&self.uq[from..]).map(|(&x, &u)| x + u));
        }
        let unit = columns.len().div_ceil(16).next_multiple_of(TILE);
        let parts: Vec<(Vec<T>, Vec<T>)> = columns
            .par_chunks(unit)
            .map(|columns| {
                let mut dqe = vec![T::of(0.0); genes.len() * slice];
                let mut dks = vec![T::of(0.0); columns.len() * slice];
                let (mut ks, mut tile, mut gs) = (Vec::new(), Vec::new(), Vec::new());
                for (columns, dks) in columns.chunks(TILE).zip(dks.chunks_mut(TILE * slice)) {
                    ks.clear();
                    for &c in columns {
                        ks.extend_from_slice(&self.ke[c as usize * h + from..][..slice]);
                    }
                    let kv = View::new(&ks, columns.len(), slice);
                    for (b, (qb, dqb)) in qe.chunks(TILE * slice).zip(dqe.chunks_mut(TILE * slice)).enumerate() {
                        let (m, n) = (columns.len(), qb.len() / slice);
                        sums(columns, &samples, g, genes.len(), b * TILE, n, &mut gs);
                        tile.resize(m * n, T::of(0.0));
                        let qv = View::new(qb, n, slice);
                        product_into(&mut tile, n, kv, qv.t(), false);
                        slope(&mut tile, &gs);
                        let t = View::new(&tile, m, n);
                        product_into(dks, slice, t, qv, true);
                        product_into(dqb, slice, t.t(), kv, true);
                    }
                }
                (dqe, dks)
            })
            .collect();
        let Added { dq, duq, dke } = add;
        for (columns, (dqe, dks)) in columns.chunks(unit).zip(parts) {
            for (&i, d) in genes.iter().zip(dqe.chunks_exact(slice)) {
                let out = &mut dq[i as usize * h + from..][..slice];
                for ((o, du), &d) in out.iter_mut().zip(&mut duq[from..]).zip(d) {
                    *o += d;
                    *du += d;
                }
            }
            for (&c, d) in columns.iter().zip(dks.chunks_exact(slice)) {
                dke[c as usize * h + from..][..slice].iter_mut().zip(d).for_each(|(o, &d)| *o += d);
            }
        }
    }
}

/// The gradients of some genes only, contiguous: `[n, genes]`.
fn compact<'g, T: Real + 'g>(genes: &[u32], n: usize, g: &(impl Fn(usize) -> &'g [T] + Sync)) -> Vec<T> {
    let mut out = vec![T::of(0.0); n * genes.len()];
    out.par_chunks_mut(genes.len().max(1)).enumerate().for_each(|(i, out)| {
        let row = g(i);
        out.iter_mut().zip(genes).for_each(|(o, &gene)| *o = row[gene as usize]);
    });
    out
}

/// `out[c, i] = Σ over samples s of column c of g[s, from + i]`, `[columns, n]`; g has rows of `width`.
fn sums<'s, T: Real>(
    columns: &[u32],
    samples: &impl Fn(u32) -> &'s [u32],
    g: &[T],
    width: usize,
    from: usize,
    n: usize,
    out: &mut Vec<T>,
) {
    out.resize(columns.len() * n, T::of(0.0));
    let mut rows: Vec<&[T]> = Vec::new();
    for (&c, out) in columns.iter().zip(out.chunks_exact_mut(n)) {
        rows.clear();
        rows.extend(samples(c).iter().map(|&s| &g[s as usize * width + from..][..n]));
        sum_rows(out, &rows);
    }
}

/// logit → s (1 − s) × g, in place.
fn slope<T: Real>(tile: &mut [T], gs: &[T]) {
    if vector_slope(tile, gs) {
        return;
    }
    for (x, &g) in tile.iter_mut().zip(gs) {
        let s = sigmoid(*x);
        *x = s * (T::of(1.0) - s) * g;
    }
}
