//! The stages of a pass on the CPU, each a part of docs/model.md, section 4 and section 5. Their order, and that of the ops
//! within them, is the order in which gradients are summed: another one gives other bits.

use std::sync::Arc;

use super::inputs::Leaves;
use crate::error::Result;
use crate::model::nodes::NodeSet;
use crate::model::output::Selection;
use crate::model::terms::Terms;
use crate::model::{Batch, CisConfig, CisGraph, CisTarget, Dropout, Model};
use crate::ops::attend::{AttendSpec, Attended, attend};
use crate::ops::cis::{Places, cis};
use crate::ops::contrast::contrast;
use crate::ops::head::{add, concat, dropout, dropout_mask, linear, pooled, relu};
use crate::ops::losses::{cross_entropy, detection, level, mse};
use crate::ops::pool::{Weights, pool};
use crate::ops::project::project;
use crate::ops::rows::rows;
use crate::ops::translate::{PeakColumns, Tables, TranslateSpec, counts, translate};
use crate::real::Real;
use crate::tape::{Grads, Tape, Var};

/// A batch on its way through the model.
pub(super) struct CpuPass<'p, T> {
    model: &'p Model<T>,
    batch: &'p Batch<T>,
    positives: &'p [usize],
    /// The genes that are translated; none: all.
    some: Option<&'p [u32]>,
    pub genes: Arc<NodeSet<T>>,
    pub peaks: Arc<NodeSet<T>>,
    /// Columns of the positives, where a term needs them.
    cols: Arc<PeakColumns<T>>,
    pub tape: Tape<'p, T>,
    p: Leaves,
}

/// Tables of queries and keys, and who attends to whom.
pub(super) struct Scored<T> {
    q: (Var, Var),
    k: (Var, Var),
    pub attended: Attended<T>,
}

/// What the samples are.
pub(super) struct Embedded {
    /// `[B, 2H]`.
    pub z: Var,
    /// `[B, H]`: what the RNA says alone.
    rna: Var,
    /// The same of the ATAC.
    atac: Var,
    /// Means over the peaks of each sample, from `pool`.
    mean_atac: Var,
}

/// What the cis term says of the positives.
pub(super) struct Told {
    /// `[positives, G]`.
    pub y: Var,
    /// The same from ATAC alone, where it is wanted.
    pub blind: Option<Var>,
    /// `[1, E]`: weights of the edges of the batch.
    pub edges: Var,
}

/// What the published translation says of the positives.
pub(super) struct Translated {
    /// `[positives × heads, G]` of 0 and 1.
    pub on: Vec<u8>,
    /// The counts behind it, where they are wanted.
    pub counts: Vec<Vec<u32>>,
    /// Its loss.
    pub loss: Var,
}

impl<'p, T: Real> CpuPass<'p, T> {
    /// Arranges the batch for these terms. `genes` names those to translate.
    pub fn new(
        model: &'p Model<T>,
        batch: &'p Batch<T>,
        positives: &'p [usize],
        terms: Terms,
        genes: Option<&'p [u32]>,
        mut tape: Tape<'p, T>,
    ) -> Self {
        let p = Leaves::new(&mut tape, &model.params);
        let some = genes.filter(|_| terms.translate);
        let genes = Arc::new(model.gene_nodes(batch, terms.by_column(), some.filter(|_| !terms.cis)));
        let peaks = Arc::new(NodeSet::new(&batch.atac, &model.features.peak_chrom, false));
        let of = if terms.by_column() { positives } else { &[] };
        let cols = Arc::new(PeakColumns::new(&peaks, of));
        CpuPass { model, batch, positives, some, genes, peaks, cols, tape, p }
    }

    /// Queries, keys, attention. `given` replaces the choices.
    pub fn attend(&mut self, given: Option<&[Selection<T>]>) -> Scored<T> {
        let (model, c) = (self.model, &self.model.config);
        let (rna, atac) = (self.p.at.rna, self.p.at.atac);
        let (w, b) = self.p.linear(rna.score);
        let (e, of) = (self.p.get(rna.table), Arc::new(self.genes.rows.clone()));
        let q = project(&mut self.tape, model.gene_side(), of, e, w, b);
        let (w, b) = self.p.linear(atac.score);
        let (e, of) = (self.p.get(atac.table), Arc::new(self.peaks.rows.clone()));
        let k = project(&mut self.tape, model.peak_side(), of, e, w, b);
        let spec = AttendSpec { heads: c.heads, top_k: c.top_k, tau: c.tau, unknown: model.features.unknown };
        let attended = attend(&mut self.tape, spec, self.genes.clone(), self.peaks.clone(), q, k, given);
        Scored { q, k, attended }
    }

    /// Messages, what each modality says alone, and the embedding.
    pub fn embed(&mut self, attended: &Attended<T>) -> Embedded {
        let (tape, p, heads, n) = (&mut self.tape, &self.p, self.model.config.heads, self.batch.len());
        let (rna, atac) = (p.at.rna, p.at.atac);
        let (genes, peaks) = (&self.genes, &self.peaks);
        let (gene_side, peak_side) = (self.model.gene_side(), self.model.peak_side());
        let (e_g, e_p) = (p.get(rna.table), p.get(atac.table));
        let inverse = |s: &NodeSet<T>| (0..n).map(|i| T::of(1.0 / s.count(i) as f64)).collect::<Vec<T>>();
        let one = vec![T::of(1.0); n];
        let bag_a = pool(tape, peak_side, peaks.clone(), e_p, Weights::Var { var: attended.col_sums, heads });
        let bag_r = pool(tape, gene_side, genes.clone(), e_g, Weights::Var { var: attended.row_sums, heads });
        let mean_r = pool(tape, gene_side, genes.clone(), e_g, Weights::Mean);
        let mean_a = pool(tape, peak_side, peaks.clone(), e_p, Weights::Mean);
        let (w, b) = p.linear(atac.value);
        let mut m_r = pooled(tape, bag_a, w, b, heads, inverse(genes));
        let (w, b) = p.linear(rna.value);
        let mut m_a = pooled(tape, bag_r, w, b, heads, inverse(peaks));
        if let (Some(of_rna), Some(of_atac)) = (rna.out, atac.out) {
            let (w, b) = p.linear(of_rna);
            m_r = linear(tape, m_r, w, b);
            let (w, b) = p.linear(of_atac);
            m_a = linear(tape, m_a, w, b);
        }
        let (w, b) = p.linear(rna.own);
        let s_r = pooled(tape, mean_r, w, b, 1, one.clone());
        let (w, b) = p.linear(atac.own);
        let s_a = pooled(tape, mean_a, w, b, 1, one);
        let x = concat(tape, m_r, s_r);
        let (w, b) = p.linear(rna.reduce);
        let r = linear(tape, x, w, b);
        let x = concat(tape, m_a, s_a);
        let (w, b) = p.linear(atac.reduce);
        let a = linear(tape, x, w, b);
        let z = concat(tape, r, a);
        Embedded { z, rna: s_r, atac: s_a, mean_atac: mean_a }
    }

    /// The matching head: logits `[B, 2]`, and their loss.
    pub fn classify(&mut self, z: Var, drop: Option<Dropout>) -> (Var, Var) {
        let (tape, p, c) = (&mut self.tape, &self.p, &self.model.config);
        let [fc1, fc2, fc3] = p.at.fc;
        let mut x = z;
        for (layer, (map, width)) in [(fc1, c.hidden), (fc2, c.hidden / 2)].into_iter().enumerate() {
            let (w, b) = p.linear(map);
            x = linear(tape, x, w, b);
            x = relu(tape, x);
            if let Some(d) = drop
                && c.dropout > 0.0
            {
                let mask = dropout_mask(c.dropout, d.seed, d.step, &self.batch.sample, layer as u32, width);
                x = dropout(tape, x, mask);
            }
        }
        let (w, b) = p.linear(fc3);
        let logits = linear(tape, x, w, b);
        (logits, cross_entropy(tape, logits, &self.batch.label))
    }

    /// Numbers of the positives, as the ops take them.
    fn chosen(&self) -> Arc<Vec<u32>> {
        Arc::new(self.positives.iter().map(|&i| i as u32).collect())
    }

    /// The contrastive loss.
    pub fn contrast(&mut self, of: &Embedded) -> Var {
        let chosen = self.chosen();
        let rna = rows(&mut self.tape, of.rna, chosen.clone());
        let atac = rows(&mut self.tape, of.atac, chosen);
        contrast(&mut self.tape, rna, atac)
    }

    /// What the cis term says, from ATAC alone as well where `blind`.
    pub fn cis(
        &mut self,
        (term, graph): (&CisConfig, &CisGraph),
        scored: &Scored<T>,
        of: &Embedded,
        blind: bool,
    ) -> Option<Told> {
        let at = self.p.at.cis?;
        let f = &self.model.features;
        let places = Places { graph, rows: &self.peaks.rows, gene_chrom: &f.gene_chrom, peak_chrom: &f.peak_chrom };
        let (chosen, n, positives) = (self.chosen(), self.batch.len(), self.positives);
        let (tape, p) = (&mut self.tape, &self.p);
        let (near, edges) = cis(tape, places, self.cols.clone(), scored.q, scored.k, p.get(at.decay));
        let cell = (term.components > 0).then(|| {
            let (w, b) = p.linear(at.cell);
            let cell = pooled(tape, of.mean_atac, w, b, 1, vec![T::of(1.0); n]);
            rows(tape, cell, chosen)
        });
        let (w, b) = p.linear(at.gene);
        // From numbers of the cell, where there are any, and depths.
        let mut say = |depths: Vec<T>| {
            let depths = tape.value(depths, [positives.len(), 2]);
            let x = cell.map_or(depths, |cell| concat(tape, cell, depths));
            let own = linear(tape, x, w, b);
            add(tape, own, near)
        };
        let mut depths: Vec<T> =
            positives.iter().flat_map(|&i| term.depths(self.genes.count(i), self.peaks.count(i))).map(T::of).collect();
        let y = say(depths.clone());
        let blind = blind.then(|| {
            // At the mean depth of RNA, which a cell without RNA does not tell: a pass of its own, so that nothing of the
            // RNA comes in, not even by rounding.
            depths.iter_mut().step_by(2).for_each(|d| *d = T::of(0.0));
            say(depths)
        });
        Some(Told { y, blind, edges })
    }

    /// The loss of what the cis term says.
    pub fn cis_loss(&mut self, y: Var, target: CisTarget) -> Var {
        let (rna, who) = (&self.batch.rna, self.positives);
        let fill = move |row: usize, out: &mut [T]| {
            let (index, value) = rna.row(who[row]);
            for (&i, &v) in index.iter().zip(value) {
                out[i as usize] = match target {
                    CisTarget::Detection => T::of(f64::from(u8::from(v > T::of(0.0)))),
                    CisTarget::Level => v,
                };
            }
        };
        let by = 1.0 / self.batch.len() as f64;
        match target {
            CisTarget::Detection => detection(&mut self.tape, y, by, fill),
            CisTarget::Level => level(&mut self.tape, y, by, fill),
        }
    }

    /// The published translation and its loss; its counts where `counted`. `given` replaces the decisions.
    pub fn translate(&mut self, scored: &Scored<T>, counted: bool, given: Option<&[u8]>) -> Translated {
        let (tape, c, positives) = (&mut self.tape, &self.model.config, self.positives);
        let spec = TranslateSpec { heads: c.heads, tau: c.tau, min_peaks: c.min_peaks };
        // Of each gene its column among those translated.
        let mut place: Vec<u32> = (0..c.genes as u32).collect();
        let mut q = scored.q;
        if let Some(some) = self.some {
            place.fill(u32::MAX);
            (0..).zip(some).for_each(|(i, &g)| place[g as usize] = i);
            let among = |g: &u32| place[*g as usize] != u32::MAX;
            let local = (0..).zip(&self.genes.rows).filter(|x| among(x.1)).map(|x| x.0).collect();
            q.0 = rows(tape, q.0, Arc::new(local));
        }
        // Where the counts are wanted, they are the decisions too: the scores are computed once.
        let counted = counted.then(|| counts(spec, Tables::of(tape, q, scored.k), &self.cols));
        let on = |n: &u32| u8::from(*n as usize > c.min_peaks);
        let by_count = counted.as_ref().map(|c| c.iter().flatten().map(on).collect::<Vec<u8>>());
        let pred = translate(tape, spec, self.cols.clone(), q, scored.k, given.or(by_count.as_deref()));
        let on = tape.get(pred).iter().map(|&x| u8::from(x > T::of(0.0))).collect();
        let (rna, heads) = (&self.batch.rna, c.heads);
        let loss = mse(tape, pred, 1.0 / (self.batch.len() * heads) as f64, move |row, target: &mut [T]| {
            let (index, value) = rna.row(positives[row / heads]);
            for (&i, &v) in index.iter().zip(value) {
                if let Some(t) = target.get_mut(place[i as usize] as usize) {
                    *t = v;
                }
            }
        });
        Translated { on, counts: counted.unwrap_or_default(), loss }
    }

    /// Goes back from `loss` and adds the gradients of all tensors to their arena.
    pub fn backward(self, loss: Var, grads: &mut [T]) -> Result<()> {
        let mut rest = grads;
        let mut slices = Vec::new();
        for e in self.model.params.layout().entries() {
            let (one, tail) = rest.split_at_mut(e.range.len());
            slices.push(one);
            rest = tail;
        }
        self.tape.backward(loss, &[T::of(1.0)], Grads::new(slices))
    }
}
