//! `translate`: from a cell's peaks to the expression of every gene (docs/model.md, section 4.6, section 7.4).
//!
//! `n_i = Σ_j [sigmoid(q_i·k_j) > tau]` over the cell's peaks; `predicted = [n_i > min_peaks]`. A column of the score
//! matrix depends only on (peak, accessibility), so scores are computed for the *distinct* columns of a batch, in
//! tiles that end as bit masks over genes; counting is bit-sliced: a word adds 64 genes at once. Both indicators are
//! straight-through: backward dlogit_ij = g_i s_ij (1 − s_ij) for every pair, recomputed tile by tile, skipping genes
//! whose g is exactly 0, over the distinct columns or cell by cell, whichever costs less. A sample alone computes no
//! further scores of a gene that is decided.

#[forbid(unsafe_code)]
pub mod check;
pub mod cuda;
pub mod kernel;

use std::sync::Arc;

use rayon::prelude::*;

use super::matmul::{View, product_into};
use crate::model::nodes::{NodeSet, group};
use crate::profile::{span, work};
use crate::real::{Real, sigmoid};
use crate::simd::{axpy, sum_rows, vectorized};
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

/// The distinct (peak, accessibility) columns of some samples, and who has which.
#[derive(Debug)]
pub struct Columns<T> {
    /// `[U]` row of the key table.
    pub row: Vec<u32>,
    /// `[U]` accessibility.
    pub value: Vec<T>,
    /// `[n + 1]` columns of each sample.
    pub indptr: Vec<usize>,
    /// `[nnz]` column of each entry.
    pub col: Vec<u32>,
    /// `[U + 1]` where the samples of each column start.
    by_ptr: Vec<usize>,
    /// `[nnz]` samples (numbered as in `indptr`) of each column, ascending.
    by_sample: Vec<u32>,
}

impl<T: Real> Columns<T> {
    /// Columns of `samples` (numbers of the batch), sorted by key row, then accessibility.
    pub fn new(peaks: &NodeSet<T>, samples: &[usize]) -> Self {
        let mut keys: Vec<(u32, u64)> = Vec::new();
        let bits = |v: T| v.f64().to_bits();
        let mut indptr = vec![0];
        for &b in samples {
            keys.extend((peaks.indptr[b]..peaks.indptr[b + 1]).map(|e| (peaks.local[e], bits(peaks.values[e]))));
            indptr.push(keys.len());
        }
        // Distinct values of each row: most rows have one, so a short list a row finds the column of an entry.
        let (ptr, order) = group(&keys.iter().map(|k| k.0).collect::<Vec<_>>(), peaks.rows.len());
        let mut out = Columns {
            row: Vec::new(),
            value: Vec::new(),
            indptr,
            col: vec![0; keys.len()],
            by_ptr: Vec::new(),
            by_sample: Vec::new(),
        };
        let mut values: Vec<u64> = Vec::new();
        for r in 0..peaks.rows.len() {
            let own = &order[ptr[r]..ptr[r + 1]];
            if own.is_empty() {
                continue;
            }
            values.clear();
            values.extend(own.iter().map(|&e| keys[e as usize].1));
            values.sort_unstable();
            values.dedup();
            let first = out.row.len() as u32;
            for &v in &values {
                out.row.push(r as u32);
                out.value.push(T::of(f64::from_bits(v)));
            }
            for &e in own {
                let at = values.partition_point(|&v| v < keys[e as usize].1);
                out.col[e as usize] = first + at as u32;
            }
        }
        let (by_ptr, by_entry) = group(&out.col, out.row.len());
        let mut sample_of = vec![0u32; keys.len()];
        for (i, w) in out.indptr.windows(2).enumerate() {
            sample_of[w[0]..w[1]].fill(i as u32);
        }
        out.by_sample = by_entry.iter().map(|&e| sample_of[e as usize]).collect();
        out.by_ptr = by_ptr;
        out
    }

    /// U.
    pub fn len(&self) -> usize {
        self.row.len()
    }

    /// No columns?
    pub fn is_empty(&self) -> bool {
        self.row.is_empty()
    }

    /// n.
    pub fn samples(&self) -> usize {
        self.indptr.len() - 1
    }

    /// `[U + 1]` where the samples of each column start in [`Columns::by_sample`].
    pub fn by_ptr(&self) -> &[usize] {
        &self.by_ptr
    }

    /// `[nnz]` samples (numbered as in `indptr`) of each column, ascending.
    pub fn by_sample(&self) -> &[u32] {
        &self.by_sample
    }
}

/// Genes a block of the forward pass covers: eight 64-bit words of mask a column.
const WORDS: usize = 8;
const BLOCK: usize = 64 * WORDS;
type Mask = [u64; WORDS];

/// Bit-sliced counters of `BLOCK` genes. Started `limit + 1` below the overflow, an overflow means "more than limit".
struct Counters {
    planes: Vec<Mask>,
    over: Mask,
}

impl Counters {
    /// Counters that overflow when more than `limit` was added.
    fn threshold(limit: usize) -> Self {
        let bits = (usize::BITS - limit.leading_zeros()) as usize;
        let first = (1usize << bits) - (limit + 1);
        let planes = (0..bits).map(|i| [if first >> i & 1 == 1 { u64::MAX } else { 0 }; WORDS]).collect();
        Counters { planes, over: [0; WORDS] }
    }

    /// Counters that hold up to `most`.
    fn exact(most: usize) -> Self {
        Counters { planes: vec![[0; WORDS]; (usize::BITS - most.leading_zeros()) as usize], over: [0; WORDS] }
    }

    fn full(&self) -> bool {
        self.over.iter().all(|&w| w == u64::MAX)
    }

    fn is_over(&self, gene: usize) -> bool {
        self.over[gene / 64] >> (gene % 64) & 1 == 1
    }

    fn count(&self, gene: usize) -> u32 {
        self.planes.iter().enumerate().map(|(i, p)| ((p[gene / 64] >> (gene % 64) & 1) as u32) << i).sum()
    }
}

vectorized! {
    /// Adds the masks of some columns to the counters, 512 genes at a time: a ripple of carries through the planes.
    fn add_masks(counters: &mut Counters, masks: &[Mask], columns: &[u32]) {
        for &c in columns {
            let mut carry = masks[c as usize];
            for plane in &mut counters.planes {
                for (p, c) in plane.iter_mut().zip(&mut carry) {
                    (*p, *c) = (*p ^ *c, *p & *c);
                }
            }
            for (o, c) in counters.over.iter_mut().zip(&carry) {
                *o |= c;
            }
        }
    }
}

/// `table[row] + value u` for some rows, contiguous, `[rows, H]`.
pub(crate) fn effective<T: Real>(table: &[T], u: &[T], rows: impl Iterator<Item = (usize, T)>, out: &mut Vec<T>) {
    out.clear();
    for (r, v) in rows {
        out.extend(table[r * u.len()..(r + 1) * u.len()].iter().zip(u).map(|(&x, &u)| x + v * u));
    }
}

/// Effective keys of all columns, `[U, H]`.
pub(crate) fn keys<T: Real>(k: &[T], uk: &[T], cols: &Columns<T>) -> Vec<T> {
    let h = uk.len();
    let mut out = vec![T::of(0.0); cols.len() * h];
    out.par_chunks_mut(512 * h).enumerate().for_each(|(c, out)| {
        for (i, out) in out.chunks_exact_mut(h).enumerate() {
            let row = cols.row[c * 512 + i] as usize;
            let v = cols.value[c * 512 + i];
            for ((o, &x), &u) in out.iter_mut().zip(&k[row * h..]).zip(uk) {
                *o = x + v * u;
            }
        }
    });
    out
}

/// The way back through [`keys`]: `dk` and `duk` += what `dke` `[U, H]` says.
pub(crate) fn add_key_gradients<T: Real>(dke: &[T], cols: &Columns<T>, dk: &mut [T], duk: &mut [T]) {
    let h = duk.len();
    for ((d, &row), &v) in dke.chunks_exact(h).zip(&cols.row).zip(&cols.value) {
        axpy(&mut dk[row as usize * h..][..h], T::of(1.0), d);
        axpy(duk, v, d);
    }
}

/// Masks of all columns for the genes of one block: bit g of `masks[u]` is `[q_g·k_u > limit]`.
#[allow(clippy::too_many_arguments)]
fn block_masks<T: Real>(
    q: &[T],
    genes: usize,
    ke: &[T],
    packed: Option<&kernel::PackedKeys>,
    h: usize,
    head: usize,
    slice: usize,
    limit: T,
) -> Vec<Mask> {
    let n = ke.len() / h;
    let mut masks = vec![[0u64; WORDS]; n];
    if kernel::masks(packed, q, genes, limit, &mut masks) {
        return masks;
    }
    const COLS: usize = 128;
    let mut tile = vec![T::of(0.0); COLS * genes];
    for (ke, masks) in ke.chunks(COLS * h).zip(masks.chunks_mut(COLS)) {
        let kv = View::strided(&ke[head * slice..], masks.len(), slice, h);
        product_into(&mut tile, genes, kv, View::strided(&q[head * slice..], genes, slice, h).t(), false);
        for (mask, row) in masks.iter_mut().zip(tile.chunks_exact(genes)) {
            for (word, row) in mask.iter_mut().zip(row.chunks(64)) {
                *word = row.iter().enumerate().fold(0, |w, (i, &x)| w | u64::from(x > limit) << i);
            }
        }
    }
    masks
}

/// ln(tau / (1 − tau)): sigmoid(x) > tau is x > this.
pub(crate) fn logit_limit<T: Real>(tau: f64) -> T {
    T::of((tau / (1.0 - tau)).ln())
}

/// Runs `each(gene block number, head, sample, its counters)` over all blocks; results come back in block order.
#[allow(clippy::too_many_arguments)]
fn for_blocks<T: Real, R: Send>(
    spec: TranslateSpec,
    q: &[T],
    uq: &[T],
    k: &[T],
    uk: &[T],
    cols: &Columns<T>,
    start: impl Fn(usize) -> Counters + Sync,
    each: impl Fn(usize, usize, usize, &Counters) -> R + Sync,
) -> Vec<Vec<R>> {
    let h = uq.len();
    let (genes, slice) = (q.len() / h, h / spec.heads);
    let ke = keys(k, uk, cols);
    let packed: Vec<_> = (0..spec.heads).map(|head| kernel::PackedKeys::new(&ke, h, head, slice)).collect();
    (0..genes.div_ceil(BLOCK))
        .into_par_iter()
        .map(|block| {
            let (from, to) = (block * BLOCK, ((block + 1) * BLOCK).min(genes));
            let mut qe = Vec::new();
            effective(q, uq, (from..to).map(|g| (g, T::of(1.0))), &mut qe);
            let mut out = Vec::new();
            for (head, packed) in packed.iter().enumerate() {
                let masks = block_masks(&qe, to - from, &ke, packed.as_ref(), h, head, slice, logit_limit(spec.tau));
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
pub fn counts<T: Real>(spec: TranslateSpec, q: &[T], uq: &[T], k: &[T], uk: &[T], cols: &Columns<T>) -> Vec<Vec<u32>> {
    let genes = q.len() / uq.len();
    let size = |s: usize| cols.indptr[s + 1] - cols.indptr[s];
    let blocks = for_blocks(
        spec,
        q,
        uq,
        k,
        uk,
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
fn decide_alone<T: Real>(
    spec: TranslateSpec,
    q: &[T],
    uq: &[T],
    k: &[T],
    uk: &[T],
    cols: &Columns<T>,
) -> (Vec<bool>, u64) {
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
            let packed = kernel::PackedKeys::new(ke, h, head, slice);
            let all: Vec<u32> = (0..(to - from) as u32).collect();
            scores += open.len() as u64 * all.len() as u64;
            open.par_chunks_mut(BLOCK).for_each(|open| {
                let mut qe = Vec::new();
                effective(q, uq, open.iter().map(|o| (o.0 as usize, T::of(1.0))), &mut qe);
                let masks = block_masks(&qe, open.len(), ke, packed.as_ref(), h, head, slice, limit);
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

/// Predicted expression of every gene: `[n × heads, G]` of 0 and 1, row `sample × heads + head`.
///
/// `q` `[G, H]` (all genes), `uq` `[1, H]`, `k` `[R, H]`, `uk` `[1, H]` from `project`. `given` replaces the decisions
/// (`[n × heads, G]` of 0/1), for comparisons of two precisions.
pub fn translate<'p, T: Real>(
    tape: &mut Tape<'p, T>,
    spec: TranslateSpec,
    cols: Arc<Columns<T>>,
    (q, uq): (Var, Var),
    (k, uk): (Var, Var),
    given: Option<&[u8]>,
) -> Var {
    let _span = span("translate", "forward");
    let [genes, h] = tape.shape(q);
    let n = cols.samples();
    let counted = |scores: u64| {
        let numbers = h * (genes + cols.len()) + n * spec.heads * genes;
        work(|| (2.0 * (scores * h as u64 / spec.heads as u64) as f64, (size_of::<T>() * numbers) as f64));
    };
    let mut pred = vec![T::of(0.0); n * spec.heads * genes];
    if let Some(given) = given {
        pred.iter_mut().zip(given).for_each(|(p, &g)| *p = T::of(f64::from(g)));
    } else if n == 1 {
        let v = |x| tape.get(x);
        let (on, scores) = decide_alone(spec, v(q), v(uq), v(k), v(uk), &cols);
        pred.iter_mut().zip(on).for_each(|(p, on)| *p = T::of(f64::from(u8::from(on))));
        counted(scores);
    } else {
        counted((genes * cols.len() * spec.heads) as u64);
        let blocks = for_blocks(
            spec,
            tape.get(q),
            tape.get(uq),
            tape.get(k),
            tape.get(uk),
            &cols,
            |_| Counters::threshold(spec.min_peaks),
            |_, _, _, c| c.over,
        );
        for (block, results) in blocks.iter().enumerate() {
            for (i, over) in results.iter().enumerate() {
                let (head, s) = (i / n, i % n);
                let c = Counters { planes: Vec::new(), over: *over };
                let from = block * BLOCK;
                for g in from..(from + BLOCK).min(genes) {
                    pred[(s * spec.heads + head) * genes + g] = T::of(f64::from(u8::from(c.is_over(g - from))));
                }
            }
        }
    }
    let pred = tape.value(pred, [n * spec.heads, genes]);
    tape.record("translate", &[pred], move |s| {
        let g = s.take(pred);
        let (mut dq, mut dk) = (s.take(q), s.take(k));
        let (mut duq, mut duk) = (s.take(uq), s.take(uk));
        {
            let (qv, kv, uqv, ukv) = (s.value(q), s.value(k), s.value(uq), s.value(uk));
            let ke = keys(kv, ukv, &cols);
            let mut dke = vec![T::of(0.0); ke.len()];
            for head in 0..spec.heads {
                let rows = |i: usize| &g[(i * spec.heads + head) * genes..][..genes];
                let task = Backward { q: qv, uq: uqv, ke: &ke, h, head, slice: h / spec.heads };
                task.run(&cols, n, rows, &mut dq, &mut duq, &mut dke);
            }
            add_key_gradients(&dke, &cols, &mut dk, &mut duk);
        }
        s.put(q, dq);
        s.put(k, dk);
        s.put(uq, duq);
        s.put(uk, duk);
    });
    pred
}

/// How the backward pass goes about its work, chosen by counted cost.
/// See docs/model.md, section 7.5, eq. 66.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
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

impl Plan {
    /// `active` lists, for each sample, the genes whose gradient is not 0.
    pub fn new<T: Real>(genes: usize, cols: &Columns<T>, active: &[Vec<u32>]) -> Self {
        let mut any = vec![false; genes];
        active.iter().flatten().for_each(|&i| any[i as usize] = true);
        let union: Vec<u32> = (0u32..).zip(&any).filter(|x| *x.1).map(|x| x.0).collect();
        let distinct = union.len() as u64 * cols.len() as u64;
        let own = |i: usize| active[i].len() as u64 * (cols.indptr[i + 1] - cols.indptr[i]) as u64;
        let compact = (0..active.len()).map(own).sum();
        if distinct <= compact {
            Plan::Distinct { genes: union, pairs: distinct }
        } else {
            Plan::CellByCell { pairs: compact }
        }
    }

    /// Gene–column pairs to recompute.
    pub fn pairs(&self) -> u64 {
        match self {
            Plan::Distinct { pairs, .. } | Plan::CellByCell { pairs } => *pairs,
        }
    }
}

/// The backward pass of one head.
struct Backward<'a, T> {
    q: &'a [T],
    uq: &'a [T],
    ke: &'a [T],
    h: usize,
    head: usize,
    slice: usize,
}

/// Tile of the backward pass, genes × columns.
const TILE: usize = 256;

impl<T: Real> Backward<'_, T> {
    /// `dq` `[G, H]`, `duq` `[H]`, `dke` `[U, H]` += their gradients; `g(i)` is dL/dpred of sample i, `[G]`.
    fn run<'g>(
        &self,
        cols: &Columns<T>,
        n: usize,
        g: impl Fn(usize) -> &'g [T] + Sync,
        dq: &mut [T],
        duq: &mut [T],
        dke: &mut [T],
    ) where
        T: 'g,
    {
        let zero = T::of(0.0);
        let active: Vec<Vec<u32>> = (0..n)
            .into_par_iter()
            .map(|i| (0u32..).zip(g(i)).filter(|x| *x.1 != zero).map(|x| x.0).collect())
            .collect();
        let plan = Plan::new(self.q.len() / self.h, cols, &active);
        // Scores again, and a product each for genes and columns; the rows of both are read and added to.
        work(|| {
            let genes = active.iter().map(Vec::len).sum::<usize>().min(self.q.len() / self.h);
            let numbers = 3 * (genes + cols.len()) * self.slice;
            (6.0 * (self.slice as u64 * plan.pairs()) as f64, (numbers * size_of::<T>()) as f64)
        });
        match plan {
            Plan::Distinct { genes, .. } => {
                let all: Vec<u32> = (0..cols.len() as u32).collect();
                let samples = |c: u32| &cols.by_sample[cols.by_ptr[c as usize]..cols.by_ptr[c as usize + 1]];
                self.block(&genes, &all, samples, &compact(&genes, n, &g), dq, duq, dke);
            }
            Plan::CellByCell { .. } => {
                for (i, active) in active.iter().enumerate() {
                    let own = &cols.col[cols.indptr[i]..cols.indptr[i + 1]];
                    self.block(active, own, |_| &[0], &compact(active, 1, &|_| g(i)), dq, duq, dke);
                }
            }
        }
    }

    /// Some genes × some columns. Column ranges of a fixed size run in parallel, each with its own partial of dq;
    /// partials are summed in order.
    #[allow(clippy::too_many_arguments)]
    fn block<'s>(
        &self,
        genes: &[u32],
        columns: &[u32],
        samples: impl Fn(u32) -> &'s [u32] + Sync,
        g: &[T],
        dq: &mut [T],
        duq: &mut [T],
        dke: &mut [T],
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
    if kernel::slope(tile, gs) {
        return;
    }
    for (x, &g) in tile.iter_mut().zip(gs) {
        let s = sigmoid(*x);
        *x = s * (T::of(1.0) - s) * g;
    }
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
        let cols = Columns { row, value, indptr: vec![0, n], col: indices, by_ptr, by_sample };
        for heads in [1, 2] {
            let spec = TranslateSpec { heads, tau: 0.8, min_peaks: 9 };
            let (on, scores) = decide_alone(spec, &q, &uq, &k, &uk, &cols);
            let counts = counts(spec, &q, &uq, &k, &uk, &cols).remove(0);
            assert_eq!(on, counts.iter().map(|&c| c > 9).collect::<Vec<bool>>());
            let share = on.iter().filter(|&&x| x).count() as f64 / on.len() as f64;
            assert!((0.2..0.99).contains(&share), "{share}: decides nothing");
            let all = (heads * genes * n) as u64;
            assert!(scores < all && scores > all / 50, "{scores} of {all}");
        }
    }
}
