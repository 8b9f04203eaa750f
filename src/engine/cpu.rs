//! The fast path: a batch through the ops, forward and backward (docs/model.md, section 7).

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::PREFIX;
use crate::model::nodes::NodeSet;
use crate::model::output::{Attention, Nodes, Output, Selection, Want};
use crate::model::{Batch, CisTarget, Decisions, Dropout, Model};
use crate::ops::attend::{AttendSpec, attend};
use crate::ops::cis::{Places, cis};
use crate::ops::contrast::contrast;
use crate::ops::head::{add, concat, dropout, dropout_mask, linear, pooled, relu};
use crate::ops::losses::{cross_entropy, detection, level, mean_abs, mse, weighted_sum};
use crate::ops::pool::{Weights, pool};
use crate::ops::project::{Extra, Side, project};
use crate::ops::rows::rows;
use crate::ops::translate::{Columns, TranslateSpec, counts, effective, translate};
use crate::real::Real;
use crate::tape::{Grads, Tape, Var};

impl<T: Real> Model<T> {
    /// Forward pass without dropout. The translation, and its loss, is computed only where `want` asks for
    /// `translation` or `counts`; else `translation_loss` is 0.
    pub fn forward(&self, batch: &Batch<T>, want: Want) -> Result<Output<T>> {
        self.run(batch, Run { want, ..Run::default() })
    }

    /// Forward and backward pass; gradients of the loss are added to `grads` (`[layout.len()]`).
    ///
    /// ```
    /// use std::sync::Arc;
    /// use sccrossrec::model::{Batch, Features, Init, Model, ModelConfig};
    /// # fn main() -> sccrossrec::Result<()> {
    /// // Two genes and three peaks on one chromosome.
    /// let features = Features::<f32> {
    ///     gene_chrom: vec![0, 0],
    ///     peak_chrom: vec![0, 0, 0],
    ///     chromosomes: 1,
    ///     unknown: None,
    ///     gene_extra: vec![],
    ///     peak_dna: vec![],
    /// };
    /// let config = ModelConfig { genes: 2, peaks: 3, chromosomes: 1, embedding_dim: 8, hidden: 8, ..Default::default() };
    /// let init = Init::PyTorch { embedding_std: 1.0 };
    /// let model = Model::new(config, Arc::new(features), init, 906)?;
    /// let mut batch = Batch::new();
    /// batch.push(1, 0, [(0, 1.5), (1, 0.7)], [(0, 1.0), (2, 1.0)]);
    /// let mut grads = vec![0.0; model.params.layout().len()];
    /// let out = model.train_step(&batch, None, &mut grads)?;
    /// assert!(out.loss > 0.0 && grads.iter().any(|&g| g != 0.0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn train_step(&self, batch: &Batch<T>, dropout: Option<Dropout>, grads: &mut [T]) -> Result<Output<T>> {
        self.run(batch, Run { dropout, grads: Some(grads), ..Run::default() })
    }
}

/// What one run over a batch is to do.
#[derive(Debug, Default)]
pub struct Run<'a, T> {
    /// Dropout of a training step; none in evaluation.
    pub dropout: Option<Dropout>,
    /// Where gradients are added, `[layout.len()]`; none: forward only.
    pub grads: Option<&'a mut [T]>,
    /// What to bring back.
    pub want: Want,
    /// Follow these choices.
    pub given: Option<&'a Decisions<T>>,
    /// Translate these genes only, ascending and distinct (none named: all). The loss is the mean over them; over uniform
    /// random draws ([`crate::model::sample_genes`]) its expectation, and that of its gradient, are those of all genes.
    pub genes: Option<&'a [u32]>,
}

/// Parameters by name on a tape.
struct Leaves(HashMap<String, Var>);

impl Leaves {
    fn get(&self, name: &str) -> Var {
        self.0[name]
    }

    /// Weight and bias of a linear map of the attention layer.
    fn layer(&self, name: &str) -> (Var, Var) {
        (self.get(&format!("{PREFIX}{name}.weight")), self.get(&format!("{PREFIX}{name}.bias")))
    }

    fn head(&self, name: &str) -> (Var, Var) {
        (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")))
    }
}

impl<T: Real> Model<T> {
    /// Constant features of genes, as the ops read them.
    pub(crate) fn gene_side(&self) -> Side<'_, T> {
        Side {
            chrom: &self.features.gene_chrom,
            chromosomes: self.config.chromosomes,
            extra: Extra::Dense(&self.features.gene_extra),
            extra_width: self.config.gene_extra,
            dim: self.config.embedding_dim,
        }
    }

    /// Constant features of peaks, as the ops read them.
    pub(crate) fn peak_side(&self) -> Side<'_, T> {
        Side {
            chrom: &self.features.peak_chrom,
            chromosomes: self.config.chromosomes,
            extra: Extra::Dna(&self.features.peak_dna),
            extra_width: self.config.dna_length,
            dim: self.config.embedding_dim,
        }
    }

    fn leaves<'p>(&'p self, tape: &mut Tape<'p, T>) -> Leaves {
        let layout = self.params.layout();
        let mut map = HashMap::new();
        for (i, e) in layout.entries().iter().enumerate() {
            let shape = if e.shape.len() == 2 { [e.shape[0], e.shape[1]] } else { [1, e.shape[0]] };
            map.insert(e.name.clone(), tape.param(i, &self.params.as_slice()[e.range.clone()], shape));
        }
        Leaves(map)
    }

    /// The halves of z, `[B, H]` each, that RNA and ATAC make without each other: as [`Output::embedding`], but with no
    /// message passed (no attention). What they say of a pair is an approximation of what the model says, for the price
    /// of one pass over the cells of each modality instead of one over all pairs.
    /// See docs/model.md, section 4.8, eq. 30.
    pub fn halves(&self, batch: &Batch<T>) -> (Vec<T>, Vec<T>) {
        let mut tape = Tape::inference();
        let p = self.leaves(&mut tape);
        let (n, h, heads) = (batch.len(), self.config.hidden, self.config.heads);
        let genes = Arc::new(NodeSet::new(&batch.rna, &self.features.gene_chrom, false));
        let peaks = Arc::new(NodeSet::new(&batch.atac, &self.features.peak_chrom, false));
        let half = |tape: &mut Tape<'_, T>, mean: Var, own: &str, out: &str, reduce: &str| {
            let mut message = tape.value(vec![T::of(0.0); n * h], [n, h]);
            if heads > 1 {
                let (w, b) = p.layer(out);
                message = linear(tape, message, w, b);
            }
            let (w, b) = p.layer(own);
            let own = pooled(tape, mean, w, b, 1, vec![T::of(1.0); n]);
            let x = concat(tape, message, own);
            let (w, b) = p.layer(reduce);
            let half = linear(tape, x, w, b);
            tape.get(half).to_vec()
        };
        let mean = pool(&mut tape, self.gene_side(), genes, p.get("rna_idembedding.weight"), Weights::Mean);
        let r = half(&mut tape, mean, "rna_self_attention", "rna_out_proj", "dim_reduction_rna");
        let mean = pool(&mut tape, self.peak_side(), peaks, p.get("atac_idembedding.weight"), Weights::Mean);
        let a = half(&mut tape, mean, "atac_self_attention", "atac_out_proj", "dim_reduction_atac");
        (r, a)
    }

    /// Queries of all genes `[G, H]` and keys of all peaks `[P, H]`, at an expression and an accessibility of 1.
    pub fn queries_and_keys(&self) -> (Vec<T>, Vec<T>) {
        let mut tape = Tape::inference();
        let p = self.leaves(&mut tape);
        let c = &self.config;
        let mut of = |side, n: usize, table: &str, map: &str| {
            let (w, b) = p.layer(map);
            let (t, u) = project(&mut tape, side, Arc::new((0..n as u32).collect()), p.get(table), w, b);
            let (t, u) = (tape.get(t), tape.get(u));
            let mut out = Vec::new();
            effective(t, u, (0..n).map(|i| (i, T::of(1.0))), &mut out);
            out
        };
        let queries = of(self.gene_side(), c.genes, "rna_idembedding.weight", "rna_query");
        (queries, of(self.peak_side(), c.peaks, "atac_idembedding.weight", "atac_key"))
    }

    /// The gene nodes of a batch, with a table row for each gene that is translated: these, or all where none are named.
    pub(super) fn gene_nodes(&self, batch: &Batch<T>, translating: bool, genes: Option<&[u32]>) -> NodeSet<T> {
        match genes {
            Some(some) if translating => NodeSet::with(&batch.rna, &self.features.gene_chrom, some),
            _ => NodeSet::new(&batch.rna, &self.features.gene_chrom, translating),
        }
    }

    /// Rows of the id tables that a training step on `batch` reads and writes, ascending: genes first, peaks behind them, as
    /// they lie in the arena. `genes` as in [`Run::genes`].
    pub fn table_rows(&self, batch: &Batch<T>, genes: Option<&[u32]>) -> Vec<u32> {
        let c = &self.config;
        let translating = batch.label.contains(&1);
        let mut named = vec![false; c.genes + c.peaks];
        match genes {
            _ if !translating => {}
            _ if c.cis.is_some() => named[..c.genes].fill(true),
            Some(some) => some.iter().for_each(|&g| named[g as usize] = true),
            None => named[..c.genes].fill(true),
        }
        batch.rna.indices.iter().for_each(|&g| named[g as usize] = true);
        batch.atac.indices.iter().for_each(|&p| named[c.genes + p as usize] = true);
        (0..).zip(named).filter(|x| x.1).map(|x| x.0).collect()
    }

    /// One pass over a batch. The batch is checked first (indices, order, no empty sample).
    pub fn run(&self, batch: &Batch<T>, run: Run<'_, T>) -> Result<Output<T>> {
        batch.validate(&self.features)?;
        let c = &self.config;
        if let Some(list) = run.genes
            && (list.is_empty() || !list.is_sorted_by(|a, b| a < b) || list.iter().any(|&g| g as usize >= c.genes))
        {
            return Err(Error::usage("genes to translate: they are to be ascending numbers of genes, at least one"));
        }
        let (n, h) = (batch.len(), c.hidden);
        let positives: Vec<usize> = (0..n).filter(|&i| batch.label[i] == 1).collect();
        let training = run.grads.is_some();
        // Whose is the translation that is brought back? The published one also where it is part of the loss.
        let by_cis = c.translates_by_cis();
        let wanted = run.want.translation && (!by_cis || c.alpha != 0.0);
        let translating = !positives.is_empty() && (training && c.alpha != 0.0 || wanted || run.want.counts);
        let predicting =
            !positives.is_empty() && c.cis.is_some() && (training || run.want.cis || run.want.translation && by_cis);
        let mut tape = if run.grads.is_some() { Tape::recording() } else { Tape::inference() };
        let p = self.leaves(&mut tape);
        let (gene_side, peak_side) = (self.gene_side(), self.peak_side());
        let some = run.genes.filter(|_| translating);
        let genes = Arc::new(self.gene_nodes(batch, translating || predicting, some.filter(|_| !predicting)));
        let peaks = Arc::new(NodeSet::new(&batch.atac, &self.features.peak_chrom, false));
        let (e_g, e_p) = (p.get("rna_idembedding.weight"), p.get("atac_idembedding.weight"));

        let (w, b) = p.layer("rna_query");
        let q = project(&mut tape, gene_side, Arc::new(genes.rows.clone()), e_g, w, b);
        let (w, b) = p.layer("atac_key");
        let k = project(&mut tape, peak_side, Arc::new(peaks.rows.clone()), e_p, w, b);
        let spec = AttendSpec { heads: c.heads, top_k: c.top_k, tau: c.tau, unknown: self.features.unknown };
        let given = run.given.map(|d| d.attend.as_slice());
        let att = attend(&mut tape, spec, genes.clone(), peaks.clone(), q, k, given);

        let inverse = |s: &NodeSet<T>| (0..n).map(|i| T::of(1.0 / s.count(i) as f64)).collect::<Vec<T>>();
        let one = vec![T::of(1.0); n];
        let heads = c.heads;
        let bag_a = pool(&mut tape, peak_side, peaks.clone(), e_p, Weights::Var { var: att.col_sums, heads });
        let bag_r = pool(&mut tape, gene_side, genes.clone(), e_g, Weights::Var { var: att.row_sums, heads });
        let mean_r = pool(&mut tape, gene_side, genes.clone(), e_g, Weights::Mean);
        let mean_a = pool(&mut tape, peak_side, peaks.clone(), e_p, Weights::Mean);
        let (w, b) = p.layer("atac_value");
        let mut m_r = pooled(&mut tape, bag_a, w, b, heads, inverse(&genes));
        let (w, b) = p.layer("rna_value");
        let mut m_a = pooled(&mut tape, bag_r, w, b, heads, inverse(&peaks));
        if heads > 1 {
            let (w, b) = p.layer("rna_out_proj");
            m_r = linear(&mut tape, m_r, w, b);
            let (w, b) = p.layer("atac_out_proj");
            m_a = linear(&mut tape, m_a, w, b);
        }
        let (w, b) = p.layer("rna_self_attention");
        let s_r = pooled(&mut tape, mean_r, w, b, 1, one.clone());
        let (w, b) = p.layer("atac_self_attention");
        let s_a = pooled(&mut tape, mean_a, w, b, 1, one);
        let x = concat(&mut tape, m_r, s_r);
        let (w, b) = p.layer("dim_reduction_rna");
        let r = linear(&mut tape, x, w, b);
        let x = concat(&mut tape, m_a, s_a);
        let (w, b) = p.layer("dim_reduction_atac");
        let a = linear(&mut tape, x, w, b);
        let z = concat(&mut tape, r, a);

        let mut x = z;
        for (layer, (name, width)) in [("fc1", h), ("fc2", h / 2)].into_iter().enumerate() {
            let (w, b) = p.head(name);
            x = linear(&mut tape, x, w, b);
            x = relu(&mut tape, x);
            if let Some(d) = run.dropout
                && c.dropout > 0.0
            {
                let mask = dropout_mask(c.dropout, d.seed, d.step, &batch.sample, layer as u32, width);
                x = dropout(&mut tape, x, mask);
            }
        }
        let (w, b) = p.head("fc3");
        let logits = linear(&mut tape, x, w, b);
        let match_loss = cross_entropy(&mut tape, logits, &batch.label);

        let mut out = Output {
            loss: tape.get(match_loss)[0],
            match_loss: tape.get(match_loss)[0],
            translation_loss: T::of(0.0),
            cis_loss: T::of(0.0),
            contrast_loss: T::of(0.0),
            logits: tape.get(logits).to_vec(),
            embedding: tape.get(z).to_vec(),
            attention: Vec::new(),
            translation: Vec::new(),
            counts: Vec::new(),
            nodes: Vec::new(),
            decisions: None,
            cis: Vec::new(),
            cis_blind: Vec::new(),
        };
        let mut loss = match_loss;
        if c.match_weight != 1.0 {
            let none = tape.value(vec![T::of(0.0)], [1, 1]);
            loss = weighted_sum(&mut tape, none, match_loss, c.match_weight);
        }
        let mut predicted = Vec::new();
        let cols = (translating || predicting).then(|| Arc::new(Columns::new(&peaks, &positives)));
        let chosen: Arc<Vec<u32>> = Arc::new(positives.iter().map(|&i| i as u32).collect());
        if training && c.contrast > 0.0 && positives.len() > 1 {
            let of_rna = rows(&mut tape, s_r, chosen.clone());
            let of_atac = rows(&mut tape, s_a, chosen.clone());
            let apart = contrast(&mut tape, of_rna, of_atac);
            out.contrast_loss = tape.get(apart)[0];
            loss = weighted_sum(&mut tape, loss, apart, c.contrast);
        }
        if let (Some(term), Some(cols)) = (c.cis.as_ref().filter(|_| predicting), &cols) {
            let Some(graph) = self.cis.as_deref() else {
                return Err(Error::Internal("the model has a cis term and no cis graph".into()));
            };
            let f = &self.features;
            let at = Places { graph, rows: &peaks.rows, gene_chrom: &f.gene_chrom, peak_chrom: &f.peak_chrom };
            let (near, edges) = cis(&mut tape, at, cols.clone(), q, k, p.get("cis.decay"));
            let cell = (term.components > 0).then(|| {
                let (w, b) = p.head("cis.cell");
                let cell = pooled(&mut tape, mean_a, w, b, 1, vec![T::of(1.0); n]);
                rows(&mut tape, cell, chosen)
            });
            // Numbers of the cell, where there are any, and depths.
            let covariates = |tape: &mut Tape<'_, T>, depths: Vec<T>| {
                let depths = tape.value(depths, [positives.len(), 2]);
                cell.map_or(depths, |cell| concat(tape, cell, depths))
            };
            let depths: Vec<T> =
                positives.iter().flat_map(|&i| term.depths(genes.count(i), peaks.count(i))).map(T::of).collect();
            let x = covariates(&mut tape, depths.clone());
            let (w, b) = p.head("cis.gene");
            let own = linear(&mut tape, x, w, b);
            let y = add(&mut tape, own, near);
            if run.want.cis || run.want.translation {
                // At the mean depth of RNA, which a cell without RNA does not tell: a pass of its own, so that nothing of the
                // RNA comes in, not even by rounding.
                let mut depths = depths;
                depths.iter_mut().step_by(2).for_each(|d| *d = T::of(0.0));
                let x = covariates(&mut tape, depths);
                let own = linear(&mut tape, x, w, b);
                let alone = add(&mut tape, own, near);
                let rows = |y: &[T]| y.chunks_exact(c.genes).map(<[T]>::to_vec).collect::<Vec<_>>();
                let (rows, blind) = (rows(tape.get(y)), rows(tape.get(alone)));
                if by_cis && run.want.translation {
                    let decide = |row: &Vec<T>| row.iter().map(|&y| u8::from(y > T::of(0.0))).collect();
                    out.translation = spread(&positives, n, blind.iter().map(decide).collect());
                }
                if run.want.cis {
                    out.cis = spread(&positives, n, rows);
                    out.cis_blind = spread(&positives, n, blind);
                }
            }
            let (rna, who, target) = (&batch.rna, positives.clone(), term.target);
            let fill = move |row: usize, out: &mut [T]| {
                let (index, value) = rna.row(who[row]);
                for (&i, &v) in index.iter().zip(value) {
                    out[i as usize] = match target {
                        CisTarget::Detection => T::of(f64::from(u8::from(v > T::of(0.0)))),
                        CisTarget::Level => v,
                    };
                }
            };
            let by = 1.0 / n as f64;
            let predicted = match target {
                CisTarget::Detection => detection(&mut tape, y, by, fill),
                CisTarget::Level => level(&mut tape, y, by, fill),
            };
            out.cis_loss = tape.get(predicted)[0];
            loss = weighted_sum(&mut tape, loss, predicted, term.weight);
            if term.sparsity != 0.0 && tape.shape(edges)[1] > 0 {
                let size = mean_abs(&mut tape, edges);
                loss = weighted_sum(&mut tape, loss, size, term.sparsity);
            }
        }
        out.loss = tape.get(loss)[0];
        if let Some(cols) = cols.filter(|_| translating) {
            let spec = TranslateSpec { heads, tau: c.tau, min_peaks: c.min_peaks };
            // Of each gene its column among those translated.
            let mut place: Vec<u32> = (0..c.genes as u32).collect();
            let mut q = q;
            if let Some(some) = some {
                place.fill(u32::MAX);
                (0..).zip(some).for_each(|(i, &g)| place[g as usize] = i);
                let among = |g: &u32| place[*g as usize] != u32::MAX;
                let local = (0..).zip(&genes.rows).filter(|x| among(x.1)).map(|x| x.0).collect();
                q.0 = rows(&mut tape, q.0, Arc::new(local));
            }
            // Where the counts are wanted, they are the decisions too: the scores are computed once.
            let counted = run.want.counts.then(|| {
                let v = |x| tape.get(x);
                counts(spec, v(q.0), v(q.1), v(k.0), v(k.1), &cols)
            });
            let on = |n: &u32| u8::from(*n as usize > c.min_peaks);
            let by_count = counted.as_ref().map(|c| c.iter().flatten().map(on).collect::<Vec<u8>>());
            let given = run.given.map(|d| d.translate.as_slice()).or(by_count.as_deref());
            let pred = translate(&mut tape, spec, cols.clone(), q, k, given);
            if let Some(counted) = counted {
                out.counts = spread(&positives, n, counted);
            }
            predicted = tape.get(pred).iter().map(|&x| u8::from(x > T::of(0.0))).collect();
            let rna = &batch.rna;
            let who = positives.clone();
            let translation = mse(&mut tape, pred, 1.0 / (n * heads) as f64, move |row, target: &mut [T]| {
                let (index, value) = rna.row(who[row / heads]);
                for (&i, &v) in index.iter().zip(value) {
                    if let Some(t) = target.get_mut(place[i as usize] as usize) {
                        *t = v;
                    }
                }
            });
            out.translation_loss = tape.get(translation)[0];
            loss = weighted_sum(&mut tape, loss, translation, c.alpha);
            out.loss = tape.get(loss)[0];
        }
        if (run.want.translation || run.want.counts) && !(by_cis && run.want.translation) {
            let rows = predicted.chunks_exact(heads * some.map_or(c.genes, <[u32]>::len)).map(<[u8]>::to_vec).collect();
            out.translation = spread(&positives, n, rows);
        }
        if run.want.attention {
            out.attention = (0..n).map(|i| sparse(&att.selections[i], genes.indptr[i], peaks.indptr[i])).collect();
        }
        if run.want.decisions {
            out.decisions = Some(Decisions { attend: att.selections.to_vec(), translate: predicted });
        }
        if run.want.nodes {
            out.nodes = self.node_outputs(&genes, &peaks, &att.selections);
        }
        if let Some(grads) = run.grads {
            let mut rest = grads;
            let mut slices = Vec::new();
            for e in self.params.layout().entries() {
                let (one, tail) = rest.split_at_mut(e.range.len());
                slices.push(one);
                rest = tail;
            }
            tape.backward(loss, &[T::of(1.0)], Grads::new(slices))?;
        }
        Ok(out)
    }

    /// Node-level outputs: r_i = D_r [M_i | W_sr x_i + b_sr] + d_r and p_j likewise, unpooled
    /// (docs/model.md, section 4.4).
    fn node_outputs(&self, genes: &NodeSet<T>, peaks: &NodeSet<T>, selections: &[Selection<T>]) -> Vec<Nodes<T>> {
        let (h, heads) = (self.config.hidden, self.config.heads);
        let slice = h / heads;
        let mut tape = Tape::inference();
        let p = self.leaves(&mut tape);
        let mut table = |name: &str, side, rows: &[u32], emb: &str| {
            let (w, b) = p.layer(name);
            let (t, u) = project(&mut tape, side, Arc::new(rows.to_vec()), p.get(emb), w, b);
            (tape.get(t).to_vec(), tape.get(u).to_vec())
        };
        let (gs, ps) = (self.gene_side(), self.peak_side());
        let value_r = table("rna_value", gs, &genes.rows, "rna_idembedding.weight");
        let self_r = table("rna_self_attention", gs, &genes.rows, "rna_idembedding.weight");
        let value_a = table("atac_value", ps, &peaks.rows, "atac_idembedding.weight");
        let self_a = table("atac_self_attention", ps, &peaks.rows, "atac_idembedding.weight");
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
        let finish = |message: Vec<T>, own: Vec<T>, out_proj: &str, reduce: &str| {
            let mut tape = Tape::inference();
            let p = self.leaves(&mut tape);
            let n = own.len() / h;
            let mut m = tape.value(message, [n, h]);
            if heads > 1 {
                let (w, b) = p.layer(out_proj);
                m = linear(&mut tape, m, w, b);
            }
            let s = tape.value(own, [n, h]);
            let x = concat(&mut tape, m, s);
            let (w, b) = p.layer(reduce);
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
                gene: finish(m_r, own(&self_r, genes), "rna_out_proj", "dim_reduction_rna"),
                peak: finish(m_a, own(&self_a, peaks), "atac_out_proj", "dim_reduction_atac"),
            });
        }
        out
    }
}

/// Results of the positives among all samples; empty for negatives.
pub(crate) fn spread<R>(positives: &[usize], n: usize, rows: Vec<Vec<R>>) -> Vec<Vec<R>> {
    let mut out: Vec<Vec<R>> = (0..n).map(|_| Vec::new()).collect();
    for (&i, r) in positives.iter().zip(rows) {
        out[i] = r;
    }
    out
}

/// The kept pairs of a selection, sorted by head, gene row, peak row; entries become rows of the sample.
pub(crate) fn sparse<T: Real>(s: &Selection<T>, gene0: usize, peak0: usize) -> Attention<T> {
    let mut order: Vec<(u8, u32, u32, usize)> = Vec::new();
    for (r, &(head, entry)) in s.rows.iter().enumerate() {
        let kept = s.members(r).filter(|&m| s.kept[m]);
        order.extend(kept.map(|m| (head, entry - gene0 as u32, s.peak[m] - peak0 as u32, m)));
    }
    order.sort_unstable_by_key(|x| (x.0, x.1, x.2));
    Attention {
        head: order.iter().map(|x| x.0).collect(),
        gene_row: order.iter().map(|x| x.1).collect(),
        peak_row: order.iter().map(|x| x.2).collect(),
        weight: order.iter().map(|x| s.weight[x.3]).collect(),
        score: order.iter().map(|x| s.score[x.3]).collect(),
    }
}
