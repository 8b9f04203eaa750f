//! `attend`: masked top-k attention by chromosome blocks (docs/model.md, section 4.2, section 6.1, section 7.2).
//!
//! For each gene: q·k with the cell's peaks of its own chromosome, a streaming top-k in which masked pairs (logit 0,
//! score 0.5) fill the places that are left, softmax over the chosen scores, threshold. Out come row sums and column
//! sums of A, never A itself: nothing of size n_r × n_a exists, tiles are at most 64 × 512.
//!
//! Order: by logit, then lower peak index of the data set; masked pairs take part with their own index.

pub(crate) mod check;
pub(crate) mod cuda;

use std::sync::Arc;

use rayon::prelude::*;

use super::matmul::{View, product_into};
use crate::model::nodes::{NodeSet, group};
use crate::model::output::{Member, Selection};
use crate::profile::{span, work};
use crate::real::Real;
use crate::simd::{axpy, gather_sum};
use crate::tape::{Tape, Var};

/// Constants of the attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttendSpec {
    /// Heads; each has its own slice of H / heads columns.
    pub heads: usize,
    /// Places a gene has.
    pub top_k: usize,
    /// Scores above it pass.
    pub tau: f64,
    /// The chromosome that matches nothing.
    pub unknown: Option<u32>,
}

/// A candidate for a place: logit, data set index, entry (`MASKED` for a masked pair).
#[derive(Debug, Clone, Copy)]
struct Candidate<T> {
    pub(crate) logit: T,
    pub(crate) index: u32,
    pub(crate) entry: u32,
}

const MASKED: u32 = u32::MAX;
const GENES: usize = 64;
const PEAKS: usize = 512;

fn better<T: Real>(a: &Candidate<T>, b: &Candidate<T>) -> bool {
    a.logit > b.logit || (a.logit == b.logit && a.index < b.index)
}

/// The best `cap` candidates of each of some genes (and heads), best first, in one buffer.
struct Tops<T> {
    list: Vec<Candidate<T>>,
    len: Vec<usize>,
    cap: usize,
}

impl<T: Real> Tops<T> {
    /// `n` lists that start with the masked pairs.
    fn new(n: usize, cap: usize, pads: &[Candidate<T>]) -> Self {
        let blank = Candidate { logit: T::of(0.0), index: MASKED, entry: MASKED };
        let mut list = vec![blank; n * cap];
        for own in list.chunks_exact_mut(cap) {
            own[..pads.len()].copy_from_slice(pads);
        }
        Tops { list, len: vec![pads.len(); n], cap }
    }

    fn of(&self, i: usize) -> &[Candidate<T>] {
        &self.list[i * self.cap..][..self.len[i]]
    }

    /// Offers list `i` a run of logits, skipping those that cannot get in, sixteen at a time.
    fn offer_run(&mut self, i: usize, logits: &[T], index: impl Fn(usize) -> u32, first_entry: usize) {
        let cap = self.cap;
        let own = &mut self.list[i * cap..(i + 1) * cap];
        let len = &mut self.len[i];
        for (c, chunk) in logits.chunks(16).enumerate() {
            if *len == cap {
                let worst = own[cap - 1].logit;
                if !chunk.iter().fold(false, |any, &l| any | (l >= worst)) {
                    continue;
                }
            }
            for (j, &logit) in chunk.iter().enumerate() {
                if *len == cap && logit < own[cap - 1].logit {
                    continue;
                }
                let at = c * 16 + j;
                let new = Candidate { logit, index: index(at), entry: (first_entry + at) as u32 };
                let mut place = if *len < cap {
                    *len += 1;
                    *len - 1
                } else if better(&new, &own[cap - 1]) {
                    cap - 1
                } else {
                    continue;
                };
                while place > 0 && better(&new, &own[place - 1]) {
                    own[place] = own[place - 1];
                    place -= 1;
                }
                own[place] = new;
            }
        }
    }
}

/// The tables and node sets attention reads.
struct Inputs<'a, T> {
    q: &'a [T],
    uq: &'a [T],
    k: &'a [T],
    uk: &'a [T],
    genes: &'a NodeSet<T>,
    peaks: &'a NodeSet<T>,
    hidden: usize,
    spec: AttendSpec,
}

/// Rows `table[local] + value u` of some entries, contiguous.
fn gather<T: Real>(table: &[T], u: &[T], nodes: &NodeSet<T>, from: usize, to: usize, out: &mut Vec<T>) {
    let h = u.len();
    out.resize((to - from) * h, T::of(0.0));
    for (o, e) in out.chunks_exact_mut(h).zip(from..to) {
        let row = &table[nodes.local[e] as usize * h..][..h];
        o.copy_from_slice(row);
        axpy(o, nodes.values[e], u);
    }
}

impl<T: Real> Inputs<'_, T> {
    /// Attention of one sample, choosing by logit.
    fn select(&self, b: usize) -> Selection<T> {
        let (h, spec) = (self.hidden, &self.spec);
        let slice = h / spec.heads;
        let mut out = Selection { start: vec![0], ..Selection::default() };
        let n_a = self.peaks.count(b);
        let cap = spec.top_k.min(n_a);
        let index_of = |e: usize| self.peaks.rows[self.peaks.local[e] as usize];
        // The lowest data set indices of each chromosome: among them are the first masked peaks of any gene.
        let mut lowest: Vec<(u32, u32)> = Vec::new();
        for &(c, from, to) in &self.peaks.segments[b] {
            lowest.extend((from..to.min(from + spec.top_k)).map(|e| (index_of(e), c)));
        }
        lowest.sort_unstable();
        let (mut q, mut k, mut tile, mut scores) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut segments = self.peaks.segments[b].iter().peekable();
        for &(c, g0, g1) in &self.genes.segments[b] {
            while segments.next_if(|s| s.0 < c).is_some() {}
            let Some(&&(_, p0, p1)) = segments.peek().filter(|s| s.0 == c) else { continue };
            if spec.unknown == Some(c) {
                continue;
            }
            let places = cap.min(n_a - (p1 - p0));
            let pads: Vec<Candidate<T>> = lowest
                .iter()
                .filter(|x| x.1 != c)
                .take(places)
                .map(|x| Candidate { logit: T::of(0.0), index: x.0, entry: MASKED })
                .collect();
            for from in (g0..g1).step_by(GENES) {
                let to = (from + GENES).min(g1);
                gather(self.q, self.uq, self.genes, from, to, &mut q);
                let mut tops = Tops::new((to - from) * spec.heads, cap, &pads);
                for pf in (p0..p1).step_by(PEAKS) {
                    let pt = (pf + PEAKS).min(p1);
                    gather(self.k, self.uk, self.peaks, pf, pt, &mut k);
                    let width = pt - pf;
                    tile.resize((to - from) * width, T::of(0.0));
                    for head in 0..spec.heads {
                        let qs = View::strided(&q[head * slice..], to - from, slice, h);
                        let ks = View::strided(&k[head * slice..], width, slice, h);
                        product_into(&mut tile, width, qs, ks.t(), false);
                        for (i, row) in tile.chunks_exact(width).enumerate() {
                            tops.offer_run(i * spec.heads + head, row, |j| index_of(pf + j), pf);
                        }
                    }
                }
                for i in 0..(to - from) * spec.heads {
                    let (head, entry) = ((i % spec.heads) as u8, (from + i / spec.heads) as u32);
                    let members = tops.of(i).iter().map(|c| (c.logit, (c.entry != MASKED).then_some((c.entry, None))));
                    out.push_row(head, entry, members, spec.tau, &mut scores);
                }
            }
        }
        out
    }

    /// Attention of one sample with the choices of another run: members and their side of the threshold are given.
    fn follow(&self, b: usize, given: &Selection<T>) -> Selection<T> {
        let h = self.hidden;
        let slice = h / self.spec.heads;
        let cap = self.spec.top_k.min(self.peaks.count(b));
        let mut out = Selection { start: vec![0], ..Selection::default() };
        let (mut q, mut k, mut scores) = (Vec::new(), Vec::new(), Vec::new());
        for (r, &(head, entry)) in given.rows.iter().enumerate() {
            gather(self.q, self.uq, self.genes, entry as usize, entry as usize + 1, &mut q);
            let own = given.start[r] as usize..given.start[r + 1] as usize;
            let mut members: Vec<Member<T>> = Vec::new();
            for m in own {
                let p = given.peak[m];
                gather(self.k, self.uk, self.peaks, p as usize, p as usize + 1, &mut k);
                let range = usize::from(head) * slice..(usize::from(head) + 1) * slice;
                let logit = crate::simd::dot(&q[range.clone()], &k[range]);
                members.push((logit, Some((p, Some(given.kept[m])))));
            }
            members.resize(cap, (T::of(0.0), None));
            out.push_row(head, entry, members.into_iter(), self.spec.tau, &mut scores);
        }
        out
    }
}

/// What `attend` leaves on the tape, and the pairs themselves.
#[derive(Debug)]
pub struct Attended<T> {
    /// `[heads, nnz genes]`, Σ_j A_ij.
    pub row_sums: Var,
    /// `[heads, nnz peaks]`, Σ_i A_ij.
    pub col_sums: Var,
    /// `[B]`.
    pub selections: Arc<Vec<Selection<T>>>,
}

/// Masked sparse attention of a batch. `q` `[R_g, H]`, `uq` `[1, H]`, `k` `[R_p, H]`, `uk` `[1, H]` from `project`.
///
/// `given` replaces the choices (top-k membership and side of the threshold) by those of another run; comparisons of
/// two precisions need it. Backward: at most top_k pairs a gene, summed by table row in a fixed order.
pub fn attend<'p, T: Real>(
    tape: &mut Tape<'p, T>,
    spec: AttendSpec,
    genes: Arc<NodeSet<T>>,
    peaks: Arc<NodeSet<T>>,
    (q, uq): (Var, Var),
    (k, uk): (Var, Var),
    given: Option<&[Selection<T>]>,
) -> Attended<T> {
    let _span = span("attend", "forward");
    let hidden = tape.shape(q)[1];
    // Products of equal chromosome, forward; the members of each gene, backward. Each node's row is read.
    work(|| {
        let rows = genes.nnz() + peaks.nnz();
        (2.0 * (hidden * pairs(&genes, &peaks)) as f64, (size_of::<T>() * hidden * rows) as f64)
    });
    let inputs = Inputs {
        q: tape.get(q),
        uq: tape.get(uq),
        k: tape.get(k),
        uk: tape.get(uk),
        genes: &genes,
        peaks: &peaks,
        hidden,
        spec,
    };
    let selections: Vec<Selection<T>> = (0..genes.samples())
        .into_par_iter()
        .map(|b| match given {
            Some(g) => inputs.follow(b, &g[b]),
            None => inputs.select(b),
        })
        .collect();
    let (ng, np) = (genes.nnz(), peaks.nnz());
    let (mut rows, mut cols) = (vec![T::of(0.0); spec.heads * ng], vec![T::of(0.0); spec.heads * np]);
    for s in &selections {
        for (r, &(head, entry)) in s.rows.iter().enumerate() {
            for m in s.members(r).filter(|&m| s.kept[m]) {
                rows[usize::from(head) * ng + entry as usize] += s.weight[m];
                cols[usize::from(head) * np + s.peak[m] as usize] += s.weight[m];
            }
        }
    }
    let selections = Arc::new(selections);
    let row_sums = tape.value(rows, [spec.heads, ng]);
    let col_sums = tape.value(cols, [spec.heads, np]);
    let saved = selections.clone();
    tape.record("attend", &[row_sums, col_sums], move |s| {
        let (dr, dc) = (s.take(row_sums), s.take(col_sums));
        let (mut dq, mut dk) = (s.take(q), s.take(k));
        let (mut duq, mut duk) = (s.take(uq), s.take(uk));
        let tables = [Table { rows: s.value(q), u: s.value(uq) }, Table { rows: s.value(k), u: s.value(uk) }];
        work(|| {
            let members: usize = saved.iter().map(|s| s.peak.len()).sum();
            let numbers = (members * hidden / spec.heads) as f64;
            (4.0 * numbers, 4.0 * numbers * size_of::<T>() as f64)
        });
        let add = [TableGrad { rows: &mut dq, u: &mut duq }, TableGrad { rows: &mut dk, u: &mut duk }];
        gradients(&saved, (&dr, &dc), (&genes, &peaks), hidden / spec.heads, tables, add);
        s.put(q, dq);
        s.put(k, dk);
        s.put(uq, duq);
        s.put(uk, duk);
    });
    Attended { row_sums, col_sums, selections }
}

/// Gene–peak pairs of equal chromosome, over all samples.
fn pairs<T: Real>(genes: &NodeSet<T>, peaks: &NodeSet<T>) -> usize {
    let samples = genes.segments.iter().zip(&peaks.segments);
    samples
        .map(|(genes, peaks)| {
            let found = |c: u32| peaks.iter().find(|p| p.0 == c).map_or(0, |p| p.2 - p.1);
            genes.iter().map(|&(c, from, to)| (to - from) * found(c)).sum::<usize>()
        })
        .sum()
}

/// A table from `project`: its rows, and the row that the value of a node adds to each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'a, T> {
    /// `[R, H]`.
    pub rows: &'a [T],
    /// `[H]`.
    pub u: &'a [T],
}

/// Where the gradients of a [`Table`] are added.
#[derive(Debug)]
pub(crate) struct TableGrad<'a, T> {
    pub rows: &'a mut [T],
    pub u: &'a mut [T],
}

/// The backward pass, given the members of each gene with their weights and scores, and the gradients of row sums and
/// column sums: adds to the gradients of the tables of queries and of keys.
pub(crate) fn gradients<T: Real>(
    selections: &[Selection<T>],
    (dr, dc): (&[T], &[T]),
    (genes, peaks): (&NodeSet<T>, &NodeSet<T>),
    slice: usize,
    [q, k]: [Table<'_, T>; 2],
    [dq, dk]: [TableGrad<'_, T>; 2],
) {
    let p = logit_gradients(selections, dr, dc, genes, peaks);
    let gene = End { row: &p.gene, value: &p.expr, table: q };
    let peak = End { row: &p.peak, value: &p.acc, table: k };
    accumulate(dq.rows, dk.u, &gene, &peak, &p, slice);
    accumulate(dk.rows, dq.u, &peak, &gene, &p, slice);
}

/// One end of each pair: the genes, or the peaks.
struct End<'a, T> {
    /// Its row in the table.
    row: &'a [u32],
    /// Its value.
    value: &'a [T],
    table: Table<'a, T>,
}

/// The pairs of a batch with a gradient, in sample order.
struct Pairs<T> {
    head: Vec<u8>,
    gene: Vec<u32>,
    peak: Vec<u32>,
    expr: Vec<T>,
    acc: Vec<T>,
    dlogit: Vec<T>,
}

/// dL/ds_ij = w_ij (u_ij − Σ_k w_ik u_ik), u_ij = dL/dA_ij [s_ij > tau]; dL/dlogit = s (1 − s) dL/ds.
/// See docs/model.md, eq. 46, eq. 47, eq. 48.
fn logit_gradients<T: Real>(
    selections: &[Selection<T>],
    dr: &[T],
    dc: &[T],
    genes: &NodeSet<T>,
    peaks: &NodeSet<T>,
) -> Pairs<T> {
    let (ng, np) = (genes.nnz(), peaks.nnz());
    let n: usize = selections.iter().map(|s| s.peak.len()).sum();
    let mut out = Pairs {
        head: Vec::with_capacity(n),
        gene: Vec::with_capacity(n),
        peak: Vec::with_capacity(n),
        expr: Vec::with_capacity(n),
        acc: Vec::with_capacity(n),
        dlogit: Vec::with_capacity(n),
    };
    for s in selections {
        for (r, &(head, entry)) in s.rows.iter().enumerate() {
            let hd = usize::from(head);
            let up = |m: usize| {
                if s.kept[m] { dr[hd * ng + entry as usize] + dc[hd * np + s.peak[m] as usize] } else { T::of(0.0) }
            };
            let mean: T = s.members(r).map(|m| s.weight[m] * up(m)).sum();
            for m in s.members(r) {
                let d = s.score[m] * (T::of(1.0) - s.score[m]) * s.weight[m] * (up(m) - mean);
                if d != T::of(0.0) {
                    out.head.push(head);
                    out.gene.push(genes.local[entry as usize]);
                    out.peak.push(peaks.local[s.peak[m] as usize]);
                    out.expr.push(genes.values[entry as usize]);
                    out.acc.push(peaks.values[s.peak[m] as usize]);
                    out.dlogit.push(d);
                }
            }
        }
    }
    out
}

/// One side of the backward pass: `d_own[i] += Σ dlogit (other[j] + v_j u_other)` over the pairs of own row i, and
/// `du_other += Σ_i (Σ dlogit v_j) own[i] + (Σ dlogit v_j v_i) u_own`, where v is the value of a node.
fn accumulate<T: Real>(
    d_own: &mut [T],
    du_other: &mut [T],
    own: &End<'_, T>,
    other: &End<'_, T>,
    pairs: &Pairs<T>,
    slice: usize,
) {
    let End { row: own_row, value: own_value, table: Table { rows: own, u: u_own } } = *own;
    let End { row: other_row, value: other_value, table: Table { rows: other, u: u_other } } = *other;
    let h = u_own.len();
    let heads = h / slice;
    let (ptr, order) = group(own_row, own.len() / h);
    // Σ dlogit v_j and Σ dlogit v_j v_i for each own row and head.
    let mut sums = vec![[T::of(0.0); 2]; own.len() / h * heads];
    const ROWS: usize = 64;
    d_own.par_chunks_mut(ROWS * h).zip(sums.par_chunks_mut(ROWS * heads)).enumerate().for_each_init(
        Default::default,
        |(weights, rows): &mut (Vec<T>, Vec<u32>), (chunk, (d, sums))| {
            for (i, (d, sums)) in d.chunks_exact_mut(h).zip(sums.chunks_exact_mut(heads)).enumerate() {
                let row = chunk * ROWS + i;
                let own = &order[ptr[row]..ptr[row + 1]];
                for (head, sums) in sums.iter_mut().enumerate() {
                    let mine = own.iter().map(|&p| p as usize).filter(|&p| usize::from(pairs.head[p]) == head);
                    weights.clear();
                    rows.clear();
                    for p in mine {
                        let g = pairs.dlogit[p];
                        weights.push(g);
                        rows.push(other_row[p]);
                        sums[0] += g * other_value[p];
                        sums[1] += g * other_value[p] * own_value[p];
                    }
                    gather_sum(&mut d[head * slice..(head + 1) * slice], weights, &other[head * slice..], h, rows);
                }
                for (head, &mut [c, _]) in sums.iter_mut().enumerate() {
                    let range = head * slice..(head + 1) * slice;
                    axpy(&mut d[range.clone()], c, &u_other[range]);
                }
            }
        },
    );
    for (row, sums) in sums.chunks_exact(heads).enumerate() {
        for (head, &[c, cc]) in sums.iter().enumerate() {
            if c != T::of(0.0) || cc != T::of(0.0) {
                let range = head * slice..(head + 1) * slice;
                let own = &own[row * h..][range.clone()];
                for ((d, &x), &u) in du_other[range.clone()].iter_mut().zip(own).zip(&u_own[range]) {
                    *d += c * x + cc * u;
                }
            }
        }
    }
}
