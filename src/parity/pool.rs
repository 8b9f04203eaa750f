//! `pool` against the CPU.

use std::collections::HashMap;

use super::sink::{Sink, backward, seed, swap};
use super::view::{F32, Pool, View};
use crate::tape::Tape;

impl<'a> View<'a> {
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
