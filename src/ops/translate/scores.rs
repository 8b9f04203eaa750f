//! Scores of genes against columns, block by block, counted as they come.

use rayon::prelude::*;

use super::columns::{PeakColumns, effective, keys};
use super::counters::{BLOCK, Counters, Mask, WORDS, add_masks};
use super::kernel::{PackedKeys, masks};
use crate::ops::matmul::{View, product_into};
use crate::real::Real;
use crate::tape::{Tape, Var};

/// Constants of the translation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TranslateSpec {
    /// Heads.
    pub heads: usize,
    /// Scores above it count.
    pub tau: f64,
    /// Predicted expressed with more than this many.
    pub min_peaks: usize,
}

/// The tables of queries and keys from `project`: each with the row that a node's value adds.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'a, T> {
    /// `[G, H]`, a row for each gene.
    pub q: &'a [T],
    /// `[H]`.
    pub uq: &'a [T],
    /// `[R, H]`, a row for each peak of the batch.
    pub k: &'a [T],
    /// `[H]`.
    pub uk: &'a [T],
}

impl<'a, T: Real> Tables<'a, T> {
    /// Those on a tape.
    pub fn of(tape: &'a Tape<'_, T>, (q, uq): (Var, Var), (k, uk): (Var, Var)) -> Self {
        Tables { q: tape.get(q), uq: tape.get(uq), k: tape.get(k), uk: tape.get(uk) }
    }

    /// G.
    pub fn genes(&self) -> usize {
        self.q.len() / self.uq.len()
    }
}

/// Effective keys `[U, H]`, one head of them at work.
struct HeadKeys<'a, T> {
    ke: &'a [T],
    packed: Option<PackedKeys<'a>>,
    h: usize,
    head: usize,
    slice: usize,
}

impl<'a, T: Real> HeadKeys<'a, T> {
    /// Head `head`, which has `slice` of the `h` numbers of a row.
    fn new(ke: &'a [T], h: usize, head: usize, slice: usize) -> Self {
        HeadKeys { ke, packed: PackedKeys::new(ke, h, head, slice), h, head, slice }
    }
}

/// ln(tau / (1 − tau)): sigmoid(x) > tau is x > this.
pub(crate) fn logit_limit<T: Real>(tau: f64) -> T {
    T::of((tau / (1.0 - tau)).ln())
}

/// Masks of all columns for the genes of one block (`q` `[genes, H]`): bit g of `masks[u]` is `[q_g·k_u > limit]`.
fn block_masks<T: Real>(keys: &HeadKeys<'_, T>, q: &[T], genes: usize, limit: T) -> Vec<Mask> {
    let &HeadKeys { ke, h, head, slice, .. } = keys;
    let n = ke.len() / h;
    let mut out = vec![[0u64; WORDS]; n];
    if masks(keys.packed.as_ref(), q, genes, limit, &mut out) {
        return out;
    }
    const COLS: usize = 128;
    let mut tile = vec![T::of(0.0); COLS * genes];
    for (ke, masks) in ke.chunks(COLS * h).zip(out.chunks_mut(COLS)) {
        let kv = View::strided(&ke[head * slice..], masks.len(), slice, h);
        product_into(&mut tile, genes, kv, View::strided(&q[head * slice..], genes, slice, h).t(), false);
        for (mask, row) in masks.iter_mut().zip(tile.chunks_exact(genes)) {
            for (word, row) in mask.iter_mut().zip(row.chunks(64)) {
                *word = row.iter().enumerate().fold(0, |w, (i, &x)| w | u64::from(x > limit) << i);
            }
        }
    }
    out
}

/// Runs `each(gene block number, head, sample, its counters)` over all blocks; results come back in block order.
pub(super) fn for_blocks<T: Real, R: Send>(
    spec: TranslateSpec,
    tables: Tables<'_, T>,
    cols: &PeakColumns<T>,
    start: impl Fn(usize) -> Counters + Sync,
    each: impl Fn(usize, usize, usize, &Counters) -> R + Sync,
) -> Vec<Vec<R>> {
    let Tables { q, uq, k, uk } = tables;
    let h = uq.len();
    let genes = q.len() / h;
    let ke = keys(k, uk, cols);
    let heads: Vec<_> = (0..spec.heads).map(|head| HeadKeys::new(&ke, h, head, h / spec.heads)).collect();
    (0..genes.div_ceil(BLOCK))
        .into_par_iter()
        .map(|block| {
            let (from, to) = (block * BLOCK, ((block + 1) * BLOCK).min(genes));
            let mut qe = Vec::new();
            effective(q, uq, (from..to).map(|g| (g, T::of(1.0))), &mut qe);
            let mut out = Vec::new();
            for (head, keys) in heads.iter().enumerate() {
                let masks = block_masks(keys, &qe, to - from, logit_limit(spec.tau));
                for s in 0..cols.samples() {
                    let mut counters = start(s);
                    for some in cols.col[cols.indptr[s]..cols.indptr[s + 1]].chunks(64) {
                        add_masks(&mut counters, &masks, some);
                        if counters.full() {
                            break;
                        }
                    }
                    out.push(each(block, head, s, &counters));
                }
            }
            out
        })
        .collect()
}

/// The counts n_i themselves: for each sample `[heads, G]`.
pub fn counts<T: Real>(spec: TranslateSpec, tables: Tables<'_, T>, cols: &PeakColumns<T>) -> Vec<Vec<u32>> {
    let genes = tables.genes();
    let size = |s: usize| cols.indptr[s + 1] - cols.indptr[s];
    let blocks = for_blocks(
        spec,
        tables,
        cols,
        |s| Counters::exact(size(s).max(1)),
        |_, _, _, c| (0..BLOCK).map(|g| c.count(g)).collect::<Vec<u32>>(),
    );
    let mut out = vec![vec![0u32; spec.heads * genes]; cols.samples()];
    for (block, results) in blocks.iter().enumerate() {
        for (i, r) in results.iter().enumerate() {
            let (head, s) = (i / cols.samples(), i % cols.samples());
            let n = BLOCK.min(genes - block * BLOCK);
            out[s][head * genes + block * BLOCK..][..n].copy_from_slice(&r[..n]);
        }
    }
    out
}

/// After so many columns [`decide_alone`] asks which genes are decided, and at last after all.
const WAVES: [usize; 2] = [126, 504];

/// `translate`'s decisions for one sample, `[heads, G]`, and how many gene–column scores that took. A gene is done with
/// once more than `min_peaks` of its scores passed; the others see the next wave of columns.
pub(super) fn decide_alone<T: Real>(
    spec: TranslateSpec,
    tables: Tables<'_, T>,
    cols: &PeakColumns<T>,
) -> (Vec<bool>, u64) {
    let Tables { q, uq, k, uk } = tables;
    let h = uq.len();
    let (genes, slice) = (q.len() / h, h / spec.heads);
    let limit = logit_limit(spec.tau);
    let ke = keys(k, uk, cols);
    let mut on = vec![false; spec.heads * genes];
    let mut scores = 0;
    for head in 0..spec.heads {
        let mut open: Vec<(u32, u32)> = (0..genes as u32).map(|g| (g, 0)).collect();
        let mut from = 0;
        for to in WAVES.into_iter().chain([usize::MAX]).map(|w| w.min(cols.len())) {
            if from == to || open.is_empty() {
                break;
            }
            let ke = &ke[from * h..to * h];
            let keys = HeadKeys::new(ke, h, head, slice);
            let all: Vec<u32> = (0..(to - from) as u32).collect();
            scores += open.len() as u64 * all.len() as u64;
            open.par_chunks_mut(BLOCK).for_each(|open| {
                let mut qe = Vec::new();
                effective(q, uq, open.iter().map(|o| (o.0 as usize, T::of(1.0))), &mut qe);
                let masks = block_masks(&keys, &qe, open.len(), limit);
                let mut counters = Counters::exact(all.len());
                add_masks(&mut counters, &masks, &all);
                open.iter_mut().enumerate().for_each(|(i, o)| o.1 += counters.count(i));
            });
            let over = |o: &(u32, u32)| o.1 as usize > spec.min_peaks;
            open.iter().filter(|o| over(o)).for_each(|o| on[head * genes + o.0 as usize] = true);
            open.retain(|o| !over(o));
            from = to;
        }
    }
    (on, scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Genes decided in the first wave, in a later one and never; a sample alone decides as its counts say.
    #[test]
    fn a_sample_alone_decides_by_its_counts() {
        let (genes, n, h) = (700, 1300, 8);
        let mut r = crate::rng::Rng::new(3, 3);
        let mut draw = |n: usize, sd: f64| (0..n).map(|_| (sd * r.normal()) as f32).collect::<Vec<f32>>();
        let (q, uq, k, uk) = (draw(genes * h, 0.25), draw(h, 0.1), draw(n * h, 1.0), draw(h, 0.1));
        let indices: Vec<u32> = (0..n as u32).collect();
        let (row, value) = (indices.clone(), draw(n, 1.0));
        let (by_ptr, by_sample) = ((0..=n).collect(), vec![0; n]);
        let cols = PeakColumns { row, value, indptr: vec![0, n], col: indices, by_ptr, by_sample };
        let tables = Tables { q: &q, uq: &uq, k: &k, uk: &uk };
        for heads in [1, 2] {
            let spec = TranslateSpec { heads, tau: 0.8, min_peaks: 9 };
            let (on, scores) = decide_alone(spec, tables, &cols);
            let counts = counts(spec, tables, &cols).remove(0);
            assert_eq!(on, counts.iter().map(|&c| c > 9).collect::<Vec<bool>>());
            let share = on.iter().filter(|&&x| x).count() as f64 / on.len() as f64;
            assert!((0.2..0.99).contains(&share), "{share}: decides nothing");
            let all = (heads * genes * n) as u64;
            assert!(scores < all && scores > all / 50, "{scores} of {all}");
        }
    }
}
