//! What a model says of single nodes, and of one modality alone.

use std::sync::Arc;

use super::inputs::Leaves;
use crate::model::nodes::NodeSet;
use crate::model::output::{Nodes, Selection};
use crate::model::params::{LinearAt, NodesAt};
use crate::model::{Batch, Model};
use crate::ops::head::{concat, linear, pooled};
use crate::ops::pool::{Weights, pool};
use crate::ops::project::project;
use crate::ops::translate::effective;
use crate::real::Real;
use crate::tape::{Tape, Var};

impl<T: Real> Model<T> {
    /// The halves of z, `[B, H]` each, that RNA and ATAC make without each other: as
    /// [`Output::embedding`](crate::Output::embedding), but with no message passed (no attention). What they say of a
    /// pair is an approximation of what the model says, for the price of one pass over the cells of each modality
    /// instead of one over all pairs. See docs/model.md, section 4.8, eq. 30.
    pub fn halves(&self, batch: &Batch<T>) -> (Vec<T>, Vec<T>) {
        let mut tape = Tape::inference();
        let p = Leaves::new(&mut tape, &self.params);
        let (n, h) = (batch.len(), self.config.hidden);
        let genes = Arc::new(NodeSet::new(&batch.rna, &self.features.gene_chrom, false));
        let peaks = Arc::new(NodeSet::new(&batch.atac, &self.features.peak_chrom, false));
        let half = |tape: &mut Tape<'_, T>, mean: Var, of: NodesAt| {
            let mut message = tape.value(vec![T::of(0.0); n * h], [n, h]);
            if let Some(out) = of.out {
                let (w, b) = p.linear(out);
                message = linear(tape, message, w, b);
            }
            let (w, b) = p.linear(of.own);
            let own = pooled(tape, mean, w, b, 1, vec![T::of(1.0); n]);
            let x = concat(tape, message, own);
            let (w, b) = p.linear(of.reduce);
            let half = linear(tape, x, w, b);
            tape.get(half).to_vec()
        };
        let mean = pool(&mut tape, self.gene_side(), genes, p.get(p.at.rna.table), Weights::Mean);
        let r = half(&mut tape, mean, p.at.rna);
        let mean = pool(&mut tape, self.peak_side(), peaks, p.get(p.at.atac.table), Weights::Mean);
        let a = half(&mut tape, mean, p.at.atac);
        (r, a)
    }

    /// Queries of all genes `[G, H]` and keys of all peaks `[P, H]`, at an expression and an accessibility of 1.
    pub fn queries_and_keys(&self) -> (Vec<T>, Vec<T>) {
        let mut tape = Tape::inference();
        let p = Leaves::new(&mut tape, &self.params);
        let c = &self.config;
        let mut of = |side, n: usize, of: NodesAt| {
            let (w, b) = p.linear(of.score);
            let (t, u) = project(&mut tape, side, Arc::new((0..n as u32).collect()), p.get(of.table), w, b);
            let (t, u) = (tape.get(t), tape.get(u));
            let mut out = Vec::new();
            effective(t, u, (0..n).map(|i| (i, T::of(1.0))), &mut out);
            out
        };
        let queries = of(self.gene_side(), c.genes, p.at.rna);
        (queries, of(self.peak_side(), c.peaks, p.at.atac))
    }

    /// Node-level outputs: r_i = D_r [M_i | W_sr x_i + b_sr] + d_r and p_j likewise, unpooled
    /// (docs/model.md, section 4.4).
    pub(super) fn node_outputs(
        &self,
        genes: &NodeSet<T>,
        peaks: &NodeSet<T>,
        selections: &[Selection<T>],
    ) -> Vec<Nodes<T>> {
        let (h, heads) = (self.config.hidden, self.config.heads);
        let slice = h / heads;
        let mut tape = Tape::inference();
        let p = Leaves::new(&mut tape, &self.params);
        let mut table = |map: LinearAt, side, rows: &[u32], emb: usize| {
            let (w, b) = p.linear(map);
            let (t, u) = project(&mut tape, side, Arc::new(rows.to_vec()), p.get(emb), w, b);
            (tape.get(t).to_vec(), tape.get(u).to_vec())
        };
        let (gs, ps) = (self.gene_side(), self.peak_side());
        let (rna, atac) = (p.at.rna, p.at.atac);
        let value_r = table(rna.value, gs, &genes.rows, rna.table);
        let self_r = table(rna.own, gs, &genes.rows, rna.table);
        let value_a = table(atac.value, ps, &peaks.rows, atac.table);
        let self_a = table(atac.own, ps, &peaks.rows, atac.table);
        let row = |(t, u): &(Vec<T>, Vec<T>),
                   nodes: &NodeSet<T>,
                   e: usize,
                   out: &mut [T],
                   range: std::ops::Range<usize>,
                   w: T| {
            let t = &t[nodes.local[e] as usize * h..][range.clone()];
            for ((o, &x), &u) in out.iter_mut().zip(t).zip(&u[range]) {
                *o += w * (x + nodes.values[e] * u);
            }
        };
        let finish = |message: Vec<T>, own: Vec<T>, of: NodesAt| {
            let mut tape = Tape::inference();
            let p = Leaves::new(&mut tape, &self.params);
            let n = own.len() / h;
            let mut m = tape.value(message, [n, h]);
            if let Some(out) = of.out {
                let (w, b) = p.linear(out);
                m = linear(&mut tape, m, w, b);
            }
            let s = tape.value(own, [n, h]);
            let x = concat(&mut tape, m, s);
            let (w, b) = p.linear(of.reduce);
            let y = linear(&mut tape, x, w, b);
            tape.get(y).to_vec()
        };
        let mut out = Vec::new();
        for (b, sel) in selections.iter().enumerate() {
            let (g0, p0) = (genes.indptr[b], peaks.indptr[b]);
            let (mut m_r, mut m_a) = (vec![T::of(0.0); genes.count(b) * h], vec![T::of(0.0); peaks.count(b) * h]);
            for (r, &(head, entry)) in sel.rows.iter().enumerate() {
                let range = usize::from(head) * slice..(usize::from(head) + 1) * slice;
                let (gene, at) = (entry as usize, (entry as usize - g0) * h);
                for m in sel.members(r).filter(|&m| sel.kept[m]) {
                    let peak = sel.peak[m] as usize;
                    let to = (peak - p0) * h;
                    row(
                        &value_a,
                        peaks,
                        peak,
                        &mut m_r[at + range.start..at + range.end],
                        range.clone(),
                        sel.weight[m],
                    );
                    row(
                        &value_r,
                        genes,
                        gene,
                        &mut m_a[to + range.start..to + range.end],
                        range.clone(),
                        sel.weight[m],
                    );
                }
            }
            let own = |t: &(Vec<T>, Vec<T>), nodes: &NodeSet<T>| {
                let mut s = vec![T::of(0.0); nodes.count(b) * h];
                for (o, e) in s.chunks_exact_mut(h).zip(nodes.indptr[b]..) {
                    row(t, nodes, e, o, 0..h, T::of(1.0));
                }
                s
            };
            out.push(Nodes {
                gene: finish(m_r, own(&self_r, genes), rna),
                peak: finish(m_a, own(&self_a, peaks), atac),
            });
        }
        out
    }
}
