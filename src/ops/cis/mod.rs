//! `cis`: what the open peaks near a gene add to it, linear in q·k.
//!
//! `y_cg = Σ_j w_gj` over the open peaks j of cell c that the cis graph joins to gene g, `w_gj = s(bin) q_g·k_j / √H`. The
//! scores w are a sampled product (SDDMM) over the graph's edges at the distinct (peak, accessibility) columns of a batch;
//! y is a sparse sum (SpMM) of them over each cell's columns. `s = exp(decay)` of the pair's distance bin is learned.
//! A gene that takes its whole chromosome needs no edges: its y is `s q_g·(sum of the cell's keys on the chromosome) / √H`.
//!
//! Cost: 2 H flops an edge of the batch forward and 4 H backward, and one addition an edge and cell; on NeurIPS-2021 (0.5
//! million edges) 0.4 GFLOP a step, however large the batch, where `translate` takes hundreds.
//!
//! See docs/model.md, section 3.5, section 4.7, section 6.3, section 7.6.

pub(crate) mod check;
pub(crate) mod cuda;

use std::sync::Arc;

use rayon::prelude::*;

use super::translate::{PeakColumns, add_key_gradients, effective, keys};
use crate::model::nodes::group;
use crate::model::{BINS, CisGraph};
use crate::profile::{span, work};
use crate::real::Real;
use crate::simd::{axpy, dot};
use crate::tape::{Tape, Var};

/// Edges of the cis graph at the columns of a batch.
struct Edges {
    /// `[U + 1]` where the edges of a column start.
    start: Vec<usize>,
    /// `[E]` gene of each edge.
    gene: Vec<u32>,
    /// `[E]` distance bin of each edge.
    bin: Vec<u8>,
    /// `[U]` chromosome of each column.
    chrom: Vec<u32>,
    /// Genes that take their whole chromosome, ascending, and the chromosome.
    whole: Vec<(u32, u32)>,
}

/// Where genes and peaks lie, for [`cis`].
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// Which peaks a gene has.
    pub graph: &'a CisGraph,
    /// `[R]` peak of each row of the key table.
    pub rows: &'a [u32],
    /// `[G]` chromosome of each gene.
    pub gene_chrom: &'a [u32],
    /// `[P]` chromosome of each peak.
    pub peak_chrom: &'a [u32],
}

impl Edges {
    fn new<T: Real>(at: Places<'_>, cols: &PeakColumns<T>) -> Self {
        let mut e = Edges { start: vec![0], gene: Vec::new(), bin: Vec::new(), chrom: Vec::new(), whole: Vec::new() };
        for &row in &cols.row {
            let peak = at.rows[row as usize] as usize;
            let (gene, bin) = at.graph.of_peak(peak);
            e.gene.extend_from_slice(gene);
            e.bin.extend_from_slice(bin);
            e.start.push(e.gene.len());
            e.chrom.push(at.peak_chrom[peak]);
        }
        let whole = (0..).zip(&at.graph.whole).filter(|x| *x.1);
        e.whole = whole.map(|(g, _): (u32, _)| (g, at.gene_chrom[g as usize])).collect();
        e
    }

    fn of(&self, column: usize) -> std::ops::Range<usize> {
        self.start[column]..self.start[column + 1]
    }

    /// `buffer` `[E, …]` cut by columns.
    fn cut<'a, T>(&self, mut buffer: &'a mut [T]) -> Vec<&'a mut [T]> {
        let mut out = Vec::with_capacity(self.chrom.len());
        for u in 0..self.chrom.len() {
            let (own, rest) = buffer.split_at_mut(self.of(u).len());
            out.push(own);
            buffer = rest;
        }
        out
    }
}

/// Sums of the keys of a sample by chromosome, `[chromosomes, H]`.
fn by_chromosome<T: Real>(cols: &PeakColumns<T>, edges: &Edges, ke: &[T], h: usize, sample: usize, n: usize) -> Vec<T> {
    let mut sums = vec![T::of(0.0); n * h];
    for &u in &cols.col[cols.indptr[sample]..cols.indptr[sample + 1]] {
        let (chrom, u) = (edges.chrom[u as usize] as usize, u as usize);
        axpy(&mut sums[chrom * h..(chrom + 1) * h], T::of(1.0), &ke[u * h..(u + 1) * h]);
    }
    sums
}

/// Weights of edges, before the scale of their distance: `q_g·k_u / √H` for the edges of each column.
fn raw_weights<T: Real>(edges: &Edges, qe: &[T], ke: &[T], h: usize) -> Vec<T> {
    let mut raw = vec![T::of(0.0); edges.gene.len()];
    let by_root = T::of(1.0 / (h as f64).sqrt());
    edges.cut(&mut raw).into_par_iter().enumerate().with_min_len(64).for_each(|(u, out)| {
        let k = &ke[u * h..(u + 1) * h];
        for (o, &g) in out.iter_mut().zip(&edges.gene[edges.of(u)]) {
            *o = by_root * dot(&qe[g as usize * h..][..h], k);
        }
    });
    raw
}

fn scales<T: Real>(decay: &[T]) -> [T; BINS] {
    std::array::from_fn(|i| num_traits::Float::exp(decay[i]))
}

/// `[n, G]`: the sum of weights over each sample's open peaks near each gene; and `[1, E]`, the weights themselves of the
/// batch's edges (column by column, genes ascending within one).
///
/// `q` `[G, H]` (all genes), `uq` `[1, H]`, `k` `[R, H]`, `uk` `[1, H]` from `project`; `decay` `[1, BINS]`, logarithms of
/// the scales of distance bins. `cols` are the columns of the samples.
pub fn cis<'p, T: Real>(
    tape: &mut Tape<'p, T>,
    at: Places<'_>,
    cols: Arc<PeakColumns<T>>,
    (q, uq): (Var, Var),
    (k, uk): (Var, Var),
    decay: Var,
) -> (Var, Var) {
    let _span = span("cis", "forward");
    let [genes, h] = tape.shape(q);
    let (n, chromosomes) =
        (cols.samples(), 1 + at.gene_chrom.iter().chain(at.peak_chrom).max().copied().unwrap_or(0) as usize);
    let edges = Edges::new(at, &cols);
    let by_root = T::of(1.0 / (h as f64).sqrt());
    let mut qe = Vec::new();
    effective(tape.get(q), tape.get(uq), (0..genes).map(|g| (g, T::of(1.0))), &mut qe);
    let ke = keys(tape.get(k), tape.get(uk), &cols);
    let scale = scales(tape.get(decay));
    let raw = raw_weights(&edges, &qe, &ke, h);
    work(|| {
        // Of the genes that take their chromosome: the sums of all keys, and a product a sample.
        let whole = if edges.whole.is_empty() { 0 } else { cols.col.len() + 2 * n * edges.whole.len() };
        let added: usize = cols.col.iter().map(|&u| edges.of(u as usize).len()).sum();
        let numbers = (genes + cols.len()) * h + edges.gene.len() + n * genes;
        ((h * (2 * edges.gene.len() + whole) + 2 * added) as f64, (size_of::<T>() * numbers) as f64)
    });
    let mut y = vec![T::of(0.0); n * genes];
    y.par_chunks_mut(genes).enumerate().for_each(|(s, y)| {
        for &u in &cols.col[cols.indptr[s]..cols.indptr[s + 1]] {
            for e in edges.of(u as usize) {
                y[edges.gene[e] as usize] += scale[edges.bin[e] as usize] * raw[e];
            }
        }
        if !edges.whole.is_empty() {
            let sums = by_chromosome(&cols, &edges, &ke, h, s, chromosomes);
            for &(g, c) in &edges.whole {
                let (q, sum) = (&qe[g as usize * h..][..h], &sums[c as usize * h..][..h]);
                y[g as usize] += scale[BINS - 1] * by_root * dot(q, sum);
            }
        }
    });
    let y = tape.value(y, [n, genes]);
    let weights: Vec<T> = raw.iter().zip(&edges.bin).map(|(&r, &b)| scale[b as usize] * r).collect();
    let count = weights.len();
    let weights = tape.value(weights, [1, count]);
    tape.record("cis", &[y, weights], move |s| {
        let (d, own) = (s.take(y), s.take(weights));
        let (mut dq, mut dk, mut duq, mut duk) = (s.take(q), s.take(k), s.take(uq), s.take(uk));
        let mut ddecay = s.take(decay);
        work(|| (4.0 * (h * edges.gene.len()) as f64, (16 * edges.gene.len()) as f64));
        // Of an edge: its own, and the sum of the gradients of the cells whose column it is at.
        let mut de = own;
        edges.cut(&mut de).into_par_iter().enumerate().with_min_len(64).for_each(|(u, out)| {
            for &c in &cols.by_sample()[cols.by_ptr()[u]..cols.by_ptr()[u + 1]] {
                let row = &d[c as usize * genes..][..genes];
                out.iter_mut().zip(&edges.gene[edges.of(u)]).for_each(|(o, &g)| *o += row[g as usize]);
            }
        });
        let mut bins = [T::of(0.0); BINS];
        for ((de, &raw), &bin) in de.iter_mut().zip(&raw).zip(&edges.bin) {
            bins[bin as usize] += *de * raw;
            *de *= scale[bin as usize] * by_root;
        }
        let mut dke = vec![T::of(0.0); ke.len()];
        dke.par_chunks_mut(h).enumerate().with_min_len(64).for_each(|(u, out)| {
            for e in edges.of(u) {
                axpy(out, de[e], &qe[edges.gene[e] as usize * h..][..h]);
            }
        });
        let (ptr, order) = group(&edges.gene, genes);
        let mut column = vec![0u32; edges.gene.len()];
        (0..cols.len()).for_each(|u| column[edges.of(u)].fill(u as u32));
        let mut dqe = vec![T::of(0.0); genes * h];
        dqe.par_chunks_mut(h).enumerate().with_min_len(64).for_each(|(g, out)| {
            for &e in &order[ptr[g]..ptr[g + 1]] {
                axpy(out, de[e as usize], &ke[column[e as usize] as usize * h..][..h]);
            }
        });
        if !edges.whole.is_empty() {
            for i in 0..n {
                let d = &d[i * genes..][..genes];
                let sums = by_chromosome(&cols, &edges, &ke, h, i, chromosomes);
                let mut dsums = vec![T::of(0.0); sums.len()];
                for &(g, c) in &edges.whole {
                    let (g, c) = (g as usize * h, c as usize * h);
                    let f = d[g / h] * by_root;
                    bins[BINS - 1] += f * dot(&qe[g..g + h], &sums[c..c + h]);
                    axpy(&mut dqe[g..g + h], f * scale[BINS - 1], &sums[c..c + h]);
                    axpy(&mut dsums[c..c + h], f * scale[BINS - 1], &qe[g..g + h]);
                }
                for &u in &cols.col[cols.indptr[i]..cols.indptr[i + 1]] {
                    let (c, u) = (edges.chrom[u as usize] as usize * h, u as usize * h);
                    axpy(&mut dke[u..u + h], T::of(1.0), &dsums[c..c + h]);
                }
            }
        }
        for (i, b) in bins.into_iter().enumerate() {
            ddecay[i] += scale[i] * b;
        }
        for (out, d) in dq.chunks_exact_mut(h).zip(dqe.chunks_exact(h)) {
            axpy(out, T::of(1.0), d);
            axpy(&mut duq, T::of(1.0), d);
        }
        add_key_gradients(&dke, &cols, &mut dk, &mut duk);
        s.put(q, dq);
        s.put(k, dk);
        s.put(uq, duq);
        s.put(uk, duk);
        s.put(decay, ddecay);
    });
    (y, weights)
}
