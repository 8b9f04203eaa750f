//! `pool` against the CPU.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Weights, pool};
use crate::device::sink::{Sink, backward, seed, swap};
use crate::device::view::{F32, View};
use crate::model::nodes::NodeSet;
use crate::ops::project::Side;
use crate::tape::{Tape, Var};

impl View<'_> {
    pub(crate) fn pools(&self) -> [Pool<'_>; 4] {
        let heads = self.config.heads;
        let (genes, peaks) = (self.gene_side(), self.peak_side());
        let (gn, pn) = (&self.genes, &self.peaks);
        let (eg, ep) = ("rna_idembedding.weight", "atac_idembedding.weight");
        [
            Pool { bag: "bag_a", weights: Some("col_sums"), side: peaks, nodes: pn, embedding: ep, heads },
            Pool { bag: "bag_r", weights: Some("row_sums"), side: genes, nodes: gn, embedding: eg, heads },
            Pool { bag: "mean_a", weights: None, side: peaks, nodes: pn, embedding: ep, heads: 1 },
            Pool { bag: "mean_r", weights: None, side: genes, nodes: gn, embedding: eg, heads: 1 },
        ]
    }

    pub(crate) fn pool_forward(&self, out: &mut Sink<'_>) {
        for p in self.pools() {
            let (emb, weights) = (self.param(p.embedding), self.pool_weights(&p));
            let mut tape = Tape::inference();
            let bag = p.record(&mut tape, &emb, weights.as_deref());
            let width = tape.shape(bag)[1];
            let want = swap(tape.get(bag), p.heads, self.batch.len(), width);
            out.tensor(p.bag, &self.get(p.bag, want.len()), &want, F32);
        }
    }

    /// `[heads, nnz]`.
    fn pool_weights(&self, p: &Pool<'_>) -> Option<Vec<f64>> {
        let n = p.nodes.nnz();
        p.weights.map(|name| swap(&self.numbers(self.before, name, n * p.heads), n, p.heads, 1))
    }

    pub(crate) fn pool_backward(&self, out: &mut Sink<'_>) {
        let mut d_emb: HashMap<&str, Vec<f64>> = HashMap::new();
        for p in self.pools() {
            let (emb, weights) = (self.param(p.embedding), self.pool_weights(&p));
            let mut tape = Tape::recording();
            let bag = p.record(&mut tape, &emb, weights.as_deref());
            let [rows, width] = tape.shape(bag);
            let d_bag = self.numbers(self.before, &format!("d_{}", p.bag), rows * width);
            let root = seed(&mut tape, vec![(bag, swap(&d_bag, self.batch.len(), p.heads, width))]);
            let d = backward(tape, root, &[emb.len(), weights.as_ref().map_or(0, Vec::len)]);
            match d_emb.get_mut(p.embedding) {
                Some(sum) => sum.iter_mut().zip(&d[0]).for_each(|(s, d)| *s += d),
                None => drop(d_emb.insert(p.embedding, d[0].clone())),
            }
            if let Some(name) = p.weights {
                let want = swap(&d[1], p.heads, p.nodes.nnz(), 1);
                let name = format!("d_{name}");
                out.tensor(&name, &self.get(&name, want.len()), &want, F32);
            }
        }
        for name in ["rna_idembedding.weight", "atac_idembedding.weight"] {
            self.gradient(out, name, &d_emb[name], F32);
        }
    }
}

/// One of the four poolings.
pub(crate) struct Pool<'a> {
    pub bag: &'static str,
    pub weights: Option<&'static str>,
    side: Side<'a, f64>,
    pub nodes: &'a Arc<NodeSet<f64>>,
    pub embedding: &'static str,
    pub heads: usize,
}

impl<'a> Pool<'a> {
    /// The pooling on a tape; parameters: the embedding, the weights.
    pub(crate) fn record<'p>(&self, tape: &mut Tape<'p, f64>, emb: &'p [f64], weights: Option<&'p [f64]>) -> Var
    where
        'a: 'p,
    {
        let emb = tape.param(0, emb, [emb.len() / self.side.dim, self.side.dim]);
        let weights = match weights {
            Some(w) => Weights::Var { var: tape.param(1, w, [self.heads, w.len() / self.heads]), heads: self.heads },
            None => Weights::Mean,
        };
        pool(tape, self.side, self.nodes.clone(), emb, weights)
    }
}
