//! `head` against the CPU.

use std::collections::HashMap;

use super::{concat, dropout, dropout_mask, linear, pooled};
use crate::device::abi::StepRecord;
use crate::device::sink::{Sink, backward, seed, swap, widen};
use crate::device::view::{F32, View};
use crate::model::PREFIX;
use crate::model::nodes::NodeSet;
use crate::ops::losses::cross_entropy;
use crate::tape::{Tape, Var};

/// Layers of `head` before the classifier.
pub(crate) const HEAD_LAYERS: [&str; 8] = [
    "atac_value",
    "rna_value",
    "rna_out_proj",
    "atac_out_proj",
    "rna_self_attention",
    "atac_self_attention",
    "dim_reduction_rna",
    "dim_reduction_atac",
];

impl<'a> View<'a> {
    /// Everything behind the bags on a tape, with `gates` (0 or the factor of the dropout) in place of relu and dropout
    /// where they are given. Parameters of the tape: tensors of `HEAD_LAYERS` and the classifier, then the bags.
    fn head<'p>(&self, tape: &mut Tape<'p, f64>, leaves: &'p Leaves, gates: Option<[Vec<f64>; 2]>) -> Head {
        let (h, heads, n) = (self.config.hidden, self.config.heads, self.batch.len());
        let vars: HashMap<&str, Var> = leaves
            .0
            .iter()
            .enumerate()
            .map(|(i, l)| (l.name.as_str(), tape.param(i, &l.data, [l.data.len() / l.width, l.width])))
            .collect();
        let layer = |name: &str| {
            let full = if name.starts_with("fc") { name.to_string() } else { format!("{PREFIX}{name}") };
            (vars[format!("{full}.weight").as_str()], vars[format!("{full}.bias").as_str()])
        };
        let inverse = |s: &NodeSet<f64>| (0..n).map(|i| 1.0 / s.count(i) as f64).collect::<Vec<f64>>();
        let bag = |tape: &mut Tape<'p, f64>, from: &str, name: &str, heads, scale| {
            let (w, b) = layer(name);
            pooled(tape, vars[from], w, b, heads, scale)
        };
        let map = |tape: &mut Tape<'p, f64>, x: Var, name: &str| {
            let (w, b) = layer(name);
            linear(tape, x, w, b)
        };
        let mut m_r = bag(tape, "bag_a", "atac_value", heads, inverse(&self.genes));
        let mut m_a = bag(tape, "bag_r", "rna_value", heads, inverse(&self.peaks));
        if heads > 1 {
            m_r = map(tape, m_r, "rna_out_proj");
            m_a = map(tape, m_a, "atac_out_proj");
        }
        let s_r = bag(tape, "mean_r", "rna_self_attention", 1, vec![1.0; n]);
        let s_a = bag(tape, "mean_a", "atac_self_attention", 1, vec![1.0; n]);
        let x = concat(tape, m_r, s_r);
        let r = map(tape, x, "dim_reduction_rna");
        let x = concat(tape, m_a, s_a);
        let a = map(tape, x, "dim_reduction_atac");
        let z = concat(tape, r, a);
        let alone = [s_r, s_a];
        let (mut x, mut linear, mut gated) = (z, Vec::new(), Vec::new());
        for (i, (name, width)) in [("fc1", h), ("fc2", h / 2)].into_iter().enumerate() {
            let y = map(tape, x, name);
            let gate = match &gates {
                Some(g) => g[i].clone(),
                None => {
                    let mask = self.mask(i, width);
                    tape.get(y).iter().zip(mask).map(|(&y, m)| if y > 0.0 { m } else { 0.0 }).collect()
                }
            };
            linear.push(tape.get(y).to_vec());
            x = dropout(tape, y, gate);
            gated.push(tape.get(x).to_vec());
        }
        let logits = map(tape, x, "fc3");
        Head { z, alone, logits, linear, gated }
    }

    /// Factors of the dropout of layer `i`.
    fn mask(&self, i: usize, width: usize) -> Vec<f64> {
        match self.case.dropout {
            Some(d) if self.config.dropout > 0.0 => {
                dropout_mask(self.config.dropout, d.seed, d.step, &self.batch.sample, i as u32, width)
            }
            _ => vec![1.0; self.batch.len() * width],
        }
    }

    fn leaves(&self) -> Leaves {
        let c = self.config;
        let mut out = Vec::new();
        let mut layer = |full: String| {
            for what in ["weight", "bias"] {
                let name = format!("{full}.{what}");
                let data = self.param(&name);
                let entry = self.case.model.params.layout().find(&name);
                let width = entry.and_then(|e| e.shape.last().copied()).unwrap_or(1);
                if !data.is_empty() {
                    out.push(Leaf { name, data, width });
                }
            }
        };
        HEAD_LAYERS.iter().for_each(|l| layer(format!("{PREFIX}{l}")));
        ["fc1", "fc2", "fc3"].iter().for_each(|l| layer(l.to_string()));
        let (gw, pw) = (c.embedding_dim + 2 + c.gene_features(), c.embedding_dim + 2 + c.peak_features());
        let n = self.batch.len();
        for (name, heads, width) in
            [("bag_a", c.heads, pw), ("bag_r", c.heads, gw), ("mean_a", 1, pw), ("mean_r", 1, gw)]
        {
            let data = swap(&self.numbers(self.before, name, n * heads * width), n, heads, width);
            out.push(Leaf { name: name.into(), data, width });
        }
        Leaves(out)
    }

    pub(crate) fn head_forward(&self, out: &mut Sink<'_>) {
        let (c, n) = (self.config, self.batch.len());
        let leaves = self.leaves();
        let mut tape = Tape::inference();
        let head = self.head(&mut tape, &leaves, None);
        out.tensor("z", &self.get("z", n * 2 * c.hidden), tape.get(head.z), F32);
        // Which numbers pass relu and dropout: only those near 0 may differ.
        let (mut differing, mut wrong) = (0, None);
        for (i, (name, width)) in [("a1", c.hidden), ("a2", c.hidden / 2)].into_iter().enumerate() {
            let (got, mask) = (self.get(name, n * width), self.mask(i, width));
            let top = head.linear[i].iter().fold(0.0f64, |m, x| m.max(x.abs()));
            for (j, (&g, &x)) in got.iter().zip(&head.linear[i]).enumerate() {
                let want = x > 0.0 && mask[j] != 0.0;
                if (g != 0.0) != want {
                    differing += 1;
                    if wrong.is_none() && (mask[j] == 0.0 || x.abs() > 1e-5 * top) {
                        let dropped = if mask[j] == 0.0 { "dropped" } else { "not dropped" };
                        wrong = Some(format!("{name}[{j}] is {g:.3e}; before relu it is {x:.3e}, and it is {dropped}"));
                    }
                }
            }
            out.tensor(name, &got, &head.gated[i], F32);
        }
        out.choices("relu and dropout", differing, wrong);
        out.tensor("logits", &self.get("logits", 2 * n), tape.get(head.logits), F32);
        // The losses, from the device's own logits and parts.
        let logits = self.get("logits", 2 * n);
        let mut tape = Tape::recording();
        let l = tape.param(0, &logits, [n, 2]);
        let loss = cross_entropy(&mut tape, l, &self.batch.label);
        let matching = tape.get(loss)[0];
        let d = backward(tape, loss, &[2 * n]);
        let d: Vec<f64> = d[0].iter().map(|d| c.match_weight * d).collect();
        out.tensor("d_logits", &self.get("d_logits", 2 * n), &d, F32);
        let translated = if self.terms.translate { self.positives.len() * c.heads } else { 0 };
        let translation: f64 = self.numbers(self.before, "loss_part", translated).iter().sum();
        let Some(r) = self.plain::<StepRecord>(self.after, "record") else { return };
        let got = widen(&[r.loss, r.match_loss, r.translation_loss, r.cis_loss, r.contrast_loss]);
        let loss = c.match_weight * matching + c.alpha * translation;
        out.tensor("losses", &got, &[loss, matching, translation, 0.0, 0.0], F32);
    }

    pub(crate) fn head_backward(&self, out: &mut Sink<'_>) {
        let (c, n) = (self.config, self.batch.len());
        let leaves = self.leaves();
        let gates = [("a1", c.hidden), ("a2", c.hidden / 2)];
        let keep = if self.case.dropout.is_some() { 1.0 / (1.0 - c.dropout) } else { 1.0 };
        let gates = gates.map(|(name, width)| {
            let a = self.numbers(self.before, name, n * width);
            a.iter().map(|&a| if a > 0.0 { keep } else { 0.0 }).collect()
        });
        let mut tape = Tape::recording();
        let head = self.head(&mut tape, &leaves, Some(gates));
        let d_logits = self.numbers(self.before, "d_logits", 2 * n);
        let mut seeds = vec![(head.logits, d_logits)];
        // What the contrastive term has written before.
        if self.terms.contrast {
            for (var, name) in head.alone.into_iter().zip(["d_x_r", "d_x_a"]) {
                let rows = self.numbers(self.before, name, 2 * n * c.hidden);
                seeds.push((var, rows.chunks_exact(2 * c.hidden).flat_map(|r| r[c.hidden..].to_vec()).collect()));
            }
        }
        let root = seed(&mut tape, seeds);
        let by_cis = c.cis.as_ref().is_some_and(|c| c.components > 0) && !self.positives.is_empty();
        let lengths: Vec<usize> = leaves.0.iter().map(|l| l.data.len()).collect();
        for (leaf, d) in leaves.0.iter().zip(backward(tape, root, &lengths)) {
            if leaf.name.contains('.') {
                self.gradient(out, &leaf.name, &d, F32);
            } else {
                let heads = if leaf.name.starts_with("bag") { c.heads } else { 1 };
                let want = swap(&d, heads, n, leaf.width);
                let name = format!("d_{}", leaf.name);
                let got = self.get(&name, want.len());
                if by_cis && leaf.name == "mean_a" {
                    out.added(&name, &self.numbers(self.before, &name, want.len()), &got, &want, F32);
                } else {
                    out.tensor(&name, &got, &want, F32);
                }
            }
        }
    }
}

/// A tensor that `head` reads.
pub(crate) struct Leaf {
    name: String,
    data: Vec<f64>,
    width: usize,
}

pub(crate) struct Leaves(Vec<Leaf>);

/// What `head` computes.
pub(crate) struct Head {
    z: Var,
    /// What RNA and ATAC say alone, `[B, H]`.
    alone: [Var; 2],
    logits: Var,
    /// Before and behind relu and dropout, both layers.
    linear: Vec<Vec<f64>>,
    gated: Vec<Vec<f64>>,
}
